"""The command line: parsers alone, so that `--help` answers without loading torch; commands load when they run."""

from __future__ import annotations

import argparse
import importlib
import io
import math
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from featurepipe import __version__
from featurepipe.console import forsake, note
from featurepipe.errors import FeaturepipeError
from featurepipe.labels import LABEL_SETS, canonical
from featurepipe.machine import cores
from featurepipe.names import (
    ARCHITECTURES,
    BACKBONES,
    BENCHMARKS,
    DATABASES,
    DATASETS,
    DETECTORS,
    EXPORTS,
    FRAMES,
    LARGEST_MARGIN,
    LAYOUTS,
    METHODS,
    PROTOCOLS,
    TRAINED,
    VOTE_RULES,
)

SOURCE_HELP = """SOURCE is a folder of photos, a folder per class, a copy of a database (featurepipe datasets lists
them), a CSV (path,label,subject,split,sequence,frame; only path is required), FER2013's CSV of pixels, or an NPZ of
images and labels."""

LARGEST_C = 1e9
"""Of --C: beyond it rounding, not the penalty, decides."""

LARGEST_BATCH = 1 << 16
"""Of --batch-size: more faces than fill any GPU."""

GOES_ON = {
    "extract": "; the same command goes on from here",
    "classify": "; the same command goes on from here",
    "fit_cnn": "; with --resume it goes on after the last checkpoint",
    "compare": "; the same command goes on after the last fold that was fitted, in a CNN after the last checkpoint",
}
"""What a command keeps when Ctrl-C stops it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 2 bad input, 130 stopped by Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console that lacks a character is no reason to fail
    args = build_parser().parse_args(argv)
    try:
        return _run(args)
    except FeaturepipeError as error:
        note(f"featurepipe {args.command}: error: {error}")
        return 2
    except KeyboardInterrupt:
        note(f"\nfeaturepipe {args.command}: stopped{GOES_ON.get(args.command, '')}")
        return 130
    except MemoryError as error:
        note(f"featurepipe {args.command}: error: too little memory: {error}; {_sparing(args)}")
        return 2
    except OSError as error:  # no permission, a full disk, a folder where a file should be
        note(f"featurepipe {args.command}: error: a file cannot be read or written: {error}")
        return 2


def _run(args: argparse.Namespace) -> int:
    """The command's exit code; its result is printed when it has ended, so that nothing that breaks can hide it."""
    result = io.StringIO()
    try:
        with redirect_stdout(result):
            return importlib.import_module(f"featurepipe.commands.{args.command}").run(args)
    finally:
        _print(result.getvalue())


def _print(result: str) -> None:
    try:
        print(result, end="", flush=True)
    except BrokenPipeError:  # its reader (head, less) has left: not an error
        forsake(sys.stdout.fileno())


def _sparing(args: argparse.Namespace) -> str:
    """What takes less memory, of what the command has."""
    ways = {
        "workers": "fewer --workers",
        "batch_size": "a smaller --batch-size",
        "recipe": "a recipe with a smaller batch_size",
    }
    offered = [way for name, way in ways.items() if hasattr(args, name)]
    return f"give {', '.join(offered)}, or fewer or smaller photos" if offered else "give fewer photos"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="featurepipe", description="Photos of faces to emotions.")
    parser.add_argument("--version", action="version", version=f"featurepipe {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_extract, _fit_svm, _classify, _fit_cnn, _compare, _weights, _datasets, _export, _render, _bench):
        add(commands)
    return parser


Commands = argparse._SubParsersAction  # argparse offers no public name for it


def _command(commands: Commands, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _extract(commands: Commands) -> None:
    parser = _command(
        commands,
        "extract",
        "Photos to a feature table: find the faces, run the backbone, keep the vectors on disk.",
        "bin/extract photos/ --table features/",
    )
    _add_source(parser)
    parser.add_argument(
        "--table", type=_path, required=True, metavar="DIR", help="the feature table; made, or added to"
    )
    _add_faces(parser, policy="largest")
    _add_backbone(parser)
    parser.add_argument("--prune", action="store_true", help="drop stored faces and vectors SOURCE no longer uses")
    _add_running(parser, "device", "precision", "int8", "batch_size", "workers", "json")


def _fit_svm(commands: Commands) -> None:
    parser = _command(
        commands,
        "fit_svm",
        "A feature table to a pickled linear SVM, with C chosen by cross-validation.",
        "bin/fit_svm features/ --model svm.pkl",
    )
    parser.add_argument("table", type=_path, metavar="TABLE", help="a feature table made by bin/extract")
    parser.add_argument("--model", type=_new_file, required=True, metavar="FILE", help="where the fitted SVM goes")
    _add_store(parser)
    parser.add_argument(
        "--normalise",
        choices=("l2", "standard"),
        default="l2",
        help="vectors to unit length, or columns to mean 0 and deviation 1; default: %(default)s",
    )
    parser.add_argument("--C", type=_cost, nargs="+", action=_Listed, metavar="C", help="values of C to choose from")
    parser.add_argument("--class-weight", choices=("balanced",), help="weigh rare classes up")
    parser.add_argument(
        "--soft-labels",
        type=_path,
        nargs="+",
        action=_Listed,
        metavar="FILE",
        help="what fit_cnn --folds wrote: learn them too; best where the backbone did",
    )
    parser.add_argument("--soft-weight", type=_share, metavar="SHARE", help="how far; default: 0.5, the rest is labels")
    parser.add_argument(
        "--folds", type=_folds, metavar="N", help="that choose C where SOURCE has no val photos; default: 5"
    )
    parser.add_argument("--min-per-class", type=_positive, metavar="N", help="drop classes with fewer photos")
    parser.add_argument("--arrays", action="store_true", help="write arrays and JSON (safetensors), not a pickle")
    _add_weights(parser)
    _add_running(parser, "seed", "json")


def _classify(commands: Commands) -> None:
    parser = _command(
        commands,
        "classify",
        "A folder of photos to predictions.csv and predictions.json; a labelled SOURCE is also scored.",
        "bin/classify photos/ --out results/ --pictures",
    )
    _add_source(parser)
    parser.add_argument("--model", type=_path, metavar="FILE", help="an SVM or a CNN; default: the SVM that ships")
    parser.add_argument("--out", type=_path, required=True, metavar="DIR", help="where the predictions go")
    parser.add_argument(
        "--table",
        type=_path,
        metavar="DIR",
        help="feature table to use, which then describes this SOURCE; default: OUT/table",
    )
    parser.add_argument("--pictures", action="store_true", help="also write the photos with boxes and labels")
    parser.add_argument(
        "--prior",
        type=_label_share,
        nargs="+",
        action=_Listed,
        metavar="LABEL=SHARE",
        help="how frequent emotions are in your photos (neutral=0.45 happiness=0.45), labels not named sharing the "
        "rest; or the word trained: as in training. Default: as in daily life for photos of no known database and the "
        "SVM that ships, else as in training",
    )
    _add_faces(parser, policy="all")
    _add_weights(parser)
    _add_running(parser, "device", "precision", "int8", "batch_size", "workers", "json")


def _fit_cnn(commands: Commands) -> None:
    parser = _command(
        commands,
        "fit_cnn",
        "Train an end-to-end CNN baseline on face crops.",
        "bin/fit_cnn faces.csv --arch seed_cnn --model seed.safetensors",
    )
    source = _add_source(parser)
    arch = parser.add_argument("--arch", required=True, choices=ARCHITECTURES)
    model = parser.add_argument(
        "--model", type=_new_file, required=True, metavar="FILE", help="where the fitted CNN goes"
    )
    parser.add_argument(
        "--list",
        action=_Alone,
        needed=(source, arch, model),
        help="print the architectures, and the backbones for SVMs, and where they come from",
    )
    parser.add_argument(
        "--recipe", type=_path, metavar="TOML", help="training values that differ from the architecture's own"
    )
    parser.add_argument(
        "--folds",
        type=_folds,
        metavar="K",
        help="train K networks, each on all but one of K folds; FILE gets soft labels",
    )
    parser.add_argument(
        "--soft-labels",
        type=_path,
        nargs="+",
        action=_Listed,
        metavar="FILE",
        help="what --folds wrote: learn them too, by the recipe's soft_weight",
    )
    parser.add_argument(
        "--votes",
        choices=VOTE_RULES,
        default="majority",
        help="what to learn where several people labelled each photo (FER+); default: %(default)s",
    )
    parser.add_argument(
        "--init", type=_path, metavar="MODEL", help="start from the weights of this fitted CNN: fine-tuning"
    )
    parser.add_argument("--table", type=_path, metavar="DIR", help="keeps boxes and crops; default: MODEL.table")
    parser.add_argument("--resume", action="store_true", help="go on from MODEL.ckpt, where an earlier run stopped")
    parser.add_argument("--half", action="store_true", help="store the weights as float16, in half the space")
    _add_faces(parser)
    parser.set_defaults(policy="largest")
    _add_running(parser, "device", "training_precision", "workers", "seed", "json")


def _compare(commands: Commands) -> None:
    parser = _command(
        commands,
        "compare",
        "SVM and CNNs on the same frozen folds, or fitted on one SOURCE and tested on another: table, JSON, and plots.",
        "bin/compare faces.csv --methods svm seed_cnn --out comparison/",
    )
    _add_source(parser, optional=True)
    _add_train_and_test(parser)
    parser.add_argument(
        "--methods",
        nargs="+",
        action=_Listed,
        default=["svm", "seed_cnn"],
        metavar="METHOD",
        help=f"any of {', '.join(METHODS)}, and CNN@VARIANT, trained by a --recipe of its own; default: svm seed_cnn",
    )
    parser.add_argument("--out", type=_path, required=True, metavar="DIR", help="where folds, JSON and plots go")
    parser.add_argument("--table", type=_path, metavar="DIR", help="feature table to use; default: OUT/table")
    parser.add_argument("--folds", type=_folds, metavar="N", help="default: those of OUT/folds.json, else 5")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        metavar="NAME",
        help=f"who is tested on whom: {', '.join(PROTOCOLS)}; default: the official split of SOURCE, else folds",
    )
    parser.add_argument(
        "--labels", choices=tuple(LABEL_SETS), default="native", help="drop and count others; default: native, all"
    )
    parser.add_argument(
        "--min-per-class",
        type=_positive,
        metavar="N",
        help="drop classes with fewer photos to fit on; in folds, with fewer people (sequences, different pictures)",
    )
    parser.add_argument(
        "--shuffle-labels",
        action="store_true",
        help="control: permute the labels; no method should do better than the most frequent label alone",
    )
    _add_runs(parser)
    _add_faces(parser)
    parser.set_defaults(policy="largest")
    _add_weights(parser)
    _add_running(parser, "device", "precision", "cnns", "batch_size", "workers", "seed", "json")


def _add_runs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("runs, and what stands beside them")
    group.add_argument(
        "--seeds",
        type=_seed,
        nargs="+",
        action=_Listed,
        metavar="N",
        help="fit with N seeds (--seed and those after it), or with the seeds listed: mean and standard deviation",
    )
    budget = group.add_mutually_exclusive_group()
    budget.add_argument(
        "--epochs", type=_positive, metavar="N", help="for every CNN, in one order; default: each one's own recipe"
    )
    budget.add_argument(
        "--minutes", type=_positive_float, metavar="M", help="for every fit of a CNN: as many epochs as fill them"
    )
    group.add_argument(
        "--recipe",
        type=_method_and_file,
        nargs="+",
        action=_Listed,
        default=(),
        metavar="METHOD=TOML",
        help="training values that differ from a CNN's own, as fit_cnn --recipe takes them",
    )
    group.add_argument(
        "--learning-curve",
        type=_share,
        nargs="+",
        action=_Listed,
        metavar="SHARE",
        help="fit on these shares of the training photos too (0.1 0.25 0.5), tested on the same photos",
    )
    group.add_argument(
        "--published", action="store_true", help="print the literature's figures, with their protocols, beside ours"
    )
    group.add_argument(
        "--leak-descriptor",
        action="store_true",
        help="also look by dlib's face descriptor for people on both sides (needs the extra dlib-models)",
    )


def _add_train_and_test(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("two SOURCEs instead of one")
    for side, use in (("train", "to fit and choose on; its test split is not touched"), ("test", "to test on")):
        group.add_argument(f"--{side}", type=_path, metavar="SOURCE", help=use)
        group.add_argument(f"--{side}-dataset", choices=DATASETS, metavar="NAME", help="as --dataset, for this one")
        group.add_argument(
            f"--{side}-table", type=_path, metavar="DIR", help=f"feature table to use; default: OUT/{side}.table"
        )


def _weights(commands: Commands) -> None:
    parser = _command(
        commands,
        "weights",
        "The weights store: what there is, download with verification, convert from original formats.",
        "bin/weights fetch vgg-face",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _command(actions, "list", "every record and where its file is", "bin/weights list")
    fetch = _command(actions, "fetch", "download and verify", "bin/weights fetch vgg-face")
    fetch.add_argument("name", metavar="NAME")
    verify = _command(actions, "verify", "hash the stored file again", "bin/weights verify vgg-face")
    verify.add_argument("name", metavar="NAME", nargs="?", help="default: every file that is here")
    convert = _command(
        actions,
        "convert",
        "an original VGG-Face file to our safetensors layout",
        "bin/weights convert VGG_FACE.caffemodel",
    )
    convert.add_argument(
        "file", metavar="FILE", help="VGG_FACE.caffemodel, vgg_face_weights.h5, ...dag.pth, VGG_FACE.t7"
    )
    convert.add_argument("--layout", choices=LAYOUTS, help="default: told from the file's first bytes")
    convert.add_argument(
        "--out", type=_new_file, metavar="FILE", help="default: the store, under the name bin/extract looks for"
    )
    for action in (listing, fetch, verify, convert):
        _add_running(action, "json")


def _datasets(commands: Commands) -> None:
    parser = _command(
        commands,
        "datasets",
        "The databases with a reader of their own, and whether a copy of one is whole.",
        "bin/datasets verify ckplus CK+/",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    parser.set_defaults(action="list")
    listing = _command(
        actions,
        "list",
        "what each one holds, its licence and where to ask for it (default)",
        "bin/datasets list",
    )
    verify = _command(
        actions,
        "verify",
        "count a copy against the official figures and decode every picture",
        "bin/datasets verify ckplus CK+/ --strict",
    )
    verify.add_argument("name", metavar="NAME", choices=DATABASES, help=", ".join(DATABASES))
    verify.add_argument("root", metavar="ROOT", help="the copy, or a folder that holds it")
    verify.add_argument("--strict", action="store_true", help="exit with code 2 on any difference")
    _add_running(parser, "json")
    for action in (listing, verify):
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")


def _export(commands: Commands) -> None:
    parser = _command(
        commands,
        "export",
        "A feature table to one file for pandas, R or MATLAB.",
        "featurepipe export features/ --to csv --out features.csv",
    )
    parser.add_argument("table", type=_path, metavar="TABLE")
    parser.add_argument("--to", required=True, choices=EXPORTS)
    parser.add_argument("--out", type=_new_file, required=True, metavar="FILE")
    _add_store(parser)
    _add_running(parser, "json")


def _render(commands: Commands) -> None:
    parser = _command(
        commands,
        "render",
        "Write rendered faces with eight emotions and a samples.csv: a stand-in where there are no photos.",
        "featurepipe render faces/ --subjects 20",
    )
    parser.add_argument("folder", type=_path, metavar="DIR")
    parser.add_argument("--subjects", type=_positive, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--per-emotion", type=_positive, default=1, metavar="N", help="photos of each subject and emotion"
    )
    parser.add_argument(
        "--sequences",
        type=_frames,
        metavar="FRAMES",
        help="instead of photos, sequences of so many frames from neutral to the apex",
    )
    parser.add_argument(
        "--size", type=_positive, default=256, metavar="PX", help="side in pixels; default: %(default)s"
    )
    _add_running(parser, "seed", "json")


def _bench(commands: Commands) -> None:
    parser = _command(
        commands,
        "bench",
        "What the pipeline takes on this machine, beside references that others wrote.",
        "bin/bench --quick",
    )
    parser.add_argument("--quick", action="store_true", help="fewer photos and rounds: under two minutes on 2 cores")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help="a row; may be repeated")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument(
        "--photos", type=_path, metavar="SOURCE", help="photos for the pipeline's rows; default: rendered faces"
    )
    _add_running(parser, "json")


def _add_source(parser: argparse.ArgumentParser, *, optional: bool = False) -> argparse.Action:
    source = parser.add_argument(
        "source", type=_path, metavar="SOURCE", nargs="?" if optional else None, help=SOURCE_HELP
    )
    parser.add_argument(
        "--dataset",
        choices=DATASETS,
        metavar="NAME",
        help="how to read SOURCE, where it cannot be told: folder, csv, npz, or as featurepipe datasets lists them",
    )
    parser.add_argument(
        "--frames",
        choices=FRAMES,
        help="of labelled sequences: the neutral and apex ones, or all; default: apex; for networks of sequences all",
    )
    return source


def _add_faces(parser: argparse.ArgumentParser, policy: str | None = None) -> None:
    group = parser.add_argument_group("faces")
    group.add_argument(
        "--detector",
        choices=DETECTORS,
        help="default: hog; mmod on an NVIDIA GPU where its file is here; none for data sets of face crops",
    )
    group.add_argument(
        "--max-side",
        type=_positive,
        metavar="PX",
        help="look for faces on a copy whose long side is at most this; default: 1000",
    )
    if policy:
        group.add_argument(
            "--policy",
            choices=("largest", "all"),
            default=policy,
            help="which faces of a photo; default: %(default)s",
        )
    group.add_argument(
        "--margin",
        type=_margin,
        metavar="SHARE",
        help="what is cut around a face, in shares of its longer side; default: what the backbone's record says",
    )


def _add_backbone(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("backbone")
    group.add_argument("--backbone", choices=BACKBONES, default="fer-vgg", help="default: %(default)s")
    group.add_argument("--layer", help="vgg-face, vgg16-imagenet: fc7 (default), fc6 or pool5")
    group.add_argument(
        "--preprocessing", choices=("vggface", "paper"), help="vgg-face: subtract means, or as the paper"
    )
    group.add_argument("--views", type=int, choices=(1, 2, 10), help="fer-vgg: views averaged; default: its record's")
    _add_weights(group)


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="whose vectors, where the table holds several; of several stores of one backbone, a store's name",
    )


def _add_weights(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--weights", type=_path, metavar="FILE", help="weights of the backbone; default: shipped, or the store's"
    )


def _add_running(parser: argparse.ArgumentParser, *names: str) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("running")
    if "device" in names:
        group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; default: %(default)s")
    if "precision" in names:
        group.add_argument(
            "--precision",
            choices=("auto", "fp32", "bf16", *(("int8",) if "int8" in names else ())),
            default="auto",
            help="of vectors and predictions; auto (default): bf16 where the processor or GPU computes in it"
            + ("; bf16 is CNNs' training too" if "cnns" in names else "")
            + ("; int8: on a CPU, by OpenVINO, checked on your photos" if "int8" in names else ""),
        )
    if "training_precision" in names:
        group.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default: %(default)s")
    if "batch_size" in names:
        group.add_argument("--batch-size", type=_batch, metavar="N", help="faces; default: 8, on a GPU 64")
    if "workers" in names:
        group.add_argument(
            "--workers", type=_workers, metavar="N", help="processes; default: by cores and photos; 0: none"
        )
    if "seed" in names:
        group.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: %(default)s")
    if "json" in names:
        group.add_argument("--json", action="store_true", help="print the summary as one JSON document")
    return group


class _Alone(argparse.Action):
    """A flag beside which nothing else need be given."""

    def __init__(self, *, needed: Sequence[argparse.Action], **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "nargs": 0, "default": False})
        self._needed = needed

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        setattr(namespace, self.dest, True)
        for action in self._needed:
            action.required = False


class _Listed(argparse.Action):
    """Takes a list, and where the option is given again goes on with it instead of forgetting the first."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*(() if before is self.default else before), *values])


def _path(text: str) -> str:
    if not text:  # a variable of a script that is not set: the default would be taken for it
        raise argparse.ArgumentTypeError("the name is empty: name a file or folder, or leave the option out")
    return text


def _new_file(text: str) -> str:
    """A plain file that can be written, or a new one: said now, not after hours of training."""
    if os.path.isdir(_path(text)) or text.endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise argparse.ArgumentTypeError(f"{text} is a folder, a file is wanted")
    if os.path.exists(text) and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text} is a device or a pipe, a file is wanted")
    return text


def _positive(text: str) -> int:
    return _at_least(text, 1)


def _batch(text: str) -> int:
    size = _positive(text)
    if size > LARGEST_BATCH:
        raise argparse.ArgumentTypeError(f"expected at most {LARGEST_BATCH} faces, got {text}")
    return size


def _workers(text: str) -> int:
    count, most = _at_least(text, 0), max(64, 4 * cores())
    if count > most:  # each is a Python of its own: thousands bring a machine down
        raise argparse.ArgumentTypeError(f"expected at most {most} processes on this machine, got {text}")
    return count


def _frames(text: str) -> int:
    return _at_least(text, 2)


def _folds(text: str) -> int:
    return _at_least(text, 2)


def _seed(text: str) -> int:
    seed = _at_least(text, 0)
    if seed >= 2**32:  # NumPy's legacy generators, which scikit-learn draws from, take no more
        raise argparse.ArgumentTypeError(f"expected a whole number below 2**32, got {text!r}")
    return seed


def _at_least(text: str, lowest: int) -> int:
    if not text.isdecimal() or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {lowest}, got {text!r}")
    return int(text)


def _positive_float(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _cost(text: str) -> float:
    value = _positive_float(text)
    if value > LARGEST_C:
        raise argparse.ArgumentTypeError(f"expected a number of at most {LARGEST_C:g}, got {text!r}")
    return value


def _label_share(text: str) -> tuple[str, float] | str:
    """A label and its share in 0..1; or the word TRAINED."""
    if text == TRAINED:
        return TRAINED
    word, _, number = text.partition("=")
    label, share = canonical(word) or word.strip().casefold(), _number(number)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected LABEL=SHARE with a share between 0 and 1, got {text!r}")
    return label, share


def _method_and_file(text: str) -> tuple[str, str]:
    method, _, path = text.partition("=")
    if not path:
        raise argparse.ArgumentTypeError(f"expected METHOD=TOML, got {text!r}")
    return method, path


def _share(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and at most 1, got {text!r}")
    return value


def _margin(text: str) -> float:
    value = _number(text)
    if not -1 < value <= LARGEST_MARGIN:
        raise argparse.ArgumentTypeError(
            f"expected a share of the box above -1 and at most {LARGEST_MARGIN}, got {text!r}"
        )
    return value


def _number(text: str) -> float:
    """NaN, which lies in no range, where `text` is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
