"""Recipes of surveyed systems against what their authors say or release (baselines.md sections 2, 3, 5, 10 to 12)."""

import dataclasses

import numpy as np
import pytest
import torch

from featurepipe.errors import InputError
from featurepipe.models.baselines.registry import get_baseline
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.training import SHARES, Trainer, check_recipe
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe, read_recipe
from featurepipe.networks.views import cut_views

RATES = [
    ("mollahosseini_inception", {0: 0.01, 0.75: 0.005}),
    ("dlsvm", {0: 0.05, 0.4: 0.025, 0.7: 0.005 / 2.75, 0.9: 0.0005 / 3.25}),
    ("kc_vgg", {0: 0.01, 0.9: 0.01}),
    # 0.05, 0.025 and 0.005 from epochs 0, 20 and 40 of 100, by CNTK's momentum, which weighs gradients by 1 - 0.9
    ("ferplus_vgg13", {0: 0.005, 0.19: 0.005, 0.2: 0.0025, 0.39: 0.0025, 0.4: 0.0005, 0.99: 0.0005}),
    ("sbn_cnn", {0: 0.01, 0.6: 0.001, 0.8: 0.0001}),
]


@pytest.mark.parametrize(("name", "rates"), RATES)
def test_learning_rates_at_shares_of_the_training(name, rates):
    recipe = get_baseline(name).recipe
    share = SHARES[recipe.schedule]
    assert {done: recipe.lr * share(done, recipe, []) for done in rates} == pytest.approx(rates)


@pytest.mark.parametrize(
    ("name", "nesterov"),
    [("kc_vgg", True), ("dlsvm", False), ("ferplus_vgg13", False), ("lopes_cnn", False), ("pacnn", False)],
)
def test_only_where_the_authors_say_so_momentum_is_nesterovs(name, nesterov):
    assert optimiser_of(name).defaults["nesterov"] is nesterov


@pytest.mark.parametrize(
    ("name", "decays"),
    [("kc_vgg", [1e-4, 1e-4, 1e-4]), ("dlsvm", [1e-4, 0.02, 0]), ("ferplus_vgg13", [0, 0, 0])],
)
def test_weight_decay_of_matrices_of_the_last_one_and_of_the_rest(name, decays):
    assert [group["weight_decay"] for group in optimiser_of(name).param_groups] == decays


def optimiser_of(name):
    baseline, device = get_baseline(name), torch.device("cpu")
    light = {"width": 0.03, "shared": 1.0} if "width" in baseline.recipe.network else {}
    recipe = dataclasses.replace(baseline.recipe, network={**baseline.recipe.network, **light})
    return Trainer(baseline, recipe, 7, device=device, precision="fp32", seed=0).optimiser


def test_momentum_of_the_first_tenth():
    """Twenty epochs: two of them with a momentum of 0.5."""
    own = get_baseline("dlsvm").recipe
    recipe = dataclasses.replace(own, epochs=20, batch_size=4, lr=1e-3, augmentation=Augmentation())
    trainer = Trainer(get_baseline("dlsvm"), recipe, 2, device=torch.device("cpu"), precision="fp32", seed=0)
    faces, seen = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8), []
    trainer.run(
        faces,
        np.array([0, 1, 0, 1]),
        after_epoch=lambda history: seen.append(trainer.optimiser.param_groups[0]["momentum"]),
    )
    assert seen == [0.5] * 2 + [0.9] * 18


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_momentum_goes_with_the_optimiser_that_has_it(optimiser):
    """TOML has no word for none: a file that changes the optimiser could not take early_momentum away."""
    baseline = get_baseline("dlsvm")
    recipe = TrainingRecipe.from_document({"optimiser": optimiser}, baseline.recipe)
    check_recipe(recipe, baseline)
    expected = {"adam": (0.0, None, True), "sgd": (0.9, 0.5, False)}[optimiser]
    assert (recipe.momentum, recipe.early_momentum, recipe.nesterov) == expected
    named = TrainingRecipe.from_document({"optimiser": "adam", "momentum": 0.9}, baseline.recipe)
    with pytest.raises(InputError, match="has no effect but with optimiser"):
        check_recipe(named, baseline)


def test_label_smoothing_goes_with_the_cross_entropy():
    baseline = get_baseline("fer-vgg")
    recipe = TrainingRecipe.from_document({"loss": "squared-hinge"}, baseline.recipe)
    check_recipe(recipe, baseline)
    assert (recipe.label_smoothing, baseline.recipe.label_smoothing) == (0.0, 0.1)


def test_the_rate_follows_its_schedule_within_an_epoch(monkeypatch):
    """Two epochs of three steps: the rates at no, 1, 2, ... sixths of the training."""
    changes = {"epochs": 2, "batch_size": 4, "schedule": "polynomial", "lr": 0.01}
    baseline, seen = get_baseline("seed_cnn"), []
    recipe = dataclasses.replace(baseline.recipe, **changes)
    trainer = Trainer(baseline, recipe, 2, device=torch.device("cpu"), precision="fp32", seed=0)
    monkeypatch.setattr(trainer, "_update", lambda before: seen.append(trainer.optimiser.param_groups[0]["lr"]))
    trainer.run(np.zeros((12, *baseline.shape), np.uint8), np.arange(12) % 2)
    assert seen == pytest.approx([0.01 * np.sqrt(1 - step / 6) for step in range(6)])


@pytest.mark.parametrize("seed", range(3))
def test_plateaus_are_those_of_torch(seed):
    scores = np.random.default_rng(seed).integers(40, 60, 80) / 100
    parameter = torch.nn.Parameter(torch.zeros(1))
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([parameter], lr=1.0), mode="max", factor=0.75, patience=5
    )
    recipe, history = TrainingRecipe(epochs=80, batch_size=2, lr=1.0, schedule="plateau"), []
    for score in scores.tolist():
        history.append({"loss": 1.0, "val_accuracy": score})
        torchs.step(score)
        assert SHARES["plateau"](0.0, recipe, history) == pytest.approx(torchs.get_last_lr()[0])


@pytest.mark.parametrize("name", ["kc_vgg", "ferplus_vgg13"])
def test_the_best_epoch_of_all_is_kept_where_the_released_code_keeps_it(name):
    recipe = get_baseline(name).recipe
    assert recipe.patience == recipe.epochs


def test_dropout_below_the_svms_is_the_authors():
    """Units that are kept stay as they are in training; at the end all are multiplied by 1 - p."""
    baseline = get_baseline("dlsvm")
    network, view = baseline.build(2, **baseline.recipe.network), torch.zeros(2, 1, 42, 42)
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.fill_(1.0)
        network.output.weight.fill_(1 / 3072)
        network.output.bias.zero_()
        assert network.eval()(view)[0, 0].item() == pytest.approx(0.8, abs=1e-5)
        torch.manual_seed(0)
        kept = network.train()(view)[0, 0].item() * 3072
        assert kept == pytest.approx(round(kept), abs=0.05)
        assert kept == pytest.approx(0.8 * 3072, abs=5 * (3072 * 0.8 * 0.2) ** 0.5)


def test_the_first_steps_of_the_svms_leave_the_convolutions_alive():
    """Scores that begin at 0 with the release's weights silence 99 % of the second one's answers within ten steps."""
    recipe = TrainingRecipe.from_document({"epochs": 12, "schedule": "constant"}, get_baseline("dlsvm").recipe)
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (256, 48, 48), np.uint8)
    model = CNNClassifier("dlsvm", recipe, device="cpu").fit(faces, [f"class {n}" for n in rng.integers(0, 7, 256)])
    silent = []
    model.network_.features[4].register_forward_hook(lambda layer, maps, answers: silent.append(answers == 0))
    model.predict(faces)
    assert float(silent[0].float().mean()) < 0.9


@pytest.mark.parametrize(
    ("network", "spread", "bias"), [({}, 5, 2 / 7 - 1), ({"spread": 1.0}, 1, 2 / 7 - 1), ({"head": "softmax"}, 5, 0)]
)
@pytest.mark.parametrize("name", ["dlsvm", "dlsvm_paper"])
def test_first_weights_of_the_svms(name, network, spread, bias):
    built = get_baseline(name).build(7, **{**get_baseline(name).recipe.network, **network})
    assert built.features[3].weight.std().item() == pytest.approx(0.01 * spread, rel=0.05)
    assert built.fc.weight.std().item() == pytest.approx(0.001 * spread, rel=0.05)
    assert built.output.bias.tolist() == pytest.approx([bias] * 7)
    assert not built.output.weight.any()


def test_the_control_of_the_svms_is_softmax(tmp_path):
    (tmp_path / "r.toml").write_text(
        'epochs = 1\nbatch_size = 4\nhead_weight_decay = 0.002\n[network]\nhead = "softmax"'
    )
    recipe = read_recipe(tmp_path / "r.toml", get_baseline("dlsvm").recipe)
    assert recipe.loss == "cross-entropy"
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    model = CNNClassifier("dlsvm", recipe, device="cpu").fit(faces, ["a", "b", "a", "b"])
    np.testing.assert_allclose(model.predict_proba(faces).sum(1), 1)


def test_linear_convolutions_as_others_implemented_ednn():
    """Without ReLU the convolutions, max pooling apart, are linear: twice the face, twice the maps less the biases."""
    network = get_baseline("ednn").build(7, linear=True).eval()
    faces, block = torch.rand(2, 64, 9, 9), network.features[3]
    with torch.inference_mode():
        nothing, once, twice = (block(scale * faces) for scale in (0, 1, 2))
    torch.testing.assert_close(twice - nothing, 2 * (once - nothing), rtol=1e-4, atol=1e-5)


def test_ten_crops_are_averaged_where_the_authors_average_them():
    """kc_vgg predicts by the mean score of the centre, the corners and their mirrors, each cut by hand here."""
    recipe = TrainingRecipe(epochs=1, batch_size=4, lr=1e-3, network={"dropout": 0.2})
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    model = CNNClassifier("kc_vgg", recipe, device="cpu").fit(faces, ["a", "b", "a", "b"])
    pixels, scores = torch.from_numpy(faces)[:, None] / 255, []
    with torch.inference_mode():
        for y, x in ((0, 0), (0, 8), (8, 0), (8, 8), (4, 4)):
            for image in (pixels, pixels.flip(-1)):
                scores.append(model.network_(image[..., y : y + 40, x : x + 40]))
    np.testing.assert_allclose(model.decision_function(faces), torch.stack(scores).mean(0), rtol=1e-4, atol=1e-6)


def test_ten_views_lie_in_the_centre_and_the_corners():
    """Of a picture whose values name their places: the first value of each cut, then of each mirror."""
    places = torch.arange(36.0).reshape(1, 1, 6, 6)
    firsts = [view[0, 0, 0, 0].item() for view in cut_views(places, 4, 10)]
    assert firsts == [7, 0, 2, 12, 14, 10, 3, 5, 15, 17]
