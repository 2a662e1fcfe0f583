"""Newton's method for many linear SVMs on the same rows at once: squared hinge, L2-regularised, preconditioned.

For each column c with targets y in {-1, 1}, costs C s_i and margins f = X w + b it minimises

    P(w, b) = |w|^2 / 2 + p b^2 / 2 + C sum_i s_i max(0, 1 - y_i f_i)^2          (p is 1, or 0 for a free intercept)

by the finite Newton method (Keerthi and DeCoste 2005, "A Modified Finite Newton Method for Fast Solution of Large
Scale Linear SVMs"): conjugate gradients on H = I + 2 C X' diag(active s) X, then an exact line search. All columns
share every matrix product. Few of those with X are needed, because most of the work is done in a subspace of the
directions in which the rows vary most (featurepipe.models.subspace):

* Before each step the objective is minimised along the subspace, with a Hessian of its own for each column.
* The same Hessians, with a multiple of I beside the subspace, precondition the conjugate gradients.

The subspace grows with C, as more directions of X'X rise above I. Small Hessians are of the whole space.

Where C is so large that no subspace is enough, the columns are soon solved one after another, each with the factor of
its own active rows for the whole space: a few factors then do for what would take hundreds of products.

With fewer rows than dimensions the same iterations run on coefficients of the rows, w = X'v, preconditioned by a
Cholesky factor that all columns share. Where few rows are active, or the shared factor is of little help, each column's
Newton system is solved at once instead, as large as its active rows are many (Chapelle 2007, "Training a Support Vector
Machine in the Primal", section 4).

The dual point a_i = 2 C s_i max(0, 1 - y_i f_i) proves how close the end is: P - D(a) = |grad P|^2 / 2 where p is 1.
It is evaluated in float64, a chunk of rows at a time; nothing else of the size of X is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featurepipe.models.matrices import SMALL, Rows, in_threads, one_thread
from featurepipe.models.subspace import FLAT, LEAST, Subspace, leading

LOOSE = 0.1
"""Conjugate gradients stop at this reduction of the residual, in the norm of the preconditioner."""

TINY = 256
"""Up to this many coordinates, problems are solved to rounding whatever the tolerance: it costs next to nothing."""

FINE = 1e-6
"""The reduction of the residual that this takes."""

ROUNDED = 64 * np.finfo(float).eps
"""Share of an objective's root that sums over its rows are rounded by, at most."""

FARTHEST = 16.0
"""Longest step along a direction: rounding must not send the coordinates off."""

PRODUCTS = 100
"""Products of one Newton step at most: its direction is then taken as it is."""

DESCENTS = 20
"""Steps along the subspace at most, before each step in the whole space."""

ENOUGH = 1e-3
"""They end when one promises less than this share of what the first promised."""

STALLED = 8
"""float64 steps in a row that do not halve the gap: float32 products resolve no more, and the solution stands."""

WHOLE = 1 << 24
"""Where a quarter of the dimensions is not enough, the subspace is the whole space, as long as the Hessians and factors
of all columns have no more numbers than this."""

STEEP = 8.0
"""The subspace is a poor guide where 2 C X'X is above this along the strongest direction beside it."""

ROOM = 7
"""So many rows per dimension make room, beside the subspace, for a Hessian of the whole space and what makes it: five
such matrices at most, which together with the subspace are no larger than the rows."""

PATIENCE = 30
"""Columns with a poor guide get factors of their own after so many products: rows that soon cease to be active cost
time in a Hessian."""

FEW = 300
"""With fewer rows than dimensions, Newton systems are solved at once where the cubes of their sizes sum to at most this
many times what a product with X X' takes: conjugate gradients would need about as much."""

RESCALE = 2.5
"""With fewer rows than dimensions, a factor is kept until C times the share of active rows changes by more."""

FLOOR = 1e-12
"""Gaps are relative to the objective, but at least to this share of the objective of w = 0."""


@dataclass(frozen=True)
class Columns:
    """The one-vs-rest problems, one per column.

    Attributes
    ----------
    sign : (n, c) of +1 and -1
    weight : (n, c) s_i >= 0; rows of weight 0 are not learned from
    shift, scale : (d, c), or None: column c sees the rows (x - shift) / scale
    """

    sign: np.ndarray
    weight: np.ndarray
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

    def bend(self, p: np.ndarray, p_b: np.ndarray, curvature: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, ...]:
        """Margins m = X p + p_b, and X'(curvature m), for the columns `at`."""
        if self.shift is None or self.scale is None:
            return self.rows.bend(p, p_b, curvature)
        p = p / self.scale[:, at]
        reach, pulled = self.rows.bend(p, p_b - (self.shift[:, at] * p).sum(axis=0), curvature)
        bent = np.einsum("ij,ij->j", curvature, reach, dtype=np.float64)
        return reach, (pulled - self.shift[:, at] * bent) / self.scale[:, at]

    def inner(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """<u, v> of each column, float64."""
        return np.einsum("ij,ij->j", u, v, dtype=np.float64)

    def squared(self, u: np.ndarray, *, exact: bool) -> np.ndarray:
        """|u|^2 of each column."""
        return self.inner(u, u)

    def coef(self, w: np.ndarray) -> np.ndarray:
        """(c, d) from the coordinates."""
        return w.T.copy()


class _Wide:
    """Coordinates v of w = X'v, for fewer rows than dimensions; <u, v> of two such w is u' X X' v, in float64."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.size = rows, rows.shape[0]
        self.outer = rows.outer()
        self.root = np.ones(self.size)

    def margins(self, v: np.ndarray, at: np.ndarray, *, exact: bool = False) -> np.ndarray:
        return self.outer.times(v)

    def pull(self, r: np.ndarray, at: np.ndarray, *, exact: bool = False) -> np.ndarray:
        return r

    def bend(self, p: np.ndarray, p_b: np.ndarray, curvature: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, ...]:
        reach = self.margins(p, at) + p_b
        return reach, curvature * reach

    def inner(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij->j", u, self.outer.times(v), dtype=np.float64)

    def squared(self, u: np.ndarray, *, exact: bool) -> np.ndarray:
        return np.maximum(self.inner(u, u), 0)

    def coef(self, v: np.ndarray) -> np.ndarray:
        return self.rows.pull(v, exact=True).T.copy()


class _Shared:
    """One factor of I + q X' diag(mean weight) X for all columns, bordered by the intercept, in the coordinates v.

    I + D X X' D is what is factored, with D^2 = q (mean weight): (I + D^2 X X')^-1 is D (that)^-1 D^-1.
    """

    def __init__(self, space: _Wide, columns: Columns, penalty: float) -> None:
        self.space, self.penalty = space, penalty
        self.weight = columns.weight.mean(axis=1, dtype=np.float64)
        self.scale = 0.0
        self.root = self.border = np.empty(0)
        self.schur = 1.0

    def renew(self, C: float, active: np.ndarray) -> None:
        """Follow the mean weight of active rows, (n, c) of s_i or 0, where it has changed much."""
        whole = max(float(self.weight.sum()), np.finfo(float).tiny)
        share = np.maximum(active.sum(axis=0) / whole, 1e-3)
        scale = 2 * C * float(np.exp(np.log(share).mean()))
        if self.scale and 1 / RESCALE < scale / self.scale < RESCALE:
            return
        self.scale = scale
        self._factor(np.sqrt(scale * np.maximum(self.weight, 1e-3 * self.weight.max()))[:, None], scale * self.weight)

    def solve(self, r: np.ndarray, r_b: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A preconditioner's solution: (n, len(at)) and (len(at),)."""
        z_b = (r_b - self.space.inner(r, self.border)) / self.schur
        return self._inner(r) - self.border * z_b, z_b

    def _factor(self, root: np.ndarray, curvature: np.ndarray) -> None:
        self.root = root
        self.space.outer.factor(root[:, 0])
        rows = curvature[:, None]
        self.border = self._inner(rows)
        whole, held = float(rows.sum()), float(self.space.inner(rows, self.border)[0])
        self.schur = max(self.penalty + whole - held, self.penalty, 1e-6 * whole) or 1.0

    def _inner(self, r: np.ndarray) -> np.ndarray:
        return self.root * self.space.outer.solve(r / self.root)


@dataclass
class _State:
    """Where the columns stand: objective, relative gap, gradient, and curvature 2 C s_i of active rows."""

    objective: np.ndarray
    gap: np.ndarray
    slope: np.ndarray
    slope_b: np.ndarray
    curvature: np.ndarray


@dataclass(frozen=True)
class _Direction:
    """Where some columns are to go: coordinates, intercept, and what that does to the margins."""

    total: np.ndarray
    total_b: np.ndarray
    reach: np.ndarray


class Newton:
    """Solves the columns for one C after another, each from the optimum before.

    Parameters
    ----------
    rows : (n, d)
    columns : targets and weights
    penalise_intercept : False leaves the intercept out of the penalty
    """

    def __init__(self, rows: Rows, columns: Columns, *, penalise_intercept: bool = True) -> None:
        count, width = rows.shape
        self.rows, self.columns, self.penalty = rows, columns, float(penalise_intercept)
        self.space: _Tall | _Wide
        self.guide: Subspace | _Shared | None = None
        if count >= width:
            self.space, self.dtype = _Tall(rows, columns), rows.dtype
        else:
            self.space, self.dtype = _Wide(rows), np.dtype(np.float64)
            self.guide = _Shared(self.space, columns, self.penalty)
        self.floor = self.beyond = np.inf
        self.coordinates = np.zeros((self.space.size, columns.sign.shape[1]))
        self.intercept = np.zeros(columns.sign.shape[1])
        self.margins = np.zeros(columns.sign.shape)

    def solve(self, C: float, *, tol: float, max_iter: int) -> Solution:
        """The optimum at C, to a relative gap of `tol` in every column, or as near as `max_iter` steps come."""
        with one_thread():
            return self._solve(C, tol, max_iter)

    def _solve(self, C: float, tol: float, max_iter: int) -> Solution:
        exact, steps, products = self.rows.dtype == np.float64 and isinstance(self.space, _Tall), 0, 0
        self._grow(C)
        self._descend(C, tol, np.arange(len(self.intercept)))
        state, lowest, stalled = self._evaluate(C, exact), np.inf, 0
        while steps < max_iter and stalled < STALLED:
            live = np.flatnonzero(state.gap > tol)
            if not len(live):
                if exact:
                    break
                exact, state = True, self._evaluate(C, True)
                continue
            steps, before = steps + 1, state.gap[live].max()
            products += self._step(C, state, live, patient=products <= PATIENCE)
            self._descend(C, tol, live)
            if products > PATIENCE and self._steep(C):
                return self._one_by_one(C, tol, max_iter, steps, products)
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

    def _steep(self, C: float) -> bool:
        """Whether what the columns share is a poor guide, and there is room for one column's for the whole space."""
        if not isinstance(self.guide, Subspace):
            return False
        (count, width), subspace = self.rows.shape, self.guide.basis is not None and self.columns.scale is None
        return subspace and 2 * C * self.beyond >= STEEP and count >= ROOM * width

    def _one_by_one(self, C: float, tol: float, max_iter: int, steps: int, products: int) -> Solution:
        """The columns one after another from where they stand, each with a factor of its own for the whole space."""
        self.guide, self.floor = None, np.inf  # its memory is needed; the next C finds another
        found = []
        for column in range(len(self.intercept)):
            mine = slice(column, column + 1)
            alone = self._alone(mine)
            found.append(alone.solve(C, tol=tol, max_iter=max_iter - steps))
            self.coordinates[:, mine] = alone.coordinates
        self.intercept = np.concatenate([one.intercept for one in found])
        self.margins = np.concatenate([one.margins for one in found], axis=1)
        return Solution(
            np.concatenate([one.coef for one in found]),
            self.intercept.copy(),
            self.margins.copy(),
            np.concatenate([one.objective for one in found]),
            np.concatenate([one.gap for one in found]),
            steps + max(one.steps for one in found),
            products + sum(one.products for one in found),
        )

    def _alone(self, mine: slice) -> Newton:
        """A solver of a single column that stands where this one does."""
        columns = Columns(self.columns.sign[:, mine], self.columns.weight[:, mine])
        alone = Newton(self.rows, columns, penalise_intercept=bool(self.penalty))
        alone.guide, alone.floor = alone._subspace(None, 0.0), 0.0
        alone.coordinates, alone.intercept = self.coordinates[:, mine].copy(), self.intercept[mine].copy()
        alone.margins = self.margins[:, mine].copy()
        return alone

    def _finish(self, C: float, state: _State) -> _State:
        """Newton steps solved to the last digit: once the active rows stay the same, one ends at the optimum."""
        state = self._evaluate(C, True)
        for _ in range(3):
            before = self.coordinates.copy(), self.intercept.copy(), self.margins.copy()
            self._step(C, state, np.flatnonzero(state.gap > 0), loose=FINE)
            after = self._evaluate(C, True)
            if after.gap.max() >= state.gap.max():
                self.coordinates, self.intercept, self.margins = before
                break
            state = after
        return state

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

    def _grow(self, C: float) -> None:
        """Make the subspace, or a larger one, so that 2 C X'X is flat beside it, or it is as large as may be."""
        old, width = self.guide, self.space.size
        if isinstance(old, _Shared) or 2 * C * self.floor <= FLAT:
            return
        if width <= TINY:
            self.guide, self.floor = self._subspace(None, 0.0), 0.0
            return
        limit = self._limit()
        least = min(limit, max(LEAST, 2 * old.size if old else 0))
        for size in sorted({max(least, limit // part) for part in (16, 4, 1)}):
            basis, values, rest = leading(self.rows, size)
            if 2 * C * values[-1] <= FLAT:
                break
        else:
            if 2 * len(self.intercept) * width**2 <= WHOLE:
                self.guide, self.floor = self._subspace(None, 0.0), 0.0
                return
        needed = max(least, int((2 * C * values > FLAT).sum()))
        rest = (rest * (width - size) + float(values[needed:].sum())) / (width - needed)
        self.guide = self._subspace(np.ascontiguousarray(basis[:, :needed]), rest)
        self.beyond = float(values[min(needed, size - 1)])
        self.floor = self.beyond if needed < limit else 0.0

    def _subspace(self, basis: np.ndarray | None, rest: float) -> Subspace:
        columns = self.columns
        return Subspace(
            self.rows, columns.weight, self.penalty, basis=basis, rest=rest, shift=columns.shift, scale=columns.scale
        )

    def _limit(self) -> int:
        """Directions at most: the rows in the subspace, its Hessians and factors take less memory than the rows."""
        count, width = self.rows.shape
        return max(1, min(width // 4, int(np.sqrt(max(count * width, WHOLE) * 0.375 / len(self.intercept)))))

    def _descend(self, C: float, tol: float, at: np.ndarray) -> None:
        """Newton steps of the columns `at` along the subspace, until they promise little."""
        guide, enough = self.guide, np.zeros(0)
        if not isinstance(guide, Subspace):
            return
        for number in range(DESCENTS):
            sign, weight = self.columns.sign[:, at], self.columns.weight[:, at]
            slack = np.maximum(1 - sign * self.margins[:, at], 0)
            r = 2 * C * weight * slack * sign
            slope = guide.drop(self.coordinates[:, at], at) - guide.pull(r, at)
            slope_b = self.penalty * self.intercept[at] - r.sum(axis=0)
            guide.renew(C, slack > 0, at)
            step, step_b = guide.inner(-slope, -slope_b, at)
            promised = -np.einsum("ij,ij->j", step, slope, dtype=np.float64) - step_b * slope_b
            if not number:
                least = 0.1 * tol * C * np.einsum("ij,ij->j", weight, slack**2)
                enough = np.maximum(ENOUGH * promised, least)
            keep = promised > enough
            at, enough = at[keep], enough[keep]
            if not len(at):
                break
            step, step_b = step[:, keep], step_b[keep]
            self._move(C, at, _Direction(guide.lift(step, at), step_b, guide.margins(step, at) + step_b))

    def _step(self, C: float, state: _State, live: np.ndarray, *, loose: float = LOOSE, patient: bool = True) -> int:
        """Move the live columns along their Newton directions; returns the products spent on conjugate gradients."""
        if isinstance(self.space, _Wide) and not (patient and self._many(state, live)):
            self._move(C, live, self._at_once(self.space, state, live))
            return 0
        if isinstance(self.guide, Subspace):
            self.guide.renew(C, state.curvature[:, live] > 0, live)
        elif self.guide is not None:
            self.guide.renew(C, state.curvature / (2 * C))
        search = _Conjugate(self, state, live, loose)
        while len(search.at) and search.products < PRODUCTS:
            search.advance()
        self._move(C, live, _Direction(search.total, search.total_b, search.reach))
        return search.products

    def _many(self, state: _State, live: np.ndarray) -> bool:
        """Whether so many rows are active that conjugate gradients take less than systems of their size."""
        active = np.count_nonzero(state.curvature[:, live], axis=0).astype(float)
        return float((active**3).sum()) > FEW * len(live) * self.space.size**2

    def _at_once(self, space: _Wide, state: _State, live: np.ndarray) -> _Direction:
        """Newton directions: elsewhere minus the gradient; on the active rows what a system of their size says."""
        curvature, r, r_b = state.curvature[:, live], -state.slope[:, live], -state.slope_b[live]
        total, total_b = np.where(curvature > 0, 0, r), np.zeros(len(live))
        pulled = r - curvature * space.outer.times(total)

        def solve(column: int) -> None:
            chosen = np.flatnonzero(curvature[:, column])
            root = np.sqrt(curvature[chosen, column])
            solution = root[:, None] * space.outer.solve_within(
                chosen, root, np.stack([pulled[chosen, column] / root, root], axis=1)
            )
            bend = self.penalty + solution[:, 1].sum()
            if bend > 0:
                total_b[column] = (r_b[column] - r[chosen, column].sum() + solution[:, 0].sum()) / bend
            total[chosen, column] = solution[:, 0] - total_b[column] * solution[:, 1]

        largest = np.count_nonzero(curvature, axis=0).max(initial=0)
        in_threads(solve, range(len(live)), pays=largest > SMALL)
        return _Direction(total, total_b, space.outer.times(total) + total_b)

    def precondition(self, r: np.ndarray, r_b: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Directions (p, len(at)) and (len(at),) that the guide holds residuals of the columns `at` to ask for."""
        assert self.guide is not None
        return self.guide.solve(r, r_b, at)

    def _move(self, C: float, at: np.ndarray, direction: _Direction) -> None:
        """Move the columns `at` as far along their directions as their objectives fall."""
        size = self._length(C, at, direction)
        self.coordinates[:, at] += size * direction.total
        self.intercept[at] += size * direction.total_b
        self.margins[:, at] += size * direction.reach

    def _length(self, C: float, live: np.ndarray, search: _Direction) -> np.ndarray:
        """(len(live),) exact minimum of P along the directions: Newton on a piecewise quadratic, kept in a bracket."""
        sign, cost = self.columns.sign[:, live], 2 * C * self.columns.weight[:, live]
        slack, gain = 1 - sign * self.margins[:, live], sign * search.reach
        slope = self.space.inner(search.total, self.coordinates[:, live])
        slope += self.penalty * search.total_b * self.intercept[live]
        bend = np.maximum(self.space.inner(search.total, search.total), 0) + self.penalty * search.total_b**2
        size, low, high = np.ones(len(live)), np.zeros(len(live)), np.full(len(live), FARTHEST)
        loss = np.einsum("ij,ij->j", cost, np.maximum(slack, 0) ** 2)
        for _ in range(50):
            left = slack - size * gain
            pressed = cost * (left > 0) * gain
            first = slope + size * bend - np.einsum("ij,ij->j", pressed, left)
            second = bend + np.einsum("ij,ij->j", pressed, gain)
            low, high = np.where(first < 0, size, low), np.where(first >= 0, size, high)
            second = np.maximum(second, np.finfo(float).tiny)
            new = size - first / second
            new = np.where((new >= low) & (new <= high), new, (low + high) / 2)
            # `first` is rounded by about eps sqrt(loss second): along the shortest directions that is all there is.
            enough, size = np.maximum(1e-6 * size, ROUNDED * np.sqrt(loss) / np.sqrt(second)) >= np.abs(new - size), new
            if enough.all():
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
        curvature = self.curvature[:, at]
        reach, pulled = space.bend(self.p, self.p_b, curvature, live)
        h = self.p + pulled.astype(self.p.dtype, copy=False)
        h_b = self.newton.penalty * self.p_b + np.einsum("ij,ij->j", curvature, reach, dtype=np.float64)
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
