"""Convolutions of 3x3 pixels with a quarter of the multiplications: Winograd's minimal filtering F(4x4, 3x3).

Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4: for each 4x4 pixels of the output
the 6x6 of the input below are taken to 36 numbers (D = B'dB), and so is the filter (U = GgG'). There the convolution is
a matrix product of tiles by channels for each of the 36, and Y = A'MA leads back. PyTorch's own convolutions on CPUs
multiply directly.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

TILE, WINDOW = 4, 6
"""Side of the output's tile, and of the input's below it."""

FEWEST_PRODUCTS = 64 * 128
"""Input times output channels below which the way to the 36 numbers and back costs more than it saves."""

MANY_PRODUCTS = 128 * 256
"""Input times output channels from which on the filters are too large for a processor's own cache."""

SMALL_BLOCK, LARGE_BLOCK = 100_000, 2_000_000
"""Numbers that the transformed tiles of a block hold at most: so many stay in a processor's own cache; where that is
taken by the filters, so many stay in the one it shares, and the filters are fetched less often."""

_TO_INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_TO_FILTER = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_TO_OUTPUT = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# Rows and columns at once: one product with 36 x 36 (16 x 36) numbers instead of two with 6 x 6.
_INPUT, _OUTPUT = torch.kron(_TO_INPUT, _TO_INPUT), torch.kron(_TO_OUTPUT, _TO_OUTPUT)

ONES = WINDOW + 1
"""Which of the 36 numbers enters each of the 16 once: a bias there is everybody's."""


class WinogradConv2d(nn.Conv2d):
    """What a `Conv2d` computes for inference on a CPU, in fp32, in about half the time.

    Its results differ from exact ones by up to 1e-5 of the largest, those of direct fp32 by up to 4e-6.

    Parameters
    ----------
    direct : the convolution, whose weights it shares; see `suits`
    """

    filters: torch.Tensor

    def __init__(self, direct: nn.Conv2d) -> None:
        with torch.device("meta"):
            super().__init__(direct.in_channels, direct.out_channels, WINDOW // 2, padding=1)
        self.weight, self.bias = direct.weight, direct.bias
        filters = torch.einsum("ai,bj,ocij->abco", _TO_FILTER, _TO_FILTER, self.weight.detach().double())
        self.register_buffer("filters", filters.flatten(0, 1).float().contiguous(), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, channels, h, w) to float32 (n, filters, h, w), both channels_last."""
        return torch.ops.featurepipe.winograd(images, self.filters, self.bias)


def suits(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether `layer` is a convolution of 3x3 pixels that `WinogradConv2d` computes, and sooner."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (3, 3)
        and (layer.stride, layer.padding, layer.dilation) == ((1, 1), (1, 1), (1, 1))
        and (layer.groups, layer.padding_mode) == (1, "zeros")
        and layer.in_channels * layer.out_channels >= FEWEST_PRODUCTS
    )


def with_winograd(network: nn.Module) -> nn.Module:
    """`network` with every layer that `suits` replaced, in place."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if suits(layer):
                setattr(parent, name, WinogradConv2d(layer))
    return network


@torch.library.custom_op("featurepipe::winograd", mutates_args=())
def _convolve(images: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    count, _, height, width = images.shape
    down, across = -(-height // TILE), -(-width // TILE)
    margins = (0, 0, 1, TILE * across + 1 - width, 1, TILE * down + 1 - height)
    padded = functional.pad(images.permute(0, 2, 3, 1), margins).contiguous()
    result = padded.new_empty(count, down, TILE, across, TILE, filters.shape[2])
    some, rows = _block(count, down, across, filters)
    room = _Room(padded, some * rows * across, filters)
    for first in range(0, count, some):
        for top in range(0, down, rows):
            part = result[first : first + some, top : top + rows]
            part.copy_(_tiles_of(padded[first:, TILE * top :], part.shape, filters, bias, room))
    whole = result.view(count, TILE * down, TILE * across, -1)[:, :height, :width]
    return whole.contiguous().permute(0, 3, 1, 2)


def _block(count: int, down: int, across: int, filters: torch.Tensor) -> tuple[int, int]:
    """How many images, and how many rows of their tiles, are taken at a time."""
    channels = filters.shape[1:]
    most = LARGE_BLOCK if channels.numel() >= MANY_PRODUCTS else SMALL_BLOCK
    row = WINDOW**2 * across * max(channels)
    rows = min(down, max(1, most // row))
    return min(count, max(1, most // (row * rows))), rows


class _Room:
    """Memory for one block after another: fresh memory for each would be far from the processor."""

    def __init__(self, like: torch.Tensor, tiles: int, filters: torch.Tensor) -> None:
        points, before, after = filters.shape
        self.windows, self.tiles = (like.new_empty(points * tiles * before) for _ in range(2))
        self.products, self.back = like.new_empty(points * tiles * after), like.new_empty(TILE**2 * tiles * after)


def _tiles_of(
    padded: torch.Tensor, shape: torch.Size, filters: torch.Tensor, bias: torch.Tensor | None, room: _Room
) -> torch.Tensor:
    """Output tiles of `shape`, (images, rows, TILE, tiles across, TILE, filters), from where `padded` begins."""
    (points, before, after), (image, row, pixel, one) = filters.shape, padded.stride()
    some, rows, _, across = shape[:4]
    count = some * rows * across
    windows = padded.as_strided(
        (WINDOW, WINDOW, some, rows, across, before), (row, pixel, image, TILE * row, TILE * pixel, one)
    )
    taken = room.windows[: points * count * before].view(windows.shape).copy_(windows)
    tiles = room.tiles[: taken.numel()].view(points, -1)
    torch.mm(_INPUT, taken.view(points, -1), out=tiles)
    products = room.products[: points * count * after].view(points, count, after)
    torch.bmm(tiles.view(points, count, before), filters, out=products)
    if bias is not None:
        products[ONES] += bias
    back = room.back[: TILE**2 * count * after].view(TILE**2, -1)
    torch.mm(_OUTPUT, products.view(points, -1), out=back)
    return back.view(TILE, TILE, some, rows, across, after).permute(2, 3, 0, 4, 1, 5)


@register_flop_formula(torch.ops.featurepipe.winograd)
def _operations(images: tuple[int, ...], filters: tuple[int, ...], *_: object, **__: object) -> int:
    """Those of the direct convolution: what a network costs is stated so, however it is computed."""
    count, channels, height, width = images
    return 2 * 9 * count * channels * height * width * filters[2]
