"""Mistral's batch jobs: files as OpenAI has them, jobs of its own form. A few rows travel in the create request.

The model stands on the job.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from flatout.errors import ConfigError
from flatout.lanes.batch.format import Caps, Job, Line
from flatout.lanes.offers import Kind
from flatout.layer import Request, Response
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.values import Target

from .openai import LABEL, found
from .refusals import failure
from .shapes import FileShape
from .wire import Server, encoded, named, seconds_of, segment

_PATHS: dict[Kind, str] = {"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"}

INLINE = 2_500_000
"""Bytes of rows that travel in the create request. Mistral takes 10,000 rows there; each counts with 256 bytes and more
(`flatout.lanes.batch.format.Caps.around`)."""

_JOBS = "/batch/jobs"
_ITSELF = "job:"
"""Before the name of a job that is deleted with its rows: files have names of the same form."""

_PAGE = 100
"""Jobs on a page."""

_ENDED = frozenset({"success", "timeout_exceeded", "cancelled"})


def batch_format(target: Target, kind: Kind) -> MistralBatch:
    """The batches of a target.

    Raises:
        ConfigError: Mistral has none of this kind, or its address or key cannot be used.
    """
    if kind not in _PATHS:
        raise ConfigError(f"{target.endpoint.name} has no batches for {kind}, only for chat and embeddings")
    return MistralBatch(target, _PATHS[kind])


class MistralBatch(FileShape):
    """Batches of one target at Mistral (see `flatout.lanes.batch.format.BatchFormat`).

    Args:
        target: endpoint, key and model.
        path: the endpoint that answers the rows.

    Raises:
        ConfigError: the endpoint's address or key cannot be used.
    """

    # Mistral: 1,000,000 requests, 512 MB; timeout_hours is 24 unless the job says otherwise.
    caps = Caps(rows=1_000_000, size=512_000_000)
    labels = True

    def __init__(self, target: Target, path: str) -> None:
        super().__init__(Server(target.endpoint), found)
        self._model = target.model
        self._path = path

    def uploads(self, size: int, /) -> bool:
        """Whether the rows are too many for the create request."""
        return size > INLINE

    def upload(self, stamp: str, lines: Sequence[Line], /) -> Request:
        """The form with the file of rows."""
        rows = [_row(line) + b"\n" for line in lines]
        return self._server.form("/files", {"purpose": "batch"}, f"{stamp}.jsonl", rows)

    def create(self, stamp: str, lines: Sequence[Line], file: str | None, /) -> Request:
        """The request that runs the file, or the rows."""
        source = {"requests": [Raw(_row(line)) for line in lines]} if file is None else {"input_files": [file]}
        body = {
            **source,
            "model": self._model,
            "endpoint": self._path,
            "metadata": {LABEL: stamp},
            "timeout_hours": int(self.caps.seconds // 3_600),
        }
        return self._server.request("POST", _JOBS, encoded(body))

    def get(self, job: str, /) -> Request:
        """The request for a job."""
        return self._server.request("GET", f"{_JOBS}/{segment(job)}")

    def list(self, cursor: str | None, /) -> Request:
        """The request for a page of jobs, the newest first. The cursor is the page's number, from 0."""
        return self._server.request("GET", _JOBS, page=cursor or "0", page_size=str(_PAGE), order_by="-created")

    def listed(self, response: Response, cursor: str | None, /) -> tuple[Sequence[Job], str | None]:
        """The jobs on a page, and the next page's number."""
        items = as_dicts(self._server.read(response).get("data"))
        jobs = [self._job(item) for item in items if as_text(item.get("id"))]
        return jobs, str(int(cursor or "0") + 1) if len(items) >= _PAGE else None

    def cancel(self, job: str, /) -> Request | None:
        """The request that cancels a job."""
        return self._server.request("POST", f"{_JOBS}/{segment(job)}/cancel")

    def delete(self, file: str, /) -> Request | None:
        """The request that deletes a file, or a job with its rows."""
        if not file.startswith(_ITSELF):
            return super().delete(file)
        return self._server.request("DELETE", f"{_JOBS}/{segment(file.removeprefix(_ITSELF))}")

    def _job(self, data: dict[str, Any]) -> Job:
        identity = self._server.identity(data)
        status = (as_text(data.get("status")) or "").lower()
        files = named(data.get("output_file"), data.get("error_file"))
        failed = status == "failed" and not files
        ended = status in _ENDED or (status == "failed" and not failed)
        words = next((error.get("message") for error in as_dicts(data.get("errors"))), None)
        why, reason = failure(None, words, self._server.endpoint) if failed else (None, "")
        given = data.get("input_files")
        inputs = named(*given) if isinstance(given, list) else ()
        return Job(
            id=identity,
            state="failed" if failed else "ended" if ended else "open",
            said=status,
            stamp=as_text(as_dict(data.get("metadata")).get(LABEL)),
            rows=as_count(data.get("total_requests")) or None,
            done=as_count(data.get("completed_requests")),
            created_at=seconds_of(data.get("created_at")),
            files=files if ended else (),
            input_file=next(iter(inputs), None),
            itself="" if inputs or not ended else _ITSELF + identity,
            refusal=why,
            reason=reason,
        )


def _row(line: Line) -> bytes:
    return b'{"custom_id":%b,"body":%b}' % (encoded(line.key), line.body)
