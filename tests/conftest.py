"""What several test files share."""

from pathlib import Path

import pytest

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
