"""dlib's serialised neural networks (.dat), item by item and layer by layer; nothing in the file is run.

The file is a stream without header or alignment: integers of a control byte and 1 to 8 bytes, reals of two integers
(mantissa, exponent), strings and tensors with their sizes in front. First come the versions of a network's layers, from
the output to the input; then the layers from the input to the output, each under its own name and version
(dlib/serialize.h, dlib/dnn/layers.h, loss.h, core.h). Readers of whole networks: dlib_mmod, dlib_resnet.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from featurepipe.errors import WeightsError

Scaling = tuple[np.ndarray, np.ndarray]
"""Scale and shift of each channel, float32 (channels,)."""

Form = tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]
"""Shape of a convolution's weight, its stride and its padding."""


@dataclass(frozen=True)
class Convolution:
    """A convolution at test time, the scaling behind it folded in.

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

    @property
    def form(self) -> Form:
        """All but the values."""
        return self.weight.shape, self.stride, self.padding


class Stream:
    """One pass over a file; every length is checked against what is left.

    Every method raises WeightsError where the file goes on with anything else.

    Parameters
    ----------
    path : the file; WeightsError is raised where it cannot be read
    expected : what it should hold, for error messages
    """

    def __init__(self, path: str | os.PathLike[str], expected: str) -> None:
        try:
            self._data = Path(path).read_bytes()
        except OSError as error:
            raise WeightsError(f"cannot read {path}: {error.strerror}") from error
        self._place, self._where, self._expected = 0, path, expected

    def fail(self, what: str) -> NoReturn:
        """Raise WeightsError, saying what was found and where."""
        raise WeightsError(f"{self._where} is not {self._expected}: {what}, before byte {self._place}")

    def integer(self) -> int:
        """The next integer."""
        control = self._take(1)[0]
        length = control & 0x0F
        if control & 0x70 or not 1 <= length <= 8:
            self.fail(f"{control:#04x} begins no integer")
        value = int.from_bytes(self._take(length), "little")
        return -value if control & 0x80 else value

    def real(self) -> float:
        """The next real; it must be finite, as all are in the published files."""
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > 2000:  # dlib writes infinity and NaN as 32000 and more
            self.fail(f"a real has the exponent {exponent}")
        try:
            return math.ldexp(mantissa, exponent)
        except OverflowError:
            self.fail(f"a real of {mantissa} times 2 to the {exponent} is too large")

    def reals(self, count: int) -> tuple[float, ...]:
        """The next `count` reals."""
        return tuple(self.real() for _ in range(count))

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

    def expect_versions(self, versions: Sequence[int]) -> None:
        """Read the versions of a network's layers, from the output to the input."""
        for number, version in enumerate(versions, 1):
            self.expect_int(version, f"version of layer {number} of {len(versions)}")

    def convolution(self, first: bool = False) -> Convolution:
        """The next layer, a convolution; `first` is that next to the input, which says one thing more."""
        self.expect_name("con_4")
        parameters = self.tensor().ravel()
        filters, rows, columns, stride_y, stride_x, padding_y, padding_x = (self.integer() for _ in range(7))
        shape, biases = self.view(), self.view()
        self.reals(4)  # multipliers of the learning rate and of the weight decay
        consistent = (shape[0], *shape[2:]) == (filters, rows, columns) and biases == (1, filters, 1, 1)
        if not consistent or min(shape) < 1 or math.prod(shape) + filters != len(parameters):
            self.fail(f"a convolution of shape {shape} and {filters} filters has {len(parameters)} parameters")
        self.end_of_layer(first)
        weight, bias = parameters[:-filters].reshape(shape), parameters[-filters:]
        return Convolution(weight, bias, (stride_y, stride_x), (padding_y, padding_x))

    def matrix(self) -> np.ndarray:
        """The next layer, a matrix product without bias: its weight, float32 (in, out)."""
        self.expect_name("fc_2")
        outputs, inputs = self.integer(), self.integer()
        parameters, shape = self.tensor(), self.view()
        self.view()  # of the biases, which are not there
        self.expect_int(1, "mode of the biases")  # without
        self.reals(4)
        if not parameters.shape == shape == (inputs, outputs, 1, 1):
            self.fail(f"a matrix of {inputs} x {outputs} has parameters of shape {parameters.shape}")
        self.end_of_layer()
        return parameters[:, :, 0, 0]

    def affine(self) -> Scaling:
        """The next layer, a scale and a shift of each channel."""
        self.expect_name("affine_")
        parameters = self.tensor().ravel()
        views = (self.view(), self.view())
        self.expect_int(0, "mode of a scaling")  # of channels, as behind a convolution
        self.end_of_layer()
        channels = len(parameters) // 2
        if views != ((1, channels, 1, 1),) * 2 or len(parameters) != 2 * channels:
            self.fail(f"a scaling of shapes {views} has {len(parameters)} parameters")
        return parameters[:channels], parameters[channels:]

    def batch_norm(self) -> Scaling:
        """The next layer, batch norm; what it does at test time."""
        self.expect_name("bn_con2")
        parameters = self.tensor().ravel()
        gamma_shape, beta_shape = self.view(), self.view()
        _, _, mean, variance = (self.tensor().ravel() for _ in range(4))  # those of the last batch are not used
        self.integer(), self.integer()  # updates so far, window of the running means
        self.reals(4)
        epsilon = self.real()
        self.end_of_layer()
        channels = len(mean)
        if not len(variance) == channels == math.prod(gamma_shape) == math.prod(beta_shape) == len(parameters) / 2:
            self.fail(f"batch norm of {channels} means has {len(parameters)} parameters")
        if not (variance >= 0).all() or not epsilon > 0:
            self.fail("batch norm has a negative variance")
        scale = parameters[:channels] / np.sqrt(variance + np.float32(epsilon))
        return scale, parameters[channels:] - scale * mean

    def scaled(self, convolution: Convolution, scaling: Scaling) -> Convolution:
        """A convolution with the scaling of its output taken in."""
        scale, shift = scaling
        if len(scale) != len(convolution.bias):
            self.fail(f"a scaling of {len(scale)} channels after a convolution of {len(convolution.bias)}")
        weight, bias = convolution.weight * scale[:, None, None, None], convolution.bias * scale + shift
        return Convolution(weight, bias, convolution.stride, convolution.padding)

    def plain(self, name: str) -> None:
        """The next layer, one without parameters called `name`."""
        self.expect_name(name)
        self.end_of_layer()

    def pooling(self, name: str, sizes: tuple[int, int, int, int, int, int]) -> None:
        """The next layer, a pooling called `name` with these rows, columns, strides and paddings."""
        self.expect_name(name)
        if (found := tuple(self.integer() for _ in range(6))) != sizes:
            self.fail(f"{name} has rows, columns, strides and paddings {found}, expected {sizes}")
        self.end_of_layer()

    def end_of_layer(self, first: bool = False) -> None:
        """What stands behind each layer's own part: flags and tensors of training, empty in a published file."""
        for _ in range(3):
            self.boolean()
        for _ in range(3):
            if self.tensor().size:
                self.fail("a layer holds outputs or gradients; expected a file without them, as published")
        if first:
            self.integer()

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
