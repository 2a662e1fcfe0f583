"""Model files: the same model back, and nothing of a hostile file run."""

import copyreg
import io
import json
import operator
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import types
import warnings

import joblib
import numpy as np
import pytest
import sklearn
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.decomposition import PCA
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from featurepipe.errors import InputError, ModelError
from featurepipe.models.inert_pickle import _Instructions
from featurepipe.models.persistence import (
    MAX_HEADER,
    MAX_ITEMS,
    MAX_LABELS,
    load_model,
    load_tensors,
    read_metadata,
    save_svm,
    save_svm_arrays,
    save_tensors,
)
from featurepipe.models.svm import LinearSVMCV

RECIPE = {"features": {"backbone": "fer-vgg", "layer": "fc7"}, "faces": {"detector": "hog", "margin": 0.3}}


def fitted(normaliser="l2", classes=3):
    rng = np.random.default_rng(0)
    truth = np.arange(90) % classes
    X = rng.normal(size=(90, 6)).astype(np.float32)
    X[np.arange(90), truth] += 3
    y = np.array(["anger", "fear", "überraschung"])[truth]
    return LinearSVMCV(normaliser=normaliser, Cs=(0.1, 1.0), folds=3).fit(X, y, recipe=RECIPE), X


@pytest.fixture(scope="module")
def model():
    return fitted()[0]


@pytest.fixture
def bundle(model, tmp_path):
    """What a sound model file holds, for tests to spoil."""
    save_svm(tmp_path / "sound.joblib", model)
    return joblib.load(tmp_path / "sound.joblib")


# The same model back


@pytest.mark.parametrize("save", [save_svm, save_svm_arrays])
def test_the_photos_it_was_fitted_on_are_kept(save, tmp_path):
    X, y = np.eye(6, dtype=np.float32), ["anger", "fear"] * 3
    save(tmp_path / "m", LinearSVMCV(Cs=[1.0], folds=2).fit(X, y, trained_on=np.array([5, -(2**63), 5])))
    save(tmp_path / "again", load_model(tmp_path / "m"))
    for name in ("m", "again"):
        assert load_model(tmp_path / name).trained_on.tolist() == [-(2**63), 5]


def test_older_files_say_nothing_of_the_photos_and_stay_readable(model, bundle, tmp_path):
    del bundle["trained_on"]
    joblib.dump(bundle, tmp_path / "old.pkl", protocol=4)
    assert load_model(tmp_path / "old.pkl").trained_on.tolist() == []
    bundle["trained_on"] = np.zeros(3)
    joblib.dump(bundle, tmp_path / "new.pkl", protocol=4)
    with pytest.raises(ModelError, match="trained_on is not a row of int64"):
        load_model(tmp_path / "new.pkl")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("normaliser", ["l2", "standard"])
@pytest.mark.parametrize("save", [save_svm, save_svm_arrays])
def test_a_loaded_model_answers_exactly_as_the_saved_one(save, normaliser, classes, tmp_path):
    model, X = fitted(normaliser, classes)
    save(tmp_path / "model", model)
    save(tmp_path / "again", load_model(tmp_path / "model"))
    for loaded in (load_model(tmp_path / "model"), load_model(tmp_path / "again")):
        assert np.array_equal(loaded.decision_function(X), model.decision_function(X))
        assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))
        assert np.array_equal(loaded.predict(X), model.predict(X))
        assert (loaded.kind, loaded.labels, loaded.recipe) == ("svm", model.labels, RECIPE)
        assert loaded.training == model.training
        assert repr(loaded.pipeline_[-1]) == repr(model.pipeline_[-1])


def test_many_rows_are_answered_alike_to_the_last_bit(tmp_path):
    """One row alone goes another way through BLAS: all must be parted at the same places."""
    model, X = fitted()
    save_svm(tmp_path / "model", model)
    many = np.resize(X, (4096 + 1, X.shape[1]))
    expected = model.decision_function(many)
    loaded = load_model(tmp_path / "model")
    assert np.array_equal(loaded.decision_function(many), expected)
    assert np.array_equal(loaded.pipeline_.decision_function(many), expected)
    assert np.array_equal(loaded.pipeline_.decision_function(many[:2049]), loaded.decision_function(many[:2049]))


def test_what_would_be_too_large_to_be_read_back_is_not_written(monkeypatch, tmp_path):
    model, _ = fitted()
    save_svm(tmp_path / "model", model)
    before = (tmp_path / "model").read_bytes()
    monkeypatch.setattr("featurepipe.models.persistence.MAX_BYTES", len(before) - 1)
    with pytest.raises(ModelError, match=r"is not written: .* save arrays instead"):
        save_svm(tmp_path / "model", model)
    assert (tmp_path / "model").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("classes", [2, 3])
def test_files_with_liblinears_svm_of_older_versions_still_open(classes, tmp_path):
    model, X = fitted(classes=classes)
    save_svm(tmp_path / "new.joblib", model)
    bundle, ours = joblib.load(tmp_path / "new.joblib"), model.pipeline_[-1]
    theirs = LinearSVC(C=ours.C)
    theirs.coef_, theirs.intercept_, theirs.classes_ = ours.coef_, ours.intercept_, ours.classes_
    bundle["pipeline"] = Pipeline([("normalise", model.pipeline_[0]), ("svm", theirs)])
    bundle["training"]["dual"] = True
    joblib.dump(bundle, tmp_path / "old.joblib", protocol=4)
    assert np.array_equal(load_model(tmp_path / "old.joblib").decision_function(X), model.decision_function(X))
    save_svm_arrays(tmp_path / "old.safetensors", load_model(tmp_path / "old.joblib"))
    assert np.array_equal(load_model(tmp_path / "old.safetensors").predict(X), model.predict(X))


@pytest.mark.parametrize("C", [1, np.float64(1), np.float32(1)])
@pytest.mark.parametrize("seed", [3, np.int64(3)])
@pytest.mark.parametrize("save", [save_svm, save_svm_arrays])
def test_settings_may_be_whole_numbers_and_numpys(save, seed, C, tmp_path):
    model = LinearSVMCV(seed=seed).fit_fixed(np.eye(6, dtype=np.float32), ["anger", "fear"] * 3, C)
    save(tmp_path / "m", model)
    training = load_model(tmp_path / "m").training
    assert (training["C"], training["seed"]) == (1.0, 3)
    assert (type(training["C"]), type(training["seed"])) == (float, int)


def test_plain_joblib_opens_the_pickle_and_finds_a_working_pipeline(tmp_path):
    model, X = fitted()
    save_svm(tmp_path / "model.joblib", model)
    bundle = joblib.load(tmp_path / "model.joblib")
    assert np.array_equal(bundle["pipeline"].predict(X), model.predict(X))
    assert (bundle["featurepipe"], bundle["labels"], bundle["recipe"]) == (1, model.labels, RECIPE)
    assert {"featurepipe", "python", "scikit-learn", "numpy"} <= set(bundle["versions"])


def test_another_version_of_scikit_learn_brings_no_warning(bundle, tmp_path):
    stream = io.BytesIO()
    joblib.dump(bundle, stream)
    other = stream.getvalue().replace(
        b"_sklearn_version\x94\x8c" + _short(sklearn.__version__), b"_sklearn_version\x94\x8c\x05" + b"0.0.1"
    )
    (tmp_path / "old.joblib").write_bytes(other)
    with pytest.warns(InconsistentVersionWarning):
        joblib.load(tmp_path / "old.joblib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(tmp_path / "old.joblib")


def _short(text):
    return bytes([len(text)]) + text.encode()


@pytest.mark.parametrize("normaliser", ["l2", "standard"])
def test_models_save_themselves(normaliser, tmp_path):
    model, X = fitted(normaliser)
    model.save(tmp_path / "model.pkl")
    load_model(tmp_path / "model.pkl").save(str(tmp_path / "again.pkl"))
    for name in ("model.pkl", "again.pkl"):
        assert np.array_equal(load_model(tmp_path / name).predict_proba(X), model.predict_proba(X))


def test_a_model_dumped_whole_is_told_its_own_way(model, tmp_path):
    for content in (model, load_saved(model, tmp_path)):
        joblib.dump(content, tmp_path / "dumped.joblib")
        with pytest.raises(ModelError, match=r"refused: .* write a model with its own save\(path\)"):
            load_model(tmp_path / "dumped.joblib")


def load_saved(model, folder):
    save_svm(folder / "m", model)
    return load_model(folder / "m")


def test_a_failed_save_leaves_the_old_model(model, tmp_path):
    save_svm(tmp_path / "model", model)
    before = (tmp_path / "model").read_bytes()
    broken = fitted()[0]
    broken.recipe = {"layer": {1, 2}}
    with pytest.raises(TypeError):
        save_svm(tmp_path / "model", broken)
    assert (tmp_path / "model").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_tensors_and_their_document_come_back(tmp_path):
    document = {"kind": "cnn", "labels": ["a", "ü"], "arch": "seed_cnn"}
    weights = torch.arange(6.0).reshape(2, 3)
    save_tensors(tmp_path / "net", {"w.t": weights.T, "half": weights.bfloat16()}, document)
    tensors, read = load_tensors(tmp_path / "net", "pt")
    assert torch.equal(tensors["w.t"], weights.T)
    assert tensors["half"].dtype == torch.bfloat16
    assert read == document | {"format": 1} == read_metadata(tmp_path / "net")


@pytest.mark.parametrize("framework", ["np", "pt"])
def test_a_file_put_in_its_place_meanwhile_does_not_mix_with_the_old_one(framework, tmp_path, monkeypatch):
    """The old document would name the classes of the new weights in another order."""
    for name, number in (("net", 1), ("newer", 2)):
        save_tensors(tmp_path / name, {"w": np.full(3, number)}, {"kind": "cnn", "number": number})

    def opened(path, framework):
        stream = safe_open(path, framework)
        if (tmp_path / "newer").exists():
            (tmp_path / "newer").replace(path)
        return stream

    monkeypatch.setattr("featurepipe.models.persistence.safe_open", opened)
    for expected in (1, 2):
        tensors, document = load_tensors(tmp_path / "net", framework)
        assert (int(tensors["w"][0]), document["number"]) == (expected, expected)


def test_load_model_hands_a_cnn_to_its_module(tmp_path, monkeypatch):
    save_tensors(tmp_path / "net", {"w": np.zeros(3)}, {"kind": "cnn"})
    stand_in = types.SimpleNamespace(load_cnn=lambda path: ("a CNN", path))
    monkeypatch.setitem(sys.modules, "featurepipe.models.cnn", stand_in)
    assert load_model(tmp_path / "net") == ("a CNN", tmp_path / "net")


# Hostile pickles


class Payload:
    """Calls `function(*arguments)` when unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touch(marker):
    return f"{sys.executable} -c \"open(r'{marker}', 'w')\""


PAYLOADS = {
    "os.system": lambda marker: Payload(os.system, touch(marker)),
    "subprocess": lambda marker: Payload(subprocess.call, [sys.executable, "-c", f"open(r'{marker}', 'w')"]),
    "eval": lambda marker: Payload(eval, f"open(r'{marker}', 'w')"),
    "open": lambda marker: Payload(open, str(marker), "w"),
    "getattr": lambda marker: Payload(
        operator.call, Payload(getattr, Payload(__import__, "os"), "system"), touch(marker)
    ),
}
PLACES = {
    "top level": lambda bundle, payload: payload,
    "recipe": lambda bundle, payload: bundle | {"recipe": {"features": [payload]}},
    "key": lambda bundle, payload: bundle | {"training": {"a": ({"b": [payload]},)}},
    "step": lambda bundle, payload: bundle | {"pipeline": Pipeline([("x", Normalizer()), ("svm", payload)])},
    "object array": lambda bundle, payload: np.array([payload], dtype=object),
    "nested object array": lambda bundle, payload: bundle | {"labels": np.array([[payload]], dtype=object)},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_are_refused_without_running(payload, place, bundle, tmp_path):
    marker = tmp_path / "marker"
    joblib.dump(PLACES[place](bundle, PAYLOADS[payload](marker)), tmp_path / "evil")
    with pytest.raises(ModelError, match="nothing in it was run"):
        load_model(tmp_path / "evil")
    assert not marker.exists()
    joblib.load(tmp_path / "evil")  # the payload is real: without the allow-list it fires
    assert marker.exists()


@pytest.mark.parametrize("method", ["zlib", "gzip", "bz2", "xz", "lzma"])
def test_compressed_payloads_are_refused_without_running(method, tmp_path):
    marker = tmp_path / "marker"
    joblib.dump(PAYLOADS["open"](marker), tmp_path / "evil", compress=(method, 3))
    with pytest.raises(ModelError, match=f"{method} compression"):
        load_model(tmp_path / "evil")
    assert not marker.exists()
    joblib.load(tmp_path / "evil")
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol_are_refused(protocol, tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "evil").write_bytes(pickle.dumps(PAYLOADS["open"](marker), protocol))
    with pytest.raises(ModelError):
        load_model(tmp_path / "evil")
    assert not marker.exists()


def text(words):
    return b"\x8c" + _short(words)


def name(module, words):
    return text(module) + text(words) + b"\x93"


def call(function, *arguments):
    """REDUCE of a global with arguments that are opcodes."""
    return function + b"(" + b"".join(arguments) + b"tR"


SVC = name("sklearn.svm._classes", "LinearSVC")
WRAPPER = name("joblib.numpy_pickle", "NumpyArrayWrapper")
DTYPE = name("numpy", "dtype")
F8 = call(DTYPE, text("f8"), b"\x89", b"\x88") + b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


ORDINARY = {
    "subclass": name("numpy", "ndarray"),
    "order": text("C"),
    "dtype": F8,
    "allow_mmap": b"\x88",
    "numpy_array_alignment_bytes": b"K\x10",
}


def array(shape, **changes):
    """A NumpyArrayWrapper as joblib writes it; the numbers are to follow."""
    items = ORDINARY | {"shape": shape} | changes
    return WRAPPER + b")\x81}(" + b"".join(text(key) + value for key, value in items.items()) + b"ub"


OPEN = text("MARKER") + text("w")
BOMB = b"]\x94" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"e\x94" for i in range(40))  # 2**40 items
CRAFTED = {
    "dotted name": call(name("sklearn.pipeline", "Pipeline.__init__.__globals__"), OPEN),
    "dotted path to open": call(name("sklearn.svm._classes", "np.os.system"), text("touch MARKER")),
    "listed module, other name": call(name("numpy", "load"), text("MARKER")),
    "name with a blank": name("numpy", "dtype "),
    "prefix of a listed module": name("sklearn", "Pipeline"),
    "old global opcode": b"cbuiltins\nopen\n(" + OPEN + b"tR",
    "old global opcode, listed name": b"cnumpy\ndtype\n(" + text("f8") + b"tR",
    "inst opcode": b"(" + OPEN + b"ibuiltins\nopen\n",
    "obj opcode": b"(cbuiltins\nopen\n" + OPEN + b"o",
    "newobj_ex": SVC + b")}\x92",
    "persistent id": b"PMARKER\n",
    "binary persistent id": text("MARKER") + b"Q",
    "listed class called": call(SVC, OPEN),
    "listed class built with arguments": SVC + b"(" + OPEN + b"t\x81",
    "dtype called with an object": call(DTYPE, SVC + b")\x81", b"\x89", b"\x88"),
    "dtype of objects": call(DTYPE, text("O8"), b"\x89", b"\x88"),
    "dtype of records": call(DTYPE, text("f8,O"), b"\x89", b"\x88"),
    "dtype hiding objects in its state": array(
        b"K\x01\x85",
        dtype=call(DTYPE, text("f8"), b"\x89", b"\x88") + b"(K\x03" + text("|") + b"N" + text("a") + b"\x85}NNNtb",
    ),
    "text called": text("open") + b"(" + OPEN + b"tR",
    "state set on a name": SVC + b"}" + text("fit") + text("x") + b"sb",
    "state set on a dict": b"}}b",
    "state set twice": SVC + b")\x81}b}b",
    "slots set": SVC + b")\x81N}" + text("__class__") + text("x") + b"s\x86b",
    "old wrapper of joblib": name("joblib.numpy_pickle_compat", "NDArrayWrapper") + b")\x81}b",
    "memory map": array(b"K\x01\x85", subclass=name("numpy", "memmap")) + b"\x00" + bytes(8),
    "matrix": array(b"K\x01\x85", subclass=name("numpy", "matrix")) + b"\x00" + bytes(8),
    "negative shape": array(b"J\xff\xff\xff\xff\x85") + b"\x00" + bytes(8),
    "huge shape": array(b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85") + b"\x00" + bytes(8),
    "shape whose product overflows": array(
        b"\x8a\x05" + b"\x00" * 4 + b"\x01" + b"\x8a\x05" + b"\x00" * 4 + b"\x01\x86"
    ),
    "three axes": array(b"K\x01K\x01K\x01\x87") + b"\x00" + bytes(8),
    "shape of text": array(text("8") + b"\x85") + b"\x00" + bytes(8),
    "unknown order": array(b"K\x01\x85", order=text("A")) + b"\x00" + bytes(8),
    "array without an end": array(b"K\x02\x85"),
    "array without a dtype": array(b"K\x01\x85", dtype=text("f8")) + b"\x00" + bytes(8),
    "text of 4 GB": b"X\xff\xff\xff\xff" + b"a",
    "text of 2**63 bytes": b"\x8d" + b"\xff" * 7 + b"\x7f" + b"a",
    "bytes": b"C\x04spam",
    "frame of 2**62 bytes": b"\x95" + struct.pack("<Q", 1 << 62),
    "integer of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "out-of-band buffer": b"\x97",
    "key that would overflow the stack when hashed": b"})" + b"\x85" * 900_000 + b"Ns",
    "keys that are numbers": b"}(K\x01Nu",
    "dtype that would not end when shown": BOMB + call(DTYPE, b"h\x28", b"\x89", b"\x88"),
    "empty stack": b"R",
    "missing memo": b"h\x07",
    "unknown opcode": b"\xfe",
    "set": b"\x8f",
}


@pytest.mark.parametrize("case", CRAFTED)
@pytest.mark.parametrize("version", [b"\x80\x04", b"\x80\x05"], ids=["protocol 4", "protocol 5"])
def test_crafted_instructions_are_refused(case, version, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil").write_bytes(version + CRAFTED[case].replace(b"MARKER", b"marker") + b".")
    with pytest.raises(ModelError):
        load_model(tmp_path / "evil")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("numpy", "load"),
        ("numpy", "dtype "),
        ("numpy", "dtype.type"),
        ("numpy.core", "dtype"),
        ("sklearn.pipeline", "Pipeline.fit"),
        ("sklearn.svm", "LinearSVC"),
        ("", "numpy.dtype"),
        ("builtins", "dict"),
    ],
)
def test_names_are_compared_whole(module, words, tmp_path):
    (tmp_path / "evil").write_bytes(b"\x80\x04" + name(module, words) + b".")
    with pytest.raises(ModelError, match=re.escape(f"it asks for {module}.{words}, which is not on the list")):
        load_model(tmp_path / "evil")


def test_the_crafted_parts_are_well_formed(tmp_path):
    stream = b"\x80\x04" + array(b"K\x02\x85") + b"\x00" + struct.pack("<2d", 1.5, -2.0) + b"."
    (tmp_path / "array").write_bytes(stream)
    assert joblib.load(tmp_path / "array").tolist() == [1.5, -2.0]  # so the cases above fail for their own reason
    with pytest.raises(ModelError, match="not a model of featurepipe"):
        load_model(tmp_path / "array")


def test_extension_codes_are_refused(tmp_path):
    marker = tmp_path / "marker"
    copyreg.add_extension("builtins", "open", 241)
    try:
        evil = b"\x80\x04" + call(b"\x82\xf1", text(str(marker)), text("w")) + b"."
        (tmp_path / "evil").write_bytes(evil)
        with pytest.raises(ModelError, match="EXT1"):
            load_model(tmp_path / "evil")
        assert not marker.exists()
        pickle.loads(evil)
        assert marker.exists()
    finally:
        copyreg.remove_extension("builtins", "open", 241)


def test_bytes_after_the_end_are_refused(model, tmp_path):
    save_svm(tmp_path / "model", model)
    with open(tmp_path / "model", "ab") as stream:
        stream.write(pickle.dumps(PAYLOADS["open"](tmp_path / "marker")))
    with pytest.raises(ModelError, match="after the end"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("save", [save_svm, save_svm_arrays])
def test_a_file_cut_short_anywhere_is_refused(save, model, tmp_path):
    save(tmp_path / "model", model)
    whole = (tmp_path / "model").read_bytes()
    for length in [*range(0, 40), *range(40, len(whole), 29), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ModelError):
            load_model(tmp_path / "cut")


@pytest.mark.parametrize("save", [save_svm, save_svm_arrays])
def test_a_damaged_file_loads_a_sound_model_or_is_refused(save, model, tmp_path):
    save(tmp_path / "model", model)
    whole = (tmp_path / "model").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for at, value in zip(rng.integers(0, len(whole), 400), rng.integers(0, 256, 400), strict=True):
        damaged = bytearray(whole)
        damaged[at] = value
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            loaded = load_model(tmp_path / "damaged")
        except ModelError:
            refused += 1
        else:
            assert loaded.predict_proba(np.ones((1, 6))).shape == (1, 3)
    assert refused > 50


# Sound pickles that lie


def _spoil_svc(attribute, value):
    def spoil(bundle):
        setattr(bundle["pipeline"][-1], attribute, value)

    return spoil


def _cycle(bundle):
    bundle["recipe"]["again"] = bundle["recipe"]


def _bomb(bundle):
    level = [0] * 10
    for _ in range(9):
        level = [level] * 10
    bundle["training"]["bomb"] = level


LIES = {
    "coef of NaN": _spoil_svc("coef_", np.full((3, 6), np.nan)),
    "coef too few": _spoil_svc("coef_", np.zeros((2, 6))),
    "coef vector": _spoil_svc("coef_", np.zeros(6)),
    "coef without columns": _spoil_svc("coef_", np.zeros((3, 0))),
    "coef of text": _spoil_svc("coef_", np.full((3, 6), "a")),
    "coef a list": _spoil_svc("coef_", [[0.0] * 6] * 3),
    "intercept missing": lambda bundle: delattr(bundle["pipeline"][-1], "intercept_"),
    "classes differ from labels": _spoil_svc("classes_", np.array(["a", "b", "c"])),
    "labels swapped": lambda bundle: bundle["labels"].reverse(),
    "labels of numbers": lambda bundle: bundle.update(labels=[1, 2, 3]),
    "other norm": lambda bundle: setattr(bundle["pipeline"][0], "norm", "l1"),
    "other scaler": lambda bundle: bundle["training"].update(normaliser="standard"),
    "extra step": lambda bundle: bundle["pipeline"].steps.insert(1, ("x", Normalizer())),
    "foreign step": lambda bundle: bundle["pipeline"].steps.insert(1, ("x", PCA())),
    "no steps": lambda bundle: bundle["pipeline"].steps.clear(),
    "pipeline missing": lambda bundle: bundle.update(pipeline=None),
    "temperature 0": lambda bundle: bundle.update(temperature=0.0),
    "temperature NaN": lambda bundle: bundle.update(temperature=float("nan")),
    "temperature text": lambda bundle: bundle.update(temperature="1"),
    "key missing": lambda bundle: bundle.pop("recipe"),
    "key too many": lambda bundle: bundle.update(extra=1),
    "other kind": lambda bundle: bundle.update(kind="cnn"),
    "kind an array": lambda bundle: bundle.update(kind=np.array(["svm", "svm"])),
    "format text": lambda bundle: bundle.update(featurepipe="1"),
    "format true": lambda bundle: bundle.update(featurepipe=True),
    "recipe a list": lambda bundle: bundle.update(recipe=[]),
    "features a number": lambda bundle: bundle["recipe"].update(features=3),
    "faces a list": lambda bundle: bundle["recipe"].update(faces=["hog"]),
    "recipe contains itself": _cycle,
    "recipe with a node": lambda bundle: bundle["recipe"].update(x=Normalizer()),
    "recipe with a tuple": lambda bundle: bundle["recipe"].update(x=(1,)),
    "recipe with NaN": lambda bundle: bundle["recipe"].update(x=float("nan")),
    "training of a billion": _bomb,
    "C text": lambda bundle: bundle["training"].update(C="1"),
    "C missing": lambda bundle: bundle["training"].pop("C"),
    "unknown weights": lambda bundle: bundle["training"].update(class_weight={"a": 1}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_pickle_with_a_wrong_structure_is_refused(lie, bundle, tmp_path):
    LIES[lie](bundle)
    joblib.dump(bundle, tmp_path / "lie")
    with pytest.raises(ModelError):
        load_model(tmp_path / "lie")


def test_a_model_of_a_newer_format_asks_for_an_upgrade(bundle, tmp_path):
    joblib.dump(bundle | {"featurepipe": 2}, tmp_path / "new")
    with pytest.raises(ModelError, match=r"model format 2 .* reads up to 1: upgrade"):
        load_model(tmp_path / "new")


# Safetensors that lie, and other files


def document_of(model):
    return {
        "format": 1,
        "kind": "svm",
        **json.loads(json.dumps({"labels": model.labels, "recipe": RECIPE, "training": model.training})),
        "temperature": model.temperature_,
    }


@pytest.mark.parametrize(
    ("arrays", "changes", "message"),
    [
        ({}, {"kind": "tree"}, "unknown kind 'tree'"),
        ({}, {"kind": None}, "what kind"),
        ({}, {"format": 7}, "upgrade"),
        ({}, {"format": None}, "format version"),
        ({"coef": np.zeros((3, 6), np.float32)}, {}, "float64"),
        ({"coef": np.zeros((3, 6, 1))}, {}, "shape"),
        ({"intercept": np.zeros(2)}, {}, "shape"),
        ({"intercept": np.array([0, np.inf, 0])}, {}, "finite"),
        ({"extra": np.zeros(2)}, {}, "extra"),
        ({}, {"temperature": -1.0}, "temperature"),
        ({}, {"labels": ["a", "a", "b"]}, "twice"),
        ({}, {"labels": ["a", "b", "c" * MAX_LABELS]}, "too long"),
        ({}, {"recipe": {"features": 3}}, "no table"),
        ({"mean": np.zeros(6), "scale": np.zeros(6)}, {"normaliser": "standard"}, "positive"),
    ],
)
def test_an_arrays_file_with_a_wrong_structure_is_refused(arrays, changes, message, model, tmp_path):
    document = document_of(model)
    if "normaliser" in changes:
        document["training"].update(changes)
    else:
        document.update(changes)
    save_file(model.arrays() | arrays, tmp_path / "lie", {"featurepipe": json.dumps(document)})
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "lie")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_that_numpy_does_not_know_are_refused(dtype, model, tmp_path):
    tensors = {name: torch.from_numpy(array) for name, array in model.arrays().items()}
    save_tensors(tmp_path / "lie", tensors | {"coef": tensors["coef"].to(dtype)}, document_of(model))
    with pytest.raises(ModelError, match="fit or fetch the model again"):
        load_model(tmp_path / "lie")


def test_a_header_that_would_not_be_read_back_is_not_written(tmp_path):
    """Fifteen folds of 446 epochs, and what none of our commands writes."""
    row = {"epoch": 100, "lr": 0.012345678901234, "loss": 1.2345678901234, "train_accuracy": 0.1234567890123}
    document = {"kind": "soft-labels", "history": [row | {"val_accuracy": 0.1234567890123, "seconds": 12.34}] * 6690}
    save_tensors(tmp_path / "m", {"w": np.zeros(3)}, document)
    assert load_tensors(tmp_path / "m")[1]["history"] == document["history"]
    before = (tmp_path / "m").read_bytes()
    with pytest.raises(ModelError, match=r"not written.* fewer epochs, or in fewer folds"):
        save_tensors(tmp_path / "m", {"w": np.zeros(3)}, {"kind": "cnn", "text": "x" * MAX_HEADER})
    assert (tmp_path / "m").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    "metadata",
    [None, {"other": "{}"}, {"featurepipe": "{"}, {"featurepipe": "[]"}, {"featurepipe": "[" * 100_000}],
    ids=["none", "foreign", "cut", "list", "deep"],
)
def test_safetensors_of_others_are_refused(metadata, tmp_path):
    save_file({"w": np.zeros(3)}, tmp_path / "other", metadata)
    with pytest.raises(ModelError):
        load_model(tmp_path / "other")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n", b"{}", b"PK\x03\x04", b"\xff" * 8 + b"{"])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ModelError, match="not a model file"):
        load_model(tmp_path / "file")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError, match="there is no model file"):
            load_model(path)


def test_a_file_beyond_the_size_limit_is_not_read(tmp_path):
    with open(tmp_path / "large", "wb") as stream:
        stream.write(b"\x80\x04")
        stream.truncate(1 << 40)  # sparse: takes no disk
    with pytest.raises(ModelError, match="larger than 64 MiB"):
        load_model(tmp_path / "large")


def test_small_objects_in_great_number_are_refused_before_they_fill_the_memory(tmp_path):
    """Each pair of bytes leaves an empty dict and its place in the memo: eighty times their length."""
    (tmp_path / "evil").write_bytes(b"\x80\x04" + b"}\x94" * (1 << 20) + b".")
    tracemalloc.start()
    with pytest.raises(ModelError, match="more than 1,000,000 pickle instructions"):
        load_model(tmp_path / "evil")
    assert tracemalloc.get_traced_memory()[1] < 128 << 20
    tracemalloc.stop()


def test_every_file_has_its_own_count_of_instructions(model, tmp_path, monkeypatch):
    monkeypatch.setattr(_Instructions, "left", 2000)
    save_svm(tmp_path / "model", model)
    for _ in range(20):
        load_model(tmp_path / "model")


def test_an_honest_summary_is_far_from_the_limit(model):
    assert len(str(model.training)) < MAX_ITEMS / 10
