"""Puts questions into boxes, and hands the boxes in as batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from flatout.errors import CallError, InvalidRequest, TransportError
from flatout.store.ledger import Batch, BatchRow, Placed
from flatout.values import Call, Result

from .asked import Asked
from .box import Packed
from .desk import log
from .lane_target import LaneTarget
from .lane_targets import LaneTargets
from .money import Money
from .row import Row

Keep = Callable[[Any, Result[Any]], Awaitable[None]]
"""Puts the result of a row into the run file."""


class HandIn:
    """The way of a run's questions into batches.

    Args:
        targets: the run's targets, with their boxes and open batches.
        keep: puts the result of a row into the run file that cannot be asked.
        money: keeps the batches to the budget.
        asked: hears of the questions that are under way; None if nobody asks.
        wall: the clock; Unix time.
        known: the batches of earlier processes.

    Attributes:
        over: whether nothing more is submitted.
        submitted: how many rows this process has submitted.
        came_back: whether a batch was refused, and its rows are back. The lane sets it to False.
    """

    def __init__(
        self,
        targets: LaneTargets,
        keep: Keep,
        money: Money,
        asked: Asked | None,
        wall: Callable[[], float],
        known: Sequence[Batch],
    ) -> None:
        self.over = self.came_back = False
        self.submitted = 0
        self._targets = targets
        self._keep = keep
        self._money = money
        self._asked = asked
        self._wall = wall
        self._last = max((batch.number for batch in known), default=0)
        self._began = {batch.number: batch.intended_at for batch in known}

    @property
    def has_begun(self) -> bool:
        """Whether rows have ever stood in a batch."""
        return self._last > 0

    def age(self, number: int) -> float:
        """Seconds since a batch was handed in; 0 for one that the run file does not know."""
        began = self._began.get(number)
        return 0.0 if began is None else max(0.0, self._wall() - began)

    async def put(self, each: LaneTarget, row: Row, call: Call, known: BatchRow | None, *, paid: float = 0.0) -> None:
        """Put a question into a box.

        Args:
            each: where it is asked.
            row: the row.
            call: the question, which need not be the row's first.
            known: what the ledger has of the row.
            paid: US dollars that earlier answers to the row have cost.
        """
        if self.over:
            return
        if each.desk.rests:
            each.deferred += 1
            return
        if self._money.waits():
            return
        most, tries, told = (known.most, known.tries, known.told) if known is not None else (None, 0, ())
        box = each.box(most)
        try:
            body = each.codec.encode(call).body
            if len(body) > box.largest:
                raise InvalidRequest(f"the request is too large for a batch: {len(body):,} bytes")
        except CallError as error:
            await self._keep(row, each.replay.failed(row.index, row.call, error))
            return
        if not box.has_room(body):
            await self._hand_in(each, most)
            box = each.box(most)
        if not await self._money.takes(each.desk.target, call, box.bound, paid):
            return
        if known is not None and told:
            self._money.leaves(known.batch)
        box.add(Packed(Placed(row.index, tries + 1, most, row.fingerprint, told), body))
        if self._asked is not None:
            self._asked.packs(row.fingerprint)

    async def all_boxes(self) -> None:
        """Hand in what is packed.

        Raises:
            CallError: a provider is not reached, or refuses everything.
        """
        if not self.over:
            for each in self._targets:
                for most in list(each.boxes):
                    await self._hand_in(each, most)

    async def _hand_in(self, each: LaneTarget, most: int | None) -> None:
        box = each.boxes.pop(most, None)
        if box is None or not box.rows:
            return
        if each.desk.rests:
            each.deferred += len(box.rows)
            self._money.unpacks(box.bound)
            return
        self._last += 1
        number, now = self._last, self._wall()
        self.submitted += len(box.rows)
        self._began[number] = now
        self._money.submits(number, len(box.rows), box.bound, now)
        try:
            await each.submitter.submit(number, box)
        except TransportError as error:
            if not any(batch.state == "open" for batch in self._targets.open_batches):
                raise
            log.warning("batch %d is not submitted yet: %s", number, error)
            each.deferred += len(box.rows)
            each.desk.rest()
        if self._asked is not None:
            await self._asked.submits(box)
        if number not in each.desk.batches:  # it was refused, and its rows are back
            self.came_back = True
            self._money.takes_back(number)
