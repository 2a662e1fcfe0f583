"""`compare`: SVM and CNNs on the same photos, by frozen folds, an official split, or one SOURCE after another."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.commands.compare_fit import Result, fit_and_test
from featurepipe.commands.compare_plan import Plan, plan_of, refuse_early
from featurepipe.commands.compare_report import write_report
from featurepipe.commands.compare_sides import Side, extract_sides, of_sequences, read_sources
from featurepipe.commands.steps import show, tell
from featurepipe.errors import FeaturepipeError, InputError
from featurepipe.files import write_json
from featurepipe.names import METHODS
from featurepipe.report.metrics import evaluate, holm, mcnemar

ALONE = ("dataset", "table", "folds", "folds_by")
CROSS = ("train_dataset", "train_table", "test_dataset", "test_table")
"""Options for one SOURCE, and for two."""


def run(args: argparse.Namespace) -> int:
    """Extract for every method, settle who is tested, fit and test, write JSON and plots, print the table."""
    _check(args)
    sources, out = read_sources(args), Path(args.out)
    refuse_early(args, [source for _, source in sources])
    sides = extract_sides(args, sources)
    plan = plan_of(args, sides)
    results, failed = _results(args, plan, sides)
    document = _document(args, plan, results, sides) | {"failed": failed}
    write_json(out / "comparison.json", document)
    write_report(out, document, _facts(document), plan, results, sides[-1])
    show(args, _lines(document, out), document)
    return 0


def _results(args: argparse.Namespace, plan: Plan, sides: list[Side]) -> tuple[dict[str, Result], dict[str, str]]:
    """What each method predicts, and why those failed that did; the last error itself where all do."""
    results, failed = {}, {}
    for name in sides[0].features:
        try:
            results[name] = fit_and_test(args, name, plan, sides[0].features[name], sides[-1].features[name])
        except FeaturepipeError as error:
            failed[name] = str(error)
            tell([f"{name} failed: {error}"])
            if len(failed) == len(sides[0].features):
                raise
    return results, failed


def _check(args: argparse.Namespace) -> None:
    unknown = [name for name in args.methods if name not in METHODS]
    if unknown:
        raise InputError(f"unknown method {', '.join(unknown)}; known are {', '.join(METHODS)}")
    if bool(args.train) != bool(args.test) or bool(args.source) == bool(args.train):
        raise InputError("give one SOURCE, or --train A and --test B to fit on one and test on another")
    misplaced = [name for name in (ALONE if args.train else CROSS) if getattr(args, name) is not None]
    if misplaced:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in misplaced)
        raise InputError(f"{options} cannot be used {'with --train and --test' if args.train else 'without --train'}")


def _document(args: argparse.Namespace, plan: Plan, results: dict[str, Result], sides: list[Side]) -> dict[str, Any]:
    """All figures, JSON-able."""
    tested, classes = plan.tested, plan.classes
    truth = plan.test.label[tested].tolist()
    subjects = plan.test.subject[tested].tolist()
    methods = {}
    for name, result in results.items():
        figures = evaluate(truth, result.predicted[tested].tolist(), result.probabilities[tested], classes, subjects)
        methods[name] = figures | {
            "fit_seconds": round(result.fit_seconds, 3),
            "predict_seconds": round(result.predict_seconds, 3),
            "folds": result.chosen,
            "recipe": _recipe(name, sides),
        }
    pairs = itertools.combinations(results, 2)
    tests = {f"{one} / {two}": _mcnemar(truth, results, one, two, tested) for one, two in pairs}
    for test, corrected in zip(tests.values(), holm([test["p"] for test in tests.values()]), strict=True):
        test["p_corrected"] = corrected
    return {
        **({"train": args.train, "test": args.test} if args.train else {"source": args.source}),
        **plan.about,
        "seed": args.seed,
        "shuffled_labels": args.shuffle_labels,
        "photos": len(tested),
        "unit": "sequences" if of_sequences(args) else "photos",
        "classes": classes,
        "chance": round(1 / len(classes), 4),
        "methods": methods,
        "mcnemar": tests,
    }


def _recipe(name: str, sides: list[Side]) -> dict[str, Any]:
    """How vectors were made and faces were found; of two SOURCEs the faces of each."""
    train, test = sides[0].features[name], sides[-1].features[name]
    faces = train.face_half if len(sides) == 1 else {"train": train.face_half, "test": test.face_half}
    return {"features": train.feature_half, "faces": faces}


def _mcnemar(truth: Sequence[str], results: dict[str, Result], one: str, two: str, tested: np.ndarray) -> Any:
    first, second = (results[name].predicted[tested] for name in (one, two))
    return mcnemar(np.array(truth, object), first, second)


def _facts(document: dict[str, Any]) -> dict[str, Any]:
    """The head of the report page."""
    return {
        **{name: document[name] for name in ("source", "train", "test") if name in document},
        "protocol": _head(document),
        "identity of the people": document["identity"],
        "classes": ", ".join(document["classes"]),
        "chance": document["chance"],
        "seed": document["seed"],
    }


def _lines(document: dict[str, Any], out: Path) -> list[str]:
    """The comparison as a table for people."""
    pairs = document["mcnemar"]
    tests = [
        f"McNemar {pair}: p {test['p']:.3g}"
        + (f", corrected for {len(pairs)} pairs {test['p_corrected']:.3g}" if len(pairs) > 1 else "")
        for pair, test in pairs.items()
    ]
    head = [_head(document), *_left_out(document), f"chance {document['chance']}"]
    failed = [f"{name} failed: {why}" for name, why in document["failed"].items()]
    return [
        *head,
        *_table(document),
        *failed,
        *tests,
        f"all figures: {out}, page: {out / 'report.html'}",
    ]


def _head(document: dict[str, Any]) -> str:
    head = f"{document['photos']} {document['unit']}, {len(document['classes'])} classes, {document['protocol']}"
    if "train" in document:
        head += f": fitted on {document['train']}, tested on {document['test']}"
    if document["unit"] == "sequences":
        head += " (methods of single faces see the peak frame)"
    if document["identity"] == "unknown":
        head += ", identity unknown"
    if document["shuffled_labels"]:
        head += ", LABELS SHUFFLED"
    if document.get("shared"):
        head += f"; {document['shared']} test photos show people or pictures that train or val hold too"
    return head


def _left_out(document: dict[str, Any]) -> list[str]:
    """What was dropped for its label, of each side, and refused as known."""
    if "train" not in document:
        return [f"dropped: {_counted(document['dropped'])}"] if document["dropped"] else []
    lines = [f"dropped of {document[side]}: {_counted(document['dropped'][side])}" for side in ("train", "test")]
    lines.append(f"classes: {', '.join(document['classes'])} (label set {document['labels']})")
    lines.append(f"fitted on {document['fitted_on']} photos, C chosen on {document['chosen_on'] or 'folds of them'}")
    for why, words in (("in_train", "occur in the training photos too"), ("trained_on", "a backbone was trained on")):
        if count := document["refused"][why]:
            lines.append(f"refused: {count} photos to test on that {words}")
    if document.get("same_names"):
        lines.append(f"note: {document['same_names']} test photos bear names of people who are in the training photos")
    return lines


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in counts.items()) or "nothing"


def _table(document: dict[str, Any]) -> list[str]:
    titles = ("method", "accuracy", "95 % interval", "UAR", "macro-F1", "MSE", "coverage", "fit s", "predict s")
    rows = [titles]
    for name, row in document["methods"].items():
        part = row["all"]
        low, high = part["intervals"]["accuracy"]
        figures = (part["accuracy"], None, part["uar"], part["macro_f1"], part["mse_per_output"], row["coverage"])
        cells = [f"{low:.4f}-{high:.4f}" if figure is None else f"{figure:.4f}" for figure in figures]
        rows.append((name, *cells, f"{row['fit_seconds']:.1f}", f"{row['predict_seconds']:.2f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
