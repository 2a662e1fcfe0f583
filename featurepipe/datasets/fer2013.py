"""FER2013: the CSV of pixels and Kaggle's folders of it (datasets.md 3.6, layouts G4, G5 and G7)."""

from __future__ import annotations

import math
import os
import re
from collections import Counter

import numpy as np

from featurepipe.datasets.arrays import pixel_notes
from featurepipe.datasets.database import Database
from featurepipe.datasets.folder import Listing, label_layout, label_parts, list_photos
from featurepipe.datasets.source import Source, label_of, split_of
from featurepipe.datasets.tables import read_rows
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import Sample

CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""Words of the codes 0 to 7. FER2013 ends at 6; 7 occurs in ckextended.csv, whose other codes are the same."""

_COLUMNS = {"pixels": (), "emotion": (), "usage": ()}
_DIGITS_AND_BLANKS = b"0123456789 \t"
_KAGGLE_NAME = re.compile(r"(Training|PublicTest|PrivateTest)_\d+")
_EXTENSIONS = (".jpg", ".jpeg", ".png")


def read_fer2013(source: str) -> Source:
    """Read FER2013, be it the CSV of pixels or Kaggle's folders.

    Raises
    ------
    InputError : as read_fer2013_csv, or a folder holds no photos named as Kaggle names them
    """
    if not os.path.isdir(source):
        return read_fer2013_csv(source)
    listing = list_photos(source)
    if not is_kaggle_copy(listing):
        raise InputError(
            f"{printable(source)} is no copy of FER2013: expected class folders with Training_<number>.jpg, "
            "PublicTest_<number>.jpg and PrivateTest_<number>.jpg, or the CSV of pixels itself as SOURCE"
        )
    return read_kaggle_listing(listing)


def is_kaggle_copy(listing: Listing) -> bool:
    """Whether most photos lie in class folders under Kaggle's names for FER2013."""
    named = sum(1 for photo in listing.photos if _KAGGLE_NAME.match(_name(photo)))
    return 2 * named > len(listing.photos) and label_layout(listing.photos).classes


def read_kaggle_listing(listing: Listing) -> Source:
    """Samples of Kaggle's folders: label by class folder, split by the prefix of the name, whatever the folder says.

    Names other than `<prefix>_<number>.jpg` (augmented copies, photos from elsewhere) are left out and counted.
    """
    layout = label_layout(listing.photos)
    samples = []
    for photo in listing.photos:
        stem, extension = os.path.splitext(_name(photo))
        match = _KAGGLE_NAME.fullmatch(stem)
        if match is None or extension.lower() not in _EXTENSIONS:
            continue
        word = label_parts(layout, photo)[1]
        label = label_of(word) if word is not None else None
        samples.append(Sample(listing.path(photo), label=label, raw_label=word, split=split_of(match[1])))
    left_out = len(listing.photos) - len(samples)
    notes = ["FER2013 by its file names: their prefixes give the official splits, folders do not"]
    if left_out:
        notes.append(f"{left_out} photos left out: not named as in FER2013 (repacks add augmented copies)")
    return Source(samples, "fer2013", "crops", listing.notes + notes)


def _name(photo: str) -> str:
    return photo.rpartition("/")[2]


def read_fer2013_csv(source: str) -> Source:
    """Read FER2013's CSV of pixels: columns pixels and, where they are there, emotion and Usage, in any order.

    A sample's path is `file#row`, rows from 0 as in the challenge; its pixels are uint8 (side, side), a square
    grey picture given row by row as blank-separated integers 0..255. Training is train, PublicTest val,
    PrivateTest test. A code 7 is contempt: only ckextended.csv has it.

    Raises
    ------
    InputError : a row is malformed (nothing is read then), or the file has no row or no column of pixels
    """
    samples = []
    for row, (line, fields) in enumerate(read_rows(source, _COLUMNS)):
        where = f"{printable(source)}, row {row} (line {line})"
        if "pixels" not in fields:
            raise InputError(f"{printable(source)} has no column pixels; expected emotion,pixels,Usage")
        raw = fields.get("emotion") or None
        samples.append(
            Sample(
                path=f"{source}#{row}",
                label=_label(raw, where),
                raw_label=raw,
                split=_split(fields.get("usage", ""), where),
                pixels=_picture(fields["pixels"], where),
            )
        )
    if not samples:
        raise InputError(f"{printable(source)} has no rows below its header; expected emotion,pixels,Usage")
    return Source(samples, "fer2013", "crops", _code_notes(samples) + pixel_notes(samples))


def _picture(text: str, where: str) -> np.ndarray:
    """A square uint8 picture from blank-separated integers."""
    strange = text.encode().translate(None, _DIGITS_AND_BLANKS)
    # Only digits and blanks are left to np.fromstring: its text mode is the quick way, but it only warns of others.
    values = np.empty(0) if strange else np.fromstring(text, dtype=np.int64, sep=" ")
    side = math.isqrt(values.size)
    if side == 0 or side * side != values.size or values.max() > 255:
        raise InputError(
            f"{where}: pixels is not a square picture of integers 0 to 255 separated by blanks "
            f"(starts {text[:30]!r}, {len(text.split())} values; FER2013 has 48 x 48 = 2304)"
        )
    return values.astype(np.uint8).reshape(side, side)


def _label(raw: str | None, where: str) -> str | None:
    if raw is None:
        return None
    if not raw.isdecimal():
        return label_of(raw)
    if int(raw) >= len(CODES):
        known = ", ".join(f"{code} {word}" for code, word in enumerate(CODES))
        raise InputError(f"{where}: emotion {raw} is no code of FER2013; expected {known}")
    return label_of(CODES[int(raw)])


def _split(word: str, where: str) -> str | None:
    split = split_of(word)
    if word and split is None:
        raise InputError(f"{where}: Usage is {word!r}; expected Training, PublicTest or PrivateTest")
    return split


def _code_notes(samples: list[Sample]) -> list[str]:
    contempt = Counter(sample.raw_label for sample in samples)["7"]
    if not contempt:
        return []
    return [
        f"{contempt} rows have code 7, read as contempt: this is ckextended.csv (CK+), whose splits share people "
        "and which names no subjects"
    ]


def _is_root(folder: str) -> bool:
    return False


DATABASE = Database(
    name="fer2013",
    title="FER2013",
    size="35,887 grey pictures of 48 x 48 pixels",
    labels=("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    identity="none",
    licence="none stated: pictures from the web, collected for a Kaggle challenge",
    url="https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
    citation="Goodfellow et al., Challenges in Representation Learning, ICONIP 2013",
    is_root=_is_root,
    read=lambda root, frames: read_fer2013(root),
)
