"""Progress bars on stderr: drawn for people at a terminal, silent everywhere else."""

from __future__ import annotations

import sys

from tqdm import tqdm


def bar(total: int | None, description: str, unit: str = "it") -> tqdm[None]:
    """A progress bar of `total` steps; call `.update(n)` and close it, or use it as a context manager."""
    return tqdm(total=total, desc=description, unit=unit, disable=not sys.stderr.isatty(), leave=False)


def move_to(progress: tqdm[None], done: int) -> None:
    """Let the bar show that `done` steps are done, those before a resume among them."""
    progress.update(done - progress.n)
