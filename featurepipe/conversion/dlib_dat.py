"""Reader of dlib's serialised CNN face detector, mmod_human_face_detector.dat; nothing in the file is run.

The file is a stream without header or alignment: integers of a control byte and 1 to 8 bytes, reals of two integers
(mantissa, exponent), strings and tensors with their sizes in front. Each of the network's layers is met in turn, from
the input to the output, each under its own name and version (dlib/serialize.h, dlib/dnn/layers.h, loss.h, core.h).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featurepipe.errors import WeightsError

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
_SPECIAL = {32000: math.inf, 32001: -math.inf, 32002: math.nan}


@dataclass(frozen=True)
class Convolution:
    """A convolution at test time, the batch norm behind it folded in.

    Parameters
    ----------
    weight : float32 (out, in, rows, columns)
    bias : float32 (out,)
    stride, padding : (rows, columns)
    """

    weight: np.ndarray
    bias: np.ndarray
    stride: tuple[int, int]
    padding: tuple[int, int]


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
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    stream = _Stream(data, str(path))
    stream.expect_int(1, "version of the loss layer")
    stream.expect_name("loss_mmod_")
    window, suppression = _loss_options(stream)
    for number in range(WRAPPERS):
        stream.expect_int(2 + (number == WRAPPERS - 1), f"version of layer {number + 1} of {WRAPPERS}")
    stream.expect_name(_PYRAMID)
    red, green, blue = (stream.real() for _ in range(3))
    convolutions = _layers(stream)
    stream.expect_end()
    return DetectorFile(window, suppression, (red, green, blue), convolutions)


def _loss_options(stream: _Stream) -> tuple[tuple[int, int], float]:
    stream.expect_int(1, "version of the loss options")
    window = (stream.integer(), stream.integer())
    losses = [stream.real() for _ in range(7)]
    # losses per false alarm and per miss, then pairs of (share, coverage) for truth, suppression and ignored boxes
    suppression, coverage = losses[3], losses[4]
    if coverage != 1.0 or not 0 <= suppression <= 1:
        stream.fail(f"suppression is {suppression} with coverage {coverage}; expected 0..1 and 1")
    return window, suppression


def _layers(stream: _Stream) -> tuple[Convolution, ...]:
    """The 19 layer records; three of them make one convolution, but for the last, which stands alone."""
    convolutions = []
    for number in range(0, WRAPPERS, 3):
        convolution = _convolution(stream)
        _rest_of_record(stream, first=number == 0)
        if number < WRAPPERS - 1:
            scale, shift = _batch_norm(stream)
            if len(scale) != len(convolution.bias):
                stream.fail(f"batch norm of {len(scale)} channels after a convolution of {len(convolution.bias)}")
            convolution = _folded(convolution, scale, shift)
            _rest_of_record(stream)
            stream.expect_name("relu_")
            _rest_of_record(stream)
        convolutions.append(convolution)
    found = tuple((layer.weight.shape, layer.stride, layer.padding) for layer in convolutions)
    if found != NETWORK:
        stream.fail(f"its convolutions are {found}")
    return tuple(convolutions)


def _folded(convolution: Convolution, scale: np.ndarray, shift: np.ndarray) -> Convolution:
    weight, bias = convolution.weight * scale[:, None, None, None], convolution.bias * scale + shift
    return Convolution(weight, bias, convolution.stride, convolution.padding)


def _convolution(stream: _Stream) -> Convolution:
    stream.expect_name("con_4")
    parameters = stream.tensor().ravel()
    filters, rows, columns, stride_y, stride_x, padding_y, padding_x = (stream.integer() for _ in range(7))
    shape, biases = stream.view(), stream.view()
    for _ in range(4):  # multipliers of the learning rate and of the weight decay
        stream.real()
    consistent = (shape[0], *shape[2:]) == (filters, rows, columns) and biases == (1, filters, 1, 1)
    if not consistent or min(shape) < 1 or math.prod(shape) + filters != len(parameters):
        stream.fail(f"a convolution of shape {shape} and {filters} filters has {len(parameters)} parameters")
    weight = parameters[: -biases[1]].reshape(shape)
    return Convolution(weight, parameters[-biases[1] :], (stride_y, stride_x), (padding_y, padding_x))


def _batch_norm(stream: _Stream) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift that batch norm applies to each channel at test time, float32."""
    stream.expect_name("bn_con2")
    parameters = stream.tensor().ravel()
    gamma_shape, beta_shape = stream.view(), stream.view()
    _, _, mean, variance = (stream.tensor().ravel() for _ in range(4))  # those of the last batch are not used
    stream.integer(), stream.integer()  # updates so far, window of the running means
    for _ in range(4):
        stream.real()
    epsilon = stream.real()
    channels = len(mean)
    if not len(variance) == channels == math.prod(gamma_shape) == math.prod(beta_shape) == len(parameters) / 2:
        stream.fail(f"batch norm of {channels} means has {len(parameters)} parameters")
    if not (variance >= 0).all() or not epsilon > 0:
        stream.fail("batch norm has a negative variance")
    scale = parameters[:channels] / np.sqrt(variance + np.float32(epsilon))
    return scale, parameters[channels:] - scale * mean


def _rest_of_record(stream: _Stream, first: bool = False) -> None:
    """What stands behind each layer's own part: flags and tensors of training, empty in a published file."""
    for _ in range(3):
        stream.boolean()
    for _ in range(3):
        if stream.tensor().size:
            stream.fail("a layer holds outputs or gradients; expected a file without them, as published")
    if first:
        stream.integer()


class _Stream:
    """One pass over the file; every length is checked against what is left."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data, self._place, self._where = data, 0, where

    def fail(self, what: str) -> None:
        """Raise WeightsError, saying what was found and where."""
        raise WeightsError(
            f"{self._where} is not dlib's CNN face detector (mmod_human_face_detector.dat): {what}, "
            f"before byte {self._place}"
        )

    def integer(self) -> int:
        """The next integer."""
        control = self._take(1)[0]
        length = control & 0x0F
        if control & 0x70 or not 1 <= length <= 8:
            self.fail(f"{control:#04x} begins no integer")
        value = int.from_bytes(self._take(length), "little")
        return -value if control & 0x80 else value

    def real(self) -> float:
        """The next real."""
        mantissa, exponent = self.integer(), self.integer()
        if exponent in _SPECIAL:
            return _SPECIAL[exponent]
        if abs(exponent) > 2000:
            self.fail(f"a real has the exponent {exponent}")
        return math.ldexp(mantissa, exponent)

    def boolean(self) -> bool:
        """The next boolean."""
        letter = self._take(1)
        if letter not in (b"0", b"1"):
            self.fail(f"{letter!r} where 0 or 1 should be")
        return letter == b"1"

    def tensor(self) -> np.ndarray:
        """The next tensor, float32 with four dimensions."""
        self.expect_int(2, "version of a tensor")
        shape = self._shape()
        values = np.frombuffer(self._take(4 * math.prod(shape)), "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            self.fail("a tensor holds infinite values or NaN")
        return values.reshape(shape)

    def view(self) -> tuple[int, int, int, int]:
        """The shape of the next view into a tensor."""
        self.expect_int(1, "version of a view")
        return self._shape()

    def expect_int(self, expected: int, what: str) -> None:
        """Read an integer that can only be `expected`."""
        if (found := self.integer()) != expected:
            self.fail(f"{what} is {found}, expected {expected}")

    def expect_name(self, expected: str) -> None:
        """Read a string that can only be `expected`."""
        length = self.integer()
        if not 0 <= length <= 64:
            self.fail(f"a name of {length} letters where {expected!r} should be")
        if (found := self._take(length)) != expected.encode():
            self.fail(f"{found!r} where {expected!r} should be")

    def expect_end(self) -> None:
        """Nothing may be left over."""
        if left := len(self._data) - self._place:
            self.fail(f"{left} bytes are left over")

    def _shape(self) -> tuple[int, int, int, int]:
        samples, channels, rows, columns = (self.integer() for _ in range(4))
        if min(samples, channels, rows, columns) < 0:
            self.fail(f"a tensor of shape {(samples, channels, rows, columns)}")
        return samples, channels, rows, columns

    def _take(self, length: int) -> bytes:
        if length > len(self._data) - self._place:
            self.fail(f"the file ends too early ({len(self._data)} bytes)")
        self._place += length
        return self._data[self._place - length : self._place]
