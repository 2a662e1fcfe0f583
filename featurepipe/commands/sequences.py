"""Steps for networks of sequences, which `fit_cnn`, `classify` and `compare` share."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from featurepipe.commands.steps import crops_for, read_features, tell
from featurepipe.datasets.protocols import PROTOCOLS, Protocol
from featurepipe.datasets.source import Source
from featurepipe.errors import InputError
from featurepipe.features.sequences import Sequences, sequences_in
from featurepipe.features.table import Features, FeatureTable
from featurepipe.labels import LABEL_SETS

if TYPE_CHECKING:  # its module loads torch
    from featurepipe.models.baselines import Baseline


def read_whole_sequences(args: argparse.Namespace) -> None:
    """Read every frame of SOURCE's sequences, where the user does not say otherwise, and of each the largest face."""
    args.frames = args.frames or "all"
    args.policy = "largest"


def whole_sequences(taken: Source, source: Source, protocol: Protocol) -> Source:
    """All frames of the sequences of `source` of which a protocol has taken some.

    Raises InputError for a protocol of frames by themselves: random ones, or neutral ones as a class of their own.
    """
    if protocol.scheme == "frames" or "neutral" in LABEL_SETS[protocol.labels or "native"]:
        whole = [one.name for one in PROTOCOLS.values() if "neutral" not in LABEL_SETS[one.labels or "native"]]
        raise InputError(
            f"protocol {protocol.name} is of single photos ({protocol.title}), and a network of sequences is among the "
            f"methods: choose another one ({', '.join(whole)}), or methods of single faces"
        )
    shown = {(sample.subject, sample.sequence) for sample in taken.samples}
    samples = [sample for sample in source.samples if (sample.subject, sample.sequence) in shown]
    return replace(taken, samples=samples)


def sequences_of(table: str | Path, source: str) -> Sequences:
    """The sequences of a table; samples that are in none are counted on stderr. Raises InputError where all are."""
    sequences = sequences_in(FeatureTable.open(table).samples())
    if not sequences.rows:
        raise InputError(
            f"{source} holds no sequences of two frames or more, and a network of sequences is asked for: give a CSV "
            "with the columns sequence and frame, or a database of sequences; or choose a network of single faces"
        )
    if sequences.left_out:
        tell([f"{sequences.left_out} photos of {source} are in no sequence of two frames or more: left out"])
    return sequences


def read_input(table: str | Path, source: str, baseline: Baseline) -> Features:
    """What the network takes of a table's crops: a row per face, or of a network of sequences a row per sequence."""
    features = read_features(table, crops_for(baseline.framing))
    return sequences_of(table, source).features(features, baseline.timeline) if baseline.timeline else features
