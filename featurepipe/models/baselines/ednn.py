"""ednn: two concatenating residual blocks (Jain, Shamsolmoali & Sehdev, Pattern Recognition Letters 120, 2019).

Layers follow the paper's table as a third party implemented it; the count of 4,102,023 parameters at 48x48 and seven
classes agrees with theirs (baselines.md section 7). Their convolutions are linear; here each ends in ReLU, or none does
(`linear`). The paper says that intensities are normalised, not how: here each face has mean 0 and deviation 1.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.dense import dense_layers
from featurepipe.networks.initial import glorot_uniform
from featurepipe.networks.views import standardise, standardised_and_mirrored
from featurepipe.records import Framing

SIZE = 48


def _convolution(
    before: int, after: int, kernel: int, *, stride: int = 1, padding: int = 0, linear: bool = False
) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride, padding)
    return nn.Sequential(convolution) if linear else nn.Sequential(convolution, nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Four convolutions whose result is joined to the input, not added: (n, c, h, w) to (n, 256 + c, h, w)."""

    def __init__(self, before: int, *, linear: bool) -> None:
        super().__init__()
        self.u = _convolution(before, 64, 1, linear=linear)
        self.v = _convolution(64, 64, 3, padding=1, linear=linear)
        self.y = _convolution(128, 128, 3, padding=1, linear=linear)
        self.z = _convolution(128, 256, 1, linear=linear)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps joined with what the block makes of them."""
        u = self.u(maps)
        return torch.cat([self.z(self.y(torch.cat([u, self.v(u)], 1))), maps], 1)


class EDNN(nn.Module):
    """The network, from standardised grey faces (n, 1, 48, 48) to class scores.

    Parameters
    ----------
    classes : number of classes
    dropout : probability of dropping a unit of the two fully connected layers while training
    linear : whether convolutions are followed by no ReLU
    """

    def __init__(self, classes: int, dropout: float = 0.2, *, linear: bool = False) -> None:
        super().__init__()
        convolution, block = partial(_convolution, linear=linear), partial(ResidualBlock, linear=linear)
        self.features = nn.Sequential(
            convolution(1, 32, 5, stride=2),
            nn.MaxPool2d(2),
            convolution(32, 64, 3),
            block(64),
            convolution(320, 128, 3, padding=1),
            nn.MaxPool2d(2),
            convolution(128, 128, 3),
            block(128),
            convolution(384, 256, 3, padding=1),
            nn.MaxPool2d(2),
            convolution(256, 512, 3, padding=1),
        )
        self.classifier = dense_layers((512, 1024, 512), dropout)
        self.output = nn.Linear(512, classes)
        glorot_uniform(self)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) before softmax."""
        return self.output(self.classifier(torch.flatten(self.features(faces), 1)))


EDNN_BASELINE = Baseline(
    name="ednn",
    source="Jain, Shamsolmoali & Sehdev, Pattern Recognition Letters 120, 2019, as re-implemented by others",
    fidelity="near-faithful",
    published="93.24 % CK+, 95.23 % JAFFE (splits not stated); 47.4 % FER2013 by an undertrained re-implementation",
    framing=Framing(size=SIZE, mode="L"),
    view=SIZE,
    build=EDNN,
    normalise=standardise,
    views=standardised_and_mirrored,
    output="softmax",
    recipe=TrainingRecipe(
        epochs=100,
        batch_size=128,
        lr=1e-3,
        optimiser="adam",
        augmentation=Augmentation(flip=0.5, shift=4.0),
        network={"dropout": 0.2, "linear": False},
    ),
    inputs=2,  # 1: grey values as they are
)
