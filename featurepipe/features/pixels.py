"""A backbone that returns the crops themselves: the cache that CNNs train from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from featurepipe.records import Framing


class Pixels:
    """Crops as they are: uint8 (n, *framing.shape) in and out.

    Stored in a feature table like vectors, each face is decoded and cut once for all epochs, folds and CNNs.

    Parameters
    ----------
    framing : how they are cut
    landmarks : sha256 of what found the landmarks below them; None where framing asks for none
    """

    name = "pixels"
    threads = 1
    batch_size = 32

    def __init__(self, framing: Framing, landmarks: str | None = None) -> None:
        self.framing, self.landmarks = framing, landmarks
        self.made_with: dict[str, Any] = {}

    def recipe(self) -> dict[str, Any]:
        """The feature half of a recipe; the margin is the face half's."""
        framing = {key: value for key, value in asdict(self.framing).items() if key not in ("margin", "points")}
        if not self.framing.equalise:  # as before crops could be: tables made then stay of use
            del framing["equalise"]
        landmarks = {"points": self.framing.points, "landmarks": self.landmarks} if self.framing.points else {}
        return {
            "format": 1,
            "backbone": self.name,
            "weights": None,
            "layer": "input",
            "preprocessing": framing,
            "views": 1,
            **landmarks,
        }

    def cost(self) -> None:
        """See `Backbone.cost`: crops cost nothing."""

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """The crops, uint8 (n, *framing.shape), copied: the caller may reuse its array."""
        return crops.copy()
