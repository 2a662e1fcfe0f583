"""Reader of NPZ files that hold face crops as pixels, and the checks that any source of pixels shares."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from featurepipe.datasets.source import Source, check_characters, check_word, label_of, split_of
from featurepipe.errors import InputError
from featurepipe.files import NPY_DAMAGE, printable
from featurepipe.records import Sample

_NAMES = ("images", "labels", "classes", "usage", "subjects")
_EXPECTED = (
    "expected images uint8 (n, h, w) or (n, h, w, 3) and, where known, labels (n,) as text, or as "
    "integers into classes, usage (n,) and subjects (n,) as text"
)


def read_npz(source: str) -> Source:
    """Read face crops from an NPZ file.

    Arrays: `images` uint8 (n, h, w) grey or (n, h, w, 3) RGB; optional `labels` (n,) words, or integers into
    `classes`; optional `usage` (n,) text naming the split; optional `subjects` (n,). Other arrays are not read. Text
    may be bytes in UTF-8. A sample's path is `file#row`, rows from 0, and its pixels are a view of `images`.

    Raises
    ------
    InputError : the file is no NPZ, holds Python objects, or an array has another shape, type or value
    """
    arrays = _load(source)
    images = _images(source, arrays)
    count = len(images)
    raw_labels = _raw_labels(source, arrays, count)
    splits = _splits(source, arrays, count)
    subjects = _texts(source, arrays, "subjects", count)
    samples = [
        Sample(
            path=f"{source}#{row}",
            label=label_of(raw) if raw else None,
            raw_label=raw,
            subject=subjects[row],
            split=splits[row],
            pixels=images[row],
        )
        for row, raw in enumerate(raw_labels)
    ]
    return Source(samples, "npz", "crops", pixel_notes(samples))


def pixel_notes(samples: Sequence[Sample]) -> list[str]:
    """Notes on pictures of one single value, and on pictures that occur in more than one split (a leak).

    Each sample must hold pixels. Nothing is dropped: later stages decide.
    """
    notes = []
    constant = sum(1 for pixels in _pixels(samples) if pixels.min() == pixels.max())
    if constant:
        notes.append(f"{constant} of {len(samples)} pictures are of one single value (all black, say); they are kept")
    digests: dict[str, list[bytes]] = {"train": [], "val": [], "test": []}
    for sample, pixels in zip(samples, _pixels(samples), strict=True):
        if sample.split is not None:
            digests[sample.split].append(hashlib.sha256(pixels.tobytes()).digest())
    for one, other in (("val", "train"), ("test", "train"), ("test", "val")):
        known = set(digests[other])
        shared = sum(1 for digest in digests[one] if digest in known)
        if shared:
            notes.append(
                f"{shared} of {len(digests[one])} pictures of split {one} also occur in {other}; they are kept"
            )
    return notes


def _pixels(samples: Sequence[Sample]) -> Iterator[np.ndarray]:
    return (sample.pixels for sample in samples if sample.pixels is not None)


def _load(source: str) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(source):
            pass  # np.load would take a file that is no zip for a pickle, and say so
        with np.load(source, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _NAMES if name in archive.files}
        if others := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise TypeError(f"{others[0]} is no NPY file")  # NumPy gives the bytes of such a member
        for array in arrays.values():
            check_characters(array)
        return arrays
    except ValueError as error:  # NumPy's answer to object arrays and to damaged headers
        raise InputError(
            f"{printable(source)}: {error}. Arrays of Python objects are never loaded, as they can run code; "
            f"save text with dtype=str. {_EXPECTED}"
        ) from error
    except (*NPY_DAMAGE, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # RuntimeError: encrypted
        raise InputError(f"{printable(source)} cannot be read as NPZ: {error}; {_EXPECTED}") from error


def _images(source: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    images = arrays.get("images")
    if images is None:
        raise InputError(f"{printable(source)} has no array named images; {_EXPECTED}")
    grey_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not grey_or_rgb or images.size == 0:
        raise InputError(f"{printable(source)}: images is {images.dtype} {images.shape}; {_EXPECTED}")
    return images


def _raw_labels(source: str, arrays: dict[str, np.ndarray], count: int) -> list[str | None]:
    if "labels" not in arrays:
        return [None] * count
    labels = arrays["labels"]
    if labels.dtype.kind in "US":
        return _words(source, _texts(source, arrays, "labels", count))
    classes = arrays.get("classes")
    if classes is None or classes.ndim != 1 or classes.dtype.kind not in "US":
        raise InputError(f"{printable(source)}: labels of {labels.dtype} need an array classes of text; {_EXPECTED}")
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(f"{printable(source)}: labels is {labels.dtype} {labels.shape}; {_EXPECTED}")
    outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(outside):
        row = int(outside[0])
        raise InputError(
            f"{printable(source)}: row {row} has label {labels[row]}, but classes has {len(classes)} entries "
            f"({len(outside)} rows in all)"
        )
    words = _strings(source, "classes", classes)
    return _words(source, [words[code] or None for code in labels])


def _words(source: str, labels: list[str | None]) -> list[str | None]:
    for row, label in enumerate(labels):
        if label:
            check_word(label, f"{printable(source)}, row {row}")
    return labels


def _splits(source: str, arrays: dict[str, np.ndarray], count: int) -> list[str | None]:
    words = _texts(source, arrays, "usage", count)
    splits = {word: split_of(word) for word in set(words) if word}
    unknown = sorted(word for word, split in splits.items() if split is None)
    if unknown:
        raise InputError(
            f"{printable(source)}: usage holds {', '.join(map(repr, unknown[:5]))}; expected Training, PublicTest, "
            "PrivateTest, or train, val, test"
        )
    return [splits[word] if word else None for word in words]


def _texts(source: str, arrays: dict[str, np.ndarray], name: str, count: int) -> list[str | None]:
    if name not in arrays:
        return [None] * count
    array = arrays[name]
    if array.shape != (count,) or array.dtype.kind not in "USiu":
        raise InputError(f"{printable(source)}: {name} is {array.dtype} {array.shape}; {_EXPECTED}")
    return [word or None for word in _strings(source, name, array)]


def _strings(source: str, name: str, array: np.ndarray) -> list[str]:
    """An array of text, of bytes in UTF-8 or of integers as text."""
    try:
        texts = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array.astype(str)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{printable(source)}: {name} holds bytes that are no UTF-8 ({error}); save text with dtype=str"
        ) from error
    return [str(word) for word in texts]
