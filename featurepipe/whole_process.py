"""Settings that libraries keep for the whole process, changed for as long as any thread asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Restore = Callable[[], object]


class WholeProcess:
    """A setting that is changed while any thread is within, and put back after the last.

    Parameters
    ----------
    change : changes it, and returns what puts it back
    """

    def __init__(self, change: Callable[[], Restore]) -> None:
        self._change, self._lock, self._within = change, threading.Lock(), 0
        self._restore: Restore | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """A context in which it is changed; afterwards, once no thread is within, it is as it was."""
        with self._lock:
            if not self._within:
                self._restore = self._change()
            self._within += 1
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                if not self._within and self._restore:
                    self._restore()
