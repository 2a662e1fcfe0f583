"""What ships answers what it answered when its figures were measured, on one crop that numbers alone make."""

import numpy as np
import pytest

from featurepipe.features.backbones import load_backbone
from featurepipe.models.persistence import load_model
from featurepipe.weights import get_record, shipped_svm

CROP = (np.add.outer(np.arange(48) * 3, np.arange(48) * 2) % 256).astype(np.uint8)


def test_the_shipped_network_and_svm_answer_as_they_did():
    """fp32 on a CPU; processors differ by less than a thousandth. Another scaling of the crop gives 1165 for 1285."""
    fc7 = load_backbone("fer-vgg", device="cpu", precision="fp32")(CROP[None])
    assert fc7.shape == (1, 4096)
    assert fc7.sum() == pytest.approx(1285.18, rel=1e-3)
    assert (fc7 > 0).sum() == pytest.approx(3226, abs=5)
    assert np.sort(fc7[0])[:-6:-1] == pytest.approx([1.5511, 1.5059, 1.4682, 1.4364, 1.4302], rel=1e-3)
    decisions = load_model(shipped_svm()).decision_function(fc7)[0]
    expected = [-0.2248, -0.9476, -0.6244, -0.7799, -0.9202, -0.6610, -0.8422]
    assert decisions == pytest.approx(expected, abs=2e-3)


def test_the_shipped_network_is_fed_as_its_figures_were_measured():
    record = get_record("fer-vgg")
    framing = record.framing
    assert (framing.size, framing.mode, framing.margin, framing.shift, framing.equalise) == (48, "L", 0.3, -0.08, True)
    assert record.views == 2


def test_one_view_of_the_shipped_network_takes_less_than_600_million_multiply_adds():
    cost = load_backbone("fer-vgg", device="cpu", views=1).cost()
    assert 0 < cost.multiply_adds <= 600_000_000
