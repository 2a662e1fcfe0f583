"""Results of `compare` on disk, one file per method, fold and seed: a stopped comparison goes on where it was."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurepipe.files import replacing


@dataclass(frozen=True)
class Outcome:
    """What one fit gave.

    Parameters
    ----------
    labels : str (k,), the model's
    outputs : float64 (n, k), of the photos tested on that have a face: probabilities, or a CNN's sigmoids
    facts : JSON-able: fit_seconds, predict_seconds, and what was chosen
    """

    labels: np.ndarray
    outputs: np.ndarray
    facts: dict[str, Any]


def kept(folder: Path, name: str, key: str, compute: Callable[[Path], Outcome]) -> Outcome:
    """The outcome stored in `folder` under `key`, or computed and stored.

    `key` digests everything that decides the outcome; a damaged file counts as none. `compute` is given a name for its
    checkpoint, which goes when the outcome is stored.
    """
    file = folder / f"{name.replace(':', '-')}-{key[:16]}.npz"
    checkpoint = file.with_suffix(".ckpt")
    try:
        with np.load(file, allow_pickle=False) as stored:
            return Outcome(stored["labels"], stored["outputs"], json.loads(str(stored["facts"])))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        folder.mkdir(parents=True, exist_ok=True)
        outcome = compute(checkpoint)
    with replacing(file) as stream:
        np.savez(stream, labels=outcome.labels, outputs=outcome.outputs, facts=json.dumps(outcome.facts))
    checkpoint.unlink(missing_ok=True)
    return outcome
