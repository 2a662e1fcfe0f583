"""Training a CNN baseline: epochs of SGD with checkpoints that a later run can continue from."""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from featurepipe.devices import autocast, memory_errors, widest_float
from featurepipe.errors import InputError, ModelError
from featurepipe.files import replacing
from featurepipe.models.augment import drawn, mix
from featurepipe.models.averaging import move_towards, own_statistics, to_average, uphill
from featurepipe.models.baselines import Baseline, HasTerms
from featurepipe.models.recorded import Compute, Recorded
from featurepipe.models.training_recipe import TrainingRecipe

History = list[dict[str, float]]
EpochHook = Callable[[History], None]
"""Called after every epoch with the epochs so far, those before a resume among them."""

SVM_C = 2.0
"""C of the squared hinge loss (Tang 2013)."""
NOT_ACCEPTED = 0.001
"""Weight of classes that are not among several accepted ones (Barsoum et al. 2016, their epsilon)."""
CHECKPOINT_EVERY = 20
"""Writing a checkpoint is followed by at least this many times its own duration of training."""
CROP_AREA = 100 * 100
"""Pixels of the largest crops that are predicted in full batches: memory is what their maps take."""
PATIENCE = 5
"""Epochs without gain that schedule "plateau" bears."""
AVERAGE_BATCHES = 32
"""Batches from which the averaged weights get their batch norm statistics."""
EARLY = 0.1
"""Share of the steps that have the recipe's early_momentum."""


def check_recipe(recipe: TrainingRecipe, baseline: Baseline) -> None:
    """Raise InputError where an architecture cannot be trained so, before faces are looked for; no weights are made."""
    _check_settings(recipe, baseline)
    try:
        network = outlined(baseline, 2, recipe.network)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"training recipe, network: {baseline.name} cannot be built with {recipe.network} ({error}); leave out "
            "what differs from its own recipe"
        ) from error
    if not all(weights.numel() for weights in network.parameters()):
        raise InputError(f"training recipe, network: {recipe.network} leaves {baseline.name} a layer without units")
    if recipe.norm_l1 and not _norms(network):
        raise InputError(
            f"training recipe: norm_l1 = {recipe.norm_l1}, and {baseline.name} has no batch norm of maps with scales; "
            "set it to 0"
        )


def _check_settings(recipe: TrainingRecipe, baseline: Baseline) -> None:
    """Refuse what would change nothing, or cannot be done to this architecture's faces."""
    if recipe.augmentation.eyes and not baseline.recipe.augmentation.eyes:
        raise InputError(f"training recipe, augmentation: {baseline.name} does not align faces by eyes to be moved")
    if recipe.mixup and not baseline.blends:
        raise InputError(
            f"training recipe: {baseline.name} takes landmarks too, which mixup cannot blend; set mixup = 0"
        )
    for name, needed in recipe.without_effect.items():
        raise InputError(
            f"training recipe: {name} = {getattr(recipe, name)!r} has no effect but with {needed}; leave it out"
        )


def outlined(baseline: Baseline, classes: int, network: Mapping[str, Any]) -> nn.Module:
    """The network without its numbers: layers and shapes, whatever their size, take next to no memory."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return baseline.build(classes, **network)


class Trainer:
    """A training run, or several by the recipe's orders: a network, its moving average, the optimiser, the best so far.

    Parameters
    ----------
    baseline : the architecture
    recipe : how to train
    classes : number of classes
    device, precision : where, and in what arithmetic ("fp32" or "bf16")
    seed : decides initial weights, order, augmentation and dropout

    Raises InputError as `check_recipe` does, MemoryError where the network does not fit into memory.
    """

    @memory_errors()
    def __init__(
        self,
        baseline: Baseline,
        recipe: TrainingRecipe,
        classes: int,
        *,
        device: torch.device,
        precision: str,
        seed: int,
    ) -> None:
        check_recipe(recipe, baseline)
        self.baseline, self.recipe, self.classes, self.seed = baseline, recipe, classes, seed
        self.device, self.precision = device, precision
        with _seeded(seed):
            network = baseline.build(classes, **recipe.network)
            average = baseline.build(classes, **recipe.network)
        self.network = channels_last(network.to(device))
        self.average = channels_last(average.to(device))
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = _optimiser(self.network, recipe)
        self._generator = torch.Generator(device)
        self.order, self.epoch = 1, 0
        self.history: History = []
        self.best: dict[str, torch.Tensor] = {}
        self.start_from({})
        # Listing a network's tensors takes a millisecond: not in every step.
        self._pairs = to_average(self.average, self.network)

    @property
    def result(self) -> nn.Module:
        """The network to use: the moving average where the recipe asks for one, else the trained one."""
        return self.average if self.recipe.average else self.network

    def start_from(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin with these weights instead of random ones; those not named stay random."""
        for network in (self.network, self.average):
            network.load_state_dict({**self.network.state_dict(), **weights})
        self._first = _copied(self.network) if self.recipe.orders > 1 else {}

    @property
    def kept(self) -> dict[str, float]:
        """The row of `history` whose weights become the model: the best one with patience, else the last."""
        if not self.best:
            return self.history[-1]
        return max(self.history, key=lambda row: row["val_accuracy"])

    @memory_errors()
    def run(
        self,
        faces: np.ndarray,
        targets: np.ndarray,
        *,
        soft: np.ndarray | None = None,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Train for the epochs that are left; each appends a row to `history`, which `after_epoch` is then given.

        With patience in the recipe the weights that are best on the validation faces are in `result` at the end.

        Parameters
        ----------
        faces : uint8 (n, *baseline.shape), memory-mapped or not
        targets : int (n,), class indices
        soft : float (n, classes), each row a distribution; blended with the targets by the recipe's soft_weight
        validation : faces and targets of their own, scored after every epoch with one view

        Raises InputError where there are fewer faces than one batch, MemoryError where memory runs out, the device's or
        this process's. After that and KeyboardInterrupt the run can go on from the last checkpoint: an epoch that was
        not finished leaves no trace there.
        """
        if len(faces) < self.recipe.batch_size:
            raise InputError(
                f"{len(faces)} training faces are fewer than one batch of {self.recipe.batch_size}; "
                "give more photos, or a recipe with a smaller batch_size"
            )
        source = _Source(faces, self.device)
        gradients = self._gradients_of(source, self._wanted(targets, soft))
        while self._goes_on(self.recipe.orders if validation else 1):
            started = time.perf_counter()
            with _tuned(self.device):
                row = self._one_epoch(source, gradients)
            if validation:
                row["val_accuracy"] = self.accuracy(*validation)
            row["seconds"] = round(time.perf_counter() - started, 2)
            self.epoch += 1
            self._keep({"epoch": self.epoch, **row})
            if after_epoch:
                after_epoch(self.history)
        if self.best:
            self.result.load_state_dict(self.best)

    def _keep(self, row: dict[str, float]) -> None:
        """Add a row to the history; with patience keep the weights too, where none before were as good."""
        before = max((earlier.get("val_accuracy", -1.0) for earlier in self.history), default=-1.0)
        self.history.append({"order": self.order, **row} if self.recipe.orders > 1 else row)
        if self.recipe.patience and row.get("val_accuracy", -1.0) > before:
            self.best = _copied(self.result)

    def _goes_on(self, orders: int) -> bool:
        """Whether an epoch is left; where this run has ended and another order is left, that one begins."""
        if self.epoch < self.recipe.epochs and (not self.best or self._waited() < self.recipe.patience):
            return True
        if self.order == orders:
            return False
        self.order, self.epoch = self.order + 1, 0
        for network in (self.network, self.average):
            network.load_state_dict(self._first)
        self.optimiser = _optimiser(self.network, self.recipe)
        return True

    def _waited(self) -> int:
        """Epochs of this run since the one of its best val_accuracy."""
        accuracies = [row["val_accuracy"] for row in self._run()]
        return len(accuracies) - 1 - int(np.argmax(accuracies)) if accuracies else 0

    def _run(self) -> History:
        """The history of this order alone."""
        return [row for row in self.history if row.get("order", 1) == self.order]

    def _wanted(self, targets: np.ndarray, soft: np.ndarray | None) -> _Wanted:
        """What is to be predicted, on the device."""
        classes = torch.as_tensor(targets, device=self.device, dtype=torch.long)
        distribution = functional.one_hot(classes, self.classes).float()
        if soft is not None:
            distribution = torch.lerp(distribution, torch.as_tensor(soft).to(distribution), self.recipe.soft_weight)
        return _Wanted(classes, distribution)

    def _one_epoch(self, source: _Source, gradients: Compute) -> dict[str, float]:
        """Every face once, in an order and with changes that seed, order and epoch alone decide."""
        seed = self.seed * 100_003 + (self.order - 1) * 10_007 + self.epoch
        with _seeded(seed):  # dropout draws from the global generator
            self._generator.manual_seed(seed)
            order = torch.randperm(len(source), generator=self._generator, device=self.device)
            size = self.recipe.batch_size
            steps = len(source) // size
            self.network.train()
            # Sums stay on the device: reading a number in every step would make a GPU wait for the CPU, and back.
            sums = torch.zeros(2, dtype=widest_float(self.device), device=self.device)
            for step in range(steps):
                sums += gradients(order[step * size : (step + 1) * size])
                self._set_rate(self.epoch + step / steps)
                self._update(self.epoch * steps + step)
            if self.recipe.average:
                self._give_statistics(source, order[: size * AVERAGE_BATCHES].split(size)[:steps])
        loss, right = sums.tolist()
        if not (math.isfinite(loss) and _finite(self.result)):  # no loss tells what the last step did
            raise ModelError(
                f"training diverged in epoch {self.epoch + 1}: the loss or a weight is not a number; try a recipe "
                f"with a smaller lr than {self.recipe.lr}"
            )
        seen = steps * size
        return {"lr": self._rate(self.epoch), "loss": loss / steps, "train_accuracy": right / seen}

    def _gradients_of(self, source: _Source, wanted: _Wanted) -> Compute:
        """From indices of a batch to its mean loss and number of right answers, gradients left in the network."""

        def gradients(chosen: torch.Tensor) -> torch.Tensor:
            inputs = self.baseline.training_inputs(source[chosen], self.recipe.augmentation, self._generator)
            distribution = wanted.distribution[chosen]
            if self.recipe.draw_labels:
                distribution = drawn(distribution, self._generator)
            inputs, distribution = mix(inputs, distribution, self.recipe.mixup, self._generator)
            return self._gradients(inputs, wanted.classes[chosen], distribution)

        recordable = source.held is not None and self.baseline.recordable
        return Recorded(gradients, self._generator) if recordable else gradients

    def _gradients(self, inputs: Any, classes: torch.Tensor, distribution: torch.Tensor) -> torch.Tensor:
        """Mean loss and number of right answers; the gradients are those uphill of the weights, with sharpness."""
        found = self._loss_and_gradients(inputs, classes, distribution)
        if self.recipe.sharpness:
            with uphill(self.network, self.recipe.sharpness):
                self._loss_and_gradients(inputs, classes, distribution)
        return found

    def _loss_and_gradients(self, inputs: Any, classes: torch.Tensor, distribution: torch.Tensor) -> torch.Tensor:
        with autocast(self.device, self.precision):
            scores = self.network(inputs)
        loss = _loss(scores.float(), distribution, self.recipe)
        if self.recipe.norm_l1:
            loss = loss + self.recipe.norm_l1 * _norm_scales(self.network)
        if isinstance(self.network, HasTerms):
            loss = loss + self.network.terms(classes)
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        return torch.stack([loss.detach(), (scores.argmax(1) == classes).sum()]).to(widest_float(self.device))

    def _update(self, before: int) -> None:
        """Step number `before`, from 0, of the optimiser and of the moving average, by the gradients of the last batch.

        While it is young the average is of the last third of the steps: so it forgets where they began.
        """
        self.optimiser.step()
        if self.recipe.average:
            move_towards(self._pairs, min(self.recipe.average, (before + 1) / (before + 4)))

    def _give_statistics(self, source: _Source, batches: Sequence[torch.Tensor]) -> None:
        """Give the averaged weights batch norm statistics of their own."""
        with own_statistics(self.average), autocast(self.device, self.precision):
            for chosen in batches:
                self.average(self.baseline.training_inputs(source[chosen], self.recipe.augmentation, self._generator))

    def _rate(self, epoch: float) -> float:
        """Learning rate at a point in time given in epochs."""
        return self.recipe.lr * SHARES[self.recipe.schedule](epoch / self.recipe.epochs, self.recipe, self._run())

    def _set_rate(self, epoch: float) -> None:
        early = epoch / self.recipe.epochs < EARLY and self.recipe.early_momentum is not None
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(epoch)
            if "momentum" in group:
                group["momentum"] = self.recipe.early_momentum if early else self.recipe.momentum

    def accuracy(self, faces: np.ndarray, targets: np.ndarray) -> float:
        """Share of faces whose class the network to use gets right, with one view."""
        scores = predict_scores(self.result, self.baseline, faces, device=self.device, precision=self.precision)
        return float((scores.argmax(1) == targets).mean())

    def save_checkpoint(self, path: Path, fingerprint: str) -> None:
        """Write all that a later run needs to go on; `fingerprint` names the data and settings it belongs to."""
        state = {
            "fingerprint": fingerprint,
            "order": self.order,
            "epoch": self.epoch,
            "history": self.history,
            "best": self.best,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with replacing(path) as stream:
            stream.write(buffer.getbuffer())

    def load_checkpoint(self, path: Path, fingerprint: str) -> None:
        """Go on from where `path` was written. Raises ModelError where it is damaged or of another run, MemoryError."""
        try:
            with memory_errors():
                state: Any = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise ModelError(f"could not read the checkpoint {path}: {error}; delete it to start anew") from error
        if not isinstance(state, dict):
            raise ModelError(f"{path} is no checkpoint of fit_cnn: delete it to start anew")
        if state.get("fingerprint") != fingerprint:
            raise ModelError(
                f"the checkpoint {path} belongs to other data, another recipe, seed or architecture; "
                "repeat the command that wrote it with the featurepipe that wrote it, or delete it to start anew"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.order, self.epoch, self.history = state["order"], state["epoch"], state["history"]
        self.best = state["best"]


def _finite(network: nn.Module) -> bool:
    return bool(torch.stack([tensor.isfinite().all() for tensor in network.state_dict().values()]).all())


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


class Checkpoints:
    """Writes a run's checkpoint between epochs, so seldom that it takes about a twentieth of the time at most."""

    def __init__(self, trainer: Trainer, path: Path, fingerprint: str) -> None:
        self.trainer, self.path, self.fingerprint = trainer, path, fingerprint
        self._due = 0.0

    def after_epoch(self) -> None:
        """To be called after every epoch; writes where it is time again."""
        started = time.perf_counter()
        if started < self._due:
            return
        self.trainer.save_checkpoint(self.path, self.fingerprint)
        self._due = time.perf_counter() + CHECKPOINT_EVERY * (time.perf_counter() - started)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's global generators begin at `seed`, and afterwards go on from where they were.

    Those of GPUs are kept only where the program has GPUs in use: asking for them would start every one.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _tuned(device: torch.device) -> Iterator[None]:
    """cuDNN tries its ways of each convolution once and keeps the fastest: every step has the same shapes."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@dataclass(frozen=True)
class _Wanted:
    """What is to be predicted of each training face: class indices int64 (n,), and distributions float32 (n, k)."""

    classes: torch.Tensor
    distribution: torch.Tensor


class _Source:
    """Training faces by their indices, as float (n, c, h, w) in 0..1 on the device.

    A GPU holds them all where they take at most a quarter of its free memory: copying batch after batch made it wait.
    """

    def __init__(self, faces: np.ndarray, device: torch.device) -> None:
        self.faces, self.device = faces, device
        fits = device.type == "cuda" and faces.nbytes * 4 <= torch.cuda.mem_get_info(device)[0]
        self.held = torch.from_numpy(np.array(faces, order="C")).to(device) if fits else None

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, chosen: torch.Tensor) -> torch.Tensor:
        if self.held is not None:
            return _unit(self.held[chosen])
        return to_unit(self.faces[chosen.cpu().numpy()], self.device)


def channels_last(network: nn.Module) -> nn.Module:
    """The network, its kernels of 2-D convolutions in the layout that is fastest for them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    return network


def to_unit(faces: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (n, h, w), (n, h, w, 3) or sequences (n, frames, h, w) to float (n, c, h, w) in 0..1 on `device`."""
    # A copy in row-major order: memory-mapped faces are read-only, which torch warns of.
    tensor = torch.from_numpy(np.array(faces, order="C"))
    if device.type == "cuda":  # only a copy from pinned memory lets the CPU go on
        tensor = tensor.pin_memory()
    return _unit(tensor.to(device, non_blocking=True))


def _unit(faces: torch.Tensor) -> torch.Tensor:
    if faces.ndim == 3:
        faces = faces[:, None]
    elif faces.shape[-1] == 3:
        faces = faces.permute(0, 3, 1, 2)
    return faces.to(torch.float32).div_(255)


@memory_errors()
def predict_scores(
    network: nn.Module,
    baseline: Baseline,
    faces: np.ndarray,
    *,
    device: torch.device,
    precision: str = "fp32",
    views: int = 1,
    batch_size: int = 256,
) -> np.ndarray:
    """Class scores of faces, averaged over views.

    Parameters
    ----------
    network : moved to `device` where it is elsewhere
    faces : uint8 (n, *baseline.shape)
    batch_size : inputs at once, where they have up to CROP_AREA pixels, and fewer of larger ones

    Returns
    -------
    float32 (n, classes), before softmax or sigmoid

    Raises
    ------
    MemoryError : memory runs out, the device's or this process's
    """
    network.eval().to(device)
    rows: list[np.ndarray] = []
    with torch.inference_mode():
        step = max(1, min(batch_size, batch_size * CROP_AREA // (baseline.frames * baseline.framing.size**2)))
        for start in range(0, len(faces), step):
            crops = to_unit(faces[start : start + step], device)
            with autocast(device, precision):
                scores = [network(view).float() for view in baseline.views(crops, views)]
            rows.append(torch.stack(scores).mean(0).cpu().numpy())
    return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)


def _loss(scores: torch.Tensor, wanted: torch.Tensor, recipe: TrainingRecipe) -> torch.Tensor:
    """The recipe's loss of scores against distributions, both (n, k); a plain label is a distribution without doubt."""
    if recipe.loss == "cross-entropy":
        return functional.cross_entropy(scores, wanted, label_smoothing=recipe.label_smoothing)
    if recipe.loss == "squared-hinge":
        return SVM_C * torch.relu(1 - (2 * wanted - 1) * scores).square().sum(1).mean()
    if recipe.loss == "multi-target":
        accepted = NOT_ACCEPTED + (1 - NOT_ACCEPTED) * (wanted > 0)
        return -(functional.log_softmax(scores, dim=1) + accepted.log()).amax(1).mean()
    return 0.5 * (torch.sigmoid(scores) - wanted).square().sum(1).mean()


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.affine]


def _norm_scales(network: nn.Module) -> torch.Tensor:
    return torch.stack([layer.weight.abs().sum() for layer in _norms(network)]).sum()


def _one_cycle(done: float, recipe: TrainingRecipe, history: History) -> float:
    if done < recipe.warmup:
        return max(done / recipe.warmup, 0.04)
    return 0.5 + 0.5 * math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup))


def _plateau(done: float, recipe: TrainingRecipe, history: History) -> float:
    """0.75 to the power of how often too many epochs in a row brought nothing better (Khaireddin & Chen 2021)."""
    best, waited, cuts = -math.inf, 0, 0
    for row in history:
        score = row.get("val_accuracy", -row["loss"])
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited > PATIENCE:
            waited, cuts = 0, cuts + 1
    return 0.75**cuts


SHARES: dict[str, Callable[[float, TrainingRecipe, History], float]] = {
    "constant": lambda done, recipe, history: 1.0,
    "one-cycle": _one_cycle,
    "polynomial": lambda done, recipe, history: math.sqrt(1 - done),
    "step": lambda done, recipe, history: 0.1 ** ((done >= 0.6) + (done >= 0.8)),
    "staircase": lambda done, recipe, history: 1.0 if done < 0.2 else 0.5 if done < 0.4 else 0.1,
    "inverse-step": lambda done, recipe, history: 0.1 ** ((done >= 2 / 3) + (done >= 5 / 6)) / (1 + 2.5 * done),
    "plateau": _plateau,
}
"""By schedule: (share of the epochs done, recipe, history) to the share of the recipe's lr."""


def _optimiser(network: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    groups = _decayed_apart(network, recipe)
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, lr=recipe.lr)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


def _decayed_apart(network: nn.Module, recipe: TrainingRecipe) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels, elsewhere where the recipe says so: there it only weakens the fit."""
    matrices = [weights for weights in network.parameters() if weights.ndim > 1]
    others = [weights for weights in network.parameters() if weights.ndim <= 1]
    head = recipe.weight_decay if recipe.head_weight_decay is None else recipe.head_weight_decay
    groups = [
        (matrices[:-1], recipe.weight_decay),
        (matrices[-1:], head),
        (others, recipe.weight_decay * recipe.decay_all),
    ]
    return [{"params": weights, "weight_decay": decay} for weights, decay in groups]
