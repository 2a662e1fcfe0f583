"""Photo files to upright RGB pixels, from files that may be anything at all.

Seven formats are decoded: JPEG, PNG, BMP, TIFF, WebP, GIF and PPM with its relatives PGM and PBM (of animations and
multi-page files the first picture). The format is told by the file's first bytes, not by its name, and no other plugin
of Pillow is ever run.

What is not colour-managed: ICC profiles are ignored, and CMYK becomes RGB by Pillow's plain formula, as most
pipelines do; a wide-gamut photo comes out slightly less saturated.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import warnings
import zlib
from contextlib import AbstractContextManager, ExitStack, nullcontext
from io import BytesIO
from typing import BinaryIO, ClassVar

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from featurepipe.errors import FeaturepipeError

PIXEL_LIMIT = 89_478_485
"""Width times height beyond which a photo is not decoded. The line at which Pillow itself begins to warn: phone
photos of 64 megapixels pass, and pixels stay below 260 MiB."""

FILE_LIMIT = 1 << 30
"""Bytes beyond which a file is not read."""

_SIGNATURES: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    # The class itself, not Pillow's factory: the factory makes phones' two-picture JPEGs a format of their own.
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"GIF87a", GifImagePlugin.GifImageFile),
    (b"GIF89a", GifImagePlugin.GifImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"II+\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0+", TiffImagePlugin.TiffImageFile),
    *((b"P%d%c" % (number, blank), PpmImagePlugin.PpmImageFile) for number in range(1, 7) for blank in b" \t\r\n"),
)

# What Pillow's plugins raise where a file's structure is damaged: Image.open's own list (SyntaxError, IndexError,
# TypeError, struct.error), OSError of the decoders, and what parsing nonsense numbers leads to.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
)

_BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH = 258, 262, 322, 323  # tags of TIFF
_STRIP = 256  # rows copied at a time from Pillow's pixels (4 bytes each) to ours (3 bytes each)


class PhotoError(FeaturepipeError):
    """A photo that cannot be used; `status` is the word that its row gets (records.STATUSES).

    Parameters
    ----------
    text : why
    of_content : whether its content is to blame, so that it would fail the next time too
    """

    status: ClassVar[str]

    def __init__(self, text: str, of_content: bool = False) -> None:
        super().__init__(text)
        self.of_content = of_content


class MissingPhotoError(PhotoError):
    """There is no such file."""

    status = "missing"


class UnreadablePhotoError(PhotoError):
    """The file may not be read, is damaged, or is no photo of a known format."""

    status = "unreadable"


class PhotoTooLargeError(PhotoError):
    """More pixels or bytes than the limit."""

    status = "too_large"


def read_photo(path: str) -> bytes:
    """The bytes of the regular file at `path`; never waits, whatever `path` turns out to be.

    Raises
    ------
    MissingPhotoError, UnreadablePhotoError, PhotoTooLargeError : as open_regular
    """
    with open_regular(path) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise reading_error(path, error) from error


def open_regular(path: str, limit: int | None = FILE_LIMIT) -> BinaryIO:
    """Open the regular file at `path` for reading; never waits, whatever `path` turns out to be.

    Raises
    ------
    MissingPhotoError : nothing is there, or a link leads nowhere
    UnreadablePhotoError : no permission, a folder, a pipe, a device, a fault of the disk
    PhotoTooLargeError : more than `limit` bytes
    """
    # Without O_NONBLOCK opening a pipe would wait for its writer for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with ExitStack() as closing:
            descriptor = os.open(path, flags)
            closing.callback(os.close, descriptor)  # fdopen would leave that of a folder open
            _check_regular(os.fstat(descriptor), limit)
            closing.pop_all()
            return os.fdopen(descriptor, "rb")
    except (OSError, ValueError) as error:
        raise reading_error(path, error) from error


def reading_error(path: str, error: OSError | ValueError) -> PhotoError:
    """What to raise where the system refuses to open or read the file at `path`."""
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return PhotoTooLargeError(f"file too large: {error.strerror}")
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        dangling = os.path.islink(path)
        return MissingPhotoError("a link to a file that is not there" if dangling else "no such file")
    return UnreadablePhotoError(f"cannot be read: {getattr(error, 'strerror', None) or error}")


def decode(source: bytes | np.ndarray | Image.Image, pixel_limit: int = PIXEL_LIMIT) -> np.ndarray:
    """The upright photo as uint8 RGB (height, width, 3), C-contiguous.

    Parameters
    ----------
    source : a file's bytes; pixels: uint8 (height, width) grey or (height, width, 3) RGB; or a picture that Pillow has
        opened or made, which stays open
    pixel_limit : most pixels (width times height); compared with the header before anything is decoded

    EXIF orientation is applied; EXIF that cannot be parsed is ignored. Transparent pixels are laid over white,
    which is what a viewer or a page shows; their hidden colours are arbitrary. A BMP in which every pixel is
    transparent is opaque: its writer left the fourth byte empty. Samples of 16 or 12 bits keep their upper 8 bits.
    Floating-point samples are taken as 0..1 where none exceeds 1, else as 0..255.

    Raises
    ------
    UnreadablePhotoError : empty, truncated or damaged, no known format, or samples without a known scale
    PhotoTooLargeError : more pixels than `pixel_limit`, or more than memory holds
    """
    if isinstance(source, np.ndarray):
        return _decode_pixels(source, pixel_limit)
    try:
        # Pillow's warnings name no file, and come from every worker: what matters of them becomes a status.
        with warnings.catch_warnings(action="ignore", category=UserWarning), _opened(source) as photo:
            check_size(photo.size, pixel_limit)
            if isinstance(photo, TiffImagePlugin.TiffImageFile):  # a tile is decoded whole, however much it overhangs
                check_size((photo.tag_v2.get(_TILE_WIDTH, 0), photo.tag_v2.get(_TILE_LENGTH, 0)), pixel_limit)
            photo.load()
            return _upright(_as_rgb(photo), _orientation(photo))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoTooLargeError(f"Pillow refuses its size: {error}", of_content=True) from error
    except MemoryError as error:
        raise PhotoTooLargeError("not enough memory to decode it") from error
    except _DAMAGED as error:
        text = f"truncated or damaged: {error or type(error).__name__}"
        raise UnreadablePhotoError(text, of_content="out of memory" not in text) from error  # so say Pillow's decoders


def check_size(size: tuple[int, int], pixel_limit: int) -> None:
    """Refuse pictures of more pixels than `pixel_limit`; size is (width, height).

    Raises
    ------
    PhotoTooLargeError : it has more
    """
    width, height = size
    if width * height > pixel_limit:
        text = f"{width} x {height} pixels, more than the limit of {pixel_limit}"
        raise PhotoTooLargeError(text, of_content=True)


def turned(image: np.ndarray, degrees: int) -> np.ndarray:
    """`image` (height, width, ...) turned clockwise by 0, 90, 180 or 270 degrees; C-contiguous."""
    return np.ascontiguousarray(np.rot90(image, -degrees // 90))


def _check_regular(status: os.stat_result, limit: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "a pipe, socket or device, not a regular file")
    if limit is not None and status.st_size > limit:
        raise OSError(errno.EFBIG, f"{status.st_size} bytes, at most {limit} are read")


def _decode_pixels(pixels: np.ndarray, pixel_limit: int) -> np.ndarray:
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)) or not pixels.size:
        raise UnreadablePhotoError(
            f"pixels are {pixels.dtype} {pixels.shape}; expected uint8 (height, width) or (height, width, 3)",
            of_content=True,
        )
    check_size((pixels.shape[1], pixels.shape[0]), pixel_limit)
    return np.ascontiguousarray(np.repeat(pixels[:, :, None], 3, axis=2) if grey else pixels)


def _opened(data: bytes | Image.Image) -> AbstractContextManager[Image.Image]:
    """The photo with its header read and no pixel decoded.

    Not Image.open: that compares with Image.MAX_IMAGE_PIXELS, which belongs to the importing program, and warns.
    """
    if isinstance(data, Image.Image):
        return nullcontext(data)
    if not data:
        raise UnreadablePhotoError("an empty file", of_content=True)
    for signature, plugin in _SIGNATURES:
        if data.startswith(signature):
            return plugin(BytesIO(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile(BytesIO(data))
    found = "an HEIC or AVIF file" if data[4:8] == b"ftyp" else f"a file that begins with {data[:12]!r}"
    raise UnreadablePhotoError(f"{found}; expected JPEG, PNG, BMP, TIFF, WebP, GIF or PPM", of_content=True)


def _orientation(photo: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or the EXIF block is damaged."""
    try:
        value = photo.getexif().get(0x0112, 1)
    except _DAMAGED:
        return 1
    return value if value in range(1, 9) else 1


def _as_rgb(photo: Image.Image) -> Image.Image:
    if photo.mode == "F" or photo.mode.startswith("I"):
        return Image.fromarray(_deep_grey(photo)).convert("RGB")
    if not photo.has_transparency_data:
        return photo if photo.mode == "RGB" else photo.convert("RGB")  # converting RGB would copy it
    rgba = photo.convert("RGBA")
    if isinstance(photo, BmpImagePlugin.BmpImageFile) and rgba.getchannel("A").getextrema() == (0, 0):
        return rgba.convert("RGB")
    seen = Image.new("RGB", photo.size, "white")
    seen.paste(rgba, mask=rgba)
    return seen


def _deep_grey(photo: Image.Image) -> np.ndarray:
    """Grey samples of 12 or 16 bits or floating point as uint8 (height, width), 0 black."""
    samples = np.asarray(photo)
    low, high = float(samples.min()), float(samples.max())
    tags = photo.tag_v2 if isinstance(photo, TiffImagePlugin.TiffImageFile) else {}
    white_is_zero = np.uint8(255 if tags.get(_PHOTOMETRIC) == 0 else 0)  # Pillow inverts those of up to 8 bits alone
    if photo.mode == "F" and 0 <= low <= high <= 255:
        return np.rint(samples * 255 if high <= 1 else samples).astype(np.uint8) ^ white_is_zero
    if photo.mode != "F" and 0 <= low <= high <= 65535:
        return (samples >> (4 if tags.get(_BITS) == (12,) else 8)).astype(np.uint8) ^ white_is_zero
    text = f"samples from {low} to {high}; expected 0..65535, or 0..1 or 0..255 as floats"
    raise UnreadablePhotoError(text, of_content=True)


def _upright(photo: Image.Image, orientation: int) -> np.ndarray:
    """RGB pixels turned upright, copied strip by strip so that no third copy of the photo exists."""
    width, height = photo.size
    swapped = orientation >= 5
    upright = np.empty((width, height, 3) if swapped else (height, width, 3), np.uint8)
    stored = _as_stored(upright, orientation)
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        stored[top:bottom] = np.asarray(photo.crop((0, top, width, bottom)))
    return upright


def _as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of the upright photo in the order in which the file stores its pixels (EXIF 2.32, tag 0x0112)."""
    view = upright.swapaxes(0, 1) if orientation >= 5 else upright
    if orientation in (2, 3, 7, 8):
        view = view[:, ::-1]
    if orientation in (3, 4, 6, 7):
        view = view[::-1]
    return view
