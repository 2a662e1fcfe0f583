"""A database of facial expressions as a record: its reader, its marker and its official counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from featurepipe.datasets.source import Source
from featurepipe.records import Sample

Frames = Literal["apex", "all"]
"""Of a labelled sequence: its neutral frame and its apex frames alone, or every frame."""

MAX_DEPTH = 3
"""Levels below SOURCE at which a marker is looked for: users unpack archives into folders of the same name."""


@dataclass(frozen=True)
class Expected:
    """One line of the official count sheet (datasets.md section 2).

    Parameters
    ----------
    unit : what is counted, in words
    total : official number
    counts : official number per label; empty where none is known
    belongs : whether a sample is counted
    by : "sample", or "sequence" where every sequence counts once
    sure : False where datasets.md tags the figure as likely only
    """

    unit: str
    total: int
    counts: Mapping[str, int] = field(default_factory=dict)
    belongs: Callable[[Sample], bool] = lambda sample: True
    by: Literal["sample", "sequence"] = "sample"
    sure: bool = True


@dataclass(frozen=True)
class Database:
    """One database.

    Parameters
    ----------
    name : id, as --dataset takes it
    title : its own name
    size : in words
    labels : canonical labels and extras that its samples can have
    identity : whether people are known: "known", "partly" or "none"
    licence : in words
    url : where to ask for it
    citation : the paper
    is_root : whether a folder (or file) is the root of a copy: its marker; must not read photos
    read : (root, frames) to samples; `frames` matters to sequence databases alone
    sheet : the official counts
    """

    name: str
    title: str
    size: str
    labels: tuple[str, ...]
    identity: Literal["known", "partly", "none"]
    licence: str
    url: str
    citation: str
    is_root: Callable[[str], bool]
    read: Callable[[str, Frames], Source]
    sheet: tuple[Expected, ...] = ()


def find_root(source: str, is_root: Callable[[str], bool]) -> str | None:
    """SOURCE itself or the first folder, breadth first and by name, at most MAX_DEPTH levels below with the marker."""
    level = [source]
    for _ in range(MAX_DEPTH + 1):
        for folder in level:
            if is_root(folder):
                return folder
        level = [below for folder in level for below in _folders(folder)]
    return None


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))]
    except OSError:
        return []
    return [os.path.join(folder, name) for name in sorted(names)]
