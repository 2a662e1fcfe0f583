"""Paints a head with its neck and shoulders as layers of colour in face units (see face_model).

Soft forms (the relief that the light falls on, folds, blushes) are sums of separable Gaussians, which one matrix
product evaluates for a whole raster; outlines of lids, lips and brows are curves over x with edges one pixel wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, pi, sqrt

import numpy as np

from featurepipe.datasets.face_model import Colour, Identity, Light, Pose, Shape

Blob = tuple[float, float, float, float, float]
"""A Gaussian: x, y, width and height (its 1/e half-axes), and amount at its peak."""

Point = tuple[float, float]
Curve = tuple[Point, Point, Point]
"""Start, bend and end of a quadratic Bezier curve."""

LEFT, RIGHT = 0, 1
SIGNS = (-1.0, 1.0)
LINING: Colour = (0.20, 0.06, 0.06)
TEETH: Colour = (0.93, 0.91, 0.86)
SCLERA: Colour = (0.95, 0.94, 0.92)
LASHES: Colour = (0.09, 0.06, 0.06)
CHEEK_Y = 0.08
"""Height at which the head is widest."""


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


def paint_person(layer: Layer, sitter: Sitter) -> None:
    """Paint one person from the shoulders up; the layer's box decides how much of the body is seen."""
    _paint_back_hair(layer, sitter)
    _paint_bust(layer, sitter)
    _paint_ears(layer, sitter)
    _paint_head(layer, sitter)
    _paint_front_hair(layer, sitter)


def blobs(rows: Sequence[Blob], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of Gaussians on the raster of `x` and `y`: float32 (len(y), len(x))."""
    centre_x, centre_y, width, height, amount = np.asarray(rows, np.float32).T
    across = np.exp(-(((x[:, None] - centre_x) / width) ** 2))
    down = amount * np.exp(-(((y[:, None] - centre_y) / height) ** 2))
    return down @ across.T


def mottle(x: np.ndarray, y: np.ndarray, cell: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit strength with spots about `cell` wide: float32 (len(y), len(x))."""
    columns = np.arange(x[0], x[-1] + cell, cell, dtype=np.float32)
    rows = np.arange(y[0], y[-1] + cell, cell, dtype=np.float32)
    spots = rng.standard_normal((len(rows), len(columns)), dtype=np.float32)
    across = np.exp(-(((x[:, None] - columns) / cell) ** 2))
    down = np.exp(-(((y[:, None] - rows) / cell) ** 2))
    return down @ spots @ across.T / 1.25


def _both_sides(row: Blob, left: float = 1.0, right: float = 1.0) -> list[Blob]:
    """A blob given for the right half, mirrored, its amount weighted per side."""
    x, y, width, height, amount = row
    return [(-x, y, width, height, amount * left), (x, y, width, height, amount * right)]


def _fold(curve: Curve, width: float, strength: float) -> list[Blob]:
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


def _mirrored_fold(curve: Curve, width: float, strengths: tuple[float, float]) -> list[Blob]:
    """A fold given for the right half and its mirror image, with a strength per side."""
    (x0, y0), (x1, y1), (x2, y2) = curve
    mirrored = (-x0, y0), (-x1, y1), (-x2, y2)
    return _fold(mirrored, width, strengths[LEFT]) + _fold(curve, width, strengths[RIGHT])


# --- hair, body, ears -------------------------------------------------------------------------------------------


def _hair_colour(layer: Layer, sitter: Sitter) -> np.ndarray:
    """Colour of hair (h, w, 3): strands run away from the parting, with a band of sheen."""
    rng = np.random.Generator(np.random.PCG64(sitter.identity.texture))
    dx, dy = layer.x - sitter.trait("hair_part"), layer.y[:, None] + 1.35
    angle = np.arctan2(dx, dy + 0.15 * np.abs(dx)) * (40 / np.pi)
    strands = np.interp(angle, np.arange(-48, 48, 0.5), rng.standard_normal(192)).astype(np.float32)
    light_x, light_y, _ = sitter.light.direction
    sheen = blobs([(0.5 * light_x, -1.25 + 0.2 * light_y, 0.7, 0.22, 0.35)], layer.x, layer.y)
    depth = np.clip(1.05 - 0.16 * layer.x**2 + 0.25 * light_x * layer.x - 0.12 * (layer.y[:, None] + 1), 0.35, 1.3)
    tone = depth * (1 + 0.13 * strands) + sheen
    return tone[..., None] * _lit(sitter.identity.hair, sitter)


def _lit(colour: Colour, sitter: Sitter) -> np.ndarray:
    """A colour under the light of the scene."""
    return np.asarray(colour, np.float32) * np.asarray(sitter.light.colour, np.float32)


def _hair_outline(layer: Layer, sitter: Sitter, width: float | np.ndarray, lift: float, bottom: float) -> np.ndarray:
    """Distance to the outline of the hair: an arch over the skull, then straight down to `bottom`."""
    middle = -0.25
    crown = sitter.trait("crown_y") - lift
    rise = np.minimum(layer.y[:, None] - middle, 0) / (crown - middle)
    radius = np.sqrt((np.abs(layer.x) / width) ** 2 + rise**2)
    return np.maximum((radius - 1) * width, layer.y[:, None] - bottom)


def _paint_back_hair(layer: Layer, sitter: Sitter) -> None:
    """Hair that falls behind the neck."""
    if sitter.identity.hair_style not in ("long", "fringe"):
        return
    window = layer.window(-1.7, -2.2, 1.7, 2.6)
    bottom = 1.95 if sitter.identity.hair_style == "long" else 1.15
    width = sitter.trait("face_width") + 0.24 + 0.05 * np.sin(2.5 * window.y[:, None])
    distance = _hair_outline(window, sitter, width, 0.16, bottom)
    window.blend(0.62 * _hair_colour(window, sitter), window.inside(distance, 0.06))


def _paint_bust(layer: Layer, sitter: Sitter) -> None:
    """Neck and clothed shoulders."""
    window = layer.window(-9, 0.9, 9, 99)
    side, y = np.abs(window.x), window.y[:, None]
    slope = 1 + 0.3 * sitter.light.direction[0] * np.clip(window.x / 0.6, -1, 1)
    shadow = 1 - 0.45 * np.exp(-(((y - sitter.chin) / 0.35) ** 2)) * np.exp(-((side / 0.8) ** 2))
    neck = (0.78 * slope * shadow)[..., None] * _lit(sitter.identity.skin, sitter)
    flare = 0.6 + 0.35 * np.clip((y - 1.9) / 0.6, 0, 1) ** 2
    window.blend(neck, window.inside(side - flare))
    shoulder = 2.12 + 0.16 * side + 0.35 * np.clip((side - 1.6) / 1.0, 0, 2) ** 2
    collar = 2.42 - 0.9 * np.clip(side / 0.72, 0, 1) ** 2
    cloth = (0.85 + 0.15 * slope - 0.08 * np.clip(y - 2, 0, 3))[..., None] * _lit(sitter.identity.clothes, sitter)
    window.blend(cloth, window.inside(np.maximum(shoulder - y, collar - y)))


def _paint_ears(layer: Layer, sitter: Sitter) -> None:
    """Two ears, the far one narrowed by the head's turn."""
    reach = sitter.trait("face_width")
    for sign in SIGNS:
        centre, width = sign * (reach + 0.01), 0.13 * (1 - sign * 2.5 * sitter.pose.yaw)
        window = layer.window(centre - 0.4, -0.3, centre + 0.4, 0.7)
        u, v = (window.x - centre) / width, (window.y[:, None] - 0.18) / sitter.trait("ear")
        radius = np.sqrt((u - 0.25 * sign * (v < 0) * v) ** 2 + v**2)
        tone = 0.8 + 0.12 * sign * sitter.light.direction[0] - 0.25 * np.exp(-(((radius - 0.55) / 0.2) ** 2))
        window.blend(tone[..., None] * _lit(sitter.identity.skin, sitter), window.inside((radius - 1) * width))


def _paint_front_hair(layer: Layer, sitter: Sitter) -> None:
    """Hair over the forehead and temples."""
    window = layer.window(-1.5, -2.2, 1.5, 2.0)
    style = sitter.identity.hair_style
    lift = {"cropped": 0.05, "short": 0.13, "swept": 0.2}.get(style, 0.16)
    width = sitter.trait("face_width") + (0.04 if style == "cropped" else 0.1)
    outer = _hair_outline(window, sitter, width, lift, 1.6 if style == "long" else 0.15)
    frontal = frontal_x(window.x, sitter.pose.yaw)
    rng = np.random.Generator(np.random.PCG64(sitter.identity.texture + 1))
    ragged = 0.025 * np.interp(frontal, np.linspace(-1.5, 1.5, 60), rng.standard_normal(60))
    distance = np.maximum(outer, window.y[:, None] - _hairline(frontal, sitter) - ragged)
    strength = 0.75 if style == "cropped" else 1.0
    window.blend(_hair_colour(window, sitter), strength * window.inside(distance, 0.07))


def _hairline(x: np.ndarray, sitter: Sitter) -> np.ndarray:
    """Lower edge of the front hair for each column: forehead, then temples and what hangs beside the face."""
    style, top, part = sitter.identity.hair_style, sitter.trait("hairline"), sitter.trait("hair_part")
    side = np.abs(x)
    if style == "fringe":
        return -0.62 + 0.06 * np.cos(3 * x) + 2.2 * np.clip((side - 0.8) / 0.2, 0, 1) ** 2
    if style == "long":
        sweep = top - 0.12 + 0.5 * np.minimum(np.abs(x - part), 1) ** 1.5
        return sweep + 2.6 * np.clip((side - 0.74) / 0.24, 0, 1) ** 2
    if style == "swept":
        top = top + 0.16 * np.sign(part) * np.tanh(3 * (x - part)) - 0.05
    return top + 0.12 * side**2 + 1.0 * np.clip((side - 0.68) / 0.3, 0, 1) ** 2


def frontal_x(x: np.ndarray, yaw: float) -> np.ndarray:
    """Where points seen at `x` lie on the face before the head turned by `yaw`: a rotating cylinder."""
    radius = 1.2
    return radius * np.sin(np.arcsin(np.clip(x / radius, -0.999, 0.999)) - yaw)


# --- the face -----------------------------------------------------------------------------------------------------


def _paint_head(layer: Layer, sitter: Sitter) -> None:
    """The skin of the face with all its features, lit as one relief."""
    window = layer.window(-1.3, -1.9, 1.3, sitter.chin + 0.15)
    frontal = frontal_x(window.x, sitter.pose.yaw)
    face = Layer(frontal, window.y, layer.pixel, np.ones((*window.rgba.shape[:2], 4), np.float32))
    profile = _profile(window, sitter)
    relief = _relief(face, sitter) + 0.85 * np.sqrt(np.clip(1 - profile, 0, 1))
    folds = blobs(_folds(sitter), face.x, face.y)
    face.rgba[..., :3] = _complexion(face, sitter, folds)
    _paint_mouth(face, sitter)
    _paint_nostrils(face, sitter)
    for side in (LEFT, RIGHT):
        _paint_eye(face, sitter, side)
        _paint_brow(face, sitter, side)
    lit = _shade(face.rgba[..., :3], relief - 0.03 * folds, sitter, layer.pixel)
    window.blend(lit, window.inside(_distance(profile, layer.pixel)))
    for side in (LEFT, RIGHT):
        _paint_glint(Layer(frontal, window.y, layer.pixel, window.rgba), sitter, side)


def _profile(layer: Layer, sitter: Sitter) -> np.ndarray:
    """The head's outline as a superellipse: below 1 inside, above 1 outside."""
    y = layer.y[:, None] - CHEEK_Y
    across = np.abs(layer.x / sitter.trait("face_width"))
    above = np.clip(-y / (CHEEK_Y - sitter.trait("crown_y")), 0, None)
    below = np.clip(y / (sitter.chin - CHEEK_Y), 0, None)
    jaw = sitter.trait("jaw")
    return across**2.3 + above**2.4 + below**jaw + 0.22 * (across * below) ** 1.5


def _distance(profile: np.ndarray, pixel: float) -> np.ndarray:
    """Approximate distance to the outline where `profile` is 1, in face units."""
    down, across = np.gradient(profile, pixel)
    return (profile - 1) / np.maximum(np.hypot(across, down), 0.3)


def _relief(face: Layer, sitter: Sitter) -> np.ndarray:
    """Height of the features above the head's ellipsoid."""
    eye, nose, mouth = sitter.trait("eye_x"), sitter.trait("nose_y"), sitter.trait("mouth_y")
    wing, tall = sitter.trait("nose_width"), sitter.trait("nose_height")
    ala = nose - 0.03 - sitter.mean("ala")
    lip = mouth + 0.09 + sitter.mean("lip_drop") + 0.7 * sitter.mean("part")
    rows: list[Blob] = [
        (0, 0.1, 0.09, 0.45, 0.12 * tall),
        (0, nose - 0.1, 0.12, 0.13, 0.17 * tall),
        (0, mouth - 0.05, 0.22, 0.07, 0.05),
        (0, lip, 0.2, 0.07, 0.07),
        (0, lip + 0.14, 0.24, 0.06, -0.05),
        (0, sitter.chin - 0.17, 0.2, 0.14, 0.06 + 0.05 * sitter.mean("chin_boss")),
    ]
    rows += _both_sides((wing * 0.75, ala, 0.075, 0.075, 0.07))
    rows += _both_sides((eye - 0.02, -0.24, 0.3, 0.09, 0.05))
    rows += _both_sides((eye - 0.08, 0.0, 0.2, 0.13, -0.09))
    rows += _both_sides((eye, 0.0, 0.15, 0.11, 0.06))
    rows += _both_sides((eye + 0.16, 0.4, 0.24, 0.2, 0.05))
    cheek = tuple(max(0.0, amount) for amount in sitter.shape["cheek"])
    rows += _both_sides((eye + 0.08, 0.42, 0.2, 0.15, 0.07), *cheek)
    return blobs(rows, face.x, face.y)


def _folds(sitter: Sitter) -> list[Blob]:
    """Lines and furrows that actions press into the skin, deeper with age; amounts are darkness in 0..1."""
    nose, mouth, eye = sitter.trait("nose_y"), sitter.trait("mouth_y"), sitter.trait("eye_x")
    depth = 0.3 + 0.35 * max(0.0, sitter.trait("age"))
    corner = 0.5 * (sitter.trait("mouth_width") + sitter.mean("corner_x"))
    wrinkle, forehead = depth * sitter.mean("nose_wrinkle"), depth * sitter.mean("forehead")
    age = 0.15 * max(0.0, sitter.trait("age"))
    ala, smile = nose - 0.08 - sitter.mean("ala"), sitter.mean("corner_y")
    rows: list[Blob] = []
    for y in (-0.82, -0.7, -0.58):
        lift = y - 0.3 * sitter.mean("brow_inner")
        rows += _fold(((-0.6, lift + 0.06), (0, lift - 0.05), (0.6, lift + 0.06)), 0.026, forehead)
    for y in (0.0, 0.07):
        rows += _fold(((-0.12, y + 0.03), (0, y - 0.03), (0.12, y + 0.03)), 0.022, wrinkle)
    fold = ((0.24, ala), (0.46, ala + 0.1), (2 * corner + 0.1, mouth + 0.3 * smile))
    rows += _mirrored_fold(fold, 0.035, _per_side(sitter, "nasolabial", 0.8 * depth, age))
    rows += _mirrored_fold(((0.1, -0.42), (0.055, -0.32), (0.08, -0.17)), 0.022, _per_side(sitter, "glabella", depth))
    for drop in (-0.06, 0.03, 0.12):
        line = (eye + 0.27, 0.02 + 0.5 * drop), (eye + 0.34, 0.02 + 0.7 * drop), (eye + 0.44, 1.4 * drop)
        rows += _mirrored_fold(line, 0.016, _per_side(sitter, "crow", depth))
    bag = (eye - 0.18, 0.1), (eye, 0.21), (eye + 0.2, 0.12)
    rows += _mirrored_fold(bag, 0.025, _per_side(sitter, "crow", 0.4 * depth, 0.06 + age))
    side = 2 * corner + 0.07
    rows += _mirrored_fold(
        ((side, mouth - 0.12), (side + 0.06, mouth), (side, mouth + 0.12)), 0.03, _per_side(sitter, "dimple", 0.5)
    )
    down = (side - 0.04, mouth + 0.14), (side + 0.02, mouth + 0.24), (side, mouth + 0.36)
    return rows + _mirrored_fold(down, 0.03, _per_side(sitter, "marionette", depth))


def _per_side(sitter: Sitter, name: str, factor: float, offset: float = 0.0) -> tuple[float, float]:
    """A shape parameter on both sides, scaled."""
    left, right = sitter.shape[name]
    return offset + factor * left, offset + factor * right


def _complexion(face: Layer, sitter: Sitter, folds: np.ndarray) -> np.ndarray:
    """Colour of the bare skin (h, w, 3): tone, blush, shadows in the hollows, folds and fine spots."""
    eye, nose, mouth = sitter.trait("eye_x"), sitter.trait("nose_y"), sitter.trait("mouth_y")
    rng = np.random.Generator(np.random.PCG64(sitter.identity.texture + 2))
    blush = blobs(
        [*_both_sides((eye + 0.12, 0.45, 0.26, 0.2, 0.08)), (0, nose - 0.05, 0.16, 0.14, 0.08)], face.x, face.y
    )
    hollows: list[Blob] = [
        (0, nose + 0.1, 0.22, 0.06, 0.22),
        (0, mouth + 0.24 + sitter.mean("part"), 0.24, 0.06, 0.12),
        *_both_sides((eye - 0.12, -0.1, 0.2, 0.07, 0.16)),
        *_both_sides((eye - 0.03, 0.14, 0.2, 0.06, 0.08)),
        *_both_sides((0.16, 0.25, 0.06, 0.22, 0.07)),
    ]
    spots = 0.012 * mottle(face.x, face.y, 0.05, rng) + 0.018 * mottle(face.x, face.y, 0.22, rng)
    tone = (1 - blobs(hollows, face.x, face.y)) * (1 - np.clip(folds, 0, 0.75)) + spots
    skin = tone[..., None] * np.asarray(sitter.identity.skin, np.float32)
    return skin * (1 - blush[..., None] * np.array([-0.4, 1.0, 0.9], np.float32))


def _shade(albedo: np.ndarray, relief: np.ndarray, sitter: Sitter, pixel: float) -> np.ndarray:
    """Light the relief: ambient plus Lambert's cosine law, and a soft sheen where skin mirrors the lamp."""
    down, across = np.gradient(relief, pixel)
    x, y, z = sitter.light.direction
    cosine = (z - x * across - y * down) / np.sqrt(1 + across**2 + down**2)
    diffuse = np.clip(cosine, 0, 1)
    tone = sitter.light.ambient + (1.12 - sitter.light.ambient) * diffuse
    sheen = 0.1 * diffuse**24
    return albedo * (tone[..., None] * np.asarray(sitter.light.colour, np.float32)) + sheen[..., None]


# --- features -----------------------------------------------------------------------------------------------------


def _lids(sitter: Sitter, side: int, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of the upper and the lower lid's edge over `t`, -1 at the inner corner to 1 at the outer one."""
    size, tilt = sitter.trait("eye_open"), sitter.trait("eye_tilt")
    upper = size * max(0.0, 1 + sitter.shape["lid_upper"][side])
    lower = 0.62 * size * max(0.05, 1 + sitter.shape["lid_lower"][side])
    round_ = np.clip(1 - t**2, 0, 1)
    skewed = np.clip(1 - (t + 0.12 * (1 - t**2)) ** 2, 0, 1)
    floor = lower * round_**0.9 - tilt * t
    return np.minimum(floor, 0.02 - upper * skewed**0.7 - tilt * t), floor


def _paint_eye(face: Layer, sitter: Sitter, side: int) -> None:
    """Eyeball, lid edges, lashes and the crease above the lid."""
    sign, width = SIGNS[side], sitter.trait("eye_width")
    centre = sign * sitter.trait("eye_x")
    window = face.window(centre - 1.5 * width, -0.4, centre + 1.5 * width, 0.3)
    t = sign * (window.x - centre) / width
    upper, lower = _lids(sitter, side, t)
    y = window.y[:, None]
    opening = window.inside(np.maximum(upper - y, y - lower)) * (np.abs(t) < 1)
    window.blend(_eyeball(window, sitter, centre, upper), opening)
    edge = np.clip(1.25 - np.abs(t), 0, 0.25) * 4
    lash = window.inside(np.abs(y - upper + 0.008) - 0.014 * (0.7 + 0.5 * np.clip(t, -1, 1)), 0.02)
    window.blend(LASHES, 0.9 * lash * edge * (np.abs(t) < 1.12))
    rim = window.inside(np.abs(y - lower) - 0.006, 0.02) * (np.abs(t) < 1)
    window.blend(_darker(sitter.identity.skin, 0.55), 0.55 * rim)
    raised = 0.075 + 0.035 * sitter.shape["brow_middle"][side] / 0.12
    crease = window.inside(np.abs(y - 0.9 * upper + max(0.035, raised)) - 0.007, 0.03) * np.clip(1.1 - t**2, 0, 1)
    window.blend(_darker(sitter.identity.skin, 0.55), 0.6 * crease)


def _darker(colour: Colour, share: float) -> Colour:
    red, green, blue = (share * channel for channel in colour)
    return red, green, blue


def _eyeball(window: Layer, sitter: Sitter, centre: float, upper: np.ndarray) -> np.ndarray:
    """Sclera, iris and pupil (h, w, 3), shadowed by the upper lid."""
    radius = sitter.trait("iris")
    gaze_x, gaze_y = sitter.pose.gaze
    y = window.y[:, None]
    distance = np.hypot(window.x - centre - gaze_x, y - 0.005 - gaze_y)
    white = 1 - 0.25 * np.abs((window.x - centre) / sitter.trait("eye_width")) ** 3
    colour = white[None, :, None] * np.asarray(SCLERA, np.float32) * np.ones((len(y), 1, 1), np.float32)
    inner = (0.75 + 0.5 * (distance / radius) ** 2 - 0.55 * (distance / radius) ** 8)[..., None]
    iris = np.clip(inner, 0.3, 1.3) * np.asarray(sitter.identity.iris, np.float32)
    colour += window.inside(distance - radius)[..., None] * (iris - colour)
    colour *= 1 - 0.93 * window.inside(distance - 0.45 * radius)[..., None]
    return colour * (1 - 0.5 * np.exp(-np.clip(y - upper, 0, None) / 0.045))[..., None]


def _paint_glint(face: Layer, sitter: Sitter, side: int) -> None:
    """The lamp's reflection in the eye, where the lids leave it free."""
    light_x, light_y, _ = sitter.light.direction
    sign, radius = SIGNS[side], sitter.trait("iris")
    centre = sign * sitter.trait("eye_x")
    x, y = centre + sitter.pose.gaze[0] + 0.5 * radius * light_x, 0.6 * radius * light_y
    window = face.window(x - 0.1, y - 0.1, x + 0.1, y + 0.1)
    upper, lower = _lids(sitter, side, sign * (window.x - centre) / sitter.trait("eye_width"))
    row = window.y[:, None]
    spot = window.inside(np.hypot(window.x - x, row - y) - 0.022, 0.02)
    window.blend((1.0, 1.0, 1.0), 0.85 * spot * window.inside(np.maximum(upper + 0.01 - row, row - lower)))


def _paint_brow(face: Layer, sitter: Sitter, side: int) -> None:
    """An eyebrow: a curve through its inner, middle and outer height, thinning outwards."""
    sign, length = SIGNS[side], sitter.trait("brow_length")
    start = sitter.trait("eye_x") - 0.3 + sitter.shape["brow_gap"][side]
    left, right = sorted((sign * (start - 0.1), sign * (start + length + 0.1)))
    window = face.window(left, -0.95, right, 0.1)
    t = (sign * window.x - start) / length
    inner, middle, outer = (sitter.shape[f"brow_{part}"][side] for part in ("inner", "middle", "outer"))
    lift = inner * (1 - t) * (1 - 2 * t) + middle * 4 * t * (1 - t) + outer * t * (2 * t - 1)
    curve = sitter.trait("brow_y") - lift - sitter.trait("brow_arch") * (1 - (1.6 * t - 1) ** 2) + 0.05 * t**2
    half = sitter.trait("brow_thickness") * np.clip(1.1 - 0.75 * np.abs(t - 0.25), 0.15, 1)
    ends = np.clip(t / 0.12 + 0.3, 0, 1) * np.clip((1 - t) / 0.2, 0, 1)
    rng = np.random.Generator(np.random.PCG64(sitter.identity.texture + 3 + side))
    hairs = 1 + 0.18 * np.interp(t[None, :] + 0.8 * window.y[:, None], np.linspace(-1, 2, 90), rng.standard_normal(90))
    alpha = window.inside(np.abs(window.y[:, None] - curve) - half, 0.045) * ends
    window.blend(_darker(sitter.identity.hair, 0.75), np.clip(0.85 * alpha * hairs, 0, 1).astype(np.float32))


def _paint_nostrils(face: Layer, sitter: Sitter) -> None:
    """Nostrils and the shadow under the tip of the nose."""
    wing, y = sitter.trait("nose_width"), sitter.trait("nose_y") - 0.6 * sitter.mean("ala")
    window = face.window(-0.5, y - 0.3, 0.5, y + 0.2)
    dark = blobs([*_both_sides((0.48 * wing, y, 0.05, 0.028, 0.85)), (0, y + 0.02, 0.1, 0.03, 0.2)], window.x, window.y)
    sides = _mirrored_fold(
        ((0.9 * wing, y - 0.14), (1.25 * wing, y - 0.06), (0.95 * wing, y + 0.02)), 0.022, (0.3, 0.3)
    )
    dark += blobs(sides, window.x, window.y)
    window.blend(_darker(sitter.identity.skin, 0.3), np.clip(dark, 0, 0.9))


@dataclass(frozen=True, slots=True)
class _Mouth:
    """The four edges of the lips for each column, and the opening's height in its middle."""

    top: np.ndarray
    inner_top: np.ndarray
    inner_bottom: np.ndarray
    bottom: np.ndarray
    part: float
    reach: np.ndarray


def _mouth_edges(sitter: Sitter, x: np.ndarray) -> _Mouth:
    """Lips as curves over `x`; `reach` runs from -1 at the left corner to 1 at the right one."""
    side = (x > 0).astype(int)
    corner_x, corner_y = (np.array(sitter.shape[name], np.float32)[side] for name in ("corner_x", "corner_y"))
    reach = x / (sitter.trait("mouth_width") + corner_x)
    arc = np.clip(1 - reach**2, 0, 1)
    part = max(0.0, sitter.mean("part") - 0.02)
    fullness = max(0.25, 1 + sitter.mean("lip_thickness"))
    line = sitter.trait("mouth_y") + corner_y * (np.abs(reach) ** 1.6 - 0.25) - 0.01 * np.cos(6 * reach) * arc
    raised = sitter.mean("lip_raise") * np.sqrt(arc)
    bow = 1 + 0.16 * np.exp(-(((np.abs(reach) - 0.24) / 0.17) ** 2)) - 0.22 * np.exp(-((reach / 0.11) ** 2))
    inner_top = line - raised - 0.22 * part * arc**0.7
    inner_bottom = line + (0.78 * part + sitter.mean("lip_drop")) * arc**0.7 * (part > 0)
    return _Mouth(
        top=inner_top - sitter.trait("lip_upper") * fullness * bow * arc**0.75,
        inner_top=inner_top,
        inner_bottom=np.maximum(inner_bottom, inner_top),
        bottom=np.maximum(inner_bottom, inner_top) + sitter.trait("lip_lower") * fullness * arc**0.6,
        part=part,
        reach=reach,
    )


def _paint_mouth(face: Layer, sitter: Sitter) -> None:
    """Lips, what is seen between them, and the line where they meet."""
    y = sitter.trait("mouth_y")
    window = face.window(-0.75, y - 0.4, 0.75, y + 0.75)
    mouth, rows = _mouth_edges(sitter, window.x), window.y[:, None]
    within = np.abs(mouth.reach) < 1
    lips = window.inside(np.maximum(mouth.top - rows, rows - mouth.bottom), 0.025) * within
    window.blend(_lip_colour(window, sitter, mouth), 0.9 * lips)
    opening = window.inside(np.maximum(mouth.inner_top - rows, rows - mouth.inner_bottom)) * within
    window.blend(_mouth_inside(window, sitter, mouth), opening)
    seam = np.abs(rows - mouth.inner_top) - 0.012 * (1.15 - mouth.reach**2)
    window.blend(_darker(sitter.identity.skin, 0.28), 0.85 * window.inside(seam, 0.02) * (np.abs(mouth.reach) < 1.03))


def _lip_colour(window: Layer, sitter: Sitter, mouth: _Mouth) -> np.ndarray:
    """Colour of the lips (h, w, 3): redder than the skin, the upper one in shadow, the lower one moist."""
    red = 0.35 + 0.4 * max(0.0, sitter.trait("lip_redness"))
    skin = np.asarray(sitter.identity.skin, np.float32)
    base = skin * (1 - red * np.array([0.12, 0.62, 0.52], np.float32))
    rows = window.y[:, None]
    tone = 1 - 0.2 * (rows < (mouth.inner_top + mouth.inner_bottom) / 2)
    depth = (rows - mouth.inner_bottom) / np.maximum(mouth.bottom - mouth.inner_bottom, 0.02)
    moist = 0.14 * np.exp(-(((depth - 0.45) / 0.25) ** 2)) * np.clip(1 - 2 * mouth.reach**2, 0, 1)
    return (tone + moist)[..., None] * base


def _mouth_inside(window: Layer, sitter: Sitter, mouth: _Mouth) -> np.ndarray:
    """Colour between the lips (h, w, 3): the upper teeth, the tongue, and the dark behind."""
    rows = window.y[:, None]
    colour = np.broadcast_to(np.asarray(LINING, np.float32), (len(rows), len(window.x), 3)).copy()
    tongue = blobs([(0, sitter.trait("mouth_y") + 0.85 * mouth.part, 0.25, 0.12, 0.6)], window.x, window.y)
    colour += tongue[..., None] * (np.array([0.62, 0.25, 0.24], np.float32) - colour)
    gaps = 1 - 0.12 * (np.abs(np.sin(np.pi * mouth.reach * 4.5)) < 0.12) - 0.35 * mouth.reach**2
    teeth = window.inside(rows - mouth.inner_top - 0.1 + 0.03 * mouth.reach**2, 0.02) * (np.abs(mouth.reach) < 0.92)
    shadow = 0.75 + 0.25 * np.clip((rows - mouth.inner_top) / 0.05, 0, 1)
    tooth = (gaps * shadow)[..., None] * np.asarray(TEETH, np.float32)
    return colour + teeth[..., None] * (tooth - colour)
