"""`render`: rendered faces with eight emotions, a stand-in where there are no photos."""

from __future__ import annotations

import argparse
from pathlib import Path

from featurepipe.commands.steps import show
from featurepipe.datasets.synthetic import write_faces, write_sequences


def run(args: argparse.Namespace) -> int:
    """Write photos, or frames of sequences, and samples.csv; files that are there already are left alone."""
    size = (args.size, args.size)
    wanted = {"subjects": args.subjects, "per_emotion": args.per_emotion, "seed": args.seed}
    if args.sequences:
        photos = write_sequences(args.folder, frames=args.sequences, size=size, **wanted)
        what = f"{len(photos) // args.sequences} rendered sequences from neutral to the apex"
    else:
        photos = write_faces(args.folder, size=size, **wanted)
        what = f"{len(photos)} rendered faces"
    manifest = Path(args.folder) / "samples.csv"
    lines = [f"{what} of {args.subjects} subjects, no real people: {manifest}"]
    show(args, lines, {"photos": len(photos), "subjects": args.subjects, "manifest": str(manifest)})
    return 0
