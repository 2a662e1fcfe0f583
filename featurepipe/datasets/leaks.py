"""Whether somebody, or some picture, stands on both sides of a split: by name, by content, by face descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAME_PERSON = 0.6
"""Distance of dlib's descriptors below which two faces are taken for one person's (dlib, dnn_face_recognition_ex)."""

_ROWS = 512
"""Faces compared with all others at a time."""


@dataclass(frozen=True)
class Crossing:
    """What stands on both sides.

    Parameters
    ----------
    people : names of subjects on both sides, sorted
    copies : photos of the second side that are, byte for byte or pixel for pixel, on the first
    """

    people: tuple[str, ...]
    copies: int


Names = tuple[Sequence[str | None], Sequence[str]]
"""Subjects (None or empty where unknown) and content keys of samples, row-aligned."""


def crossing(one: Names, other: Names) -> Crossing:
    """People and pictures that are among the samples `one` and among the samples `other`.

    >>> crossing((["S1", None], ["a", "b"]), (["S1", None, "S2"], ["c", "b", "b"]))
    Crossing(people=('S1',), copies=2)
    """
    people = {name for name in set(one[0]) & set(other[0]) if name}
    known = set(one[1])
    return Crossing(tuple(sorted(people)), sum(content in known for content in other[1]))


def nearest(descriptors: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of some known faces to each of `faces`, by Euclidean distance.

    Parameters
    ----------
    descriptors : float (n, d), of the known faces, n > 0
    faces : float (m, d)

    Returns
    -------
    row numbers int64 (m,) into `descriptors`, and distances float64 (m,)
    """
    known = np.asarray(descriptors, np.float64)
    squares = (known**2).sum(1)
    rows, distances = np.empty(len(faces), np.int64), np.empty(len(faces))
    for start in range(0, len(faces), _ROWS):
        own = np.asarray(faces[start : start + _ROWS], np.float64)
        gaps = squares - 2 * own @ known.T + (own**2).sum(1)[:, None]
        rows[start : start + _ROWS] = gaps.argmin(1)
        distances[start : start + _ROWS] = np.sqrt(np.maximum(gaps.min(1), 0))
    return rows, distances
