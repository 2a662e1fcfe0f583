"""The baselines by name."""

from __future__ import annotations

from featurepipe.errors import InputError
from featurepipe.models.baselines import Baseline
from featurepipe.models.baselines.acnn import GACNN, PACNN
from featurepipe.models.baselines.agrawal import AGRAWAL_A, AGRAWAL_B
from featurepipe.models.baselines.dlsvm import DLSVM_BASELINE, DLSVM_PAPER
from featurepipe.models.baselines.ednn import EDNN_BASELINE
from featurepipe.models.baselines.fer_vgg import FER_VGG
from featurepipe.models.baselines.ferplus_vgg13 import FERPLUS_VGG13
from featurepipe.models.baselines.kc_vgg import KC_VGG
from featurepipe.models.baselines.kim_cnn_lstm import KIM_CNN_LSTM
from featurepipe.models.baselines.lopes_cnn import LOPES_CNN
from featurepipe.models.baselines.mollahosseini import MOLLAHOSSEINI
from featurepipe.models.baselines.sbn_cnn import SBN_CNN
from featurepipe.models.baselines.seed_cnn import SEED_CNN
from featurepipe.models.baselines.stc_nlstm import STC_NLSTM

BASELINES = {
    baseline.name: baseline
    for baseline in (
        SEED_CNN,
        FER_VGG,
        MOLLAHOSSEINI,
        LOPES_CNN,
        PACNN,
        GACNN,
        SBN_CNN,
        AGRAWAL_A,
        AGRAWAL_B,
        EDNN_BASELINE,
        DLSVM_BASELINE,
        DLSVM_PAPER,
        KC_VGG,
        FERPLUS_VGG13,
        KIM_CNN_LSTM,
        STC_NLSTM,
    )
}


def get_baseline(name: str) -> Baseline:
    """The record of the architecture `name`; InputError lists the known ones."""
    if name not in BASELINES:
        raise InputError(f"unknown architecture {name!r}; known are {', '.join(BASELINES)}")
    return BASELINES[name]
