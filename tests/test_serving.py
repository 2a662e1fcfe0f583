"""One detector for all worker processes, as on a GPU; here it runs on the CPU, which is the same code."""

import errno
import threading
import time
from multiprocessing import current_process
from multiprocessing.connection import Client
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from featurepipe.cli import main
from featurepipe.content import content_of_file
from featurepipe.datasets.synthetic import Identity, render_face
from featurepipe.errors import FeaturepipeError, WeightsError
from featurepipe.faces.detectors import DetectorSpec
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.serving import DetectorServer, RemoteDetector, shared
from featurepipe.features.table import FeatureTable
from featurepipe.features.workers import Workers
from featurepipe.records import Face, FaceTask, Framing, Sample


def saved(path, image):
    Image.fromarray(image).save(path)
    return Sample(str(path))


def photograph(subject, size):
    return render_face(Identity.draw(5, subject), "surprise", 0.7, size=size, rng=np.random.default_rng(subject)).image


class Sizes:
    """In the place of a spec and its detector: a photo's "face" is its size; of photos 7 high there is none."""

    def __init__(self):
        self.batches, self.started, self.go = [], threading.Event(), threading.Event()
        self.go.set()

    def build(self):
        return self

    def batch(self, photos):
        self.started.set()
        assert self.go.wait(10)
        self.batches.append(len(photos))
        if any(photo.shape[0] == 7 for photo in photos):
            raise WeightsError("seven is too much")
        return [[Face(0, 0, photo.shape[1], int(photo.sum()))] for photo in photos]


def photo_of(width, height=3):
    return np.full((height, width, 3), width, np.uint8)


def face_of(width, height=3):
    return [Face(0, 0, width, width * width * height * 3)]


@pytest.fixture
def line():
    """Opens a line to a server as a worker process does."""
    return lambda server: RemoteDetector(*server.__reduce__()[1])


def ask_all(ask, widths):
    """Answers to photos of several widths, asked at the same time."""
    answers = {}
    threads = [threading.Thread(target=lambda w=w: answers.update({w: ask(w)})) for w in widths]
    for thread in threads:
        thread.start()
    return threads, answers


def test_photos_that_wait_together_are_detected_in_together(line):
    sizes = Sizes()
    sizes.go.clear()
    with DetectorServer(sizes) as server:
        first, answer = ask_all(lambda w: server(photo_of(w)), [1])
        assert sizes.started.wait(10)
        others, answers = ask_all(lambda w: line(server)(photo_of(w)), range(2, 8))
        while server._waiting.qsize() < 6:
            pass
        sizes.go.set()
        for thread in first + others:
            thread.join()
    assert answer | answers == {width: face_of(width) for width in range(1, 8)}
    assert sizes.batches == [1, 6]


def test_an_error_reaches_the_photo_at_fault_alone(line):
    sizes = Sizes()
    sizes.go.clear()

    def ask(width):
        try:
            return line(server)(photo_of(width, height=7 if width == 5 else 3))
        except WeightsError as error:
            return str(error)

    with DetectorServer(sizes) as server:
        first, answers = ask_all(ask, [1])
        assert sizes.started.wait(10)
        others, more = ask_all(ask, [4, 5, 6])
        while server._waiting.qsize() < 3:
            pass
        sizes.go.set()
        for thread in first + others:
            thread.join()
    assert answers | more == {1: face_of(1), 4: face_of(4), 5: "seven is too much", 6: face_of(6)}
    assert sizes.batches == [1, 3, 1, 1, 1]


class Stubborn(Exception):
    """Pickles, but does not come back."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_an_error_that_cannot_travel_is_told_all_the_same(line, monkeypatch):
    sizes = Sizes()
    monkeypatch.setattr(sizes, "batch", Mock(side_effect=Stubborn(1, 2)))
    with DetectorServer(sizes) as server:
        ask = line(server)
        for _ in range(2):
            with pytest.raises(FeaturepipeError, match="Stubborn: 1 and 2"):
                ask(photo_of(2))


def test_a_temporary_folder_with_a_long_name_is_no_hindrance(line, tmp_path, monkeypatch):
    monkeypatch.setitem(current_process()._config, "tempdir", str(tmp_path / ("long" * 30)))
    with DetectorServer(Sizes()) as server:
        assert line(server)(photo_of(2)) == face_of(2)


def test_a_server_that_can_let_nobody_in_waits(line, monkeypatch):
    server, calls = DetectorServer(Sizes()), []
    accept, until = server._listener.accept, time.monotonic() + 0.3

    def no_descriptors():
        calls.append(1)
        if time.monotonic() < until:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept()

    monkeypatch.setattr(server._listener, "accept", no_descriptors)
    with server:
        assert line(server)(photo_of(2)) == face_of(2)
    assert len(calls) < 50


def test_whoever_leaves_in_the_middle_disturbs_nobody(line):
    before = threading.active_count()
    with DetectorServer(Sizes()) as server:
        address = server.__reduce__()[1][0]
        with Client(address, authkey=current_process().authkey) as leaving:
            leaving.send((3, 3, 3))
        with Client(address) as stranger:
            stranger.send_bytes(b"no key")
        assert line(server)(photo_of(2)) == face_of(2)
    assert threading.active_count() <= before + 1  # the thread of a line ends when the line is gone


def test_photos_as_large_and_as_odd_as_they_come(line):
    rng = np.random.default_rng(0)
    with DetectorServer(Sizes()) as server:
        for photo in (
            rng.integers(0, 256, (1000, 1000, 3), np.uint8),
            photo_of(9)[:, ::-1],
            photo_of(4).transpose(1, 0, 2),
        ):
            assert line(server)(photo) == [Face(0, 0, photo.shape[1], int(photo.sum()))]


def test_only_mmod_on_a_gpu_is_shared():
    alone = (("mmod", "cpu"), ("mmod", "cpu:0"), ("hog", "cuda"), ("none", "cuda"))
    for spec in (DetectorSpec(name, device=device) for name, device in alone):
        with shared(spec) as detect:
            assert detect is None
    with shared(DetectorSpec("mmod", device="cuda")) as detect:  # builds nothing before the first photo
        assert isinstance(detect, DetectorServer)


@pytest.fixture
def samples(tmp_path):
    """Photos of several sizes, one larger than the detector's copy, one without a face, one that is none."""
    pytest.importorskip("face_recognition_models")
    sizes = [(200, 200), (180, 230), (640, 520), (200, 200), (150, 150)]
    made = [saved(tmp_path / f"{number}.png", photograph(number, size)) for number, size in enumerate(sizes)]
    (tmp_path / "5.png").write_bytes(b"no photo")
    return [*made, Sample(str(tmp_path / "5.png")), saved(tmp_path / "6.png", np.zeros((90, 90, 3), np.uint8))]


@pytest.mark.parametrize("processes", [0, 2])
def test_faces_and_crops_are_those_of_a_detector_of_ones_own(samples, processes):
    spec, framing = DetectorSpec("mmod", 400), Framing(48, "RGB", margin=0.3)
    tasks = [FaceTask(sample, content_of_file(Path(sample.path).read_bytes())) for sample in samples]
    expected = [FaceFinder(spec, framing, "all")(task) for task in tasks]
    with (
        DetectorServer(spec) as server,
        Workers(FaceFinder(spec, framing, "all", detect=server), processes, 16) as workers,
    ):
        found = [result for _, result in workers.results(tasks)]
    assert [result.status for result in found] == ["ok"] * 5 + ["unreadable", "no_face"]
    for one, other in zip(expected, found, strict=True):
        assert (one.status, one.error, one.faces) == (other.status, other.error, other.faces)
        np.testing.assert_array_equal(one.crops, other.crops)


def test_extract_with_a_shared_detector_makes_the_same_table(samples, tmp_path, monkeypatch, capsys):
    for number in range(7, 24):  # enough for two workers
        Image.new("RGB", (30 + number, 40)).save(tmp_path / f"{number}.png")
    command = ["extract", str(tmp_path), "--backbone", "hog", "--detector", "mmod", "--device", "cpu", "--workers", "2"]
    assert main([*command, "--table", str(tmp_path / "own")]) == 0
    monkeypatch.setattr(DetectorSpec, "on_gpu", True)
    assert main([*command, "--table", str(tmp_path / "shared")]) == 0
    assert "detected in 23" in capsys.readouterr().out
    own, served = (FeatureTable.open(tmp_path / name).matrix() for name in ("own", "shared"))
    np.testing.assert_array_equal(own.X, served.X)
    np.testing.assert_array_equal(own.box, served.box)


def test_an_error_of_the_detector_ends_extract_with_its_text(samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(DetectorSpec, "on_gpu", True)

    def fail(spec):
        raise WeightsError("the weights have gone")

    monkeypatch.setattr(DetectorSpec, "build", fail)
    command = ["extract", str(tmp_path), "--backbone", "hog", "--detector", "mmod", "--device", "cpu", "--workers", "2"]
    assert main([*command, "--table", str(tmp_path / "table")]) == 2
    assert "the weights have gone" in capsys.readouterr().err
