"""The weights store: one record per file, where it lies, and download with verification."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import sys
import tarfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from featurepipe.errors import InputError, WeightsError, install_extra
from featurepipe.files import CHUNK, replacing, sha256_of
from featurepipe.names import LAYOUTS
from featurepipe.recipe import NO_WEIGHTS
from featurepipe.records import Framing

if TYPE_CHECKING:  # fetching alone needs HTTP, which takes every worker process 0.1 s to load
    from featurepipe.download import Partial

ENVIRONMENT = "FEATUREPIPE_WEIGHTS"
"""Names the weights folder; read whenever a file is looked for."""

DEFAULT_SVM = "fer-vgg-svm"
"""Record of the SVM that ships."""

Place = Literal["store", "shipped", "torch-hub", "facenet-pytorch", "face_recognition_models"]
State = Literal["verified", "unchanged", "changed", "unknown"]

# a zip, or the number that opened torch.save's files before version 1.6
_PYTORCH = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")

FIRST_BYTES: dict[str, tuple[bytes, ...]] = {
    "vgg_face_keras": (b"\x89HDF\r\n\x1a\n",),
    "vgg_face_mcn": _PYTORCH,
    # a Torch object (4), the first (1), with a version string of 3 letters
    "vgg_face_torch7": (b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V ",),
    # field 1, the name of the net; field 2 or 100, a layer
    "vgg_face_caffe": (b"\x0a", b"\x12", b"\xa2\x06"),
    "torchvision": _PYTORCH,
    "facenet-pytorch": _PYTORCH,
}
"""How the files of a layout begin, for every layout that is downloaded."""

_START = 32
"""Bytes that are looked at."""


@dataclass(frozen=True)
class TrainedOn:
    """Data set and split whose images the weights have seen: no SVM may be tested on them."""

    dataset: str
    split: str


@dataclass(frozen=True)
class WeightsRecord:
    """All there is to know about one weights file.

    Parameters
    ----------
    name : what `bin/weights` calls it
    backbone : the backbone that runs it, or that runs what is converted from it
    file : name of the file in its place
    place : who keeps it: our store, this package (it ships), or another package or its cache
    layout : how the tensors are laid out in the file
    licence, source : terms of use; where the weights come from
    url : where it is downloaded; None where it is not
    member : path inside the archive that the url gives; bytes and hashes are the archive's then
    made_from : records whose files can be converted into this one, the preferred one first
    bytes : size of the download, where it is published
    sha256, md5 : hex, as published, of the download; sha256 may be its first digits where only those are published
    preprocessing, framing, views : how the backbone feeds the network by default
    trained_on : what the weights have seen
    metrics : figures of the weights, by name
    photo_prior : how frequent an SVM expects labels to be in photos of daily life, where not as in training
    note : what else one should know (preliminary)
    """

    name: str
    backbone: str
    file: str
    place: Place
    layout: str
    licence: str
    source: str
    url: str | None = None
    member: str | None = None
    made_from: tuple[str, ...] = ()
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    preprocessing: str | None = None
    framing: Framing | None = None
    views: int | None = None
    trained_on: tuple[TrainedOn, ...] = ()
    metrics: Mapping[str, float] | None = None
    photo_prior: Mapping[str, float] | None = None
    note: str | None = None

    @property
    def shipped(self) -> bool:
        """Whether the file is part of this package."""
        return self.place == "shipped"

    def need_framing(self) -> Framing:
        """The framing. Raises WeightsError where the record has none."""
        if self.framing is None:
            raise WeightsError(f"manifest.json: the record {self.name} does not say how its crops are framed")
        return self.framing


@cache
def records() -> dict[str, WeightsRecord]:
    """Every record of manifest.json, by name, in its order."""
    text = (resources.files("featurepipe.shipped") / "manifest.json").read_text(encoding="utf-8")
    found = [_record(entry) for entry in json.loads(text)]
    return {record.name: record for record in found}


def _record(entry: dict[str, Any]) -> WeightsRecord:
    """A record from its JSON; keys are those of WeightsRecord."""
    lists: dict[str, Any] = {
        "made_from": tuple(entry.get("made_from", ())),
        "trained_on": tuple(TrainedOn(**seen) for seen in entry.get("trained_on", ())),
        "framing": Framing(**entry["framing"]) if entry.get("framing") else None,
    }
    record = WeightsRecord(**{**entry, **lists})
    if record.place not in get_args(Place):
        raise WeightsError(f"manifest.json: {record.name} lies in {record.place!r}, which is no known place")
    return record


def saw(sha256: str) -> tuple[TrainedOn, ...] | None:
    """What the weights of this sha256 were trained on by their record; None where they have none."""
    if sha256 == NO_WEIGHTS:
        return ()
    return next((record.trained_on for record in records().values() if record.sha256 == sha256), None)


def get_record(name: str) -> WeightsRecord:
    """The record called `name`. Raises InputError, listing all names, where there is none."""
    if name not in records():
        raise InputError(f"no weights are called {name!r}; there are {', '.join(records())}")
    return records()[name]


def store_folder() -> Path:
    """The weights folder: $FEATUREPIPE_WEIGHTS, else `featurepipe/weights` in the user's cache folder.

    Raises WeightsError where neither is known: the user has no home folder.
    """
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Caches"
    else:
        base = _cache_home()
    return base / "featurepipe" / "weights"


def path_of(record: WeightsRecord) -> Path:
    """Where the record's file lies, or would lie."""
    folders: dict[Place, Callable[[], Path]] = {
        "store": store_folder,
        "shipped": lambda: Path(str(resources.files("featurepipe.shipped"))),
        "torch-hub": lambda: _torch_home() / "hub" / "checkpoints",
        "facenet-pytorch": lambda: _torch_home() / "checkpoints",
        "face_recognition_models": lambda: _package_folder("face_recognition_models") / "models",
    }
    return folders[record.place]() / record.file


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # as in a container whose user has no entry in /etc/passwd
        raise WeightsError(
            f"no home folder is known ({error}): name the weights folder by {ENVIRONMENT}, other packages' by "
            "TORCH_HOME, or the folder of all caches by XDG_CACHE_HOME"
        ) from error


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache").expanduser()


def _torch_home() -> Path:
    return Path(os.environ.get("TORCH_HOME") or _cache_home() / "torch").expanduser()


def _package_folder(package: str) -> Path:
    """Folder of a package that may not be installed; found without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else Path(f"({package} is not installed)")


def find(record: WeightsRecord) -> Path | None:
    """The record's file, where it is here."""
    path = path_of(record)
    return path if path.is_file() else None


def need(record: WeightsRecord) -> Path:
    """The record's file. Raises WeightsError, saying how to get it, where it is not here."""
    if path := find(record):
        return path
    ways = "name a file with --weights"
    if record.place == "face_recognition_models":
        ways = install_extra("dlib-models")
    elif record.made_from:
        ways = f"run `bin/weights fetch {record.name}`, or `bin/weights convert FILE` on a published file you have"
    elif record.url:
        ways = f"run `bin/weights fetch {record.name}`"
    raise WeightsError(f"the weights {record.name} are not here ({path_of(record)}): {ways}")


def weights_file(backbone: str) -> Path | None:
    """The file that a backbone reads where no other is named, where it is here."""
    return find(get_record(backbone))


def shipped_svm() -> Path:
    """The SVM that classifies where no model is named. Raises WeightsError where none ships."""
    path = find(get_record(DEFAULT_SVM))
    if path is None:
        raise WeightsError("no SVM ships with this copy: fit one with `bin/fit_svm`, and name it with --model")
    return path


def fetch(record: WeightsRecord) -> Path:
    """The record's file, downloaded and verified where it is not here yet; silent where it is.

    Resumes what an earlier call began. Waits for another process that fetches the same file. Where no hash is
    published no more is looked at than its first bytes, which tell the file from a page that was sent in its place.
    Its sha256 is kept beside it either way, and `verify` compares with that.

    Raises WeightsError where the file cannot be downloaded, or is not the published one: then nothing is left.
    """
    from filelock import FileLock

    target = path_of(record)
    if target.is_file():
        _sweep(target)
        return target
    if record.url is None:
        need(record)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not target.is_file():
                _download(record, target)
    except OSError as error:
        raise WeightsError(
            f"cannot write {target} ({error.strerror or error}): make room there or name another folder by "
            f"{ENVIRONMENT}, and run the same command to go on"
        ) from error
    return target


def _part_of(target: Path) -> Path:
    """Where a file gathers while it is downloaded."""
    return target.with_name(f".{target.name}.part")


def _sweep(target: Path) -> None:
    """Remove the archive of a call that was killed once the file it took out of it had its name."""
    if (part := _part_of(target)).exists():
        from featurepipe.download import Partial

        with suppress(OSError):  # a folder that cannot be written to: the file is here all the same
            Partial(part).delete()


def _download(record: WeightsRecord, target: Path) -> None:
    from featurepipe.download import Partial, download

    assert record.url is not None  # the caller has seen it
    partial = Partial(_part_of(target))
    try:
        download(record.url, partial, record.bytes)
        _install(record, partial, target)
    except WeightsError as error:
        raise WeightsError(f"{record.url}: {error}\n{_by_hand(record, target)}") from error


def _install(record: WeightsRecord, partial: Partial, target: Path) -> None:
    """Give a whole download its name where its hash is right; it stays only where that could not be done.

    The hash is noted first: killed in between, a note without a file does no harm, a file without one stays so.
    """
    try:
        _check(record, partial.path)
        if record.member:
            _extract(record, partial.path, target)
        else:
            with partial.path.open("rb") as stream:
                _check_start(record, stream.read(_START))
            _note(target, sha256_of(partial.path))
            os.replace(partial.path, target)
    except WeightsError:
        partial.delete()
        raise
    partial.delete()


def _by_hand(record: WeightsRecord, target: Path) -> str:
    inside = f"take {record.member} out of it, " if record.member else ""
    convert = f", or run `bin/weights convert FILE --layout {record.layout}` on it" if record.layout in LAYOUTS else ""
    return f"By hand: download it elsewhere, {inside}and put the file at {target}{convert}"


def _check(record: WeightsRecord, path: Path) -> None:
    """Raise WeightsError unless the hash of the download is the published one."""
    for algorithm, expected in (("sha256", record.sha256), ("md5", record.md5)):
        if expected and not (got := _digest(path, algorithm)).startswith(expected.lower()):
            raise WeightsError(f"{algorithm} is {got}; expected {expected}. The download was deleted")


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _check_start(record: WeightsRecord, start: bytes) -> None:
    """Raise WeightsError unless a file of the record's layout may begin with `start`."""
    if not start.startswith(FIRST_BYTES.get(record.layout, (b"",))):
        raise WeightsError(
            f"what came is no {record.layout} file (it begins with {start!r}): a login page or a proxy may have "
            "answered in the server's place. The download was deleted; open the address in a browser, and run the "
            "command again"
        )


def _extract(record: WeightsRecord, archive: Path, target: Path) -> None:
    """Write the record's file out of a tar archive to `target`; no other name in the archive is looked at."""
    name = record.member
    try:
        with tarfile.open(archive) as tar:
            stream = next((tar.extractfile(entry) for entry in tar if entry.name == name and entry.isfile()), None)
            if stream is None or tar.fileobj is None:
                raise WeightsError(f"the archive holds no file {name}")
            with replacing(target) as out:
                block, digest = stream.read(_START), hashlib.sha256()
                _check_start(record, block)
                while block:
                    digest.update(block)
                    out.write(block)
                    block = stream.read(CHUNK)
                while tar.fileobj.read(CHUNK):  # a compressed archive has its checksum at its end
                    pass
                _note(target, digest.hexdigest())
    except (tarfile.TarError, EOFError, ValueError, gzip.BadGzipFile, zlib.error) as error:
        raise WeightsError(f"the archive is damaged: {error}") from error


def _noted(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def note_hash(path: Path) -> str:
    """Write the sha256 of a file beside it, as sha256sum does, and return it."""
    return _note(path, sha256_of(path))


def _note(path: Path, digest: str) -> str:
    with replacing(_noted(path)) as stream:
        stream.write(f"{digest}  {path.name}\n".encode())
    return digest


def discard(path: Path) -> None:
    """Delete a file of the store and what is noted of it, so that it can be fetched again."""
    path.unlink(missing_ok=True)
    _noted(path).unlink(missing_ok=True)


def verify(record: WeightsRecord) -> tuple[State, str]:
    """Hash the record's file again.

    Returns
    -------
    Its sha256, and how that compares: `verified` equals the published hash; `unchanged` equals the hash noted when
    it was fetched or converted, where none is published of the file itself; `changed` equals neither; `unknown`
    has nothing to compare with. Raises WeightsError where the file is not here.
    """
    path = need(record)
    got = sha256_of(path)
    if not record.member and (record.sha256 or record.md5):
        expected = record.sha256 or record.md5 or ""
        same = (got if record.sha256 else _digest(path, "md5")).startswith(expected.lower())
        return ("verified" if same else "changed"), got
    noted = _noted(path)
    if not noted.is_file():
        return "unknown", got
    return ("unchanged" if noted.read_bytes().split()[:1] == [got.encode()] else "changed"), got
