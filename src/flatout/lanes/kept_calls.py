"""The calls of a program in a lane, with a run file that keeps their answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import astuple

from flatout.durable.attempts import NotedAttempts
from flatout.durable.mismatch import mismatch
from flatout.durable.records import NO_CALL, content, fingerprint, item_of, makes_no_call, result_of
from flatout.durable.run import AHEAD_WHOLE, Asker, Stored, check_no_batches, keep
from flatout.edge.fan_out import Flow, fan_out, outcome
from flatout.engine import Engine
from flatout.errors import BudgetExceeded, ConfigError, FlatoutError, InvalidRequest
from flatout.journey import Journey
from flatout.store.ledger import LANE
from flatout.tasks.loop import wall
from flatout.values import Call, CallLike, Result

from .batch.form import Form
from .batch.lane import BatchLane
from .batch.money import Money
from .batch.rounds import Rounds
from .batch.row import Before
from .batch.under_way import begin
from .escalation import Way, leaves_at, on_the_way
from .flex import FlexLane
from .offers import Lane
from .refusals import PROGRAM
from .wish import Source, Wish, check_call
from .within import LEAVES, WITHIN, deadline, keep_deadline, lane_for, ways_of

if TYPE_CHECKING:
    from flatout.store import Item, RunFile

_log = logging.getLogger("flatout")

TOGETHER = 500
"""Results that are committed together."""

_TURN = 50
"""Calls after which a pass lets others have the event loop."""


class Row(Struct, frozen=True):
    """A call to answer."""

    index: int
    call: Call
    made: bytes
    fingerprint: bytes
    before: Before | None = None


async def asked(asker: Asker, value: CallLike, index: int, journey: Journey, flex: FlexLane | None) -> Result[Any]:
    """Ask one call now. What the lane refuses is its result."""
    if flex is not None:
        call: Call | None = None
        try:
            flex.take(call := Call.of(value), journey)
        except FlatoutError as error:
            return outcome(index, journey, call=call, given=value, error=error)
    return await asker.result(value, index=index, journey=journey)


class LaneCalls:
    """Calls with a run file, in the lane that the user wants, or that is in time.

    Args:
        store: the run file.
        name: its name.
        source: the calls.
        wish: the lane, and by when the answers are wanted.
        asker: asks a call now.
        engine: the client's.
        again: the states of items that are asked again.
        flow: tells what goes on.
        form, known, ends_at: see `calls_in_lane`.
    """

    def __init__(
        self,
        store: RunFile,
        name: str,
        source: Source,
        wish: Wish,
        *,
        asker: Asker,
        engine: Engine,
        again: set[str],
        flow: Flow,
        form: Form,
        known: set[int] | None,
        ends_at: float | None,
    ) -> None:
        self._form = form
        self._flow = flow
        self._store = store
        self._name = name
        self._source = source
        self._wish = wish
        self._asker = asker
        self._engine = engine
        self._again = again
        self._known = known
        self._ends_at = ends_at
        self._given: set[int] = set()  # calls whose result was given, although their state is one of `again`
        self._found: list[tuple[Row, Result[Any]]] = []
        self._ready: asyncio.Queue[Result[Any] | None] = asyncio.Queue(TOGETHER)

    async def results(self) -> AsyncGenerator[Result[Any], None]:
        """The results, each once it is in the run file. Closing it leaves the batches where they are."""
        working = asyncio.ensure_future(self._ask_all())
        working.add_done_callback(self._wake)
        try:
            while not (working.done() and self._ready.empty()):
                if (result := await self._ready.get()) is not None:
                    yield result
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def _wake(self, _: object) -> None:
        """Wake the reader, who waits for a result that does not come; if there are results, it is awake."""
        if self._ready.empty():
            self._ready.put_nowait(None)

    async def _ask_all(self) -> None:
        """Ask every call that has no answer yet, in the lane that is wanted, and then in faster ones."""
        wanted, whole = self._wish.lane, self._wish.within or 0.0
        if wanted == "flex":
            await asyncio.to_thread(check_no_batches, self._store, self._name)
        lane = self._lane()
        lanes, until = await self._lanes()
        chosen: Lane = "flex" if wanted == "flex" else "batch"
        if until is not None:
            left = until - lane.now()
            began = left < whole if wanted == "flex" else lane.has_begun
            chosen, why = lane_for(wanted, lanes, left, whole=whole, began=began, say=PROGRAM)
            keep_deadline(self._store, whole, until)
            if why:
                _log.info("%s", why)
        self._store.set_fact(LANE, chosen)
        if wanted != "flex" and (chosen == "batch" or lane.has_begun):
            await self._ask_in_batches(lane, lanes, until, leaves=chosen != "batch")
        else:
            await self._ask_now(self._pending(first=True), self._flex(chosen, lanes, until))
        if until is not None:
            self._store.set_fact(WITHIN, None)  # what is added later has as much time again

    async def _ask_in_batches(
        self, lane: BatchLane, lanes: Sequence[Way], until: float | None, *, leaves: bool
    ) -> None:
        """Ask in batches, and at once what would not be in time there."""
        leave_at = lane.now() if leaves else self._ends_at
        if until is not None and not leaves:
            leave_at = until - leaves_at("batch", on_the_way(lanes, self._wish.within or 0.0))
        self._store.set_fact(LEAVES, leave_at)
        left = await Rounds(lane, partial(self._walk, lane)).go(leave_at)
        if left and self._ends_at is None:
            await self._ask_the_rest(lane, lanes, until)
        elif lane.money.short and not left:
            await self._refuse(lane.money.need)

    async def _refuse(self, usd: float) -> None:
        """Give the calls that a used-up budget holds back. The next program with more money asks them."""
        refusal = self._engine.stack.purse.refusal(usd)
        async with aclosing(self._pending(first=False)) as rows:
            async for row in rows:
                journey, error = Journey(asyncio.get_running_loop().time()), BudgetExceeded(refusal)
                await self._ready.put(outcome(row.index, journey, call=row.call, error=error))

    async def _ask_the_rest(self, lane: BatchLane, lanes: Sequence[Way], until: float | None) -> None:
        """Ask what has left its batches; and again what is in none of their results after all."""
        while True:
            await self._ask_now(lane.free(self._pending(first=False)), self._flex("flex", lanes, until))
            lane.money.save()
            if not lane.open_batches:
                return
            await lane.finish()
            await self._walk(lane, False)

    async def _lanes(self) -> tuple[list[Way], float | None]:
        """The lanes that there are, and until when the answers are wanted."""
        if self._wish.within is None:
            return [], None
        lanes = await ways_of(self._source, self._engine)
        return lanes, deadline(self._store, self._wish.within, wall(), anew=False)

    def _flex(self, chosen: Lane, lanes: Sequence[Way], until: float | None) -> FlexLane | None:
        """The flex lane, if calls go there and there is time for it."""
        if until is None:
            return FlexLane(self._engine) if chosen == "flex" else None
        if chosen != "flex" or not any(way.lane == "flex" for way in lanes):
            return None
        lane = FlexLane(self._engine, until - leaves_at("flex", lanes))
        return lane if lane.left() > 0 else None

    def _lane(self) -> BatchLane:
        money = Money.of(self._engine.stack, self._store)
        lane = BatchLane(self._engine, self._store.ledger, self._name, self._keep, money, self._form)
        return begin(self._engine, lane)

    # One pass over the calls

    async def _walk(self, lane: BatchLane, first: bool) -> None:
        async with aclosing(self._pending(first=first)) as rows:
            await lane.walk(rows)
        await self._commit()
        lane.money.save()

    async def _ask_now(self, rows: AsyncGenerator[Row, None], flex: FlexLane | None) -> None:
        """Ask calls now, live or in the flex lane."""

        async def ask(_: int, row: Row) -> None:
            journey = Journey(asyncio.get_running_loop().time())
            journey.notes = NotedAttempts(self._store, row.index)
            if row.before is not None:
                journey.account.spent(row.before.cost)
            result = await asked(self._asker, row.call, row.index, journey, flex)
            await keep(self._store, result, made=row.made, mark=row.fingerprint)
            if row.before is not None:
                row.before.settle()
            await self._give(result)

        async with aclosing(rows), aclosing(fan_out(rows, ask, self._window, self._flow)) as outcomes:
            async for _ in outcomes:
                pass

    def _window(self) -> int:
        return self._asker.window

    async def _pending(self, *, first: bool) -> AsyncGenerator[Row, None]:
        """The calls without a result. The first pass also gives the results that the file has.

        Raises:
            RunMismatch: a call has changed since; or there are fewer calls than the file has results for.
        """
        stored: Stored[Any] = Stored(self._store.items() if first else self._store.finished(), AHEAD_WHOLE)
        index = -1
        async with aclosing(self._source.read()) as values:
            async for value in values:
                index += 1
                if index % _TURN == _TURN - 1:
                    await asyncio.sleep(0)
                if stored.must_read:
                    await stored.read_ahead()
                item = stored.take(index)
                if item is not None and makes_no_call(item):
                    item = None
                row = await self._row(index, value, first=first)
                if row is None:
                    continue
                if first and item is not None:
                    self._compare(item, row)
                if item is not None and item.state not in self._again:
                    if first:
                        if self._known is not None:
                            self._known.add(index)
                        await self._ready.put(result_of(item, row.call))
                elif index not in self._given:
                    yield row
        if first:
            await stored.read_ahead()
            stored.check_nothing_left(self._name, index + 1, "the input has only")
            self._store.set_total(index + 1)

    async def _row(self, index: int, value: CallLike, *, first: bool) -> Row | None:
        """A call, ready to be asked. One that cannot be asked fails by itself, and nothing is sent."""
        call: Call | None = None
        try:
            call = Call.of(value)
            check_call(call, self._wish.lane, self._engine)
        except (ConfigError, InvalidRequest) as error:
            if first:
                journey = Journey(asyncio.get_running_loop().time())
                result = outcome(index, journey, call=call, given=value, error=error)
                await keep(self._store, result, made=NO_CALL, keep_prompts=False)
                await self._ready.put(result)
            return None
        made = content(call)
        return Row(index, call, made, fingerprint(made))

    def _compare(self, item: Item, row: Row) -> None:
        if item.fingerprint != row.fingerprint:
            raise mismatch(self._name, f"row {row.index + 1}", item, row.made, None)

    # Results

    async def _keep(self, row: Row, result: Result[Any]) -> None:
        """Keep a result, with those of many others in one commit."""
        self._found.append((row, result))
        if len(self._found) >= TOGETHER:
            await self._commit()

    async def _commit(self) -> None:
        found, self._found = self._found, []
        items = [item_of(result, made=row.made, row=None, mark=row.fingerprint) for row, result in found]
        await self._store.finish_all(map(astuple, items))
        for _, result in found:
            await self._give(result)

    async def _give(self, result: Result[Any]) -> None:
        if result.error is not None:
            self._given.add(result.index)
        await self._ready.put(result)
