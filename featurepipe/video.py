"""Video files, opened safely by PyAV (FFmpeg): what the readers of databases and the face stage both need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from featurepipe.errors import FeaturepipeError, MissingPackageError

_OPTIONS = {
    # No playlists or lists of files: they could name other files, or the network.
    "format_whitelist": "avi,mov,matroska,asf,mpeg,mpegts,mpegvideo",
}


class VideoError(FeaturepipeError):
    """A file is no video, or damaged."""


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


def count_frames(path: str) -> int:
    """How many pictures a video file holds, by walking through it without decoding; its header is not trusted.

    Of a file that breaks off, those before.

    Raises
    ------
    VideoError : the file cannot be read, or as open_video
    MissingPackageError : PyAV is not installed
    """
    with failures("cannot be read"), open(path, "rb") as stream, open_video(stream) as container:
        packets = container.demux(container.streams.video[0])
        return sum(1 for packet in packets if packet.size and not packet.is_corrupt)


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Turns what the system or FFmpeg raises about a video file into a VideoError that begins with `what`."""
    errors = (_pyav().FFmpegError, OSError, ValueError)  # now: a generator may end when nothing can be imported
    try:
        yield
    except errors as error:
        raise VideoError(f"{what}: {getattr(error, 'strerror', None) or error}") from error


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingPackageError(
            f"frames of video files need PyAV, which does not import ({error}): pip install featurepipe[video]"
        ) from error
    return av
