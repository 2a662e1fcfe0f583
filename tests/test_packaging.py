"""The built packages: what they hold, and that an installed copy finds the weights that ship."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
sys.path = [path for path in sys.path if path != sys.argv[2]]
sys.path.insert(0, sys.argv[1])
import featurepipe
assert featurepipe.__file__.startswith(sys.argv[1]), featurepipe.__file__
from featurepipe.cli import main
sys.exit(main(["classify", sys.argv[3], "--out", sys.argv[4], "--workers", "0"]))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Source distribution and wheel, the wheel built from the former, as `python -m build` makes them."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def test_the_wheel_holds_code_and_what_it_reads_and_shipped_weights_and_no_tests(built):
    names = zipfile.ZipFile(built[1]).namelist()
    here = {path for path in ROOT.glob("featurepipe/**/*") if path.is_file() and "__pycache__" not in path.parts}
    wanted = {str(path.relative_to(ROOT)) for path in here}
    wanted |= {f"featurepipe/shipped/{path.name}" for path in (ROOT / "weights").iterdir() if path.is_file()}
    assert {"featurepipe/report/page.html", "featurepipe/report/published.toml", "featurepipe/py.typed"} < wanted
    assert wanted <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "bin/"))]


def test_the_source_distribution_can_be_tested(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"bin/test", "bin/quickstart", "tests/conftest.py", "setup.cfg", "weights/manifest.json"} <= names


def test_a_wheel_unpacked_elsewhere_classifies_with_the_shipped_svm(built, rendered, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(built[1]).extractall(site)
    photo, out = rendered / "subject-000" / "happiness-0.jpg", tmp_path / "out"
    words = [sys.executable, "-c", PROGRAM, str(site), str(ROOT), str(photo), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (out / "predictions.csv").read_text(encoding="utf-8").count("happiness-0.jpg") == 1
