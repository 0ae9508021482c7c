"""Looks through a provider's lists of batches and files for what is ours, and not in the ledger."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal

from flatout.errors import AuthenticationError, CallError, ConfigError, TransportError
from flatout.layer import Response
from flatout.store.ledger import Batch

from .desk import Desk, log
from .format import Job
from .own import APART, has_rows_of, is_alike, is_stamped, name_of_file
from .wire import FOR_NOW, Unreadable

MOST_PAGES = 1_000
"""Pages of a list that are read: a hundred thousand batches. A list that is longer does not end, or nearly so."""


class Search:
    """Looks for what one target has of ours."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def job(self, batch: Batch) -> Job | Literal["perhaps"] | None:
        """The job that a batch became; None if it is not there; ``perhaps`` if that can be told only later.

        Raises:
            CallError: the list cannot be read.
        """
        jobs = [job async for job in self._listed(batch)]
        if self._desk.format.labels:
            return next((job for job in jobs if is_stamped(batch, job)), None)
        if any(job.state == "open" for job in jobs):
            return "perhaps"
        return await self._by_results(batch, jobs)

    async def file(self, batch: Batch) -> str | None:
        """The uploaded file of a batch, by the name that we gave it; None if it is not there, or if nobody can tell."""
        desk, name = self._desk, name_of_file(batch.stamp)
        cursor: str | None = None
        try:
            for _ in range(MOST_PAGES):
                if (request := desk.format.files(cursor)) is None:
                    return None
                read = desk.format.listed_files
                files, following = read(self._answered(await desk.wire.patiently(request, read=read)))
                for file in files:
                    if file.name == name:
                        return file.id
                if following in (None, cursor):
                    return None
                cursor = following
        except CallError as error:
            log.info("the files of %s are not listed: %s", desk.target.name, error)
        return None

    async def check_only_one(self) -> None:
        """Refuse to submit if the provider has batches of this run that the ledger does not know: a copy made them.

        Raises:
            ConfigError: it has.
            CallError: the provider is not reached, or refuses the key.
        """
        desk = self._desk
        try:
            async with aclosing(self._jobs(desk.began - APART)) as jobs:
                async for job in jobs:
                    if job.stamp is not None and job.stamp.startswith(desk.mark) and job.stamp not in desk.stamps:
                        raise ConfigError(
                            f"{desk.target.name} has a batch of this run, {job.id}, that this run file does not know: "
                            "the run has gone on in a copy of it, perhaps on another machine. Continue there, or start "
                            "over with --fresh"
                        )
        except (TransportError, AuthenticationError):
            raise
        except CallError as error:
            log.info("the batches of %s are not listed: %s", desk.target.name, error)

    async def _jobs(self, since: float) -> AsyncGenerator[Job, None]:
        """The provider's jobs, as far back as a moment if they go back in time."""
        desk = self._desk
        cursor: str | None = None
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            read = partial(self._read, cursor)
            jobs, following = read(self._answered(await desk.wire.patiently(desk.format.list(cursor), read=read)))
            for job in jobs:
                yield job
            repeats = bool(jobs) and seen.issuperset(job.id for job in jobs)  # of a server that knows no pages
            if following in (None, cursor) or repeats or _goes_back_behind(jobs, since):
                return
            seen.update(job.id for job in jobs)
            cursor = following
        raise TransportError(f"the list of batches of {desk.target.name} does not end")

    def _read(self, cursor: str | None, response: Response) -> tuple[Sequence[Job], str | None]:
        return self._desk.format.listed(response, cursor)

    def _answered(self, response: Response) -> Response:
        """An answer that is no refusal.

        Raises:
            TransportError: the provider is in trouble.
            CallError: it refuses.
        """
        refused = self._desk.format.refused(response)
        if refused is not None:
            raise TransportError(refused[1]) if refused[0] in FOR_NOW else self._desk.wire.error(response)
        return response

    async def _listed(self, batch: Batch) -> AsyncGenerator[Job, None]:
        """The jobs that may be a batch: not another's of ours; and without labels, of its time, with as many rows."""
        desk = self._desk
        async with aclosing(self._jobs(batch.intended_at - APART)) as jobs:
            async for job in jobs:
                if job.id not in desk.jobs and (desk.format.labels or is_alike(batch, job)):
                    yield job

    async def _by_results(self, batch: Batch, jobs: Sequence[Job]) -> Job | None:
        """The job whose results are a batch's; None if there is none."""
        for job in jobs:
            try:
                if await has_rows_of(self._desk, batch, job):
                    return job
            except Unreadable:
                continue
        return None


def _goes_back_behind(jobs: Sequence[Job], moment: float) -> bool:
    """Whether a page of jobs goes back in time, as far as a moment: what follows is older still."""
    times = [job.created_at for job in jobs if job.created_at is not None]
    return bool(times) and times[0] > times[-1] and times[-1] < moment
