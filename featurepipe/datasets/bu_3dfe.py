"""BU-3DFE: 2,500 scans of 100 people, of which the frontal photos are read (datasets.md 3.9)."""

from __future__ import annotations

import re

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import list_files
from featurepipe.datasets.jaffe import LABELS
from featurepipe.datasets.listing import Named, by_name, holes, left_out, misnamed, mostly_named, without_copies
from featurepipe.datasets.source import Skipped, Source
from featurepipe.records import Sample

ANCESTRIES = {
    "AE": "East-Asian",
    "AM": "Middle-Eastern",
    "BL": "black",
    "IN": "Indian",
    "LA": "Latino",
    "WH": "white",
}
"""Ancestry by its code in the names."""

_SCAN = r"([FM]\d{4})_((?:AN|DI|FE|HA|SA|SU)0[1-4]|NE00)(AE|AM|BL|IN|LA|WH)"
_PHOTO = f"{_SCAN}_F2D"
_ANY = f"{_SCAN}_(?:F2D|F3D|RAW)"


def read_bu_3dfe(root: str, frames: Frames = "apex") -> Source:
    """Read the frontal photos (`*_F2D`) of BU-3DFE; the two-view textures of the models (`*_F3D`) are no photos.

    `extra` has intensity (1 weak to 4 strong, 0 for neutral), gender and race.

    Raises
    ------
    InputError : root cannot be listed
    """
    listing = list_files(root)
    others: list[str] = []
    skipped: list[Skipped] = []
    files = list(without_copies(by_name(listing, listing.photos, _PHOTO, others), _scan, skipped))
    rest: list[str] = []
    textures = by_name(listing, others, _ANY, rest)
    skipped += [Skipped(file.path, "extra", "texture of a model in two views, no photo") for file in textures]
    skipped += misnamed(listing, rest, "F0001_AN01WH_F2D.bmp: subject, expression and level, ancestry")
    skipped += _missing(files)
    return Source([_sample(file) for file in files], "bu-3dfe", "photos", listing.notes + left_out(skipped), skipped)


def _scan(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(group.upper() for group in match.groups())


def _sample(file: Named) -> Sample:
    subject, code, ancestry = _scan(file.match)
    gender = "female" if subject.startswith("F") else "male"
    extra = {"intensity": int(code[2:]), "gender": gender, "race": ANCESTRIES[ancestry]}
    return Sample(file.path, label=LABELS[code[:2]], raw_label=code[:2], subject=subject, role="still", extra=extra)


def _missing(files: list[Named]) -> list[Skipped]:
    people = {(subject, ancestry): f"{subject}_{{}}{ancestry}" for subject, _, ancestry in map(_key, files)}
    found = {(people[subject, ancestry], code) for subject, code, ancestry in map(_key, files)}
    names = [person.format(code) for person, code in holes(found)]
    return [Skipped(f"{name}_F2D.bmp", "missing", "the other scans of this person are here") for name in names]


def _key(file: Named) -> tuple[str, ...]:
    return _scan(file.match)


DATABASE = Database(
    name="bu-3dfe",
    title="BU-3DFE (Binghamton University 3D Facial Expression)",
    size="2,500 scans of 100 people, each with a frontal photo",
    labels=tuple(LABELS.values()),
    identity="known",
    licence="signed agreement with Binghamton University",
    url="https://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html",
    citation="Yin, Wei, Sun, Wang, Rosato: A 3D facial expression database for facial behavior research. FG 2006",
    is_root=lambda folder: mostly_named(folder, _ANY),
    read=read_bu_3dfe,
    sheet=(
        Expected("scans", 2500, {label: 100 if label == "neutral" else 400 for label in LABELS.values()}),
        Expected(
            "scans of levels 3 and 4",
            1200,
            {label: 200 for label in LABELS.values() if label != "neutral"},
            belongs=lambda sample: sample.extra["intensity"] >= 3,
        ),
    ),
    marker="photos named as F0001_AN01WH_F2D.bmp",
)
