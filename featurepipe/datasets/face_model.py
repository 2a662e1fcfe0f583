"""Who a rendered face is and what it does: identities, facial actions, and the scene it is photographed in.

Expressions are made of facial action units (Ekman and Friesen, Facial Action Coding System, 1978). Each action
moves shape parameters (`EFFECTS`), each emotion is a combination of actions (`EMOTION_ACTIONS`, after the EMFACS
prototypes), and an identity brings a face's proportions and its shape at rest.

Lengths are face units: one is half the width of the face at the cheekbones, about 68 mm. The origin lies between
the eyes, x grows to the viewer's right and y downwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot

import numpy as np

from featurepipe.errors import InputError
from featurepipe.labels import EMOTIONS

Colour = tuple[float, float, float]
"""Red, green and blue in 0..1."""

Shape = Mapping[str, tuple[float, float]]
"""Every shape parameter for the left and the right half of the picture."""

EFFECTS: dict[str, dict[str, float]] = {
    "AU1": {"brow_inner": 0.15, "brow_middle": 0.04, "forehead": 0.3},
    "AU2": {"brow_inner": 0.03, "brow_middle": 0.12, "brow_outer": 0.14, "forehead": 0.5},
    "AU4": {"brow_inner": -0.11, "brow_middle": -0.07, "brow_gap": -0.07, "glabella": 1.0, "lid_upper": -0.12},
    "AU5": {"lid_upper": 0.5},
    "AU6": {"lid_lower": -0.45, "lid_upper": -0.14, "cheek": 1.0, "crow": 1.0},
    "AU7": {"lid_upper": -0.28, "lid_lower": -0.4},
    "AU9": {
        "nose_wrinkle": 1.0,
        "ala": 0.06,
        "lip_raise": 0.05,
        "nasolabial": 0.7,
        "brow_inner": -0.07,
        "brow_middle": -0.04,
        "lid_upper": -0.15,
        "lid_lower": -0.3,
    },
    "AU12": {"corner_y": -0.17, "corner_x": 0.12, "nasolabial": 0.85, "lip_thickness": -0.15, "cheek": 0.35},
    "AU14": {"corner_y": -0.05, "corner_x": 0.03, "dimple": 1.0, "nasolabial": 0.3},
    "AU15": {"corner_y": 0.15, "corner_x": -0.01, "chin_boss": 0.6, "marionette": 0.5},
    "AU16": {"lip_drop": 0.06, "part": 0.05, "chin_boss": 0.3},
    "AU20": {"corner_x": 0.13, "corner_y": 0.05, "lip_thickness": -0.2},
    "AU23": {"lip_thickness": -0.55, "corner_x": -0.07, "chin_boss": 0.5},
    "AU25": {"part": 0.11},
    "AU26": {"jaw": 0.2, "part": 0.27, "corner_x": -0.14, "pucker": 1.0},
    "AU43": {"lid_upper": -1.0},
}
"""What one full action adds to the shape: face units, or shares of the resting size for lids and lips."""

PARAMETERS = tuple(sorted({name for effect in EFFECTS.values() for name in effect}))

EMOTION_ACTIONS: dict[str, dict[str, float]] = {
    "anger": {"AU4": 1.0, "AU5": 0.5, "AU7": 0.7, "AU23": 1.0},
    "contempt": {"AU12": 0.55, "AU14": 1.0},
    "disgust": {"AU9": 1.0, "AU15": 0.55, "AU16": 0.9},
    "fear": {"AU1": 1.0, "AU2": 0.5, "AU4": 0.6, "AU5": 0.9, "AU20": 1.0, "AU26": 0.45},
    "happiness": {"AU6": 0.9, "AU12": 1.0, "AU25": 0.8},
    "neutral": {},
    "sadness": {"AU1": 1.0, "AU4": 0.45, "AU15": 1.0},
    "surprise": {"AU1": 1.0, "AU2": 1.0, "AU5": 0.8, "AU26": 1.0},
}
"""EMFACS prototypes: 6+12, 1+4+15, 1+2+5+26, 1+2+4+5+20+26, 4+5+7+23, 9+15+16, one-sided 12+14.

Lips part in a full smile (AU25).
"""

ONE_SIDED = ("contempt",)
BLINKS = 0.02
"""Share of photos taken in a blink."""

TRAITS: dict[str, tuple[float, float]] = {
    "face_width": (0.98, 0.035),
    "crown_y": (-1.42, 0.05),
    "chin_y": (1.52, 0.05),
    "jaw": (2.6, 0.25),
    "ear": (0.3, 0.03),
    "eye_x": (0.445, 0.018),
    "eye_width": (0.225, 0.012),
    "eye_open": (0.11, 0.012),
    "eye_tilt": (0.015, 0.014),
    "iris": (0.1, 0.004),
    "brow_y": (-0.3, 0.025),
    "brow_length": (0.56, 0.03),
    "brow_arch": (0.05, 0.02),
    "brow_thickness": (0.05, 0.011),
    "nose_y": (0.62, 0.03),
    "nose_width": (0.2, 0.018),
    "nose_height": (1.0, 0.15),
    "mouth_y": (1.0, 0.025),
    "mouth_width": (0.39, 0.028),
    "lip_upper": (0.07, 0.014),
    "lip_lower": (0.1, 0.016),
    "lip_redness": (0.5, 0.2),
    "hairline": (-0.92, 0.06),
    "hair_part": (0.0, 0.3),
    "stubble": (-0.02, 0.13),
    "age": (0.35, 0.2),
}
"""Mean and standard deviation of what stays the same in every photo of a subject."""

RESTING: dict[str, float] = {
    "brow_inner": 0.03,
    "brow_middle": 0.02,
    "brow_outer": 0.025,
    "corner_y": 0.028,
    "corner_x": 0.015,
    "lid_upper": 0.08,
    "lid_lower": 0.1,
    "lip_thickness": 0.08,
    "glabella": 0.1,
    "nasolabial": 0.12,
    "forehead": 0.05,
    "cheek": 0.1,
}
"""Standard deviation of the shape at rest: some people look stern or amused when they are neither."""

SKIN: tuple[Colour, ...] = (
    (0.97, 0.84, 0.76),
    (0.95, 0.80, 0.69),
    (0.91, 0.74, 0.60),
    (0.84, 0.65, 0.49),
    (0.74, 0.54, 0.39),
    (0.62, 0.43, 0.30),
    (0.51, 0.35, 0.25),
    (0.42, 0.28, 0.20),
)
"""Skin tones from light to dark; a subject's tone lies between two neighbours."""

HAIR: tuple[Colour, ...] = (
    (0.10, 0.08, 0.08),
    (0.17, 0.11, 0.08),
    (0.29, 0.18, 0.11),
    (0.42, 0.27, 0.15),
    (0.68, 0.51, 0.28),
    (0.43, 0.21, 0.11),
    (0.60, 0.59, 0.58),
)
IRIS: tuple[Colour, ...] = (
    (0.27, 0.15, 0.08),
    (0.38, 0.23, 0.11),
    (0.42, 0.38, 0.20),
    (0.30, 0.42, 0.52),
    (0.36, 0.45, 0.40),
)
HAIR_STYLES = ("short", "swept", "long", "fringe", "cropped")


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(first, second, strict=True))
    return red, green, blue


def _bounded(rng: np.random.Generator, mean: float, deviation: float) -> float:
    """A normal draw, kept within two standard deviations."""
    return float(mean + deviation * np.clip(rng.standard_normal(), -2, 2))


@dataclass(frozen=True, slots=True)
class Identity:
    """A person who does not exist: everything that photos of one subject share.

    `traits` are the proportions named in `TRAITS`, `resting` the shape parameters of the face at rest, and
    `texture` seeds the strands of the hair and the spots of the skin.
    """

    subject: int
    traits: Mapping[str, float]
    resting: Mapping[str, float]
    skin: Colour
    hair: Colour
    hair_style: str
    iris: Colour
    clothes: Colour
    texture: int

    @classmethod
    def draw(cls, seed: int, subject: int) -> Identity:
        """The identity number `subject` of the population `seed`: equal arguments, equal person.

        Both are whole numbers from 0; InputError otherwise.
        """
        rng = generator(seed, subject)
        tone = float(rng.uniform(0, len(SKIN) - 1))
        hair = int(rng.integers(len(HAIR))) if tone < 3 else int(rng.integers(2))
        iris = int(rng.integers(len(IRIS))) if tone < 3 else int(rng.integers(2))
        return cls(
            subject=subject,
            traits={name: _bounded(rng, *spread) for name, spread in TRAITS.items()},
            resting={name: _bounded(rng, 0, spread) for name, spread in RESTING.items()},
            skin=_mix(SKIN[int(tone)], SKIN[int(tone) + 1], tone % 1),
            hair=HAIR[hair],
            hair_style=HAIR_STYLES[int(rng.integers(len(HAIR_STYLES)))],
            iris=IRIS[iris],
            clothes=colour_of(rng, saturation=0.45, low=0.18, high=0.8),
            texture=int(rng.integers(2**31)),
        )


def generator(*key: int) -> np.random.Generator:
    """PCG64 seeded with whole numbers from 0, the same on every platform; InputError for others."""
    if any(not isinstance(part, int | np.integer) or part < 0 for part in key):
        raise InputError(f"seed and subject must be whole numbers from 0, got {key}")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def colour_of(rng: np.random.Generator, *, saturation: float, low: float, high: float) -> Colour:
    """A random colour with brightness in low..high whose channels differ by up to `saturation` of it."""
    brightness = rng.uniform(low, high)
    red, green, blue = brightness * (1 - saturation * rng.random(3))
    return float(red), float(green), float(blue)


def draw_actions(emotion: str, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """One person's way of showing `emotion` at its apex: strength of each action, left and right.

    Actions vary in strength and a little between the sides; a one-sided emotion picks a side. InputError where
    `emotion` is none of the eight.
    """
    if emotion not in EMOTION_ACTIONS:
        raise InputError(f"unknown emotion {emotion!r}; expected one of {', '.join(EMOTIONS)}")
    weak_side = int(rng.integers(2))
    actions = {}
    for action, strength in EMOTION_ACTIONS[emotion].items():
        sides = strength * rng.uniform(0.65, 1.15) * rng.uniform(0.92, 1.08, 2)
        if emotion in ONE_SIDED:
            sides[weak_side] *= 0.08
        actions[action] = (float(sides[0]), float(sides[1]))
    return actions


def draw_idle(rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """What a face does besides its emotion: traces of every action, the same on both sides, and rarely a blink."""
    strengths = {action: abs(_bounded(rng, 0, 0.06)) for action in EFFECTS}
    if rng.random() < BLINKS:
        strengths["AU43"] = float(rng.uniform(0.7, 1))
    return {action: (strength, strength) for action, strength in strengths.items()}


def shape_of(
    identity: Identity,
    actions: Mapping[str, tuple[float, float]],
    idle: Mapping[str, tuple[float, float]],
    intensity: float,
) -> Shape:
    """The face's shape: at rest, plus idle actions, plus `intensity` (0..1) times the apex of the emotion."""
    shape = {}
    for name in PARAMETERS:
        sides = [
            identity.resting.get(name, 0.0)
            + sum(effect.get(name, 0.0) * idle[action][side] for action, effect in EFFECTS.items())
            + intensity * sum(EFFECTS[action].get(name, 0.0) * pair[side] for action, pair in actions.items())
            for side in (0, 1)
        ]
        shape[name] = (sides[0], sides[1])
    return shape


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a head is in the photo: `x`, `y` (pixels) of the point between the eyes, `scale` in pixels per face
    unit, `roll` in the picture plane and `yaw` about the vertical, in radians."""

    x: float
    y: float
    scale: float
    roll: float
    yaw: float
    gaze: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator, cell: tuple[float, float, float, float]) -> Pose:
        """A near-frontal head in the middle of `cell` (left, top, width, height in pixels)."""
        left, top, width, height = cell
        scale = min(width, height) * rng.uniform(0.2, 0.245)
        return cls(
            x=float(left + width / 2 + scale * rng.uniform(-0.25, 0.25)),
            y=float(top + height * 0.46 + scale * rng.uniform(-0.15, 0.15)),
            scale=float(scale),
            roll=_bounded(rng, 0, 0.05),
            yaw=_bounded(rng, 0, 0.08),
            gaze=(_bounded(rng, 0, 0.02), _bounded(rng, 0, 0.01)),
        )


@dataclass(frozen=True, slots=True)
class Light:
    """Light of a scene: unit vector towards the lamp (x right, y down, z to the camera), share of ambient light,
    and the colour both have."""

    direction: tuple[float, float, float]
    ambient: float
    colour: Colour

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Light:
        """A lamp above the camera, to either side; daylight to warm indoor light."""
        x, y, z = rng.uniform(-0.75, 0.75), rng.uniform(-0.8, -0.2), 1.0
        norm = hypot(x, y, z)
        level, warmth = rng.uniform(0.92, 1.06), rng.uniform(-0.05, 0.07)
        return cls(
            direction=(float(x / norm), float(y / norm), float(z / norm)),
            ambient=float(rng.uniform(0.4, 0.6)),
            colour=(float(level * (1 + warmth)), float(level), float(level * (1 - warmth))),
        )
