"""Readers of FER+, AffectNet and RAF-DB, on small fake copies with their quirks, and on broken ones."""

import os
import pickle
from collections import Counter

import numpy as np
import pytest
import trees_web as trees
from trees_stills import plant

from featurepipe.datasets.affectnet import DATABASE as AFFECTNET
from featurepipe.datasets.database import find_roots
from featurepipe.datasets.ferplus import DATABASE as FERPLUS
from featurepipe.datasets.raf_db import BASIC, COMPOUND
from featurepipe.datasets.raf_db import DATABASE as RAF_DB
from featurepipe.datasets.readers import read_source
from featurepipe.datasets.verify import verify
from featurepipe.datasets.votes import majority
from featurepipe.errors import InputError
from featurepipe.records import Face

DATABASES = {"ferplus": FERPLUS, "affectnet": AFFECTNET, "raf-db": RAF_DB}
BUILDERS = [
    pytest.param(name, build, id=f"{name}-{build.__name__}")
    for name in trees.TREES
    for build in (trees.TREES[name], *trees.VARIANTS[name])
]


def read(source, dataset=None):
    return read_source(str(source), dataset)


def told(result, source):
    """{place below source: (label, raw label, split)}"""
    return {
        os.path.relpath(sample.path, source).replace(os.sep, "/"): (sample.label, sample.raw_label, sample.split)
        for sample in result.samples
    }


def left(result):
    """{kind: how many were left out}"""
    return dict(Counter(one.kind for one in result.skipped))


def by_name(result):
    return {os.path.basename(sample.path): sample for sample in result.samples}


# All of them


@pytest.mark.parametrize(("name", "build"), BUILDERS)
def test_found_by_the_marker_and_named(name, build, tmp_path):
    source = build(tmp_path)
    found, asked = read(source), read(source, name)
    assert found.dataset == asked.dataset == name
    assert f"--dataset {name}" in found.notes[0]
    assert found.samples == asked.samples != []
    assert {sample.role for sample in found.samples} == {"still"}
    assert all(sample.subject is None for sample in found.samples)
    assert {sample.label for sample in found.samples} <= set(DATABASES[name].labels)


@pytest.mark.parametrize(("name", "build"), BUILDERS)
def test_one_more_folder_and_litter_change_nothing(name, build, tmp_path):
    source = build(tmp_path / "X")
    plant(tmp_path, "X/.DS_Store", "X/__MACOSX/train_set/annotations/._0_exp.npy", "X/Thumbs.db", "X/desktop.ini")
    assert read(tmp_path).samples == read(source).samples


@pytest.mark.parametrize("name", DATABASES)
@pytest.mark.parametrize("other", DATABASES)
def test_no_marker_finds_another_database(name, other, tmp_path):
    for number, build in enumerate((trees.TREES[other], *trees.VARIANTS[other])):
        found = find_roots(str(build(tmp_path / str(number))), [DATABASES[name]])
        assert bool(found) == (name == other)


@pytest.mark.parametrize("database", DATABASES.values(), ids=DATABASES)
def test_an_empty_folder_or_a_file_is_refused_with_what_is_expected(database, tmp_path):
    file = trees.write(tmp_path / "list.txt", "nothing")
    for source in (tmp_path, file):
        with pytest.raises(InputError, match=r"expected|looked for"):
            read(source, database.name)


@pytest.mark.parametrize("database", DATABASES.values(), ids=DATABASES)
def test_the_classes_of_the_official_sheet_add_up(database):
    for line in database.sheet:
        assert not line.counts or sum(line.counts.values()) == line.total, line.unit


@pytest.mark.parametrize(
    ("name", "build", "totals"),
    [
        ("ferplus", trees.ferplus, [(25060, 5), (3199, 1), (3153, 1)]),  # 5: the black picture has a label
        ("affectnet", trees.affectnet, [(287651, 4), (3999, 2)]),
        ("affectnet", trees.affectnet_lists, [(287651, 3), (33088, 1), (11645, 1), (5000, 2)]),
        ("raf-db", trees.raf_db, [(12271, 4), (3068, 3), (3954, 3), (3162, 2), (792, 1)]),
        ("raf-db", trees.raf_copy, [(12271, 4), (3068, 3)]),
    ],
)
def test_the_official_sheet_counts_the_release_that_is_there(name, build, totals, tmp_path):
    counts = verify(DATABASES[name], read(build(tmp_path)), []).counts
    assert [(count.official, count.here) for count in counts if count.label is None] == totals


# FER+


def test_ferplus_majority_labels_and_votes_by_row(tmp_path):
    source = trees.ferplus(tmp_path)
    result = read(source)
    table = "FERPlus-master/fer2013.csv"
    assert told(result, source) == {
        f"{table}#0": ("happiness", "happiness", "train"),
        f"{table}#2": ("contempt", "contempt", "train"),
        f"{table}#6": ("surprise", "surprise", "train"),
        f"{table}#7": ("sadness", "sadness", "train"),
        f"{table}#10": ("disgust", "disgust", "val"),
        f"{table}#11": ("fear", "fear", "test"),
    }
    votes = [list(sample.extra["votes"].items()) for sample in result.samples]
    given = [trees.votes_of(trees.FERPLUS_ROWS[row][2]) for row in (0, 2, 6, 7, 10, 11)]
    assert votes == [list(zip(trees.FERPLUS_COLUMNS, row, strict=True)) for row in given]
    assert result.faces == "crops"


def test_ferplus_pixels_are_those_of_the_same_row(tmp_path):
    source = trees.ferplus(tmp_path)
    pictures = np.random.default_rng(0).integers(1, 255, (len(trees.FERPLUS_ROWS), 4, 4), dtype=np.uint8)
    for sample in read(source).samples:
        assert np.array_equal(sample.pixels, pictures[int(sample.path.rpartition("#")[2])])


def test_ferplus_says_what_it_read_and_left_out(tmp_path):
    result = read(trees.ferplus(tmp_path))
    assert left(result) == {"extra": 2, "unlabelled": 4, "damaged": 1}
    rows = {kind: {one.path.rpartition("#")[2] for one in result.skipped if one.kind == kind} for kind in left(result)}
    assert rows == {"extra": {"1", "4"}, "unlabelled": {"3", "5", "9", "12"}, "damaged": {"8"}}
    notes = "\n".join(result.notes)
    for words in ("fer2013new.csv", "fer2013.csv, matched row by row", "names no picture", "votes are for NF", "half"):
        assert words in notes


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ("happiness=6 neutral=4", "happiness"),
        ("happiness=5 neutral=5", "unknown"),  # half is not more than half
        ("happiness=5 neutral=4 fear=1", "happiness"),  # 5 of 9: the single vote is none
        ("fear=2 neutral=1 happiness=1 sadness=1 anger=1 disgust=1 contempt=1 unknown=1 NF=1", "fear"),
        ("unknown=9 fear=1", "unknown"),
        ("NF=7 fear=3", "NF"),
        ("", "unknown"),
    ],
)
def test_ferplus_rule_of_the_authors(votes, winner):
    assert majority(trees.votes_of(votes)) == winner


def test_ferplus_pictures_of_the_authors_script(tmp_path):
    source = trees.ferplus_pictures(tmp_path)
    plant(source / "data" / "FER2013Train", "fer0099999.png")
    (source / "data" / "FER2013Valid" / "fer0000008.png").unlink()
    result = read(source)
    assert told(result, source / "data") == {
        "FER2013Train/fer0000000.png": ("sadness", "sadness", "train"),
        "FER2013Train/fer0000001.png": ("contempt", "contempt", "train"),
        "FER2013Train/fer0000005.png": ("surprise", "surprise", "train"),
        "FER2013Train/fer0000006.png": ("anger", "anger", "train"),
        "FER2013Test/fer0000009.png": ("fear", "fear", "test"),
    }
    assert left(result) == {"extra": 2, "unlabelled": 4, "missing": 1}
    assert "label.csv in" in result.notes[1]
    assert "1,600" in result.notes[2]


def test_ferplus_names_of_its_files_in_capitals(tmp_path):
    source = trees.ferplus_pictures(tmp_path)
    for path in [path for path in source.rglob("*.*") if path.is_file()]:
        path.rename(path.with_suffix(path.suffix.upper()))
    assert [sample.label for sample in read(source).samples][:2] == ["sadness", "contempt"]


def test_ferplus_pictures_with_the_list_leave_out_a_name_of_two_rows(tmp_path):
    result = read(trees.ferplus_pictures(tmp_path, with_list=True))
    assert "fer0000000.png" not in by_name(result)
    assert [one.path.rpartition("/")[2] for one in result.skipped if one.kind == "misnamed"] == ["fer0000000.png"] * 2
    assert "fer2013new.csv" in result.notes[1]
    assert left(result)["extra"] == 2  # one row without a name, one not a face


def test_ferplus_reads_the_rows_of_icml_face_data(tmp_path):
    trees.ferplus_list(tmp_path)
    trees.fer2013_rows(tmp_path / "fer2013", name="icml_face_data.csv")
    assert [sample.path.rpartition("#")[2] for sample in read(tmp_path).samples] == ["0", "2", "6", "7", "10", "11"]


def test_ferplus_votes_alone_are_refused(tmp_path):
    trees.ferplus_list(tmp_path)
    with pytest.raises(InputError, match=r"put fer2013\.csv beside fer2013new\.csv"):
        read(tmp_path)


def test_ferplus_tables_of_other_lengths_or_orders_are_refused(tmp_path):
    trees.ferplus_list(tmp_path)
    trees.fer2013_rows(tmp_path, trees.FERPLUS_ROWS[:-1])
    with pytest.raises(InputError, match=r"has 12 rows and .* 13: they are matched by position"):
        read(tmp_path)
    trees.fer2013_rows(tmp_path, trees.FERPLUS_ROWS[::-1])
    with pytest.raises(InputError, match=r"fer2013new\.csv#0 is of split train, but row 0 .* of test"):
        read(tmp_path)


@pytest.mark.parametrize("votes", ["-1", "two", "1.5", ""])
def test_ferplus_votes_that_are_no_numbers_are_refused_with_the_line(votes, tmp_path):
    path = trees.ferplus_list(trees.ferplus(tmp_path) / "FERPlus-master")
    path.write_text(path.read_text().replace("fer0000001.png,1,", f"fer0000001.png,{votes},"))
    with pytest.raises(InputError, match=r"fer2013new\.csv, line 4: expected a number of votes"):
        read(tmp_path)


# AffectNet, lists in CSV


def test_affectnet_lists(tmp_path):
    source = trees.affectnet_lists(tmp_path)
    result = read(source)
    assert told(result, source / "Manually_Annotated" / "Manually_Annotated_Images") == {
        "1/aa0.jpg": ("happiness", "1", "train"),
        "1/aa1.jpg": ("neutral", "0", "train"),
        "1/aa2.png": ("uncertain", "9", "train"),
        "2/aa4.Jpeg": ("contempt", "7", "train"),
        "2/aa5.jpg": ("none", "8", "train"),
        "3/bb0.jpg": ("anger", "6", "val"),
        "3/bb1.jpg": ("fear", "4", "val"),
    }
    assert result.faces == "photos"
    assert left(result) == {"extra": 1, "missing": 1}
    assert any("not read: 1" in note for note in result.notes)
    assert any("automatically" in note for note in result.notes)


def test_affectnet_boxes_and_ratings(tmp_path):
    samples = by_name(read(trees.affectnet_lists(tmp_path)))
    assert samples["aa0.jpg"].box == Face(10, 20, 39, 59)
    assert (samples["aa0.jpg"].box.width, samples["aa0.jpg"].box.height) == (30, 40)
    assert samples["aa2.png"].box is None  # NULL
    assert samples["aa0.jpg"].extra == {"release": "lists", "valence": 0.5, "arousal": -0.25}
    assert samples["aa2.png"].extra == {"release": "lists"}  # -2 is no rating


def test_affectnet_headerless_list_loses_no_row(tmp_path):
    images = tmp_path / "Manually_Annotated_Images"
    rows = [(f"{number}/x.jpg", "1,1,2,2", 3, "0", "0") for number in range(5)]
    plant(images, *(row[0] for row in rows))
    for header in (True, False):
        trees.affectnet_list(tmp_path / "validation.csv", rows, header)
        assert len(read(tmp_path).samples) == 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("1/x.jpg", "1,1,2,2", 11, "0", "0"), "expression '11' is no code of AffectNet; expected 0 neutral"),
        (("1/x.jpg", "1,1,2,2", "happy", "0", "0"), "line 3: expression 'happy'"),
        (("1/x.jpg", "1,1,2,2", 1, "3", "0"), "valence or arousal is '3'"),
        (("1/x.jpg", "1,1,2,2", 1, "x", "0"), "valence or arousal is 'x'"),
        (("1/x.jpg", "1,1,two,2", 1, "0", "0"), "face_x to face_height"),
        (("1/x.jpg", "1,1,inf,2", 1, "0", "0"), "face_x to face_height"),
        (("1/x.jpg", "1,1,2", 1, "0", "0"), "line 3: 8 fields, but there are 9 columns"),
    ],
)
def test_affectnet_rows_that_cannot_be_are_refused_with_the_line(row, message, tmp_path):
    plant(tmp_path / "Manually_Annotated_Images", "1/x.jpg")
    good = ("1/x.jpg", "1,1,2,2", 1, "0", "0")
    trees.affectnet_list(tmp_path / "training.csv", [good, row])
    with pytest.raises(InputError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    "place", ["../../outside.jpg", "1/../../outside.jpg", "/etc/hostname", "outside.jpg", "1/a\0b"]
)
def test_affectnet_lists_reach_nothing_outside_the_photos(place, tmp_path):
    plant(tmp_path / "data" / "Manually_Annotated_Images", "1/x.jpg")
    plant(tmp_path, "outside.jpg", "data/outside.jpg")
    trees.affectnet_list(tmp_path / "data" / "training.csv", [(place, "1,1,2,2", 1, "0", "0")])
    result = read(tmp_path / "data")
    assert (result.samples, left(result)) == ([], {"missing": 1})


def test_affectnet_empty_box_is_no_box(tmp_path):
    plant(tmp_path / "Manually_Annotated_Images", "1/x.jpg", "1/y.jpg")
    rows = [("1/x.jpg", "1,1,0,0", 1, "0", "0"), ("1\\y.jpg", ",,,", 1, "", "NULL")]
    trees.affectnet_list(tmp_path / "training.csv", rows)
    assert [(sample.box, set(sample.extra)) for sample in read(tmp_path).samples] == [
        (None, {"release", "valence", "arousal"}),
        (None, {"release"}),
    ]


def test_affectnet_lists_without_photos_or_photos_without_lists(tmp_path):
    lists, photos = tmp_path / "a", tmp_path / "b"
    trees.affectnet_list(lists / "Manually_Annotated_file_lists" / "training.csv", trees.AFFECTNET_TRAINING)
    with pytest.raises(InputError, match="has no photos of AffectNet: expected Manually_Annotated_Images"):
        read(lists)
    plant(photos / "Manually_Annotated_Images", "1/x.jpg")
    with pytest.raises(InputError, match="has no lists of AffectNet"):
        read(photos)


def test_affectnet_lists_and_photos_in_two_folders_side_by_side(tmp_path):
    source = trees.affectnet_lists(tmp_path)
    before = Counter((one.label, one.split) for one in read(source).samples)
    for part, folder in {"Manually_Annotated": "images", "Manually_Annotated_file_lists": "lists"}.items():
        (source / folder).mkdir()
        (source / part).rename(source / folder / part)
    split = read(source)
    assert Counter((one.label, one.split) for one in split.samples) == before
    assert not any("another copy or part" in note for note in split.notes)


def test_affectnet_list_without_a_column_is_refused(tmp_path):
    plant(tmp_path / "Manually_Annotated_Images", "1/x.jpg")
    trees.write(tmp_path / "training.csv", "subDirectory_filePath,expression", "1/x.jpg,1")
    with pytest.raises(InputError, match="has no column arousal, face_height"):
        read(tmp_path)


# AffectNet, the release of 2021


def test_affectnet_sets(tmp_path):
    source = trees.affectnet(tmp_path)
    result = read(source)
    assert [(place, *values) for place, values in told(result, source / "affectnet").items()] == [
        ("train_set/images/0.jpg", "neutral", "0", "train"),
        ("train_set/images/2.jpg", "contempt", "7", "train"),
        ("train_set/images/10.jpg", "surprise", "3", "train"),
        ("train_set/images/11.jpg", "anger", "6", "train"),
        ("val_set/images/0.jpg", "happiness", "1", "val"),
        ("val_set/images/1.jpg", "fear", "4", "val"),
    ]
    assert [sample.extra for sample in result.samples[3:]] == [
        {"release": "2021", "valence": -0.5, "arousal": 0.25},
        {"release": "2021", "valence": -0.125, "arousal": 0.75},
        {"release": "2021"},
    ]
    assert (result.faces, result.skipped) == ("crops", [])


def test_affectnet_codes_are_the_published_ones(tmp_path):
    words = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt", "none", "uncertain"]
    for code in range(11):
        trees.annotate(tmp_path / "val_set", code, str(code))
    result = read(tmp_path)
    assert ([sample.label for sample in result.samples], left(result)) == (words, {"extra": 1})


def test_affectnet_validation_set_alone(tmp_path):
    trees.annotate(tmp_path / "val_set", 5, "5")
    assert [(sample.label, sample.split) for sample in read(tmp_path).samples] == [("disgust", "val")]


@pytest.mark.parametrize(
    "value", [3, np.int64(3), np.float32(3), np.str_("3"), np.bytes_(b"3"), ["3"], np.array([[3]], dtype=">i4")]
)
def test_affectnet_expressions_of_any_type(value, tmp_path):
    trees.annotate(tmp_path / "train_set", 1, value)
    assert [sample.label for sample in read(tmp_path).samples] == ["surprise"]


class Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("name", ["1_exp.npy", "1_val.npy"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{'descr'",
        b"\x93NUMPY\x03\x00\x10\x00\x00\x00" + b" " * 16 + b"3",
        b"\x93NUMPY\x01\x00\xa0\x0f" + b"-" * 3999 + b"1",
        b"\x93NUMPY\x01\x00\x08\x00{1:2,'a'}",
        b"\x93NUMPY\x01\x00\x0b\x00{1:2,'a':0}",
        b"not an array at all",
        b"\x93NUMPY\x01\x00\x38\x00{'descr':'<U1','fortran_order':False,'shape':()}        \x33\x00\xf7\x00",
        pickle.dumps(Payload()),
    ],
    ids=["empty", "cut", "long", "version", "deep", "syntax", "keys", "text", "no character", "pickle"],
)
def test_affectnet_broken_annotations_lose_one_photo_and_run_nothing(name, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        trees.annotate(tmp_path / "train_set", number, "3")
    (tmp_path / "train_set" / "annotations" / name).write_bytes(content)
    result = read(tmp_path)
    assert [os.path.basename(sample.path) for sample in result.samples] == ["2.jpg"]
    assert left(result) == {"damaged": 1}
    assert not os.path.exists("ran")


@pytest.mark.parametrize(
    "value", [np.array([1, 2]), np.zeros((0,)), np.array([Payload()], dtype=object), "11", "happy", -1, np.nan]
)
def test_affectnet_expressions_that_cannot_be_lose_one_photo(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        trees.annotate(tmp_path / "train_set", number, "3")
    np.save(tmp_path / "train_set" / "annotations" / "1_exp.npy", value)
    result = read(tmp_path)
    assert ([sample.label for sample in result.samples], left(result)) == (["surprise"], {"damaged": 1})
    assert not os.path.exists("ran")


def test_affectnet_sets_say_what_is_not_there(tmp_path):
    folder = tmp_path / "train_set"
    for number in range(4):
        trees.annotate(folder, number, "10" if number == 3 else "3")
    (folder / "images" / "0.jpg").unlink()
    (folder / "annotations" / "1_exp.npy").unlink()
    (folder / "annotations" / "2_val.npy").unlink()
    result = read(tmp_path)
    assert {name: sample.extra for name, sample in by_name(result).items()} == {
        "2.jpg": {"release": "2021", "arousal": 0.2}
    }
    assert left(result) == {"missing": 1, "unlabelled": 1, "extra": 1}
    (folder / "annotations" / "._2_exp.npy").write_bytes(b"litter")
    assert left(read(tmp_path)) == left(result)


# AffectNet, Kaggle's copy


def test_affectnet_copy_believes_the_csv(tmp_path):
    source = trees.affectnet_copy(tmp_path)
    result = read(source)
    assert told(result, source) == {
        "anger/image0000006.jpg": ("surprise", "surprise", None),
        "anger/image0000060.jpg": ("anger", "anger", None),
        "happy/image0000106.jpg": ("happiness", "happy", None),
    }
    assert [sample.extra["relFCs"] for sample in result.samples] == [0.873142, 0.852311, 0.9]
    assert any("1 of 3 photos lie in the folder of another label" in note for note in result.notes)
    assert left(result) == {"missing": 1}


@pytest.mark.parametrize("quality", ["nan", "inf", "", "none"])
def test_affectnet_copy_without_a_figure_of_quality(quality, tmp_path):
    trees.write(tmp_path / "labels.csv", ",pth,label,relFCs", f"0,anger/a.jpg,anger,{quality}")
    plant(tmp_path, "anger/a.jpg")
    assert [(sample.label, sample.extra) for sample in read(tmp_path).samples] == [("anger", {"release": "copy"})]


def test_affectnet_copy_in_split_folders(tmp_path):
    rows = ("0,anger/a.jpg,anger,0.9", "1,anger/b.jpg,anger,0.9", "2,anger/c.jpg,anger,0.9")
    trees.write(tmp_path / "labels.csv", ",pth,label,relFCs", *rows)
    plant(tmp_path, "Train/anger/a.jpg", "Test/anger/b.jpg", "Train/anger/c.jpg", "Test/anger/c.jpg")
    result = read(tmp_path)
    assert told(result, tmp_path) == {
        "Train/anger/a.jpg": ("anger", "anger", "train"),
        "Test/anger/b.jpg": ("anger", "anger", "test"),
    }
    assert left(result) == {"misnamed": 1}


@pytest.mark.parametrize(("label", "message"), [("3", "is a number.*write words"), ("bored", "none of AffectNet's")])
def test_affectnet_copy_with_numbers_or_strange_words_is_refused(label, message, tmp_path):
    trees.write(tmp_path / "labels.csv", ",pth,label,relFCs", f"0,3/a.jpg,{label},0.9")
    plant(tmp_path, "3/a.jpg")
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_affectnet_copy_in_numbered_folders_is_refused(tmp_path):
    plant(tmp_path, *(f"{split}/{code}/ffhq_{code}.png" for split in ("train", "val") for code in range(8)))
    with pytest.raises(InputError, match=r"codes of emotions differ between data sets.*Rename them to words"):
        read(tmp_path)


# RAF-DB


def test_raf_db_reads_both_subsets(tmp_path):
    source = trees.raf_db(tmp_path)
    result = read(source)
    assert told(result, source / "RAF-DB") == {
        "basic/Image/aligned/train_00001_aligned.jpg": ("sadness", "5", "train"),
        "basic/Image/aligned/train_00002_aligned.jpg": ("happiness", "4", "train"),
        "basic/Image/aligned/train_00003_aligned.jpg": ("neutral", "7", "train"),
        "basic/Image/aligned/train_00004_aligned.jpg": ("surprise", "1", "train"),
        "basic/Image/aligned/test_0001_aligned.jpg": ("fear", "2", "test"),
        "basic/Image/aligned/test_0002_aligned.jpg": ("disgust", "3", "test"),
        "basic/Image/aligned/test_0003_aligned.jpg": ("anger", "6", "test"),
        "compound/Image/aligned/train_00001_aligned.jpg": ("happiness+surprise", "1", "train"),
        "compound/Image/aligned/train_00002_aligned.jpg": ("disgust+surprise", "11", "train"),
        "compound/Image/aligned/test_0001_aligned.jpg": ("fear+anger", "7", "test"),
    }
    assert Counter(sample.extra["subset"] for sample in result.samples) == {"basic": 7, "compound": 3}
    assert (result.faces, result.skipped) == ("crops", [])


def test_raf_db_pictures_in_two_folders_of_one_name(tmp_path):
    folder = trees.raf_subset(tmp_path / "basic", trees.RAF_BASIC)
    os.rename(folder / "Image" / "aligned", tmp_path / "aligned")
    (folder / "Image" / "aligned").mkdir()
    os.rename(tmp_path / "aligned", folder / "Image" / "aligned" / "aligned")
    result = read(tmp_path)
    assert (len(result.samples), result.faces, result.skipped) == (7, "crops", [])


def test_raf_db_one_subset_as_source(tmp_path):
    source = trees.raf_db(tmp_path) / "RAF-DB"
    assert len(read(source / "basic").samples) == 7
    assert len(read(source / "compound", "raf-db").samples) == 3
    os.rename(source / "compound", source / "extra")
    assert {sample.extra["subset"] for sample in read(source / "extra").samples} == {"compound"}


def test_raf_db_attributes_by_hand(tmp_path):
    source = trees.raf_db(tmp_path) / "RAF-DB" / "basic"
    aligned = by_name(read(source))["train_00001_aligned.jpg"]
    assert dict(aligned.extra) == {"subset": "basic", "gender": "female", "race": "Asian", "age": "40-69"}
    assert aligned.box is None  # the box and the landmarks are of the original
    for folder in ("Image/original", "Image/ORIGINAL"):
        os.rename(source / "Image" / "original", source / "Image" / "x")
        os.rename(source / "Image" / "x", source / folder)
        result = read(source / folder)
        original = by_name(result)["train_00001.jpg"]
        assert original.box == Face(10, 20, 50, 70)
        assert original.extra["landmarks"] == [[20.5, 30], [21.5, 31], [22.5, 32], [23.5, 33], [24.5, 34]]
        assert (original.extra["gender"], result.faces, len(result.samples)) == ("female", "photos", 7)
        os.rename(source / folder, source / "Image" / "original")


@pytest.mark.parametrize("box", ["", "1 2 3", "a b c d", "50 20 10 70", "nan nan nan nan", "1e300 0 inf 9", "1 1 1 1"])
def test_raf_db_boxes_that_are_none(box, tmp_path):
    folder = trees.raf_subset(tmp_path / "basic", trees.RAF_BASIC, kinds=("original",))
    trees.raf_annotations(folder, "train_00001", gender=7, race=0, age=4, box=box)
    sample = by_name(read(tmp_path))["train_00001.jpg"]
    assert sample.box is None
    assert {key: sample.extra.get(key) for key in ("gender", "race", "age")} == {
        "gender": None,
        "race": "Caucasian",
        "age": "70+",
    }


def test_raf_db_attributes_that_are_broken_are_passed_over(tmp_path):
    folder = trees.raf_subset(tmp_path / "basic", trees.RAF_BASIC, kinds=("original",))
    trees.raf_annotations(folder, "train_00001")
    trees.write(folder / "Annotation" / "manual" / "train_00001_manu_attri.txt", "1\t2", "1", "2")
    trees.write(folder / "Annotation" / "manual" / "train_00002_manu_attri.txt", *(["one"] * 8))
    points = ["nan\t2"] * 5  # which no table of features could keep
    trees.write(folder / "Annotation" / "manual" / "train_00003_manu_attri.txt", *points, "0", "0", "0")
    assert [sample.extra for sample in read(tmp_path).samples] == [{"subset": "basic"}] * 7


def test_raf_db_says_what_is_missing_and_what_is_in_no_list(tmp_path):
    folder = trees.raf_subset(tmp_path / "basic", trees.RAF_BASIC)
    (folder / "Image" / "aligned" / "test_0002_aligned.jpg").unlink()
    plant(folder / "Image" / "aligned", "train_00009_aligned.jpg", "collage.png")
    result = read(tmp_path)
    assert len(result.samples) == 6
    assert left(result) == {"missing": 1, "extra": 2}


@pytest.mark.parametrize("line", ["train_00001.jpg", "train_00001.jpg 8", "train_00001.jpg 0", "img.jpg 1", "a b c"])
def test_raf_db_lists_that_cannot_be_are_refused_with_the_line(line, tmp_path):
    folder = trees.raf_subset(tmp_path / "basic", trees.RAF_BASIC)
    trees.write(folder / "EmoLabel" / "list_patition_label.txt", "train_00002.jpg 4", "", line)
    with pytest.raises(InputError, match=r"list_patition_label\.txt, line 3: expected a picture's name and a code"):
        read(tmp_path)


def test_raf_db_pictures_must_be_there_and_of_one_kind(tmp_path):
    trees.raf_subset(tmp_path / "basic", trees.RAF_BASIC, kinds=())
    with pytest.raises(InputError, match="expected Image/aligned or Image/original"):
        read(tmp_path)
    trees.raf_subset(tmp_path / "basic", trees.RAF_BASIC, kinds=("aligned",))
    trees.raf_subset(tmp_path / "compound", trees.RAF_COMPOUND, kinds=("original",))
    with pytest.raises(InputError, match="give one of these folders as SOURCE"):
        read(tmp_path)
    assert len(read(tmp_path / "compound" / "Image" / "original").samples) == 3


def test_raf_db_list_spelled_right_and_in_another_case(tmp_path):
    folder = trees.raf_subset(tmp_path / "Basic", trees.RAF_BASIC)
    os.rename(folder / "EmoLabel", folder / "emolabel")
    os.rename(folder / "emolabel" / "list_patition_label.txt", folder / "emolabel" / "list_partition_label.txt")
    os.rename(folder / "Image", folder / "image")
    assert len(read(tmp_path).samples) == 7


def test_raf_db_codes_are_the_published_ones():
    assert [BASIC[code - 1] for code in range(1, 8)] == (
        ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    )
    assert len(COMPOUND) == 11
    assert [COMPOUND[code - 1] for code in (2, 3, 4, 5, 6, 8, 9, 10)] == [
        *("happiness+disgust", "sadness+fear", "sadness+anger", "sadness+surprise", "sadness+disgust"),
        *("fear+surprise", "anger+surprise", "anger+disgust"),
    ]


@pytest.mark.parametrize("tables", [True, False])
def test_raf_copy(tables, tmp_path):
    source = trees.raf_copy(tmp_path, tables)
    plant(source / "DATASET" / "train" / "5", "stranger.jpg", "Thumbs.db")
    result = read(source)
    assert told(result, source / "DATASET") == {
        f"{name.split('_')[0]}/{code}/{name.replace('.', '_aligned.')}": (
            BASIC[code - 1],
            str(code),
            name.split("_")[0],
        )
        for name, code in trees.RAF_BASIC.items()
    }
    assert left(result) == {"misnamed": 1}
    assert ("train_labels.csv" in result.notes[1]) == tables


def test_raf_copy_believes_the_csv(tmp_path):
    source = trees.raf_copy(tmp_path)
    table = source / "train_labels.csv"
    table.write_text(table.read_text().replace("train_00002_aligned.jpg,4", "train_00002_aligned.jpg,6"))
    (source / "DATASET" / "train" / "7" / "train_00003_aligned.jpg").unlink()
    plant(source / "DATASET" / "train" / "1", "train_00077_aligned.jpg")
    result = read(source)
    assert by_name(result)["train_00002_aligned.jpg"].label == "anger"
    assert any("1 pictures lie in the folder of another code" in note for note in result.notes)
    assert left(result) == {"missing": 1, "extra": 1}


@pytest.mark.parametrize("row", ["train_00001_aligned.jpg,8", "train_00001_aligned.jpg,", ",3", "x.jpg,happy"])
def test_raf_copy_with_other_codes_is_refused_with_the_line(row, tmp_path):
    source = trees.raf_copy(tmp_path)
    trees.write(source / "train_labels.csv", "image,label", row)
    with pytest.raises(InputError, match=r"train_labels\.csv, line 2: expected image,label with a code from 1 to 7"):
        read(source)
