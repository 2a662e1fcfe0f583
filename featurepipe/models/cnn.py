"""A CNN baseline behind the face of a scikit-learn classifier, and its file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import save
from scipy.special import expit, softmax
from torch import nn

from featurepipe.devices import resolve_device
from featurepipe.errors import InputError, ModelError
from featurepipe.files import digest_of
from featurepipe.models.baselines import Baseline
from featurepipe.models.baselines.registry import get_baseline
from featurepipe.models.persistence import TRAINED_ON, check_described, load_tensors, save_tensors
from featurepipe.models.training import (
    Checkpoints,
    EpochHook,
    History,
    Trainer,
    channels_last,
    outlined,
    predict_scores,
)
from featurepipe.models.training_recipe import TrainingRecipe

NETWORK = "network."
VIEWS = (1, 2, 10)
"""Numbers of views that can be averaged."""

LARGEST = 65504
"""The largest number of float16."""


class CNNClassifier:
    """An end-to-end CNN: fit on face crops, or on sequences of them, predict emotions.

    Parameters
    ----------
    arch : name of the architecture
    recipe : how to train; None: the architecture's own
    seed : decides everything random
    device, precision : where, and in what arithmetic
    views : views averaged when predicting (1, 2 or 10); None: the architecture's own number

    Attributes
    ----------
    classes_ : str (k,), sorted; set by fit
    network_ : the fitted torch module; set by fit
    recipe : feature half and face half of the crops, as given to fit
    training : summary of the fit, JSON-able; `history` has one row per epoch, `kept` is the one of the model's weights,
        `chosen_on` says whether the validation faces decided anything: "validation" or "nothing"
    trained_on : int64 (n,), sorted codes of the photos fitted on, as given to fit
    """

    kind: ClassVar[str] = "cnn"

    def __init__(
        self,
        arch: str,
        recipe: TrainingRecipe | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
        precision: str = "fp32",
        views: int | None = None,
    ) -> None:
        self.arch, self.seed, self.device, self.precision = arch, seed, device, precision
        self.recipe_ = recipe
        self.views = self.baseline.test_views if views is None else views
        if self.views not in VIEWS:
            raise InputError(f"{views} views cannot be averaged; expected 1, 2 or 10")

    @property
    def baseline(self) -> Baseline:
        """The record of the architecture, as the recipe sets it."""
        own = get_baseline(self.arch)
        return own.configured((self.recipe_ or own.recipe).network)

    def fit(
        self,
        faces: np.ndarray,
        labels: Sequence[str] | np.ndarray,
        *,
        soft_labels: np.ndarray | None = None,
        validation: tuple[np.ndarray, Sequence[str] | np.ndarray] | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        recipe: Mapping[str, Any] | None = None,
        trained_on: np.ndarray | None = None,
        initial: CNNClassifier | None = None,
        after_epoch: EpochHook | None = None,
    ) -> CNNClassifier:
        """Train from random weights, from those of a fitted model, or go on from a checkpoint.

        Parameters
        ----------
        faces : uint8 (n, *baseline.shape): crops, or sequences of crops
        labels : str (n,)
        soft_labels : float (n, k), for each face a distribution over the sorted classes; of what is to be predicted
            it makes up the recipe's `soft_weight`, the label the rest
        validation : faces and labels that are not trained on: they are watched, and decide which epoch is kept where
            the recipe has patience, and the learning rate where its schedule is "plateau"
        checkpoint : file to write between epochs, as often as takes little of the time; needed by `resume`
        resume : go on from `checkpoint` where it exists; it restores weights, moving average, optimiser, epoch
            and history, and the result equals an uninterrupted run on the same machine
        recipe : how the crops were made; kept with the model
        trained_on : int64 (n,), codes of the photos; kept with the model, so that nobody tests on them unawares
        initial : fitted model of the same architecture whose weights are the start (fine-tuning); where its classes
            are others what has weights per class starts anew. The photos it was trained on join `trained_on`
        after_epoch : called after every epoch with the history so far; what it raises ends the training

        Raises InputError for faces or soft labels of another shape, soft labels that are no distributions, labels that
        are not one per face or None, fewer than two classes, a validation label never trained on, or an `initial` of
        another architecture or width; ModelError for a checkpoint of another run.
        """
        _check_faces(faces, self.baseline)
        labels = _checked_labels(labels, len(faces))
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"training needs at least two classes, got {', '.join(self.classes_) or 'none'}")
        if soft_labels is not None:
            _check_soft_labels(soft_labels, len(faces), len(self.classes_))
        trainer = Trainer(
            self.baseline,
            self.recipe_ or self.baseline.recipe,
            len(self.classes_),
            device=resolve_device(self.device),
            precision=self.precision,
            seed=self.seed,
        )
        start = {} if initial is None else self._start(initial)
        trainer.start_from(start)
        validated = self._encode(validation)
        fingerprint = self._fingerprint(faces, labels, start, soft_labels, validated)
        if resume and checkpoint and checkpoint.exists():
            trainer.load_checkpoint(checkpoint, fingerprint)
        keeper = Checkpoints(trainer, checkpoint, fingerprint) if checkpoint else None

        def finished(history: History) -> None:
            if keeper:
                keeper.after_epoch()
            if after_epoch:
                after_epoch(history)

        trainer.run(faces, targets, soft=soft_labels, validation=validated, after_epoch=finished)
        self.network_ = trainer.result.eval()
        self.recipe = dict(recipe or {})
        seen = [() if trained_on is None else trained_on, () if initial is None else initial.trained_on]
        self.trained_on: np.ndarray = np.unique(np.concatenate([np.asarray(codes, np.int64) for codes in seen]))
        names, counts = np.unique(labels, return_counts=True)
        self.training: dict[str, Any] = {
            "samples": dict(zip(names.tolist(), counts.tolist(), strict=True)),
            "seconds": round(sum(row["seconds"] for row in trainer.history), 1),
            "kept": trainer.kept,
            "chosen_on": "validation" if validated and trainer.recipe.chooses else "nothing",
            "history": trainer.history,
        }
        return self

    def decision_function(self, faces: np.ndarray) -> np.ndarray:
        """Scores float32 (n, k) before softmax or sigmoid, averaged over views.

        Raises
        ------
        InputError : faces of another shape or type
        NotFittedError : nothing was fitted yet
        """
        self._need_network()
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

    def _need_network(self) -> None:
        if not hasattr(self, "network_"):
            from sklearn.exceptions import NotFittedError  # scikit-learn takes 1 s to load, and is not needed else

            raise NotFittedError(f"this {self.arch} is not fitted: call fit first, or open a model with load_model")

    def outputs(self, faces: np.ndarray) -> np.ndarray:
        """The network's own outputs float64 (n, k): softmax of its scores, or sigmoids of any sum."""
        scores = self.decision_function(faces).astype(np.float64)
        recipe = self.recipe_ or self.baseline.recipe
        sigmoid = recipe.network.get("head", self.baseline.output) == "sigmoid"
        return expit(scores) if sigmoid else softmax(scores, axis=1)

    def predict_proba(self, faces: np.ndarray) -> np.ndarray:
        """Probabilities float64 (n, k), rows sum to 1: the outputs divided by their sum."""
        outputs = self.outputs(faces)
        return outputs / outputs.sum(1, keepdims=True)

    def predict(self, faces: np.ndarray) -> np.ndarray:
        """Labels, str (n,)."""
        chosen = self.decision_function(faces).argmax(1)
        return self.classes_[chosen]

    def _encode(
        self, validation: tuple[np.ndarray, Sequence[str] | np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if validation is None or not len(validation[0]):
            return None
        faces, labels = validation[0], _checked_labels(validation[1], len(validation[0]))
        _check_faces(faces, self.baseline)
        strange = sorted(set(labels) - set(self.classes_))
        if strange:
            raise InputError(f"validation has classes that training has not: {', '.join(strange)}")
        return faces, np.searchsorted(self.classes_, labels)

    def _start(self, initial: CNNClassifier) -> dict[str, torch.Tensor]:
        """The weights to take over from `initial`: all of them, without those per class where these differ."""
        ours, theirs = (model.recipe_ or model.baseline.recipe for model in (self, initial))
        sizes = [
            {
                name: value
                for name, value in recipe.network.items()
                if name not in ("dropout", "head", "crop_scale") and not isinstance(value, bool)  # no sizes
            }
            for recipe in (ours, theirs)
        ]
        if self.arch != initial.arch or sizes[0] != sizes[1]:
            raise InputError(
                f"cannot start {self.arch} {sizes[0]} from a model of {initial.arch} {sizes[1]}; "
                "give a model of the same architecture and network sizes"
            )
        weights = initial.network_.state_dict()
        if initial.labels == self.labels:
            return weights
        renewed = self._per_class()
        return {name: tensor for name, tensor in weights.items() if name not in renewed}

    def _per_class(self) -> set[str]:
        """Names of the tensors whose shape depends on the number of classes."""
        network = (self.recipe_ or self.baseline.recipe).network
        two, three = (outlined(self.baseline, count, network).state_dict() for count in (2, 3))
        return {name for name in two if two[name].shape != three[name].shape}

    def _fingerprint(
        self,
        faces: np.ndarray,
        labels: np.ndarray,
        start: Mapping[str, torch.Tensor],
        soft: np.ndarray | None,
        validated: tuple[np.ndarray, np.ndarray] | None,
    ) -> str:
        """Names the run a checkpoint belongs to: data, recipe, architecture, seed, precision, first weights.

        Validation faces are part of it where something is decided by them.
        """
        recipe = self.recipe_ or self.baseline.recipe
        data = hash_of(faces) if soft is None else hash_of(faces, np.asarray(soft, np.float32))
        run = [self.arch, recipe.document(), self.seed, self.precision, data, digest_of(labels.tolist())]
        if start:
            weights = {name: tensor.cpu().contiguous() for name, tensor in start.items()}
            run.append(hashlib.sha256(save(weights)).hexdigest())
        if validated and recipe.chooses:
            run.append(hash_of(*validated))
        return digest_of(run)

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of the columns of `predict_proba`."""
        return self.classes_.tolist()

    def save(self, path: str | os.PathLike[str], *, half: bool = False) -> None:
        """Write the fitted network as safetensors, with labels, recipes and history as JSON beside the tensors.

        `half` stores float16: half the size; the loaded network computes with exactly the stored values. Raises
        InputError, before anything is written, where a number is too large for that.
        """
        kind = torch.float16 if half else torch.float32
        self._need_network()
        tensors = {
            NETWORK + name: tensor.to(kind) if tensor.is_floating_point() else tensor
            for name, tensor in self.network_.state_dict().items()
        }
        if half and not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise InputError(
                f"{path} is not written: the network holds numbers beyond {LARGEST}, the largest of float16; save it "
                "without half (fit_cnn: with --resume and without --half)"
            )
        tensors[TRAINED_ON] = torch.from_numpy(self.trained_on)
        document = {
            "kind": self.kind,
            "arch": self.arch,
            "labels": self.labels,
            "seed": self.seed,
            "training_recipe": (self.recipe_ or self.baseline.recipe).document(),
            "recipe": self.recipe,
            "training": self.training,
        }
        save_tensors(path, tensors, document)


def load_cnn(path: str | os.PathLike[str], *, device: str = "auto", precision: str = "fp32") -> CNNClassifier:
    """Read what `CNNClassifier.save` wrote. Raises ModelError where it is not the architecture it claims to be."""
    tensors, document = load_tensors(path, "pt")
    try:
        check_described(document)
        recipe = TrainingRecipe.from_document(document["training_recipe"])
        model = CNNClassifier(document["arch"], recipe, seed=document["seed"], device=device, precision=precision)
        model.classes_ = np.asarray(document["labels"], dtype=str)
        model.recipe, model.training = document["recipe"], document["training"]
        model.trained_on = tensors.pop(TRAINED_ON).numpy()
        network = _built(model, {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ModelError(f"{path} is not a whole CNN model: {error!r}; fit or fetch it again") from error
    model.network_ = channels_last(network.eval())  # as it was trained: equal to the last bit
    return model


def _built(model: CNNClassifier, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network that a file describes, with its tensors; refused with ValueError before a larger one is built."""
    baseline, classes = model.baseline, len(model.classes_)
    sizes = (model.recipe_ or baseline.recipe).network
    expected, found = (
        {name: tuple(tensor.shape) for name, tensor in named.items()}
        for named in (outlined(baseline, classes, sizes).state_dict(), tensors)
    )
    if differing := sorted(name for name, _ in expected.items() ^ found.items()):
        raise ValueError(f"{differing[0]} is {found.get(differing[0])}, expected {expected.get(differing[0])}")
    network = baseline.build(classes, **sizes)
    network.load_state_dict(tensors)
    return network


def hash_of(*arrays: np.ndarray) -> str:
    """Hex sha256 of the numbers of arrays (n, ...), memory-mapped or not, one after another."""
    data = hashlib.sha256()
    for array in arrays:
        for first in range(0, len(array), 4096):
            data.update(np.ascontiguousarray(array[first : first + 4096]).data)
    return data.hexdigest()


def _check_faces(faces: np.ndarray, baseline: Baseline) -> None:
    wanted = baseline.shape
    if faces.dtype != np.uint8 or faces.shape[1:] != wanted:
        raise InputError(
            f"{baseline.name} takes uint8 faces of shape (n, {', '.join(map(str, wanted))}), "
            f"got {faces.dtype} {faces.shape}"
        )


def _checked_labels(labels: Sequence[str] | np.ndarray, faces: int) -> np.ndarray:
    names = np.asarray(labels)
    nameless = sum(label is None for label in names.flat)
    if names.shape != (faces,) or nameless:
        raise InputError(
            f"one label per face is needed: {faces} faces, labels of shape {names.shape}, {nameless} of them None"
        )
    return names.astype(str)


def _check_soft_labels(soft: np.ndarray, faces: int, classes: int) -> None:
    if np.shape(soft) != (faces, classes):
        raise InputError(
            f"soft labels for {faces} faces of {classes} classes are expected to be of shape {(faces, classes)}, not "
            f"{np.shape(soft)}"
        )
    if not (np.min(soft) >= 0 and np.allclose(np.sum(soft, axis=1), 1, atol=1e-3)):
        raise InputError("soft labels must be distributions: rows of numbers of at least 0 whose sum is 1")
