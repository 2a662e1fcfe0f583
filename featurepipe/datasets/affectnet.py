"""AffectNet: the release with CSV lists, the one of 2021 and the copy with labels.csv (datasets.md 3.12, layout G9)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from featurepipe.datasets.affectnet_codes import CODES, extra_of, label_of_code, rating
from featurepipe.datasets.affectnet_npy import SETS, read_sets, sets_in
from featurepipe.datasets.database import Database, Expected, Frames
from featurepipe.datasets.folder import EXTENSIONS
from featurepipe.datasets.listing import file_in, left_out, names_in
from featurepipe.datasets.source import Skipped, Source, label_of, split_of
from featurepipe.datasets.tables import read_header, read_rows
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.labels import EMOTIONS, NOT_A_FACE, canonical
from featurepipe.records import Face, Sample

_LISTS = {"training.csv": "train", "validation.csv": "val"}
_HEADER = (
    *("subdirectory_filepath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks"),
    *("expression", "valence", "arousal"),
)
_USED = {name: () for name in _HEADER if name != "facial_landmarks"}
_FIRST_CELL = re.compile(r"[^/\\]+[/\\][^/\\]+\.\w+")
_FOLDERS = ("manually_annotated", "manually_annotated_images", "manually_annotated_file_lists")
_COPY = {"pth": (), "label": (), "relfcs": ()}
_NOT_A_FACE = "no face, says AffectNet (code 10, non-face)"


def read_affectnet(root: str, frames: Frames = "apex") -> Source:
    """Read AffectNet, whichever release lies at `root`; what AffectNet calls no face is left out and counted.

    extra holds the release, and valence and arousal in -1..1 where they were rated. Photos of the older release are
    whole pictures with `box` as the list gives it; those of 2021 are face crops. Landmarks are not read, nor the photos
    annotated by program: their labels are a network's.

    Parameters
    ----------
    root : folder with the marker
    frames : not used: there are no sequences

    Raises
    ------
    InputError : a list is malformed, or the photos that it names are not below root
    """
    if sets_in(root):
        samples, skipped = read_sets(root)
        return Source(samples, "affectnet", "crops", left_out(skipped), skipped)
    copy = file_in(root, "labels.csv")
    return _read_copy(root, copy) if copy and _is_copy(copy) else _read_lists(root)


class _Disk:
    """Photos below a folder, found by the paths that a list gives; each folder is listed once, when first asked for."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: dict[str, frozenset[str]] = {}
        self._folded: dict[str, dict[str, str]] = {}
        self._found = 0

    def find(self, place: str) -> str | None:
        """Path of `place` ("/" between the parts), also where the case of the name differs; None where it is not."""
        folder, _, name = place.rpartition("/")
        if folder not in self._names:
            self._names[folder] = self._list(folder)
        if name not in self._names[folder]:
            if folder not in self._folded:
                self._folded[folder] = {one.casefold(): one for one in sorted(self._names[folder])}
            name = self._folded[folder].get(name.casefold(), "")
        self._found += bool(name)
        return self.path(f"{folder}/{name}") if name else None

    def path(self, place: str) -> str:
        """Path of `place`, be it there or not."""
        return os.path.join(self._root, *place.split("/"))

    def unlisted(self) -> int:
        """Photos in the folders listed so far that nobody asked for."""
        names = (name for names in self._names.values() for name in names)
        return sum(1 for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS) - self._found

    def _list(self, folder: str) -> frozenset[str]:
        if not folder or {"", ".", ".."} & set(folder.split("/")):
            return frozenset()
        with suppress(OSError, ValueError):  # ValueError: a NUL in the name
            return frozenset(os.listdir(self.path(folder)))
        return frozenset()


# The older release: lists in CSV


def _read_lists(root: str) -> Source:
    lists = {split: path for name, split in _LISTS.items() if (path := _list_in(root, name))}
    images = _images_in(root)
    if not lists or images is None:
        raise InputError(
            f"{printable(root)} has {'no photos' if lists else 'no lists'} of AffectNet: expected "
            "Manually_Annotated_Images/<number>/<photo> and training.csv or validation.csv in "
            "Manually_Annotated_file_lists, both below SOURCE"
        )
    disk = _Disk(images)
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    for split, path in lists.items():
        for one in _rows(path, split, disk):
            if isinstance(one, Sample):
                samples.append(one)
            else:
                skipped.append(one)
    notes = [f"lists read: {', '.join(printable(path) for path in lists.values())}"]
    unlisted = disk.unlisted()
    if unlisted > 0:
        notes.append(f"photos in no list that is there, not read: {unlisted}")
    if any(_is_automatic(folder, root) for folder in _folders(root)):
        notes.append("photos annotated automatically are not read: their labels are a network's")
    return Source(samples, "affectnet", "photos", notes + left_out(skipped), skipped)


def _rows(path: str, split: str, disk: _Disk) -> Iterator[Sample | Skipped]:
    """Samples of one list; its first line is a row already where it does not name the columns."""
    first = read_header(path)
    headed = first[0] == _HEADER[0]
    if not headed and not _FIRST_CELL.fullmatch(first[0]):
        raise InputError(f"{printable(path)}: expected the columns {', '.join(_HEADER)}; found {', '.join(first)}")
    for line, fields in read_rows(path, _USED, None if headed else _HEADER):
        if len(fields) < len(_USED):
            raise InputError(f"{printable(path)} has no column {', '.join(sorted(_USED.keys() - fields))}")
        yield _sample(fields, split, disk, f"{printable(path)}, line {line}")


def _sample(fields: Mapping[str, str], split: str, disk: _Disk, where: str) -> Sample | Skipped:
    place = fields["subdirectory_filepath"].replace("\\", "/")
    label = label_of_code(fields["expression"], where)
    path = disk.find(place)
    if label == NOT_A_FACE:
        return Skipped(path or disk.path(place), "extra", _NOT_A_FACE)
    if path is None:
        return Skipped(disk.path(place), "missing", "a list names it")
    ratings = {name: rating(fields[name], where) for name in ("valence", "arousal")}
    return Sample(
        path,
        label=label,
        raw_label=fields["expression"],
        split=split,
        role="still",
        extra=extra_of("lists", ratings),
        box=_box(fields, where),
    )


def _box(fields: Mapping[str, str], where: str) -> Face | None:
    """The face's box, or None where the list has NULL or an empty one."""
    texts = [fields[name] for name in _HEADER[1:5]]
    if any(text.upper() in ("", "NULL") for text in texts):
        return None
    try:
        left, top, width, height = (int(float(text)) for text in texts)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: face_x to face_height are {texts}; expected pixels, or NULL") from error
    return Face(left, top, left + width - 1, top + height - 1) if width > 0 and height > 0 else None


def _list_in(root: str, name: str) -> str | None:
    return next((path for folder in _folders(root) if (path := file_in(folder, name)) and _is_list(path)), None)


def _images_in(root: str) -> str | None:
    """The folder of manually annotated photos: the first with numbered folders; automatic ones are passed over."""
    for folder in _folders(root):
        if _is_automatic(folder, root):
            continue
        with suppress(OSError), os.scandir(folder) as entries:
            if any(entry.name.isdecimal() and entry.is_dir() for entry in entries):
                return folder
    return None


def _is_automatic(folder: str, root: str) -> bool:
    return "automatic" in os.path.relpath(folder, root).casefold()


def _folders(root: str, depth: int = 3) -> Iterator[str]:
    """The root and the folders below it, breadth first and by name, without the numbered ones, which hold photos."""
    level = [root]
    for _ in range(depth + 1):
        yield from level
        below = []
        for folder in level:
            with suppress(OSError), os.scandir(folder) as entries:
                names = (entry for entry in entries if not entry.name.startswith((".", "__MACOSX")))
                below += [entry.path for entry in names if not entry.name.isdecimal() and entry.is_dir()]
        level = sorted(below)


def _is_list(path: str) -> bool:
    with suppress(InputError):
        first = read_header(path)
        return first[0] == _HEADER[0] or (len(first) == len(_HEADER) and bool(_FIRST_CELL.fullmatch(first[0])))
    return False


# Copies with class folders and labels.csv


def _is_copy(path: str) -> bool:
    with suppress(InputError):
        return {"pth", "label", "relfcs"} <= set(read_header(path))
    return False


def _read_copy(root: str, table: str) -> Source:
    """Samples of labels.csv, which is believed where the class folder says something else."""
    places = [(root, None)] + [
        (entry.path, split)
        for entry in sorted(os.scandir(root), key=lambda one: one.name)
        if (split := split_of(entry.name)) and entry.is_dir()
    ]
    disks = [(_Disk(place), split) for place, split in places]
    samples, skipped, strange = [], [], []
    for line, fields in read_rows(table, _COPY):
        word = _word(fields["label"], f"{printable(table)}, line {line}")
        place = fields["pth"].replace("\\", "/")
        found = [(path, split or split_of(place.split("/")[0])) for disk, split in disks if (path := disk.find(place))]
        if len(found) != 1 or word == NOT_A_FACE:
            skipped.append(_left(disks[0][0].path(place), found, word))
            continue
        (path, split), folder = found[0], canonical(place.split("/")[-2])
        sample = Sample(
            path, word, fields["label"], split=split, role="still", extra=extra_of("copy", _quality(fields["relfcs"]))
        )
        samples.append(sample)
        if folder is not None and folder != word:
            strange.append(sample)
    notes = [f"labels read from {printable(table)}", *_disagreement(strange, len(samples)), *left_out(skipped)]
    return Source(samples, "affectnet", "crops", notes, skipped)


def _left(path: str, found: list[tuple[str, str | None]], word: str) -> Skipped:
    if not found:
        return Skipped(path, "missing", "labels.csv names it")
    if word == NOT_A_FACE:
        return Skipped(found[0][0], "extra", _NOT_A_FACE)
    return Skipped(found[0][0], "misnamed", "in several split folders: labels.csv does not say which it labels")


def _disagreement(strange: list[Sample], total: int) -> list[str]:
    if not strange:
        return []
    return [
        f"{len(strange)} of {total} photos lie in the folder of another label than labels.csv gives them (first "
        f"{printable(strange[0].path)}: {strange[0].raw_label}): labels.csv is believed"
    ]


def _word(text: str, where: str) -> str:
    """A label of labels.csv; numbers are refused, since copies number their classes in two ways."""
    label = label_of(text)
    if label in (*EMOTIONS, *CODES):
        return label
    if text.lstrip("+-").replace(".", "", 1).isdecimal():
        raise InputError(
            f"{where}: label {text} is a number, and copies of AffectNet differ in theirs (0 is neutral as "
            f"published, anger where classes were numbered alphabetically): write words ({', '.join(EMOTIONS)})"
        )
    raise InputError(f"{where}: label {text!r} is none of AffectNet's; expected {', '.join(CODES)}")


def _quality(text: str) -> dict[str, float]:
    with suppress(ValueError):
        value = float(text)
        return {"relFCs": value} if math.isfinite(value) else {}  # pandas writes what it has not as nan
    return {}


def _is_root(place: str) -> bool:
    names = names_in(place)
    if not names.isdisjoint(_FOLDERS) or (not names.isdisjoint(SETS) and sets_in(place)):
        return True
    lists = [file_in(place, name) for name in _LISTS if name in names]
    copy = file_in(place, "labels.csv") if "labels.csv" in names else None
    return any(path and _is_list(path) for path in lists) or bool(copy and _is_copy(copy))


_TRAIN = (24882, 3750, 3803, 6378, 134415, 74874, 25459, 14090)
_VAL = (500, 499, 500, 500, 500, 500, 500, 500)


def _expected(release: str, split: str, words: tuple[str, ...], counts: tuple[int, ...], sure: bool = True) -> Expected:
    return Expected(
        f"{split}, {f'{len(words)} classes' if len(words) > 1 else words[0]}",
        sum(counts),
        dict(zip(words, counts, strict=True)) if len(words) > 1 else {},
        lambda sample: sample.extra.get("release") == release and sample.split == split and sample.label in words,
        sure=sure,
        form=release,
    )


DATABASE = Database(
    name="affectnet",
    title="AffectNet",
    size="some 440,000 photos labelled by people; 291,650 in 8 classes",
    labels=(*EMOTIONS, "none", "uncertain"),
    identity="none",
    licence="non-commercial research, on request of faculty or lab heads",
    url="https://mohammadmahoor.com/pages/databases/affectnet/",
    citation="Mollahosseini, Hasani, Mahoor, AffectNet, IEEE Transactions on Affective Computing 2019",
    is_root=_is_root,
    read=read_affectnet,
    sheet=(
        _expected("2021", "train", EMOTIONS, _TRAIN),
        _expected("2021", "val", EMOTIONS, _VAL, sure=False),
        _expected("lists", "train", EMOTIONS, _TRAIN),
        _expected("lists", "train", ("none",), (33088,)),
        _expected("lists", "train", ("uncertain",), (11645,)),
        _expected("lists", "val", CODES[:10], (500,) * 10, sure=False),
    ),
    marker="Manually_Annotated* folders, training.csv or validation.csv, train_set or val_set, or a labels.csv with "
    "the column relFCs",
)
