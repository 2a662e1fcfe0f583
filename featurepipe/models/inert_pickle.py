"""Reads the pickles that `save_svm` writes into inert nodes: no object of the file is built, nothing in it runs.

A pickle is a program for a small stack machine. This reader knows only the instructions that joblib needs for a
fitted SVM pipeline, and only the exact names in ALLOWED; a name becomes a mark, an object becomes a Node that
holds its state, and an array becomes numbers. Everything else is refused: other names (also dotted ones), calls,
object arrays, persistent and extension ids, compression, memory maps.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.errors import ModelError

ALLOWED = frozenset(
    {
        ("sklearn.pipeline", "Pipeline"),
        ("sklearn.preprocessing._data", "Normalizer"),
        ("sklearn.preprocessing._data", "StandardScaler"),
        ("featurepipe.models.linear_svm", "LinearSVM"),
        ("sklearn.svm._classes", "LinearSVC"),  # in files of featurepipe before it had a solver of its own
        ("joblib.numpy_pickle", "NumpyArrayWrapper"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
)
"""The only (module, name) pairs that a model's pickle may mention, compared whole."""

_WITH_SAVE = ("featurepipe.models.svm", "featurepipe.models.linear", "featurepipe.models.cnn")
"""Homes of the models: a pickle that names one is of somebody who wrote it with joblib.dump."""

MAX_BYTES = 64 << 20
"""A linear SVM on 25,088 numbers with 100 classes has 20 MB; a larger file is not one of ours."""

MAX_INSTRUCTIONS = 1_000_000
"""Each may leave an object a hundred times its own length; a summary of 100,000 values takes less than half of them."""

_OPCODES = (
    "PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "EMPTY_DICT",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "STACK_GLOBAL",
)  # fmt: skip
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"x": "zlib",
    b"BZ": "bz2",
    b"\xfd7zXZ": "xz",
    b"]\x00": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"ZF": "an old joblib",
}
_DTYPE = re.compile(r"[fi]8|U[1-9][0-9]{0,3}")
_DAMAGE = (
    pickle.UnpicklingError, EOFError, RecursionError, IndexError, KeyError, TypeError, ValueError, AttributeError,
    OverflowError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Name:
    """An allowed (module, name) pair, mentioned by the file and not imported."""

    pair: tuple[str, str]


@dataclass(slots=True, eq=False)
class Node:
    """An object of the file that was not built: the name of its class, and its attributes."""

    name: str
    state: dict[str, Any] | None = None


def read_inert(path: str | os.PathLike[str]) -> Any:
    """The content of a joblib pickle as dicts, lists, tuples, text, numbers, NumPy arrays (float64, text) and Nodes.

    Raises
    ------
    ModelError : anything in the file that a fitted SVM does not need, or damage; nothing in it was run
    """
    if os.path.getsize(path) > MAX_BYTES:
        raise ModelError(f"{path} is larger than {MAX_BYTES >> 20} MiB: not a linear SVM of featurepipe")
    data = Path(path).read_bytes()
    _refuse_other_formats(path, data)
    try:
        return _Reader(io.BytesIO(data)).read()
    except ModelError as error:
        raise ModelError(f"{path} is refused: {error}; nothing in it was run") from None
    except _DAMAGE as error:
        reason = str(error)[:100] or "it ends too soon"
        raise ModelError(f"{path} is damaged ({reason}): fit or fetch the model again") from error


def _refuse_other_formats(path: str | os.PathLike[str], data: bytes) -> None:
    if data[:2] in (b"\x80\x04", b"\x80\x05"):
        return
    for magic, name in _COMPRESSED.items():
        if data.startswith(magic):
            raise ModelError(
                f"{path} starts like {name} compression: models are written uncompressed, and compressed ones are "
                "not opened"
            )
    raise ModelError(f"{path} is not a model file of featurepipe: expected a joblib pickle or safetensors")


class _Instructions(dict[int, Any]):
    """The instructions the reader knows, by code; looking up another one, or too many of them, refuses the file."""

    left = MAX_INSTRUCTIONS

    def __getitem__(self, code: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ModelError(f"it holds more than {MAX_INSTRUCTIONS:,} pickle instructions, which no model needs")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Any:
        known = {ord(op.code): op.name for op in pickletools.opcodes}
        raise ModelError(f"it holds the pickle instruction {known.get(code, hex(code))}, which no model needs")


class _Reader(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """joblib's pickle format over an in-memory stream, so that a claimed length never allocates more than there is."""

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.stream = stream
        self.dispatch = _Instructions(self.dispatch)  # type: ignore[misc]  # counts for this file alone

    def read(self) -> Any:
        """The whole content; what follows the end of the pickle is refused too."""
        content = self.load()
        if self.stream.read(1):
            raise ModelError("there are bytes after the end of the pickle")
        return content

    def find_class(self, module: str, name: str) -> Name:
        """A mark for an allowed name; nothing is imported."""
        if (module, name) not in ALLOWED:
            asked = f"{module}.{name}"[:100]
            ours = ": write a model with its own save(path)" if module in _WITH_SAVE else ""
            raise ModelError(f"it asks for {asked}, which is not on the list of what a model may hold{ours}")
        return Name((module, name))

    def new_object(self) -> None:
        """NEWOBJ: an inert node takes the place of the object."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not Name or type(arguments) is not tuple or arguments or name.pair[0] == "numpy":
            raise ModelError("it builds an object in a way that no model needs")
        self.stack.append(Node(name.pair[1]))

    def call(self) -> None:
        """REDUCE: calls nothing; the only call that joblib writes for a model describes a dtype."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if function != Name(("numpy", "dtype")) or type(arguments) is not tuple or len(arguments) != 3:
            raise ModelError("it calls something that no model needs")
        if type(arguments[0]) is not str or not _DTYPE.fullmatch(arguments[0]):
            raise ModelError("it holds an array of other things than float64 numbers and text")
        self.stack.append(Node("dtype", {"code": arguments[0]}))

    def set_state(self) -> None:
        """BUILD: the attributes of a node; the numbers of an array follow its description in the file."""
        state, node = self.stack.pop(), self.stack[-1]
        if type(node) is not Node:
            raise ModelError("it changes an object in a way that no model needs")
        if node.name == "dtype":
            node.state = {**(node.state or {}), "order": _byte_order(state)}
        elif node.state is not None or type(state) is not dict:
            raise ModelError(f"the state of its {node.name} is malformed")
        else:
            node.state = state
        if node.name == "NumpyArrayWrapper":
            self.stack[-1] = self._array(node.state or {})

    def _array(self, wrapper: dict[str, Any]) -> np.ndarray:
        """The array that joblib wrote behind its NumpyArrayWrapper, in the machine's byte order."""
        shape, order, dtype = wrapper["shape"], wrapper["order"], _dtype(wrapper["dtype"])
        plain = type(shape) is tuple and len(shape) in (1, 2) and all(type(n) is int and n >= 0 for n in shape)
        if not plain or order not in ("C", "F") or wrapper["subclass"] != Name(("numpy", "ndarray")):
            raise ModelError("it holds an array that is not an ordinary vector or matrix")
        if wrapper["numpy_array_alignment_bytes"] is not None:
            self.stream.read(self.stream.read(1)[0])
        size = math.prod(shape) * dtype.itemsize
        data = self.stream.read(size) if size <= MAX_BYTES else b""
        if len(data) != size:
            raise ModelError(f"it is cut short: an array of {size} bytes is missing some")
        return np.frombuffer(data, dtype).reshape(shape, order=order).astype(dtype.newbyteorder("="))

    def set_item(self) -> None:
        """SETITEM: one entry of a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self._enter([key, value])

    def set_items(self) -> None:
        """SETITEMS: entries of a dict, keys and values in turn."""
        self._enter(self.pop_mark())

    def _enter(self, entries: list[Any]) -> None:
        """Text keys only: hashing a deeply nested tuple would overflow the interpreter's own stack."""
        keys, target = entries[::2], self.stack[-1]
        if type(target) is not dict or not all(type(key) is str for key in keys):
            raise ModelError("it holds a dict with keys other than text")
        target.update(zip(keys, entries[1::2], strict=True))

    dispatch = _Instructions(
        {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _OPCODES)}  # type: ignore[attr-defined]
    )
    dispatch[pickle.NEWOBJ[0]] = new_object
    dispatch[pickle.REDUCE[0]] = call
    dispatch[pickle.BUILD[0]] = set_state
    dispatch[pickle.SETITEM[0]] = set_item
    dispatch[pickle.SETITEMS[0]] = set_items


def _byte_order(state: Any) -> str:
    """ "<" or ">" from the state of a dtype: (3, order, subarray, names, fields, size, alignment, flags)."""
    if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">") or state[2:5] != (None,) * 3:
        raise ModelError("it holds an array of structured or unknown numbers; a model has float64 and text only")
    return state[1]


def _dtype(node: Any) -> np.dtype:
    if type(node) is not Node or node.name != "dtype" or node.state is None or "order" not in node.state:
        raise ModelError("it holds an array without a proper dtype")
    return np.dtype(node.state["order"] + node.state["code"])
