"""What the machine offers: cores, and its name for benchmarks."""

from __future__ import annotations

import math
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def cores(cgroups: Path = _CGROUPS) -> int:
    """Cores this process may use: fewer than the machine has where a scheduler (SLURM, Docker's cpuset) says so, or a
    container has a quota of their time (docker run --cpus, a CPU limit of Kubernetes), as its `cgroups` say."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return here if quota is None else max(1, min(here, math.ceil(quota)))


def _quota(cgroups: Path) -> float | None:
    """Seconds of all cores together that may be used per second, by cgroups of version 2 or 1; None: no limit."""
    v1 = cgroups / "cpu"
    for files in ((cgroups / "cpu.max",), (v1 / "cpu.cfs_quota_us", v1 / "cpu.cfs_period_us")):
        with suppress(OSError, ValueError, ZeroDivisionError):  # not there, or "max"
            quota, period = (int(number) for file in files for number in file.read_text().split())
            return quota / period if quota > 0 else None
    return None


def torch_threads() -> int:
    """Threads that torch computes with in the calling thread; 1 where torch is not loaded."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else 1


def limit_threads(count: int) -> None:
    """Let torch, where it is loaded, compute with `count` threads in the calling thread and in threads to come."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def processor() -> str:
    """The processor's name as its maker spells it, where the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            names = (line.partition(":")[2].strip() for line in stream if line.startswith("model name"))
            return next(names, "") or platform.processor() or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()
