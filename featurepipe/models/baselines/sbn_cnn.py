"""sbn_cnn: convolutions with sparse batch normalisation (Cai, Chang, Tang, Xue & Wei, CCC 2018).

Only the order of the blocks is public: widths, input size and the meaning of "sparse" (an L1 penalty on the scales of
batch norm, as network slimming has it) are a reconstruction (baselines.md section 4).
"""

from __future__ import annotations

import torch
from torch import nn

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.dense import dense_layers
from featurepipe.networks.initial import glorot_uniform
from featurepipe.networks.views import face_itself, mirrored
from featurepipe.records import Framing

SIZE = 48


class SparseBatchNormCNN(nn.Module):
    """Three blocks (two convolutions, max pooling, batch norm) and three layers, from grey faces (n, 1, 48, 48).

    Parameters
    ----------
    classes : number of classes
    dropout : probability of dropping a unit of the first two fully connected layers while training
    """

    def __init__(self, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for after in (32, 64, 128):
            for channels in (before, after):
                layers += [nn.Conv2d(channels, after, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2), nn.BatchNorm2d(after)]
            nn.init.constant_(layers[-1].get_parameter("weight"), 0.5)
            before = after
        self.features = nn.Sequential(*layers)
        self.classifier = dense_layers((128 * 6 * 6, 1024, 512), dropout)
        self.output = nn.Linear(512, classes)
        glorot_uniform(self)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) before softmax."""
        return self.output(self.classifier(torch.flatten(self.features(faces), 1)))


SBN_CNN = Baseline(
    name="sbn_cnn",
    source="Cai et al., Chinese Control Conference 2018",
    fidelity="reconstruction",
    published="96.87 % CK+, 95.24 % JAFFE (splits not stated, most likely not by subject)",
    framing=Framing(size=SIZE, mode="L"),
    view=SIZE,
    build=SparseBatchNormCNN,
    normalise=face_itself,
    views=mirrored,
    output="softmax",
    recipe=TrainingRecipe(
        epochs=100,
        batch_size=64,
        lr=0.01,
        schedule="step",
        momentum=0.9,
        nesterov=False,
        weight_decay=5e-4,
        norm_l1=1e-4,
        augmentation=Augmentation(flip=0.5, shift=4.0, rotation=10.0),
        network={"dropout": 0.5},
    ),
)
