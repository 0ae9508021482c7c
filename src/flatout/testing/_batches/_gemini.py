"""Gemini's batches: rows in the request or in a file, described as long-running operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from flatout.providers.wire.answer import as_dict

from ._gemini_rows import as_chat, as_content, as_status
from ._job import Answered, Job, Phase, Problem, Row
from ._request import Ask, BadBody, Refused, decode_object
from ._shelf import Draft, File, Full, Shelf
from ._told import LINES, Told, cut, encode

DAY = 86_400.0
MOST_BYTES = 2 * 1024 * 1024 * 1024
MOST_INLINE = 20 * 1024 * 1024
FILE_LIFE = 2 * DAY
RESULT_LIFE = 42 * DAY
CANCELLED, EXPIRED = 1, 4
"""google.rpc's codes for rows that were not run."""

_STATES: Mapping[Phase, str] = {
    "validating": "PENDING",
    "failed": "FAILED",
    "running": "RUNNING",
    "finalizing": "RUNNING",
    "ended": "SUCCEEDED",
    "expired": "EXPIRED",
    "cancelling": "RUNNING",  # its API's description has no state of its own for it
    "cancelled": "CANCELLED",
}
_SNAKES = {"display_name": "displayName", "input_config": "inputConfig", "file_name": "fileName"}
_Listed = TypeVar("_Listed", Job, File)
_STATUSES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


def bad(message: str, status: int = 400) -> Refused:
    """A refusal in Google's words."""
    return Refused(
        status, encode({"error": {"code": status, "message": message, "status": _STATUSES.get(status, "UNKNOWN")}})
    )


class GeminiFiles:
    """The endpoints of files.

    Args:
        shelf: where they are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def upload(self, now: float, wall: float, ask: Ask) -> Told:
        """``POST /upload/v1beta/files?uploadType=multipart``."""
        if ask.query.get("uploadType") != "multipart":
            raise bad("the simulator takes files with uploadType=multipart only")
        try:
            about, data = ask.related()
            told = as_dict(decode_object(about).get("file"))
        except BadBody as problem:
            raise bad(str(problem)) from None
        if unknown := sorted(told.keys() - {"displayName", "display_name", "mimeType", "name"}):
            raise bad(f"Invalid JSON payload received. Unknown name \"{unknown[0]}\" at 'file'")
        if not data:
            raise bad("the file is empty")
        if len(data) > (self._shelf.settings.batch.most_bytes or MOST_BYTES):
            raise bad("Request payload size exceeds the limit", 413)
        name = str(told.get("displayName") or told.get("display_name") or "")
        file = self._shelf.add(wall, ask.authorization, "batch", name, data, FILE_LIFE)
        return Told(encode({"file": _file(file)}), act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /v1beta/files``."""
        found, token = _page(ask, self._shelf.files(wall, ask.authorization), usual=10)
        return Told(encode({"files": [_file(file) for file in found], **token}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /v1beta/files/{id}``."""
        file = self._shelf.file(wall, ask.authorization, name)
        if file is None:
            raise _no_file(name)
        return Told(encode(_file(file)))

    def content(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /download/v1beta/files/{id}:download?alt=media``."""
        file = self._shelf.file(wall, ask.authorization, name)
        if file is None or ask.query.get("alt") != "media":
            raise _no_file(name)
        return Told(file.data, media_type=LINES, act="results" if file.purpose == "batch_output" else "read")

    def delete(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``DELETE /v1beta/files/{id}``."""
        file = self._shelf.file(wall, ask.authorization, name)
        if file is None:
            raise _no_file(name)
        self._shelf.remove(file)
        return Told(b"{}", act="changed")


class GeminiBatches:
    """The endpoints of batches.

    Args:
        shelf: where batches and files are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._settings = shelf.settings.batch

    def create(self, now: float, wall: float, ask: Ask, model: str) -> Told:
        """``POST /v1beta/models/{model}:batchGenerateContent``."""
        try:
            batch = _camel(ask.json().get("batch"), {"displayName", "inputConfig", "model", "priority"}, "batch")
            source = _camel(batch.get("inputConfig"), {"fileName", "requests"}, "batch.input_config")
        except BadBody as problem:
            raise bad(str(problem)) from None
        if not isinstance(batch.get("displayName"), str) or not batch["displayName"]:
            raise bad("batch.display_name is required")
        if (models := self._shelf.settings.models) and model not in models:
            raise bad(f"models/{model} is not found", 404)
        rows, problems = self._rows(wall, ask, source, model)
        draft = Draft(
            kind="chat",
            model=model,
            rows=rows,
            line=_inline if "requests" in source else _line,
            window=2 * DAY,
            told={
                "displayName": batch["displayName"],
                "fileName": source.get("fileName"),
                "life": RESULT_LIFE,
                "in_order": "requests" in source,
            },
            validating=self._settings.validating,
            problems=problems,
        )
        try:
            job = self._shelf.create(now, wall, ask.authorization, draft, "b")
        except Full:  # also if this one batch is too large
            raise bad("You exceeded your current quota: enqueued batch tokens of the model.", 429) from None
        return Told(encode(self._described(now, wall, job)), act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /v1beta/batches``."""
        found, token = _page(ask, self._shelf.jobs(now, ask.authorization), usual=100)
        told: dict[str, Any] = {"operations": [self._described(now, wall, job, inline=False) for job in found]}
        return Told(encode({**told, **token}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /v1beta/batches/{id}``."""
        job = self._job(now, ask, name)
        results = job.told["in_order"] and job.settled
        return Told(encode(self._described(now, wall, job)), act="results" if results else "read")

    def cancel(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``POST /v1beta/batches/{id}:cancel``."""
        job = self._job(now, ask, name)
        if not job.settled and job.cancelled is None:
            job.cancelled = now
        return Told(b"{}", act="changed")

    def delete(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``DELETE /v1beta/batches/{id}``."""
        job = self._job(now, ask, name)
        if not job.settled:
            raise bad(f"batches/{name} is in progress")
        self._shelf.forget(job)
        return Told(b"{}", act="changed")

    def _job(self, now: float, ask: Ask, name: str) -> Job:
        job = self._shelf.job(now, ask.authorization, name)
        if job is None:
            raise bad(f"batches/{name} is not found", 404)
        return job

    def _rows(
        self, wall: float, ask: Ask, source: Mapping[str, Any], model: str
    ) -> tuple[list[Row], Sequence[Problem]]:
        if ("fileName" in source) == ("requests" in source):
            raise bad("batch.input_config has either a file_name or requests")
        problems: list[Problem] = []
        if "requests" in source:
            if len(ask.body) > MOST_INLINE:
                raise bad("Request payload size exceeds the limit: 20971520 bytes.")
            rows = list(_inline_rows(source["requests"], model))
        else:
            file = self._shelf.file(wall, ask.authorization, str(source["fileName"]).removeprefix("files/"))
            if file is None:
                raise _no_file(str(source["fileName"]))
            rows = list(_file_rows(file.data, model, problems))
        most = self._settings.most_rows
        if not rows and not problems:
            problems = [Problem("empty", "The batch has no requests.")]
        if most is not None and len(rows) > most:
            problems = [Problem("rows", f"The batch has {len(rows):,} requests, and may have {most:,}.")]
        for place in self._shelf.poisoned(rows):
            named = f" in line {place + 1}" if self._settings.names_lines else ""
            problems.append(Problem("invalid", f"Invalid request{named}."))
        return rows, problems[:1]

    def _described(self, now: float, wall: float, job: Job, *, inline: bool = True) -> dict[str, Any]:
        phase = job.phase(now)
        state, share = _STATES[phase], self._settings.faults.unknown_state
        if share and not job.settled and self._shelf.random.random() < share:
            state = "UNDER_REVIEW"
        kind = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"
        batch = {
            "@type": kind,
            "name": f"batches/{job.id}",
            "model": f"models/{job.model}",
            "displayName": job.told["displayName"],
            "createTime": _date(job.unix(job.created)),
            "updateTime": _date(job.unix(now)),
            "batchStats": _stats(job),
            "state": f"BATCH_STATE_{state}",
        }
        if job.told["fileName"] is not None:
            batch["inputConfig"] = {"fileName": job.told["fileName"]}
        told: dict[str, Any] = {"name": f"batches/{job.id}", "metadata": batch}
        if not job.settled:
            return told
        batch["endTime"] = _date(job.unix(job.over_at()))
        told["done"] = True
        if phase == "failed":
            return {**told, "error": {"code": 3, "message": job.problems[0].message}}
        output = self._output(wall, job, inline=inline)
        return {**told, "response": {"@type": f"{kind}Output", **output}} if output else told

    def _output(self, wall: float, job: Job, *, inline: bool) -> dict[str, Any]:
        if (name := job.files.get("responses")) is not None:
            return {"responsesFile": f"files/{name}"}
        file = self._shelf.file(wall, job.organisation, job.files.get("inline", "")) if inline else None
        if file is None:
            return {}
        answers = msgspec.Raw(b"[" + file.data.rstrip(b"\n").replace(b"\n", b",") + b"]")
        return {"inlinedResponses": {"inlinedResponses": answers}}


def _file(file: File) -> dict[str, str]:
    return {
        "name": f"files/{file.id}",
        "displayName": file.name,
        "mimeType": "application/jsonl",
        "sizeBytes": str(len(file.data)),
        "createTime": _date(file.created),
        "expirationTime": _date(file.expires),
        "state": "ACTIVE",
    }


def _page(ask: Ask, items: Sequence[_Listed], usual: int) -> tuple[Sequence[_Listed], dict[str, str]]:
    """The items on a page of a list, and the token of the next page."""
    size = ask.query.get("pageSize", str(usual))
    if not size.isdecimal() or not 1 <= int(size) <= 100:
        raise bad(f"page_size is a number from 1 to 100, not {size!r}")
    try:
        found, more = cut(items, ask.query.get("pageToken"), int(size))
    except KeyError:
        raise bad("page_token is invalid") from None
    return found, {"nextPageToken": found[-1].id} if more else {}


def _camel(given: Any, known: set[str], where: str) -> dict[str, Any]:
    """An object of a request, whose names may have either of Google's two spellings."""
    if not isinstance(given, dict):
        raise bad(f"{where} is required")
    named = {_SNAKES.get(name, name): value for name, value in as_dict(given).items()}
    if unknown := sorted(named.keys() - known):
        raise bad(f"Invalid JSON payload received. Unknown name \"{unknown[0]}\" at '{where}'")
    return named


def _inline_rows(given: Any, model: str) -> Iterator[Row]:
    requests = _camel(given, {"requests"}, "batch.input_config.requests").get("requests")
    try:
        requests = msgspec.convert(requests, list[Any])
    except msgspec.ValidationError:
        raise bad("batch.input_config.requests.requests is a list") from None
    for place, each in enumerate(requests):
        where = f"batch.input_config.requests.requests[{place}]"
        request = _camel(each, {"request", "metadata"}, where)
        try:
            body = as_chat(model, request.get("request"))
        except ValueError as problem:
            raise bad(f"{where}: {problem}") from None
        yield Row(encode(request.get("metadata")).decode(), body)


def _file_rows(data: bytes, model: str, problems: list[Problem]) -> Iterator[Row]:
    keys: set[str] = set()
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            told = decode_object(line)
            key = told.get("key")
            if not isinstance(key, str) or told.keys() != {"key", "request"} or key in keys:
                raise BadBody("a line has a key of its own and a request")
            keys.add(key)
            yield Row(key, as_chat(model, told["request"]))
        except ValueError as problem:
            problems.append(Problem("line", f"Line {number}: {problem}"))


def _told(job: Job, answered: Answered) -> dict[str, Any]:
    if answered.status == 200:
        return {"response": as_content(answered.body)}
    if answered.status:
        return {"error": as_status(answered.status, answered.body)}
    code = EXPIRED if job.cancelled is None else CANCELLED
    return {"error": {"code": code, "message": "The batch expired." if code == EXPIRED else "The batch was cancelled."}}


def _line(job: Job, answered: Answered) -> tuple[str, bytes]:
    """What became of a row of a file."""
    return "responses", encode({"key": answered.row.key, **_told(job, answered)}) + b"\n"


def _inline(job: Job, answered: Answered) -> tuple[str, bytes]:
    """What became of a row of a request: it has its metadata again, if it had any."""
    told = _told(job, answered)
    if answered.row.key != "null":
        told["metadata"] = msgspec.Raw((answered.row.key or "").encode())
    return "inline", encode(told) + b"\n"


def _stats(job: Job) -> dict[str, str]:
    counts = {
        "requestCount": job.count,
        "successfulRequestCount": job.good,
        "failedRequestCount": job.bad,
        "pendingRequestCount": 0 if job.settled else job.count,
    }
    return {name: str(count) for name, count in counts.items() if count}  # its JSON leaves out zeros


def _no_file(name: str) -> Refused:
    return bad(f"You do not have permission to access the File {name} or it may not exist.", 404)


def _date(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat().replace("+00:00", "Z")
