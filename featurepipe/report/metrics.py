"""Figures of merit from predictions, in NumPy alone.

Conventions
-----------
* Labels are columns: truth is int (n,), 0 <= t < K; predicted is int (n,), -1 where there is no prediction.
* Everything but the probabilistic figures comes from the counts M (..., K, K + 1): M[t, p] photos of class t
  were called p, and the last column holds those without a prediction. Leading axes are independent tables.
* A missing prediction is wrong: it lowers recall and accuracy, and no class's precision. Its row of
  probabilities is all zeros: confidence 0, and the squared error of a network that says nothing.
* Averages over classes take the classes that occur in truth; a class without a photo has no recall.
* What cannot be computed (no photos, a class never predicted) is NaN here, and None in `evaluate`.
* Fractions lie in 0..1, not in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""

LEVEL = 0.95
"""Coverage of the bootstrap intervals."""

MIN_SUBJECTS = 5
"""Fewer subjects, or photos, resampled say nothing of others: of one every draw is the same."""


def count(truth: np.ndarray, predicted: np.ndarray, k: int) -> np.ndarray:
    """Confusion counts int (k, k + 1): rows truth, columns prediction, the last column for no prediction."""
    columns = np.where(predicted < 0, k, predicted)
    return np.bincount(truth * (k + 1) + columns, minlength=k * (k + 1)).reshape(k, k + 1)


def accuracy(counts: np.ndarray) -> np.ndarray:
    """sum_t M[t, t] / sum M; NaN without photos."""
    return _ratio(_hits(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def recall(counts: np.ndarray) -> np.ndarray:
    """M[t, t] / sum_p M[t, p], (..., K): what papers call per-class accuracy; NaN for a class not in truth."""
    return _ratio(_hits(counts), counts.sum(axis=-1))


def precision(counts: np.ndarray) -> np.ndarray:
    """M[p, p] / sum_t M[t, p], (..., K); NaN for a class never predicted."""
    return _ratio(_hits(counts), counts.sum(axis=-2)[..., :-1])


def f1(counts: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN), (..., K); NaN for a class neither in truth nor predicted."""
    return _ratio(2 * _hits(counts), counts.sum(axis=-1) + counts.sum(axis=-2)[..., :-1])


def binary_accuracy(counts: np.ndarray) -> np.ndarray:
    """(TP + TN) / n of each class against the rest, (..., K); NaN without photos."""
    total = counts.sum(axis=(-2, -1))[..., None]
    wrong = counts.sum(axis=-1) + counts.sum(axis=-2)[..., :-1] - 2 * _hits(counts)
    return _ratio(total - wrong, total)


def uar(counts: np.ndarray) -> np.ndarray:
    """Unweighted average recall: mean recall over the classes in truth; NaN without photos."""
    return _mean_over_present(recall(counts), counts)


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes in truth (scikit-learn's default: and those predicted alone); NaN without photos."""
    return _mean_over_present(f1(counts), counts)


def mean_binary_accuracy(counts: np.ndarray) -> np.ndarray:
    """Mean binary accuracy over the classes in truth: C_bin of Lopes et al. 2017; far above accuracy by its nature."""
    return _mean_over_present(binary_accuracy(counts), counts)


AGREEMENT = {"accuracy": accuracy, "uar": uar, "macro_f1": macro_f1}
"""The figures that get an interval."""


def squared_errors(outputs: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Mean squared error against one-hot truth, in both conventions that the paper may mean (baselines.md 1.5).

    Parameters
    ----------
    outputs : (n, k), probabilities or a network's sigmoids
    truth : int (n,); a class beyond the k columns has a one-hot row of zeros

    Returns
    -------
    half sum : mean over photos of 1/2 sum_j (p_j - y_j)^2, the loss of the paper's network
    per output : mean over photos and outputs of (p_j - y_j)^2; its root is the RMS error
    """
    if not len(truth):
        return np.nan, np.nan
    squares = (outputs - (truth[:, None] == np.arange(outputs.shape[1]))) ** 2
    return float(squares.sum(axis=1).mean() / 2), float(squares.mean())


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: sum over bins of |B| / n * |accuracy(B) - mean confidence(B)|.

    Bins of confidence are ((b - 1) / bins, b / bins]; NaN without photos (Guo et al. 2017, equation 3). Photos without
    a prediction add nothing to the sum: of all photos it falls with coverage, so it is told of those found.
    """
    if not len(truth):
        return np.nan
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    right &= confidence > 0
    of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(of, right, bins) - np.bincount(of, confidence, bins)
    return float(np.abs(gaps).sum() / len(truth))


def top_accuracy(probabilities: np.ndarray, truth: np.ndarray, k: int = 2) -> float:
    """Share of photos whose true class has fewer than k others that are at least as probable; NaN without photos."""
    if not len(truth):
        return np.nan
    known = truth < probabilities.shape[1]
    own = probabilities[known, truth[known]]
    others = (probabilities[known] >= own[:, None]).sum(axis=1) - 1
    return float(np.sum((others < k) & (own > 0)) / len(truth))


def bootstrap(
    truth: np.ndarray,
    predicted: np.ndarray,
    k: int,
    groups: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals (LEVEL) of accuracy, UAR and macro-F1, resampling groups, or photos where None.

    Parameters
    ----------
    groups : (n,) names of subjects: a person's photos are drawn together, since they resemble one another
    """
    draws = _resampled_counts(truth, predicted, k, groups, resamples, np.random.default_rng(seed))
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {name: tuple(_quantiles(figure(draws), tails)) for name, figure in AGREEMENT.items()}


def mcnemar(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, groups: Sequence[str] | None = None
) -> dict[str, float | int]:
    """Exact two-sided test of two classifiers on the same photos: McNemar's, or by whole groups of photos.

    If they are equally good, who is who may be exchanged: for each photo that only one of them gets right, which is
    McNemar's test, or in each group as a whole, since photos of one person resemble one another. p is the share of all
    exchanges that part them as far or farther; without photos that only one gets right it is 1.

    Parameters
    ----------
    groups : (n,) names; None: each photo by itself

    Returns
    -------
    dict with only_first, only_second (photos that one alone got right) and p
    """
    one, two = first == truth, second == truth
    a, b = int(np.sum(one & ~two)), int(np.sum(two & ~one))
    _, of = np.unique(np.arange(len(truth)) if groups is None else np.array(groups), return_inverse=True)
    ahead = np.abs(np.bincount(of, one.astype(int) - two.astype(int)).astype(int))
    return {"only_first": a, "only_second": b, "p": _exchanged(ahead[ahead > 0], abs(a - b))}


def _exchanged(steps: np.ndarray, apart: int) -> float:
    """P(|sum of +-steps| >= apart) where each sign is as likely as the other; steps are int (n,), above 0."""
    if (steps == 1).all():
        return _tails(len(steps), (len(steps) - apart) // 2)
    reach = int(steps.sum())
    chance = np.zeros(2 * reach + 1)
    chance[reach] = 1.0
    for step in steps:
        moved = np.zeros_like(chance)
        moved[step:] += chance[:-step] / 2
        moved[:-step] += chance[step:] / 2
        chance = moved
    return min(1.0, float(chance[: reach - apart + 1].sum() + chance[reach + apart :].sum()))


def _tails(n: int, least: int) -> float:
    """min(1, 2 P(X <= least)) for X binomial(n, 1/2)."""
    term, tail = 1, 0  # exact integers: binomial coefficients of n
    for i in range(least + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * tail / 2**n)


def written_p(p: float) -> str:
    """A p-value in three digits; what is too small for a float as a bound.

    >>> written_p(0.00123456), written_p(0.0)
    ('0.00123', '<1e-300')
    """
    return f"{p:.3g}" if p else "<1e-300"


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), in the same order: what is below 0.05 holds for all together.

    The i-th smallest of m is multiplied by m - i (from 0), made at least as large as those before it, at most 1.

    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    order = np.argsort(values, kind="stable")
    scaled = np.array(values, dtype=float)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def evaluate(
    truth: Sequence[str],
    predicted: Sequence[str | None],
    probabilities: np.ndarray | None,
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    resampled: str = "subjects",
    outputs: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of one classifier on labelled photos, JSON-able; None where a figure does not exist.

    Parameters
    ----------
    truth : (n,) labels; one that the classifier does not know is always wrong
    predicted : (n,) labels, None where there is no prediction (no face, or the photo could not be read)
    probabilities : (n, k) columns as `classes`, rows without a prediction ignored; None where there are none
    classes : (k,) the classifier's labels
    groups : (n,) names of what intervals resample as a whole, such as who is in the photo; None: single photos. Ends
        of intervals are None where there are fewer than MIN_SUBJECTS of what is resampled
    resampled : what the groups are, in words
    outputs : (n, k) what squared errors are of, where not the probabilities: the sigmoids these are made of

    Returns
    -------
    dict with coverage, "all" (every photo; a missing prediction is wrong) and "found" (photos with a prediction),
    each with accuracy, uar, macro_f1, mean_binary_accuracy, mse_half_sum, mse_per_output, rms, calibration_error,
    top2, intervals and per_class; "confusion" (labels, and counts with a last column for no prediction); and what was
    resampled
    """
    strangers = {label for label in (*truth, *predicted) if label is not None} - set(classes)
    names = [*classes, *sorted(strangers)]
    column = {name: at for at, name in enumerate(names)}
    t = np.array([column[label] for label in truth], dtype=np.int64)
    p = np.array([-1 if label is None else column[label] for label in predicted], dtype=np.int64)
    found = p >= 0
    probabilities, outputs = (
        None if values is None else np.where(found[:, None], values, 0.0) for values in (probabilities, outputs)
    )
    of = None if groups is None else np.array(groups)

    def part(rows: np.ndarray) -> dict[str, Any]:
        own = None if of is None else of[rows]
        few = (rows.sum() if own is None else len(set(own))) < MIN_SUBJECTS
        ends = {} if few else bootstrap(t[rows], p[rows], len(names), own, resamples=resamples, seed=seed)
        figures = _agreement(count(t[rows], p[rows], len(names)), names)
        return (
            figures
            | _probabilistic(_rows(probabilities, rows), _rows(outputs, rows), t[rows])
            | {"intervals": {name: [_number(end) for end in ends.get(name, (np.nan, np.nan))] for name in AGREEMENT}}
        )

    return {
        "coverage": _number(found.mean() if len(t) else np.nan),
        "all": part(np.ones(len(t), dtype=bool)),
        "found": part(found),
        "confusion": {"labels": names, "counts": count(t, p, len(names)).tolist()},
        "resampled": "photos" if groups is None else resampled,
    }


def _agreement(counts: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    columns = {
        "photos": counts.sum(axis=-1),
        "recall": recall(counts),
        "precision": precision(counts),
        "f1": f1(counts),
        "binary_accuracy": binary_accuracy(counts),
    }
    per_class = {name: {key: _number(values[at]) for key, values in columns.items()} for at, name in enumerate(names)}
    return {
        "photos": int(counts.sum()),
        **{name: _number(figure(counts)) for name, figure in AGREEMENT.items()},
        "mean_binary_accuracy": _number(mean_binary_accuracy(counts)),
        "per_class": per_class,
    }


def _rows(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[rows]


def _probabilistic(
    probabilities: np.ndarray | None, outputs: np.ndarray | None, truth: np.ndarray
) -> dict[str, float | None]:
    if probabilities is None:
        half, mean, calibration, top = np.nan, np.nan, np.nan, np.nan
    else:
        half, mean = squared_errors(probabilities if outputs is None else outputs, truth)
        calibration, top = calibration_error(probabilities, truth), top_accuracy(probabilities, truth)
    return {
        "mse_half_sum": _number(half),
        "mse_per_output": _number(mean),
        "rms": _number(np.sqrt(mean)),
        "calibration_error": _number(calibration),
        "top2": _number(top),
    }


def _resampled_counts(
    truth: np.ndarray,
    predicted: np.ndarray,
    k: int,
    groups: np.ndarray | None,
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Confusion counts (resamples, k, k + 1) of data drawn with replacement."""
    table = count(truth, predicted, k)
    if not len(truth):
        return np.broadcast_to(table, (resamples, *table.shape))
    if groups is None:  # drawing n photos is drawing n cells of the table
        drawn = rng.multinomial(len(truth), table.ravel() / len(truth), size=resamples)
    else:
        _, of = np.unique(groups, return_inverse=True)
        g = int(of.max()) + 1
        cells = truth * (k + 1) + np.where(predicted < 0, k, predicted)
        per_group = np.bincount(of * table.size + cells, minlength=g * table.size).reshape(g, table.size)
        drawn = np.stack([rng.multinomial(g, np.full(g, 1 / g)) @ per_group for _ in range(resamples)])
    return drawn.reshape(resamples, *table.shape)


def _hits(counts: np.ndarray) -> np.ndarray:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is 0."""
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def _mean_over_present(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    present = counts.sum(axis=-1) > 0
    return _ratio(np.where(present, values, 0.0).sum(axis=-1), present.sum(axis=-1))


def _quantiles(values: np.ndarray, tails: Sequence[float]) -> np.ndarray:
    return np.quantile(values, tails) if np.isfinite(values).all() else np.full(len(tails), np.nan)


def _number(value: Any) -> int | float | None:
    """A plain number for JSON, None for NaN."""
    plain = np.asarray(value).item()
    return None if plain != plain else plain
