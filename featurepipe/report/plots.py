"""Plots of an evaluation as PNG files, by matplotlib's Figure objects alone: no window, no global state."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from featurepipe.errors import MissingPackageError
from featurepipe.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's eight, which colour-blind readers tell apart; what comes after these is hatched or dashed too."""

FIGURES = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1"}


def plot_confusion(path: str | os.PathLike[str], counts: np.ndarray, labels: Sequence[str], title: str) -> None:
    """Draw a confusion matrix: share of each true class in colour and per cent, the count below.

    Parameters
    ----------
    counts : int (k, k + 1) as `metrics.count` makes them; the last column is drawn only where it is not empty
    labels : (k,)
    """
    counts = np.asarray(counts)
    columns = [*labels, "no face"]
    if not counts[:, -1].any():
        counts, columns = counts[:, :-1], columns[:-1]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure(2.2 + 0.85 * len(columns), 1.6 + 0.7 * len(labels))
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        text = f"{100 * share:.0f} %\n{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="w" if share > 0.55 else "k")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", parse_math=False)  # a label may hold "$"
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(image, ax=axes, label="share of the true class")
    _save(figure, path)


def plot_comparison(path: str | os.PathLike[str], evaluations: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Draw accuracy, UAR and macro-F1 of several methods as bars with their bootstrap intervals.

    Parameters
    ----------
    evaluations : method to one part ("all" or "found") of `metrics.evaluate`; a figure that is None has no bar
    """
    figure = _figure(2.5 + 0.8 * len(FIGURES) * max(1, len(evaluations) / 2), 4)
    axes = figure.add_subplot()
    width = 0.8 / max(1, len(evaluations))
    for at, (method, part) in enumerate(evaluations.items()):
        places = np.arange(len(FIGURES)) + (at - (len(evaluations) - 1) / 2) * width
        style = {"color": COLOURS[at % len(COLOURS)], "hatch": "///" * (at >= len(COLOURS)), "edgecolor": "w"}
        _bars(axes, places, width, part, {"label": method, **style})
    axes.set_xticks(range(len(FIGURES)), list(FIGURES.values()))
    axes.set(ylim=(0, 1.08), ylabel="fraction", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False)
    _save(figure, path)


def plot_training(path: str | os.PathLike[str], histories: Sequence[Sequence[Mapping[str, float]]], title: str) -> None:
    """Draw loss, and accuracy on the photos trained and chosen on, by epoch; one line for each fit.

    Parameters
    ----------
    histories : of each fit the rows of its epochs: epoch, loss, train_accuracy, and val_accuracy where photos were
        held out to choose on; order where it was trained in several, each a line of its own
    """
    figure = _figure(9, 3.4)
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
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _line(axes: Axes, history: Sequence[Mapping[str, float]], key: str, colour: str) -> None:
    rows = [row for row in history if key in row]
    marker = "o" if len(rows) == 1 else ""
    axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], color=colour, linewidth=1, marker=marker)


def _has(histories: Sequence[Sequence[Mapping[str, float]]], key: str) -> bool:
    return any(key in row for history in histories for row in history)


def plot_sizes(path: str | os.PathLike[str], sizes: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draw each method's error against the number of training photos; whiskers are one standard deviation of its runs.

    Parameters
    ----------
    sizes : each with fitted_on and methods (method to its spread over runs); a method may be missing from some
    """
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    for at, method in enumerate(dict.fromkeys(name for size in sizes for name in size["methods"])):
        points = [
            (size["fitted_on"], size["methods"][method]["spread"]["accuracy"])
            for size in sizes
            if method in size["methods"]
        ]
        error = [1 - figures["mean"] for _, figures in points]
        sd = [figures["sd"] or 0.0 for _, figures in points]
        style = {"color": COLOURS[at % len(COLOURS)], "linestyle": "-" if at < len(COLOURS) else "--", "label": method}
        axes.errorbar([photos for photos, _ in points], error, sd, marker="o", capsize=3, **style)
    ticks = sorted({size["fitted_on"] for size in sizes})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="photos trained on", ylabel="error (1 - accuracy)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


def _bars(axes: Axes, places: np.ndarray, width: float, part: Mapping[str, Any], style: Mapping[str, Any]) -> None:
    """One method's bars; the whiskers are the ends of its intervals, the number stands above them."""
    values = np.array([np.nan if part[key] is None else part[key] for key in FIGURES])
    ends = np.array([part["intervals"][key] for key in FIGURES], dtype=float).T
    axes.bar(places, values, width * 0.92, **style)
    reach = np.nan_to_num(np.clip([values - ends[0], ends[1] - values], 0, None))
    axes.errorbar(places, values, reach, fmt="none", ecolor="k", elinewidth=1, capsize=3)
    for place, value, above in zip(places, values, reach[1], strict=True):
        if np.isfinite(value):
            axes.text(place, value + above + 0.01, f"{value:.2f}", ha="center", va="bottom", fontsize=8)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("plots need matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=150)
