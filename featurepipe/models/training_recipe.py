"""How a CNN is trained, as data: read from a TOML file, stored in the model, compared on resume."""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurepipe.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """Random changes to each training face; every range is symmetric around "no change".

    Parameters
    ----------
    flip : probability of mirroring left and right
    shift : largest shift in each direction, in pixels of the crop
    scale : largest relative change of size (0.1: between 1/1.1 and 1.1)
    rotation : largest turn in degrees
    gamma : largest exponent of the brightness curve (1.5: between 1/1.5 and 1.5; 1: unchanged)
    erase : probability of blanking one rectangle of 2 to 20 % of the area (Zhong et al. 2020)
    sharp : probability of moving by whole pixels alone, neither turned nor scaled: interpolation blurs, and the faces
        to predict are not blurred
    eyes : standard deviation of each eye's place around the one found, in distances between the eyes; of
        architectures that align faces by their eyes (Lopes et al. 2017)
    """

    flip: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    rotation: float = 0.0
    gamma: float = 1.0
    erase: float = 0.0
    sharp: float = 0.0
    eyes: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside their ranges with InputError."""
        _refuse_other_types(self)
        for item in dataclasses.fields(self):
            name, least = item.name, 1 if item.name == "gamma" else 0
            most = 1 if name in ("flip", "erase", "sharp") else math.inf
            if not least <= getattr(self, name) <= most:
                raise InputError(f"training recipe, augmentation: {name} = {getattr(self, name)!r} is out of range")


SCHEDULES = ("constant", "one-cycle", "polynomial", "step", "staircase", "inverse-step", "plateau")
LOSSES = ("cross-entropy", "half-squared-error", "squared-hinge", "multi-target")
HEADS = {"sigmoid": "half-squared-error", "softmax": "cross-entropy", "svm": "squared-hinge"}
"""The loss that goes with each head, for architectures that leave a choice."""
ONLY_WITH = {
    "label_smoothing": ("loss", "cross-entropy"),
    "momentum": ("optimiser", "sgd"),
    "early_momentum": ("optimiser", "sgd"),
    "nesterov": ("optimiser", "sgd"),
    "warmup": ("schedule", "one-cycle"),
}
"""What has an effect with one value of another key alone."""


@dataclass(frozen=True)
class TrainingRecipe:
    """Everything that decides the weights besides data, seed and architecture.

    Parameters
    ----------
    epochs : passes over the training faces
    batch_size : faces per step; an incomplete last batch is left out
    lr : learning rate, the highest one where the schedule varies it
    optimiser : "sgd" or "adam"
    schedule : "constant"; "one-cycle": linear rise over `warmup` of the steps, then a cosine to zero; "polynomial":
        falls to zero as the square root of what is left; "step": a tenth after 60 % and again after 80 %; "staircase":
        a half after 20 % and a tenth after 40 % (Barsoum et al. 2016); "inverse-step": 1 / (1 + 2.5 t) at the share t
        of the steps, a tenth of that after two thirds and again after five sixths (Tang 2013); "plateau": three
        quarters after more than five epochs that bring no better val_accuracy (or loss, where nothing is watched)
    momentum : of SGD
    early_momentum : in the first tenth of the steps, where it differs
    nesterov : whether the gradient is that of the place where momentum leads
    weight_decay : of matrices and kernels
    decay_all : of biases and batch norm too
    head_weight_decay : of the last layer's matrix, where it differs
    norm_l1 : weight of the L1 norm of batch norm's scales in the loss
    loss : "cross-entropy"; "half-squared-error" between sigmoid outputs and one-hot targets; "squared-hinge": that of
        one linear SVM per class with C = 2 (Tang 2013); "multi-target": minus the logarithm of the largest probability
        among the classes that are to be predicted, the others counting a thousandth (Barsoum et al. 2016)
    label_smoothing : of the cross-entropy
    soft_weight : share of the soft labels, where fit is given some, in what is to be predicted; the rest is the label
    draw_labels : whether each epoch draws one label per face anew from its soft labels (Barsoum et al. 2016)
    mixup : share of the faces blended, with their labels, with another one by a uniform ratio (Zhang et al. 2018,
        eq. 1 with alpha = 1)
    patience : epochs in a row without a better val_accuracy that end a run; the best weights become the model then. 0,
        or nothing watched: all epochs, and the last weights
    orders : runs from the same first weights that differ in the order of the faces and in what else is drawn at random;
        the best val_accuracy of all becomes the model. Needs patience; nothing watched: one run
    average : decay per step of the moving average of weights that becomes the model, with batch norm statistics of its
        own (Izmailov et al. 2018); 0: the last weights
    sharpness : length of the step uphill from which each gradient is taken, so that training ends where the loss is
        flat (Foret et al. 2021, rho in eq. 2); takes twice the time; 0: none
    augmentation : of the training faces
    network : arguments of the architecture; "head", where it has one, goes with its loss (HEADS), which a file that
        changes the head alone need not name

    What has no effect with the loss, optimiser or schedule (ONLY_WITH) is refused where a network is trained and not
    here: models of before open.
    """

    epochs: int
    batch_size: int
    lr: float
    optimiser: str = "sgd"
    schedule: str = "constant"
    warmup: float = 0.2
    momentum: float = 0.0
    early_momentum: float | None = None
    nesterov: bool = True
    weight_decay: float = 0.0
    decay_all: bool = False
    head_weight_decay: float | None = None
    norm_l1: float = 0.0
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    soft_weight: float = 0.0
    draw_labels: bool = False
    mixup: float = 0.0
    patience: int = 0
    orders: int = 1
    average: float = 0.0
    sharpness: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    network: dict[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values outside their ranges with InputError, before an hour of training is spent on them."""
        _refuse_other_types(self)
        checks = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 2,  # batch norm has no statistics of one face
            "lr": 0 < self.lr < math.inf,
            "optimiser": self.optimiser in ("sgd", "adam"),
            "schedule": self.schedule in SCHEDULES,
            "warmup": 0 < self.warmup < 1,
            "momentum": 0 <= self.momentum < 1,
            "early_momentum": self.early_momentum is None or 0 <= self.early_momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "head_weight_decay": self.head_weight_decay is None or self.head_weight_decay >= 0,
            "norm_l1": self.norm_l1 >= 0,
            "loss": self.loss in LOSSES,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "soft_weight": 0 <= self.soft_weight <= 1,
            "draw_labels": not self.draw_labels or self.soft_weight > 0,
            "mixup": 0 <= self.mixup <= 1,
            "patience": self.patience >= 0,
            "orders": self.orders == 1 or (self.orders > 1 and self.patience > 0),
            "average": 0 <= self.average < 1,
            "sharpness": 0 <= self.sharpness < math.inf,
        }
        for name, fine in checks.items():
            if not fine:
                raise InputError(f"training recipe: {name} = {getattr(self, name)!r} is outside its range")
        head = self.network.get("head")
        several = head == "softmax" and self.loss == "multi-target"
        if head is not None and HEADS.get(str(head)) != self.loss and not several:
            known = ", ".join(f"{name} with {loss}" for name, loss in HEADS.items())
            raise InputError(f"training recipe, network: head = {head!r} with loss = {self.loss!r}; known are {known}")

    @property
    def chooses(self) -> bool:
        """Whether validation faces decide something: which epoch's weights are kept, or the learning rate."""
        return self.patience > 0 or self.schedule == "plateau"

    @property
    def without_effect(self) -> dict[str, str]:
        """Values that differ from their defaults and change nothing, by name: the setting that they go with."""
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        return {
            name: f"{key} = {wanted!r}"
            for name, (key, wanted) in ONLY_WITH.items()
            if getattr(self, key) != wanted and getattr(self, name) != defaults[name]
        }

    def document(self) -> dict[str, Any]:
        """As a JSON-able dictionary; `from_document` reads it back."""
        return dataclasses.asdict(self)

    def compact(self) -> dict[str, Any]:
        """The document without what is as it is by default: a setting that a later version adds leaves it the same."""
        augmentation = _unlike_default(self.augmentation)
        return {**_unlike_default(self), **({"augmentation": augmentation} if augmentation else {})}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], base: TrainingRecipe | None = None) -> TrainingRecipe:
        """Build a recipe from a dictionary whose missing keys come from `base`; unknown keys raise InputError.

        What goes with the loss, optimiser or schedule of `base` alone (ONLY_WITH) does not come along to another.
        """
        values = base.document() if base else {}
        _refuse_unknown(document, {item.name for item in dataclasses.fields(cls)}, "training recipe")
        augmentation = document.get("augmentation", {})
        known = {item.name for item in dataclasses.fields(Augmentation)}
        _refuse_unknown(augmentation, known, "training recipe, augmentation")
        merged = {**values, **document}
        merged["augmentation"] = Augmentation(**{**values.get("augmentation", {}), **augmentation})
        network = document.get("network", {})
        _refuse_unknown(network, set(base.network) if base else set(network), "training recipe, network")
        for name, value in network.items():
            _check_argument(name, value, (base.network if base else network)[name])
        if "head" in network and "loss" not in document:
            merged["loss"] = HEADS.get(network["head"], merged.get("loss"))
        for name, (key, wanted) in ONLY_WITH.items():
            if name not in document and merged.get(key, wanted) != wanted:
                merged.pop(name, None)
        merged["network"] = {**values.get("network", {}), **network}
        return cls(**merged)


def _unlike_default(values: Augmentation | TrainingRecipe) -> dict[str, Any]:
    """Fields by name that are not as they are by default."""
    return {
        item.name: getattr(values, item.name)
        for item in dataclasses.fields(values)
        if item.name != "augmentation" and getattr(values, item.name) != _default_of(item)
    }


def _default_of(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def read_recipe(path: str | os.PathLike[str], base: TrainingRecipe) -> TrainingRecipe:
    """Read a TOML file of recipe values; those it leaves out come from `base`. Raises InputError."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"could not read the training recipe {path}: {error}; expected a TOML file") from error
    return TrainingRecipe.from_document(document, base)


TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "str": (str,),
    "bool": (bool,),
}
"""What a field annotated so takes; TOML and JSON write whole numbers without a point."""


def _refuse_other_types(values: Augmentation | TrainingRecipe) -> None:
    for item in dataclasses.fields(values):
        value = getattr(values, item.name)
        wanted = TYPES.get(str(item.type))
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            raise InputError(f"training recipe: {item.name} = {value!r} is no {item.type}")


def _check_argument(name: str, value: Any, own: Any) -> None:
    """Refuse a head that there is not, and what is no bool or no number of at least 0, whichever `own` is."""
    if name == "head":
        if value not in tuple(HEADS):
            raise InputError(f"training recipe, network: head = {value!r}; known are {', '.join(HEADS)}")
    elif isinstance(own, bool):
        if not isinstance(value, bool):
            raise InputError(f"training recipe, network: {name} = {value!r} is neither true nor false")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"training recipe, network: {name} = {value!r} is no number of at least 0")


def _refuse_unknown(document: Any, known: set[str], what: str) -> None:
    if not isinstance(document, Mapping):
        raise InputError(f"{what}: expected a table of values, got {document!r}")
    unknown = sorted(set(document) - known)
    if unknown:
        raise InputError(f"{what}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
