"""One photo in, its faces and crops out: the work of one worker process of the extraction.

Peak resident memory of a process with HOG and RGB crops of 224: 49 MiB after a small JPEG, 139 MiB after one of 12
megapixels, 394 MiB after one of 48 (Pillow's pixels take 4 bytes each, ours 3; nothing else of that size exists at one
time). At 48 megapixels WebP took 769, transparent PNG 602, detector none 386 MiB; at 12 megapixels dlib-mmod took
799 MiB, its network's need at max_side 1000, and mmod 770, of which 500 are torch. `pytest -s -k peak_memory
tests/test_faces.py` measures the first three.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import PIL

import featurepipe
from featurepipe.errors import InputError
from featurepipe.faces.crops import crop_face, crop_square
from featurepipe.faces.detectors import Detect, DetectorSpec, find_faces
from featurepipe.faces.images import PIXEL_LIMIT, PhotoError, UnreadablePhotoError, turned
from featurepipe.faces.landmarks import LandmarkFinder
from featurepipe.faces.reading import SampleReader
from featurepipe.landmarks import with_landmarks
from featurepipe.records import Face, FaceResult, FaceTask, Framing, Policy, Sample, choose


class FaceFinder:
    """Reads, decodes, detects, chooses and crops; one object per thread, and as many processes as you like.

    Pickled without an open clip, and without its detector and landmarks, which are built at the first photo that needs
    them.

    Parameters
    ----------
    spec : the detector
    framing : how crops are cut; None for boxes alone
    policy : which of the faces are cropped (records.choose)
    pixel_limit : photos of more pixels are not decoded
    detect : the spec's detector where it is there already, as featurepipe.faces.serving offers it; it must pickle
    """

    def __init__(
        self,
        spec: DetectorSpec,
        framing: Framing | None,
        policy: Policy,
        pixel_limit: int = PIXEL_LIMIT,
        detect: Detect | None = None,
    ) -> None:
        self.spec = spec
        self.framing = framing
        self.policy = policy
        self.pixel_limit = pixel_limit
        self._reader = SampleReader(pixel_limit)
        self._given = self._detect = detect
        self._landmarks: LandmarkFinder | None = None

    def __getstate__(self) -> dict[str, Any]:
        fresh = {"_detect": self._given, "_landmarks": None, "_reader": SampleReader(self.pixel_limit)}
        return {**self.__dict__, **fresh}

    def __call__(self, task: FaceTask) -> FaceResult:
        """Answer `task`; a photo that cannot be used is answered with its status, not raised.

        Nothing is detected where `task.known` or the sample holds the boxes. One photo gives the same answer
        every time, whatever came before it.

        Raises
        ------
        MissingPackageError, WeightsError : the detector, or the landmarks, cannot be built
        """
        seconds: dict[str, float] = {}
        faces: tuple[Face, ...] = ()
        try:
            with _timed(seconds, "decode"):
                image = self._reader.read(task.sample, task.content)
            with _timed(seconds, "detect"):
                faces = self._faces(task, image)
            chosen = choose(faces, self.policy)
            with _timed(seconds, "crop"):
                # One turn shows all faces of a photo.
                image = turned(image, faces[0].turn) if faces else image
                crops = self._crops(task.sample, image, [faces[index] for index in chosen])
        except PhotoError as error:
            of_content = error.of_content
            return FaceResult(task.content, error.status, str(error), faces, (), self._stacked([]), seconds, of_content)
        status = "ok" if faces else "no_face"
        error_text = "" if faces else f"detector {self.spec.name} found no face"
        return FaceResult(task.content, status, error_text, faces, chosen, crops, seconds)

    def recipe(self) -> dict[str, Any]:
        """The face half of the recipe: how this finder finds, chooses and cuts faces. It needs a framing.

        >>> FaceFinder(DetectorSpec("none"), Framing(48, "L", margin=0.3), "largest").recipe()
        {'detector': 'none', 'detector_weights': None, 'max_side': None, 'margin': 0.3, 'policy': 'largest'}
        """
        if self.framing is None:
            raise InputError("boxes alone have no face half: give the finder a framing")
        return {**self.spec.recipe(), "margin": self.framing.margin, "policy": self.policy}

    def read_with(self) -> dict[str, Any]:
        """What decides which photos can be read: versions of this package and of the decoders, and the limit."""
        try:
            av = version("av")
        except PackageNotFoundError:
            av = None
        return {
            "featurepipe": featurepipe.__version__,
            "pillow": PIL.__version__,
            "av": av,
            "pixel_limit": self.pixel_limit,
        }

    def _faces(self, task: FaceTask, image: np.ndarray) -> tuple[Face, ...]:
        if task.known is not None:
            return task.known
        if task.sample.box is not None:
            _check_box(task.sample.box, image)
            return (task.sample.box,)
        if self._detect is None:
            self._detect = self.spec.build()
        for turn in task.sample.turns:
            faces = find_faces(turned(image, turn), self._detect, self.spec.max_side)
            if faces:
                return tuple(replace(face, turn=turn) for face in faces)
        return ()

    def _crops(self, sample: Sample, image: np.ndarray, faces: list[Face]) -> np.ndarray:
        framing = self.framing
        if framing is None:
            return self._stacked([])
        if self.spec.name == "none" and sample.box is None:
            # The photo is the crop: there is nothing around it that a margin could take in.
            framing = replace(framing, margin=0.0, shift=0.0, equalise=False)
        return self._stacked([self._crop(image, face, framing) for face in faces])

    def _crop(self, image: np.ndarray, face: Face, framing: Framing) -> np.ndarray:
        crop = crop_face(image, face, framing)
        if not framing.points:
            return crop
        if self._landmarks is None:
            self._landmarks = LandmarkFinder(framing.points)
        left, top, side = crop_square(face, framing)
        return with_landmarks(crop, (self._landmarks(image, face) - [left, top]) / side)

    def _stacked(self, crops: list[np.ndarray]) -> np.ndarray:
        shape = self.framing.shape if self.framing else (0,)
        return np.stack(crops) if crops else np.empty((0, *shape), np.uint8)


def _check_box(box: Face, image: np.ndarray) -> None:
    """Refuse a data set's box that is empty, misses the photo, or would pad it beyond reason."""
    height, width = image.shape[:2]
    outside = box.left >= width or box.top >= height or box.right < 0 or box.bottom < 0
    if box.width < 1 or box.height < 1 or outside or max(box.width, box.height) > 2 * max(width, height):
        raise UnreadablePhotoError(
            f"its box ({box.left}, {box.top}, {box.right}, {box.bottom}) does not fit the photo's "
            f"{width} x {height} pixels; expected left, top, right, bottom with right and bottom inclusive",
            of_content=True,
        )


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - start
