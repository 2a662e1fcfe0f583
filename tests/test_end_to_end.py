"""The main job with nothing faked: photos, dlib, a fer-vgg, the table on disk, through the command line."""

import csv
import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from command_helpers import parts, run, start, untrained_weights, vectors, write_csv
from hostile import write_hostile
from PIL import Image
from process_helpers import session, wait_until

from featurepipe.cli import main
from featurepipe.commands.steps import fill_table
from featurepipe.conversion.layout import write_vgg16
from featurepipe.datasets.source import Source
from featurepipe.datasets.synthetic import Identity, render_group
from featurepipe.devices import resolve_device, resolve_precision
from featurepipe.features.backbones import load_backbone
from featurepipe.features.stores import FaceStore
from featurepipe.features.table import FeatureTable
from featurepipe.networks.vgg16 import FULL, VGG16
from featurepipe.records import Face, Sample

PHOTOS = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return untrained_weights(tmp_path_factory.mktemp("weights") / "fer.safetensors")


@pytest.fixture(scope="module")
def extract(weights):
    """Words of an extract in this process, in batches of 8."""

    def words(source, table, *more):
        given = () if "--workers" in more else ("--workers", 0)
        return ("extract", source, "--table", table, "--weights", weights, "--batch-size", 8, *given, *more)

    return words


@pytest.fixture(scope="module")
def uninterrupted(extract, rendered, tmp_path_factory):
    """The table of `rendered`, made in one go in one process."""
    table = tmp_path_factory.mktemp("uninterrupted") / "table"
    assert main([str(word) for word in extract(rendered / "samples.csv", table)]) == 0
    assert len(FeatureTable.open(table).matrix()) == PHOTOS
    return table


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Two photos of three people each."""
    folder = tmp_path_factory.mktemp("group")
    for number in range(2):
        people = [Identity.draw(number, person) for person in range(3)]
        emotions = ["happiness", "neutral", "anger"]
        shot = render_group(people, emotions, size=(720, 300), rng=np.random.default_rng(number))
        Image.fromarray(shot.image).save(folder / f"{number}.png")
    return folder


class TestHostileFolder:
    def test_extract_and_classify_lose_nothing(self, extract, uninterrupted, weights, tmp_path, capsys):
        photos, table = tmp_path / "photos", tmp_path / "table"
        expected = write_hostile(photos)
        for name in ("folder.jpg", "pipe.jpg"):  # no photos, whatever their names: pipes are told of
            del expected[name]
        assert len(expected) >= 40
        summary = run(capsys, *extract(photos, table, "--policy", "all", "--workers", 2))
        assert summary["statuses"] == Counter(outcome.status for outcome in expected.values())
        samples = FeatureTable.open(table).samples().to_pylist()
        assert {Path(row["path"]).name: row["status"] for row in samples} == {
            name: outcome.status for name, outcome in expected.items()
        }
        assert all((row["error"] == "") == (row["status"] == "ok") for row in samples)
        found = boxes(table)
        for name, outcome in expected.items():
            assert (name, len(found[name])) == (name, len(outcome.boxes))
            for box in outcome.boxes:
                near = (box.left, box.top, box.right, box.bottom)
                assert max(overlap(near, other) for other in found[name]) > 0.5, name

        model, out = tmp_path / "svm.pkl", tmp_path / "out"
        run(capsys, "fit_svm", uninterrupted, "--model", model, "--weights", weights, "--folds", 2, "--C", 1)
        words = ("classify", photos, "--model", model, "--weights", weights, "--out", out, "--table", table)
        assert run(capsys, *words)["extraction"]["detections"] == 0
        with open(out / "predictions.csv", newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert Counter(Path(row["path"]).name for row in rows) == {
            name: max(1, len(outcome.boxes)) for name, outcome in expected.items()
        }
        for row in rows:
            assert bool(row["label"]) == (row["status"] == "ok")


def boxes(table):
    """The boxes of every photo, by its name."""
    features = FeatureTable.open(table).matrix()
    found = {Path(path).name: [] for path in FeatureTable.open(table).samples()["path"].to_pylist()}
    for path, box in zip(features.path, features.box.tolist(), strict=True):
        found[Path(path).name].append(tuple(box))
    return found


def overlap(one, other):
    """Intersection over union of two boxes (left, top, right, bottom)."""
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) + 1 for i in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_extract_loads_nothing_that_it_does_not_use():
    code = "import sys, featurepipe.commands.extract, featurepipe.features.backbones; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"sklearn", "scipy", "pandas", "torchvision", "matplotlib", "dlib", "h5py"} & set(loaded)


def test_parts_say_what_their_last_bits_depend_on(uninterrupted):
    made = json.loads(pq.read_schema(parts(uninterrupted)[0]).metadata[b"made_with"])
    assert made["device"] == str(resolve_device("auto"))
    assert made["precision"] == resolve_precision("auto", resolve_device("auto"))
    assert (made["batch_size"], made["torch"]) == (8, torch.__version__)


class TestBitEquality:
    def test_worker_processes_change_no_bit(self, extract, rendered, uninterrupted, tmp_path, capsys):
        run(capsys, *extract(rendered / "samples.csv", tmp_path / "two", "--workers", 2))
        one, two = (FeatureTable.open(table).matrix() for table in (uninterrupted, tmp_path / "two"))
        assert one.path.tolist() == two.path.tolist()
        assert one.X.tobytes() == np.ascontiguousarray(two.X).tobytes()
        assert len(np.unique(one.X, axis=0)) == PHOTOS

    def test_photos_added_later_change_no_vector(self, extract, rendered, uninterrupted, tmp_path, capsys):
        """Twenty photos first: no batch, no place in a batch and no neighbour is then as in one go."""
        photos = sorted(rendered.rglob("*.jpg"))
        table = tmp_path / "table"
        run(capsys, *extract(write_csv(tmp_path / "first.csv", photos[::-1][:20]), table))
        before = vectors(table)
        summary = run(capsys, *extract(write_csv(tmp_path / "all.csv", photos), table))
        assert (summary["detections"], summary["vectors"]) == (PHOTOS - 20, PHOTOS - 20)
        after = vectors(table)
        assert before.items() <= after.items()
        assert after == vectors(uninterrupted)

    @pytest.mark.skipif(not hasattr(os, "killpg"), reason="a terminal's Ctrl-C reaches the whole group")
    def test_ctrl_c_exits_130_and_the_next_run_ends_bit_equal(self, extract, rendered, uninterrupted, tmp_path, capsys):
        words, table = extract(rendered / "samples.csv", tmp_path / "table", "--workers", 2), tmp_path / "table"
        child = start(*words)
        wait_until(lambda: parts(table), child=child)
        os.killpg(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=30)
        assert child.returncode == 130
        (line,) = said.decode().strip().splitlines()
        assert line.startswith("featurepipe extract: stopped")
        wait_until(lambda: not session(child.pid), seconds=5)
        assert not list(table.rglob("*.tmp"))
        resumed = run(capsys, *words)
        assert 0 < resumed["vectors"] < PHOTOS
        assert resumed["detections"] < PHOTOS
        assert vectors(table) == vectors(uninterrupted)


class TestBatchComposition:
    """A vector depends on its own crop alone, to the last bit, on the processor this runs on."""

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_of_the_architecture_that_ships(self, tmp_path, precision):
        path = untrained_weights(tmp_path / "half.safetensors", width=0.5)
        backbone = load_backbone("fer-vgg", weights=path, device="cpu", precision=precision)
        assert_independent(backbone, batch_size=32, shifts=(1, 5, 16))

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_of_vgg16(self, tmp_path, precision):
        torch.manual_seed(0)
        write_vgg16(tmp_path / "vgg.safetensors", VGG16().state_dict(), FULL)
        backbone = load_backbone("vgg-face", weights=tmp_path / "vgg.safetensors", device="cpu", precision=precision)
        assert_independent(backbone, batch_size=4, shifts=(1, 2, 3))


def assert_independent(backbone, batch_size, shifts):
    """Faces in a full batch, moved to other places in it, among other faces, and in one that is padded with black."""
    rng = np.random.default_rng(0)
    faces, others = rng.integers(0, 256, (2, batch_size, *backbone.framing.shape), np.uint8)
    expected = backbone(faces)
    assert len(np.unique(expected, axis=0)) == batch_size
    for shift in shifts:
        np.testing.assert_array_equal(backbone(np.roll(faces, shift, axis=0)), np.roll(expected, shift, axis=0))
    alone = np.arange(batch_size) % 3 == 0
    for neighbours in (others, np.zeros_like(faces)):
        mixed = np.where(alone.reshape(-1, *[1] * (faces.ndim - 1)), faces, neighbours)
        np.testing.assert_array_equal(backbone(mixed)[alone], expected[alone])


class TestFaces:
    def test_all_faces_and_the_largest_share_one_detection(self, extract, group, tmp_path, capsys):
        table = tmp_path / "table"
        run(capsys, *extract(group, table))
        largest = vectors(table)
        assert len(largest) == 2
        every = run(capsys, *extract(group, table, "--policy", "all"))
        assert (every["detections"], every["vectors"]) == (0, 4)
        assert len(vectors(table)) == 6
        assert largest.items() <= vectors(table).items()
        assert vectors(table, policy="largest") == largest

    def test_a_margin_is_another_vector_of_the_same_face(self, extract, group, tmp_path, capsys):
        table = tmp_path / "table"
        run(capsys, *extract(group, table))
        tight, half = vectors(table), FeatureTable.open(table).face_half
        wide = run(capsys, *extract(group, table, "--margin", 0.5))
        assert (wide["detections"], wide["vectors"]) == (0, 2)
        assert FeatureTable.open(table).face_half == half | {"margin": 0.5}
        loose = vectors(table)
        assert loose.keys() == tight.keys()
        assert not set(loose.values()) & set(tight.values())
        assert vectors(table, face_half=half) == tight
        again = run(capsys, *extract(group, table))
        assert (again["detections"], again["forwards"]) == (0, 0)

    def test_given_boxes_are_cut_in_one_way_whatever_the_detector(self, weights, group, tmp_path):
        backbone = load_backbone("fer-vgg", weights=weights, device="cpu", precision="fp32")
        photo = str(min(group.iterdir()))

        def fill(sample, detector, margin=None):
            asked = Namespace(
                device="cpu", detector=detector, margin=margin, max_side=None, policy="largest", workers=0
            )
            return fill_table(asked, Source([sample], "folder", "photos"), tmp_path / "table", backbone).vectors

        boxed = Sample(photo, box=Face(60, 40, 159, 139))
        assert [fill(boxed, "none"), fill(boxed, "hog")] == [1, 0]
        assert FeatureTable.open(tmp_path / "table").face_half["margin"] == 0.3
        assert [fill(boxed, "none", margin=0), fill(boxed, "hog", margin=0), fill(boxed, "none", 0.5)] == [1, 0, 1]
        assert [fill(Sample(photo), "none", 0.5), fill(Sample(photo), "none")] == [1, 0]  # the photo is the crop
        assert FeatureTable.open(tmp_path / "table").face_half["margin"] == 0.0

    def test_a_second_detector_keeps_its_own_boxes_in_the_same_table(self, extract, group, tmp_path, capsys):
        pytest.importorskip("facenet_pytorch")
        table = tmp_path / "table"
        run(capsys, *extract(group, table))
        hog, half = vectors(table), FeatureTable.open(table).face_half
        assert run(capsys, *extract(group, table, "--detector", "mtcnn"))["detections"] == 2
        mtcnn = vectors(table)
        assert len(mtcnn) == len(hog) == 2
        assert not mtcnn.keys() & hog.keys()
        assert {FaceStore.open(folder)[key[0]].status for folder in (table / "faces").iterdir() for key in hog} == {
            "ok"
        }
        assert vectors(table, face_half=half) == hog
        again = run(capsys, *extract(group, table))
        assert (again["detections"], again["forwards"]) == (0, 0)
        assert vectors(table) == hog
