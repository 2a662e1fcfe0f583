"""The linear SVM: choice of C, temperature, refusals, and the numbers behind its answers."""

import json
import warnings

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from featurepipe.errors import InputError, RecipeMismatch
from featurepipe.models import svm
from featurepipe.models.svm import LinearSVM, fit_temperature, inner_folds

LABELS = np.array(["anger", "fear", "joy", "neutral"])
QUICK = {"Cs": (0.1, 1.0), "folds": 3}


def faces(n=160, d=12, spread=1.5, seed=0, classes=4):
    """Vectors (n, d) float32 of noisy classes, all lengths different, and their labels."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % classes
    X = np.abs(rng.normal(size=(n, d)))
    X[np.arange(n), truth] += spread
    return (X * rng.uniform(0.5, 5, (n, 1))).astype(np.float32), LABELS[truth]


@pytest.mark.parametrize("normaliser", ["l2", "standard"])
def test_decisions_equal_the_planes_worked_out_by_hand(normaliser):
    X, y = faces()
    model = LinearSVM(normaliser=normaliser, **QUICK).fit(X, y)
    rows = X.astype(np.float64)
    if normaliser == "l2":
        rows = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    else:
        rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    arrays = model.arrays()
    by_hand = rows @ arrays["coef"].T + arrays["intercept"]
    assert model.decision_function(X) == pytest.approx(by_hand, abs=2e-5)  # scikit-learn scales in float32
    exponents = np.exp(by_hand / model.temperature_)
    assert model.predict_proba(X) == pytest.approx(exponents / exponents.sum(axis=1, keepdims=True), abs=1e-4)


@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_sum_to_one_and_keep_the_order_of_the_decisions(classes):
    X, y = faces(classes=classes)
    model = LinearSVM(**QUICK).fit(X, y)
    strangers = faces(seed=9, classes=classes)[0]
    p, predicted = model.predict_proba(strangers), model.predict(strangers)
    assert p.shape == (160, classes)
    assert p.sum(axis=1) == pytest.approx(np.ones(160), abs=1e-12)
    assert np.array_equal(model.classes_[p.argmax(axis=1)], predicted)
    assert np.array_equal(predicted, model.pipeline_.predict(strangers))
    assert model.labels == LABELS[:classes].tolist()


def test_with_two_classes_p_rises_with_the_margin():
    X, y = faces(classes=2)
    model = LinearSVM(**QUICK).fit(X, y)
    margins = model.decision_function(X)
    assert margins.shape == (160,)
    assert np.all(np.diff(model.predict_proba(X)[np.argsort(margins), 1]) >= 0)
    assert np.array_equal(model.predict_proba(X)[:, 1] > 0.5, margins > 0)


def test_classes_are_learned_and_shuffled_labels_are_at_chance():
    X, y = faces(400, spread=3)
    X_new, y_new = faces(400, spread=3, seed=5)
    assert LinearSVM().fit(X, y).score(X_new, y_new) > 0.9
    rng = np.random.default_rng(0)
    blind = LinearSVM().fit(X, rng.permutation(y))
    chance = 0.25 + 4 * np.sqrt(0.25 * 0.75 / 400)
    assert blind.score(X_new, rng.permutation(y_new)) < chance
    assert max(row["mean"] for row in blind.training["grid"]) < chance


def test_no_group_is_on_both_sides_of_an_inner_fold(monkeypatch):
    X, y = faces(120)
    subjects = np.arange(120) // 8
    X[:, -1] = subjects  # a mark that survives standardising as a value of its own
    trained, held_out = [], []

    class Spy(svm.LinearSVC):
        def fit(self, X, y):
            trained.append(set(np.round(X[:, -1], 4)))
            return super().fit(X, y)

        def decision_function(self, X):
            held_out.append(set(np.round(X[:, -1], 4)))
            return super().decision_function(X)

    monkeypatch.setattr(svm, "LinearSVC", Spy)
    LinearSVM(normaliser="standard", **QUICK).fit(X, y, groups=subjects, grouped_by="subject")
    assert len(held_out) == 2 * 3
    assert [len(mine) + len(theirs) for mine, theirs in zip(trained, held_out, strict=False)] == [15] * 6
    assert all(mine.isdisjoint(theirs) for mine, theirs in zip(trained, held_out, strict=False))


def test_groups_keep_a_leak_out_of_the_score():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 40))
    subjects = np.repeat(np.arange(30), 6)
    X = (people[subjects] + 0.05 * rng.normal(size=(180, 40))).astype(np.float32)
    y = LABELS[np.repeat(np.arange(30) % 4, 6)]  # the label follows from who it is, and from nothing else
    leaky = LinearSVM(**QUICK).fit(X, y).training
    honest = LinearSVM(**QUICK).fit(X, y, groups=subjects, grouped_by="subject").training
    assert max(row["mean"] for row in leaky["grid"]) > 0.95
    assert max(row["mean"] for row in honest["grid"]) < 0.5
    assert (leaky["groups"], honest["groups"]) == ("none", "subject")


def test_scaler_is_fitted_inside_the_fold(monkeypatch):
    X, y = faces(90)
    seen = []

    class Spy(svm.StandardScaler):
        def fit(self, X, y=None, sample_weight=None):
            seen.append(len(X))
            return super().fit(X, y, sample_weight)

    monkeypatch.setitem(svm.NORMALISERS, "standard", Spy)
    LinearSVM(normaliser="standard", **QUICK).fit(X, y)
    assert seen == [60, 60, 60, 90]


def test_ties_go_to_the_smaller_c_whatever_the_order_of_the_grid():
    X, y = faces(spread=50)  # every C gets everything right
    training = LinearSVM(Cs=(4.0, 0.5, 1.0), folds=3).fit(X, y).training
    assert [row["mean"] for row in training["grid"]] == [1.0, 1.0, 1.0]
    assert training["C"] == 0.5
    assert any("edge of the grid" in sentence for sentence in training["warnings"])


def test_validation_set_takes_the_place_of_the_folds():
    X, y = faces()
    X_val, y_val = faces(80, seed=3)
    calls = []
    model = LinearSVM(Cs=(0.01, 0.1, 1.0)).fit(
        X, y, validation=(X_val, y_val), progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert model.training["chosen_on"] == "validation"
    at_c = next(row for row in model.training["grid"] if row["C"] == model.training["C"])
    assert model.score(X_val, y_val) == pytest.approx(at_c["mean"])
    truth = np.searchsorted(model.classes_, y_val)
    logs = log_softmax(model.decision_function(X_val) / model.temperature_, axis=1)
    assert model.training["nll_after"] == pytest.approx(-logs[np.arange(80), truth].mean(), rel=1e-4)
    assert model.training["nll_after"] <= model.training["nll_before"]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_recovers_the_one_that_made_the_labels(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2 * temperature, size=(20000, 5))
    gumbel = rng.gumbel(size=logits.shape)  # arg max of logits / T + Gumbel noise is a draw from softmax
    truth = (logits / temperature + gumbel).argmax(axis=1)
    assert fit_temperature(logits, truth).value == pytest.approx(temperature, rel=0.05)


def test_temperature_at_its_bound_is_said():
    sure = fit_temperature(2 * np.eye(3) - 1, np.array([0, 1, 2]))
    assert any("bound" in sentence for sentence in sure.warnings())
    assert sure.nll_after <= sure.nll_before


def test_balanced_weights_raise_the_recall_of_the_rare_class():
    X, y = faces(1200, spread=0.6, classes=2)
    keep = (y == "anger") | (np.arange(1200) % 10 == 1)
    X, y = X[keep], y[keep]
    plain, balanced = (LinearSVM(class_weight=weight, **QUICK).fit(X, y) for weight in (None, "balanced"))
    rare = y == "fear"
    assert (balanced.predict(X[rare]) == "fear").mean() > (plain.predict(X[rare]) == "fear").mean() + 0.2
    assert (plain.training["criterion"], balanced.training["criterion"]) == ("accuracy", "UAR")


def test_same_seed_same_model_and_processes_change_nothing():
    X, y = faces()
    one = LinearSVM(seed=3, **QUICK).fit(X, y)
    two = LinearSVM(seed=3, n_jobs=2, **QUICK).fit(X, y)
    assert np.array_equal(one.predict_proba(X), two.predict_proba(X))
    assert one.training["grid"] == two.training["grid"]


def test_summary_is_json_and_convergence_is_reported_not_warned(monkeypatch):
    X, y = faces(40, d=60)
    real = svm.LinearSVC
    monkeypatch.setattr(svm, "LinearSVC", lambda **settings: real(max_iter=1, **settings))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = LinearSVM(**QUICK).fit(X, y).training
    assert any("6 of 6 fits did not converge" in sentence for sentence in training["warnings"])
    assert json.loads(json.dumps(training, allow_nan=False)) == training
    assert training["samples"] == {"anger": 10, "fear": 10, "joy": 10, "neutral": 10}
    assert (training["dimensions"], training["normaliser"]) == (60, "l2")


def test_works_inside_scikit_learn():
    X, y = faces()
    model = LinearSVM(**QUICK)
    assert clone(model).get_params() == model.get_params()
    assert cross_val_score(model, X, y, cv=3).mean() > 0.5


def test_input_is_left_as_it_was_and_may_be_read_only():
    X, y = faces()
    X.setflags(write=False)
    before = X.copy()
    model = LinearSVM(**QUICK).fit(X, y)
    model.predict_proba(X)
    assert np.array_equal(X, before)


def test_long_tables_are_classified_in_pieces_with_the_same_answer(monkeypatch):
    X, y = faces()
    model = LinearSVM(**QUICK).fit(X, y)
    whole = model.decision_function(X)
    monkeypatch.setattr(svm, "CHUNK", 7)
    assert model.decision_function(X) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_no_rows_no_answers(classes):
    X, y = faces(classes=classes)
    model = LinearSVM(**QUICK).fit(X, y)
    assert model.predict(X[:0]).shape == (0,)
    assert model.predict_proba(X[:0]).shape == (0, classes)


def test_folds_are_refused_where_a_class_is_too_small():
    y = np.repeat(["fear", "joy"], [4, 20])
    with pytest.raises(InputError, match=r"fear \(4\).*--min-per-class 5"):
        inner_folds(y, None, 5, 0)


def test_folds_are_refused_where_there_are_too_few_groups():
    y = np.tile(["fear", "joy"], 15)
    with pytest.raises(InputError, match=r"at least 5 of each subject.* 3"):
        inner_folds(y, np.repeat(["a", "b", "c"], 10), 5, 0, "subject")


def test_folds_are_refused_where_one_person_has_a_class_alone():
    y = np.array(["joy", "fear"] * 20 + ["anger"] * 5)
    people = np.array([f"s{i // 4}" for i in range(40)] + ["s0"] * 5)
    with pytest.raises(InputError, match="anger comes from 1 subject"):
        inner_folds(y, people, 3, 0, "subject")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, np.repeat("joy", len(y))), "at least two classes"),
        (lambda X, y: (X, y[:-1]), "one text label per row"),
        (lambda X, y: (X, np.arange(len(y))), "one text label per row"),
        (lambda X, y: (X[0], y), "matrix"),
        (lambda X, y: (X.astype(str), y), "matrix"),
        (lambda X, y: (np.where(np.arange(len(X))[:, None] == 5, np.nan, X), y), "row 5 .*NaN"),
        (lambda X, y: (np.where(np.arange(len(X))[:, None] == 7, np.inf, X), y), "row 7 .*infinity"),
    ],
    ids=["one class", "short labels", "numbers as labels", "vector", "text", "nan", "inf"],
)
def test_bad_training_rows_are_refused(change, message):
    X, y = change(*faces())
    with pytest.raises(InputError, match=message):
        LinearSVM(**QUICK).fit(X, y)


def test_bad_validation_sets_are_refused():
    X, y = faces()
    with pytest.raises(InputError, match="training set lacks: contempt"):
        LinearSVM().fit(X, y, validation=(X[:2], ["contempt", "joy"]))
    with pytest.raises(InputError, match="rows of 12 numbers"):
        LinearSVM().fit(X, y, validation=(X[:2, :5], y[:2]))


def test_vectors_of_another_width_or_not_finite_are_refused_at_use():
    X, y = faces()
    model = LinearSVM(**QUICK).fit(X, y)
    with pytest.raises(RecipeMismatch, match="12 numbers and got vectors of 8"):
        model.predict(X[:, :8])
    X[3, 3] = np.nan
    with pytest.raises(InputError, match="row 3"):
        model.predict(X)
