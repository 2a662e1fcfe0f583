"""Reader of Torch7's binary serialisation, for VGG_FACE.t7: tables, strings, numbers, tensors; nothing is run.

The format is that of torch7's File.lua and generic/Tensor.c: a 32-bit tag before each object, and a 32-bit index
before each object that may be met again. nn modules come back as the plain table they hold.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.conversion.assemble import Layers, name_in_order
from featurepipe.errors import WeightsError

NIL, NUMBER, STRING, TABLE, OBJECT, BOOLEAN = 0, 1, 2, 3, 4, 5
DTYPES = {"Float": "<f4", "Double": "<f8", "Long": "<i8", "Int": "<i4", "Byte": "u1", "Char": "i1"}
CLASS = "__class__"
DEEPEST = 64
"""Nesting of tables: a net has about five levels."""
MOST_MODULES = 1000
"""Modules of a net, each as often as it is met: VGG-16 has 40; one that holds itself would never end."""


def read(path: Path) -> Layers:
    """Layers with weights by Caffe's names, in the order of the modules: the file gives them no names.

    Raises WeightsError where the file is truncated, is no Torch7 file, or holds what is not tables and tensors.
    """
    with path.open("rb") as stream:
        try:
            whole = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:
            raise WeightsError(f"{path} is empty; expected a Torch7 file") from error
    root = _Reader(whole, str(path)).object()
    return name_in_order(list(_weighted(root, str(path))), str(path))


def _weighted(root: object, where: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Class, weight and bias of each module that has weights, first to last, containers opened."""
    waiting = [root]
    for _ in range(MOST_MODULES):
        if not waiting:
            return
        module = waiting.pop()
        children = module.get("modules", {}) if isinstance(module, dict) else None
        if not isinstance(module, dict) or not isinstance(children, dict) or len(children) > MOST_MODULES:
            break
        weight, bias = module.get("weight"), module.get("bias")
        if isinstance(weight, np.ndarray) and weight.size:
            if not isinstance(bias, np.ndarray) or weight.dtype.kind != "f" or bias.dtype.kind != "f":
                raise WeightsError(f"{where}: a module of class {module.get(CLASS)} has a weight without a bias")
            yield str(module.get(CLASS)), weight, bias
        waiting += [children.get(number) for number in range(len(children), 0, -1)]
    raise WeightsError(f"{where} is not a network of nn modules")


class _Reader:
    """One pass over the file. Values are views into it; every length is checked against what is left."""

    def __init__(self, data: memoryview, where: str) -> None:
        self._data, self._place, self._where = data, 0, where
        self._seen: dict[int, Any] = {}
        self._depth = 0

    def object(self) -> Any:
        """The next object."""
        tag = self._int()
        if tag == NIL:
            return None
        if tag == NUMBER:
            number = self._unpack("<d")
            return int(number) if number.is_integer() else number
        if tag == STRING:
            return self._string()
        if tag == BOOLEAN:
            return bool(self._int())
        if tag not in (TABLE, OBJECT):
            raise WeightsError(
                f"{self._where}: object of type {tag} at byte {self._place - 4}: truncated, not Torch7, or code"
            )
        index = self._int()
        if index not in self._seen:
            self._nested(index, tag)
        return self._seen[index]

    def _nested(self, index: int, tag: int) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise WeightsError(f"{self._where}: tables are nested more than {DEEPEST} deep")
        if tag == TABLE:
            self._table(index)
        else:
            self._torch_object(index)
        self._depth -= 1

    def _table(self, index: int) -> None:
        table: dict[Any, Any] = {}
        self._seen[index] = table  # before it is filled: a table may hold itself
        for _ in range(self._count(self._int(), 8)):
            key = self.object()
            if not isinstance(key, str | int | float):
                raise WeightsError(f"{self._where}: a table has a key that is neither a string nor a number")
            table[key] = self.object()

    def _torch_object(self, index: int) -> None:
        version = self._string()
        name = self._string() if version.startswith("V ") else version
        family, _, kind = name.partition(".")
        if family == "nn":
            module: dict[Any, Any] = {CLASS: name}
            self._seen[index] = module
            content = self.object()
            module.update(content if isinstance(content, dict) else {})
        elif family == "torch" and kind.removesuffix("Storage") in DTYPES:
            self._seen[index] = self._storage(DTYPES[kind.removesuffix("Storage")])
        elif family == "torch" and kind.removesuffix("Tensor") in DTYPES:
            self._seen[index] = self._tensor(DTYPES[kind.removesuffix("Tensor")])
        else:
            raise WeightsError(f"{self._where}: an object of class {name[:80]!r}, which is not read")

    def _storage(self, dtype: str) -> np.ndarray:
        size = np.dtype(dtype).itemsize
        return np.frombuffer(self._take(size * self._count(self._unpack("<q"), size)), dtype)

    def _tensor(self, dtype: str) -> np.ndarray:
        dimensions = self._count(self._int(), 16)
        sizes = [self._unpack("<q") for _ in range(dimensions)]
        strides = [self._unpack("<q") for _ in range(dimensions)]
        offset = self._unpack("<q") - 1
        storage = self.object()
        if storage is None or not sizes:
            return np.empty(0, dtype)
        whole = isinstance(storage, np.ndarray) and storage.ndim == 1 and storage.flags.c_contiguous
        if not whole or not _fits(sizes, strides, offset, len(storage)):
            raise WeightsError(f"{self._where}: a tensor of sizes {sizes[:8]} does not fit its storage")
        # a dimension of 1 is never stepped along: its stride may be anything
        steps = [stride * storage.itemsize if size > 1 else 0 for size, stride in zip(sizes, strides, strict=True)]
        return np.lib.stride_tricks.as_strided(storage[offset:], sizes, steps, writeable=False)

    def _string(self) -> str:
        return bytes(self._take(self._count(self._int(), 1))).decode("utf-8", "replace")

    def _int(self) -> int:
        return self._unpack("<i")

    def _unpack(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _count(self, count: int, item_bytes: int) -> int:
        """`count`, after checking that so many items can still follow."""
        if not 0 <= count <= (len(self._data) - self._place) // item_bytes:
            raise WeightsError(f"{self._where}: {count} items announced at byte {self._place}: truncated, not Torch7")
        return count

    def _take(self, length: int) -> memoryview:
        if length > len(self._data) - self._place:
            raise WeightsError(f"{self._where} ends too early: truncated, or not Torch7")
        self._place += length
        return self._data[self._place - length : self._place]


def _fits(sizes: list[int], strides: list[int], offset: int, stored: int) -> bool:
    """Whether a tensor stays inside its storage, in no more than 8 dimensions and no more values than are stored."""
    if not 0 < len(sizes) <= 8 or min(sizes) < 1 or min(strides) < 0 or offset < 0:
        return False
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    return last < stored and math.prod(sizes) <= stored
