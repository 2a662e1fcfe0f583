"""mollahosseini_inception: two convolutions and three inception modules (Mollahosseini, Chan & Mahoor, WACV 2016).

Kernels, strides and the fully connected sizes are those of the paper's figure 1, the widths GoogLeNet's (Szegedy et al.
2015); together they give the 7.3 M parameters that others report (baselines.md section 2).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.initial import glorot_uniform
from featurepipe.networks.views import face_itself, mirrored
from featurepipe.records import Framing

SIZE = 48
_pool = partial(nn.MaxPool2d, 3, stride=2, ceil_mode=True)


def _convolution(before: int, after: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, kernel, stride, padding=kernel // 2), nn.ReLU(inplace=True))


class Inception(nn.Module):
    """GoogLeNet's module: 1x1, reduced 3x3, reduced 5x5 and pooled 1x1 convolutions side by side.

    Parameters
    ----------
    before : channels in
    one, pooled : channels out of the plain and of the pooling branch
    three, five : reduced channels and channels out of the 3x3 and of the 5x5 branch
    """

    def __init__(self, before: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.one = _convolution(before, one, 1)
        self.three = nn.Sequential(_convolution(before, three[0], 1), _convolution(*three, 3))
        self.five = nn.Sequential(_convolution(before, five[0], 1), _convolution(*five, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _convolution(before, pooled, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (n, before, h, w) to (n, one + three + five + pooled, h, w)."""
        return torch.cat([self.one(maps), self.three(maps), self.five(maps), self.pooled(maps)], dim=1)


class MollahosseiniInception(nn.Module):
    """The network of figure 1, from grey faces (n, 1, 48, 48) in 0..1 to class scores.

    Parameters
    ----------
    classes : number of classes
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _convolution(1, 64, 7, 2),
            _pool(),
            _convolution(64, 64, 1),
            _convolution(64, 192, 3),
            _pool(),
            Inception(192, 64, (96, 128), (16, 32), 32),
            Inception(256, 128, (128, 192), (32, 96), 64),
            _pool(),
            Inception(480, 192, (96, 208), (16, 48), 64),
            _pool(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(512, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 1024), nn.ReLU(inplace=True)
        )
        self.output = nn.Linear(1024, classes)
        glorot_uniform(self)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) before softmax."""
        return self.output(self.classifier(torch.flatten(self.features(faces), 1)))


MOLLAHOSSEINI = Baseline(
    name="mollahosseini_inception",
    source="Mollahosseini, Chan & Mahoor, WACV 2016, figure 1; widths of GoogLeNet",
    fidelity="near-faithful",
    published="66.4 % FER2013 (mean of its own five folds)",
    framing=Framing(size=SIZE, mode="L"),
    view=SIZE,
    build=MollahosseiniInception,
    normalise=face_itself,
    views=mirrored,
    output="softmax",
    differs="faces are cut around the detector's box, not registered to the mean face; crops are drawn at random, "
    "shifted by up to 4 pixels and zoomed by up to a tenth, not the five of 40 pixels and their mirrors",
    recipe=TrainingRecipe(
        epochs=200,
        batch_size=128,
        lr=0.01,
        schedule="polynomial",
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        augmentation=Augmentation(flip=0.5, shift=4.0, scale=0.1),
    ),
)
