"""OpenAI's batches: a file of JSON lines goes in, a file of answers and a file of errors come out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ._files import bad, life_of, limit_of
from ._job import Answered, Job, Phase, Problem
from ._openai_rows import ENDPOINTS, LineReader
from ._request import Ask, BadBody, Refused
from ._shelf import FILE_LIFE, Draft, Full, Shelf
from ._told import Told, cut, encode

DAY = 86_400.0
MOST_ROWS = 50_000

_STATES: Mapping[Phase, str] = {"running": "in_progress", "ended": "completed"}  # the others have their own names
_FIELDS = frozenset({"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"})
_MOST_METADATA, _LONGEST_NAME, _LONGEST_VALUE = 16, 64, 512


class OpenAIBatches:
    """The endpoints of batches.

    Args:
        shelf: where batches and files are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._settings = shelf.settings.batch
        self._dialect = self._settings.dialect
        self._prefix = "" if self._dialect == "azure" else "/v1"
        self._together = self._dialect == "together"

    def create(self, now: float, wall: float, ask: Ask) -> Told:
        """``POST /batches``."""
        try:
            asked = ask.json()
        except BadBody as wrong:
            raise bad(f"We could not parse the JSON body of your request: {wrong}") from None
        life = _checked(asked, [self._prefix + path for path in ENDPOINTS])
        file = self._shelf.file(wall, ask.authorization, asked["input_file_id"])
        if file is None:
            raise bad(f"No such File object: {asked['input_file_id']}", "input_file_id", status=404)
        if file.purpose not in ("batch", "batch-api"):
            raise bad(f"Invalid purpose of the file: '{file.purpose}', not 'batch'", "input_file_id")
        draft = self._draft(asked, file.data, life)
        try:
            job = self._shelf.create(now, wall, ask.authorization, draft, "batch_")
        except Full as full:
            problem = full.problem(draft.model)
            raise bad(problem.message, code=problem.code, status=400 if full.never else 429) from None
        described = self._described(now, job)
        return Told(encode({"job": described, "warning": None} if self._together else described), act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /batches``."""
        jobs = self._shelf.jobs(now, ask.authorization)
        if self._together:
            return Told(encode([self._described(now, job) for job in jobs]))
        try:
            found, more = cut(jobs, ask.query.get("after"), limit_of(ask, 20, 100))
        except KeyError as unknown:
            raise _no_batch(str(unknown.args[0])) from None
        ends = {"first_id": found[0].id if found else None, "last_id": found[-1].id if found else None}
        data = [self._described(now, job) for job in found]
        return Told(encode({"object": "list", "data": data, **ends, "has_more": more}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /batches/{id}``."""
        return Told(encode(self._described(now, self._job(now, ask, name))))

    def cancel(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``POST /batches/{id}/cancel``."""
        job = self._job(now, ask, name)
        if (phase := job.phase(now)) not in ("validating", "running", "cancelling"):
            raise bad(f"Cannot cancel a batch with status '{_STATES.get(phase, phase)}'.", status=409)
        if job.cancelled is None:
            job.cancelled = now
        return Told(encode(self._described(now, job)), act="changed")

    def _job(self, now: float, ask: Ask, name: str) -> Job:
        job = self._shelf.job(now, ask.authorization, name)
        if job is None:
            raise _no_batch(name)
        return job

    def _draft(self, asked: Mapping[str, Any], data: bytes, life: float) -> Draft:
        reader = LineReader(asked["endpoint"], self._shelf.settings.models)
        problems = reader.problems_of(data, self._shelf, self._settings.most_rows or MOST_ROWS)
        return Draft(
            kind=ENDPOINTS[asked["endpoint"].removeprefix(self._prefix)],
            model=reader.model,
            rows=reader.rows,
            line=_line,
            window=math.inf if self._dialect == "azure" else DAY,
            told={**asked, "life": life},
            validating=self._settings.validating,
            problems=problems,
            when_full="fails",
        )

    def _described(self, now: float, job: Job) -> dict[str, Any]:
        phase = job.phase(now)
        validated = phase not in ("validating", "failed") and job.validated <= now
        told = {
            "id": job.id,
            "object": "batch",
            "endpoint": job.told["endpoint"],
            "model": job.model if validated else None,
            "errors": _errors(job.problems) if phase == "failed" else None,
            "input_file_id": job.told["input_file_id"],
            "completion_window": job.told["completion_window"],
            "status": self._state(phase),
            **self._files(job),
            **_times(job, phase, now),
            "request_counts": _counts(job, now) if validated else {"total": 0, "completed": 0, "failed": 0},
            "metadata": job.told.get("metadata"),
        }
        if job.good:
            told["usage"] = _usage(job)
        return told

    def _state(self, phase: Phase) -> str:
        share = self._settings.faults.unknown_state
        state = _STATES.get(phase, phase)
        if share and phase in ("validating", "running", "finalizing") and self._shelf.random.random() < share:
            state = "under_review"
        return state.upper() if self._together else state

    def _files(self, job: Job) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for kind in ("output", "error"):
            name = job.files.get(kind)
            if name is not None:
                found[f"{kind}_file_id"] = name
            elif self._settings.no_file != "absent":
                found[f"{kind}_file_id"] = "" if self._settings.no_file == "empty" else None
        return found


def _checked(asked: Mapping[str, Any], endpoints: Sequence[str]) -> float:
    """Check what a client asks for. Returns how long the results are kept, in seconds."""
    if unknown := sorted(asked.keys() - _FIELDS):
        raise bad(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    for field in ("input_file_id", "endpoint", "completion_window"):
        if not isinstance(asked.get(field), str):
            raise bad(f"Missing required parameter: '{field}'.", field, "missing_required_parameter")
    if asked["endpoint"] not in endpoints:
        message = f"Invalid value: '{asked['endpoint']}'. Supported values are: {', '.join(map(repr, endpoints))}."
        raise bad(message, "endpoint", "invalid_value")
    if asked["completion_window"] != "24h":
        message = f"Invalid value: '{asked['completion_window']}'. Value must be '24h'."
        raise bad(message, "completion_window", "invalid_value")
    _check_metadata(asked.get("metadata"))
    kept = asked.get("output_expires_after")
    if kept is None:
        return FILE_LIFE
    if not isinstance(kept, dict) or kept.keys() != {"anchor", "seconds"}:
        raise bad("output_expires_after has an anchor and seconds", "output_expires_after", "invalid_type")
    return life_of(kept["seconds"], kept["anchor"], "output_expires_after")


def _check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    try:
        metadata = msgspec.convert(metadata, dict[str, str])
    except msgspec.ValidationError:
        message = "Invalid type for 'metadata': expected an object of strings."
        raise bad(message, "metadata", "invalid_type") from None
    if len(metadata) > _MOST_METADATA:
        raise bad(f"metadata has {len(metadata)} keys, and may have {_MOST_METADATA}", "metadata", "invalid_value")
    for name, value in metadata.items():
        if len(name) > _LONGEST_NAME or len(value) > _LONGEST_VALUE:
            message = f"a key has at most {_LONGEST_NAME} characters, a value {_LONGEST_VALUE}"
            raise bad(f"metadata: {message}", f"metadata.{name}", "string_above_max_length")


def _no_batch(name: str) -> Refused:
    return bad(f"No batch found with id '{name}'.", "id", status=404)


def _line(job: Job, answered: Answered) -> tuple[str, bytes]:
    """What became of a row, in the file of answers or in the one of errors."""
    response, error = None, None
    if answered.status:
        name = f"{job.id}_{answered.place}"
        response = {"status_code": answered.status, "request_id": name, "body": msgspec.Raw(answered.body)}
    elif job.cancelled is not None:
        error = {"code": "batch_cancelled", "message": "This request was cancelled with its batch."}
    else:
        message = "This request could not be executed before the completion window expired."
        error = {"code": "batch_expired", "message": message}
    told = {
        "id": f"batch_req_{job.id.removeprefix('batch_')}_{answered.place}",
        "custom_id": answered.row.key,
        "response": response,
        "error": error,
    }
    return "output" if answered.status == 200 else "error", encode(told) + b"\n"


def _errors(problems: Sequence[Problem]) -> dict[str, Any]:
    data = [
        {"code": problem.code, "message": problem.message, "param": problem.param, "line": problem.line}
        for problem in problems
    ]
    return {"object": "list", "data": data}


def _times(job: Job, phase: Phase, now: float) -> dict[str, int | None]:
    """When a batch came into each of its states, in Unix seconds; None for those in which it was not."""
    over = job.over_at()
    reached = {
        "created_at": job.created,
        "in_progress_at": job.validated if phase != "failed" else None,
        "expires_at": job.expires if job.expires < math.inf else None,
        "finalizing_at": job.finished if phase in ("finalizing", "ended") else None,
        "completed_at": over if phase == "ended" else None,
        "failed_at": over if phase == "failed" else None,
        "expired_at": over if phase == "expired" else None,
        "cancelling_at": job.cancelled,
        "cancelled_at": over if phase == "cancelled" else None,
    }
    return {
        name: None if at is None or (at > now and name != "expires_at") else job.unix(at)
        for name, at in reached.items()
    }


def _counts(job: Job, now: float) -> dict[str, int]:
    done = job.good if job.settled else job.done(now)
    return {"total": job.count, "completed": done, "failed": job.bad}


def _usage(job: Job) -> dict[str, Any]:
    return {
        "input_tokens": job.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": job.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": job.prompt_tokens + job.output_tokens,
    }
