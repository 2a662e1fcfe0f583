"""The extraction loop: samples to a feature table. Scan, find faces in worker processes, forward in batches, write.

samples -> content keys -> tasks not yet in the table -> Workers(find) -> batches -> backbone -> parts
"""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from featurepipe.content import content_of_frame, content_of_pixels, content_with_box
from featurepipe.errors import InputError
from featurepipe.features.forwarding import Forwarded, Forwarder
from featurepipe.features.stores import CutFace, Found
from featurepipe.features.table import SampleRow, TableWriter, writing
from featurepipe.features.workers import Find, Workers, worth_starting
from featurepipe.files import sha256_of, sha256_once
from featurepipe.progress import bar
from featurepipe.recipe import FACE_KEYS, Half
from featurepipe.records import STATUSES, FaceResult, FaceTask, Sample
from featurepipe.video import FRAME_LACKING

if TYPE_CHECKING:  # its module loads torch, which the loop itself does without
    from featurepipe.features.backbone import Backbone

PART_ROWS = 1024
"""Largest number of vectors in a part."""

PART_SECONDS = 60
"""A part is written after so many seconds even if it is not full: what a kill can lose."""

PART_BYTES = 4 << 20
"""Largest size of a part (256 vectors of fc7): three may be in memory at once, which crops must not make much of."""

_SCAN_BATCH = 1024
_REMEMBERED = 1 << 16
"""Photos whose digests are remembered, in some 30 MB: of more than that all are read anew."""

_STAGES = ("scan", "decode", "detect", "crop", "forward", "write", "wall")
_DIED = "the worker process died of this photo (out of memory, or a crash in the decoder or detector)"

Scan = Callable[[Sample], str]


def content_of(sample: Sample) -> str:
    """Content key of a sample (featurepipe.content), read in pieces.

    Raises
    ------
    OSError : the file is missing or may not be read, is no regular file (a pipe would be waited for), or a whole clip
    """
    if sample.pixels is not None:
        return content_of_pixels(sample.pixels, sample.box)
    status = os.stat(sample.path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    if sample.whole_clip:  # by its name: the same bytes under another one may be a photo
        raise OSError(FRAME_LACKING)
    if sample.in_clip:
        return content_of_frame(sha256_once(sample.path), sample)
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return content_with_box(_digest(sample.path, state), sample.box)


@lru_cache(maxsize=_REMEMBERED)
def _digest(path: str, state: tuple[int, ...]) -> str:
    """Hex sha256 of the photo that is in this state: compare scans the same photos once for each method."""
    return sha256_of(path)


@dataclass
class Summary:
    """What an extraction did.

    Attributes
    ----------
    photos : samples of SOURCE
    duplicates : samples whose content an earlier sample has
    statuses : samples per status
    detections : photos that a detector was run on
    forwards : batches sent through the backbone
    vectors : vectors added to the table
    seconds : by stage; scan and wall by the clock, decode, detect and crop summed over workers, forward over
        threads, write in the background
    notes : what else a user should know (damaged parts removed)
    """

    photos: int
    duplicates: int
    statuses: dict[str, int]
    detections: int
    forwards: int
    vectors: int
    seconds: dict[str, float]
    notes: list[str]

    @property
    def photos_per_second(self) -> float:
        """Samples per second of the whole run."""
        return self.photos / self.seconds["wall"]


def extract(
    samples: Sequence[Sample],
    table: str | os.PathLike[str],
    find: Find,
    backbone: Backbone,
    face_half: Half,
    *,
    scan: Scan = content_of,
    workers: int | None = 0,
    batch_size: int | None = None,
    part_rows: int = PART_ROWS,
    made_with: Mapping[str, Any] | None = None,
    read_with: Mapping[str, Any] | None = None,
) -> Summary:
    """Bring a feature table up to date with `samples`; what is already there is not computed again.

    Ctrl-C finishes the part in flight and then raises KeyboardInterrupt; a killed run loses at most that part.
    Either way the next run continues, and ends with bit-equal vectors.

    Parameters
    ----------
    samples : the whole SOURCE; their order is the order of the table
    table : the table's folder, made where it is absent
    find : the face stage; must pickle where `workers` > 0
    backbone : called with full batches only, the last one padded
    face_half : detector, detector_weights, max_side, margin and policy, as `find` applies them: what
        `featurepipe.faces.finder.FaceFinder.recipe` says of itself
    scan : content key of a sample; its OSError gives the sample the status missing or unreadable
    workers : processes that decode and detect; 0: this one; None: one per core, and fewer for few photos
    batch_size : crops per forward pass; None: as many as suit the backbone
    part_rows : largest number of vectors per part; rounded down to whole batches
    made_with : device, precision, versions: recorded with each part, not compared
    read_with : versions and limits that decide which photos `find` can read (`FaceFinder.read_with()`): a photo that
        was unreadable or too large under others is tried again

    Raises
    ------
    TableError : the table is being written by another process, is no table, or the disk is full
    InputError : a number is out of range, or the face half lacks a key

    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from featurepipe.faces.detectors import DetectorSpec
    >>> from featurepipe.faces.finder import FaceFinder
    >>> from featurepipe.features.backbones import load_backbone
    >>> hog = load_backbone("hog")
    >>> finder = FaceFinder(DetectorSpec("none"), hog.framing, "largest")
    >>> photos = [Sample(f"{number}", pixels=np.full((80, 80), number, np.uint8)) for number in range(3)]
    >>> with TemporaryDirectory() as table:
    ...     extract(photos, table, finder, hog, finder.recipe()).vectors
    3
    """
    if batch_size is None:
        batch_size = backbone.batch_size
    if batch_size < 1 or part_rows < 1 or (workers or 0) < 0:
        raise InputError("batch_size and part_rows must be at least 1, and workers at least 0")
    if lacking := [key for key in FACE_KEYS if key not in face_half]:
        raise InputError(f"face_half lacks {', '.join(lacking)}: give what FaceFinder.recipe() says of the finder")
    with _interrupts() as interrupted, writing(table, face_half, backbone.recipe(), read_with) as writer:
        run = _Run(writer, backbone, scan, batch_size, part_rows, made_with or {})
        with run.clock("wall"):
            with run.clock("scan"):
                scanned = _scan(samples, scan, interrupted)
            tasks = _Tasks(samples, scanned, writer)
            if workers is None:
                workers = worth_starting(len(tasks))
            with run, Workers(find, workers, 4 * (batch_size + workers)) as pool:
                _loop(run, pool, tasks, interrupted)
            statuses = _finish(writer, samples, scanned, run.answers)
    if interrupted.is_set():  # after the last face: the table is whole, but the caller is to end
        raise KeyboardInterrupt
    return run.summary(scanned, statuses)


def _loop(run: _Run, pool: Workers, tasks: _Tasks, interrupted: threading.Event) -> None:
    with bar(len(tasks), "faces", "photo") as progress:
        for task, result in pool.results(tasks):
            run.take(task, result)
            progress.update()
            if interrupted.is_set():
                raise KeyboardInterrupt
    run.forward_rest()


@dataclass
class _ScannedSource:
    """Content keys of all samples (None: could not be read), and status and error of those by row."""

    contents: list[str | None]
    failures: dict[int, tuple[str, str]]

    @property
    def duplicates(self) -> int:
        keys = [content for content in self.contents if content is not None]
        return len(keys) - len(set(keys))


def _scan(samples: Sequence[Sample], scan: Scan, interrupted: threading.Event) -> _ScannedSource:
    scanned = _ScannedSource([], {})
    with ThreadPoolExecutor() as threads, bar(len(samples), "scan", "photo") as progress:
        for start in range(0, len(samples), _SCAN_BATCH):
            batch = samples[start : start + _SCAN_BATCH]
            for row, (content, status, error) in enumerate(threads.map(partial(_key, scan), batch), start):
                scanned.contents.append(content)
                if content is None:
                    scanned.failures[row] = (status, error)
            progress.update(len(batch))
            if interrupted.is_set():
                raise KeyboardInterrupt
    return scanned


def _key(scan: Scan, sample: Sample) -> tuple[str | None, str, str]:
    try:
        return scan(sample), "ok", ""
    except (FileNotFoundError, NotADirectoryError) as error:
        return None, "missing", _reason(error)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        return None, "unreadable", _reason(error)


def _reason(error: OSError | ValueError) -> str:
    return str(getattr(error, "strerror", None) or error)


class _Tasks:
    """The photos that lack boxes or vectors, each content once, in the order of SOURCE."""

    def __init__(self, samples: Sequence[Sample], scanned: _ScannedSource, writer: TableWriter) -> None:
        self._samples, self._contents, self._faces = samples, scanned.contents, writer.faces
        first: dict[str, int] = {}
        for row, content in enumerate(scanned.contents):
            if content is not None:
                first.setdefault(content, row)
        self._rows = [row for content, row in first.items() if not writer.complete(content)]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[FaceTask]:
        for row in self._rows:
            content = self._contents[row]
            assert content is not None
            known = self._faces[content].faces if content in self._faces else None
            yield FaceTask(self._samples[row], content, known)


class _Run:
    """Takes answers of the face stage, sends full batches through the backbone, and writes parts in the background.

    As a context manager: however the block ends, what was forwarded is written. Crops that wait for their batch to
    fill are then dropped, so that the next run forms the same batches as an uninterrupted one.
    """

    def __init__(
        self,
        writer: TableWriter,
        backbone: Backbone,
        scan: Scan,
        batch_size: int,
        part_rows: int,
        made_with: Mapping[str, Any],
    ) -> None:
        self.clock = _Clock()
        self.answers: dict[str, tuple[str, str]] = {}
        self._texts: dict[tuple[str, str], tuple[str, str]] = {}  # equal answers are one object, since there are few
        self._counts: Counter[str] = Counter()
        self._writer, self._scan = writer, scan
        self._forwarder: Forwarder[CutFace] = Forwarder(backbone)
        self._part_rows, self._made_with = part_rows, made_with
        self._shape = (batch_size, *backbone.framing.shape)
        self._crops = np.zeros(self._shape, np.uint8)
        self._waiting: list[CutFace] = []
        self._found: dict[str, Found] = {}
        self._cuts: list[CutFace] = []
        self._vectors: list[np.ndarray] = []
        self._background = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._flushed = time.monotonic()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._forwarder:
                self._keep_forwarded()
        finally:
            try:
                self._flush()
                self._wait()
            finally:
                self._background.shutdown()

    def take(self, task: FaceTask, result: FaceResult | None) -> None:
        """Keep what was found, and forward the crops that have no vector yet."""
        if result is None:
            self.answers[task.content] = ("unreadable", _DIED)
            return
        self.clock.add(result.seconds)
        answer = (result.status, result.error)
        self.answers[task.content] = self._texts.setdefault(answer, answer)
        looked_at = result.status in ("ok", "no_face")
        if not looked_at and not (result.of_content and self._unchanged(task)):
            return
        if task.known is None:
            self._counts["detections"] += looked_at and self._detects(task)
            self._found[task.content] = Found(result.status, result.error, result.faces)
        for index, crop in zip(result.chosen, result.crops, strict=True):
            cut = CutFace(task.content, index, result.faces[index], self._writer.face_half["margin"])
            if cut.key not in self._writer.vectors:
                self._add(cut, crop)
        # Where few photos have a face, or photos are slow, what was found is not kept waiting for a full part.
        if len(self._found) >= 2 * self._part_rows or time.monotonic() - self._flushed > PART_SECONDS:
            self._keep_forwarded()
            self._flush()

    def forward_rest(self) -> None:
        """Forward the last batch, padded to full size with black crops."""
        if self._waiting:
            self._forward()

    def summary(self, scanned: _ScannedSource, statuses: dict[str, int]) -> Summary:
        """What this run did."""
        return Summary(
            photos=len(scanned.contents),
            duplicates=scanned.duplicates,
            statuses=statuses,
            detections=self._counts["detections"],
            forwards=self._counts["forwards"],
            vectors=self._counts["vectors"],
            seconds=self.clock.seconds,
            notes=self._writer.notes,
        )

    def _detects(self, task: FaceTask) -> bool:
        """Whether faces are looked for, where none are known: not where the photo, or a given box, is the face."""
        return task.sample.box is None and self._writer.face_half["detector"] != "none"

    def _unchanged(self, task: FaceTask) -> bool:
        """Whether a failure is the content's own: a file that changed since the scan says nothing about its key."""
        return _key(self._scan, task.sample)[0] == task.content

    def _add(self, cut: CutFace, crop: np.ndarray) -> None:
        self._crops[len(self._waiting)] = crop
        self._waiting.append(cut)
        if len(self._waiting) == len(self._crops):
            self._forward()

    def _forward(self) -> None:
        done = self._forwarder.submit(self._crops, self._waiting)
        self._crops, self._waiting = np.zeros(self._shape, np.uint8), []
        if done is not None:
            self._keep(done)

    def _keep_forwarded(self) -> None:
        """Keep every batch under way."""
        while (done := self._forwarder.oldest()) is not None:
            self._keep(done)

    def _keep(self, done: Forwarded[CutFace]) -> None:
        self.clock.add({"forward": done.seconds})
        self._counts["forwards"] += 1
        self._counts["vectors"] += len(done.labels)
        self._vectors.append(done.vectors)
        self._cuts += done.labels
        size = self._shape[0]
        rows = min(self._part_rows, PART_BYTES // max(1, done.vectors[0].nbytes))
        if len(self._cuts) >= max(size, rows // size * size):
            self._flush()

    def _flush(self) -> None:
        """Hand everything computed to the background; one part is written at a time, so memory is bounded."""
        self._wait()
        self._writing = self._background.submit(self._write, self._found, self._vectors, self._cuts)
        self._found, self._vectors, self._cuts = {}, [], []
        self._flushed = time.monotonic()

    def _wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, found: dict[str, Found], vectors: list[np.ndarray], cuts: list[CutFace]) -> None:
        with self.clock("write"):
            # Boxes first: a vector never stands without them.
            self._writer.faces.append(found, self._writer.read_with)
            if cuts:
                self._writer.vectors.append(np.concatenate(vectors), cuts, self._made_with)


def _finish(
    writer: TableWriter, samples: Sequence[Sample], scanned: _ScannedSource, answers: Mapping[str, tuple[str, str]]
) -> dict[str, int]:
    """Write samples.parquet and table.json; how many samples have each status."""
    statuses: Counter[str] = Counter()

    def rows() -> Iterator[SampleRow]:
        for row, (sample, content) in enumerate(zip(samples, scanned.contents, strict=True)):
            if content is None:
                status, error = scanned.failures[row]
            elif content in answers:
                status, error = answers[content]
            else:
                status, error, _ = writer.faces[content]
            statuses[status] += 1
            yield SampleRow(sample, content, status, error)

    writer.finish(rows())
    return {status: statuses[status] for status in STATUSES if statuses[status]}


class _Clock:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(_STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds that another process measured."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Within, the first Ctrl-C sets the event, so that a part can be finished; the second one interrupts at once.

    Elsewhere than in the main thread, and where the caller handles SIGINT in a way of its own, nothing changes.
    """
    interrupted = threading.Event()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupted
        return

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupted.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
