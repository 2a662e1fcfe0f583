"""`render`: rendered faces with eight emotions, a stand-in where there are no photos."""

from __future__ import annotations

import argparse
from pathlib import Path

from featurepipe.commands.steps import show
from featurepipe.datasets.synthetic import write_faces


def run(args: argparse.Namespace) -> int:
    """Write photos and samples.csv; files that are there already are left alone."""
    photos = write_faces(
        args.folder, subjects=args.subjects, per_emotion=args.per_emotion, size=(args.size, args.size), seed=args.seed
    )
    manifest = Path(args.folder) / "samples.csv"
    lines = [f"{len(photos)} rendered faces of {args.subjects} subjects, no real people: {manifest}"]
    show(args, lines, {"photos": len(photos), "subjects": args.subjects, "manifest": str(manifest)})
    return 0
