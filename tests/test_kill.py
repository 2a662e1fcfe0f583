"""SIGKILL at random moments and in the middle of writing: the table resumes, bit-equal, each photo once.

The child runs the real extraction, slowed down, with real worker processes. To be killed at a chosen step of
writing it stops there: a marker file says that it stands still.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from extraction_helpers import FACE_HALF, FakeBackbone, FakeFinder, write_photos

from featurepipe.features.extraction import extract
from featurepipe.features.table import FeatureTable
from featurepipe.records import Sample

PHOTOS = 500

_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from process_helpers import stand_still
from test_kill import run

if __name__ == "__main__":
    if len(sys.argv) > 3:
        stand_still(sys.argv[3], sys.argv[4], Path(sys.argv[1]) / "marker")
    run(Path(sys.argv[1]), workers=int(sys.argv[2]), seconds=0.002)
"""

STILL = (
    ("*/vectors/*part-*.npy*", "write"),
    ("*/vectors/*part-*.npy", "rename"),
    ("*/vectors/*part-*.parquet", "rename"),
    ("*/faces/*part-*.parquet", "rename"),
    ("*/.samples.parquet*", "write"),
    ("*/table.json", "rename"),
)


def run(folder, table="table", workers=0, seconds=0.0):
    finder = FakeFinder(str(folder / "log"), seconds=seconds)
    backbone = FakeBackbone(seconds=10 * seconds)
    samples = [Sample(str(path)) for path in sorted((folder / "photos").iterdir())]
    return extract(samples, folder / table, finder, backbone, FACE_HALF, workers=workers, batch_size=8, part_rows=16)


def parts(folder):
    return sorted((folder / "table" / "vectors").glob("*/part-*.parquet"))


def wait_for(child, holds):
    end = time.monotonic() + 20
    while not holds():
        assert child.poll() is None, "the child ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.002)


def start(folder, *arguments):
    script = folder / "child.py"
    script.write_text(_CHILD.format(tests=str(Path(__file__).parent)))
    return subprocess.Popen([sys.executable, script, folder, *arguments])


def kill_after_another_part(folder, workers, delay):
    before = len(parts(folder))
    child = start(folder, str(workers))
    wait_for(child, lambda: len(parts(folder)) > before)
    time.sleep(delay)
    child.kill()
    assert child.wait() == -9


def kill_while_it_stands_still(folder, pattern, step):
    (folder / "marker").unlink(missing_ok=True)
    child = start(folder, "0", pattern, step)
    wait_for(child, (folder / "marker").exists)
    child.kill()
    assert child.wait() == -9


def whole_vectors(folder):
    """Vectors by key of all parts that are whole, read without featurepipe; each key must be there once."""
    vectors = {}
    for path in parts(folder):
        rows = pq.read_table(path).to_pylist()
        for row, vector in zip(rows, np.load(path.with_suffix(".npy")), strict=True):
            key = tuple(row.values())
            assert key not in vectors
            vectors[key] = vector.tobytes()
    return vectors


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the child reads /proc to know what it writes")
def test_killed_at_any_moment_it_resumes_bit_equal(tmp_path):
    write_photos(tmp_path / "photos", PHOTOS)
    run(tmp_path, table="uninterrupted")
    (tmp_path / "log").unlink()
    kept = {}
    random = np.random.default_rng()
    delays = random.uniform(0, 0.25, 4)
    print("delays", delays)  # shown where the test fails
    for workers, delay in zip((0, 1, 2, 0), delays, strict=True):
        kill_after_another_part(tmp_path, workers, delay)
        kept = grown(tmp_path, kept)
    for pattern, step in STILL:
        kill_while_it_stands_still(tmp_path, pattern, step)
        kept = grown(tmp_path, kept)
    summary = run(tmp_path)
    assert_equal_tables(tmp_path)
    assert summary.detections == summary.forwards == 0  # the last two kills came after the last part


def grown(folder, kept):
    """What is whole now; nothing that was whole before may be lost or changed."""
    now = whole_vectors(folder)
    assert kept.items() <= now.items()
    return now


def assert_equal_tables(folder):
    resumed, uninterrupted = (FeatureTable.open(folder / name) for name in ("table", "uninterrupted"))
    assert resumed.samples().equals(uninterrupted.samples())
    ours, theirs = resumed.matrix(), uninterrupted.matrix()
    assert ours.X.tobytes() == np.ascontiguousarray(theirs.X).tobytes()
    assert ours.path.tolist() == theirs.path.tolist()
    assert len(set(ours.content)) == len(ours) == len(whole_vectors(folder))
    assert not list((folder / "table").rglob("*.tmp"))
