"""CSV files whose rows are pictures: columns emotion, pixels and Usage (datasets.md 3.6, layouts G4 and G7)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np

from featurepipe.datasets.source import Skipped, check_word, label_of, split_of
from featurepipe.datasets.tables import read_header, read_rows
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import Sample

CONSTANT = "a picture of one single value: no face"
"""Why a picture is left out that is all black, say."""

_COLUMNS = {"pixels": (), "emotion": (), "usage": ()}
_DIGITS_AND_BLANKS = b"0123456789 \t"


def has_pixels(path: str) -> bool:
    """Whether `path` is a CSV file with a column pixels; reads its header alone."""
    if not path.lower().endswith(".csv") or not os.path.isfile(path):
        return False
    try:
        return "pixels" in read_header(path)
    except InputError:
        return False


def plain_code(raw: str) -> str:
    """A code as an integer: programs write a column of codes as floats ("3.0") where one row has none."""
    return raw.removesuffix(".0")


def read_pixel_rows(source: str, codes: Sequence[str]) -> tuple[list[Sample], list[Skipped]]:
    """Read a CSV of pixels: columns pixels and, where they are there, emotion and Usage, in any order.

    A sample's path is `file#row`, rows from 0 as in the challenge; its pixels are uint8 (side, side), a square
    grey picture given row by row as blank-separated integers 0..255: a read-only view of one array of all rows.
    Training is train, PublicTest val, PrivateTest test. Pictures of one single value are left out as damaged.

    Parameters
    ----------
    source : the file
    codes : words of the codes from 0 in the column emotion; a row may also hold a word

    Raises
    ------
    InputError : a row is malformed (nothing is read then), or the file has no row or no column of pixels
    """
    rows = _Rows()
    for row, (line, fields) in enumerate(read_rows(source, _COLUMNS)):
        where = f"{printable(source)}, row {row} (line {line})"
        if "pixels" not in fields:
            raise InputError(f"{printable(source)} has no column pixels; expected emotion,pixels,Usage")
        raw = fields.get("emotion") or None
        label = _label(raw, codes, where)
        rows.add(_picture(fields["pixels"], where), label, raw, _split(fields.get("usage", ""), where))
    if not rows.sides:
        raise InputError(f"{printable(source)} has no rows below its header; expected emotion,pixels,Usage")
    return rows.samples(source)


class _Rows:
    """Rows as they are read: every pixel in one growing block of bytes, none as an object of Python."""

    def __init__(self) -> None:
        self.sides: list[int] = []
        self._block = bytearray()
        self._words: list[tuple[str | None, str | None, str | None]] = []

    def add(self, picture: np.ndarray, label: str | None, raw: str | None, split: str | None) -> None:
        self._block += picture.tobytes()
        self.sides.append(len(picture))
        self._words.append((label, raw, split))

    def samples(self, source: str) -> tuple[list[Sample], list[Skipped]]:
        """Samples in the order of the rows, and the rows that are left out."""
        pixels = np.frombuffer(self._block, np.uint8)
        pixels.flags.writeable = False
        samples, skipped = [], []
        start = 0
        for row, (side, (label, raw, split)) in enumerate(zip(self.sides, self._words, strict=True)):
            picture = pixels[start : start + side * side].reshape(side, side)
            start += side * side
            sample = Sample(f"{source}#{row}", label=label, raw_label=raw, split=split, role="still", pixels=picture)
            if picture.min() == picture.max():
                skipped.append(Skipped(sample.path, "damaged", CONSTANT, sample))
            else:
                samples.append(sample)
        return samples, skipped


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


def _label(raw: str | None, codes: Sequence[str], where: str) -> str | None:
    if raw is None:
        return None
    code = plain_code(raw)
    if not code.isdecimal():
        check_word(raw, where)
        return label_of(raw)
    if int(code) >= len(codes):
        known = ", ".join(f"{code} {word}" for code, word in enumerate(codes))
        raise InputError(f"{where}: emotion {raw} is no code; expected {known}")
    return label_of(codes[int(code)])


def _split(word: str, where: str) -> str | None:
    split = split_of(word)
    if word and split is None:
        raise InputError(f"{where}: Usage is {word!r}; expected Training, PublicTest or PrivateTest")
    return split
