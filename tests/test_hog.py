"""dlib's HOG detector kept on disk: the same boxes, and never a damaged file."""

import os

import numpy as np
import pytest
from PIL import Image

from featurepipe.faces.hog import frontal_detector

dlib = pytest.importorskip("dlib")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATUREPIPE_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def theirs(rendered):
    """What dlib's own detector finds in a photo."""
    return answers(dlib.get_frontal_face_detector(), photo(rendered))


def photo(rendered):
    with Image.open(rendered / "subject-003" / "anger-0.jpg") as image:
        return np.array(image)


def answers(detector, image):
    boxes, scores, parts = detector.run(image, 0, -0.5)
    return [(box.left(), box.top(), box.right(), box.bottom()) for box in boxes], list(scores), list(parts)


def test_the_detector_kept_finds_what_dlibs_own_does(folder, rendered, theirs, monkeypatch):
    frontal_detector(dlib)
    monkeypatch.delattr(dlib, "get_frontal_face_detector")  # the second comes from the disk
    assert theirs[0]
    assert answers(frontal_detector(dlib), photo(rendered)) == theirs


def test_a_damaged_file_is_not_used(folder, rendered, theirs):
    frontal_detector(dlib)
    (kept,) = folder.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:1000], whole[:5000] + b"x" + whole[5001:]):
        kept.write_bytes(damaged)
        assert answers(frontal_detector(dlib), photo(rendered)) == theirs
        assert kept.read_bytes() == whole


def test_what_a_killed_process_left_is_swept_away(folder, theirs):
    folder.mkdir(parents=True, exist_ok=True)
    old, fresh = folder / ".dlib-19.0-hog.00000000.tmp", folder / ".dlib-19.0-hog.11111111.tmp"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    frontal_detector(dlib)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_a_folder_that_cannot_be_made_does_no_harm(tmp_path, rendered, theirs, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FEATUREPIPE_WEIGHTS", str(tmp_path / "file" / "below"))
    assert answers(frontal_detector(dlib), photo(rendered)) == theirs
