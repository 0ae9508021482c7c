"""Recover what can still be read from a damaged run file.

SQLite stops at the first damaged page that a query meets. But rows are found by their index. So a range that cannot be
read is halved, again and again, until only single rows are unreadable; those are skipped. SQLite does not open a file
that was cut short. So a copy is extended to the file's old length, and SQLite opens that.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flatout.errors import RunDamaged

from .reader import LAST, Damaged, RunReader
from .rows import Item

_SPAN = 256
"""Rows that are read at once."""

_GIVE_UP = 20_000
"""The search ends after this many unreadable indices in a row, if the file does not tell how far its items go."""


def salvage(path: str | os.PathLike[str], damaged: Damaged | None = None) -> Iterator[Item]:
    """The readable items of a run file, in index order. The file is not changed: if it was cut short, a copy is used.

    ``damaged`` is called with each index of the input that could not be read. Nobody knows whether there was an item.

    If a page that leads to many others is damaged, all that they hold is lost. A row whose bytes were changed without
    breaking the page's structure is returned as it is: SQLite keeps no checksums.

    Raises:
        RunDamaged: nothing at all can be read, because the file's first page is damaged.
        StoreError: it is not a run file, or it may not be read.
    """
    with _open(Path(path)) as reader:
        known = max(_read_or_0(lambda: reader.info().total), _read_or_0(reader.highest_index))
        first = unreadable = 0
        while first < known or unreadable < _GIVE_UP:
            try:
                ahead = reader.batch(first, LAST, most=1)
            except RunDamaged:
                pass
            else:
                if not ahead:
                    return
                first = ahead[0].index
            found = list(_readable(reader, first, first + _SPAN - 1, damaged if first < known else None))
            yield from found
            unreadable = 0 if found else unreadable + _SPAN
            first += _SPAN


@contextmanager
def _open(path: Path) -> Iterator[RunReader]:
    try:
        reader = RunReader.open(path, half_upgraded=True)
    except RunDamaged as damage:
        with tempfile.TemporaryDirectory(prefix="flatout-salvage-") as folder:
            try:
                reader = RunReader.open(_lengthened_copy(path, Path(folder)), half_upgraded=True)
            except RunDamaged:
                raise damage from None  # its message names the user's file, not the copy
            with reader:
                yield reader
    else:
        with reader:
            yield reader


def _lengthened_copy(path: Path, folder: Path) -> Path:
    """A copy as long as its header says. Missing pages are zeros, which SQLite reads as damaged pages."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        shutil.copyfile(log, folder / log.name)
    with copy.open("rb") as file:
        header = file.read(100)
    # https://www.sqlite.org/fileformat.html: the page size at byte 16 (1 means 65,536), the page count at byte 28.
    page = int.from_bytes(header[16:18], "big")
    page = 65_536 if page == 1 else page
    length = page * int.from_bytes(header[28:32], "big")
    size = copy.stat().st_size
    # The file is sparse, so a lying header takes no disk space. No run file is 16 TB long.
    if size < length < 1 << 44:
        os.truncate(copy, size - size % page)  # a partial page would look complete, with rows full of zeros
        os.truncate(copy, length)
    return copy


def _readable(reader: RunReader, first: int, last: int, damaged: Damaged | None) -> Iterator[Item]:
    try:
        yield from reader.batch(first, last, most=last - first + 1)
    except RunDamaged:
        if first == last:
            if damaged is not None:
                damaged(first)
            return
        middle = (first + last) // 2
        yield from _readable(reader, first, middle, damaged)
        yield from _readable(reader, middle + 1, last, damaged)


def _read_or_0(read: Callable[[], int | None]) -> int:
    """The value that was read, or 0 if it is unknown or damaged."""
    try:
        return read() or 0
    except RunDamaged:
        return 0
