"""The whole pipeline against what its stages cost one by one, and against the loop that users write."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from featurepipe.bench.material import crops, photos, samples, seeded_vgg_face, seeded_vgg_face_int8
from featurepipe.bench.rows import Settings, alone, cpu_of, medians, row, version_of, wall_of
from featurepipe.faces.detectors import Detect, DetectorSpec, default_detector, shrunk
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.images import decode, read_photo
from featurepipe.faces.serving import shared
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
    return _pipeline("pipeline-vgg-face", backbone, 32 if settings.quick else 384, settings)


def pipeline_fer_vgg(settings: Settings) -> dict[str, Any]:
    """fer-vgg as it ships: decoding and detecting cost most."""
    backbone = load_backbone("fer-vgg", device=settings.device)
    return _pipeline("pipeline-fer-vgg", backbone, 256 if settings.quick else 1504, settings)


def pipeline_stored_boxes(settings: Settings) -> dict[str, Any]:
    """vgg-face with seeded weights on photos whose boxes an earlier run has stored."""
    backbone = seeded_vgg_face(settings.device)
    count = 32 if settings.quick else 384
    return _pipeline("pipeline-stored-boxes", backbone, count, settings, boxes_known=True)


def users_loop(settings: Settings) -> dict[str, Any]:
    """The whole pipeline with VGG-16, against one photo after the other: decode, dlib, VGG-16 in fp32, append."""
    return _users_loop("users-loop", seeded_vgg_face(settings.device), settings)


def users_loop_int8(settings: Settings) -> dict[str, Any]:
    """The same with VGG-16 in int8, on the CPU; what measures and checks it before is not counted."""
    return _users_loop("users-loop-int8", seeded_vgg_face_int8(), replace(settings, device="cpu"))


def _users_loop(what: str, backbone: Backbone, settings: Settings) -> dict[str, Any]:
    from featurepipe.bench.forward import torchvision_vgg16

    count, few = (24, 8) if settings.quick else (192, 16)
    network, detect = torchvision_vgg16(settings.device), DetectorSpec("hog").build()
    with TemporaryDirectory() as name:
        run = Run(photos(Path(name), count), backbone)
        ours, theirs = medians(
            settings.rounds,
            lambda: run.seconds(Path(name)) / count,
            lambda: _loop(run.samples[:few], detect, network) / few,
        )
    reference = f"loop over Pillow, dlib, VGG-16 in fp32: {version_of('pillow', 'dlib|dlib-bin', 'torchvision')}"
    return row(what, ours, theirs, reference, "s/photo", None, settings.machine())


def _loop(samples: Sequence[Sample], detect: Detect, network: Callable[[np.ndarray], np.ndarray]) -> float:
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
    """Photos through the whole pipeline: faces by HOG on a CPU, by mmod on a GPU."""

    samples: Sequence[Sample]
    backbone: Backbone

    @property
    def spec(self) -> DetectorSpec:
        """The detector that is the default where the networks run."""
        device = str(self.backbone.made_with["device"])
        return DetectorSpec(default_detector(device), device=device)

    @property
    def on_gpu(self) -> bool:
        """Whether the networks run elsewhere than on the processor."""
        return bool(self.backbone.made_with["device"] != "cpu")

    def finder(self, detect: Detect | None = None) -> FaceFinder:
        """The face stage."""
        return FaceFinder(self.spec, self.backbone.framing, "largest", detect=detect)

    def into(self, table: Path) -> None:
        """Bring a feature table up to date."""
        with shared(self.spec) as detect:
            finder = self.finder(detect)
            extract(self.samples, table, finder, self.backbone, finder.recipe(), workers=None)

    def seconds(self, folder: Path, *, boxes_known: bool = False) -> float:
        """Seconds by the clock to a feature table that was not there, or that has the boxes and no vectors."""
        with TemporaryDirectory(dir=folder) as name:
            table = Path(name)
            if boxes_known:
                self.into(table)
                shutil.rmtree(table / "vectors")
            return wall_of(lambda: self.into(table))()

    def bound(self, folder: Path, rounds: int, *, boxes_known: bool = False) -> float:
        """The least seconds per photo: all stages on all cores and no gap; a GPU detects and forwards beside them."""
        costs = self._on_cores(folder, boxes_known=boxes_known)
        beside = self._forward_cost(rounds)
        if not self.on_gpu:
            return (costs + beside) / cores()
        return max(costs / cores(), beside + (0 if boxes_known else self._detect_cost()))

    def _on_cores(self, folder: Path, *, boxes_known: bool) -> float:
        """Seconds of a core per photo to scan, find and write, each alone; a GPU finds the boxes."""
        tasks, finder = self._tasks(), self.finder()
        if boxes_known or self.on_gpu:
            tasks = [replace(task, known=finder(task).faces) for task in tasks]
        finder(tasks[0])
        keys = [task.content for task in tasks]
        vectors = self.backbone(crops(self.backbone.batch_size, self.backbone.framing))[:1]
        stages: list[Callable[[], object]] = [
            lambda: [content_of(task.sample) for task in tasks],
            lambda: [finder(task) for task in tasks],
            lambda: _write(folder, keys, vectors, self.backbone),
        ]
        with alone():
            return sum(cpu_of(stage)() for stage in stages) / len(tasks)

    def _forward_cost(self, rounds: int) -> float:
        """Seconds per crop: of a core, or of the GPU by the clock."""
        batch = crops(self.backbone.batch_size, self.backbone.framing)
        measure = wall_of if self.on_gpu else cpu_of
        with alone():
            self.backbone(batch)
            return statistics.median(measure(lambda: self.backbone(batch))() for _ in range(rounds)) / len(batch)

    def _detect_cost(self) -> float:
        """Seconds of the GPU per photo, by the clock, many at a time."""
        detector: Any = self.spec.build()
        images = [shrunk(decode(read_photo(task.sample.path)), self.spec.max_side) for task in self._tasks()]
        detector.batch(images)
        return statistics.median(wall_of(lambda: detector.batch(images))() for _ in range(3)) / len(images)

    def _tasks(self) -> list[FaceTask]:
        return [FaceTask(sample, content_of(sample)) for sample in self.samples[:FEW]]


def _pipeline(
    what: str, backbone: Backbone, count: int, settings: Settings, *, boxes_known: bool = False
) -> dict[str, Any]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        run = Run(samples(settings, folder, count), backbone)
        ours, bound = medians(
            settings.rounds,
            lambda: run.seconds(folder, boxes_known=boxes_known) / len(run.samples),
            lambda: run.bound(folder, settings.rounds, boxes_known=boxes_known),
        )
    found_by = version_of("dlib|dlib-bin") if run.spec.name == "hog" else f"{run.spec.name} on {run.spec.device}"
    reference = f"cores / processor time of all stages, each alone ({version_of('torch')}, {found_by})"
    return row(what, ours, bound, reference, "s/photo", bound, settings.machine())


def _write(folder: Path, keys: list[str], vectors: np.ndarray, backbone: Backbone) -> None:
    with TemporaryDirectory(dir=folder) as name:
        store = VectorStore.open(Path(name))
        make_store(store.folder, backbone.recipe())
        store.append(vectors.repeat(len(keys), 0), [CutFace(key, 0, Face(0, 0, 9, 9), 0.3) for key in keys], {})
