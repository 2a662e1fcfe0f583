"""Figures over several runs of one method: folds and seeds, mean and standard deviation, and the order of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featurepipe.report.metrics import AGREEMENT, count


def score(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> dict[str, float | None]:
    """Accuracy, UAR and macro-F1 of one run.

    Parameters
    ----------
    truth : str (n,)
    predicted : str or None (n,); None is wrong
    classes : the classifier's labels

    Returns
    -------
    fractions by name; None without photos
    """
    names = [*classes, *sorted(set(truth) - set(classes))]
    column = {name: at for at, name in enumerate(names)}
    t = np.array([column[label] for label in truth], np.int64)
    p = np.array([-1 if label is None else column[label] for label in predicted], np.int64)
    table = count(t, p, len(names))
    return {name: _plain(figure(table)) for name, figure in AGREEMENT.items()}


def spread(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation (n - 1; None of one run) of each figure of `score` over runs.

    >>> runs = [{"accuracy": a, "uar": 0.25, "macro_f1": None} for a in (0.5, 0.75, 1.0)]
    >>> spread(runs)["accuracy"], spread(runs[:1])["uar"]
    ({'mean': 0.75, 'sd': 0.25}, {'mean': 0.25, 'sd': None})
    """
    figures = {}
    for name in AGREEMENT:
        values = [run[name] for run in runs if run[name] is not None]
        figures[name] = {
            "mean": float(np.mean(values)) if values else None,
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
    return figures


def _plain(value: np.ndarray) -> float | None:
    number = float(value)
    return None if np.isnan(number) else number
