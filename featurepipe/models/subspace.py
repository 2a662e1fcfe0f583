"""The directions in which rows vary most: what many linear SVMs on the same rows have in common, and where most of the
work is done.

The eigenvalues of X'X of deep features fall off fast (those of 28,709 standardised fc7 vectors like k^-2), so that the
Hessian I + 2 C X' diag(active s) X of a squared hinge is far from I in a few hundred of 4096 directions alone. There,
in the coordinates Z = X B (n, k), each column has a Hessian of its own, of the rows that are active now: rows that
become active are added, those that cease to be are taken away, and factoring takes k^3 / 3 operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from featurepipe.models.matrices import NOT_FINITE, SMALL, all_threads, in_threads

SAMPLED = 8
"""Rows that a basis is found from, per direction."""

FLAT = 0.25
"""Directions along which 2 C X'X is below this need no Hessian of their own."""

EXACT = 1024
"""Whole spaces of up to so many dimensions have Hessians in float64: no more time than that of their rows is lost."""

LEAST = 64
"""Directions at least."""


def leading(rows: Any, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The `size` leading eigenvectors of X'X, about, from a sample of the rows.

    Halko, Martinsson and Tropp 2011, "Finding Structure with Randomness", algorithm 4.4 with a power of one, and a
    Rayleigh-Ritz step. The sample and the start are random, but always the same.

    Returns
    -------
    basis (d, size) orthonormal, eigenvalues (size,) descending, and the mean of the other eigenvalues, of all rows
    """
    count, width = rows.shape
    generator = np.random.default_rng(0)
    some = rows.take(np.sort(generator.permutation(count)[: SAMPLED * size]))
    with all_threads(some.shape[0] * width * size):
        basis = np.linalg.qr(some.pull(some.times(generator.standard_normal((width, size)))))[0]
        seen = some.times(basis).astype(np.float64)
        values, turn = np.linalg.eigh(seen.T @ seen)
        basis = basis @ turn[:, ::-1].astype(basis.dtype)
    share = count / some.shape[0]
    rest = max(some.squared() - values.sum(), 0) / max(width - size, 1)
    return basis, np.maximum(values[::-1], 0) * share, rest * share


class Subspace:
    """Hessians of the columns in the coordinates of a basis, with a single number for all other directions.

    Parameters
    ----------
    rows : (n, d)
    weight : (n, c) s_i >= 0
    penalty : of the intercept, 0 or 1
    basis : (d, k) orthonormal; None for all directions as they are
    rest : mean eigenvalue of X'X in the other directions
    shift, scale : (d, c), or None: column c sees the rows (x - shift) / scale
    """

    def __init__(
        self,
        rows: Any,
        weight: np.ndarray,
        penalty: float,
        *,
        basis: np.ndarray | None = None,
        rest: float = 0.0,
        shift: np.ndarray | None = None,
        scale: np.ndarray | None = None,
    ) -> None:
        self.basis, self.rest, self.scale = basis, rest / len(weight), scale
        self.rows = rows if basis is None else rows.project(basis)
        self.size, self.weight = self.rows.shape[1], weight
        self.shift = None if shift is None else self._down(shift)
        self.ridge = np.append(np.ones(self.size), penalty)
        self.hessians, self.counted = self._beginning()
        self.factors: list[Any] = [None] * weight.shape[1]
        self.costs = np.zeros(weight.shape[1])

    def margins(self, a: np.ndarray, at: np.ndarray) -> np.ndarray:
        """X w for the coordinates `a` (k, len(at)) of directions of the columns `at`."""
        reach = self.rows.times(a)
        return reach if self.shift is None else reach - (self.shift[:, at] * a).sum(axis=0)

    def pull(self, r: np.ndarray, at: np.ndarray) -> np.ndarray:
        """What X'r is in the coordinates: (k, len(at))."""
        pulled = self.rows.pull(r)
        return pulled if self.shift is None else pulled - self.shift[:, at] * r.sum(axis=0)

    def lift(self, a: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The directions (d, len(at)) that have the coordinates `a`."""
        lifted = a if self.basis is None else self.basis @ a.astype(self.basis.dtype)
        return lifted if self.scale is None else self.scale[:, at] * lifted

    def drop(self, w: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The transpose of `lift`: (k, len(at)) from (d, len(at))."""
        return self._down(w if self.scale is None else self.scale[:, at] * w)

    def renew(self, C: float, active: np.ndarray, at: np.ndarray) -> None:
        """Bring the Hessians of the columns `at` up to their active rows, (n, len(at)) bool."""
        wanted = (self.weight[:, at] * active).astype(np.float32)
        if len(at) == 1:  # one column takes all cores; several take one each
            with all_threads(np.count_nonzero(wanted) * self.size**2 / 2):
                self._renew(C, wanted[:, 0], int(at[0]))
            return
        in_threads(
            lambda number: self._renew(C, wanted[:, number], int(at[number])), range(len(at)), pays=self.size > SMALL
        )

    def inner(self, a: np.ndarray, a_b: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The Hessians' solutions within the subspace: (k, len(at)) and, of the intercept, (len(at),)."""
        whole = np.concatenate([a, a_b[None]]).astype(self.hessians.dtype)
        for number, column in enumerate(at):
            whole[:, number] = cho_solve(self.factors[column], whole[:, number], check_finite=False)
        return whole[:-1], whole[-1].astype(np.float64)

    def solve(self, r: np.ndarray, r_b: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A preconditioner's solution: (d, len(at)) and (len(at),)."""
        a, z_b = self.inner(self.drop(r, at), r_b, at)
        z = self.lift(a, at)
        if self.basis is not None:
            beside = 1 + 2 * self.costs[at] * self.rest * self.counted[:, at].sum(axis=0, dtype=np.float64)
            z = z + (r - self.basis @ (self.basis.T @ r)) / beside
        return z.astype(r.dtype), z_b

    def _renew(self, C: float, mine: np.ndarray, column: int) -> None:
        """Bring the Hessian of one column up to its active rows' weights (n,)."""
        change = mine - self.counted[:, column]
        changed = np.count_nonzero(change)
        if changed:
            self.factors[column] = None  # its memory is needed
            if changed > np.count_nonzero(mine):
                self.hessians[column] = self._moments(mine)
            else:
                self.hessians[column] += self._moments(change)
            self.counted[:, column] = mine
        if changed or self.costs[column] != C:
            self.factors[column], self.costs[column] = self._factored(C, column), C

    def _beginning(self) -> tuple[np.ndarray, np.ndarray]:
        """Hessians of all rows, which several columns share; of a single column's none, as some may not be active."""
        count, columns = self.weight.shape
        if columns == 1:
            return np.zeros((1, self.size + 1, self.size + 1), self._dtype()), np.zeros((count, 1), np.float32)
        with all_threads(count * self.size**2 / 2):
            whole = self._moments(np.ones(count))
        return np.repeat(whole[None], columns, axis=0), np.ones((count, columns), np.float32)

    def _down(self, w: np.ndarray) -> np.ndarray:
        return w if self.basis is None else self.basis.T @ w.astype(self.basis.dtype)

    def _moments(self, weight: np.ndarray) -> np.ndarray:
        return self.rows.moments(weight, exact=self._dtype() != self.rows.dtype)

    def _dtype(self) -> np.dtype:
        """An eigenbasis lets float32 do, whatever the scales of its directions; large whole spaces leave no choice."""
        return np.dtype(np.float64) if self.basis is None and self.size <= EXACT else self.rows.dtype

    def _factored(self, C: float, column: int) -> Any:
        """Cholesky factor of the penalty's and the active rows' Hessian; with a ridge where rounding spoilt it."""
        diagonal = 2 * C * self.hessians[column].diagonal() + self.ridge
        for ridge in (0.0, *(10.0**power for power in range(-7, 3))):
            system = 2 * C * self.hessians[column].T
            np.fill_diagonal(system, diagonal + ridge * diagonal.max())
            try:
                return cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
            except LinAlgError:
                continue
        raise LinAlgError(NOT_FINITE)
