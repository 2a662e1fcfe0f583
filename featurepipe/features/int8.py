"""Backbones in 8-bit arithmetic on a CPU: OpenVINO runs the network that torch traced, quantised after training.

Weights are rounded per output channel, each layer's input by one scale (Jacob et al., CVPR 2018; Krishnamoorthi,
arXiv 1806.08342). The scales of the inputs are all that calibration finds, so they are the whole of what is kept: a
dozen numbers in the recipe of the vectors, from which the same network is built again anywhere.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch

from featurepipe.cost import Cost
from featurepipe.errors import InputError, MissingPackageError, install_extra
from featurepipe.features.backbone import TorchBackbone, check_crops

OFFERED = ("fer-vgg", "vgg-face", "vgg16-imagenet")
"""Backbones that were measured in int8: convolutions and matrix products, each after a ReLU."""

WEIGHT_LEVELS = 127
"""Largest magnitude of a weight. With 64 no two products overflow the 16 bits in which AVX2 adds them up; but the SVM
that ships agreed on 99.2 % of 727 faces with 64, and on 99.4 % with 127, on a processor with AVX2 alone."""

INPUT_LEVELS = 255
"""Largest value of a layer's input: 0 to 255."""

DIGITS = 6
"""Significant digits of a scale: the last bits of the sums behind it depend on the machine."""

_QUANTISED = (torch.nn.Conv2d, torch.nn.Linear)


def measure_scales(backbone: TorchBackbone, crops: np.ndarray) -> dict[str, float]:
    """What one step of each layer's input stands for, by the layer's name: the largest input over 255.

    Parameters
    ----------
    backbone : in fp32 on the CPU
    crops : uint8 (n, *framing.shape), n >= 1, like those to come

    Returns
    -------
    scales, each > 0. A layer whose input may be negative (the first one, mostly) has none and stays in fp32.

    Raises
    ------
    InputError : there are no crops
    """
    if not len(crops):
        raise InputError("int8 needs face crops to measure the network's inputs on, and got none")
    largest: dict[str, float] = {}
    smallest: dict[str, float] = {}
    with _watched(backbone.network, largest, smallest):
        for start in range(0, len(crops), backbone.batch_size):
            backbone(crops[start : start + backbone.batch_size])
    return {
        name: float(f"{value / INPUT_LEVELS:.{DIGITS}g}")
        for name, value in largest.items()
        if smallest[name] >= 0 and value > 0
    }


@contextmanager
def _watched(network: torch.nn.Module, largest: dict[str, float], smallest: dict[str, float]) -> Iterator[None]:
    """Within, the largest and smallest input of each layer that runs are kept."""

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        def keep(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            low, high = (float(bound) for bound in torch.aminmax(inputs[0]))
            largest[name], smallest[name] = max(high, largest.get(name, high)), min(low, smallest.get(name, low))

        return keep

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, _QUANTISED)]
    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Int8Backbone:
    """A `Backbone` that computes another one's vectors in 8 bits; `recipe()` has the scales as "int8".

    Parameters
    ----------
    backbone : in fp32 on the CPU; it stays as it is
    scales : of `measure_scales`

    Raises
    ------
    InputError : the backbone does not run on the CPU, or is not offered in int8, or the scales are not its own
    MissingPackageError : OpenVINO is not installed
    """

    def __init__(self, backbone: TorchBackbone, scales: Mapping[str, float]) -> None:
        check_offered(backbone.name, backbone.device)
        openvino = load_openvino()
        self.name, self.framing, self.dim = backbone.name, backbone.framing, backbone.dim
        self.threads, self.batch_size = backbone.threads, backbone.batch_size
        self.made_with = {**backbone.made_with, "precision": "int8", "openvino": openvino.__version__}
        self._backbone, self._scales = backbone, dict(scales)
        self._compiled = _compiled(openvino, backbone, self._scales)
        self._own = threading.local()

    def recipe(self) -> dict[str, Any]:
        """See `Backbone.recipe`; two backbones whose scales differ give vectors that differ."""
        return {**self._backbone.recipe(), "int8": self._scales}

    def cost(self) -> Cost | None:
        """See `Backbone.cost`: as many operations as in fp32, of fewer bits."""
        return self._backbone.cost()

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """See `Backbone.__call__`."""
        check_crops(crops, self.framing)
        if not len(crops):
            return np.empty((0, self.dim), np.float32)
        if not hasattr(self._own, "request"):  # a request serves one thread at a time
            self._own.request = self._compiled.create_infer_request()
        vectors: np.ndarray = self._own.request.infer([np.ascontiguousarray(crops)])[0]
        return vectors.copy()


def check_offered(name: str, device: torch.device) -> None:
    """Raise InputError where a backbone, or a device, has no int8."""
    if device.type != "cpu":
        raise InputError(f"--precision int8 runs on a CPU, and the device is {device}: add --device cpu, or use bf16")
    if name not in OFFERED:
        raise InputError(f"{name} is not offered in int8; expected one of {', '.join(OFFERED)}, or --precision fp32")


def load_openvino() -> Any:
    """The package, without its telemetry: it would report its own import to its makers.

    Raises MissingPackageError where it is not installed.
    """
    modules = cast(dict[str, Any], sys.modules)
    modules.setdefault("openvino_telemetry", None)  # as if not installed: OpenVINO then takes a stub of its own
    try:
        import openvino
    except ImportError as error:
        raise MissingPackageError(
            f"--precision int8 needs OpenVINO, which is not installed: {install_extra('int8')}"
        ) from error
    return openvino


class _Quantised(torch.nn.Module):
    """A convolution or linear layer whose input and weights are rounded to 8 bits; OpenVINO multiplies the bytes."""

    def __init__(self, layer: torch.nn.Conv2d | torch.nn.Linear, scale: float) -> None:
        super().__init__()
        self._like, self.scale = [layer], scale  # in a list: its weights in fp32 are no part of this module
        weights = layer.weight.detach()
        each = (len(weights), *[1] * (weights.dim() - 1))
        self.step = weights.abs().flatten(1).amax(1).clamp_min(1e-12).view(each) / WEIGHT_LEVELS
        self.bytes = (weights / self.step).round().to(torch.int8)
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        layer = self._like[0]
        images = torch.fake_quantize_per_tensor_affine(images, self.scale, 0, 0, INPUT_LEVELS)
        weights = self.bytes.float() * self.step
        if isinstance(layer, torch.nn.Conv2d):
            return torch.nn.functional.conv2d(images, weights, self.bias, layer.stride, layer.padding)
        return torch.nn.functional.linear(images, weights, self.bias)


class _Traced(torch.nn.Module):
    """The whole way from crops to vectors as one module, which is what can be traced."""

    def __init__(self, backbone: TorchBackbone) -> None:
        super().__init__()
        self.network, self._way = backbone.network, backbone.forward

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self._way(crops)


def _compiled(openvino: Any, backbone: TorchBackbone, scales: Mapping[str, float]) -> Any:
    shape = backbone.framing.shape
    with _quantised(backbone, scales), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's tracer, about shapes that are the same for every crop
        example = torch.zeros((2, *shape), dtype=torch.uint8)
        traced = torch.jit.trace(_Traced(backbone), example, check_trace=False)
        model = openvino.convert_model(traced, example_input=example, input=[-1, *shape])
    settings = {
        "NUM_STREAMS": backbone.threads,
        "INFERENCE_NUM_THREADS": max(backbone.threads, torch.get_num_threads()),
        "INFERENCE_PRECISION_HINT": "f32",  # of what is not in 8 bits; else bf16 where the processor has it
        "ENABLE_CPU_PINNING": False,  # the workers that find faces use the same cores
    }
    return openvino.Core().compile_model(model, "CPU", settings)


@contextmanager
def _quantised(backbone: TorchBackbone, scales: Mapping[str, float]) -> Iterator[None]:
    """Within, the layers that have a scale are quantised; afterwards all is as it was."""
    network = backbone.network
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, _QUANTISED)}
    if strange := set(scales) - set(layers):
        raise InputError(f"the int8 scales are not of {backbone.name}: it has no layers {', '.join(sorted(strange))}")
    try:
        for name, scale in scales.items():
            network.set_submodule(name, _Quantised(layers[name], scale))
        yield
    finally:
        for name in scales:
            network.set_submodule(name, layers[name])
