"""`extract`: photos to a feature table."""

from __future__ import annotations

import argparse
import dataclasses

from featurepipe.commands.steps import backbone_for, fill_table, samples_of, show, summary_lines, tell
from featurepipe.features.table import prune


def run(args: argparse.Namespace) -> int:
    """Fill the table and print what was done."""
    source = samples_of(args)
    backbone = backbone_for(args, source)
    summary = fill_table(args, source, args.table, backbone)
    document = {"table": args.table, "backbone": backbone.name, **dataclasses.asdict(summary)}
    lines = [*summary_lines(summary), f"feature table: {args.table}"]
    if args.prune:
        pruned = prune(args.table)
        tell(pruned.notes)
        document["pruned"] = {"faces": pruned.faces, "vectors": pruned.vectors}
        lines.append(f"pruned: {pruned.faces} photos' faces, {pruned.vectors} vectors")
    show(args, lines, document)
    return 0
