"""What networks of sequences share; frames are channels, as (n, frames, h, w)."""

from __future__ import annotations

import torch

from featurepipe.networks.fer_vgg import standardise
from featurepipe.networks.views import mirrored


def sequence_views(frames: torch.Tensor, count: int) -> list[torch.Tensor]:
    """The sequence and, for 2 or 10 views, its mirror; standardised as a whole, so that frames stay comparable."""
    return mirrored(standardise(frames), count)
