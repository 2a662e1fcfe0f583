"""Newton's method for many linear SVMs on the same rows at once: squared hinge, L2-regularised, preconditioned.

For each column c with targets y in {-1, 1}, costs C s_i and margins f = X w + b it minimises

    P(w, b) = |w|^2 / 2 + p b^2 / 2 + C sum_i s_i max(0, 1 - y_i f_i)^2          (p is 1, or 0 for a free intercept)

by the finite Newton method (Keerthi and DeCoste 2005, "A Modified Finite Newton Method for Fast Solution of Large
Scale Linear SVMs"): conjugate gradients on H = I + 2 C X' diag(active s) X, then an exact line search. All columns
share every matrix product. Two things make the gradients few:

* H is preconditioned by a Cholesky factor of I + 2 C q X'X, q being the mean share of active rows. X'X does not
  change, so one Gram matrix serves every C, every class and every fold.
* For large C few rows are active and each class has its own. Once the products spent on a C have cost about as much
  as Gram matrices of the active rows would, those are made and take the place of the shared one.

With fewer rows than dimensions the same iterations run on coefficients of the rows, w = X'v, with X X' for X'X.

The dual point a_i = 2 C s_i max(0, 1 - y_i f_i) proves how close the end is: P - D(a) = |grad P|^2 / 2 where p is 1.
It is evaluated in float64, a chunk of rows at a time; nothing else of the size of X is ever made but the factors,
which take at most the memory of X.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from featurepipe.models.matrices import Rows, Symmetric

LOOSE = 0.1
"""Conjugate gradients stop at this reduction of the residual, in the norm of the preconditioner."""

TINY = 256
"""Up to this many coordinates, problems are solved to rounding whatever the tolerance: it costs next to nothing."""

FINE = 1e-6
"""The reduction of the residual that this takes."""

FARTHEST = 16.0
"""Longest step along a direction: rounding must not send the coordinates off."""

WIDE_LIMIT = 100
"""Products of one Newton step at most, with fewer rows than dimensions: its direction is then taken as it is."""

STALLED = 8
"""float64 steps in a row that do not halve the gap: float32 products resolve no more, and the solution stands."""

PATIENCE = 64
"""A Gram matrix and factor per class cost about as much as (columns of X) / PATIENCE products with the Hessian."""

SMALL = 1 << 24
"""Numbers that Gram matrices may have together where X has fewer; else they have at most as many as X."""

RESCALE = 2.5
"""A factor is kept until C times the share of active rows has changed by more than this."""

FLOOR = 1e-12
"""Gaps are relative to the objective, but at least to this share of the objective of w = 0."""


@dataclass(frozen=True)
class Columns:
    """The one-vs-rest problems, one per column.

    Attributes
    ----------
    sign : (n, c) of +1 and -1
    weight : (n, c) s_i >= 0; rows of weight 0 are not learned from
    group : (c,) int from 0, columns that may share the Gram matrix of their active rows: the same class
    shift, scale : (d, c), or None: column c sees the rows (x - shift) / scale
    """

    sign: np.ndarray
    weight: np.ndarray
    group: np.ndarray
    shift: np.ndarray | None = None
    scale: np.ndarray | None = None


@dataclass(frozen=True)
class Solution:
    """Optimum at one C.

    Attributes
    ----------
    coef : (c, d) float64, of the rows as the column sees them
    intercept : (c,) float64
    margins : (n, c) float64, X w + b
    objective : (c,) float64, P
    gap : (c,) float64, P minus a dual value over P, evaluated in float64
    steps : Newton steps taken
    products : products with the Hessian
    """

    coef: np.ndarray
    intercept: np.ndarray
    margins: np.ndarray
    objective: np.ndarray
    gap: np.ndarray
    steps: int
    products: int


class _Tall:
    """Coordinates w, for at least as many rows as dimensions."""

    def __init__(self, rows: Rows, columns: Columns) -> None:
        self.rows, self.shift, self.scale = rows, columns.shift, columns.scale
        self.size = rows.shape[1]

    def margins(self, w: np.ndarray, at: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """X w for the columns `at`: (n, len(at))."""
        if self.shift is None or self.scale is None:
            return self.rows.times(w, exact=exact)
        w = w / self.scale[:, at]
        return self.rows.times(w, exact=exact) - (self.shift[:, at] * w).sum(axis=0)

    def pull(self, r: np.ndarray, at: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """X'r for the columns `at`: (d, len(at))."""
        pulled = self.rows.pull(r, exact=exact)
        if self.shift is None or self.scale is None:
            return pulled
        return (pulled - self.shift[:, at] * r.sum(axis=0)) / self.scale[:, at]

    def inner(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """<u, v> of each column, float64."""
        return np.einsum("ij,ij->j", u, v, dtype=np.float64)

    def squared(self, u: np.ndarray, *, exact: bool) -> np.ndarray:
        """|u|^2 of each column."""
        return self.inner(u, u)

    def coef(self, w: np.ndarray) -> np.ndarray:
        """(c, d) from the coordinates."""
        return w.T.copy()

    def gram(self, weight: np.ndarray) -> Symmetric:
        """X' diag(weight) X."""
        return self.rows.gram(weight)

    def factor(self, gram: Symmetric, weight: np.ndarray, scale: float) -> None:
        """Factor I + scale X' diag(weight) X."""
        gram.factor(np.full(self.size, np.sqrt(scale)))

    def solve(self, gram: Symmetric, r: np.ndarray) -> np.ndarray:
        """The solution of the factored system."""
        return gram.solve(r)


class _Wide:
    """Coordinates v of w = X'v, for fewer rows than dimensions; <u, v> of two such w is u' X X' v."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.size = rows, rows.shape[0]
        self.outer = rows.outer()
        self.root = np.ones(self.size)

    def margins(self, v: np.ndarray, at: np.ndarray, *, exact: bool = False) -> np.ndarray:
        return self.rows.times(self.rows.pull(v, exact=True), exact=True) if exact else self.outer.times(v)

    def pull(self, r: np.ndarray, at: np.ndarray, *, exact: bool = False) -> np.ndarray:
        return r

    def inner(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij->j", u, self.outer.times(v), dtype=np.float64)

    def squared(self, u: np.ndarray, *, exact: bool) -> np.ndarray:
        if exact:
            w = self.rows.pull(u, exact=True)
            return np.einsum("ij,ij->j", w, w)
        return np.maximum(self.inner(u, u), 0)

    def coef(self, v: np.ndarray) -> np.ndarray:
        return self.rows.pull(v, exact=True).T.copy()

    def gram(self, weight: np.ndarray) -> Symmetric:
        return self.outer

    def factor(self, gram: Symmetric, weight: np.ndarray, scale: float) -> None:
        """Factor I + D X X' D with D^2 = scale weight: (I + D^2 X X')^-1 is D (that)^-1 D^-1."""
        self.root = np.sqrt(scale * np.maximum(weight, 1e-3 * weight.max()))
        gram.factor(self.root)

    def solve(self, gram: Symmetric, r: np.ndarray) -> np.ndarray:
        root = self.root[:, None].astype(r.dtype)
        return root * gram.solve(r / root)


@dataclass
class _Part:
    """A factor of I + scale X' diag(weight) X for some columns, bordered by the intercept."""

    gram: Symmetric
    weight: np.ndarray
    columns: np.ndarray
    scale: float = 0.0
    border: np.ndarray = field(default_factory=lambda: np.empty(0))
    schur: float = 1.0


@dataclass
class _State:
    """Where the columns stand: objective, relative gap, gradient, and curvature 2 C s_i of active rows."""

    objective: np.ndarray
    gap: np.ndarray
    slope: np.ndarray
    slope_b: np.ndarray
    curvature: np.ndarray


class Newton:
    """Solves the columns for one C after another, each from the optimum before.

    Parameters
    ----------
    rows : (n, d)
    columns : targets and weights
    penalise_intercept : False leaves the intercept out of the penalty
    sample : rows of the shared Gram matrix, drawn at random but always the same; 2 d do for one fit
    """

    def __init__(self, rows: Rows, columns: Columns, *, penalise_intercept: bool = True, sample: int = 0) -> None:
        count, width = rows.shape
        self.columns, self.penalty = columns, float(penalise_intercept)
        self.space = _Tall(rows, columns) if count >= width else _Wide(rows)
        self.dtype = rows.dtype if count >= width else np.dtype(np.float64)
        self.coordinates = np.zeros((self.space.size, columns.sign.shape[1]))
        self.intercept = np.zeros(columns.sign.shape[1])
        self.margins = np.zeros(columns.sign.shape)
        affordable = max(count * width, SMALL) // self.space.size**2
        each = np.arange(columns.sign.shape[1]) if columns.sign.shape[1] <= affordable else columns.group
        self.groups = each % max(1, affordable)
        self.mean = columns.weight.mean(axis=1, dtype=np.float64)
        self.base = self._sampled(sample) if count >= width else self.mean
        self.parts: list[_Part] = []
        self.spent = 0

    def solve(self, C: float, *, tol: float, max_iter: int) -> Solution:
        """The optimum at C, to a relative gap of `tol` in every column, or as near as `max_iter` steps come."""
        exact, steps, products, self.spent = self.dtype == np.float64, 0, 0, 0
        state, lowest, stalled = self._evaluate(C, exact), np.inf, 0
        while steps < max_iter and stalled < STALLED:
            live = np.flatnonzero(state.gap > tol)
            if not len(live):
                if exact:
                    break
                exact, state = True, self._evaluate(C, True)
                continue
            self._prepare(C, state)
            steps, before = steps + 1, state.gap[live].max()
            products += self._step(C, state, live)
            state = self._evaluate(C, exact)
            stalled = stalled + 1 if exact and state.gap.max() > lowest / 2 else 0
            lowest = min(lowest, float(state.gap.max()))
            exact = exact or bool(state.gap[live].max() > before / 2 and before < 1e-3)
        if self.space.size <= TINY:
            state = self._finish(C, state)
        elif not exact:
            state = self._evaluate(C, True)
        coef = self.space.coef(self.coordinates)
        return Solution(coef, self.intercept.copy(), self.margins.copy(), state.objective, state.gap, steps, products)

    def _finish(self, C: float, state: _State) -> _State:
        """Newton steps solved to the last digit: once the active rows stay the same, one ends at the optimum."""
        state = self._evaluate(C, True)
        for _ in range(3):
            before = self.coordinates.copy(), self.intercept.copy(), self.margins.copy()
            self._prepare(C, state)
            self._step(C, state, np.flatnonzero(state.gap > 0), FINE)
            after = self._evaluate(C, True)
            if after.gap.max() >= state.gap.max():
                self.coordinates, self.intercept, self.margins = before
                break
            state = after
        return state

    def _sampled(self, sample: int) -> np.ndarray:
        count = len(self.mean)
        if not 0 < sample < count:
            return self.mean
        chosen = np.random.default_rng(0).permutation(count)[:sample]
        base = np.zeros(count)
        base[chosen] = self.mean[chosen] * (count / sample)
        return base if base.any() else self.mean

    def _evaluate(self, C: float, exact: bool) -> _State:
        """Objective, gradient and gap; where exact, margins are worked out anew and all of it in float64."""
        sign, weight, every = self.columns.sign, self.columns.weight, np.arange(len(self.intercept))
        if exact:
            self.margins = self.space.margins(self.coordinates, every, exact=True) + self.intercept
        slack = np.maximum(1 - sign * self.margins, 0)
        curvature = 2 * C * weight * (slack > 0)
        r = curvature * slack * sign
        size = self.space.squared(self.coordinates, exact=exact)
        objective = (size + self.penalty * self.intercept**2) / 2 + 0.5 * (r * sign * slack).sum(axis=0)
        slope = self.coordinates - self.space.pull(r, every, exact=exact)
        slope_b = self.penalty * self.intercept - r.sum(axis=0)
        gap = (self.space.squared(slope, exact=exact) + slope_b**2) / 2
        if exact and not self.penalty:
            gap = objective - self._dual(C, r)
        least = np.maximum(objective, FLOOR * C * weight.sum(axis=0, dtype=np.float64))
        return _State(objective, gap / np.maximum(least, np.finfo(float).tiny), slope, slope_b, curvature)

    def _dual(self, C: float, r: np.ndarray) -> np.ndarray:
        """Dual objective of a point near a_i = y_i r_i whose sum of y_i a_i is 0, as a free intercept asks."""
        positive, negative = np.maximum(r, 0).sum(axis=0), np.maximum(-r, 0).sum(axis=0)
        even = np.minimum(positive, negative)
        shares = [np.divide(even, side, out=np.zeros_like(side), where=side > 0) for side in (positive, negative)]
        r = np.where(r > 0, shares[0], shares[1]) * r
        weight = np.maximum(self.columns.weight, np.finfo(np.float32).tiny)
        pulled = self.space.pull(r, np.arange(r.shape[1]), exact=True)
        size = self.space.squared(pulled, exact=True)
        return np.abs(r).sum(axis=0) - size / 2 - (r**2 / (4 * C * weight)).sum(axis=0)

    def _prepare(self, C: float, state: _State) -> None:
        """Bring the preconditioner up to date: the shared Gram matrix rescaled, or Gram matrices of active rows."""
        if not self.parts:
            self.parts = [_Part(self.space.gram(self.base), self.base, np.arange(len(self.intercept)))]
        elif self.spent >= self._patience() and isinstance(self.space, _Tall):
            self.parts = []
            self.parts = [self._active_part(C, state, group) for group in np.unique(self.groups)]
            self.spent = 0
        for part in self.parts:
            self._refactor(part, 2 * C * self._share(C, state, part))

    def _patience(self) -> int:
        return max(4, self.space.size // PATIENCE)

    def _active_part(self, C: float, state: _State, group: int) -> _Part:
        mine = np.flatnonzero(self.groups == group)
        weight = state.curvature[:, mine].mean(axis=1) / (2 * C)
        return _Part(self.space.gram(weight), weight, mine)

    def _share(self, C: float, state: _State, part: _Part) -> float:
        """Weight of the active rows of a part's columns (geometric mean) over the weight in its Gram matrix."""
        active = state.curvature[:, part.columns].sum(axis=0) / (2 * C)
        whole = max(float(part.weight.sum()), np.finfo(float).tiny)
        return float(np.exp(np.log(np.maximum(active / whole, 1e-3)).mean()))

    def _refactor(self, part: _Part, scale: float) -> None:
        if part.scale and 1 / RESCALE < scale / part.scale < RESCALE:
            return
        part.scale = scale
        self.space.factor(part.gram, part.weight, scale)
        rows = (scale * part.weight)[:, None]
        column = self.space.pull(rows, part.columns[:1])
        part.border = self.space.solve(part.gram, column)
        whole, held = float(rows.sum()), float(self.space.inner(column, part.border)[0])
        part.schur = max(self.penalty + whole - held, self.penalty, 1e-6 * whole) or 1.0

    def precondition(self, r: np.ndarray, r_b: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bordered factors' solution for residuals of the columns `at`: (p, len(at)) and (len(at),)."""
        z, z_b = np.empty_like(r), np.empty_like(r_b)
        for part in self.parts:
            mine = np.flatnonzero(np.isin(at, part.columns))
            if len(mine):
                z_b[mine] = (r_b[mine] - self.space.inner(r[:, mine], part.border)) / part.schur
                z[:, mine] = self.space.solve(part.gram, r[:, mine]) - part.border * z_b[mine].astype(r.dtype)
        return z, z_b

    def _step(self, C: float, state: _State, live: np.ndarray, loose: float = LOOSE) -> int:
        """Move the live columns along their Newton directions; returns the products spent."""
        search = _Conjugate(self, state, live, loose)
        limit = max(16, self._patience() - self.spent) if isinstance(self.space, _Tall) else WIDE_LIMIT
        while len(search.at) and search.products < limit:
            search.advance()
        size = self._length(C, live, search)
        self.coordinates[:, live] += size * search.total
        self.intercept[live] += size * search.total_b
        self.margins[:, live] += size * search.reach
        self.spent += search.products
        return search.products

    def _length(self, C: float, live: np.ndarray, search: _Conjugate) -> np.ndarray:
        """(len(live),) exact minimum of P along the directions: Newton on a piecewise quadratic, kept in a bracket."""
        sign, cost = self.columns.sign[:, live], 2 * C * self.columns.weight[:, live]
        slack, gain = 1 - sign * self.margins[:, live], sign * search.reach
        slope = self.space.inner(search.total, self.coordinates[:, live])
        slope += self.penalty * search.total_b * self.intercept[live]
        bend = np.maximum(self.space.inner(search.total, search.total), 0) + self.penalty * search.total_b**2
        size, low, high = np.ones(len(live)), np.zeros(len(live)), np.full(len(live), FARTHEST)
        for _ in range(50):
            left = slack - size * gain
            pressed = cost * (left > 0) * gain
            first = slope + size * bend - np.einsum("ij,ij->j", pressed, left)
            second = bend + np.einsum("ij,ij->j", pressed, gain)
            low, high = np.where(first < 0, size, low), np.where(first >= 0, size, high)
            new = size - first / np.maximum(second, np.finfo(float).tiny)
            new = np.where((new > low) & (new < high), new, (low + high) / 2)
            done, size = np.abs(new - size) <= 1e-6 * np.abs(size), new
            if done.all():
                break
        return size


class _Conjugate:
    """Preconditioned conjugate gradients on the Newton systems of some columns; each stops where it is solved."""

    def __init__(self, newton: Newton, state: _State, live: np.ndarray, loose: float) -> None:
        self.newton, self.live, self.at = newton, live, np.arange(len(live))
        self.curvature = state.curvature[:, live].astype(newton.dtype)
        self.total = np.zeros((newton.space.size, len(live)), newton.dtype)
        self.total_b = np.zeros(len(live))
        self.reach = np.zeros((len(newton.margins), len(live)), newton.dtype)
        self.r, self.r_b = -state.slope[:, live].astype(newton.dtype), -state.slope_b[live]
        self.p, self.p_b = newton.precondition(self.r, self.r_b, live)
        self.left = newton.space.inner(self.r, self.p) + self.r_b * self.p_b
        self.enough = loose**2 * self.left
        self.products = 0

    def advance(self) -> None:
        """One product with the Hessian."""
        space, at, live = self.newton.space, self.at, self.live[self.at]
        reach = space.margins(self.p, live) + self.p_b.astype(self.p.dtype)
        bent = self.curvature[:, at] * reach
        h, h_b = self.p + space.pull(bent, live), self.newton.penalty * self.p_b + bent.sum(axis=0, dtype=np.float64)
        bend = space.inner(h, self.p) + h_b * self.p_b
        size = np.where(bend > 0, self.left / np.where(bend > 0, bend, 1), 0)
        short = size.astype(self.p.dtype)
        self.total[:, at] += short * self.p
        self.total_b[at] += size * self.p_b
        self.reach[:, at] += short * reach
        self.r, self.r_b = self.r - short * h, self.r_b - size * h_b
        z, z_b = self.newton.precondition(self.r, self.r_b, live)
        left = space.inner(self.r, z) + self.r_b * z_b
        turn, self.products = left / self.left, self.products + 1
        keep = np.flatnonzero((left > self.enough) & (size > 0))
        self.p = (z + turn.astype(z.dtype) * self.p)[:, keep]
        self.p_b = (z_b + turn * self.p_b)[keep]
        self.at, self.r, self.r_b, self.left = at[keep], self.r[:, keep], self.r_b[keep], left[keep]
        self.enough = self.enough[keep]
