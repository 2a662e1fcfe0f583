"""Sequences: which frames are used, and as what, where they begin neutral and end at the apex; lengths of clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import TypeVar

from featurepipe.datasets.database import Frames
from featurepipe.datasets.listing import Named, left_out
from featurepipe.datasets.source import Skipped, Source
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import Sample
from featurepipe.video import VideoError, count_frames

APEX_FRAMES = 3
"""The last frames that count as the apex, as in CK+48 and the usual protocols."""

Key = TypeVar("Key", bound=Hashable)


def by_sequence(files: Iterable[Named], key: Callable[[Named], tuple[Key, int]]) -> dict[Key, list[tuple[int, Named]]]:
    """Files by sequence, each sequence as (frame number, file) in the order of the numbers; `key` tells both."""
    sequences: dict[Key, list[tuple[int, Named]]] = {}
    for file in files:
        sequence, number = key(file)
        sequences.setdefault(sequence, []).append((number, file))
    for members in sequences.values():
        members.sort(key=lambda member: member[0])
    return sequences


def rising(members: list[tuple[int, Named]], labelled: Sample, frames: Frames) -> list[Sample]:
    """Samples of one sequence: the first frame neutral, the last three the apex, the others "frame".

    Parameters
    ----------
    members : (frame number, file) in order
    labelled : what all frames share: label, raw_label, subject, sequence, extra; path and frame are set here. Without
        a label, only the first frame is used: it is neutral whatever follows
    frames : "apex" leaves out the frames between
    """
    samples = []
    for place, (number, file) in enumerate(members):
        role = _role(place, len(members))
        if role == "neutral":
            samples.append(replace(labelled, path=file.path, frame=number, role=role, label="neutral", raw_label=None))
        elif labelled.label is not None and (role == "apex" or frames == "all"):
            samples.append(replace(labelled, path=file.path, frame=number, role=role))
    return samples


def frames_in(path: str, skipped: list[Skipped]) -> int:
    """How many frames a clip has; 0 where it cannot be read. Damage goes to `skipped`.

    Raises
    ------
    MissingPackageError : PyAV is not installed
    """
    try:
        count, whole = count_frames(path)
    except VideoError as error:
        skipped.append(Skipped(path, "damaged", str(error)))
        return 0
    if not whole:
        skipped.append(Skipped(path, "damaged", f"the clip breaks off: {count} frames of it are used"))
    return count


def read_clip(path: str) -> Source:
    """Every frame of one video file, in the order in which they are shown, as one sequence.

    Raises
    ------
    InputError : nothing in the file can be read
    MissingPackageError : PyAV is not installed
    """
    skipped: list[Skipped] = []
    count = frames_in(path, skipped)
    if not count:
        why = skipped[0].why if skipped else "it is empty"
        raise InputError(f"{printable(path)} has no frame that can be read: {why}")
    name = os.path.splitext(os.path.basename(path))[0]
    samples = [Sample(path, sequence=name, frame=number) for number in range(1, count + 1)]
    return Source(samples, "folder", "photos", [f"{count} frames of a film", *left_out(skipped)], skipped)


def _role(place: int, count: int) -> str:
    if place == 0:
        return "neutral"
    return "apex" if place >= count - APEX_FRAMES else "frame"
