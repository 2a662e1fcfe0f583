"""ferplus_vgg13: the VGG13 of Barsoum et al., ICMI 2016 (arXiv 1608.01041), from their code."""

from __future__ import annotations

import torch
from torch import nn

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.dense import dense_layers
from featurepipe.networks.initial import glorot_uniform
from featurepipe.networks.photometric import equalise, without_plane
from featurepipe.networks.views import mirrored
from featurepipe.records import Framing

SIZE = 64


class FERPlusVGG13(nn.Module):
    """Ten convolutions without batch norm and two layers of 1024, from normalised faces (n, 1, 64, 64).

    Parameters
    ----------
    classes : number of classes
    dropout : share of 1: the released 0.25 after each pooling and 0.5 in the fully connected layers times this
    """

    def __init__(self, classes: int, dropout: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for after, depth in ((64, 2), (128, 2), (256, 3), (256, 3)):
            for _ in range(depth):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
                before = after
            layers += [nn.MaxPool2d(2), nn.Dropout(0.25 * dropout)]
        self.features = nn.Sequential(*layers)
        self.classifier = dense_layers((256 * 4 * 4, 1024, 1024), 0.5 * dropout)
        self.output = nn.Linear(1024, classes)
        glorot_uniform(self)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) before softmax."""
        return self.output(self.classifier(torch.flatten(self.features(faces), 1)))


def _normalise(faces: torch.Tensor) -> torch.Tensor:
    """Equalised to -1..1, freed of the plane that fits it best, and of unit deviation, as the released code does."""
    flat = without_plane(2 * equalise(faces) - 1)
    return flat / (flat.std(dim=(2, 3), keepdim=True, correction=0) + 1e-6)


def _views(faces: torch.Tensor, count: int) -> list[torch.Tensor]:
    return mirrored(_normalise(faces), count)


FERPLUS_VGG13 = Baseline(
    name="ferplus_vgg13",
    source="Barsoum et al., ICMI 2016, and their released code",
    fidelity="faithful",
    published="83.85 % FER+ (labels by majority, which are not FER2013's), 84.99 % with labels drawn from the votes",
    framing=Framing(size=SIZE, mode="L"),
    view=SIZE,
    build=FERPlusVGG13,
    normalise=_normalise,
    views=_views,
    output="softmax",
    differs="faces are scaled alike along both axes, without skew, and what lies outside repeats the border; "
    "equalisation counts half of a pixel's own level as darker, not all of it; labels are the majority's but "
    "with fit_cnn --votes",
    recipe=TrainingRecipe(
        epochs=100,
        batch_size=32,
        lr=0.005,  # CNTK's momentum weighs gradients by 1 - 0.9: its 0.05 is this
        schedule="staircase",
        momentum=0.9,
        nesterov=False,
        patience=100,  # never stops early: the best epoch on validation faces is kept
        augmentation=Augmentation(flip=0.5, shift=5.12, scale=0.05, rotation=20.0),
        network={"dropout": 1.0},
    ),
)
