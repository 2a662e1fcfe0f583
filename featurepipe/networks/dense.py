"""Fully connected layers as several networks stack them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def dense_layers(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU and dropout from each size to the next: (n, sizes[0]) to (n, sizes[-1])."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
