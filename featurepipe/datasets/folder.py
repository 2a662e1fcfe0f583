"""Folders of photos: flat, a folder per class, or splits above or below class folders (datasets.md G1, G2, G10)."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from featurepipe.datasets.source import Source, split_of
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.labels import canonical
from featurepipe.records import CLIPS, Sample

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm")
)
"""Names that end so, in any case, are photos."""

_LITTER = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
_MAX_WRAPPERS = 3
_LARGEST_CODE = 10
"""AffectNet's codes end here; greater numbers are years, days or people."""


@dataclass(frozen=True)
class Listing:
    """Photos found under a folder.

    Parameters
    ----------
    root : the folder as it was given
    photos : paths below root with "/" between the parts, sorted byte by byte; a dangling link is a photo too
    notes : what else was there
    others : files that are no photos by their names, written and sorted as `photos`
    """

    root: str
    photos: list[str]
    notes: list[str]
    others: list[str] = field(default_factory=list)

    def path(self, photo: str) -> str:
        """Path of one of `photos` or `others` that opens from the working directory."""
        return os.path.join(self.root, photo.replace("/", os.sep))


def list_photos(root: str) -> Listing:
    """All photos at any depth below `root`, in an order that does not depend on the file system.

    Litter and hidden files are ignored. Links to folders are followed, and each folder is read once, at its real
    place if that lies below root: loops end.

    Raises
    ------
    InputError : root cannot be listed, or no photo is in it
    """
    walk = _Walk(root)
    walk.run()
    if not walk.photos:
        raise InputError(_nothing_found(root, walk))
    return Listing(root, sorted(walk.photos, key=os.fsencode), walk.notes())


def list_files(root: str) -> Listing:
    """As list_photos, with the files that are no photos in `others` instead of in `notes`, and perhaps without photos.

    Raises
    ------
    InputError : root cannot be listed
    """
    walk = _Walk(root)
    walk.run()
    photos, others = (sorted(files, key=os.fsencode) for files in (walk.photos, walk.others))
    return Listing(root, photos, walk.trouble(), others)


def count_pictures(root: str, outside: Sequence[str] = ()) -> int:
    """Photos and clips in and below `root`, by their names; folders that are `outside` of the count are not listed.

    Raises
    ------
    InputError : root cannot be listed
    """
    walk = _Walk(root, outside)
    walk.run()
    return len(walk.photos) + sum(1 for name in walk.others if name.lower().endswith(CLIPS))


def read_folder(source: str) -> Source:
    """Read a folder of photos, or a single photo; labels come from folder names where all of them are labels.

    Raises
    ------
    InputError : source is not there, cannot be listed, or holds no photo
    """
    if not os.path.isdir(source):
        return Source([Sample(source)], "folder", "photos")
    return read_listing(list_photos(source))


def refuse_codes(listing: Listing) -> None:
    """Refuse class folders that are named by codes: they would be read without labels.

    Raises
    ------
    InputError : every folder that could be a class is named by a small number, and there are several
    """
    words = label_layout(listing.photos).words
    if len(words) < 2 or not all(word.isdecimal() and int(word) <= _LARGEST_CODE for word in words):
        return
    raise InputError(
        f"{printable(listing.root)} has folders named {', '.join(words)}: codes of emotions differ between data sets "
        "(1 is disgust in FER2013, surprise in RAF-DB, happiness in AffectNet). Rename them to words (anger, contempt, "
        "disgust, fear, happiness, neutral, sadness, surprise), name labels in a CSV (path,label), or read the photos "
        "without labels with --dataset folder"
    )


def read_listing(listing: Listing) -> Source:
    """Samples of a folder that has been listed, labelled as `label_layout` tells."""
    layout = label_layout(listing.photos)
    samples = [_sample(listing, photo, layout) for photo in listing.photos]
    return Source(samples, "folder", "photos", listing.notes + layout.notes(samples))


@dataclass(frozen=True)
class Layout:
    """Where labels and splits stand in the path of a photo.

    `splits` and `classes` say which of its folders, from 0, names the split and the class; None where none does.
    `words` are the folder names that are no labels, where there are such.
    """

    splits: int | None
    classes: int | None
    words: tuple[str, ...] = ()

    def notes(self, samples: Sequence[Sample]) -> list[str]:
        """What a user should know about the labels that this layout gave to `samples`."""
        if self.classes is None:
            return [_unlabelled(self.words)] if self.words else []
        notes = []
        if loose := sum(1 for sample in samples if sample.label is None):
            notes.append(f"{loose} photos lie outside the class folders: they are unlabelled")
        whole = sum(1 for sample in samples if sample.label is not None and sample.split is None)
        if whole and self.splits is not None:
            notes.append(f"{whole} photos lie outside the split folders: they are of no split")
        return notes


def label_layout(photos: Sequence[str]) -> Layout:
    """Tell the layout of `photos` (paths as in Listing). Class folders count only if every one of them is a label."""
    folders = [photo.split("/")[:-1] for photo in photos]
    skip = _wrappers(folders)
    splits = split_place(folders)
    depth = skip + 1 if splits == skip else skip
    words = sorted(_words_at(folders, depth))
    strange = tuple(word for word in words if canonical(word) is None)
    if not words or strange:
        return Layout(None, None, strange)
    return Layout(splits, depth)


def split_place(folders: Collection[Sequence[str]]) -> int | None:
    """Which part of `folders`, from 0, names the split: the first that is no wrapping, or the one below class folders.

    `folders` are the parts of the folders of photos. Every name at that place must be a split's; None where it is not.
    """
    place = _wrappers(folders)
    words = _words_at(folders, place)
    if words and all(canonical(word) for word in words):
        place, words = place + 1, _words_at(folders, place + 1)
    return place if words and all(split_of(word) for word in words) else None


def _words_at(folders: Collection[Sequence[str]], place: int) -> set[str]:
    return {parts[place] for parts in folders if len(parts) > place}


def label_parts(layout: Layout, photo: str) -> tuple[str | None, str | None]:
    """(split, name of the class folder) of one photo, None where the layout gives none."""
    folders = photo.split("/")[:-1]
    split, word = (
        folders[place] if place is not None and len(folders) > place else None
        for place in (layout.splits, layout.classes)
    )
    return split_of(split) if split is not None else None, word


def _sample(listing: Listing, photo: str, layout: Layout) -> Sample:
    split, word = label_parts(layout, photo)
    label = canonical(word) if word is not None else None
    return Sample(listing.path(photo), label=label, raw_label=word, split=split)


def _wrappers(folders: Collection[Sequence[str]]) -> int:
    """How many folders wrap all photos without saying anything: X/X/..., or images/ (at most three)."""
    for depth in range(_MAX_WRAPPERS):
        words = {parts[depth] if len(parts) > depth else None for parts in folders}
        word = words.pop()
        if words or word is None or split_of(word) or canonical(word):
            return depth
    return _MAX_WRAPPERS


def _unlabelled(words: Sequence[str]) -> str:
    shown = ", ".join(printable(word) for word in words[:5]) + (", ..." if len(words) > 5 else "")
    why = (
        "their numbering differs between data sets"
        if all(word.isdecimal() for word in words)
        else "labels are read from folders only where every folder is one"
    )
    return f"unlabelled: folder names {shown} are no known emotions, and {why}; name labels in a CSV (path,label)"


def _nothing_found(root: str, walk: _Walk) -> str:
    looked_for = f"no photos in {printable(root)}: looked at any depth for {' '.join(sorted(EXTENSIONS))}"
    return "; ".join([looked_for, *walk.notes()])


class _Walk:
    """One walk over a folder: real folders first, then those that only links lead to."""

    def __init__(self, root: str, outside: Sequence[str] = ()) -> None:
        self.root = root
        self.photos: list[str] = []
        self.others: list[str] = []
        self._special = 0
        self._unlisted: list[str] = []
        self._seen = {(status.st_dev, status.st_ino) for status in map(os.stat, outside)}
        self._links: list[str] = []

    def run(self) -> None:
        """Fill `photos` and `others` with paths below root, in any order."""
        self._descend("")
        while self._links:
            links, self._links = sorted(self._links, key=os.fsencode), []
            for link in links:
                self._descend(link)

    def notes(self) -> list[str]:
        """What was found beside photos."""
        notes = []
        if self.others:
            notes.append(f"{len(self.others)} files are no photos by their names ({_kinds(self.others)})")
            notes += self._tables() + self._films()
        return notes + self.trouble()

    def trouble(self) -> list[str]:
        """What could not be looked at."""
        notes = []
        if self._special:
            notes.append(f"{self._special} names of photos are pipes, sockets or devices: not opened")
        if self._unlisted:
            shown = ", ".join(printable(name) for name in sorted(self._unlisted)[:3])
            notes.append(f"{len(self._unlisted)} folders could not be listed ({shown})")
        return notes

    def _tables(self) -> list[str]:
        """A hint where labels or pixels may be: files of a reader that takes single files."""
        tables = sorted(name for name in self.others if name.lower().endswith((".csv", ".npz")))
        shown = ", ".join(printable(os.path.join(self.root, name)) for name in tables[:3])
        return [f"if {shown} holds the labels or pixels, give that file as SOURCE"] if tables else []

    def _films(self) -> list[str]:
        """A hint where films are, whose frames nobody may have meant."""
        count = sum(name.lower().endswith(CLIPS) for name in self.others)
        how = "give one as SOURCE for every frame of it, or name frames in a CSV (path,frame)"
        return [f"{count} of them are films: {how}"] if count else []

    def _descend(self, folder: str) -> None:
        pending = [folder]
        while pending:
            pending.extend(self._list(pending.pop()))

    def _list(self, folder: str) -> list[str]:
        """Sort out the entries of one folder; returns the real folders in it."""
        path = os.path.join(self.root, folder)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in self._seen:
                return []
            self._seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                return [name for entry in entries if (name := self._entry(folder, entry))]
        except OSError as error:
            if not folder:
                raise InputError(f"{printable(self.root)} cannot be listed: {error.strerror}") from error
            self._unlisted.append(folder)
            return []

    def _entry(self, folder: str, entry: os.DirEntry[str]) -> str | None:
        """File one entry away; returns its path if it is a real folder."""
        if entry.name.startswith(".") or entry.name.lower() in _LITTER:
            return None
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir(follow_symlinks=False):
            return name
        kind = _kind_behind(entry.path)
        if stat.S_ISDIR(kind):
            self._links.append(name)
        elif os.path.splitext(entry.name)[1].lower() not in EXTENSIONS:
            self.others.append(name)
        elif stat.S_ISREG(kind) or kind == 0:
            self.photos.append(name)
        else:
            self._special += 1
        return None


def _kinds(names: Sequence[str]) -> str:
    """The commonest extensions of `names` with their counts."""
    kinds = Counter(os.path.splitext(name)[1].lower() or "without extension" for name in names)
    order = sorted(kinds, key=lambda kind: (-kinds[kind], os.fsencode(kind)))
    return ", ".join([f"{kinds[kind]} {printable(kind)}" for kind in order[:5]] + ["..."] * (len(order) > 5))


def _kind_behind(path: str) -> int:
    """File type bits of what `path` leads to; 0 where it leads nowhere (a dangling link, or one to itself)."""
    try:
        return stat.S_IFMT(os.stat(path).st_mode)
    except OSError:
        return 0
