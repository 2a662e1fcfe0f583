"""PNG files that are known again as ours, so that an earlier run's can go and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from featurepipe.files import replacing

SOFTWARE = {"Software": "featurepipe"}
"""Text in every PNG file that the report stage writes."""


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write uint8 pixels (h, w, 3) or (h, w) as a PNG file that `remove_own` knows again."""
    text = PngImagePlugin.PngInfo()
    for key, value in SOFTWARE.items():
        text.add_text(key, value)
    with replacing(path) as stream:
        Image.fromarray(image).save(stream, format="PNG", pnginfo=text)


def remove_own(path: Path) -> None:
    """Remove a PNG file that we wrote; another's, or what is no PNG file, stays."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            ours = image.info.get("Software") == SOFTWARE["Software"]
    except OSError:  # none is there, or it is no picture
        return
    if ours:
        path.unlink(missing_ok=True)
