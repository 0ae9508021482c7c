"""xAI's batches: a file as OpenAI has them, a batch without states, and results in pages.

A batch says how many of its requests are waiting, and nothing else of its state. All its counts are 0 both before xAI
has read the file and after it has refused it: only ``cancel_by_xai_message`` tells these two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flatout.errors import ConfigError
from flatout.lanes.batch.format import Caps, Found, Job, Line, Uploaded
from flatout.lanes.offers import Kind
from flatout.layer import Request, Response
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.values import Target

from .openai import found
from .refusals import failure, never_run, status_of
from .results import Document
from .shapes import FileShape
from .wire import Server, encoded, row_of_openai, seconds_of, segment

_PATHS: dict[Kind, str] = {"chat": "/v1/chat/completions"}

_PAGE = 1_000
"""Results on a page."""

_TOKEN = "\n"  # noqa: S105
"""Between a batch's id and the token of one of its pages. No id holds a line feed."""


def batch_format(target: Target, kind: Kind) -> XaiBatch:
    """The batches of a target.

    Raises:
        ConfigError: flatout knows none of this kind, or its address or key cannot be used.
    """
    if kind not in _PATHS:
        raise ConfigError(f"{target.endpoint.name} has no batches for {kind} that flatout knows, only for chat")
    return XaiBatch(target, _PATHS[kind])


class XaiBatch(FileShape):
    """Batches of one target at xAI (see `flatout.lanes.batch.format.BatchFormat`).

    A result's file is a page of the batch's results. Pages cannot be deleted.

    Args:
        target: endpoint, key and model.
        path: the endpoint that answers the rows.

    Raises:
        ConfigError: the endpoint's address or key cannot be used.
    """

    # xAI: files of 48 MB, and it may slow down batches of more than 100,000 requests; "typically within 24 hours".
    caps = Caps(rows=50_000, size=48_000_000)
    labels = True  # by its name, or by its input file

    def __init__(self, target: Target, path: str) -> None:
        super().__init__(Server(target.endpoint), found)
        self._row = row_of_openai(path)

    def upload(self, stamp: str, lines: Sequence[Line], /) -> Request:
        """The form with the file of rows, and no other field."""
        return self._server.form("/files", {}, f"{stamp}.jsonl", [self._row(line) for line in lines])

    def files(self, cursor: str | None, /) -> Request | None:
        """The request for a page of uploaded files."""
        return self._server.request("GET", "/files", limit="100", pagination_token=cursor)

    def listed_files(self, response: Response, /) -> tuple[Sequence[Uploaded], str | None]:
        """The files on a page, and the token of the next page."""
        files, _ = super().listed_files(response)
        return files, as_text(self._server.read(response).get("pagination_token")) or None

    def create(self, stamp: str, lines: Sequence[Line], file: str | None, /) -> Request:
        """The request that runs the file. The name is our label."""
        return self._server.request("POST", "/batches", encoded({"name": stamp, "input_file_id": file}))

    def get(self, job: str, /) -> Request:
        """The request for a batch."""
        return self._server.request("GET", f"/batches/{segment(job)}")

    def list(self, cursor: str | None, /) -> Request:
        """The request for a page of batches."""
        return self._server.request("GET", "/batches", limit="100", pagination_token=cursor)

    def listed(self, response: Response, cursor: str | None, /) -> tuple[Sequence[Job], str | None]:
        """The batches on a page, and the token of the next page."""
        data = self._server.read(response)
        jobs = [self._job(item) for item in as_dicts(data.get("batches")) if as_text(item.get("batch_id"))]
        return jobs, as_text(data.get("pagination_token")) or None

    def cancel(self, job: str, /) -> Request | None:
        """The request that cancels a batch. What is finished by then is kept, and charged."""
        return self._server.request("POST", f"/batches/{segment(job)}:cancel")

    def results(self, file: str, /) -> Request:
        """The request for a page of a batch's results."""
        job, _, token = file.partition(_TOKEN)
        return self._server.request(
            "GET", f"/batches/{segment(job)}/results", limit=str(_PAGE), pagination_token=token or None
        )

    def reader(self, file: str | None = None, /) -> Document:
        """A reader for a page of results, which names the next one."""
        job = (file or "").partition(_TOKEN)[0]
        return Document(lambda data: _page(job, data))

    def delete(self, file: str, /) -> Request | None:
        """The request that deletes a file; None for a page of results."""
        return None if _TOKEN in file else super().delete(file)

    def _job(self, data: dict[str, Any]) -> Job:
        identity = self._server.identity(data, field="batch_id")
        state = as_dict(data.get("state"))
        total, waiting = as_count(state.get("num_requests")) or 0, as_count(state.get("num_pending"))
        done = sum(as_count(state.get(f"num_{what}")) or 0 for what in ("success", "error", "cancelled"))
        words = as_text(data.get("cancel_by_xai_message"))
        failed = bool(words) and not total
        run = total > 0 and (done >= total if waiting is None else waiting == 0)
        ended = not failed and (run or (bool(data.get("cancel_time")) and not waiting))
        why, reason = failure(None, words, self._server.endpoint) if failed else (None, "")
        return Job(
            id=identity,
            state="failed" if failed else "ended" if ended else "open",
            stamp=as_text(data.get("name")),
            rows=total or None,
            done=done if state else None,
            created_at=seconds_of(data.get("create_time")),
            files=(identity + _TOKEN,) if ended and run else (),
            input_file=as_text(data.get("input_file_id")) or None,
            refusal=why,
            reason=reason,
        )


def _page(job: str, data: dict[str, Any]) -> tuple[Sequence[Found], Sequence[str]]:
    """The rows on a page, and the next page.

    Raises:
        ValueError: it is no page of results.
    """
    if "results" not in data:
        raise ValueError("no results")
    token = as_text(data.get("pagination_token"))
    rows = [row for item in as_dicts(data["results"]) if (row := _row(item)) is not None]
    return rows, (f"{job}{_TOKEN}{token}",) if token else ()


def _row(item: dict[str, Any]) -> Found | None:
    """A row; None if it has no id: it then counts as missing."""
    key = as_text(item.get("batch_request_id"))
    if not key:
        return None
    result = as_dict(item.get("batch_result"))
    body = as_dict(as_dict(result.get("response")).get("chat_get_completion"))
    if body:
        return Found("answered", key=key, body=encoded(body))
    error = as_dict(result.get("error")) or {"message": as_text(item.get("error_message")) or ""}
    if (state := never_run(error)) is not None:
        return Found(state, key=key)
    return Found("answered", key=key, status=status_of(error), body=encoded({"error": error}))
