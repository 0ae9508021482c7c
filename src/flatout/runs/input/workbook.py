"""Rows of a sheet of a workbook (Excel, OpenDocument) with python-calamine, an extra.

It reads all of a sheet at once, in Rust. A sheet has at most 1,048,576 rows, and what it unpacks
to is bounded here, because a small file may unpack to more than any memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from flatout.errors import ConfigError
from flatout.extras import package

from .begun import Begun, check_unique
from .places import Place
from .rows import InputSource, Row

LARGEST = 4 * 1024**3
"""Most bytes of one part of a workbook, unpacked."""


def begin_workbook(place: Place, part: str | None, source: InputSource) -> Begun:
    """Read a sheet's header, its first row that is not blank; rows follow as they are asked for.

    Args:
        place: the workbook.
        part: the sheet's name; None for the only one.
        source: for messages.

    Raises:
        ConfigError: python-calamine is not installed, the file cannot be read, or it has no such sheet.
    """
    sheet = _sheet(place, part, source.name)
    if sheet.start is None:  # it is empty
        raise ConfigError(f"{source.name}: no rows")
    rows = _cells(sheet)
    number, header = next(rows)
    names = tuple(str(cell).strip() or _letters(place) for place, cell in enumerate(header, sheet.start[1]))
    check_unique(names, f"{source.at(number)}:")
    found = (Row(index, line, dict(zip(names, cells, strict=True)), source) for index, (line, cells) in enumerate(rows))
    return Begun(found, names)


def _sheet(place: Place, wanted: str | None, name: str) -> Any:
    calamine = package("python_calamine", needs=f"{name}: a workbook needs", extra="excel", name="python-calamine")
    file = place.path or place.open()
    _check_size(file, name)
    if not isinstance(file, Path):
        file.seek(0)
    try:
        with calamine.load_workbook(file) as book:
            return book.get_sheet_by_name(_chosen(book.sheet_names, wanted, name))
    except calamine.PasswordError:
        raise ConfigError(f"{name}: is protected by a password; save it without") from None
    except calamine.CalamineError as error:
        raise ConfigError(f"{name}: not readable as a workbook: {_first_line(error)}") from None


def _check_size(file: Path | IO[bytes], name: str) -> None:
    try:
        with zipfile.ZipFile(file) as packed:
            largest = max((each.file_size for each in packed.infolist()), default=0)
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # an old one, which is not packed; or what the reader itself will refuse
    if largest > LARGEST:
        raise ConfigError(f"{name}: unpacks to {largest / 1024**3:,.1f} GB; save the sheet as CSV")


def _chosen(sheets: list[str], wanted: str | None, name: str) -> str:
    if wanted is None and len(sheets) == 1:
        return sheets[0]
    if wanted is None:
        way_out = f"name one: '{name}::{sheets[0]}'" if sheets else "there is nothing to read"
        raise ConfigError(f"{name}: has {len(sheets)} sheets ({', '.join(sheets)}); {way_out}")
    if wanted not in sheets:
        raise ConfigError(f"{name}: has no sheet {wanted!r}; it has {', '.join(sheets)}")
    return wanted


def _cells(sheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """The rows that are not blank, with the numbers that the spreadsheet shows.

    The reader begins with the spreadsheet's first row, but with the first column that is not blank.
    """
    for number, cells in enumerate(sheet.iter_rows(), 1):
        if any(cell != "" for cell in cells):
            yield number, [_plain(cell) for cell in cells]


def _plain(cell: Any) -> Any:
    """A cell's value. Workbooks know no whole numbers, only ones without decimals."""
    return int(cell) if type(cell) is float and cell.is_integer() else cell


def _letters(place: int) -> str:
    """A column's letters, as spreadsheets have them: A to Z, AA and so on."""
    before, last = divmod(place, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
