"""Asks the rows of a run in this process. `flatout.runs.workers` does it in several."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, Any

from flatout.client import Client, engine_of
from flatout.client.change import Change, steer
from flatout.durable.attempts import NotedAttempts
from flatout.durable.course import recorded
from flatout.durable.run import keep
from flatout.edge.fan_out import Flow, fan_out
from flatout.progress._counters import Progress
from flatout.progress._tally import Tally
from flatout.store import Item
from flatout.values import Result

from .asking import ask
from .job import RunOptions
from .skips import Skip
from .under_way import UnderWay
from .work import Work

if TYPE_CHECKING:
    from flatout.lanes.flex import FlexLane
    from flatout.store import RunFile


Heard = Callable[[Result[Any] | None, Work], None]
"""Hears of a row that is over: its result, or None if it was dropped."""

Over = Callable[[int], None]
"""Hears the index of each row that is over."""


def nobody(_: int) -> None:
    """Hears of rows that are over, and does nothing."""


class Alone:
    """Asks rows with one client.

    Args:
        client: makes the calls.
        store: the run file.
        options: the run's.
        progress: the run's counters.
        warn: receives problems beside the run.
        heard: hears of each row that is over.
        flex: the flex lane, if the rows go there.
    """

    def __init__(
        self,
        client: Client,
        store: RunFile,
        options: RunOptions,
        progress: Progress,
        warn: Callable[[str], None],
        heard: Heard | None = None,
        flex: FlexLane | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._options = options
        self._progress = progress
        self._warn = warn
        self._heard = heard
        self._flex = flex
        self._under_way = UnderWay()
        self._flow = Flow()
        self._tally: Tally | None = None
        self._over: Over = nobody

    @property
    def sent(self) -> int:
        """How many attempts were sent."""
        return self._under_way.sent

    async def ask(self, works: AsyncIterator[Work], *, closes: bool = True, over: Over = nobody) -> None:
        """Ask all rows; return when each of them is in the run file, or dropped.

        Args:
            works: the rows.
            closes: close the client at the end.
            over: hears of each row that is over.

        Raises:
            StoreError: the run file can no longer be written.
        """
        self._over = over
        open_client = self._client if closes else nullcontext(self._client)
        exporting = exporting_to(self._client, self._options, self._warn)
        flow = self._flow
        async with open_client as client, exporting, recorded(self._client, self._store, flow):
            self._tally = Tally(self._progress, engine_of(client))
            async with aclosing(fan_out(works, self._ask, lambda: client.window, flow)) as outcomes:
                async for _ in outcomes:
                    pass
            self.refresh()
            self._tally.leave()

    def input_at_end(self) -> None:
        """Hear that the input was read to its end. Rows that are asked again may still come."""
        self._flow.at_end = True

    def stop(self, *, drain: bool = False) -> None:
        """Stop: see `UnderWay.stop`."""
        self._under_way.stop(drain=drain)

    def steer(self, change: Change, by: str) -> None:
        """Make a change. The course of the run records it."""
        steer(engine_of(self._client), change, by)

    def skip(self, skip: Skip) -> bool:
        """Skip a row: see `UnderWay.skip`."""
        return self._under_way.skip(skip)

    def forget_skip(self, work: Work) -> None:
        """Ask a row although it was skipped."""
        self._under_way.skips.forget(work.index, work.call.id)

    def take_back(self, item: Item) -> None:
        """Count a row no longer that was over, and is asked again."""
        self._progress.take_back(item.state, item.error)

    def refresh(self) -> None:
        """Bring the live counters up to date."""
        if self._tally is not None:
            self._tally.refresh()
            self._progress.longest = self._under_way.longest(self._progress.started + self._progress.elapsed)

    async def _ask(self, _: int, work: Work) -> None:
        try:
            await self._answer(work)
        finally:
            self._over(work.index)

    async def _answer(self, work: Work) -> None:
        notes = NotedAttempts(self._store, work.index)
        under_way, flex, before = self._under_way, self._flex, work.before
        result = await ask(
            self._client, work.call, work.index, under_way=under_way, notes=notes, flex=flex, before=before
        )
        if result is None:
            if self._heard is not None:
                self._heard(None, work)
            return
        keeps = self._options.keep_prompts
        await keep(self._store, result, made=work.made, row=work.kept, keep_prompts=keeps, mark=work.fingerprint)
        if before is not None:
            before.settle()
        assert self._tally is not None
        self._tally.finished(result, work.index)
        if self._heard is not None:
            self._heard(result, work)


def exporting_to(
    client: Client, options: RunOptions, warn: Callable[[str], None]
) -> AbstractAsyncContextManager[object]:
    """A block in which a run's traces and metrics go where its options say."""
    if options.otlp is None and options.metrics is None:
        return nullcontext()
    from flatout.telemetry import exporting  # importing OpenTelemetry is slow

    return exporting(client, options.otlp, options.metrics, warn=warn)
