"""Reader of vgg_face_dag.pth: Oxford's MatConvNet release as a PyTorch state dict (pytorch-mcn). RGB."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

from featurepipe.conversion.assemble import Layers
from featurepipe.errors import WeightsError


def read(path: Path) -> Layers:
    """Layers by name, from keys such as conv1_1.weight and conv1_1.bias.

    Only tensors are unpickled (`weights_only`). Raises WeightsError where the file is truncated, holds anything
    else, or is no PyTorch file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path} is truncated, unsafe, or no PyTorch file of tensors: {reason}") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds a {type(state).__name__}; expected a dictionary of tensors")
    return {name: (_tensor(state, name, "weight", path), _tensor(state, name, "bias", path)) for name in _names(state)}


def _names(state: dict[str, object]) -> list[str]:
    return list(dict.fromkeys(str(key).rpartition(".")[0] or str(key) for key in state))


def _tensor(state: dict[str, object], layer: str, part: str, path: Path) -> np.ndarray:
    tensor = state.get(f"{layer}.{part}")
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise WeightsError(f"{path}: layer {layer} has no {part} of floating-point numbers")
    return tensor.float().numpy()
