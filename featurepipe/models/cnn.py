"""A CNN baseline behind the face of a scikit-learn classifier, and its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit, softmax

from featurepipe.devices import resolve_device
from featurepipe.errors import InputError, ModelError
from featurepipe.files import digest_of
from featurepipe.models.baselines import Baseline
from featurepipe.models.baselines.registry import get_baseline
from featurepipe.models.training import Trainer, predict_scores
from featurepipe.models.training_recipe import TrainingRecipe

FORMAT = 1


class CNNClassifier:
    """An end-to-end CNN: fit on face crops, predict emotions.

    Parameters
    ----------
    arch : name of the architecture
    recipe : how to train; None: the architecture's own
    seed : decides everything random
    device, precision : where, and in what arithmetic
    views : views averaged when predicting (1, 2 or 10)

    Attributes
    ----------
    classes_ : str (k,), sorted; set by fit
    history_ : one row per epoch; set by fit
    network_ : the fitted torch module; set by fit
    """

    def __init__(
        self,
        arch: str,
        recipe: TrainingRecipe | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
        precision: str = "fp32",
        views: int = 1,
    ) -> None:
        self.arch, self.seed, self.device, self.precision, self.views = arch, seed, device, precision, views
        self.recipe = recipe

    @property
    def baseline(self) -> Baseline:
        """The record of the architecture."""
        return get_baseline(self.arch)

    def fit(
        self,
        faces: np.ndarray,
        labels: Sequence[str] | np.ndarray,
        *,
        validation: tuple[np.ndarray, Sequence[str] | np.ndarray] | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        after_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> CNNClassifier:
        """Train from random weights, or go on from a checkpoint.

        Parameters
        ----------
        faces : uint8 (n, *framing.shape)
        labels : str (n,)
        validation : faces and labels that are only watched
        checkpoint : file to write after every epoch; needed by `resume`
        resume : go on from `checkpoint` where it exists; it restores weights, moving average, optimiser, epoch
            and history, and the result equals an uninterrupted run on the same machine

        Raises InputError for faces of another shape, fewer than two classes, or a validation label never
        trained on; ModelError for a checkpoint of another run.
        """
        _check_faces(faces, self.baseline)
        labels = np.asarray(labels, dtype=str)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"training needs at least two classes, got {', '.join(self.classes_) or 'none'}")
        trainer = Trainer(
            self.baseline,
            self.recipe or self.baseline.recipe,
            len(self.classes_),
            device=resolve_device(self.device),
            precision=self.precision,
            seed=self.seed,
        )
        fingerprint = self._fingerprint(faces, labels)
        if resume and checkpoint and checkpoint.exists():
            trainer.load_checkpoint(checkpoint, fingerprint)

        def finished(row: dict[str, float]) -> None:
            if checkpoint:
                trainer.save_checkpoint(checkpoint, fingerprint)
            if after_epoch:
                after_epoch(row)

        trainer.run(faces, targets, validation=self._encode(validation), after_epoch=finished)
        self.network_, self.history_ = trainer.result, trainer.history
        return self

    def decision_function(self, faces: np.ndarray) -> np.ndarray:
        """Scores float32 (n, k) before softmax or sigmoid, averaged over views."""
        _check_faces(faces, self.baseline)
        if not len(faces):
            return np.empty((0, len(self.classes_)), np.float32)
        device = resolve_device(self.device)
        return predict_scores(
            self.network_.to(device),
            self.baseline,
            faces,
            device=device,
            precision=self.precision,
            views=self.views,
        )

    def predict_proba(self, faces: np.ndarray) -> np.ndarray:
        """Probabilities float64 (n, k), rows sum to 1; sigmoid outputs are divided by their sum."""
        scores = self.decision_function(faces).astype(np.float64)
        if self.baseline.output == "softmax":
            return softmax(scores, axis=1)
        outputs = expit(scores)
        return outputs / outputs.sum(1, keepdims=True)

    def predict(self, faces: np.ndarray) -> np.ndarray:
        """Labels, str (n,)."""
        return self.classes_[self.decision_function(faces).argmax(1)]

    def _encode(
        self, validation: tuple[np.ndarray, Sequence[str] | np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if validation is None or not len(validation[0]):
            return None
        faces, labels = validation[0], np.asarray(validation[1], dtype=str)
        strange = sorted(set(labels) - set(self.classes_))
        if strange:
            raise InputError(f"validation has classes that training has not: {', '.join(strange)}")
        return faces, np.searchsorted(self.classes_, labels)

    def _fingerprint(self, faces: np.ndarray, labels: np.ndarray) -> str:
        """Names the run a checkpoint belongs to: data, recipe, architecture, seed, precision."""
        data = hashlib.sha256()
        for start in range(0, len(faces), 4096):
            data.update(np.ascontiguousarray(faces[start : start + 4096]).data)
        recipe = (self.recipe or self.baseline.recipe).document()
        labels_digest = digest_of(labels.tolist())
        return digest_of([self.arch, recipe, self.seed, self.precision, data.hexdigest(), labels_digest])

    def document(self) -> dict[str, Any]:
        """What a model file says beside its tensors: architecture, labels, training recipe and history."""
        return {
            "format": FORMAT,
            "kind": "cnn",
            "arch": self.arch,
            "labels": self.classes_.tolist(),
            "training_recipe": (self.recipe or self.baseline.recipe).document(),
            "seed": self.seed,
            "history": self.history_,
        }

    @classmethod
    def from_parts(
        cls, document: dict[str, Any], tensors: dict[str, torch.Tensor], *, device: str, precision: str
    ) -> CNNClassifier:
        """Build a fitted classifier from what `document` and the network's state dictionary hold.

        Raises ModelError where names or shapes are not the architecture's.
        """
        recipe = TrainingRecipe.from_document(document["training_recipe"])
        model = cls(document["arch"], recipe, seed=document["seed"], device=device, precision=precision)
        model.classes_ = np.asarray(document["labels"], dtype=str)
        model.history_ = document["history"]
        network = model.baseline.build(len(model.classes_), **recipe.network)
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise ModelError(f"the tensors are not those of {document['arch']}: {error}") from error
        model.network_ = network.eval()
        return model


def _check_faces(faces: np.ndarray, baseline: Baseline) -> None:
    wanted = baseline.framing.shape
    if faces.dtype != np.uint8 or faces.shape[1:] != wanted:
        raise InputError(
            f"{baseline.name} takes uint8 faces of shape (n, {', '.join(map(str, wanted))}), "
            f"got {faces.dtype} {faces.shape}"
        )
