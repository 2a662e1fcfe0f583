"""seed_cnn as a baseline: the small CNN of Naqvi et al. 2023, with the recipe of the toolbox it matches."""

from __future__ import annotations

import torch

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import TrainingRecipe
from featurepipe.networks.seed_cnn import CROP, SeedCNN
from featurepipe.records import Framing


def _same(faces: torch.Tensor) -> torch.Tensor:
    return faces


def _one_view(faces: torch.Tensor, count: int) -> list[torch.Tensor]:
    """The paper describes no test-time views: every count means the face itself."""
    return [faces]


SEED_CNN = Baseline(
    name="seed_cnn",
    source="Naqvi et al. 2023, section on the proposed CNN; recipe of the DeepLearnToolbox CNN example (Palm 2012)",
    fidelity="faithful",
    framing=Framing(size=CROP, mode="L"),
    view=CROP,
    build=SeedCNN,
    normalise=_same,
    views=_one_view,
    output="sigmoid",
    # The toolbox steps with lr 1 in batches of 50 for 1 to 100 epochs; these values were measured here to learn.
    recipe=TrainingRecipe(epochs=40, batch_size=10, lr=0.1, loss="half-squared-error"),
)
