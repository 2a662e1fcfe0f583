"""agrawal_a and agrawal_b: one kernel size and one number of filters through the whole depth (Agrawal & Mittal 2020).

The paper's principles are public (no fully connected layer, no dropout, strided convolutions instead of pooling), its
two networks are not: depth, kernels and widths here are a reconstruction (baselines.md section 6), and so are first
weights, input and learning rate. With Glorot's weights, faces in 0..1 and a rate of 1e-3 the features of agrawal_a
soon are the same for all faces, and it learns no more than how frequent the classes are.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import TrainingRecipe
from featurepipe.networks.initial import he_normal
from featurepipe.networks.views import standardise, standardised_and_mirrored
from featurepipe.records import Framing

SIZE, DEPTH = 64, 6


class AgrawalCNN(nn.Module):
    """Six convolutions with ReLU, every second of stride 2, global average pooling and a 1x1 classifier.

    Parameters
    ----------
    classes : number of classes
    kernel, filters : the one kernel size and the one number of filters
    """

    def __init__(self, classes: int, *, kernel: int, filters: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(DEPTH):
            # "same" for even kernels too: the odd pixel of padding goes right and below, where stride 2 never looks.
            before, stride, padding = filters if number else 1, 1 + number % 2, (kernel - 1) // 2
            if stride == 1 and kernel % 2 == 0:
                layers.append(nn.ZeroPad2d((0, 1, 0, 1)))
            layers += [nn.Conv2d(before, filters, kernel, stride, padding), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(filters, classes)
        he_normal(self)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) of standardised grey faces (n, 1, 64, 64)."""
        return self.classifier(self.features(faces).mean((2, 3)))


def _baseline(name: str, kernel: int, filters: int, published: str) -> Baseline:
    return Baseline(
        name=name,
        source="Agrawal & Mittal, The Visual Computer 36, 2020",
        fidelity="reconstruction",
        published=published,
        framing=Framing(size=SIZE, mode="L"),
        view=SIZE,
        build=partial(AgrawalCNN, kernel=kernel, filters=filters),
        normalise=standardise,
        views=standardised_and_mirrored,
        output="softmax",
        recipe=TrainingRecipe(epochs=100, batch_size=128, lr=3e-4, optimiser="adam"),
        inputs=2,  # 1: grey values as they are
    )


AGRAWAL_A = _baseline("agrawal_a", 8, 32, "65.77 % FER2013 (split use not stated)")
AGRAWAL_B = _baseline("agrawal_b", 4, 64, "65.23 % FER2013 (split use not stated)")
