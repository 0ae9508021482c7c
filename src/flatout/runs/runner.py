"""The runner turns a file of prompts into one answer or named error each, kept in a run file that survives a crash.

A row is reported (counted, written to the output) only after it is committed. Running the same command again resumes
the run. If the run file belongs to other rows, the runner refuses it before it sends anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from msgspec import to_builtins
from msgspec.structs import replace

from flatout.client import Client, engine_of
from flatout.client.change import Change
from flatout.control.place import places
from flatout.control.server import served
from flatout.errors import ConfigError, StoreError
from flatout.progress._counters import COST, PROMPT_CACHE, Progress
from flatout.store import ItemState, RunState
from flatout.store.course import Deed, Happening
from flatout.store.rows import NONE_AGAIN
from flatout.tasks.closing import close_all

from .alone import Alone, Heard
from .by_lane import ByLane
from .client_options import ClientOptions
from .input.delimited import checked_delimiter
from .job import AGAIN, BUDGET, REACH, Reach, RunEnd, RunOptions
from .opened import Opened
from .output.claim import OUTPUTS
from .output.export import export
from .pending import Pending, ReadT
from .skips import Skip
from .steered import SIGNAL, SteeredRun
from .under_way import GRACE
from .work import Work

if TYPE_CHECKING:
    from flatout.money.purse import Purse

    from .batched import Batched
    from .workers.team import Team

_log = logging.getLogger("flatout")


class Runner:
    """Runs one job. Call `prepare` first, then `run`; `stop` may come at any time.

    Args:
        options: what to run.
        make_client: makes the client.
        warn: receives problems beside the run, such as a collector that accepts no data.
        made_with: what ``make_client`` makes it with, for the clients of several workers.

    Attributes:
        job: the job.
    """

    def __init__(
        self,
        options: RunOptions,
        make_client: Callable[[], Client],
        warn: Callable[[str], None] = _log.warning,
        made_with: ClientOptions | None = None,
    ) -> None:
        self.job = Opened(options, make_client)
        self._pending = Pending(self.job)
        self._warn = warn
        self._made_with = made_with
        self._lanes: ByLane | None = None  # None before the job is prepared
        self._told_again = NONE_AGAIN

    def prepare(self) -> None:
        """Find every error before the first call; see `Opened.prepare`."""
        self.job.prepare()
        self._lanes = ByLane(self.job, self._pending, self._warn, self._made_with)

    @property
    def progress(self) -> Progress:
        """The counters."""
        return self.job.progress

    @property
    def client(self) -> Client:
        """The client, after `prepare`."""
        return self.job.client

    @property
    def sent(self) -> int:
        """How many attempts this process has sent, or its workers."""
        asks = self._asks
        return asks.sent if asks is not None else 0

    @property
    def stops(self) -> int:
        """How often the run was told to stop."""
        return self._pending.stops

    @property
    def drains(self) -> bool:
        """Whether attempts in flight may take as long as they do, although the run was told to stop."""
        return self._pending.drains

    @asynccontextmanager
    async def open_for_sample(self) -> AsyncIterator[None]:
        """A block in which `sample` may be used, instead of `run`. The run will continue from there."""
        job = self.job
        job.progress.started = asyncio.get_running_loop().time()
        job.store.set_fact(REACH, Reach(os.getpid(), "plan"))
        try:
            yield
        finally:
            self._note_prompt_cache()
            state: RunState = "interrupted" if self.sent else job.state_before
            await close_all(partial(job.store.mark, state), job.store.close)

    async def sample(self, works: AsyncIterator[Work], heard: Heard) -> None:
        """Ask some rows, and keep their results. This closes the client.

        Args:
            works: the rows.
            heard: hears of each row that is over: its result, or None if it was dropped.

        Raises:
            StoreError: as for `run`.
        """
        assert self._lanes is not None
        await self._lanes.ask_some(works, heard)

    async def read(self, some: Callable[[], list[ReadT]]) -> list[ReadT]:
        """Read some of the input in a thread; see `Pending.read`."""
        return await self._pending.read(some)

    async def run(self) -> RunEnd:
        """Ask every row that has no answer yet, and write the output.

        Raises:
            StoreError: the run file can no longer be written. It holds everything that was reported.
        """
        assert self._lanes is not None
        job, store, progress = self.job, self.job.store, self.job.progress
        loop = asyncio.get_running_loop()
        progress.started = loop.time() - (time.time() - store.opened_at)  # as the file tells it
        ended_at: float | None = None
        self._tell_again(set(job.again))
        steered = SteeredRun(self, str(job.run_file), loop.time)
        try:
            try:
                async with served(partial(places, job.run_file), steered) as where:
                    store.set_fact(REACH, Reach(os.getpid(), "unheard" if where is None else "steered"))
                    await self._lanes.ask_all()
                store.set_fact(REACH, Reach(os.getpid(), "over"))
                await self._purse.look()
                self.refresh()
                ended_at = time.time()
                store.set_fact(BUDGET, progress.budget)
                store.set_fact(COST, progress.whole.cost)
                outcome = await self._finish()
                progress.elapsed = ended_at - store.opened_at  # the output was written after that
            finally:
                state: RunState = "finished" if job.left == 0 else "interrupted"
                self._note_prompt_cache()
                await close_all(partial(store.mark, state, ended_at), store.close)
        except BaseException:
            if not self.sent:
                await asyncio.to_thread(job.discard)
            raise
        return outcome

    def _note_prompt_cache(self) -> None:
        """Add what this process took from the providers' prompt caches to what the run file knows of earlier ones."""
        if use := self.progress.prompt_cache:
            self.job.store.set_fact(PROMPT_CACHE, to_builtins(self.progress.earlier.prompt_cache + use))

    def refresh(self) -> None:
        """Bring the live values of `progress` up to date."""
        if (asks := self._asks) is not None:
            asks.refresh()
            self.progress.budget = self._purse.standing()

    def stop(self, *, drain: bool = False, by: str = SIGNAL) -> None:
        """Stop the run, and write that down. Call it in the event loop.

        Attempts in flight may finish, but no new one starts. After 30 s, or at the second call, everything in flight is
        cancelled. Rows without an answer are left for the next run.

        Args:
            drain: let the attempts in flight, or the open batches, take as long as they do. The next call is then like
                a first one.
            by: who stops it.
        """
        pending, lanes = self._pending, self._lanes
        pending.ending.told(drain=drain)
        self._note_stop(drain=drain, by=by)
        pending.collects = self.drains and lanes is not None and lanes.batches
        if self.job.pipe is not None:
            self.job.pipe.close()
        pending.leave()
        if lanes is not None:
            lanes.stop(drain=drain)

    def _note_stop(self, *, drain: bool, by: str) -> None:
        now, progress = time.time(), self.progress
        progress.stopping = True
        progress.ends_by = None if self.drains or progress.batches.open else now + (GRACE if self.stops == 1 else 0.0)
        if self._asks is not None:  # else there is no run file yet
            does: Deed = "drain" if drain else "stop"
            told = Happening(at=now, until=progress.ends_by, kind="change", what=does, by=by, does=does)
            self.job.store.note_happening(told)

    def steer(self, change: Change, by: str) -> None:
        """Change limits, pause or resume; see `flatout.client.change.steer`.

        Raises:
            ConfigError: the change is wrong, or has no effect on this run.
        """
        self._asker().steer(change, by)

    def skip(self, skip: Skip) -> bool:
        """Skip a row, and write that down. Returns whether it is under way; otherwise it is skipped when it comes.

        Raises:
            ConfigError: there is no such row, or the run cannot skip rows.
        """
        self.job.checked.find(skip.index, skip.id)
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
        feed = self._lanes.feed if self._lanes is not None else None
        if feed is None:
            raise ConfigError("rows that were in batches are asked again by the same command, once the run is over")
        if self.job.pipe is not None:
            raise ConfigError("the run's rows come through a pipe, which cannot be read again")
        self.refresh()
        count = self.progress.held + (self.progress.failed if failed else 0)
        if count or failed:
            states: set[ItemState] = {"unsent", "failed"} if failed else {"unsent"}
            self._tell_again(states)
            feed.ask_again(states)
        return count

    def _tell_again(self, states: Set[ItemState]) -> None:
        """Write down which rows are asked again that have ended so until now."""
        told = {state: time.time() for state in states}
        self._told_again = replace(self._told_again, **told)
        self.job.store.set_fact(AGAIN, self._told_again)

    @property
    def _asks(self) -> Alone | Team | Batched | None:
        """What asks the rows now; None before the first row is asked."""
        return None if self._lanes is None else self._lanes.asks

    def _asker(self) -> Alone | Team | Batched:
        if (asks := self._asks) is None:
            raise ConfigError("the run has not begun to ask: try again in a moment")
        return asks

    @property
    def _purse(self) -> Purse:
        return engine_of(self.client).stack.purse

    def keep_budget(self) -> None:
        """Write down how the budget stands, because it was changed."""
        self.job.store.set_fact(BUDGET, self._purse.standing())

    def note(self, what: str, by: str) -> None:
        """Write down that somebody did something."""
        self.job.store.note_happening(Happening(at=time.time(), kind="change", what=what, by=by))

    async def _finish(self) -> RunEnd:
        """Write the output if the run is over."""
        job, options, progress = self.job, self.job.options, self.job.progress
        left = job.left
        interrupted = self.stops > 0 and left != 0
        waits = left is not None and left > progress.held  # rows without money are not waited for
        under_way = progress.batches.open > 0 or (options.detach and waits)
        unwritten = False
        if not (interrupted or under_way) or options.passes:  # rows from a pipe cannot be read again
            write = partial(self._write, self.stops)
            unwritten = await self._pending.unless_left(write, options.output) is None
        return RunEnd(
            interrupted=interrupted or unwritten,
            unfinished=left,
            run_file=str(job.run_file),
            output=job.output,
            batches=progress.batches.open,
            under_way=under_way,
            unwritten=unwritten,
        )

    def _write(self, stops: int) -> int:
        """Write the output and return the number of its rows. All of them are in the run file.

        Args:
            stops: how often the run was told to stop before. If it is told again, nobody waits for the output.
        """
        job, options, pending = self.job, self.job.options, self._pending

        def check() -> None:
            if pending.leaves and self.stops > stops:
                raise StoreError("the run was stopped while its output was written")

        def note(digests: list[str]) -> None:
            check()  # the output would take its place now
            job.store.set_fact_now(OUTPUTS, digests)

        own = pending.own_rows if not options.keep_prompts and job.pipe is None else None
        return export(
            job.run_file,
            options.output or "-",
            columns=job.checked.columns if own is not None or options.keep_prompts else None,
            at_least=job.progress.finished,
            own=own,
            types=job.input.types,
            delimiter=options.delimiter and checked_delimiter(options.delimiter),
            neutralise=options.neutralise,
            claim=replace(job.claim, note=note),
            before=check,
        )
