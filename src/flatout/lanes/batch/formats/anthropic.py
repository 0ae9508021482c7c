"""Anthropic's Message Batches: the rows travel in the create request, and the results are one file in any order.

A batch carries no label (Anthropic has neither names nor metadata for them), so one whose create was not answered is
found by its time and its count, and then by the keys in its results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from flatout.errors import ConfigError
from flatout.lanes.batch.format import Caps, Found, Job, Line
from flatout.lanes.offers import Kind
from flatout.layer import Request, Response
from flatout.providers.failures.problem import decode_json
from flatout.providers.formats.anthropic import VERSION
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.values import Target

from .refusals import status_of
from .shapes import RequestShape
from .wire import Server, encoded, seconds_of, segment

_PATH = "/messages/batches"


def batch_format(target: Target, kind: Kind) -> AnthropicBatch:
    """The batches of a target.

    Raises:
        ConfigError: the rows ask for something other than messages, or its address or key cannot be used.
    """
    if kind != "chat":
        raise ConfigError(f"{target.endpoint.name} has no batches for {kind}, only for messages")
    return AnthropicBatch(target)


class AnthropicBatch(RequestShape):
    """Batches of one target at Anthropic (see `flatout.lanes.batch.format.BatchFormat`).

    A job's file is its own id: the address of the results (``results_url``) is the provider's word, and the key never
    follows one. To delete the file is to delete the batch with all that it holds.

    Raises:
        ConfigError: the endpoint's address or key cannot be used.
    """

    # Anthropic: 100,000 requests or 256 MB, whichever comes first; it expires after 24 hours.
    caps = Caps(rows=100_000, size=256_000_000)
    labels = False

    def __init__(self, target: Target) -> None:
        super().__init__(Server(target.endpoint, anthropic_version=VERSION), found)

    def create(self, stamp: str, lines: Sequence[Line], file: str | None, /) -> Request:
        """The request with all rows."""
        rows = b",".join(b'{"custom_id":%b,"params":%b}' % (encoded(line.key), line.body) for line in lines)
        return self._server.request("POST", _PATH, b'{"requests":[%b]}' % rows)

    def get(self, job: str, /) -> Request:
        """The request for a batch."""
        return self._server.request("GET", f"{_PATH}/{segment(job)}")

    def list(self, cursor: str | None, /) -> Request:
        """The request for a page of batches, the newest first."""
        return self._server.request("GET", _PATH, limit="100", after_id=cursor)

    def listed(self, response: Response, cursor: str | None, /) -> tuple[Sequence[Job], str | None]:
        """The batches on a page, and the id to go on after."""
        data = self._server.read(response)
        jobs = [self._job(item) for item in as_dicts(data.get("data")) if as_text(item.get("id"))]
        return jobs, jobs[-1].id if jobs and data.get("has_more") is True else None

    def cancel(self, job: str, /) -> Request | None:
        """The request that cancels a batch. What is finished by then is kept, and charged."""
        return self._server.request("POST", f"{_PATH}/{segment(job)}/cancel")

    def results(self, file: str, /) -> Request:
        """The request for a batch's results."""
        return self._server.request("GET", f"{_PATH}/{segment(file)}/results")

    def delete(self, file: str, /) -> Request | None:
        """The request that deletes a batch. Anthropic deletes only batches that have ended."""
        return self._server.request("DELETE", f"{_PATH}/{segment(file)}")

    def _job(self, data: dict[str, Any]) -> Job:
        identity = self._server.identity(data)
        counts = [count for value in as_dict(data.get("request_counts")).values() if (count := as_count(value))]
        ended = data.get("processing_status") == "ended"
        waiting = as_count(as_dict(data.get("request_counts")).get("processing"))
        return Job(
            id=identity,
            state="ended" if ended else "open",
            said=as_text(data.get("processing_status")) or "",
            rows=sum(counts) or None,
            done=None if waiting is None else sum(counts) - waiting,
            created_at=seconds_of(data.get("created_at")),
            itself=identity if ended else "",
            # Null once the results are archived, 29 days after the batch began.
            files=(identity,) if ended and as_text(data.get("results_url")) else (),
        )


class _Result(Struct, gc=False):
    type: str
    message: Raw | UnsetType = UNSET


class _Row(Struct, gc=False):
    custom_id: str
    result: _Result


_rows = msgspec.json.Decoder(_Row)


def found(line: bytes) -> Found:
    """The row in a line of results.

    Raises:
        ValueError: the line holds no row.
    """
    try:
        row = _rows.decode(line)
    except (ValueError, RecursionError):
        return _found_leniently(line)
    body = b"" if row.result.message is UNSET else bytes(row.result.message)
    if row.result.type != "succeeded" or not row.custom_id or not body.startswith(b"{"):
        return _found_leniently(line)
    return Found("answered", key=row.custom_id, body=body)


def _found_leniently(line: bytes) -> Found:
    data = decode_json(line)
    key = as_text(data.get("custom_id")) if isinstance(data, dict) else None
    if not key:
        raise ValueError("no custom_id")
    result = as_dict(data.get("result"))
    match result.get("type"):
        case "succeeded" if as_dict(result.get("message")):
            return Found("answered", key=key, body=encoded(result["message"]))
        case "expired":
            return Found("expired", key=key)
        case "canceled" | "cancelled":
            return Found("cancelled", key=key)
    error = as_dict(result.get("error"))
    inner = as_dict(error.get("error")) or error
    return Found("answered", key=key, status=status_of(inner), body=encoded({"type": "error", "error": inner}))
