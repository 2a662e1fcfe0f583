"""The commands as a user calls them: in this process, or as a process of their own that can be stopped and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from featurepipe.cli import main
from featurepipe.features.table import FeatureTable
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.training_recipe import TrainingRecipe

_PROGRAM = f"""
import runpy, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import featurepipe.features.extraction
featurepipe.features.extraction.PART_BYTES = 1
if still := {{still!r}}:
    from process_helpers import stand_still
    stand_still(*still)
runpy.run_module("featurepipe", run_name="__main__", alter_sys=True)
"""
"""`python -m featurepipe` with a part for each batch, so that a few hundred faces make many parts."""


WORDS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def manifest(path, faces, labels, header="path,label,subject", extra=lambda photo: (), renamed=None):
    """A CSV of the rendered photos of some emotions, under the names in `renamed`, with further columns by `extra`."""
    lines = [header]
    for photo in sorted(faces.rglob("*.jpg")):
        emotion = photo.name.partition("-")[0]
        if emotion in labels:
            lines.append(
                ",".join([str(photo), (renamed or {}).get(emotion, emotion), photo.parent.name, *extra(photo)])
            )
    path.write_text("\n".join(lines))
    return path


def untrained_weights(path, width=0.125):
    """fer-vgg as fit_cnn writes it, after two steps on noise; what ships has width 1."""
    rng = np.random.default_rng(0)
    recipe = TrainingRecipe(epochs=1, batch_size=4, lr=0.01, network={"width": width})
    model = CNNClassifier("fer-vgg", recipe, device="cpu")
    model.fit(rng.integers(0, 255, (8, 48, 48)).astype(np.uint8), ["anger", "fear"] * 4)
    model.save(path)
    return path


def run(capsys, *words):
    """Run a command that must exit 0, and read what it says under --json."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def start(*words, still=None):
    """Start `python -m featurepipe` as the leader of a session of its own; `still` are arguments of stand_still."""
    program = [sys.executable, "-c", _PROGRAM.format(still=still)]
    return subprocess.Popen([*program, *map(str, words)], start_new_session=True, stderr=subprocess.PIPE)


def parts(table):
    """The marks of whole parts of vectors."""
    return sorted(Path(table).glob("vectors/*/part-*.parquet"))


def vectors(table, **choice):
    """The bytes of every vector of the current SOURCE, by content, box and face."""
    features = FeatureTable.open(table).matrix(**choice)
    keys = zip(features.content, map(tuple, features.box.tolist()), features.face.tolist(), strict=True)
    return dict(zip(keys, (row.tobytes() for row in features.X), strict=True))


def write_csv(path, photos):
    """A SOURCE of some photos of a folder."""
    path.write_text("\n".join(["path", *(os.path.relpath(photo, path.parent) for photo in photos)]))
    return path
