"""Small fake copies of the databases of stills: official names, folders and quirks, tiny pictures (datasets.md 3)."""

import os
from functools import cache
from io import BytesIO
from itertools import product

import numpy as np
from PIL import Image

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}

BASIC7 = ("AN", "DI", "FE", "HA", "NE", "SA", "SU")

JAFFE_PEOPLE = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
JAFFE_TAKES = {
    **dict.fromkeys(("KA.FE", "KA.HA", "KL.DI", "KM.HA", "YM.FE"), "1234"),
    **dict.fromkeys(("KM.DI", "NM.DI"), "13"),
    "KM.SA": "1235",
    "KR.HA": "12",
}
"""Takes of the cells that do not have takes 1 to 3."""
JAFFE_HOLES = (8, 12, 21, 76, 108, 183)

BU_SCANS = ("NE00", *(f"{code}0{level}" for code in ("AN", "DI", "FE", "HA", "SA", "SU") for level in range(1, 5)))

RAFD_WORDS = ("angry", "contemptuous", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")

KDEF_CODES = ("AF", "AN", "DI", "HA", "NE", "SA", "SU")
KDEF_ANGLES = ("FL", "HL", "S", "HR", "FR")

SFEW_WORDS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


@cache
def picture(extension):
    """Bytes of a tiny grey picture."""
    stream = BytesIO()
    pixels = np.arange(64, 192, dtype=np.uint8).reshape(8, 16)
    Image.fromarray(pixels).save(stream, FORMATS[extension.lower()])
    return stream.getvalue()


def plant(root, *names):
    """Write a tiny picture, or for other extensions an empty file, under each name below `root`; returns root."""
    for folder in {(root / name).parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        extension = os.path.splitext(name)[1].lower()
        with open(f"{root}/{name}", "wb") as stream:
            stream.write(picture(extension) if extension in FORMATS else b"")
    return root


def multipie_name(subject, session, recording, camera="05_1", shot=7):
    folder = f"session0{session}/multiview/{subject}/0{recording}/{camera}"
    return f"{folder}/{subject}_0{session}_0{recording}_{camera.replace('_', '')}_{shot:02}.png"


def multipie(path):
    """001 was in all sessions and 002 in the first and third, where its photos are lost; two cameras, two shots."""
    root = path / "Multi-Pie"
    recordings = {"001": ((1, 2), (2, 3), (3, 3), (4, 3)), "002": ((1, 2),)}
    for subject, sessions in recordings.items():
        for session, count in sessions:
            cells = product(range(1, count + 1), ("05_1", "08_1"), (0, 7))
            plant(root / "data", *(multipie_name(subject, session, *cell) for cell in cells))
    plant(root / "data", "session01/highres/001/001_01_01.jpg", "session01/.DS_Store")
    plant(root, "meta/subject_list.txt", "README.txt")
    (root / "meta" / "subject_list.txt").write_text("001 1980 Male 1 1 1 1\n002 1975 female 1 0 1 0\n")
    return root


def jaffe_names():
    """All 213 names; the running numbers are given out in order, as only their holes are known."""
    numbers = iter(sorted(set(range(1, 220)) - set(JAFFE_HOLES)))
    return [
        f"{person}.{code}{take}.{next(numbers)}.tiff"
        for person, code in product(JAFFE_PEOPLE, BASIC7)
        for take in JAFFE_TAKES.get(f"{person}.{code}", "123")
    ]


def jaffe_table(rows):
    """A README with the table of ratings: rows are (number, six numbers, picture)."""
    lines = [f"{number} {' '.join(f'{mean:.2f}' for mean in means)} {name}" for number, means, name in rows]
    return "\n".join(["The JAFFE database", "# HAP SAD SUR ANG DIS FEA PIC", "----", *lines, "(Fear Excluded)", ""])


def jaffe(path):
    """The whole archive."""
    root = plant(path / "jaffe", *jaffe_names(), ".DS_Store")
    rows = [(1, (1.0, 2.0, 1.5, 4.5, 3.0, 1.25), "KA-AN1"), (9, (1, 1, 4.5, 1, 1, 4), "KA-FE1")]
    (root / "README_FIRST.txt").write_text(jaffe_table(rows))
    return path / "jaffe"


def bu_3dfe(path, people=("F0001WH", "M0044AE")):
    """Two people with every file of each scan."""
    kinds = ("F2D.bmp", "F3D.bmp", "F3D.wrl", "F3D.bnd", "RAW.wrl", "RAW.pse")
    root = path / "BU_3DFE"
    for person in people:
        subject, ancestry = person[:5], person[5:]
        names = (f"Subjects/{subject}/{subject}_{scan}{ancestry}_{kind}" for scan, kind in product(BU_SCANS, kinds))
        plant(root, *names)
    return root


def rafd_names(models):
    cells = product(("000", "045", "090", "135", "180"), models, RAFD_WORDS, ("frontal", "left", "right"))
    return [f"Rafd{camera}_{model}_{word}_{gaze}.jpg" for camera, model, word, gaze in cells]


def rafd(path, models=("01_Caucasian_female", "11_Kid_female", "73_Moroccan_male")):
    """Three models, flat as it is distributed."""
    return plant(path / "RafDDownload", *rafd_names(models), "Thumbs.db")


def kdef_names(session, people):
    """Official names of the people (such as F01) in one session, the two broken ones included."""
    cells = product(people, KDEF_CODES, KDEF_ANGLES)
    names = (f"{session}{person}{code}{angle}" for person, code, angle in cells)
    broken = {"AF31SAHL": "AF31V", "AM31SUHR": "AM31H"}
    return [f"KDEF/{name[:4]}/{broken.get(name, name)}.JPG" for name in names]


def kdef(path, people=("F01", "F31", "M31", "M25")):
    """Both sessions of four people (with black pictures AF01SUFR, AM25DIFL, and both broken names) and AKDEF."""
    averaged = {"F": "FAHR", "M": "MAFHR"}
    names = [f"AKDEF/{gender}{code}{angle}.JPG" for gender, code, angle in product("FM", KDEF_CODES, KDEF_ANGLES)]
    names.remove("AKDEF/FAFHR.JPG")
    names.append(f"AKDEF/{averaged['F']}.JPG")
    root = path / "KDEF_and_AKDEF" / "KDEF_and_AKDEF"
    return plant(root, *kdef_names("A", people), *kdef_names("B", people), *names, "ReadThis/AKDEFReadThis.pdf").parent


def fed_ro(path):
    """Two photos a class; neutral is spelled neural."""
    words = ("anger", "disgust", "fear", "happy", "neural", "sad", "surprise")
    plant(path / "FED-RO", *(f"FED-RO_crop/{word}/{number}.jpg" for word, number in product(words, (1, 2))))
    return path / "FED-RO"


def sfew_name(film, number):
    return f"{film}_{number:09}_{number % 90:08}.png"


def sfew(path):
    """SFEW 2.0, aligned: three photos a class in train, two in val, four in test; the validation set in its new zip."""
    root = path / "SFEW_2.0"
    for place, word in enumerate(SFEW_WORDS):
        train = [
            sfew_name(film, 100 * place + n) for n, film in enumerate(("Airheads", "HarryPotter_Half_Blood_Prince"))
        ]
        train.append(sfew_name("Airheads", 100 * place + 50))
        plant(root / "Train" / "Train_Aligned_Faces" / word, *train)
        val = [sfew_name("Juno", 100 * place + n) for n in range(2)]
        plant(root / "Val" / "Val_Aligned_Faces_new" / "Val_Aligned_Faces" / word, *val)
    plant(root / "Test" / "Test_Aligned_Faces", *(sfew_name("Hangover", number) for number in range(4)))
    return root


def sfew_1(path):
    """SFEW 1.0: two halves whose names are not confirmed, one photo a class and another for anger."""
    for half, film in (("Set_A", "Airheads"), ("Set_B", "Juno")):
        names = [f"{word}/{sfew_name(film, place)}" for place, word in enumerate(SFEW_WORDS)]
        plant(path / "SFEW" / half, *names, f"Angry/{sfew_name(film, 99)}")
    return path / "SFEW"


def sfew_repack(path):
    """The flat repack: 14 pictures in train, 7 in val."""
    root = plant(path / "sfew", *(f"sfew2.0_images/image_{number:06}.png" for number in range(21)))
    rows = [
        f"image_{number:06}.png,{number % 7},{SFEW_WORDS[number % 7]},{'Train' if number < 14 else 'Val'}_Aligned_Faces"
        for number in range(21)
    ]
    (root / "sfew_2.0_labels.csv").write_text("\n".join(["image_name,label,emotion,original_split", *rows, ""]))
    return root


TREES = {
    "multipie": multipie,
    "jaffe": jaffe,
    "bu-3dfe": bu_3dfe,
    "rafd": rafd,
    "kdef": kdef,
    "fed-ro": fed_ro,
    "sfew": sfew,
}
"""Database -> builds a copy below a folder and returns what a user would give as SOURCE."""
