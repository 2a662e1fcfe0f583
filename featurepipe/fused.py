"""Convolutions that add their bias and rectify before they write, on NVIDIA's GPUs.

PyTorch adds a convolution's bias in a pass of its own there, and rectifies in another: each reads and writes the whole
map again.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeGuard, cast

import torch
from torch import nn


class ConvReLU(nn.Conv2d):
    """What a `Conv2d` and the ReLU behind it compute for inference, at once where cuDNN can.

    In bf16 its results are rounded once, those of the two layers twice.

    Parameters
    ----------
    plain : the convolution, whose weights it shares; see `suits`
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        with torch.device("meta"):
            super().__init__(plain.in_channels, plain.out_channels, 1, groups=plain.groups)
        self.kernel_size, self.stride, self.padding = plain.kernel_size, plain.stride, plain.padding
        self.dilation, self.weight, self.bias = plain.dilation, plain.weight, plain.bias
        self._at_once = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float (n, channels, h, w) to (n, filters, h', w'), never negative."""
        if self._at_once and fuses(images):
            try:
                return self._fused(images)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # cuDNN has no kernel for this type, shape or GPU; or torch is built without cuDNN
                self._at_once = False
        return super().forward(images).relu_()

    def _fused(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(self.weight.dtype)  # autocast does not know this operator
        padding = cast(tuple[int, ...], self.padding)
        return torch.cudnn_convolution_relu(
            images, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


def fuses(images: torch.Tensor) -> bool:
    """Whether a convolution of `images` may rectify as well: on a GPU, where no gradients are wanted."""
    return images.is_cuda and not torch.is_grad_enabled()


def suits(layer: nn.Module, after: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether `layer` is a convolution, and `after` its ReLU, that one `ConvReLU` stands for."""
    return (
        type(layer) is nn.Conv2d
        and type(after) is nn.ReLU
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def with_conv_relu(network: nn.Module) -> nn.Module:
    """`network` with every two layers that `suits` replaced, in place; its tensors keep their names."""
    sequences = [module for module in network.modules() if isinstance(module, nn.Sequential)]
    for sequence in sequences:
        for (name, layer), (next_name, after) in pairwise(list(sequence.named_children())):
            if suits(layer, after):
                setattr(sequence, name, ConvReLU(layer))
                setattr(sequence, next_name, nn.Identity())
    return network
