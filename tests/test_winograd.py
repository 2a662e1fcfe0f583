"""Winograd's convolutions against PyTorch's direct ones in fp64."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from featurepipe import devices
from featurepipe.cost import cost_of
from featurepipe.devices import prepared
from featurepipe.networks.vgg16 import VGG16, Widths
from featurepipe.winograd import WinogradConv2d, suits, with_winograd

CPU = torch.device("cpu")


def seeded(layer):
    generator = torch.Generator().manual_seed(0)
    for tensor in layer.parameters():
        tensor.data = torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5
    return layer.requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("count", "channels", "filters", "height", "width"),
    [
        (1, 1, 1, 1, 1),
        (2, 3, 5, 4, 4),
        (1, 7, 2, 5, 3),
        (3, 16, 8, 14, 13),
        (8, 128, 256, 28, 28),
        (2, 256, 256, 90, 7),
        (3, 64, 128, 50, 37),
        (15, 128, 256, 14, 14),
    ],
)
def test_it_is_the_direct_convolution(count, channels, filters, height, width, bias):
    direct = seeded(torch.nn.Conv2d(channels, filters, 3, padding=1, bias=bias))
    images = torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    exact = functional.conv2d(
        images.double(), direct.weight.double(), direct.bias.double() if bias else None, padding=1
    ).float()
    made = WinogradConv2d(direct)(images.contiguous(memory_format=torch.channels_last))
    assert made.shape == exact.shape
    assert (made - exact).abs().max() <= 2e-5 * exact.abs().max()


def test_a_filter_of_one_pixel_leaves_the_image_as_it_is():
    direct = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False).requires_grad_(False)
    direct.weight.zero_()[0, 0, 1, 1] = 1
    image = torch.arange(30.0).view(1, 1, 5, 6)
    torch.testing.assert_close(WinogradConv2d(direct)(image), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"stride": 2, "padding": 1},
        {"padding": 0},
        {"padding": 1, "dilation": 2},
        {"padding": 1, "groups": 2},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
def test_other_convolutions_and_small_ones_stay(other):
    assert suits(torch.nn.Conv2d(256, 256, 3, padding=1))
    assert not suits(torch.nn.Conv2d(256, 256, 3, **other))
    assert not suits(torch.nn.Conv2d(256, 256, 5, padding=1))
    assert not suits(torch.nn.Conv2d(64, 64, 3, padding=1))
    assert not suits(torch.nn.Linear(9, 9))


def vgg():
    torch.manual_seed(0)
    return VGG16(Widths(blocks=(8, 16, 128, 256, 256), fc=64)).requires_grad_(False)


@pytest.fixture
def without_bf16(monkeypatch):
    monkeypatch.setattr(devices, "has_bf16", lambda device: False)


def layers_of(network):
    return sum(isinstance(layer, WinogradConv2d) for layer in network.modules())


@pytest.mark.usefixtures("without_bf16")
def test_vgg_gives_the_same_vectors_and_states_the_same_cost():
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    direct, fast = vgg().eval(), prepared(vgg(), CPU, "fp32", large_maps=True)
    assert (layers_of(direct), layers_of(fast)) == (0, 8)
    with torch.inference_mode():
        expected, vectors = direct(images), fast(images)
        alone = fast(images[1:])
    assert (vectors - expected).abs().max() <= 2e-5 * expected.abs().max()
    assert (alone - vectors[1:]).abs().max() <= 1e-5 * expected.abs().max()
    costs = [cost_of(network, lambda network=network: network(images[:1])) for network in (direct, fast)]
    assert costs[0] == costs[1]
    assert costs[0].multiply_adds > 10**8


@pytest.mark.parametrize(
    ("bf16", "precision", "large_maps", "layers"),
    [(False, "fp32", True, 8), (True, "fp32", True, 0), (False, "bf16", True, 0), (False, "fp32", False, 0)],
)
def test_only_large_maps_in_fp32_without_bf16(monkeypatch, bf16, precision, large_maps, layers):
    monkeypatch.setattr(devices, "has_bf16", lambda device: bf16)
    if not torch.backends.mkl.is_available():
        layers = 0
    assert layers_of(prepared(vgg(), CPU, precision, large_maps=large_maps)) == layers


def test_vectors_do_not_depend_on_the_place_in_the_batch():
    layer = with_winograd(torch.nn.Sequential(seeded(torch.nn.Conv2d(128, 256, 3, padding=1))))
    images = torch.randn(8, 128, 14, 14, generator=torch.Generator().manual_seed(2))
    assert np.array_equal(layer(images).roll(3, 0), layer(images.roll(3, 0)))
