"""The baselines by name."""

from __future__ import annotations

from featurepipe.errors import InputError
from featurepipe.models.baselines import Baseline
from featurepipe.models.baselines.fer_vgg import FER_VGG
from featurepipe.models.baselines.seed_cnn import SEED_CNN

BASELINES = {baseline.name: baseline for baseline in (SEED_CNN, FER_VGG)}


def get_baseline(name: str) -> Baseline:
    """The record of the architecture `name`; InputError lists the known ones."""
    if name not in BASELINES:
        raise InputError(f"unknown architecture {name!r}; known are {', '.join(BASELINES)}")
    return BASELINES[name]
