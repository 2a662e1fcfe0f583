"""`featurepipe weights`: list the records, fetch, verify and convert."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featurepipe.console import aligned
from featurepipe.errors import InputError, WeightsError
from featurepipe.weights import (
    WeightsRecord,
    discard,
    fetch,
    find,
    get_record,
    note_hash,
    path_of,
    records,
    store_folder,
    verify,
)

CONVERTED = "vgg-face"
"""Record of what every published VGG-Face file is converted into."""

STATE_TEXTS = {
    "verified": "equals the published hash",
    "unchanged": "as it was fetched or converted; no hash of the file itself is published",
    "changed": "DIFFERS from what it should be: delete it and fetch it again",
    "unknown": "nothing is known to compare it with",
}


def run(args: argparse.Namespace) -> int:
    """Run one action; returns 0, or 2 where a file is not what it should be.

    args.action is list, fetch (args.name), verify (args.name or None) or convert (args.file, args.layout or None,
    args.out or None); args.json prints JSON.
    """
    return {"list": _list, "fetch": _fetch, "verify": _verify, "convert": _convert}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps([{**asdict(r), "state": _state(r), "path": str(path_of(r))} for r in records().values()]))
        return 0
    head = ["name", "file", "size", "state", "trained on", "licence"]
    print("\n".join(aligned([head, *(_row(record) for record in records().values())])))
    print(f"\nthe weights folder is {store_folder()}")
    return 0


def _row(record: WeightsRecord) -> list[str]:
    path = find(record)
    size = path.stat().st_size if path else record.bytes
    seen = ", ".join(f"{seen.dataset} ({seen.split})" for seen in record.trained_on)
    return [record.name, record.file, f"{size / 1e6:.1f} MB" if size else "", _state(record), seen, record.licence]


def _state(record: WeightsRecord) -> str:
    if find(record) is None:
        return "not here"
    return "shipped" if record.shipped else "cached"


def _fetch(args: argparse.Namespace) -> int:
    record = get_record(args.name)
    converted = None
    if not (record.made_from and find(record)):
        release = get_record(record.made_from[0]) if record.made_from else record
        here = find(release) is not None
        path = fetch(release)
        if release.name in get_record(CONVERTED).made_from:
            converted = _converted(path, release, here)
    row = _checked(record)
    lines = [f"{row['path']}: {STATE_TEXTS[row['state']]}"]
    if converted and record.name != CONVERTED:
        row["converted"] = str(converted)
        lines.append(f"converted to {converted}")
    _say(args, row, "\n".join(lines))
    return _exit_code([row])


def _checked(record: WeightsRecord) -> dict[str, str]:
    """Name, path, state and sha256 of the record's file, hashed again."""
    state, digest = verify(record)
    return {"name": record.name, "path": str(path_of(record)), "state": state, "sha256": digest}


def _exit_code(rows: Sequence[Mapping[str, str]]) -> int:
    return 2 if any(row["state"] == "changed" for row in rows) else 0


def _converted(path: Path, release: WeightsRecord, here: bool) -> Path:
    """The file that backbones read, made of a published one unless it is there.

    A release that cannot be converted is of no use, and as long as it lies there it is not fetched again: one that was
    `here` before may be the user's own, and stays; one that was just fetched goes.
    """
    target = path_of(get_record(CONVERTED))
    if target.is_file():
        return target
    try:
        _convert_file(path, target, release.layout)
    except WeightsError as error:
        if not here:
            discard(path)
        others = ", ".join(name for name in get_record(CONVERTED).made_from if name != release.name)
        gone = f"delete {path}, and" if here else f"{path} was deleted:"
        raise WeightsError(
            f"{error}\n{gone} run the same command again, or fetch another release ({others})"
        ) from error
    return target


def _convert_file(path: Path, target: Path, layout: str | None) -> str:
    from featurepipe.conversion.convert import convert  # loads torch, which list and verify need not

    name = convert(path, target, layout=layout)
    note_hash(target)
    return name


def _verify(args: argparse.Namespace) -> int:
    chosen = [get_record(args.name)] if args.name else [record for record in records().values() if find(record)]
    rows = [_checked(record) for record in chosen]
    lines = [f"{row['name']}: {STATE_TEXTS[row['state']]} (sha256 {row['sha256']})" for row in rows]
    _say(args, rows, "\n".join(lines) or "no weights are here")
    return _exit_code(rows)


def _convert(args: argparse.Namespace) -> int:
    source, target = Path(args.file), Path(args.out) if args.out else path_of(get_record(CONVERTED))
    if source.exists() and target.exists() and source.samefile(target):
        raise InputError(f"{target} would be written over itself; name another file with --out")
    layout = _convert_file(source, target, args.layout)
    _say(args, {"path": str(target), "layout": layout}, f"{args.file} ({layout}) -> {target}")
    return 0


def _say(args: argparse.Namespace, document: Any, text: str) -> None:
    print(json.dumps(document) if args.json else text)
