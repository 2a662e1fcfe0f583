"""One detector on a GPU for all worker processes: this process runs it, over the photos that wait at a time.

A worker decodes a photo, sends the copy that the detector looks at, waits for the boxes, and cuts the crops out of the
photo, which it still holds. So photos are decoded once, the GPU has one owner, and no more pixels are under way than
one copy per worker.
"""

from __future__ import annotations

import pickle
import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Client, Connection, Listener
from threading import Thread
from typing import Any

import numpy as np

from featurepipe.errors import FeaturepipeError
from featurepipe.faces.detectors import Detect, DetectorSpec
from featurepipe.records import Face

MOST = 64
"""Photos that are detected in together at most; as many workers may wait in line to be answered the first time."""

PAUSE = 0.01
"""Seconds until the next process is let in after one that could not be."""

Faces = list[Face]
Asked = tuple[np.ndarray, "Future[Faces]"]


@contextmanager
def shared(spec: DetectorSpec) -> Iterator[Detect | None]:
    """What worker processes detect with, where one process should run the detector for them; else None."""
    if not spec.on_gpu:
        yield None
        return
    with DetectorServer(spec) as server:
        yield server


class DetectorServer:
    """Runs the detector mmod for this process and for others, photos that wait together in one call.

    Call it with a photo, from any thread: it gives the faces that `spec.build()` would, or raises what that raised.
    Pickled, it is the line to this process: what is unpickled is called in the same way. Use it as a context manager,
    around the life of the processes that call it. The detector is built when the first photo comes.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        self._spec = spec
        self._waiting: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._listener = _listening()
        self._detector: Any = None
        self._open = True
        self._threads = [Thread(target=work, daemon=True) for work in (self._accept, self._answer)]

    def __enter__(self) -> DetectorServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._waiting.put(None)
        # Closing a listener does not wake the thread that waits at it.
        Client(self._listener.address, authkey=current_process().authkey).close()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def __call__(self, photo: np.ndarray) -> Faces:
        """The faces of a photo, uint8 RGB (height, width, 3)."""
        answer: Future[Faces] = Future()
        self._waiting.put((photo, answer))
        return answer.result()

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteDetector, (self._listener.address,)

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):  # it left before it was in, or is none of ours
                time.sleep(PAUSE)  # or there are no descriptors left, for as long as others keep them
                continue
            if not self._open:
                connection.close()
                return
            Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        """Answer one process until it leaves."""
        with connection, suppress(EOFError, OSError):
            while True:
                photo = _received(connection)
                try:
                    connection.send((self(photo), None))
                except Exception as error:  # noqa: BLE001 (raised again in that process)
                    connection.send(([], _travelling(error)))

    def _answer(self) -> None:
        """Detect in the photos that wait, for as long as the server is open."""
        while waiting := self._gathered():
            self._detect(waiting)

    def _gathered(self) -> list[Asked]:
        """Wait for a photo and take all others that are there; none once the server closes."""
        gathered: list[Asked] = []
        with suppress(queue.Empty):
            while len(gathered) < MOST:
                asked = self._waiting.get(block=not gathered)
                if asked is None:
                    self._waiting.put(None)  # for the next time
                    break
                gathered.append(asked)
        return gathered

    def _detect(self, waiting: Sequence[Asked]) -> None:
        try:
            self._detector = self._detector or self._spec.build()
            found = self._detector.batch([photo for photo, _ in waiting])
        except Exception as error:  # noqa: BLE001 (raised again where the photo came from)
            found = None
            if len(waiting) == 1:
                waiting[0][1].set_exception(error)
                return
        if found is None:  # one may be at fault, or all together too much: what they took is free again only now
            for asked in waiting:
                self._detect([asked])
            return
        for (_, answer), faces in zip(waiting, found, strict=True):
            answer.set_result(faces)


class RemoteDetector:
    """The line to a `DetectorServer`, opened at the first photo. One object per process and thread."""

    def __init__(self, address: Any) -> None:
        self._address = address
        self._line: Connection | None = None

    def __call__(self, photo: np.ndarray) -> Faces:
        """The faces of a photo, as the server finds them."""
        line = self._line = self._line or Client(self._address, authkey=current_process().authkey)
        line.send(photo.shape)
        line.send_bytes(photo.ravel().data)
        faces, error = line.recv()
        if error is not None:
            raise error
        return list(faces)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteDetector, (self._address,)


def _listening() -> Listener:
    key = current_process().authkey
    try:
        return Listener(backlog=MOST, authkey=key)
    except OSError:  # of a socket in the temporary folder: the name of a file may be longer than that of a socket
        return Listener(("localhost", 0), backlog=MOST, authkey=key)


def _travelling(error: Exception) -> Exception:
    """`error`, or where it cannot be sent to another process, one that can and says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (what an error's own methods raise)
        return FeaturepipeError(f"{type(error).__name__}: {error}")
    return error


def _received(connection: Connection) -> np.ndarray:
    shape = connection.recv()
    return np.frombuffer(connection.recv_bytes(), np.uint8).reshape(shape)
