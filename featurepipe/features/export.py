"""Write a matrix of features for other tools: pandas and R (Parquet, CSV), NumPy (npz), MATLAB (mat)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from featurepipe.errors import InputError
from featurepipe.features.stores import BOX
from featurepipe.features.table import Features
from featurepipe.files import replacing

_TEXTS = ("path", "label", "subject", "split", "sequence", "role", "content")
_CHUNK = 4096
_MAT_LIMIT = 2**31 - 1


def export(features: Features, path: str | os.PathLike[str], to: str) -> None:
    """Write features and what belongs to each row, whole or not at all.

    parquet and csv have one row per face: path, label, subject, split, sequence, role, content, frame, face, left, top,
    right, bottom, score, turn, then f0, f1, ... npz and mat hold X (n, d) and one array per column of the same names,
    box as (n, 4), and the recipe as JSON. A face's index counts from 0; the box is in the photo turned by `turn`
    degrees; what is unknown of label, subject, split, sequence, role and frame is null in parquet and empty elsewhere,
    of frame NaN in npz and mat. In MATLAB texts are cell arrays of char.

    Parameters
    ----------
    features : from FeatureTable.matrix
    path : file to write
    to : one of featurepipe.names.EXPORTS

    Raises
    ------
    InputError : `to` is unknown, the file cannot be written, or X is larger than the format holds
    """
    if to not in WRITERS:
        raise InputError(f"unknown format {to!r}: expected one of {', '.join(WRITERS)}")
    target = Path(path)
    try:
        with replacing(target) as stream:
            WRITERS[to](features, stream)
    except OSError as error:
        raise InputError(f"cannot write {target} ({error}): give another file or make room") from error


def _write_parquet(features: Features, stream: BinaryIO) -> None:
    schema = _schema(features).with_metadata({"featurepipe": _recipe(features)})
    with pq.ParquetWriter(stream, schema) as writer:
        for batch in _batches(features, schema):
            writer.write_batch(batch)


def _write_csv(features: Features, stream: BinaryIO) -> None:
    schema = _schema(features)
    with pyarrow.csv.CSVWriter(stream, schema) as writer:
        for batch in _batches(features, schema):
            writer.write_batch(batch)


def _write_npz(features: Features, stream: BinaryIO) -> None:
    arrays: dict[str, Any] = {**_numbers(features), "recipe": np.array(_recipe(features))}
    for name in _TEXTS:
        arrays[name] = np.array([text or "" for text in getattr(features, name)], dtype=str)
    np.savez(stream, **arrays)


def _write_mat(features: Features, stream: BinaryIO) -> None:
    from scipy.io import savemat

    if features.X.nbytes > _MAT_LIMIT:
        raise InputError(
            f"X has {features.X.nbytes} bytes, a .mat file holds {_MAT_LIMIT} per variable: export to parquet, which "
            "MATLAB's parquetread opens"
        )
    texts = {name: _cells(getattr(features, name)) for name in _TEXTS}
    savemat(stream, {**_numbers(features), **texts, "recipe": _recipe(features)}, oned_as="column")


WRITERS: dict[str, Callable[[Features, BinaryIO], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "npz": _write_npz,
    "mat": _write_mat,
}
"""The formats of featurepipe.names.EXPORTS."""


def _numbers(features: Features) -> dict[str, Any]:
    frames = np.array([np.nan if frame is None else frame for frame in features.frame], np.float64)
    return {"frame": frames} | {name: getattr(features, name) for name in ("X", "face", "box", "score", "turn")}


def _cells(texts: np.ndarray) -> np.ndarray:
    cells = np.empty(len(texts), object)
    cells[:] = [text or "" for text in texts]
    return cells


def _recipe(features: Features) -> str:
    return json.dumps({"feature_half": features.feature_half, "face_half": features.face_half})


def _schema(features: Features) -> pa.Schema:
    width = int(np.prod(features.X.shape[1:]))
    number = pa.from_numpy_dtype(features.X.dtype)
    return pa.schema(
        [
            *((name, pa.string()) for name in _TEXTS),
            *((name, pa.int64()) for name in ("frame", "face", *BOX)),
            ("score", pa.float64()),
            ("turn", pa.int64()),
            *((f"f{column}", number) for column in range(width)),
        ]
    )


def _batches(features: Features, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(features), _CHUNK):
        rows = slice(start, start + _CHUNK)
        columns = np.ascontiguousarray(features.X[rows].reshape(len(features.X[rows]), -1).T)
        arrays = [
            *(pa.array(getattr(features, name)[rows], pa.string()) for name in _TEXTS),
            pa.array(features.frame[rows], pa.int64()),
            pa.array(features.face[rows]),
            *(pa.array(side) for side in np.ascontiguousarray(features.box[rows].T)),
            pa.array(features.score[rows]),
            pa.array(features.turn[rows]),
            *(pa.array(column) for column in columns),
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
