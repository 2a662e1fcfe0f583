"""Who is fitted on, who is chosen on and who is tested on: frozen folds, a held-out part, and the rule for splits.

Photos that belong together stay together: those of one person where people are known, those of one sequence, and
copies of one picture.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from featurepipe.errors import InputError
from featurepipe.files import printable, read_json, write_json

FORMAT = 1
DROPPED = -1

Identity = Literal["known", "unknown", "shared"]
GroupedBy = Literal["subject", "sequence", "content"]
GROUPS: dict[GroupedBy, str] = {"subject": "subjects", "sequence": "sequences", "content": "different pictures"}
"""What is counted, in words, where samples are grouped by each."""


@dataclass(frozen=True, eq=False)
class Folds:
    """Folds of a list of samples, as they are frozen to a file.

    Parameters
    ----------
    keys : one per sample, in order: content key and path (`sample_keys`); the path is for people to read
    fold_of : int (n,), the fold whose test part holds the sample; DROPPED for a sample of a class left out
    n_folds, seed : as given to `make_folds`
    identity : "known": no person is in two folds; "unknown": some samples' subjects are not known; "shared": folds that
        do not keep people apart
    protocol : name of the protocol that the folds were made for, "" for none
    dropped : number of samples of each class left out for being too small
    """

    keys: tuple[str, ...]
    fold_of: np.ndarray
    n_folds: int
    seed: int
    identity: Identity
    dropped: Mapping[str, int] = field(default_factory=dict)
    protocol: str = ""

    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(train indices, test indices) of each fold; int64, ascending."""
        kept = self.fold_of != DROPPED
        return [
            (np.flatnonzero(kept & (self.fold_of != fold)), np.flatnonzero(self.fold_of == fold))
            for fold in range(self.n_folds)
        ]

    def check(self, subjects: Sequence[str | None], sequences: Sequence[str | None]) -> None:
        """Raise InputError if a person or a sequence is in several folds that say they keep these together.

        `subjects` and `sequences` are one per sample; sequences of one name of two subjects are two.
        """
        if self.identity == "shared":
            return
        of_people = [
            sequence and f"{subject or ''} {sequence}" for subject, sequence in zip(subjects, sequences, strict=True)
        ]
        for what, names in (("subjects", subjects), ("sequences", of_people)):
            shared = self._in_several(names)
            if shared:
                raise InputError(
                    f"{len(shared)} {what} are in more than one fold ({', '.join(map(printable, shared[:3]))}): "
                    f"figures from these folds would not be of unseen {what}; make the folds anew"
                )

    def _in_several(self, names: Sequence[str | None]) -> list[str]:
        folds: dict[str, set[int]] = defaultdict(set)
        for name, fold in zip(names, self.fold_of, strict=True):
            if name and fold != DROPPED:
                folds[name].add(int(fold))
        return sorted(name for name, where in folds.items() if len(where) > 1)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise InputError unless the samples that were left out still are of the classes that were too small."""
        gone = Counter(label for label, fold in zip(labels, self.fold_of, strict=True) if fold == DROPPED)
        if gone != Counter(self.dropped):
            raise InputError(
                f"the folds leave out {_counted(self.dropped)}, and these photos are labelled {_counted(gone)} now; "
                "make the folds anew"
            )

    def check_samples(self, contents: Sequence[str]) -> None:
        """Raise InputError unless these are, in this order, the samples that the folds were made for.

        They are known by content, wherever they lie; each copy of one picture counts.
        """
        ours = [key.partition(" ")[0] for key in self.keys]
        if ours == list(contents):
            return
        missing, extra = Counter(ours) - Counter(contents), Counter(contents) - Counter(ours)
        raise InputError(
            f"the folds are for {len(ours)} photos and do not fit these {len(contents)}: {missing.total()} of theirs "
            f"are missing, {extra.total()} are not known to them"
            + ("" if missing or extra else ", the order differs")
            + "; give the same SOURCE, or make the folds anew"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, under a temporary name first."""
        write_json(
            path,
            {
                "format": FORMAT,
                "n_folds": self.n_folds,
                "seed": self.seed,
                "identity": self.identity,
                "protocol": self.protocol,
                "dropped": dict(self.dropped),
                "samples": [[key, int(fold)] for key, fold in zip(self.keys, self.fold_of, strict=True)],
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Folds:
        """Read what `save` wrote.

        Raises
        ------
        InputError : the file cannot be read or is no file of folds of this format
        """
        shown = printable(os.fspath(path))
        try:
            document = read_json(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{shown} cannot be read as folds: {error}") from error
        try:
            return cls._from_document(document)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{shown} is no file of folds of format {FORMAT}: {error!r}; make the folds anew"
            ) from error

    @classmethod
    def _from_document(cls, document: Mapping) -> Folds:
        if document["format"] != FORMAT or document["identity"] not in get_args(Identity):
            raise ValueError(f"format {document['format']}, identity {document['identity']}")
        keys = tuple(str(key) for key, _ in document["samples"])
        fold_of = np.array([int(fold) for _, fold in document["samples"]], dtype=np.int64)
        n_folds = int(document["n_folds"])
        if not np.isin(fold_of, [DROPPED, *range(n_folds)]).all():
            raise ValueError(f"a fold outside 0 to {n_folds - 1}")
        protocol = str(document.get("protocol", ""))  # older files name none
        seed, dropped = int(document["seed"]), dict(document["dropped"])
        return cls(keys, fold_of, n_folds, seed, document["identity"], dropped, protocol)


@dataclass(frozen=True, eq=False)
class Rows:
    """Row numbers (int64, ascending) by what may be done with them."""

    fit: np.ndarray
    choose: np.ndarray
    report: np.ndarray


def rows_by_use(splits: Sequence[str | None]) -> Rows:
    """The rule for official splits: fit on train and on rows without a split, choose on val, report on test."""
    uses = np.array([{"val": "choose", "test": "report"}.get(split or "", "fit") for split in splits], dtype="U6")
    return Rows(*(np.flatnonzero(uses == use) for use in ("fit", "choose", "report")))


def sample_keys(contents: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    """Keys that name samples in a file of folds: content key and path."""
    return tuple(f"{content} {printable(path)}" for content, path in zip(contents, paths, strict=True))


def numbered(contents: Sequence[str]) -> list[str]:
    """Keys that name samples wherever they lie: content and, of copies of one picture, which of them it is.

    >>> numbered(["a", "b", "a"])
    ['a 0', 'b 0', 'a 1']
    """
    met: Counter[str] = Counter()
    keys = []
    for content in contents:
        keys.append(f"{content} {met[content]}")
        met[content] += 1
    return keys


def groups_of(
    contents: Sequence[str], subjects: Sequence[str | None], sequences: Sequence[str | None] | None = None
) -> list[str]:
    """The group of each sample: samples of one subject, sequence or content are in one group, and so on in chains.

    Where a subject or a sequence is None or empty it ties nothing; equal names of sequences of two subjects are two
    sequences. A group's name is the least content in it: it depends on neither the order nor the place of the samples.
    """
    parent: dict[tuple[str, ...], tuple[str, ...]] = {}

    def root(node: tuple[str, ...]) -> tuple[str, ...]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for content, subject, sequence in zip(contents, subjects, sequences or [None] * len(contents), strict=True):
        ties: list[tuple[str, ...]] = [("subject", subject)] if subject else []
        ties += [("sequence", sequence, subject or "")] if sequence else []
        for tie in ties:
            one, other = root(("content", content)), root(tie)
            parent[max(one, other)] = min(one, other)  # "content" sorts first: roots are least contents
    return [root(("content", content))[1] for content in contents]


def grouped_by(subjects: Sequence[str | None], sequences: Sequence[str | None] | None = None) -> GroupedBy:
    """What the groups of samples are: subjects where all are known, else sequences where there are any, else copies."""
    if all(subjects):
        return "subject"
    return "sequence" if any(sequences or ()) else "content"


def resampled_by(
    subjects: Sequence[str | None], sequences: Sequence[str | None]
) -> tuple[list[str] | None, Literal["subjects", "sequences", "photos"]]:
    """What intervals resample as a whole, a name for each sample, and what it is.

    Subjects where all are known; else, where there are sequences, these and the subjects known, and what is left by
    itself; (None, "photos") where neither is known.

    >>> resampled_by([None, None, "S1"], ["a", "a", None])
    (['sequence a', 'sequence a', 'subject S1'], 'sequences')
    """
    if not all(subjects) and not any(sequences):
        return None, "photos"
    names = [
        f"subject {subject}" if subject else f"sequence {sequence}" if sequence else f"photo {row}"
        for row, (subject, sequence) in enumerate(zip(subjects, sequences, strict=True))
    ]
    return names, "subjects" if all(subjects) else "sequences"


def make_folds(
    labels: Sequence[str],
    *,
    subjects: Sequence[str | None],
    contents: Sequence[str],
    paths: Sequence[str],
    sequences: Sequence[str | None] | None = None,
    n_folds: int = 5,
    seed: int = 0,
    min_per_class: int = 0,
) -> Folds:
    """Stratified folds of labelled samples that keep people, sequences, and copies of a picture, together.

    Where every sample names its subject, folds are subject-disjoint; else identity is unknown, and only samples whose
    subject, sequence or content is known to be the same are kept together. The same samples and seed give the same
    folds on every platform, in whatever order they come.

    Parameters
    ----------
    labels, subjects, contents, paths, sequences : one per sample; contents are the samples' content keys
    min_per_class : leave out (and count) classes with fewer independent groups than this: subjects where they are
        known, else sequences or different pictures

    Raises
    ------
    InputError : a sample has no label, a class has fewer independent groups than n_folds, or fewer than two classes are
        left
    """
    if not all(labels):
        raise InputError(f"{sum(not label for label in labels)} samples have no label; leave them out of the folds")
    identity: Identity = "known" if all(subjects) else "unknown"
    groups = groups_of(contents, subjects, sequences)
    unit = GROUPS[grouped_by(subjects, sequences)]
    dropped = small_classes(labels, groups, min_per_class)
    sizes = _groups_per_class(labels, groups)
    _check_sizes({label: size for label, size in sizes.items() if label not in dropped}, n_folds, unit)
    rows = [row for row, label in enumerate(labels) if label not in dropped]
    fold_of = np.full(len(labels), DROPPED, dtype=np.int64)
    fold_of[rows] = _assign([labels[row] for row in rows], [groups[row] for row in rows], [1.0] * n_folds, seed)
    return Folds(sample_keys(contents, paths), fold_of, n_folds, seed, identity, dropped)


def small_classes(labels: Sequence[str], groups: Sequence[str], min_per_class: int) -> dict[str, int]:
    """Classes with fewer groups (`groups_of`) than this, sorted, and how many samples each has.

    >>> small_classes(["anger", "fear", "fear", "anger"], ["a", "a", "a", "b"], 2)
    {'fear': 2}
    """
    sizes, samples = _groups_per_class(labels, groups), Counter(labels)
    return {label: samples[label] for label in sorted(sizes) if sizes[label] < min_per_class}


def deal_folds(
    subjects: Sequence[str], *, contents: Sequence[str], paths: Sequence[str], n_folds: int = 0, seed: int = 0
) -> Folds:
    """Folds of people by the literature's convention for CK+ and Oulu-CASIA (baselines.md 0.3).

    Subjects in ascending order are dealt into the folds in turn; 0 folds: as many as there are subjects. Nothing is
    random: `seed` is recorded.

    Raises
    ------
    InputError : fewer subjects than folds, or than two
    """
    people = sorted(set(subjects))
    n_folds = n_folds or len(people)
    if len(people) < max(2, n_folds):
        raise InputError(f"{len(people)} subjects are too few for {max(2, n_folds)} folds of subjects; add people")
    place = {subject: at % n_folds for at, subject in enumerate(people)}
    fold_of = np.array([place[subject] for subject in subjects], dtype=np.int64)
    return Folds(sample_keys(contents, paths), fold_of, n_folds, seed, "known")


FRAMES, FRAMES_FITTED = 10708, (8000, 9000, 10000)
"""Frames of CK+, and how many of them the paper fits on in its three runs (its Table 2)."""


def frame_folds(*, contents: Sequence[str], paths: Sequence[str], seed: int = 0) -> Folds:
    """The paper's random frames as four folds: the first 8,000 of 10,708 in random order, 1,000, 1,000 and 708.

    The last fold is always fitted on; its run of 8,000 tests on the three others, that of 9,000 on the first two, that
    of 10,000 on the first. Of another number of frames the same shares.
    """
    keys = numbered(contents)
    ends = [round(len(keys) * end / FRAMES) for end in FRAMES_FITTED]
    fold_of = np.empty(len(keys), dtype=np.int64)
    order = sorted(range(len(keys)), key=lambda row: _shuffled(keys[row], seed))
    for fold, rows in enumerate(reversed(np.split(np.array(order, dtype=np.int64), ends))):
        fold_of[rows] = fold
    return Folds(sample_keys(contents, paths), fold_of, len(ends) + 1, seed, "shared")


def nested_part(labels: Sequence[str], keys: Sequence[str], fraction: float, seed: int = 0) -> np.ndarray:
    """About `fraction` of each class, at least one sample of it; int64 row numbers, ascending.

    A larger fraction with the same seed holds all that a smaller one does; `keys` name the samples, whose order does
    not matter.

    >>> labels, keys = ["anger"] * 4 + ["fear"] * 2, list("abcdef")
    >>> [len(nested_part(labels, keys, fraction)) for fraction in (0.1, 0.5, 1)]
    [2, 3, 6]
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(keys)), key=lambda row: _shuffled(keys[row], seed)):
        rows[labels[row]].append(row)
    kept = [row for own in rows.values() for row in own[: max(1, round(fraction * len(own)))]]
    return np.array(sorted(kept), dtype=np.int64)


def grouped_holdout(
    labels: Sequence[str], groups: Sequence[str], fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out about `fraction` of each class to choose on, never parting a group (`groups_of`).

    Returns (train indices, held-out indices), int64 and ascending. Every class is in the train part; one with few
    groups may be missing from the other.

    Raises
    ------
    InputError : fraction is not between 0 and 1, or there are too few groups to hold one out
    """
    if not 0 < fraction < 1:
        raise InputError(f"a fraction of {fraction} cannot be held out; expected more than 0 and less than 1")
    part = _assign(labels, groups, [1 - fraction, fraction], seed)
    _return_missing_classes(labels, groups, part)
    if not part.any():
        raise InputError(
            f"nothing can be held out: {len(set(groups))} independent groups (people, or different pictures) are too "
            f"few for a part of {fraction:g}; add photos or hold out more"
        )
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in sorted(counts.items())) or "nothing"


def _groups_per_class(labels: Sequence[str], groups: Sequence[str]) -> Counter[str]:
    return Counter(label for label, _ in set(zip(labels, groups, strict=True)))


def _check_sizes(sizes: Mapping[str, int], n_folds: int, unit: str) -> None:
    if n_folds < 2:
        raise InputError(f"{n_folds} folds are too few; expected 2 or more")
    small = [f"{label} ({sizes[label]})" for label in sorted(sizes) if sizes[label] < n_folds]
    if small:
        raise InputError(
            f"too few {unit} for {n_folds} folds in class {', '.join(small)}; add photos, use fewer folds, or leave "
            f"such classes out with --min-per-class {n_folds}"
        )
    if len(sizes) < 2:
        raise InputError(f"{len(sizes)} classes are left for the folds; expected 2 or more")


def _assign(labels: Sequence[str], groups: Sequence[str], shares: Sequence[float], seed: int) -> np.ndarray:
    """Part (int64, n) of each sample: whole groups, each class spread over the parts in proportion to `shares`.

    Greedy, large groups first: a group goes where the sum over parts and classes of
    (samples of the class in the part / samples of the class)^2 / share grows least. Plain Python floats and a
    hashed order, not scikit-learn's StratifiedGroupKFold: its folds have changed between releases.
    """
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        members[group][label] += 1
    totals = Counter(labels)
    filled: list[Counter[str]] = [Counter() for _ in shares]

    def growth(part: int, group: Counter[str]) -> tuple[float, float, int]:
        have = filled[part]
        cost = sum((2 * have[label] + group[label]) * group[label] / totals[label] ** 2 for label in sorted(group))
        return cost / shares[part], have.total() / shares[part], part

    part_of = {}
    for name in sorted(members, key=lambda name: (-members[name].total(), _shuffled(name, seed))):
        part = min(range(len(shares)), key=lambda part: growth(part, members[name]))
        filled[part].update(members[name])
        part_of[name] = part
    return np.array([part_of[group] for group in groups], dtype=np.int64)


def _shuffled(name: str, seed: int) -> bytes:
    """A key that sorts names in an order that looks random and is the same everywhere for one seed."""
    return hashlib.sha256(f"{seed}\0{printable(name)}".encode()).digest()


def _return_missing_classes(labels: Sequence[str], groups: Sequence[str], part: np.ndarray) -> None:
    """Move held-out groups back to part 0, in place, for classes that part 0 lacks."""
    for label in sorted(set(labels)):
        rows = [row for row, other in enumerate(labels) if other == label]
        if part[rows].all():
            part[[group == groups[rows[0]] for group in groups]] = 0
