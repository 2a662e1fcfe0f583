"""lopes_cnn: a small CNN behind careful preprocessing (Lopes, de Aguiar, De Souza & Oliveira-Santos 2017).

Rotation until the eyes are level, a crop in distances between the eyes, down-sampling to 32 x 32, local contrast
normalisation; eyes moved at random make synthetic samples; of ten orders of presentation the best is kept (figures 2,
4 and 5 of the paper; baselines.md section 3). What the paper leaves open (learning rate, batch, how many epochs a run
may go without gain) is filled in. Each step can be left out by recipe, as in the paper's ablation (`Steps`).

Bare pixels are aligned too, by eyes found in the whole picture: trained on 8,000 faces of FER2013 for 12 epochs (one
seed, one order, Nesterov's momentum), 52.2 % of 2,500 PublicTest faces were right in the last three epochs, and 46.2 %
where all faces were cut at the median place of the eyes instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
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
WHOLE = 96
"""Side in pixels of the face as it is framed, before the crop."""

ACROSS, ABOVE, BELOW = 2.4, 1.3, 3.2
"""Width of the crop, and its reach above and below the eyes, in halves of the distance between them (figure 5)."""


@dataclass(frozen=True)
class Steps:
    """What is done to a face before the network sees it: the keys of a recipe's `[network]` (the paper's ablation).

    Parameters
    ----------
    align : turn it until the eyes are level
    crop : cut it by the distance between the eyes; else the whole framed face is sampled down
    crop_scale : sides of that cut, as a multiple of the paper's
    normalise : local contrast; else grey values stay in 0..1
    """

    align: bool = True
    crop: bool = True
    crop_scale: float = 1.0
    normalise: bool = True


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
    left, right = ((points[:, one] + points[:, other]) / 2 for one, other in (LEFT_EYE, RIGHT_EYE))
    return torch.stack([left, right], dim=1)


def moved_eyes(eyes: torch.Tensor, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """Eyes (n, 2, 2) with Gaussian noise of `deviation` distances between them: turn, scale and place all change."""
    if not deviation:
        return eyes
    between = (eyes[:, 1] - eyes[:, 0]).norm(dim=1)[:, None, None]
    return eyes + deviation * between * torch.randn(eyes.shape, generator=generator, device=eyes.device)


def aligned(images: torch.Tensor, eyes: torch.Tensor, steps: Steps = Steps()) -> torch.Tensor:
    """Turn each face until its eyes are level, cut it by the distance between them, and sample it down.

    Parameters
    ----------
    images : float (n, c, s, s)
    eyes : float (n, 2, 2), left and right in the picture, in shares of the side
    steps : without `align` nothing is turned; without `crop` the whole image is turned about its centre

    Returns
    -------
    float (n, c, 32, 32); the crop's height is nearly twice its width, which is not preserved. Bilinear, each row the
    mean of two (without crop each pixel the mean of 3 x 3); beyond the image its border is repeated
    """
    half = (eyes[:, 1] - eyes[:, 0]) / 2
    if not steps.align:
        half = torch.stack([half.norm(dim=1), torch.zeros_like(half[:, 0])], dim=1)
    down = torch.stack([-half[:, 1], half[:, 0]], dim=1)
    # Not by affine_grid, whose matrix product autocast would round to bf16: half a pixel.
    if steps.crop:
        centre = eyes.mean(1) + (BELOW - ABOVE) / 2 * down
        across, along = (steps.crop_scale * side for side in (ACROSS * half, (ABOVE + BELOW) * down))
    else:
        centre, across, along = torch.full_like(half, 0.5), *(functional.normalize(way, dim=1) for way in (half, down))
    finer = (2, 1) if steps.crop else (WHOLE // SIZE, WHOLE // SIZE)
    return functional.avg_pool2d(_sampled(images, centre, across, along, finer), finer)


def _sampled(
    images: torch.Tensor, centre: torch.Tensor, across: torch.Tensor, along: torch.Tensor, finer: tuple[int, int]
) -> torch.Tensor:
    """The rectangles around `centre` with the sides `across` and `along`, in `finer` times 32 rows and columns."""
    rows, columns = (
        ((torch.arange(SIZE * times, device=images.device) + 0.5) / (SIZE * times) - 0.5).view(shape)
        for times, shape in zip(finer, ((1, -1, 1, 1), (1, 1, -1, 1)), strict=True)
    )
    places = centre[:, None, None] + columns * across[:, None, None] + rows * along[:, None, None]
    return functional.grid_sample(images, 2 * places - 1, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class _Aligned(Baseline):
    """A baseline whose faces are aligned by the eyes before anything else is done to them, as far as `steps` say."""

    steps: Steps = Steps()

    def configured(self, network: Mapping[str, Any]) -> Baseline:
        steps = Steps(**network)
        return replace(self, steps=steps, normalise=_normaliser(steps), views=partial(_views, steps=steps))

    def training_inputs(self, faces: torch.Tensor, how: Augmentation, generator: torch.Generator) -> Any:
        images, points = split_landmarks(faces, POINTS)
        eyes = moved_eyes(eye_centres(points), how.eyes, generator)
        return super().training_inputs(aligned(images, eyes, self.steps), how, generator)


def _normaliser(steps: Steps) -> Callable[[torch.Tensor], torch.Tensor]:
    return local_contrast if steps.normalise else torch.clone


def _views(faces: torch.Tensor, count: int, steps: Steps = Steps()) -> list[torch.Tensor]:
    """The paper describes no test-time views: every count means the face itself."""
    images, points = split_landmarks(faces, POINTS)
    return [_normaliser(steps)(aligned(images, eye_centres(points), steps))]


def _network(classes: int, **steps: float) -> LopesCNN:
    """The steps change what it sees, not what it is."""
    return LopesCNN(classes)


LOPES_CNN = _Aligned(
    name="lopes_cnn",
    source="Lopes et al., Pattern Recognition 61, 2017",
    fidelity="near-faithful",
    published="96.76 % CK+ (six classes, eight folds of subjects), 53.44 % JAFFE; the 98.92 % often quoted is C_bin",
    framing=Framing(size=WHOLE, mode="L", margin=0.5, points=POINTS),
    view=SIZE,
    build=_network,
    normalise=local_contrast,
    views=_views,
    output="softmax",
    differs="every epoch draws one new synthetic sample of each picture, where the paper makes 70 beforehand; eyes are "
    "moved by 0.05 of their distance, whatever the picture's size, not by 3 pixels; with --epochs or --minutes compare "
    "presents the photos in one order, not in ten",
    recipe=TrainingRecipe(
        epochs=100,
        batch_size=64,
        lr=0.01,
        momentum=0.9,
        nesterov=False,
        patience=20,
        orders=10,
        augmentation=Augmentation(eyes=0.05),
        network=asdict(Steps()),
    ),
)
