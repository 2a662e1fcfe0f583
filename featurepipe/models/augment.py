"""Random changes to training faces, whole batches at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from featurepipe.models.training_recipe import Augmentation


def augment(faces: torch.Tensor, how: Augmentation, view: int, generator: torch.Generator) -> torch.Tensor:
    """Cut one randomly moved, turned, scaled and mirrored view out of each face, and change its brightness curve.

    Parameters
    ----------
    faces : float (n, c, s, s) in 0..1
    how : the ranges
    view : side of the square view in pixels, at most s; a view equal to s with no change is a copy
    generator : on the device of faces; the only source of randomness

    Returns
    -------
    float (n, c, view, view) in 0..1, bilinear, borders repeated
    """
    if how == Augmentation() and view == faces.shape[-1]:
        return faces
    return _cut(faces, _affine(len(faces), faces.shape[-1], view, how, generator), view, how, generator)


def augment_with_landmarks(
    faces: torch.Tensor,
    landmarks: torch.Tensor,
    mirror: Sequence[int],
    how: Augmentation,
    view: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `augment` makes of the faces, and where their landmarks lie in it.

    Parameters
    ----------
    faces, how, view, generator : as of `augment`
    landmarks : float (n, p, 2), x and y in shares of the face's side
    mirror : for each landmark the one that takes its name in a mirrored face

    Returns
    -------
    float (n, c, view, view), and float (n, p, 2) in shares of the view's side
    """
    theta = _affine(len(faces), faces.shape[-1], view, how, generator)
    (a, b, left), (c, d, top) = (row.unbind(1) for row in theta.unbind(1))
    area = a * d - b * c
    # The inverse by hand: torch.linalg would make a GPU wait, to tell whether there is one.
    inverse = (torch.stack([d, -b, -c, a], dim=1) / area[:, None]).view(-1, 2, 2)
    placed = (2 * landmarks - 1 - torch.stack([left, top], dim=1)[:, None]) @ inverse.transpose(1, 2)
    placed = torch.where((area < 0)[:, None, None], placed[:, list(mirror)], placed)
    return _cut(faces, theta, view, how, generator), (placed + 1) / 2


def _cut(
    faces: torch.Tensor, theta: torch.Tensor, view: int, how: Augmentation, generator: torch.Generator
) -> torch.Tensor:
    grid = functional.affine_grid(theta, [*faces.shape[:2], view, view], align_corners=False)
    moved = functional.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    if how.gamma == 1.0:
        return moved
    exponent = torch.exp(_symmetric(len(faces), math.log(how.gamma), generator))
    return moved.clamp(1e-4, 1.0) ** exponent[:, None, None, None]


def erase(images: torch.Tensor, probability: float, generator: torch.Generator) -> torch.Tensor:
    """Set one rectangle of 2 to 20 % of the area to 0 in about `probability` of the images (n, c, h, w)."""
    if not probability:
        return images
    count, _, height, width = images.shape
    area = _uniform(count, generator) * 0.18 + 0.02
    aspect = torch.exp(_symmetric(count, math.log(3.0), generator))
    half_h, half_w = (area * aspect).sqrt() * height / 2, (area / aspect).sqrt() * width / 2
    middle_y, middle_x = _uniform(count, generator) * height, _uniform(count, generator) * width
    rows, columns = (torch.arange(side, device=images.device)[None] for side in (height, width))
    inside_y = (rows - middle_y[:, None]).abs() < half_h[:, None]
    inside_x = (columns - middle_x[:, None]).abs() < half_w[:, None]
    chosen = _uniform(count, generator) < probability
    mask = inside_y[:, :, None] & inside_x[:, None, :] & chosen[:, None, None]
    return images.masked_fill(mask[:, None], 0.0)


def mix(
    images: torch.Tensor, targets: torch.Tensor, share: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend about `share` of the images, and their targets alike, with others of the batch (Zhang et al. 2018, eq. 1).

    Parameters
    ----------
    images : float (n, c, h, w)
    targets : float (n, k), distributions over classes

    Returns
    -------
    images and targets of the same shapes; of each the image in its own place weighs at least half
    """
    if not share:
        return images, targets
    count = len(images)
    alone = _uniform(count, generator) >= share
    ratio = _uniform(count, generator).masked_fill(alone, 1.0)
    ratio = torch.maximum(ratio, 1 - ratio)
    other = torch.randperm(count, generator=generator, device=images.device)
    one, two = ratio[:, None, None, None], ratio[:, None]
    return one * images + (1 - one) * images[other], two * targets + (1 - two) * targets[other]


def drawn(distributions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One class per row, drawn by the row's probabilities, as float one-hot (n, k) like the distributions."""
    # The least of exponential times of rates p falls on each class with probability p; torch.multinomial makes a GPU
    # wait, to tell whether each row is a distribution.
    times = torch.empty_like(distributions).exponential_(generator=generator)
    chosen = (distributions / times).argmax(1, keepdim=True)
    return torch.zeros_like(distributions).scatter_(1, chosen, 1.0)


def _affine(count: int, size: int, view: int, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Matrices (count, 2, 3) from view coordinates to face coordinates, both -1..1 as affine_grid wants them."""
    angle = _symmetric(count, math.radians(how.rotation), generator)
    stretch = _symmetric(count, math.log1p(how.scale), generator)
    # Not torch.where of two numbers: copying them there makes a GPU wait, and cannot be recorded.
    mirror = 1.0 - 2.0 * (_uniform(count, generator) < how.flip)
    pixels = torch.stack([_symmetric(count, how.shift, generator) for _ in range(2)])
    if how.sharp:
        sharp = _uniform(count, generator) < how.sharp
        angle, stretch = angle.masked_fill(sharp, 0.0), stretch.masked_fill(sharp, 0.0)
        half = (size - view) % 2 / 2  # a view centred between pixels reaches them by half a pixel
        pixels = torch.where(sharp, (pixels + half).round() - half, pixels)
    zoom = torch.exp(stretch) * (view / size)
    shift_x, shift_y = 2 * pixels / size
    cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
    rows = [mirror * cosine, -sine, shift_x, mirror * sine, cosine, shift_y]
    return torch.stack(rows, dim=1).reshape(count, 2, 3)


def _symmetric(count: int, bound: float, generator: torch.Generator) -> torch.Tensor:
    return (_uniform(count, generator) * 2 - 1) * bound


def _uniform(count: int, generator: torch.Generator) -> torch.Tensor:
    """float32 (count,) in 0..1, on the generator's device."""
    return torch.rand(count, generator=generator, device=generator.device)
