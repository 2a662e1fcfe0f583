"""CMU Multi-PIE: 337 people in four sessions, seen by 15 cameras under 19 lights (datasets.md 3.1)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_files
from featurepipe.datasets.listing import (
    Named,
    by_name,
    left_out,
    misnamed,
    mostly_named,
    read_lines,
    subfolders,
    without_copies,
)
from featurepipe.datasets.source import Skipped, Source, label_of
from featurepipe.files import printable
from featurepipe.records import Sample

WORDS = {
    (1, 1): "neutral",
    (1, 2): "smile",
    (2, 1): "neutral",
    (2, 2): "surprise",
    (2, 3): "squint",
    (3, 1): "neutral",
    (3, 2): "smile",
    (3, 3): "disgust",
    (4, 1): "neutral",
    (4, 2): "neutral",
    (4, 3): "scream",
}
"""What people did, by (session, recording): there is no file of labels. Session 4 has two neutral recordings."""

CAMERAS = ("11_0", "12_0", "09_0", "08_0", "13_0", "14_0", "05_1", "05_0", "04_1", "19_0", "20_0", "01_0", "24_0")
"""Cameras at head height from one profile to the other, 15 degrees apart; 05_1 sees the face from the front."""

FROM_ABOVE = ("08_1", "19_1")
"""Cameras that look down, near the quarter views."""

FRONTAL, FLASH = "05_1", 7
"""The frontal camera, and the shot with the flash beside it."""

_CAMERA = "|".join(camera.replace("_", "") for camera in (*CAMERAS, *FROM_ABOVE))
_NAME = rf"(\d{{3}})_(0[1-4])_(0[1-3])_({_CAMERA})_([01]\d)"
_HIGH = r"(?:.*/)?highres/(?:.*/)?[^/]+"
_SESSIONS = ("session01", "session02", "session03", "session04")
_LIST = "subject_list"

People = dict[str, tuple[dict[str, Any], tuple[int, ...]]]
"""Subject -> (what the list says of them, the sessions that they attended)."""


def is_multipie(folder: str) -> bool:
    """Whether session folders with multiview in them are here or in data/, or most photos have the official names."""
    below = subfolders(folder)
    data = subfolders(below["data"]) if "data" in below else {}
    return any(_sessions(folders) for folders in (below, data)) or mostly_named(folder, _NAME)


def _sessions(folders: Mapping[str, str]) -> bool:
    return any("multiview" in subfolders(folders[name]) for name in _SESSIONS if name in folders)


def read_multipie(root: str, frames: Frames = "apex") -> Source:
    """Read Multi-PIE by the names of its files: session and recording tell the expression.

    `extra` has session, recording, camera, illumination (the shot, 0 to 19; 0 and 19 without flash), yaw (degrees
    from one profile, -90, to the other, 90; not of the cameras that look down) and, where meta/subject_list.txt is
    there, gender and birth_year. The photos in highres are left out: it is not confirmed what their names tell.

    Raises
    ------
    InputError : root cannot be listed, or its list of subjects cannot be read
    """
    listing = list_files(root)
    notes = list(listing.notes)
    people = _people(listing, notes)
    rest: list[str] = []
    skipped: list[Skipped] = []
    files = without_copies(by_name(listing, listing.photos, _NAME, rest), _digits, skipped)
    samples = list(_samples(files, people, skipped))
    unnamed: list[str] = []
    high = by_name(listing, rest, _HIGH, unnamed)
    skipped += [Skipped(file.path, "unlabelled", "highres: its expression is not confirmed") for file in high]
    skipped += misnamed(listing, unnamed, "001_01_01_051_07.png: subject, session, recording, camera, shot")
    skipped += _missing(samples, people)
    return Source(samples, "multipie", "photos", notes + left_out(skipped), skipped)


def _digits(match: re.Match[str]) -> int:
    """One number for one name: a key that takes little memory, as there are 755,370 of them."""
    return int("".join(match.groups()))


def _samples(files: Iterable[Named], people: People, skipped: list[Skipped]) -> Iterator[Sample]:
    """Samples of the recordings that exist; equal extras are one object, as there are many photos."""
    extras: dict[tuple[Any, ...], dict[str, Any]] = {}
    for file in files:
        subject, session, recording, camera, shot = file.match.groups()
        word = WORDS.get((int(session), int(recording)))
        if word is None:
            why = f"session {int(session)} has no recording {int(recording)}"
            skipped.append(Skipped(file.path, "misnamed", why))
            continue
        person = people.get(subject, ({}, ()))[0]
        key = (session, recording, camera, shot, *person.values())
        if key not in extras:
            extras[key] = _extra(session, recording, camera, shot, person)
        extra = extras[key]
        yield Sample(file.path, label=label_of(word), raw_label=word, subject=subject, role="still", extra=extra)


def _extra(session: str, recording: str, camera: str, shot: str, person: Mapping[str, Any]) -> dict[str, Any]:
    name = f"{camera[:2]}_{camera[2]}"
    extra = {"session": int(session), "recording": int(recording), "camera": name, "illumination": int(shot)}
    if name in CAMERAS:
        extra["yaw"] = 15 * (CAMERAS.index(name) - CAMERAS.index(FRONTAL))
    return {**extra, **person}


def _people(listing: Listing, notes: list[str]) -> People:
    """The people of subject_list.txt: below the root, or in meta/ beside it where the root is data/."""
    beside = os.path.join(listing.root, os.pardir, "meta", f"{_LIST}.txt")
    below = [file.path for file in by_name(listing, listing.others, _LIST, [])]
    path = next(iter([*below, beside] if os.path.exists(beside) else below), None)
    if path is None:
        return {}
    people: People = {}
    for number, line in enumerate(read_lines(path), start=1):
        if person := _person(line.split()):
            people[person[0]] = person[1:]
        elif line.strip():
            notes.append(f"{printable(path)}, line {number} is not `id birth_year gender s1 s2 s3 s4`: passed over")
    return people


def _person(words: list[str]) -> tuple[str, dict[str, Any], tuple[int, ...]] | None:
    if len(words) != 7 or not (words[0].isdecimal() and words[1].isdecimal() and set(words[3:]) <= {"0", "1"}):
        return None
    attended = tuple(session for session, flag in enumerate(words[3:], start=1) if flag == "1")
    return words[0].zfill(3), {"birth_year": int(words[1]), "gender": words[2].lower()}, attended


def _missing(samples: list[Sample], people: People) -> list[Skipped]:
    """Sessions without any photo that the list says a person attended, if others' photos of that session are here."""
    found = {(sample.subject, sample.extra["session"]) for sample in samples}
    sessions = {session for _, session in found}
    return [
        Skipped(f"session0{session}/multiview/{subject}", "missing", f"{_LIST}.txt says that {subject} attended")
        for subject, (_, attended) in sorted(people.items())
        for session in attended
        if session in sessions and (subject, session) not in found
    ]


def _one_view(sample: Sample) -> bool:
    return bool(sample.extra["camera"] == FRONTAL and sample.extra["illumination"] == FLASH)


DATABASE = Database(
    name="multipie",
    title="CMU Multi-PIE",
    size="755,370 photos of 337 people, 15 cameras, 19 lights",
    labels=("disgust", "happiness", "neutral", "scream", "squint", "surprise"),
    identity="known",
    licence="signed licence with CMU, fee for the media",
    url="http://www.cs.cmu.edu/afs/cs/project/PIE/MultiPie/Multi-Pie/Home.html",
    citation="Gross, Matthews, Cohn, Kanade, Baker: Multi-PIE. Image and Vision Computing 28 (5), 2010",
    is_root=is_multipie,
    read=read_multipie,
    sheet=(
        Expected("photos", 755_370, sure=False),
        Expected(
            "photos of camera 05_1, flash 07",
            2514,
            {"neutral": 1160, "happiness": 479, "surprise": 203, "squint": 203, "disgust": 230, "scream": 239},
            belongs=_one_view,
            sure=False,
        ),
    ),
    marker="folders session01 to session04 with multiview in them, or photos named as 001_01_01_051_07.png",
)
