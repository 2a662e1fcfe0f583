"""Small fake copies of FER+, AffectNet and RAF-DB: official names, files and quirks (datasets.md 3.7, 3.12, 3.13).

Votes, labels and pictures are made up.
"""

import numpy as np
from trees_stills import plant

FERPLUS_COLUMNS = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)
FERPLUS_ROWS = (
    ("Training", "fer0000000.png", "happiness=8 neutral=2"),
    ("Training", "", "NF=10"),
    ("Training", "fer0000001.png", "contempt=4 neutral=1 happiness=1 sadness=1 anger=1 fear=1 unknown=1"),
    ("Training", "fer0000002.png", "neutral=3 sadness=3 anger=4"),
    ("Training", "fer0000003.png", "NF=6 neutral=4"),
    ("Training", "fer0000004.png", "unknown=7 fear=3"),
    ("Training", "fer0000005.png", "surprise=9"),
    ("Training", "fer0000000.png", "sadness=10"),
    ("Training", "fer0000006.png", "anger=10"),
    ("PublicTest", "fer0000007.png", "fear=5 surprise=5"),
    ("PublicTest", "fer0000008.png", "disgust=6 fear=4"),
    ("PrivateTest", "fer0000009.png", "fear=10"),
    (
        "PrivateTest",
        "fer0000010.png",
        "neutral=1 happiness=1 surprise=1 sadness=1 anger=1 disgust=1 fear=1 contempt=1 unknown=1 NF=1",
    ),
)
"""Usage, name and votes of each row: row 1 has no name, row 6 nine votes, row 7 the name of row 0 again."""
FERPLUS_BLACK = 8

AFFECTNET_HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
)
AFFECTNET_TRAINING = (
    ("1/aa0.jpg", "10,20,30,40", 1, "0.5", "-0.25"),
    ("1/aa1.JPG", "0,0,5,5", 0, "0", "0"),
    ("1/aa2.png", "NULL,NULL,NULL,NULL", 9, "-2", "-2"),
    ("2/aa3.jpg", "1,1,2,2", 10, "-2", "-2"),
    ("2/aa4.Jpeg", "1,1,8,8", 7, "-0.6", "0.4"),
    ("2/aa5.jpg", "1,1,8,8", 8, "-2", "-2"),
    ("2/gone.jpg", "1,1,8,8", 3, "0.1", "0.9"),
)
"""Place, box, code, valence and arousal; the last photo is not on disk, and aa1.JPG is aa1.jpg there."""
AFFECTNET_VALIDATION = (("3/bb0.jpg", "7,8,9,10", 6, "-0.7", "0.7"), ("3/bb1.jpg", "7,8,9,10", 4, "-0.8", "0.8"))

RAF_BASIC = {
    "train_00001.jpg": 5,
    "train_00002.jpg": 4,
    "train_00003.jpg": 7,
    "train_00004.jpg": 1,
    "test_0001.jpg": 2,
    "test_0002.jpg": 3,
    "test_0003.jpg": 6,
}
RAF_COMPOUND = {"train_00001.jpg": 1, "train_00002.jpg": 11, "test_0001.jpg": 7}


def votes_of(text):
    """The ten votes, in the order of the columns, of a text as in FERPLUS_ROWS."""
    given = dict(item.split("=") for item in text.split())
    return [int(given.get(column, 0)) for column in FERPLUS_COLUMNS]


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# FER+


def ferplus_list(folder, rows=FERPLUS_ROWS):
    header = ",".join(["Usage", "Image name", *FERPLUS_COLUMNS])
    lines = (",".join([usage, name, *map(str, votes_of(votes))]) for usage, name, votes in rows)
    return write(folder / "fer2013new.csv", header, *lines)


def fer2013_rows(folder, rows=FERPLUS_ROWS, name="fer2013.csv"):
    """FER2013's CSV with 4 x 4 pixels, its labels all angry; one picture is black."""
    pictures = np.random.default_rng(0).integers(1, 255, (len(rows), 16), dtype=np.uint8)
    pictures[FERPLUS_BLACK] = 0
    lines = (f"0,{' '.join(map(str, picture))},{usage}" for (usage, _, _), picture in zip(rows, pictures, strict=True))
    return write(folder / name, "emotion,pixels,Usage", *lines)


def ferplus(path):
    """The authors' repository with FER2013's CSV of pixels put beside the votes."""
    root = path / "FERPlus-master" / "FERPlus-master"
    ferplus_list(root)
    fer2013_rows(root)
    write(root / "README.md", "# FER+")
    return path / "FERPlus-master"


def ferplus_pictures(path, with_list=False):
    """The folders that the authors' script writes: PNG files and label.csv; rows without a name write nothing."""
    root = path / "FERPlus"
    folders = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
    for usage, folder in folders.items():
        rows = {name: votes for kind, name, votes in FERPLUS_ROWS if kind == usage and name}
        plant(root / "data" / folder, *rows)
        lines = (f'{name},"(0, 0, 48, 48)",{",".join(map(str, votes_of(votes)))}' for name, votes in rows.items())
        write(root / "data" / folder / "label.csv", *lines)
    if with_list:
        ferplus_list(root)
    return root


# AffectNet


def affectnet_list(path, rows, header=True):
    """A list of the older release, with as many landmarks as the official ones have."""
    landmarks = ";".join(f"{number}.5" for number in range(136))
    lines = (f"{place},{box},{landmarks},{code},{valence},{arousal}" for place, box, code, valence, arousal in rows)
    return write(path, *([AFFECTNET_HEADER] if header else []), *lines)


def affectnet_lists(path):
    """The older release: validation.csv has no header, one photo is lost, one has another case, one is in no list."""
    root = path / "AffectNet"
    lists = root / "Manually_Annotated_file_lists"
    affectnet_list(lists / "training.csv", AFFECTNET_TRAINING)
    affectnet_list(lists / "validation.csv", AFFECTNET_VALIDATION, header=False)
    images = root / "Manually_Annotated" / "Manually_Annotated_Images"
    places = [row[0] for row in AFFECTNET_TRAINING + AFFECTNET_VALIDATION if row[0] != "2/gone.jpg"]
    plant(images, *(place.replace(".JPG", ".jpg") for place in places), "1/unlisted.jpg", "1/Thumbs.db")
    plant(root / "Automatically_Annotated" / "Automatically_Annotated_Images", "1/zz0.jpg")
    return root


def save_npy(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(value))


def annotate(folder, number, expression, valence="0.1", arousal="0.2"):
    """A photo of the release of 2021 with its annotations; the expression is text or a number."""
    plant(folder, f"images/{number}.jpg")
    notes = folder / "annotations"
    save_npy(notes / f"{number}_exp.npy", expression)
    save_npy(notes / f"{number}_val.npy", valence)
    save_npy(notes / f"{number}_aro.npy", arousal)
    save_npy(notes / f"{number}_lnd.npy", np.zeros(136))


def affectnet(path):
    """The release of 2021; numbers are not padded and start again in val_set."""
    root = path / "affectnet" / "affectnet"
    for number, expression in ((0, "0"), (2, "7"), (10, "3"), (11, 6)):
        annotate(root / "train_set", number, expression, "-0.5", "0.25")
    annotate(root / "val_set", 0, "1", -0.125, 0.75)
    annotate(root / "val_set", 1, "4", "-2.000", "-2.000")
    return path / "affectnet"


def affectnet_copy(path):
    """Kaggle's copy: class folders and labels.csv, which disagree about one photo and miss another."""
    root = path / "archive"
    rows = (
        "0,anger/image0000006.jpg,surprise,0.873142",
        "1,anger/image0000060.jpg,anger,0.852311",
        "2,happy/image0000106.jpg,happy,0.9",
        "3,neutral/gone.jpg,neutral,0.8",
    )
    write(root / "labels.csv", ",pth,label,relFCs", *rows)
    plant(root, "anger/image0000006.jpg", "anger/image0000060.jpg", "happy/image0000106.jpg", "neutral/other.jpg")
    return root


# RAF-DB


def raf_subset(root, labels, kinds=("aligned", "original")):
    write(root / "EmoLabel" / "list_patition_label.txt", *(f"{name} {code}" for name, code in labels.items()))
    if "aligned" in kinds:
        plant(root / "Image" / "aligned", *(name.replace(".", "_aligned.") for name in labels))
    if "original" in kinds:
        plant(root / "Image" / "original", *labels)
    return root


def raf_annotations(root, stem, gender=1, race=2, age=3, box="10.5 20.0 49.5 70.0"):
    landmarks = [f"{20 + place}.5\t{30 + place}.0" for place in range(5)]
    write(root / "Annotation" / "manual" / f"{stem}_manu_attri.txt", *landmarks, gender, race, age)
    write(root / "Annotation" / "boundingbox" / f"{stem}_boundingbox.txt", box)


def raf_db(path):
    """Both subsets, with the same names for other pictures; one picture has annotations by hand."""
    root = path / "RAF-DB" / "RAF-DB"
    raf_annotations(raf_subset(root / "basic", RAF_BASIC), "train_00001")
    raf_subset(root / "compound", RAF_COMPOUND)
    plant(root / "basic" / "Image" / "aligned", ".DS_Store")
    return path / "RAF-DB"


def raf_copy(path, tables=True):
    """Kaggle's copy of the basic subset."""
    root = path / "archive"
    for name, code in RAF_BASIC.items():
        plant(root / "DATASET" / name.split("_")[0] / str(code), name.replace(".", "_aligned."))
    for split in ("train", "test") if tables else ():
        rows = (f"{name.replace('.', '_aligned.')},{code}" for name, code in RAF_BASIC.items() if split in name)
        write(root / f"{split}_labels.csv", "image,label", *rows)
    return root


TREES = {"ferplus": ferplus, "affectnet": affectnet, "raf-db": raf_db}
"""Database -> builds a copy below a folder and returns what a user would give as SOURCE."""

VARIANTS = {
    "ferplus": (ferplus_pictures,),
    "affectnet": (affectnet_lists, affectnet_copy),
    "raf-db": (raf_copy,),
}
"""Database -> builders of its other releases and copies."""
