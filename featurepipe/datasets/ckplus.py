"""CK+ (extended Cohn-Kanade): 593 sequences from neutral to apex, 327 of them labelled (datasets.md 3.5)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_files
from featurepipe.datasets.listing import Named, by_name, left_out, misnamed, read_lines, subfolder, without_copies
from featurepipe.datasets.sequences import by_sequence, rising
from featurepipe.datasets.source import Skipped, Source
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import Sample

LABELS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
"""Labels of the codes 0 to 7; 0 does not occur."""

_IMAGE = r"(S\d{3})_(\d{3})_(\d{8})"
_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images")

T = TypeVar("T")
Clip = tuple[str, str]
"""Subject and sequence: ("S005", "001")."""


def read_ckplus(root: str, frames: Frames = "apex") -> Source:
    """Read CK+: the first frame of every sequence is neutral; of labelled ones the last three are the apex.

    The other frames of the 266 unlabelled sequences are left out, and so are pictures outside the official folders
    where those hold any: CK+48 has crops of the same names. `extra` of the last frame has au: intensity by
    action unit as FACS coders gave it for that frame, 0 where they gave none. Landmarks are not read.

    Raises
    ------
    InputError : no sequence or no emotion file is below root
    """
    listing = list_files(root)
    rest: list[str] = []
    skipped: list[Skipped] = []
    named = _originals(by_name(listing, listing.photos, _IMAGE, rest), skipped)
    images = without_copies(named, _key, skipped)
    sequences = by_sequence(images, lambda file: (_clip(file.match), int(file.match[3])))
    emotions = _emotions(listing, skipped)
    _check(root, sequences, emotions)
    actions = _coded(listing, "facs", _action_units, skipped)
    samples = []
    for clip in sorted(sequences):
        samples += _samples(clip, sequences[clip], emotions, actions, frames, skipped)
    _tell_missing(root, sequences, emotions, skipped)
    skipped += misnamed(listing, rest, "S005_001_00000011.png: subject, sequence and frame")
    return Source(samples, "ckplus", "photos", listing.notes + left_out(skipped), skipped)


def _originals(named: Iterable[Named], skipped: list[Skipped]) -> list[Named]:
    """The pictures in the official folders, where there are any; the others go to `skipped` then."""
    files = list(named)
    outside = [file for file in files if not set(_IMAGES).intersection(file.place.lower().split("/"))]
    if len(outside) == len(files):
        return files
    skipped += [Skipped(file.path, "extra", f"outside {_IMAGES[0]}: a crop or a sorted copy") for file in outside]
    left = {file.place for file in outside}
    return [file for file in files if file.place not in left]


def _key(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(group.upper() for group in match.groups())


def _clip(match: re.Match[str]) -> Clip:
    return match[1].upper(), match[2]


def _samples(
    clip: Clip,
    members: list[tuple[int, Named]],
    emotions: Mapping[Clip, tuple[int, str, str]],
    actions: Mapping[Clip, tuple[int, dict[str, float]]],
    frames: Frames,
    skipped: list[Skipped],
) -> list[Sample]:
    _, raw, label = emotions.get(clip, (0, None, None))
    shared = Sample("", label=label, raw_label=raw, subject=clip[0], sequence="_".join(clip))
    samples = rising(members, shared, frames)
    if label is None:
        folder = os.path.dirname(members[0][1].path)
        skipped.append(Skipped(folder, "unlabelled", "a sequence without emotion file: its first frame alone is used"))
    coded, units = actions.get(clip, (0, {}))
    if samples[-1].frame == coded:
        samples[-1] = replace(samples[-1], extra={"au": units})
    return samples


def _emotions(listing: Listing, skipped: list[Skipped]) -> dict[Clip, tuple[int, str, str]]:
    """Number of the last frame, code as written and label, of each sequence that has an emotion file."""
    return {
        clip: (number, raw, label)
        for clip, (number, (raw, label)) in _coded(listing, "emotion", _emotion, skipped).items()
    }


def _coded(
    listing: Listing, kind: str, parse: Callable[[list[str]], T], skipped: list[Skipped]
) -> dict[Clip, tuple[int, T]]:
    """What the files S005_001_00000011_<kind>.txt say, with the number of their frame; unreadable ones are skipped."""
    found: dict[Clip, tuple[int, T]] = {}
    for file in by_name(listing, listing.others, f"{_IMAGE}_{kind}", []):
        try:
            found.setdefault(_clip(file.match), (int(file.match[3]), parse(read_lines(file.path))))
        except (ValueError, OverflowError) as error:
            skipped.append(Skipped(file.path, "damaged", f"no {kind} code: {error}"))
    return found


def _emotion(lines: list[str]) -> tuple[str, str]:
    """The code as written and the label: one number, in scientific notation."""
    words = " ".join(lines).split()
    code = float(words[0]) if len(words) == 1 else -1.0
    if code not in range(len(LABELS)):
        raise ValueError(f"{' '.join(words)[:40]!r}; expected one code, 0 to {len(LABELS) - 1}")
    return words[0], LABELS[int(code)]


def _action_units(lines: list[str]) -> dict[str, float]:
    """Intensity by action unit: two numbers per line."""
    rows = [[float(word) for word in line.split()] for line in lines if line.strip()]
    if not all(math.isfinite(number) for row in rows for number in row):
        raise ValueError("a number that is not finite; expected an action unit and its intensity in each line")
    return {f"{unit:g}": intensity for unit, intensity in rows}


def _check(root: str, sequences: Mapping[Clip, object], emotions: Mapping[Clip, object]) -> None:
    if not sequences:
        raise InputError(
            f"{printable(root)} holds no pictures of CK+: expected cohn-kanade-images/S005/001/S005_001_00000001.png; "
            "unpack extended-cohn-kanade-images.zip there"
        )
    if not emotions:
        raise InputError(
            f"{printable(root)} holds no readable emotion files of CK+: expected Emotion/S005/001/"
            "S005_001_00000011_emotion.txt; unpack Emotion_labels.zip beside the pictures, and give the folder that "
            "holds both as SOURCE"
        )


def _tell_missing(
    root: str,
    sequences: Mapping[Clip, list[tuple[int, Named]]],
    emotions: Mapping[Clip, tuple[int, str, str]],
    skipped: list[Skipped],
) -> None:
    """The peak frames that emotion files name and that are not on disk."""
    for (subject, sequence), (number, _, _) in sorted(emotions.items()):
        members = sequences.get((subject, sequence), [])
        if number not in {place for place, _ in members}:
            name = f"{subject}_{sequence}_{number:08d}.png"
            folder = os.path.dirname(members[0][1].path) if members else os.path.join(root, subject, sequence)
            skipped.append(Skipped(os.path.join(folder, name), "missing", "the peak frame that an emotion file names"))


def _is_root(folder: str) -> bool:
    return any(subfolder(folder, name) for name in _IMAGES)


DATABASE = Database(
    name="ckplus",
    title="CK+ (extended Cohn-Kanade)",
    size="593 sequences of 123 people, 10,708 frames; 327 sequences of 118 people are labelled",
    labels=tuple(sorted(LABELS)),
    identity="known",
    licence="non-commercial research, on request",
    url="http://www.jeffcohn.net/Resources/",
    citation="Lucey et al.: The extended Cohn-Kanade dataset (CK+). CVPR Workshops 2010",
    is_root=_is_root,
    read=read_ckplus,
    sheet=(
        Expected(
            "labelled sequences",
            327,
            {
                "anger": 45,
                "contempt": 18,
                "disgust": 59,
                "fear": 25,
                "happiness": 69,
                "sadness": 28,
                "surprise": 83,
            },
            belongs=lambda sample: sample.role == "apex",
            by="sequence",
        ),
        Expected("sequences, each with a neutral frame", 593, belongs=lambda sample: sample.role == "neutral"),
    ),
    marker="a folder cohn-kanade-images",
)
