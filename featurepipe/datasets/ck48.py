"""CK+48: the last three frames of CK+'s labelled sequences as crops in class folders (datasets.md layout G6)."""

from __future__ import annotations

import re

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import list_photos
from featurepipe.datasets.listing import Named, by_name, left_out, misnamed, mostly_named, without_copies
from featurepipe.datasets.source import Skipped, Source, label_of
from featurepipe.records import Sample

_PATTERN = r"(anger|contempt|disgust|fear|happy|sadness|surprise)/(S\d{3})_(\d{3})_(\d{8})"


def read_ck48(root: str, frames: Frames = "apex") -> Source:
    """Read CK+48: label by folder; subject, sequence and frame by CK+'s names. It holds no neutral frames.

    Parameters
    ----------
    root : a folder with the marker
    frames : not used: the copy holds apex frames alone

    Raises
    ------
    InputError : root cannot be listed, or holds no photo
    """
    listing = list_photos(root)
    rest: list[str] = []
    skipped: list[Skipped] = []
    files = without_copies(by_name(listing, listing.photos, _PATTERN, rest), _key, skipped)
    samples = [_sample(file) for file in files]
    skipped += misnamed(listing, rest, "<emotion>/S<subject>_<sequence>_<frame>.png")
    return Source(samples, "ck48", "crops", [*listing.notes, *left_out(skipped)], skipped)


def _key(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(group.upper() for group in match.groups())


def _sample(file: Named) -> Sample:
    word, subject, sequence, frame = file.match.groups()
    subject = subject.upper()
    return Sample(
        file.path,
        label=label_of(word),
        raw_label=word,
        subject=subject,
        sequence=f"{subject}_{sequence}",
        frame=int(frame),
        role="apex",
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
    is_root=lambda place: mostly_named(place, _PATTERN),
    read=read_ck48,
    sheet=(
        Expected("pictures", 981, _COUNTS),
        Expected("sequences", 327, {label: count // 3 for label, count in _COUNTS.items()}, by="sequence"),
    ),
    marker="class folders (anger, contempt, ...) of pictures named S<subject>_<sequence>_<frame>.png",
)
