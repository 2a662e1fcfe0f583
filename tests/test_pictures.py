"""Annotated photos and contact sheets: what is drawn where, at every size."""

import subprocess
import sys

import numpy as np
import pytest

from featurepipe.records import Face
from featurepipe.report.pictures import BOX, INK, annotate, contact_sheet

GREY = 100


def photo(height, width):
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def of_colour(picture, colour):
    return (picture == np.array(colour)).all(axis=-1)


def extent(mask):
    """(left, top, right, bottom) of the True pixels, inclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1], rows[-1]


def test_the_box_lies_where_the_face_is_and_the_photo_is_untouched_elsewhere():
    image = photo(600, 800)
    face = Face(200, 250, 420, 470)
    drawn = annotate(image, [face], ["x"])
    assert drawn.shape == image.shape
    left, _, right, bottom = extent(of_colour(drawn, BOX))
    assert (left, right, bottom) == (face.left, face.right, face.bottom)
    assert (image == GREY).all()
    assert (drawn[300:440, 250:380] == GREY).all()
    assert (drawn[500:] == GREY).all()
    assert np.array_equal(annotate(image, [], []), image)


@pytest.mark.parametrize(
    ("height", "width"), [(48, 48), (100, 60), (480, 640), (3000, 4000), (50, 4000), (1, 1), (1, 900)]
)
def test_text_is_drawn_and_legible_at_any_size(height, width):
    face = Face(0, 0, width - 1, height - 1)
    drawn = annotate(photo(height, width), [face], ["happiness 97 %"])
    assert drawn.shape[0] % height == 0
    assert max(drawn.shape) >= 480
    if min(height, width) > 1:
        blank = annotate(photo(height, width), [face], [""])
        text = of_colour(drawn, INK) & ~of_colour(blank, INK)
        left, top, right, bottom = extent(text)
        assert bottom - top >= 0.015 * min(max(drawn.shape), 10 * min(drawn.shape[:2]))
        assert right - left > 4 * (bottom - top)


@pytest.mark.parametrize(
    "face", [Face(-50, -50, 40, 40), Face(560, 440, 700, 560), Face(600, 0, 639, 30), Face(-30, 470, 5, 479)]
)
def test_text_of_a_face_at_the_border_stays_inside_the_photo(face):
    whole = ink(Face(250, 200, 400, 350))
    assert ink(face) == pytest.approx(whole, rel=0.1)


def ink(face):
    """Dark pixels that the text alone adds to a photo of 480 x 640."""
    dark = [annotate(photo(480, 640), [face], [text]).max(axis=-1) < 90 for text in ("contempt 33 %", "")]
    return int((dark[0] & ~dark[1]).sum())


def test_each_face_needs_its_text():
    with pytest.raises(ValueError, match="zip"):
        annotate(photo(50, 50), [Face(0, 0, 9, 9)], [])


def test_contact_sheet_holds_every_face_undistorted():
    red, wide = np.zeros((40, 40, 3), np.uint8), np.full((20, 80), 128, np.uint8)
    red[...] = (255, 0, 0)
    sheet = contact_sheet([red, wide, red], ["a", "two\nlines", "last"], columns=2, side=100)
    left, top, right, bottom = extent(of_colour(sheet, (255, 0, 0)))
    assert (right - left + 1) == 100
    assert bottom - top + 1 > 200  # the third is in the second row, under the first
    left, top, right, bottom = extent(of_colour(sheet, (128, 128, 128)) & (np.arange(sheet.shape[1]) > 105))
    assert (right - left + 1, bottom - top + 1) == (100, 25)
    assert (sheet[-30:].max(axis=-1) < 120).sum() > 10  # the caption of the last row


def test_contact_sheet_of_nothing_is_blank():
    assert (contact_sheet([], []) == 255).all()


def of_text(text):
    """Both kinds of pictures with this text."""
    return annotate(photo(480, 640), [Face(100, 200, 300, 400)], [text]), contact_sheet([photo(40, 40)], [text])


@pytest.mark.parametrize(("one", "other"), [("радость", "грустно"), ("Überraschung", "Äberraschung"), ("怒", "喜")])
def test_letters_of_other_languages_are_no_boxes(one, other):
    for first, second in zip(of_text(one), of_text(other), strict=True):
        assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("text", "escape"), [("怒り 9 %", r"\u6012\u308a 9 %"), ("a\tb", r"a\tb"), ("\udce9", r"\udce9")]
)
def test_what_the_font_lacks_is_an_escape(text, escape):
    for drawn, written in zip(of_text(text), of_text(escape), strict=True):
        assert np.array_equal(drawn, written)


def test_pictures_without_matplotlib_name_the_package():
    code = """import sys
sys.modules["matplotlib"] = None
from featurepipe.errors import MissingPackageError
from featurepipe.report.pictures import contact_sheet
import numpy as np
try:
    contact_sheet([np.zeros((9, 9, 3), np.uint8)], ["a"])
except MissingPackageError as error:
    print(error)"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "pip install matplotlib" in said


def test_importing_the_report_loads_no_matplotlib():
    code = "import sys, featurepipe.report.plots, featurepipe.report.pictures; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
