"""SIGKILL of the real command: dlib in worker processes, a fer-vgg, 304 rendered faces, parts of 8 vectors.

test_kill.py does the same for more files of a table, quickly, with a faked face stage and backbone.
"""

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_helpers import parts, run, start, untrained_weights, vectors
from process_helpers import session, wait_until

from featurepipe.datasets.synthetic import write_faces
from featurepipe.features.table import FeatureTable

PHOTOS = 304
RANDOM_KILLS = 6
STILL = (
    ("*/vectors/*part-*.npy*", "write"),
    ("*/vectors/*part-*.npy", "rename"),
    ("*/vectors/*part-*.parquet", "rename"),
    ("*/faces/*part-*.parquet", "rename"),
)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the child reads /proc to know what it writes")
def test_killed_at_any_moment_it_resumes_bit_equal(tmp_path, capsys):
    write_faces(tmp_path / "photos", subjects=PHOTOS // 8, size=(160, 160), seed=3)
    weights = untrained_weights(tmp_path / "fer.safetensors")

    def words(table):
        source = tmp_path / "photos" / "samples.csv"
        return ("extract", source, "--table", table, "--weights", weights, "--batch-size", 8, "--workers", 2)

    killed, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    run(capsys, *words(uninterrupted))
    lines, kept = [], {}
    random = np.random.default_rng()
    for _ in range(RANDOM_KILLS):
        more, delay = int(random.integers(1, 4)), random.uniform(0, 0.1)
        kill_after_parts(words(killed), killed, more, delay)
        kept = grown(killed, kept)
        lines.append(f"{len(kept)} vectors whole: killed {1000 * delay:.0f} ms after {more} more parts")
    for pattern, step in STILL:
        kill_in(words(killed), pattern, step, tmp_path / "marker")
        kept = grown(killed, kept)
        lines.append(f"{len(kept)} vectors whole: killed in the {step} of {pattern}")
    assert len(kept) < PHOTOS
    resumed = run(capsys, *words(killed))
    with capsys.disabled():
        print("", *lines, f"resumed: {resumed['vectors']} vectors, {resumed['detections']} detections", sep="\n")

    assert resumed["vectors"] == PHOTOS - len(kept)
    assert vectors(killed) == vectors(uninterrupted)
    assert FeatureTable.open(killed).samples().equals(FeatureTable.open(uninterrupted).samples())
    assert len(whole(killed)) == len(contents(killed)) == PHOTOS
    assert not list(killed.rglob("*.tmp"))


def kill_after_parts(words, table, more, delay):
    before = len(parts(table))
    child = start(*words)
    wait_until(lambda: len(parts(table)) >= before + more, child=child)
    time.sleep(delay)
    kill(child)


def kill_in(words, pattern, step, marker):
    marker.unlink(missing_ok=True)
    child = start(*words, still=(pattern, step, str(marker)))
    wait_until(marker.exists, child=child)
    kill(child)


def kill(child):
    child.kill()
    assert child.wait() == -9
    wait_until(lambda: not session(child.pid), seconds=10)  # its workers leave with it
    child.stderr.close()


def whole(table):
    """Vectors of all whole parts, read without featurepipe; each key must be there once."""
    found = {}
    for path in parts(table):
        rows = pq.read_table(path).to_pylist()
        for row, vector in zip(rows, np.load(path.with_suffix(".npy")), strict=True):
            key = tuple(row.values())
            assert key not in found
            found[key] = vector.tobytes()
    return found


def contents(table):
    """Contents whose boxes are stored; each must be there once."""
    found = [key for path in table.glob("faces/*/part-*.parquet") for key in pq.read_table(path)["content"].to_pylist()]
    assert len(found) == len(set(found))
    return found


def grown(table, kept):
    """What is whole now; nothing that was whole before may be lost or changed."""
    now = whole(table)
    assert kept.items() <= now.items()
    return now
