"""Takes the results of a batch into the ledger.

They are committed in groups of some megabytes while their file is read, so a file of any size needs little memory. Rows
are joined by their ids: the order of results means nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter

from flatout.errors import ProtocolError
from flatout.store.ledger import Batch, RowState

from .box import index_of
from .desk import Desk, log
from .format import Found, ResultReader
from .wire import Unreadable

TOGETHER, TOGETHER_BYTES = 20_000, 16 * 1024 * 1024
"""Results that are committed together, and their bytes. They come in any order, so each commit writes nearly every page
of the table once more: as many as memory allows. Should the process die, they are still at the provider."""

_MOST_OF_KEY = 100  # characters that are shown

_Result = tuple[int, RowState, int | None, bytes | None]


class Reading:
    """A reader that tells two faults apart: the file holds no results, or the connection broke off."""

    def __init__(self, reader: ResultReader) -> None:
        self._reader = reader

    @property
    def more(self) -> Sequence[str]:
        return self._reader.more

    def feed(self, data: bytes) -> Sequence[Found]:
        try:
            return self._reader.feed(data)
        except ProtocolError as error:
            raise Unreadable(str(error)) from None

    def end(self) -> Sequence[Found]:
        try:
            return self._reader.end()
        except ProtocolError as error:
            raise Unreadable(str(error)) from None


class Results:
    """Commits the results of one batch in groups.

    Args:
        desk: the target's batch endpoint.
        batch: the batch.
        members: the indices of its rows, in order.
    """

    def __init__(self, desk: Desk, batch: Batch, members: Sequence[int]) -> None:
        self._desk = desk
        self._batch = batch
        self._members = members
        self._unseen = set(members)
        self._waiting: list[_Result] = []
        self._bytes = 0
        self._foreign = 0  # results for no row of it
        self._first_foreign = ""

    async def take(self, found: Sequence[Found]) -> None:
        """Take results; many are committed before this returns."""
        for each in found:
            index = self._index(each)
            if index is None:
                self._foreign += 1
                self._first_foreign = self._first_foreign or f"{each.key or each.position}"[:_MOST_OF_KEY]
            elif each.state == "answered":
                self._waiting.append((index, "answered", each.status, each.body))
                self._bytes += len(each.body)
            else:
                self._waiting.append((index, each.state, None, None))
            if len(self._waiting) >= TOGETHER or self._bytes >= TOGETHER_BYTES:
                await self.commit()

    async def commit(self) -> None:
        """Commit what is waiting."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        waiting.sort(key=itemgetter(0))  # as the table is
        if waiting:
            await self._desk.ledger.results(self._batch.number, waiting)

    @property
    def seen(self) -> int:
        """How many rows of the batch have been among the results."""
        return len(self._members) - len(self._unseen)

    def tell_foreign(self) -> None:
        """Say that there were results for no row of the batch: once, however many."""
        if self._foreign:
            log.warning(
                "batch %d has %d results for no row of it, such as %s",
                self._batch.number,
                self._foreign,
                self._first_foreign,
            )

    def _index(self, found: Found) -> int | None:
        """The row that a result is for; None if it is no row of the batch."""
        if found.key is not None:
            index = index_of(self._batch.stamp, found.key)
        else:
            place = found.position
            index = self._members[place] if place is not None and 0 <= place < len(self._members) else None
        if index in self._unseen:
            self._unseen.discard(index)
            return index
        return index if index is not None and self._is_member(index) else None

    def _is_member(self, index: int) -> bool:
        """Whether a row that is not new is one of the batch: some are in two files, or in a file that is read twice."""
        place = bisect_left(self._members, index)
        return place < len(self._members) and self._members[place] == index
