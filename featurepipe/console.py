"""What commands say to people."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def note(text: str) -> None:
    """Print a line on stderr. Where its reader (`2> >(head)`) has left, the work goes on, and nothing more is said."""
    try:
        print(text, file=sys.stderr)
    except BrokenPipeError:
        forsake(2)


def forsake(descriptor: int) -> None:
    """Point the descriptor of a pipe that nobody reads at the null device: nor does Python fail to empty it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, of rows of equally many cells: each column as wide as its widest cell, two blanks between.

    >>> aligned([["name", "size"], ["vgg-face", "580 MB"]])
    ['name      size', 'vgg-face  580 MB']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
