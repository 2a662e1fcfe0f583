"""Readers of the databases of sequences, on small copies with the official names and quirks."""

import os
import shutil
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import trees_sequences as trees
from trees_sequences import TREES, picture, plant

from featurepipe.datasets import mmi
from featurepipe.datasets.folder import list_files
from featurepipe.datasets.readers import read_database, read_source
from featurepipe.datasets.registry import DATABASES
from featurepipe.datasets.verify import verify
from featurepipe.errors import InputError, MissingPackageError


def read(source, name=None, frames="apex"):
    return read_source(str(source), name, frames)


def used(copy, sequence):
    """(frame, role, label) of one sequence."""
    return [(one.frame, one.role, one.label) for one in copy.samples if one.sequence == sequence]


def kinds(copy):
    return dict(Counter(one.kind for one in copy.skipped))


def counts(name, source):
    """{(unit, label): here} of verify, and those that differ from the official sheet."""
    report = verify(DATABASES[name], read_database(DATABASES[name], str(source), "all"), [])
    here = {(count.unit, count.label): count.here for count in report.counts}
    return here, {key for key, count in zip(here, report.counts, strict=True) if count.differs}, report


@pytest.mark.parametrize("name", TREES)
def test_found_by_marker_and_named_in_a_note(name, tmp_path):
    source = TREES[name](tmp_path / "some/where")
    copy = read(source)
    assert copy.dataset == name
    assert any(f"--dataset {name}" in note for note in copy.notes)
    assert [one.path for one in read(tmp_path, name).samples] == [one.path for one in copy.samples]
    assert {one.label for one in copy.samples} - {None} <= set(DATABASES[name].labels)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("frames", ["apex", "all"])
def test_every_sample_is_whole_and_the_order_is_kept(name, frames, tmp_path):
    source = TREES[name](tmp_path)
    samples = read(source, frames=frames).samples
    assert samples == read(source, frames=frames).samples
    assert len({(one.path, one.frame) for one in samples}) == len(samples)
    assert all(os.path.isfile(one.path) and one.sequence for one in samples)
    neutral = [one for one in samples if one.role == "neutral"]
    assert all(one.label == "neutral" and one.raw_label is None for one in neutral)
    assert all(one.label != "neutral" for one in samples if one.role != "neutral")


@pytest.mark.parametrize("name", TREES)
def test_litter_and_redundant_folders_change_nothing(name, tmp_path):
    plain = read(TREES[name](tmp_path / "plain"))
    inner = tmp_path / "X" / "X"
    source = TREES[name](inner)
    for folder in {source, Path(read(source).samples[0].path).parent}:
        plant(folder, [".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/img1.jpg", "._img1.jpg"])
    littered = read(tmp_path / "X")
    assert [(one.sequence, one.frame, one.label) for one in littered.samples] == [
        (one.sequence, one.frame, one.label) for one in plain.samples
    ]
    assert kinds(littered) == kinds(plain)


class TestCkplus:
    def test_the_first_frame_is_neutral_and_the_last_three_the_apex(self, tmp_path):
        copy = read(trees.ckplus(tmp_path))
        assert used(copy, "S005_001") == [
            (1, "neutral", "neutral"),
            *((n, "apex", "disgust") for n in (9, 10, 11)),
        ]
        assert [one.label for one in copy.samples if one.sequence == "S010_002"][1:] == ["surprise"] * 3
        assert {one.subject for one in copy.samples} == {"S005", "S010", "S011"}
        assert next(one.raw_label for one in copy.samples if one.label == "disgust") == "3.0000000e+00"

    def test_the_first_frame_is_the_smallest_number(self, tmp_path):
        assert used(read(trees.ckplus(tmp_path)), "S011_001")[0] == (3, "neutral", "neutral")

    def test_all_frames_of_labelled_sequences(self, tmp_path):
        copy = read(trees.ckplus(tmp_path), frames="all")
        roles = [role for _, role, _ in used(copy, "S005_001")]
        assert roles == ["neutral", *["frame"] * 7, *["apex"] * 3]
        assert {label for _, role, label in used(copy, "S005_001") if role == "frame"} == {"disgust"}

    @pytest.mark.parametrize("frames", ["apex", "all"])
    def test_of_an_unlabelled_sequence_the_first_frame_is_a_neutral(self, tmp_path, frames):
        copy = read(trees.ckplus(tmp_path), frames=frames)
        assert used(copy, "S010_003") == [(1, "neutral", "neutral")]
        assert kinds(copy) == {"unlabelled": 1}

    def test_pictures_and_labels_in_two_folders_side_by_side(self, tmp_path):
        root = trees.ckplus(tmp_path / "a")
        before = read(root)
        plant(tmp_path / "a", ["family/1.jpg"], trees.picture("JPEG"))
        for part, folder in {"extended-cohn-kanade-images": "Images", "Emotion_labels": "Labels"}.items():
            (root / folder).mkdir()
            (root / part).rename(root / folder / part)
        for source in (root, tmp_path / "a"):
            copy = read(source)
            assert [(one.sequence, one.frame, one.label) for one in copy.samples] == [
                (one.sequence, one.frame, one.label) for one in before.samples
            ]
            assert kinds(copy) == {"unlabelled": 1}
        assert f"1 photos or clips outside {root} are not read" in copy.notes
        with pytest.raises(InputError, match=r"CK\+/Images holds no readable emotion files"):
            read(root / "Images")
        shutil.rmtree(root / "Labels")
        with pytest.raises(InputError, match=r"CK\+/Images holds no readable emotion files"):
            read(root)

    def test_ck48_beside_it_is_not_mixed_in(self, tmp_path):
        before = read(trees.ckplus(tmp_path))
        crops = ("surprise/S010_002_00000014", "disgust/S005_001_00000009", "anger/S099_001_00000001")
        plant(tmp_path / "CK+", [f"CK+48/{name}.png" for name in crops], trees.picture("PNG"))
        after = read(tmp_path / "CK+")
        assert after.samples == before.samples
        assert kinds(after) == {"unlabelled": 1, "extra": 3}

    def test_action_units_are_those_of_the_last_frame(self, tmp_path):
        coded = {one.frame: one.extra for one in read(trees.ckplus(tmp_path)).samples if one.sequence == "S005_001"}
        assert coded[11] == {"au": {"9": 4.0, "17": 0.0}}
        assert coded[1] == coded[10] == {}

    @pytest.mark.parametrize("text", ["9 nan", "1e999 1", "9", "9 much"])
    def test_action_units_that_cannot_be_read_are_told(self, tmp_path, text):
        root = trees.ckplus(tmp_path)
        next(root.rglob("S005_001_*_facs.txt")).write_text(text)
        copy = read(root)
        assert all(one.extra == {} for one in copy.samples)
        assert kinds(copy)["damaged"] == 1

    @pytest.mark.parametrize("text", ["", "happy", "8", "-1", "3 4", "nan", "inf", "2.5", "\x00"])
    def test_an_emotion_file_that_cannot_be_read_is_told(self, tmp_path, text):
        root = trees.ckplus(tmp_path)
        next(root.rglob("S010_002_*_emotion.txt")).write_text(text)
        copy = read(root)
        assert used(copy, "S010_002") == [(1, "neutral", "neutral")]
        assert kinds(copy) == {"unlabelled": 2, "damaged": 1}

    def test_a_missing_peak_is_told(self, tmp_path):
        root = trees.ckplus(tmp_path)
        next(root.rglob("S010_002_00000014.png")).unlink()
        copy = read(root)
        missing = [one for one in copy.skipped if one.kind == "missing"]
        assert [Path(one.path).name for one in missing] == ["S010_002_00000014.png"]
        assert used(copy, "S010_002")[-1] == (13, "apex", "surprise")

    def test_copies_and_strange_names_are_left_out(self, tmp_path):
        root = trees.ckplus(tmp_path)
        shutil.copytree(root / "extended-cohn-kanade-images", root / "extended-cohn-kanade-images" / "again")
        plant(root, ["extended-cohn-kanade-images/readme.png"], picture("PNG"))
        assert kinds(read(root)) == {"unlabelled": 1, "extra": 38, "misnamed": 1}
        assert len(read(root).samples) == 13

    def test_case_of_names_does_not_matter(self, tmp_path):
        root = tmp_path / "ck"
        trees.ckplus_sequence(root, "S005", "001", range(1, 5), 6, wrapped=False)
        for path in sorted(root.rglob("*"), reverse=True):
            path.rename(path.with_name(path.name.upper()))
        assert [one.label for one in read(root).samples] == ["neutral", "sadness", "sadness", "sadness"]

    def test_without_labels_or_pictures_it_says_what_to_unpack(self, tmp_path):
        root = trees.ckplus(tmp_path)
        with pytest.raises(InputError, match=r"Emotion_labels\.zip"):
            read(root / "extended-cohn-kanade-images")
        shutil.rmtree(root / "Emotion_labels")
        with pytest.raises(InputError, match=r"Emotion_labels\.zip"):
            read(root)
        shutil.rmtree(root / "extended-cohn-kanade-images")
        with pytest.raises(InputError, match="cohn-kanade-images"):
            read(root, "ckplus")

    def test_a_whole_copy_has_the_official_counts(self, tmp_path):
        official = {1: 45, 2: 18, 3: 59, 4: 25, 5: 69, 6: 28, 7: 83}
        codes = [code for code, count in official.items() for _ in range(count)] + [None] * 266
        for place, code in enumerate(codes):
            trees.ckplus_sequence(tmp_path, f"S{place // 5:03d}", f"{place % 5 + 1:03d}", (1, 9), code, wrapped=False)
        here, differing, report = counts("ckplus", tmp_path)
        assert not differing
        assert report.whole
        assert here[("labelled sequences", None)] == 327
        next(tmp_path.rglob("S000_001_*_emotion.txt")).unlink()
        assert ("labelled sequences", "anger") in counts("ckplus", tmp_path)[1]


class TestOuluCasia:
    def test_labels_roles_and_what_else_the_folders_say(self, tmp_path):
        copy = read(trees.oulu_casia(tmp_path))
        assert used(copy, "P001_Anger_VL_Strong") == [
            (0, "neutral", "neutral"),
            *((n, "apex", "anger") for n in (2, 3, 4)),
        ]
        one = copy.samples[0]
        assert (one.subject, one.extra) == ("P001", {"camera": "NI", "illumination": "Dark"})
        assert copy.faces == "photos"
        assert len({one.sequence for one in copy.samples}) == 2 * 6 * 6
        assert any("VL Strong 12" in note for note in copy.notes)
        assert any("30 cropped pictures are not read" in note for note in copy.notes)

    @pytest.mark.parametrize(
        ("part", "sequences", "faces"),
        [
            ("B_OriginalImg", 72, "photos"),
            ("B_OriginalImg/OriginalImg", 72, "photos"),
            ("B_OriginalImg/OriginalImg/VL", 36, "photos"),
            ("B_OriginalImg/OriginalImg/VL/Strong", 12, "photos"),
            ("PreProcess_Img", 6, "crops"),
            ("PreProcess_Img/VL_Acropped/Strong", 6, "crops"),
        ],
    )
    def test_a_part_can_be_source(self, tmp_path, monkeypatch, part, sequences, faces):
        root = trees.oulu_casia(tmp_path)
        copy = read(root / part)
        assert (copy.dataset, copy.faces) == ("oulu-casia", faces)
        assert len({one.sequence for one in copy.samples}) == sequences
        monkeypatch.chdir(root / part)
        assert len(read(".").samples) == len(copy.samples)

    def test_all_frames(self, tmp_path):
        copy = read(trees.oulu_casia(tmp_path) / "B_OriginalImg", frames="all")
        assert [role for _, role, _ in used(copy, "P002_Fear_NI_Dark")] == ["neutral", "frame", *["apex"] * 3]

    def test_short_sequences(self, tmp_path):
        trees.oulu_part(tmp_path, "VL", "Strong", ("P001",), 1)
        assert {one.label for one in read(tmp_path).samples} == {"neutral"}
        trees.oulu_part(tmp_path, "VL", "Strong", ("P001",), 2)
        assert used(read(tmp_path), "P001_Fear_VL_Strong") == [(0, "neutral", "neutral"), (1, "apex", "fear")]

    def test_other_folders_are_told(self, tmp_path):
        root = trees.oulu_casia(tmp_path)
        plant(root, ["B_OriginalImg/OriginalImg/VL/Strong/P001/Angry/000.jpeg"], picture("JPEG"))
        assert kinds(read(root)) == {"misnamed": 1}

    def test_mixed_case_and_another_extension(self, tmp_path):
        plant(tmp_path, [f"vl/strong/p001/anger/{n:03d}.JPG" for n in range(4)], picture("JPEG"))
        assert used(read(tmp_path), "P001_Anger_VL_Strong")[-1] == (3, "apex", "anger")

    def test_nothing_of_it_is_an_error(self, tmp_path):
        plant(tmp_path, ["VL/Strong/P001/Anger/first.jpeg"], picture("JPEG"))
        with pytest.raises(InputError, match=r"VL/Strong/P001/Anger/000\.jpeg"):
            read(tmp_path)

    def test_a_whole_part_has_the_official_counts(self, tmp_path):
        trees.oulu_part(tmp_path, "VL", "Strong", [f"P{n:03d}" for n in range(1, 81)], 2)
        here, differing, _ = counts("oulu-casia", tmp_path)
        assert here[("VL Strong sequences", None)] == 480
        assert {unit for unit, _ in differing} == {
            f"{camera} {light} sequences"
            for camera in ("VL", "NI")
            for light in ("Strong", "Weak", "Dark")
            if (camera, light) != ("VL", "Strong")
        }


class TestCasme2:
    def test_onset_and_apex_by_the_sheet(self, tmp_path):
        copy = read(trees.casme2(tmp_path))
        assert used(copy, "sub01_EP02_01f") == [(46, "neutral", "neutral"), (59, "apex", "happiness")]
        one = next(one for one in copy.samples if one.role == "apex")
        assert (one.subject, one.raw_label, one.extra) == ("sub01", "happiness", {"au": "4+12", "objective_class": 1})
        assert copy.faces == "photos"

    def test_all_frames_from_onset_to_offset(self, tmp_path):
        frames = used(read(trees.casme2(tmp_path), frames="all"), "sub17_EP01_2")
        assert frames == [
            (5, "neutral", "neutral"),
            (6, "frame", "others"),
            (7, "apex", "others"),
            (8, "frame", "others"),
            (9, "offset", "others"),
        ]

    def test_frames_are_ordered_by_number(self, tmp_path):
        numbers = [frame for frame, *_ in used(read(trees.casme2(tmp_path), frames="all"), "sub05_EP09_05f")]
        assert numbers == list(range(69, 86))
        whole = [frame for frame, *_ in used(read(trees.casme2(tmp_path), frames="all"), "sub16_EP01_08")]
        assert whole == list(range(73, 108))

    def test_the_apex_that_is_a_slash_is_none(self, tmp_path):
        copy = read(trees.casme2(tmp_path))
        assert used(copy, "sub04_EP12_01f") == [(261, "neutral", "neutral")]
        assert [one.why for one in copy.skipped if one.kind == "unlabelled"] == [
            "a clip without apex in the coding sheet"
        ]
        everything = used(read(tmp_path, frames="all"), "sub04_EP12_01f")
        assert Counter(role for _, role, _ in everything) == {"neutral": 1, "frame": 59, "offset": 1}

    def test_an_apex_that_is_the_onset_is_the_apex(self, tmp_path):
        assert used(read(trees.casme2(tmp_path)), "sub05_EP09_05f") == [(69, "apex", "disgust")]

    @pytest.mark.parametrize(
        ("sets", "faces", "name"),
        [
            (("RAW", "RAW_selected", "Cropped"), "photos", "CASME2-RAW/sub01/EP02_01f/img46.jpg"),
            (("RAW_selected", "Cropped"), "photos", "CASME2_RAW_selected/sub01/EP02_01f/img46.jpg"),
            (("Cropped",), "crops", "Cropped/sub01/EP02_01f/reg_img46.jpg"),
        ],
    )
    def test_the_set_that_is_read(self, tmp_path, sets, faces, name):
        copy = read(trees.casme2(tmp_path, sets))
        assert copy.faces == faces
        assert copy.samples[0].path.endswith(name)
        assert any("are read" in note for note in copy.notes) == (len(sets) > 1)

    def test_another_set_can_be_source_below_the_sheet(self, tmp_path, monkeypatch):
        root = trees.casme2(tmp_path)
        for folder in (root / "Cropped", root / "Cropped/Cropped"):
            copy = read(folder)
            assert (copy.dataset, copy.faces) == ("casme2", "crops")
            assert used(copy, "sub01_EP02_01f") == [(46, "neutral", "neutral"), (59, "apex", "happiness")]
        monkeypatch.chdir(root / "CASME2_RAW_selected/CASME2_RAW_selected")
        assert len(read(".").samples) == 8

    def test_the_clip_that_is_short_in_the_official_cropped_is_no_fault(self, tmp_path):
        copy = read(trees.casme2(tmp_path, ("Cropped",)))
        assert kinds(copy) == {"unlabelled": 1}
        assert used(copy, "sub16_EP01_08") == [(73, "neutral", "neutral"), (80, "apex", "repression")]
        next(Path(tmp_path).rglob("sub16/EP01_08/reg_img96.jpg")).unlink()
        assert kinds(read(tmp_path)) == {"unlabelled": 1, "missing": 1}

    def test_a_name_without_its_zero_is_found(self, tmp_path):
        root = trees.casme2(tmp_path, ("Cropped",))
        (root / "Cropped/Cropped/sub17/EP01_2").rename(root / "Cropped/Cropped/sub17/EP01_02")
        assert len(used(read(root), "sub17_EP01_2")) == 2

    def test_clips_that_are_missing_on_one_side(self, tmp_path):
        root = trees.casme2(tmp_path, ("Cropped",))
        shutil.rmtree(root / "Cropped/Cropped/sub17")
        plant(root, ["Cropped/Cropped/sub24/EP02_07/reg_img3.jpg"], picture("JPEG"))
        copy = read(root)
        assert {(one.kind, Path(one.path).name) for one in copy.skipped} == {
            ("unlabelled", "EP12_01f"),
            ("missing", "EP01_2"),
            ("unlabelled", "EP02_07"),
        }

    def test_the_latest_sheet_counts_and_is_named(self, tmp_path):
        root = trees.casme2(tmp_path)
        changed = [("01" if row[0] == 1 else row[0], *row[1:6], "surprise") for row in trees.CASME2_ROWS]
        trees.casme2_sheet(root / "CASME2-coding-20190701.xlsx", changed)
        copy = read(root)
        assert {one.label for one in copy.samples if one.role == "apex"} == {"surprise"}
        assert any("20190701" in note and "20140508" in note for note in copy.notes)

    def test_a_sheet_with_another_column_names_what_it_lacks(self, tmp_path):
        root = trees.casme2(tmp_path)
        headings = ["Apex" if word == "ApexFrame" else word for word in trees.CASME2_HEADINGS]
        trees.write_sheet(root / "CASME2-coding-20140508.xlsx", headings, [])
        with pytest.raises(InputError, match=r"no column ApexFrame .*Apex, OffsetFrame"):
            read(root)

    def test_headings_may_have_blanks_and_another_case(self, tmp_path):
        root = trees.casme2(tmp_path)
        rows = [(1, "EP02_01f", None, 46.0, "59", 86, None, None, "Happiness")]
        trees.write_sheet(
            root / "CASME2-coding-20140508.xlsx",
            [f" {word.upper()} " if word else None for word in trees.CASME2_HEADINGS],
            rows,
        )
        assert used(read(root), "sub01_EP02_01f") == [(46, "neutral", "neutral"), (59, "apex", "happiness")]

    @pytest.mark.parametrize("rows", [[], [(None, None, None, 1, 2, 3, None, None, "fear")]])
    def test_an_empty_sheet_is_an_error(self, tmp_path, rows):
        root = trees.casme2(tmp_path)
        trees.write_sheet(root / "CASME2-coding-20140508.xlsx", trees.CASME2_HEADINGS, rows)
        with pytest.raises(InputError, match="no row with a subject"):
            read(root)

    def test_a_clip_twice_is_an_error(self, tmp_path):
        root = trees.casme2(tmp_path)
        trees.casme2_sheet(root / "CASME2-coding-20140508.xlsx", trees.CASME2_ROWS[:1] * 2)
        with pytest.raises(InputError, match="sub01 EP02_01f twice"):
            read(root)

    @pytest.mark.parametrize("cut", [0, 10, 2000, -200])
    def test_a_damaged_sheet_is_an_error(self, tmp_path, cut):
        root = trees.casme2(tmp_path)
        sheet = root / "CASME2-coding-20140508.xlsx"
        sheet.write_bytes(sheet.read_bytes()[:cut])
        with pytest.raises(InputError, match="damaged or no XLSX file"):
            read(root)

    def test_a_sheet_that_unpacks_without_end_is_refused(self, tmp_path):
        root = trees.casme2(tmp_path)
        with zipfile.ZipFile(root / "CASME2-coding-20140508.xlsx", "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/worksheets/sheet2.xml", bytes(65 << 20))
        with pytest.raises(InputError, match="unpacks to"):
            read(root)

    def test_without_sheet_or_pictures_it_says_what_is_expected(self, tmp_path):
        root = trees.casme2(tmp_path)
        (root / "CASME2-coding-20140508.xlsx").rename(tmp_path / "labels.xlsx")
        with pytest.raises(InputError, match="CASME2-coding"):
            read(root, "casme2")
        (tmp_path / "labels.xlsx").rename(tmp_path / "CASME2-coding.xlsx")
        for folder in ("CASME2_RAW", "CASME2_RAW_selected", "Cropped"):
            shutil.rmtree(root / folder)
        with pytest.raises(InputError, match=r"reg_img46\.jpg"):
            read(tmp_path)

    def test_without_openpyxl_one_error_names_it(self, tmp_path, monkeypatch):
        root = trees.casme2(tmp_path)
        monkeypatch.setitem(sys.modules, "openpyxl", None)
        with pytest.raises(MissingPackageError, match=r"openpyxl.*\[databases\]"):
            read(root)

    def test_a_whole_copy_has_the_counts_of_the_sheet(self, tmp_path):
        official = {"others": 99, "disgust": 63, "happiness": 32, "repression": 27, "surprise": 25, "sadness": 7}
        words = [word for word, count in {**official, "fear": 2}.items() for _ in range(count)]
        rows = [(n % 26 + 1, f"EP01_{n}f", 1, 2, 3, "4", word) for n, word in enumerate(words)]
        trees.casme2_sheet(tmp_path / "CASME2-coding-20140508.xlsx", rows)
        names = [f"Cropped/sub{row[0]:02d}/{row[1]}/reg_img{n}.jpg" for row in rows for n in (1, 2, 3)]
        plant(tmp_path, names, picture("JPEG"))
        here, differing, report = counts("casme2", tmp_path)
        assert not differing
        assert report.whole
        assert here[("clips of the sheet of 2014-05-08", None)] == 255


class TestMmi:
    def test_a_coded_clip(self, tmp_path):
        copy = read(trees.mmi(tmp_path))
        assert used(copy, "1841/S035-004") == [
            (1, "neutral", "neutral"),
            *((n, "apex", "happiness") for n in (8, 9, 10)),
        ]
        one = copy.samples[0]
        assert one.subject == "S035"
        assert one.extra == {"session": "1841", "view": "frontal", "turns": (0, 90), "au": ("12", "L6")}

    def test_all_frames_of_a_coded_clip_by_its_phases(self, tmp_path):
        frames = used(read(trees.mmi(tmp_path), frames="all"), "1841/S035-004")
        roles = ["neutral"] * 3 + ["onset"] * 4 + ["apex"] * 3 + ["offset"] * 5 + ["neutral"] * 5
        assert [role for _, role, _ in frames] == roles
        assert all(label == ("neutral" if role == "neutral" else "happiness") for _, role, label in frames)

    def test_an_uncoded_clip_has_its_apex_in_the_middle(self, tmp_path):
        copy = read(trees.mmi(tmp_path))
        assert used(copy, "1842/S035-005") == [
            (1, "neutral", "neutral"),
            *((n, "apex", "anger") for n in (9, 10, 11)),
        ]
        assert len(used(read(tmp_path, frames="all"), "1842/S035-005")) == 20

    @pytest.mark.parametrize(("count", "apex"), [(1, []), (2, [2]), (3, [2, 3]), (4, [2, 3, 4]), (7, [3, 4, 5])])
    def test_short_clips(self, tmp_path, count, apex):
        trees.mmi_session(tmp_path, 1, "S001-001", 3, write=lambda path: trees.small_clip(path, count))
        assert [number for number, role, _ in used(read(tmp_path), "1/S001-001") if role == "apex"] == apex

    def test_a_clip_that_ends_at_the_apex_and_one_that_begins_with_the_onset(self, tmp_path):
        trees.mmi_session(tmp_path, 1, "S001-001", 3, coding=trees.mmi_unit("4", (5, 1), (18, 2)))
        trees.mmi_session(tmp_path, 2, "S001-002", 3, coding=trees.mmi_unit("4", (1, 1), (3, 2), (5, 3)))
        trees.mmi_session(tmp_path, 3, "S001-003", 3, coding=trees.mmi_unit("4", (2, 1)))
        copy = read(tmp_path)
        assert [number for number, *_ in used(copy, "1/S001-001")] == [1, 18, 19, 20]
        assert used(copy, "2/S001-002") == [(3, "apex", "fear"), (4, "apex", "fear")]
        assert [number for number, *_ in used(copy, "3/S001-003")] == [1, 9, 10, 11]

    def test_a_code_above_six_is_kept_without_label(self, tmp_path):
        copy = read(trees.mmi(tmp_path))
        apex = [one for one in copy.samples if one.sequence == "1843/S036-001" and one.role == "apex"]
        assert {(one.label, one.raw_label) for one in apex} == {(None, "8")}
        assert apex[0].extra == {"session": "1843", "view": "profile", "turns": (0, 270)}
        assert any("codes without a known meaning" in note and "8 (1)" in note for note in copy.notes)

    def test_a_still_and_a_clip_without_emotion(self, tmp_path):
        copy = read(trees.mmi(tmp_path))
        assert used(copy, "1850/S037-001") == [(None, "still", "surprise")]
        assert [(one.kind, Path(one.path).name) for one in copy.skipped] == [("unlabelled", "S036-002.avi")]

    @pytest.mark.parametrize(
        ("session", "view"),
        [
            ('<s><track view="2"/></s>', "dual"),
            ('<s xmlns="urn:x"><Track View=" 1 "/></s>', "profile"),
            (
                '<s><track view="0"><annotation filename="S035-004-oao_aucs.xml"/></track><track view="1"/></s>',
                "frontal",
            ),
            ('<s><track view="0"/><track view="1"/></s>', None),
            ('<s><track view="5"/></s>', None),
            ("<s/>", None),
            ("<s", None),
        ],
    )
    def test_the_view_of_session_xml(self, tmp_path, session, view):
        root = trees.mmi(tmp_path)
        plant(root, ["Sessions/1841/session.xml"], session)
        one = next(one for one in read(root).samples if one.sequence == "1841/S035-004")
        assert one.extra.get("view") == view
        assert one.extra["turns"] == {"dual": (0,), "profile": (0, 270), "frontal": (0, 90), None: (0, 90, 270)}[view]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "<Metadata>",
            '<!DOCTYPE x [<!ENTITY e "4">]><M><Metatag Name="Emotion" Value="&e;"/></M>',
            '<!DOCTYPE x SYSTEM "file:///etc/passwd"><M><Metatag Name="Emotion" Value="4"/></M>',
            '<?xml version="1.0" encoding="klingon"?><M/>',
        ],
        ids=["empty", "cut off", "entity", "DTD", "encoding"],
    )
    def test_metadata_that_cannot_be_read_are_told(self, tmp_path, text):
        root = trees.mmi(tmp_path)
        plant(root, ["Sessions/1841/S035-004.xml"], text)
        copy = read(root)
        assert kinds(copy) == {"damaged": 1, "unlabelled": 2}
        assert not used(copy, "1841/S035-004")

    @pytest.mark.parametrize("coding", ["<a", '<a><Marker Frame="x" Type="2"/></a>', '<a><Marker Type="2"/></a>'])
    def test_without_a_coding_that_can_be_read_the_middle_counts(self, tmp_path, coding):
        root = trees.mmi(tmp_path)
        plant(root, ["Sessions/1841/S035-004-oao_aucs.xml"], coding)
        copy = read(root)
        assert [number for number, *_ in used(copy, "1841/S035-004")] == [1, 9, 10, 11]
        assert kinds(copy) == {"damaged": 1, "unlabelled": 1}

    def test_a_clip_that_is_none_is_told(self, tmp_path):
        root = trees.mmi(tmp_path)
        next(root.rglob("S035 -005.avi")).write_bytes(b"nothing")
        assert kinds(read(root)) == {"damaged": 1, "unlabelled": 1}

    def test_other_files_are_told(self, tmp_path):
        root = trees.mmi(tmp_path)
        plant(root, ["Sessions/1841/holiday.avi", "Sessions/readme.txt", "Sessions/S001-001.avi"])
        assert kinds(read(root)) == {"misnamed": 2, "unlabelled": 1}

    def test_a_file_is_not_looked_up_in_the_list_of_all(self, tmp_path, monkeypatch):
        """Which takes minutes with the thousands of files of a whole copy."""

        class Files(list):
            def __contains__(self, _):
                raise AssertionError

        def listed(root):
            listing = list_files(root)
            return replace(listing, others=Files(listing.others))

        monkeypatch.setattr(mmi, "list_files", listed)
        assert len(read(trees.mmi(tmp_path)).samples) == 13

    def test_the_folder_of_sessions_can_be_source(self, tmp_path):
        assert len(read(trees.mmi(tmp_path) / "Sessions").samples) == 13

    def test_numbered_folders_of_something_else_are_no_sessions(self, tmp_path):
        plant(tmp_path, ["Sessions/1/a.jpg", "Sessions/2021/b.jpg"], trees.picture("JPEG"))
        assert read(tmp_path / "Sessions/2021").dataset == "folder"
        assert not DATABASES["mmi"].is_root(str(tmp_path))
        plant(tmp_path, ["Sessions/2021/S035 -004.xml"], "<Metadata/>")
        assert DATABASES["mmi"].is_root(str(tmp_path))

    def test_without_sessions_it_is_an_error(self, tmp_path):
        plant(tmp_path, ["Sessions/1841/session.xml"], "<s/>")
        with pytest.raises(InputError, match=r"Sessions/1841/S035-004\.avi"):
            read(tmp_path)

    def test_without_defusedxml_one_error_names_it(self, tmp_path, monkeypatch):
        root = trees.mmi(tmp_path)
        monkeypatch.setitem(sys.modules, "defusedxml.ElementTree", None)
        with pytest.raises(MissingPackageError, match=r"defusedxml.*\[databases\]"):
            read(root)

    def test_verify_counts_frontal_clips_with_an_emotion(self, tmp_path):
        here, _, report = counts("mmi", trees.mmi(tmp_path))
        assert here[("frontal clips with an emotion", None)] == 2
        trees.mmi_session(tmp_path / "b", 1, "S001-001", 3)
        trees.mmi_session(tmp_path / "b", 2, "S001-002", 8)
        here, _, _ = counts("mmi", tmp_path / "b")
        assert here[("frontal clips with an emotion", None)] == 1
        assert not any(count.sure for count in report.counts)


class TestGemepFera:
    def test_every_frame_is_the_apex_of_its_clip(self, tmp_path):
        copy = read(trees.gemep_fera(tmp_path))
        assert used(copy, "train_003") == [(n, "apex", "happiness") for n in range(1, 7)]
        assert {one.raw_label for one in copy.samples if one.sequence == "train_003"} == {"joy"}
        assert {one.label for one in copy.samples if one.split == "train"} == set(DATABASES["gemep-fera"].labels)
        assert {(one.label, one.raw_label) for one in copy.samples if one.split == "test"} == {(None, None)}
        assert copy.samples == read(tmp_path, frames="all").samples

    @pytest.mark.parametrize(
        "place",
        [
            "training/anger/train_001.avi",
            "training/Anger/train_001/train_001.avi",
            "training/train_001-anger.avi",
            "train/train_001_Anger_05.AVI",
            "Training/train_001/clip-anger-1.avi",
        ],
    )
    def test_the_word_in_folder_or_name(self, tmp_path, place):
        trees.small_clip(tmp_path / place, 3)
        copy = read(tmp_path, "gemep-fera")
        assert used(copy, "train_001") == [(n, "apex", "anger") for n in (1, 2, 3)]
        assert copy.samples[0].split == "train"

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("training/train_001/train_001.txt", "relief"),
            ("training/train_001/train_001-emotion.dat", " 4 \n"),
            ("training/train_001/train_001.xml", "<clip><emotion>Relief</emotion></clip>"),
            ("training/labels/train_001.txt", "emotion: relief"),
        ],
    )
    def test_the_word_or_code_beside_the_clip(self, tmp_path, name, text):
        trees.small_clip(tmp_path / "training/train_001/train_001.avi", 2)
        plant(tmp_path, [name], text)
        assert {one.label for one in read(tmp_path).samples} == {"relief"}

    def test_a_table_of_the_user_counts_first_and_names_actors(self, tmp_path):
        root = trees.gemep_fera(tmp_path)
        plant(root, ["mine.csv"], "clip,label,subject\ntrain_001,fear,A1\ntest_001.avi,Joy,A2\n")
        plant(root, ["other.csv"], "a,b\n1,2\n")
        copy = read(root)
        assert {(one.label, one.subject) for one in copy.samples if one.sequence == "train_001"} == {("fear", "A1")}
        assert {(one.label, one.raw_label) for one in copy.samples if one.split == "test"} == {("happiness", "Joy")}

    @pytest.mark.parametrize("row", ["train_001,surprise", "clip 1,fear", "train_001,"])
    def test_a_table_that_says_something_else_is_an_error(self, tmp_path, row):
        root = trees.gemep_fera(tmp_path)
        plant(root, ["mine.csv"], f"clip,label\n{row}\n")
        with pytest.raises(InputError, match=r"mine\.csv, line 2"):
            read(root)

    def test_the_au_half_is_an_error_that_says_the_ways(self, tmp_path):
        trees.small_clip(tmp_path / "training/train_001/train_001.avi", 2)
        plant(tmp_path, ["training/train_001/train_001-au.dat"], "0 0 1 0 1\n0 0 1 0 0\n")
        with pytest.raises(InputError, match=r"AU half.*\(a\).*\(b\).*\(c\).*\(d\)"):
            read(tmp_path)

    def test_litter_is_no_table(self, tmp_path):
        root = trees.gemep_fera(tmp_path)
        plant(root, ["._labels.csv"], b"\x00\x05\x16\x07\xff")
        assert kinds(read(root)) == {}

    def test_two_words_beside_a_clip_are_none(self, tmp_path):
        root = trees.gemep_fera(tmp_path)
        plant(root, ["training/train_001/train_001.txt"], "anger or fear")
        copy = read(root)
        assert kinds(copy) == {"unlabelled": 1}
        assert not used(copy, "train_001")

    def test_copies_strange_names_and_damaged_clips(self, tmp_path):
        root = trees.gemep_fera(tmp_path)
        shutil.copytree(root / "training/train_001", root / "training/copy/train_001")
        trees.small_clip(root / "training/trailer.avi", 2)
        (root / "training/train_002/train_002.avi").write_bytes(b"RIFF")
        assert kinds(read(root)) == {"extra": 1, "misnamed": 1, "damaged": 1}

    @pytest.mark.parametrize("cut", [1, 100, 400])
    def test_a_clip_that_breaks_off_is_told_and_used_as_far_as_it_goes(self, tmp_path, cut):
        root = trees.gemep_fera(tmp_path)
        clip = root / "training/train_004/train_004.avi"
        clip.write_bytes(clip.read_bytes()[:-cut])
        copy = read(root)
        assert kinds(copy) == {"damaged": 1}
        assert [number for number, *_ in used(copy, "train_004")] in [list(range(1, n)) for n in range(2, 8)]
        assert not counts("gemep-fera", root)[2].whole

    def test_one_clip_among_photos_or_alone_is_no_copy(self, tmp_path):
        trees.small_clip(tmp_path / "alone/test_001.mp4", 2)
        trees.small_clip(tmp_path / "photos/test_001.mp4", 2)
        trees.small_clip(tmp_path / "halves/train/train_001.mp4", 2)
        trees.small_clip(tmp_path / "folders/train/train_001/train_001.mp4", 2)
        for folder in ("photos", "halves/train/happy", "folders/train/happy"):
            plant(tmp_path / folder, ["1.jpg", "2.jpg"], trees.picture("JPEG"))
        assert not any(DATABASES["gemep-fera"].is_root(str(folder)) for folder in tmp_path.rglob("*"))
        assert len(read(tmp_path / "photos").samples) == 2
        trees.small_clip(tmp_path / "alone/test_002.mp4", 2)
        assert read(tmp_path / "alone").dataset == "gemep-fera"

    def test_the_folder_of_clips_can_be_source(self, tmp_path):
        root = trees.gemep_fera(tmp_path)
        assert {one.split for one in read(root / "training").samples} == {"train"}
        assert len(read(root / "test").samples) == 4

    def test_without_clips_it_is_an_error(self, tmp_path):
        plant(tmp_path, ["training/readme.txt"])
        with pytest.raises(InputError, match="no copy of GEMEP-FERA"):
            read(tmp_path, "gemep-fera")

    def test_without_pyav_one_error_names_it(self, tmp_path, monkeypatch):
        root = trees.gemep_fera(tmp_path)
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(MissingPackageError, match=r"PyAV.*\[video\]"):
            read(root)

    def test_verify_counts_clips(self, tmp_path):
        here, _, report = counts("gemep-fera", trees.gemep_fera(tmp_path))
        assert (here[("training clips", None)], here[("test clips", None)]) == (5, 1)
        assert not any(count.sure for count in report.counts)
