"""The nouns that travel from stage to stage: samples, faces, and what is asked of and answered by the face stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from featurepipe.landmarks import landmark_rows

STATUSES = ("ok", "no_face", "missing", "unreadable", "too_large")
"""Every sample ends with one of these; `error` says why it is not ok."""

CLIPS = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg")
"""Names that end so, in any case, are video files."""

Policy = Literal["largest", "all"]


@dataclass(frozen=True, slots=True)
class Face:
    """A face's box in pixels of the upright photo; right and bottom are inclusive, as in dlib.

    `score` is the detector's own (higher is surer); 1.0 where the box was given rather than detected. `turn` is 0, 90,
    180 or 270: the degrees clockwise by which the photo was turned before the face was found (Sample.turns).
    """

    left: int
    top: int
    right: int
    bottom: int
    score: float = 1.0
    turn: int = 0

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left + 1

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top + 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One photo, one row of pixels in a CSV or NPZ file, or one frame of a video file.

    Parameters
    ----------
    path : opens from the working directory; for a row of pixels `file#row`
    label : canonical emotion (featurepipe.labels), or None where unlabelled
    raw_label : the label as the source spells it
    subject : who is in the photo, or None where unknown
    split : train, val, test or None
    sequence, frame : name of the sequence and frame number in it, where there is one; frames of video files count
        from 1, in the order in which they are shown
    role : "neutral", "onset", "apex", "offset" or "frame" in a sequence, "still" for a photo of its own; None unknown
    extra : what else the data set says (view, illumination, gaze, intensity, session, valence, votes, ...), JSON-able
    box : the face's box where the data set gives it
    pixels : uint8 (h, w) or (h, w, 3), where the source holds pixels instead of naming a file
    origin : "database/split" of the picture where it lies as a file of its own and the database is rows of pixels: the
        same picture, whose bytes and therefore content key are others (FER2013's, written as PNG or JPEG)
    """

    path: str
    label: str | None = None
    raw_label: str | None = None
    subject: str | None = None
    split: str | None = None
    sequence: str | None = None
    frame: int | None = None
    role: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)
    box: Face | None = None
    pixels: np.ndarray | None = field(default=None, compare=False, repr=False)
    origin: str | None = None

    @property
    def in_clip(self) -> bool:
        """Whether this is a frame of the video file at `path`."""
        return self.frame is not None and self.pixels is None and self.path.lower().endswith(CLIPS)

    @property
    def whole_clip(self) -> bool:
        """Whether this names a video file and no frame of it: no photo."""
        return self.frame is None and self.pixels is None and self.path.lower().endswith(CLIPS)

    @property
    def turns(self) -> tuple[int, ...]:
        """Of a frame in a clip: degrees clockwise (0, 90, 180, 270) to turn it by, in this order, until a face shows.

        `extra["turns"]` where the data set has clips filmed on edge, else (0,).
        """
        return tuple(self.extra.get("turns", (0,))) if self.in_clip else (0,)


@dataclass(frozen=True, slots=True)
class Framing:
    """How a backbone or CNN wants its faces cut: a property of its weights, recorded beside them.

    Parameters
    ----------
    size : side of the square crop in pixels
    mode : "RGB" or "L" (grey, ITU-R 601 luma as Pillow makes it)
    margin : the crop's side is (1 + margin) times the longer side of the box
    shift : the crop's centre lies this share of the longer side below the box's centre (negative: above)
    equalise : whether grey crops are histogram-equalised, as the pictures of FER2013 are; only where the face was cut
        out of a photo
    points : how many of dlib's facial landmarks are written below the pixels (featurepipe.landmarks): 0, 5 or 68
    """

    size: int
    mode: Literal["RGB", "L"]
    margin: float = 0.0
    shift: float = 0.0
    equalise: bool = False
    points: Literal[0, 5, 68] = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one crop: (size, size, 3) for RGB, (size, size) for grey; higher where it has landmarks."""
        height = self.size + landmark_rows(self.points, self.size)
        return (height, self.size, 3) if self.mode == "RGB" else (height, self.size)


@dataclass(frozen=True, slots=True)
class FaceTask:
    """What the extraction asks of the face stage for one photo.

    `content` is the key the photo was scanned under: a photo whose bytes no longer match it is answered with
    status unreadable. `known` holds the boxes where they are already stored: then nothing is detected.
    """

    sample: Sample
    content: str
    known: tuple[Face, ...] | None = None


@dataclass(frozen=True, slots=True)
class FaceResult:
    """The face stage's answer for one photo.

    `faces` are all faces found, in the detector's order; `chosen` are the indices that the policy selects, and
    `crops` is uint8 (len(chosen), *framing.shape), row-aligned with `chosen`. `seconds` maps a stage's name
    ("decode", "detect", "crop") to the seconds spent. `of_content` says of a failure that the content is to blame, and
    not the moment (memory, the disk, a file that changed): then it is kept and the photo is not tried again.
    """

    content: str
    status: str
    error: str
    faces: tuple[Face, ...]
    chosen: tuple[int, ...]
    crops: np.ndarray
    seconds: dict[str, float]
    of_content: bool = False


def choose(faces: Sequence[Face], policy: Policy) -> tuple[int, ...]:
    """Indices of the faces that a policy selects: all in order, or the largest by area.

    Of equal areas the higher score wins, then the earlier face; `largest_of_each` does the same for many photos.

    >>> choose([Face(0, 0, 9, 9), Face(0, 0, 19, 19)], "largest")
    (1,)
    """
    if policy == "all":
        return tuple(range(len(faces)))
    best = max(range(len(faces)), key=lambda i: (faces[i].width * faces[i].height, faces[i].score, -i), default=None)
    return () if best is None else (best,)


def largest_of_each(owner: np.ndarray, box: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The face of each photo that `choose` selects as the largest, of faces of many photos.

    Parameters
    ----------
    owner : int (n,), the photo that each face is of; those of one photo stand in their order
    box : int64 (n, 4), left, top, right and bottom of each face
    score : float (n,)

    Returns
    -------
    int64, positions of the largest faces: one for each photo that has any, by rising `owner`

    >>> largest_of_each(np.array([7, 7, 3]), np.array([[0, 0, 9, 9], [0, 0, 19, 19], [0, 0, 4, 4]]), np.ones(3))
    array([2, 1])
    """
    area = (box[:, 2] - box[:, 0] + 1) * (box[:, 3] - box[:, 1] + 1)
    best_first = np.lexsort((-score, -area, owner))  # equals stay in their order
    return best_first[np.diff(owner[best_first], prepend=-1) != 0]
