"""Paints a person from the shoulders up: hair, body, ears, and the head as one relief that the light falls on."""

from __future__ import annotations

import numpy as np

from featurepipe.datasets.face_features import paint_features, paint_glints
from featurepipe.datasets.face_layers import (
    SIGNS,
    Blob,
    Layer,
    Sitter,
    blobs,
    both_sides,
    fold,
    lit,
    mirrored_fold,
    mottle,
    per_side,
)

OVER_EARS = ("long", "fringe")
LIFT = {"cropped": 0.05, "short": 0.13, "swept": 0.2, "long": 0.16, "fringe": 0.16}
FULLNESS = {"cropped": 0.04, "short": 0.1, "swept": 0.1, "long": 0.1, "fringe": 0.1}
BACK = {"cropped": 0.1, "short": 0.2, "swept": 0.2, "long": 2.05, "fringe": 1.35}
FRONT = {"cropped": 0.1, "short": 0.2, "swept": 0.25, "long": 1.7, "fringe": 1.2}
"""By hair style: thickness of the hair above and beside the skull, and how far it hangs behind and before the ears."""
CHEEK_Y = 0.08
"""Height at which the head is widest."""


def paint_person(layer: Layer, sitter: Sitter) -> None:
    """Paint one person from the shoulders up; the layer's box decides how much of the body is seen."""
    _paint_back_hair(layer, sitter)
    _paint_bust(layer, sitter)
    if sitter.identity.hair_style not in OVER_EARS:
        _paint_ears(layer, sitter)
    _paint_head(layer, sitter)
    _paint_front_hair(layer, sitter)


def _hair_colour(layer: Layer, sitter: Sitter) -> np.ndarray:
    """Colour of hair (h, w, 3): strands run away from the parting, with a band of sheen."""
    rng = np.random.Generator(np.random.PCG64(sitter.identity.texture))
    dx, dy = layer.x - sitter.trait("hair_part"), layer.y[:, None] + 1.8
    angle = np.arctan2(dx, dy + 0.15 * np.abs(dx)) * (40 / np.pi)
    strands = np.interp(angle, np.arange(-48, 48, 0.5), rng.standard_normal(192)).astype(np.float32)
    light_x, light_y, _ = sitter.light.direction
    sheen = blobs([(0.5 * light_x, -1.25 + 0.2 * light_y, 0.7, 0.22, 0.35)], layer.x, layer.y)
    depth = np.clip(1.05 - 0.16 * layer.x**2 + 0.25 * light_x * layer.x - 0.12 * (layer.y[:, None] + 1), 0.35, 1.3)
    tone = depth * (1 + 0.1 * strands) + sheen
    return tone[..., None] * lit(sitter.identity.hair, sitter)


def _hair_outline(layer: Layer, sitter: Sitter, width: float | np.ndarray, lift: float, bottom: float) -> np.ndarray:
    """Distance to the outline of the hair: an arch over the skull, then straight down to `bottom`."""
    middle = -0.25
    crown = sitter.trait("crown_y") - lift
    rise = np.minimum(layer.y[:, None] - middle, 0) / (crown - middle)
    across = (layer.x / width) ** 2
    return np.maximum((np.sqrt(across + rise**2) - 1) * width, layer.y[:, None] - bottom + 0.25 * across**2)


def _paint_back_hair(layer: Layer, sitter: Sitter) -> None:
    """Hair behind the head; where it is long, behind the neck and over the ears too."""
    style = sitter.identity.hair_style
    window = layer.window(-1.45, -2.0, 1.45, BACK[style] + 0.05)
    bulge = 0.24 + 0.05 * np.sin(2.5 * window.y[:, None]) if style in OVER_EARS else FULLNESS[style]
    width = sitter.trait("face_width") + bulge
    distance = _hair_outline(window, sitter, width, LIFT[style], BACK[style])
    window.blend(0.62 * _hair_colour(window, sitter), window.inside(distance, 0.035))


def _paint_bust(layer: Layer, sitter: Sitter) -> None:
    """Neck and clothed shoulders."""
    window = layer.window(-9, 0.9, 9, 99)
    side, y = np.abs(window.x), window.y[:, None]
    slope = 1 + 0.3 * sitter.light.direction[0] * np.clip(window.x / 0.6, -1, 1)
    shadow = 1 - 0.45 * np.exp(-(((y - sitter.chin) / 0.35) ** 2)) * np.exp(-((side / 0.8) ** 2))
    neck = (0.78 * slope * shadow)[..., None] * lit(sitter.identity.skin, sitter)
    flare = 0.57 + 0.38 * np.clip((y - 1.9) / 0.6, 0, 1) ** 2
    window.blend(neck, window.inside(side - flare))
    shoulder = 1.98 + 0.16 * side + 0.35 * np.clip((side - 1.6) / 1.0, 0, 2) ** 2
    collar = 2.3 - 0.9 * np.clip(side / 0.72, 0, 1) ** 2
    cloth = (0.85 + 0.15 * slope - 0.08 * np.clip(y - 2, 0, 3))[..., None] * lit(sitter.identity.clothes, sitter)
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
        window.blend(tone[..., None] * lit(sitter.identity.skin, sitter), window.inside((radius - 1) * width))


def _paint_front_hair(layer: Layer, sitter: Sitter) -> None:
    """Hair over the forehead and temples."""
    style = sitter.identity.hair_style
    window = layer.window(-1.25, -2.0, 1.25, FRONT[style] + 0.05)
    width = sitter.trait("face_width") + FULLNESS[style]
    outer = _hair_outline(window, sitter, width, LIFT[style], FRONT[style])
    frontal = _frontal_x(window.x, sitter.pose.yaw)
    rng = np.random.Generator(np.random.PCG64(sitter.identity.texture + 1))
    ragged = 0.025 * np.interp(frontal, np.linspace(-1.5, 1.5, 60), rng.standard_normal(60))
    distance = np.maximum(outer, window.y[:, None] - _hairline(frontal, sitter) - ragged)
    strength = 0.9 if style == "cropped" else 1.0
    window.blend(_hair_colour(window, sitter), strength * window.inside(distance, 0.045))


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


def _frontal_x(x: np.ndarray, yaw: float) -> np.ndarray:
    """Where points seen at `x` lie on the face before the head turned by `yaw`: a rotating cylinder."""
    radius = 1.2
    return radius * np.sin(np.arcsin(np.clip(x / radius, -0.999, 0.999)) - yaw)


def _paint_head(layer: Layer, sitter: Sitter) -> None:
    """The skin of the face with all its features, lit as one relief."""
    window = layer.window(-1.3, -1.9, 1.3, sitter.chin + 0.15)
    frontal = _frontal_x(window.x, sitter.pose.yaw)
    face = Layer(frontal, window.y, layer.pixel, np.ones((*window.rgba.shape[:2], 4), np.float32))
    profile = _profile(window, sitter)
    relief = _relief(face, sitter) + 0.85 * np.sqrt(np.clip(1 - profile, 0, 1))
    folds = blobs(_folds(sitter), face.x, face.y)
    face.rgba[..., :3] = _complexion(face, sitter, folds)
    paint_features(face, sitter)
    shaded = _shade(face.rgba[..., :3], relief - 0.03 * folds, sitter, layer.pixel)
    window.blend(shaded, window.inside(_distance(profile, layer.pixel)))
    paint_glints(Layer(frontal, window.y, layer.pixel, window.rgba), sitter)


def _profile(layer: Layer, sitter: Sitter) -> np.ndarray:
    """The head's outline as a superellipse: below 1 inside, above 1 outside."""
    y = layer.y[:, None] - CHEEK_Y
    across = np.abs(layer.x / sitter.trait("face_width"))
    above = np.clip(-y / (CHEEK_Y - sitter.trait("crown_y")), 0, None)
    below = np.clip(y / (sitter.chin - CHEEK_Y), 0, None)
    jaw = sitter.trait("jaw")
    return across**2.3 + above**2.4 + below**jaw + 0.14 * (across * below) ** 1.5


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
        (0, 0.14, 0.15, 0.42, 0.085 * tall),
        (0, nose - 0.08, 0.14, 0.13, 0.16 * tall),
        (0, mouth - 0.05, 0.22, 0.07, 0.05),
        (0, lip, 0.2, 0.07, 0.07),
        (0, lip + 0.14, 0.24, 0.06, -0.05),
        (0, sitter.chin - 0.17, 0.2, 0.14, 0.06 + 0.05 * sitter.mean("chin_boss")),
    ]
    rows += both_sides((wing * 0.8, ala, 0.09, 0.08, 0.06))
    rows += both_sides((eye - 0.02, -0.24, 0.3, 0.09, 0.05))
    rows += both_sides((eye - 0.08, 0.0, 0.2, 0.13, -0.09))
    rows += both_sides((eye, 0.0, 0.15, 0.11, 0.06))
    rows += both_sides((eye + 0.16, 0.4, 0.24, 0.2, 0.05))
    cheek = tuple(max(0.0, amount) for amount in sitter.shape["cheek"])
    rows += both_sides((eye + 0.08, 0.42, 0.2, 0.15, 0.07), *cheek)
    return blobs(rows, face.x, face.y)


def _folds(sitter: Sitter) -> list[Blob]:
    """Lines and furrows that actions press into the skin, deeper with age; amounts are darkness in 0..1."""
    age = max(0.0, sitter.trait("age"))
    return _folds_above(sitter, 0.3 + 0.35 * age, 0.15 * age) + _folds_below(sitter, 0.3 + 0.35 * age, 0.15 * age)


def _folds_above(sitter: Sitter, depth: float, rest: float) -> list[Blob]:
    """Folds of forehead and eyes: `depth` at full action, `rest` where bags under the eyes always show."""
    eye, rows = sitter.trait("eye_x"), []
    for y in (-0.82, -0.7, -0.58):
        lift = y - 0.3 * sitter.mean("brow_inner")
        line = (-0.6, lift + 0.06), (0.0, lift - 0.05), (0.6, lift + 0.06)
        rows += fold(line, 0.026, depth * sitter.mean("forehead"))
    for y in (0.0, 0.07):
        bridge = (-0.12, y + 0.03), (0.0, y - 0.03), (0.12, y + 0.03)
        rows += fold(bridge, 0.022, depth * sitter.mean("nose_wrinkle"))
    frown = (0.1, -0.42), (0.055, -0.32), (0.08, -0.17)
    rows += mirrored_fold(frown, 0.022, per_side(sitter, "glabella", depth))
    for drop in (-0.06, 0.03, 0.12):
        ray = (eye + 0.27, 0.02 + 0.5 * drop), (eye + 0.34, 0.02 + 0.7 * drop), (eye + 0.44, 1.4 * drop)
        rows += mirrored_fold(ray, 0.016, per_side(sitter, "crow", depth))
    bag = (eye - 0.18, 0.1), (eye, 0.21), (eye + 0.2, 0.12)
    return rows + mirrored_fold(bag, 0.025, per_side(sitter, "crow", 0.4 * depth, 0.06 + rest))


def _folds_below(sitter: Sitter, depth: float, rest: float) -> list[Blob]:
    """Folds around the mouth: from the nose past its corners, beside it, and down to the chin."""
    ala, mouth = sitter.trait("nose_y") - 0.08 - sitter.mean("ala"), sitter.trait("mouth_y")
    corner = sitter.trait("mouth_width") + sitter.mean("corner_x") + 0.07
    nasolabial = (0.24, ala), (0.46, ala + 0.1), (corner + 0.03, mouth + 0.3 * sitter.mean("corner_y"))
    dimple = (corner, mouth - 0.12), (corner + 0.06, mouth), (corner, mouth + 0.12)
    marionette = (corner - 0.04, mouth + 0.14), (corner + 0.02, mouth + 0.24), (corner, mouth + 0.36)
    return [
        *mirrored_fold(nasolabial, 0.035, per_side(sitter, "nasolabial", 0.8 * depth, rest)),
        *mirrored_fold(dimple, 0.03, per_side(sitter, "dimple", 0.5)),
        *mirrored_fold(marionette, 0.03, per_side(sitter, "marionette", depth)),
    ]


def _complexion(face: Layer, sitter: Sitter, folds: np.ndarray) -> np.ndarray:
    """Colour of the bare skin (h, w, 3): tone, blush, shadows in the hollows, folds and fine spots."""
    eye, nose, mouth = sitter.trait("eye_x"), sitter.trait("nose_y"), sitter.trait("mouth_y")
    rng = np.random.Generator(np.random.PCG64(sitter.identity.texture + 2))
    blush = blobs(
        [*both_sides((eye + 0.12, 0.45, 0.26, 0.2, 0.08)), (0, nose - 0.05, 0.16, 0.14, 0.08)], face.x, face.y
    )
    hollows: list[Blob] = [
        (0, nose + 0.1, 0.22, 0.06, 0.22),
        (0, mouth + 0.24 + sitter.mean("part"), 0.24, 0.06, 0.12),
        *both_sides((eye - 0.12, -0.1, 0.2, 0.07, 0.16)),
        *both_sides((eye - 0.03, 0.14, 0.2, 0.06, 0.08)),
        *both_sides((0.16, 0.25, 0.06, 0.22, 0.05)),
        (0, sitter.chin - 0.3, 0.75, 0.42, max(0.0, sitter.trait("stubble"))),
    ]
    shape = len(face.y), len(face.x)
    spots = 0.012 * mottle(shape, (72, 52), rng) + 0.018 * mottle(shape, (16, 12), rng)
    tone = (1 - blobs(hollows, face.x, face.y)) * (1 - np.clip(folds, 0, 0.75)) + spots
    skin = tone[..., None] * np.asarray(sitter.identity.skin, np.float32)
    return skin * (1 - blush[..., None] * np.array([-0.4, 1.0, 0.9], np.float32))


def _shade(albedo: np.ndarray, relief: np.ndarray, sitter: Sitter, pixel: float) -> np.ndarray:
    """Light the relief: ambient plus Lambert's cosine law, and a soft sheen where skin mirrors the lamp."""
    down, across = np.gradient(relief, pixel)
    x, y, z = sitter.light.direction
    cosine = (z - x * across - y * down) / np.sqrt(1 + across**2 + down**2)
    diffuse = np.clip(cosine, 0, 1)
    tone = sitter.light.ambient + (1.08 - sitter.light.ambient) * diffuse
    sheen = 0.1 * diffuse**24
    warm = tone[..., None] + np.clip(1 - tone, 0, 1)[..., None] * np.array([0.1, 0.0, -0.06], np.float32)
    return albedo * (warm * np.asarray(sitter.light.colour, np.float32)) + sheen[..., None]
