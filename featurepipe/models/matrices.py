"""Products with a tall matrix of rows, and symmetric matrices with their Cholesky factors, on the CPU or a device.

Small arrays (a few columns) come and go as NumPy; the rows, Gram matrices and factors stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from scipy.linalg import LinAlgError, get_blas_funcs, get_lapack_funcs
from threadpoolctl import ThreadpoolController

from featurepipe.machine import cores
from featurepipe.whole_process import Restore, WholeProcess

CHUNK = 2048
"""Rows of moments taken at a time."""

PIECE = 1 << 17
"""Numbers of X in a piece: small enough for a processor's own cache, and for BLAS not to pack or to share them out."""

FEW = 16
"""Up to so many columns, products are taken a piece of X at a time; with more, packing pays."""

LARGE = 1 << 22
"""From so many numbers on, X is worth sharing out to threads."""

MANY = 10**10
"""From so many multiply-adds on, one product of BLAS is worth sharing out to its threads."""

SMALL = 256
"""A matrix of up to so many rows is factored in less time than a thread takes to start."""

BLOCK = 512
"""Side of the blocks by which a triangle is mirrored."""

RIDGES = tuple(10.0**power for power in range(30))
"""Multiples of I that are tried, one after another, where rounding makes a matrix indefinite."""

NOT_FINITE = "a matrix to factor is not finite: use a smaller C"

Item = TypeVar("Item")
Result = TypeVar("Result")

Work = Callable[[np.ndarray, slice, np.ndarray], object]
"""What to do with a piece of X, which rows of X it is, and the total (c, d) to add to."""


class Rows:
    """Rows (n, d) in NumPy, float32 or float64, C order; never copied."""

    def __init__(self, X: np.ndarray) -> None:
        self.X, self.shape, self.dtype = X, X.shape, X.dtype

    def times(self, v: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """X v (n, c): in the dtype of the rows, or in float64 where it is to be exact."""
        dtype = np.dtype(np.float64) if exact else self.dtype
        v = np.asfortranarray(v, dtype=dtype)
        product = np.empty((self.shape[0], v.shape[1]), dtype)
        if self._whole(v.shape[1], dtype):
            in_threads(lambda here: np.matmul(self.X[here], v, out=product[here]), self._shares())
            return product
        self._sweep(v.shape[1], dtype, lambda part, here, total: np.matmul(part, v, out=product[here]))
        return product

    def pull(self, r: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """X'r (d, c): in the dtype of the rows, or in float64 where it is to be exact."""
        dtype = np.dtype(np.float64) if exact else self.dtype
        r = np.ascontiguousarray(r, dtype=dtype)
        if self._whole(r.shape[1], dtype):
            # r' X would take OpenBLAS three times as long
            return np.add.reduce(in_threads(lambda here: self.X[here].T @ r[here], self._shares()))
        return self._sweep(r.shape[1], dtype, lambda part, here, total: _add(total, r[here], part))

    def bend(self, v: np.ndarray, offset: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X v + offset (n, c), and X' (weight * that) (d, c), for weights (n, c)."""
        columns = v.shape[1]
        if self._whole(columns, self.dtype):
            reach = self.times(v) + offset.astype(self.dtype)
            return reach, self.pull(weight * reach)
        v, offset = np.asfortranarray(v, dtype=self.dtype), offset.astype(self.dtype)
        reach = np.empty((self.shape[0], columns), self.dtype)

        def both(part: np.ndarray, here: slice, total: np.ndarray) -> None:
            mine = np.matmul(part, v, out=reach[here])
            mine += offset
            _add(total, weight[here] * mine, part)

        return reach, self._sweep(columns, self.dtype, both)

    def moments(self, weight: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """The upper triangle of [X 1]' diag(weight) [X 1] (d + 1, d + 1), for weights (n,) of either sign.

        Rows of weight 0 cost nothing; what is below the triangle does not count.
        """
        dtype, step = np.dtype(np.float64) if exact else self.dtype, BLOCK if exact else CHUNK
        total = np.zeros((self.shape[1] + 1,) * 2, dtype, order="F")
        (syrk,) = get_blas_funcs(("syrk",), (total,))
        for chosen, share in ((np.flatnonzero(weight > 0), 1.0), (np.flatnonzero(weight < 0), -1.0)):
            for at in range(0, len(chosen), step):
                rows = chosen[at : at + step]
                part = np.empty((len(rows), len(total)), dtype)
                part[:, :-1], part[:, -1] = self.X[rows], 1
                part *= np.sqrt(np.abs(weight[rows, None])).astype(dtype)
                total = syrk(share, part.T, beta=1.0, c=total, lower=1, overwrite_c=1)
        return total.T

    def squared(self) -> float:
        """Sum of the squares of all numbers."""
        return float(np.linalg.norm(self.X)) ** 2

    def take(self, chosen: np.ndarray) -> Rows:
        """A copy of the chosen rows."""
        return Rows(self.X[chosen])

    def project(self, basis: np.ndarray) -> Rows:
        """The rows X B (n, k) for B (d, k)."""
        return Rows(self.times(basis))

    def outer(self) -> Symmetric:
        """X X' in float64, a block of columns at a time: large C leaves no room for the rounding of float32."""
        outer = Symmetric(self.shape[0], np.dtype(np.float64))
        with one_thread(), all_threads(self.X.size * self.shape[0] / 2):
            for at in range(0, self.shape[1], BLOCK):
                outer.add(self.X[:, at : at + BLOCK].astype(np.float64).T, transposed=True)
        return outer

    def _whole(self, columns: int, dtype: np.dtype) -> bool:
        return dtype == self.dtype and (columns > FEW or self.X.size < LARGE)

    def _sweep(self, columns: int, dtype: np.dtype, work: Work) -> np.ndarray:
        """`work` on every piece of X in `dtype`, on every core; what it adds to its total (c, d), summed: (d, c)."""
        width = self.shape[1]
        step = max(1, PIECE // max(width, 1))

        def share(rows: slice) -> np.ndarray:
            total = np.zeros((columns, width))  # float64: a sum over all rows in float32 would lose the small gaps
            space = np.empty((step, width), dtype) if dtype != self.dtype else None
            for at in range(rows.start, rows.stop, step):
                here = slice(at, min(at + step, rows.stop))
                part = self.X[here]
                if space is not None:
                    space[: len(part)] = part
                    part = space[: len(part)]
                work(part, here, total)
            return total

        return np.add.reduce(in_threads(share, self._shares())).T

    def _shares(self) -> list[slice]:
        """Which rows each core takes."""
        bounds = np.linspace(0, len(self.X), (cores() if self.X.size >= LARGE else 1) + 1).astype(int).tolist()
        return [slice(low, high) for low, high in pairwise(bounds)]


def _add(total: np.ndarray, r: np.ndarray, part: np.ndarray) -> None:
    total += np.ascontiguousarray(r.T) @ part


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], *, pays: bool = True) -> list[Result]:
    """`work` on each item, on as many cores as BLAS may use where that pays, with BLAS in the threads that call it."""
    if len(items) < 2 or not pays:
        return [work(item) for item in items]
    with one_thread(), ThreadPoolExecutor(min(len(items), _threads.allowed)) as pool:
        return list(pool.map(work, items))


class _Threads:
    """How many threads BLAS was allowed (by the program, joblib or OMP_NUM_THREADS) before it was limited to one."""

    allowed = 1

    def limit_to_one(self) -> Restore:
        found = [library.num_threads for library in _blas().lib_controllers if library.user_api == "blas"]
        self.allowed = min(cores(), max(found, default=cores()))
        return _blas().limit(limits=1, user_api="blas").restore_original_limits


_threads = _Threads()
one_thread = WholeProcess(_threads.limit_to_one)
"""A context in which BLAS works in the threads that call it.

NumPy and SciPy have a BLAS each, whose threads wait for work by turning in circles: on two cores, factoring 129 x 129
numbers with SciPy and then multiplying some with NumPy took 20 ms so, and 0.6 ms in one thread.
"""


def all_threads(operations: float) -> AbstractContextManager[object]:
    """Within `one_thread`, a context for so many multiply-adds: in all threads BLAS may use where they are `MANY`."""
    return _blas().limit(limits=_threads.allowed, user_api="blas") if operations >= MANY else nullcontext()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


class Twice:
    """Rows (2n, d) that are n rows after the same n rows, stored once; with the products of `Rows`."""

    def __init__(self, rows: Any) -> None:
        count, width = rows.shape
        self.rows, self.count, self.shape, self.dtype = rows, count, (2 * count, width), rows.dtype

    def times(self, v: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """X v (2n, c)."""
        once = self.rows.times(v, exact=exact)
        return np.concatenate([once, once])

    def pull(self, r: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """X'r (d, c)."""
        return self.rows.pull(r[: self.count] + r[self.count :], exact=exact)

    def bend(self, v: np.ndarray, offset: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X v + offset (2n, c), and X' (weight * that) (d, c)."""
        once, pulled = self.rows.bend(v, offset, weight[: self.count] + weight[self.count :])
        return np.concatenate([once, once]), pulled

    def moments(self, weight: np.ndarray, *, exact: bool = False) -> Any:
        """The upper triangle of [X 1]' diag(weight) [X 1]."""
        return self.rows.moments(weight[: self.count] + weight[self.count :], exact=exact)

    def squared(self) -> float:
        """Sum of the squares of all numbers."""
        return 2 * self.rows.squared()

    def take(self, chosen: np.ndarray) -> Any:
        """A copy of the chosen rows."""
        return self.rows.take(chosen % self.count)

    def project(self, basis: np.ndarray) -> Twice:
        """The rows X B (2n, k)."""
        return Twice(self.rows.project(basis))

    def outer(self) -> Any:
        """X X' (2n, 2n)."""
        return self.take(np.arange(2 * self.count)).outer()


class Symmetric:
    """A symmetric matrix G in the upper triangle of an array, and a Cholesky factor in its lower one."""

    def __init__(self, size: int, dtype: np.dtype) -> None:
        self.array = np.zeros((size, size), dtype, order="F")
        self.diagonal = np.zeros(size, dtype)
        self._syrk, self._symm = get_blas_funcs(("syrk", "symm"), (self.array,))
        self._potrf, self._potrs = get_lapack_funcs(("potrf", "potrs"), (self.array,))

    def add(self, a: np.ndarray, *, transposed: bool = False) -> None:
        """Add a a', or a'a, for a in Fortran order."""
        self.array = self._syrk(1.0, a, beta=1.0, c=self.array, trans=int(transposed), overwrite_c=1)
        self.diagonal = self.array.diagonal().copy()

    def times(self, v: np.ndarray) -> np.ndarray:
        """G v."""
        v = np.asfortranarray(v, dtype=self.array.dtype)
        return self._symm(1.0, self.array, v) + (self.diagonal - self.array.diagonal())[:, None] * v

    def factor(self, scale: np.ndarray) -> None:
        """Factor I + diag(scale) G diag(scale); where rounding makes that indefinite, with a larger multiple of I."""
        scale = scale.astype(self.array.dtype)
        if not any(self._factored(scale, ridge) for ridge in RIDGES):
            raise LinAlgError(NOT_FINITE)

    def solve(self, r: np.ndarray) -> np.ndarray:
        """The solution x of (the factored matrix) x = r."""
        return self._potrs(self.array, np.asfortranarray(r, dtype=self.array.dtype), lower=1)[0]

    def solve_within(self, chosen: np.ndarray, scale: np.ndarray, r: np.ndarray) -> np.ndarray:
        """The solution x of (I + diag(scale) H diag(scale)) x = r, with H of G's chosen rows and columns, ascending."""
        diagonal = scale**2 * self.diagonal[chosen]
        for ridge in RIDGES:
            system = self.array[np.ix_(chosen, chosen)].T  # a copy in Fortran order, whose lower triangle counts
            system *= scale[:, None]
            system *= scale
            np.fill_diagonal(system, ridge + diagonal)
            factor, failed = self._potrf(system, lower=1, clean=0, overwrite_a=1)
            if not failed:
                return self._potrs(factor, np.asfortranarray(r, dtype=system.dtype), lower=1)[0]
        raise LinAlgError(NOT_FINITE)

    def _factored(self, scale: np.ndarray, ridge: float) -> bool:
        array, size = self.array, len(self.array)
        for at in range(0, size, BLOCK):
            end = min(at + BLOCK, size)
            array[end:, at:end] = array[at:end, end:].T * (scale[end:, None] * scale[at:end])
            block = np.triu(array[at:end, at:end], 1)
            array[at:end, at:end] = block + block.T * (scale[at:end, None] * scale[at:end])
        array[np.diag_indices(size)] = ridge + scale**2 * self.diagonal
        with all_threads(size**3 / 6):
            self.array, failed = self._potrf(array, lower=1, clean=0, overwrite_a=1)
        return not failed
