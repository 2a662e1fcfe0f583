"""Landmarks: their rows below a crop, where dlib and the renderer have them, and a machine without dlib's files."""

import functools
import importlib.util
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from featurepipe.content import content_of_pixels
from featurepipe.datasets.synthetic import Identity, render_face
from featurepipe.errors import MissingPackageError
from featurepipe.faces.crops import crop_face
from featurepipe.faces.detectors import DetectorSpec
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.landmarks import LandmarkFinder, landmarks_digest
from featurepipe.features.pixels import Pixels
from featurepipe.landmarks import LEFT_EYE, MIRROR_68, RIGHT_EYE, landmark_rows, split_landmarks, with_landmarks
from featurepipe.records import Face, FaceTask, Framing, Sample

needs_predictors = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))), reason="no dlib-models"
)


@functools.cache
def finder(points):
    return LandmarkFinder(points)


def eyes(points):
    """Centres of the left and the right eye of five landmarks."""
    return np.stack([points[list(corners)].mean(0) for corners in (LEFT_EYE, RIGHT_EYE)])


def eyes_of_68(points):
    return np.stack([points[36:42].mean(0), points[42:48].mean(0)])


def rendered(number, size=(256, 256)):
    return render_face(Identity.draw(3, number), "neutral", 0.0, size=size, rng=np.random.default_rng(number))


class TestRows:
    @pytest.mark.parametrize("shape", [(96, 96), (232, 232, 3)])
    @pytest.mark.parametrize("points", [5, 68])
    def test_landmarks_and_pixels_come_back(self, shape, points):
        rng = np.random.default_rng(0)
        crops = rng.integers(0, 256, (3, *shape), np.uint8)
        given = rng.uniform(-0.9, 1.9, (3, points, 2))
        faces = np.stack([with_landmarks(crop, own) for crop, own in zip(crops, given, strict=True)])
        framing = Framing(shape[0], "L" if len(shape) == 2 else "RGB", points=points)
        assert faces.shape == (3, *framing.shape)
        batch = torch.from_numpy(faces).float() / 255
        images, found = split_landmarks(batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2), points)
        np.testing.assert_allclose(found.numpy(), given, atol=0.5 / 21845 + 1e-6)
        channels_last = images.permute(0, 2, 3, 1).reshape(crops.shape)
        np.testing.assert_array_equal((channels_last * 255).round().numpy(), crops)

    def test_they_stop_one_side_outside(self):
        crop = with_landmarks(np.zeros((8, 8), np.uint8), np.array([[-7.0, 0.5], [2.0, 1e9]]))
        _, found = split_landmarks(torch.from_numpy(crop)[None, None].float() / 255, 2)
        np.testing.assert_allclose(found[0], [[-1, 0.5], [2, 2]], atol=1e-4)

    def test_four_bytes_each(self):
        assert [landmark_rows(*given) for given in ((0, 48), (5, 96), (5, 20), (5, 19), (68, 224))] == [0, 1, 1, 2, 2]

    def test_mirrored_names_change_sides(self):
        assert sorted(MIRROR_68) == list(range(68))
        assert [MIRROR_68[MIRROR_68[point]] for point in range(68)] == list(range(68))
        pairs = {(0, 16), (17, 26), (36, 45), (39, 42), (41, 46), (48, 54), (31, 35), (60, 64), (67, 65), (8, 8)}
        assert {(left, MIRROR_68[left]) for left, _ in pairs} == pairs


@needs_predictors
class TestFinder:
    def test_five_points_are_dlibs_own(self):
        """A box that makes the patch the picture itself, bit by bit."""
        import dlib
        import face_recognition_models

        image, box = rendered(0, (192, 192)).image, Face(32, 32, 159, 159)
        predictor = dlib.shape_predictor(face_recognition_models.pose_predictor_five_point_model_location())
        theirs = [(point.x, point.y) for point in predictor(image, dlib.rectangle(32, 32, 159, 159)).parts()]
        np.testing.assert_allclose(finder(5)(image, box), np.array(theirs) + 0.5)

    @pytest.mark.parametrize("number", range(4))
    def test_eyes_are_where_the_renderer_has_them(self, number):
        """Its boxes are HOG's around a face whose eyes are 0.89 units apart and 0.42 units above the box's centre."""
        face = rendered(number)
        unit = face.box.width / 2.04
        middle = np.array([face.box.left + face.box.right + 1, face.box.top + face.box.bottom + 1]) / 2
        expected = middle + unit * np.array([[-0.445, -0.42], [0.445, -0.42]])
        for found in (eyes(finder(5)(face.image, face.box)), eyes_of_68(finder(68)(face.image, face.box))):
            assert np.linalg.norm(found - expected, axis=1).max() < 0.15 * 0.89 * unit

    def test_a_loose_box_finds_the_same_eyes(self):
        """The whole picture as the box, as for data sets of crops."""
        face = rendered(1)
        side = round(face.box.width * 1.15)
        left, top = (
            round((low + high + 1 - side) / 2)
            for low, high in zip((face.box.left, face.box.top), (face.box.right, face.box.bottom), strict=True)
        )
        crop = face.image[top : top + side, left : left + side]
        for points, centres in ((5, eyes), (68, eyes_of_68)):
            tight, loose = (
                centres(finder(points)(crop, box))
                for box in (
                    Face(*(round(side * share) for share in (0.07, 0.07, 0.93, 0.93))),
                    Face(0, 0, side - 1, side - 1),
                )
            )
            assert np.linalg.norm(tight - loose, axis=1).max() < 0.1 * np.linalg.norm(tight[1] - tight[0])

    def test_eyes_turn_with_the_face(self):
        face = rendered(2)
        turned = np.asarray(Image.fromarray(face.image).rotate(-20, Image.Resampling.BILINEAR))
        (before, after) = (np.diff(eyes(finder(5)(image, face.box)), axis=0)[0] for image in (face.image, turned))
        angles = [np.degrees(np.arctan2(y, x)) for x, y in (before, after)]
        assert angles[1] - angles[0] == pytest.approx(20, abs=4)

    def test_resolution_does_not_matter(self):
        face = rendered(3, (512, 512))
        half = np.asarray(Image.fromarray(face.image).reduce(2))
        box = Face(*(side // 2 for side in (face.box.left, face.box.top, face.box.right, face.box.bottom)))
        for points in (5, 68):
            large, small = finder(points)(face.image, face.box), finder(points)(half, box)
            assert np.abs(large - 2 * small).max() < 0.06 * face.box.width

    def test_where_no_face_is_there_are_numbers_all_the_same(self):
        for image in (np.zeros((48, 48, 3), np.uint8), np.full((5, 5, 3), 255, np.uint8)):
            assert np.isfinite(finder(68)(image, Face(0, 0, len(image) - 1, len(image) - 1))).all()


@needs_predictors
class TestCrops:
    @pytest.mark.parametrize(("detector", "margin"), [("hog", 0.5), ("none", 0.0)])
    def test_the_finder_writes_them_in_shares_of_its_crop(self, detector, margin):
        face, framing = rendered(0), Framing(96, "L", margin=0.5, points=5)
        sample = Sample("rows.csv#0", pixels=face.image)
        result = FaceFinder(DetectorSpec(detector), framing, "largest")(
            FaceTask(sample, content_of_pixels(face.image, None))
        )
        assert result.crops.shape == (1, 97, 96)
        own = result.faces[0]
        np.testing.assert_array_equal(result.crops[0, :96], crop_face(face.image, own, Framing(96, "L", margin=margin)))
        _, found = split_landmarks(torch.from_numpy(result.crops)[:, None].float() / 255, 5)
        side = (1 + margin) * own.width
        corner = np.array([own.left + own.right + 1 - side, own.top + own.bottom + 1 - side]) / 2
        np.testing.assert_allclose(found[0].numpy() * side + corner, finder(5)(face.image, own), atol=0.02)

    def test_a_finder_travels_without_its_predictors(self):
        face = rendered(0)
        sample = FaceTask(Sample("a#0", pixels=face.image), content_of_pixels(face.image, None), (face.box,))
        first = FaceFinder(DetectorSpec("hog"), Framing(32, "RGB", points=5), "largest")
        before = first(sample)
        assert len(pickle.dumps(first)) < 10_000
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(first))(sample).crops, before.crops)

    def test_their_files_are_part_of_the_recipe(self):
        five, many = landmarks_digest(5), landmarks_digest(68)
        assert five != many
        recipe = Pixels(Framing(96, "L", points=5), five).recipe()
        assert (recipe["points"], recipe["landmarks"]) == (5, five)


def test_crops_without_landmarks_keep_the_recipe_they_had():
    assert Pixels(Framing(48, "L", margin=0.3)).recipe() == {
        "format": 1,
        "backbone": "pixels",
        "weights": None,
        "layer": "input",
        "preprocessing": {"size": 48, "mode": "L", "shift": 0.0},
        "views": 1,
    }


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"finding landmarks needs .*\[dlib-models\]"):
        landmarks_digest(5)
