"""Plots of an evaluation as PNG files, by matplotlib's Figure objects alone: no window, no global state.

All raise MissingPackageError where matplotlib is not installed.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from featurepipe.errors import MissingPackageError
from featurepipe.files import replacing
from featurepipe.report.fonts import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#694500", "#5B03E4", "#8B165D", "#000000")
"""Those of Okabe and Ito's with a contrast of 3 : 1 on white, and three darker ones that colour-blind readers tell from
them no worse."""

STROKES = (("o", "-"), ("s", "--"), ("^", ":"))
"""Marker and dash of the first eight lines, of the second and of the third: three times eight is more than there are
methods."""

BAR = "#7F93A8"
"""Of no method, so that no reader takes it for the colour of a line in another plot; whiskers are seen on it."""

FIGURES = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1"}

WIDTH = 7.8
"""Inches that the report page shows in their own size: 1170 pixels."""

DPI = 150
SMALL = 8
"""Points of names and numbers: as tall as the text of the report page."""

LETTER = 0.65
"""Width of a letter of a title as a share of its height, so that few are wider."""

DIGIT = 0.02
"""Width of a digit below an axis as a share of the axis, where the legend beside it is widest."""


def plot_confusion(path: str | os.PathLike[str], counts: np.ndarray, labels: Sequence[str], title: str) -> None:
    """Draw a confusion matrix: share of each true class in colour and per cent, the count below.

    Parameters
    ----------
    counts : int (k, k + 1) as `metrics.count` makes them; the last column is drawn only where it is not empty
    labels : (k,); what the font lacks of them is written as escapes
    """
    counts, rows = np.asarray(counts), [drawable(label) for label in labels]
    columns = [*rows, "no face"]
    if not counts[:, -1].any():
        counts, columns = counts[:, :-1], columns[:-1]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    longest = 0.09 * max(map(len, columns))  # inches; below the matrix it stands aslant
    figure = _figure(1.4 + longest + 0.85 * len(columns), 0.7 + 0.65 * longest + 0.7 * len(labels), title)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        text = f"{100 * share:.0f} %\n{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="w" if share > 0.55 else "k")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", parse_math=False)  # a label may hold "$"
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axes, label="share of the true class")
    _save(figure, path)


def plot_comparison(path: str | os.PathLike[str], evaluations: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Draw accuracy, UAR and macro-F1 of several methods, a row for each, as bars with their bootstrap intervals.

    Parameters
    ----------
    evaluations : method to one part ("all" or "found") of `metrics.evaluate`, the first on top; a figure that is None
        is a dash
    """
    parts, rows = list(evaluations.values()), len(evaluations)
    figure = _figure(WIDTH, 0.9 + 0.27 * rows, title)
    panels = figure.subplots(1, len(FIGURES), sharey=True)
    for axes, (key, name) in zip(panels, FIGURES.items(), strict=True):
        _bars(axes, parts, key)
        axes.set_title(name, fontsize=SMALL + 1, loc="left")
        axes.set(xlim=(0, 1.3), xticks=(0, 0.5, 1))  # beyond 1 there are numbers alone
        axes.spines["bottom"].set_bounds(0, 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)
    panels[0].set_yticks(range(rows), list(evaluations))
    panels[0].set_ylim(max(rows, 1) - 0.5, -0.5)
    whiskers = any(part["intervals"][key][0] is not None for part in parts for key in FIGURES)
    figure.supxlabel("fraction; whiskers: 95 % intervals" if whiskers else "fraction", fontsize=SMALL)
    _save(figure, path)


def plot_training(path: str | os.PathLike[str], histories: Sequence[Sequence[Mapping[str, float]]], title: str) -> None:
    """Draw loss, and accuracy on the photos trained and chosen on, by epoch; one line for each fit.

    Parameters
    ----------
    histories : of each fit the rows of its epochs: epoch, loss, train_accuracy, and val_accuracy where photos were
        held out to choose on; order where it was trained in several, each a line of its own
    """
    figure = _figure(9, 3.2, title)
    left, right = figure.subplots(1, 2)
    runs = [list(rows) for history in histories for _, rows in groupby(history, lambda row: row.get("order"))]
    for history in runs:
        _line(left, history, "loss", COLOURS[0])
        _line(right, history, "train_accuracy", COLOURS[0])
        _line(right, history, "val_accuracy", COLOURS[1])
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
    names = {"trained on": COLOURS[0]} | ({"chosen on": COLOURS[1]} if _has(histories, "val_accuracy") else {})
    for label, colour in names.items():
        right.plot([], [], color=colour, label=label)
    right.legend(frameon=False)
    _save(figure, path)


def _line(axes: Axes, history: Sequence[Mapping[str, float]], key: str, colour: str) -> None:
    rows = [row for row in history if key in row]
    marker = "o" if len(rows) == 1 else ""
    axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], color=colour, linewidth=1, marker=marker)


def _has(histories: Sequence[Sequence[Mapping[str, float]]], key: str) -> bool:
    return any(key in row for history in histories for row in history)


def plot_sizes(
    path: str | os.PathLike[str], sizes: Sequence[Mapping[str, Any]], methods: Sequence[str], title: str
) -> None:
    """Draw each method's error against the number of training photos; whiskers are one standard deviation of its runs.

    Parameters
    ----------
    sizes : each with fitted_on and methods (method to its spread over runs); a method may be missing from some
    methods : names in the order of the legend; what sizes alone know comes after them
    """
    names = dict.fromkeys([*methods, *(name for size in sizes for name in size["methods"])])
    figure = _figure(WIDTH, max(3.4, 0.5 + 0.17 * len(names)), title)
    axes = figure.add_subplot()
    for at, method in enumerate(names):
        known = [size for size in sizes if method in size["methods"]]
        spreads = [size["methods"][method]["spread"]["accuracy"] for size in known]
        error, sd = [1 - spread["mean"] for spread in spreads], [spread["sd"] or 0.0 for spread in spreads]
        axes.errorbar([size["fitted_on"] for size in known], error, sd, capsize=3, label=method, **_stroke(at))
    ticks = sorted({size["fitted_on"] for size in sizes})
    axes.set_xscale("log")
    axes.set_xticks(ticks, _spaced(ticks))
    axes.minorticks_off()
    axes.set(xlabel="photos trained on", ylabel="error (1 - accuracy)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=SMALL, handlelength=3.5)
    _save(figure, path)


def _stroke(at: int) -> dict[str, Any]:
    """How the line of the method at this place looks: like no other's."""
    marker, dash = STROKES[at // len(COLOURS) % len(STROKES)]
    return {"color": COLOURS[at % len(COLOURS)], "marker": marker, "linestyle": dash, "markersize": 5}


def _spaced(ticks: Sequence[int]) -> list[str]:
    """Labels of rising ticks on a logarithmic axis; "" for one that would run into the next that has one."""
    places = np.log10(ticks)
    digit = DIGIT * (places[-1] - places[0])
    labels: list[str] = []
    following = np.inf
    for place, label in zip(places[::-1], map(str, ticks[::-1]), strict=True):
        fits = following - place >= (len(label) + 1) * digit
        labels.append(label if fits else "")
        following = place if fits else following
    return labels[::-1]


def _bars(axes: Axes, parts: Sequence[Mapping[str, Any]], key: str) -> None:
    """One figure of all methods; the whiskers are the ends of its intervals, the number stands right of them."""
    values = np.array([part[key] for part in parts], dtype=float)
    ends = np.array([part["intervals"][key] for part in parts], dtype=float).reshape(-1, 2).T
    rows = range(len(parts))
    axes.barh(rows, values, 0.7, color=BAR)
    reach = np.clip([values - ends[0], ends[1] - values], 0, None)
    axes.errorbar(values, rows, xerr=reach, fmt="none", ecolor="k", elinewidth=1, capsize=2)
    for row, value, end in zip(rows, values, np.nan_to_num(np.fmax(values, ends[1])), strict=True):
        number = f"{value:.3f}" if np.isfinite(value) else "–"
        axes.text(end + 0.03, row, number, va="center", fontsize=SMALL)


def _figure(width: float, height: float, title: str) -> Figure:
    """A figure of so many inches below its title, which is broken into lines where it is wider."""
    points = 10
    lines = textwrap.wrap(drawable(title), int(width * 72 / (points * LETTER)), break_on_hyphens=False)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("plots need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height + 0.18 * len(lines)), layout="constrained")
    figure.suptitle("\n".join(lines), fontsize=points, parse_math=False)
    return figure


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=DPI)
