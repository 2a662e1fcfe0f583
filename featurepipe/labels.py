"""Canonical emotion names and their aliases (design.md "Labels", datasets.md section 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from featurepipe.errors import InputError

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
"""The eight core labels, in their fixed order."""

NOT_A_FACE = "non-face"
"""Label of pictures that show no face (AffectNet's non-face, FER+'s NF): in no label set, native neither."""

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "basic6": ("anger", "disgust", "fear", "happiness", "sadness", "surprise"),
    "basic7": ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    "ekman8": EMOTIONS,
    "ck7": ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"),
    "native": (),
}
"""Labels of each set, alphabetically (datasets.md 5.1); native is whatever the data set has."""

_ALIASES = {
    "anger": "angry ang anger rage",
    "contempt": "contempt contemptuous disdain con",
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


def to_label_set(labels: Sequence[str | None], name: str) -> tuple[list[str | None], dict[str, int]]:
    """Keep of `labels` what label set `name` has; nothing is merged (contempt never becomes disgust).

    Parameters
    ----------
    labels : canonical labels, extra classes (squint, relief), compounds (happiness+surprise), None where unlabelled
    name : one of LABEL_SETS

    Returns
    -------
    kept : as many as `labels`; None for what the set lacks and for what was None already
    dropped : how often each label that the set lacks occurred, alphabetically; unlabelled ones are not in it

    Raises
    ------
    InputError : no such label set

    >>> to_label_set(["anger", "contempt", None, "happiness+surprise"], "basic7")
    (['anger', None, None, None], {'contempt': 1, 'happiness+surprise': 1})
    """
    if name not in LABEL_SETS:
        raise InputError(f"unknown label set {name!r}; expected one of {', '.join(LABEL_SETS)}")
    wanted = LABEL_SETS[name]
    kept = [label if label in wanted or (name == "native" and label != NOT_A_FACE) else None for label in labels]
    dropped = Counter(label for label, left in zip(labels, kept, strict=True) if label is not None and left is None)
    return kept, dict(sorted(dropped.items()))
