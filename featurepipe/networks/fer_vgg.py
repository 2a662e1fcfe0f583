"""fer-vgg: a small VGG with batch norm for 48x48 grey faces, whose fc7 has 4096 units.

Four blocks of two or three 3x3 convolutions (Simonyan & Zisserman 2015, with the batch norm of Ioffe & Szegedy 2015),
fc6 of 512, fc7 of 4096. At width 1 it has 10.8 M parameters and costs 0.51 G multiply-adds for one 44x44 view.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from featurepipe.networks.views import cut_views, standardise

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3))
"""Channels and convolutions of each block."""
FC6, FC7 = 512, 4096
CROP, VIEW = 48, 44


def views(crops: torch.Tensor, count: int) -> list[torch.Tensor]:
    """The 1, 2 or 10 views of 44x44 that are averaged: centre; and its mirror; and the four corners and theirs.

    Parameters
    ----------
    crops : float (n, 1, 48, 48) in 0..1
    count : 1, 2 or 10

    Returns
    -------
    `count` tensors (n, 1, 44, 44), standardised
    """
    return [standardise(view) for view in cut_views(crops, VIEW, count)]


class FerVGG(nn.Module):
    """The network, from one standardised 44x44 view to class scores.

    Parameters
    ----------
    classes : number of classes
    width : share of the full width (64-128-256-512) of the convolutions
    dropout : probability of dropping a unit of fc6 and fc7 while training
    """

    def __init__(self, classes: int, width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        before = 1
        for number, (full, count) in enumerate(BLOCKS, 1):
            after = round(full * width)
            for part in range(1, count + 1):
                layers[f"conv{number}_{part}"] = nn.Conv2d(before, after, 3, padding=1, bias=False)
                layers[f"norm{number}_{part}"] = nn.BatchNorm2d(after)
                layers[f"relu{number}_{part}"] = nn.ReLU(inplace=True)
                before = after
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        side = VIEW >> len(BLOCKS)
        self.fc6, self.norm6 = nn.Linear(before * side * side, FC6, bias=False), nn.BatchNorm1d(FC6)
        self.fc7_, self.norm7 = nn.Linear(FC6, FC7, bias=False), nn.BatchNorm1d(FC7)
        self.fc8 = nn.Linear(FC7, classes)
        self.dropout = nn.Dropout(dropout)

    def fc7(self, view: torch.Tensor) -> torch.Tensor:
        """fc7 after ReLU, (n, 4096) and never negative, of views (n, 1, 44, 44)."""
        flat = torch.flatten(self.features(view), 1)
        fc6 = self.dropout(torch.relu(self.norm6(self.fc6(flat))))
        return torch.relu(self.norm7(self.fc7_(fc6)))

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) before softmax, of views (n, 1, 44, 44)."""
        # fc7 is long: scaled down (by 8) it lets fc8 share the learning rate of the other layers.
        return self.fc8(self.dropout(self.fc7(view)) * FC7**-0.25)
