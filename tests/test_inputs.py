"""Files and checkpoints of CNNs whose architecture was handed another input when they were made."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from featurepipe.errors import ModelError
from featurepipe.landmarks import with_landmarks
from featurepipe.models.baselines.registry import BASELINES, get_baseline
from featurepipe.models.cnn import CNNClassifier, load_cnn
from featurepipe.models.persistence import load_tensors, read_metadata, save_tensors
from featurepipe.models.training import to_unit

SHIPPED = Path(__file__).parent.parent / "weights" / "fer-vgg.safetensors"


def fit(name, **more):
    recipe = dataclasses.replace(get_baseline(name).recipe, epochs=1, batch_size=2)
    faces = np.random.default_rng(0).integers(0, 256, (4, *get_baseline(name).shape), np.uint8)
    return CNNClassifier(name, recipe, device="cpu").fit(faces, ["a", "b"] * 2, **more)


def write_anew(path, document):
    """Write the file anew with another document."""
    tensors = load_tensors(path, "pt")[0]
    save_tensors(path, tensors, document)


@pytest.mark.parametrize("name", ["ednn", "agrawal_a", "agrawal_b"])
def test_files_of_before_faces_were_standardised_are_refused(name, tmp_path):
    fit(name).save(path := tmp_path / "m")
    load_cnn(path, device="cpu")
    write_anew(path, {key: value for key, value in read_metadata(path).items() if key != "inputs"})
    with pytest.raises(ModelError, match=rf"another input than {name} is given by this version.* fit it again"):
        load_cnn(path)


def test_what_ships_does_not_name_its_input_and_opens():
    assert "inputs" not in read_metadata(SHIPPED)
    assert load_cnn(SHIPPED, device="cpu").arch == "fer-vgg"


def test_files_of_a_later_input_are_refused(tmp_path):
    fit("seed_cnn").save(path := tmp_path / "m")
    write_anew(path, read_metadata(path) | {"inputs": 2})
    with pytest.raises(ModelError, match="another input than seed_cnn"):
        load_cnn(path)


def test_checkpoints_of_another_input_are_refused(tmp_path, monkeypatch):
    fit("seed_cnn", checkpoint=tmp_path / "c")
    fit("seed_cnn", checkpoint=tmp_path / "c", resume=True)
    monkeypatch.setitem(BASELINES, "seed_cnn", dataclasses.replace(BASELINES["seed_cnn"], inputs=2))
    with pytest.raises(ModelError, match="checkpoint"):
        fit("seed_cnn", checkpoint=tmp_path / "c", resume=True)


PINNED = {
    "seed_cnn": (1, (100, 100), 0.217, 0.000),
    "fer-vgg": (1, (48, 48), 0.995, -2.267),
    "mollahosseini_inception": (1, (48, 48), 0.220, 0.000),
    "lopes_cnn": (1, (97, 96), 0.292, -1.120),
    "pacnn": (1, (226, 224, 3), 0.216, 0.000),
    "gacnn": (1, (234, 232, 3), 0.209, 0.016),
    "sbn_cnn": (1, (48, 48), 0.220, 0.000),
    "agrawal_a": (2, (64, 64), 0.996, -2.269),
    "agrawal_b": (2, (64, 64), 0.996, -2.269),
    "ednn": (2, (48, 48), 0.996, -2.257),
    "dlsvm": (1, (48, 48), 3.572, -8.088),
    "dlsvm_paper": (1, (48, 48), 3.572, -8.088),
    "kc_vgg": (1, (48, 48), 0.183, 0.082),
    "ferplus_vgg13": (1, (64, 64), 1.000, 5.455),
    "kim_cnn_lstm": (1, (5, 64, 64), 0.995, -2.269),
    "stc_nlstm": (1, (16, 64, 64), 0.995, -2.269),
}
"""By architecture: version of the input, shape of a face, deviation and first value of what is made of that."""


@pytest.mark.parametrize("name", BASELINES)
def test_another_input_is_another_version(name):
    """Where this fails raise `inputs` of the baseline: models that were fitted before would predict wrongly."""
    baseline = get_baseline(name)
    view = baseline.views(to_unit(rising(baseline), torch.device("cpu")), 1)[0]
    pixels = view if isinstance(view, torch.Tensor) else view.view
    deviation, first = pixels.std().item(), pixels[0, 0, 0, 0].item()
    assert (baseline.inputs, baseline.shape) == PINNED[name][:2]
    assert (deviation, first) == pytest.approx(PINNED[name][2:], abs=0.01)


def rising(baseline):
    """One face, or a sequence of it, that brightens to the right and, twice as fast, downwards; landmarks in a row."""
    framing, edge = baseline.framing, np.linspace(0, 85, baseline.framing.size)
    face = np.add.outer(2 * edge, edge).astype(np.uint8)
    if framing.mode == "RGB":
        face = np.stack([face] * 3, axis=-1)
    if framing.points:
        face = with_landmarks(face, np.linspace([0.7, 0.35], [0.3, 0.45], framing.points))
    return np.stack([face] * baseline.frames)[None] if baseline.timeline else face[None]
