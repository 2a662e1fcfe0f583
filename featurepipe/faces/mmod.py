"""dlib's CNN face detector without dlib: the same boxes, on any torch device, several times faster."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from featurepipe.conversion.dlib_mmod import read
from featurepipe.devices import memory_errors
from featurepipe.errors import InputError
from featurepipe.networks.mmod import MmodNet
from featurepipe.networks.mmod_pyramid import Layout, layout, photo_boxes, round_half_away, strongest, upsampled
from featurepipe.records import Face


class MmodDetector:
    """The faces that dlib's cnn_face_detection_model_v1 finds in photos (King 2015); one object per thread.

    Parameters
    ----------
    path : mmod_human_face_detector.dat; WeightsError is raised where it is anything else
    device : where the network runs
    upsample : how often photos are doubled before; each time faces of half the size are found, in four times the time
    """

    def __init__(self, path: str | os.PathLike[str], device: torch.device | str = "cpu", upsample: int = 0) -> None:
        file = read(path)
        self._window, self._suppression, self._upsample = file.window, file.suppression, upsample
        self._net = MmodNet([(layer.weight, layer.bias) for layer in file.convolutions], file.means, device)

    def __call__(self, photo: np.ndarray) -> list[Face]:
        """The faces of one photo, highest score first; see `batch`."""
        return self.batch([photo])[0]

    def batch(self, photos: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces of each photo, highest score first; right and bottom are inclusive, boxes may leave the photo.

        Photos are uint8, RGB (h, w, 3) or grey (h, w), of any sizes. On a GPU those of one size share forward passes;
        no photo's faces depend on the others. Photos less than 10 pixels wide have none. Faces are of about 80 pixels
        and more.

        Raises
        ------
        InputError : a photo is another kind of array
        MemoryError : memory runs out, the device's or this process's
        """
        prepared = [self._prepared(photo) for photo in photos]
        faces: list[list[Face]] = [[] for _ in photos]
        for canvas, indices in self._groups(prepared):
            with memory_errors():
                found = self._found(canvas, [prepared[index] for index in indices])
            for index, mine in zip(indices, found, strict=True):
                faces[index] = mine
        return faces

    def _prepared(self, photo: np.ndarray) -> np.ndarray:
        grey = photo.ndim == 2
        if photo.dtype != np.uint8 or not (grey or (photo.ndim == 3 and photo.shape[2] == 3)) or not photo.size:
            raise InputError(
                f"a photo is {photo.dtype} {photo.shape}; expected uint8 (height, width, 3) or (height, width)"
            )
        photo = np.repeat(photo[:, :, None], 3, axis=2) if grey else photo
        for _ in range(self._upsample):
            photo = upsampled(photo)
        return photo

    def _groups(self, photos: Sequence[np.ndarray]) -> Iterator[tuple[Layout, list[int]]]:
        """Canvas and indices of photos that share forward passes; those too small to have a canvas are left out."""
        sizes = defaultdict(list)
        for index, photo in enumerate(photos):
            sizes[photo.shape].append(index)
        for (height, width, _), indices in sizes.items():
            canvas = layout(width, height)
            if canvas is not None:
                count = self._net.photos_at_once(math.prod(canvas.cells))
                yield from ((canvas, indices[start : start + count]) for start in range(0, len(indices), count))

    def _found(self, canvas: Layout, photos: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces of photos of one size."""
        scores = self._net.scores(_stacked(photos), canvas)
        places = (scores > 0).nonzero()
        values = scores[tuple(places.T)].cpu().numpy()
        photo_of, cells = np.split(places.cpu().numpy(), [1], axis=1)
        boxes = photo_boxes(canvas, cells, self._window)
        mine = [photo_of[:, 0] == number for number in range(len(photos))]
        return [self._faces(boxes[which], values[which]) for which in mine]

    def _faces(self, boxes: np.ndarray, scores: np.ndarray) -> list[Face]:
        kept = strongest(boxes, scores, self._suppression)
        edges = boxes[kept].astype(np.float64)
        for _ in range(self._upsample):
            edges = edges / 2 - (1.25, 0.75, 1.25, 0.75)
        found = zip(round_half_away(edges).tolist(), scores[kept].tolist(), strict=True)
        return [Face(left, top, right, bottom, score) for (left, top, right, bottom), score in found]


def _stacked(photos: Sequence[np.ndarray]) -> torch.Tensor:
    """Photos of one size as one tensor; a single one is not copied, unless torch could not read it as it is."""
    if len(photos) == 1 and photos[0].flags.writeable and photos[0].flags.c_contiguous:
        return torch.from_numpy(photos[0])[None]
    return torch.from_numpy(np.stack(photos))
