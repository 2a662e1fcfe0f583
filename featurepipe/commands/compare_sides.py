"""What `compare` works on: the labelled photos of one SOURCE, or of two, and every method's input for their faces."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from featurepipe.commands.compare_methods import cnn_of
from featurepipe.commands.sequences import read_sequences, sequences_of, whole_sequences
from featurepipe.commands.steps import (
    crops_for,
    fill_table,
    read_features,
    samples_of,
    seen_in_training,
    summary_lines,
    table_of,
    tell,
)
from featurepipe.cost import Cost
from featurepipe.datasets.protocols import get_protocol
from featurepipe.datasets.source import Source
from featurepipe.devices import memory_errors
from featurepipe.errors import FeaturepipeError, InputError, ModelError
from featurepipe.features.backbone import Backbone
from featurepipe.features.backbones import REGISTRY, load_backbone
from featurepipe.features.table import Features, FeatureTable
from featurepipe.recipe import face_half_notes
from featurepipe.records import Sample


@dataclass(frozen=True)
class Photos:
    """Labelled photos, row-aligned; `row` (int64) is each one's place among all samples of its SOURCE.

    Where networks of sequences are compared each stands for a sequence, whose peak frame it is.

    The others are str or None, dtype object; label, path and content are never None.
    """

    row: np.ndarray
    path: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    split: np.ndarray
    sequence: np.ndarray
    content: np.ndarray

    def take(self, which: np.ndarray) -> Photos:
        """Some of them: a bool mask, or positions."""
        return Photos(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Side:
    """One SOURCE of a comparison.

    Parameters
    ----------
    name : SOURCE as given
    dataset : its reader
    photos : every labelled photo that can be read, whatever its status: one without a face every method gets wrong
    unread : number of labelled ones that are missing or cannot be read
    features : by method: vectors for an SVM, crops for a CNN, or sequences of crops
    samples : all of SOURCE, with or without label
    costs : by method: what making its input takes for one face; None where that is not counted
    weights : by method: weights file of its backbone as given; None where none is
    descriptors : dlib's, which tell people apart; None where they are not asked for
    """

    name: str
    dataset: str
    photos: Photos
    unread: int
    features: dict[str, Features]
    samples: list[Sample]
    costs: dict[str, Cost | None]
    weights: dict[str, str | None]
    descriptors: Features | None = None

    def seen(self, photos: Photos) -> dict[str, np.ndarray]:
        """By method: which of `photos` its backbone was trained on, bool. A CNN is trained here, so it saw none."""
        seen = {}
        for name, features in self.features.items():
            own = self.weights[name]
            known = np.zeros(len(features), bool) if cnn_of(name) else seen_in_training(features, own)
            seen[name] = np.append(known, False)[face_of(features, photos)]  # face -1 reads the appended False
        return seen


def face_of(features: Features, photos: Photos) -> np.ndarray:
    """Position of each photo's face in `features.X`, -1 without one; int64."""
    face = np.full(1 + max(photos.row.max(initial=0), features.sample.max(initial=0)), -1, np.int64)
    face[features.sample] = np.arange(len(features))
    return face[photos.row]


def read_sources(args: argparse.Namespace) -> list[tuple[argparse.Namespace, Source]]:
    """SOURCE, or --train and --test, and the arguments of each as if it were the only one; no photo is opened.

    A protocol is of what is tested on: that is reduced to what takes part.
    """
    each = [_with_source(own) for own in (_train_and_test(args) if args.train else [_alone(args)])]
    if args.protocol:
        own, source = each[-1]
        protocol = get_protocol(args.protocol)
        taken = protocol.apply(source, own.source)
        if of_sequences(args):
            taken = whole_sequences(taken, source, protocol)
        tell(taken.notes[len(source.notes) :])
        each[-1] = own, taken
    return each


@contextmanager
def failing_alone(failed: dict[str, FeaturepipeError], name: str) -> Iterator[None]:
    """What a user can mend, and too little memory, fails this method alone: told, and put in `failed`."""
    try:
        with memory_errors():
            yield
    except FeaturepipeError as error:
        failed[name] = error
    except MemoryError as error:
        failed[name] = ModelError(f"too little memory: {error}")
    if name in failed:
        tell([f"{name} failed: {failed[name]}"])


def extract_sides(
    args: argparse.Namespace, each: list[tuple[argparse.Namespace, Source]]
) -> tuple[list[Side], dict[str, FeaturepipeError]]:
    """What `read_sources` read, with the faces of all photos found and every method's input extracted.

    With why those methods failed whose input cannot be made; raises the last of these errors where none is left.
    """
    features: list[dict[str, Features]] = [{} for _ in each]
    inputs, failed = _inputs(args)
    descriptors = _extracted("leak check", _descriptor(args), each) if args.leak_descriptor else [None] * len(each)
    costs = {name: backbone.cost() for name, backbone in inputs.items()}
    for name in costs:
        with failing_alone(failed, name):
            for by_method, made in zip(features, _extracted(name, inputs.pop(name), each), strict=True):
                by_method[name] = made
    _need_one(features[0], failed)
    if args.train:
        halves = [next(iter(by_method.values())).face_half for by_method in features]
        tell(face_half_notes(halves[1], halves[0]))
    sides = [
        Side(
            own.source,
            source.dataset,
            *_compared(own, by_method),
            source.samples,
            costs,
            {name: _weights_of(args, name) for name in by_method},
            described,
        )
        for (own, source), by_method, described in zip(each, features, descriptors, strict=True)
    ]
    return sides, failed


def _inputs(args: argparse.Namespace) -> tuple[dict[str, Backbone], dict[str, FeaturepipeError]]:
    """What makes each method's input, and why it cannot be loaded: known before an hour is spent on the others."""
    inputs: dict[str, Backbone] = {}
    failed: dict[str, FeaturepipeError] = {}
    for name in dict.fromkeys(args.methods):
        with failing_alone(failed, name):
            inputs[name] = _input_of(args, name)
    _need_one(inputs, failed)
    return inputs, failed


def _need_one(left: Collection[str], failed: dict[str, FeaturepipeError]) -> None:
    if not left:
        raise list(failed.values())[-1]


def _extracted(name: str, backbone: Backbone, each: list[tuple[argparse.Namespace, Source]]) -> list[Features]:
    """Of each SOURCE what the backbone makes of its faces."""
    made = []
    for own, source in each:
        tell([f"{name}, {own.source}:", *summary_lines(fill_table(own, source, own.table, backbone))])
        made.append(read_features(own.table, backbone))
    return made


def _descriptor(args: argparse.Namespace) -> Backbone:
    return load_backbone("dlib-resnet", device=args.device)


def of_sequences(args: argparse.Namespace) -> bool:
    """Whether sequences are compared: a method takes these, and those of single faces see the peak of each."""
    return any(map(takes_sequences, args.methods))


def takes_sequences(name: str) -> bool:
    """Whether a method is a network of sequences."""
    return (cnn := cnn_of(name)) is not None and cnn.timeline is not None


def _compared(own: argparse.Namespace, features: dict[str, Features]) -> tuple[Photos, int, dict[str, Features]]:
    """The labelled photos of one SOURCE, or its sequences, how many cannot be read, and every method's input."""
    if not of_sequences(own):
        samples = FeatureTable.open(own.table).samples()
        return *_photos(samples, np.arange(samples.num_rows), own.source), features
    sequences = sequences_of(own.table, own.source)
    whole = dict(features)
    for name in features:
        if (cnn := cnn_of(name)) and cnn.timeline:
            taken = sequences.features(features[name], cnn.timeline)
            whole[name] = dataclasses.replace(taken, sample=sequences.peak[taken.sample])
    return *_photos(sequences.samples, sequences.peak, own.source), whole


def _alone(args: argparse.Namespace) -> argparse.Namespace:
    return _like(args, table=table_of(args, Path(args.out) / "table"))


def _train_and_test(args: argparse.Namespace) -> list[argparse.Namespace]:
    tables = [
        Path(getattr(args, f"{side}_table") or Path(args.out) / f"{side}.table").resolve() for side in ("train", "test")
    ]
    if tables[0] == tables[1]:
        raise InputError(f"a feature table holds one SOURCE, and {tables[0]} is given for two: give another one")
    return [
        _like(args, source=args.train, dataset=args.train_dataset, table=tables[0]),
        _like(args, source=args.test, dataset=args.test_dataset, table=tables[1]),
    ]


def _like(args: argparse.Namespace, **changed: object) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), **changed})


def _with_source(args: argparse.Namespace) -> tuple[argparse.Namespace, Source]:
    """Read SOURCE. Of two, one that holds crops needs no detector: --detector, --margin are for the photos beside."""
    if args.protocol and get_protocol(args.protocol).scheme == "frames":
        args = _like(args, frames=args.frames or "all")
    source = read_sequences(args) if of_sequences(args) else samples_of(args)
    return (_like(args, detector=None) if args.train and source.faces == "crops" else args), source


def _input_of(args: argparse.Namespace, name: str) -> Backbone:
    """What makes the method's input: the backbone of an SVM, or the crops themselves for a CNN."""
    if cnn := cnn_of(name):
        return crops_for(cnn.framing)
    backbone = _backbone_of(name)
    # --precision is for all methods: one that has no such arithmetic computes in its own.
    precision = args.precision if args.precision in REGISTRY[backbone].precisions else "auto"
    return load_backbone(backbone, weights=_weights_of(args, name), device=args.device, precision=precision)


def _backbone_of(name: str) -> str:
    return name.partition(":")[2] or "fer-vgg"


def _weights_of(args: argparse.Namespace, name: str) -> str | None:
    """--weights, for the first backbone of the comparison that has weights; the others take their own."""
    first = learnt_backbones(args)[:1]
    return args.weights if cnn_of(name) is None and first == [_backbone_of(name)] else None


def learnt_backbones(args: argparse.Namespace) -> list[str]:
    """The backbones of the methods that have weights, in the order of --methods."""
    backbones = [_backbone_of(name) for name in args.methods if cnn_of(name) is None]
    return [name for name in backbones if REGISTRY[name].learnt]


def _photos(samples: pa.Table, place: np.ndarray, source: str) -> tuple[Photos, int]:
    """The labelled ones of samples, whose places among all of SOURCE are `place`, int64 (n,); and those left out.

    Files that could not be read have no content key to put them into a fold by: they are left out, and counted.
    """
    names = [field.name for field in dataclasses.fields(Photos)][1:]
    columns = {name: np.array([*samples[name].to_pylist(), None], object)[:-1] for name in names}
    known = columns["label"] != np.array(None)
    rows = np.flatnonzero(known & (columns["content"] != np.array(None)))
    if lost := int(known.sum()) - len(rows):
        tell([f"{lost} labelled photos are missing or cannot be read: left out ({source})"])
    if not len(rows):
        raise InputError(f"{source} has no labelled photo that can be read: look whether its files are there")
    return Photos(place[rows], **{name: column[rows] for name, column in columns.items()}), lost
