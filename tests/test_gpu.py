"""What only a GPU can show: the same boxes, vectors and optima as on the CPU. test_mmod.py compares more boxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurepipe.bench.linear_svm import fc7_like
from featurepipe.cli import main
from featurepipe.devices import has_bf16
from featurepipe.features.backbones import load_backbone
from featurepipe.features.table import FeatureTable
from featurepipe.models import training
from featurepipe.models.baselines.registry import BASELINES
from featurepipe.models.linear_svm import LinearSVM
from featurepipe.models.recorded import Recorded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def test_extract_finds_the_same_boxes_and_nearly_the_same_vectors(rendered, tmp_path):
    pytest.importorskip("face_recognition_models")
    for device in ("cpu", "cuda"):
        command = ["extract", str(rendered), "--backbone", "hog", "--detector", "mmod", "--workers", "2"]
        assert main([*command, "--device", device, "--table", str(tmp_path / device)]) == 0
    cpu, gpu = (FeatureTable.open(tmp_path / device).matrix() for device in ("cpu", "cuda"))
    assert len(cpu) > 60
    np.testing.assert_array_equal(gpu.path, cpu.path)
    np.testing.assert_array_equal(gpu.box, cpu.box)
    np.testing.assert_allclose(gpu.X, cpu.X, atol=1e-3 * np.abs(cpu.X).max())


def test_mmod_is_the_default_detector(rendered, tmp_path):
    pytest.importorskip("face_recognition_models")
    command = ["extract", str(rendered), "--backbone", "hog", "--device", "cuda"]
    assert main([*command, "--table", str(tmp_path / "table")]) == 0
    assert FeatureTable.open(tmp_path / "table").matrix().face_half["detector"] == "mmod"


def test_vectors_in_bf16_point_the_same_way():
    assert has_bf16(torch.device("cuda"))
    crops = np.random.default_rng(0).integers(
        0, 256, (8, *load_backbone("fer-vgg", device="cpu").framing.shape), np.uint8
    )
    exact = load_backbone("fer-vgg", device="cpu", precision="fp32")(crops)
    rounded = load_backbone("fer-vgg", device="cuda", precision="bf16")(crops)
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosine.min() > 0.999


@pytest.mark.parametrize("shape", [(2000, 300), (200, 300)])
@pytest.mark.parametrize("C", [1e-4, 1.0])
def test_the_svm_has_the_same_optimum(shape, C):
    X, y = fc7_like(*shape)
    gpu, cpu = (LinearSVM(C=C, device=device).fit(X, y) for device in ("cuda", None))
    assert gpu.gap_.max() <= gpu.tol
    np.testing.assert_allclose(gpu.objective_, cpu.objective_, rtol=2e-6)
    assert (gpu.predict(X) == cpu.predict(X)).mean() > 0.999


@pytest.mark.parametrize("arch", [name for name, baseline in BASELINES.items() if baseline.recordable])
def test_recorded_steps_train_as_the_others_do(arch, monkeypatch):
    plain, recorded = (_losses(arch, monkeypatch, recordable) for recordable in (False, True))
    np.testing.assert_allclose(recorded, plain, rtol=0.02)
    assert plain[0] != plain[1]


def test_recorded_steps_draw_labels_as_the_others_do(monkeypatch):
    drawn = {"soft_weight": 1.0, "draw_labels": True}
    plain, recorded = (_losses("ednn", monkeypatch, recordable, **drawn) for recordable in (False, True))
    np.testing.assert_allclose(recorded, plain, rtol=0.02)
    assert plain[0] != plain[1]


def test_recorded_steps_go_uphill_as_the_others_do(monkeypatch):
    plain, recorded = (_losses("fer-vgg", monkeypatch, recordable, sharpness=0.1) for recordable in (False, True))
    np.testing.assert_allclose(recorded, plain, rtol=0.02)
    assert plain[0] != plain[1]


def _losses(arch, monkeypatch, recordable, **changes):
    """Mean losses of two epochs on the same random faces; the learning rate is so small that rounding cannot matter."""
    baseline = replace(BASELINES[arch], recordable=recordable)
    recipe = replace(
        baseline.recipe, epochs=2, batch_size=8, lr=baseline.recipe.lr / 10, patience=0, orders=1, **changes
    )
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (80, *baseline.shape), np.uint8)
    used = []
    monkeypatch.setattr(training, "Recorded", lambda *how: used.append(Recorded(*how)) or used[-1])
    trainer = training.Trainer(
        baseline.configured(recipe.network), recipe, 7, device=torch.device("cuda"), precision="fp32", seed=1
    )
    targets, soft = rng.integers(0, 7, 80), rng.dirichlet(np.ones(7), 80)
    trainer.run(faces, targets, soft=soft if changes else None)
    assert len(used) == recordable
    return [row["loss"] for row in trainer.history]
