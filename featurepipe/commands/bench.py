"""`bench`: what the pipeline takes on this machine, beside references that others wrote."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from typing import Any

from featurepipe.bench.rows import Settings
from featurepipe.console import aligned, note
from featurepipe.errors import FeaturepipeError, InputError
from featurepipe.names import BENCHMARKS

ROWS = {
    "mmod-cpu": "detectors.mmod_cpu",
    "hog-cpu": "detectors.hog_cpu",
    "vgg16-forward": "forward.vgg16_forward",
    "dlib-resnet": "forward.dlib_resnet",
    "pipeline-vgg-face": "pipeline.pipeline_vgg_face",
    "pipeline-fer-vgg": "pipeline.pipeline_fer_vgg",
    "users-loop": "pipeline.users_loop",
    "linear-svm-fit": "linear_svm.fit_row",
    "linear-svm-fit-l2": "linear_svm.fit_l2_row",
    "linear-svm-search": "linear_svm.search_row",
    "linear-svm-search-small": "linear_svm.search_small_row",
    "cache-read": "table.cache_read",
    "rerun": "table.rerun",
    "memory-flat": "memory.memory_flat",
    "vgg16-int8": "forward.vgg16_int8",
    "users-loop-int8": "pipeline.users_loop_int8",
    "vgg16-rate": "forward.vgg16_rate",
    "pipeline-stored-boxes": "pipeline.pipeline_stored_boxes",
    "mmod-gpu": "detectors.mmod_gpu",
    "linear-svm-gpu": "linear_svm.gpu_row",
}
"""Where each row is measured, below featurepipe.bench; each loads what it needs when its turn comes."""

FOR_GPU = ("vgg16-rate", "mmod-gpu", "pipeline-stored-boxes", "linear-svm-gpu")
ON_GPU = (*FOR_GPU, "vgg16-forward", "pipeline-vgg-face", "pipeline-fer-vgg", "users-loop")
ON_CPU = tuple(name for name in BENCHMARKS if name not in FOR_GPU)
"""Rows measured where none is named."""

COLUMNS = ("what", "ours", "reference", "ratio", "floor", "unit", "by")


def run(args: argparse.Namespace) -> int:
    """Measure the rows asked for, one after the other; one that cannot be measured is left out, and said so.

    After Ctrl-C too those are printed that were measured. 2 where none could be.
    """
    settings = Settings(args.quick, _device(args.device), args.photos)
    wanted = args.only or (ON_GPU if settings.on_gpu else ON_CPU)
    _check_photos(args.photos, wanted)
    rows: list[dict[str, Any]] = []
    try:
        for name in wanted:
            note(f"{name} ...")
            try:
                rows.append(_measured(name, settings))
            except (FeaturepipeError, ModuleNotFoundError, RuntimeError, OSError, MemoryError) as error:
                note(f"{name} is left out: {error or 'not enough memory'}")
            else:
                note("  ".join(_cells(rows[-1])))  # it may take hours until the table
    finally:
        print(json.dumps(rows, allow_nan=False) if args.json else "\n".join(_table(rows)))
    return 0 if rows else 2


def _check_photos(photos: str | None, wanted: Sequence[str]) -> None:
    """Raise InputError where --photos cannot be read, or no row takes photos: before anything is measured."""
    if photos is None:
        return
    takers = [name for name in ROWS if name.startswith("pipeline-")]
    if not set(wanted) & set(takers):
        raise InputError(f"--photos is for {', '.join(takers)}, and none of them is measured: leave it out")
    from featurepipe.datasets.readers import read_source

    read_source(photos)


def _device(name: str) -> str:
    """A device that is here; its name is checked without torch where it is the processor."""
    if name == "cpu":
        return name
    from featurepipe.devices import resolve_device

    return str(resolve_device(name))


def _measured(name: str, settings: Settings) -> dict[str, Any]:
    if name in FOR_GPU and not settings.on_gpu:
        raise InputError("it measures a GPU: name one with --device cuda")
    module, _, function = ROWS[name].partition(".")
    measure = getattr(importlib.import_module(f"featurepipe.bench.{module}"), function)
    row: dict[str, Any] = measure(settings)
    return row


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows under aligned headings, and the machines below."""
    lines = aligned([COLUMNS, *(_cells(row) for row in rows)])
    return [*lines, *(f"measured on {machine}" for machine in dict.fromkeys(row["machine"] for row in rows))]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    numbers = (row["ours"], row["reference"]["value"], row["ratio"], row["floor"])
    ours, reference, ratio, floor = ("" if number is None else f"{number:.4g}" for number in numbers)
    return (row["what"], ours, reference, ratio, floor, row["unit"], row["reference"]["name"])
