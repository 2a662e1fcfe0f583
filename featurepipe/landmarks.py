"""Facial landmarks that travel with a crop, as rows of bytes below its pixels.

Tables, batches and GPUs go on handling one uint8 array of crops: the face stage writes these rows, and a network that
wants landmarks reads them. A coordinate is a share of the crop's side, from its left or upper edge (0) to its right or
lower one (1): the middle of pixel i lies at (i + 0.5) / side. It takes two bytes, in steps of 1 / 21845.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # worker processes write rows without torch
    import torch

OUTSIDE, STEPS = 1.0, 21845
"""Landmarks may lie this many sides outside the crop; those further away are moved there. 65535 steps for 3 sides."""

LEFT_EYE, RIGHT_EYE = (2, 3), (0, 1)
"""Of dlib's five landmarks the corners of the eye on the picture's left, and on its right; the fifth is the nose."""

MIRROR_68 = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    *range(27, 31),  # bridge of the nose
    *range(35, 30, -1),  # its lower edge
    *(45, 44, 43, 42, 47, 46),  # eyes
    *(39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),  # outer lips
    *range(59, 54, -1),
    *range(64, 59, -1),  # inner lips
    *range(67, 64, -1),
)
"""For each of dlib's 68 landmarks, counted from 0, the one that takes its name in a mirrored face."""


def landmark_rows(points: int, size: int) -> int:
    """How many rows of bytes `points` landmarks take below a crop that is `size` pixels wide."""
    return -(-4 * points // size)


def with_landmarks(crop: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The crop with its landmarks written below it.

    Parameters
    ----------
    crop : uint8 (size, size) or (size, size, 3)
    points : float (p, 2), x and y in shares of the crop's side

    Returns
    -------
    uint8 (size + landmark_rows(p, size), size) or (..., 3); all channels hold the same rows
    """
    codes = ((points.clip(-OUTSIDE, 1 + OUTSIDE) + OUTSIDE) * STEPS).round().astype(">u2")
    rows = np.zeros((landmark_rows(len(points), len(crop)), len(crop)), np.uint8)
    rows.reshape(-1)[: 4 * len(points)] = codes.reshape(-1).view(np.uint8)
    return np.concatenate([crop, rows if crop.ndim == 2 else rows[..., None].repeat(3, axis=2)])


def split_landmarks(faces: torch.Tensor, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and landmarks of a batch.

    Parameters
    ----------
    faces : float (n, c, size + rows, size) in 0..1, bytes divided by 255 as training and predicting have them
    points : number of landmarks

    Returns
    -------
    images : float (n, c, size, size), a view
    landmarks : float (n, points, 2), x and y in shares of the crop's side
    """
    size = faces.shape[-1]
    codes = (faces[:, 0, size:].flatten(1)[:, : 4 * points] * 255).round().reshape(-1, points, 2, 2)
    return faces[:, :, :size], (256 * codes[..., 0] + codes[..., 1]) / STEPS - OUTSIDE
