"""Rows of CSV and its like: a header, then one record a row."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from flatout.errors import ConfigError

from .begun import Begun, check_unique
from .lines import LONGEST_LINE, NumberedLines, decoded
from .rows import InputSource, Row
from .tables import DELIMITERS


def checked_delimiter(given: str) -> str:
    """The character between cells, as it was given on a command line.

    Raises:
        ConfigError: it is not one, or a cell could not be told from it.
    """
    found = "\t" if given == "\\t" else given
    if len(found) != 1 or found in '"\r\n\0 ':
        raise ConfigError(f"--delimiter is one character, such as ; or \\t, not {given!r}")
    return found


def begin_delimited(lines: NumberedLines, source: InputSource, delimiter: str | None = None) -> Begun:
    """Read the header; the records follow as they are asked for."""
    records = _records(lines, source, delimiter or DELIMITERS[source.format])
    number, header = next(records, (0, []))
    if not number:
        raise ConfigError(f"{source.name}: no rows")
    columns = tuple(header)
    check_unique(columns, f"{source.at(number)}:")
    return Begun(_delimited(records, columns, source), columns)


def _delimited(
    records: Iterator[tuple[int, list[str]]], columns: tuple[str, ...], source: InputSource
) -> Iterator[Row]:
    width = len(columns)
    for index, (number, cells) in enumerate(records):
        if len(cells) != width:
            raise ConfigError(f"{source.at(number)}: {_count(len(cells), 'cell')}, but the header has {width}")
        yield Row(index, number, dict(zip(columns, cells, strict=True)), source)


def _records(lines: NumberedLines, source: InputSource, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """CSV records that are not blank, each with the line that it starts on."""
    # The limit belongs to the csv module and is global, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    texts = (text for _, text in decoded(lines, source))
    # Strict, because otherwise a quote that is never closed swallows the rest of the file into one cell.
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(f"{source.at(start)}: {_why_not_csv(str(error))}") from None


def _why_not_csv(error: str) -> str:
    if "unexpected end" in error:
        return "a quote is opened here and never closed"
    if "field larger" in error:
        return f"a cell longer than {LONGEST_LINE:,} characters; is a quote never closed?"
    if "new-line character" in error:
        return "a carriage return within a cell without quotes"
    return f"not CSV: {error}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
