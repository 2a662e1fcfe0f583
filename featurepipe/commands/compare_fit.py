"""Fitting and testing one method of `compare` by a plan."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featurepipe.commands.compare_plan import Part, Plan
from featurepipe.commands.compare_sides import Photos, face_of
from featurepipe.datasets.splits import grouped_by, groups_of
from featurepipe.features.table import Features
from featurepipe.models.baselines.registry import BASELINES
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.persistence import Model
from featurepipe.models.svm import LinearSVMCV
from featurepipe.progress import bar


@dataclass
class Result:
    """One method's predictions on every photo of the plan's test side, and what they cost."""

    predicted: np.ndarray
    probabilities: np.ndarray
    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    chosen: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Faces:
    """A method's input for photos: photo i's face is X[face[i]], and face[i] is -1 where it has none."""

    X: np.ndarray
    face: np.ndarray

    def found(self, rows: np.ndarray) -> np.ndarray:
        return rows[self.face[rows] >= 0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.X[self.face[rows]]


def fit_and_test(args: argparse.Namespace, name: str, plan: Plan, train: Features, test: Features) -> Result:
    """Fit on each part's training photos, predict its test photos; nothing is chosen on them."""
    known, asked = (_Faces(own.X, face_of(own, side)) for own, side in ((train, plan.train), (test, plan.test)))
    result = Result(np.full(len(plan.test), None, object), np.zeros((len(plan.test), len(plan.classes))))
    with bar(len(plan.parts), name, "fit") as progress:
        for part in plan.parts:
            _one_part(args, name, plan, part, known, asked, result)
            progress.update()
    return result


def _one_part(
    args: argparse.Namespace, name: str, plan: Plan, part: Part, known: _Faces, asked: _Faces, result: Result
) -> None:
    fit, choose, test = known.found(part.fit), known.found(part.choose), asked.found(part.test)
    choose = choose[np.isin(plan.train.label[choose], plan.train.label[fit])]
    started = time.perf_counter()
    model = _fit(args, name, plan.train, known, fit, choose)
    fitted = time.perf_counter()
    probabilities = model.predict_proba(asked[test])
    result.predict_seconds += time.perf_counter() - fitted
    result.fit_seconds += fitted - started
    columns = np.array([plan.classes.index(label) for label in model.labels])
    result.probabilities[np.ix_(test, columns)] = probabilities
    result.predicted[test] = np.array(model.labels, object)[probabilities.argmax(1)]
    result.chosen.append({key: model.training[key] for key in ("C", "warnings") if key in model.training})


def _fit(
    args: argparse.Namespace, name: str, photos: Photos, faces: _Faces, fit: np.ndarray, choose: np.ndarray
) -> Model:
    labels = photos.label[fit].astype(str)
    validation = (faces[choose], photos.label[choose].astype(str)) if len(choose) else None
    if name in BASELINES:
        precision = "fp32" if args.precision == "auto" else args.precision  # auto is for vectors: training needs care
        cnn = CNNClassifier(name, seed=args.seed, device=args.device, precision=precision)
        return cnn.fit(faces[fit], labels, validation=validation)
    subjects, sequences = photos.subject[fit].tolist(), photos.sequence[fit].tolist()
    groups = groups_of(photos.content[fit].tolist(), subjects, sequences)
    svm = LinearSVMCV(folds=_inner_folds(labels, groups), seed=args.seed)
    return svm.fit(faces[fit], labels, groups=groups, grouped_by=grouped_by(subjects, sequences), validation=validation)


def _inner_folds(labels: np.ndarray, groups: Sequence[str]) -> int:
    """Five inner folds to choose C on, or as many as the class of the fewest people allows, but two."""
    owners = Counter(label for label, _ in set(zip(labels.tolist(), groups, strict=True)))
    return max(2, min(5, *owners.values()))
