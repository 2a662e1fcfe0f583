"""dlib's CNN face detector (Max-Margin Object Detection, King 2015) up to its score map, in PyTorch.

Seven convolutions over the tiled pyramid of a photo (mmod_pyramid), in float32: near ties between neighbouring cells
decide which box comes out, and bfloat16 moves a fifth of the boxes.

One core takes 35 ms for a photo of 350 x 350 (1.7 G multiply-adds as written), dlib 680: 4 ms for the canvas, the rest
in convolutions at 45 to 50 G multiply-adds a second, near all that core can do. Batches gain nothing on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from featurepipe.devices import autocast
from featurepipe.networks.mmod_pyramid import FIELD, STRIDE, Layout, Samples, column_samples, row_samples

HALO = 10
"""Cells around a cell that the layers behind the strides read."""

LANES = 16
"""Channels are filled up with zeros to a multiple of this: whole vector registers are faster than masked ones."""

SIDE = 4
"""Side of the square of scores that the last convolution gives at once, as 16 channels: one at a time is 7 x slower."""

OUTPUT_ROWS, POINTS = 4, (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
"""Of the convolutions that save multiplications: rows of output computed together, and where polynomials are taken."""

BLOCK_CELLS = {"cpu": 1 << 16, "cuda": 1 << 20}
"""Cells of the score map computed at once. Each takes about 3 KB of intermediate results."""

CHUNK_VALUES = 1 << 22
"""Values that are resized at once."""


class MmodNet(nn.Module):
    """The network of mmod_human_face_detector.dat, its channels filled up with zeros.

    Parameters
    ----------
    convolutions : weight (out, in, rows, columns) and bias (out,) of each, float32; strides 2, 2, 2 and 1 ever after
    means : of R, G and B, subtracted from pixels of 0..255 before they are divided by 256
    device : where it runs
    """

    means: torch.Tensor

    def __init__(
        self,
        convolutions: Sequence[tuple[np.ndarray, np.ndarray]],
        means: Sequence[float],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (weight, bias) in enumerate(convolutions[:-1]):
            layers.append(_filled(weight, bias, number == 0, 2) if number < 3 else _FewerProducts(weight, bias))
            layers.append(nn.ReLU(inplace=True))
        self.body = nn.Sequential(*layers)
        self.last = _by_squares(*convolutions[-1])
        self.register_buffer("means", torch.tensor(means, dtype=torch.float32))
        self.device = torch.device(device)
        self.to(device=self.device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]

    def forward(self, canvas: torch.Tensor) -> torch.Tensor:
        """Scores of a canvas: float32 (n, 3, height, width) to (n, rows, columns), one cell per 8 pixels."""
        with autocast(canvas.device, "fp32"):
            cells = self.body(canvas)
            rows, columns = cells.shape[2:]
            cells = functional.pad(cells, (4, 4 + -columns % SIDE, 4, 4 + -rows % SIDE))
            return functional.pixel_shuffle(self.last(cells), SIDE)[:, 0, :rows, :columns]

    @torch.inference_mode()
    def scores(self, photos: torch.Tensor, canvas: Layout) -> torch.Tensor:
        """The score map of photos of one size, uint8 (n, height, width, 3), laid out as `canvas`.

        Large canvases are computed block by block, each with the cells around it that its scores depend on: what grows
        with a photo is its pyramid alone, 30 bytes a pixel. A process that has looked at 50 megapixels, which take 23
        seconds of a core, has taken 2.7 GiB at most (3.2 where it is 200 times as wide as high), of which torch 0.5.

        Returns
        -------
        float32 (n, rows, columns)
        """
        rows, columns = canvas.cells
        photos = photos.to(self.device)
        pyramid = _Pyramid(photos, canvas, self.means)
        scores = torch.empty((len(photos), rows, columns), device=photos.device)
        for (top, bottom), (left, right) in _blocks(rows, columns, self.cells_at_once // len(photos)):
            above, below = max(0, top - HALO), min(rows, bottom + HALO)
            before, behind = max(0, left - HALO), min(columns, right + HALO)
            found = self(pyramid.pixels(_pixels_of(above, below), _pixels_of(before, behind)))
            scores[:, top:bottom, left:right] = found[:, top - above : bottom - above, left - before : right - before]
        return scores

    @property
    def cells_at_once(self) -> int:
        """Cells of score maps that are computed at once on this device."""
        return BLOCK_CELLS.get(self.device.type, BLOCK_CELLS["cpu"])

    def photos_at_once(self, cells: int) -> int:
        """How many photos of so many cells to pass to `scores`: on a CPU one is faster than several."""
        return 1 if self.device.type == "cpu" else max(1, self.cells_at_once // cells)


class _FewerProducts(nn.Module):
    """A convolution of 5 x 5 with stride 1 and padding 2, in two fifths of the multiplications.

    Winograd's F(4, 5) (Lavin & Gray 2016), down the rows alone: each four rows of output come from eight rows of
    input, both mixed by small constant matrices, with eight convolutions of 1 x 5 between them. Measured on 48
    channels: 4.8 ms instead of 7.1, rounding errors 2.3 times as large.
    """

    mix_input: torch.Tensor
    mix_output: torch.Tensor

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        mix_output, mix_filter, mix_input = _mixers(OUTPUT_ROWS, weight.shape[2])
        self.register_buffer("mix_input", torch.tensor(mix_input, dtype=torch.float32))
        self.register_buffer("mix_output", torch.tensor(mix_output, dtype=torch.float32))
        mixed = np.einsum("kr,oirc->koic", mix_filter, weight.astype(np.float64)).astype(np.float32)
        # The second point is 1, and enters each row of output once: its bias is everybody's.
        biases = [bias if number == 1 else np.zeros_like(bias) for number in range(len(mixed))]
        self.lines = nn.ModuleList(
            _filled(part[:, :, None], own, False, 1, (0, 2)) for part, own in zip(mixed, biases, strict=True)
        )

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Float32 (n, channels, rows, columns), channels last, to the same with other channels."""
        rows, points = cells.shape[2], len(self.lines)
        groups = -(-rows // OUTPUT_ROWS)
        padded = functional.pad(cells, (0, 0, 2, 2 + OUTPUT_ROWS * groups - rows)).permute(0, 2, 3, 1)
        last = OUTPUT_ROWS * (groups - 1) + 1
        taken = torch.stack([padded[:, first : first + last : OUTPUT_ROWS] for first in range(points)])
        mixed = (self.mix_input @ taken.flatten(1)).view_as(taken)
        parts = [
            line(part.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) for line, part in zip(self.lines, mixed, strict=True)
        ]
        products = torch.stack(parts)
        found = (self.mix_output @ products.flatten(1)).view(OUTPUT_ROWS, *products.shape[1:])
        return found.permute(1, 2, 0, 3, 4).flatten(1, 2)[:, :rows].permute(0, 3, 1, 2)


def _mixers(outputs: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices of Toom and Cook's F(outputs, taps): output (m, k) and filter (k, taps) at k points, input (k, k).

    The points are 0, the others of POINTS, and infinity. Rows of the input's matrix are scaled to at most 1.
    """
    count = outputs + taps - 1

    def powers(degree: int) -> np.ndarray:
        at_infinity = np.eye(degree)[-1:]
        return np.vstack([np.vander(POINTS[: count - 1], degree, increasing=True), at_infinity])

    mix_input = np.linalg.inv(powers(count)).T
    scale = np.abs(mix_input).max(axis=1, keepdims=True)
    return powers(outputs).T, powers(taps) * scale, mix_input / scale


def _filled(
    weight: np.ndarray, bias: np.ndarray, first: bool, stride: int, padding: tuple[int, int] = (0, 0)
) -> nn.Conv2d:
    """A convolution with zero filters and zero inputs added, which change nothing."""
    out, into, height, width = weight.shape
    more_out, more_into = -out % LANES, 0 if first else -into % LANES
    layer = nn.Conv2d(into + more_into, out + more_out, (height, width), stride, padding)
    layer.weight = nn.Parameter(torch.from_numpy(np.pad(weight, ((0, more_out), (0, more_into), (0, 0), (0, 0)))))
    layer.bias = nn.Parameter(torch.from_numpy(np.pad(bias, (0, more_out))))
    return layer


def _by_squares(weight: np.ndarray, bias: np.ndarray) -> nn.Conv2d:
    """The one filter of the last convolution as 16 filters, one for each place in a square of 4 x 4 scores."""
    _, channels, rows, columns = weight.shape
    moved = np.zeros((SIDE, SIDE, channels, rows + SIDE - 1, columns + SIDE - 1), np.float32)
    for down in range(SIDE):
        for right in range(SIDE):
            moved[down, right, :, down : down + rows, right : right + columns] = weight[0]
    return _filled(moved.reshape(SIDE * SIDE, *moved.shape[2:]), np.repeat(bias, SIDE * SIDE), False, SIDE)


def _blocks(rows: int, columns: int, cells: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Spans of rows and of columns that cut the map into blocks of about `cells` cells; one where that is enough."""
    width = columns if rows * columns <= cells else min(columns, max(1, math.isqrt(cells)))
    height = max(1, cells // width)
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            yield (top, min(top + height, rows)), (left, min(left + width, columns))


def _pixels_of(start: int, stop: int) -> tuple[int, int]:
    """The pixels of the canvas, along one axis, that cells `start` to `stop` read before any zero padding."""
    return STRIDE * start, STRIDE * (stop - 1) + FIELD


class _Pyramid:
    """The canvas of some photos: levels are made when a part of it first needs them."""

    def __init__(self, photos: torch.Tensor, canvas: Layout, means: torch.Tensor) -> None:
        self._photos, self._tiles, self._means = photos.permute(0, 3, 1, 2), canvas.tiles, means
        self._levels: list[torch.Tensor] = []

    def pixels(self, rows: tuple[int, int], columns: tuple[int, int]) -> torch.Tensor:
        """A part of the canvas, float32 (n, 3, rows, columns), channels last; 0 between the tiles."""
        (first, end), (left, right) = rows, columns
        shape = (len(self._photos), end - first, right - left, 3)
        part = torch.zeros(shape, device=self._photos.device).permute(0, 3, 1, 2)
        for number, tile in enumerate(self._tiles):
            top, bottom = max(first, tile.top), min(end, tile.bottom + 1)
            start, stop = max(left, tile.left), min(right, tile.right + 1)
            if top < bottom and start < stop:
                source = self._part(number, top - tile.top, bottom - tile.top)[
                    ..., start - tile.left : stop - tile.left
                ]
                part[:, :, top - first : bottom - first, start - left : stop - left] = source
        return part

    def _part(self, number: int, top: int, bottom: int) -> torch.Tensor:
        """Rows of a level. The photos themselves stay bytes, a quarter of the memory, and are normalised in parts."""
        if number == 0:
            return self._normalised(self._photos[:, :, top:bottom])
        while len(self._levels) < number:
            self._levels.append(self._smaller(len(self._levels) + 1))
        return self._levels[number - 1][:, :, top:bottom]

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return values.sub_(self._means[:, None, None]).mul_(1 / 256)

    def _smaller(self, number: int) -> torch.Tensor:
        """A level, resized from the one before it, some rows at a time."""
        before, tile = self._tiles[number - 1], self._tiles[number]
        device = self._photos.device
        down = _table("rows", before.height, tile.height, device)
        across = _table("columns", before.width, tile.width, device)
        level = torch.empty((len(self._photos), 3, tile.height, tile.width), device=device)
        rows = max(1, CHUNK_VALUES // level[:, :, 0].numel())
        for top in range(0, tile.height, rows):
            part = down.part(top, min(top + rows, tile.height))
            source = self._part(number - 1, part.start, part.stop)
            level[:, :, top : top + rows] = _resized(source.flatten(0, 1), part, across).unflatten(0, level.shape[:2])
        return level


class _Table:
    """Samples (mmod_pyramid) of rows or columns on a device, and the range of rows or columns they read."""

    def __init__(self, samples: Samples, device: torch.device) -> None:
        self._samples, self.start, self.stop = samples, int(samples[0][0]), int(samples[1][-1]) + 1
        first, second, share = samples
        self.first, self.second = (torch.from_numpy(index - self.start).to(device) for index in (first, second))
        self.share = torch.from_numpy(share)[:, None].to(device)

    def part(self, start: int, stop: int) -> _Table:
        """Those of some rows alone."""
        if stop - start == len(self.first):
            return self
        first, second, share = self._samples
        return _Table((first[start:stop], second[start:stop], share[start:stop]), self.first.device)


@lru_cache(maxsize=512)
def _table(axis: str, source: int, target: int, device: torch.device) -> _Table:
    return _Table((row_samples if axis == "rows" else column_samples)(source, target), device)


def _resized(source: torch.Tensor, down: _Table, across: _Table) -> torch.Tensor:
    """Bilinear, first down, then across on the transposed image: whole rows are gathered much faster than columns."""
    turned = _between(source, down).transpose(1, 2).contiguous()
    return _between(turned, across).transpose(1, 2)


def _between(source: torch.Tensor, table: _Table) -> torch.Tensor:
    return torch.lerp(source.index_select(1, table.first), source.index_select(1, table.second), table.share)
