"""What scikit-learn asks of a classifier besides fit and predict, without loading scikit-learn before it is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.utils import Tags


class Scored(ABC):
    """Base of classifiers that scikit-learn's scorers and displays take, and that predict without it."""

    @abstractmethod
    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) labels."""

    def score(self, X: np.ndarray, y: Sequence[str] | np.ndarray) -> float:
        """Accuracy, 0 to 1: the share of rows or crops `X` whose label is that of `y`, str (n,)."""
        from sklearn.metrics import accuracy_score

        return float(accuracy_score(y, self.predict(X)))

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn 1.6 and newer go by: that this is a classifier."""
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            transformer_tags=None,  # 1.6.0 has no default for these
            classifier_tags=ClassifierTags(),
            regressor_tags=None,
        )
