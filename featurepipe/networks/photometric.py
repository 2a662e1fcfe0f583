"""Photometric normalisations of grey faces, whole batches at a time."""

from __future__ import annotations

import torch

LEVELS = 256


def equalise(faces: torch.Tensor) -> torch.Tensor:
    """Histogram equalisation: each pixel becomes the share of its picture's pixels that are not brighter.

    Parameters
    ----------
    faces : float (n, c, h, w) in 0..1; each picture's channels share one histogram of 256 levels

    Returns
    -------
    float32 (n, c, h, w) in 0..1, half of the pixel's own level counted as darker: a constant picture becomes 0.5
    """
    levels = (faces.clamp(0, 1) * (LEVELS - 1)).round().long().flatten(1)
    counts = torch.zeros(len(faces), LEVELS, device=faces.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=counts.dtype))
    darker = counts.cumsum(1) - counts / 2
    return (darker.gather(1, levels) / levels.shape[1]).view(faces.shape)


def without_plane(faces: torch.Tensor) -> torch.Tensor:
    """Each channel of (n, c, h, w) less the plane a + b x + c y that fits it best: light from one side drops out."""
    height, width = faces.shape[-2:]
    y = torch.linspace(-1, 1, height, device=faces.device)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width, device=faces.device)[None].expand(height, width)
    # The three columns are orthogonal on the grid, so the fit is three projections.
    for column in (torch.ones_like(x), x, y):
        weight = (faces * column).sum((2, 3), keepdim=True) / column.square().sum()
        faces = faces - weight * column
    return faces
