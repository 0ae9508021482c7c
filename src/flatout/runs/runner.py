"""The runner turns a file of prompts into one answer or named error each, kept in a run file that survives a crash.

A row is reported (counted, written to the output) only after it is committed. Running the same command again resumes
the run. If the run file belongs to other rows, the runner refuses it before it sends anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from msgspec.structs import replace

from flatout.client import Client
from flatout.control.place import places
from flatout.control.server import served
from flatout.errors import ConfigError
from flatout.progress._counters import COST, PROMPT_CACHE
from flatout.steering import Change
from flatout.store import Item, ItemState, RunFile, RunState
from flatout.store.course import DRAIN, STOP, Happening
from flatout.store.ledger import LANE
from flatout.store.rows import NONE_AGAIN
from flatout.tasks.closing import close_all

from .again import Feed
from .alone import Alone, Heard
from .client_options import ClientOptions
from .input.delimited import checked_delimiter
from .job import AGAIN, BUDGET, RunEnd, RunOptions
from .output.claim import OUTPUTS
from .output.export import export
from .pending import Pending
from .skips import Skip
from .steered import SIGNAL, SteeredRun
from .under_way import GRACE
from .work import Work

if TYPE_CHECKING:
    from flatout.lanes.escalation import Way
    from flatout.lanes.flex import FlexLane

    from .batched import Batched
    from .plan.forecast import Watch
    from .workers.team import Team

_log = logging.getLogger("flatout")

FORECAST = "forecast"
"""The fact in the run file that holds its plan's forecast."""


class Runner(Pending):
    """Runs one job. Call `prepare` first, then `run`; `stop` may come at any time.

    Args:
        options: what to run.
        make_client: makes the client. `prepare` calls it first, so a missing key is found before the input is read.
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
        self._asked_again = 0
        self._told_again = NONE_AGAIN
        self._forecast: Any = None
        self._began = False  # whether the time that the run has began with an earlier command

    def prepare(self) -> None:
        """Find every error before the first call; see `Opened.prepare`."""
        super().prepare()
        self._forecast = self.store.fact(FORECAST)  # here, because the event loop waits for no disk

    @asynccontextmanager
    async def open_for_sample(self) -> AsyncIterator[None]:
        """A block in which `sample` may be used, instead of `run`. The run will continue from there."""
        self.progress.started = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._note_prompt_cache(self.store)
            state: RunState = "interrupted" if self.sent else self._state_before
            await close_all(partial(self.store.mark, state), self.store.close)

    async def sample(self, works: AsyncIterator[Work], heard: Heard) -> None:
        """Ask some rows, and keep their results. This closes the client.

        Args:
            works: the rows.
            heard: hears of each row that is over: its result, or None if it was dropped.

        Raises:
            StoreError: as for `run`.
        """
        alone = self._asks = Alone(self.client, self.store, self.options, self.progress, self._warn, heard)
        await alone.ask(works)

    async def run(self) -> RunEnd:
        """Ask every row that has no answer yet, and write the output.

        Raises:
            StoreError: the run file can no longer be written. It holds everything that was reported.
        """
        assert self._client is not None
        assert self._store is not None
        store = self._store
        loop = asyncio.get_running_loop()
        self.progress.started, self._taken_up_at = loop.time(), time.time()
        self._tell_again(set(self._again))
        steered = SteeredRun(self, str(self.run_file), loop.time)
        try:
            try:
                async with served(partial(places, self.run_file), steered):
                    await self._ask_all(self._client, store)
                await self._client.purse.look()
                self.refresh()
                store.set_fact(BUDGET, self.progress.budget)
                store.set_fact(COST, self.progress.whole.cost)
                outcome = await asyncio.to_thread(self._finish)
            finally:
                state: RunState = "finished" if self._left() == 0 else "interrupted"
                self._note_prompt_cache(store)
                await close_all(partial(store.mark, state), store.close)
        except BaseException:
            if not self.sent:
                await asyncio.to_thread(self._discard)
            raise
        return outcome

    def _note_prompt_cache(self, store: RunFile) -> None:
        """Add what this process took from the providers' prompt caches to what the run file knows of earlier ones."""
        if use := self.progress.prompt_cache:
            store.set_fact(PROMPT_CACHE, to_builtins(self.progress.earlier.prompt_cache + use))

    @property
    def sent(self) -> int:
        """How many attempts this process has sent, or its workers."""
        return self._asks.sent if self._asks is not None else 0

    async def _ask_all(self, client: Client, store: RunFile) -> None:
        """Ask every row that has no answer yet."""
        if self.options.lane in ("live", "flex"):
            batched = await self._take_from_batches(client, store)
            asks = self._asks = self._asking(client, store, await self._wanted_flex(client, store))
            if batched is None:
                take_back = partial(self._take_back, asks)
                feed = self._feed = Feed(self._pending(), self._failed, take_back, asks.input_at_end)
                await asks.ask(feed.rows(), over=feed.over)
            else:
                await asks.ask(batched.lane.free(self._pending(False)))
                batched.lane.money.save()
            return
        try:
            await self._ask_in_batches(client, store)
        finally:
            await client.close()

    async def _ask_in_batches(self, client: Client, store: RunFile) -> None:
        """Ask in batches, and live what would not be in time there."""
        from flatout.lanes.batch.targets import unpriced
        from flatout.lanes.escalation import leaves_at, on_the_way
        from flatout.lanes.refusals import COMMAND
        from flatout.lanes.within import LEAVES, keep_deadline, lane_for

        lanes, until = await self._lanes(client, store)
        batched = self._asks = self._batched_now = self._batched(client, store)
        leave_at = None
        if until is not None:
            left, whole, began = until - batched.lane.now(), self.options.within or 0.0, batched.lane.has_begun
            chosen, why = lane_for(self.options.lane, lanes, left, whole=whole, began=began, say=COMMAND)
            keep_deadline(store, whole, until)
            store.set_fact(LANE, "batch" if began else chosen)
            if why:
                self._warn(why)
            leave_at = until - leaves_at("batch", on_the_way(lanes, whole)) if chosen == "batch" else batched.lane.now()
            if chosen != "batch" and not began:
                flex = self._flex(client, lanes, until) if chosen == "flex" else None
                alone = self._asks = self._alone(client, store, flex)
                await alone.ask(self._pending(), closes=False)
                return
        store.set_fact(LEAVES, leave_at)
        if not batched.lane.has_begun:
            for note in dict.fromkeys(unpriced(client.engine, model) for model in self._models()):
                if note:
                    self._warn(note)
        if not await batched.ask_all(self._pending, leave_at):
            return
        store.set_fact(LANE, "live" if self._flex(client, lanes, until) is None else "flex")
        while not self.stops and self._left() != 0:
            alone = self._asks = self._alone(client, store, self._flex(client, lanes, until))
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
        lane_for("flex", lanes, until - _wall(), whole=whole, began=self._began, say=COMMAND)
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
        now = _wall()
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

    def refresh(self) -> None:
        """Bring the live values of `progress` up to date."""
        if self._asks is not None and self._client is not None:
            self._asks.refresh()
            self.progress.budget = self._client.purse.standing()

    def stop(self, *, drain: bool = False, by: str = SIGNAL) -> None:
        """Stop the run, and write that down. Call it in the event loop.

        Attempts in flight may finish, but no new one starts. After 30 s, or at the second call, everything in flight is
        cancelled. Rows without an answer are left for the next run.

        Args:
            drain: let the attempts in flight, or the open batches, take as long as they do. The next call is then like
                a first one.
            by: who stops it.
        """
        self.ending.told(drain=drain)
        self._note_stop(drain=drain, by=by)
        self.collects = self.drains and self._batched_now is not None and self._asks is self._batched_now
        if self._pipe is not None:
            self._pipe.close()
        if self._feed is not None:
            self._feed.end()
        if self._asks is not None:
            self._asks.stop(drain=drain)

    def _note_stop(self, *, drain: bool, by: str) -> None:
        now, progress = time.time(), self.progress
        progress.stopping = True
        progress.ends_by = None if self.drains or progress.batches.open else now + (GRACE if self.stops == 1 else 0.0)
        if self._asks is not None:  # else there is no run file yet
            what = DRAIN if drain else STOP
            self.store.note_happening(Happening(at=now, until=progress.ends_by, kind="change", what=what, by=by))

    def steer(self, change: Change, by: str) -> None:
        """Change limits, pause or resume; see `flatout.Client.steer`.

        Raises:
            ConfigError: the change is wrong, or has no effect on this run.
        """
        self._asker().steer(change, by)

    def skip(self, skip: Skip) -> bool:
        """Skip a row, and write that down. Returns whether it is under way; otherwise it is skipped when it comes.

        Raises:
            ConfigError: there is no such row, or the run cannot skip rows.
        """
        self._checked.find(skip.index, skip.id)
        under_way = self._asker().skip(skip)
        self.note(f"skip {skip}", skip.by)
        return under_way

    def ask_again(self, *, failed: bool) -> int:
        """Ask the rows again that have no answer. Returns how many of this process there are.

        Args:
            failed: ask those that failed, too, also in earlier processes; otherwise only those that were held back.

        Raises:
            ConfigError: the run cannot ask them again.
        """
        self._asker()
        if self._feed is None:
            raise ConfigError("rows that were in batches are asked again by the same command, once the run is over")
        if self._pipe is not None:
            raise ConfigError("the run's rows come through a pipe, which cannot be read again")
        self.refresh()
        count = self.progress.held + (self.progress.failed if failed else 0)
        if count or failed:
            states: set[ItemState] = {"unsent", "failed"} if failed else {"unsent"}
            self._tell_again(states)
            self._feed.ask_again(states)
        return count

    def _tell_again(self, states: Set[ItemState]) -> None:
        """Write down which rows are asked again that have ended so until now."""
        told = {state: time.time() for state in states}
        self._told_again = replace(self._told_again, **told)
        self.store.set_fact(AGAIN, self._told_again)

    def _take_back(self, asks: Alone | Team, work: Work, item: Item) -> None:
        """Count a row as not over, because it is asked again."""
        asks.forget_skip(work)
        if item.finished_at < self._taken_up_at:
            self.progress.resumed -= 1
            self._asked_again += 1
        else:
            asks.take_back(item)

    def _asker(self) -> Alone | Team | Batched:
        if self._asks is None:
            raise ConfigError("the run has not begun to ask: try again in a moment")
        return self._asks

    def keep_budget(self) -> None:
        """Write down how the budget stands, because it was changed."""
        self.store.set_fact(BUDGET, self.client.purse.standing())

    def note(self, what: str, by: str) -> None:
        """Write down that somebody did something."""
        self.store.note_happening(Happening(at=time.time(), kind="change", what=what, by=by))

    def _left(self) -> int | None:
        total = self.progress.total
        return None if total is None else max(0, total - self.progress.finished)

    def _finish(self) -> RunEnd:
        assert self._input is not None
        assert self._store is not None
        left = self._left()
        interrupted = self.stops > 0 and left != 0
        waits = left is not None and left > self.progress.held  # rows without money are not waited for
        under_way = self.progress.batches.open > 0 or (self.options.detach and waits)
        if not (interrupted or under_way) or self.options.passes:  # rows from a pipe cannot be read again
            own = self._own_rows if not self.options.keep_prompts and self._pipe is None else None
            export(
                self.run_file,
                self.options.output or "-",
                columns=self._checked.columns if own is not None or self.options.keep_prompts else None,
                at_least=self.progress.finished,
                own=own,
                types=self._input.types,
                delimiter=self.options.delimiter and checked_delimiter(self.options.delimiter),
                neutralise=self.options.neutralise,
                claim=replace(self._claim, note=partial(self._store.set_fact_now, OUTPUTS)),
            )
        return RunEnd(
            interrupted=interrupted,
            unfinished=left,
            run_file=str(self.run_file),
            output=self._output,
            batches=self.progress.batches.open,
            under_way=under_way,
            asked_again=self._asked_again,
        )


def _wall() -> float:
    """The wall clock; Unix time."""
    wall: Callable[[], float] = getattr(asyncio.get_running_loop(), "wall_time", time.time)
    return wall()
