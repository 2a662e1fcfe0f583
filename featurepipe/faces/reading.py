"""Samples to upright pixels, whatever they are: photo files, rows of pixels, frames of clips."""

from __future__ import annotations

import numpy as np

from featurepipe.content import content_of_file, content_of_pixels
from featurepipe.faces.clips import ClipReader
from featurepipe.faces.images import PIXEL_LIMIT, UnreadablePhotoError, decode, read_photo
from featurepipe.records import Sample
from featurepipe.video import FRAME_LACKING


class SampleReader:
    """Reads samples one at a time; keeps the last clip open. One object per thread.

    Parameters
    ----------
    pixel_limit : photos and frames of more pixels are not decoded
    """

    def __init__(self, pixel_limit: int = PIXEL_LIMIT) -> None:
        self._pixel_limit = pixel_limit
        self._clips = ClipReader()

    def read(self, sample: Sample, content: str | None = None) -> np.ndarray:
        """The sample's pixels as uint8 RGB (height, width, 3), upright as far as the file itself says.

        Parameters
        ----------
        sample : a photo, a row of pixels, or a frame of a clip
        content : the key it was scanned under (featurepipe.content); None: whatever is there now

        Raises
        ------
        PhotoError : it cannot be used, or is no longer what was scanned; the error's status says which
        MissingPackageError : a frame of a clip, and PyAV is not installed
        """
        if sample.in_clip:
            return self._clips.read(sample, content, self._pixel_limit)
        if sample.whole_clip:
            raise UnreadablePhotoError(FRAME_LACKING)
        source = read_photo(sample.path) if sample.pixels is None else sample.pixels
        if content is not None and content != _content(source, sample):
            raise UnreadablePhotoError("changed since it was scanned; run the command again")
        return decode(source, self._pixel_limit)

    def close(self) -> None:
        """Close the clip that is open."""
        self._clips.close()


def _content(source: bytes | np.ndarray, sample: Sample) -> str:
    if isinstance(source, bytes):
        return content_of_file(source, sample.box)
    return content_of_pixels(source, sample.box)
