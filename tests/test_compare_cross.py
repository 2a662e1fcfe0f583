"""`compare` from one database to another, on label sets, and by subjects: who is tested, refused, dropped, counted."""

import json
import shutil

import numpy as np
import pytest
from command_helpers import WORDS, manifest
from PIL import Image
from trees_stills import FORMATS, jaffe, rafd

from featurepipe.cli import main
from featurepipe.datasets.synthetic import write_faces


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Four other people than `rendered`."""
    folder = tmp_path_factory.mktemp("others")
    write_faces(folder, subjects=4, per_emotion=1, size=(200, 200), seed=5)
    return folder


# From one SOURCE to another


def test_labels_without_a_counterpart_are_dropped_and_counted_on_each_side(rendered, others, compare, tmp_path):
    """A squints and shows contempt, B is neutral: five emotions are common."""
    a = manifest(tmp_path / "a.csv", rendered, set(WORDS) - {"neutral"}, renamed={"surprise": "squint"})
    b = manifest(tmp_path / "b.csv", others, set(WORDS) - {"contempt"})
    code, document, _ = compare("--train", a, "--test", b, methods=("svm", "svm:fer-vgg"), drawn=True)
    assert code == 0
    assert (document["protocol"], document["identity"], document["labels"]) == ("cross-database", "known", "native")
    assert document["classes"] == ["anger", "disgust", "fear", "happiness", "sadness"]
    assert document["dropped"] == {"train": {"contempt": 8, "squint": 8}, "test": {"neutral": 4, "surprise": 4}}
    assert document["refused"] == {"in_train": 0, "trained_on": 0}
    assert (document["photos"], document["fitted_on"], document["chosen_on"]) == (20, 40, 0)
    figures = document["methods"]["svm"]
    assert figures["resampled"] == "subjects"
    assert np.sum(figures["confusion"]["counts"], 1).tolist() == [4, 4, 4, 4, 4]
    same = document["mcnemar"]["svm / svm:fer-vgg"]
    assert (same["only_first"], same["only_second"], same["p"]) == (0, 0, 1)
    assert (document["train"], document["test"]) == (str(a), str(b))
    assert json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8")) == document
    assert {"accuracy.png", "confusion-svm.png", "train.table", "test.table"} <= {
        file.name for file in (tmp_path / "out").iterdir()
    }


def test_label_sets_drop_what_both_sides_have(rendered, others, compare, tmp_path):
    a, b = (manifest(tmp_path / f"{faces.name}.csv", faces, WORDS) for faces in (rendered, others))
    code, document, _ = compare("--train", a, "--test", b, "--labels", "basic6")
    assert code == 0
    assert document["classes"] == ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]
    assert document["dropped"] == {"train": {"contempt": 8, "neutral": 8}, "test": {"contempt": 4, "neutral": 4}}


def test_nothing_is_read_of_the_training_databases_test_split_nor_tested_outside_of_the_others(
    rendered, others, compare, tmp_path
):
    """A: two people are its test split, one is val. B: three of four people are not its test split."""

    def part_of_a(photo):
        return [{"subject-000": "test", "subject-001": "test", "subject-002": "val"}.get(photo.parent.name, "train")]

    header = "path,label,subject,split"
    a = manifest(tmp_path / "a.csv", rendered, WORDS, header, part_of_a)
    b = manifest(tmp_path / "b.csv", others, WORDS, header, lambda photo: ["test" if "3" in photo.parent.name else ""])
    code, document, _ = compare("--train", a, "--test", b)
    assert code == 0
    assert (document["fitted_on"], document["chosen_on"], document["photos"]) == (40, 8, 8)


def test_rendered_people_of_two_seeds_bear_two_names(rendered, others, compare):
    code, document, said = compare("--train", rendered / "samples.csv", "--test", others / "samples.csv")
    assert code == 0
    assert document["same_names"] == 0
    assert "bear names" not in said


def test_photos_of_both_sides_are_refused_as_test_photos(rendered, others, compare, tmp_path):
    """Three of the training photos under other names in B. One of A is in A twice, which harms nobody."""
    photos = tmp_path / "photos"
    shutil.copytree(others, photos)
    for number, emotion in enumerate(("anger", "fear", "fear")):
        (photos / f"subject-09{number}").mkdir()
        shutil.copy(rendered / f"subject-00{number}" / f"{emotion}-0.jpg", photos / f"subject-09{number}")
    a = manifest(tmp_path / "a.csv", rendered, WORDS)
    a.write_text(f"{a.read_text()}\n{rendered}/subject-003/fear-0.jpg,fear,subject-003")
    b = manifest(tmp_path / "b.csv", photos, WORDS)
    code, document, _ = compare("--train", a, "--test", b)
    assert code == 0
    assert document["refused"] == {"in_train": 3, "trained_on": 0}
    assert (document["photos"], document["fitted_on"]) == (32, 65)
    assert document["same_names"] == 32  # both manifests call their people subject-000 and so on
    code, _, said = compare("--train", a, "--test", a)
    assert code == 2
    assert "none of the 65 photos" in said
    assert "65 occur in" in said


def test_photos_that_a_backbone_was_trained_on_are_refused_as_test_photos(rendered, others, compare, tmp_path, capsys):
    """A CNN's own training photos: five of B, and one of A's val photos, which is then not chosen on."""
    lines = ["path,label"]
    lines += [f"{others}/subject-000/{emotion}-0.jpg,{emotion}" for emotion in WORDS[:5]]
    lines += [f"{rendered}/subject-007/fear-0.jpg,fear"]
    (tmp_path / "known.csv").write_text("\n".join(lines))
    (tmp_path / "r.toml").write_text("epochs = 1\nbatch_size = 4\n[network]\nwidth = 0.125")
    own = tmp_path / "own.safetensors"
    words = ("fit_cnn", tmp_path / "known.csv", "--arch", "fer-vgg", "--model", own, "--workers", 0)
    assert main([str(word) for word in (*words, "--recipe", tmp_path / "r.toml")]) == 0
    header = "path,label,subject,split"
    a = manifest(
        tmp_path / "a.csv", rendered, WORDS, header, lambda photo: ["val" if photo.parent.name > "subject-005" else ""]
    )
    b = manifest(tmp_path / "b.csv", others, WORDS)
    code, document, said = compare("--train", a, "--test", b, "--weights", own)
    assert code == 0, said
    assert document["refused"] == {"in_train": 0, "trained_on": 5}
    assert (document["photos"], document["chosen_on"]) == (27, 15)
    assert "1 of 16 val photos were seen by a backbone in training: left out" in said
    assert document["methods"]["svm"]["folds"][0]["chosen_on"] == "validation"
    all_of_a = manifest(tmp_path / "all.csv", rendered, WORDS)  # without val, C would be chosen on that photo
    code, document, _ = compare("--train", all_of_a, "--test", b, "--weights", own, out="second")
    assert code == 0
    assert document["methods"]["svm"]["folds"] == [{"C": 1.0, "chosen_on": "nothing", "warnings": []}]


def test_crops_and_photos_have_a_detector_each(rendered, compare, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "crops.npz",
        images=rng.integers(0, 255, (24, 48, 48), dtype=np.uint8),
        labels=np.arange(24) % 2,
        classes=np.array(["Angry", "Happy"]),
    )
    b = manifest(tmp_path / "b.csv", rendered, WORDS)
    for asked, found in ((None, "hog"), ("hog", "hog"), ("none", "none")):
        words = ("--train", tmp_path / "crops.npz", "--test", b)
        code, document, said = compare(*words, detector=asked, out=f"out-{found}")
        assert code == 0, said
        faces = document["methods"]["svm"]["recipe"]["faces"]
        assert (faces["train"]["detector"], faces["test"]["detector"]) == ("none", found)
        assert ("found or cut otherwise" in said) is (found == "hog")
    assert document["classes"] == ["anger", "happiness"]
    assert (document["identity"], document["photos"]) == ("known", 16)


def test_networks_are_fitted_on_one_and_tested_on_the_other(rendered, others, compare, tmp_path, monkeypatch):
    import dataclasses

    from featurepipe.models.baselines import registry

    seed = registry.BASELINES["seed_cnn"]
    quick = dataclasses.replace(seed, recipe=dataclasses.replace(seed.recipe, epochs=1))
    monkeypatch.setitem(registry.BASELINES, "seed_cnn", quick)
    a, b = (manifest(tmp_path / f"{faces.name}.csv", faces, WORDS) for faces in (rendered, others))
    code, document, said = compare("--train", a, "--test", b, methods=("seed_cnn",))
    assert code == 0, said
    assert (document["methods"]["seed_cnn"]["all"]["photos"], document["methods"]["seed_cnn"]["coverage"]) == (32, 1)


def test_the_control_learns_permuted_labels_and_is_asked_the_true_ones(rendered, others, compare, tmp_path):
    a, b = (manifest(tmp_path / f"{faces.name}.csv", faces, WORDS) for faces in (rendered, others))
    answers = []
    for control in ((), ("--shuffle-labels",)):
        code, document, _ = compare("--train", a, "--test", b, *control)
        assert code == 0
        answers.append(document["methods"]["svm"]["confusion"]["counts"])
        assert np.sum(answers[-1], 1).tolist() == [4] * 8
    assert answers[0] != answers[1]


def test_a_table_is_for_one_of_the_two(rendered, others, compare, tmp_path):
    a, b = (manifest(tmp_path / f"{faces.name}.csv", faces, WORDS) for faces in (rendered, others))
    table = ("--train-table", tmp_path / "t", "--test-table")
    code, _, said = compare("--train", a, "--test", b, *table, tmp_path / "t")
    assert code == 2
    assert "holds one SOURCE" in said
    for computed in (True, False):
        code, _, said = compare("--train", a, "--test", b, *table, tmp_path / "u", out=f"out-{computed}")
        assert code == 0
        assert ("detected in 0, 0 new vectors" not in said) is computed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give one SOURCE, or --train A and --test B"),
        (("--train", "a.csv"), "give one SOURCE, or --train A and --test B"),
        (("a.csv", "--train", "a.csv", "--test", "b.csv"), "give one SOURCE, or --train A and --test B"),
        (("--train", "a.csv", "--test", "b.csv", "--folds", "3"), "--folds cannot be used with --train and --test"),
        (("--train", "a.csv", "--test", "b.csv", "--table", "t", "--dataset", "csv"), "--dataset, --table cannot be"),
        (("a.csv", "--test-table", "t"), "--test-table cannot be used without --train"),
        (("--train", "a.csv", "--test", "nowhere"), "nowhere is not there"),
        (("--train", "a.csv", "--test", "b.csv"), "anger, disgust to fit on has anger and"),
    ],
)
def test_what_makes_no_sense_is_said(words, said, rendered, others, compare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest(tmp_path / "a.csv", rendered, ("anger", "contempt"))
    manifest(tmp_path / "b.csv", others, ("anger", "disgust"))
    code, _, stderr = compare(*words)
    assert code == 2
    if "to fit on has" in said:
        assert "a.csv to fit on has anger, contempt and b.csv has anger, disgust" in stderr
        assert "1 of label set native can be used of both" in stderr
    else:
        assert said in stderr


def test_databases_are_found_by_their_markers_and_meet_on_the_emotions_of_both(compare, tmp_path):
    """RaFD (8 emotions) to JAFFE (213 photos of 10 women, 7 emotions): small copies, no two photos equal."""
    rng = np.random.default_rng(0)
    trees = [build(tmp_path / name) for name, build in (("a", rafd), ("b", jaffe))]
    for photo in (photo for tree in trees for photo in tree.rglob("*") if photo.suffix in FORMATS):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(photo)
    code, document, said = compare("--train", trees[0], "--test", trees[1])
    assert code == 0, said
    assert "read as RaFD" in said
    assert "read as JAFFE" in said
    assert document["classes"] == ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    assert document["dropped"] == {"train": {"contempt": 45}, "test": {}}
    assert (document["photos"], document["identity"], document["methods"]["svm"]["resampled"]) == (
        213,
        "known",
        "subjects",
    )
    assert "same_names" not in document


# One SOURCE: label sets, people, sequences


def test_label_sets_of_one_source(rendered, compare, tmp_path):
    a = manifest(tmp_path / "a.csv", rendered, WORDS, renamed={"contempt": "squint"})
    code, document, _ = compare(a, "--labels", "basic6", "--folds", 2)
    assert code == 0
    assert document["dropped"] == {"neutral": 8, "squint": 8}
    assert (document["photos"], document["labels"]) == (48, "basic6")


def test_folds_by_subject_are_refused_with_the_reason_where_people_are_unknown(rendered, compare, tmp_path):
    a = manifest(tmp_path / "a.csv", rendered, WORDS)
    a.write_text(a.read_text().replace(",subject-003", ","))
    code, _, said = compare(a, "--protocol", "kfold_subject", "--folds", 2)
    assert code == 2
    assert f"the subject of 8 of 64 photos of {a} is unknown" in said
    assert not (tmp_path / "out" / "folds.json").exists()
    lines = ["emotion,pixels,Usage"]
    for row in range(12):
        pixels = np.random.default_rng(row).integers(0, 255, 2304)
        lines.append(f"{row % 3},{' '.join(map(str, pixels))},{'PrivateTest' if row < 6 else 'Training'}")
    (tmp_path / "fer2013.csv").write_text("\n".join(lines))
    code, _, said = compare(tmp_path / "fer2013.csv", "--protocol", "kfold_subject")
    assert code == 2
    assert "is unknown: FER2013 does not say who is in its photos" in said


def test_folds_by_subject_are_made_whatever_the_split(rendered, compare, tmp_path):
    header = "path,label,subject,split"
    a = manifest(
        tmp_path / "a.csv", rendered, WORDS, header, lambda photo: ["test" if "7" in photo.parent.name else "train"]
    )
    assert compare(a)[1]["protocol"] == "official split"
    code, document, _ = compare(a, "--protocol", "kfold_subject", "--folds", 2)
    assert code == 0
    assert (document["protocol"], document["identity"], document["photos"]) == ("2 folds of subjects", "known", 64)


def test_photos_of_one_sequence_are_on_one_side_where_nobody_is_known(rendered, compare, tmp_path):
    """Each person's photos are a sequence, and the people have no names: folds part sequences, not their photos."""
    a = manifest(tmp_path / "a.csv", rendered, WORDS, "path,label,sequence")
    code, document, _ = compare(a, "--folds", 4)
    assert code == 0
    assert (document["protocol"], document["identity"]) == ("4 folds of sequences", "unknown")
    folds = json.loads((tmp_path / "out" / "folds.json").read_text(encoding="utf-8"))
    sides = {}
    for key, fold in folds["samples"]:
        sides.setdefault(key.split("/")[-2], set()).add(fold)
    assert len(sides) == 8
    assert all(len(own) == 1 for own in sides.values())
