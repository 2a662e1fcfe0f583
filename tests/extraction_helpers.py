"""Fakes of the extraction's neighbours: photos that are JSON, a face stage that obeys them, a tiny backbone."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np

from featurepipe.content import content_of_file
from featurepipe.errors import MissingPackageError
from featurepipe.records import Face, FaceResult, Framing, Sample, choose

FRAMING = Framing(4, "RGB", margin=0.25)
FACE_HALF = {"detector": "fake", "detector_weights": None, "max_side": 640, "margin": 0.25, "policy": "largest"}
BOX = [10, 20, 49, 59, 0.5]


def write_photo(path, seed, faces=(BOX,), act="", status="ok"):
    """A "photo": what the fake face stage shall answer. `seed` makes its bytes unique."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seed": seed, "faces": list(faces), "act": act, "status": status}))
    return Sample(str(path), label="anger", raw_label="Angry", subject=f"s{seed}")


def write_photos(folder, count):
    """`count` photos; every seventh has no face, every eleventh two."""
    return [write_photo(folder / f"{i:05d}.jpg", i, _faces(i)) for i in range(count)]


def _faces(i):
    if i % 7 == 3:
        return []
    return [BOX, [0, 0, 99, 99 + i, 1.5]] if i % 11 == 0 else [BOX]


class FakeFinder:
    """Answers as the photo's JSON says; notes each detection as a line in `log`.

    A crop is made of the content, the box and the margin, so that it shows what it was cut from.
    """

    def __init__(self, log=None, policy="largest", margin=0.25, shift=0, seconds=0.0):
        self.log, self.policy, self.margin, self.shift, self.seconds = log, policy, margin, shift, seconds

    def __call__(self, task):
        time.sleep(self.seconds)
        try:
            data = Path(task.sample.path).read_bytes()
        except FileNotFoundError:
            return self._failed(task, "missing", "gone")
        if content_of_file(data, task.sample.box) != task.content:
            return self._failed(task, "unreadable", "changed since it was scanned")
        photo = json.loads(data)
        _act(photo["act"])
        if photo["status"] != "ok":
            return self._failed(task, photo["status"], "as the photo says", of_content=True)
        faces = task.known if task.known is not None else self._detect(task, photo)
        chosen = choose(faces, self.policy)
        crops = np.stack([np.zeros(FRAMING.shape, np.uint8), *(self._crop(task.content, faces[i]) for i in chosen)])[1:]
        status = "ok" if faces else "no_face"
        error = "" if faces else "no face found"
        return FaceResult(task.content, status, error, faces, chosen, crops, {"decode": 0.5, "detect": 0.25})

    def _detect(self, task, photo):
        if self.log:
            with open(self.log, "a", errors="surrogateescape") as stream:
                stream.write(task.sample.path + "\n")
        return tuple(Face(left + self.shift, *rest) for left, *rest in photo["faces"])

    def _crop(self, content, face):
        cut = [face.left, face.top, face.right, face.bottom, round(self.margin * 1000)]
        return np.random.default_rng([int(content[:8], 16), *cut]).integers(0, 256, FRAMING.shape, np.uint8)

    def _failed(self, task, status, error, of_content=False):
        return FaceResult(task.content, status, error, (), (), np.empty((0, *FRAMING.shape), np.uint8), {}, of_content)


def _act(act):
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "memory":
        raise MemoryError
    if act == "package":
        raise MissingPackageError("fake detector needs the package nowhere: pip install nowhere")
    if act == "interrupt":
        signal.raise_signal(signal.SIGINT)


class FakeBackbone:
    """A float32 matrix product over the crop; notes the size of each batch."""

    framing = FRAMING
    threads = 1
    batch_size = 8
    made_with = {}  # noqa: RUF012

    def __init__(self, dim=6, name="fake", seconds=0.0):
        self.name, self.dim, self.seconds = name, dim, seconds
        self.weights = np.random.default_rng(0).standard_normal((int(np.prod(FRAMING.shape)), dim)).astype(np.float32)
        self.batches = []

    def recipe(self):
        return {
            "format": 1,
            "backbone": self.name,
            "weights": "0" * 64,
            "layer": "fc7",
            "preprocessing": "none",
            "views": 1,
        }

    def __call__(self, crops):
        time.sleep(self.seconds)
        self.batches.append(len(crops))
        return crops.reshape(len(crops), -1).astype(np.float32) @ self.weights


def expected_vector(content, box, dim=6, margin=0.25):
    """What a face's vector must be, up to rounding."""
    crop = FakeFinder(margin=margin)._crop(content, Face(*box))
    return crop.reshape(-1).astype(np.float32) @ FakeBackbone(dim).weights
