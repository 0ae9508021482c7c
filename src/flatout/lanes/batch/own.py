"""Tells whether a batch or a file at a provider is ours, before it is cancelled or deleted.

A name in the ledger may be another's by now: a server that began anew counts from one again, and some name batches
anew. So the stamp is looked at first. What cannot be shown to be ours is left alone.
"""

from __future__ import annotations

from contextlib import aclosing
from email.utils import parsedate_to_datetime

from flatout.errors import TransportError
from flatout.layer import Response
from flatout.store.ledger import Batch

from .box import index_of
from .desk import Desk
from .format import Job
from .wire import FOR_NOW, Unreadable

APART = 2 * 86_400.0
"""Seconds that the provider's clock and ours may be apart: a clock may be wrong by a day, and a bit."""

UNSTEADY = 900.0
"""Seconds by which the provider's clock or ours may be put right while a batch runs."""

_GONE = ("unknown", "denied")  # it is not there; to a refused key the wire raises an error


async def own_job(desk: Desk, batch: Batch) -> Job | None:
    """A batch as its provider describes it now; None if it is gone, or if its name is another's.

    Raises:
        CallError: the provider is not reached, or refuses.
    """
    if batch.job is None:
        return None
    response = await desk.wire.patiently(desk.format.get(batch.job), read=desk.format.job)
    if _is_gone(desk, response):
        return None
    job = desk.format.job(response)
    is_own = _is_as_old(desk, batch, job, response) and await _is_own(desk, batch, job)
    return job if is_own else None


async def own_files(desk: Desk, batch: Batch) -> list[str]:
    """The files of a batch that are still there and ours: the one with its rows, and those with its results.

    Raises:
        CallError: as for `own_job`.
    """
    found: list[str] = []
    if batch.input_file is not None and await _is_own_file(desk, batch):
        found.append(batch.input_file)
    if results := batch.result_files:
        job = await own_job(desk, batch)
        if job is not None and job.state == "ended":
            found += [file for file in results if file in (job.itself, *job.files)]
    return found


def is_stamped(batch: Batch, job: Job) -> bool:
    """Whether a job carries a batch's stamp, or runs its uploaded file."""
    if job.stamp is not None:
        return job.stamp == batch.stamp
    return batch.input_file is not None and job.input_file == batch.input_file


def is_alike(batch: Batch, job: Job) -> bool:
    """Whether a job without a label may be a batch."""
    apart = 0.0 if job.created_at is None else abs(job.created_at - batch.intended_at)
    return job.rows in (None, batch.rows) and apart <= APART


def _is_as_old(desk: Desk, batch: Batch, job: Job, response: Response) -> bool:
    """Whether a job is as old as a batch, by the clock of each; True if the provider does not say."""
    now = _date(response)
    if now is None or job.created_at is None or batch.opened_at is None:
        return True
    age, wall = now - job.created_at, desk.wall()
    return wall - batch.opened_at - UNSTEADY <= age <= wall - batch.intended_at + UNSTEADY


def _date(response: Response) -> float | None:
    try:
        return parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except ValueError:
        return None


async def has_rows_of(desk: Desk, batch: Batch, job: Job) -> bool:
    """Whether the results of a job are a batch's.

    Raises:
        CallError: they cannot be read.
    """
    key = await _first_key(desk, job)
    return key is not None and index_of(batch.stamp, key) is not None


async def _is_own(desk: Desk, batch: Batch, job: Job) -> bool:
    if job.stamp is not None or desk.format.labels:
        return is_stamped(batch, job) and (job.stamp is not None or await _is_own_file(desk, batch))
    if not is_alike(batch, job):
        return False
    try:
        return not (job.files or job.inline) or await has_rows_of(desk, batch, job)
    except Unreadable:
        return False


async def _is_own_file(desk: Desk, batch: Batch) -> bool:
    assert batch.input_file is not None
    request = desk.format.file(batch.input_file)
    if request is None:  # its name is ours
        return batch.stamp in batch.input_file
    response = await desk.wire.patiently(request, read=desk.format.described_file)
    if _is_gone(desk, response):
        return False
    return desk.format.described_file(response).name == name_of_file(batch.stamp)


def name_of_file(stamp: str) -> str:
    """Our name of the file that is uploaded for a batch."""
    return f"{stamp}.jsonl"


def _is_gone(desk: Desk, response: Response) -> bool:
    """Whether the provider says that it has nothing under a name.

    Raises:
        CallError: it says something else than what it has.
    """
    refused = desk.format.refused(response)
    if refused is None or refused[0] in _GONE:
        return refused is not None
    raise TransportError(refused[1]) if refused[0] in FOR_NOW else desk.wire.error(response)


async def _first_key(desk: Desk, job: Job) -> str | None:
    if not job.files and not job.inline:  # a list may leave the results out
        response = await desk.wire.patiently(desk.format.get(job.id))
        if (refused := desk.format.refused(response)) is not None:
            raise TransportError(refused[1]) if refused[0] in FOR_NOW else Unreadable(refused[1])
        job = desk.format.job(response)
    if job.inline:
        return next((found.key for found in desk.format.reader().feed(job.inline)), None)
    for file in job.files:
        reader = desk.format.reader(file)
        async with aclosing(desk.wire.pieces(desk.format.results(file))) as pieces:
            async for piece in pieces:
                for found in reader.feed(piece):
                    return found.key
    return None
