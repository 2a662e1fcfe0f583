"""AffectNet's numbers in words: expressions, valence and arousal (datasets.md 3.12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurepipe.errors import InputError
from featurepipe.labels import NOT_A_FACE

CODES = (
    *("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"),
    *("none", "uncertain", NOT_A_FACE),
)
"""Labels of the codes 0 to 10; copies whose classes were numbered alphabetically have other codes."""

_NOT_RATED = -2.0


def label_of_code(text: str, where: str) -> str:
    """The label of an expression code, 0 to 10.

    Raises
    ------
    InputError : another code, with `where` it stands
    """
    code = text.strip().removesuffix(".0")
    if not (code.isascii() and code.isdecimal() and int(code) < len(CODES)):
        known = ", ".join(f"{number} {word}" for number, word in enumerate(CODES))
        raise InputError(f"{where}: expression {text[:30]!r} is no code of AffectNet; expected {known}")
    return CODES[int(code)]


def rating(text: str, where: str) -> float | None:
    """Valence or arousal in -1..1; None where it was not rated (-2, NULL or empty).

    Raises
    ------
    InputError : no number, or one outside, with `where` it stands
    """
    if text.strip().upper() in ("", "NULL"):
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{where}: valence or arousal is {text[:30]!r}; expected -1 to 1, or -2") from error
    if value == _NOT_RATED:
        return None
    if not -1 <= value <= 1:
        raise InputError(f"{where}: valence or arousal is {text[:30]!r}; expected -1 to 1, or -2")
    return value


def extra_of(release: str, ratings: Mapping[str, float | None]) -> dict[str, Any]:
    """Sample.extra of a photo: the release it is from ("lists", "2021" or "copy") and what was rated."""
    return {"release": release, **{name: value for name, value in ratings.items() if value is not None}}
