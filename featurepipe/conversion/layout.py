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
from featurepipe.networks.vgg16 import FULL, VGG16, Widths, shapes

FORMAT = 1
LAYOUT = "vgg16-rgb"
METADATA_KEY = "featurepipe"


def check_state(state: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise WeightsError, naming the tensor at fault, unless `state` has exactly the expected names and shapes."""
    for name, shape in expected.items():
        if name not in state:
            raise WeightsError(f"{where}: {name} is missing; expected it with shape {shape}")
        if tuple(state[name].shape) != shape:
            raise WeightsError(f"{where}: {name} has shape {tuple(state[name].shape)}; expected {shape}")
        if not bool(torch.isfinite(state[name]).all()):
            raise WeightsError(f"{where}: {name} holds values that are not finite; the file is damaged")
    if extra := sorted(set(state) - set(expected)):
        raise WeightsError(f"{where}: {len(extra)} tensors more than expected, the first is {extra[0]}")


def write_vgg16(path: str | os.PathLike[str], state: Mapping[str, torch.Tensor], widths: Widths = FULL) -> None:
    """Check `state` (torchvision's names, float32, RGB) and write it to `path`.

    Equal tensors give equal bytes, whichever release they came from: the sha256 of the file goes into recipes, and
    vectors made from two releases of one network belong together.
    """
    check_state(state, shapes(widths), str(path))
    header = json.dumps({"format": FORMAT, "layout": LAYOUT, "widths": asdict(widths)}, sort_keys=True)
    with replacing(path) as stream:
        # one key only: safetensors writes several in random order
        stream.write(save(dict(state), {METADATA_KEY: header}))


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
    check_state(state, shapes(widths), str(path))
    with torch.device("meta"):
        network = VGG16(widths)
    network.load_state_dict(state, assign=True)
    return network.eval(), widths


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
