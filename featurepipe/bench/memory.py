"""Peak memory of the real command, over few photos and over many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from featurepipe.bench.material import photos
from featurepipe.bench.rows import Settings, row
from featurepipe.errors import FeaturepipeError, MissingPackageError

_WATCHER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
child.returncode = os.waitstatus_to_exitcode(status)
print(used.ru_maxrss)
sys.exit(child.returncode)
"""
"""Prints the peak memory of a program. In a process of its own: Linux begins a child's with that of its parent."""


def memory_flat(settings: Settings) -> dict[str, Any]:
    """Peak resident memory of `extract` over many photos, against a quarter of them."""
    if not hasattr(os, "wait4"):
        raise MissingPackageError("this system does not tell the peak memory of a process that has ended")
    few = 16 if settings.quick else 1000
    with TemporaryDirectory() as name:
        small, large = (_peak(Path(name), count, settings.device) for count in (few, 4 * few))
    return row("memory-flat", large, small, f"the same over {few} photos, not {4 * few}", "MiB", None)


def _peak(folder: Path, count: int, device: str) -> float:
    """Peak resident MiB of the largest of the command's processes."""
    photos(folder, count)
    source, table = folder / f"photos-{count}", folder / f"table-{count}"
    words = ["-m", "featurepipe", "extract", str(source), "--table", str(table), "--device", device, "--json"]
    done = subprocess.run([sys.executable, "-c", _WATCHER, sys.executable, *words], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise FeaturepipeError(f"extract ended with code {done.returncode}; its own message stands above")
    return int(done.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)
