"""`compare`: SVM and CNNs on the same photos, by frozen folds, an official split, or one SOURCE after another."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import torch

import featurepipe
from featurepipe.commands.compare_figures import Results, figures_of, size_of
from featurepipe.commands.compare_fit import Result, fit_and_test
from featurepipe.commands.compare_lines import budget_of, chance_of, head_of, lines_of
from featurepipe.commands.compare_methods import check_methods
from featurepipe.commands.compare_plan import Plan, label_set, plan_of, refuse_early
from featurepipe.commands.compare_report import write_report
from featurepipe.commands.compare_sides import Side, extract_sides, failing_alone, learnt_backbones, read_sources
from featurepipe.commands.steps import check_new_file, refuse_inside, refuse_over, show, tell
from featurepipe.datasets.protocols import get_protocol
from featurepipe.errors import FeaturepipeError, InputError, MissingPackageError
from featurepipe.files import write_json
from featurepipe.machine import processor
from featurepipe.report.table import write_table

ALONE = ("dataset", "table", "folds")
CROSS = ("train_dataset", "train_table", "test_dataset", "test_table")
"""Options for one SOURCE, and for two."""

WRITTEN = ("comparison.json", "comparison.csv", "folds.json", "report.html")
"""What goes into OUT by these names, plots apart."""

MAX_SEED = 2**32 - 1
"""NumPy's legacy generators, which scikit-learn draws from, take no more."""


def run(args: argparse.Namespace) -> int:
    """Extract for every method, settle who is tested, fit and test, write JSON and plots, print the table."""
    _check(args)
    sources, out = read_sources(args), Path(args.out)
    refuse_early(args, [source for _, source in sources])
    sides, unmade = extract_sides(args, sources)
    plan = plan_of(args, sides)
    results, failed = _results(args, plan, sides)
    if not results:
        raise list(failed.values())[-1]
    document = figures_of(args, plan, results, sides)
    document["failed"] = {name: str(why) for name, why in (unmade | failed).items()}
    document["sizes"] = _sizes(args, plan, results, sides)
    document |= _versions()
    write_json(out / "comparison.json", document)
    write_table(out / "comparison.csv", document)
    first = {name: next(iter(by_seed.values())) for name, by_seed in results.items()}
    try:
        write_report(out, document, _facts(document), plan, first, sides[-1])
    except MissingPackageError as error:  # hours of fitting are not lost for a plot
        tell([f"no plots and no page: {error}"])
    show(args, lines_of(document, out), document)
    return 0


def _results(
    args: argparse.Namespace, plan: Plan, sides: list[Side]
) -> tuple[dict[str, dict[int, Result]], dict[str, FeaturepipeError]]:
    """What each method predicts with each seed, and why those failed that did."""
    results: dict[str, dict[int, Result]] = {}
    failed: dict[str, FeaturepipeError] = {}
    for name in sides[0].features:
        features = sides[0].features[name], sides[-1].features[name]
        with failing_alone(failed, name):
            if name in plan.refused:
                raise plan.refused[name]
            results[name] = {seed: fit_and_test(args, name, plan, *features, seed) for seed in seeds_of(args)}
    return results, failed


def _sizes(args: argparse.Namespace, plan: Plan, results: Results, sides: list[Side]) -> list[dict[str, Any]]:
    """How each method does on each number of training photos, rising; empty where only one is asked for."""
    rows = [size_of("", plan, results, {})]
    for name in plan.further:
        own = plan.of_size(name)
        tell([f"training size {name}:"])
        rows.append(size_of(name, own, *_results(args, own, sides)))
    return sorted(rows, key=lambda row: row["fitted_on"]) if plan.further else []


def seeds_of(args: argparse.Namespace) -> list[int]:
    """The seeds to fit with: --seed; with --seeds N that many from it on; else those listed, each once."""
    asked = args.seeds or [1]
    return [args.seed + at for at in range(asked[0])] if len(asked) == 1 else list(dict.fromkeys(asked))


def _check(args: argparse.Namespace) -> None:
    check_methods(args)
    if bool(args.train) != bool(args.test) or bool(args.source) == bool(args.train):
        raise InputError("give one SOURCE, or --train A and --test B to fit on one and test on another")
    seeds = seeds_of(args)
    if not seeds:
        raise InputError("--seeds 0 leaves nothing to fit; expected 1 or more, or a list of seeds")
    if max(seeds) > MAX_SEED:
        raise InputError(f"seed {max(seeds)} is too large; expected at most {MAX_SEED}: give a smaller --seed")
    if args.weights and not learnt_backbones(args):
        raise InputError("--weights is of a backbone, and none of the methods has one with weights: leave it out")
    _check_protocol(args)
    misplaced = [name for name in (ALONE if args.train else CROSS) if getattr(args, name) is not None]
    if misplaced:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in misplaced)
        raise InputError(f"{options} cannot be used {'with --train and --test' if args.train else 'without --train'}")
    out, sources = Path(args.out), (args.train, args.test) if args.train else (args.source,)
    for source in sources:
        refuse_inside(out, source)
    for name in WRITTEN:
        refuse_over(out / name, *sources, *(path for _, path in args.recipe))
    check_new_file(out / "comparison.json")


def _check_protocol(args: argparse.Namespace) -> None:
    """What goes with the protocol: one SOURCE or two, and whether it leaves the number of folds open."""
    if not args.protocol:
        return
    protocol = get_protocol(args.protocol)
    label_set(args)
    if (protocol.scheme == "cross") != bool(args.train):
        wanted = "two SOURCEs (--train A --test B)" if protocol.scheme == "cross" else "one SOURCE"
        raise InputError(f"protocol {protocol.name} is of {wanted}: {protocol.title}")
    if args.learning_curve and protocol.scheme == "frames":
        raise InputError(f"protocol {protocol.name} has training sizes of its own: leave out --learning-curve")
    if args.min_per_class and (protocol.labels or protocol.scheme == "dealt"):
        raise InputError(f"protocol {protocol.name} says itself which classes there are: leave out --min-per-class")
    if args.folds and (protocol.n_folds is not None or protocol.scheme in ("official", "frames")):
        raise InputError(f"protocol {protocol.name} says itself how photos are parted: leave out --folds")


def _facts(document: dict[str, Any]) -> dict[str, Any]:
    """The head of the report page."""
    warning = {"warning": document["protocol_warning"]} if document["protocol_warning"] else {}
    return {
        **{name: document[name] for name in ("source", "train", "test") if name in document},
        "protocol": head_of(document),
        **warning,
        "identity of the people": document["identity"],
        "classes": ", ".join(document["classes"]),
        "chance": chance_of(document).removeprefix("chance "),
        "seeds": ", ".join(map(str, document["seeds"])),
        "budget of each CNN": budget_of(document),
        "versions": document["versions"],
        "machine": document["machine"],
    }


def _versions() -> dict[str, str]:
    """What this run is made with; fits that an earlier run has kept may be of other machines."""
    return {
        "versions": f"featurepipe {featurepipe.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "machine": processor(),
    }
