"""The extraction loop with fakes of the face stage and the backbone."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from extraction_helpers import (
    BOX,
    FACE_HALF,
    FRAMING,
    FakeBackbone,
    FakeFinder,
    expected_vector,
    write_photo,
    write_photos,
)
from process_helpers import session, wait_until

from featurepipe.content import content_of_file
from featurepipe.errors import FeaturepipeError, InputError, MissingPackageError, TableError
from featurepipe.features import extraction, workers
from featurepipe.features.extraction import content_of, extract
from featurepipe.features.pixels import Pixels
from featurepipe.features.table import FeatureTable, prune, writing
from featurepipe.features.workers import Workers
from featurepipe.files import sha256_of
from featurepipe.records import Face, FaceResult, FaceTask, Sample


@pytest.fixture
def folder(tmp_path):
    """An empty table's place, photos' place and a log of detections."""
    return tmp_path


def run(folder, samples, backbone=None, **options):
    half = {**FACE_HALF, **options.pop("half", {})}
    finder = options.pop("find", FakeFinder(str(folder / "log"), half["policy"], half["margin"]))
    return extract(samples, folder / "table", finder, backbone or FakeBackbone(), half, **options)


def detections(folder):
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else []


def rows(folder):
    return FeatureTable.open(folder / "table").samples().to_pylist()


def vectors_by_key(features):
    keys = zip(features.content, map(tuple, features.box), strict=True)
    return dict(zip(keys, features.X, strict=True))


def test_a_face_half_that_lacks_a_key_is_refused(folder):
    half = {name: value for name, value in FACE_HALF.items() if name not in ("margin", "policy")}
    with pytest.raises(InputError, match=r"face_half lacks margin, policy: .* FaceFinder\.recipe"):
        extract([], folder / "table", FakeFinder(), FakeBackbone(), half)
    assert not (folder / "table").exists()


def test_vectors_stand_beside_the_photos_they_came_from(folder):
    samples = write_photos(folder / "photos", 40)
    summary = run(folder, samples, batch_size=8, part_rows=16)
    features = FeatureTable.open(folder / "table").matrix()
    faceless = {sample.path for i, sample in enumerate(samples) if i % 7 == 3}
    assert list(features.path) == [sample.path for sample in samples if sample.path not in faceless]
    assert summary.statuses == {"ok": 34, "no_face": 6} == features.coverage
    for row, (path, content) in enumerate(zip(features.path, features.content, strict=True)):
        number = int(Path(path).stem)
        assert content == content_of_file(Path(path).read_bytes())
        assert features.subject[row] == f"s{number}"
        box = [0, 0, 99, 99 + number] if number % 11 == 0 else BOX[:4]
        assert features.box[row].tolist() == box
        assert features.face[row] == (number % 11 == 0)
        np.testing.assert_allclose(features.X[row], expected_vector(content, box), atol=0.01)


def test_second_run_computes_nothing(folder):
    samples = write_photos(folder / "photos", 30)
    first = run(folder, samples)
    again = run(folder, samples)
    assert (first.detections, first.vectors, first.forwards) == (30, 26, 4)  # of FakeBackbone.batch_size
    assert (again.detections, again.vectors, again.forwards) == (0, 0, 0)
    assert len(detections(folder)) == 30
    assert again.statuses == first.statuses


def test_only_photos_that_a_detector_ran_on_count_as_detected_in(folder):
    samples = write_photos(folder / "photos", 6)
    samples[0] = replace(samples[0], box=Face(0, 0, 9, 9))
    assert run(folder, samples).detections == 5
    whole = run(folder, samples, half={"detector": "none"})
    assert (whole.detections, whole.vectors) == (0, 0)


def test_touched_renamed_relabelled_photos_are_not_computed_again(folder):
    samples = write_photos(folder / "photos", 10)
    run(folder, samples)
    before = FeatureTable.open(folder / "table").matrix()
    moved = folder / "elsewhere" / "ä photo.jpg"
    moved.parent.mkdir()
    os.rename(samples[0].path, moved)
    os.utime(samples[1].path, (1, 1))
    changed = [replace(samples[0], path=str(moved)), replace(samples[1], label="fear", raw_label="Fear"), *samples[2:]]
    summary = run(folder, changed)
    after = FeatureTable.open(folder / "table").matrix()
    assert (summary.detections, summary.forwards) == (0, 0)
    assert (after.path[0], after.label[1]) == (str(moved), "fear")
    np.testing.assert_array_equal(after.X, before.X)


def test_second_backbone_detects_nothing(folder):
    samples = write_photos(folder / "photos", 20)
    run(folder, samples)
    summary = run(folder, samples, FakeBackbone(3, "other"))
    assert (summary.detections, summary.vectors) == (0, 17)
    assert len(detections(folder)) == 20
    table = FeatureTable.open(folder / "table")
    assert table.matrix().X.shape == (17, 3)
    assert table.matrix("fake").X.shape == (17, 6)


def test_other_face_half_never_mixes(folder):
    samples = write_photos(folder / "photos", 10)
    run(folder, samples)
    wide = run(folder, samples, half={"margin": 0.5})
    shifted = run(folder, samples, half={"max_side": 320}, find=FakeFinder(str(folder / "log"), shift=1))
    assert (wide.detections, wide.vectors) == (0, 9)
    assert (shifted.detections, shifted.vectors) == (10, 9)
    table = FeatureTable.open(folder / "table")
    for half, margin, shift in ((FACE_HALF, 0.25, 0), ({**FACE_HALF, "margin": 0.5}, 0.5, 0), (None, 0.25, 1)):
        features = table.matrix(face_half=half)
        assert len(features) == 9
        for content, box, vector in zip(features.content, features.box, features.X, strict=True):
            np.testing.assert_allclose(vector, expected_vector(content, box.tolist(), margin=margin), atol=0.01)
        assert (features.box[1][0] - BOX[0]) == shift


def test_policy_all_adds_only_the_faces_that_are_new(folder):
    samples = write_photos(folder / "photos", 12)  # photos 0 and 11 have two faces, 3 and 10 none
    run(folder, samples)
    summary = run(folder, samples, half={"policy": "all"})
    assert (summary.detections, summary.vectors) == (0, 2)
    table = FeatureTable.open(folder / "table")
    assert table.matrix().face.tolist() == [0, 1, *[0] * 8, 0, 1]
    assert table.matrix(policy="largest").face.tolist() == [1, *[0] * 8, 1]


def test_duplicates_are_computed_once_and_keep_their_rows(folder):
    first = write_photo(folder / "photos" / "a.jpg", 1)
    second = replace(write_photo(folder / "photos" / "b.jpg", 1), label="fear")
    summary = run(folder, [first, second])
    features = FeatureTable.open(folder / "table").matrix()
    assert (summary.duplicates, summary.detections, summary.vectors) == (1, 1, 1)
    assert features.label.tolist() == ["anger", "fear"]
    np.testing.assert_array_equal(features.X[0], features.X[1])


def test_the_network_sees_full_batches_only(folder):
    backbone = FakeBackbone()
    summary = run(folder, write_photos(folder / "photos", 30), backbone, batch_size=8)
    assert backbone.batches == [8, 8, 8, 8]
    assert (summary.forwards, summary.vectors) == (4, 26)


def test_every_sample_gets_a_row_with_its_status(folder):
    photos = folder / "photos"
    good = write_photo(photos / "good.jpg", 1)
    (photos / "dangling.jpg").symlink_to("nowhere.jpg")
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (photos / "folder.jpg").mkdir()
    os.mkfifo(photos / "pipe.jpg")
    samples = [
        Sample(str(photos / "absent.jpg")),
        Sample(str(photos / "dangling.jpg")),
        Sample(str(photos / "good.jpg" / "below.jpg")),
        Sample(str(photos / "loop.jpg")),
        Sample(str(photos / "folder.jpg")),
        Sample(str(photos / "pipe.jpg")),
        Sample("a\0b.jpg"),
        write_photo(photos / "broken.jpg", 2, status="unreadable"),
        write_photo(photos / "huge.jpg", 3, status="too_large"),
        write_photo(photos / "nobody.jpg", 4, faces=[]),
        good,
    ]
    summary = run(folder, samples)
    expected = ["missing"] * 3 + ["unreadable"] * 5 + ["too_large", "no_face", "ok"]
    assert [row["status"] for row in rows(folder)] == expected
    assert all(bool(row["error"]) == (row["status"] != "ok") for row in rows(folder))
    assert summary.statuses == {"ok": 1, "no_face": 1, "missing": 3, "unreadable": 5, "too_large": 1}
    assert FeatureTable.open(folder / "table").matrix().path.tolist() == [good.path]


def test_equal_answers_are_kept_once(folder):
    samples = [write_photo(folder / f"{number}.jpg", number, faces=[]) for number in range(3)]
    with writing(folder / "table", FACE_HALF, FakeBackbone().recipe()) as writer:
        kept = extraction._Run(writer, FakeBackbone(), content_of, 8, 8, {})
        with kept:
            for sample in samples:
                task = FaceTask(sample, content_of(sample))
                kept.take(task, pickle.loads(pickle.dumps(FakeFinder()(task))))
    assert len(kept.answers) == 3
    assert len({id(answer) for answer in kept.answers.values()}) == 1


def test_failures_of_the_content_are_not_decoded_again(folder):
    samples = [write_photo(folder / "a.jpg", 1, status="unreadable"), write_photo(folder / "b.jpg", 2, faces=[])]
    run(folder, samples)
    assert run(folder, samples, find=None).statuses == {"no_face": 1, "unreadable": 1}


class UpgradedFinder(FakeFinder):
    """Reads what the other one cannot."""

    def _failed(self, task, *_, **__):
        face = Face(*BOX)
        return FaceResult(task.content, "ok", "", (face,), (0,), self._crop(task.content, face)[None], {})


@pytest.mark.parametrize("before", [{"pillow": "1"}, None], ids=["another version", "a table from before"])
def test_failures_are_tried_again_where_photos_are_read_otherwise(folder, before):
    samples = [write_photo(folder / f"{status}.jpg", status, status=status) for status in ("unreadable", "too_large")]
    samples.append(write_photo(folder / "nobody.jpg", 3, faces=[]))
    run(folder, samples, read_with={"pillow": "1"})
    if before is None:
        (part,) = (folder / "table" / "faces").glob("*/part-*.parquet")
        pq.write_table(pq.read_table(part).replace_schema_metadata(None), part)
    failed = run(folder, samples, read_with={"pillow": "2"})
    assert failed.statuses == {"no_face": 1, "unreadable": 1, "too_large": 1}
    assert run(folder, samples, find=None, read_with={"pillow": "2"}).statuses == failed.statuses
    upgraded = run(folder, samples, find=UpgradedFinder(), read_with={"pillow": "3"})
    assert (upgraded.statuses, upgraded.detections) == ({"ok": 2, "no_face": 1}, 2)
    assert detections(folder) == [samples[2].path]
    assert prune(folder / "table").faces == 4
    assert run(folder, samples, find=None, read_with={"pillow": "3"}).statuses == upgraded.statuses


class FinderInNeed(FakeFinder):
    """Cannot open any photo at this moment."""

    def __call__(self, task):
        return self._failed(task, "unreadable", "Too many open files")


def test_failures_of_the_moment_are_tried_again(folder):
    samples = write_photos(folder / "photos", 3)
    assert run(folder, samples, find=FinderInNeed()).statuses == {"unreadable": 3}
    assert rows(folder)[0]["error"] == "Too many open files"
    assert run(folder, samples).statuses == {"ok": 3}


def test_a_photo_under_a_clips_name_says_nothing_about_its_content(folder):
    clip, photo = write_photo(folder / "a.mp4", 1), write_photo(folder / "b.jpg", 1)
    assert run(folder, [clip, photo]).statuses == {"ok": 1, "unreadable": 1}
    assert "name the frame" in rows(folder)[0]["error"]


class FinderAfterChange(FakeFinder):
    """Finds the photo changed, as if another program had written to it after the scan."""

    def __call__(self, task):
        Path(task.sample.path).write_text("changed")
        return super().__call__(task)


def test_a_photo_that_changes_during_the_run_says_nothing_about_its_content(folder):
    sample = write_photo(folder / "a.jpg", 1)
    summary = run(folder, [sample], find=FinderAfterChange())
    assert summary.statuses == {"unreadable": 1}
    assert "changed" in rows(folder)[0]["error"]
    write_photo(folder / "a.jpg", 1)
    assert run(folder, [sample]).statuses == {"ok": 1}


def test_a_photo_is_read_once_for_all_extracts_of_a_process_unless_it_changes(folder, monkeypatch):
    samples, read = write_photos(folder / "photos", 3), []
    monkeypatch.setattr(extraction, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    run(folder, samples)
    run(folder, samples, FakeBackbone(3, "other"))
    assert sorted(read) == [sample.path for sample in samples]
    before = os.stat(samples[0].path)
    content = content_of(samples[0])
    write_photo(folder / "photos" / "00000.jpg", 9, json.loads(Path(samples[0].path).read_text())["faces"])
    os.utime(samples[0].path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert os.stat(samples[0].path).st_size == before.st_size
    assert content_of(samples[0]) != content
    assert len(read) == 4


def test_pixels_and_given_boxes_are_part_of_the_key():
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    keys = [
        content_of(Sample("f.csv#0", pixels=pixels)),
        content_of(Sample("f.csv#0", pixels=pixels.reshape(2, 8))),
        content_of(Sample("f.csv#0", pixels=pixels, box=Face(0, 0, 1, 1))),
        content_of(Sample("f.csv#0", pixels=pixels, box=Face(0, 0, 2, 2))),
    ]
    assert len(set(keys)) == 4
    assert content_of(Sample("other.csv#7", label="fear", pixels=pixels.copy())) == keys[0]


def test_worker_processes_give_the_same_table(folder):
    samples = write_photos(folder / "photos", 40)
    run(folder, samples, batch_size=8)
    here = FeatureTable.open(folder / "table").matrix()
    (folder / "table").rename(folder / "in-process")
    summary = run(folder, samples, batch_size=8, workers=2)
    there = FeatureTable.open(folder / "table").matrix()
    np.testing.assert_array_equal(there.X, here.X)
    assert summary.seconds["decode"] == pytest.approx(20)
    assert summary.seconds["detect"] == pytest.approx(10)
    assert summary.seconds["wall"] < 20


def test_a_photo_that_kills_its_worker_is_a_row_and_stops_nothing(folder):
    samples = write_photos(folder / "photos", 20)
    samples[4] = write_photo(folder / "photos" / "bad4.jpg", 104, act="die")
    samples[6] = write_photo(folder / "photos" / "bad6.jpg", 106, act="memory")
    samples[8] = write_photo(folder / "photos" / "bad8.jpg", 108, act="die")
    run(folder, samples, workers=2)
    by_status = {row["path"]: row["status"] for row in rows(folder)}
    assert [path for path, status in by_status.items() if status == "unreadable"] == [
        samples[i].path for i in (4, 6, 8)
    ]
    assert all("died" in row["error"] for row in rows(folder) if row["status"] == "unreadable")
    assert sum(status == "ok" for status in by_status.values()) == 14
    # It is not held against the content: a machine with more memory may try again.
    write_photo(folder / "photos" / "bad4.jpg", 104)
    assert run(folder, [replace(samples[4], path=str(folder / "photos" / "bad4.jpg"))]).statuses == {"ok": 1}


class Unspawnable(FakeFinder):
    """Cannot be unpickled in a worker."""

    def __reduce__(self):
        return (int, ("no number",))


def test_workers_that_cannot_start_are_told_from_bad_photos(folder, capfd):
    with pytest.raises(FeaturepipeError, match="worker processes cannot be started"):
        run(folder, write_photos(folder / "photos", 3), find=Unspawnable(), workers=1)
    assert "no number" in capfd.readouterr().err


class DeadPool:
    """In the place of a pool whose workers all die at birth, the first one before the second is asked for."""

    def __init__(self, *_, **__):
        self.broken = False

    def submit(self, *_):
        if self.broken:
            raise BrokenProcessPool
        self.broken = True
        future = Future()
        future.set_exception(BrokenProcessPool())
        return future

    def shutdown(self, **_):
        pass


def test_workers_that_die_before_they_are_asked_are_told_too(folder, monkeypatch):
    monkeypatch.setattr(workers, "ProcessPoolExecutor", DeadPool)
    with pytest.raises(FeaturepipeError, match="worker processes cannot be started"):
        run(folder, write_photos(folder / "photos", 3), workers=2)


def test_workers_that_die_when_a_photo_is_asked_for_again_are_told_too(folder, monkeypatch):
    pool = Workers(FakeFinder(), 1, 8)
    pool._pool = DeadPool()
    pool._pool.broken = True
    monkeypatch.setattr(workers, "ProcessPoolExecutor", DeadPool)
    with pytest.raises(FeaturepipeError, match="worker processes cannot be started"):
        pool._alone(None)


@pytest.mark.parametrize(
    ("samples", "first"),
    [
        ([Sample("clip.avi", frame=number) for number in range(400)], [64, 64, 64, 64]),
        ([Sample("clip.avi", frame=number) for number in range(30)], [10, 10, 10]),
        ([Sample(f"{number}.jpg") for number in range(99)], [4] * 10),
        ([Sample("a.avi", frame=1), *(Sample(f"{name}.avi", frame=2) for name in "abcdefg")], [4, 4]),
    ],
    ids=["a long clip", "a clip", "photos", "clips of few frames"],
)
def test_groups_leave_no_process_without_work(samples, first, monkeypatch):
    submitted = []

    def answered(pool, group):
        submitted.append(len(group))
        future = Future()
        future.set_result([None] * len(group))
        return future

    monkeypatch.setattr(Workers, "_submitted", answered)
    tasks = [FaceTask(sample, "") for sample in samples]
    results = Workers(None, 3, 40).results(tasks)
    next(results)
    assert submitted == first
    assert [tasks[0], *(task for task, _ in results)] == tasks


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_face_stage_ends_the_run_and_keeps_what_was_computed(folder, workers):
    samples = write_photos(folder / "photos", 20)
    samples.append(write_photo(folder / "photos" / "bad.jpg", 100, act="package"))
    with pytest.raises(MissingPackageError, match="nowhere"):
        run(folder, samples, batch_size=8, workers=workers)
    summary = run(folder, samples[:20], batch_size=8)
    assert (summary.detections, summary.vectors) == (0, 1)  # 17 faces: two batches were kept, the rest of one not


def test_ctrl_c_keeps_whole_batches_and_the_next_run_is_bit_equal(folder):
    samples = write_photos(folder / "photos", 40)
    run(folder, samples, batch_size=4, part_rows=8)
    uninterrupted = FeatureTable.open(folder / "table").matrix()
    (folder / "table").rename(folder / "uninterrupted")
    (folder / "log").unlink()

    class Interrupting(FakeBackbone):
        def __call__(self, crops):
            if len(self.batches) == 4:
                signal.raise_signal(signal.SIGINT)
            return super().__call__(crops)

    with pytest.raises(KeyboardInterrupt):
        run(folder, samples, Interrupting(), batch_size=4, part_rows=8)
    with pytest.raises(TableError, match="no extract has finished"):
        FeatureTable.open(folder / "table")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    backbone = FakeBackbone()
    summary = run(folder, samples, backbone, batch_size=4, part_rows=8)
    resumed = FeatureTable.open(folder / "table").matrix()
    assert (summary.vectors, backbone.batches) == (14, [4] * 4)  # 34 faces less five batches
    assert len(set(detections(folder))) == len(detections(folder)) == 40
    np.testing.assert_array_equal(resumed.X, uninterrupted.X)
    assert resumed.path.tolist() == uninterrupted.path.tolist()


def test_ctrl_c_in_the_last_batch_is_not_swallowed_and_leaves_a_finished_table(folder):
    class Interrupting(FakeBackbone):
        def __call__(self, crops):
            if len(self.batches) == 1:
                signal.raise_signal(signal.SIGINT)
            return super().__call__(crops)

    samples = write_photos(folder / "photos", 14)
    with pytest.raises(KeyboardInterrupt):
        run(folder, samples, Interrupting(), batch_size=8)
    assert len(FeatureTable.open(folder / "table").matrix()) == 12
    assert run(folder, samples, batch_size=8).forwards == 0


def test_crops_are_a_backbone_too(folder):
    samples = write_photos(folder / "photos", 12)
    run(folder, samples, Pixels(FRAMING))
    features = FeatureTable.open(folder / "table").matrix("pixels")
    assert features.X.dtype == np.uint8
    assert features.X.shape == (10, *FRAMING.shape)
    finder = FakeFinder()
    for content, box, crop in zip(features.content, features.box, features.X, strict=True):
        np.testing.assert_array_equal(crop, finder._crop(content, Face(*box.tolist())))


def test_parts_of_large_rows_stay_small(folder, monkeypatch):
    monkeypatch.setattr(extraction, "PART_BYTES", 5 * FRAMING.size**2 * 3)
    run(folder, write_photos(folder / "photos", 14), Pixels(FRAMING), batch_size=2)
    parts = sorted((folder / "table" / "vectors").glob("*/*.npy"))
    assert [len(np.load(part)) for part in parts] == [4, 4, 4]


def test_slow_photos_do_not_wait_for_a_full_part(folder, monkeypatch):
    monkeypatch.setattr(extraction, "PART_SECONDS", 0)
    run(folder, write_photos(folder / "photos", 14), batch_size=4)
    parts = sorted((folder / "table" / "vectors").glob("*/*.npy"))
    assert [len(np.load(part)) for part in parts] == [4, 4, 4]


def test_a_full_disk_is_an_error_that_says_so_and_the_next_run_continues(folder, monkeypatch):
    samples = write_photos(folder / "photos", 20)

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TableError, match=r"No space left.*make room"):
            run(folder, samples)
    assert run(folder, samples).statuses == {"ok": 17, "no_face": 3}
    assert not list((folder / "table").rglob("*.tmp"))


def test_a_backbone_that_loses_rows_is_refused(folder):
    class Losing(FakeBackbone):
        def __call__(self, crops):
            return super().__call__(crops)[1:]

    with pytest.raises(ValueError, match="8 crops with 7 vectors"):
        run(folder, write_photos(folder / "photos", 10), Losing(), batch_size=8)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"part_rows": 0}, {"workers": -1}])
def test_numbers_out_of_range(folder, options):
    with pytest.raises(InputError, match="at least"):
        run(folder, [], **options)


def test_an_empty_source_makes_an_empty_table(folder):
    assert run(folder, []).statuses == {}
    features = FeatureTable.open(folder / "table").matrix()
    assert (len(features), features.coverage) == (0, {})


_PARENT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_extraction import FakeFinder, run, write_photos
if __name__ == "__main__":
    folder = Path({folder!r})
    run(folder, write_photos(folder / "photos", 400), find=FakeFinder(str(folder / "log"), seconds=0.05), workers=2)
"""


def _start_parent(folder):
    script = folder / "parent.py"
    script.write_text(_PARENT.format(tests=str(Path(__file__).parent), folder=str(folder)))
    parent = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: len(detections(folder)) > 12)  # photos travel in fours: the first have come back
    return parent


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_leave_with_a_killed_parent(folder):
    parent = _start_parent(folder)
    assert len(session(parent.pid)) >= 3
    parent.kill()
    parent.wait()
    wait_until(lambda: not session(parent.pid), seconds=5)
    parent.stderr.close()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="a terminal's Ctrl-C reaches the whole group")
def test_ctrl_c_at_a_terminal_disturbs_no_worker(folder):
    parent = _start_parent(folder)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=20)
    assert parent.returncode == -signal.SIGINT
    assert errors.count(b"Traceback") == 1  # the parent's own KeyboardInterrupt, which a command turns into 130
    done = len(detections(folder))
    assert done < 100
    # Boxes are kept though no batch of vectors was full.
    assert run(folder, write_photos(folder / "photos", 2)).detections == 0


def peak_kib():
    """Peak resident memory of this process. (ru_maxrss would count the parent's too, from before the exec.)"""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


class MeasuredFinder(FakeFinder):
    """Leaves its process's peak memory in the log."""

    def __call__(self, task):
        result = super().__call__(task)
        Path(self.log).write_text(str(peak_kib()))
        return result

    def _detect(self, task, photo):
        return tuple(Face(*face) for face in photo["faces"])


_MEASURED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_extraction import FakeBackbone, MeasuredFinder, Sample, peak_kib, run
if __name__ == "__main__":
    import torch  # as beside every real backbone; without it a few MiB of Arrow's buffers come close to 10 %
    folder = Path({folder!r})
    samples = [Sample(str(path)) for path in sorted((folder / "photos").iterdir())]
    run(folder, samples, FakeBackbone(4096), find=MeasuredFinder(str(folder / "worker")), workers=1)
    print(peak_kib(), (folder / "worker").read_text())
"""


def _peak_memory(folder, photos):
    """Peak resident memory in KiB (of the process, of its worker) over an extraction of fc7-sized vectors."""
    write_photos(folder / "photos", photos)
    script = folder / "measured.py"
    script.write_text(_MEASURED.format(tests=str(Path(__file__).parent), folder=str(folder)))
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    return np.array(done.stdout.split(), float)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_photos(tmp_path):
    small, large = _peak_memory(tmp_path / "small", 500), _peak_memory(tmp_path / "large", 5000)
    print("peak KiB (process, worker):", small, large)
    assert (large < 1.1 * small).all()
