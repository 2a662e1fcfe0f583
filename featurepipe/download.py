"""Download to a temporary name, going on where an earlier attempt was cut off."""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from featurepipe.errors import WeightsError
from featurepipe.files import CHUNK
from featurepipe.progress import bar

ATTEMPTS = 6
TIMEOUT = 30.0
"""Seconds without one byte until a connection counts as dead."""
PAUSE = 1.0
"""Seconds before the second attempt; doubled before each further one."""


class _CutOffError(Exception):
    """The connection, or the server, did not give what was asked for; trying again may help."""


class Unreachable(WeightsError):
    """The server cannot be reached, or has not got the file: trying again now does not help."""


@dataclass
class Partial:
    """The beginning of a file: its bytes at `path`, and beside them the server's name for the version they are of."""

    path: Path

    @property
    def version_path(self) -> Path:
        """Where the version is kept."""
        return self.path.with_name(f"{self.path.name}.version")

    @property
    def version(self) -> str:
        """A strong ETag, else a date, else nothing: what If-Range takes (RFC 9110, section 13.1.5).

        Nothing too where the file is damaged: no header could carry what it holds.
        """
        version = self.version_path.read_text(errors="replace") if self.version_path.exists() else ""
        return version if version.isascii() and version.isprintable() else ""

    @property
    def size(self) -> int:
        """Bytes that are here; none where it is not known of which version they are."""
        return self.path.stat().st_size if self.version and self.path.exists() else 0

    def start(self, version: str) -> None:
        """Begin anew, with a file of this version."""
        self.delete()
        if version:
            self.version_path.write_text(version)

    def delete(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
        self.version_path.unlink(missing_ok=True)


def download(url: str, partial: Partial, size: int | None = None) -> None:
    """Bring all bytes of `url` to `partial`; a cut connection is taken up again, at most ATTEMPTS times in all.

    Parameters
    ----------
    url : http or https
    partial : goes on from what is there, where the server still has the same version
    size : bytes the file should have, where that is known

    Raises Unreachable where the server cannot be reached or refuses; WeightsError where it breaks off every time;
    OSError where `partial` cannot be written. What has arrived stays in `partial` for the next call.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            _attempt(url, partial, size)
            return
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if error.headers.get("Content-Range") == f"bytes */{partial.size}":
                    return  # all was here already
                partial.delete()
            elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise Unreachable(f"the server answers {reason}") from error
        except urllib.error.URLError as error:
            if not attempt and not isinstance(error.reason, TimeoutError):
                raise Unreachable(f"cannot be reached ({error.reason})") from error
            reason = str(error.reason)
        except _CutOffError as error:
            reason = str(error)
    raise WeightsError(f"broke off {ATTEMPTS} times, the last time with: {reason}; run the same command to go on")


@contextmanager
def _connection() -> Iterator[None]:
    """Tells what a connection raises from what a disk does, both of which are OSErrors."""
    try:
        yield
    except urllib.error.URLError:
        raise
    except (OSError, http.client.HTTPException) as error:  # timeouts are OSErrors
        raise _CutOffError(str(error) or type(error).__name__) from error


def _attempt(url: str, partial: Partial, size: int | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "featurepipe", "Accept-Encoding": "identity"})
    have = partial.size
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", partial.version)
    with _connection():
        opened = urllib.request.urlopen(request, timeout=TIMEOUT)
    with opened as answer:
        total: int | None
        if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
            total = _whole_size(answer, partial)
        else:
            partial.start(_version(answer))
            have = 0
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else size
        if size is not None and total != size:
            partial.delete()
            raise Unreachable(f"the server offers {total:,} bytes; expected {size:,}")
        _copy(answer, partial.path, have, total)


def _whole_size(answer: http.client.HTTPResponse, partial: Partial) -> int:
    """Size of the whole file, of which `answer` is the part that follows what is here, or less than that (RFC 9110).

    Raises _CutOffError where it is another part: then nothing is kept, and the next attempt begins anew.
    """
    told = answer.headers.get("Content-Range", "")
    place = re.fullmatch(rf"bytes {partial.size}-\d+/(\d+)", told)
    if place is None or not partial.size or _version(answer) not in ("", partial.version):
        partial.delete()
        raise _CutOffError(f"the server sent another part than the one asked for ({told or 'it does not say which'})")
    return int(place[1])


def _version(answer: http.client.HTTPResponse) -> str:
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _copy(answer: http.client.HTTPResponse, path: Path, have: int, total: int | None) -> None:
    with path.open("ab") as stream, bar(total, "download", "B") as progress:
        progress.update(have)
        while block := _read(answer):
            stream.write(block)
            have += len(block)
            progress.update(len(block))
            if total is not None and have > total:
                break
        stream.flush()
        with suppress(OSError):  # not every file system can
            os.fsync(stream.fileno())
    if total is not None and have != total:
        raise _CutOffError(f"{have:,} of {total:,} bytes arrived")


def _read(answer: http.client.HTTPResponse) -> bytes:
    with _connection():
        return answer.read1(CHUNK)
