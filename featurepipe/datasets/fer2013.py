"""FER2013: the CSV of pixels under its three names, and Kaggle's folders of it (datasets.md 3.6, layouts G4 and G5)."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from featurepipe.datasets.arrays import pixel_notes
from featurepipe.datasets.ckextended import is_ckextended
from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, label_layout, label_parts, list_photos
from featurepipe.datasets.listing import left_out, misnamed, mostly_named
from featurepipe.datasets.pixel_rows import CONSTANT, has_pixels, read_pixel_rows
from featurepipe.datasets.source import Skipped, Source, label_of, split_of
from featurepipe.files import printable
from featurepipe.records import Sample

CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Words of the codes 0 to 6."""

_WHOLE = ("fer2013.csv", "icml_face_data.csv")
_PARTS = ("train.csv", "test.csv")
_FERPLUS = "fer2013new.csv"

_NAME = r"(Training|PublicTest|PrivateTest)_\d+"
_KAGGLE_NAME = re.compile(_NAME)
_KAGGLE_PLACE = rf"[^/]+/{_NAME}(\.jpg\d+)?"  # augmented copies end in .jpg0.jpg
_EXTENSIONS = (".jpg", ".jpeg", ".png")

_BLACK = frozenset(
    (
        *("Training_10131352", "Training_28756096", "Training_32571770", "Training_48403842", "Training_48621797"),
        *("Training_52563817", "Training_78540321", "Training_87607167", "Training_89335926", "Training_96772745"),
        *("Training_99531165", "PublicTest_5543497"),
    )
)
"""The twelve pictures that are entirely black, by Kaggle's names; no other picture has one of these names."""


def read_fer2013(root: str, frames: Frames = "apex") -> Source:
    """Read FER2013: a CSV of pixels, a folder that holds one, or Kaggle's class folders of pictures.

    Pictures of one single value (twelve black ones in the official files) are left out: they show no face.

    Parameters
    ----------
    root : the CSV, or a folder with the marker
    frames : not used: there are no sequences

    Raises
    ------
    InputError : a CSV is malformed, or a folder holds none and no photos named as Kaggle names them
    """
    if not os.path.isdir(root):
        return _read_tables([root])
    names = {name.lower(): os.path.join(root, name) for name in sorted(os.listdir(root))}
    whole = [names[name] for name in _WHOLE if name in names]
    tables = whole[:1] or [names[name] for name in _PARTS if name in names and has_pixels(names[name])]
    if tables:
        return _read_tables(tables, [f"{printable(other)} is the same data again: not read" for other in whole[1:]])
    return _read_folders(list_photos(root))


def _read_tables(tables: list[str], notes: list[str] | None = None) -> Source:
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    for table in tables:
        read, out = read_pixel_rows(table, CODES)
        if os.path.basename(table).lower() == _PARTS[0]:  # the rows of Training alone, without the column Usage
            read = [replace(sample, split=sample.split or "train") for sample in read]
        samples += read
        skipped += out
    return Source(samples, "fer2013", "crops", [*(notes or []), *left_out(skipped), *pixel_notes(samples)], skipped)


def _read_folders(listing: Listing) -> Source:
    """Samples of Kaggle's folders: label by class folder, split by the prefix of the name, whatever the folder says."""
    layout = label_layout(listing.photos)
    samples, rest, black = [], [], []
    for photo in listing.photos:
        stem, extension = os.path.splitext(photo.rpartition("/")[2])
        match = _KAGGLE_NAME.fullmatch(stem)
        if match is None or extension.lower() not in _EXTENSIONS:
            rest.append(photo)
            continue
        word = label_parts(layout, photo)[1]
        label = label_of(word) if word is not None else None
        sample = Sample(listing.path(photo), label=label, raw_label=word, split=split_of(match[1]), role="still")
        if stem in _BLACK:
            black.append(Skipped(sample.path, "damaged", CONSTANT, sample))
        else:
            samples.append(sample)
    skipped = black + misnamed(listing, rest, "Training_<number>.jpg and so on; repacks add augmented copies")
    notes = ["FER2013 by its file names: their prefixes give the official splits, folders do not"]
    return Source(samples, "fer2013", "crops", [*listing.notes, *notes, *left_out(skipped)], skipped)


def _is_root(place: str) -> bool:
    if not os.path.isdir(place):
        return has_pixels(place) and not is_ckextended(place)
    try:
        names = {name.lower(): os.path.join(place, name) for name in os.listdir(place)}
    except OSError:
        return False
    if _FERPLUS in names:
        return False
    tables = [names[name] for name in (*_WHOLE, *_PARTS) if name in names]
    return any(has_pixels(table) for table in tables) or mostly_named(place, _KAGGLE_PLACE)


_LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def _sheet(unit: str, split: str, *counts: int) -> Expected:
    return Expected(
        unit, sum(counts), dict(zip(_LABELS, counts, strict=True)), belongs=lambda sample: sample.split == split
    )


DATABASE = Database(
    name="fer2013",
    title="FER2013",
    size="35,887 grey pictures of 48 x 48 pixels: 28,709 train, 3,589 val, 3,589 test",
    labels=_LABELS,
    identity="none",
    licence="none stated; pictures from the web, collected for a Kaggle challenge",
    url="https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
    citation="Goodfellow et al., Challenges in Representation Learning: A Report on Three Machine Learning Contests, "
    "ICONIP 2013",
    is_root=_is_root,
    read=read_fer2013,
    sheet=(
        _sheet("Training", "train", 3995, 436, 4097, 7215, 4965, 4830, 3171),
        _sheet("PublicTest", "val", 467, 56, 496, 895, 607, 653, 415),
        _sheet("PrivateTest", "test", 491, 55, 528, 879, 626, 594, 416),
    ),
    marker="fer2013.csv, icml_face_data.csv or train.csv with a column pixels, or class folders of pictures named "
    "Training_<number>.jpg, PublicTest_<number>.jpg and PrivateTest_<number>.jpg",
)
