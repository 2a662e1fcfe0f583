"""Which frames of a sequence a network takes, told by the role of each (Sample.role); None where it is not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Roles = Sequence[str | None]
Timeline = Callable[[Roles], list[int]]
"""From the roles of a sequence's frames, in order and at least one, to the positions of those to take, ascending.

However long the sequence, their number is the same; a short one repeats frames.
"""


def peak_of(roles: Roles) -> int:
    """Position of the peak: the middle one of the apex frames where others follow them, else the last frame.

    >>> peak_of(["neutral", "frame", "apex", "apex", "apex", "offset"]), peak_of([None, None, None])
    (3, 2)
    """
    apex = [position for position, role in enumerate(roles) if role == "apex"]
    falls = bool(apex) and apex[-1] < len(roles) - 1
    return apex[len(apex) // 2] if falls else len(roles) - 1


def to_peak(roles: Roles, count: int) -> list[int]:
    """`count` positions at equal distances from the first frame to the peak, which is the last of them.

    >>> to_peak([None] * 7, 4), to_peak([None] * 2, 4)
    ([0, 2, 4, 6], [0, 0, 1, 1])
    """
    return np.rint(np.linspace(0, peak_of(roles), count)).astype(int).tolist()


def five_states(roles: Roles) -> list[int]:
    """Positions of onset, onset to apex, apex, apex to offset, offset (Kim et al. 2019).

    The onset is the first frame with that role, the offset the last one, else the first and the last frame; the two
    between lie half way. A sequence that ends at its peak repeats it: the last two states are absent.

    >>> five_states([None] * 9), five_states(["neutral", "onset", "frame", "frame", "apex", "frame", "offset"])
    ([0, 4, 8, 8, 8], [1, 2, 4, 5, 6])
    """
    peak = peak_of(roles)
    onsets = [position for position, role in enumerate(roles[:peak]) if role == "onset"]
    offsets = [position for position, role in enumerate(roles) if role == "offset" and position > peak]
    onset = onsets[0] if onsets else 0
    offset = offsets[-1] if offsets else len(roles) - 1
    return [onset, (onset + peak) // 2, peak, (peak + offset) // 2, offset]
