"""Plots: everything in them is there whole, apart from the rest, and told apart, of two methods as of all."""

import io
import itertools
import sys
import warnings

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image
from skimage.color import rgb2lab

from featurepipe.errors import MissingPackageError
from featurepipe.names import METHODS
from featurepipe.report.metrics import evaluate
from featurepipe.report.plots import COLOURS, plot_comparison, plot_confusion, plot_sizes, plot_training

LONG = ("mollahosseini_inception", "svm:facenet-vggface2", "svm:vgg16-imagenet", "svm:dlib-resnet")
TITLE = "384 photos, one of 5 parts of the people and of what is known of them held out, fitted on this and on that"
COMPARED = [LONG[:2], LONG, METHODS]
PAGE = 1170
"""Pixels that the page is wide."""

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""What is seen of linear RGB (Machado et al. 2009, severity 1)."""


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws a plot; gives matplotlib's figure in pixels of the PNG file, and these pixels."""
    figures, save = [], Figure.savefig

    def kept(figure, *given, **options):
        figures.append(figure)
        save(figure, *given, **options)
        figure.set_dpi(options["dpi"])  # which savefig sets back: texts are measured as they are in the file

    monkeypatch.setattr(Figure, "savefig", kept)

    def draw(plot, *given):
        plot(tmp_path / "plot.png", *given)
        return figures[-1], np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))

    return draw


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
            assert min(picture.size) > 200
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


def compared(methods, accuracy=0.9):
    """One part of each method; of several they are nearly equal."""
    part = results()["all"]
    interval = [accuracy - 0.02, min(1.0, accuracy + 0.02)]
    figures = dict.fromkeys(("accuracy", "uar", "macro_f1"), accuracy)
    return {name: part | figures | {"intervals": dict.fromkeys(figures, interval)} for name in methods}


def sizes_of(methods, photos):
    def spread(at):
        return {"spread": {"accuracy": {"mean": 0.9 - 0.03 * at, "sd": 0.01}}}

    return [{"fitted_on": n, "methods": {name: spread(at) for at, name in enumerate(methods)}} for n in photos]


def is_whole(pixels):
    """Whether nothing reaches the border, where it would be cut off."""
    return all((edge == 255).all() for edge in (pixels[:5], pixels[-5:], pixels[:, :5], pixels[:, -5:]))


def boxes(texts):
    """(n, 4) pixels: left, bottom, right, top of texts that are not empty."""
    return np.array([text.get_window_extent().extents for text in texts if text.get_text()])


def overlapping(one, other):
    return (np.minimum(one[2:], other[2:]) > np.maximum(one[:2], other[:2])).all()


def apart(texts):
    return not any(overlapping(one, other) for one, other in itertools.combinations(boxes(texts), 2))


def seen_apart(colours, blindness):
    """The least distance in CIELAB of any two colours to somebody who sees `blindness` (3, 3) of linear RGB."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    seen = np.clip(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.array(blindness).T, 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    return min(np.linalg.norm(one - other) for one, other in itertools.combinations(lab, 2))


def contrast(colour):
    """With white, as WCAG 2 defines it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ (0.2126, 0.7152, 0.0722) + 0.05)


@pytest.mark.parametrize("methods", COMPARED, ids=len)
def test_a_comparison_is_whole_and_its_texts_stand_apart(methods, drawn):
    figure, pixels = drawn(plot_comparison, compared(methods, 0.99), TITLE)
    assert is_whole(pixels)
    assert pixels.shape[1] == PAGE
    texts = [text for axes in figure.axes for text in (*axes.texts, *axes.get_xticklabels(), axes.title)]
    assert apart([*texts, *figure.axes[0].get_yticklabels(), *figure.texts])
    told = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert told == ["0.990"] * 3 * len(methods)


def test_of_a_comparison_the_first_is_on_top_and_bars_begin_at_zero(drawn):
    figure, few = drawn(plot_comparison, compared(LONG), "t")
    first = figure.axes[0]
    assert [text.get_text() for text in first.get_yticklabels()] == list(LONG)
    heights = boxes(first.get_yticklabels())[:, 1]
    assert (np.diff(heights) < 0).all()
    assert [axes.get_xlim()[0] for axes in figure.axes] == [0, 0, 0]
    _, many = drawn(plot_comparison, compared(METHODS), "t")
    assert many.shape[0] > 3 * few.shape[0]


@pytest.mark.parametrize("methods", COMPARED, ids=len)
def test_learning_curves_are_whole_and_the_legend_covers_no_line(methods, drawn):
    figure, pixels = drawn(plot_sizes, sizes_of(methods, (250, 1000)), methods, TITLE)
    assert is_whole(pixels)
    assert pixels.shape[1] == PAGE
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(methods)
    assert not overlapping(figure.axes[0].get_window_extent().extents, legend.get_window_extent().extents)


def looks(figure):
    """How each method's line looks."""
    lines = [(line[0], method) for line, method in zip(*figure.axes[0].get_legend_handles_labels(), strict=True)]
    return {
        method: (to_hex(line.get_color()).upper(), line.get_marker(), line.get_linestyle()) for line, method in lines
    }


def test_every_method_has_a_line_of_its_own_that_is_seen_on_white(drawn):
    figure, _ = drawn(plot_sizes, sizes_of(METHODS, (250, 1000)), METHODS, "t")
    lines = looks(figure)
    assert len(set(lines.values())) == len(METHODS)
    assert min(contrast(colour) for colour, *_ in lines.values()) >= 3


@pytest.mark.parametrize("kind", [None, *BLINDNESS])
def test_colours_are_as_far_apart_as_those_of_okabe_and_ito(kind):
    seen = BLINDNESS[kind] if kind else np.eye(3)
    assert seen_apart(COLOURS, seen) >= seen_apart(OKABE_ITO, seen)


def test_lines_look_by_the_order_of_the_methods_wherever_sizes_name_them(drawn):
    sizes = sizes_of(("svm", "ednn", "seed_cnn"), (250, 1000))
    del sizes[0]["methods"]["svm"]
    figure, _ = drawn(plot_sizes, sizes, ("seed_cnn", "svm"), "t")
    assert [(method, colour) for method, (colour, *_) in looks(figure).items()] == [
        ("seed_cnn", COLOURS[0]),
        ("svm", COLOURS[1]),
        ("ednn", COLOURS[2]),
    ]


@pytest.mark.parametrize(
    ("photos", "told"),
    [
        ((250, 500, 950, 1000), ["250", "500", "", "1000"]),
        ((25, 960, 980, 1000, 28709), ["25", "", "", "1000", "28709"]),
        ((80, 155, 275, 307), ["80", "155", "275", "307"]),
        ((10000, 11300, 12700, 28709), ["10000", "", "12700", "28709"]),
        ((950, 1000), ["950", "1000"]),
        ((1000,), ["1000"]),
    ],
)
def test_numbers_of_near_sizes_do_not_run_into_one_another(photos, told, drawn):
    figure, _ = drawn(plot_sizes, sizes_of(LONG, photos), LONG, "t")
    labels = figure.axes[0].get_xticklabels()
    assert list(figure.axes[0].get_xticks()) == list(photos)
    assert [label.get_text() for label in labels] == told
    assert apart(labels)


@pytest.mark.parametrize("labels", [("a", "b"), ("x" * 60, "y" * 60)])
def test_a_confusion_matrix_is_whole_with_long_names_and_titles(labels, drawn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where nothing is left for the matrix
        figure, pixels = drawn(plot_confusion, np.eye(2, 3, dtype=int), labels, f"{LONG[0]}: {TITLE}")
    assert is_whole(pixels)
    assert figure.get_suptitle().split() == f"{LONG[0]}: {TITLE}".split()


def test_a_plot_of_the_training_bears_its_title_whole(drawn):
    history = [{"epoch": epoch, "loss": 1.0, "train_accuracy": 0.5} for epoch in (1, 2)]
    assert is_whole(drawn(plot_training, [history], f"{LONG[0]}: {TITLE}, {TITLE}")[1])


def test_labels_that_the_font_lacks_are_escapes(drawn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of every glyph it lacks
        figure, _ = drawn(plot_confusion, np.eye(2, 3, dtype=int), ["怒り", "радость"], "怒")
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [r"\u6012\u308a", "радость"]
    assert names == [text.get_text() for text in figure.axes[0].get_xticklabels()]
