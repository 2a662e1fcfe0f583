"""All figures of a comparison as one CSV: a row per figure, for spreadsheets, pandas and R."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

from featurepipe.files import printable, replacing
from featurepipe.names import INDEPENDENT

COLUMNS = ("method", "over", "class", "figure", "value")
Row = tuple[str, str, str, str, Any]


def write_table(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write what `compare` puts into comparison.json as a CSV in UTF-8; a figure that does not exist has no row.

    `over` says on what: all (photos), found (those with a face), new (of people and pictures never trained on), a run
    ("seed 0 fold 1"), mean or sd of the runs, so many photos to fit on ("size 2584 mean"), or "" for what belongs to
    the method.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([*map(_text, row[:-1]), row[-1]] for row in _rows(document) if row[-1] is not None)
    with replacing(path) as stream:
        stream.write(text.getvalue().encode())


def _text(word: str) -> str:
    """No spreadsheet may take a label for a formula."""
    return f"'{printable(word)}" if word[:1] in ("=", "+", "-", "@") else printable(word)


def _rows(document: Mapping[str, Any]) -> Iterator[Row]:
    for name, row in document["methods"].items():
        yield from _of_method(name, row)
    for size in document["sizes"]:
        over = f"size {size['fitted_on']}" + (" of other people" if size["name"] == INDEPENDENT else "")
        for name, own in size["methods"].items():
            yield from _spread(name, f"{over} ", own["spread"])
            for figure in ("mse_half_sum", "mse_per_output"):
                yield name, over, "", figure, own[figure]
    for pair, test in document["mcnemar"].items():
        for figure, value in test.items():
            yield pair, "pair", "", figure, value


def _of_method(name: str, row: Mapping[str, Any]) -> Iterator[Row]:
    for over in ("all", "found", "new"):
        if part := row[over]:
            yield from _of_part(name, over, part)
    for run in row["runs"]:
        over = f"seed {run['seed']} fold {run['fold']}"
        for figure in ("accuracy", "uar", "macro_f1", "new_accuracy", "epochs"):
            yield name, over, "", figure, run[figure]
    yield from _spread(name, "", row["spread"])
    for figure in ("rank", "ranked_by", "coverage", "fit_seconds", "predict_seconds"):
        yield name, "", "", figure, row[figure]
    for figure, value in (row["cost"] or {}).items():
        yield name, "", "", figure, value


def _of_part(name: str, over: str, part: Mapping[str, Any]) -> Iterator[Row]:
    for figure, value in part.items():
        if figure == "per_class":
            for label, own in value.items():
                yield from ((name, over, label, key, number) for key, number in own.items())
        elif figure == "intervals":
            for key, ends in value.items():
                yield name, over, "", f"{key}_low", ends[0]
                yield name, over, "", f"{key}_high", ends[1]
        else:
            yield name, over, "", figure, value


def _spread(name: str, over: str, spread: Mapping[str, Any]) -> Iterator[Row]:
    for figure, both in spread.items():
        for kind, value in both.items():
            yield name, f"{over}{kind}", "", figure, value
