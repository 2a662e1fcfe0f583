"""Frames of video files: exact numbers, one pass, damage, turns, and the whole way to a feature table."""

import csv
import errno
import io
import os
import pickle
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_helpers import run
from PIL import Image
from trees_sequences import mmi_session, write_clip

from featurepipe.content import content_of_file
from featurepipe.datasets.face_model import Identity
from featurepipe.datasets.readers import read_source
from featurepipe.datasets.synthetic import render_face, render_sequence
from featurepipe.errors import InputError, MissingPackageError
from featurepipe.faces import clips
from featurepipe.faces.detectors import DetectorSpec
from featurepipe.faces.finder import FaceFinder
from featurepipe.faces.images import PhotoError, turned
from featurepipe.faces.reading import SampleReader
from featurepipe.features.extraction import content_of
from featurepipe.features.stores import FaceStore, Found
from featurepipe.features.table import FeatureTable
from featurepipe.features.workers import _groups
from featurepipe.records import Face, FaceTask, Framing, Sample

CODECS = {
    "avi-mpeg4": ("mpeg4", "yuv420p", ".avi"),
    "avi-mjpeg": ("mjpeg", "yuvj420p", ".avi"),
    "mp4-h264": ("libx264", "yuv420p", ".mp4"),
    "mkv-ffv1": ("ffv1", "bgr0", ".mkv"),
}


def pictures(count=30, size=(96, 64)):
    """Pictures whose left part, up to a column that is their own, is bright on dark; grain makes their files large."""
    frames = np.random.default_rng(0).integers(0, 60, (count, size[1], size[0], 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[:, : 3 * number + 3] += 195
    return frames


def number_in(image):
    """The number, from 1, of one of pictures()."""
    return round((image[..., 1].mean(axis=0) > 127).sum() / 3)


@pytest.fixture(params=CODECS)
def clip(request, tmp_path):
    codec, pixels, extension = CODECS[request.param]
    return write_clip(tmp_path / f"clip{extension}", pictures(), codec=codec, pix_fmt=pixels)


def frame(path, number, **extra):
    return Sample(str(path), frame=number, extra=extra)


def status_of(sample):
    with pytest.raises(PhotoError) as caught:
        SampleReader().read(sample)
    return caught.value.status, str(caught.value)


def compared(path, expected):
    """Status of each frame of a clip; those that can be read must be bit-equal to the expected ones."""
    reader, statuses = SampleReader(), []
    for number, image in enumerate(expected, 1):
        try:
            statuses.append("ok" if np.array_equal(reader.read(frame(path, number)), image) else "differs")
        except PhotoError as error:
            statuses.append(error.status)
    return statuses


def test_frames_have_their_exact_numbers_in_any_order(clip):
    reader = SampleReader()
    for number in (1, 2, 3, 17, 30, 30, 5, 6, 29):
        assert number_in(reader.read(frame(clip, number))) == number


def test_frames_are_those_of_opencv(clip):
    capture, reader = cv2.VideoCapture(str(clip)), SampleReader()
    for number in range(1, 31):
        there, image = capture.read()
        assert there
        assert np.abs(image[..., ::-1].astype(int) - reader.read(frame(clip, number))).max() <= 2
    assert not capture.read()[0]


def test_a_frame_is_bit_equal_whatever_was_read_before(clip):
    one = SampleReader()
    in_order = [one.read(frame(clip, number)) for number in range(1, 31)]
    for number in (12, 4, 30):
        assert np.array_equal(SampleReader().read(frame(clip, number)), in_order[number - 1])


def test_lossless_pixels_come_back(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
    path = write_clip(tmp_path / "clip.avi", frames, codec="ffv1", pix_fmt="bgr0")
    for number in (1, 2, 3):
        assert np.array_equal(SampleReader().read(frame(path, number)), frames[number - 1])


def test_a_clip_in_order_is_opened_once_and_decoded_once(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(clips, "open_video", lambda stream, whole=clips.open_video: opened.append(1) or whole(stream))
    path = write_clip(tmp_path / "clip.avi", pictures())
    reader = SampleReader()
    for number in range(1, 31, 3):
        reader.read(frame(path, number), content_of(frame(path, number)))
    assert len(opened) == 1
    reader.read(frame(path, 2))
    assert len(opened) == 2


def test_processes_share_clips_out_and_decode_each_picture_once(tmp_path, monkeypatch):
    shown = []
    decoded = clips._Clip._decoded
    monkeypatch.setattr(clips._Clip, "_decoded", lambda *of: (shown.append(1) or picture for picture in decoded(*of)))
    paths = [write_clip(tmp_path / f"{name}.avi", pictures(count)) for name, count in enumerate((10, 3, 20, 7))]
    tasks = [
        FaceTask(frame(path, number), "") for path, count in zip(paths, (10, 3, 20, 7), strict=True)
        for number in range(1, count + 1)
    ]  # fmt: skip
    readers = [SampleReader(), SampleReader()]
    for number, group in enumerate(_groups(tasks, len(tasks) // len(readers))):
        for task in group:
            assert number_in(readers[number % 2].read(task.sample)) == task.sample.frame
    assert len(shown) == len(tasks)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at /proc")
def test_one_clip_is_open_at_a_time(tmp_path):
    reader = SampleReader()
    for name in range(8):
        reader.read(frame(write_clip(tmp_path / f"{name}.avi", pictures(3)), 2))
        opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        assert [path for path in opened if path.startswith(str(tmp_path))] == [str(tmp_path / f"{name}.avi")]
    reader.close()


@pytest.mark.parametrize("number", [0, -1, 31, 10**9])
def test_a_number_that_no_frame_has_is_unreadable(tmp_path, number):
    path = write_clip(tmp_path / "clip.avi", pictures())
    status, text = status_of(frame(path, number))
    assert status == "unreadable"
    assert str(number) in text


def test_of_a_clip_that_breaks_off_the_whole_frames_are_read(clip):
    whole = SampleReader()
    expected = [whole.read(frame(clip, number)) for number in range(1, 31)]
    data = clip.read_bytes()
    cut = clip.with_name(f"cut{clip.suffix}")
    cut.write_bytes(data[: len(data) * 2 // 3])
    statuses = compared(cut, expected)
    whole = statuses.index("unreadable")
    assert statuses == ["ok"] * whole + ["unreadable"] * (30 - whole)
    assert whole > 3 or clip.suffix == ".mp4"  # an MP4 keeps its index at the end


def test_damage_is_never_painted_over(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 6, 9, 3), np.uint8).repeat(20, 1).repeat(20, 2)
    path = write_clip(tmp_path / "clip.avi", noise, codec="mjpeg", pix_fmt="yuvj420p")
    expected = [SampleReader().read(frame(path, number)) for number in range(1, 9)]
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60] = np.random.default_rng(1).bytes(60)
    path.write_bytes(data)
    statuses = compared(path, expected)
    whole = statuses.index("unreadable")
    assert 1 <= whole < 8
    assert statuses == ["ok"] * whole + ["unreadable"] * (8 - whole)
    assert f"damaged after frame {whole}" in status_of(frame(path, 8))[1]


@pytest.mark.parametrize(
    "data",
    [b"", b"RIFF", b"no video at all" * 50, b"ffconcat version 1.0\nfile other.avi\n",
     b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.avi\n#EXT-X-ENDLIST\n"],
    ids=["empty", "four bytes", "text", "list of files", "playlist"],
)  # fmt: skip
def test_what_is_no_clip_is_unreadable_and_opens_nothing_else(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "other.avi", pictures(3))
    (tmp_path / "clip.avi").write_bytes(data)
    assert status_of(frame("clip.avi", 1))[0] == "unreadable"


def test_a_clip_without_a_frame_says_what_is_lacking(tmp_path):
    path = write_clip(tmp_path / "clip.AVI", pictures(2))
    status, text = status_of(Sample(str(path)))
    assert status == "unreadable"
    assert "column frame" in text


def test_a_clip_that_is_not_there_or_no_file(tmp_path):
    assert status_of(frame(tmp_path / "none.avi", 1))[0] == "missing"
    os.mkfifo(tmp_path / "pipe.avi")
    assert status_of(frame(tmp_path / "pipe.avi", 1))[0] == "unreadable"


def test_a_title_that_is_not_utf8_does_no_harm(tmp_path):
    path = write_clip(tmp_path / "clip.avi", pictures(2), title="caf@@")
    path.write_bytes(path.read_bytes().replace(b"caf@@", b"caf\xe9\xff"))
    assert number_in(SampleReader().read(frame(path, 2))) == 2


def test_too_many_pixels_are_not_decoded(tmp_path):
    path = write_clip(tmp_path / "clip.avi", pictures(2))
    with pytest.raises(PhotoError, match="96 x 64") as caught:
        SampleReader(pixel_limit=1000).read(frame(path, 1))
    assert caught.value.status == "too_large"
    reader = SampleReader(pixel_limit=1000)
    for number in (1, 2):
        with pytest.raises(PhotoError, match="96 x 64"):
            reader.read(frame(path, number))


class FaultyDisk(io.BytesIO):
    """A file that cannot be read beyond its first reads."""

    reads = 0

    def fileno(self):
        return 0

    def read(self, size=-1):
        self.reads -= 1
        if self.reads < 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("reads", [0, 2, 9])
def test_a_fault_of_the_disk_is_not_held_against_the_clip(tmp_path, monkeypatch, reads):
    """It comes while the file is hashed, opened or decoded."""
    path = write_clip(tmp_path / "clip.avi", pictures())
    disk = FaultyDisk(path.read_bytes())
    disk.reads = reads
    monkeypatch.setattr(clips, "open_regular", lambda path, limit: disk)
    with pytest.raises(PhotoError, match="Input/output error") as caught:
        SampleReader().read(frame(path, 30))
    assert (caught.value.status, caught.value.of_content) == ("unreadable", False)
    assert disk.closed == (reads == 0)
    monkeypatch.undo()
    with pytest.raises(PhotoError, match="the clip has 30") as caught:
        SampleReader().read(frame(path, 31))
    assert caught.value.of_content


def test_a_phones_clip_is_turned_as_it_says(tmp_path):
    frames = np.zeros((2, 64, 96, 3), np.uint8)
    frames[:, :32, :48] = 255  # top left
    path = write_clip(tmp_path / "clip.mp4", frames, rotation=-90)
    image = SampleReader().read(frame(path, 1))
    assert image.shape == (96, 64, 3)
    assert image[10, 60].min() > 200  # turned clockwise, the top left is the top right
    assert image[10, 10].max() < 50
    assert image[90, 60].max() < 50


def test_the_key_is_of_file_number_turns_and_box(tmp_path):
    path = write_clip(tmp_path / "clip.avi", pictures(3))
    copy = shutil.copy(path, tmp_path / "copy.avi")
    keys = {
        content_of(frame(path, 1)),
        content_of(frame(path, 2)),
        content_of(frame(path, 1, turns=[0, 90])),
        content_of(Sample(str(path), frame=1, box=Face(0, 0, 9, 9))),
        content_of_file(path.read_bytes()),
    }
    assert len(keys) == 5
    assert content_of(frame(copy, 1)) == content_of(frame(path, 1))


def test_a_clip_that_changes_is_noticed(tmp_path):
    path = write_clip(tmp_path / "clip.avi", pictures(5))
    other = write_clip(tmp_path / "other.avi", 255 - pictures(5))
    first, reader = content_of(frame(path, 1)), SampleReader()
    reader.read(frame(path, 1), first)
    path.write_bytes(other.read_bytes())
    with pytest.raises(PhotoError, match="changed since it was scanned"):
        reader.read(frame(path, 1), first)
    reader.read(frame(path, 1), content_of(frame(path, 1)))


def test_the_number_of_a_photo_in_a_sequence_does_not_make_it_a_clip(tmp_path):
    cv2.imwrite(str(tmp_path / "S1_7.png"), pictures(1)[0])
    sample = frame(tmp_path / "S1_7.png", 7)
    assert not sample.in_clip
    assert SampleReader().read(sample, content_of(sample)).shape == (64, 96, 3)


def test_without_pyav_one_error_names_it(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.avi", pictures(3))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"PyAV.*\[video\]"):
        SampleReader().read(frame(path, 1))


def find(finder, sample, known=None):
    return finder(FaceTask(sample, content_of(sample), known))


def test_a_clip_filmed_on_edge_is_turned_until_a_face_shows(tmp_path, face_picture):
    framing = Framing(64, "RGB")
    upright = write_clip(tmp_path / "upright.avi", [face_picture] * 2, codec="ffv1", pix_fmt="bgr0")
    on_edge = write_clip(tmp_path / "edge.avi", [turned(face_picture, 270)] * 2, codec="ffv1", pix_fmt="bgr0")
    finder = FaceFinder(DetectorSpec("hog"), framing, "largest")
    plain = find(finder, frame(upright, 1))
    found = find(finder, frame(on_edge, 2, turns=[0, 90]))
    assert plain.faces[0].turn == 0
    assert [face.turn for face in found.faces] == [90]
    assert np.array_equal(found.crops, plain.crops)
    assert find(finder, frame(on_edge, 1)).status == "no_face"
    assert find(finder, frame(upright, 1, turns=[0, 270])).faces == plain.faces
    again = find(pickle.loads(pickle.dumps(finder)), frame(on_edge, 2, turns=[0, 90]), found.faces)
    assert np.array_equal(again.crops, plain.crops)


@pytest.fixture(scope="module")
def face_picture():
    return render_face(Identity.draw(0, 0), "happiness", 1.0, size=(240, 320), rng=np.random.default_rng(0)).image


@pytest.fixture(scope="module")
def mmi_faces(tmp_path_factory):
    """MMI with rendered faces: an upright clip, one on edge, one that breaks off, and a file that is no clip."""
    root = tmp_path_factory.mktemp("mmi")
    for person, (code, emotion, degrees) in enumerate(((4, "happiness", 0), (6, "surprise", 270), (1, "anger", 0))):
        shots = render_sequence(
            Identity.draw(0, person), emotion, 8, size=(240, 320), rng=np.random.default_rng(person)
        )
        frames = [turned(shot.image, degrees) for shot in shots]
        mmi_session(
            root, 100 + person, f"S{person:03d}-001", code=code, write=lambda path, f=frames: write_clip(path, f)
        )
    clip = root / "Sessions/102/S002-001.avi"
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 3 // 4])
    return root


def test_clips_through_extract_to_a_table_and_again(mmi_faces, tmp_path, capsys):
    first = run(capsys, "extract", mmi_faces, "--frames", "all", "--table", tmp_path / "one", "--workers", 2)
    features = FeatureTable.open(tmp_path / "one").matrix()
    turns = {Path(path).name: int(turn) for path, turn in zip(features.path, features.turn, strict=True)}
    assert (turns["S000-001.avi"], turns["S001-001.avi"]) == (0, 90)
    assert first["statuses"]["ok"] == len(features) == first["photos"]
    second = run(capsys, "extract", mmi_faces, "--frames", "all", "--table", tmp_path / "one", "--workers", 0)
    assert (second["detections"], second["vectors"]) == (0, 0)
    assert second["statuses"] == first["statuses"]
    run(capsys, "extract", mmi_faces, "--frames", "all", "--table", tmp_path / "two", "--workers", 0)
    assert np.array_equal(FeatureTable.open(tmp_path / "two").matrix().X, features.X)


def test_a_clip_that_breaks_off_is_rows_with_a_status(mmi_faces, tmp_path, capsys):
    manifest = tmp_path / "frames.csv"
    clip = mmi_faces / "Sessions/102/S002-001.avi"
    (tmp_path / "no.avi").write_bytes(b"no clip")
    manifest.write_text("path,frame\n" + "".join(f"{clip},{n}\n" for n in range(1, 10)) + "no.avi,1\ngone.avi,1\n")
    run(capsys, "extract", manifest, "--table", tmp_path / "t", "--workers", 0)
    statuses = [row["status"] for row in FeatureTable.open(tmp_path / "t").samples().to_pylist()]
    whole = statuses.index("unreadable")
    assert 2 <= whole <= 7
    assert statuses == ["ok"] * whole + ["unreadable"] * (10 - whole) + ["missing"]


def test_pictures_of_frames_are_turned_as_their_faces(mmi_faces, tmp_path, capsys):
    run(capsys, "classify", mmi_faces, "--out", tmp_path / "out", "--pictures", "--workers", 0)
    sizes = {path.name.split("-", 1)[1]: Image.open(path).size for path in (tmp_path / "out/pictures").iterdir()}
    width, height = sizes["S001-001.png"]
    assert width < height
    with open(tmp_path / "out/predictions.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[-4:] == ["truth", "sequence", "frame", "turn"]
    turns = {(row["frame"], row["turn"]) for row in rows if "S001" in row["path"]}
    assert turns == {("1", "90"), ("3", "90"), ("4", "90"), ("5", "90")}


def test_boxes_of_older_tables_are_not_turned(tmp_path):
    box = {"left": 1, "top": 2, "right": 3, "bottom": 4, "score": 0.5}
    faces = pa.list_(pa.struct([*((side, pa.int32()) for side in list(box)[:4]), ("score", pa.float64())]))
    schema = pa.schema([*((name, pa.string()) for name in ("content", "status", "error")), ("faces", faces)])
    rows = [{"content": "a", "status": "ok", "error": "", "faces": [box]}]
    rows.append({"content": "b", "status": "no_face", "error": "none", "faces": []})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "part-00000.parquet")
    store = FaceStore.open(tmp_path)
    assert store["a"].faces == (Face(1, 2, 3, 4, 0.5, 0),)
    store.append({"c": Found("ok", "", (Face(1, 2, 3, 4, 0.5, 270),))})
    again = FaceStore.open(tmp_path)
    assert [face.turn for key in "abc" for face in again[key].faces] == [0, 270]


# A film as SOURCE


def test_a_film_is_its_frames(tmp_path, capsys):
    film, table = write_clip(tmp_path / "a film.mp4", pictures(7)), tmp_path / "t"
    words = ("--table", table, "--backbone", "hog", "--detector", "none", "--workers", 0)
    assert run(capsys, "extract", film, *words)["photos"] == 7
    features = FeatureTable.open(table).matrix()
    assert features.frame.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert set(features.sequence) == {"a film"}
    assert len(np.unique(features.X, axis=0)) == 7


def test_a_file_that_is_no_film_is_refused_and_a_folder_of_films_says_what_to_do(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(InputError, match=r"broken\.mp4 has no frame that can be read: no video file"):
        read_source(tmp_path / "broken.mp4")
    Image.new("L", (32, 32)).save(tmp_path / "photo.png")
    assert any(note.startswith("1 of them are films: give one as SOURCE") for note in read_source(tmp_path).notes)
