"""The two append-only stores of a feature table: boxes per content, and vectors per face.

Each store is a folder of parts. A part's Parquet file is renamed into place last and is the mark that the part is
whole; what a killed writer leaves behind is swept away by the next one (`sweep`).
"""

from __future__ import annotations

import errno
import json
import os
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurepipe.errors import InputError, TableError
from featurepipe.files import NPY_DAMAGE, digest_of, read_json, replacing, write_json
from featurepipe.records import Face, Policy, largest_of_each

BOX = ("left", "top", "right", "bottom")

FAILURES = ("unreadable", "too_large")
"""Statuses that are kept of a content, but hold only for the decoders and limits that it was read with."""

_FACE = pa.struct([*((side, pa.int32()) for side in BOX), ("score", pa.float64()), ("turn", pa.int32())])
_FACES_SCHEMA = pa.schema(
    [("content", pa.string()), ("status", pa.string()), ("error", pa.string()), ("faces", pa.list_(_FACE))]
)
_READ_WITH = b"read_with"
_VECTORS_SCHEMA = pa.schema(
    [
        ("content", pa.string()),
        ("face", pa.int32()),
        *((side, pa.int32()) for side in BOX),
        ("margin", pa.float64()),
    ]
)


_State = tuple[int, int]
_Keys = tuple[Path, _State, pa.Table]
_Part = TypeVar("_Part")


class DamagedPart(TableError):
    """A part of a store cannot be read; `path` is its Parquet file. Extract recomputes it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason}). Run extract on this table again: it removes the damaged part and "
            "computes its faces anew; everything else is kept"
        )
        self.path = path


class VanishedPart(TableError):
    """A part that was listed has gone or is another one: a writer has pruned or mended the store. Read it again."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} has gone while it was read: another process prunes or mends this table. Run the command again "
            "when that is done"
        )


class Found(NamedTuple):
    """What the face stage answered for one content: status, error, and all faces in the detector's order."""

    status: str
    error: str
    faces: tuple[Face, ...]


class ChosenFaces(NamedTuple):
    """Faces of several contents, row by row.

    owner : (k,) int64, which of the contents
    face : (k,) int64, index among that content's faces
    box : (k, 4) int64
    score : (k,) float64
    turn : (k,) int64
    """

    owner: np.ndarray
    face: np.ndarray
    box: np.ndarray
    score: np.ndarray
    turn: np.ndarray


class CutFace(NamedTuple):
    """A face that has a vector: content, index among the photo's faces, box, margin of its crop."""

    content: str
    face: int
    box: Face
    margin: float

    @property
    def key(self) -> str:
        """What the vector is stored under. The face's index is not part of it: other detectors count otherwise."""
        return face_key(self.content, self.box.left, self.box.top, self.box.right, self.box.bottom, self.margin)


def face_key(content: str, left: int, top: int, right: int, bottom: int, margin: float) -> str:
    """Key of a vector: content, box and margin, so that crops cut in two ways never mix."""
    return f"{content}|{left},{top},{right},{bottom}|{float(margin)!r}"  # read back, 0 is 0.0


def store_folder(parent: Path, name: str, recipe: Mapping[str, Any]) -> Path:
    """Where the store of a recipe lies: `<name>-<first 8 hex digits of the recipe's digest>`."""
    return parent / f"{name}-{digest_of(dict(recipe))[:8]}"


def make_store(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Make a store's folder with its recipe.json, sweep what a killed writer left. Only under the table's lock."""
    if not (folder / "recipe.json").exists():
        with disk(folder):
            write_json(folder / "recipe.json", dict(recipe))
    sweep(folder)


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe that a store was made with.

    Raises
    ------
    TableError : recipe.json is missing, cannot be read, or is not JSON
    """
    try:
        recipe: dict[str, Any] = read_json(folder / "recipe.json")
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise _unreadable(folder / "recipe.json", error) from error
        raise TableError(
            f"{folder / 'recipe.json'} cannot be read ({error}): without it nobody knows how {folder} was made. "
            "Delete that folder and run extract again"
        ) from error
    return recipe


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns what the disk refuses while `path` is written into a TableError."""
    try:
        yield
    except OSError as error:
        raise TableError(
            f"cannot write {path} ({error}): make room or choose another table folder, and run the command again; "
            "what was written before is kept"
        ) from error


def sweep(folder: Path) -> None:
    """Remove temporary files, and .npy files whose Parquet never came."""
    names = _names(folder)  # one listing: a disk that stops answering in between costs nothing
    for name in sorted(names):
        stray = name.startswith(".") and name.endswith(".tmp")
        orphan = name.startswith("part-") and name.endswith(".npy") and f"{name[:-4]}.parquet" not in names
        if stray or orphan:
            (folder / name).unlink()


class _Store(ABC):
    """A folder of parts, each read when the store is opened."""

    @abstractmethod
    def __init__(self, folder: Path, parts: Iterable[Any]) -> None: ...

    @staticmethod
    @abstractmethod
    def _part(path: Path) -> Any:
        """What is read of the part whose Parquet file is `path`. Raises as `open`."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read all parts (of vectors their keys, and whether the files are whole); an absent folder is an empty store.

        Raises
        ------
        DamagedPart : what a part holds is damaged, or its files do not fit together
        VanishedPart : a part went while the store was read
        TableError : this machine cannot read a part now
        """
        return cls(folder, (cls._part(path) for path in _parts(folder)))

    @classmethod
    def repaired(cls, folder: Path) -> tuple[Self, list[str]]:
        """Open for writing: damaged parts are removed, and the notes say which. Only under the table's lock.

        Raises
        ------
        TableError : this machine cannot read a part now; nothing is removed for that
        """
        damaged: list[Path] = []
        store = cls(folder, _whole(folder, cls._part, damaged))
        return store, [_remove_part(path) for path in damaged]


class FaceStore(_Store):
    """Boxes and scores per content, for one box recipe (detector, its weights, max side).

    Failures that are a property of the content (no_face, unreadable, too_large) are stored too, so that a rerun
    does not decode those photos again, until `forget_failures`.
    """

    def __init__(self, folder: Path, tables: Iterable[pa.Table]) -> None:
        self.folder = folder
        self._row_of: dict[str, int] = {}
        self._answers: list[tuple[str, str]] = []
        self._parts: list[tuple[int, bytes | None]] = []  # of each its first row, and what its photos were read with
        # Boxes of all contents, one after the other; those of row r are ends[r] to ends[r + 1].
        ends: list[np.ndarray] = [np.zeros(1, np.int64)]
        boxes: list[np.ndarray] = [np.empty((0, 4), np.int32)]
        scores: list[np.ndarray] = [np.empty(0)]
        turns: list[np.ndarray] = [np.empty(0, np.int16)]
        for table in tables:
            column = table["faces"].combine_chunks()
            self._parts.append((len(self._answers), (table.schema.metadata or {}).get(_READ_WITH)))
            self._row_of |= {key: row for row, key in enumerate(table["content"].to_pylist(), len(self._answers))}
            self._answers += _interned(table)
            ends.append(ends[-1][-1] + column.value_lengths().to_numpy(zero_copy_only=False).cumsum())
            boxes.append(np.stack([column.flatten().field(side).to_numpy() for side in BOX], axis=1))
            scores.append(column.flatten().field("score").to_numpy())
            # Null in tables written before clips were read.
            turns.append(column.flatten().field("turn").fill_null(0).to_numpy().astype(np.int16))
        self._ends, self._boxes = np.concatenate(ends), np.concatenate(boxes)
        self._scores, self._turns = np.concatenate(scores), np.concatenate(turns)

    @staticmethod
    def _part(path: Path) -> pa.Table:
        return _read_faces(path)

    def __contains__(self, content: str) -> bool:
        return content in self._row_of

    def __getitem__(self, content: str) -> Found:
        row = self._row_of[content]
        here = slice(self._ends[row], self._ends[row + 1])
        cells = zip(*self._boxes[here].T.tolist(), self._scores[here].tolist(), self._turns[here].tolist(), strict=True)
        return Found(*self._answers[row], tuple(Face(*face) for face in cells))

    def rows(self, contents: Sequence[str | None]) -> np.ndarray:
        """Where contents (n,) are: int64 (n,), -1 for those that are not here."""
        return _places(self._row_of, contents)

    def statuses(self, rows: np.ndarray) -> list[str]:
        """Status of each of the rows (n,)."""
        return [self._answers[row][0] for row in rows.tolist()]

    def chosen(self, rows: np.ndarray, policy: Policy) -> ChosenFaces:
        """The faces that `records.choose` selects of each of the rows (n,); it does so one photo at a time.

        Raises
        ------
        InputError : there is no such policy
        """
        if policy not in get_args(Policy):
            raise InputError(f"unknown policy {policy!r}: expected one of {', '.join(get_args(Policy))}")
        counts = self._ends[rows + 1] - self._ends[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        face = np.arange(len(owner)) - np.repeat(counts.cumsum() - counts, counts)
        here = self._ends[rows][owner] + face
        box = self._boxes[here].astype(np.int64)
        if policy == "largest":
            best = largest_of_each(owner, box, self._scores[here])
            owner, face, here, box = owner[best], face[best], here[best], box[best]
        return ChosenFaces(owner, face, box, self._scores[here], self._turns[here].astype(np.int64))

    def forget_failures(self, read_with: Mapping[str, Any]) -> None:
        """Leave out FAILURES of contents that were read otherwise than `read_with` says, or nobody knows how."""
        now = _read_with(read_with)
        failed = [(content, row) for content, row in self._row_of.items() if self._answers[row][0] in FAILURES]
        for content, row in failed:
            part = bisect_right(self._parts, row, key=itemgetter(0)) - 1
            if self._parts[part][1] != now:
                del self._row_of[content]

    def append(self, found: Mapping[str, Found], read_with: Mapping[str, Any] | None = None) -> None:
        """Write one part: what was found, by content. The open store does not see it: open it again.

        `read_with`, versions and limits that decide which photos can be read, goes into its metadata; None: not known.

        Raises
        ------
        TableError : the disk refuses
        """
        if not found:
            return
        columns = {
            "content": list(found),
            "status": [one.status for one in found.values()],
            "error": [one.error for one in found.values()],
            "faces": [[_box(face) for face in one.faces] for one in found.values()],
        }
        metadata = None if read_with is None else {_READ_WITH: _read_with(read_with)}
        schema = _FACES_SCHEMA.with_metadata(metadata)
        _write_parquet(_next_part(self.folder), pa.Table.from_pydict(columns, schema=schema))

    def prune(self, keep: set[str]) -> int:
        """Drop contents that are not in `keep`, part by part; how many rows went. Only under the table's lock.

        A part's remaining rows are written as a new part before the old one is removed. Killed in between, they are
        there twice: reading takes the later, and the next prune drops the earlier.
        """
        start = dropped = 0
        for path in _parts(self.folder):
            table = _read_faces(path)
            rows = enumerate(table["content"].to_pylist(), start)
            kept = [content in keep and self._row_of[content] == row for row, content in rows]
            dropped += _shrink(path, table, np.flatnonzero(kept))
            start += table.num_rows
        return dropped


class VectorStore(_Store):
    """Vectors of one feature recipe, in parts of `.npy` and row-aligned Parquet."""

    def __init__(self, folder: Path, parts: Iterable[_Keys]) -> None:
        self.folder = folder
        self._paths: list[Path] = []
        self._states: list[_State] = []
        self._row_of: dict[str, int] = {}
        starts = [0]
        for path, state, table in parts:
            self._paths.append(path)
            self._states.append(state)
            self._row_of |= {key: row for row, key in enumerate(_keys(table), starts[-1])}
            starts.append(starts[-1] + table.num_rows)
        self._starts = np.array(starts)

    @staticmethod
    def _part(path: Path) -> _Keys:
        return path, _state(path), _read_vectors(path)

    def __contains__(self, key: str) -> bool:
        return key in self._row_of

    def rows(self, contents: Iterable[str], boxes: np.ndarray, margin: float) -> np.ndarray:
        """Where the vectors of faces (n,) are: int64 (n,), -1 for those that are not here."""
        cut = zip(contents, *boxes.T.tolist(), repeat(margin))
        return _places(self._row_of, [face_key(*face) for face in cut])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of rows (n,), as (n, ...): a read-only view on the file where the rows follow one another in
        one part, else gathered into memory.

        Raises
        ------
        VanishedPart : a part went since the store was read, or its number was given to another one
        DamagedPart, TableError : as open
        """
        rows = np.asarray(rows, np.int64)
        if not len(rows):
            return self._empty()
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        if parts[0] == parts[-1] and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            start = rows[0] - self._starts[parts[0]]
            with self._unchanged(parts[0]):
                return _mapped(self._paths[parts[0]])[start : start + len(rows)]
        return self._gather(rows, parts)

    def append(self, vectors: np.ndarray, faces: Sequence[CutFace], made_with: Mapping[str, Any]) -> None:
        """Write one part: vectors (n, ...) and the n faces they belong to; `made_with` goes into its metadata.

        The open store does not see it: open it again.

        Raises
        ------
        TableError : the disk refuses
        """
        path = _next_part(self.folder)
        columns: dict[str, list[Any]] = {
            "content": [cut.content for cut in faces],
            "face": [cut.face for cut in faces],
            **{side: [getattr(cut.box, side) for cut in faces] for side in BOX},
            "margin": [cut.margin for cut in faces],
        }
        schema = _VECTORS_SCHEMA.with_metadata({"made_with": json.dumps(dict(made_with))})
        _write_array(path.with_suffix(".npy"), vectors)
        _write_parquet(path, pa.Table.from_pydict(columns, schema=schema))

    def prune(self, keep: set[str]) -> int:
        """Drop vectors of contents that are not in `keep`, as FaceStore.prune does; how many went."""
        dropped = 0
        for path, start in zip(self._paths, self._starts[:-1], strict=True):
            table = _read_vectors(path)
            rows = enumerate(zip(table["content"].to_pylist(), _keys(table), strict=True), start)
            kept = [content in keep and self._row_of[key] == row for row, (content, key) in rows]
            dropped += _shrink(path, table, np.flatnonzero(kept))
        return dropped

    def _gather(self, rows: np.ndarray, parts: np.ndarray) -> np.ndarray:
        with self._unchanged(parts[0]):
            first = _mapped(self._paths[parts[0]])
        gathered = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for part in np.unique(parts):
            here = np.flatnonzero(parts == part)
            with self._unchanged(part):
                _read_rows(self._paths[part], rows[here] - self._starts[part], gathered, here)
        return gathered

    @contextmanager
    def _unchanged(self, part: int) -> Iterator[None]:
        """Whatever was read of a part within, or failed, it is told where the part is no longer the one of its keys.

        Looked at afterwards: vectors are replaced only when the Parquet file beside them is gone.
        """
        try:
            yield
        finally:
            if _state(self._paths[part]) != self._states[part]:
                raise VanishedPart(self._paths[part])

    def _empty(self) -> np.ndarray:
        if not self._paths:
            return np.empty((0, 0), np.float32)
        with self._unchanged(0):
            return _mapped(self._paths[0])[:0]


def _read_with(read_with: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(read_with), sort_keys=True).encode()


def _places(row_of: Mapping[Any, int], keys: Iterable[str | None]) -> np.ndarray:
    return np.array([row_of.get(key, -1) for key in keys], np.int64)


def _keys(table: pa.Table) -> Iterator[str]:
    columns = [table[name].to_pylist() for name in ("content", *BOX, "margin")]
    return (face_key(*row) for row in zip(*columns, strict=True))


def _interned(table: pa.Table) -> list[tuple[str, str]]:
    """Status and error of each row; equal ones are one object, since there are few."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    pairs = zip(table["status"].to_pylist(), table["error"].to_pylist(), strict=True)
    return [seen.setdefault(pair, pair) for pair in pairs]


def _box(face: Face) -> dict[str, float]:
    return {**{side: getattr(face, side) for side in BOX}, "score": face.score, "turn": face.turn}


def _names(folder: Path) -> set[str]:
    """Names in a folder, none where it is absent. Raises TableError where it cannot be listed; glob finds none then."""
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise _unreadable(folder, error) from error


def _parts(folder: Path) -> list[Path]:
    return sorted(folder / name for name in _names(folder) if name.startswith("part-") and name.endswith(".parquet"))


def _next_part(folder: Path) -> Path:
    numbers = [int(match[1]) for path in _parts(folder) if (match := re.fullmatch(r"part-(\d+)\.parquet", path.name))]
    return folder / f"part-{max(numbers, default=-1) + 1:05d}.parquet"


def _read_faces(path: Path) -> pa.Table:
    table = _read_parquet(path, _FACES_SCHEMA)
    boxes = table["faces"].combine_chunks().flatten()
    if any(boxes.field(name).null_count for name in (*BOX, "score")):  # its footer, which has no checksum, is damaged
        raise DamagedPart(path, "a face has no box")
    return table


def _read_vectors(path: Path) -> pa.Table:
    table = _read_parquet(path, _VECTORS_SCHEMA)
    rows = len(_mapped(path))
    if rows != table.num_rows:
        raise DamagedPart(path, f"{rows} vectors for {table.num_rows} faces")
    return table


def _state(path: Path) -> _State:
    """Tells a part from another one of its number: those of parts that were pruned are given again."""
    with _reading(path, path):
        status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _unreadable(path: Path, error: Exception) -> TableError:
    return TableError(
        f"{path} cannot be read ({error or type(error).__name__}); nothing was removed. See to what keeps this machine "
        "from reading it (rights, limits of open files and memory, a disk or share that does not answer), and run the "
        "command again. If only this file stays so, delete it: extract computes anew what was in it"
    )


@contextmanager
def _reading(path: Path, file: Path) -> Iterator[None]:
    """Tells three cases apart while `file` is read, one of the two of the part whose Parquet file is `path`.

    What it holds is damaged: DamagedPart, and the next writer removes it. The part is gone: VanishedPart. This machine
    cannot read it now (rights, open files, memory, the disk): TableError, since it may well be whole.
    """
    try:
        yield
    except (pa.ArrowException, *NPY_DAMAGE) as error:
        if isinstance(error, FileNotFoundError) and (file == path or not path.exists()):
            raise VanishedPart(path) from error
        # Arrow's errors about what a file holds are OSErrors as well, without a number.
        refused = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)
        if refused or isinstance(error, MemoryError):
            raise _unreadable(file, error) from error
        raise DamagedPart(path, str(error) if file == path else f"{file.name}: {error}") from error


def _read_parquet(path: Path, schema: pa.Schema) -> pa.Table:
    with _reading(path, path):
        # Not pq.read_table: it loads pyarrow.dataset first, for folders of files, which takes 0.1 s.
        with pq.ParquetFile(path, memory_map=False, page_checksum_verification=True) as stream:
            table = stream.read(use_threads=False)  # parts are small: threads take half as long again
        if table.schema.names != schema.names:
            raise DamagedPart(path, f"its columns are {table.schema.names}, not {schema.names}")
        return table.cast(schema.with_metadata(table.schema.metadata))


def _mapped(path: Path) -> np.memmap:
    """The vectors of the part whose Parquet file is `path`, read-only on the disk."""
    vectors = path.with_suffix(".npy")
    with _reading(path, vectors):
        array: np.memmap = np.load(vectors, mmap_mode="r", allow_pickle=False)
        size = vectors.stat().st_size
    if array.ndim < 2 or array.offset + array.nbytes != size:  # a shorter array would be read from the wrong places
        raise DamagedPart(path, f"{vectors.name}: its header says {array.shape}, which {size} bytes do not hold")
    return array


def _read_rows(path: Path, rows: np.ndarray, into: np.ndarray, places: np.ndarray) -> None:
    """Read `rows` of a part into the rows `places` of an array.

    Rows that follow one another are read at once, from the disk to their place: through a mapping each page of 4 KiB
    is fetched by itself and then copied, which takes five times as long.
    """
    mapped = _mapped(path)
    begins = np.flatnonzero((np.diff(rows, prepend=-2) != 1) | (np.diff(places, prepend=-2) != 1))
    vectors = path.with_suffix(".npy")
    with _reading(path, vectors), open(vectors, "rb") as stream:
        for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
            run = into[places[begin] : places[begin] + end - begin]
            stream.seek(mapped.offset + int(rows[begin]) * mapped[0].nbytes)
            if stream.readinto(run.reshape(-1).data) != run.nbytes:
                raise DamagedPart(path, f"{path.stem}.npy has become shorter")


def _whole(folder: Path, read: Callable[[Path], _Part], damaged: list[Path]) -> Iterator[_Part]:
    """What `read` makes of each whole part; the others join `damaged`, to be removed once all parts could be read."""
    for path in _parts(folder):
        try:
            yield read(path)
        except DamagedPart:
            damaged.append(path)


def _remove_part(path: Path) -> str:
    _unlink_part(path)
    return f"{path} was damaged and is removed; its faces are computed again when they are needed"


def _shrink(path: Path, table: pa.Table, kept: np.ndarray) -> int:
    """Put a new part with the rows `kept` in the place of an old one; how many rows went."""
    if len(kept) == table.num_rows:
        return 0
    if len(kept):
        replacement = _next_part(path.parent)
        if path.with_suffix(".npy").exists():
            _write_array(replacement.with_suffix(".npy"), _mapped(path)[kept])
        _write_parquet(replacement, table.take(kept))
    _unlink_part(path)
    return table.num_rows - len(kept)


def _unlink_part(path: Path) -> None:
    # The mark goes first: killed in between, the .npy is swept away by the next writer.
    path.unlink()
    path.with_suffix(".npy").unlink(missing_ok=True)


def _write_array(path: Path, array: np.ndarray) -> None:
    with disk(path), replacing(path) as stream:
        np.save(stream, array, allow_pickle=False)


def _write_parquet(path: Path, table: pa.Table) -> None:
    with disk(path), replacing(path) as stream:
        pq.write_table(table, stream, write_page_checksum=True)
