"""The CNN face detector in PyTorch against dlib's own: same boxes and scores; its file, geometry and memory."""

from __future__ import annotations

import importlib.util
import math
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from process_helpers import imported_where_dlib_is_missing

from featurepipe.conversion.dlib_mmod import read
from featurepipe.datasets.synthetic import Identity, render_face, render_group
from featurepipe.devices import autocast
from featurepipe.errors import InputError, WeightsError
from featurepipe.faces.mmod import MmodDetector
from featurepipe.networks import mmod as network
from featurepipe.networks.mmod_pyramid import layout, photo_boxes, strongest, upsampled

SUPPRESSION = 0.3382761351109955
LAST_BIAS = np.float32(-0.24727094)
SCORES = 1e-4


def integer(value: int) -> bytes:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def real(value: float) -> bytes:
    """As dlib writes it: 53 bits of mantissa, whole zero bytes moved into the exponent."""
    fraction, exponent = math.frexp(value)
    mantissa, exponent = int(fraction * 2**53), exponent - 53
    while mantissa and mantissa % 256 == 0:
        mantissa, exponent = mantissa // 256, exponent + 8
    return integer(mantissa) + integer(exponent)


@pytest.fixture(scope="module")
def dat():
    found = importlib.util.find_spec("face_recognition_models")
    if found is None:
        pytest.skip("face_recognition_models is not installed")
    return Path(found.origin).parent / "models" / "mmod_human_face_detector.dat"


@pytest.fixture(scope="module")
def patched(dat, tmp_path_factory):
    """Makes a copy of the file with more bias at the end, so that weak cells pass, or with another suppression."""
    folder = tmp_path_factory.mktemp("dat")

    def patch(bias: float, suppression: float = SUPPRESSION) -> Path:
        data = dat.read_bytes()
        place = data.rindex(LAST_BIAS.tobytes())
        data = data[:place] + struct.pack("<f", LAST_BIAS + bias) + data[place + 4 :]
        assert data.count(real(SUPPRESSION)) == 1
        path = folder / f"{bias}-{suppression}.dat"
        path.write_bytes(data.replace(real(SUPPRESSION), real(suppression)))
        return path

    return patch


def face(subject: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(subject)
    return render_face(Identity.draw(7, subject), "happiness", 0.6, size=size, rng=rng).image


def mosaic(rows: int, columns: int, side: int) -> np.ndarray:
    tiles = [[face(row * columns + column, (side, side)) for column in range(columns)] for row in range(rows)]
    return np.vstack([np.hstack(row) for row in tiles])


def group(size: tuple[int, int]) -> np.ndarray:
    people = [Identity.draw(0, number) for number in range(3)]
    return render_group(people, ["happiness", "neutral", "anger"], size=size, rng=np.random.default_rng(0)).image


def assert_same(path: Path, photos: list[np.ndarray], upsample: int = 0) -> int:
    """Boxes equal dlib's and scores nearly so, whatever their order; how many there were."""
    dlib = pytest.importorskip("dlib")
    theirs, ours, count = dlib.cnn_face_detection_model_v1(str(path)), MmodDetector(path, upsample=upsample), 0
    for photo in photos:
        expected = sorted(
            (found.rect.left(), found.rect.top(), found.rect.right(), found.rect.bottom(), found.confidence)
            for found in theirs(photo, upsample)
        )
        found = sorted((face.left, face.top, face.right, face.bottom, face.score) for face in ours(photo))
        assert [box[:4] for box in found] == [box[:4] for box in expected], photo.shape
        np.testing.assert_allclose([box[4] for box in found], [box[4] for box in expected], atol=SCORES)
        count += len(expected)
    return count


# --- against dlib ------------------------------------------------------------------------------------------------


def test_faces_are_dlibs(dat):
    photos = [face(1, (200, 200)), face(2, (160, 230)), group((420, 190))]
    assert assert_same(dat, photos) >= 4


def test_faces_of_upsampled_photos_are_dlibs(dat):
    assert assert_same(dat, [face(3, (90, 110)), mosaic(1, 2, 70)], upsample=1) >= 2


def test_a_mosaic_of_faces(dat):
    assert assert_same(dat, [mosaic(2, 2, 180)]) >= 4


def test_grey_photos(dat):
    photo = np.asarray(Image.fromarray(face(1, (170, 170))).convert("L"))
    assert assert_same(dat, [photo]) == 1
    assert MmodDetector(dat)(photo) == MmodDetector(dat)(np.repeat(photo[:, :, None], 3, axis=2))


@pytest.mark.parametrize("upsample", [0, 1])
def test_weak_cells_too(patched, upsample):
    """With more bias hundreds of near ties compete, on many levels, also beyond the photo's border."""
    side = 110 - 40 * upsample
    assert assert_same(patched(3.0), [face(4, (side + 40, side)), mosaic(1, 2, side)], upsample) > 40


@pytest.mark.parametrize("upsample", [0, 1])
def test_every_cell_of_the_score_map_in_narrow_and_small_photos(patched, upsample):
    """No cell is below the threshold, none suppressed: all their boxes and scores, level for level, are dlib's."""
    photo = face(5, (200, 200))
    sizes = [
        (22, 10),
        (30, 11),
        (60, 15),
        (25, 22),
        (27, 28),
        (28, 27),
        (33, 29),
        (80, 33),
        (54, 54),
        (53, 47),
        (40, 90),
    ]
    count = assert_same(patched(64.0, 1.0), [np.array(photo[60 : 60 + h, 50 : 50 + w]) for h, w in sizes], upsample)
    assert count == sum(
        math.prod(layout(w if not upsample else 2 * w + 2, h if not upsample else 2 * h + 1).cells) for h, w in sizes
    )


def test_upsampling_is_dlibs_to_the_last_bit():
    dlib = pytest.importorskip("dlib")
    rng = np.random.default_rng(0)
    for height, width in ((60, 100), (22, 22), (40, 12), (37, 53), (64, 129), (5, 10)):
        for photo in (np.full((height, width, 3), 201, np.uint8), rng.integers(0, 256, (height, width, 3), np.uint8)):
            expected = dlib.resize_image(photo, 2 * height + 1, 2 * width + 2)
            np.testing.assert_array_equal(upsampled(photo), expected)


@pytest.mark.slow
def test_real_photos(dat, patched, shared_data):
    photos = [np.array(Image.open(path).convert("RGB")) for path in sorted((shared_data / "photos").glob("*"))[::75]]
    assert len(photos) >= 20
    assert assert_same(dat, photos) >= 20
    assert assert_same(dat, photos[:3], upsample=1) >= 3
    assert assert_same(patched(1.5), photos[:5]) > 100


# --- calls, devices, memory --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(dat):
    return MmodDetector(dat)


def test_one_photo_equals_a_batch_of_any_sizes(detector):
    photos = [face(1, (200, 200)), face(2, (160, 230)), np.zeros((4, 5, 3), np.uint8), face(3, (200, 200))]
    together = detector.batch(photos)
    assert together == [detector(photo) for photo in photos]
    assert [len(faces) for faces in together] == [1, 1, 0, 1]
    assert detector.batch([]) == []


def test_photos_that_share_a_forward_pass(detector, monkeypatch):
    """As on a GPU: sums may come in another order there, so scores are compared and not their last bits."""
    photos = [face(number, (200, 200)) for number in range(3)]
    alone = [detector(photo) for photo in photos]
    monkeypatch.setattr(network.MmodNet, "photos_at_once", lambda self, cells: 2)
    for one, other in zip(alone, detector.batch(photos), strict=True):
        assert_close(one, other)


def test_too_little_memory_is_a_memory_error(detector, monkeypatch):
    def out(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes")

    monkeypatch.setattr(network.MmodNet, "scores", out)
    with pytest.raises(MemoryError, match="2 bytes"):
        detector(face(1, (200, 200)))


def assert_close(one, other):
    assert [(f.left, f.top, f.right, f.bottom) for f in one] == [(f.left, f.top, f.right, f.bottom) for f in other]
    np.testing.assert_allclose([f.score for f in one], [f.score for f in other], atol=SCORES)


@pytest.mark.parametrize("cells", [37, 200, 1000])
def test_large_photos_go_in_blocks_and_come_out_the_same(patched, monkeypatch, cells):
    detector, photo = MmodDetector(patched(3.0)), face(6, (150, 90))
    whole = detector(photo)
    assert len(whole) > 10
    monkeypatch.setitem(network.BLOCK_CELLS, "cpu", cells)
    monkeypatch.setattr(network, "CHUNK_VALUES", 5000)
    assert_close(detector(photo), whole)


@pytest.mark.parametrize("size", [(1, 1), (9, 200), (200, 9), (5, 7)])
def test_photos_too_small_hold_no_face(detector, size):
    assert detector(np.full((*size, 3), 128, np.uint8)) == []


@pytest.mark.parametrize(
    "photo",
    [np.zeros((50, 50, 3)), np.zeros((50, 50, 4), np.uint8), np.zeros((0, 9, 3), np.uint8), np.zeros(9, np.uint8)],
)
def test_other_arrays_are_refused(detector, photo):
    with pytest.raises(InputError, match="expected uint8"):
        detector(photo)


def test_photos_that_cannot_be_written_to_and_views(detector):
    photo = face(1, (200, 200))
    frozen = photo.copy()
    frozen.flags.writeable = False
    mirrored = np.ascontiguousarray(photo[:, ::-1])[:, ::-1]
    assert detector(frozen) == detector(mirrored) == detector(photo)


def test_bf16_around_it_changes_nothing(detector):
    photo = face(1, (200, 200))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = detector(photo)
    assert inside == detector(photo)


def test_tf32_is_off_on_a_gpu_for_matrix_products_too():
    """Whatever the calling program has asked for, and as it was afterwards; the setting needs no GPU."""
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, True
    try:
        with autocast(torch.device("cuda"), "fp32"):
            assert not products.allow_tf32
        assert products.allow_tf32
    finally:
        products.allow_tf32 = before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_finds_the_same_boxes(dat, patched):
    photos = [face(number, (200, 200)) for number in range(5)] + [mosaic(2, 2, 180)]
    for path in (dat, patched(1.5)):
        for one, other in zip(MmodDetector(path).batch(photos), MmodDetector(path, "cuda").batch(photos), strict=True):
            assert_close(one, other)


_PEAK = """
import sys, numpy as np, torch
from featurepipe.faces.mmod import MmodDetector

torch.set_num_threads(1)
width, height = map(int, sys.argv[2:])
photo = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
MmodDetector(sys.argv[1])(photo)
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
@pytest.mark.parametrize(("size", "most"), [((1000, 1000), 1000), ((8192, 6144), 3000), ((100000, 504), 3500)])
def test_peak_memory(dat, size, most):
    """`pytest -s -m slow -k peak tests/test_mmod.py` prints the process's peak resident MiB, torch included."""
    command = [sys.executable, "-c", _PEAK, str(dat), *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(size, done.stdout)
    assert int(done.stdout) < most


# --- geometry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "canvas", "levels"),
    [
        (350, 350, (1313, 372), 22),
        (480, 640, (1782, 662), 24),
        (701, 702, (2575, 724), 26),
        (720, 1280, (2644, 1302), 26),
        (100, 100, (418, 122), 15),
    ],
)
def test_canvases_known_of_dlib(height, width, canvas, levels):
    found = layout(width, height)
    assert ((found.height, found.width), len(found.tiles)) == (canvas, levels)


def test_boxes_by_hand():
    """A cell on the photo is 80 pixels around its centre; on level 1 its edges are 1.2 v + 0.3."""
    canvas = layout(100, 100)
    assert [(tile.left, tile.top, tile.width) for tile in canvas.tiles[:2]] == [(11, 11, 100), (11, 121, 83)]
    # cell (2, 3): centre (38, 30), less the corner (27, 19), less and plus 39.5; -12.5 and 58.5 round away from zero
    assert photo_boxes(canvas, np.array([[2, 3]]), (80, 80)).tolist() == [[-13, -21, 67, 59]]
    # cell (16, 3): centre (38, 142), on level 1: edges -12.5, -18.5, 66.5, 60.5 there
    assert photo_boxes(canvas, np.array([[16, 3]]), (80, 80)).tolist() == [[-15, -22, 80, 73]]


def test_suppression_by_hand():
    """Intersection over the smallest box around both: 40 of 160 pixels; of equal scores the first stays."""
    boxes = np.array([[0, 0, 9, 9], [6, 0, 15, 9], [0, 0, 9, 9], [100, 0, 109, 9]])
    scores = np.array([0.5, 0.9, 0.5, 0.1])
    assert strongest(boxes, scores, 0.25).tolist() == [1, 0, 3]
    assert strongest(boxes, scores, 0.2499).tolist() == [1, 3]
    assert strongest(boxes[:0], scores[:0], 0.5).tolist() == []


# --- the file ----------------------------------------------------------------------------------------------------


def test_what_the_file_holds(dat):
    file = read(dat)
    assert (file.window, file.suppression) == ((80, 80), SUPPRESSION)
    np.testing.assert_allclose(file.means, (122.782, 117.001, 104.298), atol=1e-5)
    assert [layer.weight.shape[:2] for layer in file.convolutions] == [
        (16, 3), (32, 16), (32, 32), (45, 32), (45, 45), (45, 45), (1, 45),
    ]  # fmt: skip
    assert file.convolutions[-1].bias == LAST_BIAS


@pytest.mark.parametrize("other", ["dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"])
def test_other_dlib_files_are_refused(dat, other):
    with pytest.raises(WeightsError, match="is not dlib's CNN face detector"):
        read(dat.with_name(other))


def test_damaged_files_are_refused(dat, tmp_path):
    data, path = dat.read_bytes(), tmp_path / "damaged.dat"
    cut = [0, 1, 10, 60, 150, 300, 5000, 5100, len(data) // 2, len(data) - 1]
    for content in [
        *(data[:length] for length in cut),
        data + b"\0",
        b"PK\3\4" + data,
        data.replace(b"con_4", b"con_9"),
    ]:
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged\.dat is not dlib's CNN face detector"):
            read(path)
    with pytest.raises(WeightsError, match="cannot read"):
        read(tmp_path)


def test_flipped_bits_are_refused_or_harmless_and_never_another_error(dat, tmp_path):
    """In weights a flipped bit is another weight; anywhere else it is noticed."""
    data, path, rng = dat.read_bytes(), tmp_path / "flipped.dat", np.random.default_rng(0)
    for place in [*range(0, 300, 3), *rng.integers(0, len(data), 30)]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with suppress(WeightsError):
            assert len(read(path).convolutions) == 7


def test_huge_sizes_are_refused_at_once(dat, tmp_path):
    """A tensor that announces 2^40 values takes no memory."""
    data, path = dat.read_bytes(), tmp_path / "huge.dat"
    place = data.index(b"con_4") + 5
    path.write_bytes(data[:place] + integer(2) + integer(2**40) + 3 * integer(2**20) + data[place:])
    with pytest.raises(WeightsError, match="ends too early"):
        read(path)


def test_neither_dlib_nor_its_python_packages_are_imported(dat):
    code = (
        "from featurepipe.faces.detectors import DetectorSpec\n"
        "assert DetectorSpec('mmod').build()(np.zeros((90, 90, 3), np.uint8)) == []"
    )
    assert imported_where_dlib_is_missing(code) == []
