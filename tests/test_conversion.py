"""The four published formats of VGG-Face become one network; broken and hostile files are refused by name."""

from __future__ import annotations

import pickle
import struct
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from vgg_formats_helpers import (
    SMALL,
    Torch7Writer,
    bgr_layers,
    blob,
    field,
    seeded_network,
    write_caffemodel,
    write_h5,
    write_prototxt,
    write_pth,
    write_t7,
)

from featurepipe.conversion.convert import FORMATS, convert, detect
from featurepipe.conversion.layout import read_vgg16
from featurepipe.errors import InputError, WeightsError
from featurepipe.features.backbones import load_backbone
from featurepipe.names import LAYOUTS
from featurepipe.networks.vgg16 import FULL, VGG16, Widths, caffe_names, shapes

WRITERS = {
    "caffe V2 layers": (write_caffemodel, {}, "vgg_face_caffe"),
    "caffe V1 layers": (write_caffemodel, {"v1": True}, "vgg_face_caffe"),
    "caffe doubles": (write_caffemodel, {"dtype": "<f8"}, "vgg_face_caffe"),
    "keras in order": (write_h5, {}, "vgg_face_keras"),
    "keras by name": (write_h5, {"named": True}, "vgg_face_keras"),
    "keras dense": (write_h5, {"dense": True}, "vgg_face_keras"),
    "pth before 1.6": (write_pth, {}, "vgg_face_mcn"),
    "pth zip": (write_pth, {"zipped": True}, "vgg_face_mcn"),
    "torch7": (write_t7, {}, "vgg_face_torch7"),
    "torch7 matrices": (write_t7, {"matrices": True}, "vgg_face_torch7"),
}
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # of files broken on purpose

ONE_OF_EACH = ("caffe V2 layers", "keras in order", "pth before 1.6", "pth zip", "torch7")


@pytest.fixture(scope="module")
def network() -> VGG16:
    return seeded_network()


@pytest.fixture(scope="module")
def originals(network: VGG16, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {
        name: write(folder / name.replace(" ", "_"), network, **options)
        for name, (write, options, _) in WRITERS.items()
    }


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Coloured noise with a cast: no channel looks like another."""
    noise = np.random.default_rng(1).integers(0, 180, (2, 224, 224, 3))
    return (noise + np.array([70, 20, 0])).astype(np.uint8)


def fc7_of(path: Path, crops: np.ndarray, preprocessing: str = "vggface") -> np.ndarray:
    return load_backbone("vgg-face", weights=path, preprocessing=preprocessing, device="cpu", precision="fp32")(crops)


def test_formats_mirror_names() -> None:
    assert set(FORMATS) == set(LAYOUTS)


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_gives_the_same_tensors(
    name: str, network: VGG16, originals: dict[str, Path], tmp_path: Path
) -> None:
    assert convert(originals[name], tmp_path / "out.safetensors", widths=SMALL) == WRITERS[name][2]
    converted, widths = read_vgg16(tmp_path / "out.safetensors")
    assert widths == SMALL
    for key, tensor in network.state_dict().items():
        assert torch.equal(converted.state_dict()[key], tensor), key


def test_each_format_gives_one_fc7(originals: dict[str, Path], crops: np.ndarray, tmp_path: Path) -> None:
    vectors = []
    for name in ONE_OF_EACH:
        convert(originals[name], tmp_path / "out.safetensors", widths=SMALL)
        vectors.append(fc7_of(tmp_path / "out.safetensors", crops))
    assert vectors[0].shape == (2, SMALL.fc)
    assert (vectors[0] > 0).any()
    for other in vectors[1:]:
        np.testing.assert_array_equal(other, vectors[0])


def opencv_fc7(prototxt: Path, caffemodel: Path, images: np.ndarray) -> np.ndarray:
    """fc7 by OpenCV's Caffe importer, of float images (n, h, w, 3) in the order the net takes."""
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    net.enableWinograd(False)  # quicker and less exact: 8e-6 of the 1e-5 that are allowed
    rows = []
    for image in images:
        net.setInput(np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32))
        rows.append(net.forward("relu7").ravel().copy())
    return np.stack(rows)


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def check_parity(network: VGG16, widths: Widths, crops: np.ndarray, folder: Path) -> None:
    model = write_caffemodel(folder / "VGG_FACE.caffemodel", network)
    prototxt = write_prototxt(folder / "VGG_FACE_deploy.prototxt", widths)
    convert(model, folder / "vgg-face.safetensors", widths=widths)
    bgr = crops[..., ::-1].astype(np.float32)
    with_means = opencv_fc7(prototxt, model, bgr - np.float32([93.5940, 104.7624, 129.1863]))
    # the paper: an RGB float image in 0..1, channels swapped (2, 1, 0), raw scale 255, no mean
    paper = opencv_fc7(prototxt, model, (crops.astype(np.float32) / 255)[..., [2, 1, 0]] * 255)
    ours = fc7_of(folder / "vgg-face.safetensors", crops)
    assert relative_difference(ours, with_means) < 1e-5
    assert relative_difference(fc7_of(folder / "vgg-face.safetensors", crops, "paper"), paper) < 1e-5
    swapped = fc7_of(folder / "vgg-face.safetensors", np.ascontiguousarray(crops[..., ::-1]))
    assert relative_difference(swapped, with_means) > 1e-2


def test_fc7_equals_that_of_opencvs_caffe_importer(network: VGG16, crops: np.ndarray, tmp_path: Path) -> None:
    check_parity(network, SMALL, crops, tmp_path)


@pytest.mark.slow
def test_fc7_equals_that_of_opencvs_caffe_importer_at_full_width(crops: np.ndarray, tmp_path: Path) -> None:
    check_parity(seeded_network(FULL), FULL, crops, tmp_path)


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_files_are_refused(name: str, share: float, originals: dict[str, Path], tmp_path: Path) -> None:
    whole = originals[name].read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match="cut"):
        convert(cut, tmp_path / "out", layout=WRITERS[name][2], widths=SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_files_with_changed_bytes_are_converted_or_refused(name: str, tmp_path: Path) -> None:
    """Never another error, a crash, or a hang. Some still convert: the bytes of a weight may be anything."""
    write, options, layout = WRITERS[name]
    smallest = Widths((1, 1, 1, 1, 1), 1)
    whole = np.fromfile(write(tmp_path / "whole", seeded_network(smallest), **options), np.uint8)
    random, refused = np.random.default_rng(3), 0
    for _ in range(60):
        changed = whole.copy()
        places = random.integers(0, len(whole), 3)
        changed[places] = random.choice([0, 1, 4, 127, 128, 255], 3)
        changed.tofile(tmp_path / "changed")
        try:
            convert(tmp_path / "changed", tmp_path / "out", layout=layout, widths=smallest)
        except WeightsError:
            refused += 1
    assert refused > 0


FOREIGN = {
    "text": b"this is a text and no network\n" * 50,
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "noise": np.random.default_rng(5).bytes(5000),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("content", FOREIGN)
def test_foreign_files_are_refused(layout: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(FOREIGN[content])
    with pytest.raises(WeightsError, match="foreign"):
        convert(tmp_path / "foreign", tmp_path / "out", layout=layout, widths=SMALL)


def test_unknown_first_bytes_list_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"GIF89a")
    with pytest.raises(WeightsError, match="vgg_face_torch7"):
        detect(tmp_path / "x")
    with pytest.raises(WeightsError, match="cannot read"):
        detect(tmp_path / "none")
    with pytest.raises(InputError, match="vgg_face_caffe"):
        convert(tmp_path / "x", tmp_path / "out", layout="onnx")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_wrong_shape_names_the_layer(name: str, tmp_path: Path) -> None:
    write, options, layout = WRITERS[name]
    wide = write(tmp_path / "wide", seeded_network(Widths((4, 6, 8, 8, 9), 16)), **options)
    with pytest.raises(WeightsError, match=r"conv5_1: weight has shape \(9, 8, 3, 3\); expected \(8, 8, 3, 3\)"):
        convert(wide, tmp_path / "out", layout=layout, widths=SMALL)


def caffe_layers(network: VGG16) -> dict[str, bytes]:
    return {
        name: field(1, name.encode()) + field(7, blob(weight)) + field(7, blob(bias))
        for name, weight, bias in bgr_layers(network)
    }


def test_a_missing_layer_is_named(network: VGG16, tmp_path: Path) -> None:
    layers = caffe_layers(network)
    del layers["conv3_2"]
    (tmp_path / "m").write_bytes(b"".join(field(100, layer) for layer in layers.values()))
    with pytest.raises(WeightsError, match="layer conv3_2 is missing"):
        convert(tmp_path / "m", tmp_path / "out", layout="vgg_face_caffe", widths=SMALL)


def test_a_foreign_layer_and_a_double_one_are_named(network: VGG16, tmp_path: Path) -> None:
    layers = list(caffe_layers(network).values())
    alien = field(1, b"conv6_1") + field(7, blob(np.ones((2, 2)))) + field(7, blob(np.ones(2)))
    (tmp_path / "m").write_bytes(b"".join(field(100, layer) for layer in [*layers, alien]))
    with pytest.raises(WeightsError, match="conv6_1 does not belong"):
        convert(tmp_path / "m", tmp_path / "out", layout="vgg_face_caffe", widths=SMALL)
    (tmp_path / "m").write_bytes(b"".join(field(100, layer) for layer in [*layers, layers[0]]))
    with pytest.raises(WeightsError, match="two layers are called conv1_1"):
        convert(tmp_path / "m", tmp_path / "out", layout="vgg_face_caffe", widths=SMALL)


def test_fc8_is_left_out(network: VGG16, tmp_path: Path) -> None:
    fc8 = field(1, b"fc8") + field(7, blob(np.ones((30, 16)))) + field(7, blob(np.ones(30)))
    (tmp_path / "m").write_bytes(b"".join(field(100, layer) for layer in [*caffe_layers(network).values(), fc8]))
    convert(tmp_path / "m", tmp_path / "out", widths=SMALL, layout="vgg_face_caffe")
    assert len(read_vgg16(tmp_path / "out")[0].state_dict()) == 30


def test_a_wrong_number_of_unnamed_layers_is_refused(network: VGG16, tmp_path: Path) -> None:
    write_h5(tmp_path / "m.h5", network)
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file.attrs["layer_names"] = list(file.attrs["layer_names"])[4:]
    with pytest.raises(WeightsError, match="has 13 layers with weights; VGG-16 has 16"):
        convert(tmp_path / "m.h5", tmp_path / "out", widths=SMALL)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = seeded_network()
    with torch.no_grad():
        broken.classifier[3].weight[0, 0] = torch.nan
    write_pth(tmp_path / "m", broken)
    with pytest.raises(WeightsError, match=r"classifier\.3\.weight holds values that are not finite"):
        convert(tmp_path / "m", tmp_path / "out", widths=SMALL)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    for zipped in (True, False):
        torch.save({"conv1_1.weight": Payload()}, tmp_path / "m", _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match=r"m is damaged, or holds something other .* nothing in it was run$"):
            convert(tmp_path / "m", tmp_path / "out")
    (tmp_path / "m").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(WeightsError):
        convert(tmp_path / "m", tmp_path / "out", layout="vgg_face_mcn")
    assert not (tmp_path / "ran").exists()


def test_parameters_are_read_as_tensors_are(network: VGG16, originals: dict[str, Path], tmp_path: Path) -> None:
    convert(originals["pth zip"], tmp_path / "tensors", widths=SMALL)
    state = torch.load(originals["pth zip"], weights_only=True)
    torch.save({name: torch.nn.Parameter(tensor) for name, tensor in state.items()}, tmp_path / "m")
    convert(tmp_path / "m", tmp_path / "parameters", widths=SMALL)
    assert (tmp_path / "parameters").read_bytes() == (tmp_path / "tensors").read_bytes()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(4).to_sparse(),
        torch.empty(4, 3, 3, 3, device="meta"),
        torch.zeros(1, dtype=torch.float16).expand(4, 3, 10**6, 10**6),
    ],
    ids=["sparse", "meta", "huge"],
)
def test_tensors_without_ordinary_values_are_refused(
    tensor: torch.Tensor, originals: dict[str, Path], tmp_path: Path
) -> None:
    state = torch.load(originals["pth zip"], weights_only=True)
    torch.save({**state, "conv1_1.weight": tensor}, tmp_path / "m")
    with pytest.raises(WeightsError, match="layer conv1_1 is sparse, has no values, or more"):
        convert(tmp_path / "m", tmp_path / "out", widths=SMALL)


def test_an_h5_whose_weights_are_no_group_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("model_weights", data=np.zeros(3, [("a", "<f4")])).attrs["layer_names"] = [b"a"]
    with pytest.raises(WeightsError, match="no Keras weights file"):
        convert(tmp_path / "m.h5", tmp_path / "out", widths=SMALL)


def test_an_h5_that_points_at_other_files_is_not_followed(network: VGG16, tmp_path: Path) -> None:
    write_h5(tmp_path / "other.h5", network)
    for kind in ("link", "external"):
        write_h5(tmp_path / "m.h5", network)
        with h5py.File(tmp_path / "m.h5", "a") as file:
            shape = file["conv2d_1/conv2d_1/bias:0"].shape
            del file["conv2d_1/conv2d_1/bias:0"]
            if kind == "link":
                file["conv2d_1/conv2d_1/bias:0"] = h5py.ExternalLink("other.h5", "conv2d_1/conv2d_1/bias:0")
            else:
                external = [(str(tmp_path / "other.h5"), 0, h5py.h5f.UNLIMITED)]
                file.create_dataset("conv2d_1/conv2d_1/bias:0", shape, "<f4", external=external)
        with pytest.raises(WeightsError, match=r"conv2d_1.*(not a data set of this file|another file)"):
            convert(tmp_path / "m.h5", tmp_path / "out", widths=SMALL)


@pytest.mark.parametrize("place", ["conv2d_1", "conv2d_1/conv2d_1", "model_weights"])
def test_an_h5_whose_group_lies_in_another_file_is_not_followed(place: str, network: VGG16, tmp_path: Path) -> None:
    write_h5(tmp_path / "other.h5", network)
    write_h5(tmp_path / "m.h5", network)
    with h5py.File(tmp_path / "m.h5", "a") as file:
        inside = place if place in file else "/"
        file.pop(place, None)
        file[place] = h5py.ExternalLink("other.h5", inside)
    with pytest.raises(WeightsError, match="not a data set of this file"):
        convert(tmp_path / "m.h5", tmp_path / "out", widths=SMALL)
    assert not (tmp_path / "out").exists()


def test_an_h5_that_declares_a_huge_tensor_is_refused_at_once(network: VGG16, tmp_path: Path) -> None:
    write_h5(tmp_path / "m.h5", network)
    with h5py.File(tmp_path / "m.h5", "a") as file:
        del file["conv2d_2/conv2d_2/kernel:0"]
        file.create_dataset("conv2d_2/conv2d_2/kernel:0", (2**20, 2**20), "<f4", chunks=(2**10, 2**10))
    with pytest.raises(WeightsError, match=r"conv2d_2.*no tensor of VGG-16 is"):
        convert(tmp_path / "m.h5", tmp_path / "out", widths=SMALL)


def hostile_t7(tmp_path: Path, build) -> Path:
    writer = Torch7Writer()
    build(writer)
    return writer.write(tmp_path / "hostile")


def huge_storage(writer: Torch7Writer) -> None:
    writer.torch_class("torch.FloatStorage")
    writer.long(2**60)


def negative_storage(writer: Torch7Writer) -> None:
    writer.torch_class("torch.FloatStorage")
    writer.long(-8)


def tensor_beyond_storage(writer: Torch7Writer) -> None:
    writer.torch_class("torch.FloatTensor")
    writer.int(2)
    writer.long(1000, 1000)
    writer.long(1000, 1)
    writer.long(1)
    writer.torch_class("torch.FloatStorage")
    writer.long(4)
    writer.parts.append(bytes(16))


def tensor_before_storage(writer: Torch7Writer) -> None:
    writer.torch_class("torch.FloatTensor")
    writer.int(1)
    writer.long(2, 1, -3)
    writer.torch_class("torch.FloatStorage")
    writer.long(4)
    writer.parts.append(bytes(16))


def huge_stride(writer: Torch7Writer) -> None:
    writer.torch_class("torch.FloatTensor")
    writer.int(2)
    writer.long(2, 2, 2**62, 1, 1)
    writer.torch_class("torch.FloatStorage")
    writer.long(4)
    writer.parts.append(bytes(16))


def tensor_for_a_storage(writer: Torch7Writer) -> None:
    """A tensor that repeats one value four times, as the storage of a tensor that reads four: three lie outside."""
    writer.torch_class("torch.FloatTensor")
    writer.int(1)
    writer.long(4, 1, 1)
    writer.torch_class("torch.FloatTensor")
    writer.int(1)
    writer.long(4, 0, 4)
    writer.torch_class("torch.FloatStorage")
    writer.long(4)
    writer.parts.append(bytes(16))


def huge_table(writer: Torch7Writer) -> None:
    writer.head(3)
    writer.int(2**31 - 1)


def huge_string(writer: Torch7Writer) -> None:
    writer.int(2, 2**31 - 1)


def deep_tables(writer: Torch7Writer) -> None:
    for _ in range(5000):
        writer.head(3)
        writer.int(1, 1)
        writer.parts.append(struct.pack("<d", 1))
    writer.parts.append(bytes(80000))


def function(writer: Torch7Writer) -> None:
    writer.int(6, 1, 4)
    writer.parts.append(b"\x1bLua")


def other_class(writer: Torch7Writer) -> None:
    writer.torch_class("os.execute")


@pytest.mark.parametrize(
    "build",
    [
        huge_storage,
        negative_storage,
        tensor_beyond_storage,
        tensor_before_storage,
        huge_stride,
        tensor_for_a_storage,
        huge_table,
        huge_string,
        deep_tables,
        function,
        other_class,
    ],
)
def test_hostile_torch7_files_are_refused_at_once(build, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(WeightsError, match="hostile"):
        convert(hostile_t7(tmp_path, build), tmp_path / "out", layout="vgg_face_torch7", widths=SMALL)
    assert time.monotonic() - start < 5


def test_a_torch7_net_that_holds_itself_is_refused(tmp_path: Path) -> None:
    writer = Torch7Writer()
    writer.torch_class("nn.Sequential")  # object 1
    writer.head(3)
    writer.int(1)
    writer.value("modules")
    writer.head(3)
    writer.int(1)
    writer.value(1)
    writer.int(4, 1)  # object 1 again
    with pytest.raises(WeightsError, match="not a network"):
        convert(writer.write(tmp_path / "loop"), tmp_path / "out", layout="vgg_face_torch7")


def test_a_torch7_net_that_holds_each_module_twice_is_refused_at_once(tmp_path: Path) -> None:
    writer = Torch7Writer()
    depth = 28  # tables of children in modules: 2 ** 28 ways to the last one
    for _ in range(depth):
        writer.head(3)
        writer.int(1)
        writer.value("modules")
        writer.head(3)
        writer.int(2)
        writer.value(1)
    writer.value({})
    for level in range(depth, 0, -1):
        writer.value(2)
        writer.int(3, 2 * level + 1)  # the child again
    start = time.monotonic()
    with pytest.raises(WeightsError, match="not a network"):
        convert(writer.write(tmp_path / "twice"), tmp_path / "out", layout="vgg_face_torch7")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("modules", [5, "modules", np.ones(3, "<f4")], ids=["a number", "a text", "a tensor"])
def test_a_torch7_net_without_a_table_of_modules_is_refused(modules: object, tmp_path: Path) -> None:
    writer = Torch7Writer()
    writer.value(("nn.Sequential", {"modules": modules}))
    with pytest.raises(WeightsError, match="not a network"):
        convert(writer.write(tmp_path / "net"), tmp_path / "out", layout="vgg_face_torch7")


@pytest.mark.parametrize(
    "message",
    [
        field(7, field(1, b"\xff" * 9 + b"\x01")) + field(5, bytes(16)),  # one dimension of 2**64 - 1
        field(7, field(1, b"\x01" * 5000)) + field(5, bytes(4)),  # 5,000 dimensions of 1
        field(7, field(1, b"\x04")) + field(5, bytes(15)),  # ends inside a number
        field(7, field(1, b"\x04")) + b"\x2a\xff\xff\xff\xff\x0f",  # announces 4 GB
        field(1, 0) * 20_000,  # nothing but tiny fields
        b"\x0b\x0c",  # a group
    ],
    ids=["huge dimension", "many dimensions", "half a number", "huge length", "tiny fields", "group"],
)
def test_hostile_caffe_blobs_are_refused_at_once(message: bytes, tmp_path: Path) -> None:
    layer = field(1, b"conv1_1") + field(7, message) + field(7, blob(np.ones(4)))
    (tmp_path / "hostile").write_bytes(field(100, layer))
    with pytest.raises(WeightsError, match="hostile"):
        convert(tmp_path / "hostile", tmp_path / "out", layout="vgg_face_caffe", widths=SMALL)


def test_equal_networks_give_equal_bytes(originals: dict[str, Path], tmp_path: Path) -> None:
    for name, original in originals.items():
        convert(original, tmp_path / name, widths=SMALL)
    assert len({(tmp_path / name).read_bytes() for name in originals}) == 1


def test_our_layout_is_checked_when_it_is_read(originals: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file"):
        read_vgg16(tmp_path / "none")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_vgg16(originals["torch7"])
    convert(originals["torch7"], tmp_path / "a", widths=SMALL)
    other = (tmp_path / "a").read_bytes().replace(b"vgg16-rgb", b"vgg16-bgr")
    (tmp_path / "b").write_bytes(other)
    with pytest.raises(WeightsError, match="it is vgg16-bgr"):
        read_vgg16(tmp_path / "b")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-4])
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_vgg16(tmp_path / "a")


def test_full_vgg16_has_the_published_number_of_parameters() -> None:
    counts = {name: int(np.prod(shape)) for name, shape in shapes().items()}
    assert sum(counts.values()) == 134_260_544
    assert sum(n for name, n in counts.items() if name.startswith("features")) == 14_714_688
    assert counts["classifier.0.weight"] + counts["classifier.0.bias"] == 102_764_544


def test_names_and_shapes_are_torchvisions() -> None:
    import torchvision

    with torch.device("meta"):
        theirs = torchvision.models.vgg16().state_dict()
    ours = shapes()
    assert list(ours) == [name for name in theirs if not name.startswith("classifier.6")]
    assert all(tuple(theirs[name].shape) == shape for name, shape in ours.items())
    assert caffe_names()["conv4_2"] == "features.19"
