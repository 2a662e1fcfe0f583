"""CK+48: the last three frames of CK+'s labelled sequences as crops in class folders (datasets.md layout G6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import list_photos
from featurepipe.datasets.listing import Named, by_name, left_out, misnamed, mostly_named, without_copies
from featurepipe.datasets.source import Skipped, Source
from featurepipe.labels import canonical
from featurepipe.records import Sample

_PATTERN = r"([^/]+)/(S\d{3})_(\d{3})_(\d{8})"


def read_ck48(root: str, frames: Frames = "apex") -> Source:
    """Read CK+48: label by folder, however that spells its emotion; subject, sequence and frame by CK+'s names.

    The copy as published has no neutral frames; of one with a folder of them their role is neutral.

    Parameters
    ----------
    root : a folder with the marker
    frames : not used: the copy holds no frames between neutral and apex

    Raises
    ------
    InputError : root cannot be listed, or holds no photo
    """
    listing = list_photos(root)
    rest: list[str] = []
    skipped: list[Skipped] = []
    named = _of_emotions(by_name(listing, listing.photos, _PATTERN, rest), rest)
    files = without_copies(named, _key, skipped)
    samples = [_sample(file) for file in files]
    skipped += misnamed(listing, rest, "<emotion>/S<subject>_<sequence>_<frame>.png")
    return Source(samples, "ck48", "crops", [*listing.notes, *left_out(skipped)], skipped)


def _of_emotions(files: Iterable[Named], rest: list[str]) -> Iterator[Named]:
    """Yield the files in folders that are named by an emotion; the others go to `rest`."""
    for file in files:
        if _in_class(file.match):
            yield file
        else:
            rest.append(file.place)


def _in_class(match: re.Match[str]) -> bool:
    """Whether the folder is an emotion's: CK+ itself has pictures of these names in folders 001, 002, ..."""
    return canonical(match[1]) is not None


def _key(match: re.Match[str]) -> tuple[str | None, ...]:
    word, subject, *numbers = match.groups()
    return canonical(word), subject.upper(), *numbers


def _sample(file: Named) -> Sample:
    word, subject, sequence, frame = file.match.groups()
    label, subject = canonical(word), subject.upper()
    return Sample(
        file.path,
        label=label,
        raw_label=word,
        subject=subject,
        sequence=f"{subject}_{sequence}",
        frame=int(frame),
        role="neutral" if label == "neutral" else "apex",
    )


_COUNTS = {"anger": 135, "contempt": 54, "disgust": 177, "fear": 75, "happiness": 207, "sadness": 84, "surprise": 249}

DATABASE = Database(
    name="ck48",
    title="CK+48 (peak frames of CK+)",
    size="981 grey pictures of 48 x 48 pixels: three of each of 327 sequences, 118 people",
    labels=tuple(_COUNTS),
    identity="known",
    licence="that of CK+, from which it was made: non-commercial research",
    url="http://www.jeffcohn.net/Resources/",
    citation="Lucey et al., The Extended Cohn-Kanade Dataset (CK+), CVPR Workshops 2010",
    is_root=lambda place: mostly_named(place, _PATTERN, _in_class),
    read=read_ck48,
    sheet=(
        Expected("pictures", 981, _COUNTS),
        Expected("sequences", 327, {label: count // 3 for label, count in _COUNTS.items()}, by="sequence"),
    ),
    marker="class folders (anger, contempt, ...) of pictures named S<subject>_<sequence>_<frame>.png",
)
