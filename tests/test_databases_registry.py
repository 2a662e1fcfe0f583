"""What all databases share: one marker each, --dataset, --frames, `datasets list` and `datasets verify`."""

import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import trees_pixels
import trees_sequences
import trees_stills
import trees_web
from trees_pixels import ck48, ckextended, crop, fer2013, fer2013_folders, save, write_rows
from trees_sequences import ckplus
from trees_stills import jaffe, plant

from featurepipe.cli import build_parser, main
from featurepipe.commands.steps import samples_of
from featurepipe.datasets.database import MAX_DEPTH, find_roots
from featurepipe.datasets.readers import read_database, read_source
from featurepipe.datasets.registry import DATABASES
from featurepipe.errors import InputError
from featurepipe.labels import EMOTIONS

TREES = {**trees_pixels.TREES, **trees_sequences.TREES, **trees_stills.TREES, **trees_web.TREES}
VARIANTS = {
    **trees_pixels.VARIANTS,
    **trees_web.VARIANTS,
    "sfew": (trees_stills.sfew_1, trees_stills.sfew_repack),
}
COPIES = [
    *(pytest.param(name, build, id=name) for name, build in TREES.items()),
    *(
        pytest.param(name, build, id=f"{name}:{build.__name__}")
        for name, builders in VARIANTS.items()
        for build in builders
    ),
]


def found(source):
    """Ids of the databases whose marker is at SOURCE."""
    return {database.name for _, database in find_roots(str(source), DATABASES.values())}


def verify(capsys, *words):
    """(exit code, what is printed under --json)."""
    capsys.readouterr()
    code = main(["datasets", "verify", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def left_out(document):
    """{file name: kind} of what is at fault."""
    return {os.path.basename(one["path"]): one["kind"] for one in document["left_out"] if not one["known"]}


# Records


def test_every_database_has_a_tree():
    assert set(TREES) == set(DATABASES)


@pytest.mark.parametrize("name", DATABASES)
def test_records_say_what_a_user_needs(name):
    database = DATABASES[name]
    assert database.name == name
    for text in (database.title, database.size, database.licence, database.citation, database.marker):
        assert text.strip() == text != ""
    assert database.url.startswith("http") or "authors" in database.url  # FED-RO has no page
    assert len(set(database.labels)) == len(database.labels) > 1
    assert database.sheet
    for expected in database.sheet:
        assert expected.total > 0
        assert set(expected.counts) <= set(database.labels)
        if set(expected.counts) == set(database.labels):
            assert sum(expected.counts.values()) == expected.total


# Markers


@pytest.mark.parametrize(("name", "build"), COPIES)
class TestCopies:
    def test_has_the_marker_of_its_database_alone(self, name, build, tmp_path):
        source = str(build(tmp_path))
        assert found(source) == {name}
        read = read_source(source)
        assert read.dataset == name
        assert read.notes[0] == f"read as {DATABASES[name].title} (--dataset {name})"

    def test_is_found_in_nested_folders(self, name, build, tmp_path):
        build(tmp_path / "X")  # most trees are in two folders of one name already
        assert found(tmp_path) == {name}
        assert read_source(str(tmp_path)).dataset == name

    def test_samples_are_what_records_promise(self, name, build, tmp_path):
        source = str(build(tmp_path))
        database = DATABASES[name]
        few, every = (read_database(database, source, frames).samples for frames in ("apex", "all"))
        assert 0 < len(few) <= len(every)
        keys = Counter((sample.path, sample.frame) for sample in every)
        assert max(keys.values()) == 1
        assert {(sample.path, sample.frame) for sample in few} <= set(keys)
        for sample in every:
            assert json.loads(json.dumps(dict(sample.extra), allow_nan=False)) is not None
            assert sample.role in ("still", "neutral", "onset", "apex", "offset", "frame")
            assert sample.label is None or sample.label in database.labels
            assert sample.split in (None, "train", "val", "test")
            if database.identity == "none":
                assert sample.subject is None
            if sample.role != "still":
                assert sample.sequence is not None
        if database.identity == "known":
            assert all(sample.subject for sample in every)

    def test_reads_the_same_twice_and_in_another_order_of_files(self, name, build, tmp_path):
        source = str(build(tmp_path / "one"))
        shutil.copytree(source, tmp_path / "two" / os.path.basename(source))
        paths = [
            [os.path.relpath(sample.path, root) for sample in read_source(root).samples]
            for root in (source, str(tmp_path / "two" / os.path.basename(source)))
        ]
        assert paths[0] == paths[1]


GENERIC = {
    "classes": ["angry/1.jpg", "happy/2.jpg", "sad/3.jpg"],
    "seven_classes": [f"{word}/{word}_1.png" for word in trees_pixels.FER_WORDS],
    "splits": [f"{split}/{word}/1.jpg" for split in ("train", "val", "test") for word in ("anger", "fear")],
    "kaggle_images": [f"images/{split}/{word}/7.jpg" for split in ("train", "validation") for word in ("sad", "happy")],
    "flat": ["DSC_0001.JPG", "DSC_0002.JPG", "IMG_20200101_121212.jpg"],
    "album": ["2021/summer/a.jpg", "2022/winter/b.jpg"],
    "people": ["S001/photo.jpg", "S002/photo.jpg"],
    "faces": ["lfw/Aaron_Eckhart/Aaron_Eckhart_0001.jpg", "lfw/Zico/Zico_0001.jpg"],
}


@pytest.mark.parametrize("layout", GENERIC)
def test_folders_of_users_have_no_marker(layout, tmp_path):
    source = plant(tmp_path / "photos", *GENERIC[layout])
    assert found(source) == set()
    read = read_source(str(source))
    assert (read.dataset, len(read.samples)) == ("folder", len(GENERIC[layout]))


def test_kaggles_resplit_of_fer2013_is_read_with_its_own_splits(tmp_path):
    read = read_source(str(plant(tmp_path / "photos", *GENERIC["kaggle_images"])))
    assert Counter((sample.split, sample.label) for sample in read.samples) == {
        ("train", "sadness"): 1,
        ("train", "happiness"): 1,
        ("val", "sadness"): 1,
        ("val", "happiness"): 1,
    }


def test_a_marker_deeper_than_looked_for_is_none(tmp_path):
    deep = tmp_path.joinpath(*["x"] * (MAX_DEPTH + 1))
    write_rows(deep / "fer2013.csv", [(0, crop(0), "Training")])
    assert found(tmp_path) == set()
    assert found(tmp_path / "x") == {"fer2013"}


def test_of_very_many_folders_the_first_are_looked_into(tmp_path):
    """Thousands of people or days are listed once, not once for each marker."""
    for number in range(300):
        (tmp_path / f"{number:03}").mkdir()
    for place in ("000", "299"):
        write_rows(tmp_path / place / "fer2013.csv", [(0, crop(0), "Training")])
    assert [os.path.basename(root) for root, _ in find_roots(str(tmp_path), DATABASES.values())] == ["000"]


def test_a_folder_is_listed_a_few_times_however_many_markers_look(tmp_path, monkeypatch):
    listed = Counter()

    def counting(look):
        return lambda folder: (listed.update([str(folder)]), look(folder))[1]

    plant(tmp_path, *(f"{folder}/{number}.jpg" for folder in "ab" for number in range(3)))
    for look in ("scandir", "listdir"):
        monkeypatch.setattr(os, look, counting(getattr(os, look)))
    assert find_roots(str(tmp_path), DATABASES.values()) == []
    assert 0 < listed[str(tmp_path / "a")] < 10 < len(DATABASES)
    (tmp_path / "a").rename(tmp_path / "train")  # nothing is remembered longer
    write_rows(tmp_path / "train" / "fer2013.csv", [(0, crop(0), "Training")])
    assert found(tmp_path) == {"fer2013"}


@pytest.mark.parametrize("name", DATABASES)
def test_markers_of_what_is_no_folder_or_empty(name, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("path,label\na.jpg,sad\n")
    (tmp_path / "broken.csv").write_bytes(b"\xff\xfe\x00")
    plant(tmp_path, "photo.jpg")
    for place in ("empty", "list.csv", "broken.csv", "photo.jpg", "nowhere"):
        assert not DATABASES[name].is_root(str(tmp_path / place))


# --dataset


def test_two_databases_in_one_folder_are_told_and_one_can_be_named(tmp_path):
    jaffe(tmp_path)
    ck48(tmp_path)
    with pytest.raises(InputError, match=r"more than one database: ck48 \(.*CK\+48\); jaffe \(.*jaffe\)\. .*--dataset"):
        read_source(str(tmp_path))
    assert len(read_source(str(tmp_path), "jaffe").samples) == 213


def test_one_csv_beside_the_other_is_told(tmp_path):
    shutil.copy(ckextended(tmp_path / "a") / "ckextended.csv", fer2013(tmp_path))
    with pytest.raises(InputError, match=r"more than one database: ckextended .*; fer2013 "):
        read_source(str(tmp_path / "fer2013"))
    assert len(read_source(str(tmp_path / "fer2013"), "ckextended").samples) == 24


def test_a_few_photos_of_a_database_do_not_stand_for_the_many_beside_them(tmp_path):
    """Nor does the class folder that most of them are in stand for the others."""
    jaffe(tmp_path / "pile")
    plant(tmp_path / "pile", *(f"family/{number}.jpg" for number in range(214)))
    names = trees_stills.jaffe_names()[:9]
    own = [f"{word}/{number}.jpg" for word in ("anger", "disgust", "happy") for number in range(4)]
    plant(tmp_path / "classes", *own, *(f"fear/{name}" for name in names))
    for place, root, inside, outside in (("pile", "jaffe", 213, 214), ("classes", "fear", 9, 12)):
        source = tmp_path / place
        with pytest.raises(
            InputError, match=rf"{root} is a copy of JAFFE.* {inside} photos .*{outside} others"
        ) as told:
            read_source(str(source))
        assert "--dataset folder" in str(told.value)
        assert len(read_source(str(source / root)).samples) == inside
        assert len(read_source(str(source), "folder").samples) == inside + outside
        named = read_source(str(source), "jaffe")
        assert len(named.samples) == inside
        assert any(note.startswith(f"{outside} photos or clips outside") for note in named.notes)


def test_photos_beside_the_many_of_a_database_are_told(tmp_path):
    """Rows of a CSV count as photos; a link back counts nothing twice."""
    fer2013(tmp_path)
    plant(tmp_path, *(f"family/{number}.jpg" for number in range(9)), "holiday.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "family")
    read = read_source(str(tmp_path))
    assert len(read.samples) == 21
    assert read.notes[1] == f"10 photos or clips outside {tmp_path / 'fer2013'} are not read"


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_that_is_not_there_says_what_was_looked_for(name, tmp_path):
    source = plant(tmp_path / "photos", "happy/a.jpg", "b.jpg")
    with pytest.raises(InputError) as caught:
        read_source(str(source), name)
    assert DATABASES[name].title in str(caught.value)
    assert DATABASES[name].marker in str(caught.value)


@pytest.mark.parametrize("name", DATABASES)
def test_a_photo_is_no_database(name, tmp_path):
    plant(tmp_path, "photo.jpg")
    with pytest.raises(InputError):
        read_source(str(tmp_path / "photo.jpg"), name)


@pytest.mark.parametrize("name", [None, "bu-3dfe"])
@pytest.mark.parametrize("archive", ["F0001.rar", "jaffe.zip", "fer2013.TAR.GZ"])
def test_an_archive_is_to_be_unpacked(name, archive, tmp_path):
    (tmp_path / archive).write_bytes(b"PK")
    with pytest.raises(InputError, match="is an archive: unpack it"):
        read_source(str(tmp_path / archive), name)


def sort_into(root, samples, place):
    """Copy photos below `root`, turn about into train and test, to the folder that `place` makes of split and label."""
    for number, sample in enumerate(samples):
        folder = root / place.format(split=("train", "test")[number % 2], label=sample.label)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, folder)
    return str(root)


PLACES = ("{split}/{label}", "photos/{split}", "{label}/{split}")
SORTED = [
    *((name, place) for name in ("bu-3dfe", "jaffe", "kdef", "rafd") for place in PLACES),
    *(("multipie", place) for place in PLACES[:2]),  # squint and scream are no emotions that a folder may name
    ("ck48", PLACES[0]),  # its class folders are part of its marker
]


@pytest.mark.parametrize(("name", "place"), SORTED)
def test_photos_known_by_name_have_the_splits_that_a_user_sorted_them_into(name, place, tmp_path):
    photos = read_source(str(TREES[name](tmp_path / "whole"))).samples
    read = read_source(sort_into(tmp_path / "sorted", photos, place))
    assert (read.dataset, len(read.samples)) == (name, len(photos))
    assert all(f"/{one.split}/" in one.path for one in read.samples)
    assert {one.split for one in read.samples} == {"train", "test"}
    assert read.notes[1] == "splits by your folders: test, train"


def test_photos_beside_the_splits_of_a_user_are_told_and_other_folders_are_no_splits(tmp_path):
    source = plant(tmp_path / "x", *(f"{part}/{name}" for part in ("train", "test") for name in ("KA.AN1.39.tiff",)))
    plant(source, "train/KA.AN2.40.tiff", "KA.AN3.41.tiff")
    read = read_source(str(source))
    assert [one.split for one in read.samples] == [None, "test", "train"]
    assert "splits by your folders: test, train; 1 photos lie outside them and are of no split" in read.notes
    read = read_source(str(plant(tmp_path / "y", "train/KA.AN1.39.tiff", "holiday/KA.AN2.40.tiff")))
    assert [one.split for one in read.samples] == [None, None]


def test_splits_of_a_database_come_before_folders(tmp_path):
    places = ("train/PrivateTest_1.jpg", "test/Training_2.jpg")
    read = read_source(str(plant(tmp_path, *(place.replace("/", "/angry/") for place in places))))
    assert [(os.path.basename(one.path), one.split) for one in read.samples] == [
        ("Training_2.jpg", "train"),
        ("PrivateTest_1.jpg", "test"),
    ]


def test_a_second_copy_is_told_and_not_read(tmp_path):
    for part in ("one", "two"):
        fer2013(tmp_path / part)
    read = read_source(str(tmp_path))
    assert len(read.samples) == 21
    assert any("two" in note and "another copy or part" in note for note in read.notes)


# The copies of FER2013 and CK+ in this group of trees


def test_fer2013_csv(tmp_path):
    read = read_source(str(fer2013(tmp_path)))
    assert Counter(sample.split for sample in read.samples) == {"train": 7, "val": 7, "test": 7}
    assert [sample.path.rpartition("#")[2] for sample in read.samples] == [str(row) for row in range(22) if row != 7]
    assert [one.path.rpartition("#")[2] for one in read.skipped] == ["7"]
    np.testing.assert_array_equal(read.samples[-1].pixels, crop(26))
    assert not read.samples[0].pixels.flags.writeable


def test_fer2013_folders(tmp_path):
    read = read_source(str(fer2013_folders(tmp_path)))
    assert Counter(sample.split for sample in read.samples) == {"train": 7, "val": 7, "test": 7}
    assert Counter(one.kind for one in read.skipped) == {"damaged": 1, "misnamed": 2}


def test_fer2013_folders_with_a_folder_that_is_no_emotion(tmp_path):
    source = fer2013_folders(tmp_path)
    save(source / "train" / "unsure" / "Training_999.jpg", crop(0))
    read = read_source(str(source))
    assert Counter(sample.label is None for sample in read.samples) == {False: 21, True: 1}
    assert any(note.startswith("1 pictures are unlabelled") for note in read.notes)


def test_the_csv_that_holds_the_same_again_is_not_read(tmp_path):
    source = fer2013(tmp_path)
    shutil.copy(source / "fer2013.csv", source / "icml_face_data.csv")
    read = read_source(str(source))
    assert len(read.samples) == 21
    assert any("icml_face_data.csv is the same data again" in note for note in read.notes)


def test_kaggles_download_is_read_from_the_file_that_has_everything(tmp_path):
    """All its files in one folder, in odd case; a train.csv that names photos is no part of it."""
    rows = [(code, crop(code), usage) for code, usage in enumerate(trees_pixels.USAGES)]
    write_rows(tmp_path / "ICML_Face_Data.CSV", rows)
    write_rows(tmp_path / "train.csv", rows[:1])
    (tmp_path / "test.csv").write_text("path\na.jpg\n")
    read = read_source(str(tmp_path))
    assert [os.path.basename(sample.path) for sample in read.samples] == [
        f"ICML_Face_Data.CSV#{row}" for row in range(3)
    ]
    (tmp_path / "ICML_Face_Data.CSV").unlink()
    assert [sample.split for sample in read_source(str(tmp_path)).samples] == ["train"]


def test_ck48(tmp_path):
    read = read_source(str(ck48(tmp_path)))
    first = read.samples[0]
    assert (first.label, first.raw_label, first.subject, first.sequence) == ("anger", "anger", "S010", "S010_001")
    assert (first.frame, first.role, first.split, read.faces) == (17, "apex", None, "crops")
    assert Counter(sample.label for sample in read.samples) == dict.fromkeys(DATABASES["ck48"].labels, 6)


def test_ck48_whose_class_folders_are_spelled_in_another_way(tmp_path):
    source = ck48(tmp_path)
    for word, other in {"happy": "happiness", "anger": "Angry", "sadness": "sad", "disgust": "disgusted"}.items():
        (source / word).rename(source / other)
    save(source / "neutral" / "S010_006_00000001.png", crop(1))
    save(source / "holiday" / "S010_006_00000002.png", crop(2))
    read = read_source(str(source))
    assert read.dataset == "ck48"
    assert Counter(one.label for one in read.samples) == {**dict.fromkeys(DATABASES["ck48"].labels, 6), "neutral": 1}
    assert {one.role for one in read.samples if one.label == "neutral"} == {"neutral"}
    assert {one.raw_label for one in read.samples if one.label == "happiness"} == {"happiness"}
    assert [(os.path.basename(one.path), one.kind) for one in read.skipped] == [("S010_006_00000002.png", "misnamed")]


def test_ck48_twice_under_two_spellings_counts_once(tmp_path):
    source = ck48(tmp_path)
    shutil.copytree(source / "happy", source / "happiness")
    read = read_source(str(source))
    assert len(read.samples) == 42
    assert Counter(one.kind for one in read.skipped) == {"extra": 6}


def test_ck48_whose_class_folders_are_links(tmp_path):
    source = ck48(tmp_path / "disk")
    (tmp_path / "links").mkdir()
    for folder in source.iterdir():
        (tmp_path / "links" / folder.name).symlink_to(folder)
    (tmp_path / "links" / "loop").symlink_to(tmp_path / "links")
    read = read_source(str(tmp_path / "links"))
    assert (read.dataset, len(read.samples)) == ("ck48", len(read_source(str(source)).samples))


def test_ck48_twice_in_one_folder_is_read_once(tmp_path):
    for part in ("one", "two"):
        ck48(tmp_path / part)
    read = DATABASES["ck48"].read(str(tmp_path), "apex")
    assert Counter(sample.label for sample in read.samples) == dict.fromkeys(DATABASES["ck48"].labels, 6)
    assert {one.kind for one in read.skipped} == {"extra"}


def test_ck48_in_odd_case_with_litter(tmp_path):
    source = plant(tmp_path, "ck48/Happy/s010_004_00000017.PNG", "ck48/Happy/.DS_Store", "ck48/Happy/smile.png")
    plant(source, "ck48/Sadness/S011_002_00000003.png")
    read = read_source(str(source))
    assert [(sample.label, sample.subject, sample.sequence) for sample in read.samples] == [
        ("happiness", "S010", "S010_004"),
        ("sadness", "S011", "S011_002"),
    ]
    assert [(os.path.basename(one.path), one.kind) for one in read.skipped] == [("smile.png", "misnamed")]


def test_ckextended_is_told_by_its_920_rows_whatever_its_name(tmp_path):
    rows = [(number % 7, crop(number)[:4, :4], "Training") for number in range(920)]
    source = str(write_rows(tmp_path / "data.csv", rows))
    assert read_source(source).dataset == "ckextended"
    write_rows(tmp_path / "data.csv", rows[1:])
    assert read_source(source).dataset == "fer2013"


# --frames


def test_frames_of_sequences_as_the_commands_read_them(tmp_path):
    source = str(ckplus(tmp_path))
    few, every = (
        samples_of(build_parser().parse_args(["extract", source, "--table", "t", *words]))
        for words in ((), ("--frames", "all"))
    )
    assert {sample.role for sample in few.samples} == {"neutral", "apex"}
    assert "frame" in {sample.role for sample in every.samples}
    assert len(few.samples) < len(every.samples)


# featurepipe datasets list


def test_list_for_people(capsys):
    assert main(["datasets"]) == 0
    told = capsys.readouterr().out
    assert main(["datasets", "list"]) == 0
    assert capsys.readouterr().out == told
    for database in DATABASES.values():
        for text in (f"{database.name}: {database.title}", database.size, database.licence, database.url):
            assert text in told
        assert database.citation in told
    assert "\n  identity  known\n" in told
    assert f"  labels    {', '.join(EMOTIONS)}" in told


@pytest.mark.parametrize("words", [["--json"], ["list", "--json"], ["--json", "list"]])
def test_list_for_machines(words, capsys):
    assert main(["datasets", *words]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["name"] for record in records] == list(DATABASES)
    assert set(records[0]) >= {"title", "size", "labels", "identity", "licence", "url", "citation"}


# featurepipe datasets verify


@pytest.fixture(scope="module")
def all_of_ck48(tmp_path_factory):
    """A tree with the official number of pictures, whose content is made up."""
    root = tmp_path_factory.mktemp("whole") / "CK+48"
    sequences = {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happy": 69, "sadness": 28, "surprise": 83}
    names = (
        f"{word}/S{number:03}_{place:03}_{frame:08}.png"
        for place, (word, count) in enumerate(sequences.items(), 1)
        for number in range(count)
        for frame in (8, 9, 10)
    )
    return plant(root, *names)


def test_verify_finds_a_whole_copy_whole(all_of_ck48, capsys):
    code, document = verify(capsys, "ck48", all_of_ck48, "--strict")
    assert (code, document["whole"], document["samples"], document["left_out"]) == (0, True, 981, [])
    assert all(count["here"] == count["official"] for count in document["counts"])
    assert main(["datasets", "verify", "ck48", str(all_of_ck48.parent), "--strict"]) == 0
    told = capsys.readouterr().out
    assert told.splitlines() == [
        "CK+48 (peak frames of CK+): 981 samples",
        "  pictures: 981 of 981",
        "  sequences: 327 of 327",
        "whole: nothing differs from the official copy",
    ]


@pytest.fixture
def hurt(all_of_ck48, tmp_path):
    """A copy with a picture lost, one broken off, one empty, one black, and one of no official name."""
    root = tmp_path / "CK+48"
    shutil.copytree(all_of_ck48, root)
    (root / "anger" / "S000_001_00000008.png").unlink()
    picture = root / "fear" / "S003_004_00000009.png"
    picture.write_bytes(picture.read_bytes()[:45])
    (root / "happy" / "S005_005_00000008.png").write_bytes(b"")
    save(root / "sadness" / "S002_006_00000010.png", np.zeros((8, 8), np.uint8))
    plant(root, "happy/smile.png")
    return root


def test_verify_says_what_is_missing_damaged_or_misnamed_and_exits_0(hurt, capsys):
    code, document = verify(capsys, "ck48", hurt)
    assert (code, document["whole"]) == (0, False)
    assert left_out(document) == {
        "S003_004_00000009.png": "damaged",
        "S005_005_00000008.png": "damaged",
        "S002_006_00000010.png": "damaged",
        "smile.png": "misnamed",
    }
    here = {(count["unit"], count["label"]): count["here"] for count in document["counts"]}
    assert here["pictures", None] == 981 - 4
    assert (here["pictures", "anger"], here["pictures", "fear"], here["pictures", "disgust"]) == (134, 74, 177)
    assert here["sequences", None] == 327


def test_strict_verify_exits_2_and_tells_people_the_same(hurt, capsys):
    assert main(["datasets", "verify", "ck48", str(hurt), "--strict"]) == 2
    told = capsys.readouterr().out
    assert "  pictures: 977 of 981: -4\n    anger: 134 of 135: -1\n" in told
    assert "  damaged: 3\n" in told
    assert "happy/smile.png: no official name" in told
    assert told.endswith("this copy differs from the official one\n")


def test_verify_counts_known_damage_as_there(tmp_path, capsys):
    code, document = verify(capsys, "fer2013", fer2013(tmp_path))
    assert code == 0
    assert left_out(document) == {}
    (black,) = document["left_out"]
    assert (black["kind"], black["known"]) == ("damaged", True)
    trained, angry = document["counts"][:2]
    assert (trained["unit"], trained["official"], trained["here"], trained["known_damage"]) == ("Training", 28709, 8, 1)
    assert (angry["label"], angry["here"], angry["known_damage"]) == ("anger", 2, 1)


def test_verify_reads_every_frame_of_sequences(tmp_path, capsys):
    source = ckplus(tmp_path)
    (picture,) = source.rglob("S005_001_00000005.png")  # neither first nor among the last three
    picture.write_bytes(b"no picture")
    _, document = verify(capsys, "ckplus", source)
    assert left_out(document)["S005_001_00000005.png"] == "damaged"


def test_a_damaged_clip_is_named_and_the_others_count(tmp_path, capsys):
    source = trees_sequences.gemep_fera(tmp_path)
    _, whole = verify(capsys, "gemep-fera", source)
    (clip,) = source.rglob("train_003.avi")
    clip.write_bytes(clip.read_bytes()[:-2000])
    _, broken = verify(capsys, "gemep-fera", source)
    assert left_out(whole) == {}
    assert left_out(broken) == {"train_003.avi": "damaged"}
    trained = [
        {count["label"]: count["here"] for count in document["counts"] if count["official"] == 155}
        for document in (whole, broken)
    ]
    assert trained == [{None: 5}, {None: 4}]


def test_verify_of_something_else_is_refused(tmp_path, capsys):
    plant(tmp_path, "a.jpg")
    for root in (tmp_path, tmp_path / "nowhere"):
        assert main(["datasets", "verify", "jaffe", str(root)]) == 2
        assert "error" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["datasets", "verify", "fer2014", str(tmp_path)])


@pytest.mark.parametrize(("name", "build"), COPIES)
def test_verify_of_every_copy(name, build, tmp_path, capsys):
    """Nothing in the small trees is damaged but what their makers know of, and few have all official files."""
    code, document = verify(capsys, name, build(tmp_path), "--strict")
    assert code == (0 if document["whole"] else 2)
    certain = [count for count in document["counts"] if count["sure"] and count["here"] != count["official"]]
    assert document["whole"] == (
        not certain and not set(left_out(document).values()) & {"missing", "misnamed", "damaged"}
    )
    assert {count["unit"] for count in document["counts"]} <= {expected.unit for expected in DATABASES[name].sheet}
    assert document["samples"] > 0
    if name not in ("mmi", "ferplus"):
        assert "damaged" not in left_out(document).values()
