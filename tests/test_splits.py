"""Folds and held-out parts: nobody on both sides, every class spread, frozen to a file."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from featurepipe.datasets.splits import (
    DROPPED,
    Folds,
    grouped_by,
    grouped_holdout,
    groups_of,
    make_folds,
    rows_by_use,
)
from featurepipe.errors import InputError

CLASSES = ("anger", "happiness", "neutral")


def people(n_subjects=40, seed=0):
    """(labels, arguments of make_folds): 2 to 9 photos of each person, the third class rare."""
    rng = random.Random(seed)
    subjects = [f"S{person:03d}" for person in range(n_subjects) for _ in range(rng.randint(2, 9))]
    labels = rng.choices(CLASSES, weights=(5, 5, 1), k=len(subjects))
    contents = [f"{rng.getrandbits(64):016x}" for _ in subjects]
    return labels, {"subjects": subjects, "contents": contents, "paths": [f"{c}.jpg" for c in contents]}


def strangers(labels):
    """Arguments of make_folds for samples of unknown subject, all of different content."""
    contents = [f"c{row}" for row in range(len(labels))]
    return {"subjects": [None] * len(labels), "contents": contents, "paths": [f"{c}.jpg" for c in contents]}


def worst_imbalance(labels, parts):
    """Largest relative difference between a class's samples in a test part and its fair share."""
    totals = Counter(labels)
    tests = [Counter(labels[row] for row in test) for _, test in parts]
    return max(abs(test[label] * len(parts) / totals[label] - 1) for test in tests for label in totals)


# Folds


@pytest.mark.parametrize("seed", range(5))
def test_every_sample_is_tested_once_and_no_subject_is_on_both_sides(seed):
    labels, about = people(seed=seed)
    folds = make_folds(labels, **about, n_folds=5, seed=seed)
    assert folds.identity == "known"
    assert sorted(np.concatenate([test for _, test in folds.parts()])) == list(range(len(labels)))
    for train, test in folds.parts():
        assert sorted([*train, *test]) == list(range(len(labels)))
        assert not {about["subjects"][row] for row in train} & {about["subjects"][row] for row in test}
        assert {labels[row] for row in train} == set(CLASSES)
    folds.check(about["subjects"], [None] * len(about["subjects"]))


def test_classes_are_spread_as_evenly_as_scikit_learn_spreads_them():
    ours, theirs = [], []
    for seed in range(10):
        labels, about = people(seed=seed)
        ours.append(worst_imbalance(labels, make_folds(labels, **about, n_folds=5, seed=seed).parts()))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs.append(worst_imbalance(labels, list(splitter.split(labels, labels, about["subjects"]))))
    assert np.mean(ours) <= 1.1 * np.mean(theirs)


def test_single_pictures_are_spread_exactly():
    labels = ["happiness"] * 20 + ["fear"] * 10 + ["anger"] * 5
    folds = make_folds(labels, **strangers(labels), n_folds=5)
    for _, test in folds.parts():
        assert Counter(labels[row] for row in test) == {"happiness": 4, "fear": 2, "anger": 1}


def test_one_seed_gives_the_same_folds_everywhere():
    labels = ["happiness"] * 6 + ["fear"] * 4
    folds = make_folds(labels, **strangers(labels), n_folds=2, seed=7)
    assert folds.fold_of.tolist() == [1, 0, 1, 1, 0, 0, 1, 1, 0, 0]  # a change here changes every published figure
    labels, about = people(12, seed=1)  # and of people, whose photos are of several classes
    folds = make_folds(labels, **about, n_folds=3, seed=7)
    assert list(dict(zip(about["subjects"], folds.fold_of.tolist(), strict=True)).values()) == [
        *(0, 2, 0, 0, 1, 0, 2, 1, 1, 2, 2, 1)
    ]


def test_folds_depend_on_the_seed_but_not_on_the_order_or_place_of_samples():
    labels, about = people()
    folds = make_folds(labels, **about, seed=1)
    assert folds.fold_of.tolist() != make_folds(labels, **about, seed=2).fold_of.tolist()
    order = random.Random(3).sample(range(len(labels)), len(labels))
    moved = {name: [values[row] for row in order] for name, values in about.items()}
    moved["paths"] = [f"/elsewhere/{path}" for path in moved["paths"]]
    shuffled = make_folds([labels[row] for row in order], **moved, seed=1)
    assert shuffled.fold_of.tolist() == folds.fold_of[order].tolist()


def test_one_unknown_subject_makes_identity_unknown_and_copies_still_stay_together():
    labels, about = people()
    about["subjects"][3] = ""
    about["contents"][10:14] = [about["contents"][10]] * 4
    folds = make_folds(labels, **about)
    assert folds.identity == "unknown"
    assert len(set(folds.fold_of[10:14])) == 1


def test_copies_under_two_subjects_keep_both_subjects_together():
    labels, about = people()
    one, other = about["subjects"].index("S000"), about["subjects"].index("S001")
    about["contents"][one] = about["contents"][other]
    for seed in range(10):
        folds = make_folds(labels, **about, seed=seed)
        assert len({folds.fold_of[row] for row, who in enumerate(about["subjects"]) if who in ("S000", "S001")}) == 1


def test_where_identity_is_unknown_known_subjects_and_sequences_stay_together_all_the_same():
    labels, about = people()
    sequences = [f"{subject}/{row % 2}" if row % 3 else None for row, subject in enumerate(about["subjects"])]
    about["subjects"] = [subject if subject < "S020" else None for subject in about["subjects"]]
    for seed in range(10):
        folds = make_folds(labels, **about, sequences=sequences, n_folds=3, seed=seed)
        assert folds.identity == "unknown"
        folds.check(about["subjects"], [None] * len(about["subjects"]))
        for name in set(sequences) - {None}:
            assert len({folds.fold_of[row] for row, own in enumerate(sequences) if own == name}) == 1


def test_a_class_of_too_few_sequences_is_named_with_their_number():
    labels, about = ["happiness"] * 10 + ["fear"] * 10, strangers(range(20))
    sequences = [None] * 10 + ["one"] * 5 + ["two"] * 5
    with pytest.raises(InputError, match=r"too few sequences for 5 folds in class fear \(2\)"):
        make_folds(labels, **about, sequences=sequences, n_folds=5)


def test_class_too_small_is_named_with_its_count():
    labels = ["happiness"] * 10 + ["fear"] * 4 + ["anger"] * 10
    with pytest.raises(InputError, match=r"different pictures for 5 folds in class fear \(4\).*--min-per-class 5"):
        make_folds(labels, **strangers(labels), n_folds=5)


def test_small_classes_count_people_not_photos():
    labels, about = people()
    for row, who in enumerate(about["subjects"]):
        labels[row] = "fear" if who in ("S000", "S001") else labels[row]
    with pytest.raises(InputError, match=r"too few subjects for 5 folds in class fear \(2\)"):
        make_folds(labels, **about, n_folds=5)


def test_min_per_class_leaves_small_classes_out_and_counts_them():
    labels = ["happiness"] * 10 + ["fear"] * 4 + ["anger"] * 10
    folds = make_folds(labels, **strangers(labels), n_folds=5, min_per_class=5)
    assert folds.dropped == {"fear": 4}
    assert folds.fold_of[10:14].tolist() == [DROPPED] * 4
    used = {row for train, test in folds.parts() for row in (*train, *test)}
    assert used == set(range(24)) - {10, 11, 12, 13}
    enough = make_folds(labels[:10] + labels[14:], **strangers(range(20)), n_folds=5, min_per_class=10)
    assert enough.dropped == {}


def test_a_person_with_a_photo_of_a_class_left_out_is_in_one_fold_all_the_same():
    labels, about = people()
    labels[0] = "fear"
    folds = make_folds(labels, **about, min_per_class=5)
    assert folds.fold_of[0] == DROPPED
    folds.check(about["subjects"], [None] * len(about["subjects"]))


@pytest.mark.parametrize(
    ("labels", "n_folds", "message"),
    [
        (["happiness"] * 10, 5, "1 classes are left"),
        ([], 5, "0 classes are left"),
        (["happiness", "fear"] * 10, 1, "1 folds are too few"),
        (["happiness", None, "fear", None], 2, "2 samples have no label"),
    ],
)
def test_impossible_folds(labels, n_folds, message):
    with pytest.raises(InputError, match=message):
        make_folds(labels, **strangers(labels), n_folds=n_folds)


# The frozen file


def test_saved_folds_come_back_equal(tmp_path):
    labels, about = people()
    labels[0] = "fear"
    about["paths"][1] = "é\udce9.jpg"  # a name that is not UTF-8
    about["paths"][2] = "holiday photo of us.jpg"
    folds = make_folds(labels, **about, n_folds=4, seed=9, min_per_class=4)
    folds.save(tmp_path / "folds.json")
    back = Folds.load(tmp_path / "folds.json")
    assert (back.keys, back.n_folds, back.seed, back.identity, back.dropped) == (folds.keys, 4, 9, "known", {"fear": 1})
    for (train, test), (train_back, test_back) in zip(folds.parts(), back.parts(), strict=True):
        np.testing.assert_array_equal(train, train_back)
        np.testing.assert_array_equal(test, test_back)
    back.check_samples(about["contents"])


def test_folds_are_refused_for_other_samples():
    labels, about = people()
    folds = make_folds(labels, **about)
    contents = about["contents"]
    with pytest.raises(InputError, match="1 of theirs are missing, 0 are not known"):
        folds.check_samples(contents[1:])
    with pytest.raises(InputError, match="1 of theirs are missing, 1 are not known"):
        folds.check_samples([*contents[:-1], "changed"])
    with pytest.raises(InputError, match=rf"these {len(contents) + 1}: 0 of theirs are missing, 1 are not known"):
        folds.check_samples([*contents, contents[0]])
    with pytest.raises(InputError, match="the order differs"):
        folds.check_samples(contents[::-1])


def test_a_subject_in_two_folds_is_caught(tmp_path):
    labels, about = people()
    make_folds(labels, **about).save(tmp_path / "folds.json")
    document = json.loads((tmp_path / "folds.json").read_text(encoding="utf-8"))
    row = about["subjects"].index("S007")
    document["samples"][row][1] = (document["samples"][row][1] + 1) % 5
    (tmp_path / "folds.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=r"1 subjects are in more than one fold \(S007\)"):
        Folds.load(tmp_path / "folds.json").check(about["subjects"], [None] * len(about["subjects"]))


def test_a_sequence_in_two_folds_is_caught():
    folds = Folds(tuple("abcd"), np.array([0, 0, 1, 1]), 2, 0, "unknown")
    folds.check([None] * 4, ["one", "one", "two", None])
    folds.check(["S1", "S1", "S2", "S2"], ["one", "one", "one", None])  # of two people
    with pytest.raises(InputError, match=r"1 sequences are in more than one fold .*unseen sequences"):
        folds.check([None] * 4, ["one", "one", "one", "two"])


def test_photos_left_out_for_a_label_they_no_longer_have_are_caught():
    labels, about = people()
    labels[0] = "fear"
    folds = make_folds(labels, **about, min_per_class=5)
    folds.check_labels(labels)
    with pytest.raises(InputError, match=r"leave out 1 fear, and these photos are labelled 1 anger now"):
        folds.check_labels(["anger", *labels[1:]])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        pytest.param("[" * 100_000, id="deep"),
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "n_folds": 2, "seed": 0, "identity": "known", "dropped": {}, "samples": [["a", 2]]}',
        '{"format": 1, "n_folds": 2, "seed": 0, "identity": "known", "dropped": {}, "samples": [["a"]]}',
        '{"format": 1, "n_folds": 2, "seed": 0, "identity": "maybe", "dropped": {}, "samples": [["a", 1]]}',
    ],
)
def test_a_file_that_holds_no_folds(tmp_path, text):
    (tmp_path / "folds.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"folds\.json"):
        Folds.load(tmp_path / "folds.json")


def test_no_file_of_folds(tmp_path):
    with pytest.raises(InputError, match=r"folds\.json cannot be read"):
        Folds.load(tmp_path / "folds.json")


# Groups, the held-out part and official splits


def test_groups_chain_subjects_and_copies():
    groups = groups_of(["c3", "c1", "c1", "c2", "c4", "c4", "c5"], ["ann", "ann", "bob", None, None, "", ""])
    assert groups == ["c1", "c1", "c1", "c2", "c4", "c4", "c5"]


def test_groups_of_sequences():
    """Two people's sequences of one name are two sequences; one subject holds its sequences together."""
    contents = ["a", "b", "c", "d", "e", "f", "g"]
    subjects = ["ann", "bob", None, None, "ann", None, None]
    sequences = ["001", "001", "001", "001", "002", "002", ""]
    assert groups_of(contents, subjects, sequences) == ["a", "b", "c", "c", "a", "f", "g"]
    assert (grouped_by(["ann"], ["001"]), grouped_by(["ann", None], ["001", None])) == ("subject", "sequence")
    assert grouped_by([None], [None]) == grouped_by(["ann", None]) == "content"


def test_a_subject_named_like_a_content_key_ties_nothing():
    assert groups_of(["x", "y"], ["y", "z"]) == ["x", "y"]


@pytest.mark.parametrize("seed", range(5))
def test_holdout_takes_the_fraction_of_each_class_and_parts_no_group(seed):
    labels, about = people(n_subjects=200, seed=seed)
    groups = groups_of(about["contents"], about["subjects"])
    train, held = grouped_holdout(labels, groups, 0.2, seed)
    assert sorted([*train, *held]) == list(range(len(labels)))
    assert not {groups[row] for row in train} & {groups[row] for row in held}
    totals, taken = Counter(labels), Counter(labels[row] for row in held)
    assert all(abs(taken[label] / totals[label] - 0.2) < 0.03 for label in CLASSES)


def test_holdout_leaves_every_class_to_train_on():
    labels = ["fear"] * 3 + ["fear", "contempt"] + ["happiness"] * 20
    groups = ["ann"] * 3 + ["bob"] * 2 + [f"{row}" for row in range(20)]
    for seed in range(10):
        train, held = grouped_holdout(labels, groups, 0.5, seed)  # fear alone would send bob to the held-out part
        assert {labels[row] for row in train} == {"happiness", "fear", "contempt"}
        assert len(held) == 10


def test_holdout_is_refused_where_nothing_can_be_held_out():
    with pytest.raises(InputError, match="1 independent groups"):
        grouped_holdout(["fear", "anger"], ["ann", "ann"], 0.2, 0)
    with pytest.raises(InputError, match="fraction of 1"):
        grouped_holdout(["fear", "anger"], ["ann", "bob"], 1.0, 0)


def test_splits_say_what_rows_are_for():
    rows = rows_by_use(["train", None, "val", "test", "train", ""])
    assert (rows.fit.tolist(), rows.choose.tolist(), rows.report.tolist()) == ([0, 1, 4, 5], [2], [3])


def test_no_rows_at_all():
    rows = rows_by_use([])
    assert [len(part) for part in (rows.fit, rows.choose, rows.report)] == [0, 0, 0]
