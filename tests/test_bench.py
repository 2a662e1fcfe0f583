"""bench: the form of its rows, and what can be asked of it. Times are printed, never judged here."""

import json
import subprocess
import sys

import numpy as np
import pytest

from featurepipe.bench import rows as bench_rows
from featurepipe.bench.rows import medians, row, version_of
from featurepipe.cli import main
from featurepipe.commands import bench
from featurepipe.errors import MissingPackageError

KEYS = {"what", "ours", "reference", "ratio", "floor", "unit", "machine"}


def test_the_ratio_says_how_many_times_less_ours_takes():
    made = row("x", 0.5, 1.51234, "theirs 1.0", "s/photo", 0.25)
    assert set(made) == KEYS
    assert made["reference"] == {"name": "theirs 1.0", "value": 1.512}
    assert (made["ours"], made["ratio"], made["floor"]) == (0.5, 3.025, 0.25)


def test_measures_are_taken_in_turn_and_the_middle_one_counts():
    asked = []
    times = {"a": iter([5.0, 1.0, 2.0]), "b": iter([10.0, 40.0, 20.0])}

    def measure(name):
        asked.append(name)
        return next(times[name])

    assert medians(3, lambda: measure("a"), lambda: measure("b")) == [2.0, 20.0]
    assert asked == ["a", "b"] * 3


def test_a_package_is_named_with_its_version_under_whichever_name_it_is_installed():
    import numpy

    assert version_of("no-such-package|numpy") == f"numpy {numpy.__version__}"
    with pytest.raises(MissingPackageError, match="no-such-package is not installed"):
        version_of("no-such-package")


def test_json_is_a_list_of_rows_in_the_order_asked_for(capsys):
    assert main(["bench", "--quick", "--json", "--only", "rerun", "--only", "cache-read"]) == 0
    again, read = json.loads(capsys.readouterr().out)
    for made, what in ((again, "rerun"), (read, "cache-read")):
        assert set(made) == KEYS
        assert made["what"] == what
        assert min(made["ours"], made["reference"]["value"], made["ratio"]) > 0
        assert "cores" in made["machine"]
    assert read["reference"]["name"].startswith("numpy ")
    assert again["ours"] > again["floor"] > 0


def test_a_row_that_fails_costs_no_other(monkeypatch, capsys):
    def measured(name, settings):
        if name == "hog-cpu":
            raise RuntimeError("LinearSVM did not reach the objective")
        return row("rerun", 0.5, 2.0, "first run", "s/photo", 0.1)

    monkeypatch.setattr(bench, "_measured", measured)
    assert main(["bench", "--only", "rerun", "--only", "hog-cpu", "--json"]) == 0
    said = capsys.readouterr()
    assert [made["what"] for made in json.loads(said.out)] == ["rerun"]
    assert "hog-cpu is left out: LinearSVM did not reach the objective" in said.err
    assert "rerun  0.5  2" in said.err  # when it was measured


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt()])
def test_what_was_measured_before_a_failure_is_printed(error, monkeypatch, capsys):
    def measured(name, settings):
        if name == "cache-read":
            raise error
        return row("rerun", 0.5, 2.0, "first run", "s/photo", 0.1)

    monkeypatch.setattr(bench, "_measured", measured)
    code = main(["bench", "--only", "rerun", "--only", "cache-read", "--json"])
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 0)
    assert [made["what"] for made in json.loads(capsys.readouterr().out)] == ["rerun"]


def test_rows_of_a_gpu_are_not_measured_on_the_processor(capsys):
    assert main(["bench", "--only", "mmod-gpu"]) == 2
    assert "mmod-gpu is left out: it measures a GPU: name one with --device cuda" in capsys.readouterr().err


def test_a_search_by_all_folds_fills_the_cores_but_parts_no_fit():
    """Two C of 3 and 1 s (with their scores) on one fold: five folds take 20 s of a core, 10 of two, 3 of 16."""
    from featurepipe.bench.linear_svm import _all_folds

    results = {"mean_fit_time": np.array([2.5, 1.0]), "mean_score_time": np.array([0.5, 0.0])}
    assert [_all_folds(results, jobs) for jobs in (1, 2, 16)] == [20.0, 10.0, 3.0]


def test_a_table_for_people(monkeypatch, capsys):
    made = [row("hog-cpu", 0.01, 0.02, "dlib 20", "s/photo", None), row("rerun", 0.5, 2.0, "first run", "s/photo", 0.1)]
    monkeypatch.setattr(bench, "_measured", lambda name, settings: made[name == "rerun"])
    assert main(["bench", "--only", "hog-cpu", "--only", "rerun"]) == 0
    head, first, second, machine = capsys.readouterr().out.splitlines()
    assert head.split() == ["what", "ours", "reference", "ratio", "floor", "unit", "by"]
    assert first.split() == ["hog-cpu", "0.01", "0.02", "2", "s/photo", "dlib", "20"]
    assert second.split()[:6] == ["rerun", "0.5", "2", "4", "0.1", "s/photo"]
    assert machine == f"measured on {bench_rows.processor_and_cores()}"


def test_a_row_whose_package_is_missing_is_left_out_and_said_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dlib", None)
    assert main(["bench", "--quick", "--json", "--only", "hog-cpu"]) == 2  # nothing was measured
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "hog-cpu is left out" in said.err


def test_an_unknown_name_is_refused_before_anything_is_measured(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--only", "nothing"])
    assert "pipeline-fer-vgg" in capsys.readouterr().err


def test_a_row_loads_only_what_it_runs():
    program = (
        "import sys\n"
        "from featurepipe.commands import bench\n"
        "print([name for name in ('torch', 'sklearn', 'dlib', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_row_has_its_measure():
    import importlib

    for place in bench.ROWS.values():
        module, _, function = place.partition(".")
        assert callable(getattr(importlib.import_module(f"featurepipe.bench.{module}"), function))


def test_photos_that_are_not_there_are_bad_input(tmp_path, capsys):
    words = ["bench", "--quick", "--only", "hog-cpu", "--only", "pipeline-fer-vgg"]
    assert main([*words, "--photos", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr()
    assert "nowhere is not there" in said.err
    assert "hog-cpu ..." not in said.err  # before anything was measured
    assert said.out == ""
    assert main([*words[:4], "--photos", str(tmp_path)]) == 2
    assert "--photos is for pipeline-vgg-face" in capsys.readouterr().err
