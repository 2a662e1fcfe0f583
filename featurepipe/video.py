"""Video files, opened safely by PyAV (FFmpeg): what the readers of databases and the face stage both need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from featurepipe.errors import FeaturepipeError, MissingPackageError, install_extra

_OPTIONS = {
    # No playlists or lists of files: they could name other files, or the network.
    "format_whitelist": "avi,mov,matroska,asf,mpeg,mpegts,mpegvideo",
}


FRAME_LACKING = "a video file: name the frame, counted from 1 (in a CSV by the column frame)"
"""What is wrong with a sample that is a whole clip."""


class VideoError(FeaturepipeError):
    """A file is no video, or damaged; `of_content` is False where it may be neither, but memory or the disk failed."""

    def __init__(self, text: str, of_content: bool = True) -> None:
        super().__init__(text)
        self.of_content = of_content


def open_video(stream: BinaryIO) -> Any:
    """The av.container.InputContainer of a video file open for reading; it has a video stream. Close it after use.

    Raises
    ------
    VideoError : no video file of a known format, or damaged at its beginning
    MissingPackageError : PyAV is not installed
    """
    av = _pyav()
    with failures("no video file, or damaged at its beginning"):
        container = av.open(stream, options=_OPTIONS, metadata_errors="replace")
    if not container.streams.video or container.streams.video[0].codec_context is None:
        container.close()
        raise VideoError("no video file: no pictures are in it, or in a format that FFmpeg does not know")
    return container


def count_frames(path: str) -> tuple[int, bool]:
    """How many pictures a video file holds, and whether it is whole: False where it breaks off.

    By walking through it without decoding; the header's count is not trusted.

    Raises
    ------
    VideoError : the file cannot be read, or as open_video
    MissingPackageError : PyAV is not installed
    """
    with failures("cannot be read"), open(path, "rb") as stream:
        whole = _has_its_size(stream)
        with open_video(stream) as container:
            packets = [packet.is_corrupt for packet in container.demux(container.streams.video[0]) if packet.size]
    return packets.count(False), whole and not any(packets)


def _has_its_size(stream: BinaryIO) -> bool:
    """Whether an AVI file is as long as its header says; True for other files. Leaves the stream at its beginning."""
    head = stream.read(12)
    stream.seek(0)
    size = int.from_bytes(head[4:8], "little") if head[:4] == b"RIFF" else 0
    return size + 8 <= max(os.fstat(stream.fileno()).st_size, 8)


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Turns what the system or FFmpeg raises about a video file into a VideoError that begins with `what`."""
    of_content = (_pyav().FFmpegError, ValueError)  # now: a generator may end when nothing can be imported
    try:
        yield
    except MemoryError as error:  # FFmpeg's too
        raise VideoError("not enough memory", of_content=False) from error
    except of_content as error:
        raise VideoError(f"{what}: {getattr(error, 'strerror', None) or error}") from error
    except OSError as error:
        raise VideoError(f"cannot be read: {error.strerror or error}", of_content=False) from error


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingPackageError(
            f"frames of video files need PyAV, which does not import ({error}): {install_extra('video')}"
        ) from error
    return av
