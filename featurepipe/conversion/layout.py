"""The one layout every VGG-16 is stored in: safetensors, torchvision's names, RGB input, up to fc7."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from featurepipe.errors import WeightsError
from featurepipe.files import replacing
from featurepipe.networks.vgg16 import FULL, VGG16, Widths

FORMAT = 1
LAYOUT = "vgg16-rgb"
METADATA_KEY = "featurepipe"


def fitting_state(
    state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], where: str
) -> dict[str, torch.Tensor]:
    """The tensors of a file as a network takes them: on the CPU, float32 where they are numbers of any float type.

    Parameters
    ----------
    state : as the file has them
    expected : the network's own, whose values do not matter
    where : what errors call the file

    Raises WeightsError, naming the tensor at fault, unless `state` has exactly the expected names and shapes, ordinary
    tensors (neither sparse nor quantised nor without values) and finite numbers.
    """
    fitting = {}
    for name, like in expected.items():
        if name not in state:
            raise WeightsError(f"{where}: {name} is missing; expected it with shape {tuple(like.shape)}")
        fitting[name] = _fitting(state[name], like, f"{where}: {name}")
    if extra := sorted(set(state) - set(expected)):
        raise WeightsError(f"{where}: {len(extra)} tensors more than expected, the first is {extra[0]}")
    return fitting


def _fitting(tensor: torch.Tensor, like: torch.Tensor, where: str) -> torch.Tensor:
    if tensor.layout != torch.strided or tensor.is_nested or tensor.device.type != "cpu":
        raise WeightsError(f"{where} is sparse, nested or has no values; expected an ordinary tensor")
    if tensor.shape != like.shape:
        raise WeightsError(f"{where} has shape {tuple(tensor.shape)}; expected {tuple(like.shape)}")
    if not like.is_floating_point():  # how many batches a norm layer has seen
        if tensor.dtype != like.dtype:
            raise WeightsError(f"{where} is of type {tensor.dtype}; expected {like.dtype}")
        return tensor
    if not tensor.is_floating_point():
        raise WeightsError(f"{where} is of type {tensor.dtype}; expected floating-point numbers")
    numbers = tensor.detach().float().contiguous()
    if not bool(torch.isfinite(numbers).all()):
        raise WeightsError(f"{where} holds values that are not finite; the file is damaged")
    return numbers


def write_vgg16(path: str | os.PathLike[str], state: Mapping[str, torch.Tensor], widths: Widths = FULL) -> None:
    """Check `state` (torchvision's names, RGB) and write it to `path` in float32.

    Equal tensors give equal bytes, whichever release they came from: the sha256 of the file goes into recipes, and
    vectors made from two releases of one network belong together.
    """
    fitting = fitting_state(state, _empty(widths).state_dict(), str(path))
    header = json.dumps({"format": FORMAT, "layout": LAYOUT, "widths": asdict(widths)}, sort_keys=True)
    with replacing(path) as stream:
        # one key only: safetensors writes several in random order
        stream.write(save(fitting, {METADATA_KEY: header}))


def read_vgg16(path: str | os.PathLike[str]) -> tuple[VGG16, Widths]:
    """The network in evaluation mode, and its widths, from a file that `write_vgg16` made.

    Raises WeightsError where the file is missing, damaged, or of another layout.
    """
    if not Path(path).is_file():
        raise WeightsError(f"no weights file {path}")
    try:
        with safe_open(path, framework="pt") as stream:
            widths = _widths(stream.metadata() or {}, path)
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is not a safetensors file ({error}); make one with `bin/weights convert`"
        ) from error
    network = _empty(widths)
    network.load_state_dict(fitting_state(state, network.state_dict(), str(path)), assign=True)
    return network.eval(), widths


def _empty(widths: Widths) -> VGG16:
    """A network without values."""
    with torch.device("meta"):
        return VGG16(widths)


def _widths(metadata: Mapping[str, str], path: str | os.PathLike[str]) -> Widths:
    wanted = f"{path} is not a {LAYOUT} file of format {FORMAT}: make it with `bin/weights convert`"
    try:
        header = json.loads(metadata[METADATA_KEY])
        if (header["layout"], header["format"]) != (LAYOUT, FORMAT):
            raise WeightsError(f"{wanted}; it is {header['layout']} of format {header['format']}")
        widths = Widths(tuple(header["widths"]["blocks"]), header["widths"]["fc"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(wanted) from error
    counts = (*widths.blocks, widths.fc)
    if len(counts) != len(FULL.blocks) + 1 or not all(isinstance(n, int) and 0 < n <= FULL.fc for n in counts):
        raise WeightsError(f"{path}: its header names impossible widths {widths}")
    return widths
