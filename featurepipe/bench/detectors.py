"""Finding faces, against dlib called as its examples call it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from featurepipe.bench.material import photos
from featurepipe.bench.rows import Settings, alone, cpu_of, medians, row, version_of, wall_of
from featurepipe.faces.detectors import Detect, DetectorSpec
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.images import decode, read_photo
from featurepipe.features.extraction import content_of
from featurepipe.features.workers import Workers, worth_starting
from featurepipe.machine import cores
from featurepipe.records import FaceTask


def mmod_cpu(settings: Settings) -> dict[str, Any]:
    """dlib's CNN detector, ours in PyTorch against dlib's own, both on one core."""
    ours, theirs = DetectorSpec("mmod").build(), DetectorSpec("dlib-mmod").build()
    images = _images(2 if settings.quick else 8)
    with alone():
        ours_s, theirs_s = medians(3, cpu_of(lambda: _all(ours, images)), cpu_of(lambda: _all(theirs, images)))
    count = len(images)
    return row("mmod-cpu", ours_s / count, theirs_s / count, f"{_dlib()}, one core", "s/photo and core", None)


def mmod_gpu(settings: Settings) -> dict[str, Any]:
    """dlib's CNN detector in PyTorch on a GPU, several photos at a time, against dlib on one core."""
    from featurepipe.faces.mmod import MmodDetector

    ours, theirs = DetectorSpec("mmod", device=settings.device).build(), DetectorSpec("dlib-mmod").build()
    assert isinstance(ours, MmodDetector)
    images = _images(64)
    ours.batch(images)
    ours_s, theirs_s = medians(3, wall_of(lambda: ours.batch(images)), cpu_of(lambda: _all(theirs, images[:2])))
    machine = settings.machine()
    return row("mmod-gpu", ours_s / 64, theirs_s / 2, f"{_dlib()}, one core", "s/photo", None, machine)


def hog_cpu(settings: Settings) -> dict[str, Any]:
    """dlib's HOG detector in worker processes, against one photo after the other."""
    with TemporaryDirectory() as name:
        samples = photos(Path(name), 192 if settings.quick else 1000)
        tasks = [FaceTask(sample, content_of(sample)) for sample in samples]
        finder = FaceFinder(DetectorSpec("hog"), None, "largest")
        detect = DetectorSpec("hog").build()
        some = samples[:64]
        with Workers(finder, max(1, worth_starting(len(tasks))), 4 * cores()) as pool:
            list(pool.results(tasks[:16]))  # the processes stand
            ours, theirs = medians(
                3,
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
