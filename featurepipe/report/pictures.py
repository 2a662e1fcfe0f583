"""Pictures made from predictions with Pillow and matplotlib's font: annotated photos and contact sheets of faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from featurepipe.records import Face
from featurepipe.report.fonts import drawable, font_file

INK, BOX, PAPER = (0, 0, 0), (240, 180, 40), (255, 255, 255)
SMALLEST = 480
"""Photos are enlarged until their long side has this many pixels: no text is legible on a photo of 48."""

TEXT_SHARE = 0.035
"""Height of the text as a share of the photo's long side, so that it is legible when a large photo is shrunk."""


def annotate(image: np.ndarray, faces: Sequence[Face], texts: Sequence[str]) -> np.ndarray:
    """A copy of a photo with a box around each face and its text beside it.

    Parameters
    ----------
    image : uint8 (h, w, 3) RGB
    faces : boxes in pixels of `image`; they may reach beyond it, not lie outside
    texts : one per face, a line each; what the font lacks of them is written as escapes

    Returns
    -------
    uint8 (s h, s w, 3); s is a whole number, above 1 where the long side is less than SMALLEST

    Raises
    ------
    MissingPackageError : matplotlib, whose font it is, is not installed
    """
    scale = -(-SMALLEST // max(image.shape[:2]))
    picture = Image.fromarray(image)
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    size = max(1.0, min(max(picture.size) * TEXT_SHARE, min(picture.size) / 3))
    for face, text in zip(faces, texts, strict=True):
        box = (face.left * scale, face.top * scale, (face.right + 1) * scale - 1, (face.bottom + 1) * scale - 1)
        _frame(pen, box, round(size / 6))
        _tag(pen, box, drawable(text), size, picture.size)
    return np.asarray(picture)


def contact_sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8, side: int = 160
) -> np.ndarray:
    """Faces in rows, each in a square of `side` pixels with its caption below.

    Parameters
    ----------
    images : uint8 (h, w, 3) RGB or (h, w) grey, of any size; fitted into the square, not distorted
    captions : one per image; lines are parted by a newline, text too wide is drawn smaller, and what the font lacks
        is written as escapes

    Returns
    -------
    uint8 (height, width, 3); a blank cell where there is no image

    Raises
    ------
    MissingPackageError : matplotlib, whose font it is, is not installed
    """
    columns = max(1, min(columns, len(images)))
    lines = max([caption.count("\n") + 1 for caption in captions], default=1)
    text, gap = round(side / 9), round(side / 20)
    width, height = side + gap, side + gap + round(lines * text * 1.3)
    rows = max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (columns * width + gap, rows * height + gap), PAPER)
    pen = ImageDraw.Draw(sheet)
    for at, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = gap + at % columns * width, gap + at // columns * height
        face = _fitted(image, side)
        sheet.paste(face, (left + (side - face.width) // 2, top + (side - face.height) // 2))
        for line, words in enumerate(map(drawable, caption.split("\n"))):
            middle = (left + side / 2, top + side + (line + 0.6) * text * 1.3)
            pen.text(middle, words, INK, _font(words, text, side), anchor="mm")
    return np.asarray(sheet)


def _fitted(image: np.ndarray, side: int) -> Image.Image:
    picture = Image.fromarray(image).convert("RGB")
    share = side / max(picture.size)
    size = max(1, round(picture.width * share)), max(1, round(picture.height * share))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _frame(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], line: int) -> None:
    """A light line with a thin dark one around it shows on light and dark photos alike."""
    outer = (box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1)
    pen.rectangle(outer, outline=INK, width=line + 2)
    pen.rectangle(box, outline=BOX, width=line)


def _tag(
    pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], text: str, size: float, photo: tuple[int, int]
) -> None:
    """The text on a filled ground above the box; inside it where the photo ends, and never beyond the photo."""
    pad = size / 5
    font = _font(text, size, photo[0] - 2 * pad)
    width, height = pen.textlength(text, font) + 2 * pad, size + 2 * pad
    left = min(max(box[0], 0), photo[0] - width)
    top = box[1] - height if box[1] >= height else max(box[1], 0)
    pen.rectangle((left, top, left + width, top + height), fill=BOX)
    pen.text((left + pad, top + height / 2), text, INK, font, anchor="lm")


def _font(text: str, size: float, width: float) -> ImageFont.FreeTypeFont:
    """The font at `size` pixels, smaller where `text` would be wider than `width`."""
    font = ImageFont.truetype(font_file(), size)
    wide = font.getlength(text)
    return font if wide <= width else ImageFont.truetype(font_file(), max(1.0, size * width / wide))
