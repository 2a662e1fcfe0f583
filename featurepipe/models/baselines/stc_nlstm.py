"""stc_nlstm: 3-D convolutions, an LSTM over time on each, an LSTM over these (Yu, Liu, Liu & Deng 2018).

The topology is public: nested are LSTMs over time (T-LSTM, one per layer) in one over layers (C-LSTM). Widths, depth
and recipe are a reconstruction (baselines.md section 9).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.views import standardise, standardised_and_mirrored
from featurepipe.records import Framing
from featurepipe.timelines import to_peak

SIZE, FRAMES = 64, 16
CHANNELS = (64, 128, 256, 256, 256)
HIDDEN = 256


class STCNLSTM(nn.Module):
    """The network, from standardised sequences (n, 16, 64, 64) whose last frame is the peak, to class scores.

    Parameters
    ----------
    classes : number of classes
    width : share of the full width (64-128-256-256-256) of the convolutions
    dropout : probability of dropping a unit of the last hidden state while training
    """

    def __init__(self, classes: int, width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        channels = [round(full * width) for full in CHANNELS]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv3d(before, after, 3, padding=1), nn.BatchNorm3d(after), nn.ReLU(inplace=True))
            for before, after in zip([1, *channels], channels, strict=False)
        )
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.over_time = nn.ModuleList(nn.LSTM(after, HIDDEN, batch_first=True) for after in channels)
        self.over_layers = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(HIDDEN, classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) before softmax."""
        maps = frames[:, None]
        told: list[torch.Tensor] = []
        for layer, over_time in zip(self.layers, self.over_time, strict=True):
            maps = layer(self.pool(maps) if told else maps)
            told.append(_last(over_time, maps.mean((3, 4)).transpose(1, 2)))
        return self.output(self.dropout(_last(self.over_layers, torch.stack(told, 1))))


def _last(lstm: nn.Module, steps: torch.Tensor) -> torch.Tensor:
    """The hidden state (n, hidden) after the last of steps (n, t, d)."""
    return lstm(steps)[0][:, -1]


STC_NLSTM = Baseline(
    name="stc_nlstm",
    source="Yu, Liu, Liu & Deng, Neurocomputing 317, 2018; its abstract",
    fidelity="reconstruction",
    published="99.80 % CK+ (seven classes with contempt), 93.45 % Oulu-CASIA and 84.53 % MMI (six); sequences, ten "
    "folds of subjects",
    framing=Framing(size=SIZE, mode="L"),
    view=SIZE,
    build=STCNLSTM,
    normalise=standardise,
    views=standardised_and_mirrored,
    output="softmax",
    # SGD with lr 0.01 and momentum 0.9 had learnt nothing of rendered sequences after four epochs.
    recipe=TrainingRecipe(
        epochs=60,
        batch_size=16,
        lr=1e-3,
        optimiser="adam",
        augmentation=Augmentation(flip=0.5, rotation=10.0),
        network={"width": 1.0, "dropout": 0.5},
    ),
    timeline=partial(to_peak, count=FRAMES),
)
