"""Anthropic's Message Batches: the rows come with the request, and one file of results ends it. It carries no label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from ._job import OVER, Answered, Job, Row
from ._request import Ask, BadBody, Refused
from ._shelf import Draft, Full, Shelf
from ._told import LINES, Told, cut, encode

DAY = 86_400.0
MOST_ROWS = 100_000
MOST_BYTES = 256 * 1024 * 1024
KEPT = 29 * DAY
"""Seconds after a batch's creation for which its results can be fetched."""

_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}
_KEY = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class _Request(Struct, gc=False, forbid_unknown_fields=True):
    custom_id: str
    params: msgspec.Raw


class _Create(Struct, gc=False, forbid_unknown_fields=True):
    requests: list[_Request]


class _Params(Struct, gc=False):
    model: str = ""


_decode = msgspec.json.Decoder(_Create).decode
_decode_params = msgspec.json.Decoder(_Params).decode


def bad(message: str, status: int = 400) -> Refused:
    """A refusal in Anthropic's words."""
    return Refused(status, encode(_error(message, status)))


class MessageBatches:
    """The endpoints of Message Batches.

    Args:
        shelf: where batches are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._settings = shelf.settings.batch

    def create(self, now: float, wall: float, ask: Ask) -> Told:
        """``POST /messages/batches``."""
        _check_version(ask)
        most = self._settings.most_bytes or MOST_BYTES
        if len(ask.body) > most:
            raise bad(f"Request exceeds the maximum size of {most:,} bytes", 413)
        rows, model = self._rows(ask)
        draft = Draft(kind="messages", model=model, rows=rows, line=_line, window=DAY, told={"life": KEPT})
        try:
            job = self._shelf.create(now, wall, ask.authorization, draft, "msgbatch_")
        except Full:
            raise bad("The number of batch requests in the processing queue would exceed your limit", 429) from None
        return Told(encode(self._described(now, ask, job)), act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /messages/batches``."""
        _check_version(ask)
        jobs = self._shelf.jobs(now, ask.authorization)
        before = ask.query.get("before_id")
        try:
            found, more = cut(jobs[::-1] if before else jobs, before or ask.query.get("after_id"), _limit(ask))
        except KeyError as unknown:
            raise _no_batch(str(unknown.args[0])) from None
        data = [self._described(now, ask, job) for job in (found[::-1] if before else found)]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return Told(encode({"data": data, "has_more": more, **ends}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /messages/batches/{id}``."""
        return Told(encode(self._described(now, ask, self._job(now, ask, name))))

    def cancel(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``POST /messages/batches/{id}/cancel``."""
        job = self._job(now, ask, name)
        if job.phase(now) in OVER:
            raise bad(f"Batch {name} cannot be canceled because it has already ended.")
        if job.cancelled is None:
            job.cancelled = now
        return Told(encode(self._described(now, ask, job)), act="changed")

    def delete(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``DELETE /messages/batches/{id}``."""
        job = self._job(now, ask, name)
        if job.phase(now) not in OVER:
            raise bad(f"Batch {name} cannot be deleted while it is in progress. Cancel it first.")
        self._shelf.forget(job)
        return Told(encode({"id": name, "type": "message_batch_deleted"}), act="changed")

    def results(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /messages/batches/{id}/results``."""
        job = self._job(now, ask, name)
        if job.phase(now) not in OVER:
            raise bad(f"Batch {name} is still in progress: it has no results yet.", 404)
        if now >= job.created + KEPT:
            raise bad(f"The results of batch {name} are archived.", 404)
        file = self._shelf.file(wall, ask.authorization, job.files.get("results", ""))
        return Told(b"" if file is None else file.data, media_type=LINES, act="results")

    def _job(self, now: float, ask: Ask, name: str) -> Job:
        _check_version(ask)
        job = self._shelf.job(now, ask.authorization, name)
        if job is None:
            raise _no_batch(name)
        return job

    def _rows(self, ask: Ask) -> tuple[list[Row], str]:
        """The rows of a request, and their model; "" if they have several."""
        try:
            ask.json()
            asked = _decode(ask.body)
        except (BadBody, msgspec.ValidationError) as problem:
            raise bad(str(problem)) from None
        most = self._settings.most_rows or MOST_ROWS
        if not 1 <= len(asked.requests) <= most:
            raise bad(f"requests: a batch has from 1 to {most:,} requests, not {len(asked.requests):,}")
        _check_keys([request.custom_id for request in asked.requests])
        rows = [Row(request.custom_id, bytes(request.params)) for request in asked.requests]
        if (place := next(self._shelf.poisoned(rows), None)) is not None:
            raise bad(f"requests.{place}.params: not acceptable" if self._settings.names_lines else "not acceptable")
        return rows, _model(rows)

    def _described(self, now: float, ask: Ask, job: Job) -> dict[str, Any]:
        phase, url = job.phase(now), f"{ask.origin}{ask.path.partition('/messages/batches')[0]}/messages/batches"
        over, archived = phase in OVER, now >= job.created + KEPT
        state = "ended" if over else "canceling" if phase == "cancelling" else "in_progress"
        share = self._settings.faults.unknown_state
        if share and state == "in_progress" and self._shelf.random.random() < share:
            state = "under_review"
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": state,
            "request_counts": _counts(job, over=over),
            "created_at": _date(job.unix(job.created)),
            "expires_at": _date(job.unix(min(job.expires, job.created + DAY))),
            "ended_at": _date(job.unix(job.over_at())) if over else None,
            "cancel_initiated_at": None if job.cancelled is None else _date(job.unix(job.cancelled)),
            "archived_at": _date(job.unix(job.created + KEPT)) if archived else None,
            "results_url": f"{url}/{job.id}/results" if over and not archived else None,
        }


def _check_version(ask: Ask) -> None:
    if not ask.headers.get("anthropic-version"):
        raise bad("anthropic-version: header is required")


def _check_keys(keys: Sequence[str]) -> None:
    seen: set[str] = set()
    for place, key in enumerate(keys):
        if not _KEY.fullmatch(key):
            raise bad(f"requests.{place}.custom_id: String should match pattern '^{_KEY.pattern}$'")
        if key in seen:
            raise bad(f"requests.{place}.custom_id: '{key}' stands twice among the requests")
        seen.add(key)


def _model(rows: Sequence[Row]) -> str:
    models: set[str] = set()
    for row in rows:
        try:
            models.add(_decode_params(row.body).model)
        except (msgspec.DecodeError, UnicodeDecodeError):
            models.add("")
    return models.pop() if len(models) == 1 else ""


def _limit(ask: Ask) -> int:
    text = ask.query.get("limit", "20")
    if not text.isdecimal() or not 1 <= int(text) <= 1_000:
        raise bad(f"limit: a number from 1 to 1000, not {text!r}")
    return int(text)


def _no_batch(name: str) -> Refused:
    return bad(f"No batch with id {name} was found", 404)


def _line(job: Job, answered: Answered) -> tuple[str, bytes]:
    """What became of a row."""
    if answered.status == 200:
        result: dict[str, Any] = {"type": "succeeded", "message": msgspec.Raw(answered.body)}
    elif answered.status:
        message = msgspec.json.decode(answered.body)["error"]["message"]
        result = {"type": "errored", "error": _error(message, answered.status)}
    else:
        result = {"type": "expired" if job.cancelled is None else "canceled"}
    return "results", encode({"custom_id": answered.row.key, "result": result}) + b"\n"


def _error(message: str, status: int) -> dict[str, Any]:
    kind = _TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def _counts(job: Job, *, over: bool) -> dict[str, int]:
    left = job.count - job.good - job.bad
    return {
        "processing": 0 if over else job.count,  # rows move on together, when the batch ends
        "succeeded": job.good if over else 0,
        "errored": job.bad if over else 0,
        "canceled": left if over and job.cancelled is not None else 0,
        "expired": left if over and job.cancelled is None else 0,
    }


def _date(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat().replace("+00:00", "Z")
