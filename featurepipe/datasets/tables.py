"""CSV files read as text, with the line in every error."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence

from featurepipe.errors import InputError
from featurepipe.files import printable

Columns = Mapping[str, tuple[str, ...]]
"""Name of a column -> the other names it goes by, lower case."""

_BOM = b"\xef\xbb\xbf"


def read_header(source: str) -> list[str]:
    """Names of the columns of a CSV file, stripped and in lower case.

    Raises
    ------
    InputError : the file cannot be read, is empty, or is not UTF-8
    """
    for _, fields in _rows(source):
        return [name.strip().lower() for name in fields]
    raise InputError(f"{printable(source)} is empty; expected a first line that names the columns")


def read_rows(
    source: str, columns: Columns, header: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number from 1, {column: stripped text}) for each row below the header; blank lines are passed over.

    Only `columns` that the file has are in the rows, under their own name whatever alias the file uses. `header`
    names the columns, in lower case, of a file whose first line is a row already.

    Raises
    ------
    InputError : the file cannot be read, a row is longer or shorter than the header, or a column occurs twice
    """
    rows = _rows(source)
    if header is None:
        header = read_header(source)
        next(rows)
    places = {name: place for name in columns if (place := _place(source, header, name, columns[name])) is not None}
    for line, fields in rows:
        if len(fields) != len(header):
            raise InputError(
                f"{printable(source)}, line {line}: {len(fields)} fields, but there are {len(header)} columns; "
                "put quotes around a field that holds a comma"
            )
        yield line, {name: fields[place].strip() for name, place in places.items()}


def _place(source: str, header: Sequence[str], name: str, aliases: tuple[str, ...]) -> int | None:
    """Where column `name` stands: its own name comes first, then an alias if just one column has it."""
    for names in ((name,), aliases):
        places = [place for place, title in enumerate(header) if title in names]
        if len(places) > 1:
            titles = ", ".join(header[place] for place in places)
            raise InputError(f"{printable(source)}: several columns could be the {name}: {titles}; keep one")
        if places:
            return places[0]
    return None


def _rows(source: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(_lines(source), strict=True)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        expected = "expected fields separated by commas"
        if "field limit" in str(error):
            expected += "; a quote may lack its end, or rows hold pictures that are too large: give those as NPZ"
        raise InputError(f"{printable(source)}, line {reader.line_num}: {error}; {expected}") from error


def _lines(source: str) -> Iterator[str]:
    try:
        with open(source, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield (line.removeprefix(_BOM) if number == 1 else line).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(source)}, line {number}: not UTF-8 ({error}); save it as CSV in UTF-8") from error
    except OSError as error:
        raise InputError(f"{printable(source)} cannot be read: {error.strerror}") from error
