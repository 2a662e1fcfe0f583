"""pacnn and gacnn: patches at facial landmarks, each weighed by a gate (Li, Zeng, Shan & Chen, TIP 2019; PG-CNN 2018).

Layers, points and patches follow the authors' network definitions and script (baselines.md section 5). They start from
ImageNet's VGG-16; here the first weights are random. Their solver was not released: its settings are filled in (the
polynomial decay with the power 0.5 that the other baselines have), and so is the framing.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from featurepipe.landmarks import MIRROR_68, split_landmarks
from featurepipe.models.augment import augment_with_landmarks, erase
from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.initial import he_normal
from featurepipe.networks.views import cut_views, face_itself
from featurepipe.records import Framing

LANDMARKS: Final = 68
VIEW = 224
STRIDE, PATCH = 8, 6
"""Pixels of the view per cell of conv4_2's map, and cells of a patch's side."""
SCRIPT = 256
"""Side in pixels of the faces that the authors' script takes its points from."""

# Landmarks by their numbers in the iBUG scheme, which counts from 1.
_TAKEN = (19, 22, 23, 26, 39, 37, 44, 46, 28, 30, 49, 51, 53, 55, 59, 57)
_BROWS = 4
_MIDDLES = ((20, 38), (25, 45), (41, 42), (47, 48), (18, 59), (27, 57))
_CHEEKS = ((49, -16.0, -16.0), (55, 16.0, -16.0))
INNER_LIFT = 10.0


class Face(NamedTuple):
    """What the networks take: views (n, 3, 224, 224) in 0..1, and their 68 landmarks (n, 68, 2) in shares of a side."""

    view: torch.Tensor
    landmarks: torch.Tensor

    def to(self, device: torch.device | str) -> Face:
        """Both on `device`."""
        return Face(self.view.to(device), self.landmarks.to(device))


def patch_points(landmarks: torch.Tensor, outer_lift: float = 2.0) -> torch.Tensor:
    """The 24 points that patches are cut around.

    Sixteen landmarks, the four of the brows moved up; six points halfway between two; two cheeks beside the mouth.

    Parameters
    ----------
    landmarks : float (n, 68, 2), x and y in pixels of a face of 256 x 256
    outer_lift : pixels by which the outer end of each brow is moved up: 2 as the released script does, 8 as it means

    Returns
    -------
    float (n, 24, 2), in the same pixels
    """
    numbered = landmarks[:, torch.tensor(_TAKEN, device=landmarks.device) - 1].clone()
    numbered[:, :_BROWS, 1] -= torch.tensor([outer_lift, INNER_LIFT, INNER_LIFT, outer_lift]).to(landmarks)
    pairs = torch.tensor(_MIDDLES, device=landmarks.device) - 1
    cheeks = [landmarks[:, number - 1] + torch.tensor([x, y]).to(landmarks) for number, x, y in _CHEEKS]
    return torch.cat([numbered, landmarks[:, pairs].mean(2), torch.stack(cheeks, dim=1)], dim=1)


def view_pixels(landmarks: torch.Tensor, outer_lift: float) -> torch.Tensor:
    """The 24 points (n, 24, 2) in whole pixels of the view, of landmarks (n, 68, 2) in shares of its side."""
    return (patch_points(landmarks * SCRIPT - 0.5, outer_lift) * (VIEW / SCRIPT) + 0.5).trunc()


def patches(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Windows of 6 x 6 cells around points; what lies outside the map is 0.

    Parameters
    ----------
    maps : float (n, c, h, w)
    points : float (n, p, 2), x and y in pixels of the view, eight of which make a cell

    Returns
    -------
    float (n, p, c, 6, 6); the window begins at round(point / 8 - 3), halves away from zero
    """
    exact = points / STRIDE - PATCH / 2
    first = (exact.abs() + 0.5).floor() * exact.sign()
    height, width = maps.shape[-2:]
    # A border as wide as a window, so that windows that lie outside altogether find zeros as well.
    limits = torch.tensor([width, height], device=maps.device)
    first = first.long().clamp(min=-PATCH).minimum(limits) + PATCH
    cells = first[..., None] + torch.arange(PATCH, device=maps.device)
    columns, rows = cells[:, :, 0, None, :], cells[:, :, 1, :, None]
    padded = functional.pad(maps, (PATCH,) * 4).permute(0, 2, 3, 1)
    batch = torch.arange(len(maps), device=maps.device).view(-1, 1, 1, 1)
    return padded[batch, rows, columns].permute(0, 1, 4, 2, 3)


class _Gate(nn.Module):
    """One number in 0..1 for each of the maps (n, channels, s, s)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The padding of a 1x1 convolution, a border of biases alone, is as released.
        self.maps = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(channels, 128, 1, padding=1), _norm(128), nn.ReLU(inplace=True)
        )
        self.hidden = nn.Sequential(
            nn.Linear(128, 64), nn.BatchNorm1d(64, affine=False), nn.ReLU(inplace=True), nn.Linear(64, 1)
        )
        self.norm = nn.BatchNorm1d(1, affine=False)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.scale * self.norm(self.hidden(self.maps(maps).mean((2, 3)))))


class _GatedUnit(nn.Module):
    """Gated features (n, width) of maps whose convolutions give (n, channels, side, side)."""

    def __init__(self, convolutions: nn.Module, channels: int, side: int, width: int) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.feature = nn.Sequential(nn.Linear(channels * side * side, width), nn.ReLU(inplace=True))
        self.gate = _Gate(channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        seen = self.convolutions(maps)
        return self.gate(seen) * self.feature(torch.flatten(seen, 1))


class ACNN(nn.Module):
    """VGG-16 up to conv4_2, a gated unit on each of 24 patches, for gacnn one more on the whole face, two layers.

    Parameters
    ----------
    classes : number of classes
    whole : whether the whole face has a gated unit too: gacnn instead of pacnn
    shared : 1: one gated unit for all patches, a light variant of ours; 0: one for each, as published
    width : share of the channels of all 3x3 convolutions; below 1 a light variant of ours
    outer_lift : of `patch_points`
    dropout : probability of dropping a unit of the layer of 1024 while training
    """

    def __init__(
        self,
        classes: int,
        *,
        whole: bool,
        shared: float = 0.0,
        width: float = 1.0,
        outer_lift: float = 2.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.outer_lift, count = outer_lift, len(_TAKEN) + len(_MIDDLES) + len(_CHEEKS)
        self.input_norm = nn.BatchNorm2d(3)
        one, two, three, four = (round(channels * width) for channels in (64, 128, 256, 512))
        self.features = _convolutions(3, one, one, 0, two, two, 0, three, three, three, 0, four, four)
        self.units = nn.ModuleList(
            _GatedUnit(_convolutions(four, four, four), four, PATCH, 64) for _ in range(1 if shared else count)
        )
        last = _convolutions(four, four, 0, four, four)
        self.whole = _GatedUnit(last, four, VIEW // 2 // STRIDE, 512) if whole else None
        # Dropout before ReLU is as released.
        self.classifier = nn.Sequential(
            nn.ReLU(), nn.Linear(64 * count + 512 * whole, 1024), nn.Dropout(dropout), nn.ReLU(inplace=True)
        )
        self.output = nn.Linear(1024, classes)
        he_normal(self)

    def forward(self, faces: Face) -> torch.Tensor:
        """Class scores (n, classes) before softmax."""
        maps = self.features(self.input_norm(faces.view))
        windows = patches(maps, view_pixels(faces.landmarks, self.outer_lift)).unbind(1)
        units = [self.units[number % len(self.units)] for number in range(len(windows))]
        gated = [unit(window) for unit, window in zip(units, windows, strict=True)]
        if self.whole is not None:
            gated.append(self.whole(maps))
        return self.output(self.classifier(torch.cat(gated, dim=1)))


def _convolutions(before: int, *widths: int) -> nn.Sequential:
    """3x3 convolutions of these widths, each with batch norm and ReLU; 0 is a pooling layer."""
    layers: list[nn.Module] = []
    for after in widths:
        if after:
            layers += [nn.Conv2d(before, after, 3, padding=1), _norm(after), nn.ReLU(inplace=True)]
            before = after
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _norm(channels: int) -> nn.BatchNorm2d:
    """In the authors' Caffe networks no layer scales and shifts what batch norm has normalised."""
    return nn.BatchNorm2d(channels, affine=False)


class _WithLandmarks(Baseline):
    """A baseline whose network takes the landmarks beside the view; they move with it."""

    def training_inputs(self, faces: torch.Tensor, how: Augmentation, generator: torch.Generator) -> Any:
        images, landmarks = split_landmarks(faces, LANDMARKS)
        view, placed = augment_with_landmarks(images, landmarks, MIRROR_68, how, self.view, generator)
        return Face(erase(view, how.erase, generator), placed)


def _views(faces: torch.Tensor, count: int) -> list[Any]:
    """The view in the middle and, for 2 or 10 views, its mirror."""
    images, landmarks = split_landmarks(faces, LANDMARKS)
    size = images.shape[-1]
    placed = (landmarks * size - (size - VIEW) // 2) / VIEW
    view = Face(cut_views(images, VIEW, 1)[0], placed)
    if count == 1:
        return [view]
    turned = torch.stack([1 - placed[..., 0], placed[..., 1]], dim=2)
    return [view, Face(view.view.flip(-1), turned[:, list(MIRROR_68)])]


def _baseline(name: str, size: int, whole: bool, published: str) -> Baseline:
    return _WithLandmarks(
        name=name,
        source="Li et al., IEEE Transactions on Image Processing 28, 2019, and their released network definitions",
        fidelity="faithful",
        published=published,
        framing=Framing(size=size, mode="RGB", margin=0.2, points=LANDMARKS),
        view=VIEW,
        build=partial(ACNN, whole=whole),
        normalise=face_itself,
        views=_views,
        output="softmax",
        recipe=TrainingRecipe(
            epochs=30,
            batch_size=32,
            lr=1e-3,
            schedule="polynomial",
            momentum=0.9,
            nesterov=False,
            weight_decay=5e-4,
            augmentation=Augmentation(flip=0.5, shift=(size - VIEW) / 2),
            network={"shared": 0.0, "width": 1.0, "outer_lift": 2.0, "dropout": 0.5},
        ),
        differs="first weights are random, not ImageNet's; trained on one database at a time, without occluded copies; "
        "biases learn at the rate of weights, not at twice that",
        recordable=False,
        blends=False,
    )


_TRAINED = "seven classes, trained on both with occluded copies"
PACNN = _baseline("pacnn", VIEW, False, f"83.27 % RAF-DB, 55.33 % AffectNet ({_TRAINED})")
GACNN = _baseline(
    "gacnn", 232, True, f"85.07 % RAF-DB, 58.78 % AffectNet ({_TRAINED}); 80.54 and 54.84 are of occluded faces"
)
