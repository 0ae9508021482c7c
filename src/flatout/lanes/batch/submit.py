"""Submits batches, each exactly once.

What is about to be sent stands in the ledger first. So after a crash, or an answer that was lost on its way, the
provider's own list tells whether a batch was created: it carries our stamp, or runs our file. Only if it is not there
is it created (again). Where batches have no label (Anthropic), the ids of their rows tell, once there are results.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence
from functools import partial

from msgspec.json import encode

from flatout.errors import CallError, ConnectError, InvalidRequest, ServerError, TransportError
from flatout.layer import Request
from flatout.policies.failures.backoff import overload_delay
from flatout.store.ledger import Batch

from .box import Box
from .desk import MOST_REFUSED, Desk
from .format import Job, Line, Refusal
from .search import Search
from .wire import FOR_NOW, TRIES, UPLOAD_SECONDS

LOOKS = (0.0, 5.0, 25.0)
"""Seconds before each look at the provider's list, which may lag behind what was created."""

CREATES = 3
"""How often a batch is created whose creation is not answered, nor to be found."""


class Submitter:
    """Submits the batches of one target."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._search = Search(desk)
        self._is_only_one = False

    async def submit(self, number: int, box: Box) -> None:
        """Submit the rows of a box. Afterwards the provider has them, or they are back, or `settle` will tell.

        Raises:
            CallError: the provider is not reached, or refuses everything; the ledger knows how far it went.
            StoreError: the run file can no longer be written.
        """
        desk = self._desk
        if not self._is_only_one:
            await self._search.check_only_one()
            self._is_only_one = True
        batch = Batch(
            number=number,
            target=desk.target.name,
            key=desk.target.key,
            stamp=f"{desk.mark}{secrets.token_hex(6)}",
            state="intended",
            rows=len(box.rows),
            size=box.size,
            intended_at=desk.wall(),
        )
        desk.stamps.add(batch.stamp)
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
        uploads = batch.input_file is not None or desk.format.uploads(batch.size)
        if uploads and batch.input_file is None:  # it is created after the upload only
            await self._go_on(batch)
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

    async def _go_on(self, batch: Batch) -> None:
        """Create a batch whose upload another process did not record, if its file is there; else drop it."""
        desk = self._desk
        if (file := await self._search.file(batch)) is not None:
            batch = await self._uploaded(batch, file)
        if file is None or desk.ends:
            await desk.drop(batch, "the process ended before it was submitted")
        else:
            await self._create(batch, ())

    async def _upload(self, batch: Batch, lines: Sequence[Line]) -> Batch | None:
        """Upload the rows; None if the provider refused them. An upload is not paid for, so it may be repeated."""
        desk = self._desk
        if not desk.format.uploads(batch.size):
            return batch
        upload = desk.format.upload(batch.stamp, lines)
        try:
            file = await self._prepared(batch, lines) or await self._sent(batch, upload)
        except CallError as error:
            await desk.drop(batch, str(error))
            raise
        if isinstance(file, str):
            return await self._uploaded(batch, file)
        await self._refused(batch, *file)
        return None

    async def _prepared(self, batch: Batch, lines: Sequence[Line]) -> tuple[Refusal, str] | None:
        """Make the place for an upload, if it needs one. Returns why that was refused."""
        desk = self._desk
        request = desk.format.before_upload(batch.stamp, lines)
        if request is None:
            return None
        return desk.format.refused(await desk.wire.patiently(request, read=partial(desk.format.uploaded, batch.stamp)))

    async def _sent(self, batch: Batch, request: Request) -> str | tuple[Refusal, str]:
        """Upload a file, and return its name or why it was refused. If the answer is lost, the file is looked for."""
        desk = self._desk
        for tried in range(1, TRIES + 1):
            lost = False
            try:
                response = await desk.wire.once(request, seconds=UPLOAD_SECONDS)
                refused = desk.format.refused(response)
                if refused is None:
                    return desk.format.uploaded(batch.stamp, response)
                if refused[0] not in FOR_NOW or tried == TRIES:
                    return refused
            except TransportError as error:
                if tried == TRIES:
                    raise
                lost = not isinstance(error, ConnectError)
            await asyncio.sleep(overload_delay(tried, random.random()))
            if lost and (file := await self._search.file(batch)) is not None:
                return file
        raise AssertionError

    async def _uploaded(self, batch: Batch, file: str) -> Batch:
        await self._desk.ledger.uploaded(batch.number, file)
        return self._desk.change(batch, input_file=file)

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
        desk.saw(batch, job)

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

    async def _is_found(self, batch: Batch) -> bool:
        """Look for a batch in the provider's list. True also if it cannot be told yet: `settle` looks again then."""
        for wait in LOOKS:
            await asyncio.sleep(wait)
            found = await self._search.job(batch)
            if found == "perhaps":
                return True
            if found is not None:
                await self._opened(batch, found)
                return True
        return False


def _as_answer(message: str) -> bytes:
    """A refusal as the live endpoint would have answered."""
    return encode({"error": {"message": message, "type": "invalid_request_error"}})
