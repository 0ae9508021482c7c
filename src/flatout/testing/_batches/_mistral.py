"""Mistral's batch jobs: rows from files or with the request, one model for all of them, and files of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ._job import Answered, Job, Kind, Phase, Problem, Row
from ._request import Ask, BadBody, Refused, decode_object
from ._shelf import FILE_LIFE, Draft, Full, Shelf
from ._told import Told, encode

MOST_ROWS = 1_000_000
MOST_INLINE = 10_000
MOST_HOURS = 168
MOST_PROBLEMS = 100

ENDPOINTS: Mapping[str, Kind] = {"/v1/chat/completions": "chat", "/v1/embeddings": "embeddings"}
_STATES: Mapping[Phase, str] = {
    "validating": "QUEUED",
    "failed": "FAILED",
    "running": "RUNNING",
    "finalizing": "RUNNING",
    "ended": "SUCCESS",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelling": "CANCELLATION_REQUESTED",
    "cancelled": "CANCELLED",
}


class _Line(Struct, gc=False, forbid_unknown_fields=True):
    custom_id: str
    body: dict[str, Any]


class _Create(Struct, forbid_unknown_fields=True):
    endpoint: str
    model: str
    input_files: list[str] | None = None
    requests: list[_Line] | None = None
    metadata: dict[str, str] | None = None
    timeout_hours: int = 24


_decode_line = msgspec.json.Decoder(_Line).decode
_decode = msgspec.json.Decoder(_Create).decode


def bad(message: str, status: int = 422) -> Refused:
    """A refusal in Mistral's words."""
    if status == 422:
        return Refused(422, encode({"detail": [{"type": "value_error", "loc": ["body"], "msg": message}]}))
    told = {"object": "error", "message": message, "type": "invalid_request_error", "param": None, "code": None}
    return Refused(status, encode(told))


class MistralJobs:
    """The endpoints of batch jobs.

    Args:
        shelf: where batches and files are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._settings = shelf.settings.batch

    def create(self, now: float, wall: float, ask: Ask) -> Told:
        """``POST /batch/jobs``."""
        try:
            ask.json()
            asked = _decode(ask.body)
        except (BadBody, msgspec.ValidationError) as problem:
            raise bad(str(problem)) from None
        _check(asked)
        rows, problems = self._rows(wall, ask, asked)
        draft = Draft(
            kind=ENDPOINTS[asked.endpoint],
            model=asked.model,
            rows=rows,
            line=_line,
            window=asked.timeout_hours * 3_600.0,
            told={**msgspec.structs.asdict(asked), "requests": None, "life": FILE_LIFE},
            validating=self._settings.validating,
            problems=problems,
        )
        try:
            job = self._shelf.create(now, wall, ask.authorization, draft, "job-")
        except Full as full:
            raise bad(full.problem(asked.model).message, 429) from None
        return Told(encode(self._described(now, job)), act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /batch/jobs``."""
        jobs = self._shelf.jobs(now, ask.authorization)
        if ask.query.get("order_by", "-created") == "created":
            jobs.reverse()
        size, page = _number(ask, "page_size", "100", 1, 1_000), _number(ask, "page", "0", 0, 1_000_000)
        data = [self._described(now, job) for job in jobs[page * size : (page + 1) * size]]
        return Told(encode({"object": "list", "data": data, "total": len(jobs)}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /batch/jobs/{id}``."""
        return Told(encode(self._described(now, self._job(now, ask, name))))

    def cancel(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``POST /batch/jobs/{id}/cancel``."""
        job = self._job(now, ask, name)
        if (phase := job.phase(now)) not in ("validating", "running", "finalizing", "cancelling"):
            raise bad(f"Job {name} cannot be cancelled: it is {_STATES[phase]}", 400)
        if job.cancelled is None:
            job.cancelled = now
        return Told(encode(self._described(now, job)), act="changed")

    def delete(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``DELETE /batch/jobs/{id}``."""
        job = self._job(now, ask, name)
        if not job.settled:
            raise bad(f"Job {name} cannot be deleted: it is {_STATES[job.phase(now)]}", 400)
        self._shelf.forget(job)
        return Told(encode({"id": name, "object": "batch", "deleted": True}), act="changed")

    def _job(self, now: float, ask: Ask, name: str) -> Job:
        job = self._shelf.job(now, ask.authorization, name)
        if job is None:
            raise bad(f"Job {name} not found", 404)
        return job

    def _rows(self, wall: float, ask: Ask, asked: _Create) -> tuple[list[Row], list[Problem]]:
        reader = _Reader(asked.model)
        for line in asked.requests or ():
            reader.take(line)
        for name in asked.input_files or ():
            file = self._shelf.file(wall, ask.authorization, name)
            if file is None:
                raise bad(f"File {name} not found", 404)
            if file.purpose != "batch":
                raise bad(f"File {name} has the purpose '{file.purpose}', not 'batch'", 400)
            for number, text in enumerate(file.data.split(b"\n"), 1):
                if text.strip():
                    reader.read(number, text)
        most = self._settings.most_rows or MOST_ROWS
        if not 1 <= len(reader.rows) <= most and not reader.problems:
            reader.problems.append(Problem("rows", f"A job has from 1 to {most:,} requests, not {len(reader.rows):,}."))
        for place in self._shelf.poisoned(reader.rows):
            named = f" in line {place + 1}" if self._settings.names_lines else ""
            reader.problems.append(Problem("invalid", f"Invalid request{named}."))
        return reader.rows, reader.problems[:MOST_PROBLEMS]

    def _described(self, now: float, job: Job) -> dict[str, Any]:
        phase = job.phase(now)
        state, share = _STATES[phase], self._settings.faults.unknown_state
        if share and state in ("QUEUED", "RUNNING") and self._shelf.random.random() < share:
            state = "UNDER_REVIEW"
        over = job.settled
        problems = job.problems if phase == "failed" else ()
        started = job.validated <= now and phase != "failed"
        return {
            "id": job.id,
            "object": "batch",
            "input_files": job.told["input_files"] or [],
            "metadata": job.told["metadata"],
            "endpoint": job.told["endpoint"],
            "model": job.model,
            "agent_id": None,
            "output_file": job.files.get("output"),
            "error_file": job.files.get("error"),
            "errors": [{"message": problem.message, "count": 1} for problem in problems],
            "status": state,
            "created_at": job.unix(job.created),
            "total_requests": job.count,
            "completed_requests": job.good + job.bad if over else job.done(now),
            "succeeded_requests": job.good if over else job.done(now),
            "failed_requests": job.bad,
            "started_at": job.unix(job.validated) if started else None,
            "completed_at": job.unix(job.over_at()) if over else None,
        }


class _Reader:
    """Reads the rows of a job, and finds what makes its validation fail."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._keys: set[str] = set()
        self.rows: list[Row] = []
        self.problems: list[Problem] = []

    def read(self, number: int, line: bytes) -> None:
        """Read a line of a file."""
        try:
            decode_object(line)
            self.take(_decode_line(line))
        except (BadBody, msgspec.ValidationError) as problem:
            self.problems.append(Problem("line", f"Invalid JSON line {number}: {problem}", number))

    def take(self, line: _Line) -> None:
        """Take a row. The job's model answers it."""
        if line.custom_id in self._keys:
            self.problems.append(Problem("duplicate", f"Duplicate custom_id: {line.custom_id}"))
        self._keys.add(line.custom_id)
        self.rows.append(Row(line.custom_id, encode({**line.body, "model": self._model})))


def _check(asked: _Create) -> None:
    if asked.endpoint not in ENDPOINTS:
        raise bad(f"endpoint: Input should be {' or '.join(map(repr, ENDPOINTS))}, not {asked.endpoint!r}")
    if bool(asked.input_files) == bool(asked.requests):
        raise bad("a job has either input_files or requests")
    if len(asked.requests or ()) > MOST_INLINE:
        raise bad(f"requests: a job has at most {MOST_INLINE:,} requests; use a file")
    if not 1 <= asked.timeout_hours <= MOST_HOURS:
        raise bad(f"timeout_hours: a number from 1 to {MOST_HOURS}, not {asked.timeout_hours}")


def _number(ask: Ask, name: str, usual: str, least: int, most: int) -> int:
    text = ask.query.get(name, usual)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise bad(f"{name}: a number from {least} to {most}, not {text!r}")
    return int(text)


def _line(job: Job, answered: Answered) -> tuple[str, bytes]:
    """What became of a row. Those that were not run are not mentioned."""
    if not answered.status:
        return "", b""
    told = {
        "id": f"{job.id}-{answered.place}",
        "custom_id": answered.row.key,
        "response": {"status_code": answered.status, "body": msgspec.Raw(answered.body)},
        "error": None,
    }
    return "output" if answered.status == 200 else "error", encode(told) + b"\n"
