"""Which device runs a network, and in what precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in count:
        raise InputError(f"unknown device {name!r}: expected auto, cpu, cuda, cuda:N or mps")
    if (device.index or 0) >= count[device.type]:
        raise InputError(f"device {name!r} is not available here; use --device auto or --device cpu")
    return device


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """A context in which matrix products and convolutions run in `precision` ("fp32" or "bf16") on `device`."""
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return _without_tf32() if device.type == "cuda" else contextlib.nullcontext()


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """PyTorch lets cuDNN round the factors of fp32 convolutions to 10 bits (TF32) unless it is told not to."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
