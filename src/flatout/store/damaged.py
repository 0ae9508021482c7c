"""Getting out of a damaged run file what can still be read.

SQLite stops at the first damaged page that a query meets. Rows are found by their index, so a range that cannot be
read is halved until what remains unreadable is single rows, and those are passed over. A file that was cut short is not
opened by SQLite at all; a copy that is filled up to its old length is.
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

_SPAN = 256  # rows asked for at once
_GIVE_UP = 20_000  # unreadable indices in a row, where nothing says how far the items go


def salvage(path: str | os.PathLike[str], damaged: Damaged | None = None) -> Iterator[Item]:
    """The readable items of a run file, in index order. The file is not changed; one cut short is copied to work on.

    ``damaged`` is told each index of the input at which nothing could be read; whether there was an item, nobody knows.

    Where a page that leads to many others is damaged, all that they hold is lost to this. A row whose bytes were
    changed without breaking the page's structure is returned as it is: SQLite keeps no checksums.

    Raises:
        RunDamaged: nothing can be read at all: the file's first page is damaged.
        StoreError: it is no run file, or it may not be read.
    """
    with _opened(Path(path)) as reader:
        known = max(_or_0(lambda: reader.info().total), _or_0(reader.highest_index))
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
def _opened(path: Path) -> Iterator[RunReader]:
    try:
        reader = RunReader.open(path, half_upgraded=True)
    except RunDamaged as damage:
        with tempfile.TemporaryDirectory(prefix="flatout-salvage-") as folder:
            try:
                reader = RunReader.open(_lengthened_copy(path, Path(folder)), half_upgraded=True)
            except RunDamaged:
                raise damage from None  # which names the user's file, not the copy
            with reader:
                yield reader
    else:
        with reader:
            yield reader


def _lengthened_copy(path: Path, folder: Path) -> Path:
    """A copy as long as its header says, with zeros for what is missing: those SQLite reads as damaged pages."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        shutil.copyfile(log, folder / log.name)
    with copy.open("rb") as file:
        header = file.read(100)
    # https://www.sqlite.org/fileformat.html: the page size at byte 16 (1 means 65,536), the count of pages at byte 28.
    page = int.from_bytes(header[16:18], "big")
    page = 65_536 if page == 1 else page
    length = page * int.from_bytes(header[28:32], "big")
    size = copy.stat().st_size
    # A sparse file: a header that lies costs no room. No run file is 16 TB long.
    if size < length < 1 << 44:
        os.truncate(copy, size - size % page)  # a page in part would pass for whole, its rows full of zeros
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


def _or_0(read: Callable[[], int | None]) -> int:
    """What is read, or 0 when it is unknown or damaged."""
    try:
        return read() or 0
    except RunDamaged:
        return 0
