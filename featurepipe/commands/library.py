"""The main jobs from Python: photos to vectors, to crops and to predictions, and models fitted on them.

Each does what the command does that is named beside it, by the same code, and gives the same numbers. What the command
says on stderr is a warning here. Texts of errors call options by the command's names: `--max-side` is `max_side`.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np
from PIL import Image

from featurepipe.commands.predictions import Predictions
from featurepipe.commands.sequences import check_sequences, read_input, read_sequences
from featurepipe.commands.steps import backbone_for, crops_for, fill_table, read_features, samples_of, tell, telling
from featurepipe.datasets.source import Source, label_of
from featurepipe.errors import InputError
from featurepipe.faces.images import PhotoError, decode
from featurepipe.features.table import Features, holds_crops
from featurepipe.models.persistence import Model, load_model
from featurepipe.names import TRAINED
from featurepipe.progress import bar, move_to
from featurepipe.recipe import differences
from featurepipe.records import Policy, Sample
from featurepipe.weights import shipped_svm

if TYPE_CHECKING:  # their modules load torch and scikit-learn
    from featurepipe.models.cnn import CNNClassifier
    from featurepipe.models.svm import LinearSVMCV

Place = str | os.PathLike[str]
Photo = Place | Sample | Image.Image | np.ndarray
Photos = Place | Source | Iterable[Photo]

AnyModel = TypeVar("AnyModel", "LinearSVMCV", "CNNClassifier")

_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


def vectors(
    photos: Photos,
    table: Place,
    *,
    backbone: str = "fer-vgg",
    weights: Place | None = None,
    layer: str | None = None,
    preprocessing: str | None = None,
    views: int | None = None,
    detector: str | None = None,
    faces: Policy = "largest",
    max_side: int | None = None,
    margin: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    workers: int | None = 0,
) -> Features:
    """Photos to vectors of a face network, as `bin/extract`; what the table has already is not computed again.

    Parameters
    ----------
    photos : a folder, CSV, NPZ, database or photo, as the commands take it; what `read_source` read; or photos one by
        one: files, pictures of Pillow, pixels, uint8 RGB (h, w, 3) or grey (h, w), or samples. Pictures and pixels are
        called "image 0" and so on by their place, and are all in memory at a time: give many photos as files
    table : folder of the feature table; made where it is absent, and then describes these photos
    backbone, weights, layer, preprocessing, views : as in `load_backbone`
    detector : hog, mmod, dlib-mmod, mtcnn, or none for photos that are face crops; None: as they ask for it themselves
    faces : "largest" of each photo, or "all"
    max_side : pixels, at least 1; faces are looked for on a copy whose long side has no more; None: 1000
    margin : cut around a face in shares of its longer side, above -1 and at most 10; None: the backbone's own
    device : auto, cpu, cuda, cuda:N or mps
    precision : auto, fp32, bf16 or int8
    batch_size : faces, at least 1; None: 8, on a GPU 64
    workers : processes that find faces; 0: this one alone; None: by cores and photos. Where there are some, a program
        must have its main part under `if __name__ == "__main__":`

    Returns
    -------
    Features : a row per face: X float32 (n, d), 4096 wide for fc7, with labels, subjects and boxes beside it. A photo
        without a face has none; `coverage` counts them

    Raises
    ------
    InputError : an argument out of range, or photos that are none of these
    WeightsError, MissingPackageError : the weights, or a package, are not here
    TableError : the folder holds something else, or is being written to

    >>> import featurepipe
    >>> faces = np.arange(2 * 64 * 64, dtype=np.uint8).reshape(2, 64, 64)
    >>> with TemporaryDirectory() as table:
    ...     features = featurepipe.vectors(faces, table, backbone="hog", detector="none")
    ...     features.X.shape, features.path[1]
    ((2, 1764), 'image 1')
    """
    with _warning():
        args = _asked(photos, faces, detector, max_side, margin, device, workers, batch_size=batch_size, table=table)
        vars(args).update(backbone=backbone, weights=weights, layer=layer, preprocessing=preprocessing, views=views)
        args.precision = precision
        source = _source(photos, args)
        made_by = backbone_for(args, source)
        fill_table(args, source, Path(table), made_by)
        return read_features(Path(table), made_by)


def crops(
    photos: Photos,
    table: Place,
    arch: str,
    *,
    detector: str | None = None,
    max_side: int | None = None,
    margin: float | None = None,
    device: str = "auto",
    workers: int | None = 0,
) -> Features:
    """Photos to what a CNN baseline is trained on, as `bin/fit_cnn`: the largest face of each, cut for `arch`.

    Parameters
    ----------
    arch : name of the architecture (`bin/fit_cnn --list`); of one of sequences a row is a sequence
    device : where mmod looks for faces
    photos, table, detector, max_side, margin, workers : as in `vectors`

    Returns
    -------
    Features : X uint8 (n, *shape of the architecture's input)

    Raises what `vectors` does, and InputError where the architecture takes sequences and there are none.

    >>> import featurepipe
    >>> with TemporaryDirectory() as table:
    ...     featurepipe.crops([np.zeros((80, 80), np.uint8)], table, "seed_cnn", detector="none").X.shape
    (1, 100, 100)
    """
    from featurepipe.models.baselines.registry import get_baseline  # loads torch

    baseline = get_baseline(arch)
    with _warning():
        args = _asked(photos, "largest", detector, max_side, margin, device, workers)
        source = _source(photos, args, sequences=baseline.timeline is not None)
        fill_table(args, source, Path(table), crops_for(baseline.framing))
        return read_input(Path(table), args.source, baseline)


def fit(
    model: AnyModel, features: Features, *, weights: Place | None = None, min_per_class: int | None = None
) -> AnyModel:
    """Fit a LinearSVMCV on vectors as `bin/fit_svm`, or a CNNClassifier on crops as `bin/fit_cnn`.

    It is fitted on the labelled rows of split train or of none, and never reads those of split test. Those of split val
    choose: C and temperature of an SVM, and of a CNN what its recipe lets them choose. Without any an SVM chooses by
    folds that part no people, sequences and copies of a photo, and a CNN whose recipe has patience by a tenth of them.

    Parameters
    ----------
    model : with the settings asked for; it is fitted itself
    features : the largest face of each photo, of `vectors` for an SVM, of `crops` with the same architecture for a CNN
    weights : file of the backbone's weights, where they are neither those that ship nor in the weights folder: it says
        which photos the backbone was trained on
    min_per_class : leave out classes with fewer rows to fit on

    Returns
    -------
    `model`, which knows its recipe and which photos it was fitted on, as `classify` and `save` need; `training["leak"]`
    of an SVM says whether it chose on photos that the backbone was trained on, and then a warning says LEAK

    Raises
    ------
    InputError : no such model or features, no labelled row to fit on, or what `model.fit` refuses

    >>> import featurepipe
    >>> noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64), np.uint8)
    >>> photos = [Sample(f"{n}", label=("fear", "anger")[n % 2], pixels=face) for n, face in enumerate(noise)]
    >>> with TemporaryDirectory() as table:
    ...     features = featurepipe.vectors(photos, table, backbone="hog", detector="none")
    ...     featurepipe.fit(featurepipe.LinearSVMCV(Cs=[1.0], folds=2), features).labels
    ['anger', 'fear']
    """
    from featurepipe.models.svm import LinearSVMCV  # loads scikit-learn

    if features.face_half["policy"] != "largest":
        raise InputError(
            "these features are of all faces, and a photo's label is that of its largest one: make them with "
            'faces="largest", which computes nothing twice'
        )
    with _warning():
        if isinstance(model, LinearSVMCV):
            _fit_svm(model, features, weights, min_per_class)
        else:
            _fit_cnn(model, features, min_per_class)
    return model


def classify(
    photos: Photos,
    table: Place | None = None,
    *,
    model: Model | Place | None = None,
    prior: Mapping[str, float] | str | None = None,
    faces: Policy = "all",
    detector: str | None = None,
    max_side: int | None = None,
    margin: float | None = None,
    weights: Place | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    workers: int | None = 0,
) -> Predictions:
    """Photos to emotions, as `bin/classify`.

    Parameters
    ----------
    table : folder that keeps faces and vectors for another time, and then describes these photos; None: nothing is kept
    model : an SVM or a CNN, fitted or in a file; None: the SVM that ships
    prior : how frequent emotions are in the photos: shares between 0 and 1 by label, the labels not named sharing the
        rest, or "trained" for as in training. None: as in daily life for photos of no known database and the SVM that
        ships, which a warning says, else as in training
    detector, max_side, margin : None: as the photos were looked at that the model was fitted on
    photos, faces, weights, device, precision, batch_size, workers : as in `vectors`; `faces` is "largest" for a CNN of
        sequences, and "int8" is for an SVM in a file

    Returns
    -------
    Predictions : `rows()` gives a dictionary per face, or per photo without one, in the order of the photos: path,
        face, left, top, right, bottom, score, label, confidence, p_<class> for each class, status and error; None where
        there is no face. `probabilities` is float64 (faces, classes), in the order of `classes`

    Raises
    ------
    ModelError, RecipeMismatch : the model does not say of which vectors it is, or the weights here are others
    and what `vectors` raises

    >>> import featurepipe
    >>> face = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    >>> for row in featurepipe.classify([face], detector="none").rows():
    ...     print(row["path"], row["status"], row["label"] in featurepipe.load_model(shipped_svm()).labels)
    image 0 ok True
    """
    with _warning():
        args = _asked(photos, faces, detector, max_side, margin, device, workers, batch_size=batch_size)
        vars(args).update(weights=weights, precision=precision, prior=_prior(prior))
        args.model, fitted = _model(model, precision)
        if table is not None:
            return _classified(args, photos, fitted, Path(table))
        with TemporaryDirectory(prefix="featurepipe-") as folder:
            return _in_memory(_classified(args, photos, fitted, Path(folder)))


def _asked(
    photos: Photos,
    faces: Policy,
    detector: str | None,
    max_side: int | None,
    margin: float | None,
    device: str,
    workers: int | None,
    **further: Any,
) -> argparse.Namespace:
    """What the commands' parser makes of its words, for `photos` and these values."""
    if faces not in get_args(Policy):
        raise InputError(f"faces is {faces!r}: expected {' or '.join(get_args(Policy))}")
    place = os.fspath(photos) if isinstance(photos, (str, os.PathLike)) else "the photos"
    own = {"detector": detector, "max_side": max_side, "margin": margin, "device": device, "workers": workers}
    return argparse.Namespace(source=place, dataset=None, frames=None, policy=faces, **own, **further)


def _source(photos: Photos, args: argparse.Namespace, *, sequences: bool = False) -> Source:
    """The samples of `photos`; read from a place, all frames of it where `sequences` are wanted."""
    if isinstance(photos, (str, os.PathLike)):
        return read_sequences(args) if sequences else samples_of(args)
    source = photos if isinstance(photos, Source) else Source(_samples(photos), "folder", "photos")
    if sequences:
        args.policy = "largest"
        check_sequences(source, args.source)
    return source


def _samples(photos: Iterable[Photo]) -> list[Sample]:
    pixels = isinstance(photos, np.ndarray) and (photos.ndim < 3 or (photos.ndim == 3 and photos.shape[-1] == 3))
    if pixels or not isinstance(photos, Iterable):
        raise InputError(f"{type(photos).__name__} is not several photos: put a single one into a list, [photo]")
    return [_sample(number, photo) for number, photo in enumerate(photos)]


def _sample(number: int, photo: Photo) -> Sample:
    if isinstance(photo, Sample):
        return photo
    if isinstance(photo, (str, os.PathLike)):
        return Sample(os.fspath(photo))
    if not isinstance(photo, (Image.Image, np.ndarray)):
        raise InputError(
            f"photo {number} is of the type {type(photo).__name__}: expected a path, a picture of Pillow, uint8 pixels "
            "(h, w, 3) or (h, w), or a Sample"
        )
    try:
        return Sample(f"image {number}", pixels=decode(photo))
    except PhotoError as error:
        raise InputError(f"image {number}: {error}") from error


def _prior(prior: Mapping[str, float] | str | None) -> list[Any] | None:
    """As --prior: labels with their shares, or the word TRAINED."""
    if prior is None or prior == TRAINED:
        return None if prior is None else [TRAINED]
    if not isinstance(prior, Mapping) or not prior or not all(0 < share < 1 for share in prior.values()):
        raise InputError(f'prior is {prior!r}: expected shares between 0 and 1 by label, or "{TRAINED}"')
    return [(label_of(label), share) for label, share in prior.items()]


def _model(model: Model | Place | None, precision: str) -> tuple[str | None, Model]:
    """What --model says, and the model to classify with."""
    if model is None:
        return None, load_model(shipped_svm())
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model), load_model(model)
    if not hasattr(model, "trained_on"):
        raise InputError(f"{type(model).__name__} is no fitted model: expected one of fit or load_model, or its file")
    if precision == "int8":
        raise InputError("int8 is checked with a model in a file: save this one, and give its path")
    return "the model", copy.copy(model)  # a CNN is told device and precision


def _classified(args: argparse.Namespace, photos: Photos, model: Model, table: Path) -> Predictions:
    from featurepipe.commands.classify import predict, prior_of, timeline_of  # loads torch

    source = _source(photos, args, sequences=timeline_of(model) is not None)
    return predict(args, model, source, table, prior_of(args, model, source))[0]


def _in_memory(predictions: Predictions) -> Predictions:
    """The same without the table."""
    return replace(predictions, features=replace(predictions.features, X=np.array(predictions.features.X)))


def _fit_svm(model: LinearSVMCV, features: Features, weights: Place | None, min_per_class: int | None) -> None:
    from featurepipe.commands.fit_svm import fit_vectors, training_rows, warnings_of

    if holds_crops(features.feature_half["backbone"]):
        raise InputError("these features are crops for a CNN, and an SVM takes vectors: make them with vectors()")
    fit_vectors(model, features, training_rows(features, None, min_per_class), weights)
    tell(warnings_of(model))


def _fit_cnn(model: CNNClassifier, features: Features, min_per_class: int | None) -> None:
    from featurepipe.commands.fit_cnn import Teachers, check_soft_weight, fit_crops, watched
    from featurepipe.commands.fit_svm import training_rows
    from featurepipe.models.cnn import CNNClassifier

    if not isinstance(model, CNNClassifier):
        raise InputError(f"{type(model).__name__} cannot be fitted here: expected LinearSVMCV or CNNClassifier")
    if differences(features.feature_half, crops_for(model.baseline.framing).recipe()):
        raise InputError(f'these features are not crops for {model.arch}: make them with crops(..., "{model.arch}")')
    recipe, teachers = model.training_recipe, Teachers()
    check_soft_weight(recipe, soft_labels=False)
    rows = watched(recipe, features, training_rows(features, None, min_per_class), teachers, model.seed)
    with bar(recipe.epochs * recipe.orders, model.arch, "epoch") as progress:
        fit_crops(model, features, rows, teachers, after_epoch=lambda history: move_to(progress, len(history)))


@contextmanager
def _warning() -> Iterator[None]:
    """Around the body of a public function: what its steps say on stderr for a command are warnings to its caller."""
    notes: list[str] = []
    try:
        with telling(notes.append):
            yield
    finally:
        for note in (note.removeprefix("warning: ") for note in notes):
            text = _OPTION.sub(lambda option: option[1].replace("-", "_"), note)  # as the argument is called here
            warnings.warn(text, stacklevel=4)  # past contextlib and the public function
