"""Any published VGG-Face file to the one layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featurepipe.conversion import caffe, keras, mcn, torch7
from featurepipe.conversion.assemble import ChannelOrder, Layers, to_state
from featurepipe.conversion.layout import write_vgg16
from featurepipe.errors import InputError, WeightsError
from featurepipe.networks.vgg16 import FULL, Widths
from featurepipe.weights import FIRST_BYTES


@dataclass(frozen=True)
class Format:
    """How one published format is read; `channels` is the order of the input channels that its authors fed."""

    read: Callable[[Path], Layers]
    channels: ChannelOrder


FORMATS = {
    "vgg_face_keras": Format(keras.read, "RGB"),
    "vgg_face_mcn": Format(mcn.read, "RGB"),
    "vgg_face_torch7": Format(torch7.read, "BGR"),
    "vgg_face_caffe": Format(caffe.read, "BGR"),
}
"""By name, in the order in which they are tried; mirrored by featurepipe.names.LAYOUTS."""


def detect(path: str | os.PathLike[str]) -> str:
    """Name of the format of a file, told by its first bytes. Raises WeightsError where it is none that is known."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(32)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    for name in FORMATS:
        if start.startswith(FIRST_BYTES[name]):
            return name
    raise WeightsError(f"{path} starts like none of {', '.join(FORMATS)}; name its format with --layout")


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layout: str | None = None,
    widths: Widths = FULL,
) -> str:
    """Convert a published file to our layout, every layer checked by name, shape and count.

    Parameters
    ----------
    path : VGG_FACE.caffemodel, vgg_face_weights.h5, vgg_face_dag.pth or VGG_FACE.t7
    out : safetensors file to write
    layout : name of the format; None tells it by the first bytes
    widths : of the network that the file should hold

    Returns
    -------
    Name of the format. Raises WeightsError, naming the layer at fault, where the file does not hold the network.
    """
    if layout is not None and layout not in FORMATS:
        raise InputError(f"unknown layout {layout!r}; expected one of {', '.join(FORMATS)}")
    name = detect(path) if layout is None else layout
    source = Path(path)
    if not source.is_file():
        raise WeightsError(f"no such file: {source}")
    form = FORMATS[name]
    state = to_state(form.read(source), form.channels, widths, str(source))
    write_vgg16(out, state, widths)
    return name
