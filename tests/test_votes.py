"""FER+'s rules for labels from votes: on vectors counted by hand, and in `fit_cnn --votes` on a small fake copy."""

import math

import numpy as np
import pytest
import torch
import trees_web as trees
from command_helpers import run

from featurepipe.cli import main
from featurepipe.datasets.readers import read_source
from featurepipe.datasets.votes import by_votes, distributions, shares
from featurepipe.errors import InputError
from featurepipe.models.augment import drawn
from featurepipe.models.baselines.registry import BASELINES
from featurepipe.models.cnn import CNNClassifier, load_cnn
from featurepipe.models.training import _loss
from featurepipe.models.training_recipe import TrainingRecipe

ORDERED = [
    ("happiness=6 neutral=4", {"happiness": 0.6, "neutral": 0.4}),
    ("happiness=8 neutral=2", {"happiness": 1.0}),  # three quarters are covered
    ("happiness=5 neutral=4 fear=1", {"happiness": 5 / 9, "neutral": 4 / 9}),  # a single vote is none
    ("anger=4 fear=2 sadness=2 NF=2", {"anger": 0.5, "fear": 0.25, "sadness": 0.25}),
    ("anger=6 unknown=4", {"anger": 1.0}),  # nothing is taken after unknown
    ("anger=4 unknown=4 fear=2", {}),  # four of ten are covered
    ("anger=5 unknown=3 fear=2", {}),  # half is not more than half
    ("unknown=5 anger=3 fear=2", {}),
    ("NF=6 anger=4", {}),
    ("anger=2 fear=2 sadness=2 happiness=2 neutral=2", {}),  # more than three
    ("anger=4 fear=2 sadness=2 happiness=2", {}),  # no order among the last three
    ("anger=1 fear=1", {}),
    ("", {}),
]
SEVERAL = [
    ("anger=4 sadness=3 fear=3", {"anger": 1 / 3, "sadness": 1 / 3, "fear": 1 / 3}),  # three tenths are enough
    ("anger=7 sadness=2", {"anger": 1.0}),
    ("anger=5 sadness=3 unknown=2", {"anger": 0.5, "sadness": 0.5}),
    ("anger=4 unknown=6", {}),
    ("anger=4 fear=2 sadness=2 NF=2", {}),  # four of ten have three tenths together
    ("anger=5 fear=2 sadness=2 contempt=1", {"anger": 1.0}),  # five of nine: a single vote is none
    ("anger=3 unknown=3 fear=2 sadness=2", {"anger": 1.0}),  # unknown is of the six that have them
    ("anger=2 fear=2 sadness=2 happiness=2 neutral=2", {}),  # a fifth each
]


@pytest.mark.parametrize("rule", ["probability", "cross-entropy"])
@pytest.mark.parametrize(("votes", "shown"), ORDERED)
def test_most_frequent_emotions(votes, shown, rule):
    assert shares(trees.votes_of(votes), rule) == pytest.approx(shown)


@pytest.mark.parametrize(("votes", "shown"), SEVERAL)
def test_several_accepted_emotions(votes, shown):
    assert shares(trees.votes_of(votes), "multi-target") == pytest.approx(shown)


ROWS = (
    *(("Training", f"fer{number:07}.png", "happiness=8 neutral=2") for number in range(8)),
    *(("Training", f"fer{number:07}.png", "neutral=6 sadness=4") for number in range(8, 20)),
    *(("Training", f"fer{number:07}.png", "neutral=5 sadness=5") for number in range(20, 24)),  # no majority
    *(("Training", f"fer{number:07}.png", "unknown=10") for number in range(24, 26)),
    *(("PublicTest", f"fer{number:07}.png", "happiness=6 neutral=4") for number in range(26, 28)),
    ("PublicTest", "fer0000028.png", "neutral=5 sadness=5"),
    ("PrivateTest", "fer0000029.png", "neutral=10"),
)


@pytest.fixture
def copy(tmp_path):
    trees.ferplus_list(tmp_path / "ferplus", ROWS)
    trees.fer2013_rows(tmp_path / "ferplus", ROWS)
    return tmp_path / "ferplus"


def test_photos_without_majority_are_fitted_on_but_neither_chosen_nor_tested_on(copy):
    source = read_source(str(copy))
    assert len(source.samples) == 22  # row 8 is black
    voted = by_votes(source, "cross-entropy")
    assert [sample.split for sample in voted.samples].count("train") == 19 + 4
    added = [sample for sample in voted.samples if sample.raw_label == "unknown"]
    assert {(sample.label, sample.split) for sample in added} == {("neutral", "train")}
    assert [one.label for one in voted.samples if one.split == "val"] == ["happiness", "happiness"]
    given = distributions([voted.samples[0], added[0]], "cross-entropy", ["happiness", "neutral"])
    assert given.tolist() == [[1, 0], [0, 1]]  # nobody's label is sadness
    assert distributions(added[:1], "cross-entropy", ["neutral", "sadness"]).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("majority", {"soft_weight": 0.0, "draw_labels": False, "loss": "cross-entropy"}),
        ("probability", {"soft_weight": 1.0, "draw_labels": True, "loss": "cross-entropy"}),
        ("cross-entropy", {"soft_weight": 1.0, "draw_labels": False, "loss": "cross-entropy"}),
        ("multi-target", {"soft_weight": 1.0, "draw_labels": False, "loss": "multi-target"}),
    ],
)
def test_fit_cnn_learns_by_each_rule(rule, settings, copy, tmp_path, capsys):
    (tmp_path / "short.toml").write_text("epochs = 2\nbatch_size = 8\n[network]\nhead = 'softmax'\n")
    file = tmp_path / "model.safetensors"
    asked = ["fit_cnn", copy, "--arch", "seed_cnn", "--recipe", tmp_path / "short.toml", "--votes", rule]
    fitted = run(capsys, *asked, "--model", file, "--workers", 0)
    assert fitted["samples"] == {"happiness": 8, "neutral": 11 + 4 * (rule != "majority")}
    assert fitted["command"]["votes"] == rule
    assert all(math.isfinite(row["loss"]) for row in fitted["history"])
    learnt = load_cnn(file, device="cpu").recipe_.document()
    assert {name: learnt[name] for name in settings} == settings


@pytest.mark.parametrize("rule", ["probability", "multi-target"])
def test_a_recipe_of_another_loss_leaves_what_goes_with_it(rule, copy, tmp_path, capsys):
    """fer-vgg smooths the labels of its cross-entropy: it was refused for that, after all faces had been found."""
    (tmp_path / "short.toml").write_text("epochs = 1\nbatch_size = 8\n[network]\nwidth = 0.125\n")
    asked = ["fit_cnn", copy, "--arch", "fer-vgg", "--recipe", tmp_path / "short.toml", "--votes", rule]
    fitted = run(capsys, *asked, "--model", tmp_path / "model.safetensors", "--workers", 0)
    assert fitted["command"]["votes"] == rule
    smoothing = load_cnn(tmp_path / "model.safetensors", device="cpu").training_recipe.label_smoothing
    assert smoothing == (0.1 if rule == "probability" else 0.0)


@pytest.mark.parametrize("arch", BASELINES)
def test_every_architecture_learns_by_every_rule_or_is_refused_before_faces_are_looked_for(arch, copy, capsys):
    """The recipe is checked as the rule has changed it, not before: SOURCE, which is not there, is not looked at."""
    for rule in ("probability", "cross-entropy", "multi-target"):
        assert main(["fit_cnn", "nowhere", "--arch", arch, "--votes", rule, "--model", "m"]) == 2
        said = capsys.readouterr().err
        assert ("nowhere" in said) != (rule == "multi-target" and arch in ("seed_cnn", "dlsvm", "dlsvm_paper"))
        assert "label_smoothing" not in said


def test_fit_cnn_says_how_many_photos_a_rule_leaves(copy, tmp_path, capsys):
    (tmp_path / "short.toml").write_text("epochs = 1\nbatch_size = 8\n")
    asked = ["fit_cnn", copy, "--arch", "seed_cnn", "--recipe", tmp_path / "short.toml", "--votes", "cross-entropy"]
    assert main([*map(str, asked), "--model", str(tmp_path / "model.safetensors"), "--workers", "0"]) == 0
    told = capsys.readouterr().err
    assert "votes by the rule cross-entropy: 23 photos to fit on, 19 have a majority's label" in told


@pytest.mark.parametrize(
    ("source", "more", "why"),
    [
        ("faces", ["--votes", "probability"], "has no votes: give FER+"),
        ("ferplus", ["--votes", "probability", "--folds", "2"], "leave out --folds and --soft-labels"),
        ("ferplus", ["--votes", "multi-target"], "head = 'sigmoid' with loss = 'multi-target'"),
    ],
)
def test_what_votes_do_not_go_with_is_refused(source, more, why, copy, rendered, tmp_path, capsys):
    place = {"faces": rendered / "samples.csv", "ferplus": copy}[source]
    asked = ["fit_cnn", place, "--arch", "seed_cnn", *more, "--model", tmp_path / "model.safetensors"]
    assert main([str(word) for word in asked]) == 2
    assert why in capsys.readouterr().err
    assert not list(tmp_path.glob("model*"))


def test_labels_are_drawn_by_their_probabilities():
    shares_of = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    rows = drawn(shares_of.repeat(20_000, 1), torch.Generator().manual_seed(0))
    assert rows.sum(1).eq(1).all()
    assert rows.eq(1).sum().item() == len(rows)
    assert torch.allclose(rows[0::2].mean(0), shares_of[0], atol=0.012)
    assert torch.equal(rows[1::2].mean(0), shares_of[1])


def recipe(**changes):
    return TrainingRecipe(epochs=2, batch_size=8, lr=0.05, network={"head": "softmax"}, **changes)


def faces_and_labels():
    faces = np.random.default_rng(0).integers(0, 256, (24, 100, 100), dtype=np.uint8)
    return faces, np.array(["anger", "fear", "neutral"] * 8)


def loss_of_first_epoch(changes, soft):
    faces, labels = faces_and_labels()
    model = CNNClassifier("seed_cnn", recipe(**changes), device="cpu").fit(faces, labels, soft_labels=soft)
    return model.training["history"]


def test_certain_soft_labels_that_are_drawn_are_the_labels():
    certain = np.eye(3)[[0, 1, 2] * 8]
    plain = loss_of_first_epoch({}, None)
    drawn_history = loss_of_first_epoch({"soft_weight": 1.0, "draw_labels": True}, certain)
    assert [row["loss"] for row in drawn_history] == [row["loss"] for row in plain]


def test_every_epoch_draws_anew_and_every_seed_the_same():
    half = np.tile([0.5, 0.5, 0.0], (24, 1))
    changes = {"soft_weight": 1.0, "draw_labels": True}
    one, two = (loss_of_first_epoch(changes, half) for _ in range(2))
    assert [row["loss"] for row in one] == [row["loss"] for row in two]
    assert [row["loss"] for row in one] != [row["loss"] for row in loss_of_first_epoch({"soft_weight": 1.0}, half)]


def test_the_loss_of_several_accepted_emotions_is_that_of_the_likeliest():
    """Barsoum et al. 2016: -log max(t p), t = 1 for accepted classes and 0.001 for the others."""
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.9995, 0.0003, 0.0002]]))
    wanted = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    by_hand = -(math.log(0.5) + math.log(0.3) + math.log(0.001 * 0.9995)) / 3
    assert _loss(scores, wanted, recipe(loss="multi-target")).item() == pytest.approx(by_hand, rel=1e-5)


def test_labels_cannot_be_drawn_where_soft_labels_do_not_count():
    with pytest.raises(InputError, match="draw_labels"):
        recipe(draw_labels=True)
