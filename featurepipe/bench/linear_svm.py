"""LinearSVM against LinearSVC: one fit to liblinear's accuracy, and a search over C by folds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from featurepipe.bench.rows import Settings, medians, row, version_of, wall_of
from featurepipe.machine import cores
from featurepipe.models.linear_svm import LinearSVM
from featurepipe.models.svm import NORMALISERS, LinearSVMCV, inner_folds

Data = tuple[np.ndarray, np.ndarray]
"""Rows (n, d) float32 and their labels (n,)."""

Normalised = Literal["l2", "standard"]
ROWS = {"standard": "linear-svm-fit", "l2": "linear-svm-fit-l2"}
GAIN = 0.8
"""Distance of the classes along each of the strongest directions, whose standard deviations are 1 and less."""

FER2013 = (28_709, 4096)
QUICK = (3000, 384)
QUICK_SEARCH = (1000, 128)
CK_PLUS = (1308, 4096)
"""The last three frames and the first one of its labelled sequences."""
QUICK_SMALL = (210, 512)
CLASSES = 7
TOLERANCES = tuple(10.0**-power for power in range(2, 11))
GRID = tuple(2.0**power for power in range(-7, 6, 2))
FOLDS = 5


def fc7_like(count: int, width: int, seed: int = 0) -> Data:
    """Rectified features with the spectrum of fer-vgg's fc7 on FER2013, and labels of which a tenth is wrong.

    Directions as strong as k^-1.25, mixed at random, and ReLU: standardised or of unit length, the eigenvalues of X'X
    fall off like k^-2, as the real ones do, and half the numbers are 0.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, count)
    hidden = rng.standard_normal((count, width), np.float32) / np.arange(1, width + 1, dtype=np.float32) ** 1.25
    hidden[:, :CLASSES] += GAIN * np.eye(CLASSES, dtype=np.float32)[truth]
    X = hidden @ rng.standard_normal((width, width), np.float32)
    wrong = rng.random(count) < 0.1
    truth[wrong] = rng.integers(0, CLASSES, int(wrong.sum()))
    return np.maximum(X, 0, out=X), np.array([f"class {number}" for number in range(CLASSES)])[truth]


def fit_row(
    settings: Settings, data: Data | None = None, C: float = 1e-4, normaliser: Normalised = "standard"
) -> dict[str, Any]:
    """Seconds of one fit: ours to the objective that the better of LinearSVC(dual=True or False) reaches at tol 1e-3.

    Parameters
    ----------
    settings : where they are quick, 3,000 rows of 384 numbers instead of FER2013's 28,709 of 4096
    data : rows of one's own
    C : of both
    normaliser : rows standardised, or scaled to unit length
    """
    X, y = data or fc7_like(*(QUICK if settings.quick else FER2013))
    X = NORMALISERS[normaliser](copy=data is not None).fit_transform(X)
    found = {dual: _LinearSVCFit(X, y, C, dual) for dual in (True, False)}
    for fit in found.values():
        fit()
    best = min(found.values(), key=lambda fit: fit.seconds)
    tol = next(
        (tol for tol in TOLERANCES if _objective(LinearSVM(C=C, tol=tol).fit(X, y)) <= best.objective * (1 + 1e-9)),
        None,
    )
    if tol is None:
        raise RuntimeError(f"LinearSVM did not reach LinearSVC's objective {best.objective!r}")
    ours, reference = medians(3 if settings.quick else 1, wall_of(lambda: LinearSVM(C=C, tol=tol).fit(X, y)), best)
    name = f"{version_of('scikit-learn')} LinearSVC(dual={best.dual}, tol=1e-3), {_described(X, normaliser, C)}"
    return row(ROWS[normaliser], ours, reference, name, "s", None)


def fit_l2_row(settings: Settings, data: Data | None = None) -> dict[str, Any]:
    """`fit_row` for rows of unit length, at C 0.01."""
    return fit_row(settings, data, 0.01, "l2")


def search_row(settings: Settings, data: Data | None = None, *, name: str = "linear-svm-search") -> dict[str, Any]:
    """Seconds to choose among seven C by five folds; ours also of the fit with the best, GridSearchCV without it.

    Rows are of unit length.

    Parameters
    ----------
    settings : where they are quick, 1,000 rows of 128 numbers instead of FER2013's 28,709 of 4096. GridSearchCV would
        take an hour there: it is timed on one of the five folds, and its fits are counted five times
    data : rows of one's own, all five folds of them
    name : of the row
    """
    X, y = data or fc7_like(*(QUICK_SEARCH if settings.quick else FER2013))
    folds = inner_folds(y, None, FOLDS, 0)
    timed = folds if settings.quick or data else folds[:1]
    ours = LinearSVMCV(normaliser="l2", Cs=GRID, folds=FOLDS)
    pipeline, grid = make_pipeline(NORMALISERS["l2"](), LinearSVC()), {"linearsvc__C": list(GRID)}
    jobs = 1 if settings.quick else cores()  # starting processes would take longer
    reference = GridSearchCV(pipeline, grid, cv=timed, n_jobs=jobs, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        seconds, their_seconds = medians(1, wall_of(lambda: ours.fit(X, y)), wall_of(lambda: reference.fit(X, y)))
    if timed is not folds:
        their_seconds = _all_folds(reference.cv_results_, jobs)
    chosen, theirs = ours.training["C"], reference.best_params_["linearsvc__C"]
    what = f"{version_of('scikit-learn')} GridSearchCV(refit=False) of LinearSVC, {_described(X, 'l2', theirs)}"
    what += "" if timed is folds else f", {FOLDS} times the fits of one fold of {FOLDS}"
    what += "" if chosen == theirs else f" (ours {chosen:g})"
    return row(name, seconds, their_seconds, what, "s", None)


def _all_folds(results: Mapping[str, np.ndarray], jobs: int) -> float:
    """Seconds of a search by all folds, of what each C takes on one: the fits of all fill the cores, as one fold's do
    not, but none is parted."""
    each = results["mean_fit_time"] + results["mean_score_time"]
    return float(max(FOLDS * each.sum() / jobs, each.max()))


def search_small_row(settings: Settings) -> dict[str, Any]:
    """`search_row` on fewer rows than dimensions: as many as CK+ has frames to learn from, or 210 of 512 numbers."""
    data = fc7_like(*(QUICK_SMALL if settings.quick else CK_PLUS))
    return search_row(settings, data, name="linear-svm-search-small")


def gpu_row(settings: Settings, C: float = 1e-4) -> dict[str, Any]:
    """Seconds of one fit on a GPU, its copies there and back among them, against NumPy on all cores."""
    count, width = QUICK if settings.quick else FER2013
    X, y = fc7_like(count, width)
    X = NORMALISERS["standard"](copy=False).fit_transform(X)
    gpu, cpu = LinearSVM(C=C, device=settings.device), LinearSVM(C=C)
    gpu.fit(X[:256], y[:256])  # loads the libraries of linear algebra
    ours, reference = medians(
        3 if settings.quick else 1, wall_of(lambda: gpu.fit(X, y)), wall_of(lambda: cpu.fit(X, y))
    )
    if not np.allclose(gpu.objective_, cpu.objective_, rtol=3 * gpu.tol):
        raise RuntimeError(f"the optimum is {gpu.objective_} on {settings.device}, and {cpu.objective_} by NumPy")
    name = f"{version_of('numpy')}, {cores()} cores, {count} x {width}, C {C:g}"
    return row("linear-svm-gpu", ours, reference, name, "s", None, settings.machine())


class _LinearSVCFit:
    """A measure of LinearSVC: the seconds of one fit; keeps them, and the objective, which is not timed."""

    def __init__(self, X: np.ndarray, y: np.ndarray, C: float, dual: bool) -> None:
        self.X, self.y, self.C, self.dual = X, y, C, dual
        self.seconds = self.objective = np.inf

    def __call__(self) -> float:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LinearSVC(C=self.C, dual=self.dual, tol=1e-3, random_state=0).fit(self.X, self.y)
        self.seconds = time.perf_counter() - start
        sign = np.where(self.y[:, None] == model.classes_, 1, -1)
        slack = np.maximum(1 - sign * model.decision_function(self.X), 0)
        size = np.square(model.coef_).sum() + np.square(model.intercept_).sum()
        self.objective = float(size / 2 + self.C * np.square(slack).sum())
        return self.seconds


def _described(X: np.ndarray, normaliser: str, C: float) -> str:
    return f"{X.shape[0]} x {X.shape[1]} {normaliser}, C {C:g}"


def _objective(model: LinearSVM) -> float:
    return float(model.objective_.sum())
