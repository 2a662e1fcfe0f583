"""The CNN baselines, one module each; every one is a `Baseline` record under its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from featurepipe.cost import Cost, cost_of
from featurepipe.models.augment import augment, erase
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe
from featurepipe.records import Framing
from featurepipe.timelines import Timeline


@runtime_checkable
class HasTerms(Protocol):
    """A network whose paper trains it with terms of its own beside the loss of its scores."""

    def terms(self, wanted: torch.Tensor) -> torch.Tensor:
        """Their sum for the batch of the last forward pass in training mode, whose classes are `wanted`, int64 (n,)."""


@dataclass(frozen=True)
class Baseline:
    """One architecture, with everything that is not learnt.

    Parameters
    ----------
    name : as `--arch` takes it
    source : the paper it comes from
    fidelity : of the layers: "faithful" where the paper or its code says every one, "near-faithful" where a few values
        are filled in and a published count confirms them, "reconstruction" where little but the principle is public
    differs : what is known of the source's preprocessing and training, and is otherwise here; "" where nothing is
    published : the accuracy it is known for and on what; "" where there is none
    framing : how its faces are cut
    view : side in pixels of what the network sees, at most framing.size
    build : (number of classes, **recipe.network) -> network with random weights
    normalise : from float (n, c, view, view) in 0..1 to what the network's first layer takes
    views : from float (n, c, *framing.shape[:2]) in 0..1 and a number of views to that many normalised inputs, whose
        scores are averaged
    output : "softmax" or "sigmoid", the function from scores to outputs; recipe.network["head"] where it has one
    test_views : views that are averaged to predict, as the source does it
    recipe : how it is trained unless a recipe file says otherwise
    timeline : for a network of sequences: which of a sequence's frames it takes, as its c channels; their framing is
        grey. None: it takes single faces
    recordable : whether a GPU does the same for every batch, without a look from or at the CPU (`Recorded`)
    blends : whether its network takes a tensor of pixels alone, which mixup can blend
    inputs : version of what the network is handed; raised whenever equal faces would be handed to it otherwise
        (normalise, views, size or mode of framing), so that models and checkpoints of before are refused
    """

    name: str
    source: str
    fidelity: Literal["faithful", "near-faithful", "reconstruction"]
    published: str
    framing: Framing
    view: int
    build: Callable[..., torch.nn.Module]
    normalise: Callable[[torch.Tensor], torch.Tensor]
    views: Callable[[torch.Tensor, int], list[Any]]
    output: Literal["softmax", "sigmoid"]
    recipe: TrainingRecipe
    differs: str = ""
    test_views: int = 1
    timeline: Timeline | None = None
    recordable: bool = True
    blends: bool = True
    inputs: int = 1

    @property
    def frames(self) -> int:
        """Frames that it takes at once: 1, or the length of a sequence."""
        return len(self.timeline([None])) if self.timeline else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input as uint8: that of a crop, or (frames, size, size) of a sequence."""
        return (self.frames, *self.framing.shape) if self.timeline else self.framing.shape

    def configured(self, network: Mapping[str, Any]) -> Baseline:
        """The architecture as a recipe's `network` sets it, where that changes more than what `build` makes."""
        return self

    def cost(self, classes: int) -> Cost:
        """What one face, or sequence, takes in all views that are averaged to predict, for so many classes."""
        with torch.device("meta"):  # shapes alone: no weights are made and nothing is computed
            network = self.build(classes, **self.recipe.network).eval()
        channels = 3 if self.framing.mode == "RGB" else self.frames
        views = self.views(torch.zeros(1, channels, *self.framing.shape[:2]), self.test_views)
        return cost_of(network, lambda: [network(view.to("meta")) for view in views])

    def training_inputs(self, faces: torch.Tensor, how: Augmentation, generator: torch.Generator) -> Any:
        """What the network takes, of faces (n, c, *framing.shape[:2]) in 0..1 changed at random as `how` says."""
        return erase(self.normalise(augment(faces, how, self.view, generator)), how.erase, generator)
