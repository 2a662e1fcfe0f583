"""Figures against scikit-learn, SciPy and numbers worked out by hand."""

import json
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as reference

from featurepipe.datasets.splits import resampled_by
from featurepipe.report import metrics

CLASSES = ["anger", "fear", "joy"]


@pytest.fixture
def drawn():
    """truth, predicted as columns, and probabilities whose arg max is the prediction."""
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet([0.5] * 4, 300)
    predicted = probabilities.argmax(axis=1)
    truth = np.where(rng.random(300) < 0.5, predicted, rng.integers(0, 4, 300))
    return truth, predicted, probabilities


def test_figures_equal_scikit_learn(drawn):
    truth, predicted, probabilities = drawn
    counts = metrics.count(truth, predicted, 4)
    assert np.array_equal(counts[:, :-1], reference.confusion_matrix(truth, predicted))
    assert metrics.accuracy(counts) == pytest.approx(reference.accuracy_score(truth, predicted))
    assert metrics.uar(counts) == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert metrics.macro_f1(counts) == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert metrics.recall(counts) == pytest.approx(reference.recall_score(truth, predicted, average=None))
    assert metrics.precision(counts) == pytest.approx(reference.precision_score(truth, predicted, average=None))
    one_vs_rest = [reference.accuracy_score(truth == c, predicted == c) for c in range(4)]
    assert metrics.binary_accuracy(counts) == pytest.approx(one_vs_rest)
    assert metrics.top_accuracy(probabilities, truth) == pytest.approx(
        reference.top_k_accuracy_score(truth, probabilities, k=2)
    )


def test_squared_errors_of_known_guessers():
    truth = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    flat = np.full((8, 8), 0.5)  # baselines.md 1.5: an untrained sigmoid output scores 1.0
    assert metrics.squared_errors(flat, truth) == pytest.approx((1.0, 0.25))
    prior = np.full((8, 8), 1 / 8)  # ... and the class prior about 0.4
    assert metrics.squared_errors(prior, truth)[0] == pytest.approx((49 / 64 + 7 / 64) / 2)
    assert metrics.squared_errors(np.eye(8), truth) == (0.0, 0.0)


def test_squared_errors_are_of_the_outputs_where_these_are_no_probabilities():
    """Untrained sigmoids of eight classes are 1/2 each: half the sum is 1, whatever probabilities are made of them."""
    classes = [f"c{number}" for number in range(8)]
    found = metrics.evaluate(["c3"], ["c0"], np.full((1, 8), 1 / 8), classes, outputs=np.full((1, 8), 0.5))["all"]
    assert (found["mse_half_sum"], found["mse_per_output"]) == (1.0, 0.25)
    assert found["calibration_error"] == pytest.approx(1 / 8)


def test_squared_errors_are_a_multiple_of_the_brier_score(drawn):
    truth, _, probabilities = drawn
    half, mean = metrics.squared_errors(probabilities, truth)
    brier = np.mean([reference.brier_score_loss(truth == c, probabilities[:, c]) for c in range(4)])
    assert mean == pytest.approx(brier)
    assert half == pytest.approx(2 * brier)


def test_calibration_error_by_hand():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.7, 0.7])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    truth = np.array([0, 0, 0, 1, 1, 1])  # 3 of 4 right at 0.9, 0 of 2 at 0.7
    expected = 4 / 6 * (0.9 - 0.75) + 2 / 6 * 0.7
    assert metrics.calibration_error(probabilities, truth) == pytest.approx(expected)


def test_calibration_error_bins_include_their_upper_end():
    edge = np.array([[0.6, 0.4], [0.59, 0.41]])
    truth = np.array([0, 1])  # 0.6 = 9 / 15 belongs to the bin below it, together with 0.59
    assert metrics.calibration_error(edge, truth) == pytest.approx(abs(1.19 - 1) / 2)


def test_mcnemar_equals_the_binomial_test():
    truth = np.zeros(200, dtype=int)
    first, second = np.zeros(200, dtype=int), np.zeros(200, dtype=int)
    first[:10], second[10:35] = 1, 1  # 25 only the first gets right, 10 only the second
    found = metrics.mcnemar(truth, first, second)
    assert (found["only_first"], found["only_second"]) == (25, 10)
    assert found["p"] == pytest.approx(binomtest(10, 35).pvalue)
    assert metrics.mcnemar(truth, first, first)["p"] == 1.0


def test_mcnemar_of_many_photos_does_not_overflow():
    truth = np.zeros(6000, dtype=int)
    first, second = np.repeat([0, 1], 3000), np.repeat([1, 0], 3000)
    assert metrics.mcnemar(truth, first, second) == {"only_first": 3000, "only_second": 3000, "p": 1.0}
    assert metrics.mcnemar(truth, truth, np.ones(6000, dtype=int))["p"] == 0.0


def test_photos_of_one_person_count_once():
    """20 people: each of their three equal photos says no more than one of them."""
    truth, people = np.zeros(60, dtype=int), np.repeat([f"S{number}" for number in range(20)], 3).tolist()
    first = np.repeat([0] * 14 + [1] * 6, 3)
    found = metrics.mcnemar(truth, first, 1 - first, people)
    assert (found["only_first"], found["only_second"]) == (42, 18)
    assert found["p"] == pytest.approx(binomtest(6, 20).pvalue)
    assert metrics.mcnemar(truth, first, 1 - first)["p"] == pytest.approx(binomtest(18, 60).pvalue)


def test_groups_are_exchanged_in_every_way():
    rng = np.random.default_rng(3)
    people = np.repeat(list("abcdefgh"), rng.integers(1, 6, 8)).tolist()
    truth, (first, second) = np.zeros(len(people), int), rng.integers(0, 2, (2, len(people)))
    ahead = [sum((s - f) for p, f, s in zip(people, first, second, strict=True) if p == own) for own in "abcdefgh"]
    sums = [
        abs(sum(sign * step for sign, step in zip(signs, ahead, strict=True))) for signs in product((1, -1), repeat=8)
    ]
    share = np.mean([found >= abs(sum(ahead)) for found in sums])
    assert 0 < share < 1
    assert metrics.mcnemar(truth, first, second, people)["p"] == pytest.approx(share)


def test_few_photos_have_no_intervals():
    for photos, few in ((4, True), (5, False)):
        truth = ["anger", "fear"] * 2 + ["anger"] * (photos - 4)
        found = metrics.evaluate(truth, truth, None, ["anger", "fear"])
        assert (found["all"]["intervals"]["accuracy"] == [None, None]) is few


def test_interval_over_photos_is_the_binomial_one():
    truth, predicted = np.zeros(400, dtype=int), np.repeat([0, 1], [300, 100])
    low, high = metrics.bootstrap(truth, predicted, 2, resamples=4000)["accuracy"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)


def test_interval_over_subjects_is_wider_where_a_persons_photos_agree():
    rng = np.random.default_rng(0)
    truth, predicted = np.zeros(400, dtype=int), np.repeat(rng.random(20) < 0.3, 20).astype(int)
    subjects = np.repeat([f"s{i}" for i in range(20)], 20)
    by_photo = metrics.bootstrap(truth, predicted, 2)["accuracy"]
    by_subject = metrics.bootstrap(truth, predicted, 2, subjects)["accuracy"]
    assert np.ptp(by_subject) > 3 * np.ptp(by_photo)
    assert by_subject == metrics.bootstrap(truth, predicted, 2, subjects)["accuracy"]  # seeded
    assert by_subject != metrics.bootstrap(truth, predicted, 2, subjects, seed=1)["accuracy"]


def test_missing_predictions_are_wrong_on_all_photos_and_absent_on_found_ones():
    truth = ["anger", "anger", "fear", "joy"]
    predicted = ["anger", None, "joy", "joy"]
    probabilities = np.array([[0.8, 0.1, 0.1], [np.nan] * 3, [0.1, 0.3, 0.6], [0.0, 0.0, 1.0]])
    result = metrics.evaluate(truth, predicted, probabilities, CLASSES)
    everything, found = result["all"], result["found"]
    assert result["coverage"] == 0.75
    assert (everything["photos"], everything["accuracy"]) == (4, 0.5)
    assert everything["uar"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert (found["photos"], found["accuracy"]) == (3, pytest.approx(2 / 3))
    assert found["uar"] == pytest.approx((1 + 0 + 1) / 3)
    assert everything["per_class"]["anger"]["precision"] == 1.0
    assert everything["macro_f1"] == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)
    assert found["mse_half_sum"] == pytest.approx((0.06 + 0.86 + 0) / 6)
    assert everything["mse_half_sum"] == pytest.approx((0.06 + 1 + 0.86 + 0) / 8)
    assert everything["mse_per_output"] == pytest.approx((0.06 + 1 + 0.86 + 0) / 12)
    assert everything["rms"] == pytest.approx(everything["mse_per_output"] ** 0.5)
    assert (everything["top2"], found["top2"]) == (0.75, 1.0)
    assert result["confusion"] == {
        "labels": CLASSES,
        "counts": [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 0]],
    }


def test_a_photo_without_a_prediction_is_no_right_guess_of_the_first_class():
    """Its row of zeros has its largest number at the first class, which is the truth."""
    probabilities = np.array([[np.nan, np.nan], [0.9, 0.1]])
    found = metrics.evaluate(["anger", "anger"], [None, "anger"], probabilities, ["anger", "fear"])["all"]
    assert found["calibration_error"] == pytest.approx(0.1 / 2)
    assert found["top2"] == 0.5
    subjects = [f"S{number}" for number in range(6)]
    nobody = metrics.evaluate(["anger"] * 6, [None] * 6, None, ["anger", "fear"], subjects, resamples=10)["all"]
    assert nobody["intervals"] == {name: [0.0, 0.0] for name in ("accuracy", "uar", "macro_f1")}


def test_confidences_of_one_bin_and_of_none_are_bins_of_their_own():
    """16 classes: 1/16 lies in the first of 15 bins, 0.1 in the second; the one is right, the other wrong."""
    probabilities = np.full((2, 16), 0.9 / 15)
    probabilities[0], probabilities[1, 3] = 1 / 16, 0.1
    assert metrics.calibration_error(probabilities, np.array([0, 5])) == pytest.approx((15 / 16 + 0.1) / 2)


def test_a_label_the_classifier_does_not_know_is_always_wrong():
    result = metrics.evaluate(["anger", "disgust"], ["anger", "joy"], np.eye(3)[[0, 2]], CLASSES)
    assert result["confusion"]["labels"] == [*CLASSES, "disgust"]
    assert result["all"]["accuracy"] == 0.5
    assert result["all"]["uar"] == 0.5
    assert result["all"]["per_class"]["disgust"]["recall"] == 0.0
    assert result["all"]["top2"] == 0.5


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [([], []), (["joy"], [None]), (["joy", "joy"], ["joy", "joy"])],
)
def test_degenerate_cases_give_none_and_never_nan(truth, predicted):
    probabilities = np.full((len(truth), 3), np.nan)
    probabilities[[label is not None for label in predicted]] = [0, 0, 1]
    result = metrics.evaluate(truth, predicted, probabilities, CLASSES, resamples=20)
    json.dumps(result, allow_nan=False)
    assert result["all"]["per_class"]["anger"]["recall"] is None
    if not any(predicted):
        assert result["found"]["accuracy"] is None
        assert result["found"]["intervals"]["uar"] == [None, None]
        assert result["found"]["calibration_error"] is None


def test_what_is_resampled_is_said():
    truth, predicted = ["joy", "joy", "fear"], ["joy", "fear", "fear"]
    known = metrics.evaluate(truth, predicted, None, CLASSES, ["a", "a", "b"], resamples=10)
    films = metrics.evaluate(truth, predicted, None, CLASSES, ["a", "a", "b"], resampled="sequences", resamples=10)
    photos = metrics.evaluate(truth, predicted, None, CLASSES, resamples=10)
    assert [found["resampled"] for found in (known, films, photos)] == ["subjects", "sequences", "photos"]
    assert known["all"]["mse_half_sum"] is None


def test_frames_of_a_sequence_are_resampled_together_where_people_are_unknown():
    """40 sequences of 25 equal frames are 40 observations, not 1,000: the interval is five times as wide."""
    sequences = [f"film {number}" for number in range(40) for _ in range(25)]
    predicted = ["joy" if number % 10 < 7 else "fear" for number in range(40) for _ in range(25)]
    widths = {}
    for name, given in (("sequences", sequences), ("photos", [None] * 1000)):
        groups, resampled = resampled_by([None] * 1000, given)
        found = metrics.evaluate(["joy"] * 1000, predicted, None, ["fear", "joy"], groups, resampled=resampled)
        low, high = found["all"]["intervals"]["accuracy"]
        assert found["resampled"] == name
        widths[name] = high - low
    assert 4 < widths["sequences"] / widths["photos"] < 6


@pytest.mark.parametrize(("people", "given"), [(1, False), (4, False), (5, True)])
def test_fewer_than_five_subjects_give_no_interval(people, given):
    """Of one subject every resample is the same: an interval of width zero."""
    subjects = [f"S{number % people}" for number in range(20)]
    found = metrics.evaluate(["joy", "fear"] * 10, ["joy"] * 20, None, CLASSES, subjects, resamples=10)["all"]
    assert found["accuracy"] == 0.5
    assert all((low is not None) is given for ends in found["intervals"].values() for low in ends)


def test_intervals_of_found_faces_need_five_people_with_a_face():
    subjects = [f"S{number % 5}" for number in range(20)]
    predicted = [None if subject == "S4" else "joy" for subject in subjects]
    found = metrics.evaluate(["joy", "fear"] * 10, predicted, None, CLASSES, subjects, resamples=10)
    assert found["all"]["intervals"]["accuracy"][0] is not None
    assert found["found"]["intervals"]["accuracy"] == [None, None]


def test_calibration_error_tells_calibrated_from_overconfident():
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 20000)
    truth = (rng.random(20000) > top).astype(int)
    honest, bold = (metrics.calibration_error(np.stack([p, 1 - p], axis=1), truth) for p in (top, top**0.5))
    assert honest < 0.015
    assert bold > 0.08


def test_mean_binary_accuracy_by_hand():
    """Three classes, 10 photos: of class 2 nothing is right, and its binary accuracy is 0.8 all the same."""
    truth, predicted = np.array([0] * 5 + [1] * 4 + [2]), np.array([0] * 5 + [1] * 3 + [2] + [1])
    assert metrics.mean_binary_accuracy(metrics.count(truth, predicted, 3)) == pytest.approx((1.0 + 0.8 + 0.8) / 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(values, expected):
    assert metrics.holm(values) == pytest.approx(expected)
