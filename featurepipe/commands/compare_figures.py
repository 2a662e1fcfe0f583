"""The figures of `compare` as one JSON-able document."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from featurepipe.commands.compare_fit import Result
from featurepipe.commands.compare_leaks import leaks_of
from featurepipe.commands.compare_methods import cnn_of, recipe_of
from featurepipe.commands.compare_plan import Plan, groups_in
from featurepipe.commands.compare_sides import Side, of_sequences, takes_sequences
from featurepipe.datasets.protocols import get_protocol
from featurepipe.datasets.splits import GROUPS, grouped_by, resampled_by
from featurepipe.report.metrics import evaluate, holm, mcnemar, squared_errors
from featurepipe.report.published import beside, ranks, undertrained
from featurepipe.report.runs import score, spread
from featurepipe.weights import saw

WHOLE = 0.99
"""Share of a protocol's photos that a copy must have for its figures to be held against published ones."""

Results = Mapping[str, Mapping[int, Result]]
"""By method and seed."""


def figures_of(args: argparse.Namespace, plan: Plan, results: Results, sides: list[Side]) -> dict[str, Any]:
    """All figures of the methods that did not fail; those of several seeds beside those of the first."""
    tested, seeds = plan.tested, list(next(iter(results.values())))
    return {
        **({"train": args.train, "test": args.test} if args.train else {"source": args.source}),
        **plan.about,
        "seed": args.seed,
        "seeds": seeds,
        "budget": {"epochs": args.epochs, "minutes": args.minutes},
        "shuffled_labels": args.shuffle_labels,
        "photos": len(tested),
        "unit": "sequences" if of_sequences(args) else "photos",
        "classes": plan.classes,
        "chance": round(1 / len(plan.classes), 4),
        "most_frequent": round(_most_frequent(plan), 4),
        "methods": _ranked(
            {name: _method(args, name, plan, by_seed, sides) for name, by_seed in results.items()},
            {name: _pooled(plan, by_seed) for name, by_seed in results.items()},
            args.protocol,
        ),
        "leaks": leaks_of(plan, sides),
        "published": [asdict(one) for one in beside(_databases(args, sides))] if args.published else [],
        **_pairs(plan, {name: by_seed[seeds[0]] for name, by_seed in results.items()}),
    }


def _most_frequent(plan: Plan) -> float:
    """Accuracy of always naming the label that is most frequent among the photos to fit on."""
    right = 0
    for part in plan.parts:
        labels, counts = np.unique(plan.train.label[part.fit].astype(str), return_counts=True)
        right += int(np.sum(plan.test.label[part.test] == labels[counts.argmax()]))
    return right / len(plan.tested)


def _held_against(args: argparse.Namespace, name: str, plan: Plan) -> str | None:
    """The protocol whose published figures a method's can be held against: the one asked for, on a whole copy.

    Where sequences are compared single faces see one frame of each, and are held against nothing.
    """
    sequences = of_sequences(args)
    if not args.protocol or args.shuffle_labels or (sequences and not takes_sequences(name)):
        return None
    protocol = get_protocol(args.protocol)
    tested = len(plan.tested) * (protocol.each if sequences else 1)
    return args.protocol if protocol.photos is None or tested >= WHOLE * protocol.photos else None


def _databases(args: argparse.Namespace, sides: list[Side]) -> Sequence[str]:
    return (get_protocol(args.protocol).databases if args.protocol else ()) or (sides[-1].dataset,)


def _ranked(methods: dict[str, Any], pooled: dict[str, float], protocol: str | None) -> dict[str, Any]:
    """The methods with their rank, best first; last those without one: with what is published, too far above them."""
    held = {name: row["spread"]["accuracy"]["mean"] for name, row in methods.items() if row["held_against"]}
    below = undertrained(held, protocol)
    places = ranks(pooled, below)
    return {
        name: methods[name]
        | {
            "rank": places[name],
            "ranked_by": pooled[name],
            "undertrained": asdict(below[name]) if name in below else None,
        }
        for name in sorted(methods, key=lambda name: places[name] or len(methods) + 1)
    }


def _pooled(plan: Plan, by_seed: Mapping[int, Result]) -> float:
    """Accuracy over the photos of all folds and seeds: new ones, or all where none or every one is new."""
    new = _new_rows(plan)
    rows = plan.tested if new is None else new
    return float(np.mean([result.predicted[rows] == plan.test.label[rows] for result in by_seed.values()]))


def size_of(name: str, plan: Plan, results: Results, failed: Mapping[str, Exception]) -> dict[str, Any]:
    """The main figures of the methods, or why they failed, for one number of training photos."""
    return {
        "name": name,
        "fitted_on": round(float(np.mean([len(part.fit) for part in plan.parts]))),
        "tested_on": len(plan.tested),
        "methods": {method: _main(plan, by_seed) for method, by_seed in results.items()},
        "failed": {method: str(why) for method, why in failed.items()},
    }


def _main(plan: Plan, by_seed: Mapping[int, Result]) -> dict[str, Any]:
    """Accuracy, UAR and macro-F1 over the runs; the squared errors in the paper's conventions, of the first seed."""
    first = next(iter(by_seed.values()))
    runs = [run for seed, result in by_seed.items() for run in _runs(plan, seed, result)]
    column = {label: at for at, label in enumerate(plan.classes)}
    truth = np.array([column.get(label, len(column)) for label in plan.test.label[plan.tested]], np.int64)
    half, mean = squared_errors(first.outputs[plan.tested], truth)
    return {"spread": spread(runs), "mse_half_sum": half, "mse_per_output": mean}


def _method(
    args: argparse.Namespace, name: str, plan: Plan, by_seed: Mapping[int, Result], sides: list[Side]
) -> dict[str, Any]:
    first = next(iter(by_seed.values()))
    runs = [run for seed, result in by_seed.items() for run in _runs(plan, seed, result)]
    return {
        **_evaluated(plan, first, plan.tested),
        "new": _new(plan, first),
        "spread": spread(runs),
        "runs": runs,
        "fit_seconds": round(first.fit_seconds, 3),
        "predict_seconds": round(first.predict_seconds, 3),
        "cost": _cost(args, name, plan, sides[0]),
        "folds": first.chosen,
        "recipe": _recipe(args, name, sides),
        "held_against": _held_against(args, name, plan),
    }


def _evaluated(plan: Plan, result: Result, rows: np.ndarray) -> dict[str, Any]:
    groups, resampled = resampled_by(plan.test.subject[rows].tolist(), plan.test.sequence[rows].tolist())
    return evaluate(
        plan.test.label[rows].tolist(),
        result.predicted[rows].tolist(),
        result.probabilities[rows],
        plan.classes,
        groups,
        resampled=resampled,
        outputs=result.outputs[rows],
    )


def _new(plan: Plan, result: Result) -> dict[str, Any] | None:
    rows = _new_rows(plan)
    return None if rows is None else _evaluated(plan, result, rows)["all"]


def _new_rows(plan: Plan) -> np.ndarray | None:
    """The photos of people and pictures that the training photos do not show; None where all are, or none."""
    rows = np.setdiff1d(plan.tested, plan.shared)
    return rows if len(plan.shared) and len(rows) else None


def _runs(plan: Plan, seed: int, result: Result) -> list[dict[str, Any]]:
    """One row per fold: how it did on all photos tested on and on the new ones, and its training epoch by epoch."""
    runs = []
    for fold, part in enumerate(plan.parts):
        figures, new = (
            score(plan.test.label[rows], result.predicted[rows], plan.classes)
            for rows in (part.test, np.setdiff1d(part.test, plan.shared))
        )
        history = result.histories[fold]
        own = {"seed": seed, "fold": fold, **figures, "new_accuracy": new["accuracy"], "epochs": len(history)}
        runs.append(own | {"history": history})
    return runs


def _cost(args: argparse.Namespace, name: str, plan: Plan, side: Side) -> dict[str, int] | None:
    """Parameters and multiply-adds for one face; of an SVM those of its backbone and its planes together."""
    if cnn := cnn_of(name):
        recipe = recipe_of(args, name)
        return asdict(replace(cnn.configured(recipe.network), recipe=recipe).cost(len(plan.classes)))
    cost, width = side.costs[name], side.features[name].X.shape[1]
    if cost is None:
        return None
    planes = len(plan.classes) if len(plan.classes) > 2 else 1
    return {
        "parameters": cost.parameters + planes * (width + 1),
        "multiply_adds": cost.multiply_adds + planes * width,
    }


def _recipe(args: argparse.Namespace, name: str, sides: list[Side]) -> dict[str, Any]:
    """How vectors were made, and on what their backbone was trained, faces found (of two SOURCEs those of each), and a
    CNN trained."""
    train, test = sides[0].features[name], sides[-1].features[name]
    faces = train.face_half if len(sides) == 1 else {"train": train.face_half, "test": test.face_half}
    trained: dict[str, Any] = {}
    if cnn := cnn_of(name):
        trained = {"training": recipe_of(args, name).document(), "test_views": cnn.test_views}
    else:
        seen = saw(train.feature_half["weights"])
        trained = {"trained_on": None if seen is None else [asdict(part) for part in seen]}
    return {"features": train.feature_half, "faces": faces, **trained}


def _pairs(plan: Plan, results: Mapping[str, Result]) -> dict[str, Any]:
    """McNemar tests of every pair, with p corrected for their number: on the photos that methods are ranked by."""
    new = _new_rows(plan)
    photos = plan.test.take(plan.tested if new is None else new)
    truth, groups = np.array(photos.label, object), groups_in(photos).tolist()
    given = {name: result.predicted[plan.tested if new is None else new] for name, result in results.items()}
    tests = {
        f"{one} / {two}": mcnemar(truth, given[one], given[two], groups)
        for one, two in itertools.combinations(results, 2)
    }
    corrected: Sequence[float] = holm([test["p"] for test in tests.values()])
    return {
        "mcnemar": {pair: test | {"p_corrected": p} for (pair, test), p in zip(tests.items(), corrected, strict=True)},
        "mcnemar_of": {
            "photos": len(photos),
            "groups": len(set(groups)),
            "what": GROUPS[grouped_by(photos.subject.tolist(), photos.sequence.tolist())],
        },
    }
