"""Finding faces, against dlib called as its examples call it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import featurepipe
from featurepipe.bench.material import photos
from featurepipe.bench.rows import Settings, alone, cpu_of, medians, row, version_of, wall_of
from featurepipe.faces.detectors import Detect, DetectorSpec
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.images import decode, read_photo
from featurepipe.features.extraction import content_of
from featurepipe.features.workers import Workers, worth_starting
from featurepipe.machine import cores
from featurepipe.records import FaceTask

MMOD_OPERATIONS = 2 * 1.67e9
"""Additions and multiplications of dlib's CNN detector for a photo of 350 x 350, as its network is written."""


def mmod_cpu(settings: Settings) -> dict[str, Any]:
    """dlib's CNN detector, ours in PyTorch against dlib's own, both on one core."""
    ours, theirs = DetectorSpec("mmod").build(), DetectorSpec("dlib-mmod").build()
    images = _images(2 if settings.quick else 8)
    with alone():
        _all(ours, images)
        ours_s, theirs_s = medians(
            settings.rounds, cpu_of(lambda: _all(ours, images)), cpu_of(lambda: _all(theirs, images))
        )
    count = len(images)
    return row("mmod-cpu", ours_s / count, theirs_s / count, f"{_dlib()}, one core", "s/photo and core", None)


def mmod_gpu(settings: Settings) -> dict[str, Any]:
    """dlib's CNN detector in PyTorch on a GPU, 64 photos at a time, against itself on one core of the same machine."""
    from featurepipe.bench.forward import products_per_second
    from featurepipe.faces.mmod import MmodDetector

    gpu, core = (DetectorSpec("mmod", device=device).build() for device in (settings.device, "cpu"))
    assert isinstance(gpu, MmodDetector)
    images = _images(64)
    gpu.batch(images)
    with alone():
        ours, theirs = medians(3, wall_of(lambda: gpu.batch(images)), cpu_of(lambda: _all(core, images[:4])))
    floor = MMOD_OPERATIONS / products_per_second(settings.device, None)
    name = f"featurepipe {featurepipe.__version__} on one core"
    return row("mmod-gpu", ours / len(images), theirs / 4, name, "s/photo", floor, settings.machine())


def hog_cpu(settings: Settings) -> dict[str, Any]:
    """dlib's HOG detector in worker processes, against one photo after the other."""
    with TemporaryDirectory() as name:
        samples = photos(Path(name), 96 if settings.quick else 1000)
        tasks = [FaceTask(sample, content_of(sample)) for sample in samples]
        finder = FaceFinder(DetectorSpec("hog"), None, "largest")
        detect = DetectorSpec("hog").build()
        some = samples[:64]
        with Workers(finder, max(1, worth_starting(len(tasks))), 4 * cores()) as pool:
            list(pool.results(tasks[:16]))  # the processes stand
            ours, theirs = medians(
                settings.rounds,
                wall_of(lambda: list(pool.results(tasks))),
                wall_of(lambda: [detect(decode(read_photo(sample.path))) for sample in some]),
            )
    theirs /= len(some)
    name = f"{_dlib()}, one photo at a time"
    return row("hog-cpu", ours / len(tasks), theirs, name, "s/photo", theirs / cores())


def _images(count: int) -> list[np.ndarray]:
    with TemporaryDirectory() as name:
        return [decode(read_photo(sample.path)) for sample in photos(Path(name), count)]


def _all(detect: Detect, images: list[np.ndarray]) -> None:
    for image in images:
        detect(image)


def _dlib() -> str:
    return version_of("dlib|dlib-bin")
