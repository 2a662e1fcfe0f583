"""Convolutions that rectify at once, with a stand-in for cuDNN's operator; test_gpu.py has the operator itself."""

import pytest
import torch
from torch.nn import functional

from featurepipe import fused
from featurepipe.cost import cost_of
from featurepipe.devices import prepared
from featurepipe.fused import ConvReLU, suits, with_conv_relu
from featurepipe.networks.vgg16 import VGG16, Widths

CPU = torch.device("cpu")


@pytest.fixture
def cudnn(monkeypatch):
    """A stand-in for cuDNN's operator, which keeps the types of what it gets, and fails once its error is set."""

    class Operator:
        types, error = [], None

        def __call__(self, images, weight, bias, stride, padding, dilation, groups):
            if self.error:
                raise self.error
            self.types.append((images.dtype, weight.dtype))
            return functional.conv2d(images, weight, bias, stride, padding, dilation, groups).relu_()

    operator = Operator()
    monkeypatch.setattr(fused, "fuses", lambda images: not torch.is_grad_enabled())
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("cudnn_convolution_relu", operator, "CPU")
        yield operator


def vgg():
    torch.manual_seed(0)
    return VGG16(Widths(blocks=(4, 8, 8, 8, 8), fc=16)).requires_grad_(False).eval()


def images(count=2, side=224):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def layers_of(network):
    return sum(isinstance(layer, ConvReLU) for layer in network.modules())


def test_vgg_keeps_its_tensors_names_its_vectors_and_its_cost(cudnn):
    plain, made = vgg(), with_conv_relu(vgg())
    assert layers_of(made) == 13
    assert {name: tensor.tolist() for name, tensor in made.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in plain.state_dict().items()
    }
    with torch.inference_mode():
        torch.testing.assert_close(made(images()), plain(images()), rtol=0, atol=0)
    assert len(cudnn.types) == 13
    with torch.no_grad():
        costs = [cost_of(network, lambda network=network: network(images(1))) for network in (plain, made)]
    assert costs[0] == costs[1]
    assert len(cudnn.types) == 26


@pytest.mark.parametrize("settings", [{"stride": 2}, {"padding": 2, "dilation": 2}, {"groups": 3}, {"bias": False}])
def test_every_setting_of_the_convolution_counts(cudnn, settings):
    layer = torch.nn.Conv2d(3, 6, 3, **settings)
    with torch.no_grad():
        expected = layer(images(side=9)).relu()
        torch.testing.assert_close(ConvReLU(layer)(images(side=9)), expected, rtol=0, atol=0)
    assert len(cudnn.types) == 1


def test_pixels_are_rounded_as_the_weights_are(cudnn):
    layer = ConvReLU(torch.nn.Conv2d(3, 4, 3).to(torch.bfloat16))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(images()).dtype == torch.bfloat16
    assert cudnn.types == [(torch.bfloat16, torch.bfloat16)]


def test_without_such_a_kernel_the_two_layers_run(cudnn):
    layer = torch.nn.Conv2d(3, 4, 3)
    made = ConvReLU(layer)
    cudnn.error = RuntimeError("GET was unable to find an engine to execute this computation")
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(made(images()), layer(images()).relu(), rtol=0, atol=0)
            cudnn.error = None  # it is not asked again
    assert not cudnn.types


def test_too_little_memory_is_no_reason_to_run_the_two_layers(cudnn):
    made = ConvReLU(torch.nn.Conv2d(3, 4, 3))
    cudnn.error = torch.OutOfMemoryError("CUDA out of memory")
    with torch.no_grad(), pytest.raises(torch.OutOfMemoryError):
        made(images())
    cudnn.error = None
    with torch.no_grad():
        made(images())
    assert len(cudnn.types) == 1


def test_gradients_are_those_of_the_two_layers(cudnn):
    layer = torch.nn.Conv2d(3, 4, 3)
    ConvReLU(layer)(images()).sum().backward()
    gradient = layer.weight.grad.clone()
    layer.weight.grad = None
    layer(images()).relu().sum().backward()
    torch.testing.assert_close(gradient, layer.weight.grad)
    assert not cudnn.types


@pytest.mark.parametrize("settings", [{"padding_mode": "circular"}, {"padding": "same"}])
def test_other_layers_stay(settings):
    relu = torch.nn.ReLU()
    assert suits(torch.nn.Conv2d(3, 4, 3, padding=1), relu)
    assert not suits(torch.nn.Conv2d(3, 4, 3, **settings), relu)
    assert not suits(torch.nn.Conv2d(3, 4, 3), torch.nn.LeakyReLU())
    assert not suits(torch.nn.Linear(3, 4), relu)


def test_on_a_cpu_nothing_is_replaced():
    assert layers_of(prepared(vgg(), CPU, "fp32")) == layers_of(prepared(vgg(), CPU, "bf16")) == 0
