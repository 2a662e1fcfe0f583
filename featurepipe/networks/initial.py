"""First weights that several networks share."""

from __future__ import annotations

from torch import nn


def he_normal(network: nn.Module) -> None:
    """He et al. 2015, eq. 10: normal weights by fan in, made for ReLU, biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))


def glorot_uniform(network: nn.Module) -> None:
    """Glorot & Bengio 2010: uniform weights by fan in and fan out, biases 0; as Keras, CNTK and Caffe's xavier do.

    Without batch norm PyTorch's own, smaller weights leave a deep network at its first prediction for a long time.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))
