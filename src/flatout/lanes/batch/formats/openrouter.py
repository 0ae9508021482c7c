"""OpenRouter's batches: the rows travel in the create request, and the results come with the job.

The body is read as it streams in, so the endpoint and the model must stand before the rows, or it is refused. A batch
carries no label and cannot be cancelled. A "completed" batch may hold failed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flatout.errors import ConfigError
from flatout.lanes.batch.format import Caps, Job, Line
from flatout.lanes.offers import Kind
from flatout.layer import Request, Response
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.values import Target

from .openai import found
from .refusals import failure
from .shapes import RequestShape
from .wire import Server, encoded, seconds_of, segment

_PATHS: dict[Kind, str] = {"chat": "/v1/chat/completions"}

_ENDED = frozenset({"completed", "expired", "cancelled"})


def batch_format(target: Target, kind: Kind) -> OpenRouterBatch:
    """The batches of a target.

    Raises:
        ConfigError: flatout knows none of this kind, or its address or key cannot be used.
    """
    if kind not in _PATHS:
        raise ConfigError(f"{target.endpoint.name} has no batches for {kind} that flatout knows, only for chat")
    return OpenRouterBatch(target, _PATHS[kind])


class OpenRouterBatch(RequestShape):
    """Batches of one target at OpenRouter (see `flatout.lanes.batch.format.BatchFormat`).

    Args:
        target: endpoint, key and model.
        path: the endpoint that answers the rows.

    Raises:
        ConfigError: the endpoint's address or key cannot be used.
    """

    # OpenRouter: 5,000 requests, 200 MB, 24 hours.
    caps = Caps(rows=5_000, size=200_000_000)
    labels = False

    def __init__(self, target: Target, path: str) -> None:
        super().__init__(Server(target.endpoint), found)
        self._head = b'{"endpoint":%b,"model":%b,"requests":[' % (encoded(path), encoded(target.model))

    def create(self, stamp: str, lines: Sequence[Line], file: str | None, /) -> Request:
        """The request with all rows, which come last."""
        rows = b",".join(b'{"custom_id":%b,"body":%b}' % (encoded(line.key), line.body) for line in lines)
        return self._server.request("POST", "/batches", b"%b%b]}" % (self._head, rows))

    def job(self, response: Response, /) -> Job:
        """The batch in an answer."""
        data = self._server.read(response)
        return self._job(as_dict(data.get("data")) or data)

    def get(self, job: str, /) -> Request:
        """The request for a batch and its results."""
        return self._server.request("GET", f"/batches/{segment(job)}")

    def list(self, cursor: str | None, /) -> Request:
        """The request for a page of batches, the newest first."""
        return self._server.request("GET", "/batches", limit="100", after=cursor)

    def listed(self, response: Response, cursor: str | None, /) -> tuple[Sequence[Job], str | None]:
        """The batches on a page, without their results, and the id to go on after."""
        data = self._server.read(response)
        jobs = [self._job({**item, "results": None}) for item in as_dicts(data.get("data")) if as_text(item.get("id"))]
        return jobs, jobs[-1].id if jobs and data.get("has_more") is True else None

    def cancel(self, job: str, /) -> Request | None:
        """None: OpenRouter cancels no batches."""
        return None

    def results(self, file: str, /) -> Request:
        """Never asked for: a job has no files. It asks for the job."""
        return self.get(file)

    def delete(self, file: str, /) -> Request | None:
        """The request that deletes a batch, with its rows and results."""
        return self._server.request("DELETE", f"/batches/{segment(file)}")

    def _job(self, data: dict[str, Any]) -> Job:
        identity = self._server.identity(data)
        status = as_text(data.get("status"))
        results = as_dicts(data.get("results"))
        failed = status == "failed" and not results
        ended = not failed and (status in _ENDED or status == "failed")
        counts = as_dict(data.get("request_counts"))
        error = as_dict(data.get("error"))
        why, reason = failure(error.get("code"), error.get("message"), self._server.endpoint) if failed else (None, "")
        return Job(
            id=identity,
            state="failed" if failed else "ended" if ended else "open",
            said=status or "",
            rows=as_count(counts.get("total")) or None,
            done=as_count(counts.get("completed")),
            created_at=seconds_of(data.get("created_at")),
            inline=b"".join(encoded(row) + b"\n" for row in results) if ended else b"",
            itself=identity if ended else "",
            refusal=why,
            reason=reason,
        )
