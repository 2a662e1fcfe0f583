"""Small fake copies of the databases of sequences: official names, folders, quirks, and real small clips."""

from io import BytesIO

import av
import numpy as np
import openpyxl
from PIL import Image

CASME2_HEADINGS = (
    *("Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units", "Estimated Emotion"),
)
CASME2_ROWS = (
    (1, "EP02_01f", 46, 59, 86, "4+12", "happiness"),
    (4, "EP12_01f", 261, "/", 321, "4", "disgust"),
    (5, "EP09_05f", 69, 69, 85, "4+L9", "disgust"),
    (16, "EP01_08", 73, 80, 110, "?", "repression"),
    (17, "EP01_2", 5, 7, 9, "12", "others"),
)
"""Subject, file name, onset, apex, offset, action units, emotion; with the quirks of the official sheet."""

CASME2_ENDS = {(16, "EP01_08"): 96}
"""Last frames on disk where they are not the offset."""

MMI_EXPORT = "mmi-facial-expression-database_download_2012-03-01_12_00_00"
OULU_WORDS = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")


def picture(kind, size=(16, 8)):
    """Bytes of a tiny grey picture in the format `kind`."""
    stream = BytesIO()
    pixels = np.arange(64, 64 + size[0] * size[1], dtype=np.uint8).reshape(size[1], size[0])
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def plant(root, names, data=b""):
    """Write `data` under each of `names` below `root`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


def write_clip(path, frames, codec="mpeg4", pix_fmt="yuv420p", rotation=None, title=None):
    """A video file of frames, uint8 RGB (h, w, 3) each, at 25 per second; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = pix_fmt, 8_000_000
        if title is not None:
            container.metadata["title"] = title
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def small_clip(path, count):
    """A clip of `count` frames of 48 x 32 pixels that grow brighter."""
    return write_clip(path, [np.full((32, 48, 3), 4 * number, np.uint8) for number in range(count)])


def ckplus_sequence(root, subject, sequence, frames, code=None, units="", wrapped=True):
    """One sequence of CK+ with frames numbered as given, and its label files."""
    images, emotion, facs, landmarks = (
        (
            "extended-cohn-kanade-images/cohn-kanade-images",
            "Emotion_labels/Emotion",
            "FACS_labels/FACS",
            "Landmarks/Landmarks",
        )
        if wrapped
        else ("cohn-kanade-images", "Emotion", "FACS", "Landmarks")
    )
    names = [f"{subject}/{sequence}/{subject}_{sequence}_{frame:08d}" for frame in frames]
    plant(root, [f"{images}/{name}.png" for name in names], picture("PNG"))
    plant(root, [f"{landmarks}/{name}_landmarks.txt" for name in names], "   1.0e+00   2.0e+00\n" * 68)
    plant(root, [f"{images}/{subject}/{sequence}/.DS_Store"])
    if code is None:
        (root / emotion / subject / sequence).mkdir(parents=True)
    else:
        plant(root, [f"{emotion}/{names[-1]}_emotion.txt"], f"   {code:.7e}\n")
    if units:
        plant(root, [f"{facs}/{names[-1]}_facs.txt"], units)


def ckplus(path):
    """CK+: two labelled sequences, one unlabelled, one that does not begin with frame 1."""
    root = path / "CK+"
    ckplus_sequence(root, "S005", "001", range(1, 12), 3, "   9.0000000e+00   4.0000000e+00\n   1.7e+01   0.0e+00\n")
    ckplus_sequence(root, "S010", "002", range(1, 15), 7)
    ckplus_sequence(root, "S010", "003", range(1, 8))
    ckplus_sequence(root, "S011", "001", range(3, 9), 2)
    return root


def oulu_casia(path, people=("P001", "P002"), frames=5):
    """Oulu-CASIA: the original pictures in two folders named like their archive, and the cropped ones."""
    for camera in ("NI", "VL"):
        for light in ("Strong", "Weak", "Dark"):
            oulu_part(path / "B_OriginalImg/OriginalImg", camera, light, people, frames)
    oulu_part(path / "PreProcess_Img", "VL_Acropped", "Strong", people[:1], frames)
    plant(path, ["PreProcess_Img/change_log.txt", "B_OriginalImg/OriginalImg/VL/Thumbs.db"])
    return path


def oulu_part(root, camera, light, people, frames):
    """All sequences of one camera and light."""
    places = [f"{camera}/{light}/{person}/{word}" for person in people for word in OULU_WORDS]
    plant(root, [f"{place}/{number:03d}.jpeg" for place in places for number in range(frames)], picture("JPEG"))


def write_sheet(path, headings, rows):
    """An XLSX file with one sheet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    book.active.title = "Sheet1"
    for row in (headings, *rows):
        book.active.append(row)
    book.save(path)


def casme2_sheet(path, rows=CASME2_ROWS):
    """The coding sheet, with its two columns without heading."""
    cells = [(s, f"{name} ", None, on, apex, off, None, units, word) for s, name, on, apex, off, units, word in rows]
    write_sheet(path, CASME2_HEADINGS, cells)


def casme2(path, sets=("RAW", "RAW_selected", "Cropped")):
    """CASME II: the coding sheet, the sheet of objective classes, and three sets of pictures, numbers not padded."""
    root = path / "CASME2"
    casme2_sheet(root / "CASME2-coding-20140508.xlsx")
    write_sheet(root / "CASME2-ObjectiveClasses.xlsx", ("Subject", "Filename", "Objective Class"), [(1, "EP02_01f", 1)])
    plant(root, ["readme.pdf", "note.txt", "~$CASME2-coding-20140508.xlsx"])
    for subject, name, onset, _, offset, _, _ in CASME2_ROWS:
        end = CASME2_ENDS.get((subject, name), offset)
        clip = f"sub{subject:02d}/{name}"
        inside = range(onset, end + 1)
        if "RAW" in sets:
            whole = range(1, end + 12)
            plant(root, [f"CASME2_RAW/CASME2-RAW/{clip}/img{n}.jpg" for n in whole], picture("JPEG"))
        if "RAW_selected" in sets:
            plant(root, [f"CASME2_RAW_selected/CASME2_RAW_selected/{clip}/img{n}.jpg" for n in inside], picture("JPEG"))
        if "Cropped" in sets:
            plant(root, [f"Cropped/Cropped/{clip}/reg_img{n}.jpg" for n in inside], picture("JPEG"))
    return root


def mmi_session(root, session, name, code=None, *, view=0, coding="", write=lambda path: small_clip(path, 20)):
    """One session of MMI: the clip, session.xml, the clip's metadata and, where it is given, its coding."""
    folder = root / "Sessions" / str(session)
    write(folder / f"{name}.avi")
    track = f'<track type="Video" view="{view}"/><annotation filename="{name}-oao_aucs.xml"/>'
    plant(folder, ["session.xml"], f"<session>{track}</session>")
    emotion = "" if code is None else f'<Metatag Name="Emotion" Value="{code}"/>'
    plant(folder, [f"{name}.xml"], f'<Metadata><Metatag Name="AU" Value="12"/>{emotion}</Metadata>')
    if coding:
        plant(folder, [f"{name}-oao_aucs.xml"], f"<ActionUnits>{coding}</ActionUnits>")


def mmi_unit(number, *markers):
    """An action unit with markers (frame, type)."""
    inside = "".join(f'<Marker Frame="{frame}" Type="{kind}"/>' for frame, kind in markers)
    return f'<ActionUnit Number="{number}">{inside}</ActionUnit>'


def mmi(path):
    """MMI: coded and uncoded clips of three views, a code above 6, a clip of a single action unit, a still."""
    root = path / MMI_EXPORT
    coding = mmi_unit("12", (4, 1), (8, 2), (12, 3), (16, 0)) + mmi_unit("L6", (5, 1), (9, 2), (11, 3), (15, 0))
    mmi_session(root, 1841, "S035-004", code=4, coding=coding)
    mmi_session(root, 1842, "S035 -005", code=1)
    mmi_session(root, 1843, "S036-001", code=8, view=1)
    mmi_session(root, 1844, "S036-002", view=2)
    plant(root, ["Sessions/1850/S037-001.jpg"], picture("JPEG"))
    plant(root, ["Sessions/1850/S037-001.xml"], '<Metadata><Metatag Name="Emotion" Value="6"/></Metadata>')
    return root


def gemep_fera(path):
    """GEMEP-FERA: training clips with the word beside them, a test clip without label."""
    root = path / "GEMEP_FERA_2011"
    for number, word in enumerate(("anger", "fear", "joy", "relief", "sadness"), 1):
        small_clip(root / f"training/train_{number:03d}/train_{number:03d}.avi", 6)
        plant(root, [f"training/train_{number:03d}/train_{number:03d}.txt"], f"{word}\n")
    small_clip(root / "test/test_001/test_001.avi", 4)
    return root


TREES = {"ckplus": ckplus, "oulu-casia": oulu_casia, "casme2": casme2, "mmi": mmi, "gemep-fera": gemep_fera}
"""Builds the tree of a database below a folder, and returns what a user would give as SOURCE."""
