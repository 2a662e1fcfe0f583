"""Fitting and testing one method of `compare` by a plan."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import featurepipe
from featurepipe.commands.compare_methods import cnn_of, recipe_of
from featurepipe.commands.compare_plan import Part, Plan
from featurepipe.commands.compare_results import Outcome, kept
from featurepipe.commands.compare_sides import Photos, face_of
from featurepipe.commands.steps import ON_A_TENTH, held_out
from featurepipe.datasets.splits import grouped_by, groups_of
from featurepipe.errors import InputError
from featurepipe.features.table import Features
from featurepipe.files import digest_of
from featurepipe.models.baselines import Baseline
from featurepipe.models.budget import fill_minutes
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.persistence import Model
from featurepipe.models.svm import LinearSVMCV
from featurepipe.names import architecture_of
from featurepipe.progress import bar, move_to


@dataclass
class Result:
    """One method's predictions on every photo of the plan's test side, and what they cost.

    `outputs` are the probabilities, but for a CNN of sigmoids, whose outputs these are made of.
    """

    predicted: np.ndarray
    probabilities: np.ndarray
    outputs: np.ndarray
    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    chosen: list[dict[str, Any]] = field(default_factory=list)
    histories: list[list[dict[str, float]]] = field(default_factory=list)


@dataclass(frozen=True)
class _Faces:
    """A method's input for photos: photo i's face is X[face[i]], and face[i] is -1 where it has none."""

    X: np.ndarray
    face: np.ndarray

    def found(self, rows: np.ndarray) -> np.ndarray:
        return rows[self.face[rows] >= 0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.X[self.face[rows]]


FIXED_C = 1.0
"""C of an SVM that may not choose (baselines.md 13.3): on vectors of unit length the usual one."""

_CHOICES = ("C", "chosen_on", "warnings", "kept")
"""What is told of a fit's choices: of an SVM its C, of a CNN the epoch whose weights were kept, and on what."""

FORMAT = 5
"""Of what is kept of a fit: raised when the same settings are kept with other facts."""


def fit_and_test(args: argparse.Namespace, name: str, plan: Plan, train: Features, test: Features, seed: int) -> Result:
    """Fit on each part's training photos, predict its test photos; nothing is chosen on them.

    Parts that an earlier run with the same photos, labels and settings has done are read from OUT/results. What they
    are kept under does not depend on the machine: they can be fitted on one and read on another.
    """
    known, asked = (_Faces(own.X, face_of(own, side)) for own, side in ((train, plan.train), (test, plan.test)))
    count, classes = len(plan.test), len(plan.classes)
    result = Result(np.full(count, None, object), np.zeros((count, classes)), np.zeros((count, classes)))
    settings = [FORMAT, featurepipe.__version__, _method(args, name), _halves(train), _halves(test)]
    folder, cnn = Path(args.out) / "results", cnn_of(name)
    with bar(len(plan.parts), name, "fit") as progress:
        for part in plan.parts:
            own = _with_faces(part, plan, name, known, asked)
            free = not plan.seen[name][own.fit].any() or len(own.choose) > 0
            # An SVM that chooses on held-out photos, or not at all, draws nothing: it is fitted once for all seeds.
            drawn = seed if cnn or (free and not len(own.choose)) else 0
            key = digest_of([settings, drawn, free, _data(plan, own)])
            fit = partial(_fit, args, name, plan.train, known, own, drawn, free=free)
            compute = partial(_outcome, fit, asked[own.test])
            _enter(result, plan, own, kept(folder, architecture_of(name), key, compute))
            progress.update()
    return result


def _method(args: argparse.Namespace, name: str) -> list[Any]:
    """What decides a fit besides the photos; what a variant is called does not."""
    if (cnn := cnn_of(name)) is None:
        return [name]
    return [cnn.name, cnn.inputs, precision_of(args), recipe_of(args, name).compact(), args.minutes]


def _halves(features: Features) -> list[Any]:
    return [dict(features.feature_half), dict(features.face_half)]


def _with_faces(part: Part, plan: Plan, name: str, known: _Faces, asked: _Faces) -> Part:
    """Those of its photos that have a face, and of those to choose on the ones whose label is fitted on.

    None is chosen on that the method's backbone was trained on.
    """
    fit, choose = known.found(part.fit), known.found(part.choose)
    choose = choose[np.isin(plan.train.label[choose], plan.train.label[fit]) & ~plan.seen[name][choose]]
    return Part(fit, choose, asked.found(part.test))


def _data(plan: Plan, part: Part) -> list[list[str]]:
    """What is fitted on, chosen on and tested on, as far as it decides the outcome."""
    learnt = (plan.train.content, plan.train.label, plan.train.subject, plan.train.sequence)
    return [
        *(column[rows].astype(str).tolist() for rows in (part.fit, part.choose) for column in learnt),
        plan.test.content[part.test].tolist(),
    ]


def _outcome(fit: Callable[..., Model], asked: np.ndarray, checkpoint: Path) -> Outcome:
    started = time.perf_counter()
    model = fit(checkpoint=checkpoint)
    fitted = time.perf_counter()
    outputs = model.outputs(asked) if isinstance(model, CNNClassifier) else model.predict_proba(asked)
    facts = {
        # Of a CNN that went on from a checkpoint the epochs before it count too.
        "fit_seconds": max(fitted - started, model.training.get("seconds", 0.0)),
        "predict_seconds": time.perf_counter() - fitted,
        "chosen": {key: model.training[key] for key in _CHOICES if key in model.training},
        "history": model.training.get("history", []),
    }
    return Outcome(np.array(model.labels), outputs, facts)


def _enter(result: Result, plan: Plan, part: Part, outcome: Outcome) -> None:
    columns = np.array([plan.classes.index(label) for label in outcome.labels])
    cells = np.ix_(part.test, columns)
    result.outputs[cells] = outcome.outputs
    result.probabilities[cells] = outcome.outputs / outcome.outputs.sum(1, keepdims=True)
    result.predicted[part.test] = outcome.labels.astype(object)[outcome.outputs.argmax(1)]
    result.fit_seconds += outcome.facts["fit_seconds"]
    result.predict_seconds += outcome.facts["predict_seconds"]
    result.chosen.append(outcome.facts["chosen"])
    result.histories.append(outcome.facts["history"])


def precision_of(args: argparse.Namespace) -> str:
    """Arithmetic that CNNs are trained in: auto is for vectors, training needs care."""
    return "fp32" if args.precision == "auto" else args.precision


def _fit(
    args: argparse.Namespace,
    name: str,
    photos: Photos,
    faces: _Faces,
    part: Part,
    seed: int,
    *,
    free: bool,
    checkpoint: Path,
) -> Model:
    """Fit one method; `free` is whether an SVM may choose its C: not on photos that its backbone was trained on.

    Nor where a label is of one person alone: some fold would have none of it to learn.

    A CNN goes on from `checkpoint`, but with --minutes: how many epochs fill them may now be counted otherwise.
    """
    if not len(part.fit):
        raise InputError("no photo to fit on shows a face; where photos are face crops already, give --detector none")
    if cnn := cnn_of(name):
        return _fit_cnn(args, name, cnn, photos, faces, part, seed, checkpoint)
    labels, validation = photos.label[part.fit].astype(str), _watched(photos, faces, part.choose)
    subjects, sequences = photos.subject[part.fit].tolist(), photos.sequence[part.fit].tolist()
    groups = groups_of(photos.content[part.fit].tolist(), subjects, sequences)
    folds = _inner_folds(labels, groups)
    if not free or (validation is None and folds < 2):
        return LinearSVMCV(seed=seed).fit_fixed(faces[part.fit], labels, FIXED_C)
    svm, by = LinearSVMCV(folds=folds, seed=seed), grouped_by(subjects, sequences)
    return svm.fit(faces[part.fit], labels, groups=groups, grouped_by=by, validation=validation)


def _fit_cnn(
    args: argparse.Namespace,
    name: str,
    cnn: Baseline,
    photos: Photos,
    faces: _Faces,
    part: Part,
    seed: int,
    checkpoint: Path,
) -> CNNClassifier:
    """Where its recipe has patience and no photos are there to choose on, a tenth of those to fit on is held out."""
    fit, choose, recipe = part.fit, part.choose, recipe_of(args, name)
    held = recipe.patience > 0 and not len(choose)
    if held:
        fit, choose = held_out(fit, photos.label, photos.content, photos.subject, photos.sequence, seed)
    labels, given = photos.label[fit].astype(str), faces[fit]
    settings: dict[str, Any] = {"seed": seed, "device": args.device, "precision": precision_of(args)}
    if args.minutes:
        recipe = fill_minutes(args.minutes, CNNClassifier(cnn.name, recipe, **settings), given, labels)
    with bar(recipe.epochs * recipe.orders, name, "epoch") as progress:
        model = CNNClassifier(cnn.name, recipe, **settings).fit(
            given,
            labels,
            validation=_watched(photos, faces, choose),
            checkpoint=None if args.minutes else checkpoint,
            resume=True,
            after_epoch=lambda history: move_to(progress, len(history)),
        )
    if held:
        model.training["chosen_on"] = ON_A_TENTH
    return model


def _watched(photos: Photos, faces: _Faces, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Faces and labels to choose on; None where there are none."""
    return (faces[rows], photos.label[rows].astype(str)) if len(rows) else None


def _inner_folds(labels: np.ndarray, groups: Sequence[str]) -> int:
    """Five inner folds to choose C on, or as many as the class of the fewest people allows; 1: nothing to choose on."""
    owners = Counter(label for label, _ in set(zip(labels.tolist(), groups, strict=True)))
    return min(5, *owners.values())
