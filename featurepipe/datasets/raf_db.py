"""RAF-DB: basic and compound expressions, aligned or original pictures, and Kaggle's copy (datasets.md 3.13, G8)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.listing import file_in, left_out, names_in, photos_in, read_lines, subfolder
from featurepipe.datasets.source import Skipped, Source
from featurepipe.datasets.tables import read_rows
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import Face, Sample

BASIC = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""Labels of the codes 1 to 7."""

COMPOUND = (
    *("happiness+surprise", "happiness+disgust", "sadness+fear", "sadness+anger", "sadness+surprise"),
    *("sadness+disgust", "fear+anger", "fear+surprise", "anger+surprise", "anger+disgust", "disgust+surprise"),
)
"""Labels of the codes 1 to 11 of the compound subset."""

_SUBSETS = {"basic": BASIC, "compound": COMPOUND}
_LIST = "list_patition_label.txt"  # sic
_KINDS = ("aligned", "original")
_NAME = re.compile(r"(train_\d{5}|test_\d{4})(_aligned)?", re.IGNORECASE)
_LINE = re.compile(r"(\S+)\s+(\d+)")
_SPLITS = ("train", "test")

_GENDERS = ("male", "female", "unsure")
_RACES = ("Caucasian", "African-American", "Asian")
_AGES = ("0-3", "4-19", "20-39", "40-69", "70+")
_POINTS = 5


class _Part(NamedTuple):
    """One subset as it lies on disk: its folder, basic or compound, its list, and the folder of its pictures."""

    folder: str
    subset: str
    table: str
    pictures: str
    aligned: bool


def read_raf_db(root: str, frames: Frames = "apex") -> Source:
    """Read RAF-DB: each of the subsets basic and compound that is there, in extra["subset"].

    Pictures are the aligned faces where they are there, else the originals with the face's box; SOURCE
    basic/Image/original reads the originals. Labels of the compound subset are pairs, as happiness+surprise. extra
    holds gender, race and age (years), and for originals the five landmarks, as annotated by hand.

    Parameters
    ----------
    root : folder with the marker
    frames : not used: there are no sequences

    Raises
    ------
    InputError : a list is missing or malformed, or the pictures are not there
    """
    if _numbered(root):
        return _read_kaggle(root)
    parts = _parts(root)
    if not parts:
        raise InputError(
            f"{printable(root)}: expected a folder of RAF-DB with basic or compound, each with EmoLabel/{_LIST} and "
            "Image/aligned or Image/original; or Kaggle's folders train/1 to test/7"
        )
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    for part in parts:
        read, out = _read_part(part)
        samples += read
        skipped += out
    faces = {part.aligned for part in parts}
    if len(faces) > 1:
        raise InputError(
            f"{printable(root)} has aligned faces of one subset and originals of the other "
            f"({', '.join(printable(part.pictures) for part in parts)}): give one of these folders as SOURCE"
        )
    notes = [f"pictures of {part.subset} read from {printable(part.pictures)}" for part in parts]
    if len(parts) > 1:
        notes.append("pairs of emotions (compound) are classes of their own; give basic as SOURCE to read it alone")
    return Source(samples, "raf-db", "crops" if faces == {True} else "photos", notes + left_out(skipped), skipped)


def _read_part(part: _Part) -> tuple[list[Sample], list[Skipped]]:
    photos = photos_in(part.pictures)
    attributes = _Attributes(part)
    samples, skipped = [], []
    listed = set()
    for name, code in _labels(part.table, len(_SUBSETS[part.subset])):
        stem = os.path.splitext(name)[0] + ("_aligned" if part.aligned else "")
        listed.add(stem)
        path = os.path.join(part.pictures, photos.get(stem, stem + os.path.splitext(name)[1]))
        if stem not in photos:
            skipped.append(Skipped(path, "missing", f"{_LIST} names it"))
            continue
        extra, box = attributes.read(os.path.splitext(name)[0])
        samples.append(
            Sample(
                path,
                label=_SUBSETS[part.subset][code - 1],
                raw_label=str(code),
                split=_split(name),
                role="still",
                extra={"subset": part.subset, **extra},
                box=box,
            )
        )
    strangers = [photos[stem] for stem in photos if stem not in listed]
    return samples, skipped + [Skipped(os.path.join(part.pictures, name), "extra", "in no list") for name in strangers]


def _labels(table: str, codes: int) -> Iterator[tuple[str, int]]:
    """(name, code) of each line of a list."""
    for number, line in enumerate(read_lines(table), start=1):
        match = _LINE.fullmatch(line.strip())
        if match and _split(match[1]) and 1 <= int(match[2]) <= codes:
            yield match[1], int(match[2])
        elif line.strip():
            raise InputError(
                f"{printable(table)}, line {number}: expected a picture's name and a code from 1 to {codes}, as "
                f"'train_00001.jpg 5'; found {line[:60]!r}"
            )


def _split(name: str) -> str | None:
    return name.partition("_")[0].lower() if _NAME.match(name) else None


class _Attributes:
    """What people annotated by hand beside the label: one small file for each picture, and one for its box."""

    def __init__(self, part: _Part) -> None:
        annotation = subfolder(part.folder, "Annotation") or part.folder
        self._manual = subfolder(annotation, "manual")
        self._boxes = None if part.aligned else subfolder(annotation, "boundingbox")
        self._original = not part.aligned

    def read(self, stem: str) -> tuple[dict[str, Any], Face | None]:
        """(extra, box) of the picture with this name in the list; landmarks and box are in pixels of the original."""
        lines = _numbers(self._manual, f"{stem}_manu_attri.txt")
        extra: dict[str, Any] = {}
        if [len(line) for line in lines] == [2] * _POINTS + [1] * 3:
            words = {"gender": _GENDERS, "race": _RACES, "age": _AGES}
            for (name, known), (code,) in zip(words.items(), lines[_POINTS:], strict=True):
                if code in range(len(known)):
                    extra[name] = known[int(code)]
            if self._original:
                extra["landmarks"] = lines[:_POINTS]
        return extra, _box(_numbers(self._boxes, f"{stem}_boundingbox.txt"))


def _numbers(folder: str | None, name: str) -> list[list[float]]:
    """The numbers in each line of a file; none where it is not there or holds something else."""
    path = os.path.join(folder, name) if folder else ""
    if not os.path.isfile(path):
        return []
    try:
        lines = [[float(text) for text in line.split()] for line in read_lines(path) if line.strip()]
    except ValueError:
        return []
    return lines if all(math.isfinite(value) for line in lines for value in line) else []


def _box(lines: list[list[float]]) -> Face | None:
    """A box from the four numbers left, top, right, bottom; that order is what public loaders take them for."""
    values = [value for line in lines for value in line]
    if len(values) != 4 or not all(abs(value) < 1e6 for value in values):
        return None
    left, top, right, bottom = (round(value) for value in values)
    return Face(left, top, right, bottom) if left < right and top < bottom else None


# Where things are


def _parts(root: str) -> list[_Part]:
    """The subsets at `root`: the root of the database, one of its subsets, or a folder of pictures of one."""
    of_pictures = _folder_of_pictures(root)
    if of_pictures:
        return [_part(of_pictures, root)]
    below = [folder for subset in _SUBSETS if (folder := subfolder(root, subset)) and _table(folder)]
    return [_part(folder) for folder in (below or ([root] if _table(root) else []))]


def _folder_of_pictures(root: str) -> str | None:
    """The subset's folder where `root` is its folder aligned or original; else None."""
    place = os.path.abspath(root)
    if os.path.basename(place).casefold() not in _KINDS:
        return None
    above = os.path.dirname(place)
    return next((folder for folder in (above, os.path.dirname(above)) if _table(folder)), None)


def _part(folder: str, pictures: str | None = None) -> _Part:
    images = subfolder(folder, "Image") or folder
    found = pictures or next((path for kind in _KINDS if (path := subfolder(images, kind))), None)
    if found is None:
        raise InputError(f"{printable(folder)} has no pictures: expected Image/aligned or Image/original in it")
    found = _unwrapped(found)
    table = _table(folder) or ""
    aligned = os.path.basename(os.path.abspath(found)).casefold() == _KINDS[0]
    return _Part(folder, _subset(folder, table), table, found, aligned)


def _unwrapped(pictures: str) -> str:
    """The folder itself, or the one of its name in it where it has no photos: unpacking wraps aligned/ in another."""
    name = os.path.basename(os.path.abspath(pictures))
    while (inner := subfolder(pictures, name)) and not photos_in(pictures):
        pictures = inner
    return pictures


def _subset(folder: str, table: str) -> str:
    """basic or compound by the folder's name; where that says neither, by the codes, which end at 7 in basic."""
    name = os.path.basename(os.path.abspath(folder)).casefold()
    if name in _SUBSETS:
        return name
    return "compound" if any(code > len(BASIC) for _, code in _labels(table, len(COMPOUND))) else "basic"


def _table(folder: str) -> str | None:
    """Path of the list of a subset: it has two spellings, the official one being wrong."""
    labels = subfolder(folder, "EmoLabel")
    names = (_LIST, _LIST.replace("patition", "partition"))
    return next((path for name in names if labels and (path := file_in(labels, name))), None)


# Kaggle's copy


def _numbered(root: str) -> dict[tuple[str, int], str]:
    """Folders of Kaggle's copy by (split, code): digits 1 to 7 below train and test, with RAF-DB's names in them."""
    found = {}
    for split in _SPLITS:
        folder = subfolder(root, split)
        for code in range(1, len(BASIC) + 1) if folder else ():
            path = os.path.join(folder or "", str(code))
            if os.path.isdir(path) and _has_names(path):
                found[split, code] = path
    return found


def _has_names(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(_NAME.fullmatch(os.path.splitext(entry.name)[0]) for entry in entries)


def _read_kaggle(root: str) -> Source:
    """Samples of Kaggle's copy: labels by train_labels.csv and test_labels.csv where these are, else by folder."""
    tables = {split: _kaggle_table(root, f"{split}_labels.csv") for split in _SPLITS}
    codes = {split: _kaggle_codes(path) for split, path in tables.items() if path}
    samples, skipped = [], []
    strange = 0
    for (split, code), folder in _numbered(root).items():
        for stem, name in photos_in(folder).items():
            path = os.path.join(folder, name)
            listed = codes[split].pop(stem, None) if split in codes else code
            if not _NAME.fullmatch(stem):
                skipped.append(Skipped(path, "misnamed", "no name of RAF-DB, as train_00001_aligned.jpg"))
            elif listed is None:
                skipped.append(Skipped(path, "extra", f"not in {split}_labels.csv"))
            else:
                strange += listed != code
                label, extra = BASIC[listed - 1], {"subset": "basic"}
                samples.append(Sample(path, label, str(listed), split=_split(name), role="still", extra=extra))
    for split, left in codes.items():
        skipped += [
            Skipped(os.path.join(root, split, stem), "missing", f"{split}_labels.csv names it") for stem in left
        ]
    notes = [f"labels read from {', '.join(printable(path) for path in tables.values() if path) or 'folder names'}"]
    if strange:
        notes.append(
            f"{strange} pictures lie in the folder of another code than the CSV gives them: the CSV is believed"
        )
    return Source(samples, "raf-db", "crops", notes + left_out(skipped), skipped)


def _kaggle_table(root: str, name: str) -> str | None:
    """train_labels.csv or test_labels.csv, beside the folders or one level above them (DATASET/)."""
    return file_in(root, name) or file_in(os.path.normpath(os.path.join(root, os.pardir)), name)


def _kaggle_codes(table: str) -> dict[str, int]:
    """{name without extension: code} of a CSV image,label."""
    codes = {}
    for line, fields in read_rows(table, {"image": (), "label": ()}):
        code, name = fields.get("label", ""), fields.get("image", "")
        if not (name and code.isascii() and code.isdecimal() and 1 <= int(code) <= len(BASIC)):
            raise InputError(
                f"{printable(table)}, line {line}: expected image,label with a code from 1 to {len(BASIC)}; "
                f"found {dict(fields)}"
            )
        codes[os.path.splitext(name)[0]] = int(code)
    return codes


def _is_root(place: str) -> bool:
    if _folder_of_pictures(place):
        return True
    if names_in(place).isdisjoint(("emolabel", *_SUBSETS, *_SPLITS)):
        return False
    folders = (place, *(subfolder(place, subset) for subset in _SUBSETS))
    return any(_table(folder) for folder in folders if folder) or bool(_numbered(place))


def _expected(split: str, total: int, *counts: int) -> Expected:
    names = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    return Expected(
        f"basic, {split}",
        total,
        dict(zip(names, counts, strict=True)),
        lambda sample: sample.split == split and sample.extra.get("subset") == "basic",
        form="basic",
    )


def _compound(split: str | None, total: int, sure: bool) -> Expected:
    def belongs(sample: Sample) -> bool:
        return sample.extra.get("subset") == "compound" and split in (None, sample.split)

    return Expected(f"compound, {split}" if split else "compound", total, belongs=belongs, sure=sure, form="compound")


DATABASE = Database(
    name="raf-db",
    title="RAF-DB",
    size="15,339 pictures of 7 basic and 3,954 of 11 compound expressions",
    labels=(*sorted(BASIC), *sorted(COMPOUND)),
    identity="none",
    licence="non-commercial research; password by e-mail from an academic address",
    url="http://www.whdeng.cn/RAF/model1.html",
    citation="Li, Deng, Du, Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in "
    "the Wild, CVPR 2017",
    is_root=_is_root,
    read=read_raf_db,
    sheet=(
        _expected("train", 12271, 705, 717, 281, 4772, 2524, 1982, 1290),
        _expected("test", 3068, 162, 160, 74, 1185, 680, 478, 329),
        _compound(None, 3954, sure=True),
        _compound("train", 3162, sure=False),
        _compound("test", 792, sure=False),
    ),
    marker=f"EmoLabel/{_LIST}, or train/1 to test/7 with names as train_00001_aligned.jpg",
)
