"""Writers of the four published VGG-Face formats, for a network with seeded weights of any width.

Each writes what the original tools write: protobuf as Caffe, HDF5 as Keras 2, torch.save, Torch7's torch.save.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from featurepipe.networks.vgg16 import VGG16, Widths, caffe_names

SMALL = Widths((4, 6, 8, 8, 8), 16)


def seeded_network(widths: Widths = SMALL, seed: int = 0) -> VGG16:
    """Random weights scaled so that fc7 neither dies nor explodes (He et al. 2015), and biases that matter."""
    with torch.device("meta"):
        network = VGG16(widths)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.state_dict().items():
        fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
        scale = (2 / fan_in) ** 0.5 if tensor.ndim > 1 else 2.0
        state[name] = torch.randn(tensor.shape, generator=generator) * scale
    network.load_state_dict(state, assign=True)
    return network.eval()


def rgb_layers(network: VGG16) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Caffe's name, weight (out, in[, h, w]) and bias of each layer of a network that takes RGB."""
    state = network.state_dict()
    for name, place in caffe_names().items():
        yield name, state[f"{place}.weight"].numpy(), state[f"{place}.bias"].numpy()


def bgr_layers(network: VGG16) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The same network for BGR input."""
    for name, weight, bias in rgb_layers(network):
        yield name, weight[:, ::-1].copy() if name == "conv1_1" else weight, bias


# Caffe ---------------------------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field: a varint for an int, length-delimited for bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def blob(values: np.ndarray, legacy: bool = False, dtype: str = "<f4") -> bytes:
    """A BlobProto, its shape as `shape` or as num, channels, height, width."""
    if legacy:
        four = (*(1,) * (4 - values.ndim), *values.shape)
        shape = b"".join(field(number, size) for number, size in enumerate(four, 1))
    else:
        shape = field(7, field(1, b"".join(map(_varint, values.shape))))
    return shape + field(5 if dtype == "<f4" else 8, values.astype(dtype).tobytes())


CAFFE_TYPES = {"conv": ("Convolution", 4), "fc": ("InnerProduct", 14)}


def write_caffemodel(path: Path, network: VGG16, *, v1: bool = False, dtype: str = "<f4") -> Path:
    """A NetParameter with V2 layers and shapes, or with V1 layers and legacy shapes; BGR, as Caffe takes it."""
    with path.open("wb") as stream:
        stream.write(field(1, b"VGG_FACE_16_layers"))
        for name, weight, bias in bgr_layers(network):
            kind, v1_kind = CAFFE_TYPES[name[:-1].rstrip("12345_67")]
            blobs = [blob(weight, v1, dtype), blob(bias, v1, dtype)]
            if v1:
                message = field(4, name.encode()) + field(5, v1_kind) + b"".join(field(6, b) for b in blobs)
            else:
                message = field(1, name.encode()) + field(2, kind.encode()) + b"".join(field(7, b) for b in blobs)
            stream.write(field(2 if v1 else 100, message))
            relu = field(4, b"relu") + field(5, 18) if v1 else field(1, b"relu") + field(2, b"ReLU")
            stream.write(field(2 if v1 else 100, relu))
    return path


def write_prototxt(path: Path, widths: Widths) -> Path:
    """The deploy definition up to fc7, with in-place ReLUs, as Oxford's VGG_FACE_deploy.prototxt has it."""
    text = ['name: "VGG_FACE_16_layers"', 'input: "data"', *(f"input_dim: {d}" for d in (1, 3, 224, 224))]
    below = "data"

    def layer(name: str, kind: str, extra: str = "", top: str | None = None) -> None:
        nonlocal below
        text.append(f'layer {{ name: "{name}" type: "{kind}" bottom: "{below}" top: "{top or name}" {extra} }}')
        below = top or name

    for block, width in enumerate(widths.blocks, 1):
        for part in range(1, (2, 2, 3, 3, 3)[block - 1] + 1):
            size = f"convolution_param {{ num_output: {width} pad: 1 kernel_size: 3 }}"
            layer(f"conv{block}_{part}", "Convolution", size)
            layer(f"relu{block}_{part}", "ReLU", top=f"conv{block}_{part}")
        layer(f"pool{block}", "Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    for number in (6, 7):
        layer(f"fc{number}", "InnerProduct", f"inner_product_param {{ num_output: {widths.fc} }}")
        layer(f"relu{number}", "ReLU", top=f"fc{number}")
    path.write_text("\n".join(text))
    return path


# Keras ---------------------------------------------------------------------------------------------------------


def write_h5(path: Path, network: VGG16, *, named: bool = False, dense: bool = False) -> Path:
    """Keras 2's save_weights: groups conv2d_1 ... (or Caffe's names), kernels channels last; RGB.

    fc6 and fc7 are convolutions as in the published file, or dense layers.
    """
    with h5py.File(path, "w") as file:
        names = []
        for number, (name, weight, bias) in enumerate(rgb_layers(network), 1):
            own = name if named else f"conv2d_{number}"
            names += [own.encode(), f"zero_padding2d_{number}".encode()]
            group = file.create_group(own)
            group.attrs["weight_names"] = [f"{own}/kernel:0".encode(), f"{own}/bias:0".encode()]
            group.create_dataset(f"{own}/kernel:0", data=_keras_kernel(name, weight, dense))
            group.create_dataset(f"{own}/bias:0", data=bias)
            file.create_group(f"zero_padding2d_{number}").attrs["weight_names"] = np.array([], "S1")
        file.attrs["layer_names"] = names
        file.attrs["backend"] = b"tensorflow"
    return path


def _keras_kernel(name: str, weight: np.ndarray, dense: bool) -> np.ndarray:
    if name == "fc6":
        kernel = weight.reshape(len(weight), -1, 7, 7).transpose(2, 3, 1, 0)
        return kernel.reshape(-1, len(weight)) if dense else kernel
    if name == "fc7":
        return weight.T if dense else weight.T[None, None]
    return weight.transpose(2, 3, 1, 0)


# PyTorch -------------------------------------------------------------------------------------------------------


def write_pth(path: Path, network: VGG16, *, zipped: bool = False) -> Path:
    """torch.save of a state dict with keys conv1_1.weight ...; RGB."""
    state = {}
    for name, weight, bias in rgb_layers(network):
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.from_numpy(weight), torch.from_numpy(bias)
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return path


# Torch7 --------------------------------------------------------------------------------------------------------


class Torch7Writer:
    """Torch7's binary File:writeObject for numbers, strings, tables, float tensors and nn modules."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.index = 0

    def int(self, *values: int) -> None:
        self.parts.append(struct.pack(f"<{len(values)}i", *values))

    def long(self, *values: int) -> None:
        self.parts.append(struct.pack(f"<{len(values)}q", *values))

    def text(self, value: str) -> None:
        self.int(len(value))
        self.parts.append(value.encode())

    def head(self, tag: int) -> None:
        self.index += 1
        self.int(tag, self.index)

    def torch_class(self, name: str) -> None:
        self.head(4)
        self.text("V 1")
        self.text(name)

    def value(self, value: object) -> None:
        if isinstance(value, dict):
            self.head(3)
            self.int(len(value))
            for key, item in value.items():
                self.value(key)
                self.value(item)
        elif isinstance(value, str):
            self.int(2)
            self.text(value)
        elif isinstance(value, bool):
            self.int(5, value)
        elif isinstance(value, np.ndarray):
            self.tensor(value)
        elif isinstance(value, tuple):
            self.torch_class(value[0])
            self.value(value[1])
        else:
            self.int(1)
            self.parts.append(struct.pack("<d", value))

    def tensor(self, values: np.ndarray) -> None:
        self.torch_class("torch.FloatTensor")
        self.int(values.ndim)
        self.long(*values.shape)
        self.long(*(stride // 4 for stride in np.ascontiguousarray(values).strides))
        self.long(1)
        self.torch_class("torch.FloatStorage")
        self.long(values.size)
        self.parts.append(values.astype("<f4").tobytes())

    def write(self, path: Path) -> Path:
        path.write_bytes(b"".join(self.parts))
        return path


def write_t7(path: Path, network: VGG16, *, matrices: bool = False) -> Path:
    """nn.Sequential of SpatialConvolution (or SpatialConvolutionMM with matrices), ReLU and Linear; BGR."""
    modules: list[object] = []
    for name, weight, bias in bgr_layers(network):
        kind = "nn.Linear" if name.startswith("fc") else "nn.SpatialConvolution" + "MM" * matrices
        if matrices:
            weight = weight.reshape(len(weight), -1)
        modules += [(kind, {"weight": weight, "bias": bias, "train": False}), ("nn.ReLU", {"inplace": True})]
    writer = Torch7Writer()
    writer.value(("nn.Sequential", {"modules": dict(enumerate(modules, 1)), "_type": "torch.FloatTensor"}))
    return writer.write(path)
