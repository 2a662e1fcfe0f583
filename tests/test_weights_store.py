"""The weights store: records, places, verified download from a loopback server that misbehaves, and the command."""

from __future__ import annotations

import argparse
import errno
import functools
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import pytest
from vgg_formats_helpers import SMALL, seeded_network, write_caffemodel, write_pth

from featurepipe import download as transport
from featurepipe import weights
from featurepipe.commands import weights as command
from featurepipe.conversion import convert
from featurepipe.errors import InputError, WeightsError
from featurepipe.names import BACKBONES, LAYOUTS
from featurepipe.weights import WeightsRecord, fetch, find, get_record, path_of, records, store_folder, verify

CONTENT = (b"PK\x03\x04" + bytes(range(256)) * 2000)[:512_000]
PAGE = b"<!DOCTYPE html><html><body>Accept our terms to go online</body></html>"


class Server(ThreadingHTTPServer):
    """Serves `content` under every path and notes the Range of each request.

    cuts : how many answers break off after `cut_at` bytes of their body
    ranges : whether Range is obeyed; etag : sent where it is not empty; status : sent instead of content
    part : answers the next request for a part in its own way: its start -> (body, headers)
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.status = CONTENT, '"one"', 200
        self.cuts, self.cut_at, self.ranges, self.hang = 0, 100_000, True, False
        self.part: Callable[[int], tuple[bytes, dict[str, str]]] | None = None
        self.requests: list[str | None] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/net.bin"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append(wanted)
        self.close_connection = True
        if server.hang:
            server.released.wait(10)
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if start and server.part:
            self.answer_with(*server.part(start))
            server.part = None
        else:
            self.answer(start)

    def answer_with(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(206)
        for name, value in {"ETag": self.server.etag, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def answer(self, start: int) -> None:
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            size = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts:
            self.server.cuts -= 1
            body = body[: self.server.cut_at]
        with suppress(ConnectionError):  # a client that has seen enough hangs up
            self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transport, "PAUSE", 0.001)
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.released.set()
        running.shutdown()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    monkeypatch.setenv(weights.ENVIRONMENT, str(folder))
    return folder


def record_of(url: str, **changes) -> WeightsRecord:
    record = WeightsRecord(
        name="net",
        backbone="vgg-face",
        file="net.bin",
        place="store",
        layout="vgg_face_mcn",
        licence="none",
        source="a test",
        url=url,
        bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    return replace(record, **changes)


def left_in(store: Path) -> set[str]:
    """Names in the store, locks apart."""
    return {path.name for path in store.iterdir() if path.suffix != ".lock"}


# Download ------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_once(server: Server, store: Path) -> None:
    record = record_of(server.url)
    assert find(record) is None
    assert fetch(record) == store / "net.bin"
    assert (store / "net.bin").read_bytes() == CONTENT
    assert left_in(store) == {"net.bin", "net.bin.sha256"}
    assert fetch(record) == find(record) == store / "net.bin"
    assert server.requests == [None]


def test_nothing_is_said_when_the_file_is_here(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(record_of(server.url))
    capfd.readouterr()
    fetch(record_of(server.url))
    assert capfd.readouterr() == ("", "")


def test_a_cut_connection_is_taken_up_where_it_broke(server: Server, store: Path) -> None:
    server.cuts = 3
    fetch(record_of(server.url))
    assert (store / "net.bin").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


@pytest.mark.parametrize(
    "part",
    [
        lambda start: (CONTENT[200_000:], {"Content-Range": f"bytes 200000-{len(CONTENT) - 1}/{len(CONTENT)}"}),
        lambda start: (CONTENT[start:], {}),
        lambda start: (
            bytes(len(CONTENT) - start),
            {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"two"'},
        ),
        lambda start: (CONTENT[start : start + 9], {"Content-Range": f"bytes {start}-{start + 8}/{len(CONTENT)}"}),
    ],
    ids=["another place", "no place", "another version", "less"],
)
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_was_not_asked_for_does_not_pass_for_the_file(
    part: Callable[[int], tuple[bytes, dict[str, str]]], size: int | None, server: Server, store: Path
) -> None:
    server.cuts, server.part = 1, part
    path = fetch(record_of(server.url, bytes=size, sha256=None))
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server: Server, store: Path) -> None:
    server.cuts, server.ranges = 2, False
    fetch(record_of(server.url))
    assert (store / "net.bin").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=100000-"]


def test_without_a_version_nothing_is_resumed(server: Server, store: Path) -> None:
    server.cuts, server.etag = 1, ""
    fetch(record_of(server.url, sha256=None))
    assert (store / "net.bin").read_bytes() == CONTENT
    assert server.requests == [None, None]


def test_a_connection_that_always_breaks_ends_and_the_next_call_goes_on(server: Server, store: Path) -> None:
    server.cuts, server.cut_at = 1000, 10_000
    with pytest.raises(WeightsError, match=f"broke off {transport.ATTEMPTS} times.*: 60,000 of 512,000 bytes"):
        fetch(record_of(server.url))
    assert len(server.requests) == transport.ATTEMPTS
    assert not (store / "net.bin").exists()
    server.cuts = 0
    fetch(record_of(server.url))
    assert server.requests[-1] == f"bytes={10_000 * transport.ATTEMPTS}-"
    assert (store / "net.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("damage", ['"one"'.encode("utf-16"), '"one"'.encode("utf-16-le"), b"\xff", b'"one"\r\n'])
def test_a_part_whose_version_is_damaged_is_fetched_anew(damage: bytes, server: Server, store: Path) -> None:
    server.cuts = transport.ATTEMPTS
    server.cut_at = 10_000
    with pytest.raises(WeightsError):
        fetch(record_of(server.url))
    (version,) = store.rglob("*.version")
    version.write_bytes(damage)
    fetch(record_of(server.url))
    assert server.requests[-1] is None
    assert (store / "net.bin").read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_fetched_whole(server: Server, store: Path) -> None:
    server.cuts, server.cut_at = 1000, 10_000
    other = CONTENT[:4] + CONTENT[:3:-1]
    with pytest.raises(WeightsError):
        fetch(record_of(server.url, sha256=None))
    server.cuts, server.content, server.etag = 0, other, '"two"'
    fetch(record_of(server.url, sha256=None))
    assert (store / "net.bin").read_bytes() == other


def test_a_wrong_file_leaves_nothing_and_says_expected_and_got(server: Server, store: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    expected, got = (hashlib.sha256(data).hexdigest() for data in (CONTENT, server.content))
    with pytest.raises(WeightsError, match=rf"sha256 is {got}; expected {expected}"):
        fetch(record_of(server.url))
    assert left_in(store) == set()
    md5 = hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(WeightsError, match=rf"md5 is \w+; expected {md5}"):
        fetch(record_of(server.url, sha256=None, md5=md5))
    assert left_in(store) == set()


def test_a_file_of_another_size_is_refused_before_it_is_downloaded(server: Server, store: Path) -> None:
    server.content = CONTENT * 2
    with pytest.raises(WeightsError, match="offers 1,024,000 bytes; expected 512,000"):
        fetch(record_of(server.url))
    assert left_in(store) == set()


def test_first_digits_of_a_hash_are_compared(server: Server) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    fetch(record_of(server.url, sha256=digest[:8]))
    with pytest.raises(WeightsError, match="expected 12345678"):
        fetch(record_of(server.url, sha256="12345678", file="other.bin"))


def test_a_page_in_the_place_of_a_file_without_a_published_hash_is_not_installed(server: Server, store: Path) -> None:
    """What a captive portal answers, with status 200, to every address."""
    record = record_of(server.url, sha256=None, bytes=None)
    server.content = PAGE
    with pytest.raises(
        WeightsError, match=r"is no vgg_face_mcn file \(it begins with b'<!DOCTYPE html>.*run the command"
    ):
        fetch(record)
    with pytest.raises(WeightsError, match="is no vgg_face_mcn file"):
        fetch(archive_record(server, archive_of({"net/net.bin": PAGE})))
    assert left_in(store) == set()
    server.content = CONTENT
    assert fetch(record).read_bytes() == CONTENT


def test_a_missing_page_is_told_at_once(server: Server) -> None:
    server.status = 404
    with pytest.raises(WeightsError, match="404"):
        fetch(record_of(server.url))
    assert len(server.requests) == 1


def test_a_server_in_trouble_is_asked_again(server: Server) -> None:
    server.status = 503
    with pytest.raises(WeightsError, match="503"):
        fetch(record_of(server.url))
    assert len(server.requests) == transport.ATTEMPTS


def test_a_server_that_hangs_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 0.1)
    server.hang = True
    with pytest.raises(WeightsError, match="timed out"):
        fetch(record_of(server.url))
    assert len(server.requests) == transport.ATTEMPTS


def test_offline_names_the_url_the_target_and_convert(store: Path) -> None:
    with socket.socket() as unused:  # bound and not listening: refuses
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/net.bin"
        with pytest.raises(WeightsError) as caught:
            fetch(record_of(url))
    text = str(caught.value)
    assert url in text
    assert str(store / "net.bin") in text
    assert "bin/weights convert FILE --layout vgg_face_mcn" in text


def test_two_fetches_at_once_download_once(server: Server, store: Path) -> None:
    record, results = record_of(server.url), []
    threads = [threading.Thread(target=lambda: results.append(fetch(record))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [store / "net.bin"] * 4
    assert server.requests == [None]
    assert (store / "net.bin").read_bytes() == CONTENT


def test_a_whole_part_left_by_a_kill_is_only_checked(server: Server, store: Path) -> None:
    store.mkdir()
    (store / ".net.bin.part").write_bytes(CONTENT)
    (store / ".net.bin.part.version").write_text(server.etag)
    fetch(record_of(server.url))
    assert (store / "net.bin").read_bytes() == CONTENT
    assert server.requests == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, store: Path) -> None:
    store.mkdir()
    (store / ".net.bin.part").write_bytes(CONTENT + b"more")
    (store / ".net.bin.part.version").write_text(server.etag)
    fetch(record_of(server.url))
    assert (store / "net.bin").read_bytes() == CONTENT


def test_the_folder_cannot_be_written(server: Server, store: Path) -> None:
    store.write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="cannot write"):
        fetch(record_of(server.url))


def test_a_disk_that_refuses_is_no_cut_connection(server: Server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, block: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, *how, **more: Full() if "ab" in how else opened(path, *how, **more))
        with pytest.raises(WeightsError, match=r"cannot write .*net.bin \(No space left on device\): make room"):
            fetch(record_of(server.url))
    assert server.requests == [None]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_whole_download_that_could_not_be_installed_stays(
    error: BaseException, server: Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(weights, "_check", Mock(side_effect=error))
        with pytest.raises((KeyboardInterrupt, WeightsError)):
            fetch(record_of(server.url))
    fetch(record_of(server.url))
    assert (store / "net.bin").read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={len(CONTENT)}-"]
    assert left_in(store) == {"net.bin", "net.bin.sha256"}


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.mark.parametrize("archive", [False, True], ids=["a file", "an archive"])
def test_killed_as_the_file_gets_its_name_nothing_is_left_over_and_its_hash_is_noted(
    archive: bool, server: Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(server.url, sha256=None, bytes=None)
    if archive:
        record = replace(archive_record(server, archive_of({"net/net.bin": CONTENT})), md5=None)
    renamed = os.replace

    def dying(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> None:
        renamed(old, new)
        if Path(new).name == "net.bin":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(Killed):
            fetch(record)
    assert verify(record)[0] == "unchanged"
    assert fetch(record).read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert {name for name in left_in(store) if not name.endswith(".version")} == {"net.bin", "net.bin.sha256"}


# Archives ------------------------------------------------------------------------------------------------------


def archive_of(members: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    return buffer.getvalue()


def archive_record(server: Server, content: bytes) -> WeightsRecord:
    server.content = content
    md5 = hashlib.md5(content).hexdigest()
    return record_of(server.url, member="net/net.bin", sha256=None, md5=md5, bytes=None)


def test_one_member_is_taken_out_of_an_archive(server: Server, store: Path, tmp_path: Path) -> None:
    content = archive_of({"../evil": b"x", "/tmp/evil": b"x", "net/net.bin": CONTENT, "net/README": b"y"})
    fetch(archive_record(server, content))
    assert (store / "net.bin").read_bytes() == CONTENT
    assert left_in(store) == {"net.bin", "net.bin.sha256"}
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "content",
    [archive_of({"net.bin": CONTENT}), archive_of({}, link="net/net.bin"), archive_of({"net/net.bin": CONTENT})[:1000]],
    ids=["another name", "a link", "truncated"],
)
def test_archives_without_the_member_are_refused(content: bytes, server: Server, store: Path) -> None:
    with pytest.raises(WeightsError, match="archive"):
        fetch(archive_record(server, content))
    assert not (store / "net.bin").exists()


@pytest.mark.parametrize("place", [-300, -6], ids=["a number in it", "its checksum"])
def test_a_damaged_archive_without_a_published_hash_is_told(place: int, server: Server, store: Path) -> None:
    content = bytearray(archive_of({"net/net.bin": CONTENT}))
    content[place] ^= 0xFF
    with pytest.raises(WeightsError, match="the archive is damaged"):
        fetch(replace(archive_record(server, bytes(content)), md5=None))
    assert left_in(store) == set()


# Records, places, verify ---------------------------------------------------------------------------------------


def test_what_ships_is_what_the_manifest_says() -> None:
    shipped = [record for record in records().values() if record.shipped]
    assert {record.name for record in shipped} == {"fer-vgg", "fer-vgg-svm"}
    for record in shipped:
        content = path_of(record).read_bytes()
        assert (record.bytes, record.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert sum(record.bytes or 0 for record in shipped) <= 24_000_000


def test_the_manifest_is_whole() -> None:
    assert {record.backbone for record in records().values()} <= set(BACKBONES)
    assert set(LAYOUTS) <= set(records())
    assert records()["vgg-face"].made_from[0] == "vgg_face_caffe"
    assert {record.layout for record in records().values() if record.url} == set(weights.FIRST_BYTES)
    for record in records().values():
        assert set(record.made_from) <= set(records())
        assert record.licence
        assert record.source
        assert record.trained_on
    with pytest.raises(InputError, match="vgg_face_keras"):
        get_record("nothing")


def test_the_folder_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path / "a"))
    assert store_folder() == tmp_path / "a"
    monkeypatch.delenv(weights.ENVIRONMENT)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert store_folder() == tmp_path / "cache" / "featurepipe" / "weights"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert store_folder() == tmp_path / "local" / "featurepipe" / "weights"


def test_verify_tells_good_from_changed(server: Server, store: Path) -> None:
    published, unpublished = record_of(server.url), record_of(server.url, file="b.bin", sha256=None)
    fetch(published)
    fetch(unpublished)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert verify(published) == ("verified", digest)
    assert verify(unpublished) == ("unchanged", digest)
    for name in ("net.bin", "b.bin"):
        (store / name).write_bytes(CONTENT[1:])
    assert verify(published)[0] == verify(unpublished)[0] == "changed"
    (store / "b.bin.sha256").unlink()
    assert verify(unpublished)[0] == "unknown"
    (store / "b.bin.sha256").write_text(f"{digest}  b.bin\n", encoding="utf-16")  # as PowerShell writes text
    assert verify(unpublished)[0] == "changed"
    with pytest.raises(WeightsError, match="bin/weights fetch net"):
        verify(record_of(server.url, file="c.bin"))


# The command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let convert expect a network that is quick to write."""
    monkeypatch.setattr(convert, "convert", functools.partial(convert.convert, widths=SMALL))


def run(action: str, **options) -> int:
    defaults = {"name": None, "file": None, "layout": None, "out": None, "json": True}
    return command.run(argparse.Namespace(action=action, **{**defaults, **options}))


def test_list_shows_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(records())
    assert rows["vgg_face_caffe"]["state"] == "not here"
    assert rows["vgg_face_caffe"]["md5"] == "ee707ac6e890bc148cb155adeaad12be"
    assert run("list", json=False) == 0
    assert "vgg_face_torch7" in capsys.readouterr().out


@pytest.mark.usefixtures("small_networks")
def test_fetch_of_a_release_also_converts_it(
    server: Server,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = write_caffemodel(tmp_path / "m", seeded_network()).read_bytes()
    server.content = archive_of({"vgg_face_caffe/VGG_FACE.caffemodel": model})
    record = replace(get_record("vgg_face_caffe"), url=server.url, md5=hashlib.md5(server.content).hexdigest())
    monkeypatch.setitem(records(), "vgg_face_caffe", record)
    assert run("fetch", name="vgg-face") == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(store / "vgg-face.safetensors")
    assert run("fetch", name="vgg-face") == 0
    assert len(server.requests) == 1
    capsys.readouterr()
    assert run("verify") == 0
    rows = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert rows["vgg-face"] == rows["vgg_face_caffe"] == "unchanged"
    original = store / record.file
    assert run("fetch", name="vgg_face_caffe") == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "vgg_face_caffe",
        "path": str(original),
        "state": "unchanged",
        "sha256": hashlib.sha256(original.read_bytes()).hexdigest(),
        "converted": str(store / "vgg-face.safetensors"),
    }
    with (store / "vgg-face.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"?")
    assert run("verify", name="vgg-face") == 2
    assert run("fetch", name="vgg-face") == 2


@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize("name", ["vgg_face_mcn", "vgg-face"])
def test_a_release_that_cannot_be_converted_does_not_stay_in_the_way(
    name: str, server: Server, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = "vgg_face_mcn" if name != "vgg-face" else "vgg_face_caffe"
    published = replace(get_record("vgg_face_mcn"), name=release, url=server.url)
    monkeypatch.setitem(records(), release, published)
    path = path_of(published)
    with pytest.raises(WeightsError, match=rf"(?s){path.name} was deleted: run the same command again.*vgg_face_keras"):
        run("fetch", name=name)
    assert left_in(store) == set()
    path.write_bytes(CONTENT)  # by hand
    with pytest.raises(WeightsError, match=rf"(?s)delete {path}, and run the same command again"):
        run("fetch", name=name)
    assert path.read_bytes() == CONTENT
    path.unlink()
    server.content = write_pth(tmp_path / "m", seeded_network()).read_bytes()
    assert run("fetch", name=name) == 0


@pytest.mark.usefixtures("small_networks")
def test_convert_goes_to_the_store_and_is_found_there(store: Path, tmp_path: Path) -> None:
    model = write_caffemodel(tmp_path / "VGG_FACE.caffemodel", seeded_network())
    assert run("convert", file=str(model)) == 0
    assert find(get_record("vgg-face")) == store / "vgg-face.safetensors"
    assert run("convert", file=str(model), layout="vgg_face_caffe", out=str(tmp_path / "mine.safetensors")) == 0
    assert (tmp_path / "mine.safetensors").read_bytes() == (store / "vgg-face.safetensors").read_bytes()
    with pytest.raises(InputError, match="over itself"):
        run("convert", file=str(model), out=str(model))
    with pytest.raises(WeightsError, match="cannot read"):
        run("convert", file=str(tmp_path / "none"))
