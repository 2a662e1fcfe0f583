"""Photometric normalisations of grey faces, whole batches at a time."""

from __future__ import annotations

import torch
from torch.nn import functional

LEVELS = 256
CONTRAST_SIDE, CONTRAST_SIGMA = 7, 1.4
"""Pixels of local contrast's neighbourhood (Lopes et al. 2017), and its Gaussian's deviation, which is our choice."""
LEAST_CONTRAST = 0.01
"""Where grey values in 0..1 deviate by less, they are divided by this: noise is not blown up."""


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


def local_contrast(faces: torch.Tensor) -> torch.Tensor:
    """Each pixel of (n, 1, h, w) in 0..1 less the mean of its neighbourhood, divided by the neighbourhood's deviation.

    Mean and deviation are weighted by a Gaussian over 7 x 7 pixels, and reflected at the border (Lopes et al. 2017).
    """
    mean = _blurred(faces)
    deviation = (_blurred(faces.square()) - mean.square()).clamp_min(0).sqrt()
    return (faces - mean) / deviation.clamp_min(LEAST_CONTRAST)


def _blurred(faces: torch.Tensor) -> torch.Tensor:
    """A Gaussian over 7 x 7 pixels; float32 under autocast too, whose bf16 would drown the difference of squares."""
    reach = CONTRAST_SIDE // 2
    weights = torch.exp(-((torch.arange(-reach, reach + 1, device=faces.device) / CONTRAST_SIGMA) ** 2) / 2)
    weights = weights / weights.sum()
    with torch.autocast(faces.device.type, enabled=False):
        padded = functional.pad(faces, (reach,) * 4, mode="reflect")
        return functional.conv2d(functional.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
