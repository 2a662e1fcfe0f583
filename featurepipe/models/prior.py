"""Probabilities for photos in which emotions are more or less frequent than in those a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from featurepipe.errors import InputError, ModelError


def full_prior(named: Mapping[str, float], labels: Sequence[str], trained: np.ndarray) -> np.ndarray:
    """How frequent each class is: as named, the others sharing the rest by their shares in training.

    Parameters
    ----------
    named : share in 0..1 of some of the labels
    labels : names of the k classes
    trained : float (k,), shares in training

    Returns
    -------
    float64 (k,), all above 0, sum 1

    Raises InputError where a label is not the model's, or the shares leave nothing for the others or do not sum to 1.
    """
    if unknown := sorted(set(named) - set(labels)):
        raise InputError(f"the prior names {', '.join(unknown)}, the model knows {', '.join(labels)}")
    prior = np.array([named.get(label, 0.0) for label in labels])
    others = np.array([label not in named for label in labels])
    rest = 1 - prior.sum()
    if not ((rest > 1e-9) if others.any() else abs(rest) < 1e-3):
        raise InputError(
            f"the shares of the prior sum to {prior.sum():g}: expected "
            + ("less than 1, for the labels not named" if others.any() else "1, as all labels are named")
        )
    if others.any():
        prior[others] = rest * trained[others] / trained[others].sum()
    return prior / prior.sum()


def with_prior(probabilities: np.ndarray, trained: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities (n, k), learnt where classes had the shares `trained`, for where they have the shares `prior`.

    By Bayes' rule p(y|x) prior(y) / trained(y), normalised, as long as faces of one emotion look the same here and
    there: Saerens, Latinne and Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori
    Probabilities", Neural Computation 14, equation 2.4.
    """
    weighted = probabilities * (prior / trained)
    return weighted / weighted.sum(axis=1, keepdims=True)


def trained_shares(training: Mapping[str, object], labels: Sequence[str]) -> np.ndarray:
    """Shares of the classes among the photos a model was fitted on, float64 (k,); equal where it weighted them so.

    Raises ModelError where `training` does not say how many photos it had of each label.
    """
    samples = training.get("samples")
    found = [samples.get(label) if isinstance(samples, Mapping) else None for label in labels]
    if not all(isinstance(count, int) and count > 0 for count in found):
        raise ModelError(
            "the model does not say how many photos of each label it was fitted on, which --prior starts from: leave "
            "out --prior, or fit the model again"
        )
    counts = np.array(found, float)
    if training.get("class_weight") == "balanced":
        counts = np.ones(len(labels))
    return counts / counts.sum()
