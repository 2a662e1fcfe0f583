"""A comparison as one HTML page that needs no network: table, plots, confusion matrices, worst errors, protocol."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurepipe.errors import MissingPackageError
from featurepipe.files import printable, replacing
from featurepipe.report.metrics import written_p


@dataclass(frozen=True)
class Mistake:
    """A photo that a method got wrong.

    Parameters
    ----------
    path : as SOURCE names it
    truth, predicted : labels
    probability : of the predicted label, in 0..1
    picture : PNG of the face; None where it cannot be read any more
    """

    path: str
    truth: str
    predicted: str
    probability: float
    picture: bytes | None


def write_page(
    path: str | os.PathLike[str],
    document: Mapping[str, Any],
    facts: Mapping[str, Any],
    plots: Mapping[str, bytes],
    mistakes: Mapping[str, Sequence[Mistake]],
    leaks: Sequence[str] = (),
) -> None:
    """Write the page, pictures inside it.

    Parameters
    ----------
    document : what `compare` writes as comparison.json
    facts : further rows of the list at the top, in order: protocol, versions, command
    plots : PNG files by name: "accuracy", "sizes", and "confusion-METHOD" and "training-METHOD" of the methods
    mistakes : by method, worst first
    leaks : what the leak check found, in words

    Raises
    ------
    MissingPackageError : Jinja2 is not installed
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingPackageError("the report page needs Jinja2: pip install jinja2") from error
    pages = Environment(
        loader=PackageLoader("featurepipe.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.filters.update(
        png=_data_uri, figure=_figure, seconds=_seconds, number=_number, p=written_p, printable=printable
    )
    given = {"document": document, "facts": facts, "plots": plots, "mistakes": mistakes, "leaks": leaks}
    text = pages.get_template("page.html").render(given)
    with replacing(path) as stream:
        stream.write(text.encode())


def _data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _figure(value: float | None) -> str:
    """A fraction in per cent; a figure that does not exist is a dash."""
    return "–" if value is None else f"{100 * value:.2f}"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
