"""Small XML files, through defusedxml: no entities, no document types from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from featurepipe.errors import MissingPackageError, install_extra

LARGEST = 4 << 20
"""Bytes that an XML file may have: official ones have under a hundredth of it."""


def read_xml(path: str) -> Element:
    """The root element of an XML file.

    Raises
    ------
    ValueError : cannot be read, too large, not well-formed, or with entities or a DTD that it brings along
    MissingPackageError : defusedxml is not installed
    """
    try:
        from defusedxml.ElementTree import ParseError, parse
    except ImportError as error:
        raise MissingPackageError(
            f"XML files need defusedxml, which does not import ({error}): {install_extra('databases')}"
        ) from error
    try:
        if os.path.getsize(path) > LARGEST:
            raise ValueError(f"more than {LARGEST >> 20} MiB: no official file is that long")
        root: Element = parse(path, forbid_dtd=True).getroot()
    except (ParseError, OSError, LookupError) as error:  # LookupError: an encoding that Python does not know
        raise ValueError(str(error)) from error
    return root


def elements(root: Element, name: str) -> Iterator[Element]:
    """All elements `name` in and below `root`, whatever their case and name space."""
    return (one for one in root.iter() if isinstance(one.tag, str) and _local(one.tag) == name.casefold())


def attribute(element: Element, name: str) -> str | None:
    """An attribute, whatever the case of its name; stripped."""
    return next((value.strip() for key, value in element.items() if _local(key) == name.casefold()), None)


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1].casefold()
