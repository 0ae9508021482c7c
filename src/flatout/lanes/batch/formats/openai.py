"""OpenAI's files and batches, and the servers of the same shape: Azure, Groq, Together. Their differences are data.

The rows are uploaded as a file of JSON lines; a batch runs the file; its results are one file of answers and one of
errors, in any order. Either may be absent: a null id, an empty one and none at all mean the same (LiteLLM's and Azure's
users met all three). A "completed" batch may hold errors only, an expired or cancelled one may hold paid answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from flatout.errors import ConfigError
from flatout.lanes.batch.format import Caps, Found, Job, Line
from flatout.lanes.offers import Kind
from flatout.layer import Request, Response
from flatout.providers.failures.problem import decode_json
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.values import Endpoint, Target

from .refusals import failure, never_run, status_of
from .shapes import FileShape
from .wire import Server, encoded, named, row_of_openai, seconds_of, segment

_PATHS: dict[Kind, str] = {"chat": "/chat/completions", "responses": "/responses", "embeddings": "/embeddings"}

LABEL = "flatout"
"""The name of our stamp in a batch's metadata."""

_MB = 1_000_000


class Dialect(Struct, frozen=True, kw_only=True):
    """What tells one server of this shape from another.

    Attributes:
        caps: the most that a batch may hold.
        kinds: what its rows may ask for.
        purpose: of the uploaded file.
        upload: the path for uploads.
        prefix: what a row's ``url`` has before the path.
        metadata: whether a batch carries metadata.
        named: whether the form names the file in a field of its own.
        pages: whether the list of batches has pages.
    """

    caps: Caps
    kinds: frozenset[Kind] = frozenset({"chat"})
    purpose: str = "batch"
    upload: str = "/files"
    prefix: str = "/v1"
    metadata: bool = True
    named: bool = False
    pages: bool = True


DIALECTS = {
    # OpenAI: 50,000 requests, 200 MB; the enqueued tokens differ by model and tier, and are told only by a refusal.
    "openai": Dialect(caps=Caps(rows=50_000, size=200 * _MB), kinds=frozenset({"chat", "responses", "embeddings"})),
    # Azure: OpenAI's caps; it does not expire batches after the 24 hours, so its own end is unknown: three days.
    "azure": Dialect(
        caps=Caps(rows=50_000, size=200 * _MB, seconds=3 * 86_400.0),
        kinds=frozenset({"chat", "responses", "embeddings"}),
        prefix="",
    ),
    # Groq: 50,000 lines; one of its pages says 100 MB, another 200.
    "groq": Dialect(caps=Caps(rows=50_000, size=100 * _MB)),
    # Together: 50,000 requests, 100 MB, 30 billion enqueued tokens a model; "best effort" within 24 hours.
    "together": Dialect(
        caps=Caps(rows=50_000, size=100 * _MB, enqueued=30_000_000_000),
        purpose="batch-api",
        upload="/files/upload",
        metadata=False,
        named=True,
        pages=False,
    ),
}
"""The servers of this shape."""


def batch_format(target: Target, kind: Kind) -> OpenAIBatch:
    """The batches of a target.

    Raises:
        ConfigError: the server has none of this kind, or its address or key cannot be used.
    """
    return OpenAIBatch(target, DIALECTS[target.endpoint.batch], kind)


_ENDED = frozenset({"completed", "expired", "cancelled", "canceled"})


class OpenAIBatch(FileShape):
    """Batches of one target on a server of OpenAI's shape (see `flatout.lanes.batch.format.BatchFormat`).

    Args:
        target: endpoint, key and model.
        dialect: which server it is.
        kind: what the rows ask for.

    Raises:
        ConfigError: the server has no batches of this kind, or its address or key cannot be used.
    """

    labels = True  # by its metadata, or else by its input file, which is ours alone

    def __init__(self, target: Target, dialect: Dialect, kind: Kind) -> None:
        if kind not in dialect.kinds:
            raise ConfigError(f"{target.endpoint.name} has no batches for {kind}, only for {_listed(dialect.kinds)}")
        super().__init__(Server(target.endpoint, _base(target.endpoint)), found)
        self.caps = dialect.caps
        self._dialect = dialect
        self.purpose = dialect.purpose
        self._path = dialect.prefix + _PATHS[kind]
        self._row = row_of_openai(self._path)

    def upload(self, stamp: str, lines: Sequence[Line], /) -> Request:
        """The form with the file of rows."""
        filename = f"{stamp}.jsonl"
        fields = {"purpose": self._dialect.purpose, **({"file_name": filename} if self._dialect.named else {})}
        return self._server.form(self._dialect.upload, fields, filename, [self._row(line) for line in lines])

    def create(self, stamp: str, lines: Sequence[Line], file: str | None, /) -> Request:
        """The request that runs the file."""
        # 24h is the only window of OpenAI and Azure; Groq takes up to 7d, which only lets a batch wait longer.
        body: dict[str, Any] = {"input_file_id": file, "endpoint": self._path, "completion_window": "24h"}
        if self._dialect.metadata:
            body["metadata"] = {LABEL: stamp}
        return self._server.request("POST", "/batches", encoded(body))

    def job(self, response: Response, /) -> Job:
        """The batch in an answer."""
        data = self._server.read(response)
        return self._job(as_dict(data.get("job")) or data)  # Together wraps it, with a warning

    def get(self, job: str, /) -> Request:
        """The request for a batch."""
        return self._server.request("GET", f"/batches/{segment(job)}")

    def list(self, cursor: str | None, /) -> Request:
        """The request for a page of batches, the newest first."""
        return self._server.request("GET", "/batches", limit="100" if self._dialect.pages else None, after=cursor)

    def listed(self, response: Response, cursor: str | None, /) -> tuple[Sequence[Job], str | None]:
        """The batches on a page, and the id to go on after."""
        items, more = _listing(response, self._server)
        jobs = [self._job(item) for item in items if as_text(item.get("id"))]
        last = jobs[-1].id if jobs and more and self._dialect.pages else None
        return jobs, last

    def cancel(self, job: str, /) -> Request | None:
        """The request that cancels a batch. What is finished by then is kept, and charged."""
        return self._server.request("POST", f"/batches/{segment(job)}/cancel")

    def _job(self, data: dict[str, Any]) -> Job:
        identity = self._server.identity(data)
        counts = as_dict(data.get("request_counts"))
        files = named(data.get("output_file_id"), data.get("error_file_id"))
        state = _state(data, files)
        code, message, line = _complaint(data)
        why, reason = failure(code, message, self._server.endpoint) if state == "failed" else (None, "")
        return Job(
            id=identity,
            state=state,
            said=as_text(data.get("status")) or "",
            stamp=as_text(as_dict(data.get("metadata")).get(LABEL)),
            rows=as_count(counts.get("total")) or None,  # 0 until it is validated
            done=_sum(counts),
            whole=state == "ended" and (as_text(data.get("status")) or "").lower() == "completed",
            ended_at=seconds_of(data.get("completed_at")),
            created_at=seconds_of(data.get("created_at")),
            files=files if state == "ended" else (),
            input_file=next(iter(named(data.get("input_file_id"))), None),
            refusal=why,
            line=line if state == "failed" else None,
            reason=reason,
        )


def _state(data: dict[str, Any], files: tuple[str, ...]) -> Literal["open", "ended", "failed"]:
    """A batch's state. Together writes it in upper case. A failed batch with results did run."""
    status = (as_text(data.get("status")) or "").lower()
    if status == "failed":
        return "ended" if files else "failed"
    return "ended" if status in _ENDED else "open"


def _complaint(data: dict[str, Any]) -> tuple[Any, Any, int | None]:
    """Why a batch was refused: the error's code, its message, and the line of the input."""
    errors = as_dicts(as_dict(data.get("errors")).get("data")) or as_dicts(data.get("errors"))
    if errors:
        first = next((error for error in errors if as_count(error.get("line"))), errors[0])
        return first.get("code"), first.get("message"), as_count(first.get("line")) or None
    error = data.get("error")  # Together
    return (error.get("code"), error.get("message"), None) if isinstance(error, dict) else (None, error, None)


def _sum(counts: dict[str, Any]) -> int | None:
    known = [count for name in ("completed", "failed") if (count := as_count(counts.get(name))) is not None]
    return sum(known) if known else None


def _listing(response: Response, server: Server) -> tuple[Sequence[dict[str, Any]], bool]:
    """The batches on a page, and whether there are more. Together sends a bare list."""
    try:
        data = decode_json(response.body)
    except ValueError:
        data = None
    if isinstance(data, list):
        return as_dicts(data), False
    if not isinstance(data, dict):
        raise server.broken("a list")
    return as_dicts(data.get("data")), data.get("has_more") is True


def _base(endpoint: Endpoint) -> str | None:
    """The address that files and batches are under; None if it is that of the calls.

    An address with an operation, or with one of Azure's deployments, is shortened to what all operations share.
    """
    base = endpoint.base_url.partition("?")[0].rstrip("/")
    base = base.removesuffix("/chat/completions")
    if endpoint.batch == "azure":
        base = base.partition("/deployments/")[0]
        if "/openai" not in base:
            base += "/openai/v1"  # the resource's bare address
    return base or None


def _listed(kinds: frozenset[Kind]) -> str:
    return " and ".join(sorted(kinds))


class _Answered(Struct, gc=False):
    status_code: int
    body: Raw


class _Row(Struct, gc=False):
    custom_id: str
    response: _Answered
    error: UnsetType | None = UNSET


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
    status, body = row.response.status_code, bytes(row.response.body)
    if not row.custom_id or not 100 <= status <= 599 or not body.startswith(b"{"):
        return _found_leniently(line)
    return Found("answered", key=row.custom_id, status=status, body=body)


def _found_leniently(line: bytes) -> Found:
    data = decode_json(line)
    key = as_text(data.get("custom_id")) if isinstance(data, dict) else None
    if not key:
        raise ValueError("no custom_id")
    response = as_dict(data.get("response"))
    answered = as_dict(response.get("body"))
    error = data.get("error")
    if answered:
        status = as_count(response.get("status_code")) or (200 if "error" not in answered else 0)
        return Found(
            "answered", key=key, status=status or status_of(as_dict(answered["error"])), body=encoded(answered)
        )
    said = error if isinstance(error, dict) else {"message": as_text(error) or as_text(response.get("body")) or ""}
    if (state := never_run(said)) is not None:
        return Found(state, key=key)
    status = as_count(response.get("status_code")) or 0
    return Found(
        "answered", key=key, status=status if status >= 400 else status_of(said), body=encoded({"error": said})
    )
