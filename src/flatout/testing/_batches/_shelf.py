"""All batches and files of a simulated provider. Each organisation, which is a key, sees its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from random import Random
from typing import Any, Literal

from msgspec import Struct

from flatout.testing._answers import fate
from flatout.testing._settings import ProviderSettings
from flatout.testing._slots import SimulatedResponse
from flatout.testing._writer import service_time

from ._job import OVER, Answered, Job, Kind, Problem, Row

FILE_LIFE = 30 * 86_400.0
"""Seconds after which a file is deleted, unless its owner says otherwise."""

AnswerRow = Callable[[float, Kind, bytes], SimulatedResponse]
"""The live model: answers a row, given Unix seconds, its kind and its body."""

CountTokens = Callable[[Kind, bytes], int]


class File(Struct, frozen=True):
    """A file. Times are Unix seconds."""

    id: str
    organisation: str
    purpose: str
    name: str
    data: bytes
    created: float
    expires: float


class Draft(Struct, kw_only=True):
    """A batch that somebody asks for; see `Job`."""

    kind: Kind
    model: str
    rows: list[Row]
    line: Callable[[Job, Answered], tuple[str, bytes]]
    window: float
    told: dict[str, Any]
    validating: float = 0.0
    problems: Sequence[Problem] = ()
    when_full: Literal["fails", "refused"] = "refused"


class Full(Exception):
    """A batch does not fit into the queue.

    Attributes:
        never: whether it would not fit into an empty one either.
        limit, tokens: what the queue holds, and what the batch needs.
    """

    def __init__(self, limit: int, tokens: int) -> None:
        super().__init__(limit, tokens)
        self.never = tokens > limit
        self.limit = limit
        self.tokens = tokens

    def problem(self, model: str) -> Problem:
        """The same as the reason of a failed validation, in OpenAI's words."""
        return Problem(
            "token_limit_exceeded",
            f"Enqueued token limit reached for {model}. Limit: {self.limit:,} enqueued tokens. Please try again once "
            "some in_progress batches have been completed.",
        )


class Shelf:
    """The files and the batches.

    Args:
        settings: the provider's.
        seed: makes all draws repeatable.
        answer: answers a row.
        count: counts a row's prompt tokens.
    """

    def __init__(self, settings: ProviderSettings, seed: int, answer: AnswerRow, count: CountTokens) -> None:
        self.settings = settings
        self.random = Random(f"{seed} batches")
        self._seed = seed
        self._answer = answer
        self._count = count
        self._files: dict[str, File] = {}
        self._jobs: dict[str, Job] = {}
        self._open: list[Job] = []  # those whose results are not written, and those that fail
        self._numbers = 0

    def stats(self) -> dict[str, int]:
        """What there was and is."""
        jobs = self._jobs.values()
        return {
            "created": len(jobs),
            "open": sum(not job.settled for job in jobs),
            "failed": sum(job.settled and bool(job.problems) for job in jobs),
            "rows": sum(job.count for job in jobs),
            "answers": sum(job.good for job in jobs),
            "errors": sum(job.bad for job in jobs),
            "prompt_tokens": sum(job.prompt_tokens for job in jobs),
            "output_tokens": sum(job.output_tokens for job in jobs),
            "files": len(self._files),
        }

    # -- files

    def add(self, wall: float, organisation: str, purpose: str, name: str, data: bytes, life: float) -> File:
        """Keep a file for ``life`` seconds."""
        file = File(self._name("file-"), organisation, purpose, name, data, wall, wall + life)
        self._files[file.id] = file
        return file

    def file(self, wall: float, organisation: str, name: str) -> File | None:
        """A file of this organisation; None if there is none, or no longer."""
        file = self.any_file(wall, name)
        return None if file is None or file.organisation != organisation else file

    def any_file(self, wall: float, name: str) -> File | None:
        """A file, whoever's it is; None if there is none, or no longer."""
        file = self._files.get(name)
        return file if file is not None and file.expires > wall else None

    def files(self, wall: float, organisation: str) -> list[File]:
        """The organisation's files, the newest first."""
        return [file for file in reversed(self._files.values()) if self.file(wall, organisation, file.id)]

    def remove(self, file: File) -> None:
        """Delete a file."""
        del self._files[file.id]

    # -- batches

    def create(self, now: float, wall: float, organisation: str, draft: Draft, prefix: str) -> Job:
        """Begin a batch.

        Raises:
            Full: it is refused because it does not fit into the queue.
        """
        settings = self.settings.batch
        self._advance(now)
        tokens = 0
        if settings.enqueued_tokens is not None:
            tokens = sum(self._count(draft.kind, row.body) for row in draft.rows)
        full = self._full(now, organisation, draft.model, tokens)
        way = settings.when_full or draft.when_full
        if full is not None and way == "waits" and full.never:
            way = draft.when_full
        if full is not None and way == "refused":
            raise full
        job = self._job(now, wall, organisation, draft, tokens, prefix)
        if full is not None and way == "fails":
            job.problems = job.problems or (full.problem(draft.model),)
        elif full is not None:
            job.validated = math.inf
        self._jobs[job.id] = job
        self._open.append(job)
        return job

    def job(self, now: float, organisation: str, name: str) -> Job | None:
        """A batch of this organisation, with its results if it is over; None if there is none."""
        self._advance(now)
        job = self._jobs.get(name)
        return None if job is None or job.organisation != organisation or job.deleted else job

    def jobs(self, now: float, organisation: str) -> list[Job]:
        """The organisation's batches, the newest first."""
        self._advance(now)
        mine = reversed(self._jobs.values())
        return [job for job in mine if job.organisation == organisation and not job.deleted]

    def forget(self, job: Job) -> None:
        """Delete a batch that is over, and its results."""
        job.deleted = True
        for name in job.files.values():
            self._files.pop(name, None)

    def poisoned(self, rows: Iterable[Row]) -> Iterator[int]:
        """The places, from 0, of the rows that make a validation fail."""
        share = self.settings.batch.faults.poison
        if share:
            for place, row in enumerate(rows):
                if fate(sha256(row.body).digest(), 0, self._seed) < share:
                    yield place

    def _name(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}{self._numbers:012d}"

    def _job(self, now: float, wall: float, organisation: str, draft: Draft, tokens: int, prefix: str) -> Job:
        settings, validated = self.settings.batch, now + draft.validating
        window = draft.window if settings.window is None else settings.window
        expires, takes = self._times(window - draft.validating)
        return Job(
            id=self._name(prefix),
            organisation=organisation,
            told=draft.told,
            kind=draft.kind,
            model=draft.model,
            rows=draft.rows,
            count=len(draft.rows),
            tokens=tokens,
            problems=draft.problems,
            line=draft.line,
            wall=wall,
            created=now,
            validated=validated,
            expires=validated + expires,
            takes=takes,
            finalizing=settings.finalizing,
            cancelling=settings.cancelling,
        )

    def _times(self, window: float) -> tuple[float, float]:
        """Seconds from a batch's validation until it is given up, and until all its rows are answered."""
        settings, draw = self.settings.batch, self.random.random()
        if draw < settings.faults.stuck:
            return math.inf, math.inf
        if draw < settings.faults.stuck + settings.faults.expires:
            return window, window / self.random.uniform(0.05, 0.95)
        return window, service_time(self.random, settings.time, settings.time_p99)

    def _full(self, now: float, organisation: str, model: str, tokens: int) -> Full | None:
        limit = self.settings.batch.enqueued_tokens
        if limit is None:
            return None
        taken = sum(job.tokens for job in self._open if (job.organisation, job.model) == (organisation, model))
        return Full(limit, tokens) if taken + tokens > limit else None

    def _advance(self, now: float) -> None:
        """Write the results of the batches that are over, in the order in which they ended, and let others begin."""
        for job in sorted((job for job in self._open if not job.settled), key=Job.over_at):
            if job.phase(now) in OVER:
                self._settle(job)
        held = self.settings.batch.failed_counts
        self._open = [job for job in self._open if not job.settled or (job.problems and now < job.over_at() + held)]
        for job in self._open:
            if job.validated == math.inf and not job.settled and self._fits(job):
                job.validated = now

    def _fits(self, job: Job) -> bool:
        """Whether a batch that waits may begin: the ones before it have, and there is room."""
        same = [each for each in self._open if (each.organisation, each.model) == (job.organisation, job.model)]
        before = same[: same.index(job)]
        taken = sum(each.tokens for each in before)
        return taken + job.tokens <= (self.settings.batch.enqueued_tokens or math.inf)

    def _settle(self, job: Job) -> None:
        """Answer the rows that were finished, and write the files of results."""
        job.settled = True
        at = job.over_at()
        lines: dict[str, list[bytes]] = {}
        found = () if job.problems and job.cancelled is None else self._answered(job, at)
        for answered in sorted(found, key=_place) if job.told.get("in_order") else found:
            name, line = job.line(job, answered)
            if name:
                lines.setdefault(name, []).append(line)
        for name, written in lines.items():
            life = job.told.get("life", FILE_LIFE)
            file = f"{job.id}_{name}.jsonl"
            data = b"".join(written)
            job.files[name] = self.add(job.unix(at), job.organisation, "batch_output", file, data, life).id
        job.rows = []

    def _answered(self, job: Job, at: float) -> Iterator[Answered]:
        """What became of each row, in the order of the results."""
        settings, random, done, wall = self.settings.batch, self.random, job.done(at), job.unix(at)
        order = list(range(job.count))
        if not settings.in_order:
            random.shuffle(order)
        for number, place in enumerate(order):
            row = job.rows[place]
            if settings.faults.missing and random.random() < settings.faults.missing:
                continue
            if number >= done:
                yield Answered(row, place)
                continue
            outcome = self._answer(wall, job.kind, row.body)
            good = outcome.status == 200
            job.good += good
            job.bad += not good
            job.prompt_tokens += outcome.prompt_tokens
            job.output_tokens += outcome.output_tokens
            yield Answered(row, place, outcome.status, outcome.body)


def _place(answered: Answered) -> int:
    return answered.place
