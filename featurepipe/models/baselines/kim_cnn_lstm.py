"""kim_cnn_lstm: a CNN on the frames of five expression states, an LSTM over them (Kim, Baddar, Jang & Ro 2019).

Public are the two parts and the roles of the CNN's five objectives; layers, formulas and weights are a reconstruction
(baselines.md section 8). The paper trains the CNN first and the LSTM after it; here both are trained at once, and no
gradient of the LSTM reaches the CNN, which so learns from the five objectives alone.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from featurepipe.models.baselines import Baseline
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.networks.initial import glorot_uniform
from featurepipe.networks.views import standardise, standardised_and_mirrored
from featurepipe.records import Framing
from featurepipe.timelines import five_states

SIZE = 64
STATES = 5
"""Onset, onset to apex, apex, apex to offset, offset."""
FEATURES, HIDDEN = 1024, 512
MARGIN = 1.0
"""By how much a later state's feature is to lie farther away than an earlier one's (term 5)."""
CENTRE_RATE = 0.5
"""Share of the way that centres move towards a batch's features (Wen et al. 2016)."""


class KimCNNLSTM(nn.Module):
    """The network, from standardised sequences (n, 5, 64, 64), a frame per state, to class scores.

    A frame equal to the one before it stands for a state that the sequence lacks, and is passed over.

    Parameters
    ----------
    classes : number of classes
    expression, expression_spread, state, state_spread, continuity : weights of the terms E1 to E5; 0 leaves one out
    """

    expression_centres: torch.Tensor
    state_centres: torch.Tensor

    def __init__(
        self,
        classes: int,
        expression: float = 1.0,
        expression_spread: float = 1e-3,
        state: float = 0.5,
        state_spread: float = 1e-3,
        continuity: float = 0.1,
    ) -> None:
        super().__init__()
        self.weights = (expression, expression_spread, state, state_spread, continuity)
        layers: list[nn.Module] = []
        for before, after, kernel in ((1, 32, 5), (32, 64, 5), (64, 128, 3)):
            layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 8 * 8, FEATURES), nn.ReLU(inplace=True))
        self.expression = nn.Linear(FEATURES, classes)
        self.state = nn.Linear(FEATURES, STATES)
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.output = nn.Linear(HIDDEN, classes)
        self.register_buffer("expression_centres", torch.zeros(classes, FEATURES))
        self.register_buffer("state_centres", torch.zeros(classes, STATES, FEATURES))
        glorot_uniform(self)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) before softmax; in training mode features are kept for `terms`."""
        shown = _shown(frames)
        features = self.features(frames.flatten(0, 1)[:, None]).unflatten(0, shown.shape)
        if self.training:
            self._kept = features, shown
        features = _present_first(features, shown)
        count = shown.sum(1)
        # What the LSTM says at a state does not depend on those after it, so absent ones need no packing.
        told, _ = self.lstm(features.detach())
        return self.output(told.take_along_dim((count - 1)[:, None, None], 1)[:, 0])

    def terms(self, wanted: torch.Tensor) -> torch.Tensor:
        """The weighted sum of E1 to E5 over the frames of the last forward pass; moves the centres.

        Parameters
        ----------
        wanted : int64 (n,), the sequences' classes; each frame bears that of its sequence
        """
        features, shown = self._kept
        features = features.float()
        sequence, states = shown.nonzero(as_tuple=True)
        own, classes = features[shown], wanted[sequence]
        terms = (
            functional.cross_entropy(self.expression(own), classes),
            _spread(own, self.expression_centres, classes),
            functional.cross_entropy(self.state(own), states),
            _spread(own, self.state_centres.flatten(0, 1), classes * STATES + states),
            _continuity(_present_first(features, shown), shown.sum(1)),
        )
        return torch.stack([weight * term for weight, term in zip(self.weights, terms, strict=True)]).sum()


def _shown(frames: torch.Tensor) -> torch.Tensor:
    """Which frames differ from the one before, bool (n, frames); the first always does."""
    moved = (frames[:, 1:] != frames[:, :-1]).flatten(2).any(2)
    return functional.pad(moved, (1, 0), value=True)


def _present_first(features: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Features (n, states, d) in their order, those of absent states after the others."""
    order = shown.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
    return features.take_along_dim(order[..., None], 1)


def _spread(features: torch.Tensor, centres: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """Half the mean squared distance of features (m, d) from their centres (k, d), which then move towards them."""
    distance = features - centres[owner]
    with torch.no_grad():
        count = torch.bincount(owner, minlength=len(centres))
        pull = torch.zeros_like(centres).index_add_(0, owner, distance.detach())
        centres += CENTRE_RATE * pull / (1 + count[:, None])
    return 0.5 * distance.square().sum(1).mean()


def _continuity(features: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Of three states in a row the third is to lie farther from the first than the second does, by MARGIN.

    Parameters
    ----------
    features : float (n, states, d), those that are there first
    count : int (n,), how many are there

    Returns
    -------
    the mean over all three in a row; 0 where no sequence has three
    """
    unit = functional.normalize(features, dim=2)
    near, far = ((unit[:, :-2] - later).square().sum(2) for later in (unit[:, 1:-1], unit[:, 2:]))
    there = torch.arange(2, STATES, device=count.device) < count[:, None]
    return (torch.relu(MARGIN + near - far) * there).sum() / there.sum().clamp(min=1)


KIM_CNN_LSTM = Baseline(
    name="kim_cnn_lstm",
    source="Kim, Baddar, Jang & Ro, IEEE Transactions on Affective Computing 10(2), 2019; its abstract",
    fidelity="reconstruction",
    published="78.61 % MMI, 60.98 % CASME II (sequences, one person left out at a time)",
    framing=Framing(size=SIZE, mode="L"),
    view=SIZE,
    build=KimCNNLSTM,
    normalise=standardise,
    views=standardised_and_mirrored,
    output="softmax",
    differs="the CNN and the LSTM over it learn at once, by Adam, not one after the other",
    recipe=TrainingRecipe(
        epochs=60,
        batch_size=16,
        lr=1e-3,
        optimiser="adam",
        augmentation=Augmentation(flip=0.5, rotation=10.0),
        network={
            "expression": 1.0,
            "expression_spread": 1e-3,
            "state": 0.5,
            "state_spread": 1e-3,
            "continuity": 0.1,
        },
    ),
    timeline=five_states,
    recordable=False,
)
