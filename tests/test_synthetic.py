"""Rendered faces: recognisable to dlib, equal for equal arguments, and honest about what they are."""

from __future__ import annotations

import csv
import hashlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from featurepipe.datasets.synthetic import (
    Identity,
    render_face,
    render_group,
    render_sequence,
    write_faces,
    write_sequences,
)
from featurepipe.errors import InputError
from featurepipe.labels import EMOTIONS
from featurepipe.records import Face

EXPRESSIVE = [emotion for emotion in EMOTIONS if emotion != "neutral"]
IMAGE_DESCRIPTION = 0x010E


def rng_of(seed):
    return np.random.default_rng(seed)


def overlap(first, second):
    """Intersection over union of two boxes with inclusive corners."""
    width = min(first.right, second.right) - max(first.left, second.left) + 1
    height = min(first.bottom, second.bottom) - max(first.top, second.top) + 1
    shared = max(width, 0) * max(height, 0)
    return shared / (first.width * first.height + second.width * second.height - shared)


@pytest.fixture(scope="module")
def detect():
    dlib = pytest.importorskip("dlib")
    detector = dlib.get_frontal_face_detector()
    return lambda image: [Face(b.left(), b.top(), b.right(), b.bottom()) for b in detector(image, 0)]


def face_at(emotion, intensity, *, subject=0, shot=0, size=(160, 160)):
    """One picture of a subject; equal `shot` means equal pose, room, noise and way of showing the emotion."""
    return render_face(Identity.draw(1, subject), emotion, intensity, size=size, rng=rng_of(shot))


def stable(render):
    return hashlib.sha256(render.image.tobytes()).hexdigest()


# --- pictures -----------------------------------------------------------------------------------------------------


def test_dlib_finds_exactly_one_face_where_it_is(detect):
    found = 0
    for shot in range(100):
        identity, rng = Identity.draw(2, shot // 4), rng_of(shot)
        rendered = render_face(identity, EMOTIONS[shot % 8], rng.uniform(0.3, 1), size=(256, 256), rng=rng)
        faces = detect(rendered.image)
        found += len(faces) == 1 and overlap(faces[0], rendered.box) > 0.5
    assert found >= 98


def test_a_picture_is_upright_rgb_of_the_size_asked_for():
    rendered = face_at("fear", 0.7, subject=3, size=(200, 120))
    assert rendered.image.shape == (120, 200, 3)
    assert rendered.image.dtype == np.uint8
    assert (rendered.emotion, rendered.subject) == ("fear", 3)
    assert 0 <= rendered.box.left < rendered.box.right < 200
    assert 0 <= rendered.box.top < rendered.box.bottom < 120


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (48, 48), (301, 64), (64, 301)])
def test_odd_and_small_sizes_still_show_a_person(size):
    image = face_at("happiness", 1.0, size=size).image
    assert image.shape == (size[1], size[0], 3)
    assert image.std() > 8


def test_equal_arguments_give_equal_pixels_and_another_seed_does_not():
    assert stable(face_at("anger", 0.8)) == stable(face_at("anger", 0.8))
    assert stable(face_at("anger", 0.8)) != stable(face_at("anger", 0.8, shot=1))
    assert stable(face_at("anger", 0.8)) != stable(face_at("anger", 0.8, subject=1))


@pytest.mark.parametrize("emotion", EXPRESSIVE)
def test_an_expression_departs_from_neutral_as_its_intensity_grows(emotion):
    frames = render_sequence(Identity.draw(1, 4), emotion, 5, size=(160, 160), rng=rng_of(0))
    box = frames[0].box
    corners = (box.left, box.top, box.right, box.bottom)
    # 40 x 40 pixels: the grain, new in every frame, averages out.
    faces = [np.asarray(Image.fromarray(f.image).resize((40, 40), box=corners), float) for f in frames]
    departures = [np.abs(face - faces[0]).mean() for face in faces[1:]]
    assert departures == sorted(departures)
    assert departures[-1] > 1.15 * departures[0]


def test_a_sequence_keeps_the_place_and_moves_the_face_only():
    first, *_, last = render_sequence(Identity.draw(1, 2), "surprise", 4, size=(160, 160), rng=rng_of(5))
    assert first.box == last.box
    change = np.abs(first.image.astype(float) - last.image).mean(axis=2)
    assert change[:, :12].mean() < 0.5 * change[first.box.top : first.box.bottom, 60:100].mean()


def test_a_sequence_runs_from_the_face_at_rest_to_the_apex():
    frames = render_sequence(Identity.draw(1, 0), "happiness", 2, size=(160, 160), rng=rng_of(0))
    assert (frames[0].image == face_at("happiness", 0.0).image).all()
    # 40 x 40 pixels: the last frame differs from a single photo of the apex by its grain alone, which averages out.
    rest, apex, single = (
        np.asarray(Image.fromarray(rendered.image).resize((40, 40)), float)
        for rendered in (*frames, face_at("happiness", 1.0))
    )
    assert np.abs(apex - single).max() < 0.5 * np.abs(apex - rest).max()


def crops_of(subjects):
    """48 x 48 grey pixels of one photo per subject and emotion, standardised per photo, and the emotions."""
    crops, emotions = [], []
    for subject in subjects:
        for number, emotion in enumerate(EMOTIONS):
            rendered = face_at(emotion, 1.0, subject=subject, shot=8 * subject + number, size=(112, 112))
            box = rendered.box
            grey = Image.fromarray(rendered.image).convert("L").crop((box.left, box.top, box.right, box.bottom))
            pixels = np.asarray(grey.resize((48, 48)), float).ravel()
            crops.append((pixels - pixels.mean()) / pixels.std())
            emotions.append(emotion)
    return np.stack(crops), np.array(emotions)


def test_emotions_of_unseen_people_can_be_learnt_but_are_not_trivial():
    from sklearn.svm import LinearSVC

    crops, emotions = crops_of(range(28))
    unseen, truth = crops_of(range(100, 112))
    accuracy = LinearSVC(C=1e-3).fit(crops, emotions).score(unseen, truth)
    assert 0.5 < accuracy < 0.97


def test_contempt_is_one_sided_and_happiness_is_not():
    from featurepipe.datasets.face_model import draw_actions

    for shot in range(20):
        left, right = draw_actions("contempt", rng_of(shot))["AU14"]
        assert min(left, right) < 0.2 * max(left, right)
        left, right = draw_actions("happiness", rng_of(shot))["AU12"]
        assert min(left, right) > 0.8 * max(left, right)


# --- people -------------------------------------------------------------------------------------------------------


def test_a_subject_is_the_same_person_whenever_drawn():
    assert Identity.draw(7, 3) == Identity.draw(7, 3)
    assert Identity.draw(7, 3) != Identity.draw(7, 4)
    assert Identity.draw(7, 3) != Identity.draw(8, 3)


def test_people_cover_a_wide_range_of_skin_and_hair():
    people = [Identity.draw(0, subject) for subject in range(100)]
    brightness = [sum(person.skin) / 3 for person in people]
    assert min(brightness) < 0.4
    assert max(brightness) > 0.8
    assert len({person.hair for person in people}) >= 5
    assert len({person.hair_style for person in people}) == 5


def test_a_group_stands_where_its_boxes_say(detect):
    people = [Identity.draw(3, subject) for subject in range(3)]
    group = render_group(people, ["happiness", "neutral", "surprise"], size=(900, 320), rng=rng_of(1))
    assert group.image.shape == (320, 900, 3)
    assert group.emotions == ("happiness", "neutral", "surprise")
    assert group.subjects == (0, 1, 2)
    faces = sorted(detect(group.image), key=lambda face: face.left)
    assert len(faces) == 3
    assert all(overlap(face, box) > 0.5 for face, box in zip(faces, group.boxes, strict=True))


# --- files --------------------------------------------------------------------------------------------------------


def stamps(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def written(tmp_path):
    return tmp_path, write_faces(tmp_path, subjects=2, size=(64, 48), seed=4)


def test_files_have_names_labels_and_subjects(written):
    folder, paths = written
    with open(folder / "samples.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [folder / row["path"] for row in rows] == paths
    assert [row["label"] for row in rows] == [*EMOTIONS] * 2
    assert {row["subject"] for row in rows} == {"subject-4-000", "subject-4-001"}
    assert folder / "subject-001" / "happiness-0.jpg" in paths
    for path in paths:
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 48))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_every_file_says_that_it_is_rendered(tmp_path, suffix):
    for path in write_faces(tmp_path, subjects=1, size=(32, 32), suffix=suffix):
        with Image.open(path) as image:
            assert "rendered by featurepipe, not a real person" in image.getexif()[IMAGE_DESCRIPTION]


def test_a_second_call_writes_nothing(written):
    folder, paths = written
    before = stamps(folder)
    assert write_faces(folder, subjects=2, size=(64, 48), seed=4) == paths
    assert stamps(folder) == before


def test_only_what_is_missing_other_or_damaged_is_written_again(written):
    folder, paths = written
    content = {path: path.read_bytes() for path in paths}
    paths[0].unlink()
    paths[1].write_bytes(b"no picture")
    paths[2].write_bytes(content[paths[3]])
    paths[4].write_bytes(content[paths[4]][:-200])
    before = stamps(folder)
    write_faces(folder, subjects=2, size=(64, 48), seed=4)
    assert {path: path.read_bytes() for path in paths} == content
    after = stamps(folder)
    assert {path for path in paths if before.get(path) != after[path]} == {paths[0], paths[1], paths[2], paths[4]}


def test_more_subjects_leave_the_first_ones_alone(written):
    folder, paths = written
    before = stamps(folder)
    more = write_faces(folder, subjects=3, size=(64, 48), seed=4)
    assert more[: len(paths)] == paths
    after = stamps(folder)
    assert all(after[path] == before[path] for path in paths)


def test_another_seed_or_intensity_gives_other_pictures(written):
    folder, paths = written
    first = [path.read_bytes() for path in paths]
    write_faces(folder, subjects=2, size=(64, 48), seed=5)
    second = [path.read_bytes() for path in paths]
    assert all(a != b for a, b in zip(first, second, strict=True))
    write_faces(folder, subjects=2, size=(64, 48), seed=5, intensity=(0.1, 0.2))
    third = [path.read_bytes() for path in paths]
    changed = {path.parent.name + path.name for path, a, b in zip(paths, second, third, strict=True) if a != b}
    assert changed == {p.parent.name + p.name for p in paths if not p.name.startswith("neutral")}


# --- wrong arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda tmp: face_at("joyful", 0.5), "expected one of anger"),
        (lambda tmp: face_at("anger", 1.5), r"0\.\.1"),
        (lambda tmp: face_at("anger", float("nan")), r"0\.\.1"),
        (lambda tmp: face_at("anger", 0.5, size=(15, 100)), "16"),
        (lambda tmp: Identity.draw(-1, 0), "whole numbers"),
        (lambda tmp: Identity.draw(0, 1.5), "whole numbers"),
        (lambda tmp: render_sequence(Identity.draw(0, 0), "anger", 1, rng=rng_of(0)), "2 frames"),
        (lambda tmp: render_group([Identity.draw(0, 0)], [], size=(64, 64), rng=rng_of(0)), "one emotion per person"),
        (lambda tmp: render_group([], [], size=(64, 64), rng=rng_of(0)), "one emotion per person"),
        (lambda tmp: write_faces(tmp, subjects=0), "at least 1"),
        (lambda tmp: write_faces(tmp, subjects=1, per_emotion=0), "at least 1"),
        (lambda tmp: write_faces(tmp, subjects=1, intensity=(0.9, 0.2)), "low, high"),
        (lambda tmp: write_faces(tmp, subjects=1, suffix=".bmp"), ".jpg, .png"),
        (lambda tmp: write_faces(tmp, subjects=1, size=(8, 8)), "16"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, call, says):
    with pytest.raises(InputError, match=says):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_faces, partial(write_sequences, frames=2)])
@pytest.mark.parametrize("text", ["path,label\nme.jpg,happy\n", "name,label\nsubject-000/anger-0.jpg,anger\n", "\xff"])
def test_a_list_of_other_photos_is_not_written_over(write, text, tmp_path):
    (tmp_path / "samples.csv").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="render into another folder"):
        write(tmp_path, subjects=1, size=(16, 16))
    assert [path.name for path in tmp_path.iterdir()] == ["samples.csv"]
    assert (tmp_path / "samples.csv").read_text(encoding="latin-1") == text
