"""What several test files share."""

import json
from pathlib import Path

import pytest
from command_helpers import untrained_weights

from featurepipe.cli import main
from featurepipe.datasets.synthetic import write_faces

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A folder of rendered faces, 8 subjects x 8 emotions, with samples.csv; not to be changed."""
    folder = tmp_path_factory.mktemp("rendered")
    write_faces(folder, subjects=8, per_emotion=1, size=(200, 200), seed=0)
    return folder


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory):
    return untrained_weights(tmp_path_factory.mktemp("weights") / "fer.safetensors")


@pytest.fixture
def compare(small_weights, tmp_path, capsys, monkeypatch):
    """Run compare as a user does; exit code, what it printed on stdout as JSON (None where it failed), and stderr.

    Two things are left out where a test is not about them, being slow: to look for faces (whole photos are taken for
    faces instead), and to draw.
    """

    def run(*words, out="out", methods=("svm",), detector="none", drawn=False):
        capsys.readouterr()
        if not drawn:
            monkeypatch.setattr("featurepipe.commands.compare.write_report", lambda *arguments: None)
        common = ("compare", "--out", tmp_path / out, "--workers", 0, "--json")
        common += ("--weights", small_weights) if {"svm", "svm:fer-vgg"} & set(methods) else ()
        common += ("--detector", detector) if detector else ()
        code = main([str(word) for word in (*common, *words, "--methods", *methods)])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return run
