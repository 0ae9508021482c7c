"""Looks after batches that the provider has: asks how they are, takes their results, cancels them, deletes their files.

Results are committed in groups of some megabytes while their file is read, so a file of any size needs little memory.
Rows are joined by their ids: the order of results, and the provider's counts, mean nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from operator import itemgetter

from flatout.errors import CallError, InvalidRequest, ProtocolError, TransportError
from flatout.policies.failures.backoff import overload_delay
from flatout.store.ledger import Batch, RowState

from .box import index_of
from .desk import Desk, log
from .format import Found, Job, ResultReader
from .submit import Submitter
from .wire import TRIES, Unreadable

TOGETHER, TOGETHER_BYTES = 20_000, 16 * 1024 * 1024
"""Results that are committed together, and their bytes. They come in any order, so each commit writes nearly every page
of the table once more: as many as memory allows. Should the process die, they are still at the provider."""

OVERTIME = 3_600.0
"""Seconds after the provider's own expiry at which a batch that has not ended is cancelled. If it has not ended as long
after that either, its rows count as missing. Until then it may hold answers that are paid for."""

ABANDONED = 7 * 86_400.0
"""Seconds after the provider's own expiry at which a process need not have waited itself for a cancelled batch to end:
one that cron starts ends at once."""

EMPTY = 3_600.0
"""Seconds that flatout waits for the results of a batch that has run. After that it takes them for missing."""

SOONEST, LATEST = 2.0, 120.0
"""Seconds between two looks at a batch: a twentieth of its age, within these."""

_GONE = ("unknown", "denied")  # it is not there; to a refused key the wire raises an error

_MOST_OF_KEY = 100  # characters that are shown

_Result = tuple[int, RowState, int | None, bytes | None]


class Collector:
    """Looks after the batches of one target.

    Args:
        desk: the target's batch endpoint.
        submitter: settles batches of which it is not known whether they were created.
    """

    def __init__(self, desk: Desk, submitter: Submitter) -> None:
        self._desk = desk
        self._submitter = submitter
        self._looked: dict[int, tuple[float, float]] = {}  # when, and when again
        self._cancelled: dict[int, float] = {}
        self._empty: dict[int, float] = {}  # since when
        self._told: set[int] = set()  # of which it was said that they are gone
        self.done: dict[int, int] = {}

    def due(self) -> float | None:
        """When it is time to look at a batch again, in Unix time; None if no batch is open."""
        times = [self._looked.get(number, (0.0, 0.0))[1] for number in self._desk.batches]
        return min(times) if times else None

    async def look(self, *, all: bool = False) -> bool:
        """Look at every batch that is due, or at all of them. Returns whether rows have come back, with results or not.

        Raises:
            CallError: the provider refuses everything.
            StoreError: the run file can no longer be written.
        """
        changed = False
        for batch in list(self._desk.batches.values()):
            if not all and not self._is_due(batch):
                continue
            changed |= await self._look_at(batch)
            if batch.number in self._desk.batches:
                now = self._desk.wall()
                age = now - batch.intended_at
                self._looked[batch.number] = now, now + min(LATEST, max(SOONEST, age / 20))
        return changed

    def _is_due(self, batch: Batch) -> bool:
        """Whether a batch wants to be looked at; at once if the clock was set back."""
        looked, again = self._looked.get(batch.number, (0.0, 0.0))
        return not looked <= self._desk.wall() < again

    async def cancel(self) -> None:
        """Ask the provider to cancel every batch. What is finished by then is still collected.

        A batch that may not have been created is looked for, and cancelled if it was.
        """
        self._desk.ends = True
        for batch in list(self._desk.batches.values()):
            if batch.job is not None:
                await self._cancel(batch)
            else:
                await self._settle(batch)

    async def clear(self, batches: Sequence[Batch]) -> None:
        """Delete the files of batches at the provider. What fails is tried again the next time."""
        desk = self._desk
        for batch in batches:
            try:
                for file in batch.all_files:
                    if (request := desk.format.delete(file)) is not None:
                        refused = desk.format.refused(await desk.wire.patiently(request, tries=2))
                        if refused is not None and refused[0] not in _GONE:
                            raise InvalidRequest(refused[1])
            except CallError as error:
                log.warning("the files of batch %d are not deleted yet: %s", batch.number, error)
                return
            await desk.ledger.clear(batch.number, desk.wall())

    # One batch

    async def _look_at(self, batch: Batch) -> bool:
        desk = self._desk
        if batch.state == "intended":
            return await self._settle(batch)
        assert batch.job is not None
        try:
            response = await desk.wire.patiently(desk.format.get(batch.job))
            refused = desk.format.refused(response)
            job = desk.format.job(response) if refused is None else None
        except TransportError as error:
            log.info("batch %d is not reached: %s", batch.number, error)
            return False
        if job is None:
            return refused is not None and refused[0] in _GONE and await self._lost(batch, refused[1])
        if job.stamp not in (None, batch.stamp):  # a provider that began anew: it is not ours to read or to delete
            return await self._lost(batch, f"{job.id} is the name of another batch now")
        if job.state == "open":
            if job.done is not None:
                self.done[batch.number] = job.done
            return await self._overdue(batch)
        if job.state == "failed":
            await self._failed(batch, job)
            return True
        return await self._collect(batch, job)

    async def _settle(self, batch: Batch) -> bool:
        """Find out whether a batch was created. Returns whether its rows have come back."""
        desk = self._desk
        if batch.number in desk.told_full and desk.rests and not desk.ends:
            return False
        try:
            await self._submitter.settle(batch)
        except TransportError as error:
            log.info("batch %d is not settled yet: %s", batch.number, error)
        known = desk.batches.get(batch.number)
        if known is not None and desk.ends:
            await self._cancel(known)
        return known is None

    def _late(self, batch: Batch) -> float:
        """Seconds since the provider should have given a batch up."""
        return self._desk.wall() - (batch.opened_at or batch.intended_at) - self._desk.format.caps.seconds

    async def _overdue(self, batch: Batch) -> bool:
        """What is done about a batch that has not ended: it is cancelled, and has time to end after that."""
        late = self._late(batch)
        if late <= OVERTIME:
            return False
        try:
            await self._cancel(batch)
        except CallError as error:
            log.info("batch %d is not cancelled yet: %s", batch.number, error)
            return False
        now = self._desk.wall()
        waited = now - self._cancelled.setdefault(batch.number, now)
        if waited < OVERTIME and late < ABANDONED:
            return False
        await self._end(batch, ())
        return True

    def _may_come(self, batch: Batch, job: Job) -> bool:
        """Whether the results of a batch that was run may still come: some providers name their files late."""
        was_run = job.whole or (bool(job.done) and batch.number not in self._cancelled)
        if job.files or job.inline or not was_run:
            return False
        now = self._desk.wall()
        since = self._empty.setdefault(batch.number, min(now, _ended_at(batch, job) or now))
        if now - since >= EMPTY or self._late(batch) >= OVERTIME:
            return False
        log.info("batch %d was run, but has no results yet", batch.number)
        return True

    async def _lost(self, batch: Batch, why: str, files: Sequence[str] = ()) -> bool:
        """What is done about a batch that the provider does not know, or whose results it does not have."""
        left = 2 * OVERTIME - self._late(batch)
        if left >= 0.0:
            self._tell_lost(batch, why, left)
            return False
        await self._end(batch, files)
        return True

    def _tell_lost(self, batch: Batch, why: str, left: float) -> None:
        """Say it once. A copy of the run file deletes what it has collected, and nothing else does so early."""
        if batch.number not in self._told:
            self._told.add(batch.number)
            log.warning(
                "%s no longer has batch %d or its results (%s). If the run has gone on in a copy of this run file, "
                "perhaps on another machine, its answers are there: continue there. Otherwise its rows are asked, "
                "and paid for, again in %.0f h",
                self._desk.target.name,
                batch.number,
                why,
                left / 3_600.0,
            )

    async def _cancel(self, batch: Batch) -> None:
        desk = self._desk
        request = desk.format.cancel(batch.job) if batch.job is not None else None
        if request is None or batch.number in self._cancelled:
            return
        response = await desk.wire.patiently(request)
        refused = desk.format.refused(response)
        if refused is not None and refused[0] == "again":
            raise desk.wire.error(response)
        self._cancelled[batch.number] = desk.wall()
        self._looked.pop(batch.number, None)

    async def _failed(self, batch: Batch, job: Job) -> None:
        """The provider refused a batch as a whole; nothing was run."""
        desk = self._desk
        reason = job.reason or "the provider refused the batch, without a reason"
        if job.refusal == "full":
            await desk.full(batch, reason)
        elif job.refusal in ("again", "unknown"):
            await desk.drop(batch, reason)
            desk.rest()
        elif job.refusal == "denied":
            await desk.drop(batch, reason)
            raise InvalidRequest(f"{desk.target.name} refused batch {batch.number}: {reason}")
        else:
            await self._submitter.refuse(batch, reason, line=job.line)

    # Results

    async def _collect(self, batch: Batch, job: Job) -> bool:
        """Take all results of a batch. False if they could not be read to the end; nothing is lost then."""
        if self._may_come(batch, job):
            return False
        results = _Results(self._desk, batch, await self._desk.ledger.read_members(batch.number))
        files = (job.id,) if job.inline else job.files
        try:
            if job.inline:
                reader = _Reader(self._desk.format.reader())
                await results.take(reader.feed(job.inline))
                await results.take(reader.end())
            await self._read_all(results, job.files)
        except TransportError as error:
            await results.commit()
            if isinstance(error, Unreadable):
                return await self._lost(batch, str(error), files)
            log.warning("the results of batch %d cannot be read: %s; tried again", batch.number, error)
            return False
        await results.commit()
        results.tell_foreign()
        await self._end(batch, files)
        return True

    async def _read_all(self, results: _Results, files: Sequence[str]) -> None:
        """Read files of results, and those that they name.

        Raises:
            TransportError: as for `_read`.
        """
        waiting, seen = list(reversed(files)), set[str]()
        while waiting:
            file = waiting.pop()
            if file not in seen:
                seen.add(file)
                waiting += await self._read(results, file)

    async def _read(self, results: _Results, file: str) -> Sequence[str]:
        """Read one file of results. Returns those that it names.

        Raises:
            TransportError: it broke off again and again. What was read of it is committed.
        """
        desk = self._desk
        tried = 0
        while True:
            tried += 1
            reader = _Reader(desk.format.reader(file))
            try:
                async with aclosing(desk.wire.pieces(desk.format.results(file))) as pieces:
                    async for piece in pieces:
                        await results.take(reader.feed(piece))
                await results.take(reader.end())
            except TransportError:
                await results.commit()
                if tried == TRIES:
                    raise
                await asyncio.sleep(overload_delay(tried, random.random()))
            else:
                return reader.more

    async def _end(self, batch: Batch, files: Sequence[str]) -> None:
        desk = self._desk
        await desk.ledger.end(batch.number, files, desk.wall())
        desk.ended(batch)
        self._looked.pop(batch.number, None)
        self._empty.pop(batch.number, None)
        self.done.pop(batch.number, None)


def _ended_at(batch: Batch, job: Job) -> float | None:
    """When a job had run a batch, by our clock; None if it does not say. The provider's clock may be wrong by a day."""
    if job.ended_at is None or job.created_at is None:
        return job.ended_at
    return job.ended_at - job.created_at + (batch.opened_at or batch.intended_at)


class _Reader:
    """A reader that tells two faults apart: the file holds no results, or the connection broke off."""

    def __init__(self, reader: ResultReader) -> None:
        self._reader = reader

    @property
    def more(self) -> Sequence[str]:
        return self._reader.more

    def feed(self, data: bytes) -> Sequence[Found]:
        try:
            return self._reader.feed(data)
        except ProtocolError as error:
            raise Unreadable(str(error)) from None

    def end(self) -> Sequence[Found]:
        try:
            return self._reader.end()
        except ProtocolError as error:
            raise Unreadable(str(error)) from None


class _Results:
    """Commits the results of one batch in groups.

    Args:
        desk: the target's batch endpoint.
        batch: the batch.
        members: the indices of its rows, in order.
    """

    def __init__(self, desk: Desk, batch: Batch, members: Sequence[int]) -> None:
        self._desk = desk
        self._batch = batch
        self._members = members
        self._known = frozenset(members)
        self._waiting: list[_Result] = []
        self._bytes = 0
        self._foreign = 0  # results for no row of it
        self._first_foreign = ""

    async def take(self, found: Sequence[Found]) -> None:
        """Take results; many are committed before this returns."""
        for each in found:
            index = self._index(each)
            if index is None:
                self._foreign += 1
                self._first_foreign = self._first_foreign or f"{each.key or each.position}"[:_MOST_OF_KEY]
            elif each.state == "answered":
                self._waiting.append((index, "answered", each.status, each.body))
                self._bytes += len(each.body)
            else:
                self._waiting.append((index, each.state, None, None))
            if len(self._waiting) >= TOGETHER or self._bytes >= TOGETHER_BYTES:
                await self.commit()

    async def commit(self) -> None:
        """Commit what is waiting."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        waiting.sort(key=itemgetter(0))  # as the table is
        if waiting:
            await self._desk.ledger.results(self._batch.number, waiting)

    def tell_foreign(self) -> None:
        """Say that there were results for no row of the batch: once, however many."""
        if self._foreign:
            log.warning(
                "batch %d has %d results for no row of it, such as %s",
                self._batch.number,
                self._foreign,
                self._first_foreign,
            )

    def _index(self, found: Found) -> int | None:
        if found.key is not None:
            index = index_of(self._batch.stamp, found.key)
            return index if index in self._known else None
        place = found.position
        return self._members[place] if place is not None and 0 <= place < len(self._members) else None
