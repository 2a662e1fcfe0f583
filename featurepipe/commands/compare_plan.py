"""Who is fitted on, chosen on and tested on in `compare`: frozen folds, an official split, or one SOURCE after another.

Nothing is tested on, and no C is chosen on, that the method or its backbone was fitted on.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.commands.compare_sides import Photos, Side
from featurepipe.commands.fit_svm import leave_out
from featurepipe.datasets.registry import DATABASES
from featurepipe.datasets.source import Source
from featurepipe.datasets.splits import GROUPS, Folds, grouped_by, groups_of, make_folds, rows_by_use
from featurepipe.errors import InputError
from featurepipe.labels import to_label_set

FOLDS = 5


@dataclass(frozen=True)
class Part:
    """One fit: positions (int64) of photos to fit on, to choose on (may be empty) and to test on."""

    fit: np.ndarray
    choose: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Plan:
    """A comparison's protocol.

    Parameters
    ----------
    train : photos that `fit` and `choose` of the parts point into
    test : photos that `test` of the parts points into; those of `train` where there is one SOURCE
    parts : each photo is in the test of one part at most
    about : JSON-able: protocol, identity of the tested people, labels, and what was dropped or refused
    """

    train: Photos
    test: Photos
    parts: list[Part]
    about: dict[str, Any]

    @cached_property
    def classes(self) -> list[str]:
        """The labels that are fitted on, sorted."""
        return sorted(set(self.train.label[np.concatenate([part.fit for part in self.parts])]))

    @property
    def tested(self) -> np.ndarray:
        """Positions of all photos tested on, ascending."""
        return np.sort(np.concatenate([part.test for part in self.parts]))


def refuse_early(args: argparse.Namespace, sources: list[Source]) -> None:
    """Raise InputError, before faces are looked for, where the labels or people asked for cannot be there."""
    labelled = [[sample for sample in source.samples if sample.label] for source in sources]
    if args.train:
        fitted = [str(sample.label) for sample in labelled[0] if sample.split not in ("val", "test")]
        _common_labels(args, fitted, [str(sample.label) for sample in labelled[1]])
    elif args.folds_by == "subject":
        labels = to_label_set([sample.label for sample in labelled[0]], args.labels)[0]
        people = [sample.subject for sample, label in zip(labelled[0], labels, strict=True) if label]
        _refuse_unknown_people(people, args.source, sources[0].dataset)


def plan_of(args: argparse.Namespace, sides: list[Side]) -> Plan:
    """The protocol that the arguments ask for, with labels permuted where they ask for the control."""
    plan = _cross_plan(args, *sides) if args.train else _plan(args, sides[0])
    return _shuffled(plan, args.seed) if args.shuffle_labels else plan


def _shuffled(plan: Plan, seed: int) -> Plan:
    """The labels to fit on (those of all parts, where they are tested too) permuted; dropped classes stay out.

    The folds are not made anew: the control runs on the very folds of the real run.
    """
    alone = plan.train is plan.test
    used = [rows for part in plan.parts for rows in (part.fit, part.choose, *([part.test] if alone else []))]
    rows, labels = np.unique(np.concatenate(used)), plan.train.label.copy()
    labels[rows] = np.random.default_rng(seed).permutation(labels[rows])
    train = replace(plan.train, label=labels)
    return replace(plan, train=train, test=train if alone else plan.test)


def _plan(args: argparse.Namespace, side: Side) -> Plan:
    """One SOURCE: its official split where it has test photos and no folds by subject are asked for; else folds."""
    labels, dropped = to_label_set(side.photos.label.tolist(), args.labels)
    photos = side.photos.take(np.array([label is not None for label in labels], bool))
    seen = side.seen(photos, args.weights)
    if "test" in photos.split and args.folds_by != "subject":
        about, parts = _official(args, photos, _any(seen))
    else:
        about, parts = _folds(args, photos)
    _refuse_leak(seen, [rows for part in parts for rows in (part.test, part.choose if len(part.choose) else part.fit)])
    about["dropped"] = dict(sorted((Counter(dropped) + Counter(about["dropped"])).items()))
    return Plan(photos, photos, parts, about | {"labels": args.labels})


def _official(args: argparse.Namespace, photos: Photos, seen: np.ndarray) -> tuple[dict[str, Any], list[Part]]:
    """The split that SOURCE names; test photos of people or pictures that the other parts hold too are counted."""
    use = rows_by_use(photos.split.tolist())
    dropped = _too_few(args, photos.label[use.fit].tolist())
    fit, choose, test = (
        rows[~np.isin(photos.label[rows], list(dropped))] for rows in (use.fit, use.choose, use.report)
    )
    choose = _to_choose_on(photos, fit, choose, seen)
    if not len(fit) or not len(test):
        raise InputError(f"the split of {args.source} leaves {len(fit)} photos to fit on and {len(test)} to test on")
    groups = np.array(groups_of(photos.content.tolist(), photos.subject.tolist(), photos.sequence.tolist()))
    shared = int(np.isin(groups[test], groups[np.concatenate([fit, choose])]).sum())
    about = {"protocol": "official split", "identity": _identity(photos), "dropped": dropped, "shared": shared}
    return about, [Part(fit, choose, test)]


def _too_few(args: argparse.Namespace, labels: list[str]) -> dict[str, int]:
    """Classes with fewer photos to fit on than --min-per-class, and how many they have."""
    counts = Counter(labels)
    return {label: count for label, count in sorted(counts.items()) if count < (args.min_per_class or 0)}


def _to_choose_on(photos: Photos, fit: np.ndarray, choose: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The val photos that are neither copies of photos to fit on nor known to a backbone; FER2013 has both."""
    copies = np.isin(photos.content[choose].astype(str), photos.content[fit].astype(str))
    choose = leave_out(choose, copies, "are copies of training photos")
    return leave_out(choose, seen[choose], "were seen by a backbone in training")


def _folds(args: argparse.Namespace, photos: Photos) -> tuple[dict[str, Any], list[Part]]:
    """The folds in OUT/folds.json where it fits these photos, made and written where it is not there."""
    path = Path(args.out) / "folds.json"
    folds = _frozen_folds(args, photos, path) if path.exists() else _new_folds(args, photos, path)
    none = np.empty(0, np.int64)
    by = grouped_by(photos.subject.tolist(), photos.sequence.tolist())
    what = "photos" if by == "content" else GROUPS[by]
    about = {
        "protocol": f"{folds.n_folds} folds of {what}",
        "identity": folds.identity,
        "dropped": dict(folds.dropped),
    }
    return about, [Part(fit, none, test) for fit, test in folds.parts()]


def _refuse_unknown_people(people: list[str | None], source: str, dataset: str) -> None:
    unknown = sum(not subject for subject in people)
    if not unknown:
        return
    reason = f"the subject of {unknown} of {len(people)} photos of {source} is unknown"
    if dataset in DATABASES and DATABASES[dataset].identity != "known":
        says = "does not say" if DATABASES[dataset].identity == "none" else "says of some photos only"
        reason += f": {DATABASES[dataset].title} {says} who is in its photos"
    raise InputError(
        f"folds by subject are asked for, but {reason}. Name the people (column subject of a CSV), or leave out "
        "--folds-by: then copies and sequences stay together, and the result says that identity is unknown"
    )


def _frozen_folds(args: argparse.Namespace, photos: Photos, path: Path) -> Folds:
    folds = Folds.load(path)
    folds.check_samples(photos.content.tolist(), photos.path.tolist())
    if args.folds not in (None, folds.n_folds):
        raise InputError(
            f"{path} holds {folds.n_folds} folds, not {args.folds}: leave out --folds to use them, or give "
            "another --out"
        )
    folds.check(photos.subject.tolist())
    return folds


def _new_folds(args: argparse.Namespace, photos: Photos, path: Path) -> Folds:
    folds = make_folds(
        photos.label.tolist(),
        subjects=photos.subject.tolist(),
        contents=photos.content.tolist(),
        paths=photos.path.tolist(),
        sequences=photos.sequence.tolist(),
        n_folds=args.folds or FOLDS,
        seed=args.seed,
        min_per_class=args.min_per_class or 0,
    )
    folds.save(path)
    return folds


def _refuse_leak(seen: Mapping[str, np.ndarray], held_out: Iterable[np.ndarray]) -> None:
    """A backbone that was trained on the photos tested on, or that C is chosen on, makes its figures worthless."""
    rows = np.unique(np.concatenate([*held_out]))
    for name, known in seen.items():
        if leaking := int(known[rows].sum()):
            raise InputError(
                f"LEAK: the backbone of {name} was trained on {leaking} of the photos to test on or to choose C on, so "
                "its figures would mean nothing; compare on other photos, or with a backbone that has not seen them"
            )


def _cross_plan(args: argparse.Namespace, train: Side, test: Side) -> Plan:
    """Fit on one SOURCE (never on its test split), test on another, on the labels that both have.

    Photos to test on that are photos to fit on or to choose on, or that a backbone was trained on, are refused one
    by one and counted: for all methods alike, so that all are tested on the same photos.
    """
    learnt = train.photos.take(train.photos.split != "test")
    tested, refused = _untouched(args, learnt, test)
    learnt, tested, dropped = _common(args, learnt, tested)
    seen = train.seen(learnt, args.weights)
    use = rows_by_use(learnt.split.tolist())
    choose = _to_choose_on(learnt, use.fit, use.choose, _any(seen))
    _refuse_leak(seen, [choose if len(choose) else use.fit])
    about = {
        "protocol": "cross-database",
        "identity": _identity(tested),
        "labels": args.labels,
        "fitted_on": len(use.fit),
        "chosen_on": len(choose),
        "dropped": dropped,
        "refused": refused,
    }
    if train.dataset == test.dataset:  # names of people of two databases say nothing about one another
        about["same_names"] = int(np.isin(tested.subject, [name for name in set(learnt.subject) if name]).sum())
    return Plan(learnt, tested, [Part(use.fit, choose, np.arange(len(tested)))], about)


def _untouched(args: argparse.Namespace, learnt: Photos, test: Side) -> tuple[Photos, dict[str, int]]:
    """Photos of the test split where there is one, else all; without those that were learnt from, which are counted."""
    ours = test.photos.split == "test"
    photos = test.photos.take(ours) if ours.any() else test.photos
    copies = np.isin(photos.content.astype(str), learnt.content.astype(str))
    seen = _any(test.seen(photos, args.weights))
    refused = {"in_train": int(copies.sum()), "trained_on": int((seen & ~copies).sum())}
    if (copies | seen).all():
        raise InputError(
            f"LEAK: none of the {len(photos)} photos of {test.name} can be tested on: {refused['in_train']} occur in "
            f"{args.train} too, and a backbone was trained on {refused['trained_on']} others"
        )
    return photos.take(~(copies | seen)), refused


def _common(args: argparse.Namespace, learnt: Photos, tested: Photos) -> tuple[Photos, Photos, dict[str, Any]]:
    """Both sides on the labels of the set asked for that both have; what has no counterpart, per side and label."""
    fitted = learnt.label[rows_by_use(learnt.split.tolist()).fit]
    common = _common_labels(args, fitted.tolist(), tested.label.tolist())
    sides = {"train": learnt, "test": tested}
    kept = {side: np.isin(photos.label.astype(str), common) for side, photos in sides.items()}
    dropped = {side: _counts(photos.label[~kept[side]]) for side, photos in sides.items()}
    return learnt.take(kept["train"]), tested.take(kept["test"]), dropped


def _common_labels(args: argparse.Namespace, fitted: list[str], tested: list[str]) -> list[str]:
    """The labels of the set asked for that both have, without those too rare to fit on; sorted."""
    ours, theirs = (set(to_label_set(labels, args.labels)[0]) for labels in (fitted, tested))
    common = sorted({label for label in ours & theirs if label} - set(_too_few(args, fitted)))
    if len(common) < 2:
        raise InputError(
            f"{args.train} to fit on has {_listed(fitted)} and {args.test} has {_listed(tested)}: "
            f"{len(common)} of label set {args.labels} can be used of both, and two are needed"
        )
    return common


def _listed(labels: list[str]) -> str:
    return ", ".join(sorted(set(labels))) or "no labels"


def _counts(labels: np.ndarray) -> dict[str, int]:
    return dict(sorted(Counter(labels.tolist()).items()))


def _identity(photos: Photos) -> str:
    return "known" if all(photos.subject) else "unknown"


def _any(seen: Mapping[str, np.ndarray]) -> np.ndarray:
    """Photos that any method's backbone was trained on."""
    return np.logical_or.reduce([*seen.values()])
