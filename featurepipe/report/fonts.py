"""The font of plots and pictures, DejaVu Sans as matplotlib brings it, and how a text is written that it lacks."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from featurepipe.errors import MissingPackageError


@cache
def font_file() -> str:
    """Path of the font, for Pillow; matplotlib draws with it by itself.

    Raises
    ------
    MissingPackageError : matplotlib is not installed
    """
    try:
        from matplotlib import get_data_path
    except ImportError as error:
        raise MissingPackageError("plots and pictures need matplotlib: pip install matplotlib") from error
    return str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


def drawable(text: str) -> str:
    r"""`text` with every character that the font lacks as its escape, where else an empty box would stand.

    A line break counts as lacking: what is drawn is one line. MissingPackageError without matplotlib.

    >>> drawable("Überraschung, радость"), drawable("怒り 97 %")
    ('Überraschung, радость', '\\u6012\\u308a 97 %')
    """
    known = _characters()
    return "".join(one if one in known else one.encode("unicode_escape").decode() for one in text)


@cache
def _characters() -> frozenset[str]:
    file = font_file()
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(file).get_charmap()))
