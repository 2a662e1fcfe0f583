"""Backbones: face crops in, vectors out, each with its own preprocessing and the recipe of its vectors."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from featurepipe.conversion.layout import read_vgg16
from featurepipe.devices import autocast, resolve_device
from featurepipe.errors import InputError, WeightsError
from featurepipe.files import sha256_of
from featurepipe.records import Framing

FORMAT = 1
"""Version of the feature half of the recipe: raised when the same settings give other vectors."""

Name = TypeVar("Name", str, int)
Tensors = Callable[[torch.Tensor], torch.Tensor]


class Backbone(Protocol):
    """Turns face crops into vectors.

    `framing` says how the crops are cut, `dim` is the length of a vector.
    """

    name: str
    framing: Framing
    dim: int

    def recipe(self) -> dict[str, object]:
        """What decides the vectors' values: format, backbone, weights (sha256), layer, preprocessing, views."""

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Vectors, float32 (n, dim), of crops, uint8 (n, *framing.shape).

        A row depends on its own crop only; to the last bit where the batch size is the same too.
        """


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

    def recipe(self, weights_sha256: str) -> dict[str, object]:
        """The feature half of the recipe."""
        return {
            "format": FORMAT,
            "backbone": self.name,
            "weights": weights_sha256,
            "layer": self.layer,
            "preprocessing": self.preprocessing,
            "views": self.views,
        }


class TorchBackbone:
    """A backbone whose vectors a torch module computes.

    Parameters
    ----------
    choice : what was asked for
    network : the module, to be moved to the device; `forward` runs it
    forward : uint8 crops (n, *framing.shape) on the device -> (n, dim)
    framing, dim : as in `Backbone`
    weights_sha256 : of the weights file
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
    ) -> None:
        self.name = choice.name
        self.framing = framing
        self.dim = dim
        self._choice = choice
        self._recipe = choice.recipe(weights_sha256)
        self._network = network.eval().to(choice.device)
        self._forward = forward

    def recipe(self) -> dict[str, object]:
        """See `Backbone.recipe`."""
        return dict(self._recipe)

    @torch.inference_mode()
    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """See `Backbone.__call__`."""
        check_crops(crops, self.framing)
        if not len(crops):
            return np.empty((0, self.dim), np.float32)
        images = torch.from_numpy(np.ascontiguousarray(crops)).to(self._choice.device)
        with autocast(self._choice.device, self._choice.precision):
            vectors = self._forward(images)
        return vectors.float().cpu().numpy()


def check_crops(crops: np.ndarray, framing: Framing) -> None:
    """Raise InputError unless `crops` is uint8 (n, *framing.shape)."""
    if crops.dtype != np.uint8 or crops.shape[1:] != framing.shape:
        raise InputError(
            f"crops are {crops.dtype} {crops.shape}; expected uint8 (n, {', '.join(map(str, framing.shape))})"
        )


VGG_FACE_MEANS = (129.1863, 104.7624, 93.5940)
"""Means of R, G and B on the 0..255 scale (Parkhi et al. 2015); nothing is divided."""
VGG_FACE_FRAMING = Framing(224, "RGB", margin=0.3)


def vgg_face_preprocess(images: torch.Tensor, preprocessing: str) -> torch.Tensor:
    """uint8 RGB (n, 224, 224, 3) to float RGB (n, 3, 224, 224) on the 0..255 scale.

    `vggface` subtracts the means. `paper` subtracts nothing: the paper takes RGB in 0..1, swaps to BGR for Caffe's
    weights and multiplies by 255. Our weights are stored for RGB, that is with the swap already in conv1_1, so
    swapping the image here too would undo it; and 0..1 times 255 is the uint8 image.
    """
    planes = images.permute(0, 3, 1, 2).float()
    if preprocessing == "paper":
        return planes
    return planes - torch.tensor(VGG_FACE_MEANS, device=planes.device).view(1, 3, 1, 1)


def _load_vgg_face(choice: Choice) -> Backbone:
    if choice.weights is None:
        raise WeightsError("vgg-face needs its weights: run `bin/weights convert`")
    network, widths = read_vgg16(choice.weights)
    layer: Tensors = getattr(network, choice.layer)
    return TorchBackbone(
        choice,
        network,
        lambda images: layer(vgg_face_preprocess(images, choice.preprocessing)),
        framing=VGG_FACE_FRAMING,
        dim=widths.layers[choice.layer],
        weights_sha256=sha256_of(choice.weights),
    )


@dataclass(frozen=True)
class Offer:
    """What one backbone can be asked for; the first of each is its default."""

    load: Callable[[Choice], Backbone]
    layers: tuple[str, ...]
    preprocessings: tuple[str, ...]
    views: tuple[int, ...] = (1,)


REGISTRY: dict[str, Offer] = {
    "vgg-face": Offer(_load_vgg_face, ("fc7", "fc6", "pool5"), ("vggface", "paper")),
}
"""Every backbone by name; mirrored by featurepipe.names.BACKBONES."""


def load_backbone(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    preprocessing: str | None = None,
    views: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
) -> Backbone:
    """The backbone `name`, ready to run.

    Parameters
    ----------
    name : one of featurepipe.names.BACKBONES
    weights : weights file; None takes the one that ships, or lies in the weights folder
    layer, preprocessing, views : None takes the backbone's default
    device : auto, cpu, cuda, cuda:N or mps
    precision : fp32 or bf16

    Raises
    ------
    InputError where the backbone does not offer what is asked; the text lists what it offers
    WeightsError where the weights are missing or are not this network
    MissingPackageError where the backbone runs in a package that is not installed
    """
    offer = REGISTRY[_one_of("backbone", name, tuple(REGISTRY))]
    choice = Choice(
        name,
        None if weights is None else Path(weights),
        _one_of(f"layer of {name}", layer, offer.layers),
        _one_of(f"preprocessing of {name}", preprocessing, offer.preprocessings),
        _one_of(f"number of views of {name}", views, offer.views),
        resolve_device(device),
        precision,
    )
    return offer.load(choice)


def _one_of(what: str, wanted: Name | None, offered: tuple[Name, ...]) -> Name:
    if wanted is None:
        return offered[0]
    if wanted not in offered:
        raise InputError(f"unknown {what}: {wanted!r}; expected one of {', '.join(map(str, offered))}")
    return wanted
