"""Paints the features of a face: eyes, brows, nostrils and mouth.

Lids, brows and lips are curves over x, with edges one pixel or a given softness wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featurepipe.datasets.face_layers import LEFT, RIGHT, SIGNS, Layer, Sitter, blobs, both_sides, darker, mirrored_fold
from featurepipe.datasets.face_model import Colour

LINING: Colour = (0.20, 0.06, 0.06)
TEETH: Colour = (0.93, 0.91, 0.86)
SCLERA: Colour = (0.95, 0.94, 0.92)
LASHES: Colour = (0.09, 0.06, 0.06)


def paint_features(face: Layer, sitter: Sitter) -> None:
    """Paint eyes, brows, nostrils and mouth on unlit skin; `face.x` runs over the face before the head turned."""
    _paint_mouth(face, sitter)
    _paint_nostrils(face, sitter)
    for side in (LEFT, RIGHT):
        _paint_eye(face, sitter, side)
        _paint_brow(face, sitter, side)


def paint_glints(face: Layer, sitter: Sitter) -> None:
    """Paint the lamp's reflections on the eyes of a face that is lit already."""
    for side in (LEFT, RIGHT):
        _paint_glint(face, sitter, side)


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
    lash = window.inside(np.abs(y - upper + 0.008) - 0.012 * (0.8 + 0.4 * np.clip(t, -1, 1)), 0.02)
    window.blend(LASHES, 0.9 * lash * edge * (np.abs(t) < 1.07))
    rim = window.inside(np.abs(y - lower) - 0.006, 0.02) * (np.abs(t) < 1)
    window.blend(darker(sitter.identity.skin, 0.55), 0.55 * rim)
    raised = 0.075 + 0.035 * sitter.shape["brow_middle"][side] / 0.12
    crease = window.inside(np.abs(y - 0.9 * upper + max(0.035, raised)) - 0.007, 0.03) * np.clip(1.1 - t**2, 0, 1)
    window.blend(darker(sitter.identity.skin, 0.55), 0.6 * crease)


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
    curve = sitter.trait("brow_y") - lift - sitter.trait("brow_arch") * (1 - (1.6 * t - 1) ** 2) + 0.03 * t**2
    half = sitter.trait("brow_thickness") * np.clip(1.1 - 0.75 * np.abs(t - 0.25), 0.15, 1)
    ends = np.clip(t / 0.12 + 0.3, 0, 1) * np.clip((1 - t) / 0.2, 0, 1)
    rng = np.random.Generator(np.random.PCG64(sitter.identity.texture + 3 + side))
    hairs = 1 + 0.1 * np.interp(t[None, :] + 0.8 * window.y[:, None], np.linspace(-1, 2, 90), rng.standard_normal(90))
    alpha = window.inside(np.abs(window.y[:, None] - curve) - half, 0.045) * ends
    window.blend(darker(sitter.identity.hair, 0.75), np.clip(0.85 * alpha * hairs, 0, 1).astype(np.float32))


def _paint_nostrils(face: Layer, sitter: Sitter) -> None:
    """Nostrils and the shadow under the tip of the nose."""
    wing, y = sitter.trait("nose_width"), sitter.trait("nose_y") - 0.6 * sitter.mean("ala")
    window = face.window(-0.5, y - 0.3, 0.5, y + 0.2)
    dark = blobs([*both_sides((0.48 * wing, y, 0.05, 0.028, 0.85)), (0, y + 0.02, 0.1, 0.03, 0.2)], window.x, window.y)
    sides = mirrored_fold(((0.9 * wing, y - 0.14), (1.25 * wing, y - 0.06), (0.95 * wing, y + 0.02)), 0.022, (0.3, 0.3))
    dark += blobs(sides, window.x, window.y)
    window.blend(darker(sitter.identity.skin, 0.3), np.clip(dark, 0, 0.9))


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
    middle = sitter.trait("mouth_y") - 0.25 * sitter.mean("corner_y")
    line = middle + corner_y * np.abs(reach) ** 1.6 - 0.01 * np.cos(6 * reach) * arc
    pucker = min(1.0, max(0.0, sitter.mean("pucker")))
    line += 0.28 * part * pucker
    raised = sitter.mean("lip_raise") * np.sqrt(arc)
    bow = 1 + 0.16 * np.exp(-(((np.abs(reach) - 0.24) / 0.17) ** 2)) - 0.22 * np.exp(-((reach / 0.11) ** 2))
    inner_top = line - raised - (0.22 + 0.28 * pucker) * part * arc**0.55
    inner_bottom = line + ((0.78 - 0.28 * pucker) * part + sitter.mean("lip_drop") * (part > 0)) * arc**0.6
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
    window.blend(darker(sitter.identity.skin, 0.28), 0.85 * window.inside(seam, 0.02) * (np.abs(mouth.reach) < 1.03))


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
    length = 0.1 - 0.04 * sitter.mean("pucker") - 0.03 * mouth.reach**2
    teeth = window.inside(rows - mouth.inner_top - length, 0.02) * (np.abs(mouth.reach) < 0.92)
    shadow = 0.75 + 0.25 * np.clip((rows - mouth.inner_top) / 0.05, 0, 1)
    tooth = (gaps * shadow)[..., None] * np.asarray(TEETH, np.float32)
    return colour + teeth[..., None] * (tooth - colour)
