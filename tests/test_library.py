"""The main jobs by the names that `featurepipe` itself offers: the same numbers as the commands."""

import json
import tempfile
import warnings

import numpy as np
import pytest
import torch
from command_helpers import WORDS, manifest, run
from PIL import Image

import featurepipe
from featurepipe.datasets.source import Source
from featurepipe.datasets.synthetic import write_sequences
from featurepipe.errors import InputError, ModelError
from featurepipe.faces.detectors import DetectorSpec
from featurepipe.faces.finder import FaceFinder
from featurepipe.features.table import FeatureTable
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.training_recipe import read_recipe
from featurepipe.records import Sample

SPLITS = {"subject-006": "val", "subject-007": "test"}


@pytest.fixture(autouse=True)
def _silent(capsys):
    """Nothing is printed: what a user must know is a warning."""
    yield
    assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def split(rendered, tmp_path_factory):
    """A CSV of six people to fit on, one to choose on, of whom one photo is a copy, and one to test on."""
    path = tmp_path_factory.mktemp("split") / "photos.csv"
    manifest(path, rendered, WORDS, "path,label,subject,split", lambda photo: [SPLITS.get(photo.parent.name, "train")])
    with path.open("a") as stream:
        stream.write(f"\n{rendered}/subject-000/anger-0.jpg,anger,subject-006,val")
    return path


@pytest.fixture(scope="module")
def features(split, small_weights, tmp_path_factory):
    """Vectors of whole photos, and where their table is."""
    table = tmp_path_factory.mktemp("vectors") / "table"
    return featurepipe.vectors(split, table, weights=small_weights, detector="none"), table


@pytest.fixture(scope="module")
def cnn_crops(split, tmp_path_factory):
    table = tmp_path_factory.mktemp("crops") / "table"
    return featurepipe.crops(split, table, "seed_cnn", detector="none"), table


def photos_of(rendered):
    return [rendered / "subject-000" / f"{label}-0.jpg" for label in ("anger", "happiness")]


def assert_same_features(ours, theirs):
    np.testing.assert_array_equal(ours.X, theirs.X)
    for name in ("path", "content", "label", "subject", "split", "face", "box", "score", "sample"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    for name in ("coverage", "feature_half", "face_half"):
        assert getattr(ours, name) == getattr(theirs, name)


def timeless(training):
    """A summary without what depends on the moment."""
    history = [{name: value for name, value in row.items() if name != "seconds"} for row in training.get("history", ())]
    kept = {name: value for name, value in training.get("kept", {}).items() if name != "seconds"}
    return {name: value for name, value in training.items() if name != "seconds"} | {"history": history, "kept": kept}


class TestVectors:
    def test_as_extract(self, split, small_weights, features, tmp_path, capsys):
        run(capsys, "extract", split, "--table", tmp_path, "--weights", small_weights, "--detector", "none")
        assert_same_features(features[0], FeatureTable.open(tmp_path).matrix())
        assert features[0].X.shape == (65, 4096)

    def test_faces_are_found_as_asked(self, rendered, small_weights, tmp_path, capsys):
        photos = photos_of(rendered)
        both = Image.new("RGB", (400, 200))
        for left, photo in zip((0, 200), photos, strict=True):
            both.paste(Image.open(photo), (left, 0))
        both.save(tmp_path / "both.png")
        asked = {"margin": 0.5, "max_side": 300, "views": 2, "precision": "fp32", "batch_size": 3}
        ours = featurepipe.vectors(
            [tmp_path / "both.png"], tmp_path / "a", weights=small_weights, faces="all", workers=None, **asked
        )
        words = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", value)]
        words += ["--weights", small_weights, "--policy", "all", "--detector", "hog"]
        run(capsys, "extract", tmp_path / "both.png", "--table", tmp_path / "b", *words)
        assert_same_features(ours, FeatureTable.open(tmp_path / "b").matrix())
        assert len(ours) == 2
        backbone = featurepipe.load_backbone("fer-vgg", weights=small_weights)
        wide = FaceFinder(DetectorSpec("hog", 300), backbone.framing, "all").recipe() | {"margin": 0.5}
        assert ours.face_half == wide

    def test_another_backbone(self, rendered, tmp_path, capsys):
        ours = featurepipe.vectors(photos_of(rendered), tmp_path / "a", backbone="hog", detector="none")
        (tmp_path / "s.csv").write_text("\n".join(["path", *map(str, photos_of(rendered))]))
        words = ("--table", tmp_path / "b", "--backbone", "hog", "--detector", "none")
        run(capsys, "extract", tmp_path / "s.csv", *words)
        assert_same_features(ours, FeatureTable.open(tmp_path / "b").matrix())

    def test_pictures_and_pixels_are_what_their_files_are(self, rendered, tmp_path):
        photo = Image.open(photos_of(rendered)[0])
        turned, grey, clear = tmp_path / "turned.jpg", tmp_path / "grey.png", tmp_path / "clear.png"
        exif = Image.Exif()
        exif[0x0112] = 6
        photo.resize((180, 120)).save(turned, exif=exif)
        photo.convert("L").save(grey)
        transparent = photo.convert("RGBA")
        transparent.paste((0, 0, 0, 0), (0, 0, 90, 90))
        transparent.save(clear)
        given = [turned, grey, clear]
        given += [Image.open(turned), np.asarray(Image.open(grey)), Image.open(clear)]
        given += [np.asarray(photo), photo, Sample("mine", label="fear", pixels=np.asarray(photo))]
        features = featurepipe.vectors(iter(given), tmp_path / "t", backbone="hog", detector="none")
        assert features.path.tolist()[:3] == list(map(str, given[:3]))
        assert features.path.tolist()[3:] == [*(f"image {number}" for number in range(3, 8)), "mine"]
        assert features.label.tolist() == [None] * 8 + ["fear"]
        np.testing.assert_array_equal(features.X[3:6], features.X[:3])
        np.testing.assert_array_equal(features.X[7:], features.X[[6, 6]])
        assert len(np.unique(features.X, axis=0)) == 3  # HOG sees no colour: the grey one is the photo itself

    def test_an_array_of_pictures_and_a_source(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 40), np.uint8)
        samples = [Sample(f"{number}", label="fear", pixels=face) for number, face in enumerate(pixels)]
        first = featurepipe.vectors(pixels, tmp_path / "a", backbone="hog", detector="none")
        second = featurepipe.vectors(Source(samples, "npz", "crops"), tmp_path / "b", backbone="hog")
        np.testing.assert_array_equal(first.X, second.X)
        assert second.face_half["detector"] == "none"
        assert second.label.tolist() == ["fear"] * 3

    def test_what_a_command_says_is_a_warning_where_the_user_called(self, tmp_path):
        blank = Image.new("RGB", (100, 100), "white")
        with pytest.warns(
            UserWarning, match=r"no face was found in 2 of 3 photos.* use detector none; .* raise max_side"
        ):
            features = featurepipe.vectors([blank, "gone.jpg", blank], tmp_path / "t", backbone="hog")
        assert features.coverage == {"no_face": 2, "missing": 1}
        (tmp_path / "s.csv").write_text("path,mood\ngone.jpg,good")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            featurepipe.crops(tmp_path / "s.csv", tmp_path / "t", "seed_cnn")
        assert ["mood" in str(one.message) for one in said] == [True]
        assert said[0].filename == __file__


class TestCrops:
    def test_faces_are_found_as_asked(self, rendered, tmp_path):
        features = featurepipe.crops(photos_of(rendered), tmp_path, "seed_cnn", detector="hog", max_side=150, margin=1)
        assert {name: features.face_half[name] for name in ("detector", "max_side", "margin", "policy")} == {
            "detector": "hog",
            "max_side": 150,
            "margin": 1,
            "policy": "largest",
        }

    def test_of_sequences_a_row_each(self, tmp_path):
        write_sequences(tmp_path / "filmed", subjects=1, frames=3, size=(100, 100))
        frames = featurepipe.read_source(tmp_path / "filmed" / "samples.csv")
        for number, photos in enumerate((tmp_path / "filmed" / "samples.csv", frames, frames.samples)):
            features = featurepipe.crops(photos, tmp_path / f"{number}", "stc_nlstm", detector="none")
            assert features.X.shape[:2] == (7, CNNClassifier("stc_nlstm").baseline.frames)
        with pytest.raises(InputError, match="the photos holds no sequences"):
            featurepipe.crops(frames.samples[:1], tmp_path / "t", "stc_nlstm")


@pytest.mark.filterwarnings("ignore:.*(the temperature|edge of the grid)")
class TestFitSVM:
    def test_as_fit_svm_with_photos_to_choose_on(self, features, small_weights, tmp_path, capsys):
        made, table = features
        model = featurepipe.LinearSVMCV(Cs=[0.1, 1.0])
        with pytest.warns(UserWarning, match="1 of 9 val photos are copies of training photos: left out"):
            assert featurepipe.fit(model, made, weights=small_weights) is model
        words = ("fit_svm", table, "--model", tmp_path / "theirs.pkl", "--weights", small_weights, "--C", 0.1, 1)
        run(capsys, *words)
        assert_same_svm(model, featurepipe.load_model(tmp_path / "theirs.pkl"))
        assert model.training["chosen_on"] == "validation"
        assert sum(model.training["samples"].values()) == 48

    def test_as_fit_svm_by_folds_of_people(self, rendered, small_weights, tmp_path, capsys):
        made = featurepipe.vectors(rendered / "samples.csv", tmp_path / "t", weights=small_weights, detector="none")
        settings = {
            "normaliser": "standard",
            "Cs": [1e-3, 1e-2, 1e-1],
            "class_weight": "balanced",
            "folds": 3,
            "seed": 4,
        }
        model = featurepipe.LinearSVMCV(**settings)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            featurepipe.fit(model, made, weights=small_weights)
        assert [str(one.message) for one in said] == model.training["warnings"]
        words = ("fit_svm", tmp_path / "t", "--model", tmp_path / "svm.pkl", "--weights", small_weights)
        words = (*words, "--normalise", "standard", "--C", 1e-3, 1e-2, 1e-1, "--class-weight", "balanced")
        run(capsys, *words, "--folds", 3, "--seed", 4)
        assert_same_svm(model, featurepipe.load_model(tmp_path / "svm.pkl"))
        assert (model.training["chosen_on"], model.training["groups"]) == ("3 folds", "subject")

    @pytest.mark.filterwarnings("ignore:.*copies of training photos")
    def test_rare_classes_are_left_out_on_request(self, rendered, tmp_path):
        samples = [
            Sample(str(photo), label=photo.stem[:-2]) for photo in sorted(rendered.rglob("subject-00[01]/*.jpg"))
        ]
        rare = [sample for sample in samples if sample.label != "fear" or "subject-000" in sample.path]
        made = featurepipe.vectors(rare, tmp_path, backbone="hog", detector="none")
        model = featurepipe.LinearSVMCV(Cs=[1.0], folds=2)
        with pytest.raises(InputError, match=r"too few faces for 2 folds: fear \(1\)"):
            featurepipe.fit(model, made)
        with pytest.warns(UserWarning, match=r"left out: fear \(1 photos\)"):
            assert "fear" not in featurepipe.fit(model, made, min_per_class=2).labels
        with (
            pytest.warns(UserWarning, match="left out"),
            pytest.raises(
                InputError, match="of 15 photos 15 are labelled, and of these 15 of classes with fewer than 9"
            ),
        ):
            featurepipe.fit(model, made, min_per_class=9)

    def test_choosing_on_photos_the_backbone_has_seen_is_called_a_leak(self, cnn_crops, split, tmp_path):
        """fer-vgg is trained on these very photos, then an SVM chooses C on them."""
        (tmp_path / "r.toml").write_text("epochs = 1\nbatch_size = 8\n[network]\nwidth = 0.125")
        model = CNNClassifier("fer-vgg", device="cpu")
        model.recipe_ = read_recipe(tmp_path / "r.toml", model.baseline.recipe)
        unsplit = [Sample(one.path, one.label, subject=one.subject) for one in featurepipe.read_source(split).samples]
        faces = featurepipe.crops(unsplit, tmp_path / "c", "fer-vgg", detector="none")
        featurepipe.fit(model, faces).save(tmp_path / "fer.safetensors")
        made = featurepipe.vectors(unsplit, tmp_path / "v", weights=tmp_path / "fer.safetensors", detector="none")
        svm = featurepipe.LinearSVMCV(Cs=[1.0], folds=2)
        with pytest.warns(UserWarning, match="LEAK: C and temperature were chosen on photos that"):
            assert featurepipe.fit(svm, made, weights=tmp_path / "fer.safetensors").training["leak"] is True
        with pytest.warns(UserWarning, match="cannot be told: name them with weights") as said:
            assert featurepipe.fit(svm, made).training["leak"] is False
        assert not any("LEAK" in str(one.message) for one in said)


def assert_same_svm(ours, theirs):
    for name, array in ours.arrays().items():
        np.testing.assert_array_equal(array, theirs.arrays()[name], err_msg=name)
    assert ours.temperature_ == theirs.temperature_
    assert ours.recipe == theirs.recipe
    assert timeless(ours.training) == timeless(theirs.training)
    np.testing.assert_array_equal(ours.trained_on, theirs.trained_on)
    assert len(ours.trained_on)


class TestFitCNN:
    @pytest.mark.parametrize("chooses", [False, True])
    @pytest.mark.filterwarnings("ignore:.*copies of training photos")
    def test_as_fit_cnn(self, chooses, cnn_crops, split, tmp_path, capsys):
        """With patience, and on photos none of which is in split val, it chooses on a tenth that it holds out."""
        made, source = cnn_crops[0], split
        (tmp_path / "r.toml").write_text("epochs = 2" + "\npatience = 1" * chooses)
        if chooses:
            source = tmp_path / "s.csv"
            source.write_text(split.read_text().replace(",val", ",train"))
            made = featurepipe.crops(source, tmp_path / "own", "seed_cnn", detector="none")
        model = featurepipe.CNNClassifier("seed_cnn", seed=3, device="cpu")
        model.recipe_ = read_recipe(tmp_path / "r.toml", model.baseline.recipe)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert featurepipe.fit(model, made) is model
        assert any("are held out, to choose the best epoch by" in str(one.message) for one in said) is chooses
        words = ("fit_cnn", source, "--arch", "seed_cnn", "--model", tmp_path / "m.safetensors", "--seed", 3)
        words = (*words, "--recipe", tmp_path / "r.toml", "--table", tmp_path / "t", "--detector", "none")
        run(capsys, *words, "--device", "cpu", "--workers", 0)
        assert_same_features(made, FeatureTable.open(tmp_path / "t").matrix())
        theirs = featurepipe.load_model(tmp_path / "m.safetensors")
        for (name, ours), tensor in zip(
            model.network_.state_dict().items(), theirs.network_.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, tensor), name
        assert timeless(model.training) == timeless(theirs.training)
        assert model.recipe == theirs.recipe
        np.testing.assert_array_equal(model.trained_on, theirs.trained_on)
        assert model.training["chosen_on"] == ("a tenth of the photos to fit on" if chooses else "nothing")
        assert sum(model.training["samples"].values()) < 57


@pytest.fixture(scope="module")
def svm(features, small_weights, tmp_path_factory):
    """An SVM fitted in this process, and its file."""
    path = tmp_path_factory.mktemp("svm") / "svm.pkl"
    with warnings.catch_warnings(action="ignore"):
        model = featurepipe.fit(featurepipe.LinearSVMCV(Cs=[1.0]), features[0], weights=small_weights)
    model.save(path)
    return model, path


class TestClassify:
    def test_by_the_svm_that_ships(self, rendered, tmp_path, capsys, monkeypatch):
        """Without a table nothing is left behind."""
        photos = photos_of(rendered)
        (tmp_path / "s.csv").write_text("\n".join(["path", *map(str, photos)]))
        document = run(capsys, "classify", tmp_path / "s.csv", "--out", tmp_path / "o", "--workers", 0)
        theirs = json.loads((tmp_path / "o" / "predictions.json").read_text())["predictions"]
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        with pytest.warns(
            UserWarning, match="expecting faces of daily life: neutral 0.6, .*; prior trained expects"
        ) as said:
            ours = featurepipe.classify(photos)
        assert said[0].filename == __file__
        assert ours.rows() == theirs
        assert ours.classes == document["classes"]
        assert ours.features.X.shape == (2, 4096)
        assert ours.features.X.sum() > 0
        assert not list((tmp_path / "temporary").iterdir())
        with pytest.warns(UserWarning, match="daily life"):
            rows = featurepipe.classify([Image.open(photos[0])]).rows()
        assert rows[0]["path"] == "image 0"
        assert rows[0]["label"] == theirs[0]["label"]

    @pytest.mark.parametrize(
        ("prior", "words"),
        [("trained", ["trained"]), ({"joy": 0.5, "neutral": 0.3}, ["joy=0.5", "neutral=0.3"])],
    )
    @pytest.mark.filterwarnings("error")
    def test_with_a_prior(self, prior, words, rendered, tmp_path, capsys):
        ours = featurepipe.classify(photos_of(rendered)[0], tmp_path / "kept", prior=prior)
        run(capsys, "classify", photos_of(rendered)[0], "--out", tmp_path / "o", "--workers", 0, "--prior", *words)
        assert ours.rows() == json.loads((tmp_path / "o" / "predictions.json").read_text())["predictions"]
        assert len(FeatureTable.open(tmp_path / "kept").matrix()) == 1

    def test_by_an_svm_in_memory_or_in_a_file(self, svm, small_weights, rendered, tmp_path, capsys):
        words = ("classify", photos_of(rendered)[0], "--model", svm[1], "--weights", small_weights, "--workers", 0)
        run(capsys, *words, "--out", tmp_path / "o", "--detector", "hog", "--margin", 0.2)
        theirs = json.loads((tmp_path / "o" / "predictions.json").read_text())["predictions"]
        for model in svm:
            asked = {"detector": "hog", "margin": 0.2, "weights": small_weights}
            with pytest.warns(UserWarning, match="faces are found or cut otherwise than when the model was fitted"):
                ours = featurepipe.classify(photos_of(rendered)[0], model=model, **asked)
            assert ours.rows() == theirs

    def test_by_a_cnn(self, cnn_crops, rendered, tmp_path, capsys):
        """Which keeps the device and the precision that it has."""
        model = featurepipe.CNNClassifier("seed_cnn", device="cpu")
        (tmp_path / "r.toml").write_text("epochs = 1")
        model.recipe_ = read_recipe(tmp_path / "r.toml", model.baseline.recipe)
        with warnings.catch_warnings(action="ignore"):
            featurepipe.fit(model, cnn_crops[0]).save(tmp_path / "m.safetensors")
        words = ("classify", rendered / "subject-000", "--model", tmp_path / "m.safetensors", "--workers", 0)
        run(capsys, *words, "--out", tmp_path / "o", "--precision", "bf16")
        theirs = json.loads((tmp_path / "o" / "predictions.json").read_text())["predictions"]
        with warnings.catch_warnings(action="ignore"):
            ours = featurepipe.classify(rendered / "subject-000", model=model, precision="bf16")
        assert ours.rows() == theirs
        assert (model.device, model.precision) == ("cpu", "fp32")

    def test_no_photos_no_rows(self, svm, small_weights):
        assert featurepipe.classify([], model=svm[0], weights=small_weights).rows() == []


@pytest.mark.parametrize(
    ("photos", "said"),
    [
        (Image.new("RGB", (9, 9)), r"Image is not several photos: put a single one into a list, \[photo\]"),
        (np.zeros((9, 9, 3), np.uint8), "put a single one into a list"),
        (np.zeros((9, 9), np.uint8), "put a single one into a list"),
        (Sample("a.jpg"), "put a single one into a list"),
        ([np.zeros((9, 9, 3))], "image 0: pixels are float64"),
        (["a.jpg", np.zeros((9, 9, 4), np.uint8)], r"image 1: pixels are uint8 \(9, 9, 4\); expected"),
        ([3], "photo 0 is of the type int: expected a path"),
        ("nowhere.csv", "nowhere.csv is not there"),
    ],
)
def test_what_are_no_photos(photos, said, tmp_path):
    with pytest.raises(InputError, match=said):
        featurepipe.vectors(photos, tmp_path / "t", backbone="hog")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"faces": "both"}, "expected largest or all"),
        ({"margin": float("nan")}, "margin is nan: expected above -1"),
        ({"margin": 11}, "margin is 11"),
        ({"max_side": 0}, "max_side is 0; expected"),
        ({"batch_size": 0}, "at least 1"),
        ({"workers": -1}, "workers at least 0"),
        ({"detector": "eyes"}, "there are hog"),
        ({"device": "tpu"}, "tpu"),
        ({"precision": "fp8"}, "fp8"),
        ({"backbone": "resnet"}, "expected one of fer-vgg"),
    ],
)
def test_arguments_out_of_range(arguments, said, tmp_path):
    with pytest.raises(InputError, match=said):
        featurepipe.vectors([np.zeros((60, 60), np.uint8)], tmp_path / "t", **{"backbone": "hog", **arguments})


class TestRefused:
    def test_features_that_are_not_the_models(self, features, cnn_crops):
        with pytest.raises(InputError, match="crops for a CNN, and an SVM takes vectors"):
            featurepipe.fit(featurepipe.LinearSVMCV(), cnn_crops[0])
        for made in (features[0], cnn_crops[0]):
            with pytest.raises(InputError, match=r'make them with crops\(..., "lopes_cnn"\)'):
                featurepipe.fit(featurepipe.CNNClassifier("lopes_cnn"), made)
        with pytest.raises(InputError, match="LinearSVM cannot be fitted here: expected LinearSVMCV or CNNClassifier"):
            featurepipe.fit(featurepipe.LinearSVM(), features[0])

    def test_all_faces_of_a_photo_are_not_fitted_on(self, features):
        every = FeatureTable.open(features[1]).matrix(policy="all")
        with pytest.raises(InputError, match='make them with faces="largest"'):
            featurepipe.fit(featurepipe.LinearSVMCV(), every)

    def test_nothing_to_fit_on(self, tmp_path):
        made = featurepipe.vectors([np.zeros((60, 60), np.uint8)], tmp_path, backbone="hog", detector="none")
        with pytest.raises(InputError, match="no labelled face to fit on: of 1 photos 0 are labelled"):
            featurepipe.fit(featurepipe.LinearSVMCV(), made)

    def test_recipes_for_soft_labels(self, cnn_crops, tmp_path):
        model = featurepipe.CNNClassifier("seed_cnn")
        (tmp_path / "r.toml").write_text("soft_weight = 0.5")
        model.recipe_ = read_recipe(tmp_path / "r.toml", model.baseline.recipe)
        with pytest.raises(InputError, match=r"the recipe's soft_weight is 0.5"):
            featurepipe.fit(model, cnn_crops[0])

    @pytest.mark.parametrize("prior", [{}, {"joy": 1.5}, "learnt", ["joy"]])
    def test_priors(self, prior):
        with pytest.raises(InputError, match="expected shares between 0 and 1 by label, or "):
            featurepipe.classify([], prior=prior)

    def test_models(self, svm, features):
        bare = featurepipe.LinearSVMCV(Cs=[1.0]).fit(features[0].X, features[0].label)
        with pytest.raises(ModelError, match=r"does not say of which vectors it is .* featurepipe\.fit"):
            featurepipe.classify([], model=bare)
        with pytest.raises(InputError, match="LinearSVMCV is no fitted model"):
            featurepipe.classify([], model=featurepipe.LinearSVMCV())
        with pytest.raises(InputError, match="save this one, and give its path"):
            featurepipe.classify([], model=svm[0], precision="int8")
