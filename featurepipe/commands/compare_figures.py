"""The figures of `compare` as one JSON-able document."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from featurepipe.commands.compare_fit import Result, recipe_of
from featurepipe.commands.compare_plan import Plan
from featurepipe.commands.compare_sides import Side, of_sequences
from featurepipe.models.baselines.registry import BASELINES, get_baseline
from featurepipe.report.metrics import evaluate, holm, mcnemar
from featurepipe.report.runs import score, spread

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
        "methods": {name: _method(args, name, plan, by_seed, sides) for name, by_seed in results.items()},
        "mcnemar": _pairs(plan, {name: by_seed[seeds[0]] for name, by_seed in results.items()}),
    }


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
    }


def _evaluated(plan: Plan, result: Result, rows: np.ndarray) -> dict[str, Any]:
    truth, subjects = plan.test.label[rows].tolist(), plan.test.subject[rows].tolist()
    return evaluate(truth, result.predicted[rows].tolist(), result.probabilities[rows], plan.classes, subjects)


def _new(plan: Plan, result: Result) -> dict[str, Any] | None:
    """Of the photos of people and pictures that the training photos do not show, where some do."""
    rows = np.setdiff1d(plan.tested, plan.shared)
    return _evaluated(plan, result, rows)["all"] if len(plan.shared) and len(rows) else None


def _runs(plan: Plan, seed: int, result: Result) -> list[dict[str, Any]]:
    """One row per fold: how it did on the photos tested on, and its training epoch by epoch."""
    rows = []
    for fold, part in enumerate(plan.parts):
        figures = score(plan.test.label[part.test], result.predicted[part.test], plan.classes)
        history = result.histories[fold]
        rows.append({"seed": seed, "fold": fold, **figures, "epochs": len(history), "history": history})
    return rows


def _cost(args: argparse.Namespace, name: str, plan: Plan, side: Side) -> dict[str, int] | None:
    """Parameters and multiply-adds for one face; of an SVM those of its backbone and its planes together."""
    if name in BASELINES:
        return asdict(get_baseline(name).cost(len(plan.classes)))
    cost, width = side.costs[name], side.features[name].X.shape[1]
    if cost is None:
        return None
    planes = len(plan.classes) if len(plan.classes) > 2 else 1
    return {
        "parameters": cost.parameters + planes * (width + 1),
        "multiply_adds": cost.multiply_adds + planes * width,
    }


def _recipe(args: argparse.Namespace, name: str, sides: list[Side]) -> dict[str, Any]:
    """How vectors were made, faces found (of two SOURCEs those of each), and a CNN trained."""
    train, test = sides[0].features[name], sides[-1].features[name]
    faces = train.face_half if len(sides) == 1 else {"train": train.face_half, "test": test.face_half}
    trained = {"training": recipe_of(args, name).document()} if name in BASELINES else {}
    return {"features": train.feature_half, "faces": faces, **trained}


def _pairs(plan: Plan, results: Mapping[str, Result]) -> dict[str, Any]:
    """McNemar tests of every pair, with p corrected for their number."""
    truth = np.array(plan.test.label[plan.tested], object)
    given = {name: result.predicted[plan.tested] for name, result in results.items()}
    tests = {
        f"{one} / {two}": mcnemar(truth, given[one], given[two]) for one, two in itertools.combinations(results, 2)
    }
    corrected: Sequence[float] = holm([test["p"] for test in tests.values()])
    return {pair: test | {"p_corrected": p} for (pair, test), p in zip(tests.items(), corrected, strict=True)}
