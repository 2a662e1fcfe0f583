"""`export`: a feature table to one file for other programs."""

from __future__ import annotations

import argparse

from featurepipe.commands.steps import read_vectors
from featurepipe.features.export import export


def run(args: argparse.Namespace) -> int:
    """Write the file and say what it holds."""
    features = read_vectors(args.table, args.backbone)
    export(features, args.out, args.to)
    print(f"{len(features)} rows of {features.X.shape[1]} columns: {args.out}")
    return 0
