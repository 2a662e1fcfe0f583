"""`export`: a feature table to one file for other programs."""

from __future__ import annotations

import argparse

from featurepipe.commands.steps import read_vectors, refuse_in_table, show
from featurepipe.features.export import export


def run(args: argparse.Namespace) -> int:
    """Write the file and say what it holds."""
    refuse_in_table(args.out, args.table)
    features = read_vectors(args.table, args.backbone)
    export(features, args.out, args.to)
    rows, columns = features.X.shape
    lines = [f"{rows} rows of {columns} columns: {args.out}"]
    show(args, lines, {"out": args.out, "format": args.to, "rows": rows, "columns": columns})
    return 0
