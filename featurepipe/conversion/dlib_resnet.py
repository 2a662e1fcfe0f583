"""Reader of dlib's face descriptor, dlib_face_recognition_resnet_model_v1.dat."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from featurepipe.conversion.dlib_dat import Convolution, Form, Stream
from featurepipe.networks.dlib_resnet import BLOCKS, DIM, SIZE, STEM

_STEM_VERSIONS = (2, 2, 2, 3)  # pooling, rectifier, scaling, and the convolution next to the input
_BLOCK_VERSIONS = (2, 2, 2, 2, 2, 2, 2, 1)  # rectifier, sum, five layers, the tag that the sum goes back to
_HALVING_VERSIONS = (2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 1)  # with the pooling, and another skip and tag around the layers
_MAX_POOL, _HALVED, _AVERAGE = (3, 3, 2, 2, 0, 0), (2, 2, 2, 2, 0, 0), (0, 0, 1, 1, 0, 0)


@dataclass(frozen=True)
class DescriptorFile:
    """What dlib_face_recognition_resnet_model_v1.dat holds; see `featurepipe.networks.dlib_resnet.DescriptorNet`.

    Parameters
    ----------
    means : of R, G and B, subtracted from pixels of 0..255
    convolutions : from the input to the output, the stem and two of each block, the scalings folded in
    output : weight of the last layer, float32 (in, out)
    """

    means: tuple[float, float, float]
    convolutions: tuple[Convolution, ...]
    output: np.ndarray


def read(path: str | os.PathLike[str]) -> DescriptorFile:
    """The descriptor's network in a file.

    Raises WeightsError where the file cannot be read, is truncated, goes on after the network, or holds another one.
    """
    stream = Stream(path, "dlib's face descriptor (dlib_face_recognition_resnet_model_v1.dat)")
    stream.expect_int(1, "version of the loss layer")
    stream.expect_name("loss_metric_2")
    stream.reals(2)  # margin and distance threshold of the loss
    stream.expect_versions(_versions())
    stream.expect_name("input_rgb_image_sized")
    red, green, blue = stream.reals(3)
    stream.expect_int(SIZE, "rows of a face")
    stream.expect_int(SIZE, "columns of a face")
    convolutions = _convolutions(stream)
    stream.pooling("avg_pool_2", _AVERAGE)
    output = stream.matrix()
    if output.shape != (BLOCKS[-1][0], DIM):
        stream.fail(f"its last layer has the shape {output.shape}")
    stream.expect_end()
    return DescriptorFile((red, green, blue), convolutions, output)


def _versions() -> list[int]:
    versions = [2, 2]  # the last layer, and the average before it
    for _, halves in reversed(BLOCKS):
        versions += _HALVING_VERSIONS if halves else _BLOCK_VERSIONS
    return [*versions, *_STEM_VERSIONS]


def _convolutions(stream: Stream) -> tuple[Convolution, ...]:
    """Everything between the input and the last average."""
    found = [_scaled(stream, first=True)]
    stream.plain("relu_")
    stream.pooling("max_pool_2", _MAX_POOL)
    for _, halves in BLOCKS:
        found.append(_scaled(stream))
        stream.plain("relu_")
        found.append(_scaled(stream))
        if halves:
            stream.pooling("avg_pool_2", _HALVED)
        stream.plain("add_prev_")
        stream.plain("relu_")
    for number, (layer, expected) in enumerate(zip(found, _forms(), strict=True), 1):
        if layer.form != expected:
            stream.fail(f"convolution {number} of {len(found)} is {layer.form}, expected {expected}")
    return tuple(found)


def _scaled(stream: Stream, first: bool = False) -> Convolution:
    convolution = stream.convolution(first)
    return stream.scaled(convolution, stream.affine())


def _forms() -> list[Form]:
    forms: list[Form] = [((STEM, 3, 7, 7), (2, 2), (0, 0))]
    channels = STEM
    for filters, halves in BLOCKS:
        forms.append(((filters, channels, 3, 3), (2, 2) if halves else (1, 1), (0, 0) if halves else (1, 1)))
        forms.append(((filters, filters, 3, 3), (1, 1), (1, 1)))
        channels = filters
    return forms
