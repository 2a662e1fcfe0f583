"""Oulu-CASIA NIR&VIS: 80 people, six expressions, two cameras, three lights (datasets.md 3.11)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_files
from featurepipe.datasets.listing import Named, left_out, misnamed, subfolders
from featurepipe.datasets.sequences import by_sequence, rising
from featurepipe.datasets.source import Skipped, Source, label_of
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import Sample

CAMERAS = ("VL", "NI")
"""Visible light and near infrared."""

LIGHTS = ("Strong", "Weak", "Dark")
_EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")

_TAIL = re.compile(
    r"(?:^|/)(NI|VL)(_Acropped)?/(Strong|Weak|Dark)/(P\d{3})/"
    r"(Anger|Disgust|Fear|Happiness|Sadness|Surprise)/(\d{3,})\.[^./]+$",
    re.IGNORECASE,
)
_WRAPPERS = re.compile(r"(B_)?OriginalImg(\.zip)?|PreProcess(_?Img)?(\.zip)?", re.IGNORECASE)
_LEVELS = 3

Take = tuple[str, str, str, str]
"""Camera, light, subject, expression."""


def read_oulu_casia(root: str, frames: Frames = "apex") -> Source:
    """Read Oulu-CASIA, or a part of it (.../VL/Strong): the first frame is neutral, the last three are the apex.

    `extra` has camera (VL or NI) and illumination (Strong, Weak or Dark). Where the original and the cropped pictures
    are both below root the original ones are read.

    Raises
    ------
    InputError : no picture under its official path is below root
    """
    listing = list_files(root)
    rest: list[str] = []
    skipped: list[Skipped] = []
    files = _files(listing, rest)
    cropped = [file for file in files if file.match[2]]
    whole = [file for file in files if not file.match[2]]
    read = whole or cropped
    if not read:
        raise InputError(
            f"{printable(root)} holds no pictures of Oulu-CASIA: expected VL/Strong/P001/Anger/000.jpeg, or "
            "VL_Acropped/Strong/P001/Anger/000.jpeg"
        )
    sequences = by_sequence(_without_copies(read, skipped), lambda file: (_sequence(file), int(file.match[6])))
    samples = [
        sample for sequence in sorted(sequences) for sample in rising(sequences[sequence], _shared(sequence), frames)
    ]
    skipped += misnamed(listing, rest, "VL/Strong/P001/Anger/000.jpeg: camera, light, subject, expression, frame")
    notes = [*listing.notes, *_notes(list(sequences), cropped if whole else []), *left_out(skipped)]
    return Source(samples, "oulu-casia", "photos" if whole else "crops", notes, skipped)


def _files(listing: Listing, rest: list[str]) -> list[Named]:
    """The pictures under official paths, of which the root itself may be a part; others go to `rest`."""
    above = "/".join(os.path.abspath(listing.root).replace(os.sep, "/").split("/")[-_LEVELS:])
    files = []
    for place in listing.photos:
        match = _TAIL.search(f"{above}/{place}")
        if match is None:
            rest.append(place)
        else:
            files.append(Named(listing.path(place), place, match))
    return files


def _sequence(file: Named) -> Take:
    camera, _, light, subject, expression, _ = file.match.groups()
    return camera.upper(), light.capitalize(), subject.upper(), expression.capitalize()


def _without_copies(files: Sequence[Named], skipped: list[Skipped]) -> list[Named]:
    """Each frame once, the first by path: copies lie in nested folders."""
    first: dict[tuple[Take, int], Named] = {}
    for file in files:
        if first.setdefault((_sequence(file), int(file.match[6])), file) is not file:
            skipped.append(Skipped(file.path, "extra", "a copy of another file under the same name"))
    return list(first.values())


def _shared(sequence: Take) -> Sample:
    camera, light, subject, expression = sequence
    return Sample(
        "",
        label=label_of(expression),
        raw_label=expression,
        subject=subject,
        sequence=f"{subject}_{expression}_{camera}_{light}",
        extra={"camera": camera, "illumination": light},
    )


def _notes(sequences: list[Take], unread: list[Named]) -> list[str]:
    notes = []
    parts = Counter((camera, light) for camera, light, _, _ in sequences)
    if len(parts) > 1:
        counts = ", ".join(f"{' '.join(part)} {parts[part]}" for part in _parts() if part in parts)
        notes.append(f"sequences read: {counts}. The usual protocol is VL Strong alone: give its folder as SOURCE")
    if unread:
        notes.append(
            f"{len(unread)} cropped pictures are not read, the original ones are "
            f"(to read them give their folder as SOURCE: first {printable(unread[0].path)})"
        )
    return notes


def _parts() -> list[tuple[str, str]]:
    return [(camera, light) for camera in CAMERAS for light in LIGHTS]


def _is_root(folder: str) -> bool:
    name, above = (
        os.path.basename(path) for path in (os.path.abspath(folder), os.path.dirname(os.path.abspath(folder)))
    )
    if _is_camera(name) and _has_lights(folder):
        return True
    if name.capitalize() in LIGHTS and _is_camera(above):
        return True
    return _has_cameras(folder) or any(_wraps(path) for path in _wrappers(folder))


def _wraps(folder: str) -> bool:
    """Whether a folder named like an archive holds the pictures, itself or in folders named so."""
    return _has_cameras(folder) or any(_wraps(path) for path in _wrappers(folder))


def _wrappers(folder: str) -> list[str]:
    return [path for name, path in subfolders(folder).items() if _WRAPPERS.fullmatch(name)]


def _has_cameras(folder: str) -> bool:
    return any(_is_camera(name) and _has_lights(path) for name, path in subfolders(folder).items())


def _has_lights(folder: str) -> bool:
    return not {light.lower() for light in LIGHTS}.isdisjoint(subfolders(folder))


def _is_camera(name: str) -> bool:
    return name.upper().removesuffix("_ACROPPED") in CAMERAS


def _expected(camera: str, light: str) -> Expected:
    def belongs(sample: Sample) -> bool:
        extra = sample.extra
        return sample.role == "apex" and (extra["camera"], extra["illumination"]) == (camera, light)

    return Expected(f"{camera} {light} sequences", 480, dict.fromkeys(_EXPRESSIONS, 80), belongs, "sequence")


DATABASE = Database(
    name="oulu-casia",
    title="Oulu-CASIA NIR&VIS facial expression database",
    size="2,880 sequences: 80 people x 6 expressions x 2 cameras x 3 lights, 320 x 240",
    labels=(*_EXPRESSIONS[:4], "neutral", *_EXPRESSIONS[4:]),
    identity="known",
    licence="research only, release agreement signed by permanent staff",
    url="http://www.cse.oulu.fi/CMV/Downloads/Oulu-CASIA",
    citation="Zhao et al.: Facial expression recognition from near-infrared videos. Image and Vision Computing 2011",
    is_root=_is_root,
    read=read_oulu_casia,
    sheet=tuple(_expected(camera, light) for camera, light in _parts()),
    marker="a folder VL, NI, VL_Acropped or NI_Acropped with Strong, Weak or Dark in it",
)
