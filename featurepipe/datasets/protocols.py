"""Protocols of the literature by name: which samples of which database, which labels, and who is tested on whom.

A protocol says nothing of methods. Sources: baselines.md sections 0.3, 1.4, 3.4, 11 and 16, datasets.md section 3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from featurepipe.datasets.registry import DATABASES
from featurepipe.datasets.sequences import APEX_FRAMES
from featurepipe.datasets.source import Source
from featurepipe.errors import InputError
from featurepipe.labels import LABEL_SETS
from featurepipe.records import Sample

Samples = list[Sample]

Scheme = Literal["official", "dealt", "stratified", "images", "frames", "holdout", "cross"]
"""How samples get their parts: the official split; subjects in ascending order dealt into folds; stratified folds that
keep people together; folds of pictures, whoever is on them; random frames; one held-out part; or two databases."""

FREQUENT_MICRO = ("disgust", "happiness", "others", "repression", "surprise")
"""The five classes of CASME II (datasets.md 3.10: 246 of its 255 clips)."""

TENTH = 0.1
"""Share of the training photos held out to choose on, where a protocol with an official split names no part for it."""


@dataclass(frozen=True)
class Protocol:
    """One protocol.

    Parameters
    ----------
    name : as --protocol takes it
    title : in words, with what it tests
    databases : names of the databases it is of; empty where it is of any whose people are known
    labels : label set; None: as asked
    scheme : how samples get their parts
    n_folds : folds of the scheme; 0: as many as there are subjects; None: as asked
    select : the samples of a database that take part, with their splits as the protocol uses them
    photos : how many photos are tested where the copy is whole; None where that is not known
    chooses : whether of dealt folds the one after the fold tested on is chosen on, not fitted on
    warning : what is wrong with the figures, where something is
    each : how many photos of one sequence `photos` counts, where it is of sequences
    """

    name: str
    title: str
    databases: tuple[str, ...]
    labels: str | None
    scheme: Scheme
    n_folds: int | None = None
    select: Callable[[Samples], Samples] = lambda samples: samples
    photos: int | None = None
    chooses: bool = False
    warning: str = ""
    each: int = APEX_FRAMES

    @property
    def needs_people(self) -> bool:
        """Whether every subject must be known."""
        return self.scheme in ("dealt", "stratified")

    def apply(self, source: Source, name: str) -> Source:
        """The samples of SOURCE (called `name`) that take part, in its order, and a note of what they are.

        Raises
        ------
        InputError : SOURCE is of another database, holds nothing that takes part, or its people are not known
        """
        self._refuse_others(source, name)
        wanted = LABEL_SETS[self.labels or "native"]
        labelled = [sample for sample in source.samples if sample.label]
        samples = self.select([sample for sample in labelled if not wanted or sample.label in wanted])
        self._check(samples, source, name)
        notes = [f"protocol {self.name}: {len(samples)} of {len(source.samples)} samples take part; {self.title}"]
        return replace(source, samples=samples, notes=[*source.notes, *notes])

    def _refuse_others(self, source: Source, name: str) -> None:
        fits = not self.databases or source.dataset in self.databases
        if fits or ("fer2013" in self.databases and _like_fer2013(source)):
            return
        titles = " or ".join(DATABASES[one].title for one in self.databases)
        raise InputError(
            f"protocol {self.name} is of {titles}, and {name} was read as {source.dataset}: give a copy of that, name "
            f"its reader with --dataset {self.databases[0]}, or use --protocol kfold_subject or holdout"
        )

    def _check(self, samples: Samples, source: Source, name: str) -> None:
        if not samples:
            raise InputError(f"{name} holds no labelled sample of protocol {self.name} ({self.title})")
        if self.scheme == "official":
            missing = {"train", "test"} - {sample.split for sample in samples}
            if missing:
                raise InputError(
                    f"protocol {self.name} needs the official parts, and {name} has no photo to "
                    f"{' or '.join('fit on' if part == 'train' else 'test on' for part in sorted(missing))} "
                    f"({self.title})"
                )
        if self.needs_people:
            refuse_unknown_people([sample.subject for sample in samples], name, source.dataset)


def refuse_unknown_people(people: Sequence[str | None], source: str, dataset: str) -> None:
    """Raise InputError, with the reason where the database is known, unless every subject is known."""
    unknown = sum(not subject for subject in people)
    if not unknown:
        return
    reason = f"the subject of {unknown} of {len(people)} photos of {source} is unknown"
    if dataset in DATABASES and DATABASES[dataset].identity != "known":
        says = "does not say" if DATABASES[dataset].identity == "none" else "says of some photos only"
        reason += f": {DATABASES[dataset].title} {says} who is in its photos"
    raise InputError(
        f"the protocol keeps people apart, but {reason}. Name the people (column subject of a CSV), or leave out "
        "--protocol: then copies and sequences stay together, and the result says that identity is unknown"
    )


def get_protocol(name: str) -> Protocol:
    """The protocol `name`; InputError lists the known ones."""
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _like_fer2013(source: Source) -> bool:
    """Whether an NPZ holds what FER2013 does: grey pictures of 48 x 48, its seven labels, and parts."""
    return source.dataset == "npz" and all(
        sample.pixels is not None
        and sample.pixels.shape == (48, 48)
        and sample.label in LABEL_SETS["basic7"]
        and sample.split is not None
        for sample in source.samples
    )


def _moved(samples: Samples, splits: Mapping[str, str]) -> Samples:
    """The samples with some of their splits renamed."""
    return [replace(sample, split=splits.get(str(sample.split), sample.split)) for sample in samples]


def _private_or_public(samples: Samples) -> Samples:
    """PrivateTest is the part to test on; where it is not here it is PublicTest, on which nothing is chosen then."""
    if any(sample.split == "test" for sample in samples):
        return samples
    return _moved(samples, {"val": "test"})


def _as_released(samples: Samples) -> Samples:
    """Khaireddin & Chen's loader: PrivateTest to choose on, PublicTest to test on; both must be here."""
    if not any(sample.split == "test" for sample in samples):
        return []
    return _moved(samples, {"val": "test", "test": "val"})


def _val_as_test(samples: Samples) -> Samples:
    """Where the test part is not public the literature reports on val; nothing is chosen on it here."""
    return _moved([sample for sample in samples if sample.split != "test"], {"val": "test"})


def _apex(samples: Samples) -> Samples:
    return [sample for sample in samples if sample.role == "apex"]


def _apex_and_first(samples: Samples) -> Samples:
    """Apex frames, and the neutral first frame of the same sequences."""
    shown = {sample.sequence for sample in _apex(samples)}
    return [sample for sample in samples if sample.role in ("apex", "neutral") and sample.sequence in shown]


def _labelled_sequences(samples: Samples) -> Samples:
    """All frames of the sequences that show an emotion."""
    shown = {sample.sequence for sample in _apex(samples)}
    return [sample for sample in samples if sample.sequence in shown]


def _visible_strong(samples: Samples) -> Samples:
    return [
        sample
        for sample in _apex(samples)
        if (sample.extra.get("camera"), sample.extra.get("illumination")) == ("VL", "Strong")
    ]


def _frontal_peaks(samples: Samples) -> Samples:
    """Of each frontal clip of MMI the three frames in the middle of its apex."""
    clips: dict[str | None, Samples] = defaultdict(list)
    for sample in _apex(samples):
        if sample.extra.get("view") == "frontal":
            clips[sample.sequence].append(sample)
    middles = {name: max(0, (len(members) - 3) // 2) for name, members in clips.items()}
    return [sample for name, members in clips.items() for sample in members[middles[name] : middles[name] + 3]]


def _frequent_micro(samples: Samples) -> Samples:
    """Of CASME II's labels those that enough clips have, as the literature takes them: all but fear and sadness."""
    return [sample for sample in _apex(samples) if sample.label in FREQUENT_MICRO]


def _straight(samples: Samples) -> Samples:
    return [sample for sample in samples if sample.extra.get("view") == "straight"]


def _basic(samples: Samples) -> Samples:
    return [sample for sample in samples if sample.extra.get("subset") == "basic"]


_IMAGES_LEAK = "the same people are trained and tested on: the figure says nothing about new people"
_FRAMES_LEAK = (
    "random frames LEAK: frames of one sequence, nearly equal, are trained and tested on, so the figure says nothing "
    "about new people; ck_si10_8 is the protocol to report"
)

_ALL = (
    Protocol(
        "fer2013_standard",
        "Training to fit on, PublicTest to choose on, PrivateTest to test on; without PrivateTest PublicTest is tested "
        "on and a tenth of Training chosen on",
        ("fer2013",),
        "basic7",
        "official",
        select=_private_or_public,
        photos=3589,
    ),
    Protocol(
        "fer2013_kc_as_released",
        "as Khaireddin & Chen's loader: chosen on PrivateTest, tested on PublicTest",
        ("fer2013",),
        "basic7",
        "official",
        select=_as_released,
        photos=3589,
    ),
    Protocol(
        "ferplus_majority",
        "FER+'s majority labels, FER2013's parts",
        ("ferplus",),
        "ekman8",
        "official",
        photos=3153,
    ),
    Protocol(
        "ck_si10_7",
        "last three frames, 7 classes with contempt, ten folds of subjects",
        ("ckplus", "ck48"),
        "ck7",
        "dealt",
        10,
        _apex,
        981,
    ),
    Protocol(
        "ck_si10_8",
        "last three frames, and the first of the same sequences as neutral, 8 classes, ten folds of subjects",
        ("ckplus",),
        "ekman8",
        "dealt",
        10,
        _apex_and_first,
        1308,
    ),
    Protocol(
        "ck_si8_lopes",
        "last three frames, 6 classes, eight folds of subjects, the next one chosen on",
        ("ckplus", "ck48"),
        "basic6",
        "dealt",
        8,
        _apex,
        927,
        chooses=True,
    ),
    Protocol(
        "ck_si8_lopes_7",
        "last three frames, and the first as neutral, 7 classes, eight folds of subjects, the next one chosen on",
        ("ckplus",),
        "basic7",
        "dealt",
        8,
        _apex_and_first,
        1236,
        chooses=True,
    ),
    Protocol(
        "ck_seed_random",
        "the paper's Table 2: random frames, 8,000, 9,000 and 10,000 of 10,708 to fit on or the same shares",
        ("ckplus",),
        "ekman8",
        "frames",
        select=_labelled_sequences,
        warning=_FRAMES_LEAK,
    ),
    Protocol("jaffe_loso", "one of ten women left out at a time", ("jaffe",), "basic7", "dealt", 0, photos=213),
    Protocol(
        "jaffe_kfold_image",
        "ten folds of pictures",
        ("jaffe",),
        "basic7",
        "images",
        10,
        photos=213,
        warning=_IMAGES_LEAK,
    ),
    Protocol(
        "kdef_si",
        "pictures from the front, ten folds of subjects",
        ("kdef",),
        "basic7",
        "dealt",
        10,
        _straight,
        980,
    ),
    Protocol(
        "rafdb_std",
        "basic pictures, official split, a tenth of train chosen on",
        ("raf-db",),
        "basic7",
        "official",
        select=_basic,
        photos=3068,
    ),
    Protocol(
        "affectnet7",
        "7 classes, tested on the official val, a tenth of train chosen on",
        ("affectnet",),
        "basic7",
        "official",
        select=_val_as_test,
        photos=3500,
    ),
    Protocol(
        "affectnet8",
        "8 classes, tested on the official val, a tenth of train chosen on",
        ("affectnet",),
        "ekman8",
        "official",
        select=_val_as_test,
        photos=4000,
    ),
    Protocol(
        "oulu_si10",
        "visible light, strong illumination, last three frames, 6 classes, ten folds of subjects",
        ("oulu-casia",),
        "basic6",
        "dealt",
        10,
        _visible_strong,
        1440,
    ),
    Protocol(
        "mmi_si10",
        "three peak frames of frontal clips, 6 classes, ten folds of subjects",
        ("mmi",),
        "basic6",
        "dealt",
        10,
        _frontal_peaks,
    ),
    Protocol(
        "mmi_loso",
        "three peak frames of frontal clips, 6 classes, one subject left out at a time",
        ("mmi",),
        "basic6",
        "dealt",
        0,
        _frontal_peaks,
    ),
    Protocol(
        "casme2_loso",
        "apex frames of the five frequent classes, one subject left out at a time",
        ("casme2",),
        None,
        "dealt",
        0,
        _frequent_micro,
        246,
        each=1,
    ),
    Protocol(
        "fedro_cross",
        "fitted on another database, tested on all of FED-RO",
        ("fed-ro",),
        "basic7",
        "cross",
        photos=400,
    ),
    Protocol("kfold_subject", "stratified folds of subjects", (), None, "stratified"),
    Protocol("holdout", "one part held out, people, sequences and copies kept together", (), None, "holdout"),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
"""Protocols by name; featurepipe.names.PROTOCOLS mirrors the names."""
