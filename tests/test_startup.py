"""What commands load: nothing that they do not use."""

import subprocess
import sys

import numpy as np
import pytest

from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.svm import LinearSVMCV

HEAVY = ("sklearn", "scipy", "pandas", "matplotlib", "torchvision", "facenet_pytorch", "cv2", "joblib")


def loaded_by(*words, names=HEAVY):
    """Which of these a command has loaded when it ends; it must end well."""
    program = (
        "import sys\n"
        "from featurepipe.cli import main\n"
        f"code = main({[str(word) for word in words]!r})\n"
        f"print([name for name in {names!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["classify", "extract"])
def test_photos_are_read_and_classified_without_what_fitting_needs(command, rendered, tmp_path):
    photo = rendered / "subject-000" / "anger-0.jpg"
    into = ("--out", tmp_path / "out") if command == "classify" else ("--table", tmp_path / "table")
    assert loaded_by(command, photo, *into) == "[]"


def test_vectors_are_fitted_on_and_exported_without_torch(rendered, tmp_path):
    table = tmp_path / "table"
    loaded_by("extract", rendered / "samples.csv", "--table", table, "--backbone", "hog", "--workers", 0)
    assert loaded_by("export", table, "--to", "npz", "--out", tmp_path / "f.npz", names=("torch", "sklearn")) == "[]"
    words = ("fit_svm", table, "--model", tmp_path / "svm.pkl", "--C", 1, "--folds", 2)
    assert loaded_by(*words, names=("torch",)) == "[]"
    assert loaded_by("render", tmp_path / "r", "--subjects", 1, names=("torch", "sklearn")) == "[]"


def test_models_are_opened_asked_and_shown_without_scikit_learn(tmp_path):
    rng = np.random.default_rng(0)
    labels, X = ["anger", "fear"] * 4, rng.random((8, 5))
    LinearSVMCV().fit_fixed(X, labels, 1.0).save(tmp_path / "svm")
    crops = rng.integers(0, 255, (8, 100, 100), np.uint8)
    CNNClassifier("seed_cnn", {"epochs": 1, "batch_size": 4}, device="cpu").fit(crops, labels).save(tmp_path / "cnn")
    program = (
        "import sys, numpy\n"
        "from featurepipe import load_model\n"
        "svm, cnn = map(load_model, sys.argv[1:])\n"
        "svm.predict_proba(numpy.zeros((1, 5))), cnn.predict_proba(numpy.zeros((1, 100, 100), 'u1'))\n"
        "print(svm, cnn, 'sklearn' in sys.modules)"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "svm"), str(tmp_path / "cnn")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("CNNClassifier('seed_cnn', fitted on 8 faces) False\n")
