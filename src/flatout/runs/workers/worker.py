"""The program of one worker: ``python -m flatout.runs.workers.worker DESCRIPTOR``.

It asks the rows that the parent gives it over the socket with that descriptor. It ends when the parent says so, and at
once when the parent is gone: what it would still pay for, nobody could write down.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, nullcontext, suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from flatout.client import Client, engine_of
from flatout.client.change import Change, apply
from flatout.durable.attempts import NotedAttempts
from flatout.durable.course import recorded
from flatout.durable.records import item_of
from flatout.edge.fan_out import Flow, fan_out
from flatout.errors import ConfigError, FlatoutError, StoreError
from flatout.events import TARGETS
from flatout.progress._counters import Progress
from flatout.progress._tally import Tally
from flatout.runs.asking import ask
from flatout.runs.process import allow_many_files, tune_collector
from flatout.runs.under_way import UnderWay
from flatout.tasks.loop import loop_factory

from .calls import call_of, from_data
from .channel import Channel
from .messages import Order, Report, decode_order
from .outset import Outset
from .remote import LentPurse, Outbox, RemoteFile, RemoteLog

if TYPE_CHECKING:
    from flatout.lanes.flex import FlexLane

TOLD_EVERY = 0.1
"""Seconds between two reports of the counters while no row finishes."""

METRICS_EVERY = 10
"""One in this many of those reports tells the metrics too."""

LEFT_TO_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal or a supervisor sends to all processes of a run; the parent decides what they mean."""

_log = logging.getLogger("flatout")

_ATTRIBUTES, _INSTANCE = "OTEL_RESOURCE_ATTRIBUTES", "service.instance.id"

Given = tuple[int, bytes]
"""A row to ask: its index, and its call as JSON."""


class Worker:
    """One worker, from its first order to its last report.

    Args:
        end: the socket to the parent.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._began: asyncio.Future[Outset] = asyncio.get_running_loop().create_future()
        self._given: asyncio.Queue[Given | None] = asyncio.Queue()
        self._under_way = UnderWay()
        self._outbox = Outbox(self._send, lambda: self._purse.account)
        self._file = RemoteFile(self._outbox)
        self._purse = LentPurse(None, self._outbox)
        self._progress = Progress()
        self._window = 1
        self._client: Client | None = None
        self._flow = Flow()
        self._changes: list[Change] = []  # that came before the client was made
        self._ends = False

    async def work(self) -> None:
        """Ask what is given until no more comes."""
        self._channel = await Channel.over(self._end, self._hear, self._lost)
        try:
            await self._ask_all(await self._began)
        except FlatoutError as error:
            self._outbox.report.failure = type(error).__name__, str(error)
        except Exception as error:
            self._outbox.report.failure = FlatoutError.__name__, f"a worker failed: {type(error).__name__}: {error}"
            if os.environ.get("FLATOUT_DEBUG"):
                raise
        finally:
            self._ends = True
            self._outbox.flush()
            await self._channel.close()

    async def _ask_all(self, outset: Outset) -> None:
        self._log_to_parent(outset.level)
        client = outset.make_client()
        stack = engine_of(client).stack
        self._purse.budget = stack.purse.budget
        self._purse.worst_cases = stack.purse.worst_cases
        stack.purse = self._purse
        self._client, self._window = client, max(self._window, outset.window)
        self._steer(self._changes)
        async with client, _exporting(client, outset):
            with _metrics_of(client, outset) as metrics:
                await self._ask_rows(client, outset, metrics)
        self._outbox.report.progress = self._progress

    async def _ask_rows(self, client: Client, outset: Outset, metrics: Callable[[], bytes] | None) -> None:
        tally = Tally(self._progress, engine_of(client))
        telling = asyncio.ensure_future(self._tell(tally, metrics))
        try:
            asking = partial(self._ask, client, tally, from_data(outset.output), _flex_lane(client, outset))
            rows = fan_out(self._rows(), asking, lambda: self._window, self._flow)
            async with recorded(client, self._file, self._flow), aclosing(rows) as outcomes:
                async for _ in outcomes:
                    pass
            tally.refresh()
        finally:
            telling.cancel()
        if metrics is not None:
            self._outbox.report.metrics = metrics()

    def _log_to_parent(self, level: int) -> None:
        logger = logging.getLogger("flatout")
        logger.setLevel(level)
        if level > logging.INFO:
            logging.getLogger(TARGETS).setLevel(logging.ERROR)  # the parent's live line tells it
        logger.addHandler(RemoteLog(self._outbox, asyncio.get_running_loop()))
        logging.getLogger().addHandler(logging.NullHandler())  # as in the parent: nothing may tear up its live line

    async def _rows(self) -> AsyncIterator[Given]:
        """The rows that come, until the run stops. Those that came and will not be asked go back."""
        while (given := await self._given.get()) is not None:
            if self._under_way.ending.count:
                self._outbox.report.dropped.append(given[0])
            else:
                yield given

    async def _ask(
        self, client: Client, tally: Tally, output: Any, flex: FlexLane | None, _: int, given: Given
    ) -> None:
        index, encoded = given
        notes = NotedAttempts(self._file, index)
        call, under_way = call_of(encoded, output), self._under_way
        result = await ask(client, call, index, under_way=under_way, notes=notes, flex=flex)
        if result is None:
            self._outbox.report.dropped.append(index)
            return
        if isinstance(result.error, StoreError):
            raise result.error
        tally.finished(result, index)
        self._file.finish(item_of(result, made=b"", row=None, keep_prompts=False), self._progress)

    async def _tell(self, tally: Tally, metrics: Callable[[], bytes] | None) -> None:
        """Tell the parent how it goes."""
        for told in count(1):
            await asyncio.sleep(TOLD_EVERY)
            tally.refresh()
            now = asyncio.get_running_loop().time()
            self._progress.longest = self._under_way.longest(now)
            self._outbox.report.progress = self._progress
            if metrics is not None and told % METRICS_EVERY == 0:
                self._outbox.report.metrics = metrics()

    # What the parent says

    def _send(self, report: Report) -> None:
        self._channel.send(report)

    def _hear(self, body: bytes) -> None:
        order = decode_order(body)
        if order.outset is not None:
            self._began.set_result(order.outset)
        for given in order.calls:
            self._under_way.skips.forget(given[0], None)
            self._given.put_nowait(given)
        for skip in order.skips:
            self._under_way.skip(skip)
        self._file.hear(order)
        self._purse.hear(order)
        self._window = order.window or self._window
        self._flow.at_end = self._flow.at_end or order.at_end
        self._steer(order.changes)
        if order.stops:
            self._stop(order)
        if order.last:
            self._given.put_nowait(None)

    def _stop(self, order: Order) -> None:
        ending = self._under_way.ending
        while ending.count < order.stops or (ending.drains and not order.drains):
            self._under_way.stop(drain=order.drains)

    def _steer(self, changes: list[Change]) -> None:
        if self._client is None:
            self._changes.extend(changes)
            return
        for change in changes:
            with suppress(ConfigError):  # a target that this worker does not use
                apply(engine_of(self._client), change)

    def _lost(self) -> None:
        """The parent is gone, and with it everything that an answer could be written to."""
        if not self._ends:
            os._exit(1)


def _flex_lane(client: Client, outset: Outset) -> FlexLane | None:
    if not outset.flex:
        return None
    from flatout.lanes.flex import FlexLane

    return FlexLane(engine_of(client), outset.flex_until)


def _exporting(client: Client, outset: Outset) -> AbstractAsyncContextManager[object]:
    if outset.otlp is None:
        return nullcontext()
    from flatout.telemetry import exporting  # importing OpenTelemetry is slow

    attributes = os.environ.get(_ATTRIBUTES, "")
    if _INSTANCE not in attributes:  # otherwise a collector would take the workers' counters for one process's
        os.environ[_ATTRIBUTES] = f"{attributes}{',' if attributes else ''}{_INSTANCE}={os.getpid()}"
    warn = _log.warning if outset.number == 0 else _log.debug  # one collector, one warning
    return exporting(client, outset.otlp, warn=warn)


def _metrics_of(client: Client, outset: Outset) -> AbstractContextManager[Callable[[], bytes] | None]:
    if not outset.metrics:
        return nullcontext()
    from flatout.telemetry._together import kept  # importing OpenTelemetry is slow

    return kept(client)


def main() -> None:
    """Be a worker."""
    for number in LEFT_TO_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_PARENT)
    tune_collector()
    allow_many_files()
    with socket.socket(fileno=int(sys.argv[1])) as end, asyncio.Runner(loop_factory=loop_factory()) as loop:
        loop.run(_work(end))


async def _work(end: socket.socket) -> None:
    await Worker(end).work()


if __name__ == "__main__":
    main()
