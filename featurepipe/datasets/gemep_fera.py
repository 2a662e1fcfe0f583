"""GEMEP-FERA (FERA 2011), emotion half: 289 clips of five portrayed emotions (datasets.md 3.3)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import Listing, list_files
from featurepipe.datasets.listing import folders_in, left_out, names_in, read_lines, some_photos
from featurepipe.datasets.sequences import frames_in
from featurepipe.datasets.source import Skipped, Source, label_of, split_of
from featurepipe.datasets.tables import read_header, read_rows
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.records import CLIPS, Sample

LABELS = ("anger", "fear", "happiness", "relief", "sadness")
"""Labels of the codes 1 to 5: anger, fear, joy, relief, sadness. There is no neutral clip or frame."""

_CLIP = re.compile(r"(train|test)_(\d{3})(?!\d)", re.IGNORECASE)
_HALVES = ("train", "training", "test", "testing")
_TEXTS = (".txt", ".dat", ".xml")
_COLUMNS = {"clip": (), "label": ("emotion",), "subject": ()}
_LARGEST_SIDECAR = 1 << 16
_WAYS = (
    "(a) a folder named by the emotion, (b) the emotion as a word in the clip's name (train_001-anger.avi), (c) a text "
    "beside the clip (train_001.txt) with one emotion word or 1 to 5 for anger, fear, joy, relief, sadness, or (d) a "
    "CSV in the root with columns clip,label and perhaps subject"
)


@dataclass(frozen=True)
class Clip:
    """One clip: name (train_001), path, and its path below the root with "/" between the parts."""

    name: str
    path: str
    place: str

    @property
    def split(self) -> str | None:
        """train or test, by its name."""
        return split_of(self.name.split("_")[0])


@dataclass(frozen=True)
class Said:
    """What is said of a clip: the word or code as written, its label, and the actor."""

    raw: str
    label: str
    subject: str | None = None


def read_gemep_fera(root: str, frames: Frames = "apex") -> Source:
    """Read the emotion half of GEMEP-FERA: every frame of a clip is the apex of its emotion, whatever `frames` is.

    How the label of a clip is stored is not known for certain, so several ways are tried in the order CSV, folder,
    file name, sidecar. Test clips without label are samples without label. Subjects come from the CSV alone.

    Raises
    ------
    InputError : no clip is below root, training clips are there and none has a label, or the CSV is malformed
    MissingPackageError : PyAV is not installed
    """
    listing = list_files(root)
    skipped: list[Skipped] = []
    clips = _clips(listing, skipped)
    if not clips:
        raise InputError(f"{printable(root)} holds no clips of GEMEP-FERA: expected training/train_001/train_001.avi")
    table, sidecars = _table(root), _sidecars(listing)
    said = {name: found for name, clip in clips.items() if (found := _said(clip, table, sidecars))}
    training = [clip for clip in clips.values() if clip.split == "train"]
    if training and not any(clip.name in said for clip in training):
        raise InputError(
            f"no training clip in {printable(root)} has an emotion (the AU half of GEMEP-FERA has none). Expected "
            f"{_WAYS}"
        )
    samples = [sample for name in sorted(clips) for sample in _samples(clips[name], said.get(name), skipped)]
    return Source(samples, "gemep-fera", "photos", [*listing.notes, *_notes(samples), *left_out(skipped)], skipped)


def _samples(clip: Clip, said: Said | None, skipped: list[Skipped]) -> list[Sample]:
    """All frames of one clip."""
    if said is None and clip.split == "train":
        skipped.append(Skipped(clip.path, "unlabelled", "a training clip without emotion"))
        return []
    count = frames_in(clip.path, skipped)
    label, raw, subject = (said.label, said.raw, said.subject) if said else (None, None, None)
    return [
        Sample(clip.path, label, raw, subject, clip.split, clip.name, number, "apex") for number in range(1, count + 1)
    ]


def _notes(samples: list[Sample]) -> list[str]:
    unlabelled = {sample.sequence for sample in samples if sample.label is None}
    notes = ["every frame carries the label of its clip, and no frame is neutral"]
    if unlabelled:
        notes.append(f"{len(unlabelled)} test clips are unlabelled: their labels are not in the training download")
    if not any(sample.subject for sample in samples):
        notes.append("actors are not in the names of the clips: a CSV clip,label,subject in the root can give them")
    return notes


def _clips(listing: Listing, skipped: list[Skipped]) -> dict[str, Clip]:
    """Video files by clip; the name of the file counts, else that of its folder."""
    clips: dict[str, Clip] = {}
    for place in listing.others:
        if not place.lower().endswith(CLIPS):
            continue
        names = [match for part in reversed(place.split("/")[-2:]) if (match := _CLIP.match(part))]
        path = listing.path(place)
        if not names:
            skipped.append(Skipped(path, "misnamed", "no official name; expected train_001.avi or test_001.avi"))
        elif (name := names[0][0].lower()) in clips:
            skipped.append(Skipped(path, "extra", "a copy of another clip under the same name"))
        else:
            clips[name] = Clip(name, path, place)
    return clips


def _said(clip: Clip, table: Mapping[str, Said], sidecars: Mapping[str, list[str]]) -> Said | None:
    if clip.name in table:
        return table[clip.name]
    parts = clip.place.split("/")
    words = [*parts[:-1], *re.split(r"[^A-Za-z]+", os.path.splitext(parts[-1])[0])]
    for word in words:
        if label_of(word) in LABELS:
            return Said(word, label_of(word))
    for path in sidecars.get(clip.name, []):
        if said := _said_in(path):
            return said
    return None


def _said_in(path: str) -> Said | None:
    """What a sidecar says: the one emotion word in it, or a code that stands alone."""
    if os.path.getsize(path) > _LARGEST_SIDECAR:
        return None
    text = "\n".join(read_lines(path))
    words = {word for word in re.findall(r"[A-Za-z]+", text) if label_of(word) in LABELS}
    if len({label_of(word) for word in words}) == 1:
        word = min(words)
        return Said(word, label_of(word))
    code = text.strip()
    return Said(code, LABELS[int(code) - 1]) if re.fullmatch("[1-5]", code) else None


def _sidecars(listing: Listing) -> dict[str, list[str]]:
    """Texts that bear the name of a clip, by clip; beside it or in a folder of labels."""
    sidecars: dict[str, list[str]] = {}
    for place in listing.others:
        match = _CLIP.match(place.rsplit("/", 1)[-1])
        if match and place.lower().endswith(_TEXTS):
            sidecars.setdefault(match[0].lower(), []).append(listing.path(place))
    return sidecars


def _table(root: str) -> dict[str, Said]:
    """The user's own CSV in the root that has columns clip and label."""
    said: dict[str, Said] = {}
    for name in sorted(name for name in os.listdir(root) if name.lower().endswith(".csv") and name[0] != "."):
        path = os.path.join(root, name)
        header = set(read_header(path))
        if "clip" not in header or header.isdisjoint(("label", "emotion")):
            continue
        for line, row in read_rows(path, _COLUMNS):
            match = _CLIP.match(os.path.basename(row["clip"]))
            if match is None or label_of(row["label"]) not in LABELS:
                raise InputError(
                    f"{printable(path)}, line {line}: clip {row['clip']!r}, label {row['label']!r}; expected a clip "
                    "such as train_001 and anger, fear, joy, relief or sadness"
                )
            said[match[0].lower()] = Said(row["label"], label_of(row["label"]), row.get("subject") or None)
    return said


def _is_root(folder: str) -> bool:
    """Whether clips are in folders of the official halves, or several in one folder, and no more photos than clips."""
    halves = [path for path in [folder, *folders_in(folder)] if os.path.basename(path).lower() in _HALVES]
    clips = sum(_clips_in(path) + sum(map(_clips_in, _other_folders(path))) for path in halves)
    several = _clips_in(folder)
    if clips == 0 and several < 2:
        return False
    return some_photos(folder) <= max(clips, several)


def _other_folders(folder: str) -> list[str]:
    """Folders in a folder that are no clip's, such as an emotion's."""
    return [path for path in folders_in(folder) if not _CLIP.match(os.path.basename(path))]


def _clips_in(folder: str) -> int:
    """How many of train_001.avi, or train_001 with a clip in it, a folder directly holds."""
    named = [path for path in folders_in(folder) if _CLIP.match(os.path.basename(path))]
    alone = sum(1 for name in names_in(folder) if _CLIP.match(name) and name.endswith(CLIPS))
    return alone + sum(1 for path in named if any(name.endswith(CLIPS) for name in names_in(path)))


def _expected(unit: str, split: str, total: int, counts: tuple[int, ...]) -> Expected:
    return Expected(
        unit,
        total,
        dict(zip(LABELS, counts, strict=True)),
        belongs=lambda sample: sample.split == split,
        by="sequence",
        sure=False,
    )


DATABASE = Database(
    name="gemep-fera",
    title="GEMEP-FERA (FERA 2011), emotion half",
    size="289 clips of 10 actors: 155 for training, 134 for test",
    labels=LABELS,
    identity="partly",
    licence="academic, EULA",
    url="http://gemep-db.sspnet.eu/",
    citation="Valstar et al.: The first facial expression recognition and analysis challenge. FG 2011",
    is_root=_is_root,
    read=read_gemep_fera,
    sheet=(
        _expected("training clips", "train", 155, (32, 31, 30, 31, 31)),
        _expected("test clips", "test", 134, (27, 25, 31, 26, 25)),
    ),
    marker="clips train_001.avi or train_001/train_001.avi, in a folder training or train, or several clips, and "
    "no more photos than clips",
)
