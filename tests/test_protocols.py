"""The protocols of the literature: which samples of fake copies take part, in which parts, and what is refused."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from trees_pixels import ck48, fer2013
from trees_sequences import casme2, ckplus, ckplus_sequence, mmi, oulu_casia
from trees_stills import fed_ro, jaffe, kdef
from trees_web import affectnet, ferplus, raf_db

from featurepipe.datasets.leaks import crossing, nearest
from featurepipe.datasets.protocols import PROTOCOLS, get_protocol
from featurepipe.datasets.readers import read_source
from featurepipe.datasets.source import Source
from featurepipe.datasets.splits import Folds, deal_folds, frame_folds, nested_part
from featurepipe.errors import InputError
from featurepipe.records import Sample


def applied(name, build, path, **how):
    root = str(build(path))
    return get_protocol(name).apply(read_source(root, **how), root).samples


def counts(samples):
    return dict(Counter(sample.label for sample in samples))


# Who takes part

MMI = ("mmi_si10", "mmi_loso")


def test_ck_takes_the_last_three_frames_and_of_the_same_sequences_the_first(tmp_path):
    """Three labelled sequences (disgust, surprise, contempt), and one without label, whose first frame is left out."""
    seven = applied("ck_si10_7", ckplus, tmp_path / "a")
    assert counts(seven) == {"disgust": 3, "surprise": 3, "contempt": 3}
    eight = applied("ck_si10_8", ckplus, tmp_path / "b")
    assert counts(eight) == {"disgust": 3, "surprise": 3, "contempt": 3, "neutral": 3}
    assert {sample.sequence for sample in eight} == {"S005_001", "S010_002", "S011_001"}
    six = applied("ck_si8_lopes", ckplus, tmp_path / "c")
    assert counts(six) == {"disgust": 3, "surprise": 3}
    with_neutral = applied("ck_si8_lopes_7", ckplus, tmp_path / "d")
    assert counts(with_neutral) == {"disgust": 3, "surprise": 3, "neutral": 2}


def test_the_papers_frames_are_all_of_labelled_sequences(tmp_path):
    assert len(applied("ck_seed_random", ckplus, tmp_path, frames="all")) == 11 + 14 + 6
    assert "LEAK" in get_protocol("ck_seed_random").warning


def test_ck48_has_the_frames_of_seven_classes_and_no_neutral_ones(tmp_path):
    def build(path):
        ck48(path)
        return path / "CK+48"

    assert len(applied("ck_si10_7", build, tmp_path / "a")) == 42
    with pytest.raises(InputError, match="ck_si10_8 is of CK"):
        applied("ck_si10_8", build, tmp_path / "b")


def test_oulu_takes_visible_light_and_strong_illumination(tmp_path):
    samples = applied("oulu_si10", oulu_casia, tmp_path)
    assert len(samples) == 2 * 6 * 3
    assert {(sample.extra["camera"], sample.extra["illumination"]) for sample in samples} == {("VL", "Strong")}


def test_mmi_takes_three_frames_in_the_middle_of_the_apex_of_frontal_clips(tmp_path):
    samples = applied("mmi_si10", mmi, tmp_path)
    frames = {}
    for sample in samples:
        frames.setdefault(sample.sequence, []).append(sample.frame)
    assert {name.split("/")[0]: own for name, own in frames.items()} == {"1841": [8, 9, 10], "1842": [9, 10, 11]}


def test_mmi_one_person_at_a_time_takes_the_same_frames(tmp_path):
    names = [[sample.path + str(sample.frame) for sample in applied(name, mmi, tmp_path / "mmi")] for name in MMI]
    assert names[0] == names[1] != []


def test_casme2_takes_the_apex_of_five_classes(tmp_path):
    """Four clips have an apex (a fifth a `/` in its place); fear and sadness, seven clips and two, are left out."""
    samples = applied("casme2_loso", casme2, tmp_path)
    assert counts(samples) == {"happiness": 1, "disgust": 1, "repression": 1, "others": 1}
    rare = [Sample("a.jpg", label=label, subject="sub01", role="apex") for label in ("fear", "sadness", "surprise")]
    assert counts(get_protocol("casme2_loso").apply(Source(rare, "casme2", "photos"), "x").samples) == {"surprise": 1}


@pytest.mark.parametrize("name", ["mmi_loso", "casme2_loso"])
def test_one_person_is_left_out_at_a_time(name):
    protocol = get_protocol(name)
    assert (protocol.scheme, protocol.n_folds) == ("dealt", 0)


@pytest.mark.parametrize(
    ("frames", "middle"), [([7, 8], [7, 8]), ([1, 2, 3, 4], [1, 2, 3]), ([1, 2, 3, 4, 5], [2, 3, 4])]
)
def test_the_middle_of_an_apex_of_mmi(frames, middle):
    clip = [
        Sample("a.avi", label="anger", subject="S1", sequence="1", frame=frame, role="apex", extra={"view": "frontal"})
        for frame in frames
    ]
    taken = get_protocol("mmi_si10").apply(Source(clip, "mmi", "photos"), "x").samples
    assert [sample.frame for sample in taken] == middle


def test_stills(tmp_path):
    assert len(applied("kdef_si", kdef, tmp_path / "kdef")) == 4 * 2 * 7
    assert len(applied("jaffe_loso", jaffe, tmp_path / "jaffe")) == 213
    assert all("+" not in sample.label for sample in applied("rafdb_std", raf_db, tmp_path / "raf"))
    assert len(applied("fedro_cross", fed_ro, tmp_path / "fed")) == 14


def test_affectnet_is_tested_on_its_val(tmp_path):
    samples = applied("affectnet8", affectnet, tmp_path / "a")
    assert Counter(sample.split for sample in samples) == {"train": 4, "test": 2}
    assert Counter(sample.split for sample in applied("affectnet7", affectnet, tmp_path / "b")) == {
        "train": 3,
        "test": 2,
    }


def test_parts_of_fer2013(tmp_path):
    """With PrivateTest it is tested on and PublicTest chosen on; the released loader has them the other way round."""

    def split_of(samples):
        return {sample.path.rpartition("#")[2]: sample.split for sample in samples}

    standard = split_of(applied("fer2013_standard", fer2013, tmp_path / "a"))
    released = split_of(applied("fer2013_kc_as_released", fer2013, tmp_path / "b"))
    assert Counter(standard.values()) == {"train": 7, "val": 7, "test": 7}
    other = {"train": "train", "val": "test", "test": "val"}
    assert released == {row: other[split] for row, split in standard.items()}


def grey(rows, side=48):
    pixels = np.zeros((side, side), np.uint8)
    return [Sample(f"a#{row}", label=label, split=split, pixels=pixels) for row, (label, split) in enumerate(rows)]


def test_without_private_test_public_test_is_tested_on():
    source = Source(grey([("anger", "train"), ("fear", "val")]), "npz", "crops")
    samples = get_protocol("fer2013_standard").apply(source, "a.npz").samples
    assert [sample.split for sample in samples] == ["train", "test"]
    with pytest.raises(InputError, match="no labelled sample of protocol fer2013_kc_as_released"):
        get_protocol("fer2013_kc_as_released").apply(source, "a.npz")


def test_ferplus(tmp_path):
    assert {sample.split for sample in applied("ferplus_majority", ferplus, tmp_path)} == {"train", "val", "test"}


# What does not fit


@pytest.mark.parametrize(
    ("samples", "dataset", "said"),
    [
        (grey([("anger", "train"), ("fear", "val")], side=32), "npz", "is of FER2013, and a.npz was read as npz"),
        (grey([("contempt", "train"), ("fear", "val")]), "npz", "is of FER2013"),
        (grey([("anger", "train"), ("fear", None)]), "npz", "is of FER2013"),
        (grey([("anger", "train"), ("fear", "train")]), "npz", "has no photo to test on"),
        (grey([("anger", "val")]), "fer2013", "has no photo to fit on"),
        ([], "fer2013", "no labelled sample"),
    ],
)
def test_what_is_not_fer2013_is_refused(samples, dataset, said):
    with pytest.raises(InputError, match=said):
        get_protocol("fer2013_standard").apply(Source(samples, dataset, "crops"), "a.npz")


def test_protocols_of_people_are_refused_where_people_are_unknown():
    source = Source(grey([("anger", None), ("fear", None)]), "fer2013", "crops")
    with pytest.raises(InputError, match="the subject of 2 of 2 photos of x is unknown: FER2013 does not say"):
        get_protocol("kfold_subject").apply(source, "x")
    assert len(get_protocol("holdout").apply(source, "x").samples) == 2


def test_photos_without_a_label_take_no_part_and_their_people_need_not_be_known():
    named = [replace(sample, subject="S1") for sample in grey([("anger", None), ("fear", None)])]
    source = Source([*named, *grey([(None, None)])], "csv", "photos")
    for name in ("kfold_subject", "holdout"):
        assert get_protocol(name).apply(source, "x").samples == named


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match="known are fer2013_standard"):
        get_protocol("ck")
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())


# Parts


def test_subjects_are_dealt_in_ascending_order():
    subjects = ["S010", "S005", "S011", "S010", "S999", "S052"]
    names = {"contents": list("abcdef"), "paths": list("abcdef")}
    folds = deal_folds(subjects, n_folds=3, **names)
    assert folds.fold_of.tolist() == [1, 0, 2, 1, 1, 0]  # S005 S010 S011 S052 S999 into 0 1 2 0 1
    assert deal_folds(subjects, **names).fold_of.tolist() == [1, 0, 2, 1, 4, 3]
    with pytest.raises(InputError, match="5 subjects are too few for 6 folds"):
        deal_folds(subjects, n_folds=6, **names)
    with pytest.raises(InputError, match="1 subjects are too few for 2 folds"):
        deal_folds(["S005"] * 6, **names)


def test_ten_folds_of_ck(tmp_path):
    """Twelve people: the first and the eleventh are in one fold, the second and the twelfth."""
    for number in range(12):
        ckplus_sequence(tmp_path, f"S{number:03}", "001", range(1, 5), 1 + number % 7)
    samples = get_protocol("ck_si10_7").apply(read_source(str(tmp_path)), "x").samples
    names = {"contents": [sample.path for sample in samples], "paths": [sample.path for sample in samples]}
    folds = deal_folds([sample.subject for sample in samples], n_folds=10, **names)
    tested = [sorted({samples[row].subject for row in test}) for _, test in folds.parts()]
    assert tested[:3] == [["S000", "S010"], ["S001", "S011"], ["S002"]]
    assert len(tested) == 10


def test_random_frames_have_the_papers_sizes_and_shares():
    keys = [str(number) for number in range(10708)]
    folds = frame_folds(contents=keys, paths=keys, seed=1)
    assert np.bincount(folds.fold_of).tolist() == [708, 1000, 1000, 8000]
    few = frame_folds(contents=keys[:1308], paths=keys[:1308])
    assert np.bincount(few.fold_of).tolist() == [86, 123, 122, 977]  # 977.2, 1099.4 and 1221.5 of 1308
    assert folds.identity == "shared"
    assert (folds.fold_of != frame_folds(contents=keys, paths=keys, seed=2).fold_of).any()


def test_random_frames_are_the_same_wherever_they_lie():
    keys = [f"content{number}" for number in range(100)]
    here, there = (frame_folds(contents=keys, paths=[f"{folder}/{key}" for key in keys]) for folder in ("a", "b"))
    np.testing.assert_array_equal(here.fold_of, there.fold_of)


def test_folds_name_their_protocol_and_older_files_have_none(tmp_path):
    names = {"contents": list("abcd"), "paths": list("abcd")}
    path = tmp_path / "folds.json"
    frame_folds(**names).save(path)
    loaded = Folds.load(path)
    assert (loaded.identity, loaded.protocol) == ("shared", "")
    loaded.check(["S1"] * 4, ["a"] * 4)  # one person everywhere is what they are
    path.write_text(path.read_text(encoding="utf-8").replace('"protocol": "",', ""))
    assert Folds.load(path).protocol == ""


def test_smaller_parts_are_nested_and_stratified_whatever_the_order():
    rng = np.random.default_rng(0)
    labels = ["anger"] * 60 + ["fear"] * 30 + ["disgust"] * 3
    keys = [str(number) for number in range(93)]
    parts = [set(nested_part(labels, keys, share, 4)) for share in (0.1, 0.5, 1.0)]
    assert parts[0] < parts[1] < parts[2] == set(range(93))
    assert Counter(labels[row] for row in parts[0]) == {"anger": 6, "fear": 3, "disgust": 1}
    order = rng.permutation(93)
    shuffled = nested_part([labels[row] for row in order], [keys[row] for row in order], 0.1, 4)
    assert {order[row] for row in shuffled} == parts[0]


# Leaks


def test_people_and_copies_on_both_sides():
    found = crossing((["S1", "S2", None, ""], ["a", "b", "c", "d"]), (["S2", "S3", None, ""], ["a", "x", "a", "y"]))
    assert (found.people, found.copies) == (("S2",), 2)


def test_nearest_faces_equal_scipys():
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(0)
    known, faces = rng.normal(size=(40, 128)).astype(np.float32), rng.normal(size=(700, 128)).astype(np.float32)
    faces[5] = known[7]
    rows, distances = nearest(known, faces)
    wanted = cdist(faces.astype(float), known.astype(float))
    assert (rows == wanted.argmin(1)).all()
    np.testing.assert_allclose(distances, wanted.min(1), atol=1e-6)
    assert (rows[5], distances[5] < 1e-5) == (7, True)
