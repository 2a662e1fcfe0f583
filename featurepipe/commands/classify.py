"""`classify`: photos to predictions, by an SVM or a CNN."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import pyarrow as pa
from PIL import Image

from featurepipe.commands.predictions import Predictions, write_predictions
from featurepipe.commands.sequences import read_sequences, sequences_of
from featurepipe.commands.steps import (
    check_new_file,
    content_codes,
    crops_for,
    fill_table,
    read_features,
    refuse_inside,
    refuse_over,
    samples_of,
    seen_in_training,
    show,
    summary_lines,
    table_of,
    tell,
)
from featurepipe.datasets.source import Source
from featurepipe.datasets.splits import resampled_by
from featurepipe.devices import resolve_device, resolve_precision
from featurepipe.errors import InputError, ModelError
from featurepipe.faces.images import PhotoError, turned
from featurepipe.faces.reading import SampleReader
from featurepipe.features.backbone import Backbone
from featurepipe.features.backbones import load_backbone
from featurepipe.features.extraction import Summary
from featurepipe.features.table import Features, FeatureTable
from featurepipe.models.persistence import Model, load_model
from featurepipe.models.prior import full_prior, trained_shares, with_prior
from featurepipe.names import DATABASES, TRAINED
from featurepipe.recipe import FEATURE_KEYS, Half, compare_feature_halves, face_half_notes
from featurepipe.records import Face, Sample
from featurepipe.report.own import remove_own, write_png
from featurepipe.timelines import Timeline
from featurepipe.weights import DEFAULT_SVM, get_record, shipped_svm

if TYPE_CHECKING:  # its module loads SciPy
    from featurepipe.models.cnn import CNNClassifier

SHEET_FACES, SHEET_SIDE = 32, 320
"""Photos on the contact sheet, and pixels of their long side kept for it."""

SHOWN_NAME = 50
"""Characters of a photo's name in its picture's name: at most 200 of the 255 bytes that file systems take."""


def run(args: argparse.Namespace) -> int:
    """Fill a table, predict every face (or sequence), write the files, print a summary and, where labelled, scores."""
    out = Path(args.out)
    for written in (out / "predictions.csv", out / "predictions.json"):
        refuse_over(written, args.source, args.model)
    if args.pictures:
        refuse_inside(_pictures(args.out), args.source)
    model = load_model(args.model) if args.model else load_model(shipped_svm())
    source = read_sequences(args) if timeline_of(model) else samples_of(args)
    prior = prior_of(args, model, source)
    check_new_file(out / "predictions.csv")
    predictions, photos, summary = predict(args, model, source, table_of(args, out / "table"), prior)
    features = predictions.features
    figures = scores(predictions, model, seen_by(model, features, args.weights)) if predictions.labelled else None
    document = {
        "model": args.model or "shipped",
        "classes": model.labels,
        "prior": None if prior is None else dict(zip(model.labels, prior.round(6).tolist(), strict=True)),
        "recipe": {"features": features.feature_half, "faces": features.face_half},
        "extraction": dataclasses.asdict(summary),
        "scores": figures,
    }
    rows = predictions.rows()
    write_predictions(out, rows, predictions.columns(), document)
    _remove_earlier(out, photos)
    if args.pictures:
        write_pictures(out, photos, predictions, sequences=timeline_of(model) is not None)
    unit = "sequences" if timeline_of(model) else "faces"
    show(args, [*summary_lines(summary), *_lines(rows, figures, unit), *_outputs(args, out)], document)
    return 0


def predict(
    args: argparse.Namespace, model: Model, source: Source, table: Path, prior: np.ndarray | None
) -> tuple[Predictions, list[Sample], Summary]:
    """Bring `table` up to date with SOURCE, and what the model says of every face (or sequence) where classes are as
    frequent as in `prior`; with the photo of each row of `Predictions.samples`, and what was done."""
    keep_faces_of(args, model, source)
    features_by = features_for(args, model, source, table)
    summary = fill_table(args, source, table, features_by)
    samples, photos, features = to_classify(args, model, table, source.samples, read_features(table, features_by))
    tell(_face_notes(features.face_half, model, features_by.framing.margin))
    probabilities = probabilities_of(model, features.X, prior)
    return Predictions(samples, features, model.labels, probabilities), photos, summary


def prior_of(args: argparse.Namespace, model: Model, source: Source) -> np.ndarray | None:
    """How frequent each class is, float64 (k,): by --prior, else in photos of daily life; None: as in training."""
    prior = given_prior(args, model)
    return photo_prior(args, model, source) if prior is None else prior


def given_prior(args: argparse.Namespace, model: Model) -> np.ndarray | None:
    """How frequent each class is by --prior, float64 (k,); None where it names no label. Raises InputError."""
    if not args.prior or args.prior == [TRAINED]:
        return None
    if TRAINED in args.prior:
        raise InputError(f"--prior {TRAINED} stands alone: leave it out, or the shares beside it")
    if twice := [label for label, count in Counter(label for label, _ in args.prior).items() if count > 1]:
        raise InputError(f"--prior names {', '.join(twice)} more than once: name each label once")
    return full_prior(dict(args.prior), model.labels, trained_shares(model.training, model.labels))


def photo_prior(args: argparse.Namespace, model: Model, source: Source) -> np.ndarray | None:
    """What the SVM that ships expects of photos of daily life, float64 (k,), said to the user; None for other models
    and faces, and where --prior is given.

    A database is not daily life: its people were asked to show emotions, or its pictures chosen for them.
    """
    shares = None if args.model else get_record(DEFAULT_SVM).photo_prior
    if not shares or args.prior or source.faces == "crops" or args.detector == "none" or source.dataset in DATABASES:
        return None
    said = ", ".join(f"{label} {share:g}" for label, share in shares.items())
    tell([f"expecting faces of daily life: {said} of them; --prior {TRAINED} expects them as in training"])
    return full_prior(shares, model.labels, trained_shares(model.training, model.labels))


def probabilities_of(model: Model, X: np.ndarray, prior: np.ndarray | None) -> np.ndarray:
    """Probabilities float64 (n, k) of vectors or crops, for where classes are as frequent as `prior` says."""
    if not len(X):  # without a face the table may hold no vector at all, and then does not know their length
        return np.zeros((0, len(model.labels)))
    probabilities = model.predict_proba(X)
    if prior is None:
        return probabilities
    return with_prior(probabilities, trained_shares(model.training, model.labels), prior)


def timeline_of(model: Model) -> Timeline | None:
    """Which frames of a sequence the model takes; None where it takes single faces."""
    return model.baseline.timeline if _is_cnn(model) else None


def to_classify(
    args: argparse.Namespace, model: Model, table: Path, photos: list[Sample], features: Features
) -> tuple[pa.Table, list[Sample], Features]:
    """The table's samples, the photos of each, and rows of faces; for a model of sequences a row for each of these,
    with its peak frame as the photo."""
    timeline = timeline_of(model)
    if timeline is None:
        return FeatureTable.open(table).samples(), photos, features
    sequences = sequences_of(table, args.source)
    return sequences.samples, [photos[row] for row in sequences.peak], sequences.features(features, timeline)


def keep_faces_of(args: argparse.Namespace, model: Model, source: Source) -> None:
    """Find and cut faces as for the model's training photos, where the user does not say otherwise."""
    faces = model.recipe.get("faces", {})
    if "none" in (args.detector, faces.get("detector", "none")) or source.faces == "crops":
        return
    args.detector = args.detector or faces["detector"]
    args.max_side = faces["max_side"] if args.max_side is None else args.max_side
    args.margin = faces["margin"] if args.margin is None else args.margin


def features_for(args: argparse.Namespace, model: Model, source: Source, table: Path) -> Backbone:
    """The backbone whose vectors the SVM was fitted on, or for a CNN the crops themselves.

    An SVM that was fitted on int8 vectors brings the scales of their network; one that was not reads vectors in int8
    once they were checked against fp32 on faces of `source`.

    Raises RecipeMismatch where the weights here are not those of the model, ModelError where it names none, InputError
    where int8 is refused.
    """
    if _is_cnn(model):
        if args.precision == "int8":
            raise InputError("int8 is offered for SVMs, and the model is a CNN: use --precision fp32 or bf16")
        if args.weights:
            raise InputError("--weights is of an SVM's backbone, and the model is a CNN: leave it out")
        model.device, model.precision = args.device, resolve_precision(args.precision, resolve_device(args.device))
        return crops_for(model.baseline.framing)
    half = model.recipe.get("features", {})
    if missing := set(FEATURE_KEYS) - set(half):
        raise ModelError(
            f"{args.model} does not say of which vectors it is ({', '.join(sorted(missing))} missing from its recipe): "
            "fit it with bin/fit_svm or featurepipe.fit, which record them"
        )
    fitted = args.precision == "auto" and "int8" in half
    backbone = load_backbone(
        half["backbone"],
        weights=args.weights,
        layer=half["layer"],
        preprocessing=half["preprocessing"],
        views=half["views"],
        device=args.device,
        precision="fp32" if fitted or args.precision == "int8" else args.precision,
    )
    if fitted or args.precision == "int8":
        return _in_int8(args, model, source, table, backbone)
    compare_feature_halves(backbone.recipe(), half)
    return backbone


def _in_int8(args: argparse.Namespace, model: Model, source: Source, table: Path, backbone: Backbone) -> Backbone:
    from featurepipe.commands.int8 import quantised, with_scales

    half = model.recipe["features"]
    if "int8" in half:
        int8: Backbone = with_scales(backbone, half["int8"])
        compare_feature_halves(int8.recipe(), half)
        return int8
    compare_feature_halves(backbone.recipe(), half)
    return quantised(args, source, table, backbone, args.model or shipped_svm())


def _is_cnn(model: Model) -> TypeGuard[CNNClassifier]:
    return model.kind == "cnn"


def _face_notes(here: Half, model: Model, margin: float) -> list[str]:
    """One line where faces were found or cut otherwise than for the model; the policy is the user's own affair.

    None for a model of face crops, if photos are cut with the `margin` that its backbone asks for: as was meant.
    """
    then = model.recipe.get("faces", here)
    if then["detector"] == "none" and here["margin"] == margin:
        return []
    return face_half_notes({**here, "policy": None}, {**then, "policy": None})


def seen_by(model: Model, features: Features, weights: str | None) -> np.ndarray:
    """Which faces are of photos that the model, or the SVM's backbone, was trained on; bool (faces,)."""
    seen = np.isin(content_codes(features.content), model.trained_on)
    return seen if _is_cnn(model) else seen | seen_in_training(features, weights)


def scores(predictions: Predictions, model: Model, seen: np.ndarray) -> dict[str, Any] | None:
    """Figures on the photos to score, by their largest face; None where nothing is labelled.

    `part` is the split they are of, or all; `leak` counts those of which a face is in `seen`, bool (faces,); `unknown`
    those of each label that the model does not know; `chosen` is whether photos like these chose among models.
    """
    truth = predictions.samples["label"].to_pylist()
    part, rows = predictions.scored()
    if not len(rows):
        return None
    chosen = predictions.largest()[rows]
    classes = np.array(predictions.classes, object)
    found = np.where(chosen >= 0, chosen, 0)
    if len(predictions.probabilities):
        probabilities = predictions.probabilities[found]
    else:
        probabilities = np.zeros((len(rows), len(classes)))
    predicted = [
        label if row >= 0 else None for label, row in zip(classes[probabilities.argmax(1)], chosen, strict=True)
    ]
    subjects, sequences = (predictions.samples[name].take(rows).to_pylist() for name in ("subject", "sequence"))
    groups, resampled = resampled_by(subjects, sequences)
    from featurepipe.report.metrics import evaluate

    figures = evaluate(
        [truth[row] for row in rows], predicted, probabilities, predictions.classes, groups, resampled=resampled
    )
    unknown = Counter(truth[row] for row in rows if truth[row] not in predictions.classes)
    leak = len(np.intersect1d(rows, predictions.features.sample[seen]))
    chosen_on_such = part == "val" and model.training.get("chosen_on") == "validation"
    return figures | {"part": part, "leak": leak, "unknown": dict(unknown), "chosen": chosen_on_such}


def write_pictures(out: Path, samples: list[Sample], predictions: Predictions, *, sequences: bool) -> None:
    """Annotated photos under OUT/pictures, and OUT/sheet.png with the first faces and their labels.

    Photos that are gone, or others than those whose faces were found, are left out, and that is said; not so of
    `sequences`, whose content is that of all frames: their peaks are drawn as they are now.
    """
    from featurepipe.report.pictures import annotate, contact_sheet

    features = predictions.features
    by_photo: dict[int, list[int]] = {}
    for row, photo in enumerate(features.sample.tolist()):
        by_photo.setdefault(photo, []).append(row)
    cut: list[np.ndarray] = []
    captions: list[str] = []
    lost: list[str] = []
    with closing(SampleReader()) as reader:
        for photo, rows in by_photo.items():
            content = None if sequences else features.content[rows[0]]
            try:
                image = turned(reader.read(samples[photo], content), int(features.turn[rows[0]]))
            except PhotoError as error:
                lost.append(f"{samples[photo].path}: {error}")
                continue
            faces = [Face(*features.box[row].tolist()) for row in rows]
            texts = [_caption(predictions, row) for row in rows]
            write_png(_picture_path(out, photo, samples[photo]), annotate(image, faces, texts))
            if len(cut) < SHEET_FACES:
                cut.append(_small(image))
                captions.append(_sheet_caption(predictions, samples[photo], rows[0]))
    if cut:
        write_png(out / "sheet.png", contact_sheet(cut, captions))
    if lost:
        tell([f"{len(lost)} photos could not be read again and are not drawn; the first: {lost[0]}"])


def _pictures(out: str | Path) -> Path:
    return Path(out) / "pictures"


def _picture_path(out: Path, photo: int, sample: Sample) -> Path:
    """Numbered, so that equal names do not meet; cut short, so that the whole name fits into a file system."""
    return _pictures(out) / f"{photo:05d}-{Path(sample.path).stem[:SHOWN_NAME]}.png"


def _remove_earlier(out: Path, samples: list[Sample]) -> None:
    """Pictures that an earlier run left, which would pass for those of this one; not those that are photos of SOURCE
    now, or that others made."""
    earlier = [out / "sheet.png", *_pictures(out).glob("[0-9][0-9][0-9][0-9][0-9]*-*.png")]
    if not any(path.exists() for path in earlier):
        return  # SOURCE may have many thousand paths to follow
    keep = {os.path.realpath(sample.path) for sample in samples}  # a circle of links ends there as well
    for path in earlier:
        if os.path.realpath(path) not in keep:
            remove_own(path)


def _small(image: np.ndarray) -> np.ndarray:
    """What the sheet needs of a photo: 32 whole ones of 48 megapixels would take 4.6 GB."""
    small = Image.fromarray(image)
    small.thumbnail((SHEET_SIDE, SHEET_SIDE))
    return np.asarray(small)


def _caption(predictions: Predictions, row: int) -> str:
    probabilities = predictions.probabilities[row]
    return f"{predictions.classes[int(probabilities.argmax())]} {100 * probabilities.max():.0f} %"


def _sheet_caption(predictions: Predictions, sample: Sample, row: int) -> str:
    caption = _caption(predictions, row)
    return caption if sample.label is None else f"{caption}\n(true: {sample.label})"


def _lines(rows: list[dict[str, Any]], figures: dict[str, Any] | None, unit: str) -> list[str]:
    counts = Counter(row["label"] for row in rows if row["label"])
    lines = [f"{counts.total()} {unit}: " + (", ".join(f"{n} {label}" for label, n in counts.most_common()) or "none")]
    return [*lines, *_figure_lines(figures, "photos" if unit == "faces" else unit)] if figures else lines


def _figure_lines(figures: dict[str, Any], unit: str) -> list[str]:
    part, resampled = figures["part"], figures["resampled"]
    few = figures["all"]["intervals"]["accuracy"][0] is None
    intervals = f"too few {resampled} for intervals" if few else f"intervals: 95 %, over {resampled}"
    lines = [
        _scored(f"all {unit}" if part == "all" else f"the {unit} of split {part}", figures["all"]),
        _scored("found faces", figures["found"]),
        f"coverage {figures['coverage']:.4f}; {intervals}",
    ]
    for label, count in figures["unknown"].items():
        lines.append(f"{count} {unit} are labelled {label}, which the model does not know: always wrong")
    if figures["leak"]:
        lines.append(
            f"LEAK: the model was trained on {figures['leak']} of the scored photos, so these figures are too good"
        )
    if figures["chosen"]:
        lines.append(
            "the model's settings were chosen on val photos: where on these, the figures are somewhat too good"
        )
    return lines


def _scored(what: str, part: dict[str, Any]) -> str:
    def figure(name: str) -> str:
        low, high = part["intervals"][name]
        interval = "" if low is None else f" ({low:.4f} to {high:.4f})"
        return "none" if part[name] is None else f"{part[name]:.4f}{interval}"

    return (
        f"scored on {what} ({part['photos']}): accuracy {figure('accuracy')}, UAR {figure('uar')}, "
        f"macro-F1 {figure('macro_f1')}"
    )


def _outputs(args: argparse.Namespace, out: Path) -> list[str]:
    lines = [f"predictions: {out / 'predictions.csv'}, {out / 'predictions.json'}"]
    drawn = args.pictures and (out / "sheet.png").exists()
    return [*lines, f"pictures: {_pictures(out)}, {out / 'sheet.png'}"] if drawn else lines
