"""Reader of PyTorch files (torch.save) that may hold tensors and nothing else."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import torch

from featurepipe.errors import WeightsError

# What torch.load raises on damaged files: found by changing bytes of good ones at random.
_DAMAGE = (
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a PyTorch state dict, on the CPU; nothing else is unpickled (`weights_only`).

    Raises WeightsError where the file is missing, truncated, holds anything else, or is no PyTorch file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text says how to have run what is not run here
        raise WeightsError(
            f"{path} is damaged, or holds something other than tensors; nothing in it was run"
        ) from error
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path} is missing, damaged, or no PyTorch file of tensors: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError(f"{path} holds something else than named tensors")
    return {str(name): tensor for name, tensor in state.items()}
