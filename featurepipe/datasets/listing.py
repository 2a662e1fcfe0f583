"""What readers of databases share: official names in any case and folder, copies, markers, and small text files.

A reader lists its root once (folder.list_files), takes the photos by name (by_name), tells what is left (misnamed)
and ends with left_out for its notes.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple, TypeVar

from featurepipe.datasets.folder import EXTENSIONS, Listing
from featurepipe.datasets.source import Skipped
from featurepipe.errors import InputError
from featurepipe.files import printable

MAX_TEXT = 16 << 20
"""Bytes that a list, sheet or README may have: the largest official one has under a tenth of it."""

_REASONS = 4
"""Reasons that a note on files that were left out gives, at most."""

_LOOK_AT = 2000
"""Entries that a marker looks at below one folder, at most."""

_BESIDE, _LOOK_AT_BESIDE = 8, 500
"""Folders that it could not reach which it looks into all the same, and entries that it looks at below each."""


class Named(NamedTuple):
    """A file with an official name.

    Parameters
    ----------
    path : opens from the working directory
    place : path below the root with "/" between the parts
    match : of the official name
    """

    path: str
    place: str
    match: re.Match[str]


def by_name(listing: Listing, files: Iterable[str], pattern: str, rest: list[str]) -> Iterator[Named]:
    """Yield the files (listing.photos or .others) whose path without extension ends in `pattern`; others go to `rest`.

    `pattern` must match the whole name, or the whole of the last parts of the path if it has a "/" in it, in any
    case. Nothing is kept here: a million files cost what the caller keeps.
    """
    tail = _tail(pattern)
    for place in files:
        match = tail.fullmatch(os.path.splitext(place)[0])
        if match is None:
            rest.append(place)
        else:
            yield Named(listing.path(place), place, match)


def misnamed(listing: Listing, rest: Iterable[str], expected: str) -> list[Skipped]:
    """Files without an official name, which is `expected`, as left out."""
    return [Skipped(listing.path(place), "misnamed", f"no official name; expected {expected}") for place in rest]


def without_copies(
    files: Iterable[Named], key: Callable[[re.Match[str]], Hashable], skipped: list[Skipped]
) -> Iterator[Named]:
    """Yield the first file of each `key`; later ones (sorted copies, conversions to JPEG) go to `skipped`."""
    seen = set()
    for file in files:
        what = key(file.match)
        if what in seen:
            skipped.append(Skipped(file.path, "extra", "a copy of another file under the same name"))
        else:
            seen.add(what)
            yield file


def holes(found: Collection[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Cells that are missing from a full grid, whose axes are the values found: a copy of one view lacks no other.

    >>> holes({("F01", "happy"), ("F01", "sad"), ("F02", "sad")})
    [('F02', 'happy')]
    """
    if not found:
        return []
    axes = [sorted(set(values)) for values in zip(*found, strict=True)]
    return [cell for cell in itertools.product(*axes) if cell not in found]


def left_out(skipped: Iterable[Skipped]) -> list[str]:
    """One note for each kind of file that was left out: how many, and why, with the first of them."""
    kinds: dict[str, list[Skipped]] = {}
    for one in skipped:
        kinds.setdefault(one.kind, []).append(one)
    return [
        f"{len(ones)} {kind} {'file' if len(ones) == 1 else 'files'}{'' if kind == 'missing' else ' left out'} "
        f"({_reasons(ones)})"
        for kind, ones in sorted(kinds.items())
    ]


def _reasons(ones: Sequence[Skipped]) -> str:
    """The reason that all have and the first of them, or how many have each of the commonest reasons."""
    first = ("" if len(ones) == 1 else "first ") + printable(ones[0].path)
    whys = Counter(one.why for one in ones).most_common(_REASONS + 1)
    if len(whys) == 1:
        return f"{first}: {ones[0].why}"
    shown = "; ".join(f"{count} {why}" for why, count in whys[:_REASONS])
    return f"{shown}{'; ...' if len(whys) > _REASONS else ''}; {first}"


_memory: ContextVar[dict[tuple[str, str], Any] | None] = ContextVar("_memory", default=None)

T = TypeVar("T")


@contextmanager
def looking_once() -> Iterator[None]:
    """While this lasts a folder is listed once, however many markers ask for it: nothing may change there meanwhile."""
    token = _memory.set({})
    try:
        yield
    finally:
        _memory.reset(token)


def _once(look: Callable[[str], T]) -> Callable[[str], T]:
    """Let `look` remember its answer for a folder while looking_once lasts; callers must leave the answer as it is."""

    @wraps(look)
    def remembering(folder: str) -> T:
        memory = _memory.get()
        if memory is None:
            return look(folder)
        key = (look.__name__, folder)
        if key not in memory:
            memory[key] = look(folder)
        answer: T = memory[key]
        return answer

    return remembering


def file_in(folder: str, name: str) -> str | None:
    """Path of the file `name`, in any case, directly in `folder`, or None."""
    path = _child(folder, name)
    return path if path and os.path.isfile(path) else None


def _child(folder: str, name: str) -> str | None:
    """Path of what has `name` in `folder`: spelled so, or else the first spelled so in another case."""
    exact = os.path.join(folder, name)
    if os.path.lexists(exact):
        return exact
    spelled = _spelled(folder).get(name.casefold())
    return os.path.join(folder, spelled) if spelled is not None else None


def names_in(folder: str) -> frozenset[str]:
    """Names directly in `folder`, casefolded, for markers; none where it is no folder or has no listing."""
    return frozenset(_spelled(folder))


@_once
def _spelled(folder: str) -> dict[str, str]:
    """{name, casefolded: name as it is spelled} directly in `folder`; the first where several differ in case alone."""
    try:
        return {name.casefold(): name for name in sorted(os.listdir(folder), reverse=True)}
    except OSError:
        return {}


def photos_in(folder: str) -> dict[str, str]:
    """{name without extension: name} of the photos directly in `folder`, sorted by name; empty where it has no listing.

    Of photos that differ in the extension alone the first counts. Only names are looked at.
    """
    photos: dict[str, str] = {}
    for entry in _entries(folder):
        stem, extension = os.path.splitext(entry.name)
        if extension.lower() in EXTENSIONS:
            photos.setdefault(stem, entry.name)
    return photos


def read_lines(path: str) -> list[str]:
    """Lines of a small text file, in UTF-8 with or without BOM; bytes that are not become the replacement character.

    Raises
    ------
    InputError : the file cannot be read, or has more than MAX_TEXT bytes
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_TEXT + 1)
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {error.strerror}") from error
    if len(content) > MAX_TEXT:
        raise InputError(f"{printable(path)} has more than {MAX_TEXT >> 20} MiB: no official text file is that long")
    return content.decode("utf-8-sig", errors="replace").splitlines()


def subfolder(folder: str, name: str) -> str | None:
    """Path of the folder `name`, in any case, directly below `folder`, or None."""
    path = _child(folder, name)
    return path if path and os.path.isdir(path) else None


def subfolders(folder: str) -> dict[str, str]:
    """Folders directly below `folder`, by their names in lower case; none where it cannot be listed."""
    return {os.path.basename(path).lower(): path for path in folders_in(folder)}


@_once
def folders_in(folder: str) -> tuple[str, ...]:
    """Paths of the folders directly below `folder`, by name, without hidden ones; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted((entry.path for entry in entries if _is_folder(entry)), key=os.fsencode))
    except OSError:
        return ()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or leads to one, and is no litter. entry.is_dir() would raise on a link to itself."""
    if entry.name.startswith((".", "__MACOSX")):
        return False
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def mostly_named(folder: str, pattern: str, counts: Callable[[re.Match[str]], bool] = bool) -> bool:
    """Whether most of the photos in and below `folder` have names as in by_name: a marker for flat and sorted copies.

    Of names that match `pattern`, those count for which `counts` is true.
    Where those with such names are all in one folder here, and others are beside it, that folder is the copy and not
    this one. Breadth first, a bounded number of entries: a huge folder costs no more than a small one.
    """
    tail = _tail(pattern)
    photos = _some_photos(folder)
    named = [place for place in photos if (match := tail.fullmatch(place)) and counts(match)]
    places = {place.partition("/")[0] for place in named if "/" in place}
    below = len(places) == 1 and all("/" in place for place in named)
    beside = any("/" not in place or place.partition("/")[0] not in places for place in photos)
    return 2 * len(named) > len(photos) and not (below and beside)


def some_photos(folder: str) -> int:
    """How many photos are in and below `folder`, of a bounded number of entries: for markers of clips."""
    return len(_some_photos(folder))


def any_named(folder: str, pattern: str) -> bool:
    """Whether any of the photos that mostly_named looks at has a name as in by_name."""
    tail = _tail(pattern)
    return any(tail.fullmatch(place) for place in _some_photos(folder))


@_once
def _some_photos(folder: str) -> tuple[str, ...]:
    """Paths without extension, of the photos of _some_files."""
    parts = map(os.path.splitext, _some_files(folder))
    return tuple(stem for stem, extension in parts if extension.lower() in EXTENSIONS)


def _tail(pattern: str) -> re.Pattern[str]:
    return re.compile(f"(?:.*/)?(?:{pattern})", re.IGNORECASE | re.DOTALL)


def _some_files(root: str) -> list[str]:
    """Paths below root, "/" between the parts, of the first files in and below it.

    Where a large folder leaves nothing for those beside it, a few files of some of them are there too.
    """
    files, unlisted = _first_files(root, "", _LOOK_AT)
    reached = {place.partition("/")[0] for place in files}
    beside = dict.fromkeys(folder for place in unlisted if (folder := place.partition("/")[0]) not in reached)
    for folder in itertools.islice(beside, _BESIDE):
        files += _first_files(root, folder, _LOOK_AT_BESIDE)[0]
    return files


def _first_files(root: str, start: str, left: int) -> tuple[list[str], list[str]]:
    """The first files in and below the folder `start` of root, of `left` entries, and the folders left unlisted."""
    files: list[str] = []
    folders = [start]
    while folders and left > 0:
        folder = folders.pop(0)
        for entry in _entries(os.path.join(root, folder), left):
            left -= 1
            place = f"{folder}/{entry.name}" if folder else entry.name
            (folders if _is_folder(entry) else files).append(place)
    return files, folders


def _entries(folder: str, limit: int | None = None) -> list[os.DirEntry[str]]:
    """Entries of a folder (at most `limit`) by name, without hidden ones and __MACOSX; none where it has no listing."""
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not entry.name.startswith((".", "__MACOSX")))
            kept = list(itertools.islice(shown, limit))
    except OSError:
        return []
    return sorted(kept, key=lambda entry: os.fsencode(entry.name))
