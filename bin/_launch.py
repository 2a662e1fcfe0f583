"""What the launchers in this folder share: find the virtual environment, make it, run featurepipe in it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
MARK = VENV / "featurepipe-installed"


def run_command(name: str) -> int:
    """Run `featurepipe NAME` with this process's arguments: in .venv where it is there, else in this Python."""
    command = [str(PYTHON), "-m", "featurepipe", name, *sys.argv[1:]]
    if _installed():
        if os.name != "nt":
            os.execv(command[0], command)
        return call(command)
    if importlib.util.find_spec("featurepipe") is None or importlib.util.find_spec("torch") is None:
        print(
            "featurepipe is not installed: run bin/quickstart, or without its demonstration `python3 -m venv .venv` "
            "and `.venv/bin/python -m pip install -e .`",
            file=sys.stderr,
        )
        return 2
    from featurepipe.cli import main

    return main([name, *sys.argv[1:]])


def _installed() -> bool:
    """Whether .venv has featurepipe: from a launcher, or by somebody's own pip install."""
    if not PYTHON.exists() or MARK.exists():
        return PYTHON.exists()
    asked = "import importlib.util, sys; sys.exit(importlib.util.find_spec('featurepipe') is None)"
    return call([str(PYTHON), "-I", "-c", asked]) == 0


def ensure_environment(extra: str = "") -> None:
    """Make .venv and install this checkout into it, with the extra named; what is there already is reused.

    Exits with code 2 and pip's own message where that fails.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 (an older Python gets as far as here, and is told)
        version = sys.version.split()[0]
        sys.exit(f"featurepipe needs Python 3.11 or newer, this is {version}: run python3.11 {sys.argv[0]}")
    wanted = _wanted(extra)
    if PYTHON.exists() and MARK.exists() and wanted in MARK.read_text(encoding="utf-8").split():
        return
    started = time.monotonic()
    if not MARK.exists():  # also where making it was stopped half-way, before it had pip
        show([sys.executable, "-m", "venv", str(VENV)])
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    show([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", target])
    done = MARK.read_text(encoding="utf-8") if MARK.exists() else ""
    MARK.write_text(f"{done}{wanted}\n", encoding="utf-8")
    print(f"environment ready in {time.monotonic() - started:.0f} s: {VENV}", flush=True)


def show(command: list[str]) -> None:
    """Print a command as a person would type it, run it, and leave with its exit code where it fails."""
    print("$ " + " ".join(_short(part) for part in command), flush=True)
    code = call(command, cwd=ROOT)
    if code:
        sys.exit(code)


def call(command: list[str], cwd: Path | None = None) -> int:
    """Run a command; its exit code, 130 after Ctrl-C, which reaches the command as well."""
    try:
        return subprocess.call(command, cwd=cwd)
    except KeyboardInterrupt:
        return 130


def _short(part: str) -> str:
    return os.path.relpath(part, ROOT) if part.startswith(str(ROOT) + os.sep) else part


def _wanted(extra: str) -> str:
    """Names an installation: it is repeated when the requirements change, not when the code does."""
    digest = hashlib.sha256((ROOT / "setup.cfg").read_bytes()).hexdigest()[:16]
    return f"{digest}:{extra}"
