"""FER2013 against its real pictures: written out as the original files, read back bit-equal."""

import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from featurepipe.cli import main
from featurepipe.datasets.readers import read_source
from featurepipe.errors import InputError
from featurepipe.labels import canonical

DIGITS = [str(value).encode() for value in range(256)]
SPLITS = {"Training": "train", "PublicTest": "val"}


class Fer(NamedTuple):
    """Rows of FER2013 in the official order."""

    images: np.ndarray
    codes: np.ndarray
    usage: np.ndarray
    names: np.ndarray
    classes: list[str]

    def rows(self, which):
        return Fer(self.images[which], self.codes[which], self.usage[which], self.names[which], self.classes)

    @property
    def black(self):
        return self.images.reshape(len(self.images), -1).max(1) == 0

    def labels(self):
        return [canonical(self.classes[code]) for code in self.codes]


@pytest.fixture(scope="module")
def whole(shared_data):
    with np.load(shared_data / "fer2013.npz", allow_pickle=False) as arrays:
        picked = [arrays[name] for name in ("images", "labels", "usage", "names")]
        return Fer(*picked, arrays["classes"].tolist())


@pytest.fixture(scope="module")
def some(whole):
    """Rows from everywhere: all black ones, and the two numbers that two pictures have."""
    twice = [name for name, count in Counter(whole.names.tolist()).items() if count > 1]
    picked = whole.black | np.isin(whole.names, twice)
    picked[:: len(picked) // 300] = True
    return whole.rows(picked)


def text_of(image):
    return b" ".join(map(DIGITS.__getitem__, image.tobytes()))


def write_csv(path, fer, header=b"emotion,pixels,Usage", row=b"%(e)d,%(p)s,%(u)s"):
    with open(path, "wb") as stream:
        stream.write(header + b"\n")
        for image, code, usage in zip(fer.images, fer.codes, fer.usage, strict=True):
            stream.write(row % {b"e": code, b"p": text_of(image), b"u": usage.encode()} + b"\n")
    return str(path)


def write_folders(root, fer):
    """As Kaggle's copy: PublicTest and PrivateTest are both below test/; lossless, which that copy is not."""
    for image, code, usage, name in zip(fer.images, fer.codes, fer.usage, fer.names, strict=True):
        folder = root / ("train" if usage == "Training" else "test") / fer.classes[code]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / Path(name).with_suffix(".png"))
    return str(root)


def assert_same_rows(read, fer):
    """Every row but the black ones, in order, bit-equal and labelled."""
    kept = fer.rows(~fer.black)
    np.testing.assert_array_equal(np.stack([sample.pixels for sample in read.samples]), kept.images)
    assert [sample.label for sample in read.samples] == kept.labels()
    assert [int(sample.path.rpartition("#")[2]) for sample in read.samples] == np.flatnonzero(~fer.black).tolist()
    assert [int(one.path.rpartition("#")[2]) for one in read.skipped] == np.flatnonzero(fer.black).tolist()
    assert {one.kind for one in read.skipped} == {"damaged"}


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("fer2013.csv", b"emotion,pixels,Usage", b"%(e)d,%(p)s,%(u)s"),
        ("icml_face_data.csv", b"emotion, Usage, pixels", b"%(e)d,%(u)s,%(p)s"),
    ],
)
def test_csv_reads_back_bit_equal_from_file_and_from_folder(some, tmp_path, name, header, row):
    source = write_csv(tmp_path / name, some, header, row)
    for place in (source, str(tmp_path)):
        read = read_source(place)
        assert_same_rows(read, some)
        assert [sample.split for sample in read.samples] == [SPLITS[usage] for usage in some.rows(~some.black).usage]
        assert (read.dataset, read.faces, len(read.skipped)) == ("fer2013", "crops", 12)
        assert read.notes[0] == "read as FER2013 (--dataset fer2013)"


def test_kaggles_train_and_test_files(some, tmp_path):
    train, test = some.rows(some.usage == "Training"), some.rows(some.usage == "PublicTest")
    write_csv(tmp_path / "train.csv", train, b"emotion,pixels", b"%(e)d,%(p)s")
    write_csv(tmp_path / "test.csv", test, b"pixels", b"%(p)s")
    read = read_source(str(tmp_path))
    together = np.concatenate([train.images[~train.black], test.images[~test.black]])
    np.testing.assert_array_equal(np.stack([sample.pixels for sample in read.samples]), together)
    count = (~train.black).sum()
    assert [sample.label for sample in read.samples[:count]] == train.rows(~train.black).labels()
    assert {sample.split for sample in read.samples[:count]} == {"train"}
    assert {(sample.label, sample.split) for sample in read.samples[count:]} == {(None, None)}


def test_folders_read_back_bit_equal(some, tmp_path):
    read = read_source(write_folders(tmp_path, some))
    kept = some.rows(~some.black)
    found = {}
    for sample in read.samples:
        path = Path(sample.path)
        found[path.parent.name, path.stem] = (np.asarray(Image.open(path)), sample.label, sample.split)
    assert len(found) == len(kept.images)  # a number of two pictures is in two classes
    for image, code, usage, name in zip(kept.images, kept.codes, kept.usage, kept.names, strict=True):
        pixels, label, split = found[some.classes[code], Path(name).stem]
        np.testing.assert_array_equal(pixels, image)
        assert (label, split) == (canonical(some.classes[code]), SPLITS[usage])
    assert sorted(Path(one.path).stem for one in read.skipped) == sorted(
        Path(name).stem for name in some.names[some.black]
    )


def test_a_part_is_told_from_the_whole(some, tmp_path, capsys):
    source = write_csv(tmp_path / "fer2013.csv", some)
    assert main(["datasets", "verify", "fer2013", source]) == 0
    told = capsys.readouterr().out
    trained = int((some.usage == "Training").sum())
    assert f"  Training: {trained} of 28,709, 11 of them damaged in the official files too: {trained - 28709:,}" in told
    assert "  damaged: 12" in told
    assert main(["datasets", "verify", "fer2013", source, "--strict"]) == 2


def test_a_damaged_row_is_named(some, tmp_path):
    path = tmp_path / "fer2013.csv"
    write_csv(path, some.rows(slice(5)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 400])  # a copy that broke off
    with pytest.raises(InputError, match=r"line 6: 2 fields"):
        read_source(str(path))


@pytest.mark.slow
def test_all_rows(whole, tmp_path):
    """Prints the seconds of processor that reading takes."""
    source = write_csv(tmp_path / "fer2013.csv", whole)
    started = time.process_time()
    read = read_source(source)
    print(f"{len(read.samples)} rows in {time.process_time() - started:.1f} s")
    assert_same_rows(read, whole)
    counts = Counter((sample.split, sample.label) for sample in read.samples)
    assert sum(counts.values()) == 28709 + 3589 - 12
    assert counts["train", "disgust"] == 436
    assert counts["val", "anger"] == 467 - 1
    assert "279 of 3588 pictures of split val also occur in train; they are kept" in read.notes
    blocks = {id(sample.pixels.base) for sample in read.samples}
    assert len(blocks) == 1, "every picture is a view of one block"
