"""The report page: all in one file, every text escaped, and drawn by a browser as it stands."""

import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from featurepipe.report.metrics import evaluate, mcnemar
from featurepipe.report.page import Mistake, write_page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = "<script>document.title='broken'</script>"


def png(side=4):
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (200, 30, 30)).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def page(tmp_path):
    classes, truth = ["anger", "fear"], ["anger"] * 3 + ["fear"]
    guesses = {"svm": ["anger", "anger", "fear", "fear"], "seed_cnn": ["anger", None, "fear", "anger"]}
    methods = {}
    for name, predicted in guesses.items():
        probabilities = np.array([[0.9, 0.1] if label == "anger" else [0.2, 0.8] for label in predicted])
        figures = evaluate(truth, predicted, probabilities, classes, resamples=20)
        run = {"accuracy": 0.5, "epochs": 3, "seed": 0, "fold": 0}
        methods[name] = figures | {
            "fit_seconds": 1.25,
            "predict_seconds": 0.01,
            "rank": None if name == "svm" else 1,
            "held_against": "p",
            "undertrained": {"system": EVIL, "figure": 0.9, "under": "test"} if name == "svm" else None,
            "new": None,
            "cost": {"parameters": 1234567, "multiply_adds": 8} if name == "svm" else None,
            "runs": [run],
            "spread": {key: {"mean": 0.625, "sd": None} for key in ("accuracy", "uar", "macro_f1")},
        }
    known = np.array(truth, object)
    test = mcnemar(known, *(np.array(guess, object) for guess in guesses.values())) | {"p_corrected": 0.5}
    tests = {"svm / seed_cnn": test}
    document = {"photos": 4, "unit": "photos", "methods": methods, "mcnemar": tests, "failed": {"ednn": EVIL}}
    small = {"svm": {"spread": methods["svm"]["spread"], "mse_half_sum": 0.5}}
    known = {"system": "A & B", "year": 2019, "figure": 0.6577, "confidence": "V", "database": "d", "under": "test"}
    document |= {
        "sizes": [{"name": "", "fitted_on": 10, "tested_on": 4, "methods": small}],
        "seeds": [0, 1],
        "mcnemar_of": {"photos": 4, "groups": 2, "what": "subjects"},
        "published": [known | {"method": "svm", "protocol": "p"}],
    }
    mistakes = {
        "svm": [Mistake(f"photos/{EVIL}.jpg", "anger", "fear", 0.8, png()), Mistake("b", "fear", "anger", 1, None)]
    }
    facts = {"protocol": "2 folds by subject", "command": f"compare {EVIL}"}
    write_page(tmp_path / "report.html", document, facts, {"accuracy": png(), "confusion-svm": png()}, mistakes, [EVIL])
    return tmp_path / "report.html"


def test_nothing_is_fetched_from_anywhere(page):
    text = page.read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in text
    assert "@import" not in text


def test_texts_of_others_are_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 5


def test_figures_stand_in_per_cent(page):
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    assert "<td>svm</td><td>–</td><td>75.00</td>" in text
    assert "<td>seed_cnn</td><td>1</td><td>25.00</td>" in text
    assert "<td>1,234,567</td><td>8</td>" in text
    assert "<td>A &amp; B</td><td>2019</td><td>65.77</td> <td>62.50</td><td>V</td>" in text
    assert "fear 80.00 % (true: anger)" in text


def test_the_calibration_error_is_that_of_photos_with_a_face(page):
    """One of seed_cnn's four has none; it answers the others with 0.9, 0.8 and 0.9, and only the first rightly."""
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    row = text[text.index("<td>seed_cnn</td>") :].partition("</tr>")[0]
    assert "<td>53.33</td><td>75.00</td>" in row  # the error, and the coverage
    assert "The calibration error alone is over those with a face" in text


def test_figures_of_found_faces_stand_beside_those_of_all(page):
    """Of seed_cnn's three found faces one is right; the svm found all."""
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    found = text[text.index("<h2>Found faces</h2>") :].partition("</table>")[0]
    assert "<td>seed_cnn</td><td>3</td><td>33.33</td>" in found
    assert "<td>svm</td><td>4</td><td>75.00</td>" in found


def test_it_says_what_f1_averages_and_what_seconds_leave_out(page):
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    assert "Macro-F1 is the mean over the classes that these photos have" in text
    assert "Seconds of an SVM begin with stored vectors, those of a CNN with crops" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_chromium_draws_it(page, tmp_path):
    """The document object model after loading: title as written, both tables there, pictures decoded."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [CHROMIUM, *options, "--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "<title>featurepipe: comparison</title>" in done.stdout
    assert done.stdout.count("<table>") == 7
    shot = tmp_path / "shot.png"
    command = [CHROMIUM, *options, "--window-size=900,5000", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3)
    assert (np.abs(pixels.astype(int) - (200, 30, 30)).max(1) < 12).sum() > 1000  # the mistake's face, enlarged
