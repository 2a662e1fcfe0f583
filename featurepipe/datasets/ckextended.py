"""ckextended.csv: CK+ as a CSV of pixels in FER2013's form (datasets.md layout G7)."""

from __future__ import annotations

import os
from dataclasses import replace

from featurepipe.datasets.arrays import pixel_notes
from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.listing import file_in, left_out
from featurepipe.datasets.pixel_rows import has_pixels, plain_code, read_pixel_rows
from featurepipe.datasets.source import Source
from featurepipe.datasets.tables import read_rows
from featurepipe.errors import InputError
from featurepipe.files import printable

CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""Words of the codes 0 to 7: FER2013's, and contempt."""

_FILE = "ckextended.csv"
_ROWS = 920
_MOST_BYTES = 40 << 20
"""A file of 920 rows has under 10 MB, FER2013's CSV has 300: no need to look into that one."""


def is_ckextended(path: str) -> bool:
    """Whether a CSV of pixels is ckextended.csv and not FER2013: by its name, its 920 rows, or a code 7."""
    if os.path.basename(path).lower() == _FILE:
        return True
    if os.path.getsize(path) > _MOST_BYTES:
        return False
    try:
        codes = [plain_code(fields.get("emotion", "")) for _, fields in read_rows(path, {"emotion": ()})]
    except InputError:  # its reader says what is wrong with it
        return False
    return "7" in codes or len(codes) == _ROWS


def read_ckextended(root: str, frames: Frames = "apex") -> Source:
    """Read ckextended.csv, or the folder that holds it.

    It names no subjects, and people of its train rows are in its val and test rows too. Its splits are no official
    ones: they are in `extra`, as usage.

    Parameters
    ----------
    root : the CSV, or a folder with the marker
    frames : not used: sequences are not named

    Raises
    ------
    InputError : the CSV is malformed
    """
    table = file_in(root, _FILE) if os.path.isdir(root) else root
    if table is None:
        raise InputError(f"{printable(root)} holds no {_FILE}")
    rows, skipped = read_pixel_rows(table, CODES)
    samples = [replace(sample, split=None, extra={"usage": sample.split}) for sample in rows]
    notes = [
        "ckextended.csv names no subjects, so scores on it are too good: people of test photos are also trained on"
    ]
    return Source(samples, "ckextended", "crops", [*notes, *left_out(skipped), *pixel_notes(samples)], skipped)


def _is_root(place: str) -> bool:
    table = file_in(place, _FILE) if os.path.isdir(place) else place
    return table is not None and has_pixels(table) and is_ckextended(table)


DATABASE = Database(
    name="ckextended",
    title="ckextended.csv (CK+ as pixels)",
    size="920 grey pictures of 48 x 48 pixels",
    labels=("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    identity="none",
    licence="that of CK+, from which it was made: non-commercial research",
    url="https://www.kaggle.com/datasets/davilsena/ckdataset",
    citation="Lucey et al., The Extended Cohn-Kanade Dataset (CK+), CVPR Workshops 2010",
    is_root=_is_root,
    read=read_ckextended,
    sheet=(
        Expected(
            "rows",
            _ROWS,
            {
                "anger": 45,
                "contempt": 18,
                "disgust": 59,
                "fear": 25,
                "happiness": 69,
                "neutral": 593,
                "sadness": 28,
                "surprise": 83,
            },
        ),
    ),
    marker="ckextended.csv, or a CSV of pixels with 920 rows or a code 7",
)
