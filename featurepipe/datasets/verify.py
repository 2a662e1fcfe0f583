"""A copy of a database against the official counts: what is there, missing, extra, damaged or misnamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featurepipe.datasets.database import Database, Expected
from featurepipe.datasets.source import Skipped, Source
from featurepipe.records import Sample


@dataclass(frozen=True)
class Count:
    """One figure of the official sheet and what stands beside it.

    Parameters
    ----------
    unit : what is counted, in words
    label : of which emotion; None for the total
    official : the published figure
    here : how many the copy has, with those of known damage
    known_damage : how many of `here` are left out because they are damaged in the official files too
    sure : whether the published figure is certain; one that is not is told, but makes no difference
    """

    unit: str
    label: str | None
    official: int
    here: int
    known_damage: int
    sure: bool

    @property
    def differs(self) -> bool:
        """Whether the copy does not have the official number."""
        return self.here != self.official


@dataclass(frozen=True)
class Report:
    """What a copy of a database is like.

    Parameters
    ----------
    database : name of the database
    samples : how many its reader gives
    counts : the official sheet beside the copy, in the sheet's order
    left_out : files that were left out, are missing, or do not decode
    """

    database: str
    samples: int
    counts: list[Count]
    left_out: list[Skipped]

    @property
    def faults(self) -> list[Skipped]:
        """Of `left_out` what an untouched official copy would not have (it has extras: non-faces, averaged faces)."""
        fine = ("unlabelled", "extra")
        return [one for one in self.left_out if one.known_damage is None and one.kind not in fine]

    @property
    def whole(self) -> bool:
        """Whether every certain count is as published and no file is at fault."""
        return not self.faults and not any(count.differs and count.sure for count in self.counts)


def verify(database: Database, source: Source, broken: Sequence[tuple[Sample, Skipped]]) -> Report:
    """Compare a copy with the official sheet.

    Parameters
    ----------
    database : whose sheet it is
    source : the copy as its reader gives it, every frame of it
    broken : samples of `source` that do not decode or are not there, and what is wrong; they do not count
    """
    gone = {id(sample) for sample, _ in broken}
    samples = [sample for sample in source.samples if id(sample) not in gone]
    damaged = [one.known_damage for one in source.skipped if one.known_damage is not None]
    sheet = _of_forms_here(database.sheet, [*samples, *damaged])
    counts = [count for expected in sheet for count in _counts(expected, samples, damaged)]
    return Report(database.name, len(source.samples), counts, [*source.skipped, *(fault for _, fault in broken)])


def _of_forms_here(sheet: Sequence[Expected], samples: Sequence[Sample]) -> list[Expected]:
    """The lines of no form, and those of the forms that the copy has; all lines where it has none."""
    forms = {expected.form for expected in sheet if expected.form and any(map(expected.belongs, samples))}
    return [expected for expected in sheet if not forms or not expected.form or expected.form in forms]


def _counts(expected: Expected, samples: Sequence[Sample], damaged: Sequence[Sample]) -> Iterator[Count]:
    here = [sample for sample in samples if expected.belongs(sample)]
    known = [sample for sample in damaged if expected.belongs(sample)]
    labels: list[tuple[str | None, int]] = [(None, expected.total), *expected.counts.items()]
    for label, official in labels:
        whole, without = (_number(expected, ones, label) for ones in ([*here, *known], here))
        sure = expected.sure and (label is None or expected.sure_counts)
        yield Count(expected.unit, label, official, whole, whole - without, sure)


def _number(expected: Expected, samples: Sequence[Sample], label: str | None) -> int:
    ones = [sample for sample in samples if label is None or sample.label == label]
    return len({sample.sequence for sample in ones}) if expected.by == "sequence" else len(ones)
