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

FORMAT = "1"
LAYOUT = "vgg16-rgb"


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


def write_vgg16(
    path: str | os.PathLike[str],
    state: Mapping[str, torch.Tensor],
    *,
    source_format: str,
    source_sha256: str,
    widths: Widths = FULL,
) -> None:
    """Check `state` (torchvision's names, float32, RGB) and write it to `path`.

    The metadata says where the tensors came from. Equal input gives equal bytes.
    """
    check_state(state, shapes(widths), str(path))
    metadata = {
        "format": FORMAT,
        "layout": LAYOUT,
        "source_format": source_format,
        "source_sha256": source_sha256,
        "widths": json.dumps(asdict(widths)),
    }
    with replacing(path) as stream:
        stream.write(save(dict(state), metadata))


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
    found = (metadata.get("layout"), metadata.get("format"))
    if found != (LAYOUT, FORMAT):
        raise WeightsError(
            f"{path} has layout {found[0]!r}, format {found[1]!r}; expected {LAYOUT!r}, {FORMAT!r}: "
            "make the file with `bin/weights convert`"
        )
    try:
        document = json.loads(metadata["widths"])
        widths = Widths(tuple(map(int, document["blocks"])), int(document["fc"]))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its header does not say the widths of the layers") from error
    if len(widths.blocks) != len(FULL.blocks) or not all(0 < w <= 4096 for w in (*widths.blocks, widths.fc)):
        raise WeightsError(f"{path}: its header names impossible widths {document}")
    return widths
