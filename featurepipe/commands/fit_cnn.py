"""`fit_cnn`: an end-to-end CNN baseline on face crops."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch

from featurepipe.commands.fit_svm import training_rows
from featurepipe.commands.sequences import read_input, read_whole_sequences
from featurepipe.commands.steps import (
    content_codes,
    fill_table,
    samples_of,
    show,
    summary_lines,
    table_of,
    tell,
)
from featurepipe.errors import InputError
from featurepipe.features.pixels import Pixels
from featurepipe.features.table import Features
from featurepipe.files import replacing
from featurepipe.models.baselines.registry import BASELINES, get_baseline
from featurepipe.models.cnn import CNNClassifier, load_cnn
from featurepipe.models.training_recipe import read_recipe
from featurepipe.progress import bar


def run(args: argparse.Namespace) -> int:
    """Cut the faces, train with a checkpoint after every epoch, save, print the summary."""
    baseline = get_baseline(args.arch)
    recipe = read_recipe(args.recipe, baseline.recipe) if args.recipe else baseline.recipe
    if baseline.timeline:
        read_whole_sequences(args)
    table = table_of(args, Path(f"{args.model}.table"))
    crops = Pixels(baseline.framing)
    tell(summary_lines(fill_table(args, samples_of(args), table, crops)))
    features = read_input(table, args.source, baseline)
    fit, watch = training_rows(features, None)
    if not len(fit):
        raise InputError(f"{args.source} has no labelled face to fit on; see --help for ways to give labels")
    initial = load_cnn(args.init) if args.init else None
    model = CNNClassifier(args.arch, recipe, seed=args.seed, device=args.device, precision=args.precision)
    with bar(recipe.epochs, args.arch, "epoch") as progress:
        model.fit(
            features.X[fit],
            features.label[fit].astype(str),
            validation=(features.X[watch], features.label[watch].astype(str)),
            checkpoint=Path(f"{args.model}.ckpt"),
            resume=args.resume,
            recipe={"features": features.feature_half, "faces": features.face_half},
            trained_on=content_codes(features.content[fit]),
            initial=initial,
            after_epoch=_watcher(progress.update, recipe.epochs),
        )
    model.training["command"] = _settings(features, args)
    model.save(args.model, half=args.half)
    _write_log(args.model, model.training["history"])
    Path(f"{args.model}.ckpt").unlink(missing_ok=True)
    show(args, _lines(args, model), {"model": args.model, "labels": model.labels, **model.training})
    return 0


def list_architectures() -> None:
    """Print every architecture with its size at seven classes, its fidelity, its source and its published figure."""
    for baseline in BASELINES.values():
        with torch.device("meta"):
            network = baseline.build(7, **baseline.recipe.network)
        count = sum(weights.numel() for weights in network.parameters())
        frames = f"{baseline.frames} frames of " if baseline.timeline else ""
        size = f"{frames}{baseline.view}x{baseline.view} pixels"
        print(f"{baseline.name}: {count:,} parameters, {size}, {baseline.fidelity}")
        print(f"    from: {baseline.source}")
        print(f"    published: {baseline.published or 'nothing'}")


def _watcher(update: Callable[[], object], epochs: int) -> Callable[[dict[str, float]], None]:
    """After each epoch: move the bar on, and about twenty times in all say the figures, for logs."""

    def after_epoch(row: dict[str, float]) -> None:
        update()
        if row["epoch"] % max(1, epochs // 20) == 0 or row["epoch"] == epochs:
            tell([json.dumps({name: round(value, 5) for name, value in row.items()})])

    return after_epoch


def _settings(features: Features, args: argparse.Namespace) -> dict[str, object]:
    return {"coverage": features.coverage, "device": args.device, "precision": args.precision}


def _write_log(model: str, history: list[dict[str, float]]) -> None:
    """One JSON line per epoch in MODEL.log.jsonl."""
    with replacing(f"{model}.log.jsonl") as stream:
        stream.writelines(json.dumps(row).encode() + b"\n" for row in history)


def _lines(args: argparse.Namespace, model: CNNClassifier) -> list[str]:
    last = model.training["history"][-1]
    counts = ", ".join(f"{count} {label}" for label, count in model.training["samples"].items())
    figures = ", ".join(
        f"{name} {last[name]:.4f}" for name in ("loss", "train_accuracy", "val_accuracy") if name in last
    )
    unit = "sequences" if model.baseline.timeline else "faces"
    return [
        f"trained {args.arch} on {sum(model.training['samples'].values())} {unit}: {counts}",
        f"{last['epoch']} epochs in {model.training['seconds']:.0f} s; at the end {figures}",
        f"model: {args.model} (history: {args.model}.log.jsonl)",
    ]
