"""The feature table: the current SOURCE, boxes and vectors in one folder, and the matrix read back from it.

table.json          format version; per feature store the two recipe halves of its last extract; the current one
samples.parquet     one row per sample of the last finished extract
faces/<detector>-<digest>/       boxes per content (FaceStore)
vectors/<backbone>-<digest>/     vectors per face (VectorStore)
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurepipe.errors import TableError
from featurepipe.features.pixels import Pixels
from featurepipe.features.stores import (
    ChosenFaces,
    CutFace,
    FaceStore,
    VanishedPart,
    VectorStore,
    disk,
    make_store,
    read_recipe,
    store_folder,
)
from featurepipe.files import printable, read_json, replacing, write_json
from featurepipe.recipe import FACE_KEYS, Half, box_recipe
from featurepipe.records import STATUSES, Policy, Sample, choose

FORMAT = 1

OWN = ("table.json", "samples.parquet", "faces", "vectors")
"""What a table's folder holds; names with a dot before them are its own too: the lock, and what is known of int8."""

_SAMPLES_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("path", "label", "raw_label", "subject", "split", "sequence")),
        ("frame", pa.int64()),
        *((name, pa.string()) for name in ("content", "status", "error", "role", "extra", "origin")),
    ]
)
_OF_SAMPLE = ("path", "label", "raw_label", "subject", "split", "sequence", "frame", "role", "origin")
_OF_ROW = ("content", "status", "error")
_ROW_GROUP = 2048
_ADDED_LATER = ("role", "extra", "origin")
_SCAN_FAILURES = ("missing", "unreadable", "too_large")
_READS = 3
"""How often a reader lists the parts anew where a writer has taken one away meanwhile."""


@dataclass(frozen=True)
class SampleRow:
    """A sample as samples.parquet holds it: `content` is None where the file could not be read."""

    sample: Sample
    content: str | None
    status: str
    error: str


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """A matrix of vectors, one row per face in the order of SOURCE, and what belongs to each row.

    Attributes
    ----------
    X : (n, d) float32, or uint8 (n, *shape) for a store of crops; read-only where it is a view on the file
    path, content : str (n,), dtype object
    label, subject, split, sequence, role, origin : str or None (n,), dtype object
    frame : int or None (n,), dtype object: the frame's number in its sequence or clip
    sample : int64 (n,), row in `FeatureTable.samples()`
    face : int64 (n,), index among the photo's faces
    box : int64 (n, 4), left, top, right, bottom; right and bottom inclusive
    score : float64 (n,), the detector's own
    turn : int64 (n,), degrees clockwise by which the photo was turned before it shows the face in its box
    coverage : number of samples of SOURCE per status; every sample counts once
    feature_half, face_half : the recipe of these vectors
    """

    X: np.ndarray
    path: np.ndarray
    content: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    split: np.ndarray
    sequence: np.ndarray
    role: np.ndarray
    origin: np.ndarray
    frame: np.ndarray
    sample: np.ndarray
    face: np.ndarray
    box: np.ndarray
    score: np.ndarray
    turn: np.ndarray
    coverage: dict[str, int]
    feature_half: dict[str, Any]
    face_half: dict[str, Any]

    def __len__(self) -> int:
        return len(self.path)

    def __repr__(self) -> str:
        return f"Features({' x '.join(map(str, self.X.shape))}, {self.feature_half['backbone']})"


class FeatureTable:
    """A finished feature table, for reading.

    Needs no lock: parts and files are replaced whole, and where a writer that prunes or mends takes a part away while
    it is read, the parts are listed once more.

    >>> import featurepipe
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = featurepipe.vectors([np.zeros((80, 80), np.uint8)], folder, backbone="hog", detector="none")
    ...     FeatureTable.open(folder).matrix().X.shape
    (1, 1764)
    """

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path = path
        self._document = document

    def __repr__(self) -> str:
        try:
            with pq.ParquetFile(self.path / "samples.parquet") as stream:
                count = str(stream.metadata.num_rows)
        except (pa.ArrowException, OSError):  # to print a table must not fail
            count = "unreadable"
        return f"FeatureTable({str(self.path)!r}, {count} photos)"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FeatureTable:
        """Open the table in a folder.

        Raises
        ------
        TableError : no table is there, no extract has finished on it, or it is of an unknown format
        """
        folder = Path(path)
        document = _read_document(folder)
        if document is None:
            raise TableError(f"{folder} is not a feature table: make one with `extract SOURCE --table {folder}`")
        if document["current"] is None:
            raise TableError(f"no extract has finished on {folder} yet: run extract again, it continues")
        return cls(folder, document)

    @property
    def feature_half(self) -> dict[str, Any]:
        """The feature half of the last extract."""
        half: dict[str, Any] = self._document["features"][self._document["current"]]["feature_half"]
        return half

    @property
    def face_half(self) -> dict[str, Any]:
        """The face half of the last extract."""
        half: dict[str, Any] = self._document["features"][self._document["current"]]["face_half"]
        return half

    def stores(self) -> list[str]:
        """Names of the vector stores that a finished extract has written, the current one first."""
        current = self._document["current"]
        return [current, *sorted({*self._document["features"]} - {current})]

    def samples(self) -> pa.Table:
        """The current SOURCE: one row per sample with path, label, raw_label, subject, split, sequence, frame,
        content, status, error, role, extra, origin.

        `extra` is a JSON object as text, null where it is empty. Role, extra and origin are null in tables from before
        they were kept: the next extract fills them in.

        Raises
        ------
        TableError : samples.parquet is missing or damaged
        """
        return _read_samples(self.path)

    def matrix(
        self,
        features: str | Half | None = None,
        face_half: Half | None = None,
        policy: Policy | None = None,
        most: int | None = None,
    ) -> Features:
        """The vectors of the current SOURCE with row-aligned labels and subjects.

        Parameters
        ----------
        features : which vectors: a backbone's name, a store's name (`stores()`), or a whole feature half; None:
            those of the last extract, passing over crops that a CNN has left there
        face_half : which faces; None: those of the last extract with these features
        policy : `largest` or `all`; None: that of the face half
        most : read no more faces than that, evenly spread over all; None: all

        Raises
        ------
        InputError : there is no such policy
        TableError : such vectors are not there or not for every photo, the choice is ambiguous, or a part is
            damaged or cannot be read
        """
        entry = self._document["features"][self._store_named(features)]
        face_half = dict(entry["face_half"] if face_half is None else face_half)
        face_half["policy"] = face_half["policy"] if policy is None else policy
        for _ in range(_READS - 1):
            with suppress(VanishedPart):
                return _matrix(self.path, self.samples(), entry["feature_half"], face_half, most)
        return _matrix(self.path, self.samples(), entry["feature_half"], face_half, most)

    def _store_named(self, features: str | Half | None) -> str:
        if features is None:
            return self._last_vectors()
        entries = self._document["features"]
        if isinstance(features, str):
            found = [name for name in self.stores() if features in (name, entries[name]["feature_half"]["backbone"])]
        else:
            found = [name for name in self.stores() if entries[name]["feature_half"] == dict(features)]
        if len(found) != 1:
            what = "does not hold" if not found else "holds more than one store of"
            raise TableError(f"{self.path} {what} {features!r}: choose one of {', '.join(self.stores())}")
        return found[0]

    def _last_vectors(self) -> str:
        stores = self.stores()
        vectors = [name for name in stores if not holds_crops(name)]
        if len(vectors) > 1 and holds_crops(stores[0]):
            raise TableError(f"{self.path} holds vectors of {', '.join(vectors)}: choose one of them")
        return stores[0] if not vectors or not holds_crops(stores[0]) else vectors[0]


def holds_crops(store: str) -> bool:
    """Whether a store, or a backbone, of this name is the crops that are kept for CNNs."""
    return store.partition("-")[0] == Pixels.name


class TableWriter:
    """The one writer of a table, inside `writing(...)`: holds the lock, repairs, appends, finishes."""

    def __init__(self, folder: Path, face_half: Half, feature_half: Half, read_with: Half) -> None:
        self.folder, self.read_with = folder, read_with
        self.face_half, self.feature_half = dict(face_half), dict(feature_half)
        faces, vectors = _face_folder(folder, face_half), _vector_folder(folder, feature_half)
        make_store(faces, box_recipe(face_half))
        make_store(vectors, self.feature_half)
        self.faces, face_notes = FaceStore.repaired(faces)
        self.vectors, vector_notes = VectorStore.repaired(vectors)
        self.faces.forget_failures(read_with)
        self.notes = [*face_notes, *vector_notes]

    def complete(self, content: str) -> bool:
        """Whether a content has its boxes, and vectors of all faces that the policy selects."""
        if content not in self.faces:
            return False
        margin = self.face_half["margin"]
        faces = self.faces[content].faces
        chosen = choose(faces, self.face_half["policy"])
        return all(CutFace(content, index, faces[index], margin).key in self.vectors for index in chosen)

    def finish(self, rows: Iterator[SampleRow]) -> None:
        """Put `rows` in the place of samples.parquet, then make this writer's recipe the current one."""
        document = _read_document(self.folder) or _new_document()
        name = self.vectors.folder.name
        document["features"][name] = {"face_half": self.face_half, "feature_half": self.feature_half}
        document["current"] = name
        with disk(self.folder):
            _write_samples(self.folder / "samples.parquet", rows)
            write_json(self.folder / "table.json", document)


@contextmanager
def writing(
    path: str | os.PathLike[str], face_half: Half, feature_half: Half, read_with: Half | None = None
) -> Iterator[TableWriter]:
    """Open or make a table for writing, as its only writer; photos that failed when they were read otherwise than
    `read_with` says are taken for not looked at.

    Raises
    ------
    TableError : another process writes to it, or the folder holds something else than a table
    """
    folder = Path(path)
    with locked(folder):
        if _read_document(folder) is None:
            with disk(folder):
                write_json(folder / "table.json", _new_document())
        yield TableWriter(folder, face_half, feature_half, read_with or {})


class Pruned(NamedTuple):
    """What `prune` dropped: photos' faces, vectors, and notes on damaged parts that were removed."""

    faces: int
    vectors: int
    notes: list[str]


def prune(path: str | os.PathLike[str]) -> Pruned:
    """Drop boxes and vectors of contents that the current SOURCE no longer uses, of every recipe.

    Safe to kill at any moment.

    Raises
    ------
    TableError : another process writes to the table, it is not whole or cannot be read, or photos of SOURCE could not
        be read by the last extract: nobody knows then which contents are theirs, and nothing is dropped
    """
    table = FeatureTable.open(path)
    dropped, notes = Counter[str](), []
    with locked(table.path):
        keep = _contents_in_use(table)
        for kind, store in (("faces", FaceStore), ("vectors", VectorStore)):
            for folder in sorted(path for path in (table.path / kind).iterdir() if path.is_dir()):  # .DS_Store is none
                make_store(folder, read_recipe(folder))
                opened, repairs = store.repaired(folder)
                dropped[kind] += opened.prune(keep)
                notes += repairs
    return Pruned(dropped["faces"], dropped["vectors"], notes)


def _contents_in_use(table: FeatureTable) -> set[str]:
    samples = table.samples()
    contents, paths, errors = _columns(samples, "content", "path", "error")
    if unknown := [row for row, content in enumerate(contents) if content is None]:
        first = unknown[0]
        raise TableError(
            f"nothing was pruned from {table.path}: {len(unknown)} of the {len(contents)} photos of SOURCE could not "
            f"be read (the first is {paths[first]}: {errors[first]}), and nobody knows which faces are theirs. Make "
            "them readable (is a share not mounted?) or leave them out of SOURCE, and extract with --prune again. All "
            "else is done: the table is up to date"
        )
    return set(contents)


def is_own_file(path: str | os.PathLike[str], table: str | os.PathLike[str]) -> bool:
    """Whether a file of this name is one of a table's own, or would stand among them; others may lie beside these."""
    file, folder = Path(os.path.realpath(path)), Path(os.path.realpath(table))
    first = file.relative_to(folder).parts[:1] if file.is_relative_to(folder) else ()
    return any(name in OWN or name.startswith(".") for name in first)


def _face_folder(folder: Path, face_half: Half) -> Path:
    return store_folder(folder / "faces", str(face_half["detector"]), box_recipe(face_half))


def _vector_folder(folder: Path, feature_half: Half) -> Path:
    return store_folder(folder / "vectors", str(feature_half["backbone"]), feature_half)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Look whether a folder can be written to as a feature table, before hours of work; none is made for that.

    Raises
    ------
    TableError : another process writes to it, or it holds something else, or it cannot be made
    """
    folder = Path(path)
    if folder.exists():
        with locked(folder):
            _read_document(folder)
        return
    _refuse_odd_names(folder)
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise TableError(f"cannot make {folder} as a feature table ({parent} takes no new folder): give another folder")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a table's folder as its only writer; it is made where it is absent.

    Raises
    ------
    TableError : another process writes to it, or it holds something else than a table
    """
    _refuse_other_folders(folder)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise TableError(
            f"another process is writing to {folder}: wait until it ends, or give another --table. "
            "(The lock of a process that was killed is free at once.)"
        ) from None
    try:
        for stray in (*folder.glob(".samples.parquet.*.tmp"), *folder.glob(".table.json.*.tmp")):
            stray.unlink()
        yield
    finally:
        lock.release()


def _refuse_odd_names(folder: Path) -> None:
    if printable(str(folder)) != str(folder):  # pyarrow opens no such path
        raise TableError(f"the name of the folder {printable(str(folder))} is not UTF-8: give another --table")


def _refuse_other_folders(folder: Path) -> None:
    _refuse_odd_names(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise TableError(f"cannot use {folder} as a feature table ({error}): give another folder") from error
    if others and "table.json" not in others:
        raise TableError(
            f"{folder} is not a feature table and not empty (it holds {sorted(others)[0]}): give a new folder"
        )


def _new_document() -> dict[str, Any]:
    return {"format": FORMAT, "current": None, "features": {}}


def _read_document(folder: Path) -> dict[str, Any] | None:
    """table.json, or None where there is none."""
    path = folder / "table.json"
    try:
        document: dict[str, Any] = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise TableError(f"{path} cannot be read ({error}): extract into a new folder") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TableError(
            f"{path} is not of format {FORMAT}, the one this version reads: extract into a new folder, or use the "
            "version of featurepipe that wrote it"
        )
    if not _is_whole(document):
        raise TableError(
            f"{path} is damaged: it does not name the current store, or not how each store was made. Extract into a "
            "new folder"
        )
    return document


def _is_whole(document: Mapping[str, Any]) -> bool:
    """Whether both halves of each store are there, and of the stores the current one, which is None at first."""
    stores = document.get("features")
    if not isinstance(stores, dict) or document.get("current", "") not in [None, *stores]:
        return False
    halves = (("face_half", FACE_KEYS), ("feature_half", ("backbone",)))
    return all(
        isinstance(entry, dict) and isinstance(entry.get(half), dict) and {*keys} <= {*entry[half]}
        for entry in stores.values()
        for half, keys in halves
    )


def _write_samples(path: Path, rows: Iterator[SampleRow]) -> None:
    with replacing(path) as stream, pq.ParquetWriter(stream, _SAMPLES_SCHEMA, write_page_checksum=True) as writer:
        writer.write_table(_SAMPLES_SCHEMA.empty_table())
        while group := list(islice(rows, _ROW_GROUP)):
            writer.write_table(_samples_table(group))


def _samples_table(rows: Sequence[SampleRow]) -> pa.Table:
    columns = {name: [_stored(getattr(row.sample, name)) for row in rows] for name in _OF_SAMPLE}
    columns |= {name: [_stored(getattr(row, name)) for row in rows] for name in _OF_ROW}
    columns["extra"] = [_stored(_json(row.sample.extra)) for row in rows]
    return pa.Table.from_pydict(columns, schema=_SAMPLES_SCHEMA)


def _stored(value: str | int | None) -> str | int | None:
    """Names of files and folders (paths, subjects, labels) that are not UTF-8 do not fit into Parquet."""
    return printable(value) if isinstance(value, str) else value


def _json(extra: Mapping[str, Any]) -> str | None:
    return json.dumps(dict(extra), ensure_ascii=False, allow_nan=False) if extra else None


def _read_samples(folder: Path) -> pa.Table:
    try:
        with pq.ParquetFile(folder / "samples.parquet", page_checksum_verification=True) as stream:
            table = stream.read()
        table.validate(full=True)  # files from before they had checksums
        for name in _ADDED_LATER:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
        # The footer, with the names and types of columns, has no checksum.
        if table.column_names != _SAMPLES_SCHEMA.names:  # pyarrow's text would list both
            raise ValueError("its columns are not those of a feature table")
        return table.cast(_SAMPLES_SCHEMA.with_metadata(table.schema.metadata))
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names of columns that are no UTF-8
        raise TableError(
            f"{folder / 'samples.parquet'} cannot be read ({error}): run extract again, it writes the file anew and "
            "computes nothing twice"
        ) from error


def _matrix(folder: Path, samples: pa.Table, feature_half: Half, face_half: Half, most: int | None) -> Features:
    vectors = VectorStore.open(_vector_folder(folder, feature_half))
    faces = FaceStore.open(_face_folder(folder, face_half))
    contents, statuses = _columns(samples, "content", "status")
    read = ~np.isin(statuses, _SCAN_FAILURES)
    answers = faces.rows(contents)
    here = np.flatnonzero(read & (answers >= 0))
    chosen = faces.chosen(answers[here], face_half["policy"])
    owners = here[chosen.owner]
    rows = vectors.rows((contents[owner] for owner in owners.tolist()), chosen.box, face_half["margin"])
    if lacking := int((read & (answers < 0)).sum() + (rows < 0).sum()):
        raise TableError(
            f"{lacking} faces or photos of the current SOURCE have no {feature_half['backbone']} vectors cut as asked "
            f"(detector {face_half['detector']}, margin {face_half['margin']}, policy {face_half['policy']}) in "
            f"{folder}: run extract with these settings"
        )
    if most is not None and len(rows) > most:
        some = np.linspace(0, len(rows) - 1, most).astype(np.int64)
        chosen, owners, rows = ChosenFaces(*(column[some] for column in chosen)), owners[some], rows[some]
    counts = Counter([*np.array(statuses, object)[~read], *faces.statuses(answers[here])])
    names = ("path", "content", "label", "subject", "split", "sequence", "role", "origin")
    picked = samples.select((*names, "frame")).take(pa.array(owners))
    return Features(
        X=vectors.take(rows),
        sample=owners,
        face=chosen.face,
        box=chosen.box,
        score=chosen.score,
        turn=chosen.turn,
        coverage={status: counts[status] for status in STATUSES if status in counts},
        feature_half=dict(feature_half),
        face_half=dict(face_half),
        frame=np.array([*picked["frame"].to_pylist(), None], object)[:-1],
        **{name: picked[name].to_numpy() for name in names},
    )


def _columns(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]
