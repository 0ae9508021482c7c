"""Plans a job of the command. The sample's answers go into the run file, where the run itself finds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import islice
from typing import Any

from flatout.durable.records import result_of
from flatout.durable.run import Stored
from flatout.errors import ConfigError
from flatout.planning.asking import Allowance
from flatout.planning.calls import expected_cost, sampled
from flatout.planning.lanes import in_lane
from flatout.planning.outlook import Outlook, check_priced
from flatout.planning.size import SampleSize
from flatout.planning.survey import AT_ONCE, Given, Survey
from flatout.policies.forecast.strata import Entry
from flatout.progress._counters import Progress
from flatout.runs.job import FORECAST
from flatout.runs.runner import Runner
from flatout.runs.work import Work
from flatout.tasks.daemon import DaemonThreads
from flatout.values import Result
from flatout.values.plan import Plan

from .forecast import fact_of
from .lane import Taken, check_none_in_batches, lane_of


class Planner:
    """Plans the job of a runner. Call `prepare` first, then `run`; `stop` may come at any time.

    Args:
        runner: the job's; it is used up by the plan.
        size: the size of the sample, for each model.
        usd: the most US dollars that the sample may cost.
        dry_run: whether to ask nothing, and leave no file.
        rows: how many rows the job will have, if the input is only a part of them; None for those of the input.

    Attributes:
        progress: the counters of the sample.
        run_file: the file that keeps its answers.
    """

    def __init__(self, runner: Runner, size: SampleSize, usd: float, *, dry_run: bool, rows: int | None = None) -> None:
        self.progress: Progress = runner.progress
        self.run_file = runner.job.run_file
        self._runner = runner
        self._job = runner.job
        self._size = size
        self._usd = usd
        self._dry_run = dry_run
        self._rows = rows
        self._stopped = False
        self._allowance: Allowance | None = None
        self._is_over = False
        self._reckoning: asyncio.Future[Plan] | None = None

    @property
    def reckons(self) -> bool:
        """Whether the sample is over, and the plan is being made of it: of many rows that takes minutes."""
        return self._reckoning is not None and not self._reckoning.done()

    def prepare(self) -> None:
        """Find every error before the first call; see `Runner.prepare`.

        Raises:
            ConfigError: an option or a row is wrong, or the input can be read only once.
            StoreError: the run file cannot be used, or belongs to another job.
        """
        if self._job.options.source == "-":
            raise ConfigError(
                "a plan of standard input cannot be run afterwards, because that can be read only once: "
                "save it to a file first"
            )
        if self._dry_run:
            self._job.look()
        else:
            self._runner.prepare()

    def refresh(self) -> None:
        """Bring the live values of `progress` up to date."""
        self._runner.refresh()

    def stop(self) -> None:
        """Stop: see `Runner.stop`."""
        self._stopped = True
        self._runner.stop()
        if self._reckoning is not None:
            self._reckoning.cancel()

    async def run(self) -> Plan | None:
        """Ask the sample, and make the plan; None if it was stopped.

        Raises:
            ConfigError: there is no row, nothing is left to ask, or a price is not known.
            StoreError: the run file cannot be read or written.
        """
        client = self._job.client
        engine, size = client._engine, self._size
        each = self._job.recipe.variants.count
        survey: Survey[Work] = Survey(engine, size.calls, each)
        loop = asyncio.get_running_loop()
        if self._dry_run:
            if not await self._look(survey):
                await client.close()
                return None
            taken = await self._lane(survey)
            await client.close()
            dry = Outlook(engine, survey, size, None, later=True, times=self._times(survey))
            reckoned = await self._reckon(partial(dry.plan, loop.time(), survey.finished))
            return reckoned and in_lane(reckoned, *taken)
        try:
            async with self._runner.open_for_sample(), client:
                if not await self._look(survey):
                    return None
                check_priced(engine, list(survey.parts.values()))
                taken = await self._lane(survey)
                self._allowance = allowance = Allowance(self._usd, expected_cost(engine, survey))
                unknown = await self._known(sampled(survey, size), allowance)
                await self._ask(unknown, allowance)
                if self._stopped:
                    return None
                self._is_over = True
                finished = survey.finished + len(allowance.new)
                outlook = Outlook(engine, survey, size, allowance, later=True, times=self._times(survey))
                reckoned = await self._reckon(partial(outlook.plan, loop.time(), finished))
                if reckoned is None:
                    return None
                plan = in_lane(reckoned, *taken)
                if self._rows is None:  # else the run of these rows would be compared with a larger one
                    self._job.store.set_fact(FORECAST, fact_of(plan, outlook.per_call))
                return plan
        finally:
            if not self._holds_something:  # a file would only stand in the way of another job with the same output
                await asyncio.to_thread(self._job.discard_new)

    async def _reckon(self, plan: Callable[[], Plan]) -> Plan | None:
        """Make the plan; None if it was stopped. Its thread keeps no program alive: nothing can end it."""
        reckoning = self._reckoning = asyncio.get_running_loop().run_in_executor(DaemonThreads(), plan)
        await asyncio.wait([reckoning])
        return None if reckoning.cancelled() else reckoning.result()

    def _times(self, survey: Survey[Work]) -> float:
        """How many times as many calls the job will have as the input has."""
        if self._rows is None:
            return 1.0
        rows = survey.calls / self._job.recipe.variants.count
        if self._rows < rows:
            raise ConfigError(f"--rows {self._rows:,} are fewer than the {rows:,.0f} of the input: leave it out")
        return self._rows / rows

    async def _lane(self, survey: Survey[Work]) -> Taken:
        """The lane that the run takes.

        Raises:
            ConfigError: rows stand in batches, or the time is too short.
        """
        job = self._job
        if not self._dry_run:
            check_none_in_batches(job.options, job.client, job.store, str(job.run_file))
        return await lane_of(job.options, job.client, round(survey.calls * self._times(survey)) - survey.finished)

    @property
    def _holds_something(self) -> bool:
        """Whether the run file holds answers, or calls that were paid for or may have been."""
        if self._allowance is not None and self._allowance.paid:
            return True
        return self._runner.sent > 0 and not self._is_over

    async def _ask(self, entries: list[Entry[Work]], allowance: Allowance) -> None:
        self.progress.total = len(entries)

        def heard(result: Result[Any] | None, _: Work) -> None:
            allowance.heard(result)

        rationed = allowance.ration([entry.row for entry in entries])
        await self._runner.sample(rationed, heard)
        self.progress.total = self.progress.finished

    async def _known(self, entries: list[Entry[Work]], allowance: Allowance) -> list[Entry[Work]]:
        """The rows of the sample that have no result. The results of the others are heard."""
        unknown = []
        for entry in entries:
            item = await asyncio.to_thread(self._job.store.item, entry.index)
            if item is None or self._job.asks_again(item.state):
                unknown.append(entry)
            else:
                allowance.known(result_of(item, entry.row.call))
        return unknown

    async def _look(self, survey: Survey[Work]) -> bool:
        """Look through all rows; False if it was stopped meanwhile.

        Raises:
            ConfigError: there is no row.
        """
        try:
            await survey.look(self._given())
        except ConfigError:
            if not self._stopped:
                raise
        return not self._stopped

    async def _given(self) -> AsyncIterator[list[Given[Work]]]:
        """All rows, in lots. They are read in a thread."""
        works, done = self._job.works(), self._done()

        def lot() -> list[Given[Work]]:
            return [Given(work.index, work.call, work, done(work.index)) for work in islice(works, AT_ONCE)]

        while not self._stopped and (some := await self._runner.read(lot)):
            yield some

    def _done(self) -> Callable[[int], bool]:
        """Whether a row has a result; ask for every row, in order."""
        finished = Stored(self._job.finished())
        return lambda index: finished.take(index) is not None
