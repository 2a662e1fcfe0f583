"""Training a CNN baseline: epochs of SGD with checkpoints that a later run can continue from."""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

from featurepipe.devices import autocast
from featurepipe.errors import InputError, ModelError
from featurepipe.files import replacing
from featurepipe.models.augment import augment, erase
from featurepipe.models.baselines import Baseline, HasTerms
from featurepipe.models.training_recipe import TrainingRecipe

EpochHook = Callable[[dict[str, float]], None]
History = list[dict[str, float]]

SVM_C = 2.0
"""C of the squared hinge loss (Tang 2013)."""
PATIENCE = 5
"""Epochs that schedule "plateau" waits."""


class Trainer:
    """One training run: a network, its moving average, the optimiser, and how far they have come.

    Parameters
    ----------
    baseline : the architecture
    recipe : how to train
    classes : number of classes
    device, precision : where, and in what arithmetic ("fp32" or "bf16")
    seed : decides initial weights, order, augmentation and dropout
    """

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
        self.baseline, self.recipe, self.seed = baseline, recipe, seed
        self.device, self.precision = device, precision
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = baseline.build(classes, **recipe.network)
            average = baseline.build(classes, **recipe.network)
        self.network = channels_last(network.to(device))
        self.average = channels_last(average.to(device))
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = _optimiser(self.network, recipe)
        self.epoch = 0
        self.history: History = []

    @property
    def result(self) -> nn.Module:
        """The network to use: the moving average where the recipe asks for one, else the trained one."""
        return self.average if self.recipe.average else self.network

    def start_from(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin with these weights instead of random ones; those not named stay random."""
        for network in (self.network, self.average):
            network.load_state_dict({**self.network.state_dict(), **weights})

    def run(
        self,
        faces: np.ndarray,
        targets: np.ndarray,
        *,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Train for the epochs that are left; each appends a row to `history` and is then told to `after_epoch`.

        Parameters
        ----------
        faces : uint8 (n, *baseline.shape), memory-mapped or not
        targets : int (n,), class indices
        validation : faces and targets of their own, scored after every epoch with one view

        Raises InputError where there are fewer faces than one batch. After KeyboardInterrupt the run can go on
        from the last checkpoint: an epoch that was not finished leaves no trace there.
        """
        if len(faces) < self.recipe.batch_size:
            raise InputError(
                f"{len(faces)} training faces are fewer than one batch of {self.recipe.batch_size}; "
                "give more photos, or a recipe with a smaller batch_size"
            )
        while self.epoch < self.recipe.epochs:
            started = time.perf_counter()
            row = self._one_epoch(faces, targets)
            if validation:
                row["val_accuracy"] = self.accuracy(*validation)
            row["seconds"] = round(time.perf_counter() - started, 2)
            self.epoch += 1
            self.history.append({"epoch": self.epoch, **row})
            if after_epoch:
                after_epoch(self.history[-1])

    def _one_epoch(self, faces: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every face once, in an order and with changes that seed and epoch alone decide."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed * 100_003 + self.epoch)  # dropout draws from the global generator
            generator = torch.Generator(self.device).manual_seed(self.seed * 100_003 + self.epoch)
            order = torch.randperm(len(faces), generator=generator, device=self.device).cpu().numpy()
            size = self.recipe.batch_size
            steps = len(faces) // size
            self.network.train()
            # Sums stay on the device: reading a number in every step would make a GPU wait for the CPU, and back.
            sums = torch.zeros(2, dtype=torch.float64, device=self.device)
            for step in range(steps):
                chosen = order[step * size : (step + 1) * size]
                inputs = self._training_inputs(faces[chosen], generator)
                wanted = torch.as_tensor(targets[chosen], device=self.device)
                self._set_rate(self.epoch + step / steps)
                sums += self._one_step(inputs, wanted)
        loss, right = sums.tolist()
        if not math.isfinite(loss):
            raise ModelError(
                f"training diverged in epoch {self.epoch + 1}: the loss is not a number; try a recipe with a "
                f"smaller lr than {self.recipe.lr}"
            )
        seen = steps * size
        return {"lr": self._rate(self.epoch), "loss": loss / steps, "train_accuracy": right / seen}

    def _one_step(self, inputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Returns the batch's mean loss and its number of right answers, on the device."""
        with autocast(self.device, self.precision):
            scores = self.network(inputs)
        loss = _loss(scores.float(), wanted, self.recipe)
        if self.recipe.norm_l1:
            loss = loss + self.recipe.norm_l1 * _norm_scales(self.network)
        if isinstance(self.network, HasTerms):
            loss = loss + self.network.terms(wanted)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if self.recipe.average:
            _move_towards(self.average, self.network, self._decay())
        return torch.stack([loss.detach(), (scores.argmax(1) == wanted).sum()]).double()

    def _training_inputs(self, faces: np.ndarray, generator: torch.Generator) -> torch.Tensor:
        how = self.recipe.augmentation
        images = augment(to_unit(faces, self.device), how, self.baseline.view, generator)
        return erase(self.baseline.normalise(images), how.erase, generator)

    def _rate(self, epoch: float) -> float:
        """Learning rate at a point in time given in epochs."""
        return self.recipe.lr * SHARES[self.recipe.schedule](epoch / self.recipe.epochs, self.recipe, self.history)

    def _set_rate(self, epoch: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(epoch)

    def _decay(self) -> float:
        """Decay of the moving average: shorter while it is young, so that it forgets the random start."""
        return min(self.recipe.average, 0.9 + 0.1 * self.epoch / (self.epoch + 4))

    def accuracy(self, faces: np.ndarray, targets: np.ndarray) -> float:
        """Share of faces whose class the network to use gets right, with one view."""
        scores = predict_scores(self.result, self.baseline, faces, device=self.device, precision=self.precision)
        return float((scores.argmax(1) == targets).mean())

    def save_checkpoint(self, path: Path, fingerprint: str) -> None:
        """Write all that a later run needs to go on; `fingerprint` names the data and settings it belongs to."""
        state = {
            "fingerprint": fingerprint,
            "epoch": self.epoch,
            "history": self.history,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with replacing(path) as stream:
            stream.write(buffer.getbuffer())

    def load_checkpoint(self, path: Path, fingerprint: str) -> None:
        """Go on from where `path` was written. Raises ModelError where it is damaged or of another run."""
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise ModelError(f"could not read the checkpoint {path}: {error}; delete it to start anew") from error
        if state.get("fingerprint") != fingerprint:
            raise ModelError(
                f"the checkpoint {path} belongs to other data, another recipe, seed or architecture; "
                "repeat the command that wrote it, or delete it to start anew"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.history = state["epoch"], state["history"]


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
    tensor = tensor.to(device, non_blocking=True)
    if tensor.ndim == 3:
        tensor = tensor[:, None]
    elif tensor.shape[-1] == 3:
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.to(torch.float32).div_(255)


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
    faces : uint8 (n, *baseline.shape)
    batch_size : crops at once, of which a sequence is several

    Returns
    -------
    float32 (n, classes), before softmax or sigmoid
    """
    network.eval()
    rows: list[np.ndarray] = []
    with torch.inference_mode():
        step = max(1, batch_size // baseline.frames)
        for start in range(0, len(faces), step):
            crops = to_unit(faces[start : start + step], device)
            with autocast(device, precision):
                scores = [network(view).float() for view in baseline.views(crops, views)]
            rows.append(torch.stack(scores).mean(0).cpu().numpy())
    return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)


def _loss(scores: torch.Tensor, wanted: torch.Tensor, recipe: TrainingRecipe) -> torch.Tensor:
    if recipe.loss == "cross-entropy":
        return functional.cross_entropy(scores, wanted, label_smoothing=recipe.label_smoothing)
    onehot = functional.one_hot(wanted, scores.shape[1]).to(scores)
    if recipe.loss == "squared-hinge":
        return SVM_C * torch.relu(1 - (2 * onehot - 1) * scores).square().sum(1).mean()
    return 0.5 * (torch.sigmoid(scores) - onehot).square().sum(1).mean()


def _norm_scales(network: nn.Module) -> torch.Tensor:
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.affine]
    return torch.stack([layer.weight.abs().sum() for layer in norms]).sum()


def _one_cycle(done: float, recipe: TrainingRecipe, history: History) -> float:
    if done < recipe.warmup:
        return max(done / recipe.warmup, 0.04)
    return 0.5 + 0.5 * math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup))


def _plateau(done: float, recipe: TrainingRecipe, history: History) -> float:
    """0.75 to the power of how often five epochs in a row brought nothing better (Khaireddin & Chen 2021)."""
    best, waited, cuts = -math.inf, 0, 0
    for row in history:
        score = row.get("val_accuracy", -row["loss"])
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == PATIENCE:
            waited, cuts = 0, cuts + 1
    return 0.75**cuts


SHARES: dict[str, Callable[[float, TrainingRecipe, History], float]] = {
    "constant": lambda done, recipe, history: 1.0,
    "one-cycle": _one_cycle,
    "polynomial": lambda done, recipe, history: math.sqrt(1 - done),
    "step": lambda done, recipe, history: 0.1 ** ((done >= 0.6) + (done >= 0.8)),
    "plateau": _plateau,
}
"""By schedule: (share of the epochs done, recipe, history) to the share of the recipe's lr."""


def _optimiser(network: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    groups = _decayed_apart(network, recipe)
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _decayed_apart(network: nn.Module, recipe: TrainingRecipe) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels alone: decaying biases and batch norm only weakens the fit."""
    matrices = [weights for weights in network.parameters() if weights.ndim > 1]
    others = [weights for weights in network.parameters() if weights.ndim <= 1]
    head = recipe.weight_decay if recipe.head_weight_decay is None else recipe.head_weight_decay
    groups = [(matrices[:-1], recipe.weight_decay), (matrices[-1:], head), (others, 0.0)]
    return [{"params": weights, "weight_decay": decay} for weights, decay in groups]


@torch.no_grad()
def _move_towards(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Average weights and batch norm statistics alike: statistics of the last weights would not fit."""
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    get_ema_multi_avg_fn(decay)([kept for kept, _ in floats], [new for _, new in floats], 0)
    for kept, new in pairs:
        if not kept.is_floating_point():
            kept.copy_(new)
