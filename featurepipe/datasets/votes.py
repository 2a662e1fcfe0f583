"""Labels from ten people's votes: the four rules of FER+ (Barsoum et al., ICMI 2016, section 3; datasets.md 3.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from featurepipe.datasets.source import Source
from featurepipe.errors import InputError
from featurepipe.records import Sample

VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""What people could vote for, in the order of the columns; NF is not a face."""

_EMOTIONS = VOTES[:8]
_COVERED, _CLASSES, _LEAST = Fraction(3, 4), 3, Fraction(1, 2)
_ACCEPTED = Fraction(3, 10)


def majority(votes: Sequence[int]) -> str:
    """The class that the authors' rule "majority" gives: one of VOTES.

    Single votes count as none. The class with the most votes wins if it has more than half of those left; where
    none has, the answer is "unknown" (Barsoum et al., ICMI 2016, and the authors' ferplus.py).

    >>> majority((3, 3, 0, 0, 0, 4, 0, 0, 0, 0)), majority((4, 1, 1, 1, 1, 1, 1, 0, 0, 0))
    ('unknown', 'neutral')
    """
    counted = _counted(votes)
    most = max(counted)
    return VOTES[counted.index(most)] if 2 * most > sum(counted) else "unknown"


def shares(votes: Sequence[int], rule: str) -> dict[str, float]:
    """What a photo to fit on shows by a rule that leaves more than one emotion: shares that sum to 1, or {}.

    Single votes count as none, and a photo of which most say "unknown" or "not a face" shows nothing. Rules
    "probability" and "cross-entropy" take emotions in order of their votes, equally frequent ones together, until
    three quarters of all votes are covered or "unknown" or "not a face" would be next; more than three emotions, or
    no more than half of the votes, are nothing. "multi-target" takes every emotion with three tenths of the votes,
    and all of them count alike; where what has three tenths, "unknown" and "not a face" too, has no more than half
    of the votes together, nothing is left.

    >>> shares((6, 3, 1, 0, 0, 0, 0, 0, 0, 0), "cross-entropy")["happiness"] == 3 / 9
    True
    >>> shares((6, 4, 0, 0, 0, 0, 0, 0, 0, 0), "multi-target")
    {'neutral': 0.5, 'happiness': 0.5}
    """
    counted = _counted(votes)
    if max(counted[:8]) < max(1, *counted[8:]):
        return {}
    chosen = _accepted(counted) if rule == "multi-target" else _most_frequent(counted)
    total = sum(chosen.values())
    return {emotion: count / total for emotion, count in chosen.items()}


def by_votes(source: Source, rule: str) -> Source:
    """The source with the labels of photos to fit on by another rule than the majority's.

    A label is the emotion with the most votes of those that the rule leaves (`shares`). Photos without a majority are
    photos to fit on too where the rule leaves something, the others are left out; those to choose and to test on keep
    their majority's label, as the authors do.

    Raises
    ------
    InputError : the photos have no votes
    """
    if not any("votes" in sample.extra for sample in source.samples):
        raise InputError(
            f"--votes {rule} asks for photos that several people labelled, and this SOURCE has no votes: give FER+ "
            "(bin/datasets list), or leave out --votes"
        )
    undecided = [one.sample for one in source.skipped if one.kind == "unlabelled" and one.sample is not None]
    fit = [_labelled(sample, rule) for sample in (*source.samples, *undecided) if sample.split == "train"]
    kept = [sample for sample in fit if sample is not None]
    others = [sample for sample in source.samples if sample.split != "train"]
    return replace(source, samples=kept + others)


def distributions(samples: Sequence[Sample], rule: str, classes: Sequence[str]) -> np.ndarray:
    """What `by_votes` leaves of the votes for photos to fit on, as float32 (n, k): their `shares` of the classes.

    Rows sum to 1: emotions that are no class, because no photo to fit on has them as its label, are left out.
    """
    shown = [shares(_votes(sample), rule) for sample in samples]
    rows = np.array([[own.get(name, 0.0) for name in classes] for own in shown], np.float32)
    return rows / rows.sum(1, keepdims=True)


def _votes(sample: Sample) -> tuple[int, ...]:
    votes: Mapping[str, int] = sample.extra["votes"]
    return tuple(votes[name] for name in VOTES)


def _labelled(sample: Sample, rule: str) -> Sample | None:
    shown = shares(_votes(sample), rule)
    return replace(sample, label=max(shown, key=sample.extra["votes"].__getitem__)) if shown else None


def _counted(votes: Sequence[int]) -> list[int]:
    return [count if count > 1 else 0 for count in votes]


def _accepted(counted: Sequence[int]) -> dict[str, int]:
    least = _ACCEPTED * sum(counted)
    if sum(count for count in counted if count >= least) <= _LEAST * sum(counted):
        return {}
    return {emotion: 1 for emotion, count in zip(_EMOTIONS, counted, strict=False) if count and count >= least}


def _most_frequent(counted: Sequence[int]) -> dict[str, int]:
    chosen: dict[str, int] = {}
    total = sum(counted)
    for count in sorted({count for count in counted if count}, reverse=True):
        chosen |= {emotion: count for emotion, own in zip(_EMOTIONS, counted, strict=False) if own == count}
        if count in counted[8:] or sum(chosen.values()) >= _COVERED * total:
            break
    too_little = sum(chosen.values()) <= _LEAST * total
    return {} if too_little or len(chosen) > _CLASSES else chosen
