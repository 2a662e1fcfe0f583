"""What every reader returns, and the words for splits and labels that all of them share."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from featurepipe.errors import InputError
from featurepipe.labels import EMOTIONS, canonical
from featurepipe.records import Sample

_SPLITS = {
    "train": "train training tr",
    "val": "val valid validation dev publictest",
    "test": "test testing privatetest",
}
_SPLIT_BY_WORD = {word: split for split, words in _SPLITS.items() for word in words.split()}


@dataclass(frozen=True)
class Skipped:
    """A file or row that a reader left out, or an official one that is not there.

    Parameters
    ----------
    path : of the file, or `file#row`; relative to nothing: it opens from the working directory where it exists
    kind : "damaged" (known or found to be broken), "misnamed" (no official name), "extra" (official name, but not
        part of the database), "unlabelled" (the database gives no label), "missing" (named by a list, not on disk)
    why : one line for people
    sample : what was left out, where it can be known: of kind "damaged" one that the official count includes, of kind
        "unlabelled" one whose votes another rule than the majority's may use
    """

    path: str
    kind: Literal["damaged", "misnamed", "extra", "unlabelled", "missing"]
    why: str
    sample: Sample | None = None

    @property
    def known_damage(self) -> Sample | None:
        """The sample, where its damage is known and the official count includes it."""
        return self.sample if self.kind == "damaged" else None


@dataclass(frozen=True)
class Source:
    """A SOURCE as read.

    Parameters
    ----------
    samples : in a deterministic order
    dataset : name of the reader (featurepipe.names.DATASETS)
    faces : "crops" where every sample already is a face crop (FER2013), else "photos"
    notes : one line each about what was skipped, assumed or found odd; safe to print
    skipped : every file or row that was left out; `notes` counts them
    """

    samples: list[Sample]
    dataset: str
    faces: Literal["photos", "crops"]
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def split_of(word: str) -> str | None:
    """train, val or test for any usual spelling (PublicTest is val, PrivateTest is test); None for another word."""
    return _SPLIT_BY_WORD.get(word.strip().casefold())


def label_of(word: str) -> str:
    """The canonical emotion that `word` spells, or the word itself in lower case: an extra class such as scream."""
    return canonical(word) or word.strip().casefold()


def check_word(label: str, where: str) -> None:
    """Raises InputError, which says `where` it stands, for a label that is a number."""
    if label.lstrip("+-").replace(".", "", 1).isdecimal():
        raise InputError(
            f"{where}: label {label} is a code, and codes differ between data sets; expected words: "
            f"{', '.join(EMOTIONS)}"
        )


def check_characters(texts: np.ndarray) -> None:
    """Raises ValueError for an array of text with numbers that are no characters: Python would give a SystemError."""
    if texts.dtype.kind == "U" and texts.dtype.itemsize:
        numbers = np.ascontiguousarray(texts).view(np.dtype(np.uint32).newbyteorder(texts.dtype.byteorder))
        if numbers.max(initial=0) > sys.maxunicode:
            raise ValueError("text that holds what is no character")
