"""Soft labels: what networks that have not seen a photo say of it, kept by content, as targets for another network.

Labels of emotions are noisy; a network that is shown, beside a photo's label, what others made of that photo without
knowing its label learns less of the noise. Distillation of Hinton et al. 2015 (arXiv 1503.02531, section 2, temperature
1) with teachers that are cross-fitted, so that none can repeat a label it has learnt by heart.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurepipe.errors import InputError, ModelError
from featurepipe.models.persistence import load_tensors, save_tensors

KIND = "soft-labels"


@dataclass(frozen=True)
class SoftLabels:
    """Probabilities of photos by content.

    Parameters
    ----------
    contents : int64 (n,), codes of the photos, ascending and each once
    probabilities : float32 (n, k), rows sum to 1
    labels : names of the k classes, sorted
    about : how they were made, JSON-able
    """

    contents: np.ndarray
    probabilities: np.ndarray
    labels: list[str]
    about: dict[str, Any]

    def of(self, contents: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Probabilities float32 (m, k) of photos by their codes, int64 (m,), columns in the order of `labels`.

        Raises InputError where a photo is not among them or the classes are others.
        """
        if list(labels) != self.labels:
            raise InputError(f"soft labels are of {', '.join(self.labels)}, the photos of {', '.join(labels)}")
        row = np.searchsorted(self.contents, contents).clip(0, len(self.contents) - 1)
        unknown = int((self.contents[row] != contents).sum())
        if unknown:
            raise InputError(
                f"{unknown} of {len(contents)} training photos have no soft label: make them anew from the same SOURCE"
            )
        return self.probabilities[row]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, under a temporary name first."""
        tensors = {"contents": self.contents, "probabilities": self.probabilities}
        save_tensors(path, tensors, {"kind": KIND, "labels": self.labels, "about": self.about})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SoftLabels:
        """Read what `save` wrote. Raises ModelError where it is something else or damaged."""
        arrays, document = load_tensors(path, "np")
        try:
            if document["kind"] != KIND:
                raise ValueError(f"it is a {document['kind']}")
            contents, probabilities, labels = arrays["contents"], arrays["probabilities"], document["labels"]
            if probabilities.shape != (len(contents), len(labels)) or not np.isfinite(probabilities).all():
                raise ValueError(f"its probabilities have the shape {probabilities.shape} or are no numbers")
            return cls(contents, probabilities, labels, document["about"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is no file of soft labels ({error}): make it with fit_cnn --folds") from error


def taught_on(parts: Sequence[SoftLabels]) -> np.ndarray:
    """Codes, int64 and each once, of the photos that the networks behind several sets have learnt from."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *(part.contents for part in parts)]))


def mean_soft_labels(parts: Sequence[SoftLabels], contents: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The mean of several sets, float32 (m, k), for photos by their codes. Raises as `SoftLabels.of`."""
    return np.stack([part.of(contents, labels) for part in parts]).mean(axis=0)
