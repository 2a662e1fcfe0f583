"""`datasets`: list the databases that have readers, and verify a copy of one."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from featurepipe.console import note
from featurepipe.datasets.database import Database
from featurepipe.datasets.readers import read_database
from featurepipe.datasets.registry import DATABASES
from featurepipe.datasets.source import Skipped
from featurepipe.datasets.verify import Count, Report, verify
from featurepipe.errors import InputError
from featurepipe.faces.images import PhotoError
from featurepipe.faces.reading import SampleReader
from featurepipe.files import printable
from featurepipe.progress import bar
from featurepipe.records import Sample

_SHOWN = 10
_AT_ONCE = 512


def run(args: argparse.Namespace) -> int:
    """Run one action; returns 0, or 2 where --strict asks for a whole copy and it is not.

    args.action is list or verify (args.name, args.root, args.strict); args.json prints JSON.
    """
    return {"list": _list, "verify": _verify}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps([_record(database) for database in DATABASES.values()]))
    else:
        print("\n\n".join("\n".join(_described(database)) for database in DATABASES.values()))
    return 0


def _record(database: Database) -> dict[str, Any]:
    names = ("name", "title", "size", "labels", "identity", "licence", "url", "citation", "marker")
    return {name: getattr(database, name) for name in names}


def _described(database: Database) -> Iterator[str]:
    yield f"{database.name}: {database.title}"
    yield f"  size      {database.size}"
    yield f"  labels    {', '.join(database.labels)}"
    yield f"  identity  {database.identity}"
    yield f"  licence   {database.licence}"
    yield f"  ask at    {database.url}"
    yield f"  cite      {database.citation}"


def _verify(args: argparse.Namespace) -> int:
    database = DATABASES[args.name]
    if not os.path.exists(args.root):
        raise InputError(f"{printable(args.root)} is not there; expected a copy of {database.title}")
    source = read_database(database, args.root, "all")
    for line in source.notes:
        note(line)
    report = verify(database, source, _broken(source.samples, database.darkest))
    if args.json:
        print(json.dumps(_document(database, report, args.root)))
    else:
        print(printable("\n".join(_told(database, report))))
    return 2 if args.strict and not report.whole else 0


def _broken(samples: Sequence[Sample], darkest: float) -> list[tuple[Sample, Skipped]]:
    """Samples that do not decode or are black, in their order, and what is wrong with them.

    Each is read in full, by as many threads as there are cores.
    """
    readers = threading.local()

    def check(frames: list[Sample]) -> list[tuple[Sample, Skipped]]:
        if not hasattr(readers, "own"):
            readers.own = SampleReader()
        return [(sample, fault) for sample in frames if (fault := _fault(readers.own, sample, darkest))]

    faults: list[tuple[Sample, Skipped]] = []
    # The frames of a clip follow one another and stay with one thread, which decodes the clip once.
    files = (list(frames) for _, frames in itertools.groupby(samples, key=lambda sample: sample.path))
    with ThreadPoolExecutor(os.cpu_count()) as pool, bar(len(samples), "decoding", "photos") as progress:
        while batch := list(itertools.islice(files, _AT_ONCE)):
            for frames, found in zip(batch, pool.map(check, batch), strict=True):
                faults += found
                progress.update(len(frames))
    return faults


def _fault(reader: SampleReader, sample: Sample, darkest: float) -> Skipped | None:
    place = f"{sample.path}#{sample.frame}" if sample.in_clip else sample.path
    try:
        pixels = reader.read(sample)
    except PhotoError as error:
        return Skipped(place, "missing" if error.status == "missing" else "damaged", str(error))
    if not sample.in_clip and pixels.min() == pixels.max():  # films may fade in from black
        return Skipped(place, "damaged", "one single colour: no face")
    if pixels.mean() < darkest:
        return Skipped(place, "damaged", f"black: mean brightness below {darkest:g} of 255")
    return None


def _told(database: Database, report: Report) -> Iterator[str]:
    yield f"{database.title}: {report.samples:,} samples"
    for count in report.counts:
        if count.label is None or count.differs:
            yield _count_line(count)
    for kind, ones in itertools.groupby(sorted(report.left_out, key=lambda one: one.kind), key=lambda one: one.kind):
        yield from _left_out_lines(kind, list(ones))
    yield _verdict(report)


def _verdict(report: Report) -> str:
    if not report.whole:
        return "this copy differs from the official one"
    unsure = any(count.differs for count in report.counts)
    return "whole: nothing differs from the official " + ("figures that are certain" if unsure else "copy")


def _count_line(count: Count) -> str:
    name = f"  {count.unit}" if count.label is None else f"    {count.label}"
    known = f", {count.known_damage} of them damaged in the official files too" if count.known_damage else ""
    likely = "" if count.sure else " (the official figure is not certain)"
    mark = f": {count.here - count.official:+,}{likely}" if count.differs else ""
    return f"{name}: {count.here:,} of {count.official:,}{known}{mark}"


def _left_out_lines(kind: str, ones: Sequence[Skipped]) -> Iterator[str]:
    yield f"  {kind}: {len(ones):,}"
    yield from (f"    {one.path}: {one.why}" for one in ones[:_SHOWN])
    if len(ones) > _SHOWN:
        yield f"    ... {len(ones) - _SHOWN:,} more: --json lists all"


def _document(database: Database, report: Report, root: str) -> dict[str, Any]:
    left_out = [
        {"path": one.path, "kind": one.kind, "why": one.why, "known": one.known_damage is not None}
        for one in report.left_out
    ]
    return {
        "name": database.name,
        "root": root,
        "samples": report.samples,
        "counts": [asdict(count) for count in report.counts],
        "left_out": left_out,
        "whole": report.whole,
    }
