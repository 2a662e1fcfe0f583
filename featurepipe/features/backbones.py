"""The backbones by name: where each finds its weights, and how it feeds its network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from featurepipe.conversion.dlib_resnet import read as read_dlib_resnet
from featurepipe.conversion.layout import fitting_state, read_vgg16
from featurepipe.conversion.pytorch import read_tensors
from featurepipe.devices import PRECISIONS, resolve_device, resolve_precision
from featurepipe.errors import InputError, MissingPackageError, WeightsError, install_extra
from featurepipe.features.backbone import Backbone, Choice, TorchBackbone
from featurepipe.files import sha256_of
from featurepipe.names import LARGEST_MARGIN
from featurepipe.networks import fer_vgg
from featurepipe.networks.dlib_resnet import DIM, DescriptorNet
from featurepipe.networks.hog import HOG, SIZE
from featurepipe.networks.vgg16 import FULL, LAYERS, VGG16, Widths
from featurepipe.recipe import NO_WEIGHTS
from featurepipe.records import Framing
from featurepipe.weights import fetch, get_record, need

Name = TypeVar("Name", str, int)
Read = TypeVar("Read")

VGG_FACE_MEANS = (129.1863, 104.7624, 93.5940)
"""Means of R, G and B on the 0..255 scale (Parkhi et al. 2015); nothing is divided."""
IMAGENET_MEANS, IMAGENET_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of R, G and B on the 0..1 scale, as torchvision's VGG16_Weights.IMAGENET1K_V1 takes them."""


@dataclass(frozen=True)
class Offer:
    """What one backbone can be asked for; the first layer is the default, the others' defaults are its record's.

    One that is not learnt has no weights and no record, but a `source` of its own. `fidelity` is that of the network
    and of how it is fed, as of the CNN baselines; `published` an accuracy of such features under a linear SVM, ""
    where none is known.
    """

    load: Callable[[Choice], Backbone]
    layers: tuple[str, ...]
    preprocessings: tuple[str, ...]
    views: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] = PRECISIONS
    learnt: bool = True
    source: str = ""
    fidelity: Literal["faithful", "near-faithful"] = "faithful"
    published: str = ""


def load_backbone(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    preprocessing: str | None = None,
    views: int | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Backbone:
    """The backbone `name`, ready to run.

    Parameters
    ----------
    name : one of featurepipe.names.BACKBONES
    weights : weights file; None takes the one that ships, lies in the weights folder, or is downloaded by the
        package whose network it is (vgg16-imagenet, facenet-vggface2)
    layer, preprocessing, views : None takes the backbone's default; what else each takes is in REGISTRY
    device : auto, cpu, cuda, cuda:N or mps
    precision : fp32, bf16, or auto: bf16 where the device computes in it, fp32 elsewhere

    Returns
    -------
    Called with crops, uint8 (n, *framing.shape), it gives their vectors, float32 (n, d), whatever n and the device.
    `framing` says how crops are cut, `recipe()` all that decides the vectors.

    Raises
    ------
    InputError where the backbone does not offer what is asked; the text lists what it offers
    WeightsError where the weights are missing or are not this network
    MissingPackageError where the backbone runs in a package that is not installed

    >>> import numpy as np
    >>> backbone = load_backbone("fer-vgg", device="cpu", precision="fp32")
    >>> backbone(np.zeros((2, *backbone.framing.shape), np.uint8)).shape
    (2, 4096)
    """
    if name not in REGISTRY:
        raise InputError(f"unknown backbone {name!r}; expected one of {', '.join(REGISTRY)}")
    offer = REGISTRY[name]
    record = get_record(name) if offer.learnt else None
    if weights and not record:
        raise InputError(f"{name} has no weights; leave out --weights")
    where = resolve_device(device)
    choice = Choice(
        name,
        None if weights is None else Path(weights),
        _one_of(f"layer of {name}", offer.layers, layer),
        _one_of(
            f"preprocessing of {name}", offer.preprocessings, preprocessing, record.preprocessing if record else None
        ),
        _one_of(f"number of views of {name}", offer.views, views, record.views if record else None),
        where,
        _one_of(f"precision of {name}", offer.precisions, resolve_precision(precision, where, offer.precisions)),
    )
    return offer.load(choice)


def _one_of(what: str, offered: tuple[Name, ...], asked: Name | None, usual: Name | None = None) -> Name:
    """What is asked for, else the usual, else the first; as it is offered, whatever type of number is asked for."""
    chosen = next(one for one in (asked, usual, offered[0]) if one is not None)
    if isinstance(chosen, bool) or chosen not in offered:
        raise InputError(f"unknown {what}: {chosen!r}; expected one of {', '.join(map(str, offered))}")
    return offered[offered.index(chosen)]


def _with_digest(path: Path, read: Callable[[Path], Read]) -> tuple[Read, str]:
    """What `read` makes of a weights file, and the file's sha256.

    Raises WeightsError where the file is replaced meanwhile: the sha256 would be that of another network.
    """
    before = _state(path)
    found = read(path)
    digest = sha256_of(path) if path.is_file() else ""
    if _state(path) != before:
        raise WeightsError(f"{path} changed while it was read; run the command again")
    return found, digest


def _state(path: Path) -> tuple[int, ...] | None:
    if not path.is_file():  # what reads it says so
        return None
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# VGG-16 --------------------------------------------------------------------------------------------------------


def _load_vgg_face(choice: Choice) -> Backbone:
    path = choice.weights or need(get_record(choice.name))
    (network, widths), digest = _with_digest(path, read_vgg16)
    means = (0.0, 0.0, 0.0) if choice.preprocessing == "paper" else VGG_FACE_MEANS
    return _vgg16(choice, network, widths, digest, lambda images: vgg_face_input(images, means))


def vgg_face_input(images: torch.Tensor, means: tuple[float, float, float]) -> torch.Tensor:
    """uint8 RGB (n, 224, 224, 3) to float RGB (n, 3, 224, 224) on the 0..255 scale, less the means of R, G and B.

    The paper subtracts nothing; it takes RGB in 0..1, swaps to BGR for Caffe's weights and multiplies by 255. Our
    weights are stored for RGB, that is with the swap already in conv1_1: swapping the image here as well would undo
    it. And 0..1 times 255 is the uint8 image.
    """
    return images.permute(0, 3, 1, 2).float() - _channels(means, images.device)


def _load_vgg16_imagenet(choice: Choice) -> Backbone:
    # The record names the url and the cache of torchvision's weights API: who has used that has the file already.
    path = choice.weights or fetch(get_record(choice.name))
    tensors, digest = _with_digest(path, read_tensors)
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.6")}
    with torch.device("meta"):
        network = VGG16()
    network.load_state_dict(fitting_state(state, network.state_dict(), str(path)), assign=True)
    return _vgg16(choice, network, FULL, digest, imagenet_input)


def imagenet_input(images: torch.Tensor) -> torch.Tensor:
    """uint8 RGB (n, h, w, 3) to float RGB (n, 3, h, w): to 0..1, less the means, divided by the deviations."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    return (scaled - _channels(IMAGENET_MEANS, images.device)) / _channels(IMAGENET_DEVIATIONS, images.device)


def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def _vgg16(
    choice: Choice, network: VGG16, widths: Widths, digest: str, prepare: Callable[[torch.Tensor], torch.Tensor]
) -> Backbone:
    layer: Callable[[torch.Tensor], torch.Tensor] = getattr(network, choice.layer)
    return TorchBackbone(
        choice,
        network,
        lambda images: layer(prepare(images)),
        framing=get_record(choice.name).need_framing(),
        dim=widths.layers[choice.layer],
        weights_sha256=digest,
        large_maps=True,
    )


# fer-vgg -------------------------------------------------------------------------------------------------------

FER_VGG_PREFIX = "network."
"""What bin/fit_cnn writes before the name of each of the network's tensors."""


def _load_fer_vgg(choice: Choice) -> Backbone:
    path = choice.weights or need(get_record(choice.name))
    (network, margin), digest = _with_digest(path, lambda file: (read_fer_vgg(file), _margin_of(file)))
    framing = get_record(choice.name).need_framing()

    def forward(images: torch.Tensor) -> torch.Tensor:
        views = fer_vgg.views(images[:, None].float() / 255, choice.views)
        return torch.stack([network.fc7(view).float() for view in views]).mean(0)

    return TorchBackbone(
        choice,
        network,
        forward,
        framing=framing if margin is None else replace(framing, margin=margin),
        dim=fer_vgg.FC7,
        weights_sha256=digest,
    )


def read_fer_vgg(path: Path) -> fer_vgg.FerVGG:
    """The network of a file that bin/fit_cnn wrote for the architecture fer-vgg, of any width and number of classes.

    Raises WeightsError where the file is missing, damaged, or of another architecture.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file ({error})") from error
    state = {
        name.removeprefix(FER_VGG_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(FER_VGG_PREFIX)
    }
    network = _fer_vgg_like(state, str(path))
    network.load_state_dict(fitting_state(state, network.state_dict(), str(path)), assign=True)
    return network


def _margin_of(path: Path) -> float | None:
    """The margin that a file of bin/fit_cnn says its faces were cut with; None where they were crops, or it is silent.

    Files of other makers may say anything there.
    """
    damage = (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError)
    with suppress(*damage), safe_open(path, "pt") as stream:
        faces = json.loads(stream.metadata()["featurepipe"])["recipe"]["faces"]
        if faces["detector"] != "none" and -1 < float(faces["margin"]) <= LARGEST_MARGIN:
            return float(faces["margin"])
    return None


def _fer_vgg_like(state: Mapping[str, torch.Tensor], where: str) -> fer_vgg.FerVGG:
    """A network without values, as wide as the first convolution and with as many classes as the last layer."""
    first, last = state.get("features.conv1_1.weight"), state.get("fc8.weight")
    if first is None or last is None or not all(tensor.ndim and len(tensor) for tensor in (first, last)):
        raise WeightsError(f"{where} is no fer-vgg: make one with `bin/fit_cnn SOURCE --arch fer-vgg`")
    with torch.device("meta"):
        return fer_vgg.FerVGG(len(last), len(first) / fer_vgg.BLOCKS[0][0])


# Networks of other packages ------------------------------------------------------------------------------------


def _load_facenet(choice: Choice) -> Backbone:
    try:
        from facenet_pytorch import InceptionResnetV1
    except ImportError as error:
        raise MissingPackageError(
            f"facenet-vggface2 needs facenet-pytorch, which is not installed: {install_extra('facenet')}"
        ) from error
    path = choice.weights or fetch(get_record(choice.name))
    tensors, digest = _with_digest(path, read_tensors)
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith("logits.")}
    network = InceptionResnetV1().eval()
    network.load_state_dict(fitting_state(state, network.state_dict(), str(path)))
    return TorchBackbone(
        choice,
        network,
        lambda images: network((images.permute(0, 3, 1, 2).float() - 127.5) / 128),
        framing=get_record(choice.name).need_framing(),
        dim=network.last_linear.out_features,
        weights_sha256=digest,
    )


def _load_dlib_resnet(choice: Choice) -> Backbone:
    """dlib's face descriptor: 128 numbers of a ResNet trained with a metric loss.

    dlib turns and scales each face by its five landmarks before this network. Here the crop is upright and cut by
    the box alone: its framing is the median size and place of dlib's own chips around its HOG boxes, on 291 photos.
    On 59 of them the descriptor lay a median of 0.25 from the one with landmarks, for 97 % below the 0.6 at which
    dlib tells people apart (different people: median 0.75). Measured on 124 photos: bf16 moves a descriptor by 0.012 at
    most (cosine 0.99996).
    """
    path = choice.weights or need(get_record(choice.name))
    file, digest = _with_digest(path, read_dlib_resnet)
    network = DescriptorNet([(layer.weight, layer.bias) for layer in file.convolutions], file.output, file.means)
    return TorchBackbone(
        choice,
        network,
        network,
        framing=get_record(choice.name).need_framing(),
        dim=DIM,
        weights_sha256=digest,
    )


# Features that nothing has learnt --------------------------------------------------------------------------------


def _load_hog(choice: Choice) -> Backbone:
    network = HOG()
    return TorchBackbone(
        choice,
        network,
        lambda images: network(images.float() / 255),
        framing=Framing(size=SIZE, mode="L", margin=0.3),
        dim=network.dim,
        weights_sha256=NO_WEIGHTS,
    )


REGISTRY: dict[str, Offer] = {
    "fer-vgg": Offer(_load_fer_vgg, ("fc7",), ("standardised",), (1, 2, 10)),
    "vgg-face": Offer(_load_vgg_face, LAYERS, ("vggface", "paper")),
    "vgg16-imagenet": Offer(
        _load_vgg16_imagenet,
        LAYERS,
        ("imagenet",),
        published="92.26 % CK+, 92.86 % JAFFE by early layers of VGG-19 (Ravi, arXiv 1812.06387; split not stated)",
    ),
    "facenet-vggface2": Offer(_load_facenet, ("embedding",), ("standardised",)),
    # dlib's own chips are turned by landmarks, ours are not.
    "dlib-resnet": Offer(_load_dlib_resnet, ("descriptor",), ("dlib",), fidelity="near-faithful"),
    "hog": Offer(
        _load_hog,
        ("blocks",),
        ("grey",),
        precisions=("fp32",),
        learnt=False,
        source="Dalal & Triggs, CVPR 2005",
    ),
}
"""Every backbone by name; mirrored by featurepipe.names.BACKBONES."""
