"""Facial landmarks by dlib's shape predictors (Kazemi & Sullivan 2014), whatever detector drew the box.

The five points are looked for first. They are found well in boxes of other make: of 443 random faces of FER2013 with
the whole picture as box, the eyes lay within 0.2 of their distance from those found in HOG's own box on 96 %. The 68
points, looked for in the whole picture, were as near on 88 % only; in the box that HOG would have drawn around the five
points' eyes on 96 %, and that is where they are looked for.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from featurepipe.errors import WeightsError, install_extra
from featurepipe.faces.crops import crop_face, crop_square
from featurepipe.faces.detectors import import_dlib, package_folder
from featurepipe.files import sha256_of
from featurepipe.landmarks import LEFT_EYE, RIGHT_EYE
from featurepipe.records import Face, Framing

PATCH = Framing(size=192, mode="RGB", margin=0.5)
"""What the predictors see: the face at one resolution, its box in the middle."""

BOX_BELOW, BOX_SIDE = 0.49, 2.42
"""HOG's box around two eyes: its centre below the point between them, and its side, in distances between the eyes.

Medians of 443 boxes on FER2013."""

_FILES = {5: "shape_predictor_5_face_landmarks.dat", 68: "shape_predictor_68_face_landmarks.dat"}
_NEEDED = {5: (5,), 68: (5, 68)}


def landmarks_digest(points: int) -> str:
    """sha256 of the files that so many landmarks depend on, one after another.

    Raises
    ------
    MissingPackageError, WeightsError : they are not installed
    """
    digests = [sha256_of(_file(number)) for number in _NEEDED[points]]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


class LandmarkFinder:
    """Finds landmarks of faces; the predictors are loaded here (68 points: 0.5 s and 82 MiB).

    Parameters
    ----------
    points : 5 (corners of both eyes, nose) or 68 (the iBUG scheme), in dlib's order

    Raises
    ------
    MissingPackageError, WeightsError : dlib or the predictors are not installed
    """

    def __init__(self, points: int) -> None:
        self.points = points
        self._dlib = import_dlib("finding landmarks")
        self._predict = {number: self._dlib.shape_predictor(str(_file(number))) for number in _NEEDED[points]}

    def __call__(self, image: np.ndarray, face: Face) -> np.ndarray:
        """Landmarks float64 (points, 2) of `face` in `image`, uint8 RGB (h, w, 3): x and y in pixels, edges at 0.

        A predictor always answers: where no face is, the points mean nothing.
        """
        patch = crop_face(image, face, PATCH)
        edge = PATCH.size * PATCH.margin / (1 + PATCH.margin) / 2
        found = self._points(5, patch, edge, edge, PATCH.size - edge)
        if self.points == 68:
            found = self._points(68, patch, *_box_around(found))
        left, top, side = crop_square(face, PATCH)
        return np.array([left, top]) + found * (side / PATCH.size)

    def _points(self, number: int, patch: np.ndarray, left: float, top: float, right: float) -> np.ndarray:
        """Points (number, 2) in the patch's pixels, looked for in the square of that left, top and right."""
        bounds = (left, top, right - 1, top + right - left - 1)
        shape = self._predict[number](patch, self._dlib.rectangle(*(round(bound) for bound in bounds)))
        return np.array([(point.x + 0.5, point.y + 0.5) for point in shape.parts()])


def _box_around(five: np.ndarray) -> tuple[float, float, float]:
    """Left, top and right of HOG's box around the eyes of five points (5, 2)."""
    left, right = five[list(LEFT_EYE)].mean(0), five[list(RIGHT_EYE)].mean(0)
    across = right - left
    below = np.array([-across[1], across[0]])
    x, y = (left + right) / 2 + BOX_BELOW * below
    half = max(1.0, BOX_SIDE * float(np.hypot(*across)) / 2)
    return x - half, y - half, x + half


def _file(points: int) -> Path:
    path = package_folder("face_recognition_models", "dlib-models", "finding landmarks") / "models" / _FILES[points]
    if not path.is_file():
        raise WeightsError(f"dlib's landmarks are not at {path}: {install_extra('dlib-models')}")
    return path
