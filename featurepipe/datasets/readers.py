"""SOURCE to samples: the one way in, whatever SOURCE is."""

from __future__ import annotations

import os
from collections.abc import Callable

from featurepipe.datasets.arrays import read_npz
from featurepipe.datasets.fer2013 import read_fer2013_csv
from featurepipe.datasets.source import Source

__all__ = ["READERS", "Source", "read_source"]

READERS: dict[str, Callable[[str], Source]] = {"fer2013": read_fer2013_csv, "npz": read_npz}
"""Readers by name, as featurepipe.names.DATASETS lists them."""


def read_source(source: str, dataset: str | None = None) -> Source:
    """First step: NPZ and FER2013's CSV; folders and manifests follow."""
    name = dataset or ("npz" if os.path.splitext(source)[1].lower() == ".npz" else "fer2013")
    return READERS[name](source)
