"""The training log: one CSV row per epoch, beside the model."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence

from featurepipe.files import replacing

COLUMNS = ("fold", "order", "epoch", "lr", "loss", "train_accuracy", "val_accuracy", "seconds")
"""In this order; a log has those that its epochs have: no val_accuracy where nothing was watched."""


def write_log(path: str | os.PathLike[str], history: Sequence[Mapping[str, float]]) -> None:
    """Write the epochs so far as CSV, in place of what `path` held.

    Written anew after every epoch rather than appended to: a reader, and a kill, never meet half a row, and a resumed
    run leaves neither a gap nor an epoch twice, wherever its checkpoint was.
    """
    names = [name for name in COLUMNS if any(name in row for row in history)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with replacing(path) as stream:
        stream.write(text.getvalue().encode())
