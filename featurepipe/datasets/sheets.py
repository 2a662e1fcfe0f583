"""Sheets of XLSX files, through openpyxl, read only."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import Any

from featurepipe.errors import InputError, MissingPackageError, install_extra
from featurepipe.files import printable

MAX_BYTES = 64 << 20
"""Bytes that an XLSX file may unpack to: official coding sheets have under a hundredth of it."""

Columns = Mapping[str, str]
"""Key of a column -> its heading; blanks and case of headings do not matter."""


def read_sheet(path: str, required: Columns, optional: Columns | None = None) -> list[dict[str, Any]]:
    """The rows below the headings in the first row of the first sheet, as {key: cell}; rows without any cell are left
    out.

    Cells are str, int, float, None, ... as the file has them; an optional column that the file lacks is None.

    Raises
    ------
    InputError : the file cannot be read, is no XLSX file, unpacks to more than MAX_BYTES, or lacks a column
    MissingPackageError : openpyxl is not installed
    """
    rows = _rows(path)
    headings = [_plain(cell) for cell in rows[0]] if rows else []
    lacking = [title for title in required.values() if _plain(title) not in headings]
    if lacking:
        found = ", ".join(str(cell) for cell in rows[0] if cell is not None) if rows else "nothing"
        raise InputError(
            f"{printable(path)} has no column {', '.join(lacking)} in its first row (there is {printable(found)})"
        )
    columns = {**required, **(optional or {})}
    places = {
        key: headings.index(_plain(title)) if _plain(title) in headings else None for key, title in columns.items()
    }
    return [
        {key: row[place] if place is not None and place < len(row) else None for key, place in places.items()}
        for row in rows[1:]
        if any(cell is not None for cell in row)
    ]


def _plain(cell: Any) -> str:
    return "".join(str(cell).split()).casefold()


def _rows(path: str) -> list[tuple[Any, ...]]:
    openpyxl = _openpyxl()
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_BYTES:
            raise InputError(f"{printable(path)} unpacks to {unpacked} bytes: no official sheet is that large")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # which some programs write wrong
            return list(sheet.iter_rows(values_only=True))
        finally:
            book.close()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # openpyxl raises whatever its parts do on damaged files
        raise InputError(
            f"{printable(path)} is damaged or no XLSX file ({type(error).__name__}: {error}); save it as .xlsx again"
        ) from error


def _openpyxl() -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise MissingPackageError(
            f"XLSX files need openpyxl, which does not import ({error}): {install_extra('databases')}"
        ) from error
    return openpyxl
