"""dlib's face descriptor in PyTorch against dlib's own: the same vectors, from the same file; dlib is not needed."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from process_helpers import imported_where_dlib_is_missing

from featurepipe.conversion.dlib_resnet import DescriptorFile, read
from featurepipe.datasets.synthetic import Identity, render_face
from featurepipe.errors import InputError, WeightsError
from featurepipe.faces.crops import crop_face
from featurepipe.faces.detectors import DetectorSpec
from featurepipe.features.backbone import Backbone
from featurepipe.features.backbones import load_backbone
from featurepipe.files import sha256_of

SAME = 1e-5
"""Largest difference of a number of a descriptor, whose norm is about 1.3; measured: 5e-7."""


@pytest.fixture(scope="module")
def dat() -> Path:
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or found.origin is None:
        pytest.skip("face_recognition_models is not installed")
    return Path(found.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"


@pytest.fixture(scope="module")
def backbone(dat: Path) -> Backbone:
    return load_backbone("dlib-resnet", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def file(dat: Path) -> DescriptorFile:
    return read(dat)


@pytest.fixture(scope="module")
def theirs(dat: Path):
    """dlib's own network: chips to descriptors, one chip at a time."""
    dlib = pytest.importorskip("dlib")
    network = dlib.face_recognition_model_v1(str(dat))
    return lambda chips: np.array([network.compute_face_descriptor(chip) for chip in chips], np.float32)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 150, 150, 3), np.uint8)


def faces(count: int) -> np.ndarray:
    def face(subject: int) -> np.ndarray:
        rng = np.random.default_rng(subject)
        return render_face(Identity.draw(7, subject), "happiness", 0.6, size=(150, 150), rng=rng).image

    return np.stack([face(subject) for subject in range(count)])


def extremes() -> np.ndarray:
    """Black, white, each channel alone, and squares as small as pixels."""
    flat = [np.full((150, 150, 3), colour, np.uint8) for colour in (0, 255, (255, 0, 0), (0, 255, 0), (0, 0, 255))]
    board = np.indices((150, 150)).sum(0) % 2 * 255
    return np.stack([*flat, np.repeat(board[..., None], 3, 2).astype(np.uint8)])


# --- against dlib ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chips", [noise(3), faces(5), extremes()], ids=["noise", "faces", "extremes"])
def test_descriptors_are_dlibs(backbone, theirs, chips) -> None:
    expected = theirs(chips)
    vectors = backbone(chips)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(chips), 128))
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=SAME)


def photos(shared_data: Path) -> list[np.ndarray]:
    paths = sorted((shared_data / "photos").glob("*"))[:6]
    return [np.array(Image.open(path).convert("RGB")) for path in paths]


def test_descriptors_of_photos_are_dlibs(backbone, theirs, shared_data) -> None:
    detect = DetectorSpec("mmod").build()
    chips = [crop_face(pixels, face, backbone.framing) for pixels in photos(shared_data) for face in detect(pixels)]
    assert len(chips) >= 5
    np.testing.assert_allclose(backbone(np.stack(chips)), theirs(chips), rtol=0, atol=SAME)


def test_crops_without_landmarks_are_one_person_to_dlib(backbone, dat, shared_data) -> None:
    """dlib calls two descriptors one person below a distance of 0.6; its own chips are turned by landmarks."""
    dlib = pytest.importorskip("dlib")
    network = dlib.face_recognition_model_v1(str(dat))
    landmarks = dlib.shape_predictor(str(dat.with_name("shape_predictor_5_face_landmarks.dat")))
    detect, distances = DetectorSpec("hog").build(), []
    for pixels in photos(shared_data):
        for face in detect(pixels):
            box = dlib.rectangle(face.left, face.top, face.right, face.bottom)
            turned = np.array(network.compute_face_descriptor(pixels, landmarks(pixels, box)))
            upright = backbone(crop_face(pixels, face, backbone.framing)[None])[0]
            distances.append(np.linalg.norm(upright - turned))
    assert len(distances) >= 5
    assert max(distances) < 0.6
    assert np.median(distances) < 0.3


# --- calls, devices, precisions ----------------------------------------------------------------------------------


def test_a_batch_gives_what_single_crops_give(backbone) -> None:
    chips = np.concatenate([faces(4), noise(5)])
    singles = np.concatenate([backbone(chip[None]) for chip in chips])
    np.testing.assert_allclose(backbone(chips), singles, rtol=0, atol=SAME)
    assert np.linalg.norm(singles[0] - singles[4]) > 0.1


def test_neighbours_do_not_matter_to_the_last_bit(backbone) -> None:
    chips = noise(4)
    np.testing.assert_array_equal(backbone(np.concatenate([chips[:2], faces(2)]))[:2], backbone(chips)[:2])


def test_crops_of_another_kind_are_refused_and_none_give_none(backbone) -> None:
    with pytest.raises(InputError, match=r"expected uint8 \(n, 150, 150, 3\)"):
        backbone(np.zeros((1, 160, 160, 3), np.uint8))
    assert backbone(noise(0)).shape == (0, 128)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_bf16_is_close(backbone) -> None:
    chips, rough = np.concatenate([faces(4), noise(4)]), load_backbone("dlib-resnet", device="cpu", precision="bf16")
    exact, rounded = backbone(chips), rough(chips)
    assert rounded.dtype == np.float32
    assert cosines(exact, rounded).min() > 0.9998
    assert 0 < np.linalg.norm(exact - rounded, axis=1).max() < 0.03


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_descriptors(backbone) -> None:
    chips = np.concatenate([faces(5), noise(5)])
    exact, rough = (load_backbone("dlib-resnet", device="cuda", precision=name) for name in ("fp32", "bf16"))
    np.testing.assert_allclose(exact(chips), backbone(chips), rtol=0, atol=SAME)
    assert cosines(rough(chips), backbone(chips)).min() > 0.9998


def test_tables_made_by_dlib_itself_go_on(backbone, dat) -> None:
    """Their vectors differ in rounding alone, so the recipe is the one that was written when dlib ran the network."""
    assert backbone.recipe() == {
        "format": 1,
        "backbone": "dlib-resnet",
        "weights": sha256_of(dat),
        "layer": "descriptor",
        "preprocessing": "dlib",
        "views": 1,
    }


def test_what_a_face_takes_is_counted(backbone) -> None:
    cost = backbone.cost()
    assert cost is not None
    assert cost.parameters == 5_607_488
    assert cost.multiply_adds == 270_854_144


def test_dlib_and_the_package_of_the_file_are_not_imported(dat) -> None:
    code = (
        "from featurepipe.features.backbones import load_backbone\n"
        "assert load_backbone('dlib-resnet')(np.zeros((1, 150, 150, 3), np.uint8)).shape == (1, 128)"
    )
    assert imported_where_dlib_is_missing(code) == []


# --- the file ----------------------------------------------------------------------------------------------------


def test_what_the_file_holds(file) -> None:
    np.testing.assert_allclose(file.means, (122.782, 117.001, 104.298), atol=1e-5)
    assert len(file.convolutions) == 29
    assert file.convolutions[0].weight.shape == (32, 3, 7, 7)
    assert file.output.shape == (256, 128)
    assert [layer.weight.shape[0] for layer in file.convolutions[1::2]] == [
        *[32] * 3, *[64] * 4, *[128] * 3, *[256] * 4,
    ]  # fmt: skip
    assert [number for number, layer in enumerate(file.convolutions) if layer.stride == (2, 2)] == [0, 7, 15, 21, 27]


@pytest.mark.parametrize("other", ["mmod_human_face_detector.dat", "shape_predictor_5_face_landmarks.dat"])
def test_other_dlib_files_are_refused(dat, other) -> None:
    with pytest.raises(WeightsError, match="is not dlib's face descriptor"):
        load_backbone("dlib-resnet", weights=dat.with_name(other), device="cpu")


def integer(value: int) -> bytes:
    size = max(1, (value.bit_length() + 7) // 8)
    return bytes([size]) + value.to_bytes(size, "little")


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    """With the first `old` replaced, which must be there."""
    assert old in data
    return data.replace(old, new, 1)


def numbers(*values: int) -> bytes:
    return b"".join(map(integer, values))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"loss_metric_2", b"loss_metric_3", "loss_metric_2"),
        (b"con_4", b"con_9", "con_9"),
        (b"add_prev_", b"mul_prev_", "mul_prev_"),
        (b"fc_2", b"fc_3", "fc_3"),
        (b"max_pool_2" + numbers(3, 3, 2, 2), b"max_pool_2" + numbers(2, 2, 2, 2), r"\(2, 2, 2, 2, 0, 0\)"),
        (b"avg_pool_2" + numbers(2, 2, 2, 2), b"avg_pool_2" + numbers(2, 2, 2, 1), r"\(2, 2, 2, 1, 0, 0\)"),
        (integer(150) + integer(150), integer(150) + integer(160), "columns of a face is 160, expected 150"),
        (numbers(32, 7, 7, 2, 2, 0, 0), numbers(32, 7, 7, 1, 1, 0, 0), "convolution 1 of 29"),
        (numbers(32, 3, 3, 1, 1, 1, 1), numbers(32, 3, 3, 1, 1, 0, 0), "convolution 2 of 29"),
        (numbers(32, 7, 7, 2, 2, 0, 0), numbers(31, 7, 7, 2, 2, 0, 0), "31 filters"),
        (integer(2) * 5 + integer(1) * 2, integer(2) * 4 + integer(1) * 3, "version of layer"),
    ],
)
def test_other_networks_are_refused(dat, tmp_path, old, new, said) -> None:
    path = tmp_path / "other.dat"
    path.write_bytes(changed(dat.read_bytes(), old, new))
    with pytest.raises(WeightsError, match=rf"other\.dat is not dlib's face descriptor .*{said}"):
        read(path)


def test_damaged_files_are_refused(dat, tmp_path) -> None:
    data, path = dat.read_bytes(), tmp_path / "damaged.dat"
    cut = [0, 1, 10, 60, 150, 300, 400, 19_390, 20_000, len(data) // 2, len(data) - 1]
    for content in [*(data[:length] for length in cut), data + b"\0", b"PK\3\4" + data]:
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged\.dat is not dlib's face descriptor"):
            read(path)
    with pytest.raises(WeightsError, match="cannot read"):
        read(tmp_path)


def test_flipped_bits_are_refused_or_harmless_and_never_another_error(dat, tmp_path) -> None:
    data, path, rng = dat.read_bytes(), tmp_path / "flipped.dat", np.random.default_rng(0)
    behind = [data.index(name) for name in (b"affine_", b"max_pool_2", b"avg_pool_2", b"add_prev_", b"fc_2")]
    for place in [*range(0, 330, 13), *rng.integers(330, 400, 10), *behind, *rng.integers(0, len(data), 5)]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with suppress(WeightsError):
            assert len(read(path).convolutions) == 29


@pytest.mark.parametrize("exponent", [1500, 1100, 32000, 32002], ids=["beyond a double", "just", "infinity", "NaN"])
def test_a_mean_that_is_no_finite_number_is_refused(dat, tmp_path, exponent) -> None:
    data, path = dat.read_bytes(), tmp_path / "mean.dat"
    place = data.index(b"input_rgb_image_sized") + len(b"input_rgb_image_sized")
    size = 1 + data[place]  # of the mantissa of the first mean
    size += 1 + (data[place + size] & 0x0F)
    path.write_bytes(data[:place] + integer(1) + integer(exponent) + data[place + size :])
    with pytest.raises(WeightsError, match=r"mean\.dat is not dlib's face descriptor .*: a real "):
        read(path)


def test_huge_sizes_are_refused_at_once(dat, tmp_path) -> None:
    """A tensor that announces 2^40 values takes no memory."""
    data, path = dat.read_bytes(), tmp_path / "huge.dat"
    path.write_bytes(changed(data, b"con_4", b"con_4" + integer(2) + integer(2**40) + 3 * integer(2**20)))
    with pytest.raises(WeightsError, match="ends too early"):
        read(path)
