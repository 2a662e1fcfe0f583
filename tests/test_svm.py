"""The linear SVM: choice of C, temperature, refusals, and the numbers behind its answers."""

import json
import warnings
from functools import partial

import numpy as np
import pyarrow
import pytest
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import ConfusionMatrixDisplay, get_scorer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from featurepipe.errors import InputError, RecipeMismatch
from featurepipe.models import svm
from featurepipe.models.linear_svm import LinearSVM
from featurepipe.models.persistence import load_model, save_svm, save_svm_arrays
from featurepipe.models.svm import LinearSVMCV, fit_temperature, inner_folds

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
    model = LinearSVMCV(normaliser=normaliser, **QUICK).fit(X, y)
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
    model = LinearSVMCV(**QUICK).fit(X, y)
    strangers = faces(seed=9, classes=classes)[0]
    p, predicted = model.predict_proba(strangers), model.predict(strangers)
    assert p.shape == (160, classes)
    assert p.sum(axis=1) == pytest.approx(np.ones(160), abs=1e-12)
    assert np.array_equal(model.classes_[p.argmax(axis=1)], predicted)
    assert np.array_equal(predicted, model.pipeline_.predict(strangers))
    assert model.labels == LABELS[:classes].tolist()


def test_with_two_classes_p_rises_with_the_margin():
    X, y = faces(classes=2)
    model = LinearSVMCV(**QUICK).fit(X, y)
    margins = model.decision_function(X)
    assert margins.shape == (160,)
    assert np.all(np.diff(model.predict_proba(X)[np.argsort(margins), 1]) >= 0)
    assert np.array_equal(model.predict_proba(X)[:, 1] > 0.5, margins > 0)


def test_classes_are_learned_and_shuffled_labels_are_at_chance():
    X, y = faces(400, spread=3)
    X_new, y_new = faces(400, spread=3, seed=5)
    assert LinearSVMCV().fit(X, y).score(X_new, y_new) > 0.9
    rng = np.random.default_rng(0)
    blind = LinearSVMCV().fit(X, rng.permutation(y))
    chance = 0.25 + 4 * np.sqrt(0.25 * 0.75 / 400)
    assert blind.score(X_new, rng.permutation(y_new)) < chance
    assert max(row["mean"] for row in blind.training["grid"]) < chance


def test_no_group_is_on_both_sides_of_an_inner_fold(monkeypatch):
    X, y = faces(120)
    subjects = np.arange(120) // 8
    learned, real = [], svm.path

    def spy(X, columns, Cs, **settings):
        learned.extend((columns.weight > 0).T)
        return real(X, columns, Cs, **settings)

    monkeypatch.setattr(svm, "path", spy)
    LinearSVMCV(normaliser="standard", **QUICK).fit(X, y, groups=subjects, grouped_by="subject")
    assert len(learned) == 3 * 4
    assert all(set(subjects[rows]).isdisjoint(subjects[~rows]) for rows in learned)
    assert np.array_equal(np.sum(learned, axis=0), np.full(120, 2 * 4))  # each row is held out once per class


def test_groups_keep_a_leak_out_of_the_score():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 40))
    subjects = np.repeat(np.arange(30), 6)
    X = (people[subjects] + 0.05 * rng.normal(size=(180, 40))).astype(np.float32)
    y = LABELS[np.repeat(np.arange(30) % 4, 6)]  # the label follows from who it is, and from nothing else
    leaky = LinearSVMCV(**QUICK).fit(X, y).training
    honest = LinearSVMCV(**QUICK).fit(X, y, groups=subjects, grouped_by="subject").training
    assert max(row["mean"] for row in leaky["grid"]) > 0.95
    assert max(row["mean"] for row in honest["grid"]) < 0.5
    assert (leaky["groups"], honest["groups"]) == ("none", "subject")


@pytest.mark.parametrize("width", [12, 100, 200], ids=["tall", "together", "wide"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("normaliser", ["l2", "standard"])
def test_folds_give_what_scikit_learn_gives_with_the_normaliser_inside_the_fold(normaliser, classes, width):
    X, y = faces(180 if width < 200 else 90, d=width, classes=classes)
    splits = inner_folds(y, None, 3, 0)
    reference = make_pipeline(svm.NORMALISERS[normaliser](), LinearSVC(C=0.3, dual=False, tol=1e-10, max_iter=10_000))
    truth = np.searchsorted(np.unique(y), y)
    held_out = [reference.fit(X[train], y[train]).decision_function(X[out]) for train, out in splits]
    logs = log_softmax(svm.two_sided(np.concatenate(held_out)), axis=1)
    rows = np.concatenate([out for _, out in splits])
    accuracy = np.mean(
        [np.mean(svm.two_sided(part).argmax(1) == truth[out]) for part, (_, out) in zip(held_out, splits, strict=True)]
    )
    training = LinearSVMCV(normaliser=normaliser, Cs=[0.3], folds=3).fit(X, y).training
    assert training["nll_before"] == pytest.approx(-logs[np.arange(len(rows)), truth[rows]].mean(), rel=1e-4)
    assert training["grid"][0]["mean"] == pytest.approx(accuracy)


def nll_by_hand(reference, splits, X, y, soft=None):
    """Mean negative log-likelihood of held-out rows, a plain fit on the learnt rows of each fold."""
    names, logs = np.unique(y), []
    for train, out in splits:
        more = {} if soft is None else {"soft_labels": soft[train]}
        values = reference.fit(X[train], y[train], **more).decision_function(X[out])
        logs.append(log_softmax(svm.two_sided(values), axis=1)[np.arange(len(out)), np.searchsorted(names, y[out])])
    return -np.concatenate(logs).mean()


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def test_balanced_weights_are_of_the_rows_learnt_from_alone():
    """Three people, of whom one alone has many of the rare class: folds differ in how frequent classes are."""
    X, y = faces(120, classes=2)
    people = np.repeat(["a", "b", "c"], 40)
    y[:40] = np.where(np.arange(40) < 36, "fear", "anger")
    y[40:] = np.where(np.arange(80) % 40 < 6, "fear", "anger")
    splits = inner_folds(y, people, 3, 0, "subject")
    by_hand = nll_by_hand(LinearSVM(C=0.3, class_weight="balanced", tol=1e-9), splits, unit(X), y)
    model = LinearSVMCV(class_weight="balanced", Cs=[0.3], folds=3).fit(X, y, groups=people, grouped_by="subject")
    assert model.training["nll_before"] == pytest.approx(by_hand, rel=1e-4)


def test_c_is_chosen_among_fits_on_soft_labels():
    """On folds, and beside a validation set."""
    X, y = faces()
    soft = np.random.default_rng(0).dirichlet(np.ones(4), 160)
    reference, fitted = LinearSVM(C=0.3, tol=1e-9), LinearSVMCV(Cs=[0.3], folds=3)
    by_hand = nll_by_hand(reference, inner_folds(y, None, 3, 0), unit(X), y, soft)
    assert fitted.fit(X, y, soft_labels=soft).training["nll_before"] == pytest.approx(by_hand, rel=1e-4)
    half = np.arange(160) < 80
    by_hand = nll_by_hand(reference, [(np.flatnonzero(half), np.flatnonzero(~half))], unit(X), y, soft)
    fitted.fit(X[half], y[half], soft_labels=soft[half], validation=(X[~half], y[~half]))
    assert fitted.training["nll_before"] == pytest.approx(by_hand, rel=1e-4)


def test_columns_that_are_constant_in_a_fold_change_nothing():
    """One everywhere, one but for the rows that the first fold holds out."""
    X, y = faces(180, d=12)
    out = inner_folds(y, None, 3, 0)[0][1]
    lone = np.where(np.isin(np.arange(180), out[:1]), 1, 0)
    more = np.column_stack([X, np.full(180, 7), lone]).astype(np.float32)
    plain, padded = (LinearSVMCV(normaliser="standard", Cs=[0.01], folds=3).fit(rows, y) for rows in (X, more))
    assert padded.training["warnings"] == []
    assert padded.training["nll_before"] == pytest.approx(plain.training["nll_before"], rel=0.02)
    assert np.isfinite(padded.predict_proba(more)).all()


@pytest.mark.parametrize("groups", [None, np.arange(160) // 2])
def test_another_seed_makes_other_folds(groups):
    X, y = faces()
    y = y if groups is None else np.repeat(y[:80], 2)
    scores = [LinearSVMCV(Cs=[1.0], folds=3, seed=seed).fit(X, y, groups=groups).training for seed in (0, 0, 1)]
    assert [one["nll_before"] == scores[0]["nll_before"] for one in scores] == [True, True, False]


def test_ties_go_to_the_smaller_c_whatever_the_order_of_the_grid():
    X, y = faces(spread=50)  # every C gets everything right
    training = LinearSVMCV(Cs=(4.0, 0.5, 1.0), folds=3).fit(X, y).training
    assert [row["mean"] for row in training["grid"]] == [1.0, 1.0, 1.0]
    assert training["C"] == 0.5
    assert any("edge of the grid" in sentence for sentence in training["warnings"])


@pytest.mark.parametrize("normaliser", ["l2", "standard"])
def test_validation_set_takes_the_place_of_the_folds(normaliser):
    X, y = faces()
    X_val, y_val = faces(80, seed=3)
    X_val = 2 * X_val + 1  # of another scale and origin: standardising learns from the training rows alone
    calls = []
    model = LinearSVMCV(normaliser=normaliser, Cs=(0.01, 0.1, 1.0)).fit(
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
    plain, balanced = (LinearSVMCV(class_weight=weight, **QUICK).fit(X, y) for weight in (None, "balanced"))
    rare = y == "fear"
    assert (balanced.predict(X[rare]) == "fear").mean() > (plain.predict(X[rare]) == "fear").mean() + 0.2
    assert (plain.training["criterion"], balanced.training["criterion"]) == ("accuracy", "UAR")


def test_same_seed_same_model():
    X, y = faces()
    one, two = (LinearSVMCV(seed=3, **QUICK).fit(X, y) for _ in range(2))
    assert np.array_equal(one.predict_proba(X), two.predict_proba(X))
    assert one.training["grid"] == two.training["grid"]


def test_summary_is_json_and_convergence_is_reported_not_warned(monkeypatch):
    X, y = faces(40, d=60)
    monkeypatch.setattr(svm, "SEARCH_TOL", 1e-40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = LinearSVMCV(**QUICK).fit(X, y).training
    assert any("24 of 24 one-vs-rest fits did not converge" in sentence for sentence in training["warnings"])
    assert json.loads(json.dumps(training, allow_nan=False)) == training
    assert training["samples"] == {"anger": 10, "fear": 10, "joy": 10, "neutral": 10}
    assert (training["dimensions"], training["normaliser"]) == (60, "l2")


@pytest.mark.parametrize("fit", [LinearSVMCV.fit, partial(LinearSVMCV.fit_fixed, C=1.0)])
def test_a_last_fit_that_does_not_converge_is_reported(fit, monkeypatch):
    quiet = fit(LinearSVMCV(**QUICK), *faces()).training["warnings"]
    monkeypatch.setattr(svm, "LinearSVM", partial(LinearSVM, tol=1e-40))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = fit(LinearSVMCV(**QUICK), *faces()).training["warnings"]
    assert said[:-1] == quiet
    assert "the fit on all rows did not converge" in said[-1]


def test_works_inside_scikit_learn():
    X, y = faces()
    model = LinearSVMCV(**QUICK)
    assert clone(model).get_params() == model.get_params()
    assert cross_val_score(model, X, y, cv=3).mean() > 0.5


def frame_of(X, order=slice(None)):
    """A data frame with named columns in some order; pyarrow's, which scikit-learn takes as it takes pandas'."""
    names = [f"f{number}" for number in range(X.shape[1])]
    return pyarrow.table({name: X[:, names.index(name)] for name in names[order]})


@pytest.mark.parametrize("fit", [LinearSVMCV.fit, partial(LinearSVMCV.fit_fixed, C=1.0)])
def test_columns_of_a_data_frame_in_another_order_are_refused(fit):
    """They were taken as they came, and the labels were wrong without a word."""
    X, y = faces()
    model = fit(LinearSVMCV(**QUICK), frame_of(X), y)
    assert model.feature_names_in_.tolist() == [f"f{number}" for number in range(12)]
    assert model.n_features_in_ == 12
    assert np.array_equal(model.predict(frame_of(X)), fit(LinearSVMCV(**QUICK), X, y).predict(X))
    for answer in (model.predict, model.predict_proba, model.decision_function):
        with pytest.raises(ValueError, match="feature names"):
            answer(frame_of(X, slice(None, None, -1)))


@pytest.mark.parametrize("save", [save_svm, save_svm_arrays])
def test_a_file_knows_the_columns(save, tmp_path):
    """It forgot them: what the model in memory refuses its file answered, wrongly. Saved twice, it still knows."""
    X, y = faces()
    save(tmp_path / "one", LinearSVMCV(**QUICK).fit(frame_of(X), y))
    save(tmp_path / "two", load_model(tmp_path / "one"))
    for name in ("one", "two"):
        model = load_model(tmp_path / name)
        assert np.array_equal(model.predict(frame_of(X)), model.predict(X))
        with pytest.raises(InputError, match="data frame of 12 named columns, and this one has 'f11' in place of 'f0'"):
            model.predict(frame_of(X, slice(None, None, -1)))
        with pytest.raises(InputError, match="12 named columns, and this one has 11 columns"):
            model.predict(frame_of(X, slice(11)))


def test_validation_columns_in_another_order_are_refused_and_the_model_stays():
    X, y = faces()
    model = LinearSVMCV(**QUICK).fit(X, y)
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="feature names"):
        model.fit(frame_of(X), y, validation=(frame_of(X, slice(None, None, -1)), y))
    assert not hasattr(model, "feature_names_in_")
    assert np.array_equal(model.predict_proba(X), before)


def test_scorers_and_displays_take_what_was_read_from_a_file(tmp_path):
    X, y = faces()
    fitted = LinearSVMCV(**QUICK).fit(X, y)
    fitted.save(tmp_path / "m")
    model = load_model(tmp_path / "m")
    assert model.score(X, y) == fitted.score(X, y) == get_scorer("accuracy")(model, X, y)
    assert get_scorer("neg_log_loss")(model, X, y) == get_scorer("neg_log_loss")(fitted, X, y)
    assert ConfusionMatrixDisplay.from_estimator(model, X, y).confusion_matrix.trace() == 160 * model.score(X, y)
    assert repr(model) == "LinearModel('l2', vectors of 12 numbers, 4 classes)"


@pytest.mark.parametrize("normaliser", ["l2", "standard"])
def test_vectors_of_half_precision_are_computed_in_full(normaliser, tmp_path):
    """In float16 the length of such a vector is infinite, and every answer was the same."""
    X, y = faces(d=100)
    half = np.clip(X * 200, 0, 60000).astype(np.float16)
    fitted = LinearSVMCV(normaliser=normaliser, **QUICK).fit(half, y, validation=(half, y))
    same = LinearSVMCV(normaliser=normaliser, **QUICK).fit(half.astype(np.float64), y, validation=(half, y))
    assert np.array_equal(fitted.decision_function(half), same.decision_function(half.astype(np.float64)))
    assert fitted.training["grid"] == same.training["grid"]
    assert fitted.score(half, y) > 0.8
    save_svm(tmp_path / "m", fitted)
    assert np.array_equal(load_model(tmp_path / "m").decision_function(half), fitted.decision_function(half))


def test_input_is_left_as_it_was_and_may_be_read_only():
    X, y = faces()
    X.setflags(write=False)
    before = X.copy()
    model = LinearSVMCV(**QUICK).fit(X, y)
    model.predict_proba(X)
    assert np.array_equal(X, before)


def test_long_tables_are_classified_in_pieces_with_the_same_answer(monkeypatch):
    X, y = faces()
    model = LinearSVMCV(**QUICK).fit(X, y)
    whole = model.decision_function(X)
    monkeypatch.setattr(svm, "CHUNK", 7)
    assert model.decision_function(X) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_no_rows_no_answers(classes, tmp_path):
    X, y = faces(classes=classes)
    model = LinearSVMCV(**QUICK).fit(X, y)
    model.save(tmp_path / "m")
    for own in (model, load_model(tmp_path / "m")):
        for none in (X[:0], np.empty((0, 0))):  # no face in any photo: nobody knows the width
            assert own.predict(none).shape == (0,)
            assert own.predict_proba(none).shape == (0, classes)
            assert own.decision_function(none).shape == ((0,) if classes == 2 else (0, classes))


def test_folds_are_refused_where_a_class_is_too_small():
    y = np.repeat(["fear", "joy"], [4, 20])
    with pytest.raises(InputError, match=r"fear \(4\).*--min-per-class 5"):
        inner_folds(y, None, 5, 0)


def test_folds_are_refused_where_rows_lack_a_group():
    X, y = faces()
    with pytest.raises(InputError, match="3 groups were given for 160 rows"):
        LinearSVMCV(**QUICK).fit(X, y, groups=["a", "b", "c"])


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
        LinearSVMCV(**QUICK).fit(X, y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normaliser": "l1"}, "unknown normaliser 'l1'; known are l2, standard"),
        ({"class_weight": {"fear": 2.0}}, "class_weight must be None or"),
        ({"Cs": ()}, "at least one"),
        ({"Cs": (1.0, -1.0)}, r"above 0.*\[-1\.0, 1\.0\]"),
        ({"Cs": (0.0, 1.0)}, "above 0"),
        ({"Cs": (1.0, np.inf)}, "finite"),
        ({"folds": 1}, "folds must be a whole number of at least 2, and is 1"),
        ({"folds": 2.5}, "folds must be"),
        ({"seed": None}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LinearSVMCV(**settings).fit(*faces())


@pytest.mark.parametrize("C", [-1.0, 0, np.inf, np.nan, None, "1"])
def test_a_fixed_c_that_makes_no_sense_is_refused(C):
    with pytest.raises(InputError, match="C must be a finite number above 0"):
        LinearSVMCV().fit_fixed(*faces(), C)


def test_labels_of_a_table_and_a_grid_of_numpy_are_as_good_as_text_and_tuples():
    """FeatureTable gives labels as objects, and so do data frames."""
    X, y = faces()
    plain = LinearSVMCV(**QUICK).fit(X, y)
    other = LinearSVMCV(Cs=np.array(QUICK["Cs"]), folds=3).fit(
        X, y.astype(object), groups=np.arange(160).astype(object)
    )
    assert other.labels == plain.labels
    assert other.training["grid"][0]["C"] == 0.1
    with pytest.raises(InputError, match="one text label per row"):
        LinearSVMCV(**QUICK).fit(X, np.where(y == "joy", None, y.astype(object)))


def test_nothing_is_predicted_or_saved_before_it_is_fitted(tmp_path):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        LinearSVMCV().predict(faces()[0])
    with pytest.raises(NotFittedError, match="not fitted yet"):
        LinearSVMCV().save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


class NotAvailable:
    """As pandas' NA: equal to nothing, and neither true nor false."""

    def __eq__(self, other):
        return self

    __hash__ = None

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


@pytest.mark.parametrize("nothing", [None, float("nan"), np.float32("nan"), np.datetime64("NaT"), NotAvailable()])
def test_a_group_without_a_name_is_refused(nothing):
    X, y = faces()
    people = [f"s{number // 8}" for number in range(160)]
    people[3] = nothing
    for groups in (people, np.array(people, object)):
        with pytest.raises(InputError, match="1 of 160 rows have None or NaN for a subject"):
            LinearSVMCV(**QUICK).fit(X, y, groups=groups, grouped_by="subject")


@pytest.mark.parametrize("nothing", [None, float("nan"), 3, b"joy", NotAvailable()])
def test_labels_that_are_no_text_are_refused(nothing):
    """NumPy would make the class "nan" of a NaN among words; None among validation labels was a TypeError."""
    X, y = faces()
    labels = y.tolist()
    labels[5] = nothing
    with pytest.raises(InputError, match=r"160 rows, .* 1 of them no text, such as"):
        LinearSVMCV(**QUICK).fit(X, labels)
    with pytest.raises(InputError, match=r"160 validation rows, .* 1 of them no text, such as"):
        LinearSVMCV(**QUICK).fit(X, y, validation=(X, labels))


def test_bad_validation_sets_are_refused():
    X, y = faces()
    with pytest.raises(InputError, match="training set lacks: contempt"):
        LinearSVMCV().fit(X, y, validation=(X[:2], ["contempt", "joy"]))
    with pytest.raises(InputError, match="rows of 12 numbers"):
        LinearSVMCV().fit(X, y, validation=(X[:2, :5], y[:2]))
    with pytest.raises(InputError, match=r"1 validation rows, labels of shape \(\)"):
        LinearSVMCV().fit(X, y, validation=(X[:1], "joy"))


def test_vectors_of_another_width_or_not_finite_are_refused_at_use():
    X, y = faces()
    model = LinearSVMCV(**QUICK).fit(X, y)
    with pytest.raises(RecipeMismatch, match="12 numbers and got vectors of 8"):
        model.predict(X[:, :8])
    X[3, 3] = np.nan
    with pytest.raises(InputError, match="row 3"):
        model.predict(X)
