"""RaFD: 8,040 photos of 67 people, from five cameras and with three gazes (datasets.md 3.14). Not RAF-DB."""

from __future__ import annotations

import re

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import list_files
from featurepipe.datasets.listing import Named, by_name, holes, left_out, misnamed, mostly_named, without_copies
from featurepipe.datasets.source import Skipped, Source, label_of
from featurepipe.labels import EMOTIONS
from featurepipe.records import Sample

_NAME = (
    r"Rafd(000|045|090|135|180)_(\d{2})_(Caucasian|Moroccan|Kid)_(female|male)_"
    r"(angry|contemptuous|disgusted|fearful|happy|neutral|sad|surprised)_(frontal|left|right)"
)
_FRONTAL = "090"


def read_rafd(root: str, frames: Frames = "apex") -> Source:
    """Read RaFD by the names of its files, in whatever folders and case they are.

    `extra` has camera (000, 045, 090 frontal, 135, 180), gaze, group (caucasian, moroccan, kid) and gender. The three
    gazes are three photos of one expression: their subject keeps them in one fold.

    Raises
    ------
    InputError : root cannot be listed
    """
    listing = list_files(root)
    rest: list[str] = []
    skipped: list[Skipped] = []
    files = list(without_copies(by_name(listing, listing.photos, _NAME, rest), _fields, skipped))
    skipped += misnamed(listing, rest, "Rafd090_01_Caucasian_female_angry_frontal.jpg")
    skipped += _missing(files)
    return Source([_sample(file) for file in files], "rafd", "photos", listing.notes + left_out(skipped), skipped)


def _fields(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(group.lower() for group in match.groups())


def _sample(file: Named) -> Sample:
    camera, subject, group, gender, word, gaze = _fields(file.match)
    extra = {"camera": camera, "gaze": gaze, "group": group, "gender": gender}
    return Sample(file.path, label=label_of(word), raw_label=word, subject=subject, role="still", extra=extra)


def _missing(files: list[Named]) -> list[Skipped]:
    cells = (_fields(file.match) for file in files)
    found = {
        (camera, "_".join((number, group.capitalize(), gender)), word, gaze)
        for camera, number, group, gender, word, gaze in cells
    }
    names = [f"Rafd{'_'.join(cell)}.jpg" for cell in holes(found)]
    return [Skipped(name, "missing", "the other photos of this person are here") for name in names]


def _camera_090(sample: Sample) -> bool:
    return bool(sample.extra["camera"] == _FRONTAL)


def _straight(sample: Sample) -> bool:
    return _camera_090(sample) and bool(sample.extra["gaze"] == "frontal")


DATABASE = Database(
    name="rafd",
    title="RaFD (Radboud Faces Database)",
    size="8,040 photos of 67 people, five cameras, three gazes",
    labels=EMOTIONS,
    identity="known",
    licence="free for academic research after registration",
    url="https://rafd.socsci.ru.nl/",
    citation="Langner, Dotsch, Bijlstra, Wigboldus, Hawk, van Knippenberg: Presentation and validation of the Radboud "
    "Faces Database. Cognition & Emotion 24 (8), 2010",
    is_root=lambda folder: mostly_named(folder, _NAME),
    read=read_rafd,
    sheet=(
        Expected("photos", 8040, dict.fromkeys(EMOTIONS, 1005)),
        Expected("photos of camera 090", 1608, dict.fromkeys(EMOTIONS, 201), belongs=_camera_090),
        Expected("photos of camera 090, frontal gaze", 536, dict.fromkeys(EMOTIONS, 67), belongs=_straight),
    ),
    marker="photos named as Rafd090_01_Caucasian_female_angry_frontal.jpg",
)
