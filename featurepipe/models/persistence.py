"""Model files: written whole or not at all, and opened without running anything that is in them.

Three kinds of file, told apart by their first bytes:

* a fitted SVM as a joblib pickle, a dict around a scikit-learn Pipeline, which `joblib.load` opens too;
* a fitted SVM as safetensors: its arrays, and one JSON document in the metadata (the SVM that ships);
* a CNN as safetensors, in the same frame, whose content featurepipe.models.cnn knows.

Whatever the file, a model is checked first and then built anew from its numbers, so that one file gives the same
predictions under every supported scikit-learn.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as numpy_bytes

import featurepipe
from featurepipe.errors import InputError, ModelError
from featurepipe.files import replacing
from featurepipe.models.inert_pickle import MAX_BYTES, Node, read_inert
from featurepipe.models.linear import CLASS_WEIGHTS, NORMALISER_NAMES, LinearModel

if TYPE_CHECKING:  # scikit-learn takes 1 s to load, and is needed to fit and to save alone
    from featurepipe.models.svm import LinearSVMCV

FORMAT = 1
"""Version of the model files: raised when an older featurepipe would misread a new file; old ones stay readable."""

MAX_HEADER = 16 << 20
"""Bytes of a safetensors header: the names of a network's tensors and one JSON document.

Fifteen folds of 446 epochs have 1.3 MB of history. Hostile JSON of this length takes 0.4 GB and seconds to read.
"""

MAX_LABELS = 1 << 20
"""Characters of an array of the labels, in which each takes as many as the longest."""

MAX_ITEMS = 100_000
"""Values in a model's recipe and summary together; more is an attempt to exhaust memory."""

TRAINED_ON = "trained_on"
"""Name of the array in a model's file that says which photos it was trained on."""

_SVMS = ("LinearSVM", "LinearSVC")
"""The solvers whose pickles are read: our own, and scikit-learn's of older files."""

_KEY = "featurepipe"
_BUNDLE = {"featurepipe", "kind", "pipeline", "temperature", "labels", "recipe", "versions", "training", TRAINED_ON}
_NONE = np.empty(0, np.int64)
"""What files say of the photos they were trained on that were written before they said it."""


class Model(Protocol):
    """What every model offers, SVM or CNN; the vectors or crops it takes are its own affair."""

    kind: ClassVar[str]
    recipe: dict[str, Any]
    training: dict[str, Any]
    trained_on: np.ndarray

    @property
    def classes_(self) -> np.ndarray:
        """(k,) names of the classes, in the order of the columns of `predict_proba`."""

    @property
    def labels(self) -> list[str]:
        """The same as plain strings."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) labels."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, k) probabilities."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(n, k) values whose arg max is the label; (n,) with two classes of an SVM."""

    def score(self, X: np.ndarray, y: Sequence[str] | np.ndarray) -> float:
        """Share of right answers."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file that `load_model` reads."""


def save_svm(path: str | os.PathLike[str], model: LinearSVMCV | LinearModel) -> None:
    """Write a fitted SVM as a joblib pickle that holds its scikit-learn Pipeline.

    Raises ModelError, and leaves `path` as it was, where the file would be larger than what is read back.
    """
    import joblib

    bundle = {_KEY: FORMAT, "kind": "svm", "pipeline": model.pipeline_, TRAINED_ON: model.trained_on}
    bundle |= _described(model)
    data = io.BytesIO()
    joblib.dump(bundle, data, protocol=4)
    if data.tell() > MAX_BYTES:
        raise ModelError(
            f"{path} is not written: a pickle of {data.tell() >> 20} MiB is not read back (at most {MAX_BYTES >> 20}); "
            "save arrays instead (fit_svm --arrays, featurepipe.models.persistence.save_svm_arrays)"
        )
    with replacing(path) as stream:
        stream.write(data.getbuffer())


def save_svm_arrays(path: str | os.PathLike[str], model: LinearSVMCV | LinearModel) -> None:
    """Write a fitted SVM as safetensors: the arrays of `LinearSVMCV.arrays`, trained_on, and a JSON document."""
    save_tensors(path, {**model.arrays(), TRAINED_ON: model.trained_on}, {"kind": "svm", **_described(model)})


def load_model(path: str | os.PathLike[str]) -> Model:
    """Open a model file of any kind, telling the kind by its content.

    Returns
    -------
    A fitted model; `kind` says what it takes, `recipe` how that is made of photos. "svm" (a `LinearModel`, whatever
    class was saved) takes vectors float (n, d), as `FeatureTable.matrix` gives them for the recipe's backbone; "cnn" (a
    `CNNClassifier`) takes crops uint8 (n, *model.baseline.shape). `predict(X)` gives labels str (n,),
    `predict_proba(X)` float64 (n, k) with a column for each of `labels`, `score(X, y)` the accuracy.

    Raises
    ------
    InputError : there is no such file
    ModelError : the file is unsafe, damaged, not a model, or of a newer format; nothing in it was run

    >>> from featurepipe.weights import shipped_svm
    >>> model = load_model(shipped_svm())
    >>> model.kind, len(model.labels), model.recipe["features"]["backbone"]
    ('svm', 7, 'fer-vgg')
    """
    if not os.path.isfile(path):
        raise InputError(f"there is no model file {path}: fit one with fit_svm or fit_cnn")
    if not _is_safetensors(path):
        return _svm_from_pickle(path)
    kind = read_metadata(path)["kind"]
    if kind == "svm":
        return _svm_from_arrays(path)
    if kind == "cnn":
        from featurepipe.models.cnn import load_cnn

        return load_cnn(path)
    raise ModelError(f"{path} holds a model of the unknown kind {kind!r}: expected svm or cnn")


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Write named arrays (all NumPy or all PyTorch) with a JSON document beside them, as safetensors.

    `document` names its "kind"; the format version is added. NaN in it is refused: use None. Raises ModelError, and
    leaves `path` as it was, where the header would be longer than what is read back.
    """
    text = json.dumps({"format": FORMAT, **document}, ensure_ascii=False, allow_nan=False)
    data = _serialised(dict(tensors), {_KEY: text})
    if (length := int.from_bytes(data[:8], "little")) > MAX_HEADER:
        raise ModelError(
            f"{path} is not written: what is said of its tensors (settings, a row per epoch) takes {length} bytes, and "
            f"no more than {MAX_HEADER} are read back; train for fewer epochs, or in fewer folds"
        )
    with replacing(path) as stream:
        stream.write(data)


def _serialised(tensors: dict[str, Any], metadata: dict[str, str]) -> bytes:
    if all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        return numpy_bytes({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)
    from safetensors.torch import save as torch_bytes

    return torch_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def load_tensors(
    path: str | os.PathLike[str], framework: Literal["np", "pt"] = "np"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays (NumPy, or PyTorch on the CPU) and the document of a file that `save_tensors` wrote.

    Raises
    ------
    ModelError : as `read_metadata`, or numbers of a kind that `framework` does not know
    """
    with _opened(path, framework) as stream:  # once: of a file put in its place labels and weights would not agree
        document = _document(path, stream)
        try:
            return {name: stream.get_tensor(name) for name in stream.keys()}, document  # noqa: SIM118
        except (SafetensorError, AttributeError, TypeError, ValueError) as error:  # NumPy has no bfloat16
            raise ModelError(
                f"{path} holds numbers that cannot be read ({error}): fit or fetch the model again"
            ) from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON document of a safetensors model; its "format" and "kind" are checked, the rest is the caller's.

    Raises
    ------
    ModelError : not safetensors, damaged, without our document, or of a newer format
    """
    with _opened(path, "np") as stream:
        return _document(path, stream)


def _opened(path: str | os.PathLike[str], framework: Literal["np", "pt"]) -> safe_open:
    if not _is_safetensors(path):
        raise ModelError(f"{path} is not a safetensors file")
    try:
        return safe_open(path, framework)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}): fit or fetch the model again") from error


def _document(path: str | os.PathLike[str], stream: safe_open) -> dict[str, Any]:
    try:
        document = json.loads((stream.metadata() or {})[_KEY])
    except KeyError:
        raise ModelError(f"{path} is a safetensors file, but not a model of featurepipe") from None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}): fit or fetch the model again") from error
    if type(document) is not dict or type(document.get("kind")) is not str:
        raise ModelError(f"{path} does not say what kind of model it is: fit or fetch it again")
    _check_format(path, document.get("format"))
    return document


def read_trained_on(path: str | os.PathLike[str]) -> np.ndarray:
    """Codes of the photos that weights were trained on, int64 (n,), sorted; empty where the file does not say."""
    try:
        with safe_open(path, "np") as stream:
            return stream.get_tensor(TRAINED_ON) if TRAINED_ON in stream.keys() else np.empty(0, np.int64)  # noqa: SIM118
    except SafetensorError:  # a file of another kind: a pickle of other people's weights, say
        return np.empty(0, np.int64)


def _described(model: LinearSVMCV | LinearModel) -> dict[str, Any]:
    """What both files of an SVM say about it; through JSON, so that nothing but plain values is written."""
    import joblib
    import sklearn

    versions = {
        "featurepipe": featurepipe.__version__,
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "joblib": joblib.__version__,
    }
    document = {
        "temperature": model.temperature_,
        "labels": model.labels,
        "recipe": model.recipe,
        "versions": versions,
        "training": model.training,
    }
    return json.loads(json.dumps(document, allow_nan=False))


def _is_safetensors(path: str | os.PathLike[str]) -> bool:
    """True where the file starts with the length of a header of believable size, and the header with a brace."""
    with open(path, "rb") as stream:
        start = stream.read(9)
    length = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and length <= min(MAX_HEADER, os.path.getsize(path) - 8)


def _svm_from_arrays(path: str | os.PathLike[str]) -> LinearModel:
    arrays, document = load_tensors(path)
    return _built(path, document, arrays, arrays.pop(TRAINED_ON, _NONE))


def _svm_from_pickle(path: str | os.PathLike[str]) -> LinearModel:
    bundle = read_inert(path)
    if type(bundle) is not dict or set(bundle) | {TRAINED_ON} != _BUNDLE or not _is_text(bundle["kind"], "svm"):
        raise ModelError(f"{path} is a pickle, but not a model of featurepipe")
    _check_format(path, bundle[_KEY])
    arrays = _pipeline_arrays(path, bundle["pipeline"], bundle["labels"])
    document = {key: bundle[key] for key in ("temperature", "labels", "recipe", "training")}
    if not _is_plain(document):
        raise ModelError(f"{path}: its recipe or training summary is not plain JSON values")
    return _built(path, document, arrays, bundle.get(TRAINED_ON, _NONE))


def _pipeline_arrays(path: str | os.PathLike[str], pipeline: Any, labels: Any) -> dict[str, Any]:
    """The arrays inside a pickled Pipeline(normaliser, SVM), under the names of the arrays file."""
    try:
        (_, normaliser), (_, svc) = _state(pipeline, "Pipeline")["steps"]
        state = _state(svc, *_SVMS)
        arrays = {"coef": state["coef_"], "intercept": state["intercept_"]}
        if normaliser.name == "StandardScaler":
            scaling = _state(normaliser, "StandardScaler")
            plain = scaling["with_mean"] is True and scaling["with_std"] is True
            arrays |= {"mean": scaling["mean_"], "scale": scaling["scale_"]}
        else:
            plain = _state(normaliser, "Normalizer")["norm"] == "l2"
        if not plain or state["classes_"].tolist() != labels:
            raise ValueError("its settings or classes differ from what the file says")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: its Pipeline is not one that fit_svm writes ({error})") from error
    return arrays


def _state(node: Any, *names: str) -> dict[str, Any]:
    if type(node) is not Node or node.name not in names or node.state is None:
        raise ValueError(f"no {names[0]} where one is expected")
    return node.state


def _built(
    path: str | os.PathLike[str], document: dict[str, Any], arrays: dict[str, Any], trained_on: Any
) -> LinearModel:
    try:
        _check_trained_on(trained_on)
        _check_document(document)
        _check_arrays(arrays, len(document["labels"]), document["training"]["normaliser"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}): fit or fetch the model again") from error
    described = {key: document[key] for key in ("labels", "temperature", "recipe", "training")}
    return LinearModel(arrays, **described, trained_on=trained_on)


def _is_text(value: Any, wanted: str) -> bool:
    """Not by == alone: an array of text compares one by one, and is then neither true nor false."""
    return type(value) is str and value == wanted


def _check_trained_on(codes: Any) -> None:
    if type(codes) is not np.ndarray or codes.dtype != np.int64 or codes.ndim != 1:
        raise ValueError(f"{TRAINED_ON} is not a row of int64 numbers")


def check_described(document: Mapping[str, Any]) -> None:
    """Refuse labels, a recipe and a training summary that no model of any kind has, with ValueError or KeyError."""
    labels, recipe = document["labels"], document["recipe"]
    if type(labels) is not list or not all(type(label) is str for label in labels) or len(labels) < 2:
        raise ValueError("its labels are not a list of at least two names")
    if labels != sorted(set(labels)):
        raise ValueError("its labels are not sorted, or one is there twice")
    if len(labels) * max(map(len, labels)) > MAX_LABELS:
        raise ValueError("its labels are too many or too long")
    if type(recipe) is not dict or type(document["training"]) is not dict:
        raise ValueError("its recipe or training summary is missing")
    if not all(type(recipe.get(half, {})) is dict for half in ("features", "faces")):
        raise ValueError("its recipe of features or of faces is no table")


def _check_document(document: dict[str, Any]) -> None:
    check_described(document)
    temperature, training = document["temperature"], document["training"]
    if type(temperature) is not float or not 0 < temperature < np.inf:
        raise ValueError("its temperature is not a positive number")
    types = tuple(type(training[name]) for name in ("C", "seed"))
    settings = training["normaliser"], training["class_weight"]
    columns = training.get("columns", [])
    if type(columns) is not list or not all(type(name) is str for name in columns):
        raise ValueError("its names of columns are no list of names")
    if types != (float, int) or settings not in itertools.product(NORMALISER_NAMES, CLASS_WEIGHTS):
        raise ValueError("its training summary names settings that fit_svm does not have")


def _check_arrays(arrays: dict[str, Any], classes: int, normaliser: str) -> None:
    expected = {"coef", "intercept"} | ({"mean", "scale"} if normaliser == "standard" else set())
    if set(arrays) != expected:
        raise ValueError(f"it has the arrays {sorted(arrays)}, expected {sorted(expected)}")
    for name, array in arrays.items():
        if type(array) is not np.ndarray or array.dtype != np.float64 or not np.isfinite(array).all():
            raise ValueError(f"{name} is not an array of finite float64 numbers")
    planes = 1 if classes == 2 else classes
    width = arrays["coef"].shape[-1] if arrays["coef"].ndim == 2 else 0
    shapes = {"coef": (planes, width), "intercept": (planes,), "mean": (width,), "scale": (width,)}
    for name, array in arrays.items():
        if width == 0 or array.shape != shapes[name]:
            raise ValueError(f"{name} has the shape {array.shape}, which does not fit {classes} classes")
    if "scale" in arrays and not (arrays["scale"] > 0).all():
        raise ValueError("scale is not positive")


def _check_format(path: str | os.PathLike[str], version: Any) -> None:
    if type(version) is not int or version < 1:
        raise ModelError(f"{path} does not say its format version: fit or fetch the model again")
    if version > FORMAT:
        raise ModelError(
            f"{path} has model format {version} and this featurepipe reads up to {FORMAT}: upgrade featurepipe"
        )


def _is_plain(value: Any) -> bool:
    """True for JSON values with text keys and finite numbers, MAX_ITEMS of them at most, counting repeats."""
    waiting, left = [value], MAX_ITEMS
    while waiting:
        item, left = waiting.pop(), left - 1
        if left < 0:
            return False
        if type(item) is dict and all(type(key) is str for key in item):
            waiting += item.values()
        elif type(item) is list:
            waiting += item
        elif type(item) not in (str, int, float, bool, type(None)) or item in (np.inf, -np.inf) or item != item:
            return False
    return True
