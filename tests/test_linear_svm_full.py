"""LinearSVM at FER2013's size: the duality gap at each C, worked out apart from the solver. Some minutes on two cores.

`python -m pytest -m slow -s tests/test_linear_svm_full.py` prints the table of processor seconds, products and gaps.
"""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from sklearn.svm import LinearSVC

from featurepipe.bench.linear_svm import FER2013, fc7_like
from featurepipe.cli import main
from featurepipe.features.table import FeatureTable
from featurepipe.models.linear_svm import LinearSVM, one_vs_rest, path
from featurepipe.models.svm import NORMALISERS

pytestmark = pytest.mark.slow
CS = tuple(10.0**power for power in range(-6, 1))
CHUNK = 2048


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """fc7 of FER2013; None where FER2013 is not here."""
    source = ROOT.parent / "shared" / "data" / "fer2013.npz"
    if not source.is_file():
        return None
    folder = tmp_path_factory.mktemp("fer2013") / "table"
    assert main(["extract", str(source), "--views", "1", "--table", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def vectors(table):
    """fc7 of FER2013's Training and labels; where FER2013 is not here, rows with the spectrum of those."""
    if table is None:
        return fc7_like(*FER2013)
    features = FeatureTable.open(table).matrix()
    train = features.split == "train"
    return features.X[train], features.label[train].astype(str)


def gaps(X, sign, C, coef, intercept):
    """(P - D) / P of each class in float64, from the definitions; the intercept is the weight of a column of ones."""
    W = np.concatenate([coef.T, intercept[None]])
    primal, dual, pulled = (W**2).sum(axis=0) / 2, np.zeros(W.shape[1]), np.zeros_like(W)
    for at in range(0, len(X), CHUNK):
        rows = np.insert(X[at : at + CHUNK].astype(np.float64), X.shape[1], 1, axis=1)
        mine = sign[at : at + CHUNK]
        slack = np.maximum(1 - mine * (rows @ W), 0)
        alpha = 2 * C * slack
        primal += C * (slack**2).sum(axis=0)
        dual += alpha.sum(axis=0) - (alpha**2).sum(axis=0) / (4 * C)
        pulled += rows.T @ (alpha * mine)
    return (primal - dual + (pulled**2).sum(axis=0) / 2) / primal


@pytest.mark.parametrize("normaliser", ["standard", "l2"])
def test_the_duality_gap_is_below_a_millionth_at_each_cost(vectors, normaliser):
    X, codes = NORMALISERS[normaliser]().fit_transform(vectors[0]), np.unique(vectors[1], return_inverse=True)[1]
    assert X.shape == FER2013
    columns, found = one_vs_rest(codes, np.ones(len(X)), np.ones(7)), {}
    print("\n| normaliser | C | CPU s | Newton steps | Hessian products | relative duality gap |")
    for C in CS:
        start = time.process_time()
        solution = next(path(X, columns, [C], tol=1e-6))
        seconds = time.process_time() - start
        found[C] = gaps(X, columns.sign, C, solution.coef, solution.intercept).max()
        counts = f"{solution.steps} | {solution.products}"
        print(f"| {normaliser} | {C:g} | {seconds:.1f} | {counts} | {found[C]:.1e} |", flush=True)
    assert max(found.values()) <= 1e-6, found


def test_the_optimum_at_the_chosen_cost_is_liblinears(table, vectors, tmp_path, capsys):
    """At the C that `fit_svm` chooses on PublicTest; liblinear's trust region method on the primal, to a tight end."""
    if table is None:
        pytest.skip("FER2013 is not here")
    assert main(["fit_svm", str(table), "--model", str(tmp_path / "svm.pkl"), "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)
    X, y, C = NORMALISERS[chosen["normaliser"]]().fit_transform(vectors[0]), vectors[1], chosen["C"]
    ours = LinearSVM(C=C).fit(X, y)
    theirs = LinearSVC(C=C, dual=False, tol=1e-5, max_iter=10_000).fit(X, y)
    sign = np.where(y[:, None] == theirs.classes_, 1, -1)
    slack = np.maximum(1 - sign * theirs.decision_function(X), 0)
    objective = (np.square(theirs.coef_).sum(axis=1) + np.square(theirs.intercept_)) / 2 + C * (slack**2).sum(axis=0)
    print(f"\nC {C:g}: liblinear's objectives over ours less 1: {objective / ours.objective_ - 1}")
    assert ours.objective_ == pytest.approx(objective, rel=2e-6)  # both are a millionth above the least, at most


_PEAK = """
import pathlib, re, sys
import numpy as np
from featurepipe.models.linear_svm import LinearSVM

peak = lambda: 1024 * int(re.search("VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
LinearSVM().fit(np.eye(20, dtype=np.float32), np.arange(20) % 2)
before = peak()
X, y = np.load(sys.argv[1]), np.load(sys.argv[2])
LinearSVM(C=float(sys.argv[3])).fit(X, y)
print((peak() - before) / X.nbytes)
"""


@pytest.mark.parametrize("C", [1e-4, 1.0])
def test_a_fit_takes_no_more_than_two_copies_of_the_rows(tmp_path, C):
    """The peak of a process that loads float32 rows and fits them, the rows among it."""
    X, y = fc7_like(*FER2013)
    files = [str(tmp_path / name) for name in ("X.npy", "y.npy")]
    np.save(files[0], NORMALISERS["standard"](copy=False).fit_transform(X))
    np.save(files[1], y)
    del X
    command = [sys.executable, "-c", _PEAK, *files, str(C)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"\nC {C:g}: peak of {float(done.stdout):.2f} copies of the rows")
    assert float(done.stdout) <= 2
