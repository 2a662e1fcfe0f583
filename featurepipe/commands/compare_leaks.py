"""The leak check of `compare`: people and pictures on both sides of its parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from featurepipe.commands.compare_plan import Part, Plan
from featurepipe.commands.compare_sides import Photos, Side, face_of
from featurepipe.datasets.leaks import SAME_PERSON, Names, crossing, nearest
from featurepipe.features.table import Features

SHOWN = 5
"""Pairs of photos named in the report."""


def leaks_of(plan: Plan, sides: list[Side]) -> dict[str, Any]:
    """JSON-able: people on both sides by name, copies, and where there are descriptors faces that look alike.

    Photos are counted that are tested on while their people or pictures are among those to fit or choose on, over all
    parts. People of two SOURCEs are compared by descriptor alone: names of two databases say nothing of one another.
    """
    found = [
        crossing(_names(plan, plan.train, _learnt(part)), _names(plan, plan.test, part.test)) for part in plan.parts
    ]
    return {
        "people": sorted({name for one in found for name in one.people}),
        "copies": sum(one.copies for one in found),
        "descriptor": _alike(plan, sides[0].descriptors, sides[-1].descriptors),
    }


def _names(plan: Plan, photos: Photos, rows: np.ndarray) -> Names:
    subjects = photos.subject[rows] if plan.train is plan.test else np.full(len(rows), None, object)
    return subjects.tolist(), photos.content[rows].tolist()


def _learnt(part: Part) -> np.ndarray:
    return np.concatenate([part.fit, part.choose])


def _alike(plan: Plan, known: Features | None, asked: Features | None) -> dict[str, Any] | None:
    """Test photos whose face is nearer than SAME_PERSON to one learnt from, and the nearest pairs by path."""
    if known is None or asked is None:
        return None
    own, face = face_of(known, plan.train), face_of(asked, plan.test)
    pairs: list[tuple[float, str, str]] = []
    tested = 0
    for part in plan.parts:
        learnt, test = (rows[faces[rows] >= 0] for rows, faces in ((_learnt(part), own), (part.test, face)))
        tested += len(test)
        if len(learnt) and len(test):
            rows, distances = nearest(known.X[own[learnt]], asked.X[face[test]])
            pairs += [
                (round(float(distances[at]), 4), str(plan.test.path[test[at]]), str(plan.train.path[learnt[rows[at]]]))
                for at in np.flatnonzero(distances < SAME_PERSON)
            ]
    return {"threshold": SAME_PERSON, "faces": tested, "alike": len(pairs), "nearest": sorted(pairs)[:SHOWN]}


def leak_lines(leaks: dict[str, Any]) -> list[str]:
    """Warnings for people; nothing where nothing was found."""
    lines = []
    if leaks["people"]:
        names = ", ".join(leaks["people"][:SHOWN])
        lines.append(f"LEAK: {len(leaks['people'])} people are trained and tested on ({names})")
    if leaks["copies"]:
        lines.append(f"LEAK: {leaks['copies']} test photos are copies of photos trained or chosen on")
    if alike := leaks["descriptor"]:
        lines.append(
            f"faces nearer than {alike['threshold']} to one trained on, by dlib's descriptor: {alike['alike']} of "
            f"{alike['faces']}" + (" (POSSIBLY the same people on both sides)" if alike["alike"] else "")
        )
    return lines
