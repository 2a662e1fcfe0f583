"""The whole pipeline against what its stages cost one by one, and against the loop that users write."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from featurepipe.bench.material import crops, photos, seeded_vgg_face
from featurepipe.bench.rows import Settings, alone, cpu_of, medians, row, version_of, wall_of
from featurepipe.faces.detectors import Detect, DetectorSpec
from featurepipe.faces.finder import FaceFinder
from featurepipe.features.backbone import Backbone
from featurepipe.features.backbones import load_backbone
from featurepipe.features.extraction import content_of, extract
from featurepipe.features.stores import CutFace, VectorStore, make_store
from featurepipe.machine import cores
from featurepipe.records import Face, FaceTask, Sample

FEW = 48
"""Photos on which one stage alone is timed."""


def pipeline_vgg_face(settings: Settings) -> dict[str, Any]:
    """vgg-face with seeded weights: the forward pass costs most."""
    backbone = seeded_vgg_face(settings.device)
    return _pipeline("pipeline-vgg-face", backbone, 96 if settings.quick else 384, settings)


def pipeline_fer_vgg(settings: Settings) -> dict[str, Any]:
    """fer-vgg as it ships: decoding and detecting cost most."""
    backbone = load_backbone("fer-vgg", device=settings.device)
    return _pipeline("pipeline-fer-vgg", backbone, 512 if settings.quick else 1504, settings)


def users_loop(settings: Settings) -> dict[str, Any]:
    """The whole pipeline with VGG-16, against one photo after the other: decode, dlib, VGG-16 in fp32, append."""
    from featurepipe.bench.forward import torchvision_vgg16

    count = 48 if settings.quick else 192
    backbone = seeded_vgg_face(settings.device)
    network, detect = torchvision_vgg16(settings.device), DetectorSpec("hog").build()
    with TemporaryDirectory() as name:
        run = Run(photos(Path(name), count), backbone)
        ours, theirs = medians(
            1 if settings.quick else 3,
            lambda: run.seconds(Path(name)) / count,
            lambda: _loop(run.samples[:16], detect, network) / 16,
        )
    reference = f"loop over Pillow, dlib, VGG-16 in fp32: {version_of('pillow', 'dlib|dlib-bin', 'torchvision')}"
    return row("users-loop", ours, theirs, reference, "s/photo", None, settings.machine())


def _loop(samples: list[Sample], detect: Detect, network: Callable[[np.ndarray], np.ndarray]) -> float:
    """Seconds of the loop that users write today."""
    start = time.perf_counter()
    vectors = []
    for sample in samples:
        with Image.open(sample.path) as photo:
            image = photo.convert("RGB")
        faces = detect(np.array(image))
        if faces:
            face = faces[0]
            crop = image.crop((face.left, face.top, face.right, face.bottom)).resize((224, 224))
            vectors.append(network(np.array(crop)[None])[0])
    return time.perf_counter() - start


@dataclass(frozen=True)
class Run:
    """Photos through the whole pipeline, faces by HOG."""

    samples: list[Sample]
    backbone: Backbone

    @property
    def finder(self) -> FaceFinder:
        """The face stage."""
        return FaceFinder(DetectorSpec(), self.backbone.framing, "largest")

    def into(self, table: Path) -> None:
        """Bring a feature table up to date."""
        half = {**self.finder.spec.recipe(), "margin": self.backbone.framing.margin, "policy": "largest"}
        batch_size = self.backbone.batch_size
        extract(self.samples, table, self.finder, self.backbone, half, workers=None, batch_size=batch_size)

    def seconds(self, folder: Path) -> float:
        """Seconds by the clock to a feature table that was not there."""
        with TemporaryDirectory(dir=folder) as table:
            return wall_of(lambda: self.into(Path(table)))()

    def stage_costs(self, folder: Path) -> dict[str, float]:
        """Seconds per photo of each stage alone, of a core; forward on a GPU by the clock."""
        some = self.samples[:FEW]
        keys = [content_of(sample) for sample in some]
        tasks = [FaceTask(sample, key) for sample, key in zip(some, keys, strict=True)]
        finder, backbone = self.finder, self.backbone
        finder(tasks[0])
        batch = crops(backbone.batch_size, backbone.framing)
        measure = wall_of if "cuda" in backbone.made_with["device"] else cpu_of
        with alone():
            vectors = backbone(batch)
            forward = statistics.median(measure(lambda: backbone(batch))() for _ in range(3))
        return {
            "scan": cpu_of(lambda: [content_of(sample) for sample in some])() / len(some),
            "find": cpu_of(lambda: [finder(task) for task in tasks])() / len(some),
            "forward": forward / len(batch),
            "write": cpu_of(lambda: _write(folder, keys, vectors[:1], backbone))() / len(some),
        }

    def bound(self, folder: Path) -> float:
        """The least seconds per photo: all stages on all cores without a gap; a GPU forwards beside them."""
        costs = self.stage_costs(folder)
        beside = costs.pop("forward") if "cuda" in self.backbone.made_with["device"] else 0.0
        return max(sum(costs.values()) / cores(), beside)


def _pipeline(what: str, backbone: Backbone, count: int, settings: Settings) -> dict[str, Any]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        run = Run(photos(folder, count), backbone)
        ours, bound = medians(
            1 if settings.quick else 3, lambda: run.seconds(folder) / count, lambda: run.bound(folder)
        )
    reference = f"cores / processor time of all stages, each alone ({version_of('torch', 'dlib|dlib-bin')})"
    return row(what, ours, bound, reference, "s/photo", bound, settings.machine())


def _write(folder: Path, keys: list[str], vectors: np.ndarray, backbone: Backbone) -> None:
    with TemporaryDirectory(dir=folder) as name:
        store = VectorStore.open(Path(name))
        make_store(store.folder, backbone.recipe())
        store.append(vectors.repeat(len(keys), 0), [CutFace(key, 0, Face(0, 0, 9, 9), 0.3) for key in keys], {})
