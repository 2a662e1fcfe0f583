"""FER+: ten votes for each picture of FER2013 (datasets.md 3.7).

The pictures are FER2013's: the rows of fer2013.csv, or the PNG files that the authors' script writes from them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from featurepipe.datasets.arrays import pixel_notes
from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.fer2013 import CODES
from featurepipe.datasets.listing import file_in, left_out, names_in, photos_in, subfolder
from featurepipe.datasets.pixel_rows import has_pixels, read_pixel_rows
from featurepipe.datasets.source import Skipped, Source, split_of
from featurepipe.datasets.tables import read_rows
from featurepipe.datasets.votes import VOTES, majority
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.labels import canonical
from featurepipe.records import Sample

_LIST = "fer2013new.csv"
_VOTES = "label.csv"
_PIXELS = ("fer2013.csv", "icml_face_data.csv")
_FOLDERS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_FOLDER_COLUMNS = ("image name", "box", *(vote.lower() for vote in VOTES))

_NO_NAME = "not a face: FER+ names no picture for this row"
_NOT_A_FACE = "not a face: most votes are for NF"
_UNKNOWN = "no label: no class has more than half of the votes"
_TWICE = f"{_LIST} has this name in two rows: which of them the picture shows cannot be told"


class _Rated(NamedTuple):
    """A row of votes: where it stands, its split, the name of its picture ("" for none) and its ten votes."""

    where: str
    split: str
    name: str
    votes: tuple[int, ...]


def read_ferplus(root: str, frames: Frames = "apex") -> Source:
    """Read FER+: majority labels, with the ten votes as extra["votes"]; `raw_label` is FER+'s word.

    Pictures without a majority are in `skipped`, and there with their votes too: other rules can use them (votes.py).

    Rows of fer2013new.csv belong to the rows of fer2013.csv by their position alone: the numbers in the names of the
    pictures are not those of the rows. Without fer2013.csv the PNG files are read by name. Pictures whose winner
    is unknown or not a face are left out, as the authors do.

    Parameters
    ----------
    root : folder with the marker
    frames : not used: there are no sequences

    Raises
    ------
    InputError : the pictures are not there, the two tables do not belong together, or one is malformed
    """
    table, pixels, folders = file_in(root, _LIST), _pixels(root), _folders(root)
    if table and pixels:
        return _by_row(table, pixels)
    if folders:
        return _by_name(table, folders)
    raise InputError(
        f"{printable(root)}: expected a folder with FER+'s {_LIST} and the pictures, which are FER2013's: put "
        f"fer2013.csv beside {_LIST}, or write data/FER2013Train, FER2013Valid and FER2013Test with the authors' "
        "generate_training_data.py"
    )


def _by_row(table: str, pixels: str) -> Source:
    rated = list(_rows_of_list(table))
    pictures, black = read_pixel_rows(pixels, CODES)
    known = {one.path: one.sample for one in black if one.sample is not None} | {one.path: one for one in pictures}
    if len(known) != len(rated):
        raise InputError(
            f"{printable(pixels)} has {len(known)} rows and {printable(table)} {len(rated)}: they are matched by "
            "position, so both must be the complete original files (35,887 rows)"
        )
    samples, skipped = [], []
    damaged = {one.path: one.why for one in black}
    for row, one in enumerate(rated):
        picture = known[f"{pixels}#{row}"]
        if picture.split != one.split:
            raise InputError(
                f"{printable(one.where)} is of split {one.split}, but row {row} of {printable(pixels)} of "
                f"{picture.split}: they are matched by position, so both must be in their original order"
            )
        left = _why_not(one)
        if left is not None:
            undecided = left.kind == "unlabelled" and picture.path not in damaged
            skipped.append(replace(left, path=picture.path, sample=_labelled(picture, one) if undecided else None))
        elif picture.path in damaged:
            skipped.append(Skipped(picture.path, "damaged", damaged[picture.path], _labelled(picture, one)))
        else:
            samples.append(_labelled(picture, one))
    notes = [f"votes from {printable(table)}, pictures from {printable(pixels)}, matched row by row"]
    return Source(samples, "ferplus", "crops", notes + left_out(skipped) + pixel_notes(samples), skipped)


def _by_name(table: str | None, folders: dict[str, str]) -> Source:
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    listed = list(_rows_of_list(table)) if table else []
    for split, folder in folders.items():
        votes = file_in(folder, _VOTES) or ""  # the folders are those that have one
        rated = [one for one in listed if one.split == split] if table else list(_rows_of_folder(votes, split))
        read, out = _read_folder(folder, rated)
        samples += read
        skipped += out
    origin = (
        printable(table) if table else f"label.csv in {', '.join(printable(folder) for folder in folders.values())}"
    )
    notes = [f"votes from {origin}, pictures matched by name"]
    if table is None:
        notes.append(f"{_LIST} is not there: label.csv holds other votes for some 1,600 pictures")
    return Source(samples, "ferplus", "crops", notes + left_out(skipped), skipped)


def _read_folder(folder: str, rated: list[_Rated]) -> tuple[list[Sample], list[Skipped]]:
    """Samples of the pictures in one of the authors' folders, and what is left out there or not there."""
    photos = photos_in(folder)
    times = Counter(one.name for one in rated if one.name)
    samples, skipped = [], []
    for one in rated:
        stem = os.path.splitext(one.name)[0]
        path = os.path.join(folder, photos.get(stem, one.name))
        sample = _labelled(Sample(path, split=one.split, role="still", origin=f"fer2013/{one.split}"), one)
        left = _why_not(one)
        if left is not None:
            undecided = left.kind == "unlabelled" and times[one.name] == 1 and stem in photos
            skipped.append(replace(left, path=path if one.name else one.where, sample=sample if undecided else None))
        elif times[one.name] > 1:
            skipped.append(Skipped(path, "misnamed", _TWICE))
        elif stem not in photos:
            skipped.append(Skipped(path, "missing", "FER+ has votes for it"))
        else:
            samples.append(sample)
    names = {os.path.splitext(name)[0] for name in times}
    strangers = [
        Skipped(os.path.join(folder, photos[stem]), "extra", "no votes for it") for stem in photos.keys() - names
    ]
    return samples, skipped + sorted(strangers, key=lambda one: os.fsencode(one.path))


def _labelled(sample: Sample, rated: _Rated) -> Sample:
    word = majority(rated.votes)
    return replace(
        sample, label=canonical(word), raw_label=word, extra={"votes": dict(zip(VOTES, rated.votes, strict=True))}
    )


def _why_not(rated: _Rated) -> Skipped | None:
    """Why the authors leave a row out, or None where they keep it."""
    winner = majority(rated.votes)
    if not rated.name:
        return Skipped(rated.where, "extra", _NO_NAME)
    if winner == "NF":
        return Skipped(rated.where, "extra", _NOT_A_FACE)
    return Skipped(rated.where, "unlabelled", _UNKNOWN) if winner == "unknown" else None


def _rows_of_list(table: str) -> Iterator[_Rated]:
    columns = {name.lower(): () for name in ("Usage", "Image name", *VOTES)}
    for row, (line, fields) in enumerate(read_rows(table, columns)):
        where = f"{printable(table)}, line {line}"
        split = split_of(fields.get("usage", ""))
        if split is None or "image name" not in fields:
            raise InputError(f"{where}: Usage is {fields.get('usage')!r}; expected {_LIST} as the authors publish it")
        yield _Rated(f"{table}#{row}", split, fields["image name"], _votes(fields, where))


def _rows_of_folder(table: str, split: str) -> Iterator[_Rated]:
    columns = dict.fromkeys(_FOLDER_COLUMNS, ())
    for row, (line, fields) in enumerate(read_rows(table, columns, _FOLDER_COLUMNS)):
        yield _Rated(f"{table}#{row}", split, fields["image name"], _votes(fields, f"{printable(table)}, line {line}"))


def _votes(fields: dict[str, str], where: str) -> tuple[int, ...]:
    texts = [fields.get(vote.lower(), "") for vote in VOTES]
    if not all(text.isascii() and text.isdecimal() for text in texts):
        raise InputError(f"{where}: expected a number of votes for each of {', '.join(VOTES)}; found {texts}")
    return tuple(map(int, texts))


def _pixels(root: str) -> str | None:
    """FER2013's CSV of pixels in root, or in a folder fer2013 or data there."""
    for folder in (root, subfolder(root, "fer2013"), subfolder(root, "data")):
        for name in _PIXELS if folder else ():
            found = file_in(folder or "", name)
            if found and has_pixels(found):
                return found
    return None


def _folders(root: str) -> dict[str, str]:
    """The authors' folders of pictures by split: those below root or root/data that have a label.csv."""
    for place in (root, subfolder(root, "data")):
        found = {split: subfolder(place, name) for name, split in _FOLDERS.items()} if place else {}
        folders = {split: folder for split, folder in found.items() if folder and file_in(folder, _VOTES)}
        if folders:
            return folders
    return {}


def _is_root(place: str) -> bool:
    names = names_in(place)
    folders = {name.casefold() for name in _FOLDERS} | {"data"}
    return _LIST in names or (not names.isdisjoint(folders) and bool(_folders(place)))


def _expected(part: str, split: str, total: int, *counts: int) -> Expected:
    names = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    return Expected(
        f"majority labels, {part}", total, dict(zip(names, counts, strict=True)), lambda sample: sample.split == split
    )


DATABASE = Database(
    name="ferplus",
    title="FER+",
    size="31,412 of FER2013's pictures with a majority label",
    labels=("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    identity="none",
    licence="labels under MIT; the pictures are FER2013's and not included",
    url="https://github.com/microsoft/FERPlus",
    citation="Barsoum, Zhang, Canton Ferrer, Zhang, Training Deep Networks for Facial Expression Recognition with "
    "Crowd-Sourced Label Distribution, ICMI 2016",
    is_root=_is_root,
    read=read_ferplus,
    sheet=(
        _expected("train", "train", 25060, 2100, 119, 119, 532, 7287, 8740, 3014, 3149),
        _expected("val", "val", 3199, 287, 13, 24, 62, 865, 1182, 351, 415),
        _expected("test", "test", 3153, 273, 16, 18, 83, 893, 1090, 384, 396),
    ),
    marker=f"{_LIST}, or FER2013Train, FER2013Valid or FER2013Test with a label.csv",
)
