"""The rows of a run by their places in a list: read a page at a time, and only those that are looked at."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from flatout.store import RunReader
from flatout.store.browse import Browser, Figure, Short, Wanted

PAGE = 100
"""Rows that are read at once."""

KEPT = 30
"""Pages that are kept in memory."""

MOST_ORDERED = 10_000
"""Rows in an order by a figure."""


class Row(Struct, frozen=True):
    """A row at a place: its index, and what is known of it; None while it is not finished."""

    index: int
    short: Short | None
    in_flight: bool = False


class Pages:
    """A list of a run's rows. Reading blocks: call `load`, `count` and `search` from a thread.

    Without a search the list has every row of the input, so a place is an index. A search or an order gives a list of
    indices.

    Args:
        place: the run file.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._found: array[int] | None = None
        self._size = 0
        self._kept: OrderedDict[int, list[Row]] = OrderedDict()
        self._stale: set[int] = set()  # pages whose rows may have changed
        self._process: str | None = None  # that works on the run
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """How many rows the list has."""
        return self._size if self._found is None else len(self._found)

    def at(self, place: int) -> Row | None:
        """The row at a place, from 0; None if its page is not in memory."""
        with self._lock:
            page = self._kept.get(place // PAGE)
        return page[place % PAGE] if page is not None and place % PAGE < len(page) else None

    def must_load(self, place: int) -> bool:
        """Whether the page of a place is not in memory, or may have changed."""
        return self.at(place) is None or place // PAGE in self._stale

    def index_at(self, place: int) -> int:
        """The index of the row at a place."""
        return place if self._found is None else self._found[place]

    def place_of(self, index: int) -> int | None:
        """The place of a row; None if it is not in the list."""
        if self._found is None:
            return index if 0 <= index < self._size else None
        try:
            return self._found.index(index)
        except ValueError:
            return None

    def load(self, number: int) -> bool:
        """Read a page. Whether it is another one than before."""
        with RunReader.open(self._place) as reader:
            page = self._read(reader, [self.index_at(place) for place in self._places(number)])
        with self._lock:
            before, self._kept[number] = self._kept.get(number), page
            self._stale.discard(number)
            self._kept.move_to_end(number)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return page != before

    def count(self) -> None:
        """Count the rows of the run anew, and mark the pages that may have changed: none if nobody works on the run."""
        with RunReader.open(self._place) as reader:
            size, holder = max(reader.info().total or 0, reader.highest_index() + 1), reader.holder()
        process = None if holder is None else str(holder)
        with self._lock:
            same, self._size = process is None and self._process is None and size == self._size, size
            self._process = process
            if not same:
                self._stale.update(number for number, page in self._kept.items() if self._is_open(page))

    def everything(self) -> None:
        """Make the list all rows in order."""
        self._replace(None)

    def search(self, wanted: Wanted, by: Figure | None) -> Iterator[int]:
        """Make the list the rows that match, and give how many were found so far, again and again.

        Args:
            wanted: which rows.
            by: a figure to order them by, the highest first; None for the order of the input.
        """
        found: array[int] = array("q")
        self._replace(found)
        with RunReader.open(self._place) as reader:
            if by is not None:
                found.extend(Browser(reader).highest(by, wanted, MOST_ORDERED))
                yield len(found)
                return
            for indices in Browser(reader).matching(wanted):
                with self._lock:
                    self._kept.pop(len(found) // PAGE, None)  # the last page was not full
                    found.extend(indices)
                yield len(found)

    def _replace(self, found: array[int] | None) -> None:
        with self._lock:
            self._found = found
            self._kept.clear()
            self._stale.clear()

    def _places(self, number: int) -> range:
        return range(number * PAGE, min(self.size, (number + 1) * PAGE))

    def _read(self, reader: RunReader, indices: list[int]) -> list[Row]:
        """The rows with some indices; one statement if they follow each other."""
        browser = Browser(reader)
        if not indices:
            return []
        in_order = self._found is None
        shorts = browser.page(indices[0], indices[-1]) if in_order else browser.shorts(indices)
        known = {short.index: short for short in shorts}
        missing = [index for index in indices if index not in known]
        flying = {each.index for each in browser.in_flight(10_000)} if missing and reader.holder() else set()
        return [Row(index, known.get(index), index in flying) for index in indices]

    def _is_open(self, page: list[Row]) -> bool:
        return len(page) < PAGE or any(row.short is None or row.short.state != "answered" for row in page)
