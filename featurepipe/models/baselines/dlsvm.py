"""dlsvm: the winner of FER2013's challenge, a CNN under linear SVMs (Tang, ICML workshop 2013, arXiv 1306.0239).

Facts from the author's released network and scripts (baselines.md section 10). His control, softmax in place of the
SVMs, is `head = "softmax"` under `[network]` in a recipe, with `head_weight_decay = 0.002`. `dlsvm_paper` has the two
stages that the paper's text speaks of.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.views import cut_views
from featurepipe.records import Framing

CROP, VIEW = 48, 42
NORM = 150.0
SPREAD = 5.0
"""Standard deviations of the first weights, in multiples of the author's: with his own nothing is learnt here."""


class DLSVM(nn.Module):
    """Two or three convolutions, a layer of 3072 and one linear SVM per class, from views (n, 1, 42, 42) of norm 150.

    Parameters
    ----------
    classes : number of classes
    dropout : probability of dropping a unit of the layer below the SVMs while training
    spread : standard deviations of the first weights, in multiples of the author's
    bias : first bias of every SVM
    stages : of convolution and pooling
    """

    def __init__(
        self, classes: int, dropout: float = 0.2, *, spread: float = SPREAD, bias: float = 0.0, stages: int = 3
    ) -> None:
        super().__init__()
        # Stands in for the statistics of each pixel over the training set, which the author computes beforehand.
        self.pixels = nn.BatchNorm1d(VIEW * VIEW, eps=1e-4, affine=False)
        layers = _stage(nn.Conv2d(1, 32, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True))
        if stages == 3:
            layers += _stage(nn.Conv2d(32, 32, 4, padding=1), nn.AvgPool2d(3, 2, ceil_mode=True))
            layers += _stage(nn.Conv2d(32, 64, 5, padding=2), nn.AvgPool2d(3, 2, ceil_mode=True))
        else:
            layers += _stage(nn.Conv2d(32, 32, 5, padding=2), nn.AvgPool2d(3, 2, padding=1, count_include_pad=False))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(64 * 5 * 5 if stages == 3 else 32 * 11 * 11, 3072)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(3072, classes)
        _initialise(self, spread, bias)

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        """Scores (n, classes): the signed distances of the one-vs-rest SVMs, scaled."""
        each_pixel = self.pixels(torch.flatten(view, 1)).view(view.shape)
        hidden = torch.relu(self.fc(torch.flatten(self.features(each_pixel), 1)))
        # The author's dropout leaves what it keeps as it is in training, and multiplies by 1 - p afterwards.
        return self.output((1 - self.dropout.p) * self.dropout(hidden))


def _stage(convolution: nn.Conv2d, pool: nn.Module) -> list[nn.Module]:
    return [convolution, nn.ReLU(inplace=True), pool]


def _initialise(network: DLSVM, spread: float, bias: float) -> None:
    """Gaussian weights and small positive biases, and SVMs without weights, as released but for spread and bias."""
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01 * spread)
            nn.init.constant_(layer.get_parameter("bias"), 0.1)
    nn.init.normal_(network.fc.weight, std=0.001 * spread)
    nn.init.constant_(network.fc.bias, 0.01)
    nn.init.zeros_(network.output.weight)
    nn.init.constant_(network.output.bias, bias)


def _normalise(faces: torch.Tensor) -> torch.Tensor:
    """Each face without its mean and of norm 150; a constant face becomes 0."""
    centred = faces - faces.mean((1, 2, 3), keepdim=True)
    return NORM * centred / centred.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-2)


def _views(faces: torch.Tensor, count: int) -> list[torch.Tensor]:
    return [_normalise(view) for view in cut_views(faces, VIEW, count)]


def _build(classes: int, dropout: float = 0.2, head: str = "svm", *, spread: float = SPREAD, stages: int = 3) -> DLSVM:
    """The network, which ends with scores: what is made of them, as `head` says, is the classifier's affair.

    SVMs begin with the score that has the least loss where classes are equally frequent and nothing is known of a face.
    From 0 the gradient that all faces share would silence the second convolution within ten steps.
    """
    return DLSVM(classes, dropout, spread=spread, bias=2 / classes - 1 if head == "svm" else 0.0, stages=stages)


DLSVM_BASELINE = Baseline(
    name="dlsvm",
    source="Tang, arXiv 1306.0239, and the author's released network and scripts",
    fidelity="faithful",
    published="71.16 % FER2013 PrivateTest (eight networks, 64 jitters per picture)",
    framing=Framing(size=CROP, mode="L"),
    view=VIEW,
    build=_build,
    normalise=_normalise,
    views=_views,
    output="softmax",
    differs="faces are centred and scaled to norm 150 after the warp, not before it, and statistics of each pixel are "
    "so those of warped views, a batch at a time; scaled by 0.83 to 1.2, not from 0.8; first weights are spread five "
    "times as wide, and the SVMs' first biases are 2 / classes - 1, since it learns nothing here from those of the "
    "release (weights/trials.md); one network with its last weights instead of eight with five snapshots each; one "
    "view at the end instead of 64 jitters",
    recipe=TrainingRecipe(
        epochs=446,
        batch_size=256,
        lr=0.05,
        schedule="inverse-step",
        momentum=0.9,
        early_momentum=0.5,
        nesterov=False,
        weight_decay=1e-4,
        head_weight_decay=0.02,
        loss="squared-hinge",
        augmentation=Augmentation(flip=0.5, shift=3.0, scale=0.2, rotation=45.0),
        network={"dropout": 0.2, "head": "svm", "spread": SPREAD},
    ),
)

DLSVM_PAPER = replace(
    DLSVM_BASELINE,
    name="dlsvm_paper",
    source="Tang, arXiv 1306.0239, by its text and the 12 million parameters that others count",
    fidelity="near-faithful",
    build=partial(_build, stages=2),
)
