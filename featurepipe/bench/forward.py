"""Forward passes: VGG-16's against torchvision's, dlib's face descriptor against dlib's own."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from featurepipe.bench.material import VGG16_OPERATIONS, crops, seeded_vgg16, seeded_vgg_face, seeded_vgg_face_int8
from featurepipe.bench.rows import Settings, alone, cpu_of, medians, row, version_of, wall_of
from featurepipe.devices import resolve_device
from featurepipe.errors import MissingPackageError
from featurepipe.faces.detectors import import_dlib, package_folder
from featurepipe.features.backbone import Backbone
from featurepipe.features.backbones import load_backbone
from featurepipe.features.forwarding import Forwarder
from featurepipe.weights import get_record, need


def vgg16_forward(settings: Settings) -> dict[str, Any]:
    """Crops to fc7 in batches, in the precision that `auto` takes here, against torchvision in fp32."""
    backbone = seeded_vgg_face(settings.device)
    dtype = torch.bfloat16 if backbone.made_with["precision"] == "bf16" else None
    ours, reference = _beside_torchvision(backbone, settings)
    floor = VGG16_OPERATIONS / (products_per_second(settings.device, dtype) * backbone.threads)
    return row("vgg16-forward", ours, reference, _torchvision(), "s/face", floor, settings.machine())


def vgg16_int8(settings: Settings) -> dict[str, Any]:
    """The same in int8, which runs on the CPU alone; how fast a product of bytes could be is not known."""
    ours, reference = _beside_torchvision(seeded_vgg_face_int8(), replace(settings, device="cpu"))
    return row("vgg16-int8", ours, reference, _torchvision(), "s/face", None)


def _torchvision() -> str:
    return f"{version_of('torchvision', 'torch')}, fp32"


def _beside_torchvision(backbone: Backbone, settings: Settings) -> tuple[float, float]:
    """Seconds per face of the backbone, and of torchvision's VGG-16."""
    theirs = torchvision_vgg16(settings.device)
    batch = crops(backbone.batch_size, backbone.framing)
    batches = (1 if settings.quick else 2) * backbone.threads
    some = batch[: len(batch) // 2] if settings.quick else batch
    backbone(batch)
    theirs(some)
    ours_s, theirs_s = medians(
        settings.rounds,
        wall_of(lambda: forward_all(backbone, [batch] * batches)),
        wall_of(lambda: theirs(some)),
    )
    return ours_s / (batches * len(batch)), theirs_s / len(some)


def vgg16_rate(settings: Settings) -> dict[str, Any]:
    """VGG-16 alone, on crops that lie on the device, against the operations over the rate of a matrix product.

    The ratio is the share of that rate: of 8192 x 8192 on a GPU, of 2048 x 2048 on a core of a CPU, in the precision
    that `auto` takes.
    """
    backbone = seeded_vgg_face(settings.device)
    precision = backbone.made_with["precision"]
    batch = torch.from_numpy(crops(backbone.batch_size, backbone.framing)).to(settings.device)
    runs = 20 if settings.on_gpu else 1
    rates, times = [], []
    with alone():
        for _ in range(settings.rounds):
            rates.append(products_per_second(settings.device, torch.bfloat16 if precision == "bf16" else None))
            backbone.vectors(batch)
            times.append(wall_of(lambda: [backbone.vectors(batch) for _ in range(runs)][-1].cpu())())
    rate, ours = statistics.median(rates), statistics.median(times) / (runs * len(batch))
    floor = VGG16_OPERATIONS / rate
    name = f"{version_of('torch')}, {precision} matrix product: {rate:.3g} operations/s"
    return row("vgg16-rate", ours, floor, name, "s/face", floor, settings.machine())


def dlib_resnet(settings: Settings) -> dict[str, Any]:
    """dlib's face descriptor, ours in batches and in fp32 against dlib's own face by face, both on one core."""
    package_folder("face_recognition_models", "dlib-models", "dlib's face descriptor")
    own = import_dlib("its own face descriptor").face_recognition_model_v1(str(need(get_record("dlib-resnet"))))
    backbone = load_backbone("dlib-resnet", device="cpu", precision="fp32")
    batch = crops(backbone.batch_size, backbone.framing)
    few = batch[: 4 if settings.quick else 8]
    with alone():
        backbone(batch)
        ours, theirs = medians(
            3 if settings.quick else 7,
            cpu_of(lambda: [backbone(batch) for _ in range(4)]),
            cpu_of(lambda: [own.compute_face_descriptor(face) for face in few]),
        )
    name = f"{version_of('dlib|dlib-bin')}, one core"
    return row("dlib-resnet", ours / (4 * len(batch)), theirs / len(few), name, "s/face and core", None)


def forward_all(backbone: Backbone, batches: list[np.ndarray]) -> None:
    """Send batches through a backbone as the extraction does."""
    with Forwarder[int](backbone) as forwarder:
        for batch in batches:
            forwarder.submit(batch, [])
        while forwarder.oldest() is not None:
            pass


@cache
def torchvision_vgg16(device: str) -> Callable[[np.ndarray], np.ndarray]:
    """torchvision's VGG-16 up to fc7, with seeded weights: uint8 crops (n, 224, 224, 3) to vectors (n, 4096)."""
    try:
        from torchvision.models import vgg16
    except ImportError as error:
        raise MissingPackageError(f"torchvision does not import ({error})") from error
    where = resolve_device(device)
    with torch.device("meta"):
        network = vgg16()
    network.classifier = network.classifier[:5]
    network.load_state_dict(seeded_vgg16().state_dict(), assign=True)
    network = network.eval().to(where)

    @torch.inference_mode()
    def forward(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(where).float()
        return network(pixels - 100).cpu().numpy()

    return forward


def products_per_second(device: str, dtype: torch.dtype | None) -> float:
    """Additions and multiplications per second of a large matrix product: on a GPU of all of it, on a CPU of a core."""
    where = resolve_device(device)
    size = 2048 if where.type == "cpu" else 8192
    matrix = torch.randn(size, size, device=where).to(dtype or torch.float32)
    runs = 1 if where.type == "cpu" else 20

    def multiply() -> float:
        product = matrix
        for _ in range(runs):
            product = matrix @ matrix
        return float(product[0, 0])  # waits for the GPU

    with alone():
        multiply()
        seconds = statistics.median(wall_of(multiply)() for _ in range(3))
    return 2 * size**3 * runs / seconds
