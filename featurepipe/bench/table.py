"""Reading what is stored, and running again over what has not changed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import featurepipe
from featurepipe.bench.material import photos
from featurepipe.bench.pipeline import Run
from featurepipe.bench.rows import Settings, medians, row, version_of, wall_of
from featurepipe.features.backbones import load_backbone
from featurepipe.features.extraction import PART_BYTES, content_of
from featurepipe.features.stores import CutFace, Found
from featurepipe.features.table import FeatureTable, SampleRow, writing
from featurepipe.records import Face, Sample

DIMENSIONS = 4096


def cache_read(settings: Settings) -> dict[str, Any]:
    """Vectors with their labels from a feature table, against NumPy reading the vectors alone; both add them up."""
    count = 4096 if settings.quick else 28_709
    with TemporaryDirectory() as name:
        folder = Path(name)
        vectors = np.random.default_rng(0).random((count, DIMENSIONS), np.float32)
        _fill(folder / "table", vectors)
        np.save(folder / "vectors.npy", vectors)
        del vectors
        ours, theirs = medians(
            5,
            wall_of(lambda: FeatureTable.open(folder / "table").matrix().X.sum()),
            wall_of(lambda: np.load(folder / "vectors.npy").sum()),
        )
    return row("cache-read", ours / count, theirs / count, f"{version_of('numpy')}: load", "s/face", None)


def rerun(settings: Settings) -> dict[str, Any]:
    """The second extraction over the same photos, against the first; the floor is reading and hashing them."""
    count = 128 if settings.quick else 1504
    backbone = load_backbone("fer-vgg", device=settings.device)
    with TemporaryDirectory() as name:
        samples = photos(Path(name), count)
        run = Run(samples, backbone)
        first = wall_of(lambda: run.into(Path(name) / "table"))()
        again, hashing = medians(
            3,
            wall_of(lambda: run.into(Path(name) / "table")),
            wall_of(lambda: [content_of(sample) for sample in samples]),
        )
    reference = f"featurepipe {featurepipe.__version__}, first run"
    return row("rerun", again / count, first / count, reference, "s/photo", hashing / count, settings.machine())


def _fill(folder: Path, vectors: np.ndarray) -> None:
    """A feature table with one face, one vector and one label for each of so many photos, in parts as extract makes."""
    feature_half = {"format": 1, "backbone": "bench", "weights": None, "layer": "fc7", "preprocessing": "", "views": 1}
    face_half = {"detector": "none", "detector_weights": None, "max_side": None, "margin": 0.0, "policy": "largest"}
    keys = [f"{number:064x}" for number in range(len(vectors))]
    face, size = Face(0, 0, 47, 47), PART_BYTES // vectors[0].nbytes
    with writing(folder, face_half, feature_half) as writer:
        for start in range(0, len(keys), size):
            some = keys[start : start + size]
            writer.faces.append({key: Found("ok", "", (face,)) for key in some})
            writer.vectors.append(vectors[start : start + size], [CutFace(key, 0, face, 0.0) for key in some], {})
        writer.finish(SampleRow(Sample(f"{key}.jpg", "anger"), key, "ok", "") for key in keys)
