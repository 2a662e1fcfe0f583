"""An equal budget of time for networks of any speed: how many epochs fill it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.training_recipe import TrainingRecipe


def fill_minutes(minutes: float, probe: CNNClassifier, faces: np.ndarray, labels: np.ndarray) -> TrainingRecipe:
    """The recipe with as many epochs as fill `minutes` of training on these faces; at least one.

    Schedules are fitted to their epochs, so their number must be known before the first one: `probe`, a classifier of
    the same architecture that is thrown away, trains one epoch, whose time decides. That epoch is not part of the
    budget. It is the slowest one (kernels are chosen in it), so that the budget is rather undershot.

    Raises InputError, ModelError as `CNNClassifier.fit`.
    """
    recipe = probe.training_recipe
    probe.recipe_ = replace(recipe, epochs=1)
    seconds = max(probe.fit(faces, labels).training["history"][0]["seconds"], 0.01)
    return replace(recipe, epochs=max(1, int(minutes * 60 / seconds)))
