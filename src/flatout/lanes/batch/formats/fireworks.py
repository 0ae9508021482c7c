"""Fireworks' batches: the rows and the results are datasets of an account, whose files have addresses of their own.

A dataset is made, then the rows are uploaded into it, then a job runs it. The client chooses the names of the dataset
and of the job, so both are our stamp, and nothing is made twice. A dataset's files are fetched from signed addresses at
another server, which must not see the key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from flatout.errors import ConfigError, ProtocolError
from flatout.lanes.batch.format import Caps, Found, Job, Line, Refusal, ResultReader
from flatout.lanes.offers import Kind
from flatout.layer import Request, Response
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.values import Endpoint, Target
from flatout.values.secret import Veiled

from .openai import found as found_of_openai
from .refusals import failure, refused
from .results import Document, Lines
from .shapes import Shape
from .wire import Server, encoded, seconds_of, segment

_JOBS = "/batchInferenceJobs"

_THERE = re.compile(rb'already[ _](?:exists|uploaded)|"code": ?6\b', re.IGNORECASE)
"""Its words for what is there already, and google.rpc's code for it."""

_ENDED = frozenset({"completed", "expired", "early_stopped", "cancelled", "deleted", "archived"})


def batch_format(target: Target, kind: Kind) -> FireworksBatch:
    """The batches of a target.

    Raises:
        ConfigError: Fireworks has none of this kind, or its address, its account or its key cannot be used.
    """
    if kind != "chat":
        raise ConfigError(f"{target.endpoint.name} has no batches for {kind}, only for chat")
    return FireworksBatch(target)


class FireworksBatch(Shape):
    """Batches of one target at Fireworks (see `flatout.lanes.batch.format.BatchFormat`).

    To delete a running job loses what is finished of it, so a job is never cancelled.

    Raises:
        ConfigError: the endpoint's address or key cannot be used.
    """

    # Fireworks: no bound on rows, so this one is ours; an upload takes 150 MB. A job expires after 24 hours.
    caps = Caps(rows=100_000, size=150_000_000)
    labels = True  # by its name, which is ours

    def __init__(self, target: Target) -> None:
        self._account = f"accounts/{segment(target.endpoint.account)}"
        super().__init__(Server(target.endpoint, f"{_root(target.endpoint)}/v1/{self._account}"), found)
        self._model = target.model

    def before_upload(self, stamp: str, lines: Sequence[Line], /) -> Request | None:
        """The request that makes the dataset."""
        dataset = {"userUploaded": {}, "exampleCount": str(len(lines))}
        return self._server.request("POST", "/datasets", encoded({"datasetId": stamp, "dataset": dataset}))

    def upload(self, stamp: str, lines: Sequence[Line], /) -> Request:
        """The form with the file of rows, and no other field. The model stands on the job."""
        rows = [b'{"custom_id":%b,"body":%b}\n' % (encoded(line.key), _without_model(line.body)) for line in lines]
        return self._server.form(f"/datasets/{segment(stamp)}:upload", {}, f"{stamp}.jsonl", rows)

    def uploaded(self, stamp: str, response: Response, /) -> str:
        """The dataset's name, which is ours."""
        self._server.read(response)
        return stamp

    def create(self, stamp: str, lines: Sequence[Line], file: str | None, /) -> Request:
        """The request that runs the dataset."""
        body = {"model": self._model, "inputDatasetId": f"{self._account}/datasets/{file}", "displayName": stamp}
        return self._server.request("POST", _JOBS, encoded(body), batchInferenceJobId=stamp)

    def refused(self, response: Response, /) -> tuple[Refusal, str] | None:
        """Why an answer is a refusal. What is there already is not: it is ours, for the name is."""
        if response.status in (400, 409) and _THERE.search(response.body):
            return None
        if response.status >= 300 and response.body.lstrip().startswith(b"<"):
            return "again", f"the store of {self._server.endpoint.name} answered {response.status}"
        return refused(response, self._server.endpoint)

    def get(self, job: str, /) -> Request:
        """The request for a job."""
        return self._server.request("GET", f"{_JOBS}/{segment(job)}")

    def list(self, cursor: str | None, /) -> Request:
        """The request for a page of jobs."""
        return self._server.request("GET", _JOBS, pageSize="200", pageToken=cursor)

    def listed(self, response: Response, cursor: str | None, /) -> tuple[Sequence[Job], str | None]:
        """The jobs on a page, and the next page's token."""
        data = self._server.read(response)
        jobs = [self._job(item) for item in as_dicts(data.get("batchInferenceJobs")) if as_text(item.get("name"))]
        return jobs, as_text(data.get("nextPageToken")) or None

    def cancel(self, job: str, /) -> Request | None:
        """None: Fireworks cancels no jobs."""
        return None

    def results(self, file: str, /) -> Request:
        """The request for the addresses of a dataset's files, or for one of these files.

        Raises:
            ProtocolError: the address is one where a file must not be fetched.
        """
        if "://" not in file:
            return self._server.request("GET", f"/datasets/{segment(file)}:getDownloadEndpoint")
        if urlsplit(file).scheme != "https" and not file.startswith(f"{_root(self._server.endpoint)}/"):
            raise ProtocolError(f"{self._server.endpoint.name} named an address of results that is not https")
        return Request("GET", file, Veiled({}), b"")

    def reader(self, file: str | None = None, /) -> ResultReader:
        """A reader for the addresses of a dataset's files, or for one of these files."""
        return Lines(found) if "://" in (file or "") else Document(_addresses)

    def delete(self, file: str, /) -> Request | None:
        """The request that deletes a dataset."""
        return self._server.request("DELETE", f"/datasets/{segment(file)}")

    def _job(self, data: dict[str, Any]) -> Job:
        name = _last(self._server.identity(data, "its name", field="name"))
        status = (as_text(data.get("state")) or "").lower().rpartition("state_")[2]
        progress = as_dict(data.get("jobProgress"))
        run = as_count(progress.get("outputRows"))
        failed = status == "failed" and not run
        ended = not failed and (status in _ENDED or status == "failed")
        said = as_dict(data.get("status"))
        why, reason = failure(said.get("code"), said.get("message"), self._server.endpoint) if failed else (None, "")
        # A job that ran no row to its end has no dataset of results, though it names one.
        results = _last(as_text(data.get("outputDatasetId")) or "") if ended and (run != 0) else ""
        return Job(
            id=name,
            state="failed" if failed else "ended" if ended else "open",
            said=status,
            stamp=name,
            rows=as_count(progress.get("totalInputRequests")) or None,
            done=as_count(progress.get("totalProcessedRequests")),
            created_at=seconds_of(data.get("createTime")),
            files=(results,) if results else (),
            input_file=_last(as_text(data.get("inputDatasetId")) or "") or None,
            refusal=why,
            reason=reason,
        )


def _root(endpoint: Endpoint) -> str:
    """The address of the server: that of the calls has ``/inference/v1`` after it."""
    base = endpoint.base_url.partition("?")[0].rstrip("/").removesuffix("/chat/completions")
    return base.removesuffix("/v1").removesuffix("/inference")


def _last(name: str) -> str:
    """The last part of a resource's name."""
    return name.rpartition("/")[2]


def _without_model(body: bytes) -> bytes:
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    fields.pop("model", None)
    return encoded(fields)


def _addresses(data: dict[str, Any]) -> tuple[Sequence[Found], Sequence[str]]:
    """No rows, and the addresses of a dataset's files.

    Raises:
        ValueError: the answer has no addresses.
    """
    if "filenameToSignedUrls" not in data:
        raise ValueError("no addresses")
    addresses = as_dict(data["filenameToSignedUrls"]).values()
    return (), [url for url in addresses if isinstance(url, str) and "://" in url]


class _Answer(Struct, gc=False):
    choices: Raw


class _Row(Struct, gc=False):
    custom_id: str
    response: Raw


_answers = msgspec.json.Decoder(_Answer)
_rows = msgspec.json.Decoder(_Row)


def found(line: bytes) -> Found:
    """The row in a line of results. Unlike OpenAI's, its ``response`` is what the live endpoint would have answered.

    Raises:
        ValueError: the line holds no row.
    """
    try:
        row = _rows.decode(line)
        body = bytes(row.response)
        _answers.decode(body)
    except (ValueError, RecursionError):
        return found_of_openai(line)
    return Found("answered", key=row.custom_id, body=body) if row.custom_id else found_of_openai(line)
