"""Backbones: known vectors of hand-made weights, references others wrote, and independence of neighbours."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from vgg_formats_helpers import SMALL, seeded_network

from featurepipe.conversion.layout import fitting_state, write_vgg16
from featurepipe.errors import InputError, WeightsError
from featurepipe.features.backbones import REGISTRY, imagenet_input, load_backbone, read_fer_vgg
from featurepipe.files import sha256_of
from featurepipe.models.baselines.registry import get_baseline
from featurepipe.names import BACKBONES
from featurepipe.networks import fer_vgg
from featurepipe.networks.vgg16 import VGG16, Widths
from featurepipe.weights import ENVIRONMENT, get_record, records


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty weights folders, so that no test depends on what the machine has."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "store"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "vgg-face.safetensors"
    write_vgg16(path, seeded_network().state_dict(), SMALL)
    return path


def noise(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def coloured(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((1, 224, 224, 3), (red, green, blue), np.uint8)


def test_the_registry_mirrors_the_names() -> None:
    assert set(REGISTRY) == set(BACKBONES)
    learnt = {name: offer for name, offer in REGISTRY.items() if offer.learnt}
    assert set(learnt) == set(BACKBONES) - {"hog"} <= set(records())
    for name, offer in learnt.items():
        assert get_record(name).preprocessing in offer.preprocessings
        assert get_record(name).views in (None, *offer.views)


# VGG-Face ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One channel, copied from red. fc6 = (mean of pool5, 5 - mean of pool5), fc7 = (2 fc6[0] + 1, fc6[1])."""
    widths = Widths((1, 1, 1, 1, 1), 2)
    state = {name: torch.zeros(tensor.shape) for name, tensor in VGG16(widths).state_dict().items()}
    for name, tensor in state.items():
        if name.startswith("features") and name.endswith("weight"):
            tensor[0, 0, 1, 1] = 1
    state["classifier.0.weight"][0], state["classifier.0.weight"][1] = 1 / 49, -1 / 49
    state["classifier.0.bias"][1] = 5
    state["classifier.3.weight"][0, 0], state["classifier.3.weight"][1, 1] = 2, 1
    state["classifier.3.bias"][0] = 1
    path = tmp_path_factory.mktemp("hand") / "hand.safetensors"
    write_vgg16(path, state, widths)
    return path


@pytest.mark.parametrize(
    ("layer", "preprocessing", "colour", "expected"),
    [
        ("fc7", "vggface", (200, 9, 77), [2 * (200 - 129.1863) + 1, 0]),
        ("fc6", "vggface", (200, 9, 77), [200 - 129.1863, 0]),
        ("pool5", "vggface", (200, 9, 77), [200 - 129.1863] * 49),
        ("fc7", "vggface", (77, 9, 200), [1, 5]),
        ("fc7", "paper", (200, 9, 77), [401, 0]),
        ("fc6", "paper", (3, 9, 77), [3, 2]),
    ],
)
def test_known_vectors_of_hand_made_weights(
    by_hand: Path, layer: str, preprocessing: str, colour: tuple[int, int, int], expected: list[float]
) -> None:
    backbone = load_backbone(
        "vgg-face", weights=by_hand, layer=layer, preprocessing=preprocessing, device="cpu", precision="fp32"
    )
    vectors = backbone(coloured(*colour))
    assert vectors.dtype == np.float32
    assert vectors.shape == (1, backbone.dim)
    np.testing.assert_allclose(vectors[0], expected, rtol=1e-5)


def test_fp32_is_fp32_where_the_caller_multiplies_in_bf16(small: Path) -> None:
    backbone = load_backbone("vgg-face", weights=small, device="cpu", precision="fp32")
    crops = noise(2, 224, 224, 3)
    with torch.autocast("cpu", torch.bfloat16):
        within = backbone(crops)
    np.testing.assert_array_equal(within, backbone(crops))


def test_photos_are_cut_for_fer_vgg_as_a_cnn_as_for_its_fc7() -> None:
    assert get_baseline("fer-vgg").framing == get_record("fer-vgg").framing


def test_a_batch_gives_what_single_crops_give(small: Path) -> None:
    backbone, crops = load_backbone("vgg-face", weights=small, device="cpu"), noise(5, 224, 224, 3)
    singles = np.concatenate([backbone(crop[None]) for crop in crops])
    np.testing.assert_allclose(backbone(crops), singles, rtol=1e-4, atol=1e-4)
    assert np.ptp(singles, axis=0).max() > 0


def test_neighbours_and_padding_do_not_matter_to_the_last_bit(small: Path) -> None:
    backbone, crops = load_backbone("vgg-face", weights=small, device="cpu"), noise(4, 224, 224, 3)
    padded = np.concatenate([crops[:2], np.zeros_like(crops[:2])])
    others = np.concatenate([crops[:2], noise(2, 224, 224, 3, seed=9)])
    np.testing.assert_array_equal(backbone(padded)[:2], backbone(crops)[:2])
    np.testing.assert_array_equal(backbone(others)[:2], backbone(crops)[:2])


def test_the_recipe_names_all_that_decides_the_values(small: Path) -> None:
    half = load_backbone("vgg-face", weights=small, layer="fc6", preprocessing="paper", device="cpu").recipe()
    assert half == {
        "format": 1,
        "backbone": "vgg-face",
        "weights": sha256_of(small),
        "layer": "fc6",
        "preprocessing": "paper",
        "views": 1,
    }


def test_crops_of_another_kind_are_refused_and_none_give_none(small: Path) -> None:
    backbone = load_backbone("vgg-face", weights=small, device="cpu")
    assert backbone.framing.shape == (224, 224, 3)
    assert backbone.framing.margin == 0.3
    for wrong in (noise(1, 224, 224), noise(1, 160, 160, 3), noise(1, 224, 224, 3).astype(np.float32)):
        with pytest.raises(InputError, match=r"expected uint8 \(n, 224, 224, 3\)"):
            backbone(wrong)
    assert backbone(noise(0, 224, 224, 3)).shape == (0, SMALL.fc)


def test_bf16_is_close_and_still_float32(small: Path) -> None:
    crops = noise(2, 224, 224, 3)
    exact = load_backbone("vgg-face", weights=small, device="cpu", precision="fp32")(crops)
    rough = load_backbone("vgg-face", weights=small, device="cpu", precision="bf16")(crops)
    assert rough.dtype == np.float32
    assert 0 < np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 0.05


def test_what_is_not_offered_is_listed(small: Path) -> None:
    with pytest.raises(InputError, match="'fc9'; expected one of fc7, fc6, pool5"):
        load_backbone("vgg-face", weights=small, layer="fc9")
    with pytest.raises(InputError, match="expected one of vggface, paper"):
        load_backbone("vgg-face", weights=small, preprocessing="zero")
    with pytest.raises(InputError, match="expected one of 1"):
        load_backbone("vgg-face", weights=small, views=10)
    with pytest.raises(InputError, match="expected one of fer-vgg, vgg-face"):
        load_backbone("resnet")


@pytest.mark.parametrize("views", [0, True, 2.5, "2"])
def test_what_is_no_number_of_views_is_refused_and_not_the_default(views: object) -> None:
    with pytest.raises(InputError, match=f"number of views of fer-vgg: {views!r}; expected one of 1, 2, 10"):
        load_backbone("fer-vgg", views=views, device="cpu")
    with pytest.raises(InputError, match="layer of fer-vgg: ''; expected one of fc7"):
        load_backbone("fer-vgg", layer="", device="cpu")


def test_numpys_numbers_of_views_are_written_into_recipes_as_pythons() -> None:
    views = load_backbone("fer-vgg", views=np.int64(10), device="cpu").recipe()["views"]
    assert (views, type(views)) == (10, int)


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"bin/weights fetch vgg-face.*bin/weights convert"):
        load_backbone("vgg-face")
    for name in ("vgg-face", "fer-vgg", "vgg16-imagenet", "facenet-vggface2", "dlib-resnet"):
        with pytest.raises(WeightsError, match="none"):
            load_backbone(name, weights=tmp_path / "none")


# VGG-16 of torchvision -----------------------------------------------------------------------------------------


def test_the_imagenet_record_is_torchvisions() -> None:
    from torchvision.models import VGG16_Weights

    record, theirs = get_record("vgg16-imagenet"), VGG16_Weights.IMAGENET1K_V1
    assert record.url == theirs.url
    assert theirs.url.endswith(f"/{record.file}")
    assert record.file == f"vgg16-{record.sha256}.pth"


def test_imagenet_input_is_torchvisions() -> None:
    from PIL import Image
    from torchvision.models import VGG16_Weights

    crop = noise(1, 224, 224, 3)
    theirs = VGG16_Weights.IMAGENET1K_V1.transforms(resize_size=224)(Image.fromarray(crop[0]))
    assert torch.allclose(imagenet_input(torch.from_numpy(crop))[0], theirs, atol=1e-6)


def test_torchvisions_cache_is_read_and_checked(tmp_path: Path) -> None:
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "vgg16-397923af.pth"
    cached.parent.mkdir(parents=True)
    state = seeded_network().state_dict()
    torch.save(state, cached)
    with pytest.raises(WeightsError, match=r"vgg16-397923af\.pth: features\.0\.weight has shape \(4, 3, 3, 3\)"):
        load_backbone("vgg16-imagenet", device="cpu")


FIRST = (64, 3, 3, 3)  # shape of features.0.weight


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(FIRST).to_sparse(), "is sparse, nested or has no values"),
        (torch.empty(FIRST, device="meta"), "is sparse, nested or has no values"),
        (torch.zeros(FIRST, dtype=torch.int32), r"is of type torch\.int32; expected floating-point numbers"),
        (torch.zeros(FIRST, dtype=torch.complex64), r"is of type torch\.complex64"),
        (torch.full(FIRST, 1e300, dtype=torch.float64), "holds values that are not finite"),
        (torch.tensor(1.0), r"has shape \(\)"),
    ],
    ids=["sparse", "meta", "integers", "complex", "beyond float32", "a number"],
)
def test_weights_that_are_no_ordinary_numbers_are_refused(tensor: torch.Tensor, said: str, tmp_path: Path) -> None:
    torch.save({"features.0.weight": tensor}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=rf"w\.pth: features\.0\.weight {said}"):
        load_backbone("vgg16-imagenet", weights=tmp_path / "w.pth", device="cpu")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_float_type_become_float32(kind: torch.dtype) -> None:
    state = {name: torch.nn.Parameter(tensor.to(kind)) for name, tensor in seeded_network().state_dict().items()}
    fitting = fitting_state(state, VGG16(SMALL).state_dict(), "a file")
    assert {tensor.dtype for tensor in fitting.values()} == {torch.float32}
    network = VGG16(SMALL)
    network.load_state_dict(fitting, assign=True)
    assert network.fc7(torch.zeros(1, 3, 224, 224)).dtype == torch.float32


@pytest.mark.slow
def test_vgg16_gives_torchvisions_fc7(tmp_path: Path) -> None:
    from torchvision.models import vgg16

    torch.manual_seed(0)
    theirs = vgg16().eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    crops = noise(2, 224, 224, 3)
    with torch.inference_mode():
        pooled = torch.flatten(theirs.avgpool(theirs.features(imagenet_input(torch.from_numpy(crops)))), 1)
        expected = theirs.classifier[:5](pooled).numpy()
    ours = load_backbone("vgg16-imagenet", weights=tmp_path / "w.pth", device="cpu", precision="fp32")(crops)
    # Winograd's algorithm, where it is used, rounds in another order: errors are as those of the largest values.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5 * expected.max())


# fer-vgg -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fer_network() -> fer_vgg.FerVGG:
    torch.manual_seed(0)
    network = fer_vgg.FerVGG(classes=3, width=0.125).eval()
    for name, values in network.state_dict().items():  # a fresh norm layer is the identity: give each its own
        if name.endswith("running_mean"):
            values.normal_(0, 0.1)
    return network


def save_fer_vgg(path: Path, network: fer_vgg.FerVGG, kind: torch.dtype = torch.float32) -> Path:
    tensors = {
        f"network.{name}": tensor.to(kind) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    save_file({**tensors, "trained_on": torch.zeros(2, dtype=torch.int64)}, path)
    return path


def test_fer_vgg_averages_fc7_over_its_views(fer_network: fer_vgg.FerVGG, tmp_path: Path) -> None:
    path, crops = save_fer_vgg(tmp_path / "f.safetensors", fer_network), noise(3, 48, 48)
    pixels = torch.from_numpy(crops)[:, None].float() / 255
    centre = pixels[..., 2:46, 2:46]
    with torch.inference_mode():
        plain = fer_network.fc7(fer_vgg.standardise(centre))
        mirrored = fer_network.fc7(fer_vgg.standardise(centre).flip(-1))
    one, two, ten = (
        load_backbone("fer-vgg", weights=path, views=n, device="cpu", precision="fp32")(crops) for n in (1, 2, 10)
    )
    assert one.shape == (3, 4096)
    np.testing.assert_allclose(one, plain.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two, (plain + mirrored).numpy() / 2, rtol=1e-5, atol=1e-6)
    assert not np.allclose(ten, two, rtol=1e-3)


def test_fer_vgg_with_mirrors_sees_no_left_and_right(fer_network: fer_vgg.FerVGG, tmp_path: Path) -> None:
    path, crops = save_fer_vgg(tmp_path / "f.safetensors", fer_network), noise(2, 48, 48)
    for views in (2, 10):
        backbone = load_backbone("fer-vgg", weights=path, views=views, device="cpu", precision="fp32")
        np.testing.assert_allclose(backbone(crops), backbone(crops[..., ::-1].copy()), rtol=1e-4, atol=1e-5)


def test_fer_vgg_stored_as_half_and_of_any_width(fer_network: fer_vgg.FerVGG, tmp_path: Path) -> None:
    network = read_fer_vgg(save_fer_vgg(tmp_path / "h.safetensors", fer_network, torch.float16))
    assert network.fc8.out_features == 3
    assert torch.equal(network.fc8.weight, fer_network.fc8.weight.half().float())


def test_what_fit_cnn_writes_is_read(tmp_path: Path) -> None:
    from featurepipe.models.baselines.registry import get_baseline
    from featurepipe.models.cnn import CNNClassifier

    recipe = replace(get_baseline("fer-vgg").recipe, epochs=1, batch_size=4, network={"width": 0.125})
    made = {"faces": {"detector": "hog", "margin": 0.6}}
    model = CNNClassifier("fer-vgg", recipe, device="cpu").fit(noise(8, 48, 48), ["fear", "anger"] * 4, recipe=made)
    model.save(tmp_path / "cnn.safetensors")
    assert torch.equal(read_fer_vgg(tmp_path / "cnn.safetensors").fc8.weight, model.network_.state_dict()["fc8.weight"])
    framing = load_backbone("fer-vgg", weights=tmp_path / "cnn.safetensors", device="cpu").framing
    assert framing == replace(get_record("fer-vgg").need_framing(), margin=0.6)


@pytest.mark.parametrize(
    "said",
    [
        *('{"recipe": {"faces": {"detector": "none", "margin": 0.0}}}', '{"recipe": {}}', "[]", "{"),
        '{"recipe": {"faces": {"detector": "hog", "margin": NaN}}}',
    ],
)
def test_a_file_that_names_no_margin_of_faces_has_its_records(
    said: str, fer_network: fer_vgg.FerVGG, tmp_path: Path
) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in fer_network.state_dict().items()}
    save_file(tensors, tmp_path / "f.safetensors", {"featurepipe": said})
    backbone = load_backbone("fer-vgg", weights=tmp_path / "f.safetensors", device="cpu")
    assert backbone.framing == get_record("fer-vgg").framing


def test_weights_that_are_replaced_while_they_are_read_are_refused(
    fer_network: fer_vgg.FerVGG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_fer_vgg(tmp_path / "f.safetensors", fer_network)
    newer = save_fer_vgg(tmp_path / "newer.safetensors", fer_network, torch.float16)

    def beside(file: Path) -> fer_vgg.FerVGG:
        network = read_fer_vgg(file)
        newer.replace(file)
        return network

    with monkeypatch.context() as patch:
        patch.setattr("featurepipe.features.backbones.read_fer_vgg", beside)
        with pytest.raises(WeightsError, match=r"f\.safetensors changed while it was read; run the command again"):
            load_backbone("fer-vgg", weights=path, device="cpu")
    assert load_backbone("fer-vgg", weights=path, device="cpu").recipe()["weights"] == sha256_of(path)


def test_another_architecture_is_refused(small: Path, fer_network: fer_vgg.FerVGG, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no fer-vgg"):
        read_fer_vgg(small)
    damaged = fer_vgg.FerVGG(classes=3, width=0.125)
    damaged.fc7_ = torch.nn.Linear(512, 100, bias=False)
    with pytest.raises(WeightsError, match=r"fc7_\.weight has shape \(100, 512\); expected \(4096, 512\)"):
        read_fer_vgg(save_fer_vgg(tmp_path / "d.safetensors", damaged))


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("fc8.weight", torch.tensor(1.0), "no fer-vgg"),
        ("fc8.weight", torch.zeros(0, 4096), "no fer-vgg"),
        ("fc8.bias", torch.zeros(3, dtype=torch.int64), r"fc8\.bias is of type torch\.int64"),
        (
            "features.norm1_1.num_batches_tracked",
            torch.tensor(1.5),
            r"is of type torch\.float32; expected torch\.int64",
        ),
    ],
)
def test_a_tensor_of_another_kind_is_refused(
    name: str, tensor: torch.Tensor, said: str, fer_network: fer_vgg.FerVGG, tmp_path: Path
) -> None:
    state = {f"network.{key}": value for key, value in fer_network.state_dict().items()}
    save_file({**state, f"network.{name}": tensor}, tmp_path / "k.safetensors")
    with pytest.raises(WeightsError, match=said):
        read_fer_vgg(tmp_path / "k.safetensors")


# Networks of other packages ------------------------------------------------------------------------------------


def test_facenet_gives_its_own_networks_embedding(tmp_path: Path) -> None:
    facenet = pytest.importorskip("facenet_pytorch")
    torch.manual_seed(0)
    network = facenet.InceptionResnetV1().eval()
    cached = tmp_path / "torch" / "checkpoints" / "20180402-114759-vggface2.pt"
    cached.parent.mkdir(parents=True)
    torch.save({**network.state_dict(), "logits.weight": torch.zeros(7, 512), "logits.bias": torch.zeros(7)}, cached)
    crops = noise(3, 160, 160, 3)
    with torch.inference_mode():
        planes = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
        expected = network(facenet.fixed_image_standardization(planes))
    backbone = load_backbone("facenet-vggface2", device="cpu", precision="fp32")
    np.testing.assert_allclose(backbone(crops), expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(backbone(crops), axis=1), 1, rtol=1e-5)
    assert backbone.recipe()["weights"] == sha256_of(cached)


@pytest.mark.parametrize("name", ["facenet-vggface2", "vgg16-imagenet"])
def test_offline_names_the_url_and_the_cache(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:  # bound and not listening: refuses
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/w.pt"
        monkeypatch.setitem(records(), name, replace(get_record(name), url=url))
        with pytest.raises(WeightsError, match="cannot be reached") as caught:
            load_backbone(name, device="cpu")
    assert url in str(caught.value)
    assert str(tmp_path / "torch") in str(caught.value)


# HOG -----------------------------------------------------------------------------------------------------------


def test_hog_equals_scikit_image() -> None:
    feature = pytest.importorskip("skimage.feature")
    backbone, faces = load_backbone("hog", device="cpu"), noise(4, 64, 64)
    faces[1] //= 3
    faces[2] = 77
    faces[3] = np.add.outer(np.arange(64), 3 * np.arange(64)).astype(np.uint8)
    expected = [
        feature.hog(face / 255, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for face in faces
    ]
    vectors = backbone(faces)
    assert vectors.shape == (4, 1764)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_array_equal(backbone(faces[1:2])[0], vectors[1])


def test_hog_of_an_edge_votes_for_its_direction() -> None:
    """A vertical edge has a horizontal gradient: all votes fall into the first bin, 0 to 20 degrees."""
    face = np.zeros((1, 64, 64), np.uint8)
    face[:, :, 32:] = 255
    blocks = load_backbone("hog", device="cpu")(face).reshape(7, 7, 4, 9)
    assert blocks[..., 1:].max() == 0
    assert set(np.flatnonzero(blocks.sum((0, 2, 3)))) == {2, 3, 4}


def test_hog_has_no_weights() -> None:
    assert load_backbone("hog", device="cpu").recipe()["weights"] == "none"
    with pytest.raises(InputError, match="has no weights"):
        load_backbone("hog", weights="hog.dat")
    with pytest.raises(InputError, match="fp32"):
        load_backbone("hog", precision="bf16")
