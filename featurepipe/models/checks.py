"""What fit makes sure of before it learns: labels that are text, soft labels that are distributions, known groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from featurepipe.errors import InputError


def checked_labels(labels: Sequence[str] | np.ndarray, count: int, what: str = "row") -> np.ndarray:
    """The labels as a str array (count,), after making sure that there is one for each `what` and each is text.

    Numbers are refused: as text they would be other labels than those given; so are None and NaN, the names that data
    frames give to what is not known.

    Raises
    ------
    InputError : labels of another number or shape, or one that is no str
    """
    given = labels if isinstance(labels, np.ndarray) else np.asarray(labels, dtype=object)  # a NaN stays one
    others = [] if given.dtype.kind == "U" else [label for label in given.flat if not isinstance(label, str)]
    if given.shape != (count,) or others:
        said = f", {len(others)} of them no text, such as {others[0]!r}" if others else ""
        raise InputError(f"one text label per {what} is needed: {count} {what}s, labels of shape {given.shape}{said}")
    return given.astype(str)


def checked_soft_labels(soft: Any, count: int, classes: int) -> np.ndarray:
    """The soft labels as a float64 array (count, classes), after making sure that each row is a distribution.

    Raises
    ------
    InputError : soft labels of another shape, or rows that are not numbers of at least 0 whose sum is 1
    """
    if np.shape(soft) != (count, classes):
        raise InputError(
            f"soft labels for {count} rows of {classes} classes are expected to be of shape {(count, classes)}, not "
            f"{np.shape(soft)}"
        )
    given = np.asarray(soft, np.float64)
    if not (given.min() >= 0 and np.allclose(given.sum(axis=1), 1, atol=1e-3)):
        raise InputError("soft labels must be distributions: rows of numbers of at least 0 whose sum is 1")
    return given


def unknown(values: Iterable[Any]) -> int:
    """How many of the values say that nothing is known: None, NaN, NaT, pandas' NA."""
    return sum(value is None or not _equals_itself(value) for value in values)


def _equals_itself(value: Any) -> bool:
    same = value == value
    return isinstance(same, bool | np.bool_) and bool(same)  # NA == NA is NA, which is neither true nor false
