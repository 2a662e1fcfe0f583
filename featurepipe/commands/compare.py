"""`compare`: SVM and CNNs on the same frozen folds."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.commands.steps import (
    fill_table,
    read_features,
    samples_of,
    seen_in_training,
    show,
    summary_lines,
    table_of,
    tell,
)
from featurepipe.datasets.source import Source
from featurepipe.datasets.splits import Folds, groups_of, make_folds, rows_by_use
from featurepipe.errors import InputError
from featurepipe.features.backbone import Backbone
from featurepipe.features.backbones import load_backbone
from featurepipe.features.pixels import Pixels
from featurepipe.features.table import Features, FeatureTable
from featurepipe.files import write_json
from featurepipe.models.baselines.registry import BASELINES, get_baseline
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.persistence import Model
from featurepipe.models.svm import LinearSVM
from featurepipe.names import METHODS
from featurepipe.progress import bar
from featurepipe.report.metrics import evaluate, mcnemar
from featurepipe.report.plots import plot_comparison, plot_confusion

FOLDS = 5


@dataclass(frozen=True)
class Photos:
    """The labelled photos of SOURCE, row-aligned; `row` is each one's place among all samples."""

    row: np.ndarray
    path: list[str]
    label: np.ndarray
    subject: list[str | None]
    split: list[str | None]
    content: list[str]


@dataclass(frozen=True)
class Part:
    """One fold: positions among the photos (int64) to fit on, to choose on (may be empty) and to test on."""

    fit: np.ndarray
    choose: np.ndarray
    test: np.ndarray


@dataclass
class Result:
    """One method's predictions on every tested photo, and what they cost."""

    predicted: np.ndarray
    probabilities: np.ndarray
    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    chosen: list[dict[str, Any]] = field(default_factory=list)


def run(args: argparse.Namespace) -> int:
    """Extract for every method, freeze the folds, fit and test, write JSON and plots, print the table."""
    unknown = [name for name in args.methods if name not in METHODS]
    if unknown:
        raise InputError(f"unknown method {', '.join(unknown)}; known are {', '.join(METHODS)}")
    source, out = samples_of(args), Path(args.out)
    table = table_of(args, out / "table")
    features = {name: _features(args, name, source, table) for name in dict.fromkeys(args.methods)}
    photos = _photos(FeatureTable.open(table), args)
    protocol, parts = _parts(args, photos, out)
    if args.shuffle_labels:  # after the folds: the control runs on the very folds of the real run
        photos = _shuffled(photos, parts, args.seed)
    classes = sorted(set(photos.label[np.concatenate([part.fit for part in parts])]))
    results = {name: _cross_validate(args, name, rows, photos, parts, classes) for name, rows in features.items()}
    tested = np.sort(np.concatenate([part.test for part in parts]))
    document = _document(args, protocol, photos, tested, classes, results, features)
    _write(out, document)
    show(args, _lines(document, out), document)
    return 0


def _shuffled(photos: Photos, parts: list[Part], seed: int) -> Photos:
    """The photos that the parts use with their labels permuted; dropped classes stay out."""
    used = np.unique(np.concatenate([np.concatenate([part.fit, part.choose, part.test]) for part in parts]))
    labels = photos.label.copy()
    labels[used] = np.random.default_rng(seed).permutation(labels[used])
    return dataclasses.replace(photos, label=labels)


def _features(args: argparse.Namespace, name: str, source: Source, table: Path) -> Features:
    """The method's input for every face: vectors for an SVM, crops for a CNN."""
    backbone: Backbone
    if name in BASELINES:
        backbone = Pixels(get_baseline(name).framing)
    else:
        wanted = name.partition(":")[2] or "fer-vgg"
        backbone = load_backbone(wanted, weights=args.weights, device=args.device, precision=args.precision)
    tell([f"{name}:", *summary_lines(fill_table(args, source, table, backbone))])
    return read_features(table, backbone)


def _photos(table: FeatureTable, args: argparse.Namespace) -> Photos:
    """Labelled photos, whatever their status: one without a face is a photo that every method gets wrong.

    Files that could not be read have no content key to put them into a fold by: they are left out, and counted.
    """
    samples = table.samples()
    column = {name: samples[name].to_pylist() for name in ("path", "label", "subject", "split", "content")}
    known = [row for row, label in enumerate(column["label"]) if label is not None]
    rows = [row for row in known if column["content"][row]]
    if len(rows) < len(known):
        tell([f"{len(known) - len(rows)} labelled photos are missing or cannot be read: left out"])
    if not rows:
        raise InputError(f"{args.source} has no labelled photo to compare on; see --help for ways to give labels")
    picked = {name: [values[row] for row in rows] for name, values in column.items()}
    labels = np.array(picked["label"], object)
    return Photos(np.array(rows), picked["path"], labels, picked["subject"], picked["split"], picked["content"])


def _parts(args: argparse.Namespace, photos: Photos, out: Path) -> tuple[dict[str, Any], list[Part]]:
    """The official split where SOURCE has test photos; else folds, by subject where subjects are known."""
    if "test" in photos.split:
        return _official(args, photos)
    folds = _frozen_folds(args, photos, out / "folds.json")
    none = np.empty(0, np.int64)
    parts = [Part(fit, none, test) for fit, test in folds.parts()]
    what = "subjects" if folds.identity == "known" else "photos"
    protocol = f"{folds.n_folds} folds of {what}"
    return {"protocol": protocol, "identity": folds.identity, "dropped": dict(folds.dropped)}, parts


def _official(args: argparse.Namespace, photos: Photos) -> tuple[dict[str, Any], list[Part]]:
    """The split that SOURCE names; test photos of people or pictures that the other parts hold too are counted."""
    use = rows_by_use(photos.split)
    counts = Counter(photos.label[use.fit])
    dropped = {label: count for label, count in counts.items() if count < (args.min_per_class or 0)}
    fit, choose, test = (
        rows[~np.isin(photos.label[rows], list(dropped))] for rows in (use.fit, use.choose, use.report)
    )
    if not len(fit) or not len(test):
        raise InputError(f"the split of {args.source} leaves {len(fit)} photos to fit on and {len(test)} to test on")
    groups = np.array(groups_of(photos.content, photos.subject))
    shared = int(np.isin(groups[test], groups[np.concatenate([fit, choose])]).sum())
    known = all(photos.subject)
    protocol = {"protocol": "official split", "identity": "known" if known else "unknown", "dropped": dropped}
    return protocol | {"shared": shared}, [Part(fit, choose, test)]


def _frozen_folds(args: argparse.Namespace, photos: Photos, path: Path) -> Folds:
    """The folds in OUT/folds.json where it fits these photos, made and written where it is not there."""
    if path.exists():
        folds = Folds.load(path)
        folds.check_samples(photos.content, photos.path)
        if args.folds not in (None, folds.n_folds):
            raise InputError(
                f"{path} holds {folds.n_folds} folds, not {args.folds}: leave out --folds to use them, or give "
                "another --out"
            )
        return folds
    folds = make_folds(
        photos.label.tolist(),
        subjects=photos.subject,
        contents=photos.content,
        paths=photos.path,
        n_folds=args.folds or FOLDS,
        seed=args.seed,
        min_per_class=args.min_per_class or 0,
    )
    folds.save(path)
    return folds


def _cross_validate(
    args: argparse.Namespace, name: str, features: Features, photos: Photos, parts: list[Part], classes: list[str]
) -> Result:
    """Fit on each part's training photos, predict its test photos; nothing is chosen on them."""
    face_of = np.full(int(photos.row.max()) + 1, -1, np.int64)
    known = features.sample <= photos.row.max()
    face_of[features.sample[known]] = np.flatnonzero(known)
    face = face_of[photos.row]  # position of each photo's face in X, -1 without
    _refuse_leak(args, name, features, face, parts)
    result = Result(np.full(len(face), None, object), np.zeros((len(face), len(classes))))
    with bar(len(parts), name, "fold") as progress:
        for part in parts:
            _one_part(args, name, features, photos, part, face, classes, result)
            progress.update()
    return result


def _one_part(
    args: argparse.Namespace,
    name: str,
    features: Features,
    photos: Photos,
    part: Part,
    face: np.ndarray,
    classes: list[str],
    result: Result,
) -> None:
    fit, choose, test = (rows[face[rows] >= 0] for rows in (part.fit, part.choose, part.test))
    choose = choose[np.isin(photos.label[choose], photos.label[fit])]
    started = time.perf_counter()
    model = _fit(args, name, features.X, face, photos, fit, choose)
    fitted = time.perf_counter()
    probabilities = model.predict_proba(features.X[face[test]])
    result.predict_seconds += time.perf_counter() - fitted
    result.fit_seconds += fitted - started
    columns = [classes.index(label) for label in model.labels]
    result.probabilities[np.ix_(test, columns)] = probabilities
    result.predicted[test] = np.array(model.labels, object)[probabilities.argmax(1)]
    result.chosen.append({key: model.training[key] for key in ("C", "warnings") if key in model.training})


def _fit(
    args: argparse.Namespace,
    name: str,
    X: np.ndarray,
    face: np.ndarray,
    photos: Photos,
    fit: np.ndarray,
    choose: np.ndarray,
) -> Model:
    labels = photos.label[fit].astype(str)
    validation = (X[face[choose]], photos.label[choose].astype(str)) if len(choose) else None
    if name in BASELINES:
        cnn = CNNClassifier(name, seed=args.seed, device=args.device, precision=args.precision)
        return cnn.fit(X[face[fit]], labels, validation=validation)
    subjects = [photos.subject[row] for row in fit]
    known = all(subjects)
    groups = groups_of([photos.content[row] for row in fit], subjects if known else [None] * len(fit))
    svm = LinearSVM(folds=_inner_folds(labels, groups), seed=args.seed, n_jobs=max(1, args.workers or 1))
    return svm.fit(
        X[face[fit]], labels, groups=groups, grouped_by="subject" if known else "content", validation=validation
    )


def _inner_folds(labels: np.ndarray, groups: Sequence[str]) -> int:
    """Five inner folds to choose C on, or as many as the class of the fewest people allows, but two."""
    owners = Counter(label for label, _ in set(zip(labels.tolist(), groups, strict=True)))
    return max(2, min(5, *owners.values()))


def _refuse_leak(args: argparse.Namespace, name: str, features: Features, face: np.ndarray, parts: list[Part]) -> None:
    """A backbone that was trained on the photos tested on, or that C is chosen on, makes its figures worthless."""
    if name in BASELINES:
        return
    seen = np.append(seen_in_training(features, args.weights), False)[face]  # face -1 reads the appended False
    held_out = [np.concatenate([part.test, part.choose if len(part.choose) else part.fit]) for part in parts]
    leaking = int(seen[np.unique(np.concatenate(held_out))].sum())
    if leaking:
        raise InputError(
            f"LEAK: the backbone of {name} was trained on {leaking} of the photos to test on or to choose C on, so its "
            "figures would mean nothing; compare on other photos, or with a backbone that has not seen them"
        )


def _document(
    args: argparse.Namespace,
    protocol: dict[str, Any],
    photos: Photos,
    tested: np.ndarray,
    classes: list[str],
    results: dict[str, Result],
    features: dict[str, Features],
) -> dict[str, Any]:
    """All figures, JSON-able."""
    truth = photos.label[tested].tolist()
    subjects = [photos.subject[row] for row in tested]
    methods = {}
    for name, result in results.items():
        figures = evaluate(truth, result.predicted[tested].tolist(), result.probabilities[tested], classes, subjects)
        methods[name] = figures | {
            "fit_seconds": round(result.fit_seconds, 3),
            "predict_seconds": round(result.predict_seconds, 3),
            "folds": result.chosen,
            "recipe": {"features": features[name].feature_half, "faces": features[name].face_half},
        }
    pairs = itertools.combinations(results, 2)
    return {
        "source": args.source,
        **protocol,
        "seed": args.seed,
        "shuffled_labels": args.shuffle_labels,
        "photos": len(tested),
        "classes": classes,
        "chance": round(1 / len(classes), 4),
        "methods": methods,
        "mcnemar": {f"{one} / {two}": _mcnemar(truth, results, one, two, tested) for one, two in pairs},
    }


def _mcnemar(truth: Sequence[str], results: dict[str, Result], one: str, two: str, tested: np.ndarray) -> Any:
    first, second = (results[name].predicted[tested] for name in (one, two))
    return mcnemar(np.array(truth, object), first, second)


def _write(out: Path, document: dict[str, Any]) -> None:
    """comparison.json, a bar plot of all methods, and a confusion matrix of each."""
    write_json(out / "comparison.json", document)
    title = f"{document['photos']} photos, {document['protocol']}"
    plot_comparison(out / "accuracy.png", {name: row["all"] for name, row in document["methods"].items()}, title)
    for name, row in document["methods"].items():
        file = out / f"confusion-{name.replace(':', '-')}.png"
        plot_confusion(file, np.array(row["confusion"]["counts"]), row["confusion"]["labels"], f"{name}: {title}")


def _lines(document: dict[str, Any], out: Path) -> list[str]:
    """The comparison as a table for people."""
    head = f"{document['photos']} photos, {len(document['classes'])} classes, {document['protocol']}"
    if document["identity"] == "unknown":
        head += ", identity unknown"
    if document["shuffled_labels"]:
        head += ", LABELS SHUFFLED"
    if document.get("shared"):
        head += f"; {document['shared']} test photos show people or pictures that train or val hold too"
    titles = ("method", "accuracy", "95 % interval", "UAR", "macro-F1", "MSE", "coverage", "fit s", "predict s")
    rows = [titles]
    for name, row in document["methods"].items():
        part = row["all"]
        low, high = part["intervals"]["accuracy"]
        figures = (part["accuracy"], None, part["uar"], part["macro_f1"], part["mse_per_output"], row["coverage"])
        cells = [f"{low:.4f}-{high:.4f}" if figure is None else f"{figure:.4f}" for figure in figures]
        rows.append((name, *cells, f"{row['fit_seconds']:.1f}", f"{row['predict_seconds']:.2f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    tests = [f"McNemar {pair}: p {test['p']:.3g}" for pair, test in document["mcnemar"].items()]
    return [head, f"chance {document['chance']}", *table, *tests, f"all figures and plots: {out}"]
