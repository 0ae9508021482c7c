"""Looks after batches that the provider has: asks how they are, takes results, cancels them, deletes their files."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing

from flatout.errors import CallError, InvalidRequest, TransportError
from flatout.policies.failures.backoff import overload_delay
from flatout.store.ledger import Batch

from .desk import Desk, log
from .format import Job
from .own import own_files, own_job
from .submit import Submitter
from .taken import Reading, Results
from .wire import TRIES, Unreadable

OVERTIME = 3_600.0
"""Seconds after the provider's own expiry at which a batch that has not ended is cancelled. If it has not ended as long
after that either, its rows count as missing. Until then it may hold answers that are paid for."""

ABANDONED = 7 * 86_400.0
"""Seconds after the provider's own expiry at which a process need not have waited itself for a cancelled batch to end:
one that cron starts ends at once."""

EMPTY = 3_600.0
"""Seconds that flatout waits for the results of a batch that has run. After that it takes them for missing."""

SHORT = 5
"""How often results are fetched that are fewer than the provider says."""

SOONEST, LATEST = 2.0, 120.0
"""Seconds between two looks at a batch: a twentieth of its age, within these. A cancelled one begins anew: it ends in
minutes."""

_GONE = ("unknown", "denied")  # it is not there; to a refused key the wire raises an error


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
                age = now - self._cancelled.get(batch.number, batch.intended_at)
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
                for file in await own_files(desk, batch):
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
        desk.saw(batch, job)
        if job.state == "open":
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
        self._looked.pop(batch.number, None)
        job = await own_job(desk, batch)
        if job is None or job.state != "open":  # another's, or over: the next look takes what there is
            return
        response = await desk.wire.patiently(request)
        refused = desk.format.refused(response)
        if refused is not None and refused[0] == "again":
            raise desk.wire.error(response)
        self._cancelled[batch.number] = desk.wall()

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
        results = Results(self._desk, batch, await self._desk.ledger.read_members(batch.number))
        files = tuple(dict.fromkeys((*job.files, job.itself))) if job.itself else job.files
        try:
            if job.inline:
                reader = Reading(self._desk.format.reader())
                await results.take(reader.feed(job.inline))
                await results.take(reader.end())
            await self._read_whole(results, job)
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

    async def _read_whole(self, results: Results, job: Job) -> None:
        """Read the files of results; again if they hold fewer rows than the provider says.

        A stream may end early without an error. Counts drift, too, so after `SHORT` times the rest counts as missing.

        Raises:
            TransportError: as for `_read`.
        """
        for tried in range(1, SHORT + 1):
            await self._read_all(results, job.files)
            if results.seen >= (job.done or 0) or not job.files or tried == SHORT:
                return
            log.info("%s named %d results, and sent %d: they are fetched again", job.id, job.done or 0, results.seen)
            await asyncio.sleep(overload_delay(tried, random.random()))

    async def _read_all(self, results: Results, files: Sequence[str]) -> None:
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

    async def _read(self, results: Results, file: str) -> Sequence[str]:
        """Read one file of results. Returns those that it names.

        Raises:
            TransportError: it broke off again and again. What was read of it is committed.
        """
        desk = self._desk
        tried = 0
        while True:
            tried += 1
            reader = Reading(desk.format.reader(file))
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


def _ended_at(batch: Batch, job: Job) -> float | None:
    """When a job had run a batch, by our clock; None if it does not say. The provider's clock may be wrong by a day."""
    if job.ended_at is None or job.created_at is None:
        return job.ended_at
    return job.ended_at - job.created_at + (batch.opened_at or batch.intended_at)
