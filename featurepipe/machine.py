"""What the machine offers: cores, and its name for benchmarks."""

from __future__ import annotations

import os
import platform
import sys


def cores() -> int:
    """Cores this process may use: fewer than the machine has where a scheduler (SLURM, Docker's cpuset) says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
