"""The matrices of featurepipe.models.matrices on a torch device: rows, Gram matrices and factors stay there."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import LinAlgError

from featurepipe.devices import widest_float
from featurepipe.errors import InputError
from featurepipe.models.matrices import BLOCK, CHUNK, NOT_FINITE, RIDGES


class TorchRows:
    """Rows (n, d), float32 or float64, on a device; otherwise as `matrices.Rows`.

    Raises InputError for a device without float64, in which the exact sums are taken.
    """

    def __init__(self, X: np.ndarray, device: str) -> None:
        if widest_float(torch.device(device)) != torch.float64:
            raise InputError(
                f"device {device!r} has no float64, which the SVM is fitted in: give None (the CPU) or cuda"
            )
        self.X, self.shape, self.dtype = torch.from_numpy(np.require(X, requirements="W")).to(device), X.shape, X.dtype

    @classmethod
    def on_device(cls, X: torch.Tensor) -> TorchRows:
        """Rows that are there already."""
        rows = cls.__new__(cls)
        rows.X, rows.shape, rows.dtype = X, tuple(X.shape), np.dtype(str(X.dtype).removeprefix("torch."))
        return rows

    def times(self, v: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """X v (n, c): in the dtype of the rows, or in float64 where it is to be exact."""
        if not exact:
            return (self.X @ self._here(v)).cpu().numpy()
        wide = self._here(v, torch.float64)
        return torch.cat([part.double() @ wide for part in self.X.split(CHUNK)]).cpu().numpy()

    def pull(self, r: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """X'r (d, c): in the dtype of the rows, or in float64 where it is to be exact."""
        if not exact:
            return (self.X.T @ self._here(r)).cpu().numpy()
        wide = self._here(r, torch.float64)
        total = torch.zeros((self.shape[1], wide.shape[1]), dtype=torch.float64, device=self.X.device)
        for part, mine in zip(self.X.split(BLOCK), wide.split(BLOCK), strict=True):
            total += part.T.double() @ mine
        return total.cpu().numpy()

    def bend(self, v: np.ndarray, offset: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X v + offset (n, c), and X' (weight * that) (d, c), for weights (n, c)."""
        reach = self.X @ self._here(v) + self._here(offset)
        return reach.cpu().numpy(), (self.X.T @ (self._here(weight) * reach)).cpu().numpy()

    def moments(self, weight: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """[X 1]' diag(weight) [X 1] (d + 1, d + 1), below the triangle too; rows of weight 0 cost nothing."""
        dtype = torch.float64 if exact else self.X.dtype
        chosen, scale = torch.from_numpy(np.flatnonzero(weight)).to(self.X.device), self._here(weight, dtype)
        total = torch.zeros((self.shape[1] + 1,) * 2, dtype=dtype, device=self.X.device)
        for rows in chosen.split(CHUNK):
            part = torch.nn.functional.pad(self.X[rows].to(dtype), (0, 1), value=1.0)
            total.addmm_((part * scale[rows, None]).T, part)
        return total.cpu().numpy()

    def squared(self) -> float:
        """Sum of the squares of all numbers."""
        return float(torch.linalg.vector_norm(self.X, dtype=torch.float64)) ** 2

    def take(self, chosen: np.ndarray) -> TorchRows:
        """A copy of the chosen rows."""
        return TorchRows.on_device(self.X[torch.from_numpy(chosen).to(self.X.device)])

    def project(self, basis: np.ndarray) -> TorchRows:
        """The rows X B (n, k) for B (d, k)."""
        return TorchRows.on_device(self.X @ self._here(basis))

    def outer(self) -> TorchSymmetric:
        """X X' in float64."""
        parts = (part.double() for part in self.X.split(BLOCK, dim=1))
        return TorchSymmetric(sum((part @ part.T for part in parts), torch.zeros((), device=self.X.device).double()))

    def _here(self, array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.X.device, dtype or self.X.dtype)


class TorchSymmetric:
    """A symmetric matrix and a Cholesky factor on a device; otherwise as `matrices.Symmetric`."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix, self.lower = matrix, matrix

    def times(self, v: np.ndarray) -> np.ndarray:
        """G v."""
        return (self.matrix @ self._here(v)).cpu().numpy()

    def factor(self, scale: np.ndarray) -> None:
        """Factor I + diag(scale) G diag(scale); where rounding makes that indefinite, with a larger multiple of I."""
        root = self._here(scale)
        for ridge in RIDGES:
            system = self.matrix * root[:, None] * root
            system.diagonal().add_(ridge)
            self.lower, failed = torch.linalg.cholesky_ex(system)
            if not failed.item():
                return
        raise LinAlgError(NOT_FINITE)

    def solve(self, r: np.ndarray) -> np.ndarray:
        """The solution x of (the factored matrix) x = r."""
        return torch.cholesky_solve(self._here(r), self.lower).cpu().numpy()

    def solve_within(self, chosen: np.ndarray, scale: np.ndarray, r: np.ndarray) -> np.ndarray:
        """The solution x of (I + diag(scale) H diag(scale)) x = r, with H of the chosen rows and columns."""
        rows = torch.from_numpy(chosen).to(self.matrix.device)
        part = TorchSymmetric(self.matrix[rows][:, rows])
        part.factor(scale)
        return part.solve(r)

    def _here(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.matrix.device, self.matrix.dtype)
