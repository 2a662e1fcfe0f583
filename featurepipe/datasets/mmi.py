"""MMI facial expression database: a portal's selection of sessions, as clips with XML beside them (datasets.md 3.2)."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_files
from featurepipe.datasets.listing import folders_in, left_out, names_in, subfolder
from featurepipe.datasets.sequences import frames_in
from featurepipe.datasets.source import Skipped, Source
from featurepipe.datasets.xml_files import attribute, elements, read_xml
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import CLIPS, Sample

LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
"""Labels of the codes 1 to 6. Greater ones exist (scream, bored, sleepy are reported): raw_label keeps them."""

VIEWS = ("frontal", "profile", "dual")
"""Names of the views 0, 1 and 2; in a dual view both stand side by side."""

TURNS = {"frontal": (0, 90), "profile": (0, 270), "dual": (0,), None: (0, 90, 270)}
"""Degrees clockwise to turn frames by until a face shows, by view: some clips were filmed on edge."""

_NAME = re.compile(r"S(\d{3})\s*-\s*(\d{3})(?!\d)", re.IGNORECASE)
_CODING = re.compile(r"-oao_aucs\s*\.xml$", re.IGNORECASE)
_MIDDLE = 3
_LOOK_AT = 16
"""Numbered folders that the marker looks into."""
_NEUTRAL, _ONSET, _APEX, _OFFSET = range(4)
"""Types of the markers in a coding."""


@dataclass(frozen=True)
class Phases:
    """When a clip's action units move, as frame numbers from 1: each phase begins there and ends before the next.

    `offset` is None where the clip ends at the apex; `rest` is where the face is neutral again, None where it is not
    seen to be; `units` are the action units as they are numbered (12, or L12 for one side).
    """

    onset: int
    apex: int
    offset: int | None
    rest: int | None
    units: tuple[str, ...]

    def role(self, number: int) -> str:
        """What a frame is."""
        if number < self.onset or (self.rest is not None and number >= self.rest):
            return "neutral"
        if number < self.apex:
            return "onset"
        return "apex" if self.offset is None or number < self.offset else "offset"


@dataclass
class Recording:
    """A clip or still picture of a session, and the XML files that tell of it."""

    session: str
    name: str
    path: str
    metadata: str | None = None
    coding: str | None = None
    view: str | None = None

    @property
    def subject(self) -> str:
        """S035 of S035-004."""
        return self.name.split("-")[0]

    @property
    def is_clip(self) -> bool:
        """Whether it is a video file."""
        return self.path.lower().endswith(CLIPS)


def read_mmi(root: str, frames: Frames = "apex") -> Source:
    """Read MMI: clips, and stills, whose metadata name an emotion; most of the database shows single action units.

    With a coding of onset, apex and offset, frames before the first onset are neutral and those from the first apex
    to the first offset are the apex. Without one, the first frame is neutral and three in the middle are the apex.
    A clip with a code above 6 is read without label. `extra` has session, view (frontal, profile, dual), turns (see
    TURNS; the face stage applies them).

    Raises
    ------
    InputError : root has no sessions with clips
    MissingPackageError : defusedxml, or for clips without coding PyAV, is not installed
    """
    listing = list_files(root)
    skipped: list[Skipped] = []
    recordings = _recordings(listing, skipped)
    if not recordings:
        raise InputError(f"{printable(root)} holds no clips of MMI: expected Sessions/1841/S035-004.avi")
    samples = [sample for key in sorted(recordings) for sample in _samples(recordings[key], frames, skipped)]
    return Source(samples, "mmi", "photos", [*listing.notes, *_notes(samples), *left_out(skipped)], skipped)


def _samples(one: Recording, frames: Frames, skipped: list[Skipped]) -> list[Sample]:
    code = _emotion(one, skipped)
    if code is None:
        skipped.append(Skipped(one.path, "unlabelled", "its metadata name no emotion"))
        return []
    label = LABELS[int(code) - 1] if code in map(str, range(1, len(LABELS) + 1)) else None
    extra: dict[str, Any] = {"session": one.session, **({"view": one.view} if one.view else {})}
    name = f"{one.session}/{one.name}"
    if not one.is_clip:
        return [Sample(one.path, label, code, one.subject, None, name, None, "still", extra)]
    extra["turns"] = TURNS[one.view]
    phases = _phases(one, skipped)
    if phases is not None and phases.units:
        extra["au"] = phases.units
    samples = []
    for number, role in _roles(one, phases, frames, skipped):
        own, raw = ("neutral", None) if role == "neutral" else (label, code)
        samples.append(Sample(one.path, own, raw, one.subject, None, name, number, role, extra))
    return samples


def _roles(one: Recording, phases: Phases | None, frames: Frames, skipped: list[Skipped]) -> Iterator[tuple[int, str]]:
    """(number, role) of the frames to use of a clip; the clip is opened only where its length matters."""
    count = 0
    if phases is not None and phases.offset is not None and frames == "apex":
        numbers: Iterable[int] = sorted({1, *range(phases.apex, phases.offset)})
    else:
        count = frames_in(one.path, skipped)
        numbers = range(1, count + 1)
    for number in numbers:
        role = phases.role(number) if phases else _uncoded_role(number, count)
        if frames == "all" or role == "apex" or (number == 1 and role == "neutral"):
            yield number, role


def _uncoded_role(number: int, count: int) -> str:
    """The first frame is neutral, three in the middle are the apex, as the literature takes them."""
    if number == 1:
        return "neutral"
    first = max(2, (count - _MIDDLE) // 2 + 1)
    return "apex" if first <= number < first + _MIDDLE else "frame"


def _notes(samples: list[Sample]) -> list[str]:
    notes = []
    clips = {sample.sequence: sample for sample in samples if sample.role != "neutral"}
    views = Counter(str(sample.extra.get("view", "unknown")) for sample in clips.values())
    if views:
        notes.append("views: " + ", ".join(f"{view} {count}" for view, count in sorted(views.items())))
    codes = Counter(sample.raw_label for sample in clips.values() if sample.label is None)
    if codes:
        shown = ", ".join(f"{printable(str(code))} ({count})" for code, count in sorted(codes.items(), key=str))
        notes.append(f"emotion codes without a known meaning are read without label: {shown}")
    return notes


def _recordings(listing: Listing, skipped: list[Skipped]) -> dict[tuple[str, str], Recording]:
    """Clips and stills by session and file name, with their XML."""
    recordings: dict[tuple[str, str], Recording] = {}
    clips = (place for place in listing.others if place.lower().endswith(CLIPS))
    for place in sorted([*listing.photos, *clips], key=os.fsencode):
        session, file = _session(place), place.rsplit("/", 1)[-1]
        match = _NAME.match(file)
        if match is None or session is None:
            expected = "no official name; expected Sessions/1841/S035-004.avi: session, subject and clip"
            skipped.append(Skipped(listing.path(place), "misnamed", expected))
            continue
        stem = _stem(file)
        if (session, stem) in recordings:
            skipped.append(Skipped(listing.path(place), "extra", "a copy of another file under the same name"))
        else:
            recordings[session, stem] = Recording(session, f"S{match[1]}-{match[2]}", listing.path(place))
    _add_xml(listing, recordings, skipped)
    return recordings


def _session(place: str) -> str | None:
    """Name of the session's folder: a number."""
    folder = place.split("/")[-2] if "/" in place else ""
    return folder if folder.isdecimal() else None


def _stem(file: str) -> str:
    """File name without extension, blanks (copies have stray ones) and case."""
    return "".join(os.path.splitext(file)[0].split()).casefold()


def _add_xml(listing: Listing, recordings: dict[tuple[str, str], Recording], skipped: list[Skipped]) -> None:
    sessions: dict[str, dict[str, Recording]] = {}
    for (own, stem), one in recordings.items():
        sessions.setdefault(own, {})[stem] = one
    for place in listing.others:
        session, file = _session(place), place.rsplit("/", 1)[-1]
        if session is None or not file.lower().endswith(".xml"):
            continue
        path = listing.path(place)
        if _stem(file) == "session":
            _add_views(path, sessions.get(session, {}), skipped)
        elif found := recordings.get((session, _stem(_CODING.sub("", file)) if _CODING.search(file) else _stem(file))):
            if _CODING.search(file):
                found.coding = path
            else:
                found.metadata = path


def _add_views(path: str, recordings: dict[str, Recording], skipped: list[Skipped]) -> None:
    """The view of each recording of a session: of the track that names it, or the one view that all tracks have."""
    try:
        tracks = list(elements(read_xml(path), "track"))
    except ValueError as error:
        skipped.append(Skipped(path, "damaged", f"no session.xml that can be read: {error}"))
        return
    views = {_view(track) for track in tracks}
    for one in recordings.values():
        one.view = views.copy().pop() if len(views) == 1 else None
    for track in tracks:
        for annotation in elements(track, "annotation"):
            named = _stem(_CODING.sub("", attribute(annotation, "filename") or ""))
            if named in recordings:
                recordings[named].view = _view(track)


def _view(track: Element) -> str | None:
    code = attribute(track, "view")
    return VIEWS[int(code)] if code in ("0", "1", "2") else None


def _emotion(one: Recording, skipped: list[Skipped]) -> str | None:
    """The code that a recording's metadata give as its Emotion, as written; None where they give none."""
    if one.metadata is None:
        return None
    try:
        tags = elements(read_xml(one.metadata), "metatag")
    except ValueError as error:
        skipped.append(Skipped(one.metadata, "damaged", f"no metadata that can be read: {error}"))
        return None
    codes = (attribute(tag, "value") for tag in tags if (attribute(tag, "name") or "").casefold() == "emotion")
    return next((code for code in codes if code), None)


def _phases(one: Recording, skipped: list[Skipped]) -> Phases | None:
    """The phases over all action units of a clip; None without a coding, or with one that has no apex."""
    if one.coding is None:
        return None
    try:
        root = read_xml(one.coding)
        markers = [
            (int(attribute(marker, "frame") or ""), int(attribute(marker, "type") or ""))
            for marker in elements(root, "marker")
        ]
    except ValueError as error:
        skipped.append(Skipped(one.coding, "damaged", f"no coding that can be read: {error}"))
        return None
    apex = min((frame for frame, kind in markers if kind == _APEX), default=None)
    if apex is None:
        return None
    onset = min((frame for frame, kind in markers if kind == _ONSET), default=apex)
    offset = min((frame for frame, kind in markers if kind == _OFFSET and frame > apex), default=None)
    last, kind = max(markers)
    units = tuple(number for unit in elements(root, "actionunit") if (number := attribute(unit, "number")))
    return Phases(onset, apex, offset, last if kind == _NEUTRAL and last > apex else None, units)


def _is_root(folder: str) -> bool:
    own = os.path.basename(os.path.abspath(folder)).casefold() == "sessions"
    sessions = folder if own else subfolder(folder, "Sessions")
    if sessions is None:
        return False
    numbered = (path for path in folders_in(sessions) if os.path.basename(path).isdecimal())
    return any(_is_session(path) for path in itertools.islice(numbered, _LOOK_AT))


def _is_session(folder: str) -> bool:
    return any(name == "session.xml" or _NAME.match(name) for name in names_in(folder))


def _shows_emotion_frontally(sample: Sample) -> bool:
    return sample.role == "apex" and sample.extra.get("view") == "frontal" and sample.label in LABELS


DATABASE = Database(
    name="mmi",
    title="MMI facial expression database",
    size="over 2,900 clips and stills of 75 people; about 205 frontal clips show one of six emotions",
    labels=(*LABELS[:4], "neutral", *LABELS[4:]),
    identity="known",
    licence="non-commercial, EULA signed by academic staff; every user downloads an own selection",
    url="https://mmifacedb.eu",
    citation="Pantic et al.: Web-based database for facial expression analysis. ICME 2005",
    is_root=_is_root,
    read=read_mmi,
    sheet=(
        Expected(
            "frontal clips with an emotion",
            205,
            {"anger": 31, "disgust": 32, "fear": 28, "happiness": 42, "sadness": 32, "surprise": 40},
            belongs=_shows_emotion_frontally,
            by="sequence",
            sure=False,
        ),
    ),
    marker="a folder Sessions with numbered folders in it that hold session.xml or S035-004.avi",
)
