"""Canonical emotion names and their aliases (design.md "Labels", datasets.md section 5)."""

from __future__ import annotations

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
"""The eight core labels, in their fixed order."""

_ALIASES = {
    "anger": "angry ang anger rage",
    "contempt": "contempt contemptuous disdain",
    "disgust": "disgust disgusted disgusting dis",
    "fear": "fear afraid fearful scared fea",
    "happiness": "happiness happy joy joyful smile hap",
    "neutral": "neutral neutrality normal neural neu apathy",
    "sadness": "sadness sad unhappy sorrow",
    "surprise": "surprise surprised sur",
}
_BY_ALIAS = {alias: label for label, aliases in _ALIASES.items() for alias in aliases.split()}


def canonical(word: str) -> str | None:
    """The canonical label that `word` spells, or None where it spells none.

    Case, surrounding blanks, and `-`, `_` and blanks inside are ignored. The paper's own words (rage, disdain,
    joy, apathy, sorrow) are aliases.

    >>> canonical("Angry"), canonical("sorrow"), canonical("3")
    ('anger', 'sadness', None)
    """
    return _BY_ALIAS.get(word.strip().casefold().translate(str.maketrans("", "", "-_ ")))
