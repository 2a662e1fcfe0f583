"""The commands, from SOURCE to files on disk, as a user calls them."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from command_helpers import WORDS
from PIL import Image

from featurepipe.cli import build_parser, main
from featurepipe.commands import classify, compare
from featurepipe.datasets.synthetic import write_faces
from featurepipe.errors import ModelError
from featurepipe.features.table import FeatureTable
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.persistence import load_model, save_svm
from featurepipe.models.svm import LinearSVMCV
from featurepipe.names import BACKBONES, METHODS


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """fer-vgg as fit_cnn writes it, untrained: quick, and of no opinion."""
    rng = np.random.default_rng(0)
    model = CNNClassifier("fer-vgg", small_recipe(), device="cpu")
    model.fit(rng.integers(0, 255, (8, 48, 48)).astype(np.uint8), ["anger", "fear"] * 4)
    path = tmp_path_factory.mktemp("weights") / "fer.safetensors"
    model.save(path)
    return str(path)


def small_recipe():
    from featurepipe.models.training_recipe import TrainingRecipe

    return TrainingRecipe(epochs=1, batch_size=4, lr=0.01, network={"width": 0.125})


@pytest.fixture(scope="module")
def table(rendered, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extracted") / "table"
    assert run("extract", rendered / "samples.csv", "--table", folder, "--weights", weights, "--workers", 0) == 0
    return folder


def run(*words):
    return main([str(word) for word in words])


def summary_of(capsys):
    return json.loads(capsys.readouterr().out)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


class TestExtract:
    def test_a_second_run_computes_nothing(self, rendered, table, weights, capsys):
        capsys.readouterr()
        words = ("extract", rendered / "samples.csv", "--table", table, "--weights", weights, "--workers", 0, "--json")
        assert run(*words) == 0
        summary = summary_of(capsys)
        assert summary["statuses"] == {"ok": 64}
        assert (summary["detections"], summary["forwards"], summary["vectors"]) == (0, 0, 0)

    def test_touching_renaming_and_relabelling_computes_nothing(self, rendered, table, weights, tmp_path, capsys):
        copy = tmp_path / "copy"
        shutil.copytree(rendered, copy)
        photos = sorted(copy.rglob("*.jpg"))
        for number, photo in enumerate(photos):
            photo.rename(copy / f"renamed-{number}.jpg")
        lines = ["path,label", *(f"renamed-{number}.jpg,joy" for number in range(len(photos)))]
        (copy / "new.csv").write_text("\n".join(lines))
        own = tmp_path / "table"
        shutil.copytree(table, own)
        capsys.readouterr()
        assert run("extract", copy / "new.csv", "--table", own, "--weights", weights, "--workers", 0, "--json") == 0
        summary = summary_of(capsys)
        assert (summary["detections"], summary["forwards"]) == (0, 0)
        assert run("export", own, "--to", "csv", "--out", tmp_path / "f.csv", "--json") == 0
        document = summary_of(capsys)
        assert (document["out"], document["format"], document["rows"]) == (str(tmp_path / "f.csv"), "csv", 64)
        assert {row["label"] for row in rows_of(tmp_path / "f.csv")} == {"happiness"}

    def test_a_second_backbone_detects_nothing(self, rendered, table, tmp_path, capsys):
        own = tmp_path / "table"
        shutil.copytree(table, own)
        words = ("fit_cnn", rendered / "samples.csv", "--arch", "seed_cnn", "--model", tmp_path / "m.safetensors")
        (tmp_path / "r.toml").write_text("epochs = 1")
        assert run(*words, "--table", own, "--recipe", tmp_path / "r.toml", "--workers", 0) == 0
        assert "detected in 0, 64 new vectors" in capsys.readouterr().err

    def test_photos_without_a_face_keep_their_rows(self, rendered, weights, tmp_path, capsys):
        (tmp_path / "empty.jpg").write_bytes(b"")
        lines = ["path,label", "empty.jpg,anger", "gone.jpg,anger", f"{rendered}/subject-000/anger-0.jpg,anger"]
        (tmp_path / "s.csv").write_text("\n".join(lines))
        table = tmp_path / "t"
        assert run("extract", tmp_path / "s.csv", "--table", table, "--weights", weights, "--workers", 0, "--json") == 0
        assert summary_of(capsys)["statuses"] == {"ok": 1, "missing": 1, "unreadable": 1}

    def test_face_crops_are_hinted_at(self, weights, tmp_path, capsys):
        from PIL import Image

        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 255, (48, 48)).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / f"{number}.png")
        assert run("extract", tmp_path, "--table", tmp_path / "t", "--weights", weights, "--workers", 0) == 0
        assert "--detector none" in capsys.readouterr().err


class TestFitAndClassify:
    def test_crops_kept_for_cnns_are_passed_over(self, rendered, table, weights, tmp_path, capsys):
        own = tmp_path / "table"
        shutil.copytree(table, own)
        (tmp_path / "r.toml").write_text("epochs = 1")
        words = ("fit_cnn", rendered / "samples.csv", "--arch", "seed_cnn", "--model", tmp_path / "m.safetensors")
        assert run(*words, "--table", own, "--recipe", tmp_path / "r.toml", "--workers", 0) == 0
        assert run("fit_svm", own, "--model", tmp_path / "svm.pkl", "--weights", weights, "--folds", 2, "--C", 1) == 0
        assert load_model(tmp_path / "svm.pkl").recipe["features"]["backbone"] == "fer-vgg"
        assert run("fit_svm", own, "--model", tmp_path / "svm.pkl", "--backbone", "pixels") == 2
        assert "holds vectors of fer-vgg-" in capsys.readouterr().err

    def test_one_of_two_stores_of_a_backbone_is_chosen_by_its_name(self, rendered, weights, tmp_path, capsys):
        own, source = tmp_path / "table", rendered / "samples.csv"
        for views in (2, 1):
            words = ("extract", source, "--table", own, "--weights", weights, "--workers", 0, "--detector", "none")
            assert run(*words, "--views", views) == 0
        words = ("fit_svm", own, "--model", tmp_path / "svm.pkl", "--weights", weights, "--folds", 2, "--C", 1)
        capsys.readouterr()
        assert run(*words, "--backbone", "fer-vgg") == 2
        said = capsys.readouterr().err
        assert "holds more than one store of 'fer-vgg'" in said
        second = said.rpartition(", ")[2].strip()
        assert run(*words, "--backbone", second) == 0
        assert load_model(tmp_path / "svm.pkl").recipe["features"]["views"] == 2
        assert run("export", own, "--to", "csv", "--out", tmp_path / "f.csv", "--backbone", second) == 0
        assert run(*words, "--backbone", "hog") == 2
        assert "does not hold 'hog': choose one of fer-vgg-" in capsys.readouterr().err

    def test_a_classify_into_the_table_does_not_change_what_is_fitted_on(self, rendered, weights, tmp_path, capsys):
        """Classifying keeps all faces of a photo, fitting takes the largest."""
        from PIL import Image

        pair = [Image.open(rendered / f"subject-00{number}" / "fear-0.jpg") for number in (0, 1)]
        both = Image.new("RGB", (440, 220))
        for place, photo in zip((0, 220), pair, strict=True):
            both.paste(photo, (place, 0))
        both.save(tmp_path / "both.png")
        lines = [f"{photo},{photo.name.partition('-')[0]}" for photo in sorted(rendered.rglob("subject-00[23]/*.jpg"))]
        (tmp_path / "s.csv").write_text("\n".join(["path,label", "both.png,fear", *lines]))
        own, model = tmp_path / "t", tmp_path / "svm.pkl"
        fit = ("fit_svm", own, "--model", model, "--weights", weights, "--folds", 2, "--C", 1, "--json")
        assert run("extract", tmp_path / "s.csv", "--table", own, "--weights", weights, "--workers", 0) == 0
        assert run(*fit) == 0
        words = ("classify", tmp_path / "s.csv", "--model", model, "--weights", weights, "--workers", 0)
        assert run(*words, "--table", own, "--out", tmp_path / "o") == 0
        assert len(rows_of(tmp_path / "o" / "predictions.csv")) == 18
        capsys.readouterr()
        assert run(*fit) == 0
        assert sum(summary_of(capsys)["samples"].values()) == 17
        assert load_model(model).recipe["faces"]["policy"] == "largest"

    def test_rendered_faces_of_new_people(self, table, weights, tmp_path, capsys):
        """Even fc7 of an untrained network carries enough for far more than chance (0.125)."""
        model = tmp_path / "svm.pkl"
        assert run("fit_svm", table, "--model", model, "--weights", weights, "--folds", 4, "--C", 0.1, 1, 10) == 0
        write_faces(tmp_path / "new", subjects=3, per_emotion=1, size=(200, 200), seed=5)
        out = tmp_path / "out"
        words = ("classify", tmp_path / "new" / "samples.csv", "--model", model, "--weights", weights, "--out", out)
        capsys.readouterr()
        assert run(*words, "--workers", 0, "--pictures") == 0
        said = capsys.readouterr().out
        assert "accuracy" in said
        assert "coverage 1.0000" in said
        rows = rows_of(out / "predictions.csv")
        assert len(rows) == 24
        names = [name for name in rows[0] if name.startswith("p_")]
        for row in rows:
            values = {name[2:]: float(row[name]) for name in names}
            assert sum(values.values()) == pytest.approx(1, abs=1e-4)
            assert max(values, key=values.get) == row["label"]
        document = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
        assert document["scores"]["all"]["accuracy"] == pytest.approx(
            sum(row["label"] == row["truth"] for row in rows) / 24
        )
        assert len(list((out / "pictures").glob("*.png"))) == 24
        assert (out / "sheet.png").exists()

    def test_cnn_models_classify_too(self, rendered, tmp_path, capsys):
        model = tmp_path / "m.safetensors"
        (tmp_path / "r.toml").write_text("epochs = 2")
        words = ("fit_cnn", rendered / "samples.csv", "--arch", "seed_cnn", "--model", model, "--workers", 0)
        assert run(*words, "--recipe", tmp_path / "r.toml") == 0
        assert not (tmp_path / "m.safetensors.ckpt").exists()
        assert [row["epoch"] for row in rows_of(tmp_path / "m.safetensors.log.csv")] == ["1", "2"]
        photo = rendered / "subject-000" / "anger-0.jpg"
        assert run("classify", photo, "--model", model, "--out", tmp_path / "out", "--workers", 0) == 0
        (row,) = rows_of(tmp_path / "out" / "predictions.csv")
        assert row["status"] == "ok"
        assert row["label"] in load_model(model).labels
        assert list(row) == [
            *("path", "face", "left", "top", "right", "bottom", "score", "label", "confidence"),
            *(f"p_{name}" for name in load_model(model).labels),
            *("status", "error"),
        ]

    def test_fer2013_written_as_pictures_is_known_by_its_names_to_what_learnt_from_its_rows(self, tmp_path, capsys):
        """Files have other content keys than the rows that the shipped network was trained on: nothing was said."""
        rng, out = np.random.default_rng(0), tmp_path / "o"
        for number in range(24):
            folder = tmp_path / "fer" / ("happy", "sad")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            part = "PublicTest" if number >= 20 else "Training"
            Image.fromarray(rng.integers(0, 255, (48, 48), np.uint8)).save(folder / f"{part}_{number}.png")
        table, model = tmp_path / "t", tmp_path / "svm.pkl"
        assert run("extract", tmp_path / "fer", "--table", table, "--workers", 0) == 0
        assert run("fit_svm", table, "--model", model, "--C", 1) == 0
        assert "LEAK" not in capsys.readouterr().err  # it chose on PublicTest
        words = ("compare", tmp_path / "fer", "--out", out, "--workers", 0, "--methods", "svm", "--folds", 3)
        assert run(*words) == 2  # all 24 would be tested on
        assert "LEAK: the backbone of svm was trained on 20 of the photos to test on" in capsys.readouterr().err
        for photo in (tmp_path / "fer").rglob("PublicTest*"):
            photo.unlink()
        assert run("extract", tmp_path / "fer", "--table", table, "--workers", 0) == 0
        assert run("fit_svm", table, "--model", model, "--C", 1, "--folds", 2) == 0
        assert "LEAK: C and temperature were chosen on photos" in capsys.readouterr().err

    def test_figures_of_the_photos_chosen_on_are_told_to_be_too_good(self, tmp_path, capsys):
        rng, labels = np.random.default_rng(0), np.arange(32) % 2
        images = (60 * rng.random((32, 48, 48)) + 120 * labels[:, None, None]).astype(np.uint8)
        usage = np.array(["Training"] * 24 + ["PublicTest"] * 8)
        np.savez(tmp_path / "a.npz", images=images, labels=labels, usage=usage, classes=np.array(["Angry", "Fear"]))
        table, model = tmp_path / "t", tmp_path / "svm.pkl"
        assert run("extract", tmp_path / "a.npz", "--table", table, "--backbone", "hog", "--workers", 0) == 0
        for options, chosen in ((("--C", 1), True), (("--C", 1), False)):
            assert run("fit_svm", table, "--model", model, *options) == 0
            if not chosen:
                np.savez(tmp_path / "a.npz", images=images, labels=labels, classes=np.array(["Angry", "Fear"]))
            capsys.readouterr()
            words = ("classify", tmp_path / "a.npz", "--model", model, "--table", table, "--out", tmp_path / "o")
            assert run(*words, "--workers", 0) == 0
            told = capsys.readouterr().out
            assert ("settings were chosen on val photos" in told) == chosen

    def test_c_is_chosen_on_val_where_there_is_one(self, rendered, table, weights, tmp_path, capsys):
        lines = ["path,label,split"]
        for photo in sorted(rendered.rglob("*.jpg")):
            split = {"subject-006": "val", "subject-007": "test"}.get(photo.parent.name, "train")
            lines.append(f"{photo},{photo.name.partition('-')[0]},{split}")
        lines.append(f"{rendered}/subject-000/anger-0.jpg,anger,val")  # as FER2013 has them: copies across splits
        (tmp_path / "s.csv").write_text("\n".join(lines))
        own = tmp_path / "t"
        shutil.copytree(table, own)
        assert run("extract", tmp_path / "s.csv", "--table", own, "--weights", weights, "--workers", 0) == 0
        capsys.readouterr()
        words = ("fit_svm", own, "--model", tmp_path / "svm.pkl", "--C", 1, "--json", "--weights")
        assert run(*words, weights) == 0
        captured = capsys.readouterr()
        assert "1 of 9 val photos are copies of training photos" in captured.err
        assert json.loads(captured.out)["identity"] == "unknown"
        summary = json.loads(captured.out)
        assert summary["chosen_on"] == "validation"
        assert sum(summary["samples"].values()) == 48
        assert run(*words[:-2], "--weights", weights) == 0
        assert "(grouped by none, identity unknown)" in capsys.readouterr().out
        assert run(*words, tmp_path / "gone") == 2
        assert "no weights file" in capsys.readouterr().err

    def test_test_photos_are_scored_and_those_trained_on_are_called_a_leak(self, rendered, tmp_path, capsys):
        photos = sorted(rendered.rglob("*.jpg"))
        lines = ["path,label,split"]
        for number, photo in enumerate(photos):
            lines.append(f"{photo},{photo.name.partition('-')[0]},{'train' if number < 48 else 'test'}")
        (tmp_path / "s.csv").write_text("\n".join(lines))
        (tmp_path / "known.csv").write_text("\n".join(lines[:17]))
        (tmp_path / "r.toml").write_text("epochs = 1")
        cnn, svm, table = tmp_path / "m.safetensors", tmp_path / "svm.pkl", tmp_path / "t"
        words = ("fit_cnn", tmp_path / "s.csv", "--arch", "seed_cnn", "--model", cnn, "--workers", 0)
        assert run(*words, "--table", table, "--recipe", tmp_path / "r.toml") == 0
        assert run("extract", tmp_path / "s.csv", "--table", tmp_path / "f", "--backbone", "hog", "--workers", 0) == 0
        assert run("fit_svm", tmp_path / "f", "--model", svm, "--C", 1, "--folds", 2) == 0
        for model, source, leak in (
            (cnn, "s.csv", 0),
            (cnn, "known.csv", 16),
            (svm, "s.csv", 0),
            (svm, "known.csv", 16),
        ):
            capsys.readouterr()
            words = ("classify", tmp_path / source, "--model", model, "--out", tmp_path / "out")
            assert run(*words, "--table", tmp_path / f"for-{model.name}", "--workers", 0) == 0
            said = capsys.readouterr().out
            assert ("LEAK" in said) is bool(leak)
            assert ("on the photos of split test (16)" if source == "s.csv" else "on all photos (16)") in said
            document = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
            assert (document["scores"]["all"]["photos"], document["scores"]["leak"]) == (16, leak)
            assert document["scores"]["part"] == ("test" if source == "s.csv" else "all")
            assert "truth" in document["predictions"][0]

    @pytest.mark.parametrize("kind", ["svm", "cnn"])
    def test_photos_without_any_face_have_rows_with_a_status(self, kind, table, weights, tmp_path, capsys):
        """In a fresh table, which has then no vector at all."""
        from PIL import Image

        Image.new("RGB", (120, 120), "white").save(tmp_path / "blank.png")
        (tmp_path / "s.csv").write_text("path,label\nblank.png,anger\ngone.png,fear")
        model = tmp_path / "model"
        if kind == "svm":
            assert run("fit_svm", table, "--model", model, "--weights", weights, "--folds", 2, "--C", 1) == 0
        else:
            shutil.copy(weights, model)
        words = ("classify", tmp_path / "s.csv", "--model", model, "--out", tmp_path / "o", "--workers", 0)
        words = (*words, "--pictures", "--prior", "anger=0.5", *(("--weights", weights) if kind == "svm" else ()))
        assert run(*words) == 0, capsys.readouterr().err
        rows = rows_of(tmp_path / "o" / "predictions.csv")
        assert [(row["status"], row["label"], row["p_anger"]) for row in rows] == [
            ("no_face", "", ""),
            ("missing", "", ""),
        ]

    def test_labels_the_model_does_not_know_are_said_to_be_wrong(self, rendered, weights, tmp_path, capsys):
        """A model of anger and fear."""
        photos = [f"{rendered}/subject-000/{label}-0.jpg,{label}" for label in ("anger", "happiness", "fear")]
        (tmp_path / "s.csv").write_text("\n".join(["path,label", *photos, photos[1]]))
        words = ("classify", tmp_path / "s.csv", "--model", weights, "--out", tmp_path / "o", "--workers", 0)
        assert run(*words) == 0
        assert "2 photos are labelled happiness, which the model does not know: always wrong" in capsys.readouterr().out
        document = json.loads((tmp_path / "o" / "predictions.json").read_text(encoding="utf-8"))
        assert document["scores"]["unknown"] == {"happiness": 2}

    def test_pictures_of_an_earlier_run_are_gone(self, rendered, weights, tmp_path, capsys):
        out = tmp_path / "o"
        words = ("--model", weights, "--out", out, "--workers", 0, "--pictures")
        assert run("classify", rendered / "subject-000", *words) == 0
        mine = "20190101-holiday.png"  # begins as ours do
        Image.new("RGB", (8, 8)).save(out / "pictures" / mine)
        assert run("classify", rendered / "subject-001" / "fear-0.jpg", *words) == 0
        assert sorted(path.name for path in (out / "pictures").iterdir()) == ["00000-fear-0.png", mine]
        assert run("classify", out / "pictures" / "00000-fear-0.png", *words) == 0
        assert (out / "pictures" / "00000-fear-0.png").exists()
        assert run("classify", out / "pictures", *words) == 2
        assert "give another --out" in capsys.readouterr().err

    def test_predictions_stand_beside_no_pictures_of_others(self, rendered, weights, tmp_path, capsys):
        out = tmp_path / "o"
        words = ("--model", weights, "--out", out, "--workers", 0)
        assert run("classify", rendered / "subject-000" / "fear-0.jpg", *words, "--pictures") == 0
        assert f"pictures: {out / 'pictures'}" in capsys.readouterr().out
        assert run("classify", rendered / "subject-001" / "fear-0.jpg", *words) == 0
        assert list(out.rglob("*.png")) == []
        Image.new("RGB", (64, 64)).save(tmp_path / "nobody.png")
        capsys.readouterr()
        assert run("classify", tmp_path / "nobody.png", *words, "--pictures") == 0
        assert "pictures:" not in capsys.readouterr().out

    def test_photos_that_vanish_or_change_before_they_are_drawn_stop_nothing(
        self, rendered, weights, tmp_path, capsys, monkeypatch
    ):
        photos, out, write = tmp_path / "photos", tmp_path / "o", classify.write_predictions
        photos.mkdir()
        for name in ("changed", "gone", "lost", "there"):
            shutil.copy(rendered / "subject-000" / "anger-0.jpg", photos / f"{name}.jpg")

        def written(*given):
            write(*given)
            (photos / "gone.jpg").unlink(missing_ok=True)
            (photos / "lost.jpg").unlink(missing_ok=True)
            shutil.copy(rendered / "subject-001" / "fear-0.jpg", photos / "changed.jpg")

        monkeypatch.setattr(classify, "write_predictions", written)
        words = ("classify", photos, "--model", weights, "--out", out, "--workers", 0, "--pictures", "--json")
        assert run(*words) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["extraction"]["statuses"] == {"ok": 4}
        assert captured.err.count("not drawn") == 1
        assert f"3 photos could not be read again and are not drawn; the first: {photos}/changed" in captured.err
        assert [path.name for path in (out / "pictures").iterdir()] == ["00003-there.png"]
        assert (out / "sheet.png").exists()

    def test_a_model_of_face_crops_says_nothing_of_photos_cut_as_it_asks(self, rendered, weights, tmp_path, capsys):
        own, model = tmp_path / "t", tmp_path / "svm.pkl"
        words = ("extract", rendered / "samples.csv", "--detector", "none", "--weights", weights, "--workers", 0)
        assert run(*words, "--table", own) == 0
        assert run("fit_svm", own, "--model", model, "--weights", weights, "--folds", 2, "--C", 1) == 0
        photo = rendered / "subject-000" / "anger-0.jpg"
        words = ("classify", photo, "--model", model, "--weights", weights, "--workers", 0, "--out", tmp_path / "o")
        capsys.readouterr()
        assert run(*words) == 0
        assert "otherwise than when the model was fitted" not in capsys.readouterr().err
        assert run(*words, "--margin", 0.6) == 0
        assert "otherwise than when the model was fitted" in capsys.readouterr().err

    def test_names_of_any_kind(self, rendered, tmp_path, capsys):
        """Bytes that are not UTF-8, line breaks, and a name as long as a file system takes."""
        photos = tmp_path / "photos"
        photos.mkdir()
        for name in (b"caf\xe9.jpg", b"new\nline.jpg", b"com,ma.jpg", b"a" * 250 + b".jpg"):
            shutil.copy(rendered / "subject-000" / "anger-0.jpg", photos / os.fsdecode(name))
        model, out = tmp_path / "m.safetensors", tmp_path / os.fsdecode(b"out\xe9")
        CNNClassifier("fer-vgg", small_recipe(), device="cpu").fit(
            np.zeros((8, 48, 48), np.uint8), ["anger", "fear"] * 4
        ).save(model)
        words = ("classify", photos, "--model", model, "--out", out, "--workers", 0, "--pictures")
        assert run(*words) == 2
        assert "not UTF-8: give another --table" in capsys.readouterr().err
        words = (*words, "--table", tmp_path / "t")
        assert run(*words, "--json") == 0
        assert summary_of(capsys)["extraction"]["statuses"] == {"ok": 4}
        names = [row["path"].rpartition("photos/")[2] for row in rows_of(out / "predictions.csv")]
        assert sorted(names) == sorted([r"caf\udce9.jpg", "new\nline.jpg", "com,ma.jpg", "a" * 250 + ".jpg"])
        assert len(list((out / "pictures").iterdir())) == 4
        assert run(*words) == 0
        assert r"out\udce9" in capsys.readouterr().out

    @pytest.mark.parametrize(("people", "few"), [(4, True), (5, False)])
    def test_intervals_of_few_people_are_not_given(self, people, few, rendered, tmp_path, capsys):
        lines = ["path,label,subject"]
        lines += [f"{rendered}/subject-00{number}/fear-0.jpg,fear,S{number}" for number in range(people)]
        (tmp_path / "s.csv").write_text("\n".join(lines))
        model = tmp_path / "m.safetensors"
        CNNClassifier("fer-vgg", small_recipe(), device="cpu").fit(
            np.zeros((8, 48, 48), np.uint8), ["anger", "fear"] * 4
        ).save(model)
        words = ("classify", tmp_path / "s.csv", "--model", model, "--out", tmp_path / "o", "--detector", "none")
        assert run(*words, "--workers", 0) == 0
        said = capsys.readouterr().out
        assert ("too few subjects for intervals" in said) is few
        assert ("intervals: 95 %, over subjects" in said) is not few

    def test_models_that_name_no_vectors_are_refused(self, rendered, tmp_path, capsys):
        """A LinearSVMCV fitted in Python on vectors of one's own."""
        model = LinearSVMCV(Cs=[1.0], folds=2).fit(np.eye(4), ["anger", "fear"] * 2)
        save_svm(tmp_path / "svm.pkl", model)
        photo = rendered / "subject-000" / "anger-0.jpg"
        assert run("classify", photo, "--model", tmp_path / "svm.pkl", "--out", tmp_path / "o") == 2
        assert "does not say of which vectors" in capsys.readouterr().err

    def test_other_weights_than_the_models_are_refused(self, table, weights, rendered, tmp_path, capsys):
        model = tmp_path / "svm.pkl"
        assert run("fit_svm", table, "--model", model, "--weights", weights, "--folds", 4, "--C", 1) == 0
        other = CNNClassifier("fer-vgg", small_recipe(), device="cpu", seed=1)
        other.fit(np.zeros((8, 48, 48), np.uint8), ["anger", "fear"] * 4)
        other.save(tmp_path / "other.safetensors")
        photo = rendered / "subject-000" / "anger-0.jpg"
        words = ("classify", photo, "--model", model, "--weights", tmp_path / "other.safetensors")
        assert run(*words, "--out", tmp_path / "out") == 2
        assert "weights" in capsys.readouterr().err

    def test_choosing_on_photos_the_backbone_has_seen_is_called_a_leak(self, rendered, tmp_path, capsys):
        """fer-vgg is trained on these very photos, then an SVM chooses C on them."""
        (tmp_path / "r.toml").write_text("epochs = 1\nbatch_size = 8\n[network]\nwidth = 0.125")
        model, source = tmp_path / "fer.safetensors", rendered / "samples.csv"
        words = ("fit_cnn", source, "--arch", "fer-vgg", "--model", model, "--recipe", tmp_path / "r.toml")
        assert run(*words, "--workers", 0) == 0
        own = tmp_path / "t"
        assert run("extract", source, "--table", own, "--weights", model, "--workers", 0) == 0
        capsys.readouterr()
        words = ("fit_svm", own, "--model", tmp_path / "svm.pkl", "--weights", model, "--folds", 4, "--C", 1)
        assert run(*words, "--json") == 0
        captured = capsys.readouterr()
        assert "LEAK" in captured.err
        assert json.loads(captured.out)["leak"] is True
        words = ("compare", source, "--methods", "svm", "--out", tmp_path / "c", "--table", own, "--weights", model)
        assert run(*words, "--workers", 0) == 2
        assert "LEAK" in capsys.readouterr().err


class TestCompare:
    def test_missing_photos_are_left_out_and_counted(self, rendered, weights, tmp_path, capsys):
        lines = ["path,label,subject", "gone.jpg,anger,nobody"]
        lines += [f"{photo},{photo.name.partition('-')[0]},{photo.parent.name}" for photo in rendered.rglob("*.jpg")]
        (tmp_path / "s.csv").write_text("\n".join(lines))
        words = ("compare", tmp_path / "s.csv", "--methods", "svm", "--out", tmp_path / "c", "--folds", 2)
        assert run(*words, "--weights", weights, "--workers", 0, "--json") == 0
        captured = capsys.readouterr()
        assert "1 labelled photos are missing" in captured.err
        assert json.loads(captured.out)["photos"] == 64

    def test_a_backbone_without_the_precision_asked_for_computes_in_its_own(self, rendered, tmp_path, capsys):
        words = ("compare", rendered / "samples.csv", "--methods", "svm:hog", "--precision", "bf16", "--folds", 2)
        assert run(*words, "--out", tmp_path / "c", "--workers", 0, "--json") == 0
        assert json.loads(capsys.readouterr().out)["methods"]["svm:hog"]["all"]["photos"] == 64

    def test_methods_share_frozen_folds(self, rendered, table, weights, tmp_path, capsys, monkeypatch):
        import dataclasses

        from featurepipe.models.baselines import registry

        seed = registry.BASELINES["seed_cnn"]
        quick = dataclasses.replace(seed, recipe=dataclasses.replace(seed.recipe, epochs=2))
        monkeypatch.setitem(registry.BASELINES, "seed_cnn", quick)
        out = tmp_path / "c"
        words = ("compare", rendered / "samples.csv", "--methods", "svm", "seed_cnn", "--out", out, "--folds", 4)
        assert run(*words, "--weights", weights, "--workers", 0) == 0
        said = capsys.readouterr().out
        assert "4 folds of subjects" in said
        assert FeatureTable.open(out / "table").matrix().X.shape == (64, 4096)  # not the crops of seed_cnn
        document = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
        assert f"torch {torch.__version__}," in document["versions"]
        for name in ("svm", "seed_cnn"):
            figures = document["methods"][name]
            assert figures["all"]["photos"] == 64
            assert np.sum(figures["confusion"]["counts"]) == 64
            assert (out / f"confusion-{name}.png").stat().st_size > 1000
        folds = (out / "folds.json").read_text(encoding="utf-8")
        assert run(*words[:3], "svm", *words[5:], "--weights", weights, "--workers", 0, "--seed", 9) == 0
        assert (out / "folds.json").read_text(encoding="utf-8") == folds

    def test_a_stopped_comparison_goes_on_and_a_failing_method_stops_nobody(
        self, rendered, weights, tmp_path, capsys, monkeypatch
    ):
        """Stopped in the third of four folds: the same command fits the two that are left; another seed all four."""
        fits, stopped, fit = [], [], LinearSVMCV.fit

        def counted(self, *given, **named):
            if len(fits) == 2 and not stopped:
                stopped.append(True)
                raise KeyboardInterrupt
            fits.append(1)
            return fit(self, *given, **named)

        def broken(self, *given, **named):
            raise ModelError("training diverged")

        monkeypatch.setattr(LinearSVMCV, "fit", counted)
        monkeypatch.setattr(CNNClassifier, "fit", broken)
        monkeypatch.setattr("featurepipe.commands.compare.write_report", lambda *given: None)
        words = ("compare", rendered / "samples.csv", "--methods", "seed_cnn", "svm", "--out", tmp_path, "--folds", 4)
        words = (*words, "--weights", weights, "--workers", 0, "--json")
        assert run(*words) == 130
        said = capsys.readouterr().err
        assert "goes on after the last fold that was fitted, in a CNN after the last checkpoint" in said
        assert run(*words) == 0
        first = summary_of(capsys)
        assert len(fits) == 4
        assert first["failed"] == {"seed_cnn": "training diverged"}
        assert list(first["methods"]) == ["svm"]
        next((tmp_path / "results").iterdir()).write_bytes(b"PK")
        assert run(*words) == 0
        assert len(fits) == 5
        assert summary_of(capsys)["methods"]["svm"]["confusion"] == first["methods"]["svm"]["confusion"]
        assert run(*words, "--seed", 3) == 0
        assert len(fits) == 9
        capsys.readouterr()
        assert run(*(word for word in words if word not in ("svm", "--weights", weights))) == 2
        assert "error: training diverged" in capsys.readouterr().err

    def test_a_stopped_fit_goes_on_bit_equal(self, rendered, tmp_path, capsys, monkeypatch):
        """Stopped after the first of three epochs of the second fold: five epochs are trained in all, not six."""
        epochs = []

        def stopping(progress, done):
            epochs.append(done)
            if len(epochs) == 4:
                raise KeyboardInterrupt

        monkeypatch.setattr("featurepipe.commands.compare_fit.move_to", stopping)
        monkeypatch.setattr("featurepipe.commands.compare.write_report", lambda *given: None)
        words = ("compare", rendered / "samples.csv", "--methods", "seed_cnn", "--epochs", 3, "--folds", 2)
        words = (*words, "--workers", 0, "--json", "--out")
        assert run(*words, tmp_path / "stopped") == 130
        assert [file.suffix for file in sorted((tmp_path / "stopped" / "results").iterdir())].count(".ckpt") == 1
        assert run(*words, tmp_path / "stopped") == 0
        assert epochs == [1, 2, 3, 1, 2, 3]
        assert {file.suffix for file in (tmp_path / "stopped" / "results").iterdir()} == {".npz"}
        stopped = summary_of(capsys)["methods"]["seed_cnn"]
        assert run(*words, tmp_path / "whole") == 0
        whole = summary_of(capsys)["methods"]["seed_cnn"]
        assert stopped["confusion"] == whole["confusion"]
        outputs = []
        for out in ("stopped", "whole"):
            for file in sorted((tmp_path / out / "results").iterdir()):
                with np.load(file) as kept:
                    outputs.append(kept["outputs"])
        np.testing.assert_array_equal(outputs[:2], outputs[2:])
        assert not np.allclose(outputs[0].sum(1), 1)  # the network's sigmoids, which its squared error is of

    def test_the_page_shows_faces_of_mistakes(self, rendered, weights, tmp_path, capsys):
        words = ("compare", rendered / "samples.csv", "--methods", "svm", "--out", tmp_path, "--folds", 2)
        assert run(*words, "--weights", weights, "--workers", 0) == 0
        assert "report.html" in capsys.readouterr().out
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "2 folds of subjects" in page
        assert page.count("<figcaption>") == 12
        assert page.count("data:image/png") == 12 + 2

    def test_the_page_shows_no_photos_that_changed(self, rendered, weights, tmp_path, monkeypatch):
        photos = tmp_path / "photos"
        shutil.copytree(rendered, photos)
        write = compare.write_report

        def written(*given):
            for photo in photos.rglob("*.jpg"):
                Image.new("RGB", (200, 200)).save(photo)
            write(*given)

        monkeypatch.setattr(compare, "write_report", written)
        words = ("compare", photos / "samples.csv", "--methods", "svm", "--out", tmp_path / "c", "--folds", 2)
        assert run(*words, "--weights", weights, "--workers", 0, "--detector", "none") == 0
        page = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
        assert page.count("<figcaption>") == 12
        assert page.count("data:image/png") == 2  # the plots

    def test_other_folds_than_the_frozen_ones_are_refused(self, rendered, weights, tmp_path, capsys):
        words = ("compare", rendered / "samples.csv", "--methods", "svm", "--out", tmp_path, "--weights", weights)
        words = (*words, "--workers", 0, "--folds")
        assert run(*words, 2) == 0
        assert run(*words, 3) == 2
        assert "holds 2 folds, not 3" in capsys.readouterr().err

    def test_official_split(self, rendered, weights, tmp_path, capsys):
        """Six people train, two test; test has a copy of one training picture; a class that trains once is dropped."""
        lines = ["path,label,split"]
        for photo in sorted(rendered.rglob("*.jpg")):
            split = "train" if photo.parent.name < "subject-006" else "test"
            label = photo.name.partition("-")[0]
            if label != "fear" or photo.parent.name in ("subject-000", "subject-007"):
                lines.append(f"{photo},{label},{split}")
        lines.append(f"{rendered}/subject-000/anger-0.jpg,anger,test")
        (tmp_path / "s.csv").write_text("\n".join(lines))
        words = ("compare", tmp_path / "s.csv", "--methods", "svm", "--out", tmp_path / "c", "--weights", weights)
        assert run(*words, "--workers", 0, "--min-per-class", 2, "--json") == 0
        document = summary_of(capsys)
        assert (document["protocol"], document["identity"]) == ("official split", "unknown")
        assert (document["photos"], document["shared"], document["dropped"]) == (15, 1, {"fear": 1})
        assert "fear" not in document["classes"]

    def test_shuffled_labels_are_at_chance(self, tmp_path, capsys):
        write_faces(tmp_path / "faces", subjects=16, per_emotion=1, size=(160, 160), seed=2)
        words = ("compare", tmp_path / "faces" / "samples.csv", "--methods", "svm", "--out", tmp_path / "c")
        words = (*words, "--folds", 2, "--workers", 0, "--json")
        accuracy = {}
        for control in ((), ("--shuffle-labels",)):
            assert run(*words, *control) == 0, capsys.readouterr().err
            accuracy[bool(control)] = summary_of(capsys)["methods"]["svm"]["all"]["accuracy"]
        spread = np.sqrt(0.125 * 0.875 / 128)
        assert accuracy[True] < 0.125 + 4 * spread < accuracy[False]


class TestList:
    def test_every_architecture_with_its_size_and_fidelity(self, capsys):
        assert run("fit_cnn", "--list") == 0
        said = capsys.readouterr().out
        for words in (
            "kc_vgg: 29,890,759 parameters",
            "agrawal_b: 329,543 parameters",
            "reconstruction",
            "66.4 % FER2013",
            "landmarks: dlib's 68 in each face",
            "differs from it: each step draws one crop at random of every warped picture, not ten fixed ones",
        ):
            assert words in said

    def test_every_method_of_compare_is_listed(self, capsys):
        assert run("fit_cnn", "--list") == 0
        heads = {line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line[:1].strip()}
        assert {method.removeprefix("svm:") for method in METHODS} - {"svm"} <= heads

    def test_for_machines(self, capsys):
        assert run("fit_cnn", "--list", "--json") == 0
        document = json.loads(capsys.readouterr().out)
        sizes = {row["name"]: row["parameters"] for row in document["architectures"]}
        assert sizes["kc_vgg"] == 29_890_759
        assert {row["name"] for row in document["backbones"]} == set(BACKBONES)

    def test_ctrl_c_while_it_is_made(self, monkeypatch, capsys):
        def stopped(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr("featurepipe.commands.fit_cnn._listed", stopped)
        assert run("fit_cnn", "--list") == 130
        assert "stopped" in capsys.readouterr().err


class TestWords:
    """What options take, before anything runs."""

    def test_a_list_goes_on_where_its_option_is_given_again(self):
        words = ("compare", "s.csv", "--out", "o", "--methods", "svm", "--methods", "ednn", "svm:hog")
        words += ("--recipe", "seed_cnn=a.toml", "--recipe", "ednn=b.toml", "--seeds", "3", "--seeds", "4")
        args = build_parser().parse_args(words)
        assert args.methods == ["svm", "ednn", "svm:hog"]
        assert args.recipe == [("seed_cnn", "a.toml"), ("ednn", "b.toml")]
        assert args.seeds == [3, 4]
        assert build_parser().parse_args(("compare", "s.csv", "--out", "o")).methods == ["svm", "seed_cnn"]

    @pytest.mark.parametrize(
        "words",
        [
            ("classify", "photos", "--out", "o", "--model", ""),
            ("classify", "", "--out", "o"),
            ("fit_cnn", "s.csv", "--arch", "ednn", "--model", "m", "--recipe", ""),
            ("extract", "s.csv", "--table", "t", "--weights", ""),
            ("fit_svm", "t", "--model", ""),
        ],
    )
    def test_an_empty_name_is_not_the_default(self, words, capsys):
        with pytest.raises(SystemExit, match="2"):
            run(*words)
        assert "the name is empty" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["models/", "/dev/null", "."])
    def test_a_model_goes_to_a_plain_file(self, name, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit, match="2"):
            run("fit_cnn", "s.csv", "--arch", "ednn", "--model", name)
        assert "a file is wanted" in capsys.readouterr().err

    def test_a_batch_has_an_end(self, capsys):
        with pytest.raises(SystemExit, match="2"):
            run("extract", "s.csv", "--table", "t", "--batch-size", 10**18)
        assert "expected at most 65536 faces" in capsys.readouterr().err

    def test_a_method_has_one_recipe(self, tmp_path, capsys):
        words = ("compare", "s.csv", "--out", tmp_path / "o", "--methods", "ednn")
        assert run(*words, "--recipe", "ednn=a.toml", "ednn=b.toml") == 2
        assert "--recipe names ednn more than once" in capsys.readouterr().err

    def test_what_is_read_is_not_written_over(self, tmp_path, capsys):
        crops = np.random.default_rng(0).integers(0, 255, (4, 48, 48), np.uint8)
        np.savez(tmp_path / "s.npz", images=crops, labels=np.array(["anger", "fear"] * 2))
        before = (tmp_path / "s.npz").read_bytes()
        assert run("fit_cnn", tmp_path / "s.npz", "--arch", "ednn", "--model", tmp_path / "." / "s.npz") == 2
        assert "which is read: write it elsewhere" in capsys.readouterr().err
        assert (tmp_path / "s.npz").read_bytes() == before

    @pytest.mark.parametrize(
        ("words", "read"),
        [
            (("classify", "predictions.csv"), "predictions.csv"),
            (("classify", "s.csv", "--model", "predictions.json"), "predictions.json"),
            (("compare", "comparison.csv"), "comparison.csv"),
            (("compare", "--train", "s.csv", "--test", "comparison.csv"), "comparison.csv"),
            (("compare", "s.csv", "--methods", "ednn", "--recipe", "ednn=folds.json"), "folds.json"),
        ],
    )
    def test_what_is_read_is_not_among_what_is_written(self, words, read, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / read).write_text("epochs = 1")
        assert run(*words, "--out", ".") == 2
        assert f"{read} would be written over {read}, which is read: write it elsewhere" in capsys.readouterr().err
        assert (tmp_path / read).read_text() == "epochs = 1"

    def test_compare_looks_at_out_before_faces(self, rendered, tmp_path, capsys):
        (tmp_path / "o").write_text("mine")
        assert run("compare", rendered / "samples.csv", "--table", tmp_path / "t", "--out", tmp_path / "o") == 2
        said = capsys.readouterr().err
        assert "cannot be written" in said
        assert not (tmp_path / "t").exists()


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("extract", "nowhere", "--table", "t"), "nowhere"),
            (("fit_svm", "nowhere", "--model", "m"), "not a feature table"),
            (("classify", "x.jpg", "--model", "nowhere", "--out", "o"), "no model file"),
            (("classify", ".", "--out", "o", "--pictures"), "give another --out"),
            (("compare", "x.csv", "--methods", "magic", "--out", "o"), "known are svm"),
            (("fit_cnn", "nowhere", "--arch", "seed_cnn", "--model", "m"), "nowhere"),
            (("fit_cnn", ".", "--arch", "seed_cnn", "--model", "m", "--init", "gone"), "there is no file gone"),
            (
                ("compare", ".", "--methods", "svm", "--recipe", "seed_cnn=r.toml", "--out", "o"),
                "no CNN",
            ),
            (("compare", ".", "--methods", "seed_cnn", "--recipe", "seed_cnn=r.toml", "--out", "o"), "could not read"),
            (("weights", "verify", "nothing"), "nothing"),
            (("extract", "here.png", "--table", "t", "--device", "tpu"), "tpu"),
        ],
    )
    def test_exit_code_2_and_a_text_that_helps(self, words, said, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "here.png").touch()
        assert main(list(words)) == 2
        assert said in capsys.readouterr().err

    @pytest.mark.parametrize(
        "words",
        [
            ("extract", "here.png", "--table", "here.png"),
            ("render", "here.png"),
            ("render", "here.png/below"),
            ("weights", "convert", "folder", "--out", "x.safetensors"),
        ],
    )
    def test_files_in_the_way_are_no_traceback(self, words, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "here.png").touch()
        (tmp_path / "folder").mkdir()
        assert main(list(words)) == 2
        assert "error: " in capsys.readouterr().err

    def test_files_that_cannot_be_written_are_said_before_the_work(self, table, weights, rendered, tmp_path, capsys):
        (tmp_path / "file").touch()
        beyond, source, own = tmp_path / "file" / "x", rendered / "samples.csv", tmp_path / "t"
        for words in (
            ("fit_svm", table, "--folds", 4, "--C", 1, "--model", beyond),
            ("fit_cnn", source, "--arch", "seed_cnn", "--table", own, "--model", beyond),
            ("classify", source, "--model", weights, "--table", own, "--out", beyond),
        ):
            assert run(*words) == 2
            assert "cannot be written" in capsys.readouterr().err
        assert not (tmp_path / "t").exists()

    def test_names_too_long_or_linked_away_are_said_early(self, table, rendered, tmp_path, capsys, monkeypatch):
        """A file is written under a longer name, beside what a link leads to; the longest is that of a training log."""
        monkeypatch.setattr(LinearSVMCV, "fit", lambda self, *given, **named: pytest.fail("it was fitted"))
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(tmp_path / "file" / "x")
        source = rendered / "samples.csv"
        for words in (
            ("fit_svm", table, "--model", tmp_path / "link"),
            ("fit_svm", table, "--model", tmp_path / ("m" * 245)),
            ("fit_cnn", source, "--arch", "ednn", "--table", tmp_path / "t", "--model", tmp_path / ("m" * 235)),
        ):
            assert run(*words) == 2
            assert "cannot be written" in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("fit_svm", "t", "--model", "."), "is a folder"),
            (("extract", "x", "--table", "t", "--margin", "nan"), "expected"),
            (("extract", "x", "--table", "t", "--margin", "-1"), "expected"),
            (("fit_svm", "t", "--model", "m", "--folds", "1"), "expected"),
            (("fit_svm", "t", "--model", "m", "--seed", "4294967296"), "expected"),
            (("fit_svm", "t", "--model", "m", "--C", "1e308"), "at most 1e+09"),
            (("extract", "x", "--table", "t", "--workers", "100000"), "at most"),
        ],
    )
    def test_arguments_out_of_range(self, words, said, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err

    def test_files_of_the_table_and_its_weights_are_not_written_over(self, table, weights, rendered, tmp_path, capsys):
        own, vgg = tmp_path / "t", tmp_path / "vgg.safetensors"
        shutil.copytree(table, own)
        shutil.copy(weights, vgg)
        (tmp_path / "link").symlink_to(own)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        source, there = rendered / "samples.csv", tmp_path / "new"
        for words in (
            ("export", own, "--to", "parquet", "--out", own / "samples.parquet"),
            ("export", own, "--to", "csv", "--out", tmp_path / "link" / "vectors" / "f.csv"),
            ("fit_svm", own, "--C", 1, "--weights", weights, "--model", own / "table.json"),
            ("fit_svm", own, "--C", 1, "--weights", vgg, "--model", vgg),
            ("fit_cnn", source, "--arch", "ednn", "--table", there, "--model", there / "samples.parquet"),
        ):
            assert run(*words) == 2
            assert "write it elsewhere" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        for _ in range(2):
            assert run("export", own, "--to", "csv", "--out", own / "f.csv") == 0

    def test_links_stay_and_what_is_no_file_is_not_replaced(self, table, tmp_path, capsys):
        """A link to a model is written through; a pipe, as a device would be, is refused and stays one."""
        (tmp_path / "real").mkdir()
        (tmp_path / "svm.pkl").symlink_to(tmp_path / "real" / "svm.pkl")
        words = ("fit_svm", table, "--folds", 4, "--C", 1, "--model")
        for _ in range(2):
            assert run(*words, tmp_path / "svm.pkl") == 0
            assert (tmp_path / "svm.pkl").is_symlink()
            assert (tmp_path / "real" / "svm.pkl").stat().st_size > 1000
            (tmp_path / "real" / "svm.pkl").write_bytes(b"old")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(SystemExit, match="2"):
            run(*words, tmp_path / "pipe")
        assert "a device or a pipe, a file is wanted" in capsys.readouterr().err
        assert (tmp_path / "pipe").is_fifo()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--soft-weight", 0.9), "--soft-weight is of soft labels"),
            (("--soft-labels", "nowhere"), "there is no file nowhere: name one that fit_cnn --folds wrote"),
            (("--weights", "nowhere"), "there is no weights file nowhere"),
        ],
    )
    def test_what_fit_svm_would_pass_over_is_refused(self, table, words, said, tmp_path, capsys):
        assert run("fit_svm", table, "--folds", 4, "--C", 1, "--model", tmp_path / "m", *words) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "m").exists()

    def test_what_a_cnn_would_pass_over_is_refused(self, rendered, weights, tmp_path, capsys):
        samples, model = rendered / "samples.csv", tmp_path / "m"
        words = ("classify", samples, "--model", weights, "--weights", "nowhere", "--out", tmp_path / "o")
        assert run(*words, "--workers", 0) == 2
        assert "--weights is of an SVM's backbone" in capsys.readouterr().err
        assert run("fit_cnn", samples, "--arch", "ednn", "--model", model, "--folds", 2, "--half") == 2
        assert "--half is of a model's file" in capsys.readouterr().err
        assert run("compare", samples, "--methods", "svm:hog", "--epochs", 3, "--out", tmp_path / "o") == 2
        assert "none is among the methods" in capsys.readouterr().err

    def test_what_crops_leave_without_effect_is_said(self, rendered, tmp_path, capsys):
        words = ("extract", rendered / "subject-000", "--backbone", "hog", "--detector", "none", "--workers", 0)
        for idle, said in (
            ((), ""),
            (("--margin", 0.9, "--max-side", 10), "note: --max-side and --margin change nothing"),
        ):
            assert run(*words, "--table", tmp_path / "t", *idle) == 0
            assert said in (told := capsys.readouterr().err)
            assert ("change nothing" in told) == bool(idle)

    def test_val_photos_of_classes_that_are_not_fitted_on_are_counted(self, rendered, tmp_path, capsys):
        rows = [f"{rendered}/subject-00{s}/{label}-0.jpg,{label},train" for s in range(4) for label in ("anger", "joy")]
        rows = [row.replace("joy-0", "happiness-0") for row in rows]
        rows += [f"{rendered}/subject-005/{label}-0.jpg,{label},val" for label in ("anger", "fear", "sadness")]
        (tmp_path / "s.csv").write_text("\n".join(["path,label,split", *rows]))
        words = ("extract", tmp_path / "s.csv", "--backbone", "hog", "--detector", "none", "--workers", 0)
        assert run(*words, "--table", tmp_path / "t") == 0
        assert run("fit_svm", tmp_path / "t", "--C", 1, "--model", tmp_path / "m") == 0
        assert "2 of 3 val photos are of classes that are not fitted on: left out" in capsys.readouterr().err

    def test_a_checkpoint_is_not_written_over(self, rendered, tmp_path, capsys):
        model, recipe = tmp_path / "m", tmp_path / "r.toml"
        recipe.write_text("epochs = 1\nbatch_size = 4\n")
        words = ("fit_cnn", rendered / "samples.csv", "--arch", "seed_cnn", "--model", model, "--recipe", recipe)
        words = (*words, "--detector", "none", "--workers", 0)
        (tmp_path / "m.ckpt").write_text("hours of work")
        assert run(*words) == 2
        assert f"{model}.ckpt is of a run that was stopped: go on from it with --resume" in capsys.readouterr().err
        assert (tmp_path / "m.ckpt").read_text() == "hours of work"
        (tmp_path / "m.ckpt").unlink()
        assert run(*words, "--resume") == 0
        assert f"nothing to resume, as there is no {model}.ckpt" in capsys.readouterr().err

    def test_too_little_memory_is_no_traceback(self, table, tmp_path, capsys, monkeypatch):
        def fit(*given, **named):
            raise MemoryError("Unable to allocate 1 PiB")

        monkeypatch.setattr(LinearSVMCV, "fit", fit)
        assert run("fit_svm", table, "--folds", 4, "--model", tmp_path / "m") == 2
        assert "too little memory: Unable to allocate 1 PiB" in capsys.readouterr().err

    def test_unlabelled_tables_cannot_be_fitted_on(self, rendered, weights, tmp_path, capsys):
        photos = tmp_path / "photos"
        photos.mkdir()
        shutil.copy(rendered / "subject-000" / "anger-0.jpg", photos)
        assert run("extract", photos, "--table", tmp_path / "t", "--weights", weights, "--workers", 0) == 0
        assert run("fit_svm", tmp_path / "t", "--model", tmp_path / "m") == 2
        assert "no labelled face" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("split", "words", "said"),
        [
            ("test", (), "of 9 photos 8 are labelled, and of these 7 in split test, 1 missing"),
            ("train", ("--min-per-class", 9), "7 of classes with fewer than 9 (--min-per-class), 1 missing"),
        ],
    )
    def test_where_labelled_photos_went(self, split, words, said, rendered, weights, tmp_path, capsys):
        photos = [f"{rendered}/subject-000/{label}-0.jpg" for label in WORDS]
        lines = [f"{photo},{label},{split}" for photo, label in zip(photos[:7], WORDS, strict=False)]
        lines += [f"gone.jpg,anger,{split}", f"{photos[7]},,"]
        (tmp_path / "s.csv").write_text("\n".join(["path,label,split", *lines]))
        extract = ("extract", tmp_path / "s.csv", "--table", tmp_path / "t", "--weights", weights, "--workers", 0)
        assert run(*extract, "--detector", "none") == 0
        assert run("fit_svm", tmp_path / "t", "--model", tmp_path / "m", *words) == 2
        assert said in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            (
                ("a.jpg,,", "b.jpg,,"),
                "nothing to fit on, and at least two labels are needed: of 2 photos 0 are labelled",
            ),
            (("a.jpg,fear,", "b.jpg,joy,test"), "has fear to fit on"),
            (("a.jpg,fear,test", "b.jpg,joy,test"), "2 are labelled, 0 of them in split train"),
        ],
    )
    def test_a_cnn_without_two_labels_is_refused_before_faces_are_looked_for(self, lines, said, tmp_path, capsys):
        (tmp_path / "s.csv").write_text("\n".join(["path,label,split", *lines]))
        assert run("fit_cnn", tmp_path / "s.csv", "--arch", "seed_cnn", "--model", tmp_path / "m") == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "m.table").exists()


def test_a_console_that_lacks_a_character_stops_nothing(monkeypatch, tmp_path):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["render", str(tmp_path / "比較"), "--subjects", "1"]) == 0
    assert b"\\u6bd4\\u8f03" in stream.buffer.getvalue()


class TestWhereAReaderHasLeft:
    """`2> >(head)`, `2>&1 | head`, `| head`: what still is said goes nowhere, and the work is done all the same."""

    @pytest.fixture
    def left(self):
        reader, writer = os.pipe()
        os.close(reader)
        yield writer
        os.close(writer)

    @pytest.fixture
    def extract(self, tmp_path):
        (tmp_path / "photos").mkdir()
        Image.new("RGB", (48, 48)).save(tmp_path / "photos" / "a.png")
        words = ["extract", tmp_path / "photos", "--table", tmp_path / "t", "--backbone", "hog", "--workers", "0"]
        return [sys.executable, "-m", "featurepipe", *words, "--detector", "none", "--margin", "0.1"]  # which is noted

    def test_of_the_notes(self, left, extract, tmp_path):
        done = subprocess.run(extract, stdout=subprocess.PIPE, stderr=left, text=True)
        assert (done.returncode, done.stdout[:14]) == (0, "1 photos: 1 ok")
        assert len(FeatureTable.open(tmp_path / "t").matrix()) == 1

    def test_of_notes_and_result(self, left, extract, tmp_path):
        assert subprocess.run(extract, stdout=left, stderr=left).returncode == 0
        assert len(FeatureTable.open(tmp_path / "t").matrix()) == 1

    def test_of_an_error(self, left, tmp_path):
        words = [sys.executable, "-m", "featurepipe", "datasets", "verify", "fer2013", tmp_path / "nowhere"]
        assert subprocess.run(words, stderr=left).returncode == 2

    def test_of_a_result_that_is_bad(self, left, tmp_path):
        """Whether it breaks as it is printed, or not before it is flushed."""
        pixels = " ".join(["7"] * 48 * 48)
        (tmp_path / "fer2013.csv").write_text(f"emotion,pixels,Usage\n0,{pixels},Training\n")
        words = [sys.executable, "-m", "featurepipe", "datasets", "verify", "fer2013", tmp_path, "--strict"]
        for unbuffered in ("", "1"):
            environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
            done = subprocess.run(words, stdout=left, stderr=subprocess.PIPE, env=environment, text=True)
            assert done.returncode == 2
            assert "Broken" not in done.stderr
