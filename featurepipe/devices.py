"""Which device runs a network, and in what precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from featurepipe.errors import InputError
from featurepipe.whole_process import Restore, WholeProcess
from featurepipe.winograd import with_winograd

PRECISIONS = ("fp32", "bf16")

_IN_BF16 = (torch.nn.Conv2d, torch.nn.Linear)
"""Layers whose weights autocast would round to bf16 again for every batch."""


_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "_STATUS_ALLOC_FAILED")
"""One of these stands in what torch says of it: GPUs, its allocator on Windows and Linux, C++, cuDNN and cuBLAS."""


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turns what torch raises where memory runs out, on any device, into a MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if any(text in str(error) for text in _OUT_OF_MEMORY):
            raise MemoryError(str(error).partition("\n")[0]) from error
        raise


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


def resolve_precision(name: str, device: torch.device, offered: Sequence[str] = PRECISIONS) -> str:
    """The precision that `name` (auto, fp32, bf16) asks for on `device`, of those offered.

    auto takes bf16 where the device multiplies in it (GPUs since Ampere; CPUs with AVX512-BF16 or AMX), fp32
    elsewhere: bf16 in software is slower than fp32.
    """
    if name != "auto":
        return name
    return "bf16" if "bf16" in offered and has_bf16(device) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions that multiply in bf16."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # it asks the current GPU
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    capabilities: Mapping[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # not in the oldest torch we run with
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def widest_float(device: torch.device) -> torch.dtype:
    """The widest floats `device` has: float64, and on Apple's MPS float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def prepared(
    network: torch.nn.Module, device: torch.device, precision: str, *, large_maps: bool = False
) -> torch.nn.Module:
    """`network` for inference on `device` under `autocast(device, precision)`, in the layout that is fastest there.

    Convolutions run on channels_last: VGG-16 takes 0.16 s of a core in bf16 so and 0.20 s otherwise. Weights that
    autocast rounds to bf16 are rounded once, to the same values. With `large_maps`, 14x14 and up where channels are
    many, a CPU that has no bf16 saves multiplications by Winograd's algorithm (one that has computes in fp32 only where
    that is wanted as the reference).
    """
    network = network.eval().to(device).to(memory_format=torch.channels_last)
    if large_maps and precision == "fp32" and _multiplies_by_mkl(device) and not has_bf16(device):
        network = with_winograd(network)
    if precision == "bf16":
        for module in network.modules():
            if isinstance(module, _IN_BF16):
                module.to(torch.bfloat16)
    return network


def _multiplies_by_mkl(device: torch.device) -> bool:
    return device.type == "cpu" and torch.backends.mkl.is_available()


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """A context in which matrix products and convolutions run in `precision` ("fp32" or "bf16") on `device`."""
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else _in_fp32(device)


@contextlib.contextmanager
def _in_fp32(device: torch.device) -> Iterator[None]:
    """Also where the calling program multiplies in another precision."""
    with torch.autocast(device.type, enabled=False), _tf32_off() if device.type == "cuda" else contextlib.nullcontext():
        yield


class _Precisions(NamedTuple):
    """PyTorch's settings: the older one of products; then ieee, tf32 or none of products, convolutions, recurrences."""

    older: str
    products: str
    convolutions: str
    recurrences: str


def _switch_tf32_off() -> Restore:
    before = _precisions()
    _set_precisions(_Precisions("highest", "ieee", "ieee", "ieee"))
    return lambda: _set_precisions(before)


_tf32_off = WholeProcess(_switch_tf32_off)
"""A context without TF32, which PyTorch switches for the whole process.

cuDNN rounds the factors of fp32 convolutions to 10 bits (TF32) unless it is told not to. Matrix products it rounds only
where the calling program has asked for it; here neither is wanted.
"""


def _precisions() -> _Precisions:
    cudnn: Any = torch.backends.cudnn
    products = torch.backends.cuda.matmul.fp32_precision
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # the caller has used the newer setting alone
        older = "high" if products == "tf32" else "highest"
    return _Precisions(older, products, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)


def _set_precisions(wanted: _Precisions) -> None:
    """The older settings first, which set the newer ones too: PyTorch refuses to multiply where they differ."""
    cudnn: Any = torch.backends.cudnn
    torch.set_float32_matmul_precision(wanted.older)
    cudnn.allow_tf32 = wanted.convolutions == "tf32"
    torch.backends.cuda.matmul.fp32_precision = wanted.products
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = wanted.convolutions, wanted.recurrences
