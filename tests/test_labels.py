"""Label sets: what each keeps of a data set's labels, and what it drops and counts (datasets.md section 5)."""

import pytest

from featurepipe.errors import InputError
from featurepipe.labels import EMOTIONS, LABEL_SETS, NOT_A_FACE, canonical, to_label_set

EVERYTHING = [*EMOTIONS, "squint", "happiness+surprise", None, "contempt", NOT_A_FACE]


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("basic6", {"contempt": 2, "happiness+surprise": 1, "neutral": 1, NOT_A_FACE: 1, "squint": 1}),
        ("basic7", {"contempt": 2, "happiness+surprise": 1, NOT_A_FACE: 1, "squint": 1}),
        ("ekman8", {"happiness+surprise": 1, NOT_A_FACE: 1, "squint": 1}),
        ("ck7", {"happiness+surprise": 1, "neutral": 1, NOT_A_FACE: 1, "squint": 1}),
        ("native", {NOT_A_FACE: 1}),
    ],
)
def test_a_set_keeps_its_labels_in_place_and_counts_the_others(name, dropped):
    kept, counted = to_label_set(EVERYTHING, name)
    assert counted == dropped
    assert list(counted) == sorted(counted)
    assert kept == [None if label in dropped else label for label in EVERYTHING]


def test_contempt_is_never_merged_into_disgust():
    assert to_label_set(["contempt", "disgust"], "basic7") == ([None, "disgust"], {"contempt": 1})


def test_an_unknown_set_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="'basic9'; expected one of basic6, basic7, ekman8, ck7, native"):
        to_label_set(["anger"], "basic9")


def test_sets_hold_core_labels_in_their_order():
    for labels in LABEL_SETS.values():
        assert list(labels) == [label for label in EMOTIONS if label in labels]


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("neural", "neutral"),
        (" JOY ", "happiness"),
        ("Sur-prised", "surprise"),
        ("con", "contempt"),
        ("scream", None),
        ("an", None),
    ],
)
def test_words_of_the_alias_table(word, label):
    assert canonical(word) == label
