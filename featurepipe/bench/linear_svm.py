"""LinearSVM against LinearSVC: one fit to liblinear's accuracy, and a search over C by folds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from featurepipe.bench.rows import Settings, medians, row, version_of, wall_of
from featurepipe.machine import cores
from featurepipe.models.linear_svm import LinearSVM
from featurepipe.models.svm import LinearSVMCV, inner_folds

Data = tuple[np.ndarray, np.ndarray]
"""Rows (n, d) float32 and their labels (n,)."""

FER2013 = (28_709, 4096)
CLASSES = 7
TOLERANCES = tuple(10.0**-power for power in range(2, 10))
GRID = tuple(10.0**power for power in range(-6, 1))
FOLDS = 5


def fc7_like(count: int, width: int, seed: int = 0) -> Data:
    """Noise through a random layer and ReLU: half zeros, a few strong directions, classes that overlap."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, count)
    hidden = rng.normal(size=(count, 64)) + 0.3 * rng.normal(size=(CLASSES, 64))[truth]
    X = np.asarray(hidden, np.float32) @ rng.normal(size=(64, width)).astype(np.float32) / 8
    X += 0.5 * rng.standard_normal((count, width), np.float32)
    return np.maximum(X, 0, out=X), np.array([f"class {number}" for number in range(CLASSES)])[truth]


def fit_row(quick: bool, data: Data | None = None, C: float = 1e-4) -> dict[str, Any]:
    """Seconds of one fit on standardised rows: ours to the objective that LinearSVC reaches at tol 1e-3.

    Parameters
    ----------
    quick : 4,000 rows of 512 numbers instead of FER2013's 28,709 of 4096
    data : rows of one's own
    C : of both
    """
    X, y = data or fc7_like(*((4000, 512) if quick else FER2013))
    X = StandardScaler(copy=data is not None).fit_transform(X)
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
    ours, reference = medians(3 if quick else 1, wall_of(lambda: LinearSVM(C=C, tol=tol).fit(X, y)), wall_of(best))
    name = f"{version_of('scikit-learn')} LinearSVC(dual={best.dual}, tol=1e-3), {X.shape[0]} x {X.shape[1]}, C {C:g}"
    return row("linear-svm-fit", ours, reference, name, "s", None)


def search_row(quick: bool, data: Data | None = None, Cs: Sequence[float] = GRID) -> dict[str, Any]:
    """Seconds to choose among seven C by five folds, and to fit again with the best.

    Parameters
    ----------
    quick : 1,500 rows of 256 numbers instead of 6,000 of 1024
    data : rows of one's own; GridSearchCV takes hours on 28,709 of 4096
    Cs : values of C to choose from
    """
    X, y = data or fc7_like(*((1500, 256) if quick else (6000, 1024)))
    folds = inner_folds(y, None, FOLDS, 0)
    ours = LinearSVMCV(normaliser="standard", Cs=Cs, folds=FOLDS)
    reference = GridSearchCV(
        make_pipeline(StandardScaler(), LinearSVC()), {"linearsvc__C": list(Cs)}, cv=folds, n_jobs=cores()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        seconds, their_seconds = medians(1, wall_of(lambda: ours.fit(X, y)), wall_of(lambda: reference.fit(X, y)))
    chosen, theirs = ours.training["C"], reference.best_params_["linearsvc__C"]
    name = f"{version_of('scikit-learn')} GridSearchCV of LinearSVC, {X.shape[0]} x {X.shape[1]}, C {theirs:g}"
    name += "" if chosen == theirs else f" (ours {chosen:g})"
    return row("linear-svm-search", seconds, their_seconds, name, "s", None)


def gpu_row(settings: Settings, C: float = 1e-4) -> dict[str, Any]:
    """Seconds of one fit on a GPU, its copies there and back among them, against NumPy on all cores.

    The floor is the shared Gram matrix and its factor, over the rate of a matrix product in float32.
    """
    from featurepipe.bench.forward import products_per_second

    count, width = (4000, 512) if settings.quick else FER2013
    X, y = fc7_like(count, width)
    X = StandardScaler(copy=False).fit_transform(X)
    gpu, cpu = LinearSVM(C=C, device=settings.device), LinearSVM(C=C)
    gpu.fit(X[:256], y[:256])  # loads the libraries of linear algebra
    ours, reference = medians(
        3 if settings.quick else 1, wall_of(lambda: gpu.fit(X, y)), wall_of(lambda: cpu.fit(X, y))
    )
    if not np.allclose(gpu.objective_, cpu.objective_, rtol=3 * gpu.tol):
        raise RuntimeError(f"the optimum is {gpu.objective_} on {settings.device}, and {cpu.objective_} by NumPy")
    operations = 2 * min(count, 2 * width) * width**2 + width**3 / 3
    floor = operations / products_per_second(settings.device, None)
    name = f"{version_of('numpy')}, {cores()} cores, {count} x {width}, C {C:g}"
    return row("linear-svm-gpu", ours, reference, name, "s", floor, settings.machine())


class _LinearSVCFit:
    """A fit of LinearSVC to be timed; keeps its objective and seconds."""

    def __init__(self, X: np.ndarray, y: np.ndarray, C: float, dual: bool) -> None:
        self.X, self.y, self.C, self.dual = X, y, C, dual
        self.seconds = self.objective = np.inf

    def __call__(self) -> None:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LinearSVC(C=self.C, dual=self.dual, tol=1e-3, random_state=0).fit(self.X, self.y)
        self.seconds = time.perf_counter() - start
        sign = np.where(self.y[:, None] == model.classes_, 1, -1)
        slack = np.maximum(1 - sign * model.decision_function(self.X), 0)
        size = np.square(model.coef_).sum() + np.square(model.intercept_).sum()
        self.objective = float(size / 2 + self.C * np.square(slack).sum())


def _objective(model: LinearSVM) -> float:
    return float(model.objective_.sum())
