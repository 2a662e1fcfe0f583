"""What a backbone is: face crops in, vectors out, and the recipe of its vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from featurepipe.cost import Cost, cost_of
from featurepipe.devices import autocast, memory_errors, prepared
from featurepipe.errors import InputError
from featurepipe.records import Framing

FORMAT = 1
"""Version of the feature half of the recipe: raised when the same settings give other vectors."""

BATCH_ON_CPU, BATCH_ON_GPU = 8, 64
"""Crops per batch. On a core VGG-16 in bf16 takes 0.155 s for each crop of a batch of 1, 4, 8, 16 or 32, and fer-vgg is
within a tenth of its best from 8 on: small batches waste little on the padding of the last one."""

MOST_THREADS = 8
"""Batches under way at a time on a CPU: each holds its own activations, 80 MiB for 8 photos of VGG-16 in bf16."""

Tensors = Callable[[torch.Tensor], torch.Tensor]


class Backbone(Protocol):
    """Turns face crops into vectors; all that the extraction asks of it.

    `framing` says how the crops are cut. `threads` is how many threads may, and should, call it at a time, each on
    its share of the cores, and `batch_size` how many crops at a time suit it. `made_with` is what the vectors depend
    on in their last bits alone: device, precision.
    """

    name: str
    framing: Framing
    threads: int
    batch_size: int
    made_with: dict[str, Any]

    def recipe(self) -> dict[str, Any]:
        """What decides the vectors' values: format, backbone, weights (sha256), layer, preprocessing, views."""

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Vectors (n, dim), float32 (uint8 for `Pixels`), of crops, uint8 (n, *framing.shape).

        A row depends on its own crop only; to the last bit where the batch size is the same too. Raises MemoryError
        where the batch does not fit.
        """

    def cost(self) -> Cost | None:
        """What one face takes, all its views together; None where there is no network."""


@dataclass(frozen=True)
class Choice:
    """What the caller asks of a backbone, checked against what it offers."""

    name: str
    weights: Path | None
    layer: str
    preprocessing: str
    views: int
    device: torch.device
    precision: str

    def recipe(self, weights_sha256: str) -> dict[str, Any]:
        """The feature half of the recipe."""
        return {
            "format": FORMAT,
            "backbone": self.name,
            "weights": weights_sha256,
            "layer": self.layer,
            "preprocessing": self.preprocessing,
            "views": self.views,
        }

    def made_with(self) -> dict[str, Any]:
        """What the last bits depend on besides."""
        return {"device": str(self.device), "precision": self.precision}


class TorchBackbone:
    """A backbone whose vectors a torch module computes.

    Parameters
    ----------
    choice : what was asked for
    network : the module, to be moved to the device; `forward` runs it
    forward : uint8 crops (n, *framing.shape) on the device -> (n, dim)
    framing, dim : as in `Backbone`
    weights_sha256 : of the weights file
    large_maps : as in `prepared`
    """

    def __init__(
        self,
        choice: Choice,
        network: torch.nn.Module,
        forward: Tensors,
        *,
        framing: Framing,
        dim: int,
        weights_sha256: str,
        large_maps: bool = False,
    ) -> None:
        self.name = choice.name
        self.framing = framing
        self.dim = dim
        self.device, self.precision = choice.device, choice.precision
        self._recipe = choice.recipe(weights_sha256)
        self.made_with = choice.made_with()
        on_cpu = choice.device.type == "cpu"
        self.threads = min(MOST_THREADS, torch.get_num_threads()) if on_cpu else 1
        self.batch_size = BATCH_ON_CPU if on_cpu else BATCH_ON_GPU
        self.network = prepared(network, choice.device, choice.precision, large_maps=large_maps)
        self.forward = forward

    def recipe(self) -> dict[str, Any]:
        """See `Backbone.recipe`."""
        return dict(self._recipe)

    def cost(self) -> Cost | None:
        """See `Backbone.cost`; parameters are those of the whole network, whatever layer is read."""
        found = cost_of(self.network, lambda: self(np.zeros((1, *self.framing.shape), np.uint8)))
        return found if found.parameters else None

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """See `Backbone.__call__`."""
        check_crops(crops, self.framing)
        if not len(crops):
            return np.empty((0, self.dim), np.float32)
        with memory_errors():
            images = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
            return self.vectors(images).float().cpu().numpy()

    @torch.inference_mode()
    def vectors(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors (n, dim) of crops that lie on the device, uint8 (n, *framing.shape)."""
        with autocast(self.device, self.precision):
            return self.forward(images)


def check_crops(crops: np.ndarray, framing: Framing) -> None:
    """Raise InputError unless `crops` is uint8 (n, *framing.shape)."""
    if crops.dtype != np.uint8 or crops.shape[1:] != framing.shape:
        raise InputError(
            f"crops are {crops.dtype} {crops.shape}; expected uint8 (n, {', '.join(map(str, framing.shape))})"
        )
