"""A folder of files that a photo reader must survive, and what is expected of each."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from featurepipe.datasets.synthetic import Identity, render_face, render_group
from featurepipe.records import Face

FACE_SIZE = (256, 256)
_INVERSE = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""EXIF orientation -> Image.Transpose member that turns an upright picture into the stored one."""


@dataclass(frozen=True)
class Expected:
    """What reading one file must give: its status, the upright size, and a box near each face."""

    status: str
    size: tuple[int, int] | None = None
    boxes: tuple[Face, ...] = ()


def portrait() -> tuple[Image.Image, Face]:
    """The face that most of the files show, and its box."""
    shot = render_face(Identity.draw(0, 1), "happiness", 0.8, size=FACE_SIZE, rng=np.random.default_rng(0))
    return Image.fromarray(shot.image), shot.box


def write_hostile(folder: Path, *, large: bool = True) -> dict[str, Expected]:
    """Fill `folder`; without `large` the two phone-sized photos (12 and 48 megapixels) are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    image, box = portrait()
    expected: dict[str, Expected] = {}
    for part in (_broken(image), _modes(image, box), _formats(image, box), _turned(image, box), _scenes()):
        for name, (data, outcome) in part.items():
            (folder / name).write_bytes(data)
            expected[name] = outcome
    if large:
        for name, size in (("phone-12mp.jpg", (4000, 3000)), ("phone-48mp.jpg", (8000, 6000))):
            (folder / name).write_bytes(_encoded(image.resize(size), "JPEG", quality=60))
            expected[name] = Expected("ok", size, (_scaled(box, size),))
    return expected | _special(folder)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _scaled(box: Face, size: tuple[int, int]) -> Face:
    x, y = size[0] / FACE_SIZE[0], size[1] / FACE_SIZE[1]
    return Face(int(box.left * x), int(box.top * y), int(box.right * x), int(box.bottom * y))


def _broken(image: Image.Image) -> dict[str, tuple[bytes, Expected]]:
    whole = {
        "jpg": _encoded(image, "JPEG"),
        "png": _encoded(image, "PNG"),
        "gif": _encoded(image, "GIF"),
        "webp": _encoded(image, "WEBP"),
        "tif": _encoded(image, "TIFF", compression="tiff_lzw"),
        "bmp": _encoded(image, "BMP"),
    }
    bad = Expected("unreadable")
    files = {f"cut-{kind}-50.{kind}": (data[: len(data) // 2], bad) for kind, data in whole.items()}
    for percent in (1, 10, 90, 99):
        files[f"cut-jpg-{percent}.jpg"] = (whole["jpg"][: len(whole["jpg"]) * percent // 100], bad)
    jpeg, png = whole["jpg"], whole["png"]
    middle = len(png) // 2
    return files | {
        "empty.jpg": (b"", bad),
        "text.jpg": (b"this is no photo\n" * 50, bad),
        "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", bad),
        "html.png": (b"<!doctype html><title>404</title>", bad),
        "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", bad),
        "phone.heic.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), bad),
        "zeros.jpg": (bytes(4096), bad),
        "soi-only.jpg": (b"\xff\xd8\xff\xe0", bad),
        "no-scan.jpg": (jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9", bad),
        "flipped.png": (png[:middle] + bytes(b ^ 0xFF for b in png[middle : middle + 64]) + png[middle + 64 :], bad),
        "bomb.png": (_png_header(20_000, 20_000), Expected("too_large")),
        "bomb.bmp": (_bmp_header(20_000, 20_000), Expected("too_large")),
        "bomb.gif": (whole["gif"][:6] + struct.pack("<HH", 20_000, 20_000) + whole["gif"][10:], Expected("too_large")),
        "bomb.jpg": (_resized_jpeg(jpeg, 20_000, 20_000), Expected("too_large")),
        "bomb.tif": (_resized_tiff(whole["tif"], 20_000), Expected("too_large")),
    }


def _modes(image: Image.Image, box: Face) -> dict[str, tuple[bytes, Expected]]:
    ok = Expected("ok", image.size, (box,))
    grey = image.convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 257
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.new("L", image.size, 255))
    palette = image.quantize(256)
    return {
        "grey.jpg": (_encoded(grey, "JPEG"), ok),
        "grey.png": (_encoded(grey, "PNG"), ok),
        "grey-alpha.png": (_encoded(alpha.convert("LA"), "PNG"), ok),
        "alpha.png": (_encoded(alpha, "PNG"), ok),
        "palette.png": (_encoded(palette, "PNG"), ok),
        "palette-transparent.png": (_encoded(palette, "PNG", transparency=255), ok),
        "cmyk.jpg": (_encoded(image.convert("CMYK"), "JPEG", quality=95), ok),
        "cmyk.tif": (_encoded(image.convert("CMYK"), "TIFF"), ok),
        "deep.png": (_encoded(Image.fromarray(deep), "PNG"), ok),
        "deep.tif": (_encoded(Image.fromarray(deep), "TIFF"), ok),
        "float.tif": (_encoded(Image.fromarray(np.asarray(grey).astype(np.float32) / 255), "TIFF"), ok),
        "float-nan.tif": (
            _encoded(Image.fromarray(np.full((40, 40), np.nan, np.float32)), "TIFF"),
            Expected("unreadable"),
        ),
        "one-bit.png": (_encoded(Image.new("1", (90, 70)), "PNG"), Expected("no_face", (90, 70))),
        "one-pixel.png": (_encoded(Image.new("RGB", (1, 1)), "PNG"), Expected("no_face", (1, 1))),
        "thread.png": (_encoded(Image.new("RGB", (3000, 1)), "PNG"), Expected("no_face", (3000, 1))),
    }


def _formats(image: Image.Image, box: Face) -> dict[str, tuple[bytes, Expected]]:
    ok = Expected("ok", image.size, (box,))
    frames = [image, *(Image.new("RGB", image.size, colour) for colour in ("black", "white"))]
    moving = {"save_all": True, "append_images": frames[1:], "duration": 50}
    return {
        "plain.jpg": (_encoded(image, "JPEG"), ok),
        "progressive.jpeg": (_encoded(image, "JPEG", progressive=True), ok),
        "plain.bmp": (_encoded(image, "BMP"), ok),
        "plain.webp": (_encoded(image, "WEBP"), ok),
        "still.gif": (_encoded(image, "GIF"), ok),
        "moving.gif": (_encoded(image, "GIF", **moving), ok),
        "moving.webp": (_encoded(image, "WEBP", **moving), ok),
        "moving.png": (_encoded(image, "PNG", **moving), ok),
        "pages.tif": (_encoded(image, "TIFF", **moving), ok),
        "lzw.tiff": (_encoded(image, "TIFF", compression="tiff_lzw"), ok),
        "two-pictures.jpg": (_encoded(image, "MPO", save_all=True, append_images=frames[1:]), ok),
        "png-named.jpg": (_encoded(image, "PNG"), ok),
        "UPPER.JPG": (_encoded(image, "JPEG"), ok),
        "Ærø-写真-фото 😀.jpg": (_encoded(image, "JPEG"), ok),
        "trailing.jpg": (_encoded(image, "JPEG") + b"rubbish after the end" * 9, ok),
    }


def _turned(image: Image.Image, box: Face) -> dict[str, tuple[bytes, Expected]]:
    """The same upright photo, stored in each of EXIF's eight orientations, and with damaged EXIF."""
    ok = Expected("ok", image.size, (box,))
    files = {}
    for orientation, operation in _INVERSE.items():
        stored = image if operation is None else image.transpose(Image.Transpose(operation))
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = _encoded(stored, "JPEG", quality=95, exif=exif)
        files[f"orientation-{orientation}.jpg"] = (data, ok)
    start = data.index(b"Exif\0\0") + 6
    files["exif-damaged.jpg"] = (_encoded(image, "JPEG", exif=b"Exif\0\0" + b"II*\0" + b"\xff" * 40), ok)
    files["exif-cut.jpg"] = (_encoded(image, "JPEG", exif=b"Exif\0\0" + data[start : start + 11]), ok)
    return files


def _scenes() -> dict[str, tuple[bytes, Expected]]:
    group = render_group(
        [Identity.draw(0, number) for number in range(3)],
        ["happiness", "neutral", "anger"],
        size=(720, 300),
        rng=np.random.default_rng(0),
    )
    wall = np.random.default_rng(1).integers(90, 110, (300, 400, 3)).astype(np.uint8)
    return {
        "group.jpg": (
            _encoded(Image.fromarray(group.image), "JPEG", quality=95),
            Expected("ok", (720, 300), group.boxes),
        ),
        "nobody.jpg": (_encoded(Image.fromarray(wall), "JPEG"), Expected("no_face", (400, 300))),
    }


def _special(folder: Path) -> dict[str, Expected]:
    """Names that are no regular files, as far as this system and user can make them."""
    (folder / "folder.jpg").mkdir()
    expected = {"folder.jpg": Expected("unreadable")}
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        (folder / "dangling.jpg").symlink_to("nowhere.jpg")
        (folder / "circle.jpg").symlink_to("circle.jpg")
        expected |= {
            "pipe.jpg": Expected("unreadable"),
            "dangling.jpg": Expected("missing"),
            "circle.jpg": Expected("unreadable"),
        }
    locked = folder / "locked.jpg"
    locked.write_bytes(b"")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root reads everything
        expected["locked.jpg"] = Expected("unreadable")
    else:
        locked.chmod(0o600)
        locked.unlink()
    return expected


def _png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def _resized_jpeg(data: bytes, width: int, height: int) -> bytes:
    """`data` with another size in its frame header (marker SOF0)."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def _resized_tiff(data: bytes, side: int) -> bytes:
    """`data` with another size in its tags 256 (width) and 257 (height), each one little-endian number."""
    directory = struct.unpack("<I", data[4:8])[0]
    changed = bytearray(data)
    for entry in range(struct.unpack_from("<H", data, directory)[0]):
        place = directory + 2 + 12 * entry
        tag, kind = struct.unpack_from("<HH", data, place)
        if tag in (256, 257):
            struct.pack_into("<H" if kind == 3 else "<I", changed, place + 8, side)
    return bytes(changed)
