"""KDEF: 4,900 photos of 70 people in two sessions from five angles, with its known faults (datasets.md 3.15)."""

from __future__ import annotations

import re

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import list_files
from featurepipe.datasets.listing import (
    Named,
    any_named,
    by_name,
    holes,
    left_out,
    misnamed,
    mostly_named,
    without_copies,
)
from featurepipe.datasets.source import Skipped, Source
from featurepipe.records import Sample

LABELS = {
    "AF": "fear",
    "AN": "anger",
    "DI": "disgust",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}
"""Labels of the codes in the names: afraid, angry, disgusted, happy, neutral, sad, surprised."""

VIEWS = {"FL": "full left", "HL": "half left", "S": "straight", "HR": "half right", "FR": "full right"}
"""Angles by their codes in the names."""

BLACK = frozenset(
    (
        *("AF01SUFR", "AF10AFFR", "AF11NEHL", "AF20DIHL", "AM25DIFL"),
        *("AM34DIFR", "BF13NEHR", "BM21DIFL", "BM22DIHL", "BM24DIFL"),
    )
)
"""Pictures of the official archive that are black all over."""

MISNAMED = {"AF31V": "AF31SAHL", "AM31H": "AM31SUHR"}
"""Broken names in the official archive, and the only ones that are missing in their folders."""

_EXPRESSION_AND_ANGLE = "(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)"
_NAME = f"([AB])([FM])(0[1-9]|[12][0-9]|3[0-5]){_EXPRESSION_AND_ANGLE}"
_BROKEN = "|".join(MISNAMED)
# FAHR stands for FAFHR in the official archive.
_AVERAGED = f"[FM]{_EXPRESSION_AND_ANGLE}|FAHR|FAFHR"
_OFFICIAL = re.compile(_NAME)


def read_kdef(root: str, frames: Frames = "apex") -> Source:
    """Read KDEF by the names of its files; the averaged faces of AKDEF mix all people and are left out.

    Of copies one under the right name counts, not under the broken one, and of those one in a folder KDEF.
    The ten black pictures are left out as damaged; the two with broken names are read as what their folders lack.
    Both sessions of a person have one subject, such as F01. `extra` has session (A or B), gender and view.

    Raises
    ------
    InputError : root cannot be listed
    """
    listing = list_files(root)
    strange: list[str] = []
    rest: list[str] = []
    skipped: list[Skipped] = []
    named = by_name(listing, listing.photos, f"(?:{_NAME}|{_BROKEN})", strange)
    best_first = sorted(named, key=lambda file: (_stem(file) in MISNAMED, not _in_official_folder(file)))
    found = {_code(file.match): file for file in without_copies(best_first, _code, skipped)}
    files = dict(sorted(found.items(), key=lambda item: item[1].place))
    averaged = by_name(listing, strange, _AVERAGED, rest)
    skipped += [Skipped(file.path, "extra", "an averaged face of AKDEF: it mixes all people") for file in averaged]
    skipped += misnamed(listing, rest, "AF01AFFL.JPG: session, gender, number, expression, angle")
    skipped += _damaged(files) + _missing(files)
    samples = [_sample(file.path, code) for code, file in files.items() if code not in BLACK]
    notes = listing.notes + _renamed(files) + left_out(skipped)
    return Source(samples, "kdef", "photos", notes, skipped)


def _in_official_folder(file: Named) -> bool:
    return "kdef" in file.place.lower().split("/")


def _stem(file: Named) -> str:
    return file.place.rpartition("/")[2].partition(".")[0].upper()


def _code(match: re.Match[str]) -> str:
    """The right name, in capitals and without extension."""
    stem = match[0].rpartition("/")[2].upper()
    return MISNAMED.get(stem, stem)


def _fields(code: str) -> tuple[str, ...]:
    """Session, gender, number, expression and angle. By position: AF is afraid, and the start of a name too."""
    match = _OFFICIAL.fullmatch(code)
    assert match is not None, code
    return match.groups()


def _sample(path: str, code: str) -> Sample:
    session, gender, number, expression, angle = _fields(code)
    extra = {"session": session, "gender": "female" if gender == "F" else "male", "view": VIEWS[angle]}
    label = LABELS[expression]
    return Sample(path, label=label, raw_label=expression, subject=gender + number, role="still", extra=extra)


def _renamed(files: dict[str, Named]) -> list[str]:
    return [
        f"{_stem(file)} is read as {code}, by the hole in its folder: its name is broken in the official archive"
        for code, file in files.items()
        if _stem(file) != code
    ]


def _damaged(files: dict[str, Named]) -> list[Skipped]:
    return [
        Skipped(file.path, "damaged", "a black picture, in the official archive too", _sample(file.path, code))
        for code, file in files.items()
        if code in BLACK
    ]


def _missing(files: dict[str, Named]) -> list[Skipped]:
    cells = {
        (session + gender + number, expression, angle)
        for session, gender, number, expression, angle in map(_fields, files)
    }
    names = [f"{''.join(cell)}.JPG" for cell in holes(cells)]
    return [Skipped(name, "missing", "the other pictures of this session are here") for name in names]


def _straight(sample: Sample) -> bool:
    return bool(sample.extra["view"] == "straight")


def _is_root(folder: str) -> bool:
    """Whether most photos have names of KDEF or AKDEF, and not only the short ones of AKDEF, such as FANS."""
    official = f"(?:{_NAME}|{_BROKEN})"
    return mostly_named(folder, f"(?:{official}|{_AVERAGED})") and any_named(folder, official)


DATABASE = Database(
    name="kdef",
    title="KDEF (Karolinska Directed Emotional Faces)",
    size="4,900 photos of 70 people, two sessions, five angles",
    labels=tuple(sorted(LABELS.values())),
    identity="known",
    licence="researchers, non-commercial, no redistribution without consent",
    url="https://kdef.se/",
    citation="Lundqvist, Flykt, Ohman: The Karolinska Directed Emotional Faces (KDEF). Karolinska Institutet, 1998",
    is_root=_is_root,
    read=read_kdef,
    sheet=(
        Expected("photos of all angles", 4900, dict.fromkeys(LABELS.values(), 700)),
        Expected("frontal photos", 980, dict.fromkeys(LABELS.values(), 140), belongs=_straight),
    ),
    marker="photos named as AF01AFFL.JPG",
    darkest=10.0,
)
