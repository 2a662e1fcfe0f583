"""A fitted linear SVM as numbers alone: predicts with NumPy, so that `classify` starts without scikit-learn.

Every figure equals to the last bit what the scikit-learn Pipeline gives that it was fitted as; that one is built where
it is asked for.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from featurepipe.errors import InputError, RecipeMismatch
from featurepipe.models.scored import Scored

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

CHUNK = 4096
"""Rows handled at a time: a memory-mapped table of any length takes the same memory to classify."""

NORMALISER_NAMES = ("l2", "standard")
CLASS_WEIGHTS = (None, "balanced")


class LinearModel(Scored):
    """A linear SVM read from its file: what `load_model` gives. scikit-learn's scorers and displays take it.

    Parameters
    ----------
    arrays : float64 coef (k, d), or (1, d) with two classes; intercept (k,) or (1,); where vectors are standardised
        mean and scale (d,)
    labels : names of the classes, sorted
    temperature : what decision values are divided by before softmax
    recipe : feature half and face half of the vectors that the model was fitted on
    training : summary of the fit; its "normaliser" is "l2" or "standard"
    trained_on : int64 (n,), sorted codes of the photos fitted on
    """

    kind: ClassVar[str] = "svm"

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        *,
        labels: list[str],
        temperature: float,
        recipe: dict[str, Any],
        training: dict[str, Any],
        trained_on: np.ndarray,
    ) -> None:
        self._arrays, self.labels, self.trained_on = arrays, labels, trained_on
        self.temperature_, self.recipe, self.training = temperature, recipe, training

    @property
    def classes_(self) -> np.ndarray:
        """(k,) labels, sorted."""
        return np.array(self.labels)

    @cached_property
    def pipeline_(self) -> Pipeline:
        """The same as a scikit-learn Pipeline of normaliser and LinearSVM, built by the scikit-learn that is here."""
        from featurepipe.models.svm import LinearSVMCV

        model = LinearSVMCV.from_arrays(
            self._arrays,
            labels=self.labels,
            temperature=self.temperature_,
            recipe=self.recipe,
            training=self.training,
        )
        return model.pipeline_

    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers of the model, as they were given."""
        return dict(self._arrays)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, whole or not at all, as a joblib pickle that `load_model` and `bin/classify` read."""
        from featurepipe.models.persistence import save_svm  # which builds LinearModels

        save_svm(path, self)

    def __repr__(self) -> str:
        """Normaliser, width of the vectors, number of classes."""
        width = self._arrays["coef"].shape[1]
        return f"LinearModel({self.training['normaliser']!r}, vectors of {width} numbers, {len(self.labels)} classes)"

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """w x + b, not divided by |w|: (n, k) float64, or (n,) with two classes, as scikit-learn has it.

        Raises
        ------
        RecipeMismatch : `X` has rows, and these are not as wide as the vectors the model was fitted on
        InputError : `X` is not a matrix of finite numbers, or a data frame with other columns than the one fitted on
        """
        coef, intercept = self._arrays["coef"].T, self._arrays["intercept"]
        check_columns(X, self.training.get("columns"))
        X = checked_matrix(X)
        check_width(X, len(coef))
        decisions = np.empty((len(X), len(intercept)))
        for at in range(0, len(X), CHUNK):
            decisions[at : at + CHUNK] = self._normalised(X[at : at + CHUNK]) @ coef + intercept
        return decisions[:, 0] if len(intercept) == 1 else decisions

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """softmax(decision / temperature): (n, k) float64, rows sum to 1."""
        scaled = two_sided(self.decision_function(X)) / self.temperature_
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) labels: arg max of decision, which is arg max of probability."""
        return self.classes_[two_sided(self.decision_function(X)).argmax(axis=1)]

    def _normalised(self, X: np.ndarray) -> np.ndarray:
        """A copy of `X`, normalised as scikit-learn does it."""
        X = np.array(precise(X))
        if self.training["normaliser"] == "standard":
            X -= self._arrays["mean"].astype(X.dtype)
            X /= self._arrays["scale"].astype(X.dtype)
            return X
        lengths = np.sqrt(np.einsum("ij,ij->i", X, X))
        lengths[lengths < 10 * np.finfo(X.dtype).eps] = 1.0
        X /= lengths[:, None]
        return X


def two_sided(decisions: np.ndarray) -> np.ndarray:
    """Decision values with one column per class: (n, k) as it is; (n,) of two classes d becomes [-d, d]."""
    return np.stack([-decisions, decisions], axis=1) if decisions.ndim == 1 else decisions


def precise(X: np.ndarray) -> np.ndarray:
    """`X` in the precision it is computed in: its own where that is float32 or float64, else float64.

    scikit-learn would normalise float16 in float16, whose range the sums of squares of vectors leave.
    """
    return X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)


def check_width(X: np.ndarray, expected: int) -> None:
    """Refuse rows of another width with RecipeMismatch; where no photo has a face there are none, of any width."""
    if len(X) and X.shape[1] != expected:
        raise RecipeMismatch(
            f"the model was fitted on vectors of {expected} numbers and got vectors of {X.shape[1]}: "
            "extract with the backbone that its recipe names"
        )


def check_columns(X: Any, fitted: list[str] | None) -> None:
    """Refuse a data frame whose columns are not those, in their order, of the data frame that was fitted on."""
    named: Any = getattr(X, "column_names", None) or getattr(X, "columns", ())  # pyarrow's, pandas' and polars'
    given = list(named)
    if not fitted or given == fitted or not given or not all(isinstance(name, str) for name in given):
        return
    at = next((n for n, (one, other) in enumerate(zip(given, fitted, strict=False)) if one != other), None)
    where = f"{len(given)} columns" if at is None else f"{given[at]!r} in place of {fitted[at]!r}"
    raise InputError(f"the model was fitted on a data frame of {len(fitted)} named columns, and this one has {where}")


def checked_matrix(X: np.ndarray) -> np.ndarray:
    """`X` as a float matrix, not copied where it is one, after making sure that every number is finite.

    Raises
    ------
    InputError : it is no matrix of finite numbers
    """
    X = np.asanyarray(X)
    if X.ndim != 2 or X.dtype.kind not in "fiu":
        raise InputError(f"vectors must be a matrix (n, d) of numbers, not {X.dtype} of shape {X.shape}")
    for at in range(0, len(X), CHUNK):
        finite = np.isfinite(X[at : at + CHUNK]).all(axis=1)
        if not finite.all():
            row = at + int(finite.argmin())
            raise InputError(f"row {row} of the vectors holds NaN or infinity: extract that photo again")
    return X
