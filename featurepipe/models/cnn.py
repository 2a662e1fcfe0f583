"""A CNN baseline behind the face of a scikit-learn classifier, and its file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from safetensors.torch import save
from scipy.special import expit, softmax
from torch import nn

from featurepipe.devices import PRECISIONS, memory_errors, resolve_device, resolve_precision
from featurepipe.errors import InputError, ModelError
from featurepipe.files import digest_of
from featurepipe.models.baselines import Baseline
from featurepipe.models.baselines.registry import get_baseline
from featurepipe.models.checks import checked_labels, checked_soft_labels
from featurepipe.models.persistence import TRAINED_ON, check_described, load_tensors, save_tensors
from featurepipe.models.scored import Scored
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

if TYPE_CHECKING:
    from sklearn.utils import Tags

NETWORK = "network."
SETTINGS = ("arch", "recipe", "seed", "device", "precision", "views")
"""Arguments of the constructor."""

VIEWS = (1, 2, 10)
"""Numbers of views that can be averaged."""

LARGEST = 65504
"""The largest number of float16."""


class CNNClassifier(Scored):
    """An end-to-end CNN: fit on face crops, or on sequences of them, predict emotions.

    A classifier as scikit-learn wants it, for its cross-validation, searches, scorers and displays; crops are no
    vectors, so that what takes rows of numbers alone (scalers, say) does not take them.

    Parameters
    ----------
    arch : name of the architecture
    recipe : how to train; None: the architecture's own; a mapping: that with these values changed, as a TOML file of
        `fit_cnn --recipe` does it, {"epochs": 30, "augmentation": {"flip": 0.5}}
    seed : decides everything random
    device, precision : where, and in what arithmetic: "fp32", "bf16", or "auto": bf16 where the device multiplies in it
    views : views averaged when predicting (1, 2 or 10); None: the architecture's own number

    Raises InputError for an unknown architecture, a mapping with other values than a recipe has, other views, seeds or
    precisions.

    Attributes
    ----------
    classes_ : str (k,), sorted; set by fit
    network_ : the fitted torch module; set by fit
    recipe_ : the constructor's `recipe` as it was given; `training_recipe` is what it comes to. `get_params` and
        `set_params` call it recipe
    recipe : not how to train: feature half and face half of the crops, as given to fit
    training : summary of the fit, JSON-able; `history` has one row per epoch, `kept` is the one of the model's weights,
        `chosen_on` says whether the validation faces decided anything: "validation" or "nothing"
    trained_on : int64 (n,), sorted codes of the photos fitted on, as given to fit

    >>> crops = np.random.default_rng(0).integers(0, 256, (20, 100, 100), np.uint8)
    >>> model = CNNClassifier("seed_cnn", {"epochs": 1}, device="cpu").fit(crops, ["anger", "fear"] * 10)
    >>> model.predict_proba(crops[:3]).shape, model.labels
    ((3, 2), ['anger', 'fear'])
    """

    kind: ClassVar[str] = "cnn"
    recipe: dict[str, Any]
    training: dict[str, Any]

    def __init__(
        self,
        arch: str,
        recipe: TrainingRecipe | Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
        precision: str = "fp32",
        views: int | None = None,
    ) -> None:
        self.arch, self.seed, self.device, self.precision = arch, seed, device, precision
        self.recipe_, self.views = recipe, views
        _ = self.baseline  # refuses what cannot be trained now, not after an hour of reading photos
        if views is not None and views not in VIEWS:
            raise InputError(f"{views} views cannot be averaged; expected 1, 2 or 10")
        if not isinstance(seed, Integral) or not 0 <= seed < 1 << 32:
            raise InputError(f"seed must be a whole number from 0 to 2^32 - 1, and is {seed!r}")
        if precision not in ("auto", *PRECISIONS):
            raise InputError(f"unknown precision {precision!r}: expected auto or one of {', '.join(PRECISIONS)}")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name, the very objects that were given; `deep` changes nothing."""
        return {name: getattr(self, "recipe_" if name == "recipe" else name) for name in SETTINGS}

    def set_params(self, **params: Any) -> CNNClassifier:
        """Change arguments of the constructor; with another arch, recipe or seed the model must be fitted anew.

        Raises InputError for other names, and as the constructor does; nothing is changed then.
        """
        if strange := sorted(params.keys() - set(SETTINGS)):
            raise InputError(f"CNNClassifier has no setting {', '.join(strange)}; it has {', '.join(SETTINGS)}")
        CNNClassifier(**{**self.get_params(), **params})
        for name, value in params.items():
            setattr(self, "recipe_" if name == "recipe" else name, value)
        if params.keys() & {"arch", "recipe", "seed"}:
            vars(self).pop("network_", None)  # is not what the settings say any more
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Tags:
        """A classifier of arrays with three dimensions and more."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def __repr__(self) -> str:
        """Architecture, and how many faces it was fitted on."""
        samples = self.training.get("samples", {}) if self.__sklearn_is_fitted__() else None
        state = "not fitted" if samples is None else f"fitted on {sum(samples.values())} faces"
        return f"CNNClassifier({self.arch!r}, {state})"

    @property
    def baseline(self) -> Baseline:
        """The record of the architecture, as the recipe sets it."""
        return get_baseline(self.arch).configured(self.training_recipe.network)

    @property
    def training_recipe(self) -> TrainingRecipe:
        """How it is trained, every value of it: the recipe that was given, or the architecture's own, changed."""
        if isinstance(self.recipe_, TrainingRecipe):
            return self.recipe_
        changes = {} if self.recipe_ is None else self.recipe_
        return TrainingRecipe.from_document(changes, get_baseline(self.arch).recipe)

    def fit(
        self,
        faces: np.ndarray,
        labels: Sequence[str] | np.ndarray,
        *,
        soft_labels: np.ndarray | None = None,
        validation: tuple[np.ndarray, Sequence[str] | np.ndarray] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        recipe: Mapping[str, Any] | None = None,
        trained_on: np.ndarray | None = None,
        initial: CNNClassifier | None = None,
        after_epoch: EpochHook | None = None,
    ) -> CNNClassifier:
        """Train from random weights, from those of a fitted model, or go on from a checkpoint.

        Parameters
        ----------
        faces : uint8 (n, *baseline.shape): crops, or sequences of crops, or a list of either
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

        A fit that fails or is interrupted leaves what was fitted before.

        Raises InputError for faces or soft labels of another shape, soft labels that are no distributions, labels that
        are not one per face or no text (None, NaN, numbers), fewer than two classes, a validation label never trained
        on, or an `initial` of another architecture or width; NotFittedError for an `initial` that is not fitted;
        ModelError for a checkpoint of another run; MemoryError.
        """
        faces = _checked_faces(faces, self.baseline)
        labels = checked_labels(labels, len(faces), "face")
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"training needs at least two classes, got {', '.join(classes) or 'none'}")
        if soft_labels is not None:
            soft_labels = checked_soft_labels(soft_labels, len(faces), len(classes))
            _check_targets(soft_labels, self.training_recipe.loss)
        trainer = self._trainer(len(classes))
        start = {} if initial is None else self._start(initial, classes)
        trainer.start_from(start)
        validated, made, seen = self._encode(validation, classes), dict(recipe or {}), _joined(trained_on, initial)
        keep = None
        if checkpoint is not None:
            fingerprint = self._fingerprint(faces, labels, start, soft_labels, validated)
            keep = _kept_in(Path(checkpoint), trainer, fingerprint, resume)

        def finished(history: History) -> None:
            for hook in (keep, after_epoch):
                if hook is not None:
                    hook(history)

        trainer.run(faces, targets, soft=soft_labels, validation=validated, after_epoch=finished)
        summary = _summary(trainer, labels, validated is not None)
        # All of it, and only now: new classes over the network of an earlier fit would give wrong labels.
        self.classes_, self.network_, self.training = classes, trainer.result.eval(), summary
        self.recipe, self.trained_on = made, seen
        return self

    def decision_function(self, faces: np.ndarray) -> np.ndarray:
        """Scores float32 (n, k) before softmax or sigmoid, averaged over views.

        Raises
        ------
        InputError : faces of another shape or type
        NotFittedError : nothing was fitted yet
        MemoryError : memory runs out, the device's or this process's
        """
        self._need_network()
        baseline = self.baseline
        faces = _checked_faces(faces, baseline)
        if not len(faces):
            return np.empty((0, len(self.classes_)), np.float32)
        device, precision = self._place()
        views = baseline.test_views if self.views is None else self.views
        return predict_scores(self.network_, baseline, faces, device=device, precision=precision, views=views)

    def _place(self) -> tuple[torch.device, str]:
        device = resolve_device(self.device)
        return device, resolve_precision(self.precision, device)

    def _trainer(self, classes: int) -> Trainer:
        device, precision = self._place()
        recipe = self.training_recipe
        return Trainer(self.baseline, recipe, classes, device=device, precision=precision, seed=int(self.seed))

    def _need_network(self) -> None:
        if not hasattr(self, "network_"):
            from sklearn.exceptions import NotFittedError  # scikit-learn takes 1 s to load, and is not needed else

            raise NotFittedError(f"this {self.arch} is not fitted: call fit first, or open a model with load_model")

    def outputs(self, faces: np.ndarray) -> np.ndarray:
        """The network's own outputs float64 (n, k): softmax of its scores, or sigmoids of any sum."""
        scores = self.decision_function(faces).astype(np.float64)
        sigmoid = self.training_recipe.network.get("head", self.baseline.output) == "sigmoid"
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
        self, validation: tuple[np.ndarray, Sequence[str] | np.ndarray] | None, classes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if validation is None or not len(validation[0]):
            return None
        faces = _checked_faces(validation[0], self.baseline)
        labels = checked_labels(validation[1], len(faces), "validation face")
        strange = sorted(set(labels) - set(classes))
        if strange:
            raise InputError(f"validation has classes that training has not: {', '.join(strange)}")
        return faces, np.searchsorted(classes, labels)

    def _start(self, initial: CNNClassifier, classes: np.ndarray) -> dict[str, torch.Tensor]:
        """The weights to take over from `initial`: all of them, without those per class where these differ."""
        initial._need_network()
        if self.arch != initial.arch or self._shapes(2) != initial._shapes(2):
            ours, theirs = (model.training_recipe.network for model in (self, initial))
            raise InputError(
                f"cannot start {self.arch} {ours} from a model of {initial.arch} {theirs}; "
                "give a model of the same architecture and network sizes"
            )
        weights = initial.network_.state_dict()
        if initial.labels == classes.tolist():
            return weights
        renewed = self._per_class()
        return {name: tensor for name, tensor in weights.items() if name not in renewed}

    def _per_class(self) -> set[str]:
        """Names of the tensors whose shape depends on the number of classes."""
        two, three = self._shapes(2), self._shapes(3)
        return {name for name in two if two[name] != three[name]}

    def _shapes(self, classes: int) -> dict[str, torch.Size]:
        """Shape of every tensor of the network."""
        network = outlined(self.baseline, classes, self.training_recipe.network)
        return {name: tensor.shape for name, tensor in network.state_dict().items()}

    def decided(self) -> list[Any]:
        """What decides a fit besides the data and the first weights, JSON-able: for names of what is kept of one."""
        _, precision = self._place()
        return [self.arch, self.baseline.inputs, self.training_recipe.compact(), int(self.seed), precision]

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
        data = hash_of(faces) if soft is None else hash_of(faces, np.asarray(soft, np.float32))
        run = [*self.decided(), data, digest_of(labels.tolist())]
        if start:
            weights = {name: tensor.cpu().contiguous() for name, tensor in start.items()}
            run.append(hashlib.sha256(save(weights)).hexdigest())
        if validated and self.training_recipe.chooses:
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
            "inputs": self.baseline.inputs,
            "labels": self.labels,
            "seed": int(self.seed),
            "views": self.views,
            "training_recipe": self.training_recipe.document(),
            "recipe": self.recipe,
            "training": self.training,
        }
        save_tensors(path, tensors, document)


def load_cnn(path: str | os.PathLike[str], *, device: str = "auto", precision: str = "fp32") -> CNNClassifier:
    """Read what `CNNClassifier.save` wrote.

    Raises ModelError where it is not the architecture it claims to be, or was fitted when that was handed another input
    for the same faces; MemoryError.
    """
    tensors, document = load_tensors(path, "pt")
    try:
        check_described(document)
        recipe = TrainingRecipe.from_document(document["training_recipe"])
        settings = {"seed": document["seed"], "views": document.get("views")}
        model = CNNClassifier(document["arch"], recipe, **settings, device=device, precision=precision)
        _check_inputs(path, document, model.baseline)
        model.classes_ = np.asarray(document["labels"], dtype=str)
        model.recipe, model.training = document["recipe"], document["training"]
        model.trained_on = tensors.pop(TRAINED_ON).numpy()
        network = _built(model, {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ModelError(f"{path} is not a whole CNN model: {error!r}; fit or fetch it again") from error
    model.network_ = channels_last(network.eval())  # as it was trained: equal to the last bit
    return model


def _check_inputs(path: str | os.PathLike[str], document: Mapping[str, Any], baseline: Baseline) -> None:
    """Refuse weights of another input: they fit, and are wrong. Files that do not name its version are of the first."""
    if document.get("inputs", 1) != baseline.inputs:
        raise ModelError(
            f"{path} was fitted for another input than {baseline.name} is given by this version of featurepipe: fit it "
            "again"
        )


@memory_errors()  # is no fault of the file
def _built(model: CNNClassifier, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network that a file describes, with its tensors; refused with ValueError before a larger one is built."""
    baseline, classes = model.baseline, len(model.classes_)
    sizes = model.training_recipe.network
    expected, found = (
        {name: tuple(tensor.shape) for name, tensor in named.items()}
        for named in (outlined(baseline, classes, sizes).state_dict(), tensors)
    )
    if differing := sorted(name for name, _ in expected.items() ^ found.items()):
        raise ValueError(f"{differing[0]} is {found.get(differing[0])}, expected {expected.get(differing[0])}")
    if broken := sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all()):
        raise ValueError(f"{broken[0]} holds numbers that are not finite")
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


def _kept_in(path: Path, trainer: Trainer, fingerprint: str, resume: bool) -> EpochHook:
    """Go on from the checkpoint where that is wanted and it exists; what is to be called to write it."""
    if resume and path.exists():
        trainer.load_checkpoint(path, fingerprint)
    keeper = Checkpoints(trainer, path, fingerprint)
    return lambda history: keeper.after_epoch()


def _joined(trained_on: np.ndarray | None, initial: CNNClassifier | None) -> np.ndarray:
    """Codes of the photos that the model and the one it began as were fitted on."""
    seen = [() if trained_on is None else trained_on, () if initial is None else initial.trained_on]
    return np.unique(np.concatenate([np.asarray(codes, np.int64) for codes in seen]))


def _summary(trainer: Trainer, labels: np.ndarray, watched: bool) -> dict[str, Any]:
    names, counts = np.unique(labels, return_counts=True)
    return {
        "samples": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "seconds": round(sum(row["seconds"] for row in trainer.history), 1),
        "kept": trainer.kept,
        "chosen_on": "validation" if watched and trainer.recipe.chooses else "nothing",
        "history": trainer.history,
    }


def _checked_faces(faces: Any, baseline: Baseline) -> np.ndarray:
    wanted = f"{baseline.name} takes uint8 faces of shape (n, {', '.join(map(str, baseline.shape))})"
    try:
        array = np.asanyarray(faces)
    except (TypeError, ValueError, RuntimeError) as error:  # crops of several sizes, a tensor on a GPU or of gradients
        raise InputError(f"{wanted}, which no array can be made of here: {error}") from error
    if array.dtype != np.uint8 or array.shape[1:] != baseline.shape:
        raise InputError(f"{wanted}, got {array.dtype} {array.shape}")
    return array


def _check_targets(soft: np.ndarray, loss: str) -> None:
    if loss == "multi-target" and (soft > 0).all(axis=1).any():
        raise InputError(
            "of a face whose soft labels are all above 0 multi-target takes every answer for right: give it 0 for the "
            "classes that are not to be predicted, or train with cross-entropy"
        )
