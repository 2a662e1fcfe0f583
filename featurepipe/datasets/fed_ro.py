"""FED-RO: 400 photos of faces that something covers, for tests only (datasets.md 3.16)."""

from __future__ import annotations

import os
import re
from typing import Literal

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import list_files
from featurepipe.datasets.listing import Named, by_name, left_out, misnamed, photos_in, subfolders
from featurepipe.datasets.source import Source, label_of, split_of
from featurepipe.labels import LABEL_SETS
from featurepipe.records import Sample

_CLASSES = ("anger", "disgust", "fear", "happy", "neural", "neutral", "sad", "surprise")
"""Neutral is spelled `neural` officially, and right in some copies."""

_PLACE = f"({'|'.join(_CLASSES)})/[^/]+"
_OFFICIAL = frozenset(_CLASSES) - {"neutral"}
_TITLE = re.compile(r"(?<![a-z])fed[-_ ]?ro(?![a-z])", re.IGNORECASE)
_MOST_PHOTOS = 450


def is_fed_ro(folder: str) -> bool:
    """Whether a folder has class folders of FED-RO and its name in the path, or the seven official ones alone.

    The misspelt `neural` in them tells little: other data sets have it too, so those must be as few photos as FED-RO
    and no split of a larger one.
    """
    path = os.path.abspath(folder).split(os.sep)[-2:]
    classes = subfolders(folder)
    if any(_TITLE.search(part) for part in path):
        return len(set(_CLASSES).intersection(classes)) > 2
    if classes.keys() != _OFFICIAL or any(split_of(part) for part in path):
        return False
    return sum(len(photos_in(place)) for place in classes.values()) <= _MOST_PHOTOS


def read_fed_ro(root: str, frames: Frames = "apex") -> Source:
    """Read FED-RO: the class is the folder's name, every photo is of the test split, and nobody is named.

    Raises
    ------
    InputError : root cannot be listed
    """
    listing = list_files(root)
    rest: list[str] = []
    samples = [_sample(file) for file in by_name(listing, listing.photos, _PLACE, rest)]
    skipped = misnamed(listing, rest, "one of the class folders anger, disgust, fear, happy, neural, sad, surprise")
    faces: Literal["photos", "crops"] = (
        "crops" if "crop" in os.path.basename(os.path.abspath(root)).lower() else "photos"
    )
    notes = ["every photo is of the test split: train on another database", *listing.notes, *left_out(skipped)]
    return Source(samples, "fed-ro", faces, notes, skipped)


def _sample(file: Named) -> Sample:
    word = file.place.split("/")[-2]
    return Sample(file.path, label=label_of(word), raw_label=word, split="test", role="still")


DATABASE = Database(
    name="fed-ro",
    title="FED-RO (Facial Expression Dataset with Real Occlusions)",
    size="400 photos from the web",
    labels=LABEL_SETS["basic7"],
    identity="none",
    licence="research, from the authors on request",
    url="the authors of the article (VIPL group, Institute of Computing Technology, CAS)",
    citation="Li, Zeng, Shan, Chen: Occlusion aware facial expression recognition using CNN with attention mechanism. "
    "IEEE TIP 28 (5), 2019",
    is_root=is_fed_ro,
    read=read_fed_ro,
    sheet=(Expected("photos", 400),),
    marker="class folders below a folder named FED-RO, or anger, disgust, fear, happy, neural, sad and surprise alone, "
    "with at most 450 photos and outside a folder of a split",
)
