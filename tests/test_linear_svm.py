"""LinearSVM: scikit-learn's contract, liblinear's optimum, its own certificate."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from featurepipe.models.linear_svm import LinearSVM


@parametrize_with_checks([LinearSVM(), LinearSVM(penalise_intercept=False), LinearSVM(class_weight="balanced")])
def test_scikit_learns_contract(estimator, check):
    check(estimator)
