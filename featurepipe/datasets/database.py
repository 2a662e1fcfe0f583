"""A database of facial expressions as a record: its reader, its marker and its official counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from featurepipe.datasets.listing import folders_in, looking_once
from featurepipe.datasets.source import Source
from featurepipe.records import Sample

Frames = Literal["apex", "all"]
"""Of a labelled sequence: its neutral frame and its apex frames alone, or every frame."""

MAX_DEPTH = 3
"""Levels below SOURCE at which a marker is looked for: users unpack archives into folders of the same name."""

_MOST_FOLDERS = 256
"""Folders of a level that are looked into: where there are more, they are people or days, not wrappings."""


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
    sure_counts : False where it does so for the numbers per label alone
    form : release or layout that the line is about, where a copy may be of another: of several forms only those
        count of which a sample is here
    """

    unit: str
    total: int
    counts: Mapping[str, int] = field(default_factory=dict)
    belongs: Callable[[Sample], bool] = lambda sample: True
    by: Literal["sample", "sequence"] = "sample"
    sure: bool = True
    sure_counts: bool = True
    form: str = ""


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
    marker : what is_root looks for, in words
    darkest : mean brightness (0 to 255) that an undamaged photo has at least
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
    marker: str = ""
    darkest: float = 0.0


def find_roots(source: str, databases: Iterable[Database]) -> list[tuple[str, Database]]:
    """Every (root, database) at SOURCE and at most MAX_DEPTH levels below, breadth first and by name.

    Nothing is looked for below a root: what lies there belongs to its database. Of a level with very many folders the
    first ones are looked into.
    """
    candidates = list(databases)
    found: list[tuple[str, Database]] = []
    level = [source]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[str] = []
        for place in level:
            with looking_once():
                here = [(place, database) for database in candidates if database.is_root(place)]
                deeper += [] if here else folders_in(place)
            found += here
        level = deeper[:_MOST_FOLDERS]
    return found
