"""`LinearSVM`: the objective of scikit-learn's LinearSVC for dense features, solved by Newton's method in BLAS."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from featurepipe.models.checks import checked_soft_labels
from featurepipe.models.linear import CHUNK
from featurepipe.models.matrices import Rows, Twice
from featurepipe.models.newton import Columns, Newton, Solution

CLASS_WEIGHT = Mapping[Any, float] | Literal["balanced"] | None


class LinearSVM(ClassifierMixin, BaseEstimator):
    """One-vs-rest linear SVM with squared hinge loss for dense features: LinearSVC's optimum, all classes at once.

    For each class it minimises |w|^2 / 2 + b^2 / 2 + C sum_i s_i max(0, 1 - y_i (w x_i + b))^2, the objective of
    LinearSVC(loss="squared_hinge") with its default intercept_scaling=1; `penalise_intercept=False` drops b^2 / 2.
    The method is in featurepipe.models.newton. float32 rows stay float32 and are not copied; besides them the fit
    holds the rows in a subspace and Hessians there, together at most as large as the rows (or 128 MiB, if that is
    more); of n rows fewer than their d dimensions the float64 products of all rows with one another instead, which take
    2 n / d times the memory of float32 rows.

    Parameters
    ----------
    C : inverse strength of the penalty, > 0
    class_weight : None, "balanced", or a weight per label. As in LinearSVC, with more than two classes the weight
        of a class counts where it is the positive one
    penalise_intercept : whether b^2 / 2 is part of the objective, as in liblinear
    tol : relative duality gap, > 0: the objective of each class is within this share of its minimum
    max_iter : Newton steps at most
    device : None for NumPy, or a torch device that has float64, such as "cuda"; "auto" for a CUDA GPU where there is
        one, else NumPy

    Attributes
    ----------
    classes_ : (k,) labels, sorted
    coef_ : (k, d) float64, or (1, d) with two classes
    intercept_ : (k,) or (1,) float64
    objective_, gap_ : as `intercept_`; objective of each class, and its relative duality gap, evaluated in float64
    n_iter_ : Newton steps taken
    n_features_in_ : d

    >>> corners = np.array([[0.0, 0.0], [0.0, 1.0], [4.0, 4.0], [4.0, 5.0]])
    >>> LinearSVM(C=10.0).fit(corners, ["fear", "fear", "joy", "joy"]).predict([[1.0, 1.0], [3.0, 4.0]]).tolist()
    ['fear', 'joy']
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        class_weight: CLASS_WEIGHT = None,
        penalise_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 100,
        device: str | None = None,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.penalise_intercept = penalise_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.device = device

    def fit(
        self,
        X: np.ndarray,
        y: Sequence[Any] | np.ndarray,
        sample_weight: Any = None,
        *,
        soft_labels: np.ndarray | None = None,
    ) -> LinearSVM:
        """Fit to the rows (n, d), float32 or converted to float64, labels (n,) and weights (n,) >= 0.

        With `soft_labels` (n, k), row i's cost is its mean over labels drawn from the distribution soft_labels[i] over
        the sorted classes, instead of the one for y[i]: the row counts as positive for class c with weight
        soft_labels[i, c], and as negative with the rest.

        Raises
        ------
        ValueError : NaN or infinity in `X`, a single class, C or tol that is not positive, an infinite C, a weight of a
            row or a class that is negative or no finite number, a device that is not there or has no float64
        InputError : `soft_labels` of another shape or that are no distributions; a ValueError too
        """
        if not (0 < self.C < np.inf and self.tol > 0):
            raise ValueError(f"C and tol must be positive, and C finite: C={self.C!r}, tol={self.tol!r}")
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], order="C")
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"This solver needs at least two classes, but the data holds one class: {self.classes_}")
        if soft_labels is not None:
            soft_labels = checked_soft_labels(soft_labels, len(X), len(self.classes_))
        per_class = class_weights(self.class_weight, self.classes_, codes, weight)
        columns, device = one_vs_rest(codes, weight, per_class, soft_labels), available(self.device)
        with whole_products(device):
            newton = Newton(rows_on(X, columns, device), columns, penalise_intercept=self.penalise_intercept)
            found = newton.solve(self.C, tol=self.tol, max_iter=self.max_iter)
        self._keep(found)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """X w + b: (n, k), or (n,) with two classes, positive for `classes_[1]`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        parts = [X[at : at + CHUNK] @ self.coef_.T for at in range(0, len(X), CHUNK)]
        values = np.concatenate(parts) + self.intercept_
        return values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) labels."""
        values = self.decision_function(X)
        return self.classes_[(values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)]

    def _keep(self, found: Solution) -> None:
        self.coef_, self.intercept_ = found.coef, found.intercept
        self.objective_, self.gap_, self.n_iter_ = found.objective, found.gap, found.steps
        if not found.gap.max() <= self.tol:  # not a number is no gap either
            warnings.warn(
                f"the duality gap is {found.gap.max():.1e} after {found.steps} steps, not {self.tol:.1e}: "
                "scale the features, or raise max_iter",
                ConvergenceWarning,
                stacklevel=3,
            )


def class_weights(wanted: CLASS_WEIGHT, classes: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(k,) weights of the classes; "balanced" is total / (k x weight of the class), scikit-learn's rule.

    Raises
    ------
    ValueError : weights for labels that are not there, negative or not finite, or another word
    """
    if wanted is None:
        return np.ones(len(classes))
    if wanted == "balanced":
        held = np.bincount(codes, weight, len(classes))
        return np.divide(weight.sum(), len(classes) * held, out=np.zeros(len(classes)), where=held > 0)
    if not isinstance(wanted, Mapping):
        raise ValueError(f'class_weight must be None, "balanced" or a dict, not {wanted!r}')
    if unknown := [label for label in wanted if label not in classes]:
        raise ValueError(f"The classes, {unknown}, are not in class_weight's data: {classes.tolist()}")
    weights = np.array([wanted.get(label, 1.0) for label in classes.tolist()], np.float64)
    if not np.all((weights >= 0) & (weights < np.inf)):
        raise ValueError(f"class_weight must hold finite numbers of at least 0, not {dict(wanted)!r}")
    return weights


def available(name: str | None) -> str | None:
    """The torch device that `name` asks for, None for NumPy; auto is a CUDA GPU or NumPy.

    Raises InputError where the device is not there.
    """
    if name is None:
        return None
    from featurepipe.devices import resolve_device

    device = resolve_device(name)
    return None if name == "auto" and device.type != "cuda" else str(device)


def rows_on(X: np.ndarray, columns: Columns, device: str | None) -> Any:
    """The rows of the problems for the solver: as they are for NumPy, or copied to a torch device."""
    if device is None:
        rows: Any = Rows(X)
    else:
        from featurepipe.models.matrices_torch import TorchRows

        rows = TorchRows(X, device)
    return rows if len(columns.sign) == len(X) else Twice(rows)


def whole_products(device: str | None) -> AbstractContextManager[object]:
    """A context in which float32 products on a torch device are not rounded to TF32, whatever the program asked for."""
    if device is None:
        return nullcontext()
    import torch

    from featurepipe.devices import autocast

    return autocast(torch.device(device), "fp32")


def one_vs_rest(
    codes: np.ndarray, weight: np.ndarray, per_class: np.ndarray, soft_labels: np.ndarray | None = None
) -> Columns:
    """The problems of one fit: class codes (n,), weights (n,), class weights (k,); one column with two classes.

    As in liblinear, the weight of a class multiplies its rows where it is positive, and with two classes on both sides.
    With soft labels float64 (n, k), which are not checked, the problems are of 2n rows: the n rows as positive ones,
    then the same as negative ones.
    """
    if soft_labels is not None:
        return _softly(soft_labels, weight, per_class)
    if len(per_class) == 2:
        sign = np.where(codes == 1, 1, -1)[:, None]
        cost = (weight * per_class[codes])[:, None]
    else:
        positive = codes[:, None] == np.arange(len(per_class))
        sign, cost = np.where(positive, 1, -1), weight[:, None] * np.where(positive, per_class, 1.0)
    return Columns(sign.astype(np.int8), cost)


def _softly(soft_labels: np.ndarray, weight: np.ndarray, per_class: np.ndarray) -> Columns:
    two = len(per_class) == 2
    positive = (soft_labels * per_class)[:, 1:] if two else soft_labels * per_class
    negative = (soft_labels * per_class)[:, :1] if two else 1 - soft_labels
    sign = np.repeat(np.array([1, -1], np.int8), len(weight))[:, None].repeat(positive.shape[1], axis=1)
    return Columns(sign, np.concatenate([positive, np.maximum(negative, 0)]) * np.tile(weight, 2)[:, None])


def joined(parts: Sequence[Columns]) -> Columns:
    """The problems of several fits on the same rows side by side."""
    return Columns(
        np.concatenate([part.sign for part in parts], axis=1),
        np.concatenate([part.weight for part in parts], axis=1),
    )


def path(
    X: np.ndarray, columns: Columns, Cs: Sequence[float], *, tol: float, device: str | None = None
) -> Iterator[Solution]:
    """Solutions for ascending Cs, each from the one before, in one subspace that grows with them."""
    newton = Newton(rows_on(X, columns, device), columns)
    for C in Cs:
        yield newton.solve(C, tol=tol, max_iter=100)
