"""Readers of the databases of stills, on small copies with the official names and quirks."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import trees_stills as trees
from command_helpers import run, untrained_weights
from PIL import Image
from trees_stills import TREES, plant

from featurepipe.datasets.database import find_roots
from featurepipe.datasets.readers import read_database, read_source
from featurepipe.datasets.registry import DATABASES
from featurepipe.datasets.splits import make_folds
from featurepipe.datasets.verify import verify
from featurepipe.errors import InputError
from featurepipe.features.table import FeatureTable
from featurepipe.labels import EMOTIONS, canonical

ALL_AT_ONCE = [DATABASES[name] for name in TREES]


def read(source, name=None):
    return read_source(str(source), name)


def by_file(read_of):
    """{file name: sample}"""
    return {os.path.basename(sample.path): sample for sample in read_of.samples}


def labels(read_of):
    return dict(Counter(sample.label for sample in read_of.samples))


def kinds(read_of):
    return dict(Counter(one.kind for one in read_of.skipped))


def check(source, name):
    """The report of verify, as if every photo decodes."""
    copy = read_database(DATABASES[name], str(source), "all")
    return verify(DATABASES[name], copy, [])


def differing(report):
    return {(count.unit, count.label): (count.here, count.official) for count in report.counts if count.differs}


# Every one of them


@pytest.mark.parametrize("name", TREES)
class TestEvery:
    def test_found_by_its_own_marker_alone(self, name, tmp_path):
        source = TREES[name](tmp_path)
        assert {database.name for _, database in find_roots(str(source), ALL_AT_ONCE)} == {name}
        copy = read(source)
        assert copy.dataset == name
        assert f"--dataset {name}" in copy.notes[0]

    def test_found_in_redundant_folders(self, name, tmp_path):
        source = TREES[name](tmp_path / "a" / "b")
        assert len(read(tmp_path / "a").samples) == len(read(source).samples)

    def test_samples_open_and_say_what_they_are(self, name, tmp_path):
        copy = read(TREES[name](tmp_path))
        assert all(os.path.isfile(sample.path) for sample in copy.samples)
        assert {sample.role for sample in copy.samples} == {"still"}
        assert {sample.label for sample in copy.samples} - {None} <= set(DATABASES[name].labels)
        assert any(sample.subject for sample in copy.samples) == (DATABASES[name].identity == "known")
        json.dumps([dict(sample.extra) for sample in copy.samples])

    def test_order_and_content_do_not_depend_on_the_order_of_writing(self, name, tmp_path):
        first = TREES[name](tmp_path / "first")
        second = tmp_path / "second" / first.relative_to(tmp_path / "first")
        for path in sorted(first.rglob("*"), reverse=True):
            if path.is_file():
                target = second / path.relative_to(first)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        told = [
            [(os.path.relpath(sample.path, root), sample.label, dict(sample.extra)) for sample in read(root).samples]
            for root in (first, second)
        ]
        assert told[0] == told[1]

    def test_litter_makes_no_difference(self, name, tmp_path):
        source = TREES[name](tmp_path)
        before = read(source)
        places = [Path(sample.path).parent for sample in before.samples[:3]]
        for place in places:
            hidden = (f"._{Path(sample.path).name}" for sample in before.samples[:3])
            plant(place, *hidden, ".DS_Store", "Thumbs.db", "desktop.ini", "README.txt", "__MACOSX/._x.jpg")
        after = read(source)
        assert after.samples == before.samples
        assert after.skipped == before.skipped

    def test_names_in_another_case(self, name, tmp_path):
        source = TREES[name](tmp_path)
        before = labels(read(source))
        photos = [Path(sample.path) for sample in read(source).samples]
        for photo in photos:
            photo.rename(photo.with_name(photo.name.swapcase()))
        assert labels(read(source)) == before

    def test_strange_photos_are_told_and_left_out(self, name, tmp_path):
        source = TREES[name](tmp_path)
        before = read(source)
        root = os.path.commonpath([sample.path for sample in before.samples])
        plant(Path(root), "holiday/beach.jpg")
        after = read(source)
        assert after.samples == before.samples
        (stranger,) = [one for one in after.skipped if one not in before.skipped]
        assert stranger.kind == "misnamed"
        assert stranger.path.endswith("beach.jpg")
        assert any("misnamed file" in note and "beach.jpg" in note for note in after.notes)

    def test_no_copy_of_it_is_told_what_was_looked_for(self, name, tmp_path):
        plant(tmp_path, "cats/1.jpg", "dogs/2.jpg")
        with pytest.raises(InputError, match="looked for"):
            read(tmp_path, name)


def test_two_databases_side_by_side_are_not_mixed(tmp_path):
    trees.jaffe(tmp_path)
    trees.kdef(tmp_path)
    with pytest.raises(InputError, match=r"more than one database: jaffe .*kdef"):
        read(tmp_path)
    assert len(read(tmp_path, "jaffe").samples) == 213
    assert read(tmp_path, "kdef").dataset == "kdef"


def test_a_large_flat_database_does_not_hide_the_one_beside_it(tmp_path):
    models = [f"{number:02}_Caucasian_male" for number in range(1, 20)]
    plant(tmp_path / "rafd", *trees.rafd_names(models)[:2100])
    trees.kdef(tmp_path / "kdef", ["F01"])
    with pytest.raises(InputError, match=r"more than one database: kdef .*rafd \(.*/rafd\)"):
        read(tmp_path)


# Multi-PIE


class TestMultiPIE:
    def test_expressions_by_session_and_recording(self, tmp_path):
        # 001 has 11 recordings and 002 two, each from two cameras with two lights.
        copy = read(trees.multipie(tmp_path))
        assert labels(copy) == {
            "neutral": 4 * 6,  # session 4 has two
            "happiness": 4 * 3,
            "surprise": 4,
            "squint": 4,
            "disgust": 4,
            "scream": 4,
        }
        smile = by_file(copy)["001_03_02_051_07.png"]
        assert (smile.label, smile.raw_label, smile.subject) == ("happiness", "smile", "001")
        assert by_file(copy)["001_04_02_051_07.png"].label == "neutral"
        assert by_file(copy)["001_04_03_051_07.png"].label == "scream"

    def test_what_the_name_and_the_list_of_subjects_say(self, tmp_path):
        photos = by_file(read(trees.multipie(tmp_path)))
        assert photos["002_01_02_051_00.png"].extra == {
            "session": 1,
            "recording": 2,
            "camera": "05_1",
            "illumination": 0,
            "yaw": 0,
            "birth_year": 1975,
            "gender": "female",
        }
        assert photos["001_02_03_051_07.png"].extra["gender"] == "male"
        assert "yaw" not in photos["001_02_03_081_07.png"].extra

    def test_yaw_is_15_degrees_from_camera_to_camera(self, tmp_path):
        names = [trees.multipie_name("007", 1, 1, camera) for camera in ("11_0", "14_0", "05_0", "24_0")]
        copy = read(plant(tmp_path, *names))
        assert sorted(sample.extra["yaw"] for sample in copy.samples) == [-90, -15, 15, 90]

    def test_session_that_the_list_names_but_is_lost(self, tmp_path):
        copy = read(trees.multipie(tmp_path))
        (lost,) = [one for one in copy.skipped if one.kind == "missing"]
        assert lost.path == "session03/multiview/002"

    def test_high_resolution_photos_are_left_unlabelled(self, tmp_path):
        copy = read(trees.multipie(tmp_path))
        (high,) = [one for one in copy.skipped if one.kind == "unlabelled"]
        assert high.path.endswith("highres/001/001_01_01.jpg")

    def test_data_folder_alone_finds_the_list_beside_it(self, tmp_path):
        copy = read(trees.multipie(tmp_path) / "data")
        assert copy.samples[0].extra["birth_year"] == 1980

    def test_flat_copy_without_list(self, tmp_path):
        copy = read(plant(tmp_path / "flat", "001_01_02_051_07.jpg", "346_04_03_240_19.BMP"))
        assert [sample.label for sample in copy.samples] == ["happiness", "scream"]
        assert "gender" not in copy.samples[0].extra

    def test_a_second_copy_does_not_count_twice(self, tmp_path):
        source = trees.multipie(tmp_path)
        plant(source / "sorted" / "smile", "001_01_02_051_07.png")
        copy = read(source)
        assert len(copy.samples) == 52
        assert kinds(copy)["extra"] == 1

    def test_recordings_and_cameras_that_never_were(self, tmp_path):
        strange = ("001_01_03_051_07.png", "001_01_01_052_07.png", "001_01_01_051_20.png", "001_05_01_051_07.png")
        copy = read(plant(tmp_path / "flat", *strange, *(f"00{n}_01_01_051_07.png" for n in range(1, 7))))
        assert len(copy.samples) == 6
        assert kinds(copy) == {"misnamed": 4}

    def test_a_bad_line_of_the_list_is_told(self, tmp_path):
        source = trees.multipie(tmp_path)
        (source / "meta" / "subject_list.txt").write_text(
            "001 1980 Male 1 1 1 1\nid year gender\n\n2 1975 Male 1 0 1 0\n"
        )
        copy = read(source)
        assert any("line 2 is not" in note for note in copy.notes)
        assert by_file(copy)["002_01_01_051_07.png"].extra["gender"] == "male"

    def test_equal_extras_are_one_object(self, tmp_path):
        copy = read(plant(tmp_path / "flat", "001_01_01_051_07.png", "002_01_01_051_07.png"))
        assert copy.samples[0].extra is copy.samples[1].extra


# JAFFE


class TestJAFFE:
    def test_the_whole_archive(self, tmp_path):
        source = trees.jaffe(tmp_path)
        copy = read(source)
        assert len(copy.samples) == 213
        people = {"KA": 23, "KL": 22, "KM": 22, "KR": 20, "MK": 21, "NA": 21, "NM": 20, "TM": 21, "UY": 21, "YM": 22}
        assert Counter(sample.subject for sample in copy.samples) == people
        report = check(source, "jaffe")
        assert report.whole
        assert differing(report) == {}

    def test_fields_stand_between_dots(self, tmp_path):
        # SA and SU are in the names of no subject, but NA, KA and the like hold letters of codes.
        photos = by_file(read(plant(tmp_path / "x", "KM.SA5.13.tiff", "NA.NE1.199.tiff", "KA.AN1.39.tiff")))
        assert photos["KM.SA5.13.tiff"].label == "sadness"
        assert photos["KM.SA5.13.tiff"].extra == {"take": 5, "number": 13}
        assert (photos["NA.NE1.199.tiff"].subject, photos["NA.NE1.199.tiff"].raw_label) == ("NA", "NE")

    def test_conversions_are_not_read_beside_their_originals(self, tmp_path):
        source = plant(
            tmp_path / "x", "jpg/KA.AN1.39.jpg", "KA.AN1.39.tiff", "KA.AN2.40.TIF", "ka.an2.40.png", "UY.FE1.5.jpg"
        )
        copy = read(source)
        assert sorted(by_file(copy)) == ["KA.AN1.39.tiff", "KA.AN2.40.TIF", "UY.FE1.5.jpg"]
        assert kinds(copy) == {"extra": 2}

    def test_ratings_by_number_and_picture(self, tmp_path):
        source = plant(tmp_path / "x", "KA.AN1.1.tiff", "KA.FE1.9.tiff", "KL.NE2.30.tiff")
        rows = [
            (1, (1.0, 2.0, 1.5, 4.5, 3.0, 1.25), "KA-AN1"),
            (9, (1.0, 1.0, 4.5, 1.0, 1.0, 4.0), "KA-FE1"),
            (30, (2.0, 2.0, 2.0, 2.0, 2.0, 2.0), "KL-HA1"),  # another picture than that of the file
        ]
        (source / "README").write_text(trees.jaffe_table(rows))
        copy = read(source)
        photos = by_file(copy)
        ratings = {"happiness": 1.0, "sadness": 2.0, "surprise": 1.5, "anger": 4.5, "disgust": 3.0, "fear": 1.25}
        assert photos["KA.AN1.1.tiff"].extra["ratings"] == ratings
        assert photos["KA.FE1.9.tiff"].label == "fear"  # posed, though rated surprise
        assert "ratings" not in photos["KL.NE2.30.tiff"].extra
        assert any("for 2 of 3 photos" in note and "1 of these" in note for note in copy.notes)

    def test_columns_of_the_table_in_another_order_and_without_a_heading_for_the_number(self, tmp_path):
        source = plant(tmp_path / "x", "KA.AN1.1.tiff")
        (source / "labels.txt").write_text("FEA DIS ANG SUR SAD HAP\n1 1.1 1.2 1.3 1.4 1.5 1.6\n")
        ratings = read(source).samples[0].extra["ratings"]
        assert ratings == {"happiness": 1.6, "sadness": 1.5, "surprise": 1.4, "anger": 1.3, "disgust": 1.2, "fear": 1.1}

    def test_second_table_without_fear_and_broken_lines_change_nothing(self, tmp_path):
        source = plant(tmp_path / "x", "KA.AN1.1.tiff", "KA.AN2.2.tiff")
        first = trees.jaffe_table([(1, (1, 2, 3, 4, 5, 1), "KA-AN1")])
        second = "# HAP SAD SUR ANG DIS PIC\n1 5.0 5.0 5.0 5.0 5.0 KA-AN1\n2 nan 1 1 1 1 1 KA-AN2\n2 1 1\n"
        (source / "README").write_bytes((first + second).encode() + b"Universit\xe9\n")
        photos = by_file(read(source))
        assert photos["KA.AN1.1.tiff"].extra["ratings"]["anger"] == 4
        assert "ratings" not in photos["KA.AN2.2.tiff"].extra

    def test_a_text_without_end_is_refused(self, tmp_path):
        source = plant(tmp_path / "x", "KA.AN1.1.tiff")
        with open(source / "README", "wb") as stream:
            stream.truncate((16 << 20) + 1)
        with pytest.raises(InputError, match="more than 16 MiB"):
            read(source)


# BU-3DFE


class TestBU3DFE:
    def test_frontal_photos_alone(self, tmp_path):
        copy = read(trees.bu_3dfe(tmp_path))
        assert len(copy.samples) == 2 * 25
        assert labels(copy) == {
            **dict.fromkeys(("anger", "disgust", "fear", "happiness", "sadness", "surprise"), 8),
            "neutral": 2,
        }
        assert all(sample.path.endswith("_F2D.bmp") for sample in copy.samples)
        assert kinds(copy) == {"extra": 50}  # the textures; meshes and points are no photos

    def test_what_the_name_says(self, tmp_path):
        photos = by_file(read(trees.bu_3dfe(tmp_path)))
        angry = photos["F0001_AN03WH_F2D.bmp"]
        assert (angry.subject, angry.label, angry.raw_label) == ("F0001", "anger", "AN")
        assert angry.extra == {"intensity": 3, "gender": "female", "race": "white"}
        neutral = photos["M0044_NE00AE_F2D.bmp"]
        assert neutral.label == "neutral"
        assert neutral.extra == {"intensity": 0, "gender": "male", "race": "East-Asian"}

    def test_the_whole_database(self, tmp_path):
        women = [f"F{number:04}WH" for number in range(1, 57)]
        men = [f"M{number:04}BL" for number in range(1, 45)]
        names = [
            f"{person[:5]}/{person[:5]}_{scan}{person[5:]}_F2D.bmp" for person in women + men for scan in trees.BU_SCANS
        ]
        report = check(plant(tmp_path / "BU_3DFE", *names), "bu-3dfe")
        assert report.whole
        assert differing(report) == {}

    def test_a_lost_scan_and_one_that_never_was(self, tmp_path):
        source = trees.bu_3dfe(tmp_path)
        folder = source / "Subjects" / "F0001"
        (folder / "F0001_HA02WH_F2D.bmp").unlink()
        plant(folder, "F0001_NE01WH_F2D.bmp", "F0001_HA05WH_F2D.bmp")
        report = check(source, "bu-3dfe")
        assert not report.whole
        assert {(one.kind, os.path.basename(one.path)) for one in report.faults} == {
            ("missing", "F0001_HA02WH_F2D.bmp"),
            ("misnamed", "F0001_NE01WH_F2D.bmp"),
            ("misnamed", "F0001_HA05WH_F2D.bmp"),
        }
        assert differing(report)["scans", "happiness"] == (7, 400)


# RaFD


class TestRaFD:
    def test_what_the_name_says(self, tmp_path):
        copy = read(trees.rafd(tmp_path))
        assert len(copy.samples) == 3 * 8 * 3 * 5
        photo = by_file(copy)["Rafd090_11_Kid_female_disgusted_right.jpg"]
        assert (photo.subject, photo.label, photo.raw_label) == ("11", "disgust", "disgusted")
        assert photo.extra == {"camera": "090", "gaze": "right", "group": "kid", "gender": "female"}

    def test_the_whole_database(self, tmp_path):
        models = [f"{number:02}_Caucasian_male" for number in range(1, 74) if number not in (6, 13, 17, 34, 62, 66)]
        report = check(trees.rafd(tmp_path, models), "rafd")
        assert report.whole
        assert [(count.unit, count.here) for count in report.counts if count.label is None] == [
            ("photos", 8040),
            ("photos of camera 090", 1608),
            ("photos of camera 090, frontal gaze", 536),
        ]
        assert differing(report) == {}

    def test_three_gazes_are_of_one_subject(self, tmp_path):
        photos = by_file(read(trees.rafd(tmp_path)))
        gazes = [photos[f"Rafd090_73_Moroccan_male_happy_{gaze}.jpg"] for gaze in ("frontal", "left", "right")]
        assert {photo.subject for photo in gazes} == {"73"}

    def test_sorted_copies_in_another_case(self, tmp_path):
        names = [name.upper() for name in trees.rafd_names(["01_Caucasian_female"])]
        source = plant(tmp_path / "by_emotion", *(f"{'ANG' if 'ANGRY' in name else 'other'}/{name}" for name in names))
        assert labels(read(source)) == dict.fromkeys(DATABASES["rafd"].labels, 15)

    def test_a_flat_and_a_sorted_copy_count_once(self, tmp_path):
        source = trees.rafd(tmp_path)
        plant(source / "angry", "rafd090_01_caucasian_female_angry_frontal.JPG")
        copy = read(source)
        assert len(copy.samples) == 360
        assert kinds(copy) == {"extra": 1}

    def test_frontal_camera_alone_lacks_nothing_but_what_is_lost(self, tmp_path):
        names = [name for name in trees.rafd_names(["01_Caucasian_female"]) if name.startswith("Rafd090")]
        source = plant(tmp_path / "frontal", *names)
        assert kinds(read(source)) == {}
        (source / names[0]).unlink()
        (lost,) = read(source).skipped
        assert (lost.kind, lost.path) == ("missing", names[0])

    def test_rendered_faces_through_extract_and_folds_by_subject(self, rendered, tmp_path, capsys):
        weights = untrained_weights(tmp_path / "fer.safetensors")
        photos = sorted(rendered.glob("subject-00[0-3]/*.jpg"))
        assert len(photos) == 32
        for photo in photos:
            emotion = photo.name.partition("-")[0]
            word = next(word for word in trees.RAFD_WORDS if canonical(word) == emotion)
            name = f"Rafd090_{int(photo.parent.name[-3:]) + 1:02}_Caucasian_female_{word}_frontal.jpg"
            (tmp_path / "rafd").mkdir(exist_ok=True)
            shutil.copy(photo, tmp_path / "rafd" / name)
        words = ("extract", tmp_path / "rafd", "--table", tmp_path / "table", "--weights", weights, "--workers", 0)
        assert run(capsys, *words)["statuses"] == {"ok": 32}
        samples = FeatureTable.open(tmp_path / "table").samples()
        told = {name: samples.column(name).to_pylist() for name in ("label", "raw_label", "subject", "role", "path")}
        assert Counter(told["subject"]) == dict.fromkeys(("01", "02", "03", "04"), 8)
        assert Counter(told["label"]) == dict.fromkeys(EMOTIONS, 4)
        assert set(told["role"]) == {"still"}
        folds = make_folds(
            told["label"], subjects=told["subject"], contents=told["path"], paths=told["path"], n_folds=4
        )
        assert folds.identity == "known"
        for _, test in folds.parts():
            assert len({told["subject"][place] for place in test}) == 1


# KDEF


class TestKDEF:
    def test_what_the_name_says(self, tmp_path):
        photos = by_file(read(trees.kdef(tmp_path)))
        afraid = photos["BF01AFHL.JPG"]
        assert (afraid.label, afraid.raw_label, afraid.subject) == ("fear", "AF", "F01")
        assert afraid.extra == {"session": "B", "gender": "female", "view": "half left"}
        # AF is a session and a gender here, and no expression.
        assert photos["AF01HAS.JPG"].label == "happiness"
        assert photos["AM25SUS.JPG"].extra["view"] == "straight"

    def test_both_sessions_are_of_one_subject(self, tmp_path):
        copy = read(trees.kdef(tmp_path))
        assert {sample.subject for sample in copy.samples} == {"F01", "F31", "M31", "M25"}

    def test_the_whole_archive_with_its_faults(self, tmp_path):
        people = [f"{gender}{number:02}" for gender in "FM" for number in range(1, 36)]
        source = trees.kdef(tmp_path, people)
        copy = read(source)
        assert len(copy.samples) == 4890
        assert kinds(copy) == {"damaged": 10, "extra": 70}
        report = check(source, "kdef")
        assert report.whole
        assert differing(report) == {}
        totals = {count.unit: count for count in report.counts if count.label is None}
        assert (totals["photos of all angles"].here, totals["photos of all angles"].known_damage) == (4900, 10)
        assert (totals["frontal photos"].here, totals["frontal photos"].known_damage) == (980, 0)

    def test_black_pictures_are_left_out_as_damaged(self, tmp_path):
        copy = read(trees.kdef(tmp_path))
        damaged = [one for one in copy.skipped if one.kind == "damaged"]
        assert [os.path.basename(one.path) for one in damaged] == ["AF01SUFR.JPG", "AM25DIFL.JPG"]
        assert [one.sample.label for one in damaged] == ["surprise", "disgust"]

    def test_broken_names_are_read_as_what_is_missing(self, tmp_path):
        copy = read(trees.kdef(tmp_path))
        photos = by_file(copy)
        sad, surprised = photos["AF31V.JPG"], photos["AM31H.JPG"]
        assert (sad.label, sad.subject, sad.extra["view"]) == ("sadness", "F31", "half left")
        assert (surprised.label, surprised.subject, surprised.extra["view"]) == ("surprise", "M31", "half right")
        assert sum("broken in the official archive" in note for note in copy.notes) == 2

    def test_a_mended_name_is_read_once(self, tmp_path):
        source = trees.kdef(tmp_path)
        plant(source, "mended/AF31SAHL.JPG")
        copy = read(source)
        photos = by_file(copy)
        assert photos["AF31SAHL.JPG"].label == "sadness"
        assert "AF31V.JPG" not in photos
        assert sum("broken in the official archive" in note for note in copy.notes) == 1

    def test_of_copies_the_one_in_the_official_folder_is_read(self, tmp_path):
        source = trees.kdef(tmp_path)
        before = read(source)
        plant(source, *(f"KDEF_and_AKDEF/Cropped/AF01/AF01{code}S.JPG" for code in trees.KDEF_CODES))
        after = read(source)
        assert after.samples == before.samples
        assert len(after.skipped) == len(before.skipped) + 7

    def test_a_short_name_of_an_averaged_face_is_no_marker(self, tmp_path):
        assert read(plant(tmp_path / "x", "fans.jpg")).dataset == "folder"

    def test_without_official_photos_none_is_missing(self, tmp_path):
        plant(tmp_path, "AKDEF/FANS.JPG")
        assert not [one for one in DATABASES["kdef"].read(str(tmp_path), "apex").skipped if one.kind == "missing"]

    def test_averaged_faces_are_counted_and_left_out(self, tmp_path):
        copy = read(trees.kdef(tmp_path))
        averaged = [one for one in copy.skipped if one.kind == "extra"]
        assert len(averaged) == 70
        assert any(one.path.endswith("FAHR.JPG") for one in averaged)
        assert not any("AKDEF" in sample.path.rpartition("KDEF_and_AKDEF")[2] for sample in copy.samples)

    def test_verify_finds_black_pictures_that_are_not_known(self, tmp_path, capsys):
        source = trees.kdef(tmp_path, ["F02"])
        noise = np.random.default_rng(0).integers(0, 3, (16, 16)).astype(np.uint8)
        Image.fromarray(noise).save(source / "KDEF_and_AKDEF" / "KDEF" / "AF02" / "AF02ANS.JPG")
        (source / "KDEF_and_AKDEF" / "KDEF" / "AF02" / "AF02DIS.JPG").write_bytes(b"no picture")
        told = run(capsys, "datasets", "verify", "kdef", source)
        damaged = {os.path.basename(one["path"]) for one in told["left_out"] if one["kind"] == "damaged"}
        assert damaged == {"AF02ANS.JPG", "AF02DIS.JPG"}

    def test_a_lost_picture_is_named(self, tmp_path):
        source = trees.kdef(tmp_path)
        (source / "KDEF_and_AKDEF" / "KDEF" / "AF01" / "AF01ANFL.JPG").unlink()
        (lost,) = [one for one in read(source).skipped if one.kind == "missing"]
        assert lost.path == "AF01ANFL.JPG"

    def test_numbers_beyond_the_official_ones(self, tmp_path):
        source = plant(
            tmp_path / "x", "AF36ANS.JPG", "AF00ANS.JPG", "CF01ANS.JPG", *(f"AF0{n}ANS.JPG" for n in range(1, 8))
        )
        assert kinds(read(source)) == {"misnamed": 3}


# FED-RO


class TestFEDRO:
    def test_neural_is_neutral_and_all_are_for_tests(self, tmp_path):
        copy = read(trees.fed_ro(tmp_path))
        assert labels(copy) == dict.fromkeys(DATABASES["fed-ro"].labels, 2)
        assert {sample.split for sample in copy.samples} == {"test"}
        assert {sample.raw_label for sample in copy.samples if sample.label == "neutral"} == {"neural"}
        assert copy.faces == "crops"

    def test_the_right_spelling_is_known_by_the_folder(self, tmp_path):
        words = ("anger", "Disgust", "fear", "happy", "neutral", "sad", "surprise")
        source = plant(tmp_path / "fed_ro", *(f"{word}/1.jpg" for word in words))
        copy = read(source)
        assert copy.dataset == "fed-ro"
        assert labels(copy)["neutral"] == 1
        assert copy.faces == "photos"

    def test_other_class_folders_are_not_taken_for_it(self, tmp_path):
        plant(tmp_path / "mine", "anger/1.jpg", "neutral/2.jpg", "sad/3.jpg")
        assert read(tmp_path / "mine").dataset == "folder"

    @pytest.mark.parametrize(
        ("place", "classes", "photos"),
        [
            ("mine", "anger neural sad", 3),
            ("mine", "anger disgust fear happy neural sad surprise others", 8),
            ("mine/train", "anger disgust fear happy neural sad surprise", 7),
            ("mine", "anger disgust fear happy neural sad surprise", 451),
            ("alfedrov", "anger neutral sad", 3),
        ],
    )
    def test_own_photos_with_its_misspelling_are_not_taken_for_it(self, place, classes, photos, tmp_path):
        words = classes.split()
        source = plant(tmp_path / place, *(f"{words[n % len(words)]}/{n}.jpg" for n in range(photos)))
        assert read(source).dataset == "folder"
        assert {sample.split for sample in read(tmp_path).samples} <= {None, "train"}

    def test_its_seven_folders_alone_are_known_under_another_name(self, tmp_path):
        words = ("anger", "disgust", "fear", "happy", "neural", "sad", "surprise")
        assert read(plant(tmp_path / "x", *(f"{word}/1.jpg" for word in words))).dataset == "fed-ro"

    def test_400_photos(self, tmp_path):
        words = ("anger", "disgust", "fear", "happy", "neural", "sad", "surprise")
        source = plant(tmp_path / "FED-RO_crop", *(f"{words[n % 7]}/{n}.jpg" for n in range(400)))
        assert check(source, "fed-ro").whole


# SFEW


class TestSFEW:
    def test_only_the_last_two_folders_of_the_path_can_say_sfew(self, tmp_path):
        halves = [f"{half}/{word}/1.png" for half in ("train", "test") for word in trees.SFEW_WORDS]
        assert read(plant(tmp_path / "sfew" / "other" / "mine", *halves)).dataset == "folder"

    def test_splits_labels_and_films_of_2_0(self, tmp_path):
        copy = read(trees.sfew(tmp_path))
        assert Counter(sample.split for sample in copy.samples) == {"train": 21, "val": 14, "test": 4}
        assert labels(copy) == {**dict.fromkeys(DATABASES["sfew"].labels, 5), None: 4}
        assert copy.faces == "crops"
        photo = by_file(copy)["HarryPotter_Half_Blood_Prince_000000001_00000001.png"]
        assert (photo.label, photo.raw_label, photo.subject) == ("anger", "Angry", None)
        assert photo.sequence == photo.extra["film"] == "HarryPotter_Half_Blood_Prince"

    def test_folds_keep_films_together_and_people_are_unknown(self, tmp_path):
        samples = [sample for sample in read(trees.sfew(tmp_path)).samples if sample.label]
        told = {
            "labels": [sample.label for sample in samples],
            "subjects": [sample.subject for sample in samples],
            "sequences": [sample.sequence for sample in samples],
            "contents": [sample.path for sample in samples],
            "paths": [sample.path for sample in samples],
        }
        folds = make_folds(**told, n_folds=3)
        assert folds.identity == "unknown"
        films = [{told["sequences"][place] for place in test} for _, test in folds.parts()]
        assert sorted(map(sorted, films)) == [["Airheads"], ["HarryPotter_Half_Blood_Prince"], ["Juno"]]

    def test_test_photos_are_kept_unlabelled(self, tmp_path):
        photos = [sample for sample in read(trees.sfew(tmp_path)).samples if sample.split == "test"]
        assert {(photo.label, photo.raw_label, photo.sequence) for photo in photos} == {(None, None, "Hangover")}

    def test_film_frames_are_left_out_where_aligned_faces_are(self, tmp_path):
        source = trees.sfew(tmp_path)
        plant(source, f"Train/Angry/{trees.sfew_name('Airheads', 0)}", f"Test/{trees.sfew_name('Hangover', 0)}")
        copy = read(source)
        assert len(copy.samples) == 39
        assert kinds(copy) == {"extra": 2}

    def test_film_frames_alone_are_photos(self, tmp_path):
        names = [
            f"{split}/{word}/{trees.sfew_name(split, 1)}" for split in ("Train", "Val") for word in trees.SFEW_WORDS
        ]
        copy = read(plant(tmp_path / "SFEW_2.0", *names))
        assert copy.faces == "photos"
        assert Counter(sample.split for sample in copy.samples) == {"train": 7, "val": 7}
        assert {sample.extra["aligned"] for sample in copy.samples} == {False}

    def test_older_and_newer_aligned_faces_are_read_once_from_the_newer(self, tmp_path):
        source = trees.sfew(tmp_path)
        name = trees.sfew_name("Juno", 0)
        plant(source, f"Val/Val_Aligned_Faces/Angry/{name}")
        copy = read(source)
        assert "Val_Aligned_Faces_new" in by_file(copy)[name].path
        assert kinds(copy) == {"extra": 1}

    def test_one_split_as_source(self, tmp_path):
        copy = read(trees.sfew(tmp_path) / "Train" / "Train_Aligned_Faces")
        assert {sample.split for sample in copy.samples} == {"train"}
        assert len(copy.samples) == 21

    def test_a_root_named_like_a_split_is_none(self, tmp_path):
        source = trees.sfew(tmp_path).rename(tmp_path / "test")
        assert Counter(sample.split for sample in read(source).samples) == {"train": 21, "val": 14, "test": 4}

    def test_the_aligned_faces_as_published(self, tmp_path):
        sizes = {"Train": (178, 52, 78, 184, 144, 161, 94), "Val": (77, 23, 46, 72, 84, 73, 56)}
        for split, counts in sizes.items():
            for place, (word, count) in enumerate(zip(trees.SFEW_WORDS, counts, strict=True)):
                names = [trees.sfew_name("Airheads", 1000 * place + number) for number in range(count)]
                plant(tmp_path / split / f"{split}_Aligned_Faces" / word, *names)
        plant(tmp_path / "Test" / "Test_Aligned_Faces", *(trees.sfew_name("Juno", number) for number in range(372)))
        report = check(tmp_path, "sfew")
        assert report.whole
        assert [(count.unit, count.here) for count in report.counts if count.label is None] == [
            ("2.0 aligned faces, train", 891),
            ("2.0 aligned faces, val", 431),
            ("2.0 aligned faces, test", 372),
        ]
        assert differing(report) == {}
        shutil.rmtree(tmp_path / "Val")
        assert not check(tmp_path, "sfew").whole

    def test_film_frames_have_a_sheet_of_their_own(self, tmp_path):
        names = [f"{split}/Angry/{trees.sfew_name(split, 1)}" for split in ("Train", "Val")]
        counts = check(plant(tmp_path, *names), "sfew").counts
        assert [(count.unit, count.here, count.official) for count in counts if count.label is None] == [
            ("2.0 film frames, train", 1, 958),
            ("2.0 film frames, val", 1, 436),
            ("2.0 film frames, test", 0, 372),
        ]
        assert {count.sure for count in counts if count.label is None} == {True}
        assert {count.sure for count in counts if count.label} == {False}

    def test_halves_of_1_0(self, tmp_path):
        copy = read(trees.sfew_1(tmp_path))
        assert Counter((sample.extra["half"], sample.split) for sample in copy.samples) == {
            ("Set_A", "train"): 8,
            ("Set_B", "test"): 8,
        }
        assert labels(copy)["anger"] == 4
        assert any("Set_A is train, Set_B is test" in note for note in copy.notes)

    def test_halves_with_other_names_of_photos_need_sfew_in_the_path(self, tmp_path):
        for place in ("SFEW_1/one", "SFEW_1/two", "mine/one", "mine/two"):
            plant(tmp_path / place, *(f"{word}/{number}.jpg" for word in trees.SFEW_WORDS for number in range(2)))
        copy = read(tmp_path / "SFEW_1")
        assert copy.dataset == "sfew"
        assert len(copy.samples) == 28  # 0.jpg and 1.jpg of each class are different photos
        assert {sample.sequence for sample in copy.samples} == {None}
        assert any("28 of 28 photos do not name their film" in note for note in copy.notes)
        assert read(tmp_path / "mine").dataset == "folder"

    def test_flat_repack(self, tmp_path):
        source = trees.sfew_repack(tmp_path)
        copy = read(source)
        assert Counter((sample.split, sample.label) for sample in copy.samples) == {
            **{("train", label): 2 for label in DATABASES["sfew"].labels},
            **{("val", label): 1 for label in DATABASES["sfew"].labels},
        }
        assert by_file(copy)["image_000003.png"].raw_label == "Happy"
        assert copy.faces == "crops"

    def test_repack_with_lost_and_strange_pictures(self, tmp_path):
        source = trees.sfew_repack(tmp_path)
        (source / "sfew2.0_images" / "image_000003.png").unlink()
        plant(source, "sfew2.0_images/image_999999.png")
        copy = read(source)
        assert len(copy.samples) == 20
        assert {(one.kind, os.path.basename(one.path)) for one in copy.skipped} == {
            ("missing", "image_000003.png"),
            ("unlabelled", "image_999999.png"),
        }

    @pytest.mark.parametrize(
        ("row", "complaint"),
        [
            ("image_000000.png,1,Angry,Train_Aligned_Faces", "line 2: emotion 'Angry' and label 1 .Disgust. disagree"),
            ("image_000000.png,7,,Train_Aligned_Faces", "label '7' is no code; expected 0 to 6"),
            (f"image_000000.png,{'9' * 5000},,Train_Aligned_Faces", "is no code; expected 0 to 6"),
            ("image_000000.png,,,Train_Aligned_Faces", "neither emotion nor label"),
            ("image_000000.png,0,Angry,Somewhere", "original_split 'Somewhere'"),
            (",0,Angry,Train_Aligned_Faces", "no image_name"),
            ("image_000000.png,0", "2 fields, but there are 4 columns"),
        ],
    )
    def test_bad_rows_of_the_repack(self, tmp_path, row, complaint):
        source = trees.sfew_repack(tmp_path)
        (source / "sfew_2.0_labels.csv").write_text(f"image_name,label,emotion,original_split\n{row}\n")
        with pytest.raises(InputError, match=complaint):
            read(source)

    def test_codes_alone_are_alphabetical(self, tmp_path):
        source = trees.sfew_repack(tmp_path)
        rows = "image_000000.png,3,Val_Aligned_Faces\nimage_000001.png,4,Val_Aligned_Faces\n"
        (source / "sfew_2.0_labels.csv").write_text(f"image_name,label,original_split\n{rows}")
        assert [sample.label for sample in read(source).samples] == ["happiness", "neutral"]

    def test_a_column_is_missing(self, tmp_path):
        source = trees.sfew_repack(tmp_path)
        (source / "sfew_2.0_labels.csv").write_text("image_name,label,emotion\nimage_000000.png,0,Angry\n")
        with pytest.raises(InputError, match="no original_split; expected the columns"):
            read(source)
