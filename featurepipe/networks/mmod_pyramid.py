"""Geometry of dlib's tiled image pyramid: which copies of a photo lie where on one canvas, and how they are sampled.

dlib's CNN face detector looks at every size of a photo in one pass: the photo and copies of it, each 5/6 as large as
the one before, are laid out on one canvas. A cell's receptive field (189 pixels) is far wider than the gaps, so boxes
depend on this layout, and its arithmetic is kept to the last bit (dlib/image_transforms/image_pyramid.h and
interpolation.h of 20.0.1, create_tiled_pyramid and resize_image).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

INNER, OUTER = 10, 11
"""Pixels between tiles, and around them all."""

STRIDE, OFFSET, FIELD = 8, 14, 29
"""Cell (row, column) of the score map is centred on canvas pixel 8 * row + 14, 8 * column + 14. 29 pixels are what it
reads before the layers that pad with zeros."""

_UNSIGNED = 1 << 64

Samples = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The two neighbours of each row or column, int64 (n,), and the share of the second, float32 (n,)."""


@dataclass(frozen=True)
class Tile:
    """Where a level of the pyramid lies on the canvas: its left and top pixel, its width and height."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The last column of pixels."""
        return self.left + self.width - 1

    @property
    def bottom(self) -> int:
        """The last row of pixels."""
        return self.top + self.height - 1


@dataclass(frozen=True)
class Layout:
    """The canvas of photos of one size: its width and height in pixels, and its tiles, the photo itself first."""

    width: int
    height: int
    tiles: tuple[Tile, ...]

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the score map."""
        return (self.height - FIELD) // STRIDE + 1, (self.width - FIELD) // STRIDE + 1


def layout(width: int, height: int) -> Layout | None:
    """The canvas of a photo; None where it is too small to have one, or for one cell of the score map."""
    sizes = list(_sizes(width, height))
    first = _first_column(sizes)
    rows = sum(level[1] + INNER for level in sizes[:first]) - INNER + 2 * OUTER
    columns = width + 2 * OUTER
    if not first or min(rows, columns) < FIELD:
        return None
    return Layout(columns, rows, tuple(_tiles(sizes, first)))


def _sizes(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Width and height of each level."""
    yield width, height
    while (height := 5 * height // 6) >= 5 and (width := 5 * width // 6) > 0:
        yield width, height


def _first_column(sizes: list[tuple[int, int]]) -> int:
    """How many levels the left column is made for: about half of all rows.

    dlib compares unsigned numbers of 64 bits: what would be negative is huge. In photos narrower than 55 pixels that
    decides.
    """
    width, height = sizes[0]
    total = sum(level[1] + INNER for level in sizes) - 2 * INNER
    rows = previous = 0
    for number, (level_width, level_height) in enumerate(sizes):
        fits_beside = level_width <= (width - previous - INNER) % _UNSIGNED
        if fits_beside and 2 * (rows - height) % _UNSIGNED >= (total - height) % _UNSIGNED:
            return number
        rows, previous = rows + level_height + INNER, level_width
    return len(sizes)


def _tiles(sizes: list[tuple[int, int]], first: int) -> Iterator[Tile]:
    """Down the left column, then up the right one, until the photo's own tile is reached; the rest is left out."""
    top = OUTER
    for width, height in sizes[:first]:
        yield Tile(OUTER, top, width, height)
        top += height + INNER
    bottom = top - INNER
    for width, height in sizes[first:]:
        top = bottom - height
        if top < OUTER + sizes[0][1]:
            return
        yield Tile(OUTER + sizes[0][0] - width, top, width, height)
        bottom = top - INNER


def column_samples(source: int, target: int) -> Samples:
    """Between which columns each of `target` columns is interpolated when `source` columns are resized.

    First and last columns coincide. dlib adds up positions in float32, four columns at a time, as far as the four lie
    inside; the rest has exact positions. The difference moves sampling by 0.0002 pixels at 350 columns, 0.02 at 4000.
    """
    lanes, step = _lanes(source, target)
    return _neighbours(np.concatenate([lanes, np.arange(len(lanes), target) * step]), source)


def row_samples(source: int, target: int) -> Samples:
    """The same for rows, whose positions dlib adds up in double precision: exact enough."""
    return _neighbours(np.arange(target) * ((source - 1) / max(target - 1, 1)), source)


def _lanes(source: int, target: int) -> tuple[np.ndarray, float]:
    """Positions of the columns that dlib samples in blocks of four, float64 holding float32, and the exact step."""
    step = (source - 1) / max(target - 1, 1)
    added = np.full((target // 4 + 2, 4), 4 * step, np.float32)
    added[0] = [-4 * step, -3 * step, -2 * step, -step]
    lanes = np.add.accumulate(added, axis=0, dtype=np.float32)[1:]
    # The last block is not inside: its last lane is beyond the last column.
    inside = int(np.argmax(lanes[:, 3].astype(np.int64) + 1 >= source))
    return lanes[:inside].ravel()[:target].astype(np.float64), step


def _neighbours(position: np.ndarray, source: int) -> Samples:
    first = np.minimum(np.floor(position).astype(np.int64), source - 1)
    return first, np.minimum(first + 1, source - 1), (position - first).astype(np.float32)


def photo_boxes(canvas: Layout, cells: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Boxes in the photo of cells of the score map: a window around each, scaled as its level is.

    Parameters
    ----------
    canvas : the layout
    cells : int (n, 2), row and column
    window : width and height in pixels

    Returns
    -------
    int64 (n, 4): left, top, right, bottom, the last two inclusive; not clipped to the photo
    """
    centre = STRIDE * cells[:, ::-1].astype(np.int64) + OFFSET
    level = _levels(canvas, centre)
    corner = np.array([(tile.left, tile.top) for tile in canvas.tiles], np.int64)[level]
    half = (np.array(window) - 1) / 2
    edges = np.hstack([centre - half - corner, centre + half - corner])
    for step in range(level.max(initial=0)):
        deeper = level > step
        edges[deeper] = 1.2 * edges[deeper] + 0.3
    return round_half_away(edges)


def _levels(canvas: Layout, centre: np.ndarray) -> np.ndarray:
    """The level on whose tile each point (x, y) lies, or the one nearest to it: the larger one of equals."""
    tiles = canvas.tiles
    first = np.array([(tile.left, tile.top) for tile in tiles], np.int64)
    last = np.array([(tile.right, tile.bottom) for tile in tiles], np.int64)
    beyond = np.maximum(np.maximum(first - centre[:, None], centre[:, None] - last), 0)
    return np.argmin((beyond**2).sum(axis=2), axis=1)


def round_half_away(values: np.ndarray) -> np.ndarray:
    """Nearest integers, halves away from zero, int64."""
    return np.trunc(values + np.copysign(0.5, values)).astype(np.int64)


def strongest(boxes: np.ndarray, scores: np.ndarray, share: float) -> np.ndarray:
    """Which boxes stay, int64 indices, highest score first: of boxes that overlap the weaker ones are dropped.

    Two boxes overlap where their intersection covers more than `share` of the smallest box around both. Of equal
    scores the earlier box wins.

    Parameters
    ----------
    boxes : int64 (n, 4), right and bottom inclusive
    scores : float (n,)
    """
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        waiting = waiting[_overlap(boxes[best], boxes[waiting]) <= share]
    return np.array(kept, np.int64)


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area of the intersection over that of the smallest box around both, float64 (n,)."""
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]) + 1
    around = np.maximum(box[2:], others[:, 2:]) - np.minimum(box[:2], others[:, :2]) + 1
    return np.maximum(shared, 0).prod(axis=1) / around.prod(axis=1)


def upsampled(photo: np.ndarray) -> np.ndarray:
    """A photo doubled as dlib's pyramid_up does it: uint8 (h, w, 3) to (2 h + 1, 2 w + 2, 3).

    Bilinear and cut off to whole numbers: even in a plain area the last bit of the arithmetic decides between two
    grey levels, so it is dlib's, operation by operation: blocks of four columns in float32, the last few in double.
    """
    height, width = photo.shape[:2]
    down = _added_up(0, (height - 1) / (2 * height), 2 * height + 1)
    lanes, step = _lanes(width, 2 * width + 2)
    tail = _added_up(len(lanes), step, 2 * width + 2 - len(lanes))
    top, share = np.floor(down).astype(np.int64), down - np.floor(down)
    rows = photo[top], photo[np.minimum(top + 1, height - 1)]
    return np.concatenate([_in_blocks(*rows, share, lanes), _one_by_one(*rows, share, tail)], axis=1)


def _added_up(first: int, step: float, count: int) -> np.ndarray:
    """The positions of `count` indices from `first` on, each the one before plus `step`."""
    return np.add.accumulate(np.concatenate([[first * step - step], np.full(count, step)]))[1:]


def _in_blocks(upper: np.ndarray, lower: np.ndarray, share: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Columns at `across` between two rows each, in float32: four products of weight and pixel, added in turn."""
    left = across.astype(np.int64)
    right_share = (across - left).astype(np.float32)[:, None]
    left_share = np.float32(1) - right_share
    lower_share, upper_share = (value.astype(np.float32)[:, None, None] for value in (share, 1 - share))
    values = upper_share * left_share * upper[:, left]
    values += upper_share * right_share * upper[:, left + 1]
    values += lower_share * left_share * lower[:, left]
    values += lower_share * right_share * lower[:, left + 1]
    return values.astype(np.uint8)


def _one_by_one(upper: np.ndarray, lower: np.ndarray, share: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The same in double, first across and then down."""
    left = np.floor(across).astype(np.int64)
    right = np.minimum(left + 1, upper.shape[1] - 1)
    right_share, lower_share = (across - left)[:, None], share[:, None, None]
    above = (1 - right_share) * upper[:, left] + right_share * upper[:, right]
    below = (1 - right_share) * lower[:, left] + right_share * lower[:, right]
    return ((1 - lower_share) * above + lower_share * below).astype(np.uint8)
