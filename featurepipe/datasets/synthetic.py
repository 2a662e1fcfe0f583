"""Rendered faces of people who do not exist, for the quickstart and the tests. They are never called real data.

Every face is drawn by a parametric renderer (face_model, face_paint) from numbers alone: no photo, scan or trained
network is behind it. Equal arguments give equal pictures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import cos, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from featurepipe.datasets.face_layers import Layer, Sitter, mottle
from featurepipe.datasets.face_model import (
    Colour,
    Identity,
    Light,
    Pose,
    colour_of,
    draw_actions,
    draw_idle,
    generator,
    shape_of,
)
from featurepipe.datasets.face_paint import paint_person
from featurepipe.errors import InputError
from featurepipe.files import replacing
from featurepipe.labels import EMOTIONS
from featurepipe.records import Face

__all__ = [
    "Identity",
    "Rendered",
    "RenderedGroup",
    "render_face",
    "render_group",
    "render_sequence",
    "write_faces",
    "write_sequences",
]

SAMPLES = "samples.csv"
NOTICE = "rendered by featurepipe, not a real person"
RENDERER = 1
"""Version of the pictures: raised whenever equal arguments give other pixels, so that old files are redrawn."""

SMALLEST = 16
WIDEST, TOP = 3.2, -2.1
"""How far a painted person reaches to the sides and upwards, in face units."""
MOST_DETAIL = 200.0
"""Pixels per face unit beyond which people are painted smaller and enlarged: larger photos get smoother, not slower."""
BOX_CENTRE = 0.42
BOX_HALF = 1.02
"""Centre (below the eyes) and half side, in face units, of the box that dlib's HOG detector gives a frontal face."""

IMAGE_DESCRIPTION, SOFTWARE = 0x010E, 0x0131
SUFFIXES = (".jpg", ".png")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One picture, uint8 RGB (h, w, 3), of `subject` showing `emotion`, whose face fills about `box`."""

    image: np.ndarray
    box: Face
    emotion: str
    subject: int


@dataclass(frozen=True, slots=True)
class RenderedGroup:
    """One picture, uint8 RGB (h, w, 3), of several people, from left to right."""

    image: np.ndarray
    boxes: tuple[Face, ...]
    emotions: tuple[str, ...]
    subjects: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Room:
    """What is around and behind people: lamp, wall and camera."""

    light: Light
    colours: tuple[Colour, Colour]
    angle: float
    panels: tuple[tuple[float, float, float], ...]
    texture: int
    blur: float
    grain: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Room:
        panels = tuple(
            (float(rng.uniform(-0.1, 1.1)), float(rng.uniform(0.03, 0.2)), float(rng.uniform(-0.14, 0.14)))
            for _ in range(int(rng.integers(4)))
        )
        return cls(
            light=Light.draw(rng),
            colours=(
                colour_of(rng, saturation=0.22, low=0.35, high=0.95),
                colour_of(rng, saturation=0.22, low=0.3, high=0.9),
            ),
            angle=float(rng.uniform(0, 2 * np.pi)),
            panels=panels,
            texture=int(rng.integers(2**31)),
            blur=float(rng.uniform(0.0, 0.6)),
            grain=float(rng.uniform(0.004, 0.02)),
        )


def render_face(
    identity: Identity, emotion: str, intensity: float, *, size: tuple[int, int] = (256, 256), rng: np.random.Generator
) -> Rendered:
    """Photograph one person showing `emotion` at `intensity` (0 neutral to 1 apex; without effect on "neutral").

    Parameters
    ----------
    size : width and height in pixels, 16 or more each
    rng : draws pose, room, the person's way of showing the emotion, and the camera's noise

    Raises InputError for an unknown emotion, an intensity outside 0..1, or a size below 16.
    """
    return next(_shots(identity, emotion, (intensity,), size, rng))


def render_sequence(
    identity: Identity, emotion: str, frames: int, *, size: tuple[int, int] = (256, 256), rng: np.random.Generator
) -> list[Rendered]:
    """Film one person from neutral (first frame) to the apex of `emotion` (last) in even steps of intensity.

    Pose, room and the way of showing the emotion stay; noise is new in every frame. InputError as render_face, and
    where `frames` is below 2.
    """
    _check_frames(frames)
    return list(_shots(identity, emotion, np.linspace(0, 1, frames).tolist(), size, rng))


def render_group(
    identities: Sequence[Identity], emotions: Sequence[str], *, size: tuple[int, int], rng: np.random.Generator
) -> RenderedGroup:
    """Photograph several people side by side, each with an emotion at its apex.

    InputError where the lists differ in length or are empty, and as render_face.
    """
    if not identities or len(identities) != len(emotions):
        raise InputError(f"expected one emotion per person, got {len(identities)} people, {len(emotions)} emotions")
    _check_size(size)
    room, width = _Room.draw(rng), size[0] / len(identities)
    sitters = []
    for place, (identity, emotion) in enumerate(zip(identities, emotions, strict=True)):
        shape = shape_of(identity, draw_actions(emotion, rng), draw_idle(rng), 1.0)
        pose = Pose.draw(rng, (place * width, 0, width, size[1]))
        sitters.append(Sitter(identity, shape, pose, room.light))
    return RenderedGroup(
        image=_photograph(sitters, room, size, rng),
        boxes=tuple(_box(sitter.pose) for sitter in sitters),
        emotions=tuple(emotions),
        subjects=tuple(identity.subject for identity in identities),
    )


def _shots(
    identity: Identity, emotion: str, intensities: Sequence[float], size: tuple[int, int], rng: np.random.Generator
) -> Iterator[Rendered]:
    """Pictures of one person in one place, one per intensity."""
    if not all(0 <= intensity <= 1 for intensity in intensities):
        raise InputError(f"intensity must lie in 0..1, got {', '.join(map(str, intensities))}")
    _check_size(size)
    actions, idle = draw_actions(emotion, rng), draw_idle(rng)
    room, pose = _Room.draw(rng), Pose.draw(rng, (0, 0, *size))
    for intensity in intensities:
        sitter = Sitter(identity, shape_of(identity, actions, idle, intensity), pose, room.light)
        yield Rendered(_photograph([sitter], room, size, rng), _box(pose), emotion, identity.subject)


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < SMALLEST:
        raise InputError(f"pictures must be at least {SMALLEST} pixels wide and high, got {size[0]} x {size[1]}")


def _box(pose: Pose) -> Face:
    """Where dlib would see the face."""
    x = pose.x - BOX_CENTRE * pose.scale * sin(pose.roll)
    y = pose.y + BOX_CENTRE * pose.scale * cos(pose.roll)
    half = BOX_HALF * pose.scale
    return Face(round(x - half), round(y - half), round(x + half), round(y + half))


def _photograph(sitters: Sequence[Sitter], room: _Room, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Paint wall and people, then take the picture: blur, grain, eight bits."""
    picture = _wall(room, size)
    for sitter in sitters:
        _place(picture, sitter)
    return _develop(picture, room, rng)


def _wall(room: _Room, size: tuple[int, int]) -> np.ndarray:
    """The background, float32 (h, w, 3): a gradient with soft upright panels and clouds."""
    width, height = size
    x = (np.arange(width, dtype=np.float32) + 0.5) / width
    y = (np.arange(height, dtype=np.float32) + 0.5) / height
    slope = np.clip(0.5 + (x - 0.5) * cos(room.angle) + (y[:, None] - 0.5) * sin(room.angle), 0, 1)[..., None]
    first, second = (np.asarray(colour, np.float32) for colour in room.colours)
    rng = np.random.Generator(np.random.PCG64(room.texture))
    tone = 1 + 0.035 * mottle((height, width), (7, 7), rng)
    for centre, half, amount in room.panels:
        tone += amount / (1 + np.exp((np.abs(x - centre) - half) / 0.012))
    return (first + slope * (second - first)) * tone[..., None] * np.asarray(room.light.colour, np.float32)


def _place(picture: np.ndarray, sitter: Sitter) -> None:
    """Paint a person upright, turn and scale the layer into the pose, and lay it over the picture."""
    pose, (height, width) = sitter.pose, picture.shape[:2]
    detail = min(pose.scale, MOST_DETAIL)
    reach = min(WIDEST, max(pose.x, width - pose.x) / pose.scale + 0.5)
    layer = Layer.empty(-reach, TOP, reach, (height - pose.y) / pose.scale + 0.5, 1 / detail)
    paint_person(layer, sitter)
    pixels = (np.clip(layer.rgba, 0, 1) * 255 + 0.5).astype(np.uint8)
    # RGBX: four plain channels; Pillow would divide and multiply RGBA by its alpha.
    flat = Image.frombuffer("RGBX", (len(layer.x), len(layer.y)), pixels.tobytes(), "raw", "RGBX", 0, 1)
    c, s = detail / pose.scale * cos(pose.roll), detail / pose.scale * sin(pose.roll)
    origin_x, origin_y = 0.5 - float(layer.x[0]) * detail, 0.5 - float(layer.y[0]) * detail
    affine = (c, s, origin_x - c * pose.x - s * pose.y, -s, c, origin_y + s * pose.x - c * pose.y)
    turned = flat.transform((width, height), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    over = np.asarray(turned, np.float32) / 255
    picture *= 1 - over[..., 3:]
    picture += over[..., :3]


def _develop(picture: np.ndarray, room: _Room, rng: np.random.Generator) -> np.ndarray:
    """What the camera makes of the scene: slight blur, grain that grows with the light, uint8."""
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    soft = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(room.blur))
    light = np.asarray(soft, np.float32) / 255
    grain = rng.standard_normal(light.shape, np.float32)
    return (np.clip(light + grain * room.grain * (0.5 + light), 0, 1) * 255 + 0.5).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Photo:
    """One file to be: its name in the folder, and what it shows."""

    path: str
    subject: int
    emotion: str
    intensity: float
    key: tuple[int, ...]
    size: tuple[int, int]

    @property
    def description(self) -> str:
        """Text stored in the file: the notice, and everything the pixels depend on."""
        width, height = self.size
        return (
            f"{NOTICE}; renderer {RENDERER}, key {'-'.join(map(str, self.key))}, subject {self.subject}, "
            f"{self.emotion} {self.intensity:.4f}, {width}x{height}"
        )


def write_faces(
    folder: str | Path,
    *,
    subjects: int,
    per_emotion: int = 1,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
    intensity: tuple[float, float] = (0.6, 1.0),
    suffix: str = ".jpg",
) -> list[Path]:
    """Write photos of `subjects` people, `per_emotion` of each of the eight emotions, and samples.csv beside them.

    Files are `subject-003/happiness-0.jpg`; samples.csv has the columns path (relative to it), label and subject, whose
    names tell people of another seed apart.
    A file that already holds the picture asked for is left alone, so a second call writes nothing.

    Parameters
    ----------
    intensity : lowest and highest intensity; each photo draws its own in between
    suffix : .jpg or .png

    Returns the photos in the order of samples.csv. Raises InputError for numbers below 1, a range of intensities
    outside 0..1, a size below 16, another suffix, or a samples.csv of other photos in `folder`.
    """
    _check_request(subjects, per_emotion, size, suffix)
    if not 0 <= intensity[0] <= intensity[1] <= 1:
        raise InputError(f"intensity must be a range (low, high) within 0..1, got {intensity}")
    _refuse_foreign(Path(folder) / SAMPLES)
    takes = product(range(subjects), EMOTIONS, range(per_emotion))
    photos = [_plan(seed, *take, size, intensity, suffix) for take in takes]
    for photo in photos:
        _write_photo(Path(folder), photo)
    rows = [(photo.path, photo.emotion, _name(seed, photo.subject)) for photo in photos]
    _write_samples(Path(folder) / SAMPLES, ("path", "label", "subject"), rows)
    return [Path(folder) / photo.path for photo in photos]


def write_sequences(
    folder: str | Path,
    *,
    subjects: int,
    frames: int,
    per_emotion: int = 1,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
    suffix: str = ".jpg",
) -> list[Path]:
    """Write sequences of `subjects` people, `per_emotion` of each emotion but neutral, and samples.csv beside them.

    Each runs in `frames` even steps from neutral to the apex. Files are `subject-003/happiness-0/01.jpg`; samples.csv
    has the columns path (relative to it), label, subject, sequence and frame (from 1). As CK+ is read, the first frame
    is labelled neutral and the others with the emotion. Files that are there already are left alone.

    Returns the frames in the order of samples.csv. Raises InputError as `write_faces`, and for fewer than 2 frames.
    """
    _check_request(subjects, per_emotion, size, suffix)
    _check_frames(frames)
    _refuse_foreign(Path(folder) / SAMPLES)
    shown = [emotion for emotion in EMOTIONS if emotion != "neutral"]
    rows: list[tuple[str | int, ...]] = []
    for subject, emotion, take in product(range(subjects), shown, range(per_emotion)):
        photos = _plan_sequence(seed, subject, emotion, take, frames, size, suffix)
        _write_sequence(Path(folder), photos)
        for number, photo in enumerate(photos, 1):
            label = "neutral" if number == 1 else emotion
            name = _name(seed, subject)
            rows.append((photo.path, label, name, f"{name}-{emotion}-{take}", number))
    _write_samples(Path(folder) / SAMPLES, ("path", "label", "subject", "sequence", "frame"), rows)
    return [Path(folder) / str(row[0]) for row in rows]


def _check_request(subjects: int, per_emotion: int, size: tuple[int, int], suffix: str) -> None:
    _check_size(size)
    if subjects < 1 or per_emotion < 1:
        raise InputError(f"expected at least 1 subject and photo, got {subjects=}, {per_emotion=}")
    if suffix not in SUFFIXES:
        raise InputError(f"unknown suffix {suffix!r}; expected one of {', '.join(SUFFIXES)}")


def _check_frames(frames: int) -> None:
    if frames < 2:
        raise InputError(f"a sequence needs at least 2 frames, got {frames}")


def _folder(subject: int) -> str:
    return f"subject-{subject:03d}"


def _name(seed: int, subject: int) -> str:
    """Another name under every seed, for another person. Folds are drawn by names: seed 0 keeps its own."""
    return f"subject-{seed}-{subject:03d}" if seed else _folder(subject)


def _plan(
    seed: int,
    subject: int,
    emotion: str,
    take: int,
    size: tuple[int, int],
    intensity: tuple[float, float],
    suffix: str,
) -> _Photo:
    """Name and content of one photo; what it draws at random depends on its own place alone."""
    key = (seed, subject, EMOTIONS.index(emotion), take)
    strength = 0.0 if emotion == "neutral" else float(generator(*key, 1).uniform(*intensity))
    return _Photo(f"{_folder(subject)}/{emotion}-{take}{suffix}", subject, emotion, strength, key, size)


def _plan_sequence(
    seed: int, subject: int, emotion: str, take: int, frames: int, size: tuple[int, int], suffix: str
) -> list[_Photo]:
    """Name and content of the frames of one sequence; the last part of their keys is their place in it."""
    place = f"{_folder(subject)}/{emotion}-{take}"
    own = (seed, subject, EMOTIONS.index(emotion), take, frames)
    return [
        _Photo(f"{place}/{number:02d}{suffix}", subject, emotion, strength, (*own, number), size)
        for number, strength in enumerate(np.linspace(0, 1, frames).tolist(), 1)
    ]


def _write_photo(folder: Path, photo: _Photo) -> None:
    """Render one photo, unless its file is there already."""
    target = folder / photo.path
    if _description_in(target) == photo.description:
        return
    seed = photo.key[0]
    rendered = render_face(
        Identity.draw(seed, photo.subject),
        photo.emotion,
        photo.intensity,
        size=photo.size,
        rng=generator(*photo.key),
    )
    _write_image(target, rendered, photo)


def _write_sequence(folder: Path, photos: Sequence[_Photo]) -> None:
    """Render one sequence, unless its files are all there already: noise runs on from frame to frame."""
    first = photos[0]
    if all(_description_in(folder / photo.path) == photo.description for photo in photos):
        return
    rendered = render_sequence(
        Identity.draw(first.key[0], first.subject),
        first.emotion,
        len(photos),
        size=first.size,
        rng=generator(*first.key[:-1]),
    )
    for photo, frame in zip(photos, rendered, strict=True):
        _write_image(folder / photo.path, frame, photo)


def _write_image(target: Path, rendered: Rendered, photo: _Photo) -> None:
    exif = Image.Exif()
    exif[IMAGE_DESCRIPTION] = photo.description
    exif[SOFTWARE] = "featurepipe"
    format_ = "JPEG" if target.suffix == ".jpg" else "PNG"
    with replacing(target) as stream:
        Image.fromarray(rendered.image).save(stream, format_, exif=exif, quality=92)


def _description_in(path: Path) -> str | None:
    """What the file says it shows, or None where there is no such picture or it does not decode to its end."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.getexif().get(IMAGE_DESCRIPTION)
    except (OSError, SyntaxError):  # Pillow raises SyntaxError for a broken PNG chunk
        return None


def _refuse_foreign(path: Path) -> None:
    """Raise InputError where samples.csv lists other photos than rendered ones: it would be written over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        listed = [row[0] for row in csv.reader(stream) if row]
    if listed[:1] != ["path"] or not all(name.startswith("subject-") for name in listed[1:]):
        raise InputError(f"{path} lists other photos, and would be written over: render into another folder")


def _write_samples(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
    """Write samples.csv, unless it already says the same."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    content = text.getvalue().encode()
    if not path.is_file() or path.read_bytes() != content:
        with replacing(path) as stream:
            stream.write(content)
