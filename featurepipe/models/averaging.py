"""Moves of a network's weights as a whole: their average along a training, and the step uphill before a gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Pairs = list[tuple[torch.Tensor, torch.Tensor]]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TINY = 1e-12
"""Added to the length of a gradient, which may be zero."""


def to_average(average: nn.Module, network: nn.Module) -> Pairs:
    """What is averaged of a network, each with its place in the average: all but batch norm's statistics.

    Those are of the weights they were made with; see `own_statistics`.
    """
    left_out = {id(buffer) for norm in _batch_norms(average) for buffer in norm.buffers()}
    kept, new = (chain(one.parameters(), one.buffers()) for one in (average, network))
    return [pair for pair in zip(kept, new, strict=True) if id(pair[0]) not in left_out]


@torch.no_grad()
def move_towards(pairs: Pairs, decay: float) -> None:
    """Make each average `decay` of itself and for the rest the newest; what is no float becomes the newest."""
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    get_ema_multi_avg_fn(decay)([kept for kept, _ in floats], [new for _, new in floats], 0)
    for kept, new in pairs:
        if not kept.is_floating_point():
            kept.copy_(new)


@contextlib.contextmanager
def own_statistics(network: nn.Module) -> Iterator[None]:
    """What passes through the network within becomes its batch norm statistics (Izmailov et al. 2018, algorithm 1).

    An average of statistics on the way would be of weights that lie around the averaged ones, and vary more.
    """
    norms = _batch_norms(network)
    momenta = [norm.momentum for norm in norms]
    network.train()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        with torch.no_grad():
            yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextlib.contextmanager
def uphill(network: nn.Module, radius: float) -> Iterator[None]:
    """Within, the weights lie `radius` along their gradients (Foret et al. 2021, eq. 2).

    What is computed there leaves its gradients; weights and buffers are those of before again afterwards, to the last
    bit.
    """
    moved: list[torch.Tensor] = [weights for weights in network.parameters() if weights.grad is not None]
    gradients = [weights.grad for weights in moved if weights.grad is not None]
    numbers = [*moved, *network.buffers()]
    with torch.no_grad():
        before = [tensor.clone() for tensor in numbers]
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_add_(moved, torch._foreach_mul(gradients, radius / (length + _TINY)))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(numbers, before)


def _batch_norms(network: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    return [layer for layer in network.modules() if isinstance(layer, _BATCH_NORMS)]
