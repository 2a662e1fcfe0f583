"""Frames of video files, decoded by PyAV (FFmpeg) and counted, never sought.

Frame n is the n-th picture that the decoder shows, from 1: what time stamps and headers say is not trusted, since old
AVI files have neither right. So reading is in order: asking for frames in their order decodes a clip once, and going
back begins it anew. Damage ends a clip: which number a later picture has would be a guess.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np

from featurepipe.content import content_of_frame
from featurepipe.faces.images import (
    PIXEL_LIMIT,
    UnreadablePhotoError,
    check_size,
    open_regular,
    reading_error,
    turned,
)
from featurepipe.files import sha256_of_stream
from featurepipe.records import Sample
from featurepipe.video import VideoError, failures, open_video

_DECODER_OPTIONS = {
    # FFmpeg would otherwise paint over what is damaged and hand it out as whole.
    "err_detect": "explode",
    "max_pixels": str(PIXEL_LIMIT),
}


class ClipReader:
    """Frames of clips; keeps the last clip open, so that the frames of a clip in their order are one pass over it."""

    def __init__(self) -> None:
        self._clip: _Clip | None = None

    def read(self, sample: Sample, content: str | None, pixel_limit: int) -> np.ndarray:
        """Frame `sample.frame` of the video file `sample.path`, as uint8 RGB (height, width, 3).

        Turned as the file's own display matrix says; sample.turns are not applied.

        Parameters
        ----------
        sample : with in_clip
        content : its content key, compared with the file's where it is given
        pixel_limit : most pixels (width times height) of a frame

        Raises
        ------
        PhotoError : missing, unreadable, damaged, shorter than that, changed since it was scanned, or too large
        MissingPackageError : PyAV is not installed
        """
        try:
            clip = self._serving(sample, content)
        except OSError as error:
            raise reading_error(sample.path, error) from error
        assert sample.frame is not None
        return clip.frame(sample.frame, pixel_limit)

    def close(self) -> None:
        """Close the clip that is open."""
        if self._clip is not None:
            self._clip.close()
            self._clip = None

    def _serving(self, sample: Sample, content: str | None) -> _Clip:
        """The open clip where it is the one that `sample` means, else that one, opened."""
        clip = self._clip
        if clip is None or not clip.serves(sample, content):
            self.close()
            clip = self._clip = _Clip(sample.path)
        if not clip.serves(sample, content):
            raise UnreadablePhotoError("changed since it was scanned; run the command again")
        return clip


class _Clip:
    """One video file, open at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._stream = open_regular(path, limit=None)
        with ExitStack() as closing:
            closing.callback(self._stream.close)
            self._state = _state(self._stream)
            self._digest = sha256_of_stream(self._stream)
            closing.pop_all()
        self._container: Any = None
        self._pictures: Iterator[Any] | None = None
        self._shown = 0
        self._end = ("", True)

    def serves(self, sample: Sample, content: str | None) -> bool:
        """Whether this open file is the one that `sample` means, unchanged since it was opened."""
        same = self.path == sample.path and _state(self._stream) == self._state
        return same and content in (None, content_of_frame(self._digest, sample))

    def frame(self, number: int, pixel_limit: int) -> np.ndarray:
        """The picture `number`, counted from 1."""
        if number < 1:
            text = f"frame {number}: the frames of a clip are counted from 1"
            raise UnreadablePhotoError(text, of_content=True)
        if self._pictures is None or number <= self._shown:
            self._pictures = self._begun(pixel_limit)
        for picture in self._pictures:
            self._shown += 1
            if self._shown == number:
                check_size((picture.width, picture.height), pixel_limit)
                return turned(picture.to_ndarray(format="rgb24"), -90 * round(picture.rotation / 90) % 360)
        reason, of_content = self._end
        raise UnreadablePhotoError(f"no frame {number}: {reason}", of_content)

    def close(self) -> None:
        """Close the file."""
        self._close_container()
        self._stream.close()

    def _close_container(self) -> None:
        self._shown, self._pictures = 0, None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _begun(self, pixel_limit: int) -> Iterator[Any]:
        """The pictures from the first on."""
        self._close_container()
        self._stream.seek(0)
        try:
            container = open_video(self._stream)
        except VideoError as error:
            raise UnreadablePhotoError(str(error), error.of_content) from error
        self._container = container
        codec = container.streams.video[0].codec_context
        check_size((codec.width, codec.height), pixel_limit)
        codec.thread_count = 1  # what a decoder makes of damage must not depend on the number of cores
        codec.options = _DECODER_OPTIONS
        return self._decoded(container)

    def _decoded(self, container: Any) -> Iterator[Any]:
        """The pictures, as far as they are whole; then _end says why no more come, and whether the content is why."""
        try:
            with failures("damaged data"):
                for packet in container.demux(container.streams.video[0]):
                    for picture in packet.decode():
                        if picture.is_corrupt:
                            raise VideoError("a damaged picture")
                        yield picture
                    if packet.is_corrupt:
                        raise VideoError("the file breaks off")
            self._end = f"the clip has {self._shown}", True
        except VideoError as error:
            what = "is damaged" if error.of_content else "cannot be read"
            self._end = f"the clip {what} after frame {self._shown} ({error})", error.of_content


def _state(stream: BinaryIO) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_size, status.st_mtime_ns
