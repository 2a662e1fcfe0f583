"""What is measured on: rendered faces, and VGG-16 with seeded weights; nothing to download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from featurepipe.bench.rows import Settings
from featurepipe.datasets.readers import read_source
from featurepipe.datasets.synthetic import write_faces
from featurepipe.devices import resolve_device, resolve_precision
from featurepipe.features.backbone import Choice, TorchBackbone
from featurepipe.features.backbones import VGG_FACE_MEANS, vgg_face_input
from featurepipe.features.int8 import Int8Backbone, measure_scales
from featurepipe.networks.vgg16 import FULL, SIZE, VGG16
from featurepipe.records import Framing, Sample

SIDE = 350
"""Pixels of a photo's side, as of the photos that people collect from the web."""

VGG16_OPERATIONS = 2 * (15_346_630_656 + 25_088 * 4096 + 4096 * 4096)
"""Additions and multiplications of VGG-16 up to fc7 for one crop: convolutions, fc6, fc7."""


def samples(settings: Settings, folder: Path, count: int) -> Sequence[Sample]:
    """The photos of the SOURCE asked for, or `count` of rendered faces."""
    return photos(folder, count) if settings.photos is None else read_source(settings.photos, None, "apex").samples


def photos(folder: Path, count: int) -> list[Sample]:
    """`count` photos of rendered faces in `folder`, no two of the same bytes.

    32 are drawn; the others differ from them in bytes after the end of the JPEG alone.
    """
    data = _drawn()
    target = folder / f"photos-{count}"
    target.mkdir(exist_ok=True)
    paths = [target / f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(data[number % len(data)] + f"{number:05d}".encode())
    return [Sample(str(path)) for path in paths]


@cache
def _drawn() -> list[bytes]:
    with TemporaryDirectory() as name:
        return [path.read_bytes() for path in sorted(write_faces(name, subjects=4, size=(SIDE, SIDE), seed=7))]


def crops(count: int, framing: Framing) -> np.ndarray:
    """Noise in the place of faces, uint8 (count, *framing.shape)."""
    return np.random.default_rng(0).integers(0, 256, (count, *framing.shape), np.uint8)


def seeded_vgg16() -> VGG16:
    """VGG-16 with weights of random numbers, the same every time, as large as He et al. 2015 make them."""
    with torch.device("meta"):
        network = VGG16()
    network.to_empty(device="cpu")
    numbers = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weights in network.parameters():  # drawing all 134 million would take longer than using them
            few = numbers[: weights.numel()] * (2 / weights[0].numel()) ** 0.5
            weights.view(-1).copy_(few.repeat(-(-weights.numel() // len(few)))[: weights.numel()])
    return network.eval()


@cache
def seeded_vgg_face(device: str, precision: str = "auto") -> TorchBackbone:
    """The backbone vgg-face with seeded weights in the place of its own."""
    where = resolve_device(device)
    choice = Choice("vgg-face", None, "fc7", "vggface", 1, where, resolve_precision(precision, where))
    network = seeded_vgg16()
    return TorchBackbone(
        choice,
        network,
        lambda images: network.fc7(vgg_face_input(images, VGG_FACE_MEANS)),
        framing=Framing(SIZE, "RGB", 0.3),
        dim=FULL.fc,
        weights_sha256="seeded",
        large_maps=True,
    )


@cache
def seeded_vgg_face_int8() -> Int8Backbone:
    """The same in int8 on the CPU, its scales measured on noise; raises MissingPackageError without OpenVINO."""
    backbone = seeded_vgg_face("cpu", "fp32")
    return Int8Backbone(backbone, measure_scales(backbone, crops(backbone.batch_size, backbone.framing)))
