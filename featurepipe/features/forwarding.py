"""Batches through the backbone in threads of their own, in order, while the caller collects the next ones.

On a CPU several batches run at a time, each on its own share of the cores, instead of one batch on all: torch's
threads wait for one another after every layer, and the slowest of them, on a core that a worker process uses as well,
holds up all others. Measured on 2 cores beside 2 busy processes: 32 faces of fer-vgg took 0.69 s on two threads of
torch, and 0.28 s on one.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from featurepipe.machine import limit_threads, torch_threads

if TYPE_CHECKING:  # its module loads torch
    from featurepipe.features.backbone import Backbone

Label = TypeVar("Label")


class Forwarded(NamedTuple, Generic[Label]):
    """A batch that came back: the vectors of its labelled rows (n, ...), their labels, seconds it took."""

    vectors: np.ndarray
    labels: list[Label]
    seconds: float


class Forwarder(Generic[Label]):
    """Runs `backbone` in `backbone.threads` threads, with at most one batch more than threads under way.

    Use it as a context manager. Batches come back in the order in which they went in; so what is collected at any
    moment depends on that order alone, not on which thread was faster.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone, self._threads, self._torch_threads = backbone, backbone.threads, torch_threads()
        self._under_way: deque[Future[Forwarded[Label]]] = deque()
        each = max(1, self._torch_threads // self._threads)
        self._pool = ThreadPoolExecutor(self._threads, "forward", initializer=limit_threads, initargs=(each,))

    def __enter__(self) -> Forwarder[Label]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        limit_threads(self._torch_threads)

    def submit(self, crops: np.ndarray, labels: list[Label]) -> Forwarded[Label] | None:
        """Send a batch of crops, of which the first len(labels) are wanted; the oldest one, where its turn has come.

        `crops` belongs to the forwarder from then on.

        Raises
        ------
        Whatever the backbone raised, in the call that would have returned that batch.
        """
        self._under_way.append(self._pool.submit(self._forward, crops, labels))
        return self._under_way.popleft().result() if len(self._under_way) > self._threads else None

    def oldest(self) -> Forwarded[Label] | None:
        """Wait for the oldest batch under way; None where there is none."""
        return self._under_way.popleft().result() if self._under_way else None

    def _forward(self, crops: np.ndarray, labels: list[Label]) -> Forwarded[Label]:
        start = time.perf_counter()
        vectors = self._backbone(crops)
        if len(vectors) != len(crops):
            raise ValueError(f"the backbone answered {len(crops)} crops with {len(vectors)} vectors")
        return Forwarded(vectors[: len(labels)], labels, time.perf_counter() - start)
