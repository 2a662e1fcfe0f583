"""Peak memory of the real command: dlib in worker processes and a fer-vgg, over 500 and over 5,000 photos."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_helpers import untrained_weights
from process_helpers import session

from featurepipe.datasets.synthetic import write_faces
from featurepipe.features.table import FeatureTable

FEW, MANY = 500, 5000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_photos(tmp_path, capsys):
    rendered = write_faces(tmp_path / "rendered", subjects=13, size=(160, 160), seed=4)
    weights = untrained_weights(tmp_path / "fer.safetensors")
    peaks = {count: measured(tmp_path, copies(tmp_path, rendered, count), weights) for count in (FEW, MANY)}
    with capsys.disabled():
        print()
        for count, (command, workers, seconds) in peaks.items():
            print(f"{count} photos, {seconds:.0f} s: peak {command:.1f} MiB, workers {workers} MiB")
    few, many = peaks[FEW], peaks[MANY]
    assert many[0] < 1.1 * few[0]
    assert len(many[1]) == len(few[1]) == 2
    assert max(many[1]) < 1.1 * max(few[1])


def copies(folder, photos, count):
    """`count` photos that differ in their bytes: after the end of a JPEG anything may follow."""
    target = folder / f"photos-{count}"
    target.mkdir()
    data = [photo.read_bytes() for photo in photos]
    for number in range(count):
        (target / f"{number:05d}.jpg").write_bytes(data[number % len(data)] + b"%d" % number)
    return target


def measured(folder, photos, weights):
    """Peak resident MiB of the command and of each of its two workers, and how long it took."""
    table = folder / f"table-{photos.name}"
    words = ("extract", photos, "--table", table, "--weights", weights, "--workers", 2)
    started = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "featurepipe", *map(str, words)], start_new_session=True)
    peaks = {}
    while child.poll() is None:
        # The last reading of each counts: between fork and exec a worker still shows its parent's peak.
        peaks |= {process: peak for process in session(child.pid) if (peak := peak_of(process))}
        time.sleep(0.02)
    assert child.returncode == 0
    count = len(list(photos.iterdir()))
    assert len(set(FeatureTable.open(table).samples()["content"].to_pylist())) == count
    assert len(FeatureTable.open(table).matrix()) > 0.95 * count
    workers = sorted(round(peak, 1) for process, peak in peaks.items() if process != child.pid)
    return peaks[child.pid], workers[-2:], time.monotonic() - started  # the smallest: multiprocessing's own helper


def peak_of(process):
    """Peak resident MiB so far; 0 once the process has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0
