"""Layers of colour in face units (see face_model), and the soft marks they are painted with.

Soft forms are sums of separable Gaussians.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, pi, sqrt

import numpy as np
from PIL import Image

from featurepipe.datasets.face_model import Colour, Identity, Light, Pose, Shape

Blob = tuple[float, float, float, float, float]
"""A Gaussian: x, y, width and height (its 1/e half-axes), and amount at its peak."""

Point = tuple[float, float]
Curve = tuple[Point, Point, Point]
"""Start, bend and end of a quadratic Bezier curve."""

LEFT, RIGHT = 0, 1
SIGNS = (-1.0, 1.0)


@dataclass(slots=True)
class Layer:
    """A raster whose columns lie at `x` (w,) and rows at `y` (h,), in face units; one pixel is `pixel` units.

    `rgba` is float32 (h, w, 4) in 0..1, colours multiplied by alpha.
    """

    x: np.ndarray
    y: np.ndarray
    pixel: float
    rgba: np.ndarray

    @classmethod
    def empty(cls, left: float, top: float, right: float, bottom: float, pixel: float) -> Layer:
        """A transparent layer whose pixels fill the box."""
        x = np.arange(left + pixel / 2, right, pixel, dtype=np.float32)
        y = np.arange(top + pixel / 2, bottom, pixel, dtype=np.float32)
        return cls(x, y, pixel, np.zeros((len(y), len(x), 4), np.float32))

    def window(self, left: float, top: float, right: float, bottom: float) -> Layer:
        """The part of this layer inside the box; painting on it paints on this layer."""
        columns = slice(*np.searchsorted(self.x, (left, right)))
        rows = slice(*np.searchsorted(self.y, (top, bottom)))
        return Layer(self.x[columns], self.y[rows], self.pixel, self.rgba[rows, columns])

    def blend(self, colour: Colour | np.ndarray, alpha: np.ndarray) -> None:
        """Lay `colour` (three numbers, or (h, w, 3)) over the layer with opacity `alpha` (h, w)."""
        alpha = alpha[..., None]
        self.rgba[..., :3] += alpha * (np.asarray(colour, np.float32) - self.rgba[..., :3])
        self.rgba[..., 3:] += alpha * (1 - self.rgba[..., 3:])

    def inside(self, distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """Opacity of the region where `distance` (face units) is negative; its edge is a pixel or `softness` wide."""
        return np.clip(0.5 - distance / max(self.pixel, softness), 0, 1)


@dataclass(frozen=True, slots=True)
class Sitter:
    """Who is painted, with which expression, in which pose and light."""

    identity: Identity
    shape: Shape
    pose: Pose
    light: Light

    def trait(self, name: str) -> float:
        """One proportion of the face."""
        return self.identity.traits[name]

    def mean(self, name: str) -> float:
        """A shape parameter, averaged over the two sides."""
        return sum(self.shape[name]) / 2

    @property
    def chin(self) -> float:
        """Height of the chin, lowered by the jaw."""
        return self.trait("chin_y") + 0.8 * self.mean("jaw")


def blobs(rows: Sequence[Blob], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of Gaussians on the raster of `x` and `y`, each cut off at three half-axes: float32 (len(y), len(x)).

    Summed without BLAS, whose threads cost such small products more than they bring.
    """
    centre_x, centre_y, width, height, amount = np.asarray(rows, np.float32).T[..., None]
    across = np.exp(-(((x - centre_x) / width) ** 2))
    down = amount * np.exp(-(((y - centre_y) / height) ** 2))
    spans = [
        np.searchsorted(axis, np.hstack([centre - 3 * reach, centre + 3 * reach])).tolist()
        for axis, centre, reach in ((x, centre_x, width), (y, centre_y, height))
    ]
    total = np.zeros((len(y), len(x)), np.float32)
    for row, column, (left, right), (top, bottom) in zip(across, down, *spans, strict=True):
        total[top:bottom, left:right] += column[top:bottom, None] * row[left:right]
    return total


def mottle(layer_shape: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit strength, float32 `layer_shape` (h, w), with `cells` (down, across) spots."""
    spots = Image.fromarray(rng.standard_normal(cells, np.float32))
    return np.asarray(spots.resize(layer_shape[::-1], Image.Resampling.BICUBIC))


def both_sides(row: Blob, left: float = 1.0, right: float = 1.0) -> list[Blob]:
    """A blob given for the right half, mirrored, its amount weighted per side."""
    x, y, width, height, amount = row
    return [(-x, y, width, height, amount * left), (x, y, width, height, amount * right)]


def fold(curve: Curve, width: float, strength: float) -> list[Blob]:
    """A fold of the skin along a curve, fading towards its ends, as a string of blobs; none where it is slack."""
    if strength <= 0:
        return []
    (x0, y0), (x1, y1), (x2, y2) = curve
    chords = hypot(x1 - x0, y1 - y0) + hypot(x2 - x1, y2 - y1)
    count = int(chords / width) + 3
    t = np.linspace(0, 1, count + 2)[1:-1]
    x = (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t**2 * x2
    y = (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t**2 * y2
    amount = strength * np.sin(np.pi * t) * chords / (count * width * sqrt(pi))
    return [(*place, width, width, a) for *place, a in zip(x.tolist(), y.tolist(), amount.tolist(), strict=True)]


def mirrored_fold(curve: Curve, width: float, strengths: tuple[float, float]) -> list[Blob]:
    """A fold given for the right half and its mirror image, with a strength per side."""
    (x0, y0), (x1, y1), (x2, y2) = curve
    mirrored = (-x0, y0), (-x1, y1), (-x2, y2)
    return fold(mirrored, width, strengths[LEFT]) + fold(curve, width, strengths[RIGHT])


def lit(colour: Colour, sitter: Sitter) -> np.ndarray:
    """A colour under the light of the scene."""
    return np.asarray(colour, np.float32) * np.asarray(sitter.light.colour, np.float32)


def darker(colour: Colour, share: float) -> Colour:
    red, green, blue = (share * channel for channel in colour)
    return red, green, blue


def per_side(sitter: Sitter, name: str, factor: float, offset: float = 0.0) -> tuple[float, float]:
    """A shape parameter on both sides, scaled."""
    left, right = sitter.shape[name]
    return offset + factor * left, offset + factor * right
