"""SOURCE to samples: the one way in, whatever SOURCE is."""

from __future__ import annotations

import os
from collections.abc import Callable

from featurepipe.datasets.arrays import read_npz
from featurepipe.datasets.fer2013 import is_kaggle_copy, read_fer2013, read_kaggle_listing
from featurepipe.datasets.folder import EXTENSIONS, list_photos, read_folder, read_listing
from featurepipe.datasets.manifest import COLUMNS, read_manifest
from featurepipe.datasets.source import Source
from featurepipe.datasets.tables import read_header
from featurepipe.errors import InputError
from featurepipe.files import printable

__all__ = ["READERS", "Source", "read_source"]

READERS: dict[str, Callable[[str], Source]] = {
    "folder": read_folder,
    "csv": read_manifest,
    "fer2013": read_fer2013,
    "npz": read_npz,
}
"""Readers by name, as featurepipe.names.DATASETS lists them."""


def read_source(source: str, dataset: str | None = None) -> Source:
    """Read the samples of SOURCE: names and labels of photos, or face crops as pixels. No photo is opened.

    Parameters
    ----------
    source : a folder of photos, a folder per class (also below split folders), Kaggle's FER2013 folders, one photo,
        a CSV manifest, FER2013's CSV of pixels, or an NPZ of pixels
    dataset : name of the reader, where it cannot be told or another one is wanted

    Raises
    ------
    InputError : SOURCE is not there, holds nothing, is malformed, or its kind cannot be told
    """
    if dataset is not None and dataset not in READERS:
        raise InputError(f"unknown dataset {dataset!r}; expected one of {', '.join(READERS)}")
    if not os.path.exists(source):
        raise InputError(f"{printable(source)} is not there; expected a folder, a photo, a CSV or an NPZ file")
    return READERS[dataset](source) if dataset else _read_by_content(source)


def _read_by_content(source: str) -> Source:
    if os.path.isdir(source):
        listing = list_photos(source)
        return read_kaggle_listing(listing) if is_kaggle_copy(listing) else read_listing(listing)
    extension = os.path.splitext(source)[1].lower()
    if extension == ".npz":
        return read_npz(source)
    if extension == ".csv":
        return READERS[_kind_of_csv(source)](source)
    if extension in EXTENSIONS:
        return read_folder(source)
    raise InputError(
        f"what {printable(source)} is cannot be told from its name; expected a folder, a .csv, a .npz or a photo "
        f"({' '.join(sorted(EXTENSIONS))}); --dataset names the reader ({', '.join(READERS)})"
    )


def _kind_of_csv(source: str) -> str:
    header = read_header(source)
    pixels = "pixels" in header
    paths = any(name in header for name in ("path", *COLUMNS["path"]))
    if pixels != paths:
        return "fer2013" if pixels else "csv"
    found = ", ".join(printable(name) for name in header)
    expected = "expected path (a manifest) or pixels (FER2013)"
    if pixels:
        raise InputError(f"{printable(source)} has columns {found}: {expected}, not both; name it with --dataset")
    raise InputError(f"{printable(source)} has columns {found}; {expected}, separated by commas")
