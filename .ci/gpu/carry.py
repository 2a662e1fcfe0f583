"""What travels to a GPU machine: `carry.py DATA FOLDER` fills FOLDER/1 (photos, mmod's weights) and FOLDER/2 (FER2013).

`carry.py --unpack FOLDER FILE` makes FER2013's NPZ again. A PNG of all faces is smaller than the compressed arrays.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, COLUMNS = 48, 256


def pack(data: Path, folder: Path) -> None:
    first, second = folder / "1", folder / "2"
    for one in (first, second):
        one.mkdir(parents=True, exist_ok=True)
        _mmod_into(one / "face_recognition_models")
    shutil.copytree(data / "photos", first / "photos", copy_function=shutil.copyfile, dirs_exist_ok=True)
    shutil.copyfile(data / "photos.csv", first / "photos.csv")
    with np.load(data / "fer2013.npz") as file:
        arrays = dict(file)
    images = arrays.pop("images")
    padded = np.zeros((-(-len(images) // COLUMNS) * COLUMNS, SIDE, SIDE), np.uint8)
    padded[: len(images)] = images
    sheet = padded.reshape(-1, COLUMNS, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(-1, COLUMNS * SIDE)
    Image.fromarray(sheet).save(second / "fer.png", optimize=True)
    np.savez_compressed(second / "meta.npz", **arrays)


def _mmod_into(folder: Path) -> None:
    spec = importlib.util.find_spec("face_recognition_models")
    source = Path(str(spec.origin)).parent
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "models/mmod_human_face_detector.dat"):
        shutil.copyfile(source / name, folder / name)


def unpack(folder: Path, out: Path) -> None:
    Image.MAX_IMAGE_PIXELS = None
    with np.load(folder / "meta.npz") as file:
        arrays = dict(file)
    sheet = np.array(Image.open(folder / "fer.png"))
    images = sheet.reshape(-1, SIDE, COLUMNS, SIDE).transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)
    np.savez(out, images=images[: len(arrays["labels"])], **arrays)


if __name__ == "__main__":
    if sys.argv[1] == "--unpack":
        unpack(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        pack(Path(sys.argv[1]), Path(sys.argv[2]))
