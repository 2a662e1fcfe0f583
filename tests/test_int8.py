"""--precision int8: vectors in 8 bits through OpenVINO, checked against fp32 before they are used."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from command_helpers import run
from extraction_helpers import FACE_HALF, FRAMING, FakeBackbone, FakeFinder, write_photo
from vgg_formats_helpers import SMALL, seeded_network

from featurepipe.cli import main
from featurepipe.commands import int8 as command
from featurepipe.conversion.layout import write_vgg16
from featurepipe.datasets.source import Source
from featurepipe.errors import InputError, TableError
from featurepipe.features.backbones import load_backbone
from featurepipe.features.extraction import extract as extract_table
from featurepipe.features.int8 import Int8Backbone, measure_scales
from featurepipe.features.pixels import Pixels
from featurepipe.features.table import FeatureTable, locked

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


def noise(count, *shape):
    """Crops with edges, as faces have them: blocks of 4 x 4 pixels."""
    blocks = np.random.default_rng(1).integers(0, 256, (count, *(side // 4 for side in shape[:2]), *shape[2:]))
    return blocks.astype(np.uint8).repeat(4, 1).repeat(4, 2)


def fp32(name="fer-vgg", **choice):
    return load_backbone(name, device="cpu", precision="fp32", **choice)


@pytest.fixture(scope="module")
def int8():
    backbone = fp32()
    return Int8Backbone(backbone, measure_scales(backbone, noise(16, 48, 48)))


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    """One of 48 faces may differ: of so few, 99 % is all of them."""
    assert command.LEAST == 0.99  # what README promises
    monkeypatch.setattr(command, "LEAST", 0.97)


@pytest.fixture
def extract(rendered, tmp_path, capsys):
    """Run extract of the rendered faces, which are taken whole, into a table."""

    def call(*words, table="table"):
        settings = ("--table", tmp_path / table, "--detector", "none", "--workers", 0, "--device", "cpu")
        return run(capsys, "extract", rendered / "samples.csv", *settings, *words)

    return call


def matrix(table):
    return np.array(FeatureTable.open(table).matrix().X)


@needs_openvino
def test_vectors_are_close_to_those_in_fp32_and_the_backbone_is_left_as_it_was(int8):
    crops, backbone = noise(24, 48, 48), fp32()
    exact = backbone(crops)
    rounded = Int8Backbone(backbone, int8.recipe()["int8"])(crops)
    assert rounded.dtype == np.float32
    assert rounded.shape == exact.shape
    assert command.cosines(exact, rounded).min() > 0.99
    assert not np.array_equal(exact, rounded)
    assert np.array_equal(backbone(crops), exact)


@needs_openvino
def test_one_photo_gives_the_vector_it_gives_in_a_batch(int8):
    crops = noise(9, 48, 48)
    together = int8(crops)
    assert all(np.array_equal(int8(crops[row : row + 1])[0], together[row]) for row in range(len(crops)))
    assert int8(crops[:0]).shape == (0, 4096)


@needs_openvino
@pytest.mark.parametrize("preprocessing", ["vggface", "paper"])
def test_vgg16_runs_in_int8(tmp_path, preprocessing):
    path, crops = tmp_path / "vgg.safetensors", noise(4, 224, 224, 3)
    write_vgg16(path, seeded_network().state_dict(), SMALL)
    backbone = fp32("vgg-face", weights=path, preprocessing=preprocessing)
    rounded = Int8Backbone(backbone, measure_scales(backbone, crops))
    assert command.cosines(backbone(crops), rounded(crops)).min() > 0.95
    assert rounded.cost() == backbone.cost()


@needs_openvino
def test_scales_of_another_network_are_refused():
    with pytest.raises(InputError, match=r"no layers features\.99"):
        Int8Backbone(fp32(), {"features.99": 0.1})


def test_crops_are_needed_to_measure_on():
    with pytest.raises(InputError, match="got none"):
        measure_scales(fp32(), np.empty((0, 48, 48), np.uint8))


@needs_openvino
def test_extract_measures_once_and_a_second_table_from_the_same_photos_is_the_same(extract, tmp_path):
    first = extract("--precision", "int8")
    assert first["vectors"] == 64
    again = extract("--precision", "int8")
    assert (again["vectors"], again["detections"]) == (0, 0)
    extract("--precision", "int8", table="other")
    assert np.array_equal(matrix(tmp_path / "table"), matrix(tmp_path / "other"))
    half = FeatureTable.open(tmp_path / "table").feature_half
    assert half["int8"]
    extract("--precision", "fp32")
    assert "int8" not in FeatureTable.open(tmp_path / "table").feature_half


@needs_openvino
def test_too_many_that_differ_are_refused_and_nothing_is_kept(extract, tmp_path, rendered, capsys, monkeypatch):
    monkeypatch.setattr(command, "LEAST", 1.01)
    words = (
        "extract",
        rendered,
        "--table",
        tmp_path / "t",
        "--detector",
        "none",
        "--workers",
        0,
        "--precision",
        "int8",
    )
    assert main([*map(str, words), "--device", "cpu"]) == 2
    assert "int8 is refused" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


@needs_openvino
def test_what_the_table_holds_is_checked_by_its_digest(extract, tmp_path, rendered, capsys):
    extract("--precision", "int8")
    (kept,) = (tmp_path / "table").glob(".int8-*.json")
    document = json.loads(kept.read_text())
    kept.write_text(json.dumps(document | {"agreement": 1.0, "faces": 1000}))
    words = ("extract", rendered, "--table", tmp_path / "table", "--device", "cpu", "--precision", "int8")
    assert main([*map(str, words)]) == 2
    assert "is damaged" in capsys.readouterr().err


@needs_openvino
def test_classify_with_the_svm_that_ships_and_with_one_fitted_on_int8(extract, rendered, tmp_path, capsys):
    settings = ("--detector", "none", "--workers", 0, "--device", "cpu")
    shipped = run(capsys, "classify", rendered, "--out", tmp_path / "a", *settings, "--precision", "int8")
    exact = run(capsys, "classify", rendered, "--out", tmp_path / "b", *settings, "--precision", "fp32")
    assert shipped["recipe"]["features"].pop("int8")
    assert shipped["recipe"]["features"] == exact["recipe"]["features"]
    extract("--precision", "int8")
    run(capsys, "fit_svm", tmp_path / "table", "--model", tmp_path / "svm.pkl", "--C", 1)
    words = ("classify", rendered, "--model", tmp_path / "svm.pkl", *settings)
    own = run(capsys, *words, "--out", tmp_path / "c")
    assert own["recipe"]["features"] == FeatureTable.open(tmp_path / "table").feature_half
    assert main([*map(str, words), "--out", str(tmp_path / "d"), "--precision", "fp32"]) == 2
    assert "int8: None here" in capsys.readouterr().err


def test_a_folder_that_is_no_table_is_noticed_before_any_work_and_stays_as_it_is(
    rendered, tmp_path, capsys, monkeypatch
):
    def work(*arguments):
        raise AssertionError("photos were looked at first")

    monkeypatch.setattr(command, "_some_crops", work)
    monkeypatch.setattr(command, "check_int8", lambda backbone: backbone)
    (tmp_path / "letter.txt").write_text("mine")
    words = ("extract", rendered, "--table", tmp_path, "--detector", "none", "--device", "cpu", "--precision", "int8")
    assert main([*map(str, words)]) == 2
    assert "not a feature table and not empty (it holds letter.txt)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_check_nested_beyond_reason_is_damaged(tmp_path):
    (tmp_path / ".int8-0123456789abcdef.json").write_text("[" * 100_000)
    with pytest.raises(TableError, match="is damaged"):
        command._checks(tmp_path)


def test_what_is_found_out_is_kept_under_the_tables_lock(tmp_path):
    check = command.Check({"backbone": "fer-vgg"}, "judge", {"layer": 0.5}, 1.0, 1.0, 30)
    with locked(tmp_path / "t"), pytest.raises(TableError, match="another process is writing"):
        command._keep(check, tmp_path / "t")
    command._keep(check, tmp_path / "t")
    assert command._checks(tmp_path / "t") == [check]


def test_of_photos_with_many_faces_no_more_are_taken_than_of_others(tmp_path, monkeypatch, capsys):
    """40 x 3 faces, of which 50 stay: one of the first photo, one of the last, and those between evenly."""
    faces = [[left, 0, left + 39, 39, 0.5] for left in (0, 50, 100)]
    samples = [write_photo(tmp_path / f"{number:02d}.jpg", number, faces) for number in range(40)]

    def fill(args, source, table, pixels):
        half = {**FACE_HALF, "policy": "all"}
        extract_table(source.samples, table, FakeFinder(policy="all"), pixels, half)

    monkeypatch.setattr(command, "fill_table", fill)
    monkeypatch.setattr(command, "PHOTOS", 50)
    source = Source(samples, "folder", "photos")
    fill(None, source, tmp_path / "all", Pixels(FRAMING))
    every = matrix(tmp_path / "all")
    crops = command._some_crops(None, source, FakeBackbone())
    np.testing.assert_array_equal(crops, every[np.linspace(0, 119, 50).astype(int)])


@needs_openvino
def test_few_faces_are_not_worth_it(tmp_path, rendered, capsys):
    some = tmp_path / "few.csv"
    some.write_text("path\n" + "\n".join(str(path) for path in sorted(rendered.rglob("*.jpg"))[:8]))
    words = ("extract", some, "--table", tmp_path / "t", "--detector", "none", "--workers", 0, "--precision", "int8")
    assert main([*map(str, words), "--device", "cpu"]) == 2
    assert "at least 40 faces" in capsys.readouterr().err


def test_without_the_extra_it_is_named(tmp_path, rendered, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    words = ("extract", rendered, "--table", tmp_path / "t", "--device", "cpu", "--precision", "int8")
    assert main([*map(str, words)]) == 2
    assert f'pip install -e "{Path(__file__).parents[1]}[int8]"' in capsys.readouterr().err


def test_backbones_and_devices_without_int8_are_named(tmp_path, rendered, capsys):
    words = ("extract", rendered, "--table", tmp_path / "t", "--device", "cpu", "--precision", "int8")
    assert main([*map(str, words), "--backbone", "hog"]) == 2
    assert "hog is not offered in int8" in capsys.readouterr().err
    with pytest.raises(InputError, match="the device is cuda"):
        command.check_offered("fer-vgg", torch.device("cuda"))
