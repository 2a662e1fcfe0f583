"""What one face costs in a network: its parameters, and the multiply-adds of one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Parameters of a network, and multiply-adds of its convolutions and matrix products for one face."""

    parameters: int
    multiply_adds: int


def cost_of(network: torch.nn.Module, forward: Callable[[], object]) -> Cost:
    """Count the parameters of `network`, and the multiply-adds while `forward` runs it on one face.

    Additions of biases, activations, pooling and normalisation are not counted, as is usual.
    """
    with FlopCounterMode(display=False) as counter:
        forward()
    return Cost(sum(weights.numel() for weights in network.parameters()), counter.get_total_flops() // 2)
