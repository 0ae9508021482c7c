"""OpenRouter's batches: the rows come with the request, and the results with the batch. Nothing is cancelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_dict, as_text

from ._files import bad, limit_of
from ._job import OVER, Answered, Job, Kind, Phase, Row
from ._request import Ask, BadBody, Refused
from ._shelf import FILE_LIFE, Draft, Full, Shelf
from ._told import Told, cut, encode

DAY = 86_400.0
MOST_ROWS = 5_000
MOST_BYTES = 200 * 1024 * 1024

ENDPOINTS: Mapping[str, Kind] = {"/v1/chat/completions": "chat"}
_STATES: Mapping[Phase, str] = {"running": "in_progress", "ended": "completed"}  # the others have their own names
_FIELDS = frozenset({"endpoint", "model", "completion_window", "provider", "callback_url", "requests"})


class OpenRouterBatches:
    """The endpoints of batches.

    Args:
        shelf: where batches are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._settings = shelf.settings.batch

    def create(self, now: float, wall: float, ask: Ask) -> Told:
        """``POST /api/v1/batches``."""
        if len(ask.body) > (self._settings.most_bytes or MOST_BYTES):
            raise bad("The request is too large", status=413)
        asked = _checked(ask)
        rows = list(_rows(asked))
        most = self._settings.most_rows or MOST_ROWS
        if not 1 <= len(rows) <= most:
            raise bad(f"requests: a batch has from 1 to {most:,} requests, not {len(rows):,}")
        if (place := next(self._shelf.poisoned(rows), None)) is not None:
            raise bad(f"requests.{place}.body: not acceptable" if self._settings.names_lines else "not acceptable")
        draft = Draft(
            kind=ENDPOINTS[asked["endpoint"]],
            model=asked["model"],
            rows=rows,
            line=_line,
            window=DAY,
            told={"endpoint": asked["endpoint"], "life": FILE_LIFE},
            validating=self._settings.validating,
        )
        try:
            job = self._shelf.create(now, wall, ask.authorization, draft, "batch_")
        except Full:
            raise bad("Too many batches in progress: the queue is full", status=429) from None
        return Told(encode(self._described(now, wall, job)), 202, act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /api/v1/batches``."""
        try:
            found, more = cut(self._shelf.jobs(now, ask.authorization), ask.query.get("after"), limit_of(ask, 20, 100))
        except KeyError as unknown:
            raise _no_batch(str(unknown.args[0])) from None
        data = [self._described(now, wall, job, results=False) for job in found]
        return Told(encode({"object": "list", "data": data, "has_more": more}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /api/v1/batches/{id}``."""
        job = self._job(now, ask, name)
        return Told(encode(self._described(now, wall, job)), act="results" if job.files else "read")

    def delete(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``DELETE /api/v1/batches/{id}``."""
        job = self._job(now, ask, name)
        if job.phase(now) not in OVER:
            raise bad(f"Batch {name} is in progress", status=409)
        self._shelf.forget(job)
        return Told(encode({"id": name, "object": "batch", "deleted": True}), act="changed")

    def _job(self, now: float, ask: Ask, name: str) -> Job:
        job = self._shelf.job(now, ask.authorization, name)
        if job is None:
            raise _no_batch(name)
        return job

    def _described(self, now: float, wall: float, job: Job, *, results: bool = True) -> dict[str, Any]:
        phase = job.phase(now)
        state, share = _STATES.get(phase, phase), self._settings.faults.unknown_state
        if share and phase not in OVER and self._shelf.random.random() < share:
            state = "under_review"
        file = self._shelf.file(wall, job.organisation, job.files.get("results", "")) if results else None
        lines = b"" if file is None else file.data.rstrip(b"\n").replace(b"\n", b",")
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.told["endpoint"],
            "model": job.model,
            "completion_window": "24h",
            "status": state,
            "created_at": job.unix(job.created),
            "finalized_at": job.unix(job.over_at()) if phase in OVER else None,
            "request_counts": {"total": job.count, "completed": job.done(now), "failed": job.bad},
            "results": msgspec.Raw(b"[" + lines + b"]"),
            "error": None,
            "usage": None,
        }


def _checked(ask: Ask) -> dict[str, Any]:
    """What a client asks for. The body is read as it streams in, so nothing may come after the rows."""
    try:
        asked = ask.json()
    except BadBody as wrong:
        raise bad(str(wrong)) from None
    if unknown := sorted(asked.keys() - _FIELDS):
        raise bad(f'Unrecognized key: "{unknown[0]}"')
    names = list(asked)
    if names[-1:] != ["requests"] or not isinstance(asked["requests"], list):
        raise bad("`endpoint` and `model` must come before `requests`")
    if asked.get("endpoint") not in ENDPOINTS:
        raise bad(f"endpoint: {' or '.join(ENDPOINTS)}, not {asked.get('endpoint')!r}")
    if not isinstance(asked.get("model"), str) or not asked["model"]:
        raise bad("model: required")
    return asked


def _rows(asked: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a request. The batch's model answers all of them."""
    keys: set[str] = set()
    for place, row in enumerate(asked["requests"]):
        row = as_dict(row)
        if row.keys() != {"custom_id", "body"}:
            raise bad(f"requests.{place}: a request has a custom_id and a body")
        key, body = as_text(row["custom_id"]), as_dict(row["body"])
        if not key or key in keys:
            raise bad(f"requests.{place}.custom_id: a text that no other request has")
        if not body or body.get("model", asked["model"]) != asked["model"]:
            raise bad(f"requests.{place}.body.model: the batch's model is {asked['model']}")
        keys.add(key)
        yield Row(key, encode({**body, "model": asked["model"]}))


def _no_batch(name: str) -> Refused:
    return bad(f"No batch found with id '{name}'", status=404)


def _line(job: Job, answered: Answered) -> tuple[str, bytes]:
    """What became of a row."""
    name = f"{job.id}_{answered.place}"
    response, error = None, None
    if answered.status:
        response = {"status_code": answered.status, "request_id": name, "body": msgspec.Raw(answered.body)}
    else:
        error = {"code": "batch_expired", "message": "The batch expired before this request was run."}
    told = {"id": name, "custom_id": answered.row.key, "response": response, "error": error}
    return "results", encode(told) + b"\n"
