"""Cross-fitting: networks that each learn from all folds but one, and say what they make of that one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.files import digest_of
from featurepipe.models.cnn import CNNClassifier, hash_of
from featurepipe.models.soft_labels import SoftLabels
from featurepipe.models.training import EpochHook, History

VIEWS = 10
"""Views averaged for a soft label."""

_KEPT = re.compile(r"\.?([0-9]+\.ckpt|[0-9a-f]{16}\.safetensors)(\.[0-9a-f]{8}\.tmp)?")
"""Names of checkpoints and finished folds, and of those that a kill left half written."""

Labelled = tuple[np.ndarray, np.ndarray]
"""Faces and their labels."""


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
    after_epoch: EpochHook = lambda history: None,
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
    after_epoch : called with the epochs of all folds so far, as `history_of` gives them

    Returns
    -------
    soft labels of every photo; `about["folds"]` has a row per fold with its history

    Raises as `CNNClassifier.fit`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[SoftLabels] = []
    rows: list[dict[str, Any]] = []
    data = _digest(faces, labels, contents, validation)
    for number, (fit, asked) in enumerate(folds):
        model = make()
        kept = folder / f"{_run(model, data, asked)}.safetensors"
        if not (resume and kept.exists()):
            model.fit(
                faces[fit],
                labels[fit],
                validation=validation,
                checkpoint=folder / f"{number}.ckpt",
                resume=resume,
                after_epoch=_with_earlier(rows, number, after_epoch),
            )
            _ask(model, faces[asked], labels[asked], contents[asked], validation).save(kept)
        parts.append(SoftLabels.load(kept))
        rows.append({"fold": number, **parts[-1].about})
    return _joined(parts, {"views": VIEWS, "folds": rows})


def history_of(folds: Sequence[Mapping[str, Any]]) -> History:
    """The epochs of all folds, each row with its fold's number, of the rows in `about["folds"]`."""
    return [{"fold": row["fold"], **epoch} for row in folds for epoch in row["history"]]


def _with_earlier(rows: Sequence[Mapping[str, Any]], number: int, after_epoch: EpochHook) -> EpochHook:
    """Before a fold's own epochs put those of the finished ones."""
    return lambda history: after_epoch(history_of([*rows, {"fold": number, "history": history}]))


def remove_folds(folder: Path) -> None:
    """Remove what `cross_fit` keeps in a folder, and the folder too where nothing else is in it."""
    for path in folder.iterdir():
        if _KEPT.fullmatch(path.name):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _digest(faces: np.ndarray, labels: np.ndarray, contents: np.ndarray, validation: Labelled | None) -> str:
    """Of all that is fitted on, asked for or watched; what was right of the last stands in `about`."""
    watched = None if validation is None else [hash_of(validation[0]), validation[1].tolist()]
    return digest_of([hash_of(faces), contents.tolist(), labels.tolist(), watched])


def _run(model: CNNClassifier, data: str, asked: np.ndarray) -> str:
    return digest_of([model.decided(), data, asked.tolist()])[:16]


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
