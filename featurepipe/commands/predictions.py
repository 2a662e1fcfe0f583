"""Predictions as files: a row per face (or sequence), and a row with a status for every photo without one."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from featurepipe.features.table import Features
from featurepipe.files import printable, replacing, write_json
from featurepipe.records import largest_of_each

Part = Literal["test", "val", "all"]

_SPLITS: tuple[Part, ...] = ("test", "val")

LEADING = ("path", "face", "left", "top", "right", "bottom", "score", "label", "confidence")


@dataclass(frozen=True)
class Predictions:
    """What a model says of every face, or sequence, of a SOURCE.

    Parameters
    ----------
    samples : the table's samples, one row per photo, or `Sequences.samples`
    features : rows of faces, or of sequences; `features.sample` points into `samples`
    classes : names of the columns of `probabilities`
    probabilities : float64 (faces, classes)
    """

    samples: pa.Table
    features: Features
    classes: list[str]
    probabilities: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per face, or per photo without a face, in the order of SOURCE."""
        of_photo: dict[int, list[int]] = {}
        for row, photo in enumerate(self.features.sample.tolist()):
            of_photo.setdefault(photo, []).append(row)
        own = {"path": "path", "status": "status", "error": "error"}
        own |= {"truth": "label"} if self.labelled else {}
        own |= {name: name for name, has in (("sequence", self.sequential), ("frame", self.framed)) if has}
        photos = zip(*(self.samples[name].to_pylist() for name in own.values()), strict=True)
        rows = []
        empty: dict[str, Any] = dict.fromkeys(self.columns())
        for index, values in enumerate(photos):
            photo = empty | dict(zip(own, values, strict=True))
            rows += [photo | self._face(face) for face in of_photo.get(index, [])] or [photo]
        return rows

    def _face(self, row: int) -> dict[str, Any]:
        probabilities = self.probabilities[row]
        best = int(probabilities.argmax())
        box = dict(zip(("left", "top", "right", "bottom"), self.features.box[row].tolist(), strict=True))
        own = {f"p_{name}": float(p) for name, p in zip(self.classes, probabilities, strict=True)}
        return {
            "face": int(self.features.face[row]),
            **box,
            "score": float(self.features.score[row]),
            "label": self.classes[best],
            "confidence": float(probabilities[best]),
            **own,
            **({"turn": int(self.features.turn[row])} if self.turned else {}),
        }

    def columns(self) -> list[str]:
        """Names of the columns, in order; truth is there where SOURCE is labelled, sequence and frame where it has
        them, and turn where a photo was turned before it shows the face in its box."""
        there = {"truth": self.labelled, "sequence": self.sequential, "frame": self.framed, "turn": self.turned}
        last = [name for name, has in there.items() if has]
        return [*LEADING, *(f"p_{name}" for name in self.classes), "status", "error", *last]

    @property
    def labelled(self) -> bool:
        """Whether any photo has a label."""
        return self.samples["label"].null_count < self.samples.num_rows

    @property
    def sequential(self) -> bool:
        """Whether any photo belongs to a sequence."""
        return self.samples["sequence"].null_count < self.samples.num_rows

    @property
    def framed(self) -> bool:
        """Whether any photo is a frame of a sequence or clip."""
        return self.samples["frame"].null_count < self.samples.num_rows

    @property
    def turned(self) -> bool:
        """Whether any photo was turned before its face was found (Face.turn)."""
        return bool(self.features.turn.any())

    def scored(self) -> tuple[Part, np.ndarray]:
        """Labelled photos to score, int64: those of the test split, else those of the val split, else all; and which
        of these parts it is."""
        labels, splits = (np.array(self.samples[name].to_pylist(), object) for name in ("label", "split"))
        known = labels != None  # noqa: E711 (element by element)
        for part in _SPLITS:
            if (rows := np.flatnonzero(known & (splits == part))).size:
                return part, rows
        return "all", np.flatnonzero(known)

    def largest(self) -> np.ndarray:
        """For every photo the row of its largest face, or -1 where it has none; int64 (photos,)."""
        features = self.features
        best = largest_of_each(features.sample, features.box, features.score)
        chosen = np.full(self.samples.num_rows, -1, np.int64)
        chosen[features.sample[best]] = best
        return chosen


def write_predictions(folder: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str], summary: Any) -> None:
    """Write predictions.csv, and predictions.json with the summary and the same rows; None is an empty cell."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)  # floats in full: label stays the arg max of the p_ columns
    with replacing(folder / "predictions.csv") as stream:
        stream.write(printable(text.getvalue()).encode())
    write_json(folder / "predictions.json", {**summary, "predictions": rows})
