"""xAI's batches: a file as OpenAI has them, no states but counts, and results in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ._files import bad, limit_of
from ._gemini_rows import RPC_CODES
from ._job import OVER, Answered, Job
from ._openai_rows import LineReader
from ._request import Ask, BadBody
from ._shelf import FILE_LIFE, Draft, Full, Shelf
from ._told import Told, cut, encode

DAY = 86_400.0
MOST_ROWS = 100_000
MOST_ON_PAGE = 1_000
CANCELLED = 1
"""google.rpc's code for rows that were not run."""

_ENDPOINT = "/v1/chat/completions"


class XaiBatches:
    """The endpoints of batches.

    Args:
        shelf: where batches and files are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._settings = shelf.settings.batch

    def create(self, now: float, wall: float, ask: Ask) -> Told:
        """``POST /batches``."""
        asked = _checked(ask)
        file = self._shelf.file(wall, ask.authorization, asked["input_file_id"])
        if file is None:
            raise bad(f"File not found: {asked['input_file_id']}", status=404)
        reader = LineReader(_ENDPOINT, self._shelf.settings.models)
        problems = reader.problems_of(file.data, self._shelf, self._settings.most_rows or MOST_ROWS)
        draft = Draft(
            kind="chat",
            model=reader.model,
            rows=reader.rows,
            line=_line,
            window=DAY,
            told={**asked, "life": FILE_LIFE},
            validating=self._settings.validating,
            problems=problems,
        )
        try:
            job = self._shelf.create(now, wall, ask.authorization, draft, "batch_")
        except Full as full:
            raise bad(full.problem(draft.model).message, status=429) from None
        return Told(encode(self._described(now, job)), act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /batches``."""
        jobs = self._shelf.jobs(now, ask.authorization)
        found, token = _paged(jobs, ask)
        return Told(encode({"batches": [self._described(now, job) for job in found], "pagination_token": token}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /batches/{id}``."""
        return Told(encode(self._described(now, self._job(now, ask, name))))

    def cancel(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``POST /batches/{id}:cancel``."""
        job = self._job(now, ask, name)
        if job.phase(now) in OVER:
            raise bad(f"Batch {name} has already completed", status=400)
        if job.cancelled is None:
            job.cancelled = now
        return Told(encode(self._described(now, job)), act="changed")

    def results(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /batches/{id}/results``: those that there are."""
        job = self._job(now, ask, name)
        file = self._shelf.file(wall, ask.authorization, job.files.get("results", ""))
        rows = [] if file is None else [_Result(row) for row in file.data.splitlines()]
        found, token = _paged(rows, ask)
        answer = {"results": [msgspec.Raw(row.data) for row in found], "pagination_token": token}
        return Told(encode(answer), act="results")

    def _job(self, now: float, ask: Ask, name: str) -> Job:
        job = self._shelf.job(now, ask.authorization, name)
        if job is None:
            raise bad(f"Batch not found: {name}", status=404)
        return job

    def _described(self, now: float, job: Job) -> dict[str, Any]:
        phase, faults = job.phase(now), self._settings.faults
        state: dict[str, int] | None = _counts(now, job)
        if faults.unknown_state and not job.settled and self._shelf.random.random() < faults.unknown_state:
            state = None
        refused = job.problems[0].message if phase == "failed" else None
        cancelled = job.cancelled if refused is None else job.over_at()
        return {
            "batch_id": job.id,
            "name": job.told["name"],
            "create_time": _day(job.unix(job.created)),
            "expire_time": _day(job.unix(job.created + FILE_LIFE)),
            "create_api_key_id": "********-****-****-****-************",
            "cancel_time": None if cancelled is None else _day(job.unix(cancelled)),
            "cancel_by_xai_message": None if refused is None else f"JSONL file validation failed: {refused}",
            "state": state,
            "input_file_id": job.told["input_file_id"],
        }


class _Result:
    """One line of results, with a name for its place."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.id: str = msgspec.json.decode(data)["batch_request_id"]


def _checked(ask: Ask) -> Mapping[str, Any]:
    """What a client asks for."""
    try:
        asked = ask.json()
    except BadBody as wrong:
        raise bad(str(wrong)) from None
    if unknown := sorted(asked.keys() - {"name", "input_file_id"}):
        raise bad(f"unknown field `{unknown[0]}`", status=422)
    for field in ("name", "input_file_id"):
        if not isinstance(asked.get(field), str) or not asked[field]:
            raise bad(f"missing field `{field}`", status=422)
    return asked


def _paged(items: Sequence[Any], ask: Ask) -> tuple[Sequence[Any], str | None]:
    """The items on a page, and the token of the next one."""
    try:
        found, more = cut(items, ask.query.get("pagination_token"), limit_of(ask, 100, MOST_ON_PAGE))
    except KeyError:
        raise bad("pagination_token is invalid") from None
    return found, found[-1].id if more else None


def _counts(now: float, job: Job) -> dict[str, int]:
    """All counts are 0 until the file is read, and after it is refused."""
    if job.problems or (now < job.validated and job.cancelled is None):
        return dict.fromkeys(("num_requests", "num_pending", "num_success", "num_error", "num_cancelled"), 0)
    good = job.good if job.settled else job.done(now)
    left = job.count - good - job.bad
    return {
        "num_requests": job.count,
        "num_pending": 0 if job.settled else max(1, left),
        "num_success": good,
        "num_error": job.bad,
        "num_cancelled": left if job.settled else 0,
    }


def _line(job: Job, answered: Answered) -> tuple[str, bytes]:
    """What became of a row."""
    if answered.status == 200:
        result: dict[str, Any] = {"response": {"chat_get_completion": msgspec.Raw(answered.body)}}
    elif answered.status:
        message = msgspec.json.decode(answered.body)["error"]["message"]
        result = {"error": {"code": RPC_CODES.get(answered.status, 2), "message": message}}
    else:
        result = {"error": {"code": CANCELLED, "message": "The batch was cancelled."}}
    return "results", encode({"batch_request_id": answered.row.key, "batch_result": result}) + b"\n"


def _day(unix: float) -> str:
    """A date: xAI names days only."""
    return datetime.fromtimestamp(unix, UTC).date().isoformat()
