"""SFEW: frames of films, in its 2.0 and 1.0 layouts and a flat repack with a CSV (datasets.md 3.4)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_files
from featurepipe.datasets.listing import by_name, file_in, left_out, mostly_named, subfolders
from featurepipe.datasets.source import Skipped, Source, label_of, split_of
from featurepipe.datasets.tables import read_rows
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.labels import LABEL_SETS
from featurepipe.records import Sample

WORDS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
"""Class folders, and the codes 0 to 6 of the repack's CSV."""

_FRAME = r"(.+)_(\d{9})_(\d{8})"
_FILM = re.compile(_FRAME)
_SPLIT = re.compile(r"([a-z]+?)(?:_aligned.*)?", re.IGNORECASE)
_CLASSES = frozenset(word.lower() for word in WORDS)
_TABLE = "sfew_2.0_labels.csv"
_COLUMNS = {"image_name": ("image", "name"), "label": (), "emotion": (), "original_split": ("split",)}
_FILMS = (
    "people are not named. Photos of one film stay together in folds (its title is their sequence), but films of one "
    "series share actors, and an actor may be in several films: no fold is surely person-disjoint"
)


def is_sfew(folder: str) -> bool:
    """Whether the repack's CSV is here, most photos are named as frames of films, or halves of SFEW 1.0 are here.

    The halves have no confirmed names, so their folder or the one above must say SFEW: other data sets
    have splits of class folders too.
    """
    path = os.path.abspath(folder).lower().split(os.sep)[-2:]
    return (
        file_in(folder, _TABLE) is not None
        or mostly_named(folder, _FRAME)
        or (any("sfew" in part for part in path) and _halves(folder) == 2)
    )


def _halves(folder: str) -> int:
    """How many folders here have all seven class folders directly in them."""
    return sum(_CLASSES.issubset(subfolders(half)) for half in subfolders(folder).values())


def read_sfew(root: str, frames: Frames = "apex") -> Source:
    """Read SFEW 2.0, SFEW 1.0 or the flat repack of 2.0.

    Labels and splits come from the folders (the CSV in the repack); photos of the test split are unlabelled. Where a
    split has aligned faces, its film frames are left out: they are the same pictures. The halves of 1.0 become train
    and test by their names. Nobody is named; the film's title is the sequence, so that its photos stay together in
    folds. `extra` has film, aligned, and half in 1.0.

    Raises
    ------
    InputError : root cannot be listed, or the repack's CSV is malformed
    """
    listing = list_files(root)
    tables = list(by_name(listing, listing.others, re.escape(os.path.splitext(_TABLE)[0]), []))
    skipped: list[Skipped] = []
    samples = _repacked(listing, tables[0].path, skipped) if tables else _in_folders(listing, skipped)
    aligned = bool(samples) and all(sample.extra["aligned"] for sample in samples)
    notes = listing.notes + _notes(samples) + left_out(skipped)
    return Source(samples, "sfew", "crops" if aligned else "photos", notes, skipped)


def _notes(samples: list[Sample]) -> list[str]:
    notes = [_FILMS] if any(sample.sequence for sample in samples) else []
    unknown = sum(1 for sample in samples if sample.sequence is None)
    if unknown:
        notes.append(f"{unknown} of {len(samples)} photos do not name their film")
    halves = {str(sample.extra["half"]): sample.split for sample in samples if "half" in sample.extra}
    if "test" in halves.values():
        shown = ", ".join(f"{printable(half)} is {split}" for half, split in sorted(halves.items()))
        notes.append(f"SFEW 1.0 by its two halves: {shown}; the protocol then swaps them and takes the mean")
    return notes


@dataclass(frozen=True, slots=True)
class _Place:
    """What the folders of one photo say."""

    file: str
    name: str
    split: str | None
    word: str | None
    half: str
    aligned: bool

    @property
    def picture(self) -> tuple[str, bool, str, str]:
        """What is the same in copies."""
        return self.split or self.half, self.aligned, (self.word or "").lower(), self.name.lower()


def _in_folders(listing: Listing, skipped: list[Skipped]) -> list[Sample]:
    above = os.path.basename(os.path.abspath(listing.root))
    places = [_place(above, photo) for photo in listing.photos]
    halves = sorted({place.half for place in places if place.word and not place.split})
    splits = dict(zip(halves, ("train", "test"), strict=True)) if len(halves) == 2 else {}
    aligned = {place.split for place in places if place.aligned}
    seen: set[tuple[str, bool, str, str]] = set()
    samples = []
    # The newer set of aligned faces, in a folder named so, comes before the older one.
    for place in sorted(places, key=lambda place: "_new/" not in place.file.lower()):
        path = listing.path(place.file)
        if place.word is None and place.split != "test":
            skipped.append(Skipped(path, "misnamed", f"in none of the class folders {', '.join(WORDS)}"))
        elif not place.aligned and place.split in aligned:
            skipped.append(Skipped(path, "extra", "a film frame, and the aligned faces of this split are here"))
        elif place.picture in seen:
            skipped.append(Skipped(path, "extra", "a copy of another file under the same name"))
        else:
            seen.add(place.picture)
            half = {} if place.split or place.half not in splits else {"half": place.half}
            split = place.split or splits.get(place.half)
            samples.append(_sample(path, place.name, place.word, split, {"aligned": place.aligned, **half}))
    return sorted(samples, key=lambda sample: os.fsencode(sample.path))


def _place(above: str, photo: str) -> _Place:
    """What is in `photo`, a path below the root, and in `above`, the root's own name."""
    *folders, name = [above, *photo.split("/")]
    word = folders[-1] if folders[-1].lower() in _CLASSES else None
    splits = [split for part in folders if (split := _split(part))]
    aligned = any("aligned" in part.lower() for part in folders)
    half = folders[-2] if word and len(folders) > 1 else ""
    return _Place(photo, name, splits[-1] if splits else None, word, half, aligned)


def _split(word: str) -> str | None:
    """The split that Train, or Train_Aligned_Faces, stands for; None for other words."""
    match = _SPLIT.fullmatch(word)
    return split_of(match[1]) if match else None


def _sample(path: str, name: str, word: str | None, split: str | None, extra: Mapping[str, Any]) -> Sample:
    match = _FILM.fullmatch(os.path.splitext(name)[0])
    film = match[1] if match else None
    label = label_of(word) if word else None
    told = {**extra, "film": film} if film else extra
    return Sample(path, label=label, raw_label=word, split=split, sequence=film, role="still", extra=told)


def _repacked(listing: Listing, table: str, skipped: list[Skipped]) -> list[Sample]:
    """Samples of the repack: its CSV has the label and the original split of each picture."""
    places = {photo.rpartition("/")[2].lower(): photo for photo in listing.photos}
    samples = []
    for line, fields in read_rows(table, _COLUMNS):
        where = f"{printable(table)}, line {line}"
        name = _field(fields, "image_name", where).replace("\\", "/").rpartition("/")[2]
        word = _word(fields.get("emotion", ""), fields.get("label", ""), where)
        official = _field(fields, "original_split", where)
        split = _split(official)
        if split is None:
            raise InputError(f"{where}: original_split {official!r}; expected Train_Aligned_Faces or Val_Aligned_Faces")
        place = places.pop(name.lower(), None)
        if place is None:
            skipped.append(Skipped(name, "missing", f"{where} names it"))
            continue
        extra = {"aligned": "aligned" in official.lower()}
        samples.append(_sample(listing.path(place), name, word, split, extra))
    left = sorted(places.values())
    skipped += [Skipped(listing.path(place), "unlabelled", f"{printable(table)} does not name it") for place in left]
    return samples


def _field(fields: Mapping[str, str], name: str, where: str) -> str:
    if not fields.get(name):
        raise InputError(f"{where}: no {name}; expected the columns image_name, label, emotion, original_split")
    return fields[name]


def _word(word: str, code: str, where: str) -> str:
    """The emotion by its word and its code, which must agree where both are there."""
    by_code = {str(number): name for number, name in enumerate(WORDS)}.get(code)
    if code and by_code is None:
        raise InputError(f"{where}: label {code!r} is no code; expected 0 to 6 for {', '.join(WORDS)}")
    if word and by_code and label_of(word) != label_of(by_code):
        raise InputError(f"{where}: emotion {word!r} and label {code} ({by_code}) disagree; correct one of them")
    if not word and not by_code:
        raise InputError(f"{where}: neither emotion nor label; expected the columns emotion or label")
    return word or str(by_code)


def _line(split: str, aligned: bool, total: int, *counts: int) -> Expected:
    """One split of SFEW 2.0; the numbers per class are those of other people's loaders.

    How many faces of the test split were aligned is not known surely: 372 is the number of its film frames.
    """

    def belongs(sample: Sample) -> bool:
        return sample.split == split and sample.extra["aligned"] is aligned and "half" not in sample.extra

    form = f"2.0 {'aligned faces' if aligned else 'film frames'}"
    per_label = dict(zip(LABEL_SETS["basic7"], counts, strict=True)) if counts else {}
    sure = split != "test" or not aligned
    return Expected(f"{form}, {split}", total, per_label, belongs, sure=sure, sure_counts=False, form=form)


DATABASE = Database(
    name="sfew",
    title="SFEW (Static Facial Expressions in the Wild), 2.0 and 1.0",
    size="2.0: 1,766 film frames (891 + 431 + 372 aligned faces); 1.0: 700",
    labels=LABEL_SETS["basic7"],
    identity="none",
    licence="signed agreement by a permanent academic",
    url="https://cs.anu.edu.au/few/AFEW.html",
    citation="Dhall, Goecke, Lucey, Gedeon: Static facial expression analysis in tough conditions. BeFIT, ICCVW 2011",
    is_root=is_sfew,
    read=read_sfew,
    sheet=(
        # The aligned sets are smaller: alignment failed on some frames.
        _line("train", True, 891, 178, 52, 78, 184, 144, 161, 94),
        _line("val", True, 431, 77, 23, 46, 72, 84, 73, 56),
        _line("test", True, 372),
        _line("train", False, 958, 178, 66, 98, 198, 150, 172, 96),
        _line("val", False, 436, 77, 23, 47, 73, 86, 73, 57),
        _line("test", False, 372),
        Expected("1.0, both halves", 700, belongs=lambda sample: "half" in sample.extra, sure=False, form="1.0"),
    ),
    marker=f"{_TABLE}, photos named as Airheads_000519240_00000005.png, or two folders of class folders below SFEW",
)
