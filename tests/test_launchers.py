"""The launchers in bin/: what they do when a command fails or is stopped."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(__file__).resolve().parents[1] / "bin"


@pytest.fixture
def launch():
    spec = importlib.util.spec_from_file_location("_launch", BIN / "_launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_step_that_fails_ends_the_launcher_with_its_code(launch, capsys):
    launch.show([sys.executable, "-c", "pass"])
    with pytest.raises(SystemExit) as left:
        launch.show([sys.executable, "-c", "raise SystemExit(2)"])
    assert left.value.code == 2
    assert "$ " in capsys.readouterr().out


def test_ctrl_c_ends_it_with_130_and_no_traceback(launch, monkeypatch):
    def stopped(*command, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "call", stopped)
    with pytest.raises(SystemExit) as left:
        launch.show([sys.executable, "-c", "pass"])
    assert left.value.code == 128 + signal.SIGINT


def test_an_environment_that_somebody_made_is_used(launch, monkeypatch, tmp_path):
    """By pip, without the launchers' mark: in this Python featurepipe is installed, in a bare one it is not."""
    monkeypatch.setattr(launch, "MARK", tmp_path / "mark")
    place = launch.PYTHON.relative_to(launch.VENV)
    for python, installed in ((Path(sys.executable), True), (tmp_path / "python", False)):
        monkeypatch.setattr(launch, "PYTHON", python)
        assert launch._installed() == installed
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    monkeypatch.setattr(launch, "PYTHON", bare / place)
    assert not launch._installed()


def test_quickstart_tells_what_it_does_before_it_installs():
    for word, code in (("--help", 0), ("photos/", 2)):
        done = subprocess.run([sys.executable, BIN / "quickstart", word], capture_output=True, text=True, timeout=60)
        assert done.returncode == code
        assert "takes no arguments" in (done.stderr if code else done.stdout)


@pytest.mark.parametrize(
    "name", ["extract", "fit_svm", "classify", "fit_cnn", "compare", "weights", "datasets", "bench"]
)
def test_every_launcher_runs_its_command(name):
    done = subprocess.run([sys.executable, BIN / name, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: featurepipe {name}")
