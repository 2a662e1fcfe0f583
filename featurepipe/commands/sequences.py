"""Steps for networks of sequences, which `fit_cnn`, `classify` and `compare` share."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from featurepipe.commands.steps import crops_for, read_features, samples_of, tell
from featurepipe.datasets.protocols import PROTOCOLS, Protocol
from featurepipe.datasets.source import Source
from featurepipe.errors import InputError
from featurepipe.features.sequences import Sequences, sequences_in
from featurepipe.features.table import Features, FeatureTable
from featurepipe.labels import LABEL_SETS

if TYPE_CHECKING:  # its module loads torch
    from featurepipe.models.baselines import Baseline


def read_sequences(args: argparse.Namespace) -> Source:
    """Read SOURCE with every frame of its sequences, where the user does not say otherwise; of each the largest face.

    Raises InputError, before faces are looked for, where there is no sequence.
    """
    args.frames, args.policy = args.frames or "all", "largest"
    source = samples_of(args)
    check_sequences(source, args.source)
    return source


def check_sequences(source: Source, name: str) -> None:
    """Raises InputError where `source`, which is called `name`, holds no sequence."""
    frames = Counter((one.subject, one.sequence) for one in source.samples if one.sequence and one.frame is not None)
    if max(frames.values(), default=0) < 2:
        raise InputError(
            f"{name} holds no sequences of two frames or more, and a network of sequences is asked for: give a "
            "CSV with the columns sequence and frame, or a database of sequences; or choose a network of single faces"
        )


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
    """The sequences of a table that was made of `source`; samples that are in none are counted on stderr."""
    sequences = sequences_in(FeatureTable.open(table).samples())
    if sequences.left_out:
        tell([f"{sequences.left_out} photos of {source} are in no sequence of two frames or more: left out"])
    return sequences


def read_input(table: str | Path, source: str, baseline: Baseline) -> Features:
    """What the network takes of a table's crops: a row per face, or of a network of sequences a row per sequence."""
    features = read_features(table, crops_for(baseline.framing))
    return sequences_of(table, source).features(features, baseline.timeline) if baseline.timeline else features
