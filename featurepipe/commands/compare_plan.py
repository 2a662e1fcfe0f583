"""Who is fitted on, chosen on and tested on in `compare`: frozen folds, an official split, or one SOURCE after another.

Nothing is tested on, and no C is chosen on, that the method or its backbone was fitted on.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.commands.compare_sides import Photos, Side
from featurepipe.commands.fit_svm import leave_out
from featurepipe.datasets.protocols import TENTH, Protocol, get_protocol
from featurepipe.datasets.source import Source
from featurepipe.datasets.splits import (
    FRAMES,
    FRAMES_FITTED,
    GROUPS,
    Folds,
    deal_folds,
    frame_folds,
    grouped_by,
    grouped_holdout,
    groups_of,
    make_folds,
    nested_part,
    numbered,
    rows_by_use,
    small_classes,
)
from featurepipe.errors import InputError
from featurepipe.labels import to_label_set
from featurepipe.names import INDEPENDENT
from featurepipe.records import Sample

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
    seen : by method: bool, which of `train` its backbone was trained on; C is not chosen on these
    shared : positions of photos tested on whose people or pictures are among those to fit or choose on too
    further : by name: other parts of the same photos, to set beside: training sizes
    refused : by method: why it may not be tested on these photos
    """

    train: Photos
    test: Photos
    parts: list[Part]
    about: dict[str, Any]
    seen: Mapping[str, np.ndarray]
    shared: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    further: Mapping[str, list[Part]] = field(default_factory=dict)
    refused: Mapping[str, InputError] = field(default_factory=dict)

    @cached_property
    def classes(self) -> list[str]:
        """The labels that are fitted on, sorted."""
        return sorted(set(self.train.label[np.concatenate([part.fit for part in self.parts])]))

    def of_size(self, name: str) -> Plan:
        """The plan with other parts, `further[name]`; refused are methods whose figures would not be of these."""
        parts = self.further[name]
        leaking = _leaking(self.test, self.seen, parts) if self.train is self.test else {}
        return replace(self, parts=parts, refused={**self.refused, **leaking, **_learnt_more(self, parts)})

    @property
    def tested(self) -> np.ndarray:
        """Positions of all photos tested on, ascending."""
        return np.sort(np.concatenate([part.test for part in self.parts]))


def refuse_early(args: argparse.Namespace, sources: list[Source]) -> None:
    """Raise InputError, before faces are looked for, where the labels asked for cannot be there."""
    fitted = _fitted_labels(args, sources[0].samples)
    if args.train:
        _common_labels(args, fitted, [str(sample.label) for sample in sources[1].samples if sample.label])
    elif len({label for label in to_label_set(fitted, label_set(args))[0] if label}) < 2:
        raise InputError(
            f"{args.source} has {_listed(fitted)} to fit on: two labels of label set {label_set(args)} are needed to "
            "compare on; see --help for ways to give labels"
        )


def _fitted_labels(args: argparse.Namespace, samples: list[Sample]) -> list[str]:
    """The labels of photos that may be fitted on: where the split decides, not of those to choose or to test on."""
    official = _is_official(args, samples)
    kept = [sample for sample in samples if not (args.train or official) or sample.split not in ("val", "test")]
    return [str(sample.label) for sample in kept if sample.label]


def _is_official(args: argparse.Namespace, samples: Sequence[Sample]) -> bool:
    """Whether the photos to test on are those of a split: by the protocol, else where labelled ones have such."""
    if args.protocol:
        return get_protocol(args.protocol).scheme == "official"
    return any(sample.split == "test" and sample.label for sample in samples)


def plan_of(args: argparse.Namespace, sides: list[Side]) -> Plan:
    """The protocol that the arguments ask for, with labels permuted where they ask for the control."""
    plan = _cross_plan(args, *sides) if args.train else _plan(args, sides[0])
    plan = replace(plan, further={**plan.further, **_smaller(args, plan)})
    plan = _shuffled(plan, args.seed) if args.shuffle_labels else plan
    return replace(plan, about=plan.about | {"untrained": _untrained(plan)})


def _untrained(plan: Plan) -> dict[str, int]:
    """How many photos of each label are tested on where none of it is fitted on: no method can get them right."""
    strangers = [
        part.test[~np.isin(plan.test.label[part.test].astype(str), plan.train.label[part.fit].astype(str))]
        for part in plan.parts
    ]
    return _counts(plan.test.label[np.concatenate(strangers)])


def _smaller(args: argparse.Namespace, plan: Plan) -> dict[str, list[Part]]:
    """By share: the parts with that share of their photos to fit on; nested, stratified, tested on the same photos."""
    keys = numbered(plan.train.content.tolist())
    return {
        f"{share:g}": [_with_share(plan, part, keys, share, args.seed) for part in plan.parts]
        for share in sorted(set(args.learning_curve or ()) - {1.0})
    }


def _with_share(plan: Plan, part: Part, keys: Sequence[str], share: float, seed: int) -> Part:
    labels = plan.train.label[part.fit].tolist()
    return replace(part, fit=part.fit[nested_part(labels, [keys[row] for row in part.fit], share, seed)])


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
    """One SOURCE: by the protocol asked for; else its official split where it has test photos; else folds."""
    protocol = get_protocol(args.protocol) if args.protocol else None
    wanted = label_set(args)
    labels, dropped = to_label_set(side.photos.label.tolist(), wanted)
    photos = side.photos.take(np.array([label is not None for label in labels], bool))
    seen = side.seen(photos)
    official = _is_official(args, side.samples)
    if official and args.folds:
        raise InputError(f"{args.source} says itself which photos are to be tested on (split test): leave out --folds")
    about, parts, further = (_official if official else _folds)(args, photos, protocol)
    parted = official or about["identity"] != "shared"  # else all are of the same people, and are told to be
    shared = _shared(photos, parts) if parted else np.empty(0, np.int64)
    about["dropped"] = dict(sorted((Counter(dropped) + Counter(about["dropped"])).items()))
    about |= {"labels": wanted, "shared": len(shared), "unread": side.unread} | _named(protocol)
    return Plan(photos, photos, parts, about, seen, shared, further, _leaking(photos, seen, parts))


def label_set(args: argparse.Namespace) -> str:
    """The labels of the protocol, else those asked for; InputError where they are not the same."""
    fixed = get_protocol(args.protocol).labels if args.protocol else None
    if fixed and args.labels not in ("native", fixed):
        raise InputError(f"protocol {args.protocol} is of label set {fixed}, not {args.labels}: leave out --labels")
    return fixed or args.labels


def _named(protocol: Protocol | None) -> dict[str, Any]:
    """What is recorded of a named protocol."""
    if protocol is None:
        return {"protocol_name": None, "protocol_warning": ""}
    return {"protocol_name": protocol.name, "protocol_warning": protocol.warning}


Parts = tuple[dict[str, Any], list[Part], dict[str, list[Part]]]
"""What is recorded of them, the parts, and further ones by name."""


def _official(args: argparse.Namespace, photos: Photos, protocol: Protocol | None) -> Parts:
    """The split that SOURCE names; of a named protocol a tenth of train to choose on, where nothing is for that."""
    use = rows_by_use(photos.split.tolist())
    dropped = _too_few(args, photos.label[use.fit].tolist())
    fit, choose, test = (
        rows[~np.isin(photos.label[rows], list(dropped))] for rows in (use.fit, use.choose, use.report)
    )
    choose = _without_copies(photos, fit, choose)
    if not len(fit) or not len(test):
        raise InputError(f"the split of {args.source} leaves {len(fit)} photos to fit on and {len(test)} to test on")
    if protocol and not len(choose):
        own = photos.take(fit)  # grouped among themselves: who is on the photos to test on decides nothing
        kept, held = grouped_holdout(own.label.tolist(), groups_in(own).tolist(), TENTH, 0)
        fit, choose = fit[kept], fit[held]
    about = {
        "protocol": "official split",
        "identity": _identity(photos),
        "dropped": dropped,
        "fitted_on": len(fit),
        "chosen_on": len(choose),
    }
    return about, [Part(fit, choose, test)], {}


def groups_in(photos: Photos) -> np.ndarray:
    """Who or what is on each photo: copies, photos of one person or sequence, have one name."""
    return np.array(groups_of(photos.content.tolist(), photos.subject.tolist(), photos.sequence.tolist()))


def _shared(photos: Photos, parts: list[Part]) -> np.ndarray:
    """The photos to test on of people or pictures that the part's other photos hold too."""
    groups = groups_in(photos)
    known = [np.isin(groups[part.test], groups[np.concatenate([part.fit, part.choose])]) for part in parts]
    return np.concatenate([part.test[own] for part, own in zip(parts, known, strict=True)])


def _too_few(args: argparse.Namespace, labels: list[str]) -> dict[str, int]:
    """Classes with fewer photos to fit on than --min-per-class, and how many they have."""
    counts = Counter(labels)
    return {label: count for label, count in sorted(counts.items()) if count < (args.min_per_class or 0)}


def _without_copies(photos: Photos, fit: np.ndarray, choose: np.ndarray) -> np.ndarray:
    """The val photos that are no copies of photos to fit on; FER2013 has such."""
    copies = np.isin(photos.content[choose].astype(str), photos.content[fit].astype(str))
    return leave_out(choose, copies, "are copies of training photos")


def _folds(args: argparse.Namespace, photos: Photos, protocol: Protocol | None) -> Parts:
    """The folds in OUT/folds.json where it fits these photos, made and written where it is not there."""
    path = Path(args.out) / "folds.json"
    folds = _frozen_folds(args, photos, path) if path.exists() else _new_folds(args, photos, protocol, path)
    by = "content" if folds.identity == "shared" else grouped_by(photos.subject.tolist(), photos.sequence.tolist())
    what = "photos" if by == "content" else GROUPS[by]
    about = {
        "protocol": f"{folds.n_folds} folds of {what}",
        "identity": folds.identity,
        "dropped": dict(folds.dropped),
        "folds_seed": folds.seed,
    }
    none = np.empty(0, np.int64)
    scheme = protocol.scheme if protocol else "stratified"
    parts = [Part(fit, none, test) for fit, test in folds.parts()]
    if protocol and protocol.chooses:
        after = [*parts[1:], parts[0]]
        parts = [
            Part(np.setdiff1d(one.fit, next_one.test), next_one.test, one.test)
            for one, next_one in zip(parts, after, strict=True)
        ]
    if scheme == "holdout":
        about["protocol"] = f"one of {folds.n_folds} parts of {what} held out"
        return about, parts[:1], {}
    if scheme == "frames":
        about["protocol"] = f"{FRAMES_FITTED[0]} of {FRAMES} random frames to fit on, or the same share"
        runs = {str(size): [_frame_part(folds, len(FRAMES_FITTED) - at)] for at, size in enumerate(FRAMES_FITTED)}
        return about, runs.pop(str(FRAMES_FITTED[0])), runs | _independent(photos, folds.seed)
    return about, parts, {}


def _independent(photos: Photos, seed: int) -> dict[str, list[Part]]:
    """As many frames as of the first run, but nobody on both sides: what random frames are to be read beside."""
    with suppress(InputError):  # of too few people nobody can be held out
        groups = groups_in(photos).tolist()
        fit, test = grouped_holdout(photos.label.tolist(), groups, 1 - FRAMES_FITTED[0] / FRAMES, seed)
        return {INDEPENDENT: [Part(fit, np.empty(0, np.int64), test)]}
    return {}


def _frame_part(folds: Folds, tested: int) -> Part:
    """The first folds tested on, the others fitted on (splits.frame_folds)."""
    fit, test = np.flatnonzero(folds.fold_of >= tested), np.flatnonzero(folds.fold_of < tested)
    return Part(fit, np.empty(0, np.int64), test)


def _frozen_folds(args: argparse.Namespace, photos: Photos, path: Path) -> Folds:
    folds = Folds.load(path)
    if folds.protocol != (args.protocol or ""):
        raise InputError(
            f"{path} holds folds of protocol {folds.protocol or 'none'}, not of {args.protocol or 'none'}: give the "
            "same --protocol, or another --out"
        )
    try:
        folds.check_samples(photos.content.tolist())
        folds.check_labels(photos.label.tolist())
        folds.check(photos.subject.tolist(), photos.sequence.tolist())
    except InputError as error:
        raise InputError(f"{path}: {error} (delete {path}, or give another --out)") from error
    if args.folds not in (None, folds.n_folds):
        raise InputError(
            f"{path} holds {folds.n_folds} folds, not {args.folds}: leave out --folds to use them, or give "
            "another --out"
        )
    _check_dropped(args, photos, folds, path)
    return folds


def _check_dropped(args: argparse.Namespace, photos: Photos, folds: Folds, path: Path) -> None:
    """The folds left out the very classes that --min-per-class leaves out, where it is given."""
    if args.min_per_class is None:
        return
    asked = small_classes(photos.label.tolist(), groups_in(photos).tolist(), args.min_per_class)
    if asked != folds.dropped:
        raise InputError(
            f"{path} holds folds that leave out {_classes(folds.dropped)}, and --min-per-class {args.min_per_class} "
            f"leaves out {_classes(asked)}: leave out the option to use them, delete {path}, or give another --out"
        )


def _classes(labels: Collection[str]) -> str:
    return ", ".join(sorted(labels)) or "no class"


def _new_folds(args: argparse.Namespace, photos: Photos, protocol: Protocol | None, path: Path) -> Folds:
    names = {"contents": photos.content.tolist(), "paths": photos.path.tolist()}
    scheme = protocol.scheme if protocol else "stratified"
    fixed = protocol.n_folds if protocol else None
    if scheme == "dealt":
        folds = deal_folds(photos.subject.tolist(), n_folds=fixed or 0, seed=args.seed, **names)
    elif scheme == "frames":
        folds = frame_folds(seed=args.seed, **names)
    else:
        people = {"subjects": photos.subject.tolist(), "sequences": photos.sequence.tolist()}
        if scheme == "images":
            people = {"subjects": [None] * len(photos)}
        folds = make_folds(
            photos.label.tolist(),
            **names,
            **people,
            n_folds=fixed or args.folds or FOLDS,
            seed=args.seed,
            min_per_class=args.min_per_class or 0,
        )
    identity = "shared" if scheme == "images" else folds.identity
    folds = replace(folds, identity=identity, protocol=args.protocol or "")
    folds.save(path)
    return folds


def _leaking(photos: Photos, seen: Mapping[str, np.ndarray], parts: list[Part]) -> dict[str, InputError]:
    """The methods whose backbone was trained on photos tested on, which makes their figures worthless, and the error.

    Copies of photos to fit or choose on do not count: every method, whatever its backbone, may know them from there;
    they are told and scored apart as `Plan.shared`.
    """
    contents = photos.content.astype(str)
    learnt = [contents[np.concatenate([part.fit, part.choose])] for part in parts]
    own = [part.test[~np.isin(contents[part.test], known)] for part, known in zip(parts, learnt, strict=True)]
    rows = np.concatenate(own)
    return {
        name: InputError(
            f"LEAK: the backbone of {name} was trained on {leaking} of the photos to test on, so its figures would "
            "mean nothing; compare on other photos, or with a backbone that has not seen them"
        )
        for name, known in seen.items()
        if (leaking := int(known[rows].sum()))
    }


def _learnt_more(plan: Plan, parts: list[Part]) -> dict[str, InputError]:
    """The methods whose backbone was trained on photos that `parts` do not fit on any more, and the error."""
    left = [np.setdiff1d(whole.fit, part.fit) for whole, part in zip(plan.parts, parts, strict=True)]
    rows = np.concatenate(left)
    return {
        name: InputError(
            f"the backbone of {name} was trained on {count} photos that are not fitted on at this training size"
        )
        for name, known in plan.seen.items()
        if (count := int(known[rows].sum()))
    }


def _cross_plan(args: argparse.Namespace, train: Side, test: Side) -> Plan:
    """Fit on one SOURCE (never on its test split), test on another, on the labels that both have.

    Photos to test on that are photos to fit on or to choose on, or that a backbone was trained on, are refused one
    by one and counted: for all methods alike, so that all are tested on the same photos.
    """
    learnt = train.photos.take(train.photos.split != "test")
    tested, refused = _untouched(args, learnt, test)
    learnt, tested, dropped = _common(args, learnt, tested)
    seen = train.seen(learnt)
    use = rows_by_use(learnt.split.tolist())
    choose = _without_copies(learnt, use.fit, use.choose)
    choose = leave_out(choose, _any(seen)[choose], "were seen by a backbone in training")
    about = {
        "protocol": "cross-database",
        "identity": _identity(tested),
        "labels": label_set(args),
        "fitted_on": len(use.fit),
        "chosen_on": len(choose),
        "dropped": dropped,
        "refused": refused,
        "unread": {"train": train.unread, "test": test.unread},
    }
    if train.dataset == test.dataset:  # names of people of two databases say nothing about one another
        about["same_names"] = int(np.isin(tested.subject, [name for name in set(learnt.subject) if name]).sum())
    about |= _named(get_protocol(args.protocol) if args.protocol else None)
    return Plan(learnt, tested, [Part(use.fit, choose, np.arange(len(tested)))], about, seen)


def _untouched(args: argparse.Namespace, learnt: Photos, test: Side) -> tuple[Photos, dict[str, int]]:
    """Photos of the test split where there is one, else all; without those that were learnt from, which are counted."""
    ours = test.photos.split == "test"
    photos = test.photos.take(ours) if ours.any() else test.photos
    copies = np.isin(photos.content.astype(str), learnt.content.astype(str))
    seen = _any(test.seen(photos))
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
    ours, theirs = (set(to_label_set(labels, label_set(args))[0]) for labels in (fitted, tested))
    common = sorted({label for label in ours & theirs if label} - set(_too_few(args, fitted)))
    if len(common) < 2:
        raise InputError(
            f"{args.train} to fit on has {_listed(fitted)} and {args.test} has {_listed(tested)}: "
            f"{len(common)} of label set {label_set(args)} can be used of both, and two are needed"
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
