"""dlib's face descriptor (King 2017, dnn_face_recognition_ex.cpp): a ResNet of 29 convolutions, in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

SIZE = 150
"""Side of a face in pixels."""

DIM = 128
"""Length of a descriptor."""

STEM = 32
"""Filters of the first convolution, of 7 x 7 with stride 2."""

BLOCKS = (
    *((32, False),) * 3,
    (64, True),
    *((64, False),) * 3,
    (128, True),
    *((128, False),) * 2,
    (256, True),
    *((256, False),) * 2,
    (256, True),
)
"""Filters of the two convolutions of 3 x 3 in each block, and whether the block halves rows and columns."""


class DescriptorNet(nn.Module):
    """The network of dlib_face_recognition_resnet_model_v1.dat.

    Parameters
    ----------
    convolutions : weight (out, in, rows, columns) and bias (out,) of the stem, then two for each of BLOCKS, float32,
        the scaling behind each folded in
    output : weight of the last layer, float32 (256, 128)
    means : of R, G and B, subtracted from pixels of 0..255 before they are divided by 256
    """

    means: torch.Tensor

    def __init__(
        self, convolutions: Sequence[tuple[np.ndarray, np.ndarray]], output: np.ndarray, means: Sequence[float]
    ) -> None:
        super().__init__()
        self.stem = _convolution(*convolutions[0], stride=2, padding=0)
        pairs = zip(convolutions[1::2], convolutions[2::2], BLOCKS, strict=True)
        self.blocks = nn.Sequential(*(_Block(first, second, halves) for first, second, (_, halves) in pairs))
        self.output = nn.Linear(len(output), DIM, bias=False)
        self.output.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(output.T)))
        self.register_buffer("means", torch.tensor(means, dtype=torch.float32))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Faces, uint8 RGB (n, 150, 150, 3), to descriptors, float (n, 128), which are not normalised."""
        pixels = faces.permute(0, 3, 1, 2).float().sub_(self.means[:, None, None]).mul_(1 / 256)
        # dlib rectifies before it pools; the maximum is the same, of a quarter of the values
        found = functional.max_pool2d(self.stem(pixels), 3, 2).relu_()
        return self.output(self.blocks(found).mean((2, 3)))


class _Block(nn.Module):
    """Two convolutions beside a way around them, which is halved by averages where they halve."""

    def __init__(
        self, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], halves: bool
    ) -> None:
        super().__init__()
        self.first = _convolution(*first, stride=2, padding=0) if halves else _convolution(*first)
        self.second = _convolution(*second)
        self.halves = halves

    def forward(self, found: torch.Tensor) -> torch.Tensor:
        """Float (n, channels, rows, columns), to the same with other sizes where the block halves."""
        changed = self.second(self.first(found).relu_())
        if self.halves:
            return _sum(changed, functional.avg_pool2d(found, 2)).relu_()
        return changed.add_(found).relu_()


def _convolution(weight: np.ndarray, bias: np.ndarray, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    out, into, rows, columns = weight.shape
    with torch.device("meta"):
        layer = nn.Conv2d(into, out, (rows, columns), stride, padding)
    layer.weight, layer.bias = nn.Parameter(torch.from_numpy(weight)), nn.Parameter(torch.from_numpy(bias))
    return layer


def _sum(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Sum of maps that differ in channels, rows and columns: both go on with zeros, as in dlib's add_prev."""
    channels, rows, columns = (max(sizes) for sizes in zip(one.shape[1:], other.shape[1:], strict=True))

    def filled(part: torch.Tensor) -> torch.Tensor:
        missing = (0, columns - part.shape[3], 0, rows - part.shape[2], 0, channels - part.shape[1])
        return functional.pad(part, missing) if any(missing) else part

    return filled(one) + filled(other)
