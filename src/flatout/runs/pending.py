"""The rows of an open job that are to be asked, read from its input and compared with its run file."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Set
from contextlib import aclosing, suppress
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from flatout.durable.records import fingerprint
from flatout.durable.run import AHEAD_WHOLE, Stored
from flatout.errors import ConfigError
from flatout.store import Finished, Item, ItemState
from flatout.tasks.daemon import DaemonThreads
from flatout.values import Call

from .input.names import is_elsewhere
from .input.rows import Row
from .input.verify import Revision, compare
from .opened import Opened
from .output.export import OwnRow
from .stops import Stops
from .work import Work, own_rows

ReadT = TypeVar("ReadT")
WorkT = TypeVar("WorkT")

_BATCH = 100  # rows that are read from the input in one go

_MOST, _BATCH_SECONDS = 1_000, 0.005
"""Where a thread reads each batch of rows: the most rows that it reads, and for how many seconds."""


class Pending:
    """The rows of a job that are to be asked.

    Args:
        job: the job.

    Attributes:
        ending: what the run was told of its end.
        collects: whether it keeps what open batches answer, although it was told to stop.
    """

    def __init__(self, job: Opened) -> None:
        self._job = job
        self.ending = Stops()
        self.collects = False
        self._working: set[asyncio.Future[Any]] = set()  # what is read of an input that can be read again, or written
        self._reached = -1  # the last row that was read to be asked for the first time

    @property
    def stops(self) -> int:
        """How often the run was told to stop."""
        return self.ending.count

    @property
    def leaves(self) -> bool:
        """Whether it was told to stop, and reads no further rows."""
        return self.stops > 0 and not self.collects

    @property
    def drains(self) -> bool:
        """Whether attempts in flight may take as long as they do, although the run was told to stop."""
        return self.ending.drains

    def own_rows(self) -> Iterator[OwnRow]:
        """The input's rows, read once more for a run file that does not hold them."""
        rows = enumerate(self._job.input) if self._job.beyond else self._job.rows()
        return own_rows(rows, self._job.recipe)

    async def to_ask(self, count: bool = True) -> AsyncGenerator[Work, None]:
        """The rows to ask: those without a result, and those whose failure may be retried.

        Args:
            count: count those that have a result; not when they were counted before.
        """
        job, progress = self._job, self._job.progress
        if job.nothing_left:  # do not read a million finished rows once more
            progress.resumed = progress.total or 0
            progress.failed_before = await asyncio.to_thread(self._all_failed)
            return
        progress.resumed += count * job.beyond
        name = str(job.run_file)
        revises = job.options.keep_prompts and (job.outdated or job.pipe) and count
        revision = Revision(job.store) if revises else None
        finished = Stored(job.store.finished(rows=revision is not None), AHEAD_WHOLE)
        index = -1
        async for index, row in self._arriving():
            if self.leaves:
                return
            if finished.must_read:
                await finished.read_ahead()
            self._reached = index
            if (known := finished.take(index)) is not None:
                if job.pipe is not None:
                    compare(job.store, name, row, job.work(index, row).made, known)
                if known.state not in job.again:
                    if revision is not None:
                        await revision.see(row, known)
                    progress.resumed += count
                    progress.failed_before += count and known.state == "failed"
                    continue
            yield job.work(index, row)
        if self.leaves:
            return
        if revision is not None:
            await revision.write()
        if job.pipe is not None and not self.stops:
            await self._count_pipe(index + 1, finished)

    def _all_failed(self) -> int:
        """How many rows of the run file have failed, but for those beyond the limit."""
        limit = math.inf if self._job.limit is None else self._job.limit
        return sum(item.state == "failed" and item.index < limit for item in self._job.store.failed())

    async def _count_pipe(self, rows: int, finished: Stored[Finished]) -> None:
        """Keep how many rows a pipe had, which has ended, and refuse one that has become shorter."""
        job = self._job
        job.progress.total = rows + job.beyond
        job.store.set_total(job.progress.total)
        if rows != job.limit:
            await finished.read_ahead()
            finished.check_nothing_left(str(job.run_file), rows, f"{job.input.name} has only")

    async def some(self, most: int) -> list[Call]:
        """The first calls to ask, which are read again when they are asked."""
        found: list[Call] = []
        reached = self._reached
        async with aclosing(self.to_ask(False)) as works:
            async for work in works:
                found.append(work.call)
                if len(found) >= most:
                    break
        self._reached = reached
        return found

    async def _arriving(self) -> AsyncIterator[tuple[int, Row]]:
        if self._job.pipe is not None:
            async for pair in self._job.pipe:
                yield pair
            return
        rows = self._job.rows()
        while not self.leaves and (some := await self.read(partial(_some, rows))):
            for pair in some:
                yield pair

    async def read(self, some: Callable[[], list[ReadT]]) -> list[ReadT]:
        """Read some of the input in a thread; nothing more if the run is stopped meanwhile."""
        return await self.unless_left(some) or []

    async def unless_left(self, work: Callable[[], WorkT], output: str | None = None) -> WorkT | None:
        """What some work with the input returns, in a thread; None if the run is stopped meanwhile.

        A server that has become silent is not waited for then, and not when the program ends.

        Args:
            work: what to do.
            output: where it writes.
        """
        afar = is_elsewhere(self._job.options.source) or is_elsewhere(output or "-")
        working = asyncio.get_running_loop().run_in_executor(DaemonThreads() if afar else None, work)
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        await asyncio.wait([working])
        return None if working.cancelled() else working.result()

    def leave(self) -> None:
        """Wait no longer for what is being read or written."""
        if self.leaves:
            for working in self._working:
                working.cancel()  # its callback comes later

    async def failed(self, states: Set[ItemState]) -> AsyncGenerator[tuple[Work, Item], None]:
        """The rows read so far that ended in one of some states, with their results.

        Those that are read from now on are asked by `to_ask` if they have ended so in an earlier process.
        """
        self._job.again |= states
        found = self._beside_failed(self._reached)
        while (some := await self.read(lambda: list(islice(found, _BATCH)))) and not self.stops:
            for row, item in some:
                if item is None or item.state not in states:
                    continue
                with suppress(ConfigError):  # the input has changed since
                    work = self._job.work(item.index, row)
                    if fingerprint(work.made) == item.fingerprint:
                        yield work, item

    def _beside_failed(self, last: int) -> Iterator[tuple[Row, Item | None]]:
        """The input's rows up to one of them, read once more; beside each that has failed its result."""
        failed = self._job.store.failed()
        item = next(failed, None)
        for index, row in self._job.rows():
            if item is None or index > last:
                return
            if index < item.index:
                yield row, None
            else:
                yield row, item
                item = next(failed, None)


def _some(rows: Iterator[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """The next rows: many, unless they take long because they are large. Then few fill the memory, too."""
    until, some = time.perf_counter() + _BATCH_SECONDS, []
    for pair in rows:
        some.append(pair)
        if len(some) == _MOST or time.perf_counter() >= until:
            break
    return some
