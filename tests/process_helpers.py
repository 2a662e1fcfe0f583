"""Helpers for tests that start processes, stop them in mid-write and watch them go; loads nothing of featurepipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path


def stand_still(pattern, step, marker):
    """Make this process stop at the first file whose path fits `pattern`, and touch `marker` once it stands.

    step "write": half of the file's bytes are there; "rename": all of them, but not the name.
    """
    fsync, replace = os.fsync, os.replace

    def wait():
        Path(marker).touch()
        time.sleep(60)

    def at_fsync(handle):
        if fnmatch(os.readlink(f"/proc/self/fd/{handle}"), pattern):
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            wait()
        fsync(handle)

    def at_replace(source, target):
        if fnmatch(str(target), pattern):
            wait()
        replace(source, target)

    if step == "write":
        os.fsync = at_fsync
    else:
        os.replace = at_replace


def wait_until(holds, seconds=60, child=None):
    """Poll until `holds()`; where `child` is given it must not end before."""
    end = time.monotonic() + seconds
    while not holds():
        assert child is None or child.poll() is None, child.stderr.read().decode()
        assert time.monotonic() < end
        time.sleep(0.002)


def session(leader):
    """Process ids of a session, those that have ended left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def imported_where_dlib_is_missing(code):
    """Of dlib, its package of files and scikit-learn those that a new process has loaded after it ran `code`."""
    asked = (
        "import sys, json; sys.modules['dlib'] = None; import numpy as np\n"
        f"{code}\n"
        "loaded = {name for name, module in sys.modules.items() if module}\n"
        "print(json.dumps(sorted({'dlib', 'face_recognition_models', 'sklearn'} & loaded)))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)
