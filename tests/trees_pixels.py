"""Small fake copies of FER2013 and of what was made from CK+: CSV files of pixels, class folders of 48 x 48 crops."""

from itertools import product

import numpy as np
from PIL import Image

FER_WORDS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CK48_WORDS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
USAGES = ("Training", "PublicTest", "PrivateTest")


def crop(number):
    """Picture `number`: 48 x 48, grey, like no other."""
    return np.random.default_rng(number).integers(0, 256, (48, 48), dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_rows(path, rows):
    """A CSV of pixels in FER2013's form; rows are (code, pixels, usage)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{code},{' '.join(map(str, pixels.ravel().tolist()))},{usage}" for code, pixels, usage in rows]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines, ""]))
    return path


def fer2013(path):
    """fer2013.tar.gz unpacked: every emotion in each part, and a black picture at the end of Training."""
    rows = [(code, crop(10 * part + code), usage) for part, usage in enumerate(USAGES) for code in range(7)]
    rows.insert(7, (0, np.zeros((48, 48), np.uint8), "Training"))
    write_rows(path / "fer2013" / "fer2013.csv", rows)
    for name in ("README", "fer2013.bib"):
        (path / "fer2013" / name).touch()
    return path / "fer2013"


def fer2013_folders(path):
    """Kaggle's copy: test/ mixes both test parts; one official black picture, and augmented copies in disgust."""
    for number, (part, word) in enumerate(product(USAGES, FER_WORDS)):
        folder = path / "archive" / ("train" if part == "Training" else "test") / word
        save(folder / f"{part}_{100 + number}.jpg", crop(number))
    train = path / "archive" / "train"
    save(train / "angry" / "Training_10131352.jpg", np.zeros((48, 48), np.uint8))
    for copy in range(2):
        save(train / "disgust" / "Training_101.jpg", crop(50)).rename(train / "disgust" / f"Training_101.jpg{copy}.jpg")
    save(train / "disgust" / "Training_101.jpg", crop(1))
    return path / "archive"


def ck48(path):
    """Three peak frames of two people for every emotion."""
    for place, (word, person) in enumerate(product(CK48_WORDS, ("S010", "S137"))):
        for frame in (17, 18, 19):
            name = f"{person}_{place // 2 + 1:03}_{frame:08}.png"
            save(path / "CK+48" / word / name, crop(100 * place + frame))
    return path / "CK+48"


def ckextended(path):
    """All eight emotions in three parts that share people."""
    rows = [(code, crop(10 * part + code), usage) for part, usage in enumerate(USAGES) for code in range(8)]
    return write_rows(path / "ck" / "ckextended.csv", rows).parent


TREES = {"fer2013": fer2013, "ck48": ck48, "ckextended": ckextended}
"""Database -> builds a copy below a folder and returns what a user would give as SOURCE."""

VARIANTS = {"fer2013": (fer2013_folders,)}
"""Database -> builders of its other copies."""
