"""Asks the rows of a run by its lane: live, flex or in batches. Rows leave a lane that would not be in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from flatout.client import Client
from flatout.store import Item, RunFile
from flatout.store.ledger import LANE
from flatout.tasks.loop import wall

from .again import Feed
from .alone import Alone
from .client_options import ClientOptions
from .job import FORECAST, RunOptions
from .pending import Pending
from .work import Work

if TYPE_CHECKING:
    from flatout.lanes.batch.lane import BatchLane
    from flatout.lanes.escalation import Way
    from flatout.lanes.flex import FlexLane

    from .batched import Batched
    from .plan.forecast import Watch
    from .workers.team import Team

_log = logging.getLogger("flatout")


class ByLane(Pending):
    """A run that can ask its rows: alone, with several workers or in batches.

    Args:
        options: what to run.
        make_client: makes the client.
        warn: receives problems beside the run, such as a collector that accepts no data.
        made_with: what ``make_client`` makes it with, for the clients of several workers.
    """

    def __init__(
        self,
        options: RunOptions,
        make_client: Callable[[], Client],
        warn: Callable[[str], None] = _log.warning,
        made_with: ClientOptions | None = None,
    ) -> None:
        super().__init__(options, make_client)
        self._made_with = made_with
        self._warn = warn
        self._asks: Alone | Team | Batched | None = None
        self._batched_now: Batched | None = None
        self._feed: Feed | None = None
        self._taken_up_at = 0.0  # Unix time
        self._forecast: Any = None
        self._began = False  # whether the time that the run has began with an earlier command

    def prepare(self) -> None:
        """Find every error before the first call; see `Opened.prepare`."""
        super().prepare()
        self._forecast = self.store.fact(FORECAST)  # here, because the event loop waits for no disk

    @property
    def sent(self) -> int:
        """How many attempts this process has sent, or its workers."""
        return self._asks.sent if self._asks is not None else 0

    async def _ask_all(self, client: Client, store: RunFile) -> None:
        """Ask every row that has no answer yet, and close the client: it gives back what it has borrowed."""
        try:
            if self.options.lane in ("live", "flex"):
                await self._ask_at_once(client, store)
            else:
                await self._ask_in_batches(client, store)
        finally:
            await client.close()

    async def _ask_at_once(self, client: Client, store: RunFile) -> None:
        """Ask live, or at a provider's cheaper service."""
        batched = await self._take_from_batches(client, store)
        asks = self._asks = self._asking(client, store, await self._wanted_flex(client, store))
        if batched is None:
            take_back = partial(self._take_back, asks)
            feed = self._feed = Feed(self._pending(), self._failed, take_back, asks.input_at_end)
            await asks.ask(feed.rows(), over=feed.over)
        else:
            await asks.ask(batched.lane.free(self._pending(False)))
            batched.lane.money.save()

    async def _ask_in_batches(self, client: Client, store: RunFile) -> None:
        """Ask in batches, and live what would not be in time there."""
        from flatout.lanes.within import LEAVES

        lanes, until = await self._lanes(client, store)
        batched = self._asks = self._batched_now = self._batched(client, store)
        leave_at = None
        if until is not None:
            lane, leave_at = self._lane_in_time(batched.lane, store, lanes, until)
            if lane != "batch":
                flex = self._flex(client, lanes, until) if lane == "flex" else None
                alone = self._asks = self._alone(client, store, flex)
                await alone.ask(self._pending(), closes=False)
                return
        store.set_fact(LEAVES, leave_at)
        if not batched.lane.has_begun:
            self._warn_of_prices(client)
        if await batched.ask_all(self._pending, leave_at):
            await self._ask_the_rest(client, store, batched, lambda: self._flex(client, lanes, until))

    def _lane_in_time(
        self, lane: BatchLane, store: RunFile, lanes: list[Way], until: float
    ) -> tuple[Literal["live", "flex", "batch"], float]:
        """The lane that rows go to, and when they leave their batches."""
        from flatout.lanes.escalation import leaves_at, on_the_way
        from flatout.lanes.refusals import COMMAND
        from flatout.lanes.within import keep_deadline, lane_for

        whole, began, left = self.options.within or 0.0, lane.has_begun, until - lane.now()
        chosen, why = lane_for(self.options.lane, lanes, left, whole=whole, began=began, say=COMMAND)
        keep_deadline(store, whole, until)
        goes_to = "batch" if began else chosen
        store.set_fact(LANE, goes_to)
        if why:
            self._warn(why)
        return goes_to, until - leaves_at("batch", on_the_way(lanes, whole)) if chosen == "batch" else lane.now()

    def _warn_of_prices(self, client: Client) -> None:
        """Say which models' price in batches is not known."""
        from flatout.lanes.batch.targets import unpriced

        for note in dict.fromkeys(unpriced(client.engine, model) for model in self._models()):
            if note:
                self._warn(note)

    async def _ask_the_rest(
        self, client: Client, store: RunFile, batched: Batched, flex: Callable[[], FlexLane | None]
    ) -> None:
        """Ask the rows that have left their batches, and those that come back from the last ones."""
        store.set_fact(LANE, "live" if flex() is None else "flex")
        while not self.stops and self._left() != 0:
            alone = self._asks = self._alone(client, store, flex())
            await alone.ask(batched.lane.free(self._pending(False)), closes=False)
            batched.lane.money.save()
            if not batched.lane.open_batches:
                return
            self._asks = batched
            await batched.collect(self._pending)

    def _models(self) -> list[str | None]:
        """The models that rows go to unless they name one; None is the client's."""
        return [*self.options.models] if self.options.models else [self.options.model]

    async def _wanted_flex(self, client: Client, store: RunFile) -> FlexLane | None:
        """The flex lane, if the user wants it and there is time for it."""
        if self.options.lane != "flex":
            return None
        from flatout.lanes.flex import FlexLane
        from flatout.lanes.refusals import COMMAND
        from flatout.lanes.within import keep_deadline, lane_for

        lanes, until = await self._lanes(client, store)
        if until is None:
            return FlexLane(client.engine)
        whole = self.options.within or 0.0
        lane_for("flex", lanes, until - wall(), whole=whole, began=self._began, say=COMMAND)
        keep_deadline(store, whole, until)
        return self._flex(client, lanes, until)

    @staticmethod
    def _flex(client: Client, lanes: list[Way], until: float | None) -> FlexLane | None:
        """The flex lane of rows that are wanted by a time; None if there is none, or no time for it."""
        from flatout.lanes.escalation import leaves_at
        from flatout.lanes.flex import FlexLane

        if until is None or not any(way.lane == "flex" for way in lanes):
            return None
        lane = FlexLane(client.engine, until - leaves_at("flex", lanes))
        return lane if lane.left() > 0 else None

    async def _lanes(self, client: Client, store: RunFile) -> tuple[list[Way], float | None]:
        """The lanes that there are, and until when the answers are wanted."""
        from flatout.lanes.within import SAMPLE, deadline, ways

        await client.engine.stack.prices.load()
        rows = self._left() or 0
        calls = [] if self.options.within is None else await self._some(SAMPLE)
        lanes = ways(client.engine, self.options.model, rows, calls)
        if self.options.within is None:
            return lanes, None
        now = wall()
        until = deadline(store, self.options.within, now, anew=self._state_before == "finished")
        self._began = until < now + self.options.within
        return lanes, until

    async def _take_from_batches(self, client: Client, store: RunFile) -> Batched | None:
        """Keep the results that batches have left in the run file: they are paid for. None if there are none."""
        if not await asyncio.to_thread(store.ledger.has_results):
            return None
        batched = self._batched(client, store)
        await batched.take(self._pending)
        return batched

    def _batched(self, client: Client, store: RunFile) -> Batched:
        from .batched import Batched  # loaded for those who want it

        return Batched(client, store, self.options, self.progress, str(self.run_file), self._warn)

    def _asking(self, client: Client, store: RunFile, flex: FlexLane | None) -> Alone | Team:
        """Who asks the rows: this process, or several."""
        if self.options.workers == 1:
            return self._alone(client, store, flex)
        from .workers.assembly import team_for  # loaded for those who want it

        assert self._made_with is not None
        watch = self._watch(client, flex)
        name = str(self.run_file)
        return team_for(
            self.options,
            self._made_with,
            client,
            store,
            self.progress,
            name,
            flex,
            None if watch is None else watch.over,
        )

    def _alone(self, client: Client, store: RunFile, flex: FlexLane | None = None) -> Alone:
        watch = self._watch(client, flex)
        return Alone(
            client, store, self.options, self.progress, self._warn, None if watch is None else watch.heard, flex
        )

    def _watch(self, client: Client, flex: FlexLane | None) -> Watch | None:
        """What compares the run with its plan; None if it was not planned."""
        if self._forecast is None:
            return None
        from .plan.forecast import Watch

        loop, progress, lane = asyncio.get_running_loop(), self.progress, "live" if flex is None else "flex"
        return Watch.of(self._forecast, lane, client.model, lambda: loop.time() - progress.started, self._warn)

    def _take_back(self, asks: Alone | Team, work: Work, item: Item) -> None:
        """Count a row as not over, because it is asked again."""
        asks.forget_skip(work)
        if item.finished_at < self._taken_up_at:
            self.progress.resumed -= 1
            self.progress.failed_before -= item.state == "failed"
        else:
            asks.take_back(item)

    def _left(self) -> int | None:
        total = self.progress.total
        return None if total is None else max(0, total - self.progress.finished)
