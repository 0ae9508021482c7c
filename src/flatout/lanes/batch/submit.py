"""Submits batches, each exactly once.

What is about to be sent stands in the ledger first. So after a crash, or an answer that was lost on its way, the
provider's own list tells whether a batch was created: it carries our stamp, or runs our file. Only if it is not there
is it created (again). Where batches have no label (Anthropic), the ids of their rows tell, once there are results.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec.json import encode

from flatout.errors import CallError, ConnectError, InvalidRequest, ServerError, TransportError
from flatout.policies.failures.backoff import overload_delay
from flatout.store.ledger import Batch

from .box import Box, index_of
from .desk import MOST_REFUSED, Desk
from .format import Job, Line
from .wire import TRIES, UPLOAD_SECONDS, Unreadable

LOOKS = (0.0, 5.0, 25.0)
"""Seconds before each look at the provider's list, which may lag behind what was created."""

APART = 86_400.0
"""Seconds that the provider's clock and ours may be apart."""

CREATES = 3
"""How often a batch is created whose creation is not answered, nor to be found."""


class Submitter:
    """Submits the batches of one target."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def submit(self, number: int, box: Box) -> None:
        """Submit the rows of a box. Afterwards the provider has them, or they are back, or `settle` will tell.

        Raises:
            CallError: the provider is not reached, or refuses everything; the ledger knows how far it went.
            StoreError: the run file can no longer be written.
        """
        desk = self._desk
        batch = Batch(
            number=number,
            target=desk.target.name,
            key=desk.target.key,
            stamp=f"flatout-{secrets.token_hex(8)}",
            state="intended",
            rows=len(box.rows),
            size=box.size,
            intended_at=desk.wall(),
        )
        await desk.ledger.intend(batch, box.digest(), [row.placed for row in box.rows])
        desk.batches[number] = batch
        lines = box.lines(batch.stamp)
        uploaded = await self._upload(batch, lines)
        if uploaded is not None:
            await self._create(uploaded, lines)

    async def settle(self, batch: Batch, lines: Sequence[Line] | None = None, *, creates: int = 1) -> None:
        """Find out whether an intended batch was created. If not, create it, or drop it where all are to be cancelled.

        Args:
            batch: the batch.
            lines: its rows; None if another process packed them.
            creates: how often this process has tried to create it.

        Raises:
            CallError: as for `submit`.
        """
        desk = self._desk
        uploads = desk.format.upload(batch.stamp, ()) is not None
        if uploads and batch.input_file is None:  # it is created after the upload only
            await desk.drop(batch, "the process ended before it was submitted")
            return
        if batch.number not in desk.told_full and await self._is_found(batch):
            return
        if desk.ends:
            await desk.drop(batch, "it was cancelled before it was submitted")
        elif lines is None and not uploads:
            await desk.drop(batch, "the process ended before it was submitted")
        elif creates <= CREATES:
            await self._create(batch, lines or (), creates=creates)
        else:
            raise ServerError(f"{desk.target.name} did not say whether it created batch {batch.number}")

    # What is sent

    async def _upload(self, batch: Batch, lines: Sequence[Line]) -> Batch | None:
        """Upload the rows; None if the provider refused them. An upload is not paid for, so it may be repeated."""
        desk = self._desk
        request = desk.format.upload(batch.stamp, lines)
        if request is None:
            return batch
        try:
            response = await desk.wire.patiently(request, seconds=UPLOAD_SECONDS)
            refused = desk.format.refused(response)
            if refused is None:
                file = desk.format.uploaded(response)
        except CallError as error:
            await desk.drop(batch, str(error))
            raise
        if refused is not None:
            await self._refused(batch, *refused)
            return None
        await desk.ledger.uploaded(batch.number, file)
        return desk.change(batch, input_file=file)

    async def _create(self, batch: Batch, lines: Sequence[Line], *, creates: int = 1) -> None:
        desk = self._desk
        request = desk.format.create(batch.stamp, lines, batch.input_file)
        for tried in range(1, TRIES + 1):
            try:
                response = await desk.wire.once(request, seconds=UPLOAD_SECONDS)
                refused = desk.format.refused(response)
                job = desk.format.job(response) if refused is None else None
                break
            except ConnectError:  # it was not sent
                if tried == TRIES:
                    raise
                await asyncio.sleep(overload_delay(tried, random.random()))
            except TransportError:
                await self.settle(batch, lines, creates=creates + 1)
                return
            except CallError as error:
                await desk.drop(batch, str(error))
                raise
        if job is not None:
            await self._opened(batch, job)
        elif refused is not None and refused[0] == "again":
            await self.settle(batch, lines, creates=creates + 1)
        elif refused is not None:
            await self._refused(batch, *refused)

    async def _opened(self, batch: Batch, job: Job) -> None:
        desk = self._desk
        now = desk.wall()
        await desk.ledger.open(batch.number, job.id, now)
        desk.jobs.add(job.id)
        desk.told_full.discard(batch.number)
        desk.change(batch, state="open", job=job.id, opened_at=now)

    async def _refused(self, batch: Batch, why: str, reason: str) -> None:
        """The provider took the upload or the batch not at all."""
        desk = self._desk
        if why == "full":
            await desk.full(batch, reason)
        elif why in ("again", "unknown"):
            await desk.drop(batch, reason)
            desk.rest()
        else:
            await self.refuse(batch, reason)

    async def refuse(self, batch: Batch, reason: str, members: Sequence[int] = (), line: int | None = None) -> None:
        """A batch was refused for what is in it: the row that it names fails, or it is halved until the row is found.

        Raises:
            InvalidRequest: all batches are refused, so it is not for a row.
        """
        desk = self._desk
        desk.refused += 1
        members = members or await desk.ledger.read_members(batch.number)
        if batch.rows == 1:
            line = 1
        if line is not None and 1 <= line <= len(members):
            await desk.ledger.results(batch.number, [(members[line - 1], "answered", 400, _as_answer(reason))])
            await desk.drop(batch, reason)
        else:
            await desk.drop(batch, reason, most=(batch.rows + 1) // 2)
        if desk.refused >= MOST_REFUSED:
            raise InvalidRequest(f"{desk.target.name} refused {desk.refused} batches one after another: {reason}")

    # Whether it was created

    async def _is_found(self, batch: Batch) -> bool:
        """Look for a batch in the provider's list. True also if it cannot be told yet: `settle` looks again then."""
        for wait in LOOKS:
            await asyncio.sleep(wait)
            jobs = [job async for job in self._listed(batch)]
            if self._desk.format.labels:
                job = next((job for job in jobs if self._is_ours(batch, job)), None)
            elif any(job.state == "open" for job in jobs):
                return True
            else:
                job = await self._by_results(batch, jobs)
            if job is not None:
                await self._opened(batch, job)
                return True
        return False

    async def _listed(self, batch: Batch) -> AsyncGenerator[Job, None]:
        """The jobs that may be a batch: not another's of ours; and without labels, of its time, with as many rows."""
        desk = self._desk
        cursor: str | None = None
        while True:
            response = await desk.wire.patiently(desk.format.list(cursor))
            refused = desk.format.refused(response)
            if refused is not None:
                raise TransportError(refused[1]) if refused[0] in ("again", "full") else desk.wire.error(response)
            jobs, following = desk.format.listed(response, cursor)
            for job in jobs:
                if job.id not in desk.jobs and (desk.format.labels or _is_alike(batch, job)):
                    yield job
            if following in (None, cursor) or _goes_back_behind(jobs, batch.intended_at - APART):
                return
            cursor = following

    @staticmethod
    def _is_ours(batch: Batch, job: Job) -> bool:
        if job.stamp is not None:
            return job.stamp == batch.stamp
        return batch.input_file is not None and job.input_file == batch.input_file

    async def _by_results(self, batch: Batch, jobs: Sequence[Job]) -> Job | None:
        """The job whose results are a batch's; None if there is none."""
        for job in jobs:
            try:
                key = await self._first_key(job)
            except Unreadable:
                continue
            if key is not None and index_of(batch.stamp, key) is not None:
                return job
        return None

    async def _first_key(self, job: Job) -> str | None:
        desk = self._desk
        if not job.files and not job.inline:  # a list may leave the results out
            response = await desk.wire.patiently(desk.format.get(job.id))
            if (refused := desk.format.refused(response)) is not None:
                raise TransportError(refused[1]) if refused[0] in ("again", "full") else Unreadable(refused[1])
            job = desk.format.job(response)
        if job.inline:
            return next((found.key for found in desk.format.reader().feed(job.inline)), None)
        for file in job.files:
            reader = desk.format.reader()
            async with aclosing(desk.wire.pieces(desk.format.results(file))) as pieces:
                async for piece in pieces:
                    for found in reader.feed(piece):
                        return found.key
        return None


def _is_alike(batch: Batch, job: Job) -> bool:
    """Whether a job without a label may be a batch."""
    apart = 0.0 if job.created_at is None else abs(job.created_at - batch.intended_at)
    return job.rows in (None, batch.rows) and apart <= APART


def _goes_back_behind(jobs: Sequence[Job], moment: float) -> bool:
    """Whether a page of jobs goes back in time, as far as a moment: what follows is older still."""
    times = [job.created_at for job in jobs if job.created_at is not None]
    return bool(times) and times[0] > times[-1] and times[-1] < moment


def _as_answer(message: str) -> bytes:
    """A refusal as the live endpoint would have answered."""
    return encode({"error": {"message": message, "type": "invalid_request_error"}})
