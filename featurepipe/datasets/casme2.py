"""CASME II: micro-expressions filmed at 200 frames per second, labelled by a coding sheet (datasets.md 3.10)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_files
from featurepipe.datasets.listing import Named, left_out, misnamed
from featurepipe.datasets.sequences import by_sequence
from featurepipe.datasets.sheets import read_sheet
from featurepipe.datasets.source import Skipped, Source, label_of
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import Sample

SETS = ("CASME2-RAW", "CASME2_RAW_selected", "Cropped")
"""Sets of pictures, in the order in which one is chosen: whole clips, onset to offset, and that cut to the face."""

_SHEET = re.compile(r"CASME2[-_ ]coding.*\.xlsx", re.IGNORECASE)
_OBJECTIVE = re.compile(r"CASME2[-_ ]ObjectiveClasses.*\.xlsx", re.IGNORECASE)
_SET = re.compile(r"CASME2[-_]RAW|CASME2[-_]RAW[-_]selected|Cropped", re.IGNORECASE)
_PLACE = re.compile(r"(?:^|/)sub(\d+)/(EP[^/]+)/(reg_)?img(\d+)\.[^./]+$", re.IGNORECASE)
_COLUMNS = {
    "subject": "Subject",
    "clip": "Filename",
    "onset": "OnsetFrame",
    "apex": "ApexFrame",
    "offset": "OffsetFrame",
    "emotion": "Estimated Emotion",
}
_UNITS = {"units": "Action Units"}
_OBJECTIVE_COLUMNS = {"subject": "Subject", "clip": "Filename", "objective": "Objective Class"}
_PARENTS = 3

Clip = tuple[int, str]
"""Number of the subject, and name of the clip with its numbers plain: (1, "ep2_1f")."""

_SHORT: dict[Clip, int] = {(16, "ep1_8"): 96}
"""Last frame of a clip that ends before its offset in the official Cropped too: the sheet says 73 to 110."""


@dataclass(frozen=True)
class Coding:
    """A row of the coding sheet: frame numbers (None where the sheet has none), emotion, action units."""

    name: str
    onset: int | None
    apex: int | None
    offset: int | None
    emotion: str
    units: str | None


def read_casme2(root: str, frames: Frames = "apex") -> Source:
    """Read CASME II: the onset frame is the neutral reference, and the coded apex frame is the apex.

    Of the three sets of pictures the first of SETS that is there is read; the folder of another one can be SOURCE,
    the coding sheet may then lie up to three folders above it. With frames "all" every frame from onset to offset is
    a sample. `extra` has au (action units as coded) and, where that sheet is there, objective_class (1 to 7).

    Raises
    ------
    InputError : no coding sheet, a sheet without the columns needed, or no pictures under official paths
    MissingPackageError : openpyxl is not installed
    """
    notes: list[str] = []
    rows = _codings(_sheet(root, _SHEET, notes))
    objective = _objective(root, notes)
    listing = list_files(root)
    rest: list[str] = []
    skipped: list[Skipped] = []
    files = _chosen(listing, rest, notes)
    clips = by_sequence(_without_copies(files, skipped), lambda file: (_clip(file), int(file.match[4])))
    samples = []
    for clip in sorted(rows):
        if clip in clips:
            samples += _samples(clip, rows[clip], clips[clip], frames, objective.get(clip), skipped)
        else:
            where = os.path.join(root, f"sub{clip[0]:02d}", rows[clip].name)
            skipped.append(Skipped(where, "missing", "a clip of the coding sheet"))
    for clip in sorted(set(clips) - set(rows)):
        folder = os.path.dirname(clips[clip][0][1].path)
        skipped.append(Skipped(folder, "unlabelled", "a clip that the coding sheet does not have"))
    skipped += misnamed(listing, rest, "sub01/EP02_01f/img46.jpg: subject, clip and frame")
    return Source(
        samples,
        "casme2",
        "crops" if files[0].match[3] else "photos",
        [*listing.notes, *notes, *left_out(skipped)],
        skipped,
    )


def _samples(
    clip: Clip,
    row: Coding,
    members: Sequence[tuple[int, Named]],
    frames: Frames,
    objective: int | None,
    skipped: list[Skipped],
) -> list[Sample]:
    """Samples of one clip that the sheet has."""
    if members[-1][0] != _SHORT.get(clip):
        _tell_missing(row, members, skipped)
    extra: dict[str, Any] = {"au": row.units} if row.units else {}
    if objective is not None:
        extra["objective_class"] = objective
    samples = []
    for number, file in members:
        role = _role(number, row)
        if role is None or (frames == "apex" and role not in ("neutral", "apex")):
            continue
        label, raw = ("neutral", None) if role == "neutral" else (label_of(row.emotion), row.emotion)
        name = f"sub{clip[0]:02d}"
        samples.append(Sample(file.path, label, raw, name, None, f"{name}_{row.name}", number, role, extra))
    return samples


def _role(number: int, row: Coding) -> str | None:
    """What a frame is in its clip; None outside onset to offset. An apex that is the onset too is the apex."""
    if number == row.apex:
        return "apex"
    if number == row.onset:
        return "neutral"
    if number == row.offset:
        return "offset"
    inside = row.onset is not None and row.offset is not None and row.onset < number < row.offset
    return "frame" if inside else None


def _tell_missing(row: Coding, members: Sequence[tuple[int, Named]], skipped: list[Skipped]) -> None:
    folder = os.path.dirname(members[0][1].path)
    if row.apex is None:
        skipped.append(Skipped(folder, "unlabelled", "a clip without apex in the coding sheet"))
    numbers = {number for number, _ in members}
    for role, number in (("onset", row.onset), ("apex", row.apex), ("offset", row.offset)):
        if number is not None and number not in numbers:
            why = f"{role} frame of the coding sheet; its clip ends at {members[-1][0]}"
            skipped.append(Skipped(os.path.join(folder, f"img{number}.jpg"), "missing", why))


def _chosen(listing: Listing, rest: list[str], notes: list[str]) -> list[Named]:
    """The pictures of the one set that is read; files without an official path go to `rest`."""
    above = "/".join(os.path.abspath(listing.root).replace(os.sep, "/").split("/")[-_PARENTS:])
    sets: dict[str, list[Named]] = {name: [] for name in SETS}
    for place in listing.photos:
        match = _PLACE.search(f"{above}/{place}")
        if match is None:
            rest.append(place)
        else:
            sets[_set_of(f"{above}/{place}", match)].append(Named(listing.path(place), place, match))
    found = [name for name in SETS if sets[name]]
    if not found:
        raise InputError(
            f"{printable(listing.root)} holds no pictures of CASME II: expected CASME2_RAW/CASME2-RAW/sub01/EP02_01f/"
            "img1.jpg, CASME2_RAW_selected/sub01/EP02_01f/img46.jpg or Cropped/sub01/EP02_01f/reg_img46.jpg"
        )
    if len(found) > 1:
        notes.append(f"pictures of {found[0]} are read; {', '.join(found[1:])} are not (give its folder as SOURCE)")
    return sets[found[0]]


def _set_of(place: str, match: re.Match[str]) -> str:
    if match[3]:
        return "Cropped"
    return "CASME2_RAW_selected" if "selected" in place[: match.start(1)].casefold() else "CASME2-RAW"


def _clip(file: Named) -> Clip:
    return int(file.match[1]), _plain(file.match[2])


def _plain(name: str) -> str:
    """Name of a clip in lower case without leading zeros: one is called EP01_2 where the others have EP01_02."""
    return re.sub(r"0*(\d+)", r"\1", name.strip().casefold())


def _without_copies(files: Iterable[Named], skipped: list[Skipped]) -> list[Named]:
    first: dict[tuple[Clip, int], Named] = {}
    for file in files:
        if first.setdefault((_clip(file), int(file.match[4])), file) is not file:
            skipped.append(Skipped(file.path, "extra", "a copy of another file under the same name"))
    return list(first.values())


def _codings(path: str) -> dict[Clip, Coding]:
    """The coding sheet by clip."""
    codings: dict[Clip, Coding] = {}
    for row in read_sheet(path, _COLUMNS, _UNITS):
        subject, name = _integer(row["subject"]), str(row["clip"] or "").strip()
        emotion = str(row["emotion"] or "").strip()
        if subject is None or not name or not emotion:
            continue
        units = str(row["units"]).strip() if row["units"] is not None else None
        onset, apex, offset = (_integer(row[column]) for column in ("onset", "apex", "offset"))
        clip = (subject, _plain(name))
        if clip in codings:
            raise InputError(f"{printable(path)} has the clip sub{subject:02d} {name} twice; keep one row")
        codings[clip] = Coding(name, onset, apex, offset, emotion, units)
    if not codings:
        raise InputError(f"{printable(path)} has no row with a subject, a file name and an emotion")
    return codings


def _objective(root: str, notes: list[str]) -> Mapping[Clip, int]:
    sheets = _sheets(root, _OBJECTIVE)
    if not sheets:
        return {}
    rows = read_sheet(sheets[-1], _OBJECTIVE_COLUMNS)
    notes.append(f"objective classes from {printable(sheets[-1])}")
    numbers = ((_integer(row["subject"]), str(row["clip"] or ""), _integer(row["objective"])) for row in rows)
    return {
        (subject, _plain(name)): code for subject, name, code in numbers if subject is not None and code is not None
    }


def _integer(cell: Any) -> int | None:
    """The whole number in a cell, be it a number or text; None for others, such as the `/` of an apex."""
    try:
        value = float(str(cell).strip().casefold().removeprefix("sub"))
        return int(value) if value.is_integer() else None
    except (ValueError, OverflowError):
        return None


def _sheet(root: str, name: re.Pattern[str], notes: list[str]) -> str:
    sheets = _sheets(root, name)
    if not sheets:
        raise InputError(
            f"no coding sheet of CASME II is in {printable(root)} or above it: expected CASME2-coding-20140508.xlsx"
        )
    others = "".join(f"; not {printable(os.path.basename(path))}" for path in sheets[:-1])
    notes.append(f"labels from {printable(sheets[-1])}{others}")
    return sheets[-1]


def _sheets(root: str, name: re.Pattern[str]) -> list[str]:
    """The sheets in the root, or in the nearest folder above it that has one; the latest by name comes last."""
    folder = root
    for _ in range(_PARENTS + 1):
        found = [entry for entry in _names(folder) if name.fullmatch(entry)]
        if found:
            ordered = sorted(found, key=lambda entry: (re.findall(r"\d{8}", entry), entry))
            return [os.path.join(folder, entry) for entry in ordered]
        folder = os.path.join(folder, os.pardir)
    return []


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_root(folder: str) -> bool:
    if any(_SHEET.fullmatch(name) for name in _names(folder)):
        return True
    own = os.path.basename(os.path.abspath(folder))
    return bool(_SET.fullmatch(own)) and bool(_sheets(folder, _SHEET))


DATABASE = Database(
    name="casme2",
    title="CASME II (micro-expressions)",
    size="247 clips of 26 people in the article, 255 in the distributed sheet; 200 frames per second, 640 x 480",
    labels=("disgust", "fear", "happiness", "neutral", "others", "repression", "sadness", "surprise"),
    identity="known",
    licence="academic, signed agreement",
    url="http://fu.psych.ac.cn/CASME/casme2-en.php",
    citation="Yan et al.: CASME II: an improved spontaneous micro-expression database. PLoS ONE 2014",
    is_root=_is_root,
    read=read_casme2,
    sheet=(
        Expected(
            "clips of the sheet of 2014-05-08",
            255,
            {
                "disgust": 63,
                "fear": 2,
                "happiness": 32,
                "others": 99,
                "repression": 27,
                "sadness": 7,
                "surprise": 25,
            },
            belongs=lambda sample: sample.role != "neutral",
            by="sequence",
        ),
    ),
    marker="a coding sheet CASME2-coding*.xlsx",
)
