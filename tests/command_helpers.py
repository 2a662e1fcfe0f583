"""The commands as a user calls them: in this process, or as a process of their own that can be stopped and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from featurepipe.cli import main
from featurepipe.features.table import FeatureTable
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.training_recipe import TrainingRecipe

_PROGRAM = f"""
import runpy, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import featurepipe.features.extraction
featurepipe.features.extraction.PART_BYTES = 1
if still := {{still!r}}:
    from command_helpers import stand_still
    stand_still(*still)
runpy.run_module("featurepipe", run_name="__main__", alter_sys=True)
"""
"""`python -m featurepipe` with a part for each batch, so that a few hundred faces make many parts."""


def untrained_weights(path, width=0.125):
    """fer-vgg as fit_cnn writes it, after two steps on noise; the architecture that ships has width 0.5."""
    rng = np.random.default_rng(0)
    recipe = TrainingRecipe(epochs=1, batch_size=4, lr=0.01, network={"width": width})
    model = CNNClassifier("fer-vgg", recipe, device="cpu")
    model.fit(rng.integers(0, 255, (8, 48, 48)).astype(np.uint8), ["anger", "fear"] * 4)
    model.save(path)
    return path


def run(capsys, *words):
    """Run a command that must exit 0, and read what it says under --json."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def start(*words, still=None):
    """Start `python -m featurepipe` as the leader of a session of its own; `still` are arguments of stand_still."""
    program = [sys.executable, "-c", _PROGRAM.format(still=still)]
    return subprocess.Popen([*program, *map(str, words)], start_new_session=True, stderr=subprocess.PIPE)


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


def parts(table):
    """The marks of whole parts of vectors."""
    return sorted(Path(table).glob("vectors/*/part-*.parquet"))


def vectors(table, **choice):
    """The bytes of every vector of the current SOURCE, by content, box and face."""
    features = FeatureTable.open(table).matrix(**choice)
    keys = zip(features.content, map(tuple, features.box.tolist()), features.face.tolist(), strict=True)
    return dict(zip(keys, (row.tobytes() for row in features.X), strict=True))


def write_csv(path, photos):
    """A SOURCE of some photos of a folder."""
    path.write_text("\n".join(["path", *(os.path.relpath(photo, path.parent) for photo in photos)]))
    return path
