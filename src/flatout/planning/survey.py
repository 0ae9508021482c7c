"""Looks through all calls of a job, once: how many there are for each model, how long they are, and which repeat.

Nothing is sent. What stays in memory is bounded, but for eight bytes a call that tell duplicates.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Generic, TypeVar

from msgspec import Struct

from flatout.durable.records import content, fingerprint
from flatout.engine import Engine
from flatout.errors import ConfigError
from flatout.policies.forecast.strata import Entry, Strata, mark_of
from flatout.policies.pacing.tokens import MARGIN, Estimator
from flatout.values import Call, Target

RowT = TypeVar("RowT")

AT_ONCE = 500
"""Calls that are looked up in the cache together."""


FIRST = 1_000
"""Calls of each model that are kept whole."""


class Given(Struct, Generic[RowT], frozen=True, gc=False):
    """A call of the job.

    Attributes:
        index: its place, from 0.
        call: the call.
        row: what to ask, if it comes into the sample.
        done: whether it has a result.
    """

    index: int
    call: Call
    row: RowT
    done: bool


class Part(Generic[RowT]):
    """The calls of one model.

    Attributes:
        model: its name; None for the client's own model.
        targets: where its calls go; several for a route.
        strata: the calls that may be asked.
        calls: how many there are.
        context: the model's context in tokens, if known.
        too_long: calls that do not fit it.
        longest: tokens of the longest of these.
        most: the largest ``max_tokens`` among the calls; None if one of them has none.
        first: the first of the calls, of which it is told what they have in common.
    """

    def __init__(
        self, model: str | None, targets: tuple[Target, ...], context: int | None, sample: int, example: Call
    ) -> None:
        self.model = model
        self.targets = targets
        self.strata: Strata[RowT] = Strata(sample)
        self.calls = 0
        self.context = context
        self.too_long = 0
        self.longest = 0.0
        self.first = [example]

    @property
    def example(self) -> Call:
        """One of the calls."""
        return self.first[0]

    @property
    def target(self) -> Target:
        """The first of its targets."""
        return self.targets[0]

    def fits(self, call: Call, tokens: float) -> bool:
        """Whether a call fits into the model's context, and count it if it does not."""
        if self.context is None or tokens + (call.max_tokens or 0) <= self.context:
            return True
        self.too_long += 1
        self.longest = max(self.longest, tokens)
        return False


class Survey(Generic[RowT]):
    """What a job consists of.

    Args:
        engine: knows the targets, the prices and the cache.
        sample: the most calls of the sample, for each model.
        each: how many neighbours are variants of one row: they come into the sample together.

    Attributes:
        parts: the calls of each model, in order of appearance.
        calls: how many there are in all.
        finished: those that have a result.
        duplicates: those that repeat another one.
        cached: those that a cache answers.
    """

    def __init__(self, engine: Engine, sample: int, each: int = 1) -> None:
        self.parts: dict[str | None, Part[RowT]] = {}
        self.calls = self.finished = self.duplicates = self.cached = 0
        self._engine = engine
        self._sample = sample
        self._each = each
        self._cache = engine.stack.cache
        self._seen = Digests()
        self._estimator = Estimator()

    async def look(self, rows: AsyncIterable[list[Given[RowT]]]) -> None:
        """Look through the calls.

        Raises:
            ConfigError: there is no call, or the model of one cannot be used.
        """
        async for some in rows:
            known = await self._cache.look([each.call for each in some]) if self._cache is not None else None
            for place, given in enumerate(some):
                self._see(given, None if known is None else known[place])
        if not self.calls:
            raise ConfigError("there is nothing to plan: the input has no calls")

    def _see(self, given: Given[RowT], known: tuple[bytes | None, bool] | None) -> None:
        call = given.call
        self.calls += 1
        self.finished += given.done
        part = self.parts.get(call.model) or self._begin(call)
        if 0 < part.calls < FIRST:
            part.first.append(call)
        part.calls += 1
        key, cached = known if known is not None else (None, False)
        if self._seen.has(int.from_bytes((key or fingerprint(content(call)))[:8])):
            self.duplicates += 1
            if self._cache is not None and not given.done:
                return
        if cached and not given.done:
            self.cached += 1
            return
        size = self._estimator.need(call).input
        if not given.done and not part.fits(call, size / MARGIN):
            return
        mark = mark_of(given.index // self._each * 1_000_003 + (call.sample or 0))
        part.strata.of(size).add(Entry(mark, given.index, size, given.row), done=given.done)

    def _begin(self, call: Call) -> Part[RowT]:
        targets, prices = self._engine.targets_of(call.model), self._engine.stack.prices
        known = [most for target in targets if (most := prices.context(target)) is not None]
        context = max(known) if len(known) == len(targets) else None
        part = self.parts[call.model] = Part[RowT](call.model, targets, context, self._sample, call)
        return part


class Digests:
    """A set of numbers of 64 bits in 8 to 32 bytes each, where a Python set takes a hundred."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 1_024))
        self._count = 0

    def has(self, digest: int) -> bool:
        """Whether a number was given before. From now on it was."""
        digest = digest or 1  # 0 marks an empty place
        if self._put(digest):
            return True
        self._count += 1
        if 2 * self._count > len(self._table):
            old, self._table = self._table, array("Q", bytes(32 * len(self._table)))
            for each in filter(None, old):
                self._put(each)
        return False

    def _put(self, digest: int) -> bool:
        table = self._table
        place = digest % len(table)
        while (there := table[place]) != digest:
            if not there:
                table[place] = digest
                return False
            place = (place + 1) % len(table)
        return True


async def in_lots(
    calls: AsyncIterable[tuple[int, Call, RowT]], done: Callable[[int], bool]
) -> AsyncIterator[list[Given[RowT]]]:
    """The calls of a job in lots, each with whether it has a result."""
    lot: list[Given[RowT]] = []
    async for index, call, row in calls:
        lot.append(Given(index, call, row, done(index)))
        if len(lot) >= AT_ONCE:
            yield lot
            lot = []
    if lot:
        yield lot
