"""AffectNet's release of 2021: train_set and val_set, with three tiny NPY files for each photo (datasets.md 3.12)."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from functools import lru_cache

import numpy as np

from featurepipe.datasets.affectnet_codes import extra_of, label_of_code, rating
from featurepipe.datasets.listing import photos_in, subfolder
from featurepipe.datasets.source import Skipped, check_characters
from featurepipe.errors import InputError
from featurepipe.files import NPY_DAMAGE
from featurepipe.labels import NOT_A_FACE
from featurepipe.records import Sample

SETS = {"train_set": "train", "val_set": "val"}
"""Folders of the two sets."""

_RATINGS = {"valence": "val", "arousal": "aro"}
_MAX_BYTES = 4096  # of one annotation: the official ones have under 200
_PREFIX = 10  # magic text, version and the length of the header


def sets_in(root: str) -> dict[str, str]:
    """Folders train_set and val_set below `root` by split: those that have a folder annotations."""
    found = {split: subfolder(root, name) for name, split in SETS.items()}
    return {split: folder for split, folder in found.items() if folder and subfolder(folder, "annotations")}


def read_sets(root: str) -> tuple[list[Sample], list[Skipped]]:
    """Samples of every photo with an annotation, and what is left out or not there.

    No index is kept: 50,000 photos with 150,000 annotations take 2 s of one core once the disk has given them, which
    is 12 s for all (np.load needed 7 s for the 150,000; threads made it slower).
    """
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    for split, folder in sets_in(root).items():
        images = subfolder(folder, "images") or os.path.join(folder, "images")
        annotations = subfolder(folder, "annotations") or ""
        photos = photos_in(images)
        rated = _rated(annotations)
        for stem in sorted(photos.keys() | rated, key=_by_number):
            path = os.path.join(images, photos.get(stem, f"{stem}.jpg"))
            one: Sample | Skipped
            if stem not in photos:
                one = Skipped(path, "missing", "it has an annotation")
            elif stem not in rated:
                one = Skipped(path, "unlabelled", "no annotation <number>_exp.npy")
            else:
                one = _read(path, os.path.join(annotations, stem), split)
            if isinstance(one, Sample):
                samples.append(one)
            else:
                skipped.append(one)
    return samples, skipped


def _rated(annotations: str) -> set[str]:
    """Names of the photos that have an expression."""
    with os.scandir(annotations) as entries:
        names = (entry.name for entry in entries if not entry.name.startswith("."))
        return {name.removesuffix("_exp.npy") for name in names if name.endswith("_exp.npy")}


def _by_number(stem: str) -> tuple[bool, int, str]:
    number = stem.isascii() and stem.isdecimal()
    return not number, int(stem) if number else 0, stem


def _read(path: str, annotation: str, split: str) -> Sample | Skipped:
    try:
        raw = _scalar(f"{annotation}_exp.npy")
        label = label_of_code(raw, f"{annotation}_exp.npy")
        ratings = {name: _rating(f"{annotation}_{end}.npy") for name, end in _RATINGS.items()}
    except (OSError, InputError, ValueError, UnicodeError) as error:
        return Skipped(path, "damaged", f"its annotation cannot be read: {error}")
    if label == NOT_A_FACE:
        return Skipped(path, "extra", "no face, says AffectNet (code 10, non-face)")
    return Sample(path, label=label, raw_label=raw, split=split, role="still", extra=extra_of("2021", ratings))


def _rating(path: str) -> float | None:
    """Valence or arousal; None also where a copy lacks the file."""
    with suppress(FileNotFoundError):
        return rating(_scalar(path), path)
    return None


def _scalar(path: str) -> str:
    """The one value of an NPY file as text; ValueError where there is another number of them, or Python objects.

    np.load would do, but takes five times as long over 870,000 files, whose headers are all but a few the same.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)
    start = _PREFIX + int.from_bytes(content[8:_PREFIX], "little")
    dtype = _dtype(content[:start])
    values = np.frombuffer(content, dtype, count=1, offset=start)
    check_characters(values)
    value = values[0]
    return value.decode() if isinstance(value, bytes) else str(value)


@lru_cache(maxsize=256)
def _dtype(header: bytes) -> np.dtype:
    """Type of the one value that an NPY file of version 1 with this header holds."""
    stream = io.BytesIO(header)
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except NPY_DAMAGE as error:
        raise ValueError("not an NPY file") from error
    if version != (1, 0) or int(np.prod(shape)) != 1 or dtype.hasobject:
        raise ValueError(f"expected one number or text, found {dtype} {str(shape)[:30]} in version {version}")
    return dtype
