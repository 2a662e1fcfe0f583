"""Steps that several commands share: reading SOURCE, finding faces, filling a table, and telling what happened."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import featurepipe
from featurepipe.console import note
from featurepipe.datasets.protocols import TENTH
from featurepipe.datasets.readers import read_source
from featurepipe.datasets.source import Source
from featurepipe.datasets.splits import grouped_holdout, groups_of
from featurepipe.errors import InputError, install_extra
from featurepipe.faces.detectors import DEFAULT_MAX_SIDE, DetectorSpec, default_detector
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.landmarks import landmarks_digest
from featurepipe.faces.serving import shared
from featurepipe.features.extraction import Summary, extract
from featurepipe.features.pixels import Pixels
from featurepipe.features.table import Features, FeatureTable, holds_crops, is_own_file
from featurepipe.files import printable, sha256_of, temporary_of
from featurepipe.models.persistence import read_trained_on
from featurepipe.names import LARGEST_MARGIN
from featurepipe.recipe import NO_WEIGHTS
from featurepipe.records import Framing, Policy
from featurepipe.weights import saw, weights_file

if TYPE_CHECKING:  # its module loads torch
    from featurepipe.features.backbone import Backbone


def samples_of(args: argparse.Namespace) -> Source:
    """Read SOURCE and tell on stderr what its reader noticed."""
    source = read_source(args.source, args.dataset, args.frames or "apex")
    tell(source.notes)
    return source


def fill_table(args: argparse.Namespace, source: Source, table: str | Path, backbone: Backbone) -> Summary:
    """Bring `table` up to date with SOURCE, faces found as the arguments ask, vectors by `backbone`."""
    from featurepipe.devices import resolve_device  # loads torch, which export, render and fit_svm do without

    device = str(resolve_device(args.device))
    max_side = DEFAULT_MAX_SIDE if args.max_side is None else args.max_side
    spec = DetectorSpec(detector_for(args, source, device), max_side, device=device)
    framing = framing_for(args, source, spec, backbone.framing)
    tell(_without_effect(args, spec, source))
    asked = getattr(args, "batch_size", None)
    batch_size = backbone.batch_size if asked is None else asked
    with shared(spec) as detect:
        finder = FaceFinder(spec, framing, args.policy, detect=detect)
        summary = extract(
            source.samples,
            table,
            finder,
            backbone,
            finder.recipe(),
            workers=args.workers,
            batch_size=batch_size,
            made_with=made_with(backbone, batch_size),
            read_with=finder.read_with(),
        )
    tell(summary.notes)
    tell(hints(source, spec, summary))
    return summary


def backbone_for(args: argparse.Namespace, source: Source) -> Backbone:
    """The backbone that the arguments ask for; in int8 once it was checked on faces of SOURCE, as `quantised` does."""
    from featurepipe.features.backbones import load_backbone  # loads torch

    int8 = args.precision == "int8"
    backbone = load_backbone(
        args.backbone,
        weights=args.weights,
        layer=args.layer,
        preprocessing=args.preprocessing,
        views=args.views,
        device=args.device,
        precision="fp32" if int8 else args.precision,
    )
    if not int8:
        return backbone
    from featurepipe.commands.int8 import quantised

    return quantised(args, source, args.table, backbone, None)


def check_new_file(path: str | Path) -> None:
    """Make the folder of a file to be written. Raises InputError where it cannot be: now, not after hours of work."""
    temporary = temporary_of(path)  # as it is written: its name is longer, and a link may lead elsewhere
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        temporary.unlink()
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error}): give a shorter name, or one in a folder that takes new files"
        ) from error


def crops_for(framing: Framing) -> Pixels:
    """What makes a CNN's input: the crops themselves, with landmarks where its framing asks for them."""
    return Pixels(framing, landmarks_digest(framing.points) if framing.points else None)


def detector_for(args: argparse.Namespace, source: Source, device: str) -> str:
    """The detector asked for; else none where SOURCE holds face crops already, mmod on a GPU, and hog."""
    if args.detector or source.faces == "crops":
        return args.detector or "none"
    found = default_detector(device)
    if found == "hog" and device.startswith("cuda"):
        tell(
            [f"faces are found by HOG on the processor: mmod, the GPU's detector, needs {install_extra('dlib-models')}"]
        )
    return found


def framing_for(args: argparse.Namespace, source: Source, spec: DetectorSpec, framing: Framing) -> Framing:
    """The backbone's framing with the margin asked for; without any where all photos themselves are the crops.

    Raises InputError for a margin out of range.
    """
    if args.margin is not None and not -1 < args.margin <= LARGEST_MARGIN:
        raise InputError(f"margin is {args.margin}: expected above -1 and at most {LARGEST_MARGIN}, shares of the box")
    if spec.name == "none" and all(sample.box is None for sample in source.samples):
        return dataclasses.replace(framing, margin=0.0, shift=0.0, equalise=False)
    return framing if args.margin is None else dataclasses.replace(framing, margin=args.margin)


def _without_effect(args: argparse.Namespace, spec: DetectorSpec, source: Source) -> list[str]:
    """Which of the options of finding and cutting faces change nothing where a photo is the face itself."""
    if spec.name != "none":
        return []
    cut = any(sample.box is not None for sample in source.samples)
    given = {"--max-side": args.max_side, "--margin": None if cut else args.margin}
    idle = [name for name, value in given.items() if value is not None]
    return [f"note: {' and '.join(idle)} change nothing: no face is looked for where photos are faces"] if idle else []


def made_with(backbone: Backbone, batch_size: int) -> dict[str, Any]:
    """What vectors depend on in their last bits alone: recorded, never compared."""
    import torch  # as above

    return {
        "featurepipe": featurepipe.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **backbone.made_with,
        "batch_size": batch_size,
    }


def hints(source: Source, spec: DetectorSpec, summary: Summary) -> list[str]:
    """What to try where most photos are small and no face was found in them."""
    without = summary.statuses.get("no_face", 0)
    if spec.name == "none" or without * 2 <= summary.photos:
        return []
    return [
        f"hint: no face was found in {without} of {summary.photos} photos. If they are face crops already, use "
        "--detector none; if faces are small in large photos, raise --max-side"
    ]


def seen_in_training(features: Features, weights: str | os.PathLike[str] | None) -> np.ndarray:
    """Which rows' photos the backbone was trained on, bool (n,); all False where its weights do not say.

    By their content keys, and where a photo is another file of a picture, by the parts of databases that the weights'
    record names. Where the weights that made the features are not here it cannot be told, and is said so on stderr.
    """
    half = features.feature_half
    if weights and not Path(weights).is_file():
        raise InputError(f"there is no weights file {weights}")
    if weights and half["weights"] == NO_WEIGHTS:
        raise InputError(f"{half['backbone']} has no weights: leave out --weights")
    if half["weights"] == NO_WEIGHTS:
        return np.zeros(len(features), bool)
    path = Path(weights) if weights else weights_file(half["backbone"])
    if path is None or sha256_of(path) != half["weights"]:
        tell(
            [
                f"note: the {half['backbone']} weights that made these features are not here, so whether they were "
                "trained on these photos cannot be told: name them with --weights"
            ]
        )
        return np.zeros(len(features), bool)
    parts = [f"{part.dataset}/{part.split}" for part in saw(half["weights"]) or ()]
    return np.isin(content_codes(features.content), read_trained_on(path)) | np.isin(features.origin.astype(str), parts)


def content_codes(contents: Iterable[str]) -> np.ndarray:
    """Content keys as int64, their first 64 bits: enough to tell photos apart, small enough to keep with weights."""
    return np.array([int(key[:16], 16) for key in contents], np.uint64).view(np.int64)


def labelled(features: Features) -> np.ndarray:
    """Indices of the rows that have a label."""
    return np.flatnonzero(np.array([label is not None for label in features.label], bool))


ON_A_TENTH = "a tenth of the photos to fit on"
"""What a model was chosen on where `held_out` parted the rows."""


def held_out(
    fit: np.ndarray,
    label: np.ndarray,
    content: np.ndarray,
    subject: np.ndarray,
    sequence: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """A tenth of the rows `fit` to choose on, without parting people, copies or sequences; the others to fit on.

    The columns are those of `Features`; int64 in and out. Raises InputError where too few people or pictures are there.
    """
    groups = groups_of(content[fit].tolist(), subject[fit].tolist(), sequence[fit].tolist())
    kept, held = grouped_holdout(label[fit].tolist(), groups, TENTH, seed)
    return fit[kept], fit[held]


def refuse_inside(out: Path, source: str) -> None:
    """Raise InputError where what is written into `out` would be read as photos of SOURCE next time."""
    if out.resolve().is_relative_to(Path(source).resolve()):
        raise InputError(f"{out} lies in {source}, whose photos its pictures would join next time: give another --out")


def refuse_over(path: str | Path, *read: str | None) -> None:
    """Raise InputError where the file to be written is one of those to be read."""
    new = Path(path)
    if over := [name for name in read if name and new.exists() and Path(name).exists() and new.samefile(name)]:
        raise InputError(f"{path} would be written over {over[0]}, which is read: write it elsewhere")


def refuse_in_table(path: str, table: str | Path) -> None:
    """Raise InputError where the file to be written would be one of those that a feature table consists of."""
    if is_own_file(path, table):
        raise InputError(f"{path} is, or would be, a file of the feature table {table} itself: write it elsewhere")


def table_of(args: argparse.Namespace, default: Path) -> Path:
    """The feature table to use: the one asked for, else `default`."""
    return Path(args.table) if args.table else default


def read_features(table: str | Path, backbone: Backbone) -> Features:
    """The rows of a table that `backbone` made."""
    return FeatureTable.open(table).matrix(backbone.recipe())


def read_vectors(table: str | Path, backbone: str | None, policy: Policy | None = None) -> Features:
    """The vectors of a table: of the backbone or store named, or of the last extract, passing over crops for CNNs.

    `policy` says which faces of each photo; None: those of the last extract.
    """
    opened = FeatureTable.open(table)
    stores = [name for name in opened.stores() if not holds_crops(name)]
    if holds_crops(backbone or opened.stores()[0]):
        if backbone or len(stores) != 1:
            raise InputError(
                f"{table} holds vectors of {', '.join(stores) or 'no backbone'}: run bin/extract, or --backbone"
            )
        backbone = stores[0]
    return opened.matrix(backbone, policy=policy)


def summary_lines(summary: Summary) -> list[str]:
    """An extraction's summary for people."""
    statuses = ", ".join(f"{count} {status}" for status, count in summary.statuses.items()) or "none"
    seconds = ", ".join(f"{stage} {spent:.1f}" for stage, spent in summary.seconds.items() if stage != "wall")
    return [
        f"{summary.photos} photos: {statuses}" + (f" ({summary.duplicates} duplicates)" if summary.duplicates else ""),
        f"detected in {summary.detections}, {summary.vectors} new vectors in {summary.forwards} forward passes, "
        f"{summary.seconds['wall']:.1f} s ({summary.photos_per_second:.0f} photos/s)",
        f"seconds per stage: {seconds}",
    ]


_say: ContextVar[Callable[[str], None]] = ContextVar("say", default=note)


def tell(lines: Iterable[str]) -> None:
    """Notes for people, on stderr; inside `telling` as is said there."""
    for line in lines:
        _say.get()(line)


@contextmanager
def telling(say: Callable[[str], None]) -> Iterator[None]:
    """Within, notes go to `say` instead of stderr."""
    before = _say.set(say)
    try:
        yield
    finally:
        _say.reset(before)


def show(args: argparse.Namespace, lines: Iterable[str], document: Mapping[str, Any]) -> None:
    """The result on stdout: lines for people, or with --json one document for machines."""
    print(json.dumps(document, allow_nan=False) if args.json else printable("\n".join(lines)))
