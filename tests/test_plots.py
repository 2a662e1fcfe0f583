"""Plots: what is drawn where."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from featurepipe.errors import MissingPackageError
from featurepipe.report.metrics import evaluate
from featurepipe.report.plots import plot_comparison, plot_confusion


def results(n=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = ["anger", "fear", "joy"]
    truth = [labels[i] for i in rng.integers(0, 3, n)]
    predicted = [label if rng.random() < 0.7 else rng.choice([*labels, None]) for label in truth]
    return evaluate(truth, predicted, None, labels, resamples=50)


def test_plots_are_png_files_and_leave_no_state(tmp_path):
    confusion = results()["confusion"]
    plot_confusion(tmp_path / "confusion.png", confusion["counts"], confusion["labels"], "SVM")
    parts = {"svm": results()["all"], "seed_cnn": results(seed=1)["all"]}
    plot_comparison(tmp_path / "bars.png", parts, "Unseen subjects")
    for name in ("confusion.png", "bars.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.png", "confusion.png"]


def test_labels_are_no_formulas(tmp_path):
    plot_confusion(tmp_path / "plot.png", np.eye(2, 3, dtype=int), ["a", r"cost$\foo$"], "t")
    assert (tmp_path / "plot.png").stat().st_size > 0


def test_plots_show_what_they_are_given(tmp_path):
    def pixels(counts):
        plot_confusion(tmp_path / "plot.png", np.array(counts), ["a", "b"], "t")
        return np.asarray(Image.open(io.BytesIO((tmp_path / "plot.png").read_bytes())).convert("RGB"))

    good, bad = pixels([[9, 0, 0], [0, 9, 0]]), pixels([[0, 9, 0], [9, 0, 0]])
    dark = (good.sum(axis=-1) < 330) & (good[..., 2] > good[..., 0] + 50)
    swapped = (bad.sum(axis=-1) < 330) & (bad[..., 2] > bad[..., 0] + 50)
    half = good.shape[1] * 2 // 5
    assert dark[: good.shape[0] // 3, :half].sum() > 5 * max(1, swapped[: good.shape[0] // 3, :half].sum())
    assert pixels([[9, 0, 3], [0, 9, 0]]).shape[1] > good.shape[1]  # a column more: no face


def test_figures_that_do_not_exist_have_no_bar(tmp_path):
    empty = evaluate(["a"], [None], None, ["a", "b"], resamples=5)
    plot_comparison(tmp_path / "bars.png", {"svm": empty["found"], "cnn": empty["all"]}, "t")
    assert (tmp_path / "bars.png").stat().st_size > 1000


def test_plots_without_matplotlib_name_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match="pip install matplotlib"):
        plot_comparison(tmp_path / "bars.png", {}, "t")
    assert not (tmp_path / "bars.png").exists()
