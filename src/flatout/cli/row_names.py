"""Rows by the names that people give them: a number, from 1, or an id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flatout.errors import ConfigError
from flatout.text import figures

from .terminal import clean, say

if TYPE_CHECKING:
    from flatout.store import RunReader

_SAME = 6  # rows with the same id that a message names


def find_row(reader: RunReader, name: str, is_known: Callable[[int], bool]) -> int:
    """The index of a row. A number means the row of that number if it is known, otherwise an id.

    Args:
        reader: the run file.
        name: the number or the id.
        is_known: whether the run file has something to show of an index.

    Raises:
        ConfigError: there is no such row, or there are several.
    """
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else None
    same = [index + 1 for index in reader.named(name, _SAME)]
    if number and is_known(number - 1):
        if others := [row for row in same if row != number]:
            say(f"flatout: this is row {number}; the id {name} belongs to row {others[0]}")
        return number - 1
    if len(same) == 1:
        return same[0] - 1
    if same:
        rows = ", ".join(map(str, same)) + (" …" if len(same) == _SAME else "")
        raise ConfigError(f"several rows have the id {clean(name, 60)}: {rows}; name one by its number")
    raise ConfigError(_missing(reader, name, number))


def _missing(reader: RunReader, name: str, number: int | None) -> str:
    if number is None:
        return f"no finished row has the id {clean(name, 60)}; rows can be named by their numbers too, from 1"
    if number == 0:
        return "there is no row 0: rows are counted from 1"
    total = reader.info().total
    if total is not None and number > total:
        return f"there is no row {number}: the run has {figures.counted(total, 'row')}"
    return f"row {number} has not started"
