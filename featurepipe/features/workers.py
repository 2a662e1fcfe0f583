"""Runs the face stage in worker processes: in order, bounded, and past workers that die.

Workers are spawned, never forked: forking after dlib or torch has run hangs (mmod.md section 8).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from operator import length_hint

from featurepipe.errors import FeaturepipeError
from featurepipe.machine import cores, limit_threads
from featurepipe.records import FaceResult, FaceTask

Find = Callable[[FaceTask], FaceResult]
Answers = list[FaceResult | None]

GROUP = 4
"""Photos that travel to a worker, and their answers back, together: alone each costs this process 0.4 ms more."""

CLIP_GROUP = 64
"""Frames of one clip that travel together at most: each process that is given some decodes the clip from its first."""

_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "DLIB_NUM_THREADS")

_find: Find
"""In a worker: the face stage, sent once, so that its detector is built once per process."""


PHOTOS_PER_WORKER = 8
"""Photos that a worker must have to do to be worth its start: 0.3 s of a core, as much as 8 photos take."""


def worth_starting(photos: int) -> int:
    """How many worker processes `photos` are worth: one per core, fewer for few photos, none where one would do."""
    workers = min(cores(), photos // PHOTOS_PER_WORKER)
    return workers if workers > 1 else 0


class Workers:
    """A pool of `workers` processes that each hold a copy of `find`; 0: `find` runs in this process.

    Use it as a context manager. At most `window` photos are under way, or a group for each process and one more, so
    memory does not grow with their number.
    """

    def __init__(self, find: Find, workers: int, window: int) -> None:
        self._find, self._workers, self._window = find, workers, window
        self._queue: deque[tuple[list[FaceTask], Future[Answers]]] = deque()
        self._pool: ProcessPoolExecutor | None = None
        self._standing: Future[None]
        self._broken = False  # a photo under way met a broken pool

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def results(self, tasks: Iterable[FaceTask]) -> Iterator[tuple[FaceTask, FaceResult | None]]:
        """Each task with its answer, in the order of the tasks; None where memory ran out or the process died of it.

        Raises
        ------
        FeaturepipeError : worker processes cannot be started, or `find` itself raised it
        """
        if not self._workers:
            yield from ((task, _or_none(self._find, task)) for task in tasks)
            return
        for group in _groups(tasks, length_hint(tasks, CLIP_GROUP * self._workers) // self._workers):
            while self._queue and (self._broken or self._full()):
                yield from self._oldest()
            self._queue.append((group, self._submitted(group)))
        while self._queue:
            yield from self._oldest()

    def _full(self) -> bool:
        """Whether no more photos are to be under way; each process may have a group, however large these are."""
        under_way = sum(len(group) for group, _ in self._queue)
        return under_way >= self._window and len(self._queue) > self._workers

    def _submitted(self, group: list[FaceTask]) -> Future[Answers]:
        # Only now: a run with nothing to do starts no process.
        self._pool = self._pool or self._fresh_pool()
        try:
            return self._submit(self._pool, group)
        except BrokenProcessPool as error:
            broken: Future[Answers] = Future()
            broken.set_exception(error)
            self._broken = True
            return broken

    def _oldest(self) -> Iterator[tuple[FaceTask, FaceResult | None]]:
        group, future = self._queue.popleft()
        if isinstance(future.exception(), BrokenProcessPool):
            self._check_standing()
            for task in group:
                yield task, self._alone(task)
        else:
            yield from zip(group, future.result(), strict=True)
        self._broken = self._broken and bool(self._queue)

    def _alone(self, task: FaceTask) -> FaceResult | None:
        """Ask again for a photo that was under way when the pool broke; None where it breaks again.

        Nothing new is submitted until all those are answered, one at a time: a pool that breaks again breaks of
        this photo.
        """
        try:
            return self._submitted_alone(task).result()[0]
        except BrokenProcessPool:
            self._check_standing()
            return None

    def _submitted_alone(self, task: FaceTask) -> Future[Answers]:
        assert self._pool is not None
        try:
            return self._submit(self._pool, [task])
        except BrokenProcessPool:
            self._pool.shutdown()
            self._pool = self._fresh_pool()
            return self._submit(self._pool, [task])

    def _fresh_pool(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            self._workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self._find,)
        )
        # One for each: a worker is only started when there is work that no idle one takes.
        with _sigint_held(), suppress(BrokenProcessPool):  # of the first one, which tells `_check_standing`
            self._standing = pool.submit(_ready)
            for _ in range(self._workers - 1):
                pool.submit(_ready)
        return pool

    def _check_standing(self) -> None:
        """Tell workers that die at birth from photos that kill their worker: those answer nothing before."""
        if isinstance(self._standing.exception(), BrokenProcessPool):
            raise FeaturepipeError(
                "worker processes cannot be started (their own message stands above). In a script, call extract "
                'under `if __name__ == "__main__":`; or use --workers 0 to work in this process'
            ) from self._standing.exception()

    def _submit(self, pool: ProcessPoolExecutor, group: list[FaceTask]) -> Future[Answers]:
        with _sigint_held():
            future = pool.submit(_run, group)
        future.add_done_callback(self._note)
        return future

    def _note(self, future: Future[Answers]) -> None:
        if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool):
            self._broken = True


def _groups(tasks: Iterable[FaceTask], share: int) -> Iterator[list[FaceTask]]:
    """The tasks by GROUP in their order; frames of one clip stay together, up to CLIP_GROUP or a process's `share`."""
    group: list[FaceTask] = []
    frames = 0  # of one clip, at the end of the group
    for task in tasks:
        stays = task.sample.in_clip and bool(group) and group[-1].sample.path == task.sample.path
        if len(group) >= GROUP and not (stays and frames < min(CLIP_GROUP, share)):
            yield group
            group, stays = [], False
        frames = frames + 1 if stays else 1
        group.append(task)
    if group:
        yield group


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Processes born within do not see a terminal's Ctrl-C before they can ignore it; here it arrives afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _or_none(find: Find, task: FaceTask) -> FaceResult | None:
    try:
        return find(task)
    except MemoryError:
        return None


def _begin(find: Find) -> None:
    """Set up a worker: it leaves Ctrl-C to its parent, dies with it, and computes on one thread."""
    global _find
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    for name in _THREAD_LIMITS:
        os.environ[name] = "1"
    limit_threads(1)
    _find = find


def _leave_with_parent() -> None:
    # A killed parent cannot say goodbye, and workers hold both ends of its pipes: they would wait for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _ready() -> None:
    """Answers when a worker stands."""


def _run(group: list[FaceTask]) -> Answers:
    return [_or_none(_find, task) for task in group]
