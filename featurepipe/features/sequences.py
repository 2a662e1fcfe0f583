"""Sequences: frames of a feature table put together, and the rows that networks of sequences take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from featurepipe.errors import InputError
from featurepipe.features.table import Features
from featurepipe.files import digest_of
from featurepipe.timelines import Timeline, peak_of


@dataclass(frozen=True)
class Sequences:
    """The sequences of a SOURCE, each of two frames or more.

    Parameters
    ----------
    samples : one row per sequence, with the columns of `FeatureTable.samples()`: those of its peak frame, but the
        label, split and content of the whole, and status ok where any of its frames is
    peak : int64 (n,), row in `FeatureTable.samples()` of the peak among the frames that show a face, or among all
        where none does
    rows : of each sequence its frames' rows there, in order
    left_out : samples that are in no such sequence
    """

    samples: pa.Table
    peak: np.ndarray
    rows: list[list[int]]
    left_out: int

    def features(self, frames: Features, timeline: Timeline) -> Features:
        """What a network of sequences takes: one row per sequence that shows a face in any frame.

        Parameters
        ----------
        frames : crops of the same SOURCE, uint8 (m, h, w), one face per photo at most
        timeline : from the roles of a sequence's frames with a face to the T positions to take

        Returns
        -------
        X is uint8 (n, T, h, w); `sample` is a row of `samples` here; box, face, score, turn and frame are the peak's
        """
        face = {photo: row for row, photo in enumerate(frames.sample.tolist())}
        kept: list[int] = []
        shown: list[int] = []
        taken: list[list[int]] = []
        for number, rows in enumerate(self.rows):
            if found := [face[row] for row in rows if row in face]:
                roles = frames.role[found].tolist()
                kept.append(number)
                shown.append(found[peak_of(roles)])
                taken.append([found[at] for at in timeline(roles)])
        whole = self.samples.take(pa.array(kept, pa.int64()))
        of_whole = ("path", "content", "label", "subject", "split", "sequence", "role")
        columns = {name: np.array(whole[name].to_pylist(), object) for name in of_whole}
        columns |= {name: getattr(frames, name)[shown] for name in ("origin", "face", "box", "score", "turn", "frame")}
        return replace(
            frames,
            X=frames.X[np.array(taken, np.int64).reshape(len(kept), len(timeline([None])))],
            sample=np.array(kept, np.int64),
            coverage=dict(Counter(self.samples["status"].to_pylist())),
            **cast(dict[str, Any], columns),
        )


def sequences_in(samples: pa.Table) -> Sequences:
    """Put the frames of `FeatureTable.samples()` together.

    Samples with the same sequence and subject that have a frame number are one sequence, ordered by the number. A
    sequence shows the one emotion that its frames are labelled with besides neutral; neutral where all are; else
    none. Raises InputError where frames of one sequence have different emotions or splits.
    """
    columns = {name: samples[name].to_pylist() for name in samples.column_names}
    members: dict[tuple[str, str], list[int]] = {}
    for row, (subject, sequence, frame) in enumerate(
        zip(columns["subject"], columns["sequence"], columns["frame"], strict=True)
    ):
        if sequence and frame is not None:
            members.setdefault((subject or "", sequence), []).append(row)
    rows = [sorted(own, key=lambda row: columns["frame"][row]) for own in members.values() if len(own) > 1]
    peak = np.array([_peak(own, columns) for own in rows], np.int64)
    whole = [_whole({name: [column[row] for row in own] for name, column in columns.items()}) for own in rows]
    together = samples.take(peak)
    for name in ("label", "split", "content", "status", "error"):
        values = pa.array([one.get(name, old) for one, old in zip(whole, together[name].to_pylist(), strict=True)])
        together = together.set_column(together.column_names.index(name), name, values.cast(pa.string()))
    return Sequences(together, peak, rows, samples.num_rows - sum(map(len, rows)))


def _peak(rows: list[int], columns: dict[str, list[Any]]) -> int:
    """The row whose box `Sequences.features` takes, so that path and frame belong to it."""
    shown = [row for row in rows if columns["status"][row] == "ok"] or rows
    return shown[peak_of([columns["role"][row] for row in shown])]


def _whole(frames: dict[str, list[Any]]) -> dict[str, str | None]:
    """What a sequence is as a whole; status and error are missing where none of its frames is ok."""
    name = frames["sequence"][0]
    contents = frames["content"]
    return {
        "label": _label(frames["label"], name),
        "split": _only(frames["split"], "split", name),
        "content": digest_of([contents, frames["role"]]) if any(contents) else None,
        **({"status": "ok", "error": ""} if "ok" in frames["status"] else {}),
    }


def _label(labels: Sequence[str | None], sequence: str) -> str | None:
    shown = _only((label for label in labels if label not in (None, "neutral")), "label", sequence)
    return shown or ("neutral" if set(labels) == {"neutral"} else None)


def _only(values: Iterable[str | None], what: str, sequence: str) -> str | None:
    """The one value there is, None where there is none."""
    different = set(values)
    if len(different) > 1:
        listed = ", ".join(sorted(value or "none" for value in different))
        raise InputError(
            f"frames of the sequence {sequence} differ in their {what} ({listed}); a sequence has one: give its parts "
            "names of their own in the column sequence"
        )
    return next(iter(different), None)
