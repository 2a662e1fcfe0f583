"""From a format's own layers, by Caffe's names, to the tensors of the one layout: checks, names, channel order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from featurepipe.errors import WeightsError
from featurepipe.networks.vgg16 import FULL, POOLED, Widths, caffe_names, shapes

Layers = dict[str, tuple[np.ndarray, np.ndarray]]
"""Caffe's name of a layer -> weight (out, in, ...) and bias (out,), any float dtype."""

ChannelOrder = Literal["RGB", "BGR"]

CLASSES = "fc8"
"""The layer of identities: in every published file, in none of ours."""

MOST_VALUES = FULL.fc * FULL.blocks[-1] * POOLED**2
"""Values in the largest tensor, fc6: a file that declares a larger one is not VGG-16, and is not read further."""


def name_in_order(layers: Sequence[tuple[str, np.ndarray, np.ndarray]], where: str) -> Layers:
    """Caffe's names for layers that a file lists in order under names of its own: (own name, weight, bias)."""
    names = [*caffe_names(), CLASSES]
    if len(layers) not in (len(names), len(names) - 1):
        raise WeightsError(
            f"{where} has {len(layers)} layers with weights; VGG-16 has {len(names)}, or {len(names) - 1} without fc8"
        )
    return {name: (weight, bias) for name, (_, weight, bias) in zip(names, layers, strict=False)}


def to_state(layers: Layers, channels: ChannelOrder, widths: Widths, where: str) -> dict[str, torch.Tensor]:
    """The float32 tensors of `networks.vgg16.VGG16`, for RGB input.

    Parameters
    ----------
    layers : as the file has them
    channels : order of the input channels of the file's conv1_1
    widths : of the network that the file should hold
    where : what errors call the file

    Raises WeightsError, naming the layer, where one is missing, unexpected, or of another shape.
    """
    names = caffe_names()
    if extra := sorted(set(layers) - {*names, CLASSES}):
        raise WeightsError(f"{where}: layer {extra[0]} does not belong to VGG-16")
    expected = shapes(widths)
    state: dict[str, torch.Tensor] = {}
    for name, place in names.items():
        if name not in layers:
            raise WeightsError(f"{where}: layer {name} is missing")
        weight, bias = layers[name]
        shape = expected[f"{place}.weight"]
        weight = _shaped(weight, shape, f"{where}: layer {name}: weight")
        bias = _shaped(bias, shape[:1], f"{where}: layer {name}: bias")
        if name == "conv1_1" and channels == "BGR":
            weight = weight[:, ::-1]
        state[f"{place}.weight"] = torch.from_numpy(weight.astype(np.float32, order="C"))
        state[f"{place}.bias"] = torch.from_numpy(bias.astype(np.float32, order="C"))
    return state


def _shaped(values: np.ndarray, expected: tuple[int, ...], where: str) -> np.ndarray:
    """`values` in the expected shape, where it has that or one that holds the same values in the same order."""
    if values.shape not in _spellings(expected):
        raise WeightsError(f"{where} has shape {tuple(values.shape)}; expected {expected}")
    return values.reshape(expected)


def _spellings(shape: tuple[int, ...]) -> set[tuple[int, ...]]:
    """The ways in which published files write one shape.

    Fully connected layers may be convolutions of 1x1, or of pool5's size, or, in old Caffe, matrices of four
    dimensions; a convolution may be a matrix.
    """
    out, *rest = shape
    ways = {shape, (out, int(np.prod(rest)))}
    if len(shape) == 2:
        ways |= {(1, 1, *shape), (out, rest[0], 1, 1), (out, rest[0] // POOLED**2, POOLED, POOLED)}
    return ways if rest else {shape}
