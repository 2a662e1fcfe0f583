"""Which device runs a network, and in what precision."""

from __future__ import annotations

import contextlib

import torch

from featurepipe.errors import InputError

PRECISIONS = ("fp32", "bf16")


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device that `name` (auto, cpu, cuda, cuda:N, mps) asks for.

    auto takes CUDA, then Apple's MPS, then the CPU. Raises InputError where the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = name.partition(":")[0]
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in present:
        raise InputError(f"unknown device {name!r}: expected auto, cpu, cuda, cuda:N or mps")
    if not present[kind]:
        raise InputError(f"device {name!r} is not available here; use --device auto or --device cpu")
    return torch.device(name)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """A context in which matrix products run in `precision` ("fp32" or "bf16") on `device`."""
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
