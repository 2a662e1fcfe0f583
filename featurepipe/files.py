"""Small helpers for files: hashes, and writing under a temporary name first."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

from featurepipe.errors import InputError

CHUNK = 1 << 20
_HASHING = threading.Lock()

NPY_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    TokenError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""What NumPy raises of an NPY file whose header is damaged: it parses that as Python, and believes its numbers."""


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hex sha256 of a file's bytes, read in pieces of 1 MiB."""
    with open(path, "rb") as stream:
        return sha256_of_stream(stream)


def sha256_of_stream(stream: BinaryIO) -> str:
    """Hex sha256 of what is left to read of a binary stream."""
    digest = hashlib.sha256()
    while block := stream.read(CHUNK):
        digest.update(block)
    return digest.hexdigest()


def sha256_once(path: str | os.PathLike[str]) -> str:
    """As sha256_of, remembered while the file's size, times and place stay as they are: for files of many samples."""
    with _HASHING:  # threads that ask for one file at a time would all read it
        status = os.stat(path)
        return _sha256_of_state(os.fspath(path), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _sha256_of_state(path: str, state: tuple[int, ...]) -> str:
    return sha256_of(path)


def temporary_of(path: str | os.PathLike[str]) -> Path:
    """A new name for what is to take the place of `path`; where that is a link, beside what it points to."""
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` when the block ends well, and vanishes otherwise.

    The bytes go to a temporary name in the same folder, are flushed to disk, and renamed: a reader never sees
    half a file, whenever this process is killed. A link stays, what it points to is replaced.

    Raises InputError where `path` is a device or a pipe, OSError where it is a folder or cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise InputError(f"{path} is no plain file but a device or a pipe: give the name of a file to write")
    target.parent.mkdir(parents=True, exist_ok=True)
    name = temporary_of(target)
    stream = open(name, "xb")  # noqa: SIM115 (closed below); not mkstemp, whose files others may not read
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_json(path: str | os.PathLike[str], document: Any) -> None:
    """Write `document` as indented UTF-8 JSON, under a temporary name first. NaN is refused: use None."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as stream:
        # The escape of a lone surrogate, of a file name that is not UTF-8, is JSON's own: it reads back as it was.
        stream.write(printable(text).encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """The document of a UTF-8 JSON file; ValueError where it is none, or nested too deep to be one of ours."""
    with open(path, encoding="utf-8") as stream:
        try:
            return json.load(stream)
        except RecursionError as error:
            raise ValueError("nested too deep") from error


def digest_of(document: Any) -> str:
    """Hex sha256 of a JSON document in canonical form (sorted keys, no blanks): equal content, equal digest."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def printable(text: str) -> str:
    r"""`text` with the undecodable bytes of a file name escaped (\udce9), so that it prints and stores as UTF-8.

    File names that are not UTF-8 hold lone surrogates (PEP 383), which no encoder takes. For people and tables
    only: the result no longer opens the file.
    """
    return text.encode("utf-8", "backslashreplace").decode()
