"""Reader of vgg_face_dag.pth: Oxford's MatConvNet release as a PyTorch state dict (pytorch-mcn). RGB."""

from __future__ import annotations

from pathlib import Path

from featurepipe.conversion.assemble import Layers
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
        layers[layer] = (weight.float().numpy(), bias.float().numpy())
    return layers
