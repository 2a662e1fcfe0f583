"""`fit_svm`: a feature table to a linear SVM."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.commands.steps import (
    check_new_file,
    content_codes,
    labelled,
    read_vectors,
    refuse_in_table,
    refuse_over,
    seen_in_training,
    show,
    tell,
)
from featurepipe.datasets.splits import grouped_by, groups_of, rows_by_use
from featurepipe.errors import InputError
from featurepipe.features.table import Features, FeatureTable
from featurepipe.models.persistence import save_svm, save_svm_arrays
from featurepipe.models.soft_labels import SoftLabels, mean_soft_labels, taught_on
from featurepipe.models.svm import LinearSVMCV
from featurepipe.progress import bar

FOLDS = 5
"""Inner folds where it is not said how many."""

SOFT_WEIGHT = 0.5
"""How far soft labels count where it is not said: half, as what ships was fitted."""

_GONE = {"no_face": "without a face", "missing": "missing", "unreadable": "unreadable", "too_large": "too large"}


def run(args: argparse.Namespace) -> int:
    """Fit on the table's training photos, choose C on its val photos or by folds, save, print the summary."""
    if args.soft_weight is not None and not args.soft_labels:
        raise InputError("--soft-weight is of soft labels, and there are none: name them with --soft-labels")
    refuse_over(args.model, args.weights, *(args.soft_labels or ()))
    refuse_in_table(args.model, args.table)
    # Not as the last command left it: a classify that shared the table has kept all faces.
    features = read_vectors(args.table, args.backbone, policy="largest")
    check_new_file(args.model)
    rows = training_rows(features, args.table, args.min_per_class)
    model = LinearSVMCV(
        normaliser=args.normalise,
        Cs=args.C,
        class_weight=args.class_weight,
        folds=args.folds or FOLDS,
        seed=args.seed,
    )
    weight = SOFT_WEIGHT if args.soft_weight is None else args.soft_weight
    fit_vectors(model, features, rows, args.weights, read_soft_labels(args), weight)
    (save_svm_arrays if args.arrays else save_svm)(args.model, model)
    if args.folds and model.training["chosen_on"] == "validation":
        tell(["C was chosen on val photos: --folds changed nothing"])
    tell(warnings_of(model))
    show(args, _lines(args, model), {"model": args.model, "labels": model.labels, **model.training})
    return 0


def fit_vectors(
    model: LinearSVMCV,
    features: Features,
    rows: tuple[np.ndarray, np.ndarray],
    weights: str | os.PathLike[str] | None = None,
    teachers: Sequence[SoftLabels] = (),
    soft_weight: float = 0.0,
) -> None:
    """Fit on the first `rows`, choose on the second but for those that the backbone, whose weights are in the file
    `weights`, or the teachers have seen, or else by folds; `model.training` says what its scores are worth."""
    fit, choose = rows
    seen, codes = seen_in_training(features, weights), content_codes(features.content)
    choose = leave_out(choose, seen[choose], "were seen by the backbone in training")
    choose = leave_out(choose, np.isin(codes[choose], taught_on(teachers)), "were seen by the soft labels' networks")
    model.fit(
        features.X[fit],
        features.label[fit].astype(str),
        soft_labels=_blended(soft_weight, teachers, features, fit),
        recipe={"features": features.feature_half, "faces": features.face_half},
        trained_on=np.concatenate([codes[fit], taught_on(teachers)]),
        **_choosing(features, fit, choose),
    )
    model.training["soft_weight"] = soft_weight if teachers else 0.0
    model.training["identity"] = "known" if all(features.subject[[*fit, *choose]]) else "unknown"
    model.training["leak"] = bool(seen[choose if len(choose) else fit].any())


def training_rows(
    features: Features, table: str | Path | None = None, min_per_class: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labelled rows to fit on (split train, or none) and to choose on (split val); test rows are never read.

    Classes with fewer than `min_per_class` rows to fit on are left out of both, and copies of photos to fit on (FER2013
    has them) are left out of those to choose on; both are said. Raises InputError where nothing is left to fit on, and
    says where the photos of the `table` went; None: where the rows did.
    """
    rows = labelled(features)
    use = rows_by_use([features.split[row] for row in rows])
    fit, choose = rows[use.fit], rows[use.choose]
    counts = Counter(features.label[fit])
    small = sorted(label for label, count in counts.items() if count < (min_per_class or 0))
    if small:
        tell([f"left out: {', '.join(f'{label} ({counts[label]} photos)' for label in small)}"])
    choose = leave_out(choose, ~np.isin(features.label[choose], list(counts)), "are of classes that are not fitted on")
    kept = [label for label in counts if label not in small]
    fit, choose = fit[np.isin(features.label[fit], kept)], choose[np.isin(features.label[choose], kept)]
    if not len(fit):
        raise InputError(_nothing_left(_photos_of(features, table), min_per_class))
    copies = np.isin(features.content[choose].astype(str), features.content[fit].astype(str))
    return fit, leave_out(choose, copies, "are copies of training photos")


def _photos_of(features: Features, table: str | Path | None) -> list[dict[str, Any]]:
    """Label, status and split of every photo of a table; without one of those that have a row."""
    if table is not None:
        return FeatureTable.open(table).samples().select(["label", "status", "split"]).to_pylist()
    rows = zip(features.label, features.split, strict=True)
    return [{"label": label, "status": "ok", "split": split} for label, split in rows]


def _nothing_left(samples: list[dict[str, Any]], min_per_class: int | None) -> str:
    """What to say where nothing is left to fit on: where the labelled photos went."""
    last = f"of classes with fewer than {min_per_class} (--min-per-class)" if min_per_class else "in no sequence"
    gone = Counter(_why_not(row["status"], row["split"]) or last for row in samples if row["label"])
    listed = ", ".join(f"{count} {why}" for why, count in gone.items())
    return (
        f"no labelled face to fit on: of {len(samples)} photos {gone.total()} are labelled"
        + (f", and of these {listed}" if gone else "")
        + ". Give a SOURCE with labelled faces in split train, or without a split"
    )


def _why_not(status: str, split: str | None) -> str | None:
    """Why a photo is not one to fit on, as far as it says itself."""
    if status != "ok":
        return _GONE[status]
    return f"in split {split}" if split in ("val", "test") else None


def read_soft_labels(args: argparse.Namespace) -> list[SoftLabels]:
    """The sets named by --soft-labels. Raises InputError where there is no such file, ModelError where it is something
    else."""
    for path in args.soft_labels or ():
        if not Path(path).is_file():
            raise InputError(f"there is no file {path}: name one that fit_cnn --folds wrote")
    return [SoftLabels.load(path) for path in args.soft_labels or ()]


def soft_labels_of(parts: Sequence[SoftLabels], features: Features, rows: np.ndarray) -> np.ndarray | None:
    """The mean of several sets of soft labels, float32 (m, k), for some rows; None where there are none."""
    if not parts:
        return None
    classes = np.unique(features.label[rows].astype(str)).tolist()
    return mean_soft_labels(parts, content_codes(features.content[rows]), classes)


def _blended(weight: float, teachers: Sequence[SoftLabels], features: Features, fit: np.ndarray) -> np.ndarray | None:
    """Labels and, by their weight, soft labels as distributions."""
    soft = soft_labels_of(teachers, features, fit)
    if soft is None:
        return None
    classes, codes = np.unique(features.label[fit].astype(str), return_inverse=True)
    return (1 - weight) * np.eye(len(classes))[codes] + weight * soft


def leave_out(choose: np.ndarray, known: np.ndarray, why: str) -> np.ndarray:
    """The rows to choose on but for the known ones, which are counted on stderr."""
    if known.any():
        tell([f"{known.sum()} of {len(choose)} val photos {why}: left out"])
    return choose[~known]


def _choosing(features: Features, fit: np.ndarray, choose: np.ndarray) -> dict[str, Any]:
    """Where C and temperature are chosen: on the val rows where there are any, else by folds inside train."""
    if len(choose):
        return {"validation": (features.X[choose], features.label[choose].astype(str))}
    subjects, sequences = features.subject[fit].tolist(), features.sequence[fit].tolist()
    groups = groups_of(features.content[fit].tolist(), subjects, sequences)
    return {"groups": groups, "grouped_by": grouped_by(subjects, sequences), "progress": _Bar()}


class _Bar:
    """Shows the fits of the search as a progress bar."""

    def __init__(self) -> None:
        self._bar = bar(None, "fits", "fit")

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def warnings_of(model: LinearSVMCV) -> list[str]:
    """What a user should know of a fit."""
    lines = [f"warning: {text}" for text in model.training["warnings"]]
    if model.training["leak"]:
        lines.append(
            "LEAK: C and temperature were chosen on photos that the backbone was trained on; the scores of this choice "
            "are too good. Give a SOURCE with a val split of other photos"
        )
    return lines


def _lines(args: argparse.Namespace, model: LinearSVMCV) -> list[str]:
    training = model.training
    best = next(row["mean"] for row in training["grid"] if row["C"] == training["C"])
    counts = ", ".join(f"{count} {label}" for label, count in training["samples"].items())
    return [
        f"fitted on {sum(training['samples'].values())} faces: {counts}",
        f"C {training['C']:g} chosen on {training['chosen_on']} (grouped by {training['groups']}"
        f"{'' if training['identity'] == 'known' else ', identity unknown'}), "
        f"{training['criterion']} {best:.4f}",
        f"temperature {model.temperature_:.3f}; {training['seconds']:.1f} s",
        f"model: {args.model}",
    ]
