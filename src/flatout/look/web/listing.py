"""The rows of a run for its live page: some of all, or of those that match, and one in full.

A search among a million rows takes seconds. So it is done in slices, each within one request, and what it found is
kept. So no second search is made when a page is turned, or when another browser asks the same.
"""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from msgspec import Struct

from flatout.look.report.packing import texts_of
from flatout.store import Holder, Item, RunReader, RunState
from flatout.store.browse import Browser, Figure, Kind, Short, Wanted

MOST = 100
"""The most rows in one answer."""

MOST_ORDERED = 10_000
"""The most rows in an order by a figure."""

LONGEST = 200_000
"""Characters of a text of one row in full."""

SLICE = 0.7
"""Seconds for which one request searches, or a little longer."""

SHARE = 20
"""While the run goes, a search is done again after this many times as long as it took, or after `FRESH` seconds."""

FRESH = 2.0

_KEPT = 8  # searches
_SHOWN = 160  # characters of the beginning of an answer
_LONGEST_NAME = 120  # characters of an id, a model's name, a class of error
_KINDS: dict[str, Kind] = {"failed": "failed", "cut off": "truncated", "retried": "retried"}
_FIGURES: dict[str, Figure] = {"seconds": "seconds", "provider": "provider", "attempts": "attempts", "cost": "cost"}


class Query(Struct, frozen=True, kw_only=True):
    """Which rows are asked for, in which order.

    Attributes:
        wanted: which.
        by: the figure that they are ordered by; None for their numbers.
        down: whether the highest, or the last, comes first.
    """

    wanted: Wanted = Wanted()
    by: Figure | None = None
    down: bool = False

    @classmethod
    def of(cls, given: dict[str, str]) -> Query:
        """From what a page sends: ``filter``, ``sought``, ``column``, ``by``, ``down``.

        Raises:
            ValueError: there is no such filter or order, or the column has no value.
        """
        name, by = given.get("filter", "all"), given.get("by", "row")
        error = name.removeprefix("error:") if name.startswith("error:") else None
        if error is None and name != "all" and name not in _KINDS:
            raise ValueError(f"there is no filter {name[:40]!r}")
        if by != "row" and by not in _FIGURES:
            raise ValueError(f"rows cannot be ordered by {by[:40]!r}")
        column, sign, value = given.get("column", "").partition("=")
        if column.strip() and not sign:
            raise ValueError("a column's value is asked for as name=value")
        wanted = Wanted(
            kind=_KINDS.get(name, "all"),
            error=error,
            text=given.get("sought", "").strip() or None,
            column=column.strip() if sign else None,
            value=value.strip() if sign else None,
        )
        return cls(wanted=wanted, by=_FIGURES.get(by), down=given.get("down") == "1")


class Listing:
    """Finds rows of one run file. Every method blocks, and may be called from any thread; one is served at a time.

    Args:
        place: gives the run file; None before the run has made it.
        clock: gives seconds that only rise.
    """

    def __init__(self, place: Callable[[], Path | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._kept: OrderedDict[Query, _Search] = OrderedDict()
        self._lock = Lock()

    def some(self, query: Query, begin: int, most: int) -> dict[str, Any]:
        """Some rows that match, in order: how many there are, whether the search goes on, and the rows.

        Raises:
            StoreError: the run file cannot be read.
        """
        if (place := self._place()) is None:
            return {"total": 0, "more": False, "rows": []}
        with self._lock, RunReader.open(place) as reader:
            found, more = self._found(reader, query)
            places = range(len(found))[:: -1 if query.down and query.by is None else 1]
            indices = [found[place] for place in places[begin : begin + min(most, MOST)]]
            return {"total": len(found), "more": more, "rows": _rows(reader, indices)}

    def one(self, index: int) -> dict[str, Any] | None:
        """Everything about one row; None if nothing is known of it.

        Raises:
            StoreError: the run file cannot be read.
        """
        if (place := self._place()) is None:
            return None
        with self._lock, RunReader.open(place) as reader:
            history = reader.history(index)
            if history.item is None and not history.attempts and not history.journal:
                return None
            texts = texts_of(history, LONGEST, live=reader.holder() is not None, now=time.time())
            return texts if history.item is None else texts | {"figures": _figures(history.item)}

    def _found(self, reader: RunReader, query: Query) -> tuple[Sequence[int], bool]:
        """The indices of the rows, and whether more are searched for."""
        if query.wanted == Wanted() and query.by is None:
            return range(max(reader.info().total or 0, reader.highest_index() + 1)), False
        search = self._kept.pop(query, None) or _Search(query, reader)
        self._kept[query] = search
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        if search.done and search.is_stale(reader, self._clock()):
            search.renewed = search.renewed or _Search(query, reader)
        under_way = search.renewed or search
        under_way.go_on(reader, self._clock)
        if under_way.done:
            search = self._kept[query] = under_way
        return search.found, not under_way.done


class _Search:
    """What a search has found."""

    def __init__(self, query: Query, reader: RunReader) -> None:
        self.found: array[int] = array("q")
        self.done = False
        self.renewed: _Search | None = None
        self._query = query
        self._begun = _stage(reader)
        self._first = 0  # where to go on
        self._took = self._ended = 0.0

    def is_stale(self, reader: RunReader, now: float) -> bool:
        """Whether there may be more by now: a process is at work on the run, or has ended it or left it since."""
        stage = _stage(reader)
        if stage != self._begun:
            return True
        return stage.holder is not None and now >= self._ended + max(FRESH, SHARE * self._took)

    def go_on(self, reader: RunReader, clock: Callable[[], float]) -> None:
        """Search for a moment, unless it is done."""
        if self.done:
            return
        began, query, browser = clock(), self._query, Browser(reader)
        if query.by is not None:
            self.found.extend(browser.highest(query.by, query.wanted, MOST_ORDERED, lowest=not query.down))
            self.done = True
        else:
            self.done = self._by_number(browser, clock, began + SLICE)
        self._ended = clock()
        self._took += self._ended - began

    def _by_number(self, browser: Browser, clock: Callable[[], float], until: float) -> bool:
        """Search in order, first for the row with that very number. Whether all rows were looked at."""
        text = self._query.wanted.text or ""
        if not self._first and text.isdecimal() and len(text) < 16 and browser.page(int(text) - 1, int(text) - 1):
            self.found.append(int(text) - 1)
        for last, indices in browser.chunks(self._query.wanted, self._first):
            self.found.extend(index for index in indices if not self.found or index != self.found[0])
            self._first = last + 1
            if clock() >= until:
                return False
        return True


class _Stage(NamedTuple):
    """How far a run is: who works on it, and the state in which it is marked before its process leaves."""

    holder: Holder | None
    state: RunState


def _stage(reader: RunReader) -> _Stage:
    return _Stage(reader.holder(), reader.info().state)


def _figures(item: Item) -> dict[str, Any]:
    """What the table does not show."""
    return {
        "model": item.model and item.model[:_LONGEST_NAME],
        "input": item.input_tokens,
        "output": item.output_tokens,
        "cost": item.cost,
        "finish": item.finish_reason and item.finish_reason[:_LONGEST_NAME],
    }


def _rows(reader: RunReader, indices: list[int]) -> list[dict[str, Any]]:
    """Rows in short. One that is not finished says whether it is in flight."""
    browser = Browser(reader)
    ends = min(indices, default=0), max(indices, default=-1)
    together = ends[1] - ends[0] < len(indices)
    shorts = browser.page(*ends) if together else browser.shorts(indices)
    known = {short.index: short for short in shorts}
    flying = set[int]()
    if len(known) < len(indices) and reader.holder() is not None:
        flying = {each.index for each in browser.in_flight(10_000)}
    return [_row(index, known.get(index), index in flying) for index in indices]


def _row(index: int, short: Short | None, in_flight: bool) -> dict[str, Any]:
    if short is None:
        state = "in flight" if in_flight else "not finished"
        return {"key": index, "failed": False, "figures": {"row": index + 1, "state": state}, "peek": ""}
    figures = {
        "row": index + 1,
        "id": short.id and short.id[:_LONGEST_NAME],
        "state": short.state,
        "error": short.error and short.error[:_LONGEST_NAME],
        "seconds": short.seconds,
        "provider": short.provider_seconds,
        "attempts": short.attempts,
        "cost": short.cost,
        "finish": short.finish_reason and short.finish_reason[:_LONGEST_NAME],
    }
    return {"key": index, "failed": short.state != "answered", "figures": figures, "peek": short.words[:_SHOWN]}
