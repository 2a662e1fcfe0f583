"""Progress bars on stderr: drawn for people at a terminal, silent everywhere else."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm


def bar(total: int | None, description: str, unit: str = "it") -> tqdm[None]:
    """A progress bar of `total` steps; call `.update(n)` and close it, or use it as a context manager.

    None is drawn where stderr is no terminal, where there is no stderr (pythonw), or by tqdm's own TQDM_DISABLE=1.
    """
    silent = sys.stderr is None or bool(os.environ.get("TQDM_DISABLE")) or not sys.stderr.isatty()
    return tqdm(total=total, desc=description, unit=unit, disable=silent, leave=False)


def move_to(progress: tqdm[None], done: int) -> None:
    """Let the bar show that `done` steps are done, those before a resume among them."""
    progress.update(done - progress.n)
