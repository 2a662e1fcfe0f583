"""Recipes: how features were made, and what must match between a table and a model (design.md "Recipe").

The feature half must match; the face half (how faces were found and cut) may differ and is only reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurepipe.errors import RecipeMismatch

Half = Mapping[str, Any]

FEATURE_KEYS = ("format", "backbone", "weights", "layer", "preprocessing", "views")
"""Keys every feature half has; a backbone may add more (int8), and they are compared too."""

NO_WEIGHTS = "none"
"""Stands for the sha256 of the weights in the feature half of a backbone that has none."""

BOX_KEYS = ("detector", "detector_weights", "max_side")
"""The part of the face half that boxes depend on: faces are stored under it. HOG's has UNSURE_KEY too."""

UNSURE_KEY = "unsure"
"""Key of the score above which faces count in photos where the detector is sure of none."""

FACE_KEYS = (*BOX_KEYS, "margin", "policy")
"""Keys of a face half."""


def box_recipe(face_half: Half) -> dict[str, Any]:
    """The part of a face half that boxes depend on."""
    return {key: face_half[key] for key in (*BOX_KEYS, UNSURE_KEY) if key in face_half}


def differences(first: Half, second: Half) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with both values; None stands for a key that one side lacks."""
    keys = sorted({*first, *second})
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def compare_feature_halves(features: Half, model: Half) -> None:
    """Pass where features may be given to a model.

    Raises
    ------
    RecipeMismatch : the feature halves differ; the text has each key that differs with both values
    """
    differing = differences(features, model)
    if differing:
        listed = "; ".join(f"{key}: {here!r} here, {there!r} in the model" for key, (here, there) in differing.items())
        raise RecipeMismatch(
            f"the features were not made in the way the model was fitted on ({listed}): "
            "extract with the model's own settings, or fit a model on these features"
        )


def face_half_notes(here: Half, model: Half) -> list[str]:
    """What to print where faces were found or cut otherwise than for the model: one line, or none where equal."""
    differing = differences(here, model)
    if not differing:
        return []
    listed = ", ".join(f"{key} {now!r} (model: {then!r})" for key, (now, then) in differing.items())
    return [f"note: faces are found or cut otherwise than when the model was fitted: {listed}"]
