"""fer-vgg as a baseline: the network of featurepipe.networks.fer_vgg, trained from scratch."""

from __future__ import annotations

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.fer_vgg import CROP, VIEW, FerVGG, views
from featurepipe.networks.views import standardise
from featurepipe.records import Framing

FER_VGG = Baseline(
    name="fer-vgg",
    source="trained here; VGG of Simonyan & Zisserman 2015 with batch norm, sized for FER2013",
    fidelity="faithful",
    published="",
    framing=Framing(size=CROP, mode="L", margin=0.3, shift=-0.08, equalise=True),  # as its weights' record has it
    view=VIEW,
    build=FerVGG,
    normalise=standardise,
    views=views,
    output="softmax",
    # The best that was tried with labels alone: set C in weights/fer-vgg.md.
    recipe=TrainingRecipe(
        epochs=30,
        batch_size=128,
        lr=0.05,
        schedule="one-cycle",
        momentum=0.9,
        weight_decay=5e-4,
        label_smoothing=0.1,
        average=0.998,
        augmentation=Augmentation(flip=0.5, shift=4.0, scale=0.15, rotation=12.0, gamma=1.5, erase=0.3, sharp=0.5),
        network={"width": 1.0, "dropout": 0.5},
    ),
)
