"""The runner turns a file of prompts into one answer or named error each, kept in a run file that survives a crash.

A row is reported (counted, written to the output) only after it is committed. Running the same command again resumes
the run. If the run file belongs to other rows, the runner refuses it before it sends anything.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from msgspec import to_builtins
from msgspec.structs import replace

from flatout.control.place import places
from flatout.control.server import served
from flatout.errors import ConfigError
from flatout.progress._counters import COST, PROMPT_CACHE
from flatout.steering import Change
from flatout.store import ItemState, RunFile, RunState
from flatout.store.course import Deed, Happening
from flatout.store.rows import NONE_AGAIN
from flatout.tasks.closing import close_all

from .alone import Alone, Heard
from .by_lane import ByLane
from .input.delimited import checked_delimiter
from .job import AGAIN, BUDGET, REACH, Reach, RunEnd
from .output.claim import OUTPUTS
from .output.export import export
from .skips import Skip
from .steered import SIGNAL, SteeredRun
from .under_way import GRACE
from .work import Work

if TYPE_CHECKING:
    from .batched import Batched
    from .workers.team import Team


class Runner(ByLane):
    """Runs one job. Call `prepare` first, then `run`; `stop` may come at any time.

    Its arguments are those of `ByLane`.
    """

    _told_again = NONE_AGAIN

    @asynccontextmanager
    async def open_for_sample(self) -> AsyncIterator[None]:
        """A block in which `sample` may be used, instead of `run`. The run will continue from there."""
        self.progress.started = asyncio.get_running_loop().time()
        self.store.set_fact(REACH, Reach(os.getpid(), "plan"))
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
                async with served(partial(places, self.run_file), steered) as where:
                    store.set_fact(REACH, Reach(os.getpid(), "unheard" if where is None else "steered"))
                    await self._ask_all(self._client, store)
                store.set_fact(REACH, Reach(os.getpid(), "over"))
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
        self.leave_input()
        if self._feed is not None:
            self._feed.end()
        if self._asks is not None:
            self._asks.stop(drain=drain)

    def _note_stop(self, *, drain: bool, by: str) -> None:
        now, progress = time.time(), self.progress
        progress.stopping = True
        progress.ends_by = None if self.drains or progress.batches.open else now + (GRACE if self.stops == 1 else 0.0)
        if self._asks is not None:  # else there is no run file yet
            does: Deed = "drain" if drain else "stop"
            told = Happening(at=now, until=progress.ends_by, kind="change", what=does, by=by, does=does)
            self.store.note_happening(told)

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
        )
