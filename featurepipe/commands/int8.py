"""`--precision int8`: scales measured on some of the photos at hand, checked on others of them, kept in the table."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from featurepipe.commands.steps import crops_for, fill_table, tell
from featurepipe.datasets.source import Source
from featurepipe.errors import InputError, TableError
from featurepipe.features.backbone import Backbone, TorchBackbone
from featurepipe.features.forwarding import Forwarder
from featurepipe.features.int8 import Int8Backbone, check_offered, load_openvino, measure_scales
from featurepipe.features.stores import disk
from featurepipe.features.table import FeatureTable, check_folder, locked
from featurepipe.files import digest_of, read_json, sha256_of, write_json
from featurepipe.models.persistence import load_model
from featurepipe.recipe import differences
from featurepipe.weights import shipped_svm

PHOTOS = 400
"""Photos looked at before the run, evenly spread over SOURCE, and faces taken of them, whatever their number."""

MEASURED = 4
"""Every fourth of their faces is measured, the others are held out to check on."""

FEWEST = 40
"""Faces below which nothing is measured: int8 would save less than it costs."""

LEAST = 0.99
"""Share of the faces held out that int8 must treat as fp32 does."""

CLOSE = 0.999
"""Cosine of a vector in int8 with its own in fp32 from which on it is taken for the same, where no SVM can tell: with
fer-vgg all of 1,454 faces had more, and the SVM that ships told the same for 99.6 % of them."""


@dataclass(frozen=True)
class Judge:
    """Says which of n faces are the same in fp32 and in int8: bool (n,), of two matrices of vectors.

    `key` tells judges apart: what one has accepted another has still to look at. `what` they compare, for people.
    """

    key: str
    what: str
    same: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Check:
    """What is kept in the table: scales of `features` (a feature half), and how a judge found them."""

    features: dict[str, Any]
    judge: str
    scales: dict[str, float]
    agreement: float
    cosine: float
    faces: int


def quantised(
    args: argparse.Namespace, source: Source, table: str | Path, backbone: Backbone, model: str | Path | None
) -> Int8Backbone:
    """`backbone`, which computes in fp32 on the CPU, in int8.

    The scales are those of the table where it has some, so that a second run, or one after a kill, gives the same
    vectors. A judge who has not seen them compares both precisions on faces of SOURCE first, and the result is printed.

    Parameters
    ----------
    args : the command's, for finding faces
    source, table : what will be extracted, and where to
    model : the SVM that will read the vectors; None: the one that ships where it reads them, else cosines decide

    Raises
    ------
    InputError : int8 is not offered here, there are too few faces, or fewer than 99 % of those held out agree
    MissingPackageError : OpenVINO is not installed
    TableError : `table` cannot be written to, or what it holds about int8 is damaged
    """
    backbone = check_int8(backbone)
    check_folder(table)
    judge = judge_of(model) if model else _usual_judge(backbone)
    known = [check for check in _checks(Path(table)) if check.features == backbone.recipe()]
    for check in known:
        if check.judge == judge.key:
            return _told(Int8Backbone(backbone, check.scales), check, judge, "as checked before")
    crops = _some_crops(args, source, backbone)
    scales = known[0].scales if known else measure_scales(backbone, crops[::MEASURED])
    int8 = Int8Backbone(backbone, scales)
    check = _checked(backbone, int8, judge, scales, np.delete(crops, np.s_[::MEASURED], axis=0))
    if check.agreement < LEAST:
        raise InputError(
            f"int8 is refused: {judge.what} in int8 and in fp32 for {_share(check)} of {check.faces} faces, and at "
            f"least {LEAST:.0%} are expected: use --precision fp32"
        )
    _keep(check, Path(table))
    return _told(int8, check, judge, "scales measured on others")


def with_scales(backbone: Backbone, scales: Mapping[str, float]) -> Int8Backbone:
    """`backbone` in int8 with the scales that a model was fitted with; raises as `quantised` does."""
    return Int8Backbone(check_int8(backbone), scales)


def check_int8(backbone: Backbone) -> TorchBackbone:
    """The backbone itself; InputError or MissingPackageError where it cannot run in int8 here."""
    if not isinstance(backbone, TorchBackbone):
        raise InputError(f"{backbone.name} is not offered in int8: use --precision fp32")
    check_offered(backbone.name, backbone.device)
    load_openvino()
    return backbone


def judge_of(model: str | Path) -> Judge:
    """A judge who compares the emotions that the SVM in the file `model` tells."""
    svm = load_model(model)
    return Judge(
        sha256_of(model), "the SVM says the same", lambda fp32, int8: np.asarray(svm.predict(fp32) == svm.predict(int8))
    )


def _usual_judge(backbone: Backbone) -> Judge:
    path = shipped_svm()
    if not differences(load_model(path).recipe["features"], backbone.recipe()):
        return judge_of(path)
    return Judge(
        f"cosine {CLOSE}", f"vectors have a cosine of {CLOSE} or more", lambda fp32, int8: cosines(fp32, int8) >= CLOSE
    )


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each row of one matrix (n, d) with the same row of another: (n,), 0 where a row is all zeros."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.maximum(lengths, np.finfo(first.dtype).tiny)


def _checked(fp32: Backbone, int8: Backbone, judge: Judge, scales: dict[str, float], crops: np.ndarray) -> Check:
    exact, rounded = vectors_of(fp32, crops), vectors_of(int8, crops)
    agreement = float(judge.same(exact, rounded).mean())
    return Check(fp32.recipe(), judge.key, scales, agreement, float(cosines(exact, rounded).mean()), len(crops))


def vectors_of(backbone: Backbone, crops: np.ndarray) -> np.ndarray:
    """Vectors (n, d) of crops (n, ...), on all cores as the extraction computes them."""
    size, done = backbone.batch_size, []
    with Forwarder[int](backbone) as forwarder:
        for start in range(0, len(crops), size):
            batch = crops[start : start + size]
            done.append(forwarder.submit(batch, list(range(len(batch)))))
        while (last := forwarder.oldest()) is not None:
            done.append(last)
    return np.concatenate([one.vectors for one in done if one is not None])


def _some_crops(args: argparse.Namespace, source: Source, backbone: Backbone) -> np.ndarray:
    """Faces of some photos, uint8 (n, *framing.shape); their table is thrown away: they are faces of people."""
    rows = np.unique(np.linspace(0, len(source.samples) - 1, min(PHOTOS, len(source.samples))).astype(int))
    some = dataclasses.replace(source, samples=[source.samples[row] for row in rows])
    tell([f"int8: looking at {len(rows)} of the {len(source.samples)} photos first"])
    pixels = crops_for(backbone.framing)
    with TemporaryDirectory(prefix="featurepipe-") as folder:
        fill_table(args, some, folder, pixels)
        crops = np.array(FeatureTable.open(folder).matrix(pixels.recipe(), most=PHOTOS).X)
    if len(crops) < FEWEST:
        raise InputError(
            f"int8 needs at least {FEWEST} faces to measure and check on, and found {len(crops)}: use --precision fp32"
        )
    return crops


def _keep(check: Check, table: Path) -> None:
    document = asdict(check)
    with locked(table), disk(table):
        write_json(table / f".int8-{digest_of(document)[:16]}.json", document)


def _checks(table: Path) -> list[Check]:
    """What earlier runs have kept, in the order of the files' names."""
    return [_read_check(path) for path in sorted(table.glob(".int8-*.json"))]


def _read_check(path: Path) -> Check:
    try:
        document = read_json(path)
        if path.name != f".int8-{digest_of(document)[:16]}.json":
            raise ValueError("its digest is not that of its name")
        return Check(**document)
    except (OSError, ValueError, TypeError) as error:
        raise TableError(f"{path} is damaged ({error}): delete it, and run the command again") from error


def _told(backbone: Int8Backbone, check: Check, judge: Judge, when: str) -> Int8Backbone:
    tell(
        [
            f"int8: {judge.what} as in fp32 for {_share(check)} of {check.faces} faces held out, "
            f"mean cosine {check.cosine:.5f} ({when})"
        ]
    )
    return backbone


def _share(check: Check) -> str:
    return f"{100 * check.agreement:.1f} %"
