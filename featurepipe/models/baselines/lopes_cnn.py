"""lopes_cnn: a small CNN behind careful preprocessing (Lopes, de Aguiar, De Souza & Oliveira-Santos 2017).

Rotation until the eyes are level, a crop in distances between the eyes, down-sampling to 32 x 32, local contrast
normalisation; eyes moved at random make synthetic samples; of ten orders of presentation the best is kept (figures 2,
4 and 5 of the paper; baselines.md section 3). What the paper leaves open (learning rate, batch, how many epochs a run
may go without gain) is filled in.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from featurepipe.landmarks import LEFT_EYE, RIGHT_EYE, split_landmarks
from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.initial import glorot_uniform
from featurepipe.networks.photometric import local_contrast
from featurepipe.records import Framing

POINTS: Final = 5
SIZE = 32

ACROSS, ABOVE, BELOW = 2.4, 1.3, 3.2
"""Width of the crop, and its reach above and below the eyes, in halves of the distance between them (figure 5)."""


class LopesCNN(nn.Module):
    """Two convolutions with max pooling and a layer of 256, from normalised faces (n, 1, 32, 32).

    Parameters
    ----------
    classes : number of classes
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 7),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Linear(64 * 4 * 4, 256), nn.ReLU(inplace=True))
        self.output = nn.Linear(256, classes)
        glorot_uniform(self)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) before softmax."""
        return self.output(self.classifier(torch.flatten(self.features(faces), 1)))


def eye_centres(points: torch.Tensor) -> torch.Tensor:
    """Centres (n, 2, 2) of the eyes on the left and right of the picture, of dlib's five landmarks (n, 5, 2)."""
    return torch.stack([points[:, list(corners)].mean(1) for corners in (LEFT_EYE, RIGHT_EYE)], dim=1)


def moved_eyes(eyes: torch.Tensor, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """Eyes (n, 2, 2) with Gaussian noise of `deviation` distances between them: turn, scale and place all change."""
    if not deviation:
        return eyes
    between = (eyes[:, 1] - eyes[:, 0]).norm(dim=1)[:, None, None]
    return eyes + deviation * between * torch.randn(eyes.shape, generator=generator, device=eyes.device)


def aligned(images: torch.Tensor, eyes: torch.Tensor) -> torch.Tensor:
    """Turn each face until its eyes are level, cut it by the distance between them, and sample it down.

    Parameters
    ----------
    images : float (n, c, s, s)
    eyes : float (n, 2, 2), left and right in the picture, in shares of the side

    Returns
    -------
    float (n, c, 32, 32); the crop's height is nearly twice its width, which is not preserved. Bilinear, each row the
    mean of two; where the crop leaves the image, the image's border is repeated
    """
    half = (eyes[:, 1] - eyes[:, 0]) / 2
    down = torch.stack([-half[:, 1], half[:, 0]], dim=1)
    centre = eyes.mean(1) + (BELOW - ABOVE) / 2 * down
    columns, rows = (
        ((torch.arange(count, device=images.device) + 0.5) / count - 0.5).view(shape)
        for count, shape in ((SIZE, (1, 1, -1, 1)), (2 * SIZE, (1, -1, 1, 1)))
    )
    # Not by affine_grid, whose matrix product autocast would round to bf16: half a pixel.
    across, along = ACROSS * half, (ABOVE + BELOW) * down
    places = centre[:, None, None] + columns * across[:, None, None] + rows * along[:, None, None]
    cut = functional.grid_sample(images, 2 * places - 1, padding_mode="border", align_corners=False)
    return functional.avg_pool2d(cut, (2, 1))


class _Aligned(Baseline):
    """A baseline whose faces are aligned by the eyes before anything else is done to them."""

    def training_inputs(self, faces: torch.Tensor, how: Augmentation, generator: torch.Generator) -> Any:
        images, points = split_landmarks(faces, POINTS)
        eyes = moved_eyes(eye_centres(points), how.eyes, generator)
        return super().training_inputs(aligned(images, eyes), how, generator)


def _views(faces: torch.Tensor, count: int) -> list[torch.Tensor]:
    """The paper describes no test-time views: every count means the face itself."""
    images, points = split_landmarks(faces, POINTS)
    return [local_contrast(aligned(images, eye_centres(points)))]


LOPES_CNN = _Aligned(
    name="lopes_cnn",
    source="Lopes et al., Pattern Recognition 61, 2017",
    fidelity="near-faithful",
    published="96.76 % CK+ (six classes, eight folds of subjects), 53.44 % JAFFE; the 98.92 % often quoted is C_bin",
    framing=Framing(size=96, mode="L", margin=0.5, points=POINTS),
    view=SIZE,
    build=LopesCNN,
    normalise=local_contrast,
    views=_views,
    output="softmax",
    # The paper makes 70 synthetic samples of each picture beforehand; here every epoch draws new ones.
    recipe=TrainingRecipe(
        epochs=100,
        batch_size=64,
        lr=0.01,
        momentum=0.9,
        patience=20,
        orders=10,
        augmentation=Augmentation(eyes=0.05),
    ),
)
