"""FER2013: the CSV of pixels under its three names, and Kaggle's folders of it (datasets.md 3.6, layouts G4 and G5)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from featurepipe.datasets.arrays import pixel_notes
from featurepipe.datasets.ckextended import is_ckextended
from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_photos
from featurepipe.datasets.listing import by_name, file_in, left_out, misnamed, mostly_named
from featurepipe.datasets.pixel_rows import CONSTANT, has_pixels, read_pixel_rows
from featurepipe.datasets.source import Skipped, Source, split_of
from featurepipe.files import printable
from featurepipe.labels import canonical
from featurepipe.records import Sample

CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Words of the codes 0 to 6."""

_WHOLE = ("fer2013.csv", "icml_face_data.csv")
_PARTS = ("train.csv", "test.csv")
_FERPLUS = "fer2013new.csv"

_KAGGLE_PLACE = r"([^/]+)/((Training|PublicTest|PrivateTest)_\d+)"
_AUGMENTED = r"(\.jpg\d+)?"  # Training_10371709.jpg0.jpg

_BLACK = frozenset(
    (
        *("training_10131352", "training_28756096", "training_32571770", "training_48403842", "training_48621797"),
        *("training_52563817", "training_78540321", "training_87607167", "training_89335926", "training_96772745"),
        *("training_99531165", "publictest_5543497"),
    )
)
"""The twelve pictures that are entirely black, by Kaggle's names in lower case; no other picture has one of these."""


def read_fer2013(root: str, frames: Frames = "apex") -> Source:
    """Read FER2013: a CSV of pixels, a folder that holds one, or Kaggle's class folders of pictures.

    Pictures of one single value (twelve black ones in the official files) are left out: they show no face.

    Parameters
    ----------
    root : the CSV, or a folder with the marker
    frames : not used: there are no sequences

    Raises
    ------
    InputError : a CSV is malformed, or a folder holds none and no photos named as Kaggle names them
    """
    if not os.path.isdir(root):
        return _read_tables([root])
    whole = _tables_in(root, _WHOLE)
    tables = whole[:1] or _tables_in(root, _PARTS)
    if tables:
        return _read_tables(tables, [f"{printable(other)} is the same data again: not read" for other in whole[1:]])
    return _read_folders(list_photos(root))


def _read_tables(tables: list[str], notes: Sequence[str] = ()) -> Source:
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    for table in tables:
        read, out = read_pixel_rows(table, CODES)
        if os.path.basename(table).lower() == _PARTS[0]:
            read = [_trained(sample) for sample in read]
            out = [replace(one, sample=_trained(one.sample)) if one.sample else one for one in out]
        samples += read
        skipped += out
    return Source(samples, "fer2013", "crops", [*notes, *left_out(skipped), *pixel_notes(samples)], skipped)


def _trained(sample: Sample) -> Sample:
    """A row of train.csv, which holds Training alone and has no column Usage."""
    return replace(sample, split=sample.split or "train")


def _read_folders(listing: Listing) -> Source:
    """Samples of Kaggle's folders: label by class folder, split by the prefix of the name, whatever the folder says."""
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    rest: list[str] = []
    for file in by_name(listing, listing.photos, _KAGGLE_PLACE, rest):
        word, name, part = file.match.groups()
        label, split = canonical(word), split_of(part)
        word_of = word if label else None
        sample = Sample(file.path, label, word_of, split=split, role="still", origin=f"fer2013/{split}")
        if name.lower() in _BLACK:
            skipped.append(Skipped(file.path, "damaged", CONSTANT, sample))
        else:
            samples.append(sample)
    skipped += misnamed(listing, rest, "Training_<number>.jpg and so on; repacks add augmented copies")
    notes = ["FER2013 by its file names: their prefixes give the official splits, folders do not"]
    unlabelled = sum(1 for sample in samples if sample.label is None)
    if unlabelled:
        notes.append(f"{unlabelled} pictures are unlabelled: the folders they are in name no emotions")
    return Source(samples, "fer2013", "crops", [*listing.notes, *notes, *left_out(skipped)], skipped)


def _is_root(place: str) -> bool:
    if not os.path.isdir(place):
        return has_pixels(place) and not is_ckextended(place)
    if file_in(place, _FERPLUS):
        return False
    return bool(_tables_in(place, (*_WHOLE, *_PARTS))) or mostly_named(place, _KAGGLE_PLACE + _AUGMENTED)


def _tables_in(folder: str, wanted: Iterable[str]) -> list[str]:
    """Paths of the CSV files of pixels in a folder that have one of the names, in the order of the names."""
    return [path for name in wanted if (path := file_in(folder, name)) and has_pixels(path)]


_LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def _sheet(unit: str, split: str, *counts: int) -> Expected:
    return Expected(
        unit, sum(counts), dict(zip(_LABELS, counts, strict=True)), belongs=lambda sample: sample.split == split
    )


DATABASE = Database(
    name="fer2013",
    title="FER2013",
    size="35,887 grey pictures of 48 x 48 pixels: 28,709 train, 3,589 val, 3,589 test",
    labels=_LABELS,
    identity="none",
    licence="none stated; pictures from the web, collected for a Kaggle challenge",
    url="https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
    citation="Goodfellow et al., Challenges in Representation Learning: A Report on Three Machine Learning Contests, "
    "ICONIP 2013",
    is_root=_is_root,
    read=read_fer2013,
    sheet=(
        _sheet("Training", "train", 3995, 436, 4097, 7215, 4965, 4830, 3171),
        _sheet("PublicTest", "val", 467, 56, 496, 895, 607, 653, 415),
        _sheet("PrivateTest", "test", 491, 55, 528, 879, 626, 594, 416),
    ),
    marker="fer2013.csv, icml_face_data.csv or train.csv with a column pixels, or class folders of pictures named "
    "Training_<number>.jpg, PublicTest_<number>.jpg and PrivateTest_<number>.jpg",
)
