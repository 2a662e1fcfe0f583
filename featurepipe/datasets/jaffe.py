"""JAFFE: 213 photos of ten women, and how sixty viewers rated them (datasets.md 3.8)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_files
from featurepipe.datasets.listing import Named, by_name, left_out, misnamed, mostly_named, read_lines, without_copies
from featurepipe.datasets.source import Skipped, Source
from featurepipe.records import Sample

LABELS = {
    "AN": "anger",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}
"""Labels of the codes in the names."""

_NAME = r"(KA|KL|KM|KR|MK|NA|NM|TM|UY|YM)\.(AN|DI|FE|HA|NE|SA|SU)(\d)\.(\d{1,3})"
_TEXT = r"[^/]*(?:readme|labels?)[^/]*"
_ADJECTIVES = {"HAP": "happiness", "SAD": "sadness", "SUR": "surprise", "ANG": "anger", "DIS": "disgust", "FEA": "fear"}
_PICTURE = re.compile(r"([A-Z]{2})[-.]([A-Z]{2}\d)", re.IGNORECASE)

Ratings = dict[int, tuple[str, dict[str, float]]]
"""Running number -> (name of the picture such as KM.NE1, or "" where the table names none; mean rating by label)."""


def read_jaffe(root: str, frames: Frames = "apex") -> Source:
    """Read JAFFE: labels are the posed expressions, by the names of the files.

    `extra` has take, number (the running number) and, where the table of the README is there, ratings: the mean of
    the viewers' ratings of six adjectives. The highest is not always the posed expression, above all for fear.

    Raises
    ------
    InputError : root or its README cannot be read
    """
    listing = list_files(root)
    rest: list[str] = []
    skipped: list[Skipped] = []
    # TIFF is the original, and the other formats are copies of it.
    originals_first = sorted(by_name(listing, listing.photos, _NAME, rest), key=lambda file: not _is_tiff(file))
    files = sorted(without_copies(originals_first, _stem, skipped), key=lambda file: os.fsencode(file.place))
    ratings = _ratings(listing)
    samples = [_sample(file, ratings) for file in files]
    skipped += misnamed(listing, rest, "KA.AN1.39.tiff: subject, expression and take, running number")
    return Source(samples, "jaffe", "photos", listing.notes + _notes(samples, ratings) + left_out(skipped), skipped)


def _is_tiff(file: Named) -> bool:
    return file.place.lower().endswith((".tif", ".tiff"))


def _stem(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(group.upper() for group in match.groups())


def _sample(file: Named, ratings: Ratings) -> Sample:
    subject, code, take, number = _stem(file.match)
    extra: dict[str, object] = {"take": int(take), "number": int(number)}
    picture, means = ratings.get(int(number), ("", {}))
    if means and picture in ("", f"{subject}.{code}{take}"):
        extra["ratings"] = means
    return Sample(file.path, label=LABELS[code], raw_label=code, subject=subject, role="still", extra=extra)


def _notes(samples: list[Sample], ratings: Ratings) -> list[str]:
    """What became of the ratings, where there is a table of them."""
    rated = [sample for sample in samples if "ratings" in sample.extra]
    if not ratings:
        return []
    others = sum(1 for sample in rated if sample.label != "neutral" and sample.label not in _highest(sample))
    return [
        f"ratings of viewers for {len(rated)} of {len(samples)} photos in extra; {others} of these are rated highest "
        "on another expression than the posed one, which stays the label"
    ]


def _highest(sample: Sample) -> list[str]:
    means: Mapping[str, float] = sample.extra["ratings"]
    return [label for label, mean in means.items() if mean == max(means.values())]


def _ratings(listing: Listing) -> Ratings:
    """The first table of ratings in a README: the columns stand in any order under their adjectives.

    A later table (the README has one without fear) is left alone, and so is a line that has no rating for each
    adjective.
    """
    for file in by_name(listing, listing.others, _TEXT, []):
        header: list[str] = []
        ratings: Ratings = {}
        for line in read_lines(file.path):
            words = line.upper().split()
            if set(_ADJECTIVES).issubset(words) and not header:
                header = words
            elif header and (row := _row(header, words)):
                ratings.setdefault(*row)
        if ratings:
            return ratings
    return {}


def _row(header: list[str], words: list[str]) -> tuple[int, tuple[str, dict[str, float]]] | None:
    """(running number, (picture, ratings)) of one line below `header`, or None."""
    first = header.index(next(word for word in header if word in _ADJECTIVES))
    # The number has no heading in some copies: then it stands one place before the first rating all the same.
    places = {word: place + (not first) for place, word in enumerate(header)}
    if len(words) <= max(places[word] for word in _ADJECTIVES) or not words[0].rstrip(".").isdecimal():
        return None
    try:
        means = {label: float(words[places[word]]) for word, label in _ADJECTIVES.items()}
    except ValueError:
        return None
    if not all(map(math.isfinite, means.values())):
        return None
    picture = next((match for word in words if (match := _PICTURE.fullmatch(word))), None)
    return int(words[0].rstrip(".")), (f"{picture[1]}.{picture[2]}" if picture else "", means)


DATABASE = Database(
    name="jaffe",
    title="JAFFE (Japanese Female Facial Expression)",
    size="213 photos of 10 women, 256 x 256 grey",
    labels=tuple(LABELS.values()),
    identity="known",
    licence="non-commercial research with citation, access on request",
    url="https://zenodo.org/record/3451524",
    citation="Lyons, Akamatsu, Kamachi, Gyoba: Coding facial expressions with Gabor wavelets. FG 1998",
    is_root=lambda folder: mostly_named(folder, _NAME),
    read=read_jaffe,
    sheet=(
        Expected(
            "photos",
            213,
            {
                "anger": 30,
                "disgust": 29,
                "fear": 32,
                "happiness": 31,
                "neutral": 30,
                "sadness": 31,
                "surprise": 30,
            },
        ),
    ),
    marker="photos named as KA.AN1.39.tiff",
)
