"""Figures of the literature, to set beside our own: published.toml, from baselines.md sections 1 to 15."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from featurepipe.names import architecture_of

MARGIN = 0.03
"""A run so far below the published figure of the same system and protocol is undertrained."""

CONFIDENCE = {
    "V": "read in the paper or its code",
    "V2": "as reported by others",
    "R": "recalled, not read again",
}
"""What the tags of baselines.md 0.1 mean."""


@dataclass(frozen=True)
class Published:
    """One published figure.

    Parameters
    ----------
    system : authors and what they call it
    year : of publication
    database : on which database, by our name
    figure : accuracy, a fraction
    under : how it was measured, in words
    confidence : one of CONFIDENCE
    method : our name of the same system; "" where we have none
    protocol : our protocol whose runs it can be held against; "" where ours differ too much
    """

    system: str
    year: int
    database: str
    figure: float
    under: str
    confidence: str
    method: str = ""
    protocol: str = ""


@cache
def published() -> tuple[Published, ...]:
    """Every figure of published.toml, in its order."""
    text = (files("featurepipe.report") / "published.toml").read_text(encoding="utf-8")
    return tuple(Published(**{**row, "figure": row["figure"] / 100}) for row in tomllib.loads(text)["figures"])


def beside(databases: Collection[str]) -> list[Published]:
    """What is published of any of these databases, by whatever protocol."""
    return [one for one in published() if one.database in databases]


def anchor_of(method: str, protocol: str | None) -> Published | None:
    """What a run of `method`, or of a variant, by `protocol` is held against: the highest figure; None without one."""
    system = (architecture_of(method), protocol)
    own = [one for one in published() if protocol and (one.method, one.protocol) == system]
    return max(own, key=lambda one: one.figure, default=None)


def undertrained(accuracies: Mapping[str, float], protocol: str | None) -> dict[str, Published]:
    """The methods whose accuracy lies more than MARGIN under what is published of them, with that figure."""
    anchors = {name: anchor_of(name, protocol) for name in accuracies}
    return {name: one for name, one in anchors.items() if one and accuracies[name] < one.figure - MARGIN}


def ranks(accuracies: Mapping[str, float], left_out: Collection[str]) -> dict[str, int | None]:
    """Place of each method by its accuracy, 1 is best, equals share one; None for those left out.

    >>> ranks({"a": 0.5, "b": 0.75, "c": 0.9, "d": 0.5}, ["c"])
    {'a': 2, 'b': 1, 'c': None, 'd': 2}
    """
    ranked = {name: value for name, value in accuracies.items() if name not in left_out}
    return {
        name: 1 + sum(other > value for other in ranked.values()) if name in ranked else None
        for name, value in accuracies.items()
    }
