"""Reading and decoding photos: every format and orientation against pixels known beforehand."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import threading
import warnings
import zlib
from unittest.mock import Mock

import numpy as np
import pytest
from command_helpers import run
from hostile import portrait, write_hostile
from PIL import Image, ImageOps

from featurepipe.content import content_of_file, content_of_pixels, content_with_box
from featurepipe.faces.images import (
    FILE_LIMIT,
    PIXEL_LIMIT,
    MissingPhotoError,
    PhotoError,
    PhotoTooLargeError,
    UnreadablePhotoError,
    decode,
    read_photo,
)
from featurepipe.records import Face

COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_the_very_pixels(kind, options):
    got = decode(encoded(Image.fromarray(COLOURS), kind, **options))
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, COLOURS)


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_ppm_and_its_relatives_give_the_very_pixels(mode):
    image = Image.fromarray(COLOURS).convert(mode)
    np.testing.assert_array_equal(decode(encoded(image, "PPM")), np.asarray(image.convert("RGB")))


def test_pgm_as_text_and_of_sixteen_bits():
    assert decode(b"P2\n# by hand\n3 1\n255\n7 80 255\n")[0, :, 0].tolist() == [7, 80, 255]
    assert decode(b"P5 2 1 65535\n\x00\xff\xab\xcd")[0, :, 0].tolist() == [0, 0xAB]
    for damaged in (b"P6 9 9 255\n" + bytes(200), b"P2 3 1 255 7 80", b"P5 2 1", b"P4 -1 1 "):
        with pytest.raises(UnreadablePhotoError, match="truncated or damaged"):
            decode(damaged)


def tiff(data: bytes, tags: dict[int, int]) -> bytes:
    """A TIFF of one strip or tile, which begins at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def tiled_tiff(size: int, tile: int) -> bytes:
    """A grey TIFF, size pixels wide and high, of one black tile that is tile pixels wide and high."""
    data = zlib.compress(bytes(tile * tile))
    tags = {256: size, 257: size, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 8, 325: len(data)}
    return tiff(data, tags)


def test_the_limit_is_on_tiles_too():
    assert decode(tiled_tiff(16, 64)).shape == (16, 16, 3)
    with pytest.raises(PhotoTooLargeError, match="64 x 64 pixels"):
        decode(tiled_tiff(16, 64), 64 * 64 - 1)


def test_gif_shows_its_first_frame():
    first = Image.new("RGB", (6, 4), (10, 20, 30))
    data = encoded(first, "GIF", save_all=True, append_images=[Image.new("RGB", (6, 4), (200, 0, 0))])
    np.testing.assert_array_equal(decode(data), np.full((4, 6, 3), (10, 20, 30), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(COLOURS), kind, exif=exif.tobytes())
    reference = ImageOps.exif_transpose(Image.open(io.BytesIO(data)).convert("RGB"))
    if kind == "TIFF":  # Pillow turns these itself while loading
        reference = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(decode(data), np.asarray(reference))


def test_orientation_six_by_hand():
    """Orientation 6: the stored first row is the right-hand column of the upright photo."""
    stored = np.array([[[1] * 3, [2] * 3, [3] * 3], [[4] * 3, [5] * 3, [6] * 3]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode(encoded(Image.fromarray(stored), "PNG", exif=exif.tobytes()))
    np.testing.assert_array_equal(upright[:, :, 0], [[4, 1], [5, 2], [6, 3]])


@pytest.mark.parametrize("tail", [b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40])
@pytest.mark.filterwarnings("error")
def test_damaged_exif_does_not_spoil_a_good_photo(tail):
    image = Image.fromarray(np.full((8, 12, 3), 77, np.uint8))
    np.testing.assert_array_equal(decode(encoded(image, "JPEG", exif=b"Exif\0\0" + tail)), np.asarray(image))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(COLOURS), "PNG", exif=exif.tobytes())), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    samples = np.array([[0, 255, 256], [0x7FFF, 0xABCD, 0xFFFF]], np.uint16)
    got = decode(encoded(Image.fromarray(samples), kind))
    np.testing.assert_array_equal(got[:, :, 1], [[0, 0, 1], [0x7F, 0xAB, 0xFF]])


def grey_tiff(data: bytes, bits: int, photometric: int, kind: int = 1) -> bytes:
    """A TIFF of one row of four grey pixels; photometric 0: zero is white; kind 3: floating point."""
    tags = {256: 4, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(data), 339: kind}
    return tiff(data, tags)


@pytest.mark.parametrize(
    ("bits", "kind", "photometrics", "data"),
    [
        (12, 1, (1,), bytes([0x00, 0x08, 0x00, 0xFF, 0xF4, 0x00])),  # 0, 2048, 4095, 1024; Pillow knows no negatives
        (16, 1, (1, 0), struct.pack("<4H", 0, 0x8000, 0xFFFF, 0x4000)),
        (32, 3, (1, 0), struct.pack("<4f", 0, 128, 255, 64)),
    ],
    ids=["12 bits", "16 bits", "floats"],
)
def test_deep_grey_is_as_its_twin_of_eight_bits(bits, kind, photometrics, data):
    for photometric in photometrics:
        twin = decode(grey_tiff(bytes([0, 128, 255, 64]), 8, photometric))
        assert twin[0, :, 0].tolist() == ([0, 128, 255, 64] if photometric else [255, 127, 0, 191])
        np.testing.assert_array_equal(decode(grey_tiff(data, bits, photometric, kind)), twin)


@pytest.mark.parametrize(
    ("samples", "expected"), [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 99.6, 255.0], [0, 100, 255])]
)
def test_floats_are_shares_or_eight_bit_values(samples, expected):
    data = encoded(Image.fromarray(np.array([samples], np.float32)), "TIFF")
    np.testing.assert_array_equal(decode(data)[0, :, 0], expected)


@pytest.mark.parametrize("samples", [[0.0, np.nan], [-1.0, 3.0], [0.0, 4000.0]])
def test_floats_without_a_known_scale_are_refused(samples):
    with pytest.raises(UnreadablePhotoError, match=r"expected 0\.\.65535, or 0\.\.1 or 0\.\.255"):
        decode(encoded(Image.fromarray(np.array([samples], np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind):
    """Photoshop's and Pillow's CMYK JPEGs store the inks inverted, TIFFs do not."""
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # full magenta and yellow: red
    np.testing.assert_allclose(decode(encoded(image, kind))[8, 8].astype(int), (255, 0, 0), atol=2)


def _half_transparent(mode: str) -> Image.Image:
    """Left pixel black and transparent, right pixel black and opaque."""
    return Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)).convert(mode)


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP")])
def test_transparent_pixels_become_white(mode, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded(_half_transparent(mode), kind, **options))[0, :, 0], [255, 0])


def bmp_with_alpha(alphas: tuple[int, int]) -> bytes:
    """Two pixels of 32 bits with a mask for alpha."""
    pixels = bytes([10, 20, 30, alphas[0], 40, 50, 60, alphas[1]])
    header = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + masks + pixels


def test_a_bmp_whose_alpha_is_all_zero_is_opaque():
    np.testing.assert_array_equal(decode(bmp_with_alpha((0, 0))), decode(bmp_with_alpha((255, 255))))
    np.testing.assert_array_equal(decode(bmp_with_alpha((0, 0)))[0], [[30, 20, 10], [60, 50, 40]])
    np.testing.assert_array_equal(decode(bmp_with_alpha((0, 255)))[0], [[255] * 3, [60, 50, 40]])


def test_palette_with_and_without_a_transparent_entry():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode(encoded(image, "PNG")), [[[10, 20, 30], [40, 50, 60]]])
    clear = decode(encoded(image, "PNG", transparency=0))
    np.testing.assert_array_equal(clear, [[[255, 255, 255], [40, 50, 60]]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(kind):
    image = Image.fromarray(np.array([[True, False, True]]))
    np.testing.assert_array_equal(decode(encoded(image, kind))[0], [[255] * 3, [0] * 3, [255] * 3])


def test_pixels_pass_through():
    np.testing.assert_array_equal(decode(COLOURS), COLOURS)
    np.testing.assert_array_equal(decode(np.array([[7, 8]], np.uint8)), [[[7, 7, 7], [8, 8, 8]]])
    with pytest.raises(UnreadablePhotoError, match="expected uint8"):
        decode(COLOURS.astype(np.float32))
    with pytest.raises(UnreadablePhotoError, match="expected uint8"):
        decode(np.empty((0, 4), np.uint8))
    with pytest.raises(PhotoTooLargeError):
        decode(COLOURS, pixel_limit=34)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_an_error_wherever_it_is_cut(kind):
    data = encoded(portrait()[0].resize((96, 96)), kind)
    for length in np.linspace(1, len(data) * 0.97, 60, dtype=int):
        with pytest.raises(UnreadablePhotoError):
            decode(data[:length])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_bytes_never_raise_anything_else(kind):
    rng = np.random.default_rng(3)
    data = np.frombuffer(encoded(Image.fromarray(COLOURS), kind), np.uint8)
    outcomes = {"ok"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(300):
            broken = data.copy()
            broken[rng.integers(len(data), size=3)] = rng.integers(0, 256, 3)
            try:
                decode(broken.tobytes())
            except PhotoError as error:
                outcomes.add(error.status)
    assert "unreadable" in outcomes


def test_the_limit_is_on_the_header_and_leaves_pillow_alone():
    data = encoded(Image.new("L", (40, 30)), "PNG")
    assert decode(data, pixel_limit=1200).shape == (30, 40, 3)
    with pytest.raises(PhotoTooLargeError, match="40 x 30 pixels, more than the limit of 1199"):
        decode(data, pixel_limit=1199)
    with pytest.raises(PhotoTooLargeError):  # cut where the pixels begin: nothing was decoded
        decode(data[:41], pixel_limit=1199)
    assert Image.MAX_IMAGE_PIXELS == PIXEL_LIMIT


def test_the_limit_is_ours_where_the_importing_program_sets_another(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(Image.new("L", (40, 30)), "JPEG")).shape == (30, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_no_other_plugin_runs(monkeypatch):
    """A PostScript file would have Pillow start Ghostscript."""
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("Image.open was used"))
    for start in (b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x0a\x05\x01\x08", b"8BPS", b"\0\0\1\0", b"PyP 9 9 255\n"):
        with pytest.raises(UnreadablePhotoError, match="expected JPEG, PNG, BMP, TIFF, WebP, GIF or PPM"):
            decode(start + bytes(200))


def test_reading_says_what_is_wrong(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert read_photo(str(tmp_path / "file")) == b"abc"
    with pytest.raises(MissingPhotoError, match="no such file"):
        read_photo(str(tmp_path / "nothing"))
    with pytest.raises(MissingPhotoError, match="no such file"):
        read_photo(str(tmp_path / "file" / "below"))
    with pytest.raises(UnreadablePhotoError, match="null"):
        read_photo("a\0b")
    with pytest.raises(UnreadablePhotoError, match="cannot be read"):
        read_photo(str(tmp_path))


def test_a_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "huge.jpg", "wb") as stream:
        stream.truncate(FILE_LIMIT + 1)  # a hole: takes no disk
    with pytest.raises(PhotoTooLargeError, match="1073741825 bytes"):
        read_photo(str(tmp_path / "huge.jpg"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_without_a_writer_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    errors = []

    def read() -> None:
        with pytest.raises(UnreadablePhotoError) as caught:
            read_photo(str(tmp_path / "pipe"))
        errors.append(str(caught.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert errors == ["cannot be read: a pipe, socket or device, not a regular file"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at /proc")
def test_folders_do_not_stay_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(UnreadablePhotoError, match="cannot be read"):
            read_photo(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before


def blamed(function, *arguments) -> bool:
    """Whether the error that a photo gives blames its content."""
    with pytest.raises(PhotoError) as caught:
        function(*arguments)
    return caught.value.of_content


def test_the_moment_is_not_held_against_the_content(tmp_path, monkeypatch):
    whole = encoded(Image.fromarray(COLOURS), "PNG")
    for data in (whole[:60], b"", b"no photo", np.zeros((2, 2), float)):
        assert blamed(decode, data)
    assert blamed(decode, whole, 10)
    assert not blamed(read_photo, str(tmp_path / "nothing"))
    assert not blamed(read_photo, str(tmp_path))
    for error in (MemoryError(), OSError("out of memory error when reading image file")):
        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", Mock(side_effect=error))
        assert not blamed(decode, whole)
    (tmp_path / "photo.png").write_bytes(whole)
    monkeypatch.setattr(os, "open", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
    assert not blamed(read_photo, str(tmp_path / "photo.png"))


def test_another_pillow_looks_again_at_what_the_last_one_could_not_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photo.png").write_bytes(encoded(Image.fromarray(COLOURS), "PNG"))
    command = ("extract", tmp_path / "photos", "--table", tmp_path / "table", "--backbone", "hog", "--workers", 0)
    command += ("--detector", "none")
    with monkeypatch.context() as patch:
        patch.setattr("PIL.PngImagePlugin.PngImageFile.load", Mock(side_effect=OSError("no such decoder")))
        assert run(capsys, *command)["statuses"] == {"unreadable": 1}
    assert run(capsys, *command)["statuses"] == {"unreadable": 1}
    monkeypatch.setattr("PIL.__version__", "999.0")
    assert run(capsys, *command)["statuses"] == {"ok": 1}


def test_hostile_files_are_decoded_or_named(tmp_path):
    expected = write_hostile(tmp_path / "photos", large=False)
    assert len(expected) >= 40
    for name, outcome in expected.items():
        path = str(tmp_path / "photos" / name)
        if outcome.size is None:
            with pytest.raises(PhotoError, match=r".") as caught:
                decode(read_photo(path))
            assert (name, caught.value.status) == (name, outcome.status)
        else:
            assert (name, decode(read_photo(path)).shape[1::-1]) == (name, outcome.size)


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(PhotoTooLargeError("too many", of_content=True)))
    assert (error.status, str(error), error.of_content) == ("too_large", "too many", True)


def test_content_keys_by_hand():
    """sha256 of b"abc" as FIPS 180-2 gives it; shape, pixels and box each change the key."""
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_of_file(b"abc") == content_with_box(abc, None) == abc
    assert content_of_file(b"abc", Face(1, 2, 3, 4)) == content_with_box(abc, Face(1, 2, 3, 4, score=0.5)) != abc
    row = np.arange(6, dtype=np.uint8)
    keys = {content_of_pixels(row.reshape(shape)) for shape in ((2, 3), (3, 2), (1, 6))}
    assert len(keys | {content_of_pixels(row.reshape(2, 3), Face(0, 0, 1, 1))}) == 4
    assert content_of_pixels(row.reshape(2, 3)) == content_of_pixels(np.asfortranarray(row.reshape(2, 3)))
