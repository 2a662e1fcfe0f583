"""CSV manifests that name photos: path,label,subject,split,sequence,frame (datasets.md layout G3)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from featurepipe.datasets.source import Source, check_word, label_of, split_of
from featurepipe.datasets.tables import read_header, read_rows
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.labels import EMOTIONS
from featurepipe.records import Sample

COLUMNS = {
    "path": ("image", "file", "filename", "pth", "img"),
    "label": ("emotion", "expression", "class"),
    "subject": (),
    "split": (),
    "sequence": (),
    "frame": (),
}
"""Columns of a manifest and the other names they go by."""

_LARGEST_FRAME = 2**63 - 1  # that a feature table holds


def read_manifest(source: str) -> Source:
    """Read a CSV manifest; only the column path is required.

    Paths are relative to the CSV's folder; those written on Windows are understood elsewhere too. Labels are words: a
    known one becomes its canonical emotion, another is kept in lower case as an extra class. An empty field means
    unknown. Whether the photos exist does not matter. A path that names a video file needs its frame, counted from 1.

    Raises
    ------
    InputError : with the line, for a missing path, a numeric label, an unknown split, or a frame that is no integer
    """
    samples = [
        _sample(os.path.dirname(source), fields, f"{printable(source)}, line {line}")
        for line, fields in read_rows(source, COLUMNS)
    ]
    if not samples:
        raise InputError(f"{printable(source)} names no photos below its header")
    extras = sorted({sample.label for sample in samples if sample.label} - set(EMOTIONS))
    notes = [f"labels kept as extra classes: {', '.join(extras)}"] if extras else []
    return Source(samples, "csv", "photos", notes + _ignored(read_header(source)))


def _ignored(header: Sequence[str]) -> list[str]:
    """A note that names the columns that are not read, such as person for subject."""
    read = {title for name, others in COLUMNS.items() for title in ((name,) if name in header else others)}
    strange = [title for title in header if title not in read]
    if not strange:
        return []
    known = (name + (f" (or {', '.join(others)})" if others else "") for name, others in COLUMNS.items())
    return [f"columns not read: {', '.join(map(repr, strange))}; those that are: {', '.join(known)}"]


def _sample(folder: str, fields: Mapping[str, str], where: str) -> Sample:
    if "path" not in fields:
        raise InputError(f"{where}: the header names no column path (or {', '.join(COLUMNS['path'])})")
    path = fields["path"]
    if not path or "\0" in path:
        raise InputError(f"{where}: no path of a photo")
    raw = fields.get("label") or None
    if raw:
        check_word(raw, where)
    return Sample(
        path=_place(folder, path),
        label=label_of(raw) if raw else None,
        raw_label=raw,
        subject=fields.get("subject") or None,
        split=_split(fields.get("split", ""), where),
        sequence=fields.get("sequence") or None,
        frame=_frame(fields.get("frame", ""), where),
    )


def _place(folder: str, path: str) -> str:
    place = os.path.join(folder, path)
    if os.sep == "/" and "\\" in path and not os.path.lexists(place):  # seldom, but a name may hold one
        return os.path.join(folder, path.replace("\\", "/"))
    return place


def _split(word: str, where: str) -> str | None:
    split = split_of(word)
    if word and split is None:
        raise InputError(f"{where}: split {word!r} is unknown; expected train, val or test")
    return split


def _frame(text: str, where: str) -> int | None:
    if not text:
        return None
    with suppress(ValueError):
        number = int(text)
        if abs(number) <= _LARGEST_FRAME:
            return number
    raise InputError(f"{where}: frame {text[:40]!r} is no integer, or larger than {_LARGEST_FRAME}")
