"""Reader of a Caffe model (a protobuf NetParameter), with neither Caffe nor protobuf.

Field numbers are those of Caffe's caffe.proto; the wire format is that of protobuf's encoding guide.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featurepipe.conversion.assemble import Layers
from featurepipe.errors import WeightsError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
NET_LAYERS_V1, NET_LAYERS = 2, 100
NAME_AND_BLOBS = {NET_LAYERS_V1: (4, 6), NET_LAYERS: (1, 7)}
BLOB_LEGACY_SHAPE, BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLES = (1, 2, 3, 4), 5, 7, 8
MOST_FIELDS = 10_000
"""Fields in one message: a real net has hundreds; a file of nothing but tiny fields would take hours."""

Field = tuple[int, int, memoryview | int]


def read(path: Path) -> Layers:
    """Layers with weights, by name, as views into the file. Weights are (out, in, height, width), (out, in)
    or, from old Caffe, (1, 1, out, in).

    Raises WeightsError where the file is truncated, or no Caffe model.
    """
    with path.open("rb") as stream:
        try:
            whole = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:
            raise WeightsError(f"{path} is empty; expected a Caffe model") from error
    layers: Layers = {}
    for number, kind, value in _fields(whole, str(path)):
        if number in NAME_AND_BLOBS and kind == BYTES:
            name, blobs = _layer(_view(value), *NAME_AND_BLOBS[number], str(path))
            if not blobs:
                continue
            if name in layers:
                raise WeightsError(f"{path}: two layers are called {name}")
            if len(blobs) != 2:
                raise WeightsError(f"{path}: layer {name} has {len(blobs)} blobs; expected weight and bias")
            layers[name] = (blobs[0], blobs[1].reshape(-1))
    if not layers:
        raise WeightsError(f"{path} holds no layer with weights; expected a Caffe model (.caffemodel)")
    return layers


def _layer(message: memoryview, name_field: int, blobs_field: int, where: str) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for number, kind, value in _fields(message, where):
        if number == name_field and kind == BYTES:
            name = bytes(_view(value)).decode("utf-8", "replace")
        elif number == blobs_field and kind == BYTES:
            blobs.append(_blob(_view(value), f"{where}: layer {name or '(not named yet)'}"))
    return name, blobs


def _blob(message: memoryview, where: str) -> np.ndarray:
    legacy = dict.fromkeys(BLOB_LEGACY_SHAPE, 1)
    shape: tuple[int, ...] | None = None
    data = np.empty(0, "<f4")
    for number, kind, value in _fields(message, where):
        if number in legacy and kind == VARINT:
            legacy[number] = int(value)  # type: ignore[arg-type]
        elif number == BLOB_SHAPE and kind == BYTES:
            shape = _dimensions(_view(value), where)
        elif number in (BLOB_DATA, BLOB_DOUBLES):
            if kind != BYTES or len(data):
                raise WeightsError(f"{where}: values are not packed into one field, as Caffe packs them")
            data = _numbers(_view(value), "<f8" if number == BLOB_DOUBLES else "<f4", where)
    shape = tuple(legacy.values()) if shape is None else shape
    if min(shape, default=0) < 1 or math.prod(shape) != len(data):
        raise WeightsError(f"{where}: a blob has {len(data)} values; its shape {shape} needs {math.prod(shape)}")
    return data.reshape(shape)


def _numbers(raw: memoryview, dtype: str, where: str) -> np.ndarray:
    if len(raw) % np.dtype(dtype).itemsize:
        raise WeightsError(f"{where}: the values of a blob end in the middle of a number")
    return np.frombuffer(raw, dtype)


def _dimensions(message: memoryview, where: str) -> tuple[int, ...]:
    """BlobShape: `repeated int64 dim = 1`, packed or not."""
    dimensions: list[int] = []
    for number, kind, value in _fields(message, where):
        if number != 1:
            continue
        if kind == VARINT:
            dimensions.append(int(value))  # type: ignore[arg-type]
            continue
        packed, place = _view(value), 0
        while place < len(packed) and len(dimensions) <= 8:
            dimension, place = _varint(packed, place, where)
            dimensions.append(dimension)
    if len(dimensions) > 8:
        raise WeightsError(f"{where}: a blob has more than 8 dimensions")
    return tuple(dimensions)


def _fields(message: memoryview, where: str) -> Iterator[Field]:
    """Field number, wire type and value of each field of a message; nothing is copied."""
    place = 0
    for _ in range(MOST_FIELDS):
        if place >= len(message):
            return
        key, place = _varint(message, place, where)
        number, kind = key >> 3, key & 7
        value: memoryview | int
        if kind == VARINT:
            value, place = _varint(message, place, where)
        elif number and kind in (FIXED64, FIXED32, BYTES):
            length = 8 if kind == FIXED64 else 4
            if kind == BYTES:
                length, place = _varint(message, place, where)
            if length > len(message) - place:
                raise WeightsError(f"{where} ends in the middle of a field: truncated, or no Caffe model")
            value, place = message[place : place + length], place + length
        else:
            raise WeightsError(f"{where} is no Caffe model: field {number} of wire type {kind}")
        yield number, kind, value
    raise WeightsError(f"{where} is no Caffe model: more than {MOST_FIELDS} fields in one message")


def _varint(message: memoryview, place: int, where: str) -> tuple[int, int]:
    """An unsigned variable-length integer at `place`, and the place after it."""
    value = 0
    for i, byte in enumerate(message[place : place + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, place + i + 1
    raise WeightsError(f"{where} ends in the middle of a number: truncated, or no Caffe model")


def _view(value: memoryview | int) -> memoryview:
    assert isinstance(value, memoryview)  # the caller has seen wire type BYTES
    return value
