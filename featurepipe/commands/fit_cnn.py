"""`fit_cnn`: an end-to-end CNN baseline on face crops."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from featurepipe.commands.fit_svm import leave_out, read_soft_labels, soft_labels_of, training_rows
from featurepipe.commands.sequences import read_input, read_sequences
from featurepipe.commands.steps import (
    ON_A_TENTH,
    check_new_file,
    content_codes,
    crops_for,
    fill_table,
    held_out,
    refuse_in_table,
    refuse_over,
    samples_of,
    show,
    summary_lines,
    table_of,
    tell,
)
from featurepipe.datasets.source import Source
from featurepipe.datasets.splits import make_folds, rows_by_use
from featurepipe.datasets.votes import by_votes, distributions
from featurepipe.errors import InputError
from featurepipe.features.backbones import REGISTRY
from featurepipe.features.table import Features
from featurepipe.models.baselines import Baseline
from featurepipe.models.baselines.registry import BASELINES, get_baseline
from featurepipe.models.cnn import CNNClassifier, load_cnn
from featurepipe.models.cross_fit import cross_fit, history_of, remove_folds
from featurepipe.models.soft_labels import SoftLabels, taught_on
from featurepipe.models.training import EpochHook, History, check_recipe
from featurepipe.models.training_log import write_log
from featurepipe.models.training_recipe import TrainingRecipe, read_recipe
from featurepipe.progress import bar, move_to
from featurepipe.weights import get_record

_LEARNT: dict[str, dict[str, Any]] = {
    "majority": {},
    "probability": {"soft_weight": 1.0, "draw_labels": True},
    "cross-entropy": {"soft_weight": 1.0},
    "multi-target": {"soft_weight": 1.0, "loss": "multi-target"},
}
"""What --votes changes in the recipe (Barsoum et al. 2016, section 3)."""

_SEEN = "were seen by the model of --init in training"


@dataclass(frozen=True)
class Teachers:
    """What is learnt from beside the photos: the model of --init, or None, and the sets of --soft-labels."""

    initial: CNNClassifier | None = None
    soft: Sequence[SoftLabels] = ()


def run(args: argparse.Namespace) -> int:
    """Cut the faces, train, save, print the summary; with --folds the result is soft labels instead of a model."""
    if args.list:
        _list_methods(args)
        return 0
    baseline = get_baseline(args.arch)
    recipe = read_recipe(args.recipe, baseline.recipe) if args.recipe else baseline.recipe
    _check(args, recipe)
    recipe = TrainingRecipe.from_document(_LEARNT[args.votes], recipe)
    check_recipe(recipe, baseline)
    teachers = Teachers(load_cnn(args.init) if args.init else None, read_soft_labels(args))
    table = table_of(args, Path(f"{args.model}.table"))
    refuse_in_table(args.model, table)
    crops = crops_for(baseline.framing)
    source = _source(args, baseline)
    _check_labels(args, source)
    check_new_file(args.model)
    check_new_file(log_of(args.model))  # the longest name, and written after every epoch
    tell(summary_lines(fill_table(args, source, table, crops)))
    features = read_input(table, args.source, baseline)
    rows = training_rows(features, table)
    if args.folds:
        _fit_folds(args, recipe, features, *rows)
    else:
        rows = watched(recipe, features, rows, teachers, args.seed)
        soft = _soft_labels(args, source, teachers, features, rows[0])
        _fit_model(args, recipe, features, rows, teachers, soft)
    return 0


def watched(
    recipe: TrainingRecipe, features: Features, rows: tuple[np.ndarray, np.ndarray], teachers: Teachers, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`rows` to fit on and to watch, but for those that may not be watched: what the model of --init was trained on.

    Nor are val photos that the networks of --soft-labels were trained on; of photos to fit on, a tenth of which is held
    out where the best epoch is to be chosen and no val photos are there, they have seen all.
    """
    codes = content_codes(features.content)
    begun_with = np.isin(codes, teachers.initial.trained_on if teachers.initial else ())
    fit, watch = rows
    watch = leave_out(watch, begun_with[watch], _SEEN)
    watch = leave_out(watch, np.isin(codes[watch], taught_on(teachers.soft)), "were seen by the soft labels' networks")
    if recipe.patience and not len(watch):
        fit, watch = held_out(fit, features.label, features.content, features.subject, features.sequence, seed)
        tell([f"no val photos: {len(watch)} of those to fit on are held out, to choose the best epoch by"])
        watch = leave_out(watch, begun_with[watch], _SEEN)
    return fit, watch


def _check(args: argparse.Namespace, recipe: TrainingRecipe) -> None:
    if args.folds and (args.init or args.soft_labels):
        raise InputError("--folds makes soft labels from random weights: give it neither --init nor --soft-labels")
    if args.votes != "majority" and (args.folds or args.soft_labels):
        raise InputError(f"--votes {args.votes} gives soft labels itself: leave out --folds and --soft-labels")
    check_soft_weight(recipe, bool(args.soft_labels))
    if recipe.loss == "multi-target" and args.soft_labels:
        raise InputError("multi-target is of votes (--votes), and networks give every label a share: set another loss")
    if args.folds and args.half:
        raise InputError("--half is of a model's file, and --folds writes soft labels: leave it out")
    refuse_over(args.model, args.source, args.recipe, *(args.soft_labels or ()))
    if args.init and not Path(args.init).is_file():
        raise InputError(f"there is no file {args.init}: name one that fit_cnn wrote")
    _check_resuming(args)


def _check_resuming(args: argparse.Namespace) -> None:
    """Raises InputError where training anew would write over the checkpoint of a run that was stopped."""
    begun = Path(f"{args.model}.folds" if args.folds else f"{args.model}.ckpt")
    if begun.exists() and not args.resume:
        raise InputError(
            f"{begun} is of a run that was stopped: go on from it with --resume, or delete it to train anew"
        )
    if args.resume and not begun.exists():
        tell([f"nothing to resume, as there is no {begun}: training begins"])


def check_soft_weight(recipe: TrainingRecipe, soft_labels: bool) -> None:
    """Raises InputError where a recipe asks for soft labels that are not there, or not for those that are."""
    if soft_labels != (recipe.soft_weight > 0):
        raise InputError(
            f"the recipe's soft_weight is {recipe.soft_weight}: it must be more than 0 with --soft-labels, and 0 "
            "without; set it in a --recipe file"
        )


def _source(args: argparse.Namespace, baseline: Baseline) -> Source:
    """SOURCE with the labels of photos to fit on as --votes says."""
    source = read_sequences(args) if baseline.timeline else samples_of(args)
    if args.votes == "majority":
        return source
    voted = by_votes(source, args.votes)
    before, now = (sum(sample.split == "train" for sample in one.samples) for one in (source, voted))
    tell([f"votes by the rule {args.votes}: {now} photos to fit on, {before} have a majority's label"])
    return voted


def _soft_labels(
    args: argparse.Namespace, source: Source, teachers: Teachers, features: Features, rows: np.ndarray
) -> np.ndarray | None:
    """What is to be learnt beside the labels of some rows, float32 (m, k): of --votes or --soft-labels."""
    if args.votes == "majority":
        return soft_labels_of(teachers.soft, features, rows)
    voted = [source.samples[row] for row in features.sample[rows]]
    return distributions(voted, args.votes, np.unique(features.label[rows].astype(str)).tolist())


def _check_labels(args: argparse.Namespace, source: Source) -> None:
    """Raises InputError, before faces are looked for, where SOURCE has fewer than two labels to fit on."""
    labels = [sample.label for sample in source.samples]
    fit = [labels[row] for row in rows_by_use([sample.split for sample in source.samples]).fit if labels[row]]
    if len(set(fit)) < 2:
        raise InputError(
            f"{args.source} has {', '.join(set(fit)) or 'nothing'} to fit on, and at least two labels are needed: of "
            f"{len(labels)} photos {len(labels) - labels.count(None)} are labelled, {len(fit)} of them in split train "
            "or without a split; see --help for ways to give labels"
        )


def _fit_model(
    args: argparse.Namespace,
    recipe: TrainingRecipe,
    features: Features,
    rows: tuple[np.ndarray, np.ndarray],
    teachers: Teachers,
    soft: np.ndarray | None,
) -> None:
    """A network on the first `rows`, watched on the second, in the file named by --model."""
    model = _classifier(args, recipe)
    with bar(recipe.epochs * recipe.orders, args.arch, "epoch") as progress:
        fit_crops(
            model,
            features,
            rows,
            teachers,
            votes=args.votes,
            soft_labels=soft,
            checkpoint=Path(f"{args.model}.ckpt"),
            resume=args.resume,
            after_epoch=_watcher(args.model, progress, recipe.epochs),
        )
    model.save(args.model, half=args.half)
    if args.half and len(rows[1]):
        model.training["float16"] = _rounded(model, args.model, features.X[rows[1]])
        model.save(args.model, half=True)  # the same weights, and what was measured on their file
    write_log(log_of(args.model), model.training["history"])
    Path(f"{args.model}.ckpt").unlink(missing_ok=True)
    show(args, _lines(args, model), {"model": args.model, "labels": model.labels, **model.training})


def fit_crops(
    model: CNNClassifier,
    features: Features,
    rows: tuple[np.ndarray, np.ndarray],
    teachers: Teachers,
    votes: str = "majority",
    **how: Any,
) -> None:
    """Train on the first `rows`, watch the second; the model records of which photos and crops it is.

    `how` are further arguments of CNNClassifier.fit.
    """
    fit, watch = rows
    model.fit(
        features.X[fit],
        features.label[fit].astype(str),
        validation=(features.X[watch], features.label[watch].astype(str)),
        recipe={"features": features.feature_half, "faces": features.face_half},
        trained_on=np.concatenate([content_codes(features.content[fit]), taught_on(teachers.soft)]),
        initial=teachers.initial,
        **how,
    )
    if model.training["chosen_on"] == "validation" and (features.split[watch] != "val").any():
        model.training["chosen_on"] = ON_A_TENTH  # `watched` has held it out
    model.training["command"] = {
        "coverage": features.coverage,
        "device": model.device,
        "precision": model.precision,
        "votes": votes,
    }


def _fit_folds(
    args: argparse.Namespace, recipe: TrainingRecipe, features: Features, fit: np.ndarray, watch: np.ndarray
) -> None:
    """One network per fold; what each says of the photos that it has not seen goes to the file named by --model."""
    folder, labels = Path(f"{args.model}.folds"), features.label[fit].astype(str)
    folds = make_folds(
        labels.tolist(),
        subjects=features.subject[fit].tolist(),
        contents=features.content[fit].tolist(),
        paths=features.path[fit].tolist(),
        sequences=features.sequence[fit].tolist(),
        n_folds=args.folds,
        seed=args.seed,
    )
    with bar(recipe.epochs * args.folds, args.arch, "epoch") as progress:
        soft = cross_fit(
            lambda: _classifier(args, recipe),
            features.X[fit],
            labels,
            content_codes(features.content[fit]),
            folds.parts(),
            folder=folder,
            resume=args.resume,
            validation=(features.X[watch], features.label[watch].astype(str)),
            after_epoch=_watcher(args.model, progress, recipe.epochs),
        )
    soft.save(args.model)
    write_log(log_of(args.model), history_of(soft.about["folds"]))
    remove_folds(folder)
    show(args, _fold_lines(args, soft), {"soft_labels": args.model, "labels": soft.labels, **soft.about})


def _classifier(args: argparse.Namespace, recipe: TrainingRecipe) -> CNNClassifier:
    return CNNClassifier(args.arch, recipe, seed=args.seed, device=args.device, precision=args.precision)


def _fold_lines(args: argparse.Namespace, soft: SoftLabels) -> list[str]:
    def line(row: dict[str, Any]) -> str:
        val = ", ".join(f"{share:.4f} of val with {views} views" for views, share in row["val_accuracy"].items())
        return f"fold {row['fold']}: right of the photos it has not seen {row['accuracy']:.4f}" + (val and f"; {val}")

    return [
        *map(line, soft.about["folds"]),
        f"soft labels of {len(soft.contents)} photos: {args.model} (history: {log_of(args.model)})",
    ]


def _list_methods(args: argparse.Namespace) -> None:
    """Print every CNN, and every backbone for a linear SVM, with fidelity, source and published figure."""
    cnns = [_listed(baseline) for baseline in BASELINES.values()]
    svms = [
        {
            "name": name,
            "layer": offer.layers[0],
            "fidelity": offer.fidelity,
            "source": offer.source or get_record(name).source,
            "published": offer.published,
        }
        for name, offer in REGISTRY.items()
    ]
    lines = [line for row in cnns for line in _architecture_lines(row)]
    lines += [
        "",
        "linear SVMs, fitted with bin/fit_svm on what bin/extract --backbone NAME writes, compared as svm:NAME",
    ]
    for row in svms:
        lines += [f"{row['name']}: {row['layer']}, {row['fidelity']}", *_origin_lines(row)]
    show(args, lines, {"architectures": cnns, "backbones": svms})


def _listed(baseline: Baseline) -> dict[str, Any]:
    """What is to know of an architecture, its size at seven classes among the rest."""
    cost = baseline.cost(7)
    return {
        "name": baseline.name,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "side": baseline.view,
        "frames": baseline.frames,
        "landmarks": baseline.framing.points,
        **{key: getattr(baseline, key) for key in ("fidelity", "source", "published", "differs")},
    }


def _architecture_lines(row: dict[str, Any]) -> list[str]:
    frames = f"{row['frames']} frames of " if row["frames"] > 1 else ""
    size = f"{frames}{row['side']}x{row['side']} pixels"
    lines = [f"{row['name']}: {row['parameters']:,} parameters, {size}, {row['fidelity']}", *_origin_lines(row)]
    if row["differs"]:
        lines.append(f"    differs from it: {row['differs']}")
    if row["landmarks"]:
        lines.append(
            f"    landmarks: dlib's {row['landmarks']} in each face, looked for in the whole picture where "
            "SOURCE holds crops (FER2013); they need featurepipe[dlib-models]"
        )
    return lines


def _origin_lines(row: dict[str, Any]) -> list[str]:
    return [f"    from: {row['source']}", f"    published: {row['published'] or 'nothing'}"]


def log_of(model: str) -> str:
    """Path of the training log of the model, or soft labels, that --model names."""
    return f"{model}.log.csv"


def _watcher(model: str, progress: tqdm[None], epochs: int) -> EpochHook:
    """After each epoch: write the log, move the bar on, and about twenty times in all say the figures."""

    def after_epoch(history: History) -> None:
        write_log(log_of(model), history)
        move_to(progress, len(history))
        row = history[-1]
        if row["epoch"] % max(1, epochs // 20) == 0 or row["epoch"] == epochs:
            tell([json.dumps({name: round(value, 5) for name, value in row.items()})])

    return after_epoch


def _rounded(model: CNNClassifier, path: str, faces: np.ndarray) -> dict[str, float]:
    """What float16 changes: answers of the file at `path` against those of `model`, whose weights are float32.

    Both compute in fp32: bf16 would drown the difference.
    """
    model.precision = "fp32"
    before, after = (one.predict_proba(faces) for one in (model, load_cnn(path, device=model.device)))
    return {
        "predictions": len(faces),
        "changed": int((before.argmax(1) != after.argmax(1)).sum()),
        "mean_difference": float(np.abs(before - after).mean()),
    }


def _rounded_lines(training: dict[str, Any]) -> list[str]:
    if "float16" not in training:
        return []
    found = training["float16"]
    return [
        f"float16: {found['changed']} of {found['predictions']} validation predictions differ, mean |difference of "
        f"probability| {found['mean_difference']:.2g}"
    ]


def _lines(args: argparse.Namespace, model: CNNClassifier) -> list[str]:
    kept = model.training["kept"]
    history = model.training["history"]
    counts = ", ".join(f"{count} {label}" for label, count in model.training["samples"].items())
    figures = ", ".join(
        f"{name} {kept[name]:.4f}" for name in ("loss", "train_accuracy", "val_accuracy") if name in kept
    )
    unit = "sequences" if model.baseline.timeline else "faces"
    return [
        f"trained {args.arch} on {sum(model.training['samples'].values())} {unit}: {counts}",
        f"{len(history)} epochs in {model.training['seconds']:.0f} s; {_which(kept, history)} {figures}",
        *_rounded_lines(model.training),
        f"model: {args.model} (history: {log_of(args.model)})",
    ]


def _which(kept: dict[str, float], history: list[dict[str, float]]) -> str:
    """Words for the epoch whose weights are the model."""
    if kept == history[-1]:
        return "at the end"
    return f"kept is epoch {kept['epoch']}" + (f" of order {kept['order']}:" if "order" in kept else ":")
