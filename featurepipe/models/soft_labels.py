"""Soft labels: what networks that have not seen a photo say of it, kept by content, as targets for another network.

Labels of emotions are noisy; a network that is shown, beside a photo's label, what others made of that photo without
knowing its label learns less of the noise. Distillation of Hinton et al. 2015 (arXiv 1503.02531, section 2, temperature
1) with teachers that are cross-fitted, so that none can repeat a label it has learnt by heart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.errors import InputError, ModelError
from featurepipe.files import digest_of
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.persistence import load_tensors, save_tensors

KIND = "soft-labels"
VIEWS = 10
"""Views averaged for a soft label."""

Labelled = tuple[np.ndarray, np.ndarray]
"""Faces and their labels."""


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


def mean_soft_labels(parts: Sequence[SoftLabels], contents: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The mean of several sets, float32 (m, k), for photos by their codes. Raises as `SoftLabels.of`."""
    return np.stack([part.of(contents, labels) for part in parts]).mean(axis=0)


def cross_fit(
    make: Callable[[], CNNClassifier],
    faces: np.ndarray,
    labels: np.ndarray,
    contents: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    folder: Path,
    resume: bool = False,
    validation: Labelled | None = None,
    after_epoch: Callable[[int, dict[str, float]], None] = lambda fold, row: None,
) -> SoftLabels:
    """Train one network per fold on the other folds and let it predict the fold's photos, with ten views.

    Parameters
    ----------
    make : makes the classifier to fit, not yet fitted
    faces, labels : as `CNNClassifier.fit` takes them
    contents : int64 (n,), codes of the photos; copies must lie in one fold
    folds : (indices to fit on, indices to predict) of each
    folder : where the fold in hand and the finished ones are kept
    resume : go on with what the same run has left there
    validation : as `CNNClassifier.fit` takes it; `about` says what share each network got right, by views
    after_epoch : called with the fold's number and the epoch's row

    Returns
    -------
    soft labels of every photo; `about["folds"]` has a row per fold with its history

    Raises as `CNNClassifier.fit`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts, rows = [], []
    for number, (fit, asked) in enumerate(folds):
        model = make()
        kept = folder / f"{_run(model, contents, labels, asked)}.safetensors"
        if not (resume and kept.exists()):
            model.fit(
                faces[fit],
                labels[fit],
                validation=validation,
                checkpoint=folder / f"{number}.ckpt",
                resume=resume,
                after_epoch=partial(after_epoch, number),
            )
            _ask(model, faces[asked], labels[asked], contents[asked], validation).save(kept)
        parts.append(SoftLabels.load(kept))
        rows.append({"fold": number, **parts[-1].about})
    return _joined(parts, {"views": VIEWS, "folds": rows})


def _run(model: CNNClassifier, contents: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> str:
    recipe = (model.recipe_ or model.baseline.recipe).document()
    data = [contents.tolist(), labels.tolist(), asked.tolist()]
    return digest_of([model.arch, recipe, model.seed, model.precision, data])[:16]


def _ask(
    model: CNNClassifier, faces: np.ndarray, labels: np.ndarray, contents: np.ndarray, validation: Labelled | None
) -> SoftLabels:
    about: dict[str, Any] = {"history": model.training["history"], "val_accuracy": {}}
    for model.views in (1, 2, VIEWS):
        if validation is not None and len(validation[0]):
            about["val_accuracy"][str(model.views)] = _share(model.predict(validation[0]) == validation[1])
    probabilities = model.predict_proba(faces).astype(np.float32)
    about["accuracy"] = _share(model.classes_[probabilities.argmax(1)] == labels)
    unique, first = np.unique(contents, return_index=True)
    return SoftLabels(unique, probabilities[first], model.labels, about)


def _joined(parts: Sequence[SoftLabels], about: dict[str, Any]) -> SoftLabels:
    contents, order = np.unique(np.concatenate([part.contents for part in parts]), return_index=True)
    probabilities = np.concatenate([part.probabilities for part in parts])[order]
    return SoftLabels(contents, probabilities, parts[0].labels, about)


def _share(right: np.ndarray) -> float:
    return round(float(right.mean()), 4)
