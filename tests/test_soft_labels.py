"""Soft labels: cross-fitted predictions, their file, and training on them."""

import csv
import dataclasses
import json
from itertools import product

import numpy as np
import pytest
from test_cnn import faces_of, small

from featurepipe.cli import main
from featurepipe.errors import InputError, ModelError
from featurepipe.features.table import FeatureTable
from featurepipe.models.baselines.registry import BASELINES
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.cross_fit import cross_fit, remove_folds
from featurepipe.models.persistence import load_model
from featurepipe.models.soft_labels import SoftLabels, mean_soft_labels

LABELS = ["anger", "happiness", "neutral"]


def make(seed=0, **changes):
    """A moving average of so few steps would say nearly the same of every face."""
    recipe = small("fer-vgg", **{"average": 0.0, "batch_size": 4, **changes})
    return CNNClassifier("fer-vgg", recipe, seed=seed, device="cpu")


def crossed(folder, make=make, resume=False, after_epoch=lambda history: None, moved=0, shown=0, watched=1):
    """24 faces in two folds; the faces of one half are never those fitted on when that half is predicted.

    With `moved` each face has the label of the one so many places before it; `shown` and `watched` are the seeds of the
    faces, and of those to watch.
    """
    faces, labels = faces_of("fer-vgg", seed=shown)
    validation = faces_of("fer-vgg", 6, seed=watched)
    labels = np.roll(labels, moved)
    halves = np.arange(24) < 12
    folds = [(np.flatnonzero(~halves), np.flatnonzero(halves)), (np.flatnonzero(halves), np.flatnonzero(~halves))]
    contents = np.arange(24)[::-1] * 10
    how = {"resume": resume, "after_epoch": after_epoch, "validation": validation}
    return cross_fit(make, faces, labels, contents, folds, folder=folder, **how)


def soft(probabilities, contents=(10, 20, 30), labels=LABELS):
    return SoftLabels(np.array(contents), np.array(probabilities, np.float32), list(labels), {})


class TestCrossFit:
    def test_a_photos_own_label_does_not_reach_its_soft_label(self, tmp_path):
        """Labels of one fold are changed: what is said of that fold stays the same to the last bit."""
        faces, labels = faces_of("fer-vgg")
        other = labels.copy()
        other[:12] = np.roll(labels[:12], 1)
        folds = [(np.arange(12, 24), np.arange(12))]
        one, two = (
            cross_fit(make, faces, given, np.arange(24), folds, folder=tmp_path / name)
            for name, given in (("a", labels), ("b", other))
        )
        np.testing.assert_array_equal(one.probabilities, two.probabilities)

    def test_every_photo_gets_the_word_of_a_network_that_has_not_seen_it(self, tmp_path):
        faces, labels = faces_of("fer-vgg")
        result = crossed(tmp_path / "f")
        assert result.contents.tolist() == list(range(0, 240, 10))
        assert [row["fold"] for row in result.about["folds"]] == [0, 1]
        by_hand = make().fit(faces[12:], labels[12:])
        by_hand.views = 10
        of_first_half = result.of(np.arange(24)[::-1][:12] * 10, LABELS)
        assert of_first_half.std(0).max() > 1e-4  # or any row would do for any other
        np.testing.assert_allclose(of_first_half, by_hand.predict_proba(faces[:12]), atol=1e-6)

    def test_a_stopped_run_goes_on_with_the_folds_that_are_done(self, tmp_path):
        def stop(history):
            if (history[-1]["fold"], history[-1]["epoch"]) == (1, 1):
                raise KeyboardInterrupt

        seen = []
        with pytest.raises(KeyboardInterrupt):
            crossed(tmp_path / "f", after_epoch=stop)
        resumed = crossed(tmp_path / "f", resume=True, after_epoch=seen.append)
        assert [[(row["fold"], row["epoch"]) for row in history] for history in seen] == [
            [(0, 1), (0, 2), (1, 1), (1, 2)]
        ]
        np.testing.assert_array_equal(resumed.probabilities, crossed(tmp_path / "g").probabilities)

    @pytest.mark.parametrize(
        "changed",
        [{"make": lambda: make(lr=0.01)}, {"make": lambda: make(seed=1)}, {"moved": 1}, {"shown": 2}, {"watched": 2}],
    )
    def test_folds_of_another_run_are_not_taken_over(self, changed, tmp_path):
        crossed(tmp_path / "f")
        (tmp_path / "f" / "0.ckpt").unlink()
        (tmp_path / "f" / "1.ckpt").unlink()
        seen = []
        crossed(tmp_path / "f", resume=True, after_epoch=lambda history: seen.append(history[-1]["fold"]), **changed)
        assert seen == [0, 0, 1, 1]

    def test_folds_of_another_input_are_not_taken_over(self, tmp_path, monkeypatch):
        crossed(tmp_path / "f")
        for checkpoint in (tmp_path / "f").glob("*.ckpt"):
            checkpoint.unlink()
        monkeypatch.setitem(BASELINES, "fer-vgg", dataclasses.replace(BASELINES["fer-vgg"], inputs=9))
        seen = []
        crossed(tmp_path / "f", resume=True, after_epoch=lambda history: seen.append(history[-1]["fold"]))
        assert seen == [0, 0, 1, 1]

    def test_what_it_leaves_is_removed_and_nothing_else(self, tmp_path):
        for name, others in (("a", ["notes.txt", "model.safetensors", "last.ckpt"]), ("b", [])):
            crossed(tmp_path / name)
            (tmp_path / name / ".0.ckpt.0123abcd.tmp").touch()  # of a run that was killed
            for other in others:
                (tmp_path / name / other).touch()
            remove_folds(tmp_path / name)
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
            "last.ckpt",
            "model.safetensors",
            "notes.txt",
        ]
        assert not (tmp_path / "b").exists()


class TestFiles:
    def test_they_come_back(self, tmp_path):
        soft(np.eye(3)).save(tmp_path / "s")
        loaded = SoftLabels.load(tmp_path / "s")
        np.testing.assert_array_equal(loaded.of(np.array([30, 10]), LABELS), [[0, 0, 1], [1, 0, 0]])

    def test_photos_without_one_are_counted(self):
        with pytest.raises(InputError, match="2 of 3 training photos"):
            soft(np.eye(3)).of(np.array([5, 10, 99]), LABELS)

    def test_other_classes_are_named(self):
        with pytest.raises(InputError, match="anger, happiness, neutral, the photos of anger, fear"):
            soft(np.eye(3)).of(np.array([10]), ["anger", "fear"])
        with pytest.raises(InputError, match="the photos of neutral, happiness, anger"):
            soft(np.eye(3)).of(np.array([10]), LABELS[::-1])

    def test_the_mean_of_several(self):
        parts = [soft(np.eye(3)), soft(np.roll(np.eye(3), 1, 1))]
        np.testing.assert_allclose(mean_soft_labels(parts, np.array([20]), LABELS), [[0, 0.5, 0.5]])

    def test_other_files_are_refused(self, tmp_path):
        make().fit(*faces_of("fer-vgg")).save(tmp_path / "m")
        with pytest.raises(ModelError, match="no file of soft labels"):
            SoftLabels.load(tmp_path / "m")
        broken = dataclasses.replace(soft(np.eye(3)), contents=np.array([10, 20]))
        broken.save(tmp_path / "s")
        with pytest.raises(ModelError, match="shape"):
            SoftLabels.load(tmp_path / "s")
        soft(np.full((3, 3), np.nan)).save(tmp_path / "n")
        with pytest.raises(ModelError, match="no numbers"):
            SoftLabels.load(tmp_path / "n")


def test_a_network_follows_them_where_labels_are_noise():
    """The labels are shuffled; the soft labels know the class: with all the weight on them it is learnt."""
    faces, labels = faces_of("fer-vgg", 60)
    known = np.eye(3)[np.searchsorted(LABELS, labels)]
    noise = np.random.default_rng(0).permutation(labels)
    changes = {"epochs": 12, "lr": 0.05, "average": 0.0, "label_smoothing": 0.0}
    right = {}
    for weight in (0.0, 1.0):
        model = make(**changes, soft_weight=weight).fit(faces, noise, soft_labels=known)
        right[weight] = (model.predict(faces_of("fer-vgg", 60, seed=1)[0]) == labels).mean()
    assert right[1.0] > 0.9
    assert right[0.0] < 0.7


def test_of_another_shape_they_are_refused():
    faces, labels = faces_of("fer-vgg")
    with pytest.raises(InputError, match=r"expected to be of shape \(24, 3\), not \(24, 2\)"):
        make(soft_weight=0.5).fit(faces, labels, soft_labels=np.full((24, 2), 0.5))


@pytest.mark.parametrize("wrong", [np.full((24, 3), 0.5), np.tile([1.5, -0.5, 0], (24, 1)), np.full((24, 3), np.nan)])
def test_what_is_no_distribution_is_refused(wrong):
    faces, labels = faces_of("fer-vgg")
    with pytest.raises(InputError, match="must be distributions"):
        make(soft_weight=0.5).fit(faces, labels, soft_labels=wrong)


def test_shares_for_every_class_are_no_targets():
    """multi-target takes whatever has a share for right: of a network's soft labels that is everything."""
    (faces, labels), recipe = faces_of("fer-vgg"), {"loss": "multi-target", "label_smoothing": 0.0, "soft_weight": 0.5}
    make(**recipe).fit(faces, labels, soft_labels=np.tile([0.5, 0.5, 0.0], (24, 1)))
    with pytest.raises(InputError, match="multi-target takes every answer for right"):
        make(**recipe).fit(faces, labels, soft_labels=np.tile([0.01, 0.01, 0.98], (24, 1)))


def test_multi_target_from_the_command_line_is_of_votes(tmp_path, capsys):
    (tmp_path / "r.toml").write_text("soft_weight = 0.5\nloss = 'multi-target'\n")
    words = ["fit_cnn", "nowhere", "--arch", "fer-vgg", "--model", "m", "--recipe", str(tmp_path / "r.toml")]
    assert main([*words, "--soft-labels", "a.soft"]) == 2
    assert "multi-target is of votes (--votes)" in capsys.readouterr().err


def test_from_the_command_line(tmp_path, capsys):
    faces, labels = faces_of("fer-vgg", 36)
    np.savez(tmp_path / "s.npz", images=faces, labels=np.searchsorted(LABELS, labels), classes=np.array(LABELS))
    base = "epochs = 2\nbatch_size = 8\n[network]\nwidth = 0.125\n"
    (tmp_path / "teacher.toml").write_text(base)
    (tmp_path / "student.toml").write_text(f"soft_weight = 0.5\n{base}")
    words = ["fit_cnn", str(tmp_path / "s.npz"), "--arch", "fer-vgg", "--workers", "0", "--json", "--recipe"]
    assert main([*words, str(tmp_path / "teacher.toml"), "--folds", "3", "--model", str(tmp_path / "t.soft")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["fold"] for row in document["folds"]] == [0, 1, 2]
    with open(tmp_path / "t.soft.log.csv") as log:
        assert [(row["fold"], row["epoch"]) for row in csv.DictReader(log)] == list(product("012", "12"))
    assert not (tmp_path / "t.soft.folds").exists()
    student = [*words, str(tmp_path / "student.toml"), "--model", str(tmp_path / "m.safetensors")]
    assert main([*student, "--soft-labels", str(tmp_path / "t.soft")]) == 0
    capsys.readouterr()
    assert main(student) == 2
    assert "soft_weight is 0.5" in capsys.readouterr().err
    table = str(tmp_path / "features")
    assert main(["extract", str(tmp_path / "s.npz"), "--table", table, "--backbone", "hog", "--workers", "0"]) == 0
    plain, soft = (str(tmp_path / name) for name in ("plain.pkl", "soft.pkl"))
    assert main(["fit_svm", table, "--model", plain, "--C", "1"]) == 0
    assert main(["fit_svm", table, "--model", soft, "--C", "1", "--soft-labels", str(tmp_path / "t.soft")]) == 0
    X = FeatureTable.open(table).matrix().X
    assert np.abs(load_model(plain).decision_function(X) - load_model(soft).decision_function(X)).max() > 0.01
    assert load_model(soft).training["soft_weight"] == 0.5


class TestSeen:
    """24 photos are learnt from; in another SOURCE six of them are val, and six val photos more are new."""

    @pytest.fixture
    def words(self, tmp_path):
        faces, labels = faces_of("fer-vgg", 30)
        codes, usage = np.searchsorted(LABELS, labels), np.repeat(["Training", "PublicTest"], [18, 12])
        np.savez(tmp_path / "first.npz", images=faces[:24], labels=codes[:24], classes=np.array(LABELS))
        np.savez(tmp_path / "second.npz", images=faces, labels=codes, classes=np.array(LABELS), usage=usage)
        base = "epochs = 2\nbatch_size = 6\n[network]\nwidth = 0.125\n"
        for name, more in (("plain", ""), ("soft", "soft_weight = 0.5\n"), ("patient", "patience = 1\n")):
            (tmp_path / name).write_text(more + base)
        return lambda source, recipe, model, *more: [
            *("fit_cnn", str(tmp_path / source), "--arch", "fer-vgg", "--workers", "0"),
            *("--recipe", str(tmp_path / recipe), "--model", str(tmp_path / model), *more),
        ]

    def test_photos_of_the_soft_labels_networks_are_not_chosen_on(self, words, tmp_path, capsys):
        assert main(words("first.npz", "plain", "t.soft", "--folds", "2")) == 0
        taught, soft = SoftLabels.load(tmp_path / "t.soft").contents, ("--soft-labels", str(tmp_path / "t.soft"))
        capsys.readouterr()
        assert main(words("second.npz", "soft", "m", *soft)) == 0
        said = "6 of 12 val photos were seen by the soft labels' networks: left out"
        assert said in capsys.readouterr().err
        assert load_model(tmp_path / "m").trained_on.tolist() == taught.tolist()
        table = str(tmp_path / "features")
        assert (
            main(["extract", str(tmp_path / "second.npz"), "--table", table, "--backbone", "hog", "--workers", "0"])
            == 0
        )
        assert main(["fit_svm", table, "--model", str(tmp_path / "s"), "--C", "1", *soft]) == 0
        assert said in capsys.readouterr().err
        assert load_model(tmp_path / "s").trained_on.tolist() == taught.tolist()

    def test_photos_of_the_model_to_start_from_are_not_watched(self, words, tmp_path, capsys):
        assert main(words("first.npz", "plain", "m")) == 0
        begun = ("--init", str(tmp_path / "m"))
        capsys.readouterr()
        assert main(words("second.npz", "plain", "n", *begun)) == 0
        assert "6 of 12 val photos were seen by the model of --init in training: left out" in capsys.readouterr().err
        assert len(load_model(tmp_path / "n").trained_on) == 24
        assert main(words("first.npz", "patient", "p", *begun)) == 0
        assert "val photos were seen by the model of --init" in capsys.readouterr().err
        assert "val_accuracy" not in load_model(tmp_path / "p").training["kept"]
