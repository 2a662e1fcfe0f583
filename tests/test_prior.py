"""Other frequencies of emotions than in training: Bayes' rule, by hand and from the command line."""

import csv

import numpy as np
import pytest
from command_helpers import run
from PIL import Image

from featurepipe.cli import main
from featurepipe.errors import InputError, ModelError
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.prior import full_prior, trained_shares, with_prior
from featurepipe.models.training_recipe import TrainingRecipe

LABELS = ["anger", "happiness", "neutral"]


class TestBayes:
    def test_by_hand(self):
        """Trained on 1/2, 1/4, 1/4, used on 1/4, 1/4, 1/2: weights 1/2, 1, 2."""
        found = with_prior(np.array([[0.5, 0.25, 0.25]]), np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5]))
        np.testing.assert_allclose(found, [[0.25, 0.25, 0.5]])

    def test_it_is_optimal_where_the_model_is(self):
        """Two bells of known shape: the exact posterior under the new prior comes out."""
        x = np.linspace(-3, 4, 15)[:, None]
        bells = np.exp(-((x - [0, 1]) ** 2) / 2)
        old, new = np.array([0.8, 0.2]), np.array([0.3, 0.7])
        posterior = (bells * old) / (bells * old).sum(1, keepdims=True)
        expected = (bells * new) / (bells * new).sum(1, keepdims=True)
        np.testing.assert_allclose(with_prior(posterior, old, new), expected)

    def test_the_training_prior_changes_nothing(self):
        shares = np.array([0.2, 0.3, 0.5])
        probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 7)
        np.testing.assert_allclose(with_prior(probabilities, shares, shares), probabilities)


class TestPriors:
    def test_others_share_the_rest_as_in_training(self):
        found = full_prior({"neutral": 0.4}, LABELS, np.array([0.1, 0.3, 0.6]))
        np.testing.assert_allclose(found, [0.15, 0.45, 0.4])

    @pytest.mark.parametrize(
        ("named", "said"),
        [
            ({"joyless": 0.5}, "joyless, the model knows anger, happiness, neutral"),
            ({"anger": 0.6, "neutral": 0.4}, "less than 1"),
            ({"anger": 0.6, "neutral": 0.1, "happiness": 0.1}, "expected 1"),
        ],
    )
    def test_mistakes_are_named(self, named, said):
        with pytest.raises(InputError, match=said):
            full_prior(named, LABELS, np.ones(3) / 3)

    @pytest.mark.parametrize(
        "training", [{}, {"samples": 3}, {"samples": {"anger": 1}}, {"samples": dict.fromkeys(LABELS, 0)}]
    )
    def test_models_that_do_not_say_their_shares_are_refused(self, training):
        with pytest.raises(ModelError, match="how many photos of each label"):
            trained_shares(training, LABELS)

    def test_balanced_training_counts_as_equal_shares(self):
        training = {"samples": {"anger": 1, "happiness": 2, "neutral": 1}}
        np.testing.assert_allclose(trained_shares(training, LABELS), [0.25, 0.5, 0.25])
        np.testing.assert_allclose(trained_shares(training | {"class_weight": "balanced"}, LABELS), np.ones(3) / 3)


def test_classify_with_a_prior(tmp_path, capsys):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 255, (12, 48, 48)).astype(np.uint8)
    recipe = TrainingRecipe(epochs=1, batch_size=4, lr=0.01, network={"width": 0.125})
    model = CNNClassifier("fer-vgg", recipe, device="cpu").fit(
        faces, ["anger"] * 6 + ["happiness"] * 3 + ["neutral"] * 3
    )
    model.save(tmp_path / "m.safetensors")
    np.savez(tmp_path / "s.npz", images=faces)
    words = ("classify", tmp_path / "s.npz", "--model", tmp_path / "m.safetensors", "--workers", 0, "--out")
    plain = run(capsys, *words, tmp_path / "a")
    given = run(capsys, *words, tmp_path / "b", "--prior", "joy=0.5", "neutral=0.3")
    assert plain["prior"] is None
    assert given["prior"] == {"anger": 0.2, "happiness": 0.5, "neutral": 0.3}
    odds = []
    for name in "ab":
        with (tmp_path / name / "predictions.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        odds.append(np.array([float(row["p_happiness"]) / float(row["p_anger"]) for row in rows]))
    np.testing.assert_allclose(odds[1] / odds[0], (0.5 / 0.25) / (0.2 / 0.5), rtol=1e-6)
    for prior, said in (
        (["fear=0.5"], "the model knows anger, happiness, neutral"),
        (["neutral=0.6", "neutral=0.2"], "names neutral more than once"),
    ):
        capsys.readouterr()
        assert main([*map(str, words), str(tmp_path / "c"), "--prior", *prior]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "c").exists()  # said before any face is looked for
    assert main([*map(str, words), str(tmp_path / "c"), "--prior", "trained", "neutral=0.3"]) == 2
    assert "stands alone" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*map(str, words), str(tmp_path / "c"), "--prior", "neutral=1.5"])


DAILY = {"neutral": 0.6, "happiness": 0.25}


def classified(capsys, folder, source, *words):
    """The prior that classify used with the SVM that ships, and its rows."""
    document = run(capsys, "classify", source, "--out", folder / "out", "--workers", 0, *words)
    with (folder / "out" / "predictions.csv").open() as stream:
        return document["prior"], list(csv.DictReader(stream))


@pytest.fixture
def photos(tmp_path, rendered):
    """A folder with one photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "face.png").symlink_to(min(rendered.rglob("*.[jp][pn]g")))
    return folder


class TestPhotosOfDailyLife:
    """What the SVM that ships expects where nobody says how frequent emotions are."""

    def test_photos_are_taken_for_it(self, photos, tmp_path, capsys):
        prior, rows = classified(capsys, tmp_path, photos)
        assert {label: prior[label] for label in DAILY} == DAILY
        assert sum(prior.values()) == pytest.approx(1, abs=1e-5)
        assert classified(capsys, tmp_path, photos, "--prior", "neutral=0.6", "happiness=0.25")[1] == rows
        assert classified(capsys, tmp_path, photos, "--prior", "trained")[1] != rows

    def test_it_is_said(self, photos, tmp_path, capsys):
        assert main(["classify", str(photos), "--out", str(tmp_path / "out"), "--workers", "0"]) == 0
        assert "daily life: neutral 0.6, happiness 0.25" in capsys.readouterr().err

    def test_not_where_faces_are_given_or_the_user_says_otherwise(self, photos, tmp_path, capsys):
        assert classified(capsys, tmp_path, photos, "--prior", "trained")[0] is None
        assert classified(capsys, tmp_path, photos, "--detector", "none")[0] is None
        np.savez(tmp_path / "faces.npz", images=np.arange(48 * 48, dtype=np.uint8).reshape(1, 48, 48))
        assert classified(capsys, tmp_path, tmp_path / "faces.npz")[0] is None

    def test_not_in_a_database(self, photos, tmp_path, capsys):
        """JAFFE's ten people were asked to show emotions."""
        Image.open(photos / "face.png").convert("L").save(photos / "KA.AN1.39.tiff")
        (photos / "face.png").unlink()
        assert classified(capsys, tmp_path, photos, "--dataset", "jaffe")[0] is None
