"""Readers of SOURCE, on trees and files made here with the quirks that real copies have."""

import csv
import os
import pickle
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from featurepipe.datasets.readers import GENERIC, read_database, read_source
from featurepipe.datasets.registry import DATABASES
from featurepipe.errors import InputError
from featurepipe.files import printable
from featurepipe.names import DATASETS

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the checkout")

SIDE = 4


def touch(root, *names):
    """Empty files: readers name photos and open none."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root)


def names(source):
    """Paths of the samples below `source` as read, with / between the parts."""
    return [os.path.relpath(sample.path, source).replace(os.sep, "/") for sample in read_source(source).samples]


def told(source):
    """{file name: (label, raw label, split)}"""
    samples = read_source(source).samples
    return {os.path.basename(s.path): (s.label, s.raw_label, s.split) for s in samples}


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return str(path)


def pixels(*values):
    """A SIDE x SIDE picture as text: the given values, then zeros."""
    return " ".join(map(str, [*values, *[0] * (SIDE * SIDE - len(values))]))


# The way in


def test_registry_mirrors_the_names_offered():
    assert (*GENERIC, *DATABASES) == DATASETS


def test_unknown_dataset_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"'fer2014'.*folder, csv, npz,.*fer2013"):
        read_source(touch(tmp_path, "a.jpg"), dataset="fer2014")


def test_source_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="nowhere is not there"):
        read_source(str(tmp_path / "nowhere"))


def test_file_of_unknown_kind_names_what_is_read_and_dataset_forces_a_reader(tmp_path):
    source = write(tmp_path / "list.txt", "path\na.jpg\n")
    with pytest.raises(InputError, match=r"list\.txt.*\.csv.*--dataset"):
        read_source(source)
    assert read_source(source, dataset="csv").samples[0].path == str(tmp_path / "a.jpg")


@pytest.mark.skipif(os.name == "nt", reason="no pipes with names on Windows")
@pytest.mark.parametrize("dataset", [None, "csv", "npz", "fer2013"])
def test_a_pipe_is_refused_before_it_is_opened(dataset, tmp_path):
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(InputError, match=r"rows\.csv is a pipe or a device: write it to a file first"):
        read_source(str(tmp_path / "rows.csv"), dataset)
    with pytest.raises(InputError, match="is a pipe or a device"):
        read_database(DATABASES["fer2013"], str(tmp_path / "rows.csv"))


def test_single_photo_keeps_its_path(tmp_path):
    touch(tmp_path, "me.JPG")
    read = read_source(str(tmp_path / "me.JPG"))
    assert [s.path for s in read.samples] == [str(tmp_path / "me.JPG")]
    assert (read.dataset, read.faces, read.samples[0].label) == ("folder", "photos", None)


# Folders


def test_paths_open_from_the_working_directory(tmp_path, monkeypatch):
    touch(tmp_path, "in/deep/b.png")
    monkeypatch.chdir(tmp_path)
    assert [s.path for s in read_source("in").samples] == [os.path.join("in", "deep", "b.png")]


def test_order_is_that_of_bytes_in_the_whole_path(tmp_path):
    expected = ["B.jpg", "a-b.jpg", "a/z.jpg", "a0.jpg", "é.jpg", "日本.jpg"]  # "-" < "/" < "0"; UTF-8 e9.. after ASCII
    assert names(touch(tmp_path, *reversed(expected))) == expected


def test_every_extension_in_any_case_and_nothing_else(tmp_path):
    ends = "jpg JPEG jpe jfif Png BMP dib TIF tiff WebP gif ppm pgm PBM"
    photos = [f"p.{end}" for end in ends.split()]
    litter = [".DS_Store", "._p.jpg", ".hidden.jpg", "Thumbs.db", "desktop.ini", "__MACOSX/p.jpg", ".git/p.jpg"]
    read = read_source(touch(tmp_path, *photos, *litter, "README.md", "notes.txt", "more.txt", "Makefile"))
    assert sorted(os.path.basename(s.path) for s in read.samples) == sorted(photos)
    assert read.notes == ["4 files are no photos by their names (2 .txt, 1 .md, 1 without extension)"]


def test_empty_folder_says_what_was_looked_for_and_what_is_there(tmp_path):
    with pytest.raises(InputError, match=r"no photos.*\.jpg.*1 \.csv.*fer2013\.csv.*give that file as SOURCE"):
        read_source(touch(tmp_path, "fer2013/fer2013.csv"))


def test_folder_with_a_manifest_in_it_hints_at_the_manifest(tmp_path):
    read = read_source(touch(tmp_path, "photos/a.jpg", "photos.csv"))
    assert len(read.samples) == 1
    assert any("photos.csv" in note and "SOURCE" in note for note in read.notes)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
class TestLinks:
    def test_loops_end_and_each_folder_is_read_at_its_real_place(self, tmp_path):
        source = touch(tmp_path, "happy/a.jpg", "sad/b.jpg")
        (tmp_path / "aaa").symlink_to(tmp_path / "happy")
        (tmp_path / "sad" / "up").symlink_to(tmp_path)
        (tmp_path / "self").symlink_to(tmp_path / "self")
        assert told(source) == {"a.jpg": ("happiness", "happy", None), "b.jpg": ("sadness", "sad", None)}

    def test_folder_elsewhere_is_followed_once(self, tmp_path):
        touch(tmp_path, "elsewhere/in/c.jpg", "source/a.jpg")
        for link in ("x", "y"):
            (tmp_path / "source" / link).symlink_to(tmp_path / "elsewhere")
        assert names(str(tmp_path / "source")) == ["a.jpg", "x/in/c.jpg"]

    def test_dangling_and_circular_links_to_photos_are_samples(self, tmp_path):
        source = touch(tmp_path, "a.jpg")
        (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
        (tmp_path / "me.jpg").symlink_to(tmp_path / "me.jpg")
        assert names(source) == ["a.jpg", "gone.jpg", "me.jpg"]

    def test_pipes_are_not_opened(self, tmp_path):
        source = touch(tmp_path, "a.jpg")
        os.mkfifo(tmp_path / "pipe.jpg")
        read = read_source(source)
        assert [os.path.basename(s.path) for s in read.samples] == ["a.jpg"]
        assert "1 names of photos are pipes" in read.notes[0]


def test_folder_without_permission_is_noted(tmp_path):
    source = touch(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        if os.access(tmp_path / "closed", os.R_OK):
            pytest.skip("this user may list everything")
        read = read_source(source)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert len(read.samples) == 1
    assert "1 folders could not be listed (closed)" in read.notes


def test_names_that_are_not_utf8_open_and_have_a_form_that_can_be_stored(tmp_path):
    name = b"caf\xe9.jpg"
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (sample,) = read_source(str(tmp_path)).samples
    assert Path(sample.path).read_bytes() == b"x"
    assert printable(sample.path).endswith(r"caf\udce9.jpg")
    assert printable(sample.path).encode()


# Labels and splits in folder names


def test_folder_per_class(tmp_path):
    source = touch(tmp_path, "Angry/1.jpg", "neural/2.jpg", "JOY/deeper/3.jpg", "empty_of_photos/readme.txt")
    assert told(source) == {
        "1.jpg": ("anger", "Angry", None),
        "2.jpg": ("neutral", "neural", None),
        "3.jpg": ("happiness", "JOY", None),
    }


@pytest.mark.parametrize("wrapper", ["", "images/", "set/set/"])
def test_split_folders_even_when_wrapped(tmp_path, wrapper):
    photos = ["train/sad/1.jpg", "Validation/sad/2.jpg", "valid/fear/3.jpg", "test/fear/4.jpg", "test/5.jpg"]
    source = touch(tmp_path, *(wrapper + photo for photo in photos))
    assert told(source) == {
        "1.jpg": ("sadness", "sad", "train"),
        "2.jpg": ("sadness", "sad", "val"),
        "3.jpg": ("fear", "fear", "val"),
        "4.jpg": ("fear", "fear", "test"),
        "5.jpg": (None, None, "test"),
    }
    assert "1 photos lie outside the class folders: they are unlabelled" in read_source(source).notes


@pytest.mark.parametrize("wrapper", ["", "images/"])
def test_split_folders_in_class_folders(tmp_path, wrapper):
    photos = ["happy/train/1.jpg", "happy/test/2.jpg", "sad/Training/deep/3.jpg", "sad/val/4.jpg", "sad/5.jpg"]
    source = touch(tmp_path, *(wrapper + photo for photo in photos))
    assert told(source) == {
        "1.jpg": ("happiness", "happy", "train"),
        "2.jpg": ("happiness", "happy", "test"),
        "3.jpg": ("sadness", "sad", "train"),
        "4.jpg": ("sadness", "sad", "val"),
        "5.jpg": ("sadness", "sad", None),
    }
    assert read_source(source).notes == ["1 photos lie outside the split folders: they are of no split"]


def test_folders_in_class_folders_that_are_not_all_splits_are_none(tmp_path):
    source = touch(tmp_path, "happy/train/1.jpg", "happy/test/2.jpg", "sad/S001/3.jpg")
    assert {split for _, _, split in told(source).values()} == {None}


def test_one_unknown_folder_name_and_no_label_is_read(tmp_path):
    source = touch(tmp_path, "happy/1.jpg", "holiday/2.jpg")
    assert told(source) == {"1.jpg": (None, None, None), "2.jpg": (None, None, None)}
    (note,) = read_source(source).notes
    assert "holiday" in note
    assert "happy" not in note


def test_numbered_folders_are_ambiguous(tmp_path):
    source = touch(tmp_path, "train/0/1.jpg", "train/1/2.jpg")
    with pytest.raises(InputError, match=r"folders named 0, 1: codes of emotions differ.*CSV.*--dataset folder"):
        read_source(source)
    read = read_source(source, dataset="folder")
    assert [sample.label for sample in read.samples] == [None, None]
    assert "numbering differs" in read.notes[0]


def test_folders_of_years_days_or_one_number_are_no_codes(tmp_path):
    assert len(read_source(touch(tmp_path / "years", "2021/1.jpg", "2022/2.jpg")).samples) == 2
    assert len(read_source(touch(tmp_path / "one", "1/1.jpg", "2.jpg")).samples) == 2
    assert len(read_source(touch(tmp_path / "days", *(f"{day}/1.jpg" for day in range(1, 13)))).samples) == 12


# Kaggle's folders of FER2013


def kaggle(root):
    return touch(
        root,
        "train/disgust/Training_10371709.jpg",
        "train/disgust/Training_10371709.jpg0.jpg",
        "train/disgust/Training_10371709.jpg1.jpg",
        "train/angry/Training_8475486.jpg",
        "train/surprise/Training_8475486.jpg",
        "train/surprise/family.jpg",
        "test/angry/PrivateTest_10131363.jpg",
        "test/neutral/PublicTest_3.jpg",
    )


def test_kaggle_prefix_gives_the_split_and_augmented_copies_are_left_out(tmp_path):
    read = read_source(kaggle(tmp_path))
    found = Counter((os.path.basename(s.path), s.label, s.split) for s in read.samples)
    assert found == Counter(
        [
            ("Training_10371709.jpg", "disgust", "train"),
            ("Training_8475486.jpg", "anger", "train"),
            ("Training_8475486.jpg", "surprise", "train"),
            ("PrivateTest_10131363.jpg", "anger", "test"),
            ("PublicTest_3.jpg", "neutral", "val"),
        ]
    )
    assert (read.dataset, read.faces) == ("fer2013", "crops")
    assert read.notes[0] == "read as FER2013 (--dataset fer2013)"
    assert any(note.startswith("3 misnamed files left out") for note in read.notes)
    assert {os.path.basename(skip.path) for skip in read.skipped} == {
        "Training_10371709.jpg0.jpg",
        "Training_10371709.jpg1.jpg",
        "family.jpg",
    }


@pytest.mark.parametrize("name", ["Training_10131352.jpg", "training_10131352.JPG", "PUBLICTEST_5543497.JPG"])
def test_kaggle_black_pictures_are_left_out_in_any_case(name, tmp_path):
    read = read_source(touch(tmp_path, f"train/angry/{name}", "train/fear/Training_1.jpg"))
    assert [sample.label for sample in read.samples] == ["fear"]
    assert [skip.kind for skip in read.skipped] == ["damaged"]


def test_kaggle_folders_can_be_read_as_plain_folders(tmp_path):
    read = read_source(kaggle(tmp_path), dataset="folder")
    assert len(read.samples) == 8
    assert {s.split for s in read.samples if "PublicTest" in s.path} == {"test"}


def test_a_folder_that_is_no_fer2013_is_refused_as_such(tmp_path):
    with pytest.raises(InputError, match=r"no copy of FER2013.*Training_<number>\.jpg"):
        read_source(touch(tmp_path, "happy/a.jpg"), dataset="fer2013")


# CSV manifests


def test_manifest_with_all_columns(tmp_path):
    text = "subject,path,label,split,sequence,frame\nS1,a/1.jpg,Joy,training,S1_2,7\n,/abs/2.jpg,,,,\n"
    one, two = read_source(write(tmp_path / "m.csv", text)).samples
    assert one.path == str(tmp_path / "a" / "1.jpg")
    assert (one.label, one.raw_label, one.subject, one.split) == ("happiness", "Joy", "S1", "train")
    assert (one.sequence, one.frame) == ("S1_2", 7)
    assert two.path == "/abs/2.jpg"
    assert (two.label, two.raw_label, two.subject, two.split, two.sequence, two.frame) == (None,) * 6


@pytest.mark.skipif(os.sep != "/", reason="there a backslash is no part of a name")
def test_manifest_written_on_windows(tmp_path):
    touch(tmp_path, "a/1.jpg", "a\\2.jpg")
    read = read_source(write(tmp_path / "m.csv", "path,label\na\\1.jpg,happy\na\\2.jpg,sad\na\\3.jpg,fear\n"))
    places = [os.path.relpath(sample.path, tmp_path) for sample in read.samples]
    assert places == ["a/1.jpg", "a\\2.jpg", "a/3.jpg"]  # the second is there under that very name


@pytest.mark.parametrize("path_column", ["path", "image", "file", "filename", "pth", "img", " Image "])
@pytest.mark.parametrize("label_column", ["label", "emotion", "expression", "class"])
def test_manifest_aliases(tmp_path, path_column, label_column):
    (sample,) = read_source(write(tmp_path / "m.csv", f"{path_column},{label_column}\nx.jpg,rage\n")).samples
    assert (sample.path, sample.label) == (str(tmp_path / "x.jpg"), "anger")


def test_own_name_of_a_column_comes_before_its_aliases_and_two_aliases_are_ambiguous(tmp_path):
    both = write(tmp_path / "both.csv", "emotion,label,path\nsad,fear,x.jpg\n")
    assert read_source(both).samples[0].label == "fear"
    with pytest.raises(InputError, match="several columns could be the label: emotion, class"):
        read_source(write(tmp_path / "two.csv", "emotion,class,path\nsad,fear,x.jpg\n"))


def test_manifest_columns_that_are_not_read_are_noted(tmp_path):
    (note,) = read_source(write(tmp_path / "m.csv", "image,label,Person,emotion\nx.jpg,fear,Ann,sad\n")).notes
    assert note.startswith("columns not read: 'person', 'emotion'; those that are: path (or image,")
    assert "subject, split" in note
    assert read_source(write(tmp_path / "n.csv", "image,class,subject\nx.jpg,fear,Ann\n")).notes == []


def test_manifest_with_bom_crlf_quotes_and_other_alphabets(tmp_path):
    text = 'path,label,subject\r\n"ä, b/ö.jpg",sad,"Zoë ""Z"""\r\n\r\nNA,happy,NA\r\n'
    one, two = read_source(write(tmp_path / "m.csv", text, "utf-8-sig")).samples
    assert (one.path, one.subject) == (str(tmp_path / "ä, b" / "ö.jpg"), 'Zoë "Z"')
    assert (two.path, two.subject) == (str(tmp_path / "NA"), "NA")


def test_manifest_keeps_other_words_as_extra_classes(tmp_path):
    read = read_source(write(tmp_path / "m.csv", "path,label\na.jpg,Scream\nb.jpg,squint\nc.jpg,happy\n"))
    assert [(s.label, s.raw_label) for s in read.samples[:2]] == [("scream", "Scream"), ("squint", "squint")]
    assert read.notes == ["labels kept as extra classes: scream, squint"]


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("Training", "train"),
        ("tr", "train"),
        ("dev", "val"),
        ("PublicTest", "val"),
        ("VALID", "val"),
        ("privatetest", "test"),
        (" test ", "test"),
    ],
)
def test_manifest_split_words(tmp_path, word, split):
    assert read_source(write(tmp_path / "m.csv", f"path,split\na.jpg,{word}\n")).samples[0].split == split


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.jpg,happy,train,1\nb.jpg,3,train,1", "line 3: label 3 is a code.*anger"),
        ("a.jpg,-1.0,,", r"line 2: label -1\.0 is a code"),
        ("\n\na.jpg,happy,holdout,1", "line 4: split 'holdout'.*train, val or test"),
        ("a.jpg,happy,train,first", "line 2: frame 'first'"),
        ("a.jpg,happy,train,9223372036854775808", "line 2: frame '9223372036854775808' is no integer, or larger"),
        (",happy,train,1", "line 2: no path"),
        ("a\0.jpg,happy,train,1", "line 2: no path"),
        ("a,b.jpg,happy,train,1", "line 2: 5 fields.*4 columns.*quotes"),
        ("a.jpg", "line 2: 1 fields"),
        ('"a.jpg,happy,train,1', "line 2: unexpected end of data"),
        ("", "names no photos"),
    ],
)
def test_manifest_errors_name_the_line(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_source(write(tmp_path / "m.csv", f"path,label,split,frame\n{rows}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("name,age\nx,3\n", "columns name, age; expected path.*or pixels"),
        ("path;label\na.jpg;sad\n", "separated by commas"),
        ("path,pixels\na.jpg,0\n", "not both; name it with --dataset"),
    ],
)
def test_csv_that_is_neither_manifest_nor_pixels(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_source(write(tmp_path / "m.csv", text))


def test_manifest_in_another_encoding_names_the_line(tmp_path):
    with pytest.raises(InputError, match="line 3: not UTF-8"):
        read_source(write(tmp_path / "m.csv", "path\na.jpg\né.jpg\n", "latin-1"))


def test_forced_reader_says_which_column_is_missing(tmp_path):
    source = write(tmp_path / "m.csv", "name\nx\n")
    with pytest.raises(InputError, match="no column path"):
        read_source(source, dataset="csv")
    with pytest.raises(InputError, match="no column pixels"):
        read_source(source, dataset="fer2013")


# FER2013's CSV of pixels


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("emotion,pixels,Usage", "{e},{p},{u}"),
        ("emotion, Usage, pixels", "{e},{u},{p}"),
        ("\ufeffUsage,pixels,emotion", '{u},"{p}",{e}'),
    ],
)
def test_fer2013_csv_in_any_column_order(tmp_path, header, row):
    rows = [
        row.format(e=6, p=pixels(1, 2, 255), u="Training"),
        row.format(e=4, p=pixels(9), u="PublicTest"),
        row.format(e=5, p=pixels(8), u="PrivateTest"),
    ]
    source = write(tmp_path / "fer.csv", "\n".join([header, *rows]))
    read = read_source(source)
    assert (read.dataset, read.faces) == ("fer2013", "crops")
    assert read.notes == ["read as FER2013 (--dataset fer2013)"]
    assert [(s.path, s.label, s.raw_label, s.split) for s in read.samples] == [
        (f"{source}#0", "neutral", "6", "train"),
        (f"{source}#1", "sadness", "4", "val"),
        (f"{source}#2", "surprise", "5", "test"),
    ]
    first = read.samples[0].pixels
    assert (first.dtype, first.shape) == (np.uint8, (SIDE, SIDE))
    assert first[0].tolist() == [1, 2, 255, 0]
    assert not first[1:].any()


def test_fer2013_csv_without_labels_or_usage(tmp_path):
    (sample,) = read_source(write(tmp_path / "test.csv", f"pixels\n{pixels(3)}\n")).samples
    assert (sample.label, sample.raw_label, sample.split) == (None, None, None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"8,{pixels(1)},Training", r"row 1 \(line 3\): emotion 8 is no code"),
        (f"8.0,{pixels(1)},Training", r"row 1 \(line 3\): emotion 8.0 is no code"),
        (f"-1,{pixels(1)},Training", r"row 1 \(line 3\): label -1 is a code"),
        (f"0.5,{pixels(1)},Training", r"row 1 \(line 3\): label 0.5 is a code"),
        (f"0,{pixels(1)},Holdout", r"row 1 \(line 3\): Usage is 'Holdout'"),
        (f"0,{pixels(256)},Training", r"row 1 \(line 3\): pixels"),
        (f"0,{pixels(-1)},Training", r"row 1 \(line 3\): pixels"),
        (f"0,{pixels(1.5)},Training", r"row 1 \(line 3\): pixels"),
        (f"0,{pixels('x')},Training", r"row 1 \(line 3\): pixels"),
        (f"0,{pixels(99999999999999999999)},Training", r"row 1 \(line 3\): pixels"),
        (f"0,{pixels()} 0,Training", r"row 1 \(line 3\): pixels.*17 values"),
        ("0,,Training", r"row 1 \(line 3\): pixels.*0 values"),
        (f"0,{pixels(1)}", "line 3: 2 fields"),
        ('0,"1 2 3', "line 3: unexpected end of data"),
    ],
)
def test_fer2013_csv_errors_name_the_row(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        read_source(write(tmp_path / "fer.csv", f"emotion,pixels,Usage\n0,{pixels(1)},Training\n{row}\n"))


def test_fer2013_csv_with_codes_as_floats(tmp_path):
    rows = f"3.0,{pixels(1)}\n6.0,{pixels(2)}\n,{pixels(3)}\n"
    read = read_source(write(tmp_path / "fer.csv", f"emotion,pixels\n{rows}"))
    assert [(s.label, s.raw_label) for s in read.samples] == [("happiness", "3.0"), ("neutral", "6.0"), (None, None)]
    read = read_source(write(tmp_path / "ck.csv", f"emotion,pixels\n{rows}7.0,{pixels(4)}\n"))
    assert (read.dataset, read.samples[3].label) == ("ckextended", "contempt")


def test_a_csv_of_large_pictures_says_what_to_give_instead(tmp_path):
    with pytest.raises(InputError, match=r"line 2: field larger than field limit.*give those as NPZ"):
        read_source(write(tmp_path / "fer.csv", f"emotion,pixels\n0,{'255 ' * 224 * 224}\n"))


def test_fer2013_csv_without_rows(tmp_path):
    with pytest.raises(InputError, match="no rows"):
        read_source(write(tmp_path / "fer.csv", "emotion,pixels,Usage\n"))


def test_ckextended_is_told_by_a_code_7_and_its_splits_are_not_official(tmp_path):
    rows = f"7,{pixels(1)},Training\n6,{pixels(2)},PublicTest\n"
    read = read_source(write(tmp_path / "ck.csv", f"emotion,pixels,Usage\n{rows}"))
    assert read.dataset == "ckextended"
    assert [(s.label, s.split, s.extra["usage"]) for s in read.samples] == [
        ("contempt", None, "train"),
        ("neutral", None, "val"),
    ]
    assert read.notes[0] == "read as ckextended.csv (CK+ as pixels) (--dataset ckextended)"
    assert "names no subjects" in read.notes[1]
    with pytest.raises(InputError, match="emotion 7 is no code"):
        read_source(read.samples[0].path.partition("#")[0], dataset="fer2013")


def test_constant_pictures_are_left_out_and_leaking_ones_are_kept_and_counted(tmp_path):
    rows = [(pixels(), "Training"), (pixels(5), "Training"), (pixels(5), "PublicTest"), (pixels(5), "PrivateTest")]
    text = "\n".join(["emotion,pixels,Usage", *(f"0,{p},{u}" for p, u in rows)])
    source = write(tmp_path / "fer.csv", text)
    read = read_source(source)
    assert [s.path for s in read.samples] == [f"{source}#1", f"{source}#2", f"{source}#3"]
    assert [(s.path, s.kind) for s in read.skipped] == [(f"{source}#0", "damaged")]
    assert read.notes[1:] == [
        f"1 damaged file left out ({source}#0: a picture of one single value: no face)",
        "1 of 1 pictures of split val also occur in train; they are kept",
        "1 of 1 pictures of split test also occur in train; they are kept",
        "1 of 1 pictures of split test also occur in val; they are kept",
    ]


# NPZ


def npz(path, **changed):
    """An NPZ of three pictures; `changed` replaces arrays, None removes one."""
    arrays = {
        "images": np.arange(3 * SIDE * SIDE, dtype=np.uint8).reshape(3, SIDE, SIDE),
        "labels": np.array([0, 2, 1]),
        "classes": np.array(["angry", "scream", "Happy"]),
        "usage": np.array(["Training", "PublicTest", ""]),
        "subjects": np.array(["a", "", "b"]),
    } | changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


def test_npz(tmp_path):
    source = npz(tmp_path / "faces.npz", names=np.array(["not", "read", "at all"]))
    read = read_source(source)
    assert (read.dataset, read.faces, read.notes) == ("npz", "crops", [])
    assert [(s.path, s.label, s.raw_label, s.split, s.subject) for s in read.samples] == [
        (f"{source}#0", "anger", "angry", "train", "a"),
        (f"{source}#1", "happiness", "Happy", "val", None),
        (f"{source}#2", "scream", "scream", None, "b"),
    ]
    assert read.samples[1].pixels[0].tolist() == [16, 17, 18, 19]


def test_npz_of_labels_as_words(tmp_path):
    source = npz(tmp_path / "faces.npz", labels=np.array(["Angry", "", "scream"]), classes=None)
    assert [(s.label, s.raw_label) for s in read_source(source).samples] == [
        ("anger", "Angry"),
        (None, None),
        ("scream", "scream"),
    ]


def test_npz_of_text_as_bytes(tmp_path):
    changed = {
        "usage": np.array([b"Training", b"PublicTest", b""]),
        "subjects": np.array(["Zoë".encode(), b"", b"b"]),
    }
    words = npz(tmp_path / "words.npz", labels=np.array([b"Angry", b"", b"scream"]), classes=None, **changed)
    classes = npz(tmp_path / "classes.npz", classes=np.array([b"angry", "geschärft".encode(), b"Happy"]), **changed)
    assert [s.label for s in read_source(words).samples] == ["anger", None, "scream"]
    assert [(s.label, s.split, s.subject) for s in read_source(classes).samples] == [
        ("anger", "train", "Zoë"),
        ("happiness", "val", None),
        ("geschärft", None, "b"),
    ]


def test_npz_of_colour_pictures_alone(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
    source = npz(tmp_path / "rgb.npz", images=images, labels=None, classes=None, usage=None, subjects=None)
    samples = read_source(source).samples
    np.testing.assert_array_equal([s.pixels for s in samples], images)
    assert {(s.label, s.split, s.subject) for s in samples} == {(None, None, None)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": None}, "no array named images"),
        ({"images": np.zeros((3, SIDE, SIDE))}, r"images is float64 \(3, 4, 4\).*uint8"),
        ({"images": np.zeros((3, SIDE, SIDE, 4), np.uint8)}, r"images is uint8 \(3, 4, 4, 4\)"),
        ({"images": np.zeros((0, SIDE, SIDE), np.uint8)}, r"images is uint8 \(0, 4, 4\)"),
        ({"labels": np.array([0, 3, 1])}, "row 1 has label 3, but classes has 3"),
        ({"labels": np.array([0, 1, -1])}, "row 2 has label -1"),
        ({"labels": np.array([0, 1])}, r"labels is int64 \(2,\)"),
        ({"labels": np.array([0.0, 1.0, 2.0])}, "labels is float64"),
        ({"labels": np.array(["anger", "3", ""])}, "row 1: label 3 is a code"),
        ({"labels": np.array(["anger"])}, r"labels is <U5 \(1,\)"),
        ({"labels": np.array([b"anger", b"3", b""])}, "row 1: label 3 is a code"),
        ({"labels": np.array([b"anger", b"\xe9", b""])}, "labels holds bytes that are no UTF-8.*dtype=str"),
        ({"classes": np.array([b"a", b"\xe9", b"c"])}, "classes holds bytes that are no UTF-8"),
        ({"subjects": np.array([b"Zo\xeb", b"", b""])}, "subjects holds bytes that are no UTF-8"),
        ({"classes": None}, "classes"),
        ({"classes": np.array(["0", "1", "2"])}, "row 0: label 0 is a code"),
        ({"usage": np.array(["Training", "Holdout", ""])}, "usage holds 'Holdout'"),
        ({"usage": np.array(["Training"])}, "usage is"),
        ({"subjects": np.array(["a", None, "b"], dtype=object)}, "Python objects are never loaded"),
    ],
)
def test_npz_errors(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        read_source(npz(tmp_path / "faces.npz", **changed))


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def npy_header(text):
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


def test_npz_never_runs_code(tmp_path):
    target = tmp_path / "proof"
    inside = npz(tmp_path / "inside.npz", classes=np.array([Hostile(target)] * 3, dtype=object))
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Hostile(target)))
    for source in (inside, str(bare)):
        with pytest.raises(InputError, match=r"NPZ|Python objects"):
            read_source(source)
    assert not target.exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "unsupported", "text", "empty"])
def test_damaged_npz(tmp_path, damage):
    path = tmp_path / "faces.npz"
    npz(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 0xFF  # a pixel: the CRC tells
    unsupported = bytearray(whole)
    unsupported[whole.index(b"PK\1\2") + 10] = 99  # compression method of the first array
    damaged = {
        "truncated": whole[: len(whole) // 2],
        "flipped": bytes(flipped),
        "unsupported": bytes(unsupported),
        "text": b"hello",
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(InputError, match=r"faces\.npz cannot be read as NPZ"):
        read_source(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"no NPY file",
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 8, 8)"),  # never closed
        npy_header("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }") + b"\x33\0\xf7\0",  # no character
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 8, 8), }"),
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000000000, 8, 8), }"),
    ],
    ids=["text", "unclosed", "no character", "huge", "huger"],
)
def test_an_npz_whose_arrays_are_none_is_refused(tmp_path, content):
    path = tmp_path / "faces.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(InputError, match=r"faces\.npz(: text that| cannot be read as NPZ)"):
        read_source(str(path))


# The data for development


@needs_data
def test_development_photos():
    read = read_source(str(DATA / "photos.csv"))
    assert len(read.samples) == 1504
    assert len({s.subject for s in read.samples}) == 584
    with open(DATA / "photos.csv", newline="", encoding="utf-8") as stream:
        assert Counter(s.raw_label for s in read.samples) == Counter(row["label"] for row in csv.DictReader(stream))
    assert Counter(s.label for s in read.samples) == {
        "neutral": 731,
        "happiness": 698,
        "surprise": 38,
        "anger": 18,
        "sadness": 17,
        "contempt": 1,
        "disgust": 1,
    }
    assert all(os.path.isfile(s.path) for s in read.samples)


@needs_data
def test_development_fer2013_has_the_published_counts():
    read = read_source(str(DATA / "fer2013.npz"))
    order = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    counts = Counter((s.split, s.label) for s in read.samples)
    assert [counts["train", label] for label in order] == [3995, 436, 4097, 7215, 4965, 4830, 3171]
    assert [counts["val", label] for label in order] == [467, 56, 496, 895, 607, 653, 415]
    assert len(read.samples) == 28709 + 3589
    assert "280 of 3589 pictures of split val also occur in train; they are kept" in read.notes
    assert any(note.startswith("12 of 32298 pictures are of one single value") for note in read.notes)
