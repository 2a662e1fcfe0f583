"""Square crops of faces, cut from the photo at full resolution and never distorted."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from featurepipe.records import Face, Framing


def crop_face(image: np.ndarray, face: Face, framing: Framing) -> np.ndarray:
    """Cut `face` out of `image` as `framing` wants it.

    The square's side is (1 + margin) times the box's longer side, and its centre lies shift times that side
    below the box's centre; both may be fractions of a pixel. Where the square leaves the photo the photo's edge
    pixels are repeated: a constant would draw an edge that no face has. The square is resized by one
    antialiased bilinear step (Pillow's: a triangle filter as wide as the reduction), which never overshoots as
    sharper filters do at strong edges. A square of exactly framing.size whole pixels is copied bit by bit.

    Parameters
    ----------
    image : uint8 RGB (h, w, 3), the upright photo
    face : box in its pixels; it may leave the photo
    framing : size, mode, margin and shift

    Returns
    -------
    uint8, shape framing.shape; grey is ITU-R 601 luma, taken before the resizing
    """
    side = (1 + framing.margin) * max(face.width, face.height)
    left = (face.left + face.right + 1 - side) / 2
    top = (face.top + face.bottom + 1 - side) / 2 + framing.shift * max(face.width, face.height)
    # The filter also reads this many pixels around the square.
    reach = math.ceil(max(1.0, side / framing.size))
    x0, y0 = math.floor(left) - reach, math.floor(top) - reach
    x1, y1 = math.ceil(left + side) + reach, math.ceil(top + side) + reach
    region = Image.fromarray(_with_edges(image, x0, y0, x1, y1)).convert(framing.mode)
    square = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    size = (framing.size, framing.size)
    return np.array(region.resize(size, Image.Resampling.BILINEAR, box=square))


def _with_edges(image: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """image[y0:y1, x0:x1], its edge pixels repeated where that leaves the image."""
    rows = _lines(image, y0, y1)
    return np.ascontiguousarray(_lines(rows.swapaxes(0, 1), x0, x1).swapaxes(0, 1))


def _lines(image: np.ndarray, start: int, stop: int) -> np.ndarray:
    """image[start:stop], the first and the last line repeated for indices outside the image."""
    before = min(max(-start, 0), stop - start)
    after = min(max(stop - len(image), 0), stop - start)
    inside = image[max(start, 0) : max(stop, 0)]
    if before == after == 0:
        return inside
    return np.concatenate([image[:1].repeat(before, axis=0), inside, image[-1:].repeat(after, axis=0)])
