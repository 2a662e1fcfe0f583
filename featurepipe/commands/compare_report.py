"""What `compare` leaves for people: plots, and one page with them, the figures and the surest mistakes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featurepipe.commands.compare_fit import Result
from featurepipe.commands.compare_leaks import leak_lines
from featurepipe.commands.compare_plan import Plan
from featurepipe.commands.compare_sides import Side, face_of, takes_sequences
from featurepipe.faces.crops import crop_face
from featurepipe.faces.images import PhotoError, turned
from featurepipe.faces.reading import SampleReader
from featurepipe.features.table import Features
from featurepipe.names import INDEPENDENT
from featurepipe.records import Face, Framing, Sample
from featurepipe.report.own import remove_own
from featurepipe.report.page import Mistake, write_page
from featurepipe.report.plots import plot_comparison, plot_confusion, plot_sizes, plot_training

SHOWN = 12
"""Mistakes shown of each method."""
SIDE = 144
"""Pixels of a face on the page."""
AROUND = 0.3
"""Margin of a face on the page: enough to see whose mistake it is."""


def write_report(
    out: Path, document: dict[str, Any], facts: Mapping[str, Any], plan: Plan, results: dict[str, Result], side: Side
) -> None:
    """Write plots (accuracy.png, confusion-METHOD.png, ...) and report.html into `out`; `side` is the one tested on."""
    _remove_plots(out)
    (out / "report.html").unlink(missing_ok=True)
    plots = _plots(out, document)
    reader = SampleReader()
    try:
        mistakes = {name: _mistakes(plan, result, side, name, reader) for name, result in results.items()}
    finally:
        reader.close()
    write_page(out / "report.html", document, facts, plots, mistakes, leak_lines(document["leaks"]))


def _remove_plots(out: Path) -> None:
    """Those of an earlier comparison in the same folder would pass for this one's."""
    for kind in ("confusion-*", "training-*", "accuracy", "sizes"):
        for file in sorted(out.glob(f"{kind}.png")):
            remove_own(file)


def _plot_file(out: Path, name: str) -> Path:
    return out / f"{name.replace(':', '-')}.png"


def _plots(out: Path, document: dict[str, Any]) -> dict[str, bytes]:
    """PNG files by name: accuracy of all, a confusion matrix and where it is a CNN the training of each, sizes."""
    title = f"{document['photos']} {document['unit']}, {document['protocol']}"
    names: dict[str, Callable[[Path], None]] = {
        "accuracy": partial(plot_comparison, evaluations=_parts(document), title=title)
    }
    for name, row in document["methods"].items():
        names |= {f"confusion-{name}": partial(_confusion, row=row, title=f"{name}: {title}")}
        if histories := [run["history"] for run in row["runs"] if run["history"]]:
            names |= {f"training-{name}": partial(plot_training, histories=histories, title=name)}
    if document["sizes"]:
        sizes = [size for size in document["sizes"] if size["name"] != INDEPENDENT]  # on another way to part photos
        names |= {"sizes": partial(plot_sizes, sizes=sizes, methods=list(document["methods"]), title=title)}
    files = {name: _plot_file(out, name) for name in names}
    for name, draw in names.items():
        draw(files[name])
    return {name: file.read_bytes() for name, file in files.items()}


def _parts(document: dict[str, Any]) -> dict[str, Any]:
    return {name: row["all"] for name, row in document["methods"].items()}


def _confusion(file: Path, row: dict[str, Any], title: str) -> None:
    plot_confusion(file, np.array(row["confusion"]["counts"]), row["confusion"]["labels"], title)


def _mistakes(plan: Plan, result: Result, side: Side, name: str, reader: SampleReader) -> list[Mistake]:
    """The wrong predictions of one method, surest first; photos without a prediction are not among them."""
    tested, features = plan.tested, side.features[name]
    given = np.array([label is not None for label in result.predicted[tested]])
    wrong = tested[given & (result.predicted[tested] != plan.test.label[tested])]
    surest = wrong[np.argsort(-result.probabilities[wrong].max(1), kind="stable")][:SHOWN]
    faces = face_of(features, plan.test)
    return [
        Mistake(
            path=plan.test.path[photo],
            truth=plan.test.label[photo],
            predicted=result.predicted[photo],
            probability=float(result.probabilities[photo].max()),
            picture=_picture(
                reader, side.samples[plan.test.row[photo]], features, int(faces[photo]), sequences=takes_sequences(name)
            ),
        )
        for photo in surest
    ]


def _picture(reader: SampleReader, sample: Sample, features: Features, row: int, *, sequences: bool) -> bytes | None:
    """The face as PNG; None where the photo can no longer be read, or is another by now."""
    content = None if sequences else features.content[row]
    try:
        image = turned(reader.read(sample, content), int(features.turn[row]))
    except PhotoError:
        return None
    whole = features.face_half["detector"] == "none" and sample.box is None
    margin = 0.0 if whole else AROUND
    crop = crop_face(image, Face(*features.box[row].tolist()), Framing(SIDE, "RGB", margin))
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, format="PNG")
    return stream.getvalue()
