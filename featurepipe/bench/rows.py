"""A row of the table that `bin/bench` prints, and how its times are taken."""

from __future__ import annotations

import importlib.metadata
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from featurepipe.errors import MissingPackageError
from featurepipe.machine import cores, limit_threads, processor, torch_threads


@dataclass(frozen=True)
class Settings:
    """How long the measurements may take, where the networks run, and the SOURCE of real photos for the pipeline."""

    quick: bool = False
    device: str = "cpu"
    photos: str | None = None

    @property
    def rounds(self) -> int:
        """How often each time is taken; the median counts."""
        return 1 if self.quick else 3

    @property
    def on_gpu(self) -> bool:
        """Whether the networks run elsewhere than on the processor."""
        return self.device != "cpu"

    def machine(self) -> str:
        """The processor with the cores that this process may use, or the GPU."""
        if not self.device.startswith("cuda"):
            return processor_and_cores()
        import torch

        return torch.cuda.get_device_name(self.device)


def row(
    what: str,
    ours: float,
    reference: float,
    reference_name: str,
    unit: str,
    floor: float | None,
    machine: str | None = None,
) -> dict[str, Any]:
    """One row, JSON-able; less is better in every unit.

    Parameters
    ----------
    what : name of the row
    ours, reference : medians, in `unit`
    reference_name : who made the reference, with version
    floor : the least that this machine allows, in `unit`; None where it is not known
    machine : None for the processor

    Returns
    -------
    what, ours, reference {name, value}, ratio (reference / ours: how many times better ours is), floor, unit, machine
    """
    return {
        "what": what,
        "ours": _short(ours),
        "reference": {"name": reference_name, "value": _short(reference)},
        "ratio": _short(reference / ours),
        "floor": None if floor is None else _short(floor),
        "unit": unit,
        "machine": machine or processor_and_cores(),
    }


@cache
def processor_and_cores() -> str:
    """The processor's name, and how many of its cores this process may use."""
    return f"{processor()}, {cores()} cores"


def medians(runs: int, *measures: Callable[[], float]) -> list[float]:
    """The median of each measure over `runs` rounds; each round takes every measure once, in turn.

    So a machine that is slower for a while is slower for all of them.
    """
    rounds = [[measure() for measure in measures] for _ in range(runs)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def wall_of(work: Callable[[], object]) -> Callable[[], float]:
    """A measure: seconds by the clock that `work` takes."""

    def measure() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return measure


def cpu_of(work: Callable[[], object]) -> Callable[[], float]:
    """A measure: seconds of processor that this process spends on `work`."""

    def measure() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return measure


@contextmanager
def alone() -> Iterator[None]:
    """Within, torch computes on one core."""
    before = torch_threads()
    limit_threads(1)
    try:
        yield
    finally:
        limit_threads(before)


def version_of(*packages: str) -> str:
    """Packages with their versions, "dlib-bin 19.24.6".

    Raises
    ------
    MissingPackageError : none of a package's names is installed: a name may offer several, "dlib|dlib-bin"
    """
    return ", ".join(_version_of(package.split("|")) for package in packages)


def _version_of(names: Sequence[str]) -> str:
    for name in names:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise MissingPackageError(f"{' or '.join(names)} is not installed")


def _short(value: float) -> float:
    """Four digits that count: times are no more exact."""
    return float(f"{value:.4g}")
