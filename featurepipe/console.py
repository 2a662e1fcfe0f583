"""What commands say to people."""

from __future__ import annotations

import os
import sys


def note(text: str) -> None:
    """Print a line on stderr. Where its reader (`2> >(head)`) has left, the work goes on, and nothing more is said."""
    try:
        print(text, file=sys.stderr)
    except BrokenPipeError:
        forsake(2)


def forsake(descriptor: int) -> None:
    """Point the descriptor of a pipe that nobody reads at the null device: nor does Python fail to empty it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
