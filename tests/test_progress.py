"""Progress bars: drawn at a terminal alone, and not where they are not wanted."""

import io
import sys

import pytest

from featurepipe.progress import bar, move_to


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stderr", "wanted", "drawn"), [(Terminal, "", True), (Terminal, "1", False), (io.StringIO, "", False)]
)
def test_where_bars_are_drawn(stderr, wanted, drawn, monkeypatch):
    screen = stderr()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TQDM_DISABLE", wanted)
    with bar(4, "faces", "photo") as progress:
        progress.update()
        move_to(progress, 3)
    assert ("faces" in screen.getvalue()) is drawn


def test_a_program_without_stderr_has_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with bar(4, "faces") as progress:
        progress.update()
        assert progress.disable
