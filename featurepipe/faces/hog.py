"""dlib's HOG detector, kept on disk once it is unpacked: dlib unpacks its own copy for 0.6 s whenever it is asked."""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurepipe.errors import WeightsError
from featurepipe.files import sha256_of
from featurepipe.weights import store_folder


def frontal_detector(dlib: Any) -> Any:
    """dlib.get_frontal_face_detector(), from the weights folder where an earlier call has left it there.

    The file is dlib's own serialisation, which holds numbers alone. Its name holds dlib's version and the file's
    sha256: a file of another version, or a damaged one, is not used. Where there is no folder, or it cannot be written
    to, nothing is kept and nothing is said.
    """
    try:
        folder = store_folder()
    except WeightsError:
        return dlib.get_frontal_face_detector()
    _sweep(folder)
    for path in folder.glob(f"dlib-{dlib.__version__}-hog-*.svm"):
        with suppress(OSError, RuntimeError):
            if re.search(r"-([0-9a-f]{64})\.svm$", path.name) and path.stem.endswith(sha256_of(path)):
                return dlib.fhog_object_detector(str(path))
    detector = dlib.get_frontal_face_detector()
    with suppress(OSError, RuntimeError):
        _keep(detector, folder, f"dlib-{dlib.__version__}-hog")
    return detector


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left; writing takes far less than a minute."""
    for left in folder.glob(".dlib-*.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 60:
                left.unlink()


def _keep(detector: Any, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        detector.save(str(written))
        os.replace(written, folder / f"{name}-{sha256_of(written)}.svm")
    finally:
        written.unlink(missing_ok=True)
