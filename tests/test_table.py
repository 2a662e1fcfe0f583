"""The feature table on disk: its files, its one writer, damage, pruning, reading back and exporting."""

import csv
import errno
import io
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extraction_helpers import (
    FACE_HALF,
    FRAMING,
    FakeBackbone,
    FakeFinder,
    expected_vector,
    write_photo,
    write_photos,
)
from scipy.io import loadmat

from featurepipe.commands.predictions import Predictions
from featurepipe.errors import InputError, RecipeMismatch, TableError
from featurepipe.features import stores
from featurepipe.features.export import WRITERS, export
from featurepipe.features.extraction import extract
from featurepipe.features.pixels import Pixels
from featurepipe.features.stores import CutFace, DamagedPart, FaceStore, Found, VanishedPart, VectorStore, make_store
from featurepipe.features.table import Features, FeatureTable, check_folder, prune, writing
from featurepipe.names import EXPORTS
from featurepipe.recipe import BOX_KEYS, FACE_KEYS, compare_feature_halves, face_half_notes
from featurepipe.records import Face, Framing, Sample, choose


def fill(folder, samples, backbone=None, **options):
    half = {**FACE_HALF, **options.pop("half", {})}
    finder = FakeFinder(str(folder / "log"), half["policy"], half["margin"])
    options = {"batch_size": 4, "part_rows": 8, **options}
    return extract(samples, folder / "table", finder, backbone or FakeBackbone(), half, **options)


@pytest.fixture
def filled(tmp_path):
    """A folder with 20 photos in a table of three parts (17 faces)."""
    samples = write_photos(tmp_path / "photos", 20)
    fill(tmp_path, samples)
    return tmp_path, samples


def part(folder, store, number=1, suffix=".parquet"):
    (path,) = (folder / "table" / store).glob(f"*/part-{number:05d}{suffix}")
    return path


# The files, as design.md says


def test_the_folder_is_as_documented(filled):
    folder, _ = filled
    table = folder / "table"
    files = sorted(str(path.relative_to(table)) for path in table.rglob("*") if path.is_file())
    (faces,) = {Path(name).parts[1] for name in files if name.startswith("faces")}
    (vectors,) = {Path(name).parts[1] for name in files if name.startswith("vectors")}
    assert faces.startswith("fake-")
    assert vectors.startswith("fake-")
    assert [name for name in files if name.startswith("vectors")] == [
        *(f"vectors/{vectors}/part-0000{i}.{kind}" for i in range(3) for kind in ("npy", "parquet")),
        f"vectors/{vectors}/recipe.json",
    ]
    assert json.loads((table / "vectors" / vectors / "recipe.json").read_text()) == FakeBackbone().recipe()
    assert json.loads((table / "faces" / faces / "recipe.json").read_text()) == {k: FACE_HALF[k] for k in BOX_KEYS}


def test_a_part_opens_with_numpy_and_parquet_alone(filled):
    folder, _ = filled
    vectors = np.load(part(folder, "vectors", 2, ".npy"), mmap_mode="r")
    rows = pq.read_table(part(folder, "vectors", 2))
    assert (vectors.dtype, vectors.shape) == (np.float32, (1, 6))
    assert rows.column_names == ["content", "face", "left", "top", "right", "bottom", "margin"]
    assert rows.num_rows == 1


def test_what_a_part_was_made_with_is_recorded(tmp_path):
    fill(tmp_path, write_photos(tmp_path / "photos", 1), made_with={"device": "cpu"})
    metadata = pq.read_schema(part(tmp_path, "vectors", 0)).metadata
    assert json.loads(metadata[b"made_with"]) == {"device": "cpu"}


def test_samples_hold_the_current_source(tmp_path):
    extra = {"view": 45, "gaze": "links", "votes": [1, 0.5, None]}
    photo = replace(write_photo(tmp_path / "é.jpg", 1), split="train", sequence="S1", frame=7, role="apex", extra=extra)
    fill(tmp_path, [photo, Sample(str(tmp_path / "absent.jpg"))])
    rows = FeatureTable.open(tmp_path / "table").samples().to_pylist()
    content = rows[0].pop("content")
    assert len(content) == 64
    assert json.loads(rows[0].pop("extra")) == extra
    assert rows[0] == {
        "path": photo.path,
        "label": "anger",
        "raw_label": "Angry",
        "subject": "s1",
        "split": "train",
        "sequence": "S1",
        "frame": 7,
        "status": "ok",
        "error": "",
        "role": "apex",
        "origin": None,
    }
    assert rows[1]["status"] == "missing"
    assert (rows[1]["content"], rows[1]["role"], rows[1]["extra"]) == (None, None, None)
    assert FeatureTable.open(tmp_path / "table").matrix().role.tolist() == ["apex"]
    fill(tmp_path, [photo])
    assert FeatureTable.open(tmp_path / "table").samples().num_rows == 1


def test_tables_from_before_roles_were_kept_open(filled):
    folder, samples = filled
    path = folder / "table" / "samples.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["role", "extra", "origin"]), path)
    table = FeatureTable.open(folder / "table")
    assert len(table.samples()) == len(samples)
    assert set(table.samples()["extra"].to_pylist()) == {None}
    assert set(table.matrix().role) == {None}
    again = fill(folder, [replace(sample, role="still") for sample in samples])
    assert again.forwards == 0
    assert set(table.samples()["role"].to_pylist()) == {"still"}


# Reading back


def test_names_that_are_not_utf8_keep_their_rows(tmp_path):
    """One such file name must not lose the whole run; the surrogate in it fits into no Parquet."""
    (sample,) = write_photos(tmp_path / "photos", 1)
    odd = replace(sample, path=str(tmp_path / "caf\udce9.jpg"), subject="s\udce9")
    Path(sample.path).rename(odd.path)
    assert fill(tmp_path, [odd]).statuses == {"ok": 1}
    samples = FeatureTable.open(tmp_path / "table").samples()
    assert samples["path"].to_pylist() == [str(tmp_path) + r"/caf\udce9.jpg"]
    assert samples["subject"].to_pylist() == [r"s\udce9"]


def test_one_part_in_order_is_memory_mapped(tmp_path):
    fill(tmp_path, write_photos(tmp_path / "photos", 20), part_rows=100)
    features = FeatureTable.open(tmp_path / "table").matrix()
    assert isinstance(features.X, np.memmap)
    np.testing.assert_array_equal(features.X, np.load(part(tmp_path, "vectors", 0, ".npy")))


def test_rows_follow_source_whatever_the_order_of_parts(filled):
    folder, samples = filled
    before = FeatureTable.open(folder / "table").matrix()
    order = np.random.default_rng(1).permutation(20)
    fill(folder, [samples[i] for i in order])
    after = FeatureTable.open(folder / "table").matrix()
    by_path = dict(zip(before.path, before.X, strict=True))
    assert after.path.tolist() == [samples[i].path for i in order if samples[i].path in by_path]
    for path, vector, sample in zip(after.path, after.X, after.sample, strict=True):
        np.testing.assert_array_equal(vector, by_path[path])
        assert samples[order[sample]].path == path


def test_vectors_are_chosen_by_name_store_or_recipe(filled):
    folder, samples = filled
    fill(folder, samples, FakeBackbone(3, "other"))
    table = FeatureTable.open(folder / "table")
    assert [name.partition("-")[0] for name in table.stores()] == ["other", "fake"]
    assert table.feature_half["backbone"] == "other"
    for choice in ("fake", table.stores()[1], FakeBackbone().recipe()):
        assert table.matrix(choice).X.shape == (17, 6)
    with pytest.raises(TableError, match=r"does not hold 'vgg-face': choose one of other-\w+, fake-\w+$"):
        table.matrix("vgg-face")


def test_a_name_that_fits_two_stores_is_not_guessed(filled):
    folder, samples = filled
    for size in (4, 5):
        fill(folder, samples[:0], Pixels(Framing(size, "RGB", margin=0.25)))
    table = FeatureTable.open(folder / "table")
    with pytest.raises(TableError, match=r"more than one store of 'pixels': .*pixels-\w+.*pixels-\w+"):
        table.matrix("pixels")
    assert len(table.matrix(Pixels(FRAMING).recipe())) == 0


def test_vectors_that_are_not_there_for_every_photo_are_refused(filled):
    folder, samples = filled
    extra = [*samples, write_photo(folder / "new.jpg", 99)]
    fill(folder, extra, FakeBackbone(3, "other"))
    with pytest.raises(TableError, match=r"1 faces or photos .* run extract"):
        FeatureTable.open(folder / "table").matrix("fake")
    with pytest.raises(TableError, match=r"18 faces or photos .*margin 0.5"):
        FeatureTable.open(folder / "table").matrix(face_half={**FACE_HALF, "margin": 0.5})


@pytest.mark.parametrize("policy", ["Largest", "", "both"])
def test_an_unknown_policy_is_not_taken_for_all(filled, policy):
    folder, _ = filled
    with pytest.raises(InputError, match=f"unknown policy '{policy}': expected one of largest, all"):
        FeatureTable.open(folder / "table").matrix(policy=policy)


def test_some_rows_are_spread_over_all(filled):
    table = FeatureTable.open(filled[0] / "table")
    all_rows, some = table.matrix(), table.matrix(most=5)
    np.testing.assert_array_equal(some.X, all_rows.X[[0, 4, 8, 12, 16]])
    assert some.path.tolist() == all_rows.path[[0, 4, 8, 12, 16]].tolist()
    assert some.coverage == all_rows.coverage
    assert len(table.matrix(most=100)) == 17


def test_a_table_and_its_rows_print_as_a_line(filled, monkeypatch):
    folder, _ = filled
    monkeypatch.chdir(folder)
    table = FeatureTable.open("table")
    assert repr(table) == "FeatureTable('table', 20 photos)"
    assert repr(table.matrix()) == "Features(17 x 6, fake)"
    (folder / "table" / "samples.parquet").unlink()
    assert repr(table) == "FeatureTable('table', unreadable photos)"


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"format": 999}', '{"format": 1}', '{"format": 1, "features": {}}'),
        '{"format": 1, "current": "gone-12345678", "features": {}}',
        '{"format": 1, "current": [], "features": {}}',
        '{"format": 1, "current": "a", "features": {"a": {"face_half": {}, "feature_half": {"backbone": "hog"}}}}',
        '{"format": 1, "current": "a", "features": {"a": 1}}',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_table_of_another_format_or_damaged_is_refused(filled, text):
    folder, samples = filled
    (folder / "table" / "table.json").write_text(text)
    with pytest.raises(TableError, match=r"table\.json"):
        FeatureTable.open(folder / "table")
    with pytest.raises(TableError, match=r"table\.json"):
        fill(folder, samples)


def test_what_is_no_table_is_said(tmp_path):
    with pytest.raises(TableError, match="not a feature table: make one"):
        FeatureTable.open(tmp_path)
    with pytest.raises(TableError, match="not a feature table"):
        FeatureTable.open(tmp_path / "nowhere")


def test_a_folder_of_other_things_is_not_written_to(tmp_path):
    photo = write_photo(tmp_path / "table" / "holiday.jpg", 1)
    with pytest.raises(TableError, match=r"holiday\.jpg"):
        fill(tmp_path, [photo])
    assert [path.name for path in (tmp_path / "table").iterdir()] == ["holiday.jpg"]
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="cannot use"), writing(tmp_path / "file", FACE_HALF, {"backbone": "b"}):
        pass


# Damage


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def _garble(path):
    path.write_bytes(b"garbage" * 50)


def _empty(path):
    path.write_bytes(b"")


def _flip(path):
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)


def _unclose(path):
    path.write_bytes(path.read_bytes().replace(b", }", b",  ", 1))


def _shorten_rows(path):
    path.write_bytes(path.read_bytes().replace(b"(8, 6)", b"(8, 5)", 1))


def _lose_boxes(path):
    table = pq.read_table(path)
    rows = table.to_pylist()
    for face in (face for row in rows for face in row["faces"]):
        face["left"] = None
    pq.write_table(table.from_pylist(rows, table.schema), path)


@pytest.mark.parametrize(
    ("store", "suffix", "damage"),
    [
        ("faces", ".parquet", _lose_boxes),
        ("vectors", ".npy", _unclose),
        ("vectors", ".npy", _shorten_rows),
        ("vectors", ".npy", _cut),
        ("vectors", ".npy", _garble),
        ("vectors", ".npy", _empty),
        ("vectors", ".npy", Path.unlink),
        ("vectors", ".parquet", _cut),
        ("vectors", ".parquet", _garble),
        ("vectors", ".parquet", _flip),
        ("faces", ".parquet", _cut),
        ("faces", ".parquet", _empty),
        ("faces", ".parquet", _flip),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).strip("_"),
)
def test_a_damaged_part_is_named_and_the_next_extract_mends_it(filled, store, suffix, damage):
    folder, samples = filled
    before = FeatureTable.open(folder / "table").matrix()
    path = part(folder, store, 1, suffix)
    damage(path)
    with pytest.raises(DamagedPart, match=rf"{path.parent.name}/part-00001\.parquet is damaged .*[Rr]un extract"):
        FeatureTable.open(folder / "table").matrix()
    summary = fill(folder, samples)
    after = FeatureTable.open(folder / "table").matrix()
    assert [path.stem in note for note in summary.notes] == [True]
    np.testing.assert_array_equal(after.X, before.X)
    if store == "vectors":
        assert (summary.detections, summary.vectors) == (0, 8)
    else:
        assert summary.vectors == 0
        assert 0 < summary.detections < 20


def _stay(folder):
    return sorted(path for path in (folder / "table").rglob("part-*"))


@pytest.mark.parametrize(
    ("store", "suffix"), [("vectors", ".npy"), ("vectors", ".parquet"), ("faces", ".parquet")], ids="".join
)
def test_a_part_that_this_machine_cannot_open_is_kept(filled, store, suffix):
    """A link to itself stands for rights, open files and shares: what is stored may be whole."""
    folder, samples = filled
    before, there = FeatureTable.open(folder / "table").matrix(), _stay(folder)
    path = part(folder, store, 1, suffix)
    aside = path.rename(folder / "aside")
    path.symlink_to(path.name)
    for use in (
        lambda: FeatureTable.open(folder / "table").matrix(),
        lambda: fill(folder, samples),
        lambda: prune(folder / "table"),
    ):
        with pytest.raises(TableError, match=rf"{path.name} cannot be read .*nothing was removed") as caught:
            use()
        assert not isinstance(caught.value, DamagedPart)
    assert _stay(folder) == there
    aside.rename(path)
    assert fill(folder, samples).notes == []
    np.testing.assert_array_equal(FeatureTable.open(folder / "table").matrix().X, before.X)


@pytest.mark.parametrize(
    ("module", "name", "error"),
    [
        (np, "load", MemoryError()),
        (np, "load", OSError(errno.EMFILE, "Too many open files")),
        (np, "load", OSError(errno.ENOMEM, "Cannot allocate memory")),
        (pq, "ParquetFile", pa.ArrowMemoryError("malloc of size 64 failed")),
        (pq, "ParquetFile", OSError(errno.EIO, "Input/output error")),
    ],
    ids=str,
)
def test_too_little_memory_or_a_disk_in_trouble_removes_nothing(filled, monkeypatch, module, name, error):
    folder, samples = filled
    there = _stay(folder)

    def refuse(*arguments, **named):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(module, name, refuse)
        with pytest.raises(TableError, match=r"cannot be read .*nothing was removed"):
            fill(folder, samples)
    assert _stay(folder) == there
    assert fill(folder, samples).vectors == 0


def test_a_store_that_cannot_be_listed_is_not_taken_for_empty(filled, monkeypatch):
    folder, _ = filled
    there = _stay(folder)

    def refuse(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(stores.os, "listdir", refuse)
        with pytest.raises(TableError, match=r"cannot be read .*Stale file handle"):
            FeatureTable.open(folder / "table").matrix()
    assert _stay(folder) == there


def test_two_halves_of_different_parts_do_not_pass_for_one(filled):
    folder, _ = filled
    shutil.copy(part(folder, "vectors", 2, ".npy"), part(folder, "vectors", 1, ".npy"))
    with pytest.raises(DamagedPart, match="1 vectors for 8 faces"):
        FeatureTable.open(folder / "table").matrix()


def test_what_a_killed_writer_left_is_swept_away(filled):
    folder, samples = filled
    store = part(folder, "vectors", 0).parent
    for number in (3, 7):
        (store / f"part-0000{number}.npy").write_bytes(b"no Parquet beside it")
    (store / ".part-00004.npy.abc.tmp").write_bytes(b"half")
    (folder / "table" / ".samples.parquet.abc.tmp").write_bytes(b"half")
    assert FeatureTable.open(folder / "table").matrix().X.shape == (17, 6)
    fill(folder, [*samples, write_photo(folder / "new.jpg", 99)])
    assert not list((folder / "table").rglob("*.tmp"))
    assert len(np.load(store / "part-00003.npy")) == 1
    assert not (store / "part-00007.npy").exists()


def test_a_writer_killed_at_its_vectors_has_not_marked_the_part_as_whole(filled, monkeypatch):
    folder, samples = filled

    def dying(*arguments, **named):
        raise Killed

    more = [*samples, write_photo(folder / "new.jpg", 99)]
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", dying)
        with pytest.raises(Killed):
            fill(folder, more)
    assert len(FeatureTable.open(folder / "table").matrix()) == 17
    assert fill(folder, more).notes == []


def test_lost_samples_are_written_anew(filled):
    folder, samples = filled
    (folder / "table" / "samples.parquet").unlink()
    with pytest.raises(TableError, match=r"samples\.parquet cannot be read .* run extract again"):
        FeatureTable.open(folder / "table").matrix()
    assert fill(folder, samples).detections == 0
    assert FeatureTable.open(folder / "table").matrix().X.shape == (17, 6)


@pytest.mark.parametrize("checksums", [True, False], ids=["today's", "from before checksums"])
def test_damaged_samples_are_told_and_written_anew(filled, checksums):
    folder, samples = filled
    path = folder / "table" / "samples.parquet"
    if not checksums:
        pq.write_table(pq.read_table(path), path)
    path.write_bytes(path.read_bytes().replace(b"photos/", b"phot\xff\xff/"))
    with pytest.raises(TableError, match=r"samples\.parquet cannot be read .* run extract again"):
        FeatureTable.open(folder / "table").matrix()
    assert fill(folder, samples).detections == 0
    assert FeatureTable.open(folder / "table").matrix().X.shape == (17, 6)


@pytest.mark.parametrize("name", [b"subject", b"role"])
def test_samples_whose_columns_have_other_names_are_told(filled, name):
    """The footer has no checksum: a flipped bit there gives a table that reads well."""
    folder, samples = filled
    path = folder / "table" / "samples.parquet"
    path.write_bytes(path.read_bytes().replace(name, bytes([name[0] ^ 2]) + name[1:]))
    with pytest.raises(
        TableError, match=r"samples\.parquet cannot be read \(its columns are .* run extract again"
    ) as told:
        FeatureTable.open(folder / "table").matrix()
    assert "raw_label" not in str(told.value)  # names of all columns are no help
    assert fill(folder, samples).detections == 0
    assert FeatureTable.open(folder / "table").matrix().X.shape == (17, 6)


def test_a_store_without_its_recipe_is_not_pruned_blindly(filled):
    folder, _ = filled
    for text in ("{", "[" * 100_000):
        (part(folder, "vectors").parent / "recipe.json").write_text(text)
        with pytest.raises(TableError, match=r"recipe\.json cannot be read"):
            prune(folder / "table")


def test_a_recipe_that_cannot_be_read_is_no_reason_to_delete_the_store(filled):
    folder, _ = filled
    path = part(folder, "vectors").parent / "recipe.json"
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(TableError, match=r"recipe\.json cannot be read .*See to"):
        prune(folder / "table")


# One writer

_HOLDER = """
import sys, time
from featurepipe.features.table import writing
with writing(sys.argv[1], {half!r}, {recipe!r}):
    print("holding", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_and_a_killed_one_holds_nothing(filled):
    folder, samples = filled
    code = _HOLDER.format(half=FACE_HALF, recipe=FakeBackbone().recipe())
    holder = subprocess.Popen([sys.executable, "-c", code, folder / "table"], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"holding\n"
    try:
        for second in (lambda: fill(folder, samples), lambda: prune(folder / "table")):
            with pytest.raises(TableError, match="another process is writing"):
                second()
        assert len(FeatureTable.open(folder / "table").matrix()) == 17
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert fill(folder, samples).detections == 0


def test_a_second_writer_in_the_same_process_is_refused_too(filled):
    folder, samples = filled
    with (
        writing(folder / "table", FACE_HALF, FakeBackbone().recipe()),
        pytest.raises(TableError, match="another process"),
    ):
        fill(folder, samples)


def test_a_folder_is_looked_at_before_the_work_and_left_as_it_is(filled):
    folder, _ = filled
    check_folder(folder / "table")
    check_folder(folder / "new" / "table")
    assert not (folder / "new").exists()
    for path in (folder, folder / "log", folder / "log" / "table", folder / "caf\udce9"):
        with pytest.raises(TableError, match=r"give another|give a new folder"):
            check_folder(path)
    with (
        writing(folder / "table", FACE_HALF, FakeBackbone().recipe()),
        pytest.raises(TableError, match="another process"),
    ):
        check_folder(folder / "table")
    (folder / "table" / "table.json").write_text("{")
    with pytest.raises(TableError, match=r"table\.json cannot be read"):
        check_folder(folder / "table")


# Pruning


def _stored(folder, store):
    paths = (folder / "table" / store).glob("*/part-*.parquet")
    return [content for path in sorted(paths) for content in pq.read_table(path)["content"].to_pylist()]


def test_prune_drops_what_source_no_longer_uses(filled):
    folder, samples = filled
    fill(folder, samples, FakeBackbone(3, "other"))
    before = FeatureTable.open(folder / "table").matrix("fake")
    kept = [*samples[:3], samples[9]]
    fill(folder, kept)
    (folder / "table" / "vectors" / ".DS_Store").touch()  # left by a Mac that looked at the folder
    assert prune(folder / "table") == (16, 26, [])
    after = FeatureTable.open(folder / "table").matrix("fake")
    np.testing.assert_array_equal(after.X, before.X[[0, 1, 2, 8]])
    assert sorted(_stored(folder, "faces")) == sorted(after.content)
    assert sorted(_stored(folder, "vectors")) == sorted([*after.content, *after.content])
    assert prune(folder / "table") == (0, 0, [])
    summary = fill(folder, samples)
    assert (summary.detections, summary.vectors) == (16, 13)


def test_prune_keeps_what_a_part_was_made_with(tmp_path):
    samples = write_photos(tmp_path / "photos", 3)
    fill(tmp_path, samples, made_with={"device": "cpu"})
    fill(tmp_path, samples[:1])
    prune(tmp_path / "table")
    assert json.loads(pq.read_schema(part(tmp_path, "vectors")).metadata[b"made_with"]) == {"device": "cpu"}


def test_prune_while_photos_cannot_be_reached_drops_nothing(filled):
    folder, samples = filled
    fill(folder, samples, FakeBackbone(3, "other"))
    before = _stay(folder)
    (folder / "photos").rename(folder / "elsewhere")  # as where a share is not mounted
    assert fill(folder, samples).statuses == {"missing": 20}
    with pytest.raises(TableError, match=r"nothing was pruned .* 20 of the 20 photos .*00000\.jpg: No such file"):
        prune(folder / "table")
    assert _stay(folder) == before
    (folder / "elsewhere").rename(folder / "photos")
    assert (fill(folder, samples).vectors, prune(folder / "table")) == (0, (0, 0, []))


@pytest.mark.parametrize("store", ["faces", "vectors"])
def test_prune_mends_the_stores_of_other_recipes_too(filled, store):
    """Extract with other settings never opens them, so that it could not."""
    folder, samples = filled
    damaged = part(folder, store)
    fill(folder, samples[:3], FakeBackbone(3, "other"), half={"max_side": 320})
    _garble(damaged)
    pruned = prune(folder / "table")
    assert [str(damaged) in note for note in pruned.notes] == [True]
    assert FeatureTable.open(folder / "table").matrix().X.shape == (3, 3)
    assert prune(folder / "table") == (0, 0, [])


@pytest.mark.parametrize("listed", [1, 4], ids=["while parts are listed", "while vectors are taken"])
def test_a_reader_beside_a_prune_reads_what_there_is_then(filled, monkeypatch, listed):
    folder, samples = filled
    fill(folder, [samples[0], *samples[12:]])
    expected = FeatureTable.open(folder / "table").matrix()
    mapped, asked = stores._mapped, []

    def beside(path):
        asked.append(path)
        if len(asked) == listed:
            prune(folder / "table")
        return mapped(path)

    monkeypatch.setattr(stores, "_mapped", beside)
    features = FeatureTable.open(folder / "table").matrix()
    assert not asked[0].exists()
    np.testing.assert_array_equal(features.X, expected.X)


def test_a_part_that_has_the_number_of_a_pruned_one_is_not_taken_for_it(tmp_path):
    make_store(tmp_path, {})

    def append(letter, count):
        cuts = [CutFace(f"{letter}{number}", 0, Face(0, 0, 9, 9), 0.0) for number in range(count)]
        VectorStore.open(tmp_path).append(np.full((count, 2), ord(letter), np.float32), cuts, {})

    append("a", 3)
    append("b", 3)
    reader = VectorStore.open(tmp_path)
    VectorStore.open(tmp_path).prune({"a0", "a1", "a2"})
    for count in (3, 2):  # as many vectors, and fewer, which the rows asked for lie beyond
        append("c", count)
        assert len(list(tmp_path.glob("part-00001.*"))) == 2
        for rows in ([3, 4, 5], [5, 3], [0, 5]):
            with pytest.raises(VanishedPart):
                reader.take(np.array(rows))
        VectorStore.open(tmp_path).prune({"a0", "a1", "a2"})
    np.testing.assert_array_equal(reader.take(np.array([2, 0])), np.full((2, 2), ord("a")))


def test_a_reader_beside_a_prune_and_an_extract_reads_its_own_vectors(filled, monkeypatch):
    folder, samples = filled
    mapped, asked = stores._mapped, []

    def beside(path):
        asked.append(path)
        if len(asked) == 4:  # the keys of three parts are read
            monkeypatch.setattr(stores, "_mapped", mapped)
            fill(folder, samples[:19])
            prune(folder / "table")
            fill(folder, [*samples[:19], write_photo(folder / "new.jpg", 99)])
        return mapped(path)

    last = part(folder, "vectors", 2)
    before = last.stat().st_ino, last.stat().st_mtime_ns
    monkeypatch.setattr(stores, "_mapped", beside)
    features = FeatureTable.open(folder / "table").matrix()
    assert (last.stat().st_ino, last.stat().st_mtime_ns) != before
    for content, box, vector in zip(features.content, features.box, features.X, strict=True):
        np.testing.assert_allclose(vector, expected_vector(content, box.tolist()), atol=0.01)


def test_a_writer_reads_each_part_once(filled, monkeypatch):
    folder, samples = filled
    read = []
    for name in ("_read_vectors", "_read_faces"):
        whole = getattr(stores, name)
        monkeypatch.setattr(stores, name, lambda path, whole=whole: read.append(path) or whole(path))
    fill(folder, samples)
    assert sorted(read) == sorted((folder / "table").glob("*/*/part-*.parquet"))


def test_a_reader_whose_parts_go_again_and_again_says_so(filled, monkeypatch):
    folder, _ = filled
    mapped = stores._mapped

    def gone(path):
        path.unlink(missing_ok=True)
        path.with_suffix(".npy").unlink(missing_ok=True)
        return mapped(path)

    monkeypatch.setattr(stores, "_mapped", gone)
    with pytest.raises(TableError, match=r"part-00002\.parquet has gone while it was read: .*Run the command again"):
        FeatureTable.open(folder / "table").matrix()


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def test_prune_may_be_killed_at_any_deletion(filled, monkeypatch):
    folder, samples = filled
    kept = [*samples[:3], samples[9], samples[18]]
    fill(folder, kept)
    expected = FeatureTable.open(folder / "table").matrix()
    unlink, kills = Path.unlink, 0
    for allowed in range(20):
        calls = []

        def dying(path, missing_ok=False, calls=calls, allowed=allowed):
            calls.append(path)
            if len(calls) > allowed:
                raise Killed
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", dying)
            try:
                prune(folder / "table")
            except Killed:
                kills += 1
        features = FeatureTable.open(folder / "table").matrix()
        np.testing.assert_array_equal(features.X, expected.X)
    assert kills >= 2
    assert prune(folder / "table") == (0, 0, [])
    assert sorted(_stored(folder, "vectors")) == sorted(expected.content)
    assert len(_stored(folder, "faces")) == len(kept)


# Export


@pytest.fixture
def features(tmp_path):
    """Four faces, one of them turned, one photo without, one label unknown, a name that is not ASCII."""
    samples = write_photos(tmp_path / "phötos, 1", 5)
    samples[1] = replace(samples[1], label=None)
    samples[2] = replace(samples[2], sequence="a", frame=7)
    fill(tmp_path, samples)
    return replace(FeatureTable.open(tmp_path / "table").matrix(), turn=np.array([0, 90, 0, 0]))


def test_the_formats_are_those_the_command_offers():
    assert tuple(WRITERS) == EXPORTS


def test_export_parquet(features, tmp_path):
    export(features, tmp_path / "f.parquet", "parquet")
    table = pq.read_table(tmp_path / "f.parquet")
    names = ["path", "label", "subject", "split", "sequence", "role", "content"]
    numbers = ["frame", "face", "left", "top", "right", "bottom", "score", "turn"]
    assert table.column_names == [*names, *numbers, *(f"f{i}" for i in range(6))]
    assert table["frame"].to_pylist() == [None, None, 7, None]
    for name in [*names, "frame", "face", "turn"]:
        assert table[name].to_pylist() == getattr(features, name).tolist()
    np.testing.assert_array_equal(np.stack([table[f"f{i}"] for i in range(6)], axis=1), features.X)
    assert json.loads(table.schema.metadata[b"featurepipe"])["feature_half"] == FakeBackbone().recipe()


def test_export_csv(features, tmp_path):
    export(features, tmp_path / "f.csv", "csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "f.csv").read_text(encoding="utf-8"))))
    assert [row["path"] for row in rows] == features.path.tolist()
    assert [row["label"] for row in rows] == ["anger", "", "anger", "anger"]
    assert [int(row["bottom"]) for row in rows] == features.box[:, 3].tolist()
    assert [row["frame"] for row in rows] == ["", "", "7", ""]
    numbers = np.array([[row[f"f{i}"] for i in range(6)] for row in rows], np.float32)
    np.testing.assert_array_equal(numbers, features.X)


def test_export_npz(features, tmp_path):
    export(features, tmp_path / "f.npz", "npz")
    with np.load(tmp_path / "f.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["X"], features.X)
        np.testing.assert_array_equal(arrays["box"], features.box)
        np.testing.assert_array_equal(arrays["turn"], features.turn)
        np.testing.assert_array_equal(arrays["frame"], [np.nan, np.nan, 7, np.nan])
        assert arrays["path"].tolist() == features.path.tolist()
        assert arrays["label"].tolist() == ["anger", "", "anger", "anger"]
        assert json.loads(str(arrays["recipe"]))["face_half"] == FACE_HALF


def test_export_mat(features, tmp_path):
    export(features, tmp_path / "f.mat", "mat")
    arrays = loadmat(tmp_path / "f.mat", squeeze_me=True)
    np.testing.assert_array_equal(arrays["X"], features.X)
    assert arrays["path"].tolist() == features.path.tolist()
    assert arrays["subject"].tolist() == ["s0", "s1", "s2", "s4"]
    assert loadmat(tmp_path / "f.mat")["face"].shape == (4, 1)
    assert arrays["label"][1].size == 0


def test_export_refuses_what_it_cannot_do(features, tmp_path):
    with pytest.raises(InputError, match="expected one of parquet, csv, npz, mat"):
        export(features, tmp_path / "f.xls", "xls")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        export(features, tmp_path / "folder", "csv")
    huge = replace(features, X=np.lib.stride_tricks.as_strided(features.X, (1 << 16, 1 << 14), (0, 4)))
    with pytest.raises(InputError, match="export to parquet"):
        export(huge, tmp_path / "f.mat", "mat")
    assert not (tmp_path / "f.mat").exists()
    assert not list(tmp_path.glob(".*.tmp"))


# Recipes and policy


def test_feature_halves_must_match():
    ours = FakeBackbone().recipe()
    compare_feature_halves(ours, dict(ours))
    with pytest.raises(
        RecipeMismatch, match=r"\(layer: 'fc7' here, 'fc6' in the model; views: 1 here, 10 in the model\)"
    ):
        compare_feature_halves(ours, {**ours, "layer": "fc6", "views": 10})
    with pytest.raises(RecipeMismatch, match="int8: None here, True in the model"):
        compare_feature_halves(ours, {**ours, "int8": True})


def test_face_halves_may_differ_and_are_told():
    assert set(FACE_HALF) == set(FACE_KEYS)
    assert face_half_notes(FACE_HALF, dict(FACE_HALF)) == []
    (line,) = face_half_notes({**FACE_HALF, "policy": "all"}, {**FACE_HALF, "margin": 0.0})
    assert "margin 0.25 (model: 0.0), policy 'all' (model: 'largest')" in line


@pytest.mark.parametrize(
    ("faces", "largest"),
    [
        ([], ()),
        ([Face(0, 0, 9, 9)], (0,)),
        ([Face(0, 0, 9, 9, 5.0), Face(0, 0, 19, 9, 1.0)], (1,)),
        ([Face(0, 0, 9, 9, 1.0), Face(5, 5, 14, 14, 2.0)], (1,)),
        ([Face(0, 0, 9, 9, 1.0), Face(5, 5, 14, 14, 1.0)], (0,)),
    ],
)
def test_policies(faces, largest):
    assert choose(faces, "largest") == largest
    assert choose(faces, "all") == tuple(range(len(faces)))


def test_a_store_chooses_of_many_photos_as_of_each_alone(tmp_path):
    """Boxes of few sizes and scores, so that many tie; photos in any order, twice, and without a face."""
    rng = np.random.default_rng(0)

    def drawn(turn):
        corners = rng.integers([0, 0, 6, 6], [4, 4, 9, 9]).tolist()
        return Face(*corners, score=float(rng.integers(3)), turn=turn)

    photos = {f"{number}": [drawn(90 * number % 360) for _ in range(rng.integers(6))] for number in range(60)}
    make_store(tmp_path, {})
    for some in (list(photos)[:20], list(photos)[20:]):
        FaceStore.open(tmp_path).append({key: Found("ok", "", tuple(photos[key])) for key in some})
    store, asked = FaceStore.open(tmp_path), [str(number) for number in rng.integers(0, 60, 100)]
    assert store.rows(["7", None, "nothing"]).tolist()[1:] == [-1, -1]
    for policy in ("largest", "all"):
        found = store.chosen(store.rows(asked), policy)
        expected = [(owner, index) for owner, key in enumerate(asked) for index in choose(photos[key], policy)]
        assert list(zip(found.owner.tolist(), found.face.tolist(), strict=True)) == expected
        faces = [photos[asked[owner]][index] for owner, index in expected]
        assert found.box.tolist() == [[face.left, face.top, face.right, face.bottom] for face in faces]
        assert found.score.tolist() == [face.score for face in faces]
        assert found.turn.tolist() == [face.turn for face in faces]


def test_predictions_are_scored_by_the_faces_that_the_policy_would_select():
    """Of photos whose faces all lie in the table: few sizes and scores, so that many tie; every third has no face."""
    rng = np.random.default_rng(0)
    photos = [
        [Face(0, 0, *rng.integers(8, 10, 2).tolist(), score=float(rng.integers(2))) for _ in range(number % 3 * 3)]
        for number in range(60)
    ]
    faces = [face for photo in photos for face in photo]
    columns = {field.name: np.arange(len(faces)) for field in fields(Features)}
    columns |= {
        "sample": np.repeat(np.arange(60), [len(photo) for photo in photos]),
        "box": np.array([[face.left, face.top, face.right, face.bottom] for face in faces]),
        "score": np.array([face.score for face in faces]),
    }
    predictions = Predictions(pa.table({"path": [""] * 60}), Features(**columns), [], np.empty((len(faces), 0)))
    first = np.cumsum([0, *map(len, photos[:-1])])
    expected = [at + choose(photo, "largest")[0] if photo else -1 for at, photo in zip(first, photos, strict=True)]
    assert predictions.largest().tolist() == expected


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_rows_are_gathered_from_parts_in_runs_and_one_by_one(tmp_path, shape):
    vectors = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
    make_store(tmp_path, {})
    for start in (0, 10, 20):
        cuts = [CutFace(f"{number}", 0, Face(0, 0, 9, 9), 0.0) for number in range(start, start + 10)]
        VectorStore.open(tmp_path).append(vectors[start : start + 10], cuts, {})
    store = VectorStore.open(tmp_path)
    for rows in ([*range(5, 25)], [3, 4, 5, 29, 28, 3, 11, 12, 4], [9, 10, 0], [*range(29, -1, -1)], [1, 1, 25]):
        np.testing.assert_array_equal(store.take(np.array(rows)), vectors[rows])


def test_a_part_that_is_cut_while_it_is_open_is_named(filled, monkeypatch):
    folder, _ = filled
    store = VectorStore.open(part(folder, "vectors").parent)
    path = part(folder, "vectors", 1, ".npy")
    mapped = stores._mapped

    def cut(asked):
        found = mapped(asked)
        if asked == path.with_suffix(".parquet"):
            path.write_bytes(path.read_bytes()[:-4])
        return found

    monkeypatch.setattr(stores, "_mapped", cut)
    with pytest.raises(DamagedPart, match=r"part-00001\.npy has become shorter"):
        store.take(np.arange(17))
