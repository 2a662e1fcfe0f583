"""Linear SVM on face vectors: C by inner cross-validation, one temperature for its probabilities."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, recall_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from featurepipe.errors import InputError
from featurepipe.models.checks import checked_labels, checked_soft_labels, unknown
from featurepipe.models.linear import CHUNK, CLASS_WEIGHTS, check_width, checked_matrix, precise, two_sided
from featurepipe.models.linear_svm import LinearSVM, class_weights, joined, one_vs_rest, path
from featurepipe.models.newton import Columns, Solution

Progress = Callable[[int, int], None]
Rows = tuple[np.ndarray, np.ndarray]
"""Vectors (n, d) and their labels (n,)."""

NORMALISERS = {"l2": Normalizer, "standard": StandardScaler}
GRIDS = {
    "l2": tuple(2.0**power for power in range(-7, 10, 2)),
    "standard": tuple(10.0**power for power in range(-6, 1)),
}
"""Values of C tried by default: standardised vectors need a smaller C (baselines.md 13.3).

On the 384 fc7 vectors of quickstart the best is 2^7 where they are made in bf16 and was 2^9 in fp32; a best one at the
edge is warned of.
"""

SEARCH_TOL = 1e-6
"""Relative duality gap of the fits that choose C: far below what moves a held-out decision value."""

COLUMNS = 16
"""Fits at a time: one column of decision values per this many dimensions, so that they stay small beside the rows."""

FEW = 1 << 21
"""Decision values that are few whatever the dimensions: 16 MB."""

TEMPERATURES = (0.05, 20.0)
"""Bounds of the temperature: margins are near 1, so beyond them probabilities are 0 and 1, or all equal."""


class LinearSVMCV(ClassifierMixin, BaseEstimator):
    """A LinearSVM whose C is chosen on held-out rows, with calibrated probabilities, as a scikit-learn estimator.

    A normaliser and a LinearSVM are fitted for every C on the inner folds, the best C is fitted again on all
    rows, and softmax(decision / temperature) gives the probabilities (Guo et al. 2017, "On Calibration of
    Modern Neural Networks", section 4.2). The temperature is positive, so the label is arg max of decision
    and of probability.

    All folds are fitted together where they can share their rows, so that every product with them serves all folds.
    The fit holds one normalised copy of `X`, and what LinearSVM holds beside it.

    Parameters
    ----------
    normaliser : "l2" scales each vector to unit length; "standard" each column to zero mean and unit variance
    Cs : values of C to try; None for GRIDS[normaliser]
    class_weight : None, or "balanced" for weights inverse to class frequency; C is then chosen by mean recall
        instead of accuracy
    folds : number of inner folds, where no validation set is given
    seed : of the folds

    Attributes
    ----------
    pipeline_ : the fitted Pipeline of normaliser and LinearSVM
    temperature_ : float > 0
    recipe : dict, feature half and face half of the vectors that the model was fitted on
    training : dict, JSON-able summary of the fit; its "warnings" are sentences on what is worth knowing, and nothing
        else tells it: a C at the edge of the grid, fits that did not converge, a temperature near a bound
    trained_on : int64 (n,), sorted codes of the photos fitted on, as given to fit
    n_features_in_ : d
    feature_names_in_ : str (d,), names of the columns; where `X` was a data frame

    >>> vectors = np.repeat(np.eye(2, dtype=np.float32), 4, axis=0)
    >>> model = LinearSVMCV(Cs=[1.0], folds=2).fit(vectors, ["anger"] * 4 + ["fear"] * 4)
    >>> model.predict(vectors[3:5]).tolist(), model.training["C"]
    (['anger', 'fear'], 1.0)
    """

    kind: ClassVar[str] = "svm"

    def __init__(
        self,
        *,
        normaliser: Literal["l2", "standard"] = "l2",
        Cs: Sequence[float] | None = None,
        class_weight: Literal["balanced"] | None = None,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.normaliser = normaliser
        self.Cs = Cs
        self.class_weight = class_weight
        self.folds = folds
        self.seed = seed

    def fit(
        self,
        X: np.ndarray,
        y: Sequence[str] | np.ndarray,
        *,
        groups: Sequence[str] | np.ndarray | None = None,
        grouped_by: str = "group",
        validation: tuple[np.ndarray, Sequence[str] | np.ndarray] | None = None,
        soft_labels: np.ndarray | None = None,
        recipe: Mapping[str, Any] | None = None,
        trained_on: np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> LinearSVMCV:
        """Choose C and the temperature on held-out rows, then fit on all rows of `X`.

        Parameters
        ----------
        X : (n, d) float, finite; what is neither float32 nor float64 is converted to float64; an array, or a data frame
        y : (n,) labels, str
        groups : (n,) names of what must not be on both sides of a fold (subjects, or duplicate contents)
        grouped_by : what the groups are, for messages and the summary: "subject", "content"
        validation : (X_val, y_val) to choose on instead of folds: for vectors of a backbone that has already
            seen the training photos
        soft_labels : (n, k) distributions over the sorted labels to learn instead of `y`, see `LinearSVM.fit`; what is
            chosen is chosen on labels all the same
        recipe : recorded with the model
        trained_on : int64, codes of the photos; kept with the model, so that nobody tests on them unawares
        progress : called with (fits done, fits in all)

        Raises
        ------
        InputError : settings that make no sense, fewer than two classes, labels that are no text, a class too small
            for the folds, a group that is None, NaN or NA, rows that are not finite numbers, soft labels of another
            shape or that are no distributions
        ValueError : `validation` is a data frame with other columns than `X`, or in another order
        """
        started = time.perf_counter()
        self._check_settings()
        rows = _checked_training(X, y)
        if soft_labels is not None:
            soft_labels = checked_soft_labels(soft_labels, len(rows[0]), len(np.unique(rows[1])))
        if validation is None:
            splits = inner_folds(rows[1], groups, self.folds, self.seed, grouped_by)
            search = self._search_folds(rows, soft_labels, splits, progress)
            chosen_on, grouped_by = f"{len(splits)} folds", grouped_by if groups is not None else "none"
        else:
            beside = _checked_validation(validation, rows)
            validate_data(self._with_columns(X), validation[0], reset=False, skip_check_array=True)
            search = self._search_beside(rows, soft_labels, beside, progress)
            chosen_on, grouped_by = "validation", "none"
        temperature = fit_temperature(*search.held_out())
        self._refit(X, rows, soft_labels, search.chosen)
        self.temperature_ = temperature.value
        self.recipe = dict(recipe or {})
        self.trained_on: np.ndarray = np.unique(np.asarray([] if trained_on is None else trained_on, np.int64))
        self.training = {
            "chosen_on": chosen_on,
            "groups": grouped_by,
            **search.summary(),
            **temperature.summary(),
            **self._settings(rows),
            "warnings": search.warnings() + temperature.warnings() + self._refit_warnings(),
            "seconds": round(time.perf_counter() - started, 3),
        }
        return self

    def fit_fixed(self, X: np.ndarray, y: Sequence[str] | np.ndarray, C: float) -> LinearSVMCV:
        """Fit with this C and temperature 1: for where no held-out rows are, so that nothing may be chosen.

        Raises InputError as `fit`, and for a C that is no finite number above 0.
        """
        self._check_settings()
        if not isinstance(C, Real) or not 0 < C < np.inf:
            raise InputError(f"C must be a finite number above 0, and is {C!r}")
        C, rows = float(C), _checked_training(X, y)  # a NumPy scalar would need one more callable in the pickle
        self._refit(X, rows, None, C)
        self.temperature_ = 1.0
        self.recipe, self.trained_on = {}, np.empty(0, np.int64)
        said = self._refit_warnings()
        self.training = {"chosen_on": "nothing", "C": C, **self._settings(rows), "warnings": said}
        return self

    @property
    def classes_(self) -> np.ndarray:
        """(k,) labels, sorted."""
        return self.pipeline_.classes_

    @property
    def labels(self) -> list[str]:
        """The classes as plain strings, in the order of the columns of `predict_proba`."""
        return self.classes_.tolist()

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """w x + b, not divided by |w|: (n, k), or (n,) with two classes, as scikit-learn has it.

        Raises
        ------
        RecipeMismatch : `X` has rows, and these are not as wide as the vectors the model was fitted on
        InputError : `X` is not a matrix of finite numbers
        ValueError : `X` is a data frame with other columns than that of fit, or in another order
        NotFittedError : nothing was fitted yet
        """
        check_is_fitted(self, "pipeline_")
        given, X = X, checked_matrix(X)
        if not len(X):  # scikit-learn refuses what is an ordinary answer for a folder without faces
            return np.empty(0) if len(self.labels) == 2 else np.empty((0, len(self.labels)))
        check_width(X, self.n_features_in_)
        validate_data(self, given, reset=False, skip_check_array=True)
        parts = [self.pipeline_.decision_function(precise(X[at : at + CHUNK])) for at in range(0, len(X), CHUNK)]
        return np.concatenate(parts)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """softmax(decision / temperature): (n, k) float64, rows sum to 1."""
        return softmax(two_sided(self.decision_function(X)) / self.temperature_, axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) labels: arg max of decision, which is arg max of probability."""
        decisions = two_sided(self.decision_function(X))
        return self.classes_[decisions.argmax(axis=1)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model, whole or not at all, as a joblib pickle that `load_model` and `bin/classify` read.

        Raises NotFittedError where nothing was fitted yet.
        """
        from featurepipe.models.persistence import save_svm  # which does without this module where it loads

        check_is_fitted(self, "pipeline_")
        save_svm(path, self)

    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers of the model, float64.

        coef (k, d), or (1, d) with two classes; intercept (k,) or (1,); where it standardises mean, scale (d,).
        """
        svc = self.pipeline_[-1]
        arrays = {"coef": svc.coef_, "intercept": svc.intercept_}
        if self.normaliser == "standard":
            arrays |= {"mean": self.pipeline_[0].mean_, "scale": self.pipeline_[0].scale_}
        return arrays

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        *,
        labels: list[str],
        temperature: float,
        recipe: dict[str, Any],
        training: dict[str, Any],
    ) -> LinearSVMCV:
        """The fitted model that `arrays()` came from; this scikit-learn's own constructors make its objects."""
        model = cls(**{key: training[key] for key in ("normaliser", "class_weight", "seed")})
        svc = LinearSVM(C=training["C"], class_weight=model.class_weight)
        svc.coef_, svc.intercept_, svc.classes_ = arrays["coef"], arrays["intercept"], np.array(labels)
        normaliser = NORMALISERS[model.normaliser]()
        if model.normaliser == "standard":
            normaliser.mean_, normaliser.scale_ = arrays["mean"], arrays["scale"]
            normaliser.var_, normaliser.n_features_in_ = arrays["scale"] ** 2, len(arrays["mean"])
        model.n_features_in_ = svc.n_features_in_ = arrays["coef"].shape[1]
        model.pipeline_ = Pipeline([("normalise", normaliser), ("svm", svc)])
        model.temperature_, model.recipe, model.training = temperature, recipe, training
        model.trained_on = np.empty(0, np.int64)
        return model

    def _check_settings(self) -> None:
        if self.normaliser not in NORMALISERS:
            raise InputError(f"unknown normaliser {self.normaliser!r}; known are {', '.join(NORMALISERS)}")
        if self.class_weight not in CLASS_WEIGHTS:
            raise InputError(f'class_weight must be None or "balanced", not {self.class_weight!r}')
        if not isinstance(self.seed, Integral) or not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed must be a whole number from 0 to 2^32 - 1, and is {self.seed!r}")

    def _new_search(self) -> _Search:
        grid = tuple(sorted(float(C) for C in (GRIDS[self.normaliser] if self.Cs is None else self.Cs)))
        if not grid or not all(0 < C < np.inf for C in grid):
            raise InputError(f"Cs must be finite numbers above 0, at least one, and are {list(grid)}")
        return _Search(grid, "accuracy" if self.class_weight is None else "UAR")

    def _search_folds(
        self, rows: Rows, soft: np.ndarray | None, splits: Sequence[Rows], progress: Progress | None
    ) -> _Search:
        """Every C on every fold; the decision values of the held-out rows come with the fits."""
        search, done = self._new_search(), 0
        names, codes = np.unique(rows[1], return_inverse=True)
        for X, scaling, folds in _designs(self.normaliser, rows[0], splits, len(names)):
            columns = joined([self._columns(codes, soft, train) for train, _ in folds])
            found: list[list[np.ndarray]] = [[] for _ in folds]
            for solution in path(X, _scaled(columns, scaling), search.grid, tol=SEARCH_TOL):
                for mine, part, (_, out) in zip(found, np.split(solution.margins, len(folds), 1), folds, strict=True):
                    mine.append(_flat(part[out]))
                search.count(solution)
                done += len(folds)
                if progress is not None:
                    progress(done, len(splits) * len(search.grid))
            for mine, (_, out) in zip(found, folds, strict=True):
                search.add(mine, codes[out])
        return search

    def _search_beside(
        self, rows: Rows, soft: np.ndarray | None, validation: Rows, progress: Progress | None
    ) -> _Search:
        """Every C on all rows, decided on the validation rows."""
        search = self._new_search()
        names, codes = np.unique(rows[1], return_inverse=True)
        normaliser = NORMALISERS[self.normaliser]().fit(rows[0])
        X, X_out = normaliser.transform(rows[0]), normaliser.transform(validation[0])
        found = []
        for solution in path(X, self._columns(codes, soft, slice(None)), search.grid, tol=SEARCH_TOL):
            found.append(_flat(X_out @ solution.coef.T + solution.intercept))
            search.count(solution)
            if progress is not None:
                progress(len(found), len(search.grid))
        search.add(found, np.searchsorted(names, validation[1]))
        return search

    def _columns(self, codes: np.ndarray, soft: np.ndarray | None, train: np.ndarray | slice) -> Columns:
        """The problems of one fit on the rows `train`; the other rows weigh nothing."""
        weight = np.zeros(len(codes))
        weight[train] = 1
        classes = np.arange(codes.max() + 1)
        return one_vs_rest(codes, weight, class_weights(self.class_weight, classes, codes, weight), soft)

    def _with_columns(self, X: Any) -> LinearSVMCV:
        """An estimator that knows the columns of `X` and nothing else; this one keeps its own until it is fitted."""
        bare = clone(self)
        validate_data(bare, X, skip_check_array=True)
        return bare

    def _refit(self, given: Any, rows: Rows, soft: np.ndarray | None, C: float) -> None:
        """Fit on all rows; `given` is `X` as the caller gave it, which may name its columns."""
        normaliser = NORMALISERS[self.normaliser]().fit(rows[0])
        with _quiet():
            svm = LinearSVM(C=C, class_weight=self.class_weight)
            svm.fit(normaliser.transform(rows[0]), rows[1], soft_labels=soft)
        validate_data(self, given, skip_check_array=True)  # only now: a fit that fails leaves the old columns
        self.pipeline_ = Pipeline([("normalise", normaliser), ("svm", svm)])
        if self.normaliser == "standard":  # a NumPy scalar here would need one more callable in the pickle
            self.pipeline_[0].n_samples_seen_ = len(rows[0])

    def _refit_warnings(self) -> list[str]:
        """A sentence where the fit on all rows did not converge."""
        svm = self.pipeline_[-1]
        if svm.gap_.max() <= svm.tol:
            return []
        return [f"the fit on all rows did not converge: its duality gap is {svm.gap_.max():.1e}, not {svm.tol:.1e}"]

    def _settings(self, rows: Rows) -> dict[str, Any]:
        names, counts = np.unique(rows[1], return_counts=True)
        columns = {"columns": self.feature_names_in_.tolist()} if hasattr(self, "feature_names_in_") else {}
        return columns | {
            "normaliser": self.normaliser,
            "class_weight": self.class_weight,
            "seed": int(self.seed),
            "dimensions": rows[0].shape[1],
            "samples": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        }


@dataclass(frozen=True, slots=True)
class Temperature:
    """A fitted temperature, with the mean negative log-likelihood (nats) at temperature 1 and at `value`."""

    value: float
    nll_before: float
    nll_after: float

    def summary(self) -> dict[str, float]:
        """The three numbers for the training summary."""
        return {"temperature": self.value, "nll_before": self.nll_before, "nll_after": self.nll_after}

    def warnings(self) -> list[str]:
        """A sentence where the temperature ran into one of its bounds."""
        low, high = TEMPERATURES
        if low * 1.25 < self.value < high / 1.25:
            return []
        return [f"the temperature {self.value:.3g} lies near a bound of {low:g}..{high:g}: confidences mean little"]


def fit_temperature(decisions: np.ndarray, truth: np.ndarray) -> Temperature:
    """The T that minimises the mean NLL of softmax(decisions / T), by a bounded search over log T.

    Parameters
    ----------
    decisions : (n, k) held-out decision values
    truth : (n,) int, columns of the true classes

    Notes
    -----
    The NLL is convex in 1 / T, so the minimum that the search finds is the only one.
    """

    def nll(log_t: float) -> float:
        return -float(log_softmax(decisions / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean())

    found = minimize_scalar(nll, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return Temperature(float(np.exp(found.x)), nll(0.0), float(found.fun))


def inner_folds(
    y: np.ndarray, groups: Sequence[str] | np.ndarray | None, folds: int, seed: int, grouped_by: str = "group"
) -> list[Rows]:
    """Stratified (training rows, held-out rows) of each fold, as int indices; no group is on both sides.

    Raises
    ------
    InputError : fewer than two folds, a class with fewer rows than folds, a group that is None, NaN or NA, fewer groups
        than folds, or a fold that would have to be trained without one of the classes
    """
    if not isinstance(folds, Integral) or folds < 2:
        raise InputError(f"folds must be a whole number of at least 2, and is {folds!r}")
    names, counts = np.unique(y, return_counts=True)
    if counts.min() < folds:
        small = ", ".join(f"{name} ({n})" for name, n in zip(names, counts, strict=True) if n < folds)
        raise InputError(
            f"too few faces for {folds} folds: {small}. Add photos, or drop such classes with --min-per-class {folds}"
        )
    if groups is None:
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y))
    if len(groups) != len(y):
        raise InputError(f"{len(groups)} groups were given for {len(y)} rows: one per row is needed")
    if nameless := unknown(np.asarray(groups, dtype=object)):  # else NumPy makes text of a NaN among names
        raise InputError(
            f"{nameless} of {len(groups)} rows have None or NaN for a {grouped_by}: give each a name of its own"
        )
    groups = np.asarray(groups)
    if len(np.unique(groups)) < folds:
        raise InputError(
            f"{folds} folds need at least {folds} of each {grouped_by}, and there are "
            f"{len(np.unique(groups))}: ask for fewer folds"
        )
    splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(y, y, groups))
    for train, _ in splits:
        if missing := sorted(set(names.tolist()) - set(y[train].tolist())):
            owners = len(np.unique(groups[y == missing[0]]))
            raise InputError(
                f"class {missing[0]} comes from {owners} {grouped_by}(s) only, so a fold has none of it to "
                "learn from: add photos, ask for fewer folds, or drop the class"
            )
    return splits


@dataclass(slots=True)
class _Search:
    """Held-out decision values and scores of every C of an ascending grid, one entry per part."""

    grid: tuple[float, ...]
    criterion: str
    decisions: list[np.ndarray] = field(default_factory=list)  # each (len(grid), n, k)
    truths: list[np.ndarray] = field(default_factory=list)  # each (n,) int
    scores: list[list[float]] = field(default_factory=list)
    fits: int = 0
    unfinished: int = 0

    def count(self, solution: Solution) -> None:
        """Count the one-vs-rest fits of a solution, and those that missed their tolerance."""
        self.fits += len(solution.gap)
        self.unfinished += int((~(solution.gap <= SEARCH_TOL)).sum())  # not a number is no gap either

    def add(self, found: Sequence[np.ndarray], truth: np.ndarray) -> None:
        """Take in one part: the decision values of its held-out rows for each C, and their true columns."""
        decisions = np.stack([two_sided(values) for values in found])
        predicted = decisions.argmax(axis=2)
        score = accuracy_score if self.criterion == "accuracy" else _uar
        self.scores.append([float(score(truth, row)) for row in predicted])
        self.decisions.append(decisions)
        self.truths.append(truth)

    @property
    def best(self) -> int:
        """Position of the best C in the grid."""
        return int(np.mean(self.scores, axis=0).argmax())  # the first of equals, so the smaller C

    @property
    def chosen(self) -> float:
        """The best C."""
        return self.grid[self.best]

    def held_out(self) -> Rows:
        """Decision values (n, k) of the best C and true columns (n,), over all parts."""
        return np.concatenate([part[self.best] for part in self.decisions]), np.concatenate(self.truths)

    def summary(self) -> dict[str, Any]:
        """The chosen C, and mean and standard deviation of the score of every C over the parts."""
        means, deviations = np.mean(self.scores, axis=0).tolist(), np.std(self.scores, axis=0).tolist()
        table = [{"C": C, "mean": mean, "std": std} for C, mean, std in zip(self.grid, means, deviations, strict=True)]
        return {"C": self.chosen, "criterion": self.criterion, "grid": table}

    def warnings(self) -> list[str]:
        """Sentences on a C at the edge of the grid and on fits that did not converge."""
        said = []
        if len(self.grid) > 1 and self.best in (0, len(self.grid) - 1):
            said.append(f"C = {self.chosen:g} lies at the edge of the grid: a wider grid may do better")
        if self.unfinished:
            said.append(f"{self.unfinished} of {self.fits} one-vs-rest fits did not converge")
        return said


def _flat(decisions: np.ndarray) -> np.ndarray:
    """(n, k) decision values as they are; the one column of two classes as (n,)."""
    return decisions[:, 0] if decisions.shape[1] == 1 else decisions


def _uar(truth: np.ndarray, predicted: np.ndarray) -> float:
    return recall_score(truth, predicted, labels=np.unique(truth), average="macro")


def _designs(
    normaliser: str, X: np.ndarray, splits: Sequence[Rows], classes: int
) -> Iterator[tuple[np.ndarray, Rows | None, Sequence[Rows]]]:
    """Normalised rows, the folds fitted on them together, and how each fold scales them further (see `_scales`).

    Unit length is a matter of each row alone. Standardising is one of each fold's training rows: standardised rows
    are shared by folds that shift and scale them a little more. With fewer rows than dimensions, where the
    solver has no such scaling, each fold gets rows of its own.
    """
    at_a_time = max(1, X.shape[1] // (COLUMNS * classes), FEW // (len(X) * classes))
    if normaliser == "standard" and len(X) < X.shape[1]:
        for split in splits:
            yield StandardScaler().fit(X[split[0]]).transform(X), None, [split]
        return
    rows = NORMALISERS[normaliser]().fit_transform(X)
    for at in range(0, len(splits), at_a_time):
        folds = splits[at : at + at_a_time]
        yield rows, _scales(rows, folds) if normaliser == "standard" else None, folds


def _scales(X: np.ndarray, folds: Sequence[Rows]) -> Rows:
    """Means and standard deviations (folds, d) of the training rows of each fold; 1 for a constant column."""
    learned = np.zeros((len(X), len(folds)))
    for number, (train, _) in enumerate(folds):
        learned[train, number] = 1
    sums, squares = np.zeros((2, len(folds), X.shape[1]))
    for at in range(0, len(X), CHUNK // 8):
        part, mine = X[at : at + CHUNK // 8].astype(np.float64), learned[at : at + CHUNK // 8]
        sums += mine.T @ part
        squares += mine.T @ np.square(part)
    count = learned.sum(axis=0)[:, None]
    variance = squares / count - np.square(sums / count)
    return sums / count, np.sqrt(np.where(variance > 1e-12, variance, 1))


def _scaled(columns: Columns, scaling: Rows | None) -> Columns:
    """The problems on rows that each fold shifts and scales."""
    if scaling is None:
        return columns
    each = columns.sign.shape[1] // len(scaling[0])
    return replace(columns, shift=np.repeat(scaling[0], each, 0).T, scale=np.repeat(scaling[1], each, 0).T)


@contextmanager
def _quiet() -> Iterator[None]:
    """What did not converge is told by its duality gap, and reported in the summary instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _checked_training(X: np.ndarray, y: Sequence[str] | np.ndarray) -> Rows:
    X = precise(checked_matrix(X))
    labels = checked_labels(y, len(X))
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(f"at least two classes are needed to fit an SVM, and there are: {classes.tolist()}")
    return X, labels


def _checked_validation(validation: tuple[np.ndarray, Sequence[str] | np.ndarray], rows: Rows) -> Rows:
    X, width = precise(checked_matrix(validation[0])), rows[0].shape[1]
    if X.shape[1] != width or not len(X):
        raise InputError(f"the validation set must be rows of {width} numbers, at least one, and is {X.shape}")
    y = checked_labels(validation[1], len(X), "validation row")
    if strange := sorted(set(y.tolist()) - set(rows[1].tolist())):
        raise InputError(f"the validation set has classes that the training set lacks: {', '.join(strange)}")
    return X, y
