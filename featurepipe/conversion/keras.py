"""Reader of vgg_face_weights.h5: VGG-Face as a Keras weights file (HDF5), channels last.

Channel order: RGB. The author of the file shows how he made it in python/Matlab-Model-to-Keras.ipynb of
github.com/serengil/tensorflow-101: the kernels of Oxford's MatConvNet file, whose input is RGB, are set as they are
(HWIO in both), with no swap. That his later project, deepface, feeds BGR does not change the file. The file itself
could not be fetched where this was written: who has it and another release can compare fc7 of the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.conversion.assemble import CLASSES, MOST_VALUES, Layers, name_in_order
from featurepipe.errors import MissingPackageError, WeightsError, install_extra
from featurepipe.networks.vgg16 import POOLED, caffe_names


def read(path: Path) -> Layers:
    """Layers with weights by Caffe's names; kernels turned from (height, width, in, out) to (out, in, height, width).

    Layers under Caffe's names (conv1_1 ... fc8) are taken by name, others (conv2d_1 ...) in the file's order.
    Raises WeightsError where the file is truncated, or no Keras weights file; MissingPackageError without h5py.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError(
            f"reading a Keras .h5 needs h5py, which is not installed: {install_extra('convert')}"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            layers = _layers(file, str(path))
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is truncated, or no Keras weights file: {error}") from error
    if {name for name, _, _ in layers} >= set(caffe_names()):
        found = {name: (kernel, bias) for name, kernel, bias in layers}
    else:
        found = name_in_order(layers, str(path))
    return {name: (_turned(name, kernel), bias) for name, (kernel, bias) in found.items()}


def _layers(file: Any, where: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    root = file.get("model_weights", file)
    if "layer_names" not in root.attrs:
        raise WeightsError(f"{where} has no list of layer names; expected the weights file of a Keras 2 model")
    layers = []
    for name in map(_text, root.attrs["layer_names"]):
        tensors = [_text(tensor) for tensor in root[name].attrs["weight_names"]]
        if not tensors:
            continue
        if len(tensors) != 2:
            raise WeightsError(f"{where}: layer {name} has {len(tensors)} tensors; expected kernel and bias")
        kernel, bias = (_values(file, root[name], tensor, f"{where}: layer {name}") for tensor in tensors)
        layers.append((name, kernel, bias))
    return layers


def _values(file: Any, group: Any, name: str, where: str) -> np.ndarray:
    import h5py

    dataset = group[name]
    # Of the file that was opened: the group itself may be a link to another.
    if not isinstance(dataset, h5py.Dataset) or dataset.file.filename != file.filename:
        raise WeightsError(f"{where}: {name} is not a data set of this file")
    if dataset.external or dataset.is_virtual:
        raise WeightsError(f"{where}: {name} keeps its values in another file, which is not followed")
    if dataset.dtype.kind != "f" or dataset.size > MOST_VALUES:
        raise WeightsError(f"{where}: {name} is {dataset.dtype} {dataset.shape}; no tensor of VGG-16 is")
    return dataset[()]


def _turned(name: str, kernel: np.ndarray) -> np.ndarray:
    """Channels first; the rows of a dense fc6 go from Keras's order (y, x, channel) to (channel, y, x)."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if kernel.ndim == 2 and name == "fc6" and kernel.shape[0] % POOLED**2 == 0:
        return kernel.reshape(POOLED, POOLED, -1, kernel.shape[1]).transpose(3, 2, 0, 1)
    return kernel.T if name in ("fc7", CLASSES) else kernel


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
