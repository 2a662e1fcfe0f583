"""seed_cnn as a baseline: the small CNN of Naqvi et al. 2023, with the recipe of the toolbox it matches."""

from __future__ import annotations

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import TrainingRecipe
from featurepipe.networks.seed_cnn import CROP, SeedCNN
from featurepipe.networks.views import face_itself, one_view
from featurepipe.records import Framing


def _build(classes: int, head: str = "sigmoid") -> SeedCNN:
    """The network, which ends with scores: making outputs of them, as `head` says, is the classifier's affair."""
    return SeedCNN(classes)


SEED_CNN = Baseline(
    name="seed_cnn",
    source="Naqvi et al. 2023, section on the proposed CNN; recipe of the DeepLearnToolbox CNN example (Palm 2012)",
    fidelity="near-faithful",
    published="92.81 % CK+ (eight classes, random frames of the same sequences on both sides)",
    framing=Framing(size=CROP, mode="L"),
    view=CROP,
    build=_build,
    normalise=face_itself,
    views=one_view,
    output="sigmoid",
    differs="the toolbox steps with lr 1 in batches of 50 for up to 100 epochs, from other first weights; these "
    "were measured to learn",
    recipe=TrainingRecipe(epochs=40, batch_size=10, lr=0.1, loss="half-squared-error", network={"head": "sigmoid"}),
)
