"""Asks the rows of a run by its lane: live, flex or in batches. Rows leave a lane that would not be in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from flatout.client import engine_of
from flatout.store import Item
from flatout.store.ledger import LANE
from flatout.tasks.loop import wall

from .again import Feed
from .alone import Alone, Heard
from .client_options import ClientOptions
from .job import FORECAST
from .opened import Opened
from .pending import Pending
from .work import Work

if TYPE_CHECKING:
    from flatout.lanes.batch.lane import BatchLane
    from flatout.lanes.escalation import Way
    from flatout.lanes.flex import FlexLane

    from .batched import Batched
    from .plan.forecast import Watch
    from .workers.team import Team


class ByLane:
    """Asks the rows of a prepared job: alone, with several workers or in batches.

    Args:
        job: the job.
        pending: its rows.
        warn: receives problems beside the run.
        made_with: what the job's client was made with, for the clients of several workers.

    Attributes:
        asks: what asks the rows now; None before the first row is asked.
        feed: what the rows come through that may be asked again in this run; None if they come from elsewhere.
    """

    def __init__(
        self, job: Opened, pending: Pending, warn: Callable[[str], None], made_with: ClientOptions | None
    ) -> None:
        self.asks: Alone | Team | Batched | None = None
        self.feed: Feed | None = None
        self._job = job
        self._options = job.options
        self._progress = job.progress
        self._client = job.client
        self._engine = engine_of(job.client)
        self._store = job.store
        self._pending = pending
        self._warn = warn
        self._made_with = made_with
        self._batched_now: Batched | None = None
        self._taken_up_at = 0.0  # Unix time
        self._forecast: Any = job.store.fact(FORECAST)  # here, because the event loop waits for no disk
        self._began = False  # whether the time that the run has began with an earlier command

    async def ask_all(self) -> None:
        """Ask every row that has no answer yet, and close the client: it gives back what it has borrowed."""
        self._taken_up_at = time.time()
        try:
            if self._options.lane in ("live", "flex"):
                await self._ask_at_once()
            else:
                await self._ask_in_batches()
        finally:
            await self._client.close()

    async def ask_some(self, works: AsyncIterator[Work], heard: Heard) -> None:
        """Ask these rows live; see `flatout.runs.runner.Runner.sample`."""
        alone = self.asks = Alone(self._client, self._store, self._options, self._progress, self._warn, heard)
        await alone.ask(works)

    @property
    def batches(self) -> bool:
        """Whether rows are asked in batches now."""
        return self._batched_now is not None and self.asks is self._batched_now

    def stop(self, *, drain: bool) -> None:
        """Give no more rows, and stop who asks; see `flatout.runs.runner.Runner.stop`."""
        if self.feed is not None:
            self.feed.end()
        if self.asks is not None:
            self.asks.stop(drain=drain)

    async def _ask_at_once(self) -> None:
        """Ask live, or at a provider's cheaper service."""
        batched = await self._take_from_batches()
        asks = self.asks = self._asking(await self._wanted_flex())
        if batched is None:
            take_back = partial(self._take_back, asks)
            feed = self.feed = Feed(self._pending.to_ask(), self._pending.failed, take_back, asks.input_at_end)
            await asks.ask(feed.rows(), over=feed.over)
        else:
            await asks.ask(batched.lane.free(self._pending.to_ask(False)))
            batched.lane.money.save()

    async def _ask_in_batches(self) -> None:
        """Ask in batches, and live what would not be in time there."""
        from flatout.lanes.within import LEAVES

        lanes, until = await self._lanes()
        batched = self.asks = self._batched_now = self._batched()
        leave_at = None
        if until is not None:
            lane, leave_at = self._lane_in_time(batched.lane, lanes, until)
            if lane != "batch":
                flex = self._flex(lanes, until) if lane == "flex" else None
                alone = self.asks = self._alone(flex)
                await alone.ask(self._pending.to_ask(), closes=False)
                return
        self._store.set_fact(LEAVES, leave_at)
        if not batched.lane.has_begun:
            self._warn_of_prices()
        if await batched.ask_all(self._pending.to_ask, leave_at):
            await self._ask_the_rest(batched, lambda: self._flex(lanes, until))

    def _lane_in_time(
        self, lane: BatchLane, lanes: list[Way], until: float
    ) -> tuple[Literal["live", "flex", "batch"], float]:
        """The lane that rows go to, and when they leave their batches."""
        from flatout.lanes.escalation import leaves_at, on_the_way
        from flatout.lanes.refusals import COMMAND
        from flatout.lanes.within import keep_deadline, lane_for

        whole, began, left = self._options.within or 0.0, lane.has_begun, until - lane.now()
        chosen, why = lane_for(self._options.lane, lanes, left, whole=whole, began=began, say=COMMAND)
        keep_deadline(self._store, whole, until)
        goes_to = "batch" if began else chosen
        self._store.set_fact(LANE, goes_to)
        if why:
            self._warn(why)
        return goes_to, until - leaves_at("batch", on_the_way(lanes, whole)) if chosen == "batch" else lane.now()

    def _warn_of_prices(self) -> None:
        """Say which models' price in batches is not known."""
        from flatout.lanes.batch.targets import unpriced

        for note in dict.fromkeys(unpriced(self._engine, model) for model in self._models()):
            if note:
                self._warn(note)

    async def _ask_the_rest(self, batched: Batched, flex: Callable[[], FlexLane | None]) -> None:
        """Ask the rows that have left their batches, and those that come back from the last ones."""
        self._store.set_fact(LANE, "live" if flex() is None else "flex")
        while not self._pending.stops and self._job.left != 0:
            alone = self.asks = self._alone(flex())
            await alone.ask(batched.lane.free(self._pending.to_ask(False)), closes=False)
            batched.lane.money.save()
            if not batched.lane.open_batches:
                return
            self.asks = batched
            await batched.collect(self._pending.to_ask)

    def _models(self) -> list[str | None]:
        """The models that rows go to unless they name one; None is the client's."""
        return [*self._options.models] if self._options.models else [self._options.model]

    async def _wanted_flex(self) -> FlexLane | None:
        """The flex lane, if the user wants it and there is time for it."""
        if self._options.lane != "flex":
            return None
        from flatout.lanes.flex import FlexLane
        from flatout.lanes.refusals import COMMAND
        from flatout.lanes.within import keep_deadline, lane_for

        lanes, until = await self._lanes()
        if until is None:
            return FlexLane(self._engine)
        whole = self._options.within or 0.0
        lane_for("flex", lanes, until - wall(), whole=whole, began=self._began, say=COMMAND)
        keep_deadline(self._store, whole, until)
        return self._flex(lanes, until)

    def _flex(self, lanes: list[Way], until: float | None) -> FlexLane | None:
        """The flex lane of rows that are wanted by a time; None if there is none, or no time for it."""
        from flatout.lanes.escalation import leaves_at
        from flatout.lanes.flex import FlexLane

        if until is None or not any(way.lane == "flex" for way in lanes):
            return None
        lane = FlexLane(self._engine, until - leaves_at("flex", lanes))
        return lane if lane.left() > 0 else None

    async def _lanes(self) -> tuple[list[Way], float | None]:
        """The lanes that there are, and until when the answers are wanted."""
        from flatout.lanes.within import SAMPLE, deadline, ways

        await self._engine.stack.prices.load()
        rows = self._job.left or 0
        calls = [] if self._options.within is None else await self._pending.some(SAMPLE)
        lanes = ways(self._engine, self._options.model, rows, calls)
        if self._options.within is None:
            return lanes, None
        now = wall()
        until = deadline(self._store, self._options.within, now, anew=self._job.state_before == "finished")
        self._began = until < now + self._options.within
        return lanes, until

    async def _take_from_batches(self) -> Batched | None:
        """Keep the results that batches have left in the run file: they are paid for. None if there are none."""
        if not await asyncio.to_thread(self._store.ledger.has_results):
            return None
        batched = self._batched()
        await batched.take(self._pending.to_ask)
        return batched

    def _batched(self) -> Batched:
        from .batched import Batched  # loaded for those who want it

        return Batched(self._client, self._store, self._options, self._progress, str(self._job.run_file), self._warn)

    def _asking(self, flex: FlexLane | None) -> Alone | Team:
        """Who asks the rows: this process, or several."""
        if self._options.workers == 1:
            return self._alone(flex)
        from .workers.assembly import team_for  # loaded for those who want it

        assert self._made_with is not None
        watch = self._watch(flex)
        return team_for(
            self._options,
            self._made_with,
            self._client,
            self._store,
            self._progress,
            str(self._job.run_file),
            flex,
            None if watch is None else watch.over,
        )

    def _alone(self, flex: FlexLane | None = None) -> Alone:
        watch = self._watch(flex)
        return Alone(
            self._client,
            self._store,
            self._options,
            self._progress,
            self._warn,
            None if watch is None else watch.heard,
            flex,
        )

    def _watch(self, flex: FlexLane | None) -> Watch | None:
        """What compares the run with its plan; None if it was not planned."""
        if self._forecast is None:
            return None
        from .plan.forecast import Watch

        loop, progress, lane = asyncio.get_running_loop(), self._progress, "live" if flex is None else "flex"

        def elapsed() -> float:
            return loop.time() - progress.started

        def stood() -> float:
            if self.asks is not None:
                self.asks.refresh()
            return progress.stood

        return Watch.of(self._forecast, lane, self._client.model, elapsed, stood, self._warn)

    def _take_back(self, asks: Alone | Team, work: Work, item: Item) -> None:
        """Count a row as not over, because it is asked again."""
        asks.forget_skip(work)
        if item.finished_at < self._taken_up_at:
            self._progress.resumed -= 1
            self._progress.failed_before -= item.state == "failed"
        else:
            asks.take_back(item)
