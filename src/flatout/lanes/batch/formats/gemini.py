"""Gemini's batches: a few rows travel in the create request, many as a file.

Rows in a file have a ``key``. Those in the request are answered in their order, and carry our key in their metadata as
well; if a server leaves it out, their position counts. An answer about a batch is a long-running operation, whose
``metadata`` is the batch and whose ``response`` is its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from flatout.errors import ConfigError
from flatout.lanes.batch.format import Caps, Found, Job, Line, Refusal, Uploaded
from flatout.lanes.offers import Kind
from flatout.layer import Request, Response
from flatout.providers.failures.problem import decode_json
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.providers.wire.payload import split_address
from flatout.values import Target

from .refusals import failure, never_run, refused, status_of
from .shapes import Shape
from .wire import Server, encoded, named, related, seconds_of, segment

INLINE = 4_000_000
"""Bytes of rows that travel in the create request. Gemini takes 20 MB, but a file's results can be read as a stream."""

_ENDED = frozenset({"succeeded", "partially_succeeded", "cancelled", "expired"})


def batch_format(target: Target, kind: Kind) -> GeminiBatch:
    """The batches of a target.

    Raises:
        ConfigError: the rows ask for something other than content, or its address or key cannot be used.
    """
    if kind != "chat":
        raise ConfigError(f"{target.endpoint.name} has no batches for {kind} that flatout knows, only for chat")
    return GeminiBatch(target)


class GeminiBatch(Shape):
    """Batches of one target at Gemini (see `flatout.lanes.batch.format.BatchFormat`).

    Raises:
        ConfigError: the endpoint's address or key cannot be used.
    """

    # Gemini: a file of 2 GB; no number of rows is named, so this one is ours. It expires after 48 hours.
    caps = Caps(rows=200_000, size=2_000_000_000, seconds=2 * 86_400.0)
    labels = True

    def __init__(self, target: Target) -> None:
        base, _ = split_address(target.endpoint)
        root, _, version = base.rpartition("/")
        super().__init__(Server(target.endpoint), found)
        self._uploads = Server(target.endpoint, f"{root}/upload/{version}")
        self._downloads = Server(target.endpoint, f"{root}/download/{version}")
        self._model = target.model if "/" in target.model else f"models/{target.model}"

    def uploads(self, size: int, /) -> bool:
        """Whether the rows are too large for the create request."""
        return size > INLINE

    def upload(self, stamp: str, lines: Sequence[Line], /) -> Request:
        """The request with the file of rows."""
        rows = [b'{"key":%b,"request":%b}\n' % (encoded(line.key), line.body) for line in lines]
        body, content = related({"file": {"displayName": f"{stamp}.jsonl"}}, rows)
        return self._uploads.request("POST", "/files", body, content, uploadType="multipart")

    def uploaded(self, stamp: str, response: Response, /) -> str:
        """The file's name."""
        data = self._server.read(response)
        return self._server.identity(as_dict(data.get("file")) or data, "a file's name", field="name")

    def files(self, cursor: str | None, /) -> Request | None:
        """The request for a page of uploaded files."""
        return self._server.request("GET", "/files", pageSize="100", pageToken=cursor)

    def listed_files(self, response: Response, /) -> tuple[Sequence[Uploaded], str | None]:
        """The files on a page, and the next page's token."""
        data = self._server.read(response)
        found = [file for item in as_dicts(data.get("files")) if (file := _file_in(item)).id]
        return found, as_text(data.get("nextPageToken")) or None

    def file(self, file: str, /) -> Request | None:
        """The request that describes a file."""
        return self._server.request("GET", f"/{_named(file)}")

    def described_file(self, response: Response, /) -> Uploaded:
        """The file in an answer."""
        return _file_in(self._server.read(response))

    def create(self, stamp: str, lines: Sequence[Line], file: str | None, /) -> Request:
        """The request that runs the rows. The display name is our label."""
        if file is not None:
            source = b'{"fileName":%b}' % encoded(file)
        else:
            rows = (b'{"request":%b,"metadata":{"key":%b}}' % (line.body, encoded(line.key)) for line in lines)
            source = b'{"requests":{"requests":[%b]}}' % b",".join(rows)
        body = b'{"batch":{"displayName":%b,"inputConfig":%b}}' % (encoded(stamp), source)
        return self._server.request("POST", f"/{_named(self._model)}:batchGenerateContent", body)

    def refused(self, response: Response, /) -> tuple[Refusal, str] | None:
        """Why an answer is a refusal. Any 429 is: to create, it means that too many tokens are enqueued."""
        return refused(response, self._server.endpoint, waits=True)

    def get(self, job: str, /) -> Request:
        """The request for a batch."""
        return self._server.request("GET", f"/{_named(job)}")

    def list(self, cursor: str | None, /) -> Request:
        """The request for a page of batches, the newest first."""
        return self._server.request("GET", "/batches", pageSize="100", pageToken=cursor)

    def listed(self, response: Response, cursor: str | None, /) -> tuple[Sequence[Job], str | None]:
        """The batches on a page, and the next page's token."""
        data = self._server.read(response)
        items = as_dicts(data.get("operations")) or as_dicts(data.get("batches"))
        jobs = [self._job(item) for item in items if as_text(item.get("name"))]
        return jobs, as_text(data.get("nextPageToken")) or None

    def cancel(self, job: str, /) -> Request | None:
        """The request that cancels a batch. It is answered by an empty object."""
        return self._server.request("POST", f"/{_named(job)}:cancel")

    def results(self, file: str, /) -> Request:
        """The request for a file's content."""
        return self._downloads.request("GET", f"/{_named(file)}:download", alt="media")

    def delete(self, file: str, /) -> Request | None:
        """The request that deletes a file, or a batch whose rows travelled in the request."""
        return self._server.request("DELETE", f"/{_named(file)}")

    def _job(self, data: dict[str, Any]) -> Job:
        name = self._server.identity(data, "its name", field="name")
        batch = as_dict(data.get("metadata")) or data
        output = _output(data, batch)
        files = named(output.get("responsesFile"))
        inline = _inline(output)
        status = (as_text(batch.get("state")) or "").lower().rpartition("state_")[2]
        error = as_dict(data.get("error")) or as_dict(batch.get("error"))
        failed = not (files or inline) and (status == "failed" or (bool(error) and status not in _ENDED))
        ended = not failed and (status in _ENDED or status == "failed" or (data.get("done") is True and not status))
        why, reason = (
            failure(error.get("status"), error.get("message"), self._server.endpoint) if failed else (None, "")
        )
        stats = as_dict(batch.get("batchStats"))
        file = as_text(as_dict(batch.get("inputConfig")).get("fileName"))
        return Job(
            id=name,
            state="failed" if failed else "ended" if ended else "open",
            said=status,
            stamp=as_text(batch.get("displayName")),
            rows=_count(stats, "requestCount") or None,
            done=_finished(stats),
            created_at=seconds_of(batch.get("createTime")),
            files=files if ended else (),
            inline=inline if ended else b"",
            input_file=file,
            itself="" if file or not ended else name,
            refusal=why,
            reason=reason,
        )


def _file_in(data: dict[str, Any]) -> Uploaded:
    """A file. The name that we gave it is what it displays."""
    return Uploaded(as_text(data.get("name")) or "", as_text(data.get("displayName")) or "")


def _named(name: str) -> str:
    """A resource's name as a path: each of its parts stays a part."""
    return "/".join(segment(part) for part in name.split("/"))


def _output(data: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
    """The output of a batch, which is in the operation's response, or in the batch."""
    response = as_dict(data.get("response"))
    return as_dict(response.get("output")) or as_dict(batch.get("output")) or response or as_dict(batch.get("dest"))


def _inline(output: dict[str, Any]) -> bytes:
    """The results that came with a job, as lines. They are in the order of the rows; a file's are in any."""
    found = output.get("inlinedResponses")
    items = as_dicts(found) or as_dicts(as_dict(found).get("inlinedResponses"))
    return b"".join(encoded({**item, "position": place}) + b"\n" for place, item in enumerate(items))


def _count(stats: dict[str, Any], name: str) -> int | None:
    value = stats.get(name)  # 64-bit numbers are texts in Google's JSON
    return as_count(int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 16 else value)


def _finished(stats: dict[str, Any]) -> int | None:
    counts = [_count(stats, name) for name in ("successfulRequestCount", "failedRequestCount")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


class _Metadata(Struct, gc=False):
    key: str = ""


class _Row(Struct, gc=False):
    response: Raw
    key: str = ""
    metadata: _Metadata | UnsetType = UNSET
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
    key = row.key or (row.metadata.key if row.metadata is not UNSET else "")
    body = bytes(row.response)
    return Found("answered", key=key, body=body) if key and body.startswith(b"{") else _found_leniently(line)


def _found_leniently(line: bytes) -> Found:
    data = decode_json(line)
    row = data if isinstance(data, dict) else {}
    key = as_text(row.get("key")) or as_text(as_dict(row.get("metadata")).get("key")) or None
    position = None if key else as_count(row.get("position"))
    if key is None and position is None:
        raise ValueError("neither a key nor a position")
    if response := as_dict(row.get("response")):
        return Found("answered", key=key, position=position, body=encoded(response))
    error = as_dict(row.get("error")) or as_dict(row.get("status"))
    if (state := never_run(error)) is not None:
        return Found(state, key=key, position=position)
    return Found("answered", key=key, position=position, status=status_of(error), body=encoded({"error": error}))
