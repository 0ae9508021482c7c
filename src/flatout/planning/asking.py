"""Bounds what a sample costs: a few calls go first, and show how many of the others the money allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from flatout.durable.records import may_go_again
from flatout.values import Result

PILOT = 8
"""Calls that go first. Their answers tell what a call costs."""

RowT = TypeVar("RowT")


class Allowance:
    """The money of a sample, and what was heard of its calls.

    Args:
        usd: the most US dollars that it may cost.
        expected: what a call costs, as far as it can be told before one was answered; None if nothing is known.

    Attributes:
        results: the results, by their places in the job.
        new: the places of those that this process asked, and that a later run does not ask again.
        spent: US dollars, as far as they are known.
        unpriced: calls that may have cost an unknown amount.
        capped: whether calls were left out for the money.
        failed: whether none of the first calls was answered, so the others were not asked.
    """

    def __init__(self, usd: float, expected: float | None) -> None:
        self.results: dict[int, Result[Any]] = {}
        self.new: set[int] = set()
        self.spent = 0.0
        self.unpriced = 0
        self.capped = self.failed = False
        self._usd = usd
        self._dearest = 0.0  # US dollars of the dearest call
        self._pilot = PILOT if not expected else max(1, min(PILOT, int(usd / expected)))
        self._over = 0
        self._answered = False
        self._changed = asyncio.Event()

    def heard(self, result: Result[Any] | None) -> None:
        """A call is over; without a result it was dropped."""
        self._over += 1
        self._changed.set()
        if result is None:
            return
        self.known(result)
        if result.error is None or not may_go_again(result.error):
            self.new.add(result.index)
        if result.cost is None:
            self.unpriced += 1
        else:
            self.spent += result.cost
            self._dearest = max(self._dearest, result.cost)

    def known(self, result: Result[Any]) -> None:
        """A call of the sample has a result, from now or from an earlier process."""
        self.results[result.index] = result
        self._answered |= result.ok

    @property
    def paid(self) -> bool:
        """Whether answers are there, or calls were paid for or may have been."""
        return self._answered or self.spent > 0.0 or self.unpriced > 0

    async def ration(self, rows: Sequence[RowT]) -> AsyncIterator[RowT]:
        """The rows, as far as the money allows."""
        begun, allowed = 0, min(self._pilot, len(rows))
        while begun < len(rows):
            if begun == allowed:
                await self._all_over(begun)
                if not self._answered:
                    self.failed = True
                    return
                allowed = begun + self._affordable(len(rows) - begun)
                if begun == allowed:
                    self.capped = True
                    return
            begun += 1
            yield rows[begun - 1]

    def _affordable(self, wanted: int) -> int:
        if self._dearest <= 0.0:
            return wanted
        return max(0, min(wanted, int((self._usd - self.spent) / self._dearest)))

    async def _all_over(self, begun: int) -> None:
        while self._over < begun:
            self._changed.clear()
            await self._changed.wait()
