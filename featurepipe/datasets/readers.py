"""SOURCE to samples: the one way in, whatever SOURCE is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from featurepipe.datasets.arrays import read_npz
from featurepipe.datasets.database import MAX_DEPTH, Database, Frames, find_roots
from featurepipe.datasets.folder import (
    EXTENSIONS,
    count_pictures,
    list_photos,
    read_folder,
    read_listing,
    refuse_codes,
    split_place,
)
from featurepipe.datasets.manifest import COLUMNS, read_manifest
from featurepipe.datasets.registry import DATABASES
from featurepipe.datasets.sequences import read_clip
from featurepipe.datasets.source import Source, split_of
from featurepipe.datasets.tables import read_header
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import CLIPS

__all__ = ["GENERIC", "Source", "read_database", "read_source"]

_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")

GENERIC: dict[str, Callable[[str], Source]] = {
    "folder": read_folder,
    "csv": read_manifest,
    "npz": read_npz,
}
"""Readers of what is no copy of a known database, by name. With registry.DATABASES: featurepipe.names.DATASETS."""


def read_source(source: str | os.PathLike[str], dataset: str | None = None, frames: Frames = "apex") -> Source:
    """Read the samples of SOURCE: names and labels of photos, or face crops as pixels. No photo is opened.

    Parameters
    ----------
    source : a copy of a database (at most MAX_DEPTH folders deep), a folder of photos, a folder per class (also
        below split folders), one photo, one film (every frame of it), a CSV manifest, a CSV of pixels, or an NPZ of
        pixels
    dataset : name of the reader; without it a database is told by its marker, which a note says
    frames : of the sequences of a database: "apex" for neutral and apex frames alone, or "all"

    Raises
    ------
    InputError : SOURCE is not there, holds nothing, is malformed, or its kind cannot be told

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("happy/a.jpg", "sad/b.jpg"):
    ...         Path(folder, name).parent.mkdir()
    ...         Path(folder, name).touch()
    ...     [sample.label for sample in read_source(folder).samples]
    ['happiness', 'sadness']
    """
    source = os.fspath(source)
    if not os.path.exists(source):
        raise InputError(f"{printable(source)} is not there; expected a folder, a photo, a film, a CSV or NPZ file")
    _refuse_streams(source)
    if dataset is None:
        return _read_by_content(source, frames)
    if dataset in GENERIC:
        return GENERIC[dataset](source)
    if dataset in DATABASES:
        return read_database(DATABASES[dataset], source, frames)
    raise InputError(f"unknown dataset {dataset!r}; expected one of {', '.join([*GENERIC, *DATABASES])}")


def read_database(database: Database, source: str, frames: Frames = "apex") -> Source:
    """Read SOURCE as a copy of `database`: a folder whose root is looked for, or a file that its reader takes.

    Raises
    ------
    InputError : there is no copy of it at SOURCE, or it is malformed
    """
    _refuse_streams(source)
    return _read_copy(database, source, frames).read


def _refuse_streams(source: str) -> None:
    """Refuse what gives its bytes once only: a table is opened to tell what it is, and again to read it."""
    if os.path.exists(source) and not (os.path.isdir(source) or os.path.isfile(source)):
        raise InputError(f"{printable(source)} is a pipe or a device: write it to a file first, and give that")


class _Copy(NamedTuple):
    """A copy of a database as read, its root, and how many photos and clips of SOURCE lie in no root."""

    read: Source
    root: str
    outside: int


def _read_copy(database: Database, source: str, frames: Frames) -> _Copy:
    if not os.path.isdir(source):
        _refuse_archives(source)
        return _Copy(database.read(source, frames), source, 0)
    roots = [root for root, _ in find_roots(source, [database])]
    if not roots:
        looked_for = f": looked for {database.marker}" if database.marker else ""
        raise InputError(
            f"{printable(source)} is no copy of {database.title}, nor are the folders at most {MAX_DEPTH} levels below"
            f"{looked_for}"
        )
    root, read = _read_at(database, roots[0], source, frames)
    read = _with_folder_splits(read, root)
    others = [other for other in roots[1:] if not other.startswith(os.path.join(root, ""))]
    notes = [f"{printable(other)} is another copy or part: give it as SOURCE to read it" for other in others]
    outside = count_pictures(source, outside=[root, *others])
    if outside:
        notes.append(f"{outside} photos or clips outside {printable(root)} are not read")
    return _Copy(replace(read, notes=[*notes, *read.notes]), root, outside)


def _read_at(database: Database, root: str, source: str, frames: Frames) -> tuple[str, Source]:
    """The copy at `root`, or at the nearest folder above it in `source` that can be read, and which of them that is.

    Pictures and labels may lie in two folders side by side: either has the marker, and neither is the whole copy.
    """
    try:
        return root, database.read(root, frames)
    except InputError:
        for place in _above(root, source):
            with suppress(InputError):
                if (read := database.read(place, frames)).samples:
                    return place, read
        raise


def _above(root: str, source: str) -> Iterator[str]:
    """The folders above `root`, from the nearest one to `source`."""
    names = os.path.relpath(root, source).split(os.sep) if root != source else []
    for count in reversed(range(len(names))):
        yield os.path.join(source, *names[:count])


def _with_folder_splits(read: Source, root: str) -> Source:
    """Of a database that has no splits, those that a user sorted it into: folders train, val and test below `root`."""
    if any(sample.split for sample in read.samples):
        return read
    folders = {os.path.dirname(sample.path) for sample in read.samples if sample.pixels is None}
    parts = {folder: [name for name in folder.removeprefix(root).split(os.sep) if name] for folder in folders}
    place = split_place(parts.values()) if parts else None
    if place is None:
        return read
    splits = {folder: split_of(names[place]) for folder, names in parts.items() if len(names) > place}
    samples = [replace(sample, split=splits.get(os.path.dirname(sample.path))) for sample in read.samples]
    words = sorted({names[place] for names in parts.values() if len(names) > place})
    note = f"splits by your folders: {', '.join(map(printable, words))}"
    if loose := sum(1 for sample in samples if sample.split is None):
        note += f"; {loose} photos lie outside them and are of no split"
    return replace(read, samples=samples, notes=[note, *read.notes])


def _read_by_content(source: str, frames: Frames) -> Source:
    if not os.path.isdir(source):
        return _read_file(source, frames)
    database = _database_at(source)
    if database is not None:
        return _read_as(database, source, frames)
    listing = list_photos(source)
    refuse_codes(listing)
    return read_listing(listing)


def _read_file(source: str, frames: Frames) -> Source:
    extension = os.path.splitext(source)[1].lower()
    if extension == ".npz":
        return read_npz(source)
    if extension == ".csv":
        return _read_csv(source, frames)
    if extension in EXTENSIONS:
        return read_folder(source)
    if extension in CLIPS:
        return read_clip(source)
    _refuse_archives(source)
    raise InputError(
        f"what {printable(source)} is cannot be told from its name; expected a folder, a .csv, a .npz, a photo "
        f"({' '.join(sorted(EXTENSIONS))}) or a film ({' '.join(CLIPS)}); --dataset names the reader "
        f"({', '.join([*GENERIC, *DATABASES])})"
    )


def _refuse_archives(source: str) -> None:
    if source.lower().endswith(_ARCHIVES):
        raise InputError(f"{printable(source)} is an archive: unpack it, and give the folder as SOURCE")


def _read_csv(source: str, frames: Frames) -> Source:
    header = read_header(source)
    pixels = "pixels" in header
    paths = any(name in header for name in ("path", *COLUMNS["path"]))
    if paths and not pixels:
        return read_manifest(source)
    database = _database_at(source) if pixels and not paths else None
    if database is not None:
        return _read_as(database, source, frames)
    found = ", ".join(printable(name) for name in header)
    expected = "expected path (a manifest) or pixels (FER2013)"
    if pixels:
        raise InputError(f"{printable(source)} has columns {found}: {expected}, not both; name it with --dataset")
    raise InputError(f"{printable(source)} has columns {found}; {expected}, separated by commas")


def _read_as(database: Database, source: str, frames: Frames) -> Source:
    """Read a database that its marker told, and say so."""
    copy = _read_copy(database, source, frames)
    if copy.outside:
        _refuse_minority(database, source, copy)
    return replace(copy.read, notes=[f"read as {database.title} (--dataset {database.name})", *copy.read.notes])


def _refuse_minority(database: Database, source: str, copy: _Copy) -> None:
    """Refuse a copy that is the lesser part of SOURCE: a few photos of a database must not stand for all the others."""
    rows = sum(1 for sample in copy.read.samples if sample.pixels is not None)
    inside = count_pictures(copy.root) + rows
    if copy.outside <= inside:
        return
    root = printable(copy.root)
    raise InputError(
        f"{root} is a copy of {database.title} with {inside} photos or clips, and {copy.outside} others in "
        f"{printable(source)} lie outside it, so which are meant cannot be told. Give {root} as SOURCE (or --dataset "
        f"{database.name}) to read that copy alone, or --dataset folder to read all photos by their folders"
    )


def _database_at(source: str) -> Database | None:
    """The one database whose marker is at SOURCE or below; None where none is.

    Raises
    ------
    InputError : there are several
    """
    found = {database.name: (root, database) for root, database in reversed(find_roots(source, DATABASES.values()))}
    if len(found) > 1:
        places = "; ".join(f"{name} ({printable(root)})" for name, (root, _) in sorted(found.items()))
        raise InputError(
            f"{printable(source)} holds more than one database: {places}. Give the folder of one as SOURCE, or name "
            "the one to read with --dataset"
        )
    return next((database for _, database in found.values()), None)
