"""Reader of dlib's CNN face detector, mmod_human_face_detector.dat."""

from __future__ import annotations

import os
from dataclasses import dataclass

from featurepipe.conversion.dlib_dat import Convolution, Stream

WRAPPERS = 19
"""Layers of the network: seven convolutions, the first six each followed by batch norm and a rectifier."""

NETWORK = (
    ((16, 3, 5, 5), (2, 2), (0, 0)),
    ((32, 16, 5, 5), (2, 2), (0, 0)),
    ((32, 32, 5, 5), (2, 2), (0, 0)),
    ((45, 32, 5, 5), (1, 1), (2, 2)),
    ((45, 45, 5, 5), (1, 1), (2, 2)),
    ((45, 45, 5, 5), (1, 1), (2, 2)),
    ((1, 45, 9, 9), (1, 1), (4, 4)),
)
"""Shape, stride and padding of each convolution."""

_PYRAMID = "input_rgb_image_pyramid"


@dataclass(frozen=True)
class DetectorFile:
    """What mmod_human_face_detector.dat holds.

    Parameters
    ----------
    window : width and height in pixels of what a cell of the score map looks for
    suppression : share of intersection in the common bounding box above which the weaker of two boxes is dropped
    means : of R, G and B, subtracted from pixels of 0..255
    convolutions : from the input to the output; a rectifier follows each but the last
    """

    window: tuple[int, int]
    suppression: float
    means: tuple[float, float, float]
    convolutions: tuple[Convolution, ...]


def read(path: str | os.PathLike[str]) -> DetectorFile:
    """The detector in a file.

    Raises WeightsError where the file cannot be read, is truncated, goes on after the network, or holds another one.
    """
    stream = Stream(path, "dlib's CNN face detector (mmod_human_face_detector.dat)")
    stream.expect_int(1, "version of the loss layer")
    stream.expect_name("loss_mmod_")
    window, suppression = _loss_options(stream)
    stream.expect_versions((*[2] * (WRAPPERS - 1), 3))
    stream.expect_name(_PYRAMID)
    red, green, blue = stream.reals(3)
    convolutions = _layers(stream)
    stream.expect_end()
    return DetectorFile(window, suppression, (red, green, blue), convolutions)


def _loss_options(stream: Stream) -> tuple[tuple[int, int], float]:
    stream.expect_int(1, "version of the loss options")
    window = (stream.integer(), stream.integer())
    losses = stream.reals(7)
    # losses per false alarm and per miss, then pairs of (share, coverage) for truth, suppression and ignored boxes
    suppression, coverage = losses[3], losses[4]
    if coverage != 1.0 or not 0 <= suppression <= 1:
        stream.fail(f"suppression is {suppression} with coverage {coverage}; expected 0..1 and 1")
    return window, suppression


def _layers(stream: Stream) -> tuple[Convolution, ...]:
    """The 19 layer records; three of them make one convolution, but for the last, which stands alone."""
    convolutions = []
    for number in range(0, WRAPPERS, 3):
        convolution = stream.convolution(first=number == 0)
        if number < WRAPPERS - 1:
            convolution = stream.scaled(convolution, stream.batch_norm())
            stream.plain("relu_")
        convolutions.append(convolution)
    if (found := tuple(layer.form for layer in convolutions)) != NETWORK:
        stream.fail(f"its convolutions are {found}")
    return tuple(convolutions)
