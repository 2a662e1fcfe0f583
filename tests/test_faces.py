"""Detectors, crops and the finder: against dlib itself, small arrays worked by hand, and a folder of hostile files."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import json
import math
import pickle
import re
import subprocess
import sys
import tracemalloc
from argparse import Namespace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hostile import FACE_SIZE, portrait, write_hostile
from PIL import Image, ImageOps

from featurepipe.commands.steps import detector_for
from featurepipe.content import content_of_file, content_of_pixels
from featurepipe.datasets.source import Source
from featurepipe.datasets.synthetic import Identity, render_face, render_group
from featurepipe.errors import InputError, MissingPackageError, WeightsError
from featurepipe.faces import crops
from featurepipe.faces.crops import crop_face
from featurepipe.faces.detectors import _BUILDERS, DetectorSpec, default_detector, find_faces, shrunk
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.images import PhotoError, decode, read_photo
from featurepipe.names import DETECTORS
from featurepipe.recipe import box_recipe
from featurepipe.records import Face, FaceResult, FaceTask, Framing, Sample
from featurepipe.weights import ENVIRONMENT, store_folder

PHOTOS = Path(__file__).parents[1].parent / "shared" / "data" / "photos"
GREY = Framing(48, "L", margin=0.2)
MMOD_SHA256 = "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6"


@pytest.fixture(scope="module")
def hog():
    return DetectorSpec("hog").build()


@functools.cache
def photograph(subject: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(subject)
    return render_face(Identity.draw(5, subject), "surprise", 0.7, size=size, rng=rng).image


def group(size: tuple[int, int] = (900, 400)) -> np.ndarray:
    people = [Identity.draw(0, number) for number in range(3)]
    emotions = ["happiness", "neutral", "anger"]
    return render_group(people, emotions, size=size, rng=np.random.default_rng(0)).image


def overlap(one: Face, other: Face) -> float:
    """Intersection over union."""
    width = min(one.right, other.right) - max(one.left, other.left) + 1
    height = min(one.bottom, other.bottom) - max(one.top, other.top) + 1
    shared = max(width, 0) * max(height, 0)
    return shared / (one.width * one.height + other.width * other.height - shared)


def ask(finder: FaceFinder, sample: Sample, known: tuple[Face, ...] | None = None) -> FaceResult:
    """Ask with the key that a scan would give."""
    if sample.pixels is not None:
        return finder(FaceTask(sample, content_of_pixels(sample.pixels, sample.box), known))
    return finder(FaceTask(sample, content_of_file(Path(sample.path).read_bytes(), sample.box), known))


def saved(path: Path, image: np.ndarray) -> Sample:
    Image.fromarray(image).save(path)
    return Sample(str(path))


# --- detectors ---------------------------------------------------------------------------------------------------


def test_the_registry_is_what_the_command_line_offers():
    assert tuple(_BUILDERS) == DETECTORS


@pytest.fixture(scope="module")
def dlib_hog():
    return pytest.importorskip("dlib").get_frontal_face_detector()


@pytest.mark.parametrize("size", [(256, 256), (180, 240), (720, 600)])
@pytest.mark.parametrize("max_side", [200, 500, 2000])
def test_hog_boxes_are_dlibs_own_on_the_copy(hog, dlib_hog, size, max_side):
    image = photograph(2, size)
    copy = shrunk(image, max_side)
    assert max(copy.shape[:2]) == min(max_side, max(size))
    boxes, scores, _ = dlib_hog.run(copy, 0, 0.0)
    assert [(face.left, face.top, face.right, face.bottom, face.score) for face in hog(copy)] == [
        (box.left(), box.top(), box.right(), box.bottom(), score) for box, score in zip(boxes, scores, strict=True)
    ]
    assert [face.score for face in find_faces(image, hog, max_side)] == list(scores)
    if copy is image:
        assert find_faces(image, hog, max_side) == hog(copy)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no ../shared/data")
def test_boxes_on_real_photos_are_dlibs_own(hog, dlib_hog):
    for path in sorted(PHOTOS.glob("*.jpg"))[::150]:
        image = decode(path.read_bytes())
        found = [(box.left(), box.top(), box.right(), box.bottom()) for box in dlib_hog(image)]
        faces = find_faces(image, hog, 1000)
        assert [(f.left, f.top, f.right, f.bottom) for f in faces if f.score > 0] == found
        assert not found or all(f.score > 0 for f in faces)


def test_hog_needs_no_home_folder(hog, monkeypatch):
    for name in (ENVIRONMENT, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("Could not determine home directory.")))
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(WeightsError, match=ENVIRONMENT):
        store_folder()
    image = photograph(2, (256, 256))
    assert DetectorSpec("hog").build()(image) == hog(image)


def test_where_hog_is_sure_of_no_face_the_unsure_one_counts(hog, dlib_hog):
    """A face that leaves the photo, pixel by pixel, is first found, then found below dlib's threshold, then lost."""
    image, seen = photograph(2, (256, 256)), []
    for cut in range(0, 160, 4):
        copy = np.ascontiguousarray(image[cut:])
        scores = dlib_hog.run(copy, 0, -0.5)[1]
        best = max(scores, default=-1.0)
        seen.append("sure" if best > 0 else "unsure" if best > -0.2 else "none")
        assert [face.score for face in hog(copy)] == [one for one in scores if one > (0 if best > 0 else -0.2)]
    assert {"sure", "unsure", "none"} == set(seen)


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no ../shared/data")
def test_unsure_faces_of_real_photos_are_faces(hog, dlib_hog):
    """Each lies where mmod sees the face; photos turned over or on edge show how many are none."""
    pytest.importorskip("face_recognition_models")
    mmod, unsure, false = DetectorSpec("mmod").build(), 0, {0.0: [0, 0], -0.2: [0, 0]}
    paths = sorted(PHOTOS.glob("*.jpg"))
    for path in paths:
        image = decode(path.read_bytes())
        sure, faces = dlib_hog.run(image, 0, 0.0)[1], hog(image)
        assert not sure or [face.score for face in faces] == list(sure)
        if faces and not sure:
            unsure += 1
            assert max(overlap(faces[0], face) for face in mmod(image)) > 0.4
    drawn = np.random.default_rng(0).permutation(len(paths))[:700]
    for path in (paths[row] for row in drawn):
        image = decode(path.read_bytes())
        for way, turned in enumerate((image[::-1], image.transpose(1, 0, 2)[::-1])):
            best = max(dlib_hog.run(np.ascontiguousarray(turned), 0, -0.2)[1], default=-1.0)
            for least, counts in false.items():
                counts[way] += best > least
    print(f"\n{unsure} of {len(paths)} photos have an unsure face alone; of 700 upside down, on edge show one: {false}")
    assert unsure
    assert false[-0.2][0] < 0.05 * 700


def test_boxes_are_mapped_back_by_hand():
    """In a copy of half the size columns 2..4 are the photo's 4..9, rows -1..1 its -2..3."""
    seen = []

    def detect(copy: np.ndarray) -> list[Face]:
        seen.append(copy.shape)
        return [Face(2, -1, 4, 1, 0.5)]

    image = np.zeros((300, 400, 3), np.uint8)
    assert find_faces(image, detect, 200) == [Face(4, -2, 9, 3, 0.5)]
    assert find_faces(image[:3], detect, 200) == [Face(4, -1, 9, 2, 0.5)]  # 3 rows became 2
    assert find_faces(image, detect, 400) == [Face(2, -1, 4, 1, 0.5)]
    assert find_faces(image, detect, None) == [Face(2, -1, 4, 1, 0.5)]
    assert seen == [(150, 200, 3), (2, 200, 3), (300, 400, 3), (300, 400, 3)]


def test_the_whole_copy_maps_to_the_whole_photo():
    whole = DetectorSpec("none").build()
    for shape in ((1001, 777, 3), (333, 1200, 3), (5, 2000, 3)):
        faces = find_faces(np.zeros(shape, np.uint8), whole, 300)
        assert faces == [Face(0, 0, shape[1] - 1, shape[0] - 1)]


def test_a_large_photo_gives_the_same_faces_as_a_small_one(hog):
    image = photograph(4, (400, 300))
    large = np.asarray(Image.fromarray(image).resize((4000, 3000)))
    (small_face,), (large_face,) = find_faces(image, hog, 1000), find_faces(large, hog, 400)
    tenfold = Face(*(10 * edge for edge in (small_face.left, small_face.top, small_face.right, small_face.bottom)))
    assert overlap(tenfold, large_face) > 0.85


@pytest.mark.parametrize("name", ["mmod", "dlib-mmod", "mtcnn"])
def test_the_neural_detectors_find_the_same_face_as_hog(hog, name):
    package = "facenet_pytorch" if name == "mtcnn" else "face_recognition_models"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    image = photograph(1, (200, 200))
    (reference,) = hog(image)
    faces = DetectorSpec(name).build()(image)
    assert faces
    assert overlap(max(faces, key=lambda face: face.score), reference) > 0.4
    assert all(type(edge) is int for edge in (faces[0].left, faces[0].top, faces[0].right, faces[0].bottom))


def test_mmod_boxes_are_dlibs_own():
    dlib = pytest.importorskip("dlib")
    models = pytest.importorskip("face_recognition_models")
    path = models.cnn_face_detector_model_location()
    image = photograph(3, (160, 160))
    expected = [
        (found.rect.left(), found.rect.top(), found.rect.right(), found.rect.bottom(), found.confidence)
        for found in dlib.cnn_face_detection_model_v1(path)(image)
    ]
    faces = DetectorSpec("dlib-mmod", weights=path).build()(image)
    assert [(face.left, face.top, face.right, face.bottom, face.score) for face in faces] == expected


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 5, 3), (19, 400, 3), (400, 12, 3), (1000, 7, 3), (30, 30, 3)])
@pytest.mark.parametrize("name", ["hog", "mmod", "dlib-mmod", "mtcnn"])
def test_tiny_photos_hold_no_face(name, shape):
    """dlib's own CNN writes outside its memory there: without a guard this test takes the process with it."""
    if name != "hog":
        pytest.importorskip("facenet_pytorch" if name == "mtcnn" else "face_recognition_models")
    assert DetectorSpec(name).build()(np.full(shape, 128, np.uint8)) == []


def test_recipes_name_what_boxes_depend_on():
    hog = {"detector": "hog", "detector_weights": None, "max_side": 640, "unsure": -0.2}
    assert DetectorSpec("hog", 640).recipe() == hog
    assert box_recipe({**hog, "margin": 0.3, "policy": "all"}) == hog  # faces stored before there was it are not these
    assert DetectorSpec("none", 640).recipe() == {"detector": "none", "detector_weights": None, "max_side": None}
    pytest.importorskip("face_recognition_models")
    for name in ("mmod", "dlib-mmod"):
        assert DetectorSpec(name, 640).recipe()["detector_weights"] == MMOD_SHA256
    assert DetectorSpec("mmod", device="cuda").recipe() == DetectorSpec("mmod").recipe()


def test_the_mtcnn_recipe_hashes_its_three_files():
    pytest.importorskip("facenet_pytorch")
    assert len(DetectorSpec("mtcnn").recipe()["detector_weights"]) == 64


def test_the_default_is_mmod_on_a_gpu_and_hog_elsewhere(monkeypatch, tmp_path, capsys):
    pytest.importorskip("face_recognition_models")
    monkeypatch.setenv("FEATUREPIPE_WEIGHTS", str(tmp_path))
    assert [default_detector(device) for device in ("cuda", "cuda:1", "cpu", "mps")] == ["mmod", "mmod", "hog", "hog"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None)
    assert default_detector("cuda") == "hog"
    photos = Source([], "folder", "photos")
    assert detector_for(Namespace(detector=None), photos, "cuda:0") == "hog"
    assert "needs" in capsys.readouterr().err
    assert detector_for(Namespace(detector=None), photos, "cpu") == detector_for(
        Namespace(detector="hog"), photos, "cuda"
    )
    assert not capsys.readouterr().err


def test_mmods_file_may_lie_in_the_weights_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FEATUREPIPE_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None)
    with pytest.raises(MissingPackageError, match=re.escape(f'[dlib-models]", or put the file into {tmp_path}')):
        DetectorSpec("mmod").recipe()
    (tmp_path / "mmod_human_face_detector.dat").write_bytes(b"abc")
    assert DetectorSpec("mmod").recipe()["detector_weights"] == hashlib.sha256(b"abc").hexdigest()
    assert default_detector("cuda") == "mmod"


def test_wrong_specs_say_what_there_is(tmp_path):
    with pytest.raises(InputError, match="'hogg'; there are hog, mmod, dlib-mmod, mtcnn, none"):
        DetectorSpec("hogg")
    with pytest.raises(InputError, match="max_side is 0"):
        DetectorSpec("hog", 0)
    with pytest.raises(WeightsError, match="is not at"):
        DetectorSpec("dlib-mmod", weights=str(tmp_path / "nothing.dat")).recipe()
    (tmp_path / "wrong.dat").write_bytes(b"no network")
    for name in ("mmod", "dlib-mmod"):
        with pytest.raises(WeightsError, match="is not dlib's CNN face detector"):
            DetectorSpec(name, weights=str(tmp_path / "wrong.dat")).build()


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [
        ("hog", "dlib", "pip install dlib-bin"),
        ("mmod", "face_recognition_models", r"pip install .*\[dlib-models\]"),
        ("dlib-mmod", "face_recognition_models", r"pip install .*\[dlib-models\]"),
        ("mtcnn", "facenet_pytorch", r"pip install .*\[facenet\]"),
    ],
)
def test_a_missing_package_is_named_with_its_command(monkeypatch, name, package, command):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == package else find(asked))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=command):
        DetectorSpec(name).build()


def test_importing_the_stage_loads_no_detector():
    code = (
        "import sys, featurepipe.faces.finder\n"
        "from featurepipe.faces.detectors import DetectorSpec\n"
        "DetectorSpec('mmod').recipe(); DetectorSpec('mtcnn').recipe()\n"
        "heavy = {'dlib', 'torch', 'facenet_pytorch', 'face_recognition_models'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    for package in ("facenet_pytorch", "face_recognition_models"):
        pytest.importorskip(package)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- crops -------------------------------------------------------------------------------------------------------


def counting(height: int, width: int) -> np.ndarray:
    """Grey uint8 RGB (height, width, 3) whose pixel at row y, column x is 10 y + x."""
    values = (10 * np.arange(height)[:, None] + np.arange(width)).astype(np.uint8)
    return np.repeat(values[:, :, None], 3, axis=2)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_crop_of_the_target_size_is_a_copy(mode):
    image = counting(9, 9)
    crop = crop_face(image, Face(2, 3, 5, 6), Framing(4, mode))
    expected = image[3:7, 2:6] if mode == "RGB" else image[3:7, 2:6, 0]
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, expected)


def test_random_colours_are_copied_bit_by_bit():
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_face(image, Face(1, 8, 48, 55), Framing(48, "RGB")), image[8:56, 1:49])


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (20, 3)])
def test_squares_that_leave_the_photo_repeat_its_edges_as_numpy_does(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    padded = np.pad(image, ((30, 30), (30, 30), (0, 0)), mode="edge")
    for left, top in np.ndindex(46, 46):
        crop = crop_face(image, Face(left - 25, top - 25, left - 20, top - 20), Framing(6, "RGB"))
        np.testing.assert_array_equal(crop, padded[top + 5 : top + 11, left + 5 : left + 11])


def test_grey_is_itu_r_601():
    """round(0.299 R + 0.587 G + 0.114 B): red 76, green 150, blue 29."""
    image = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(crop_face(image, Face(0, 0, 1, 1), Framing(2, "L")), [[76, 150], [29, 255]])


def test_margin_and_shift_by_hand():
    """Box 4 wide at (4, 4); margin 0.5 makes 6, from 3 to 9; shift 0.25 moves it one row down."""
    image = counting(12, 12)
    np.testing.assert_array_equal(
        crop_face(image, Face(4, 4, 7, 7), Framing(6, "RGB", margin=0.5, shift=0.25)), image[4:10, 3:9]
    )


def test_an_oblong_box_is_squared_not_distorted():
    """Box 2 wide and 4 high: two columns are added on the sides, none is stretched."""
    image = counting(8, 8)
    np.testing.assert_array_equal(crop_face(image, Face(3, 2, 4, 5), Framing(4, "RGB")), image[2:6, 2:6])


def test_beyond_the_border_the_edge_is_repeated():
    crop = crop_face(counting(4, 4), Face(-2, -1, 1, 2), Framing(4, "L"))
    np.testing.assert_array_equal(crop, [[0, 0, 0, 1], [0, 0, 0, 1], [10, 10, 10, 11], [20, 20, 20, 21]])
    crop = crop_face(counting(4, 4), Face(2, 3, 5, 6), Framing(4, "L"))
    np.testing.assert_array_equal(crop, [[32, 33, 33, 33]] * 4)


@pytest.mark.parametrize("box", [Face(-9, -9, -6, -6), Face(20, 1, 23, 4), Face(-9, 30, -6, 33)])
def test_a_square_outside_the_photo_repeats_its_nearest_pixels(box):
    image = counting(4, 5)
    rows = np.clip(np.arange(box.top, box.bottom + 1), 0, 3)
    columns = np.clip(np.arange(box.left, box.right + 1), 0, 4)
    np.testing.assert_array_equal(crop_face(image, box, Framing(4, "RGB")), image[rows][:, columns])


def test_halving_averages_with_a_triangle_by_hand():
    """Step edge 0 | 240 between columns 3 and 4, halved: the triangle of four columns weighs 1 3 3 1 (of 8)."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 240
    crop = crop_face(image, Face(0, 0, 7, 7), Framing(4, "L"))
    np.testing.assert_array_equal(crop, [[0, 30, 210, 240]] * 4)


@pytest.mark.parametrize("size", [20, 48, 120])
def test_the_filter_reads_around_the_square_as_if_the_whole_photo_were_resized(size):
    """Nothing is cut off at its borders, whether the square of 120 pixels is made smaller or stays."""
    image = np.random.default_rng(0).integers(0, 256, (200, 220, 3), dtype=np.uint8)
    for shift in (0.0, 0.004):  # by 0.4 pixels
        crop = crop_face(image, Face(50, 40, 149, 139), Framing(size, "RGB", margin=0.2, shift=shift))
        box = (40, 30 + 100 * shift, 160, 150 + 100 * shift)
        whole = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
        np.testing.assert_allclose(crop.astype(int), np.array(whole), atol=1)  # its weights are rounded


@pytest.mark.parametrize("at_once", [1 << 24, 1000])
@pytest.mark.parametrize(("mode", "size"), [("L", 48), ("RGB", 20), ("RGB", 150)])
def test_a_crop_is_what_pillow_makes_of_the_square_with_its_edges(mode, size, at_once, monkeypatch):
    """To the last bit, however many rows are made narrower at a time."""
    monkeypatch.setattr(crops, "_AT_ONCE", at_once)
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    framing = Framing(size, mode, margin=0.3)
    for box in [Face(0, 0, 89, 69), Face(-20, 10, 40, 106), Face(50, -40, 129, -8), Face(30, 20, 54, 44)]:
        left, top, side = crops.crop_square(box, framing)
        reach = math.ceil(max(1, side / size))
        x, y, length = math.floor(left) - reach, math.floor(top) - reach, math.ceil(side) + 2 * reach + 1
        rows, columns = (np.clip(np.arange(at, at + length), 0, most) for at, most in ((y, 69), (x, 89)))
        square = Image.fromarray(image[rows][:, columns]).convert(mode)
        place = (left - x, top - y, left - x + side, top - y + side)
        whole = square.resize((size, size), Image.Resampling.BILINEAR, box=place)
        np.testing.assert_array_equal(crop_face(image, box, framing), whole)


@pytest.mark.parametrize("shape", [(1, 8000), (8000, 1)])
def test_a_line_is_not_made_a_square_of_its_length(shape):
    """As bytes it would take 192 million."""
    image = np.full((*shape, 3), 7, np.uint8)
    tracemalloc.start()
    crop = crop_face(image, Face(0, 0, shape[1] - 1, shape[0] - 1), Framing(48, "RGB"))
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert (crop == 7).all()


def test_a_photo_longer_than_any_is_too_large_to_be_a_face():
    result = ask(FaceFinder(DetectorSpec("none"), GREY, "largest"), Sample("a", pixels=np.zeros((1, 33_000), np.uint8)))
    assert (result.status, result.of_content, result.crops.shape) == ("too_large", True, (0, 48, 48))
    assert "33000 x 1" in result.error


def test_equalised_crops_are_pillows():
    image, face = photograph(1, (200, 200)), Face(50, 50, 149, 149)
    plain, equalised = (crop_face(image, face, Framing(48, "L", equalise=equalise)) for equalise in (False, True))
    np.testing.assert_array_equal(equalised, np.array(ImageOps.equalize(Image.fromarray(plain))))
    assert not np.array_equal(equalised, plain)


def test_a_fine_pattern_turns_grey_instead_of_aliasing():
    checks = (np.indices((960, 960)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = crop_face(np.repeat(checks[:, :, None], 3, axis=2), Face(0, 0, 959, 959), Framing(48, "L"))
    assert np.abs(crop.astype(int) - 127).max() <= 3


def test_fractions_of_a_pixel_keep_the_centre():
    """A margin that makes the side fractional leaves the crop symmetric about the box's centre."""
    image = np.zeros((40, 40, 3), np.uint8)
    image[15:25, 15:25] = 200
    crop = crop_face(image, Face(15, 15, 24, 24), Framing(7, "L", margin=0.33))
    for mirrored in (crop[::-1], crop[:, ::-1], crop.T):
        np.testing.assert_allclose(crop.astype(int), mirrored, atol=1)  # each of two passes rounds


# --- finder ------------------------------------------------------------------------------------------------------


def test_the_finder_crops_what_it_finds(tmp_path, hog):
    image = photograph(1, (300, 260))
    finder = FaceFinder(DetectorSpec("hog"), GREY, "largest")
    result = ask(finder, saved(tmp_path / "a.png", image))
    assert (result.status, result.error, result.chosen) == ("ok", "", (0,))
    assert list(result.faces) == hog(image)
    np.testing.assert_array_equal(result.crops, crop_face(image, result.faces[0], GREY)[None])
    assert set(result.seconds) == {"decode", "detect", "crop"}
    assert all(seconds > 0 for seconds in result.seconds.values())


def test_answers_do_not_depend_on_what_came_before(tmp_path):
    samples = [saved(tmp_path / f"{number}.png", photograph(number, (256, 200))) for number in range(4)]
    finder = FaceFinder(DetectorSpec("hog"), GREY, "largest")
    forward = [ask(finder, sample) for sample in samples]
    backward = [ask(finder, sample) for sample in reversed(samples)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.faces == other.faces
        np.testing.assert_array_equal(one.crops, other.crops)


def test_policies_choose_among_several(tmp_path):
    sample = saved(tmp_path / "group.png", group())
    every = ask(FaceFinder(DetectorSpec("hog"), GREY, "all"), sample)
    assert every.chosen == (0, 1, 2)
    assert every.crops.shape == (3, 48, 48)
    largest = ask(FaceFinder(DetectorSpec("hog"), GREY, "largest"), sample)
    assert largest.faces == every.faces
    areas = [face.width * face.height for face in every.faces]
    assert largest.chosen == (int(np.argmax(areas)),)
    np.testing.assert_array_equal(largest.crops[0], every.crops[largest.chosen[0]])


def exploding(spec: DetectorSpec) -> None:
    raise AssertionError("the detector was built")


def test_known_and_given_boxes_are_not_detected(tmp_path, monkeypatch):
    monkeypatch.setattr(DetectorSpec, "build", exploding)
    image = photograph(1, (120, 120))
    path = saved(tmp_path / "a.png", image).path
    finder = FaceFinder(DetectorSpec("hog"), Framing(8, "RGB"), "largest")
    known = (Face(0, 0, 3, 3, 0.9), Face(10, 20, 17, 27, 0.4))
    result = ask(finder, Sample(path), known)
    assert (result.status, result.faces, result.chosen) == ("ok", known, (1,))
    np.testing.assert_array_equal(result.crops, image[None, 20:28, 10:18])
    assert ask(finder, Sample(path), ()).status == "no_face"
    given = ask(finder, Sample(path, box=Face(5, 6, 12, 13)))
    np.testing.assert_array_equal(given.crops, image[None, 6:14, 5:13])


@pytest.mark.parametrize("box", [Face(5, 5, 4, 9), Face(40, 0, 50, 9), Face(-9, -9, -1, -1), Face(0, 0, 10**9, 10**9)])
def test_a_given_box_that_cannot_be_is_refused(box):
    sample = Sample("rows.csv#1", pixels=np.zeros((30, 40), np.uint8), box=box)
    result = ask(FaceFinder(DetectorSpec("none"), GREY, "largest"), sample)
    assert (result.status, result.crops.shape) == ("unreadable", (0, 48, 48))
    assert "does not fit the photo's 40 x 30 pixels" in result.error
    assert result.of_content


def test_without_a_detector_the_photo_is_the_crop():
    """No margin then: a 48 x 48 photo comes back as it is; an oblong one is padded to a square."""
    finder = FaceFinder(DetectorSpec("none"), Framing(48, "L", margin=0.4, shift=0.1), "largest")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    result = ask(finder, Sample("rows.csv#0", pixels=pixels))
    assert result.faces == (Face(0, 0, 47, 47),)
    np.testing.assert_array_equal(result.crops[0], pixels)
    oblong = ask(finder, Sample("rows.csv#1", pixels=pixels[:, :24]))
    np.testing.assert_array_equal(oblong.crops[0], np.pad(pixels[:, :24], ((0, 0), (12, 12)), mode="edge"))


def test_a_finder_says_how_it_finds_and_cuts():
    finder = FaceFinder(DetectorSpec("hog", 640), Framing(48, "L", margin=2.0), "all")
    assert finder.recipe() == {**DetectorSpec("hog", 640).recipe(), "margin": 2.0, "policy": "all"}
    with pytest.raises(InputError, match="give the finder a framing"):
        FaceFinder(DetectorSpec("hog"), None, "all").recipe()


def test_boxes_alone_where_no_framing_is_given(tmp_path):
    result = ask(FaceFinder(DetectorSpec("hog"), None, "all"), saved(tmp_path / "a.png", group()))
    assert len(result.faces) == 3
    assert result.crops.size == 0


def test_a_photo_that_changed_since_the_scan_is_not_used(tmp_path):
    sample = saved(tmp_path / "a.png", photograph(1, (200, 200)))
    result = FaceFinder(DetectorSpec("hog"), GREY, "largest")(FaceTask(sample, content_of_file(b"as it was")))
    assert (result.status, result.faces, result.chosen) == ("unreadable", (), ())
    assert "changed since it was scanned" in result.error
    assert not result.of_content


def test_the_pixel_limit_is_the_finders():
    finder = FaceFinder(DetectorSpec("none"), GREY, "largest", pixel_limit=99)
    assert ask(finder, Sample("a#0", pixels=np.zeros((10, 10), np.uint8))).status == "too_large"


def test_a_finder_travels_with_or_without_a_built_detector(tmp_path):
    finder = FaceFinder(DetectorSpec("hog", 500), GREY, "all", pixel_limit=10**6)
    sample = saved(tmp_path / "a.png", photograph(1, (200, 200)))
    before = ask(finder, sample)
    after = ask(pickle.loads(pickle.dumps(finder)), sample)
    assert before.faces == after.faces
    np.testing.assert_array_equal(before.crops, after.crops)


def test_a_missing_package_is_not_a_bad_photo(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingPackageError, match="pip install dlib-bin"):
        ask(FaceFinder(DetectorSpec("hog"), GREY, "all"), saved(tmp_path / "a.png", photograph(1, (64, 64))))


def test_hostile_files_get_their_status_and_their_boxes(tmp_path):
    expected = write_hostile(tmp_path / "photos")
    finder = FaceFinder(DetectorSpec("hog"), GREY, "all")
    for name, outcome in expected.items():
        path = str(tmp_path / "photos" / name)
        try:
            content = content_of_file(read_photo(path))
        except PhotoError:
            content = ""
        result = finder(FaceTask(Sample(path), content))
        assert (name, result.status) == (name, outcome.status)
        assert (result.error == "") == (result.status == "ok")
        assert (name, len(result.faces)) == (name, len(outcome.boxes))
        for box in outcome.boxes:
            assert max(overlap(box, face) for face in result.faces) > 0.5, name
        assert result.crops.shape == (len(outcome.boxes), 48, 48)


def test_all_orientations_give_one_box_and_crop(tmp_path):
    """Stored without loss, the eight files are one photo: same box, same crop."""
    image, _ = portrait()
    finder = FaceFinder(DetectorSpec("hog"), GREY, "largest")
    results = []
    for orientation, operation in {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.items():
        stored = image if operation is None else image.transpose(Image.Transpose(operation))
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        stored.save(path, exif=exif.tobytes())
        results.append(ask(finder, Sample(str(path))))
    assert len({result.faces for result in results}) == 1
    assert {len(result.faces) for result in results} == {1}
    assert len({result.crops.tobytes() for result in results}) == 1


_PEAK = """
import json, sys
from featurepipe.content import content_of_file
from featurepipe.faces.detectors import DetectorSpec
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.images import read_photo
from featurepipe.records import FaceTask, Framing, Sample

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024

finder = FaceFinder(DetectorSpec("hog"), Framing(224, "RGB", 0.3), "all")
for path in sys.argv[1:]:
    data = read_photo(path)
    result = finder(FaceTask(Sample(path), content_of_file(data)))
    del data
    print(json.dumps([path[-12:], result.status, peak(), result.seconds]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
def test_peak_memory_of_phone_photos(tmp_path):
    """`pytest -s -k memory tests/test_faces.py` prints a worker's peak resident MiB after each photo."""
    image, _ = portrait()
    paths = []
    for name, size in (("small.jpg", FACE_SIZE), ("12mp.jpg", (4000, 3000)), ("48mp.jpg", (8000, 6000))):
        paths.append(str(tmp_path / name))
        image.resize(size).save(paths[-1], quality=85)
    done = subprocess.run([sys.executable, "-c", _PEAK, *paths], capture_output=True, text=True, check=True)
    print(done.stdout)
    (_, _, small, _), (_, first, medium, _), (_, second, large, _) = map(json.loads, io.StringIO(done.stdout))
    assert (first, second) == ("ok", "ok")
    assert medium - small < 150
    assert large - small < 400
