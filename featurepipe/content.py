"""Content keys: what a photo, or a row of pixels, is stored under (design.md "The feature table", Key)."""

from __future__ import annotations

import hashlib

import numpy as np

from featurepipe.records import Face, Sample


def content_of_file(data: bytes, box: Face | None = None) -> str:
    """Hex sha256 of a photo file's bytes; where the data set gives a `box`, of those and the box."""
    return content_with_box(hashlib.sha256(data).hexdigest(), box)


def content_of_pixels(pixels: np.ndarray, box: Face | None = None) -> str:
    """Hex sha256 of the shape and the uint8 pixels in row-major order, and of the `box` where there is one."""
    digest = hashlib.sha256(f"pixels {pixels.shape} ".encode())
    digest.update(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes())
    return content_with_box(digest.hexdigest(), box)


def content_of_frame(digest: str, frame: Sample) -> str:
    """The key of a frame in a clip whose hex sha256 is `digest`: of the frame's number, turns and box with it."""
    turns = "" if frame.turns == (0,) else f" turns {frame.turns}"
    text = f"{digest} frame {frame.frame}{turns}"
    return content_with_box(hashlib.sha256(text.encode()).hexdigest(), frame.box)


def content_with_box(digest: str, box: Face | None) -> str:
    """The key of bytes whose hex sha256 is `digest` (files.sha256_of makes it without holding the file).

    Two rows that give different boxes in one photo get different keys; without a box the key is `digest`.
    """
    if box is None:
        return digest
    text = f"{digest} {box.left} {box.top} {box.right} {box.bottom}"
    return hashlib.sha256(text.encode()).hexdigest()
