"""Reader of vgg_face_dag.pth: Oxford's MatConvNet release as a PyTorch state dict (pytorch-mcn). RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from featurepipe.conversion.assemble import MOST_VALUES, Layers
from featurepipe.conversion.pytorch import read_tensors
from featurepipe.errors import WeightsError


def read(path: Path) -> Layers:
    """Layers by name, from keys such as conv1_1.weight and conv1_1.bias.

    Raises WeightsError as `read_tensors`, and where a layer has not both.
    """
    state = read_tensors(path)
    layers: Layers = {}
    for layer in dict.fromkeys(key.rpartition(".")[0] or key for key in state):
        weight, bias = state.get(f"{layer}.weight"), state.get(f"{layer}.bias")
        if weight is None or bias is None or not (weight.is_floating_point() and bias.is_floating_point()):
            raise WeightsError(f"{path}: layer {layer} has not a weight and a bias of floating-point numbers")
        if not (_is_ordinary(weight) and _is_ordinary(bias)):
            raise WeightsError(f"{path}: layer {layer} is sparse, has no values, or more than any layer of VGG-16")
        layers[layer] = (_array(weight), _array(bias))
    return layers


def _is_ordinary(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.numel() <= MOST_VALUES


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's values, be it a parameter that can be trained or not."""
    array: np.ndarray = tensor.detach().float().numpy()
    return array
