"""Histograms of oriented gradients (Dalal & Triggs, CVPR 2005), whole batches at a time: the classic features."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIZE, CELL, BLOCK, ORIENTATIONS = 64, 8, 2, 9
CLIP = 0.2
EPSILON = 1e-5


class HOG(nn.Module):
    """Unsigned gradients in 9 bins, cells of 8x8 pixels, blocks of 2x2 cells, "L2-Hys" norm; nothing is learnt.

    Votes are counted in their own cell and bin alone, as scikit-image's `hog` does.
    """

    dim = ORIENTATIONS * BLOCK**2 * (SIZE // CELL - BLOCK + 1) ** 2

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Grey faces (n, 64, 64) in 0..1 to float32 (n, 1764), by block row, block column, cell and bin."""
        return _normalised_blocks(_cells(faces.float()))


def _cells(faces: torch.Tensor) -> torch.Tensor:
    """Mean magnitude by bin and cell, (n, bins, rows, columns); gradients are central differences, 0 at the border."""
    down = functional.pad(faces[:, 2:] - faces[:, :-2], (0, 0, 1, 1))
    right = functional.pad(faces[:, :, 2:] - faces[:, :, :-2], (1, 1))
    turned = torch.rad2deg(torch.atan2(down, right)) % 180
    bins = (turned / (180 / ORIENTATIONS)).long() % ORIENTATIONS
    votes = functional.one_hot(bins, ORIENTATIONS).permute(0, 3, 1, 2) * torch.hypot(down, right)[:, None]
    return functional.avg_pool2d(votes, CELL)


def _normalised_blocks(cells: torch.Tensor) -> torch.Tensor:
    """Blocks of cells to norm 1, clipped at 0.2, to norm 1 again, one after the other: (n, 1764)."""
    blocks = cells.unfold(2, BLOCK, 1).unfold(3, BLOCK, 1)  # n, bins, rows, columns, 2, 2
    blocks = blocks.permute(0, 2, 3, 4, 5, 1).flatten(3)
    return _unit(_unit(blocks).clamp_max(CLIP)).flatten(1)


def _unit(blocks: torch.Tensor) -> torch.Tensor:
    return blocks / (blocks.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()
