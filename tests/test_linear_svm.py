"""LinearSVM: scikit-learn's contract, liblinear's optimum, its own certificate, its memory."""

import time
import tracemalloc
import warnings
from dataclasses import replace
from threading import get_ident

import joblib
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info, threadpool_limits

import featurepipe
from featurepipe.errors import InputError
from featurepipe.models import matrices, newton, subspace
from featurepipe.models.linear_svm import LinearSVM, one_vs_rest, path
from featurepipe.models.matrices import Rows, Symmetric
from featurepipe.models.matrices_torch import TorchRows
from featurepipe.models.subspace import leading
from featurepipe.models.svm import LinearSVMCV

SHAPES = {"tall": (240, 30), "square": (60, 60), "wide": (50, 300)}


def deep(n=240, d=30, classes=3, seed=0, dtype=np.float32):
    """Rectified features with a few strong directions, as of a network, and labels that overlap."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    hidden = rng.normal(size=(n, 6)) + 1.2 * rng.normal(size=(classes, 6))[y]
    X = np.maximum(hidden @ rng.normal(size=(6, d)) + 0.5 * rng.normal(size=(n, d)), 0)
    return X.astype(dtype), np.array(["anger", "fear", "joy", "sad"])[y]


def objectives(model, X, y, C, weight=None, penalty=1.0):
    """P of each class in float64, written out from its definition."""
    X, weight = X.astype(np.float64), np.ones(len(X)) if weight is None else weight
    classes = model.classes_[1:] if len(model.classes_) == 2 else model.classes_
    sign = np.where(y[:, None] == classes, 1.0, -1.0)
    slack = np.maximum(1 - sign * (X @ model.coef_.T + model.intercept_), 0)
    size = (model.coef_**2).sum(axis=1) + penalty * model.intercept_**2
    return size / 2 + C * (weight[:, None] * slack**2).sum(axis=0)


@parametrize_with_checks([LinearSVM(), LinearSVM(penalise_intercept=False), LinearSVM(class_weight="balanced")])
def test_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [1e-6, 1e-3, 1e-1, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_optimum_is_liblinears(shape, classes, C, dtype):
    X, y = deep(*SHAPES[shape], classes, dtype=dtype)
    model = LinearSVM(C=C).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference = LinearSVC(C=C, dual=False, tol=1e-12, max_iter=5000).fit(X.astype(np.float64), y)
    ours, theirs = objectives(model, X, y, C), objectives(reference, X, y, C)
    assert np.all(ours <= theirs * (1 + 2e-6))
    assert np.all(theirs <= ours * (1 + 1e-4))  # liblinear's stopping rule is a gradient's, and looser
    assert model.objective_ == pytest.approx(ours, rel=1e-9)
    assert model.gap_.max() <= 1e-6
    assert model.coef_.shape == reference.coef_.shape
    strangers = deep(100, X.shape[1], classes, seed=5)[0]
    scale = np.abs(reference.decision_function(strangers)).max()
    assert model.decision_function(strangers) == pytest.approx(reference.decision_function(strangers), abs=2e-2 * scale)


@pytest.mark.parametrize("penalised", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_general_optimiser_finds_the_same_planes(shape, penalised):
    X, y = deep(*SHAPES[shape], classes=2, dtype=np.float64)
    sign, C = np.where(y == "fear", 1.0, -1.0), 0.2

    def objective(point):
        w, b = point[:-1], point[-1]
        slack = np.maximum(1 - sign * (X @ w + b), 0)
        pressed = -2 * C * slack * sign
        value = (w @ w + penalised * b * b) / 2 + C * slack @ slack
        return value, np.append(w + X.T @ pressed, penalised * b + pressed.sum())

    start = np.zeros(X.shape[1] + 1)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 20000, "ftol": 0, "gtol": 1e-9})
    model = LinearSVM(C=C, penalise_intercept=penalised, tol=1e-12).fit(X, y)
    assert model.objective_[0] == pytest.approx(found.fun, rel=1e-9)
    assert model.coef_[0] == pytest.approx(found.x[:-1], abs=1e-5)
    assert model.intercept_[0] == pytest.approx(found.x[-1], abs=1e-5)


def test_a_free_intercept_does_not_feel_a_shift_of_the_features_origin():
    X, y = deep(dtype=np.float64)
    one, two = (LinearSVM(C=0.1, penalise_intercept=False).fit(rows, y) for rows in (X, X - X.mean(axis=0)))
    assert one.coef_ == pytest.approx(two.coef_, abs=1e-6)
    bound = (LinearSVM(C=1e-3).fit(rows, y) for rows in (X, X - X.mean(axis=0)))
    assert next(bound).coef_ != pytest.approx(next(bound).coef_, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("penalised", [True, False])
def test_the_gap_bounds_how_far_the_objective_is_from_its_minimum(shape, penalised, monkeypatch):
    X, y = deep(*SHAPES[shape])
    best = LinearSVM(C=0.5, penalise_intercept=penalised).fit(X, y).objective_
    monkeypatch.setattr(newton, "TINY", 0)
    monkeypatch.setattr(newton, "WHOLE", 0)
    monkeypatch.setattr(newton, "PATIENCE", np.inf)
    for steps in (1, 2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            rough = LinearSVM(C=0.5, penalise_intercept=penalised, max_iter=steps, tol=1e-12).fit(X, y)
        assert np.all(rough.gap_ >= (rough.objective_ - best) / rough.objective_ - 1e-9)
    assert rough.gap_.max() > 1e-3


def test_too_few_steps_are_said(monkeypatch):
    X, y = deep()
    monkeypatch.setattr(newton, "TINY", 0)
    monkeypatch.setattr(newton, "WHOLE", 0)
    with pytest.warns(ConvergenceWarning, match=r"duality gap is .* after 1 steps, not 1\.0e-06"):
        LinearSVM(C=10.0, max_iter=1).fit(X, y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_planes_that_are_no_numbers_are_said():
    with pytest.warns(ConvergenceWarning, match="duality gap is nan"):
        LinearSVM(C=1e300).fit(*deep())


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_repeated_rows(shape):
    X, y = deep(*SHAPES[shape])
    times = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = LinearSVM(C=0.1).fit(X, y, sample_weight=times)
    repeated = LinearSVM(C=0.1).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=3e-6)
    assert weighted.coef_ == pytest.approx(repeated.coef_, abs=1e-2 * np.abs(repeated.coef_).max())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weight", ["balanced", {"anger": 5.0, "fear": 0.5}])
def test_class_weights_are_liblinears(class_weight, classes):
    X, y = deep(300, 20, classes)
    X, y = X[40:], np.where(np.arange(260) % 9 < 4, y[40:], "fear")
    model = LinearSVM(C=0.05, class_weight=class_weight).fit(X, y)
    reference = LinearSVC(C=0.05, class_weight=class_weight, dual=False, tol=1e-12, max_iter=5000).fit(X, y)
    assert model.coef_ == pytest.approx(reference.coef_, abs=1e-4)
    assert model.intercept_ == pytest.approx(reference.intercept_, abs=1e-4)


def test_class_weights_that_make_no_sense_are_refused():
    X, y = deep()
    for wrong in ("even", 3, {"nobody": 2.0}, {"fear": -1.0}, {"fear": np.nan}, {"fear": np.inf}):
        with pytest.raises(ValueError, match="class_weight"):
            LinearSVM(class_weight=wrong).fit(X, y)


@pytest.mark.parametrize("settings", [{"C": 0.0}, {"C": -1.0}, {"tol": 0.0}, {"C": np.nan}, {"C": np.inf}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="must be positive"):
        LinearSVM(**settings).fit(*deep())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(value):
    X, y = deep()
    X[7, 3] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        LinearSVM().fit(X, y)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("C", [1.0, 1e4])
def test_separable_classes_are_separated_and_no_objective_of_liblinear_is_lower(shape, C):
    X, y = deep(*SHAPES[shape], classes=2)
    X[:, 0] = np.where(y == "fear", 6, 0)
    model = LinearSVM(C=C).fit(X, y)
    assert model.score(X, y) == 1
    assert model.gap_.max() <= 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference = LinearSVC(C=C, dual=False, tol=1e-10, max_iter=2000).fit(X.astype(np.float64), y)
    assert np.all(objectives(model, X, y, C) <= objectives(reference, X, y, C) * (1 + 2e-6))


@pytest.mark.parametrize("shape", SHAPES)
def test_constant_and_repeated_features_change_nothing(shape):
    X, y = deep(*SHAPES[shape])
    plain = LinearSVM(C=0.1, penalise_intercept=False).fit(X, y)
    more = np.concatenate([X, np.zeros_like(X[:, :2])], axis=1)
    padded = LinearSVM(C=0.1, penalise_intercept=False).fit(more, y)
    assert padded.coef_[:, -2:] == pytest.approx(np.zeros((3, 2)), abs=1e-12)
    assert padded.objective_ == pytest.approx(plain.objective_, rel=2e-6)
    twice = LinearSVM(C=0.1).fit(np.concatenate([X, X], axis=1) / np.float32(np.sqrt(2)), y)
    assert twice.objective_ == pytest.approx(LinearSVM(C=0.1).fit(X, y).objective_, rel=2e-6)


def test_all_rows_alike_still_have_an_optimum():
    model = LinearSVM().fit(np.ones((20, 3), np.float32), np.repeat(["a", "b"], [15, 5]))
    assert model.predict(np.ones((1, 3)))[0] == "a"
    assert model.gap_.max() <= 1e-6


def test_hard_problems_end_too_whatever_the_scale_of_the_features():
    X, y = deep(400, 40)
    for factor in (1e-3, 1e3):
        model = LinearSVM(C=1.0).fit(X * np.float32(factor), y)
        assert model.gap_.max() <= 1e-6, factor


def test_the_way_of_large_problems_ends_at_the_same_optimum(monkeypatch):
    """No rounding to the end, sampled Gram matrix, few factors for many classes: what a table of 28,709 rows meets."""
    X, y = deep(3000, 60, 4)
    best = LinearSVM(C=0.3).fit(X, y).objective_
    monkeypatch.setattr(newton, "TINY", 0)
    monkeypatch.setattr(newton, "WHOLE", 0)
    model = LinearSVM(C=0.3).fit(X, y)
    assert model.gap_.max() <= 1e-6
    assert model.objective_ == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("penalised", [True, False])
def test_columns_solved_one_by_one_in_the_whole_space_end_at_the_same_optimum(penalised, monkeypatch):
    """What a table of 28,709 rows meets at large C: a poor subspace, then float32 Hessians of all directions."""
    X, y = deep(3000, 60, 4)
    best = LinearSVM(C=0.3, penalise_intercept=penalised).fit(X, y)
    for module, name in ((newton, "TINY"), (newton, "WHOLE"), (newton, "STEEP"), (newton, "PATIENCE")):
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(subspace, "EXACT", 0)
    model = LinearSVM(C=0.3, penalise_intercept=penalised).fit(X, y)
    assert model.gap_.max() <= 1e-6
    assert model.objective_ == pytest.approx(best.objective_, rel=1e-6)
    assert model.coef_ == pytest.approx(best.coef_, abs=3e-3 * np.abs(best.coef_).max())


@pytest.mark.parametrize("few", [0, newton.FEW])
@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
def test_fewer_rows_than_dimensions_have_liblinears_planes_at_any_cost(C, few, monkeypatch):
    """Standardised, with a spectrum: by conjugate gradients as long as they help, and by solving at once."""
    monkeypatch.setattr(newton, "FEW", few)
    rng = np.random.default_rng(0)
    y = np.arange(150) % 4
    hidden = rng.normal(size=(150, 150)) / np.arange(1, 151) + np.pad(0.5 * np.eye(4)[y], ((0, 0), (0, 146)))
    X = np.maximum(hidden @ rng.normal(size=(150, 1500)), 0)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    model = LinearSVM(C=C, tol=1e-10).fit(X, y)
    reference = LinearSVC(C=C, dual=True, tol=1e-10, max_iter=1_000_000).fit(X.astype(np.float64), y)
    assert model.gap_.max() <= 1e-10
    assert model.objective_ == pytest.approx(objectives(reference, X, y, C), rel=1e-8)
    assert model.coef_ == pytest.approx(reference.coef_, abs=1e-4 * np.abs(reference.coef_).max())


@pytest.mark.parametrize("penalised", [True, False])
@pytest.mark.parametrize("least", [0, newton.TINY])
def test_systems_of_active_rows_are_solved_whatever_the_intercept(penalised, least, monkeypatch):
    """Weights of their own, many of them 0, and rows that occur twice: as conjugate gradients solve them."""
    monkeypatch.setattr(newton, "TINY", least)
    monkeypatch.setattr(newton, "SMALL", least)
    X, y = deep(80, 300)
    X[40:] = X[:40]
    weight = np.random.default_rng(0).integers(0, 3, 80).astype(float)
    once, found = (LinearSVM(C=50.0, penalise_intercept=penalised, tol=1e-9) for _ in range(2))
    found.fit(X, y, weight)
    monkeypatch.setattr(newton, "FEW", 0)
    monkeypatch.setattr(newton, "PATIENCE", np.inf)
    once.fit(X, y, weight)
    assert max(found.gap_.max(), once.gap_.max()) <= 1e-9
    assert found.objective_ == pytest.approx(once.objective_, rel=2e-9)
    assert found.coef_ == pytest.approx(once.coef_, abs=0.02 * np.abs(once.coef_).max())
    assert found.intercept_ == pytest.approx(once.intercept_, abs=1e-3)


def test_costs_after_one_another_start_from_the_optimum_before():
    X, y = deep(50, 300)
    columns = one_vs_rest(np.unique(y, return_inverse=True)[1], np.ones(50), np.ones(3))
    for C, found in zip((1e-3, 1e-1, 10.0), path(X, columns, (1e-3, 1e-1, 10.0), tol=1e-8), strict=True):
        assert found.gap.max() <= 1e-8
        assert found.objective == pytest.approx(LinearSVM(C=C, tol=1e-8).fit(X, y).objective_, rel=1e-7)


def test_float32_rows_are_neither_copied_nor_widened():
    X, y = deep(20_000, 128)
    weights = 20_000 * 4 * 8  # one array of decision values
    tracemalloc.start()
    model = LinearSVM(C=0.01).fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.coef_.dtype == np.float64
    assert peak < X.nbytes / 2 + 12 * weights  # a float64 copy alone would be 2 x X.nbytes


def test_a_chunked_float64_evaluation_is_the_plain_one():
    X = deep(1000, 30)[0]
    v = np.random.default_rng(0).normal(size=(30, 2))
    assert Rows(X).times(v, exact=True) == pytest.approx(X.astype(np.float64) @ v, rel=1e-12)
    r = np.random.default_rng(0).normal(size=(1000, 2))
    assert Rows(X).pull(r, exact=True) == pytest.approx(X.T.astype(np.float64) @ r, rel=1e-12)


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_its_threads_again_once_no_fit_is_under_way():
    with threadpool_limits(limits=2, user_api="blas"):
        first, second = matrices.one_thread(), matrices.one_thread()
        with first:
            second.__enter__()
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert set(blas_threads()) == {2}
        LinearSVM().fit(*deep(300, 20))
        assert set(blas_threads()) == {2}


@pytest.mark.parametrize("allowed", [1, 2])
def test_a_limit_of_the_program_holds_in_a_fit(allowed, monkeypatch):
    """As threadpool_limits, OMP_NUM_THREADS and the workers of joblib set it: so many threads and no more."""
    monkeypatch.setattr(matrices, "cores", lambda: 4)
    threads = set()
    with threadpool_limits(limits=allowed, user_api="blas"):
        with matrices.one_thread(), matrices.all_threads(matrices.MANY):
            assert set(blas_threads()) == {allowed}
        matrices.in_threads(lambda pause: threads.add(get_ident()) or time.sleep(pause), [0.01] * 8)
        assert set(blas_threads()) == {allowed}
    assert len(threads) == allowed


def test_moments_are_the_plain_products_for_weights_of_either_sign():
    X = deep(700, 30)[0]
    weight = np.random.default_rng(0).normal(size=700) * (np.arange(700) % 3 > 0)
    wide = np.column_stack([X, np.ones(700)]).astype(np.float64)
    plain = np.triu((wide.T * weight) @ wide)
    assert np.triu(Rows(X).moments(weight, exact=True)) == pytest.approx(plain, abs=1e-9)
    assert np.triu(Rows(X).moments(weight)) == pytest.approx(plain, abs=1e-5 * plain.max())


@pytest.mark.parametrize("columns", [3, 20])
def test_products_a_piece_at_a_time_on_every_core_are_the_plain_ones(columns, monkeypatch):
    monkeypatch.setattr(matrices, "LARGE", 0)
    monkeypatch.setattr(matrices, "PIECE", 1000)
    X, rng = deep(1003, 30)[0], np.random.default_rng(0)
    v, r, offset = rng.normal(size=(30, columns)), rng.normal(size=(1003, columns)), rng.normal(size=columns)
    reach = X.astype(np.float64) @ v
    assert Rows(X).times(v) == pytest.approx(reach, abs=1e-4)
    assert Rows(X).times(v, exact=True) == pytest.approx(reach, abs=1e-10)
    assert Rows(X).pull(r) == pytest.approx(X.T.astype(np.float64) @ r, abs=1e-2)
    assert Rows(X).pull(r, exact=True) == pytest.approx(X.T.astype(np.float64) @ r, abs=1e-9)
    got, pulled = Rows(X).bend(v, offset, r)
    assert got == pytest.approx(reach + offset, abs=1e-4)
    assert pulled == pytest.approx(X.T.astype(np.float64) @ (r * (reach + offset)), abs=2e-2)


def test_the_leading_directions_are_those_in_which_the_rows_vary_most():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(200, 200)))[0]
    X = rng.normal(size=(5000, 200)) * 2.0 ** -np.arange(200) @ turn.T
    basis, values, rest = leading(Rows(X), 8)
    assert basis.T @ basis == pytest.approx(np.eye(8), abs=1e-9)
    assert np.abs(np.sum(basis[:, :4] * turn[:, :4], axis=0)) == pytest.approx(np.ones(4), abs=0.05)
    assert values[:4] == pytest.approx(5000 * 4.0 ** -np.arange(4), rel=0.5)
    assert rest * 192 == pytest.approx(5000 * 4.0**-8 * 4 / 3, rel=0.5)


@pytest.mark.parametrize("whole", [0, newton.WHOLE])
def test_columns_may_see_rows_shifted_and_scaled(whole, monkeypatch):
    """A fold's own standardising, within one subspace that grows along the path of C."""
    monkeypatch.setattr(newton, "WHOLE", whole)
    monkeypatch.setattr(newton, "TINY", 0)
    X, y = deep(800, 60)
    columns = one_vs_rest(np.unique(y, return_inverse=True)[1], np.ones(800), np.ones(3))
    shift, scale = np.random.default_rng(0).normal(size=(2, 60)) * 0.1
    moved = replace(columns, shift=np.repeat(shift[:, None], 3, 1), scale=np.repeat(1 + scale[:, None], 3, 1))
    for C, found in zip((1e-4, 1e-2, 1.0), path(X, moved, (1e-4, 1e-2, 1.0), tol=1e-6), strict=True):
        plain = LinearSVM(C=C).fit((X - shift) / (1 + scale), y)
        assert found.gap.max() <= 1e-6
        assert found.objective == pytest.approx(plain.objective_, rel=2e-6)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_systems_of_some_rows_are_solved_while_the_factor_of_all_stays(kind):
    rng = np.random.default_rng(0)
    X, some, scale = rng.normal(size=(30, 50)), np.array([2, 3, 11, 29]), np.array([0.5, 2.0, 1.0, 7.0])
    r, whole = rng.normal(size=(4, 2)), rng.normal(size=(30, 1))
    outer = Rows(X).outer() if kind == "numpy" else TorchRows(X, "cpu").outer()
    outer.factor(np.ones(30))
    system = np.eye(4) + scale[:, None] * (X @ X.T)[np.ix_(some, some)] * scale
    np.testing.assert_allclose(outer.solve_within(some, scale, r), np.linalg.solve(system, r), rtol=1e-9)
    np.testing.assert_allclose(outer.solve(whole), np.linalg.solve(np.eye(30) + X @ X.T, whole), rtol=1e-9)
    np.testing.assert_allclose(outer.times(whole), X @ X.T @ whole, rtol=1e-9)


def test_gram_and_factor_share_one_array():
    X = deep(700, 600, dtype=np.float64)[0]
    weight = np.random.default_rng(0).uniform(0, 1, 700) * (np.arange(700) % 3 > 0)
    gram, plain = Rows((X.T * np.sqrt(weight)).copy()).outer(), (X.T * weight) @ X
    v = np.random.default_rng(1).normal(size=(600, 3))
    for scale in (np.full(600, 0.1), np.linspace(0.1, 1, 600)):
        gram.factor(scale)
        assert gram.times(v) == pytest.approx(plain @ v)
        system = np.eye(600) + scale[:, None] * plain * scale
        assert gram.solve(v) == pytest.approx(np.linalg.solve(system, v), abs=1e-8)


def test_an_indefinite_matrix_is_factored_with_a_ridge():
    gram = Symmetric(2, np.dtype(np.float64))
    gram.add(np.asfortranarray([[1e9, 0], [1e9, 0]]))
    gram.array[0, 1] *= 1 + 1e-6
    gram.factor(np.ones(2))
    assert np.isfinite(gram.solve(np.ones((2, 1)))).all()


def test_the_same_rows_give_the_same_planes():
    X, y = deep(1000, 100)
    one, two = LinearSVM(C=0.1).fit(X, y), LinearSVM(C=0.1).fit(X, y)
    assert np.array_equal(one.coef_, two.coef_)
    assert np.array_equal(one.intercept_, two.intercept_)


def test_rows_may_be_read_only_and_memory_mapped(tmp_path):
    X, y = deep()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.array_equal(LinearSVM().fit(mapped, y).coef_, LinearSVM().fit(X, y).coef_)


def test_a_pickle_comes_back_whole(tmp_path):
    X, y = deep()
    model = featurepipe.LinearSVM(C=0.1).fit(X, y)
    joblib.dump(model, tmp_path / "m")
    again = joblib.load(tmp_path / "m")
    assert np.array_equal(again.decision_function(X), model.decision_function(X))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_finds_the_same_optimum(shape, dtype):
    X, y = deep(*SHAPES[shape], dtype=dtype)
    ours, torchs = (LinearSVM(C=0.3, device=device).fit(X, y) for device in (None, "cpu"))
    assert torchs.objective_ == pytest.approx(ours.objective_, rel=2e-6)
    assert torchs.gap_.max() <= 1e-6


def test_a_device_without_float64_is_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(InputError, match=r"'mps' has no float64.* give None \(the CPU\) or cuda"):
        LinearSVM(device="mps").fit(*deep())


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match=f"device '{device}'"):
        LinearSVM(device=device).fit(*deep())


def test_auto_is_numpy_where_no_gpu_has_float64(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    ours, auto = (LinearSVM(device=device).fit(*deep()) for device in (None, "auto"))
    assert np.array_equal(auto.coef_, ours.coef_)


class TestSoftLabels:
    """A row with a soft label stands for as many weighted rows as there are classes."""

    @staticmethod
    def problem(classes, count=90, width=12, seed=0):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((count, width))
        y = np.where(np.arange(count) % 7 < 3, 0, np.arange(count) % classes)  # uneven, or "balanced" would be None
        return X + 0.8 * np.eye(classes, width)[y], y, rng.dirichlet(np.ones(classes), count)

    @pytest.mark.parametrize(("classes", "width"), [(2, 12), (4, 12), (4, 300)])
    @pytest.mark.parametrize("weight", [None, "balanced"])
    def test_equals_repeated_rows_with_weights(self, classes, width, weight):
        X, y, soft = self.problem(classes, width=width)
        repeated = LinearSVM(C=0.3, class_weight=weight, tol=1e-10)
        if weight:  # "balanced" of the repeated rows would count soft labels, of the soft fit it counts labels
            counts = np.bincount(y)
            repeated.set_params(class_weight={c: len(y) / (classes * counts[c]) for c in range(classes)})
        times = np.random.default_rng(1).integers(0, 3, len(X))
        if weight:
            times[:] = 1  # they would change what is balanced
        repeated.fit(np.repeat(X, classes, 0), np.tile(np.arange(classes), len(X)), (times[:, None] * soft).ravel())
        ours = LinearSVM(C=0.3, class_weight=weight, tol=1e-10).fit(X, y, times, soft_labels=soft)
        np.testing.assert_allclose(ours.coef_, repeated.coef_, atol=1e-5)
        np.testing.assert_allclose(ours.intercept_, repeated.intercept_, atol=1e-5)
        np.testing.assert_allclose(ours.objective_, repeated.objective_, rtol=1e-8)

    def test_sure_ones_are_labels(self):
        X, y, _ = self.problem(4)
        soft = LinearSVM(C=0.3, tol=1e-10).fit(X, y, soft_labels=np.eye(4)[y])
        np.testing.assert_allclose(soft.coef_, LinearSVM(C=0.3, tol=1e-10).fit(X, y).coef_, atol=1e-6)

    def test_float32_reaches_its_certificate(self):
        X, y, soft = self.problem(4, count=4000, width=64)
        fitted = LinearSVM(C=1.0).fit(X.astype(np.float32), y, soft_labels=soft)
        assert fitted.gap_.max() <= 1e-6

    @pytest.mark.parametrize(
        "wrong",
        [
            np.ones((90, 4)),
            np.full((90, 3), 1 / 3),
            np.tile([1.5, -0.5, 0.0, 0.0], (90, 1)),
            np.full((90, 4), np.nan),
        ],
    )
    @pytest.mark.parametrize("estimator", [LinearSVM(), LinearSVMCV(folds=3)], ids=lambda model: type(model).__name__)
    def test_what_is_no_distribution_is_refused(self, wrong, estimator):
        X, y, _ = self.problem(4)
        with pytest.raises(InputError, match="soft labels"):
            estimator.fit(X, y.astype(str), soft_labels=wrong)
