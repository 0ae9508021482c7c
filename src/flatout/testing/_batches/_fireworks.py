"""Fireworks' batches: datasets of an account go in and come out, and their files have signed addresses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from flatout.providers.wire.answer import as_dict, as_text

from ._job import Answered, Job, Phase, Problem, Row
from ._request import Ask, BadBody, Refused, decode_object
from ._shelf import FILE_LIFE, Draft, File, Full, Shelf
from ._told import LINES, Told, cut, encode

DAY = 86_400.0
MOST_BYTES = 150 * 1024 * 1024

STORE = "/store/"
"""The path before a file's signed address."""

_CODES = {400: 3, 404: 5, 409: 6, 429: 8}
_STATES: Mapping[Phase, str] = {
    "validating": "VALIDATING",
    "failed": "FAILED",
    "running": "RUNNING",
    "finalizing": "WRITING_RESULTS",
    "ended": "COMPLETED",
    "expired": "EXPIRED",
    "cancelling": "CANCELLING",
    "cancelled": "CANCELLED",
}
_RESULTS, _ERRORS = "BIJOutputSet.jsonl", "error-data"


class _Dataset(Struct):
    """A dataset: its files, by their names. One of rows has none before they are uploaded."""

    files: dict[str, str] = {}


def bad(message: str, status: int = 400) -> Refused:
    """A refusal in the words of google.rpc."""
    return Refused(status, encode({"code": _CODES.get(status, 2), "message": message, "details": []}))


class Fireworks:
    """The endpoints of datasets and of batch inference jobs.

    Args:
        shelf: where batches and files are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._settings = shelf.settings.batch
        self._datasets: dict[tuple[str, str], _Dataset] = {}
        self._jobs: dict[tuple[str, str], str] = {}  # their names on the shelf, by those that clients chose

    # -- datasets

    def make(self, now: float, wall: float, ask: Ask, account: str) -> Told:
        """``POST /v1/accounts/{account}/datasets``."""
        asked = _json(ask, {"datasetId", "dataset"})
        name, dataset = as_text(asked.get("datasetId")), as_dict(asked.get("dataset"))
        if not name or not dataset:
            raise bad("datasetId and dataset are required")
        if not str(dataset.get("exampleCount", "")).isdecimal() or "userUploaded" not in dataset:
            raise bad("example_count is required for uploaded datasets")
        if self._datasets.setdefault((ask.authorization, name), made := _Dataset()) is not made:
            raise bad(f"dataset {name} already exists", 409)
        told = {"name": f"accounts/{account}/datasets/{name}", "state": "UPLOADING", "createTime": _date(wall)}
        return Told(encode(told), act="changed")

    def upload(self, now: float, wall: float, ask: Ask, account: str, name: str) -> Told:
        """``POST /v1/accounts/{account}/datasets/{id}:upload``."""
        dataset = self._dataset(ask, name)
        try:
            form = ask.form()
        except BadBody as problem:
            raise bad(str(problem)) from None
        if form.keys() != {"file"} or form["file"].filename is None:
            raise bad("the form has one field, a file")
        if dataset.files:
            raise bad(f"dataset {name} is already uploaded")
        data, filename = form["file"].data, form["file"].filename
        if len(data) > (self._settings.most_bytes or MOST_BYTES):
            raise bad("the file is too large: its size exceeds 150 MB", 413)
        file = self._shelf.add(wall, ask.authorization, "batch", filename, data, FILE_LIFE)
        dataset.files = {filename: file.id}
        told = {"id": f"accounts/{account}/datasets/{name}", "object": "file", "bytes": len(data), "purpose": "dataset"}
        return Told(encode({**told, "filename": filename, "created_at": int(wall)}), act="changed")

    def addresses(self, now: float, wall: float, ask: Ask, account: str, name: str) -> Told:
        """``GET /v1/accounts/{account}/datasets/{id}:getDownloadEndpoint``."""
        if ask.body:
            raise bad("a GET has no body")
        self._shelf.jobs(now, ask.authorization)  # those that are over by now have results
        found = self._dataset(ask, name).files
        urls = {f"dataset/{name}/{file}": f"{ask.origin}{_signed(identity)}" for file, identity in found.items()}
        return Told(encode({"filenameToSignedUrls": urls}))

    def fetch(self, now: float, wall: float, ask: Ask, identity: str) -> Told:
        """``GET`` of a signed address, which takes no key."""
        if ask.authorization or f"{ask.path}?signature={ask.query.get('signature')}" != _signed(identity):
            raise Refused(400, b"<?xml version='1.0'?><Error><Code>InvalidArgument</Code></Error>")
        file: File | None = self._shelf.any_file(wall, identity)
        if file is None:
            raise Refused(404, b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>")
        return Told(file.data, media_type=LINES, act="results")

    def delete(self, now: float, wall: float, ask: Ask, account: str, name: str) -> Told:
        """``DELETE /v1/accounts/{account}/datasets/{id}``."""
        dataset = self._dataset(ask, name)
        del self._datasets[ask.authorization, name]
        for identity in dataset.files.values():
            if (file := self._shelf.file(wall, ask.authorization, identity)) is not None:
                self._shelf.remove(file)
        return Told(b"{}", act="changed")

    def _dataset(self, ask: Ask, name: str) -> _Dataset:
        dataset = self._datasets.get((ask.authorization, name))
        if dataset is None:
            raise bad("resource not found", 404)
        return dataset

    # -- jobs

    def create(self, now: float, wall: float, ask: Ask, account: str) -> Told:
        """``POST /v1/accounts/{account}/batchInferenceJobs``."""
        asked = _json(ask, {"model", "inputDatasetId", "outputDatasetId", "displayName", "inferenceParameters"})
        name = ask.query.get("batchInferenceJobId", "")
        if (ask.authorization, name) in self._jobs:
            raise bad(f"batch inference job {name} already exists", 409)
        model, place = asked.get("model"), f"accounts/{account}/datasets/"
        if not isinstance(model, str) or not model or not str(asked.get("inputDatasetId")).startswith(place):
            raise bad("model and inputDatasetId are required")
        dataset = self._dataset(ask, str(asked["inputDatasetId"]).removeprefix(place))
        if not dataset.files:
            raise bad("the dataset is not ready")
        [(filename, identity)] = dataset.files.items()
        file = self._shelf.file(wall, ask.authorization, identity)
        rows, problems = self._rows(filename, b"" if file is None else file.data, model)
        draft = Draft(
            kind="chat",
            model=model,
            rows=rows,
            line=self._line,
            window=DAY,
            told={"account": account, "name": name, "input": asked["inputDatasetId"], "life": FILE_LIFE},
            validating=self._settings.validating,
            problems=problems,
        )
        try:
            job = self._shelf.create(now, wall, ask.authorization, draft, "bij-")
        except Full:
            raise bad("too many batch jobs: the queue is full", 429) from None
        job.told["name"] = name = name or job.id
        self._jobs[ask.authorization, name] = job.id
        return Told(encode(self._described(now, job)), act="changed")

    def page(self, now: float, wall: float, ask: Ask, account: str) -> Told:
        """``GET /v1/accounts/{account}/batchInferenceJobs``."""
        size = ask.query.get("pageSize", "50")
        if not size.isdecimal() or not 1 <= int(size) <= 200:
            raise bad("pageSize is a number from 1 to 200")
        try:
            found, more = cut(self._shelf.jobs(now, ask.authorization), ask.query.get("pageToken"), int(size))
        except KeyError:
            raise bad("pageToken is invalid") from None
        told = {"batchInferenceJobs": [self._described(now, job) for job in found], "totalSize": len(found)}
        return Told(encode({**told, "nextPageToken": found[-1].id if more else ""}))

    def get(self, now: float, wall: float, ask: Ask, account: str, name: str) -> Told:
        """``GET /v1/accounts/{account}/batchInferenceJobs/{id}``."""
        job = self._shelf.job(now, ask.authorization, self._jobs.get((ask.authorization, name), ""))
        if job is None:
            raise bad("resource not found", 404)
        return Told(encode(self._described(now, job)))

    def _rows(self, filename: str, data: bytes, model: str) -> tuple[list[Row], list[Problem]]:
        """The rows of a file. One that is wrong fails the whole job; the line that is named is not to be trusted."""
        rows: list[Row] = []
        problems: list[Problem] = []
        keys: set[str] = set()
        for line in filter(None, (line.strip() for line in data.split(b"\n"))):
            try:
                told = decode_object(line)
                key, body = as_text(told.get("custom_id")), as_dict(told.get("body"))
                if told.keys() != {"custom_id", "body"} or not key or key in keys:
                    raise BadBody("a line has a custom_id of its own and a body")
                if not body or "model" in body:
                    raise BadBody("the body is an object without a model, which stands on the job")
            except BadBody as wrong:
                problems.append(_syntax(filename, str(wrong)))
            else:
                keys.add(key)
                rows.append(Row(key, encode({"model": model, **body})))
        most = self._settings.most_rows
        if not rows and not problems:
            problems.append(_syntax(filename, "the dataset is empty"))
        if most is not None and len(rows) > most:
            problems.append(Problem("INVALID_ARGUMENT", f"the dataset has more than {most:,} rows"))
        problems.extend(_syntax(filename, "this row cannot be processed") for _ in self._shelf.poisoned(rows))
        return rows, problems[:1]

    def _line(self, job: Job, answered: Answered) -> tuple[str, bytes]:
        """What became of a row. Those that were not run are not mentioned."""
        if not answered.status:
            return "", b""
        if answered.status == 200:
            told = {"custom_id": answered.row.key, "response": msgspec.Raw(answered.body)}
            return _RESULTS, encode(told) + b"\n"
        error = {**msgspec.json.decode(answered.body)["error"], "code": str(answered.status)}
        return _ERRORS, encode({"custom_id": answered.row.key, "error": error}) + b"\n"

    def _described(self, now: float, job: Job) -> dict[str, Any]:
        phase, account = job.phase(now), f"accounts/{job.told['account']}"
        state, share = _STATES[phase], self._settings.faults.unknown_state
        if share and not job.settled and self._shelf.random.random() < share:
            state = "UNDER_REVIEW"
        output = f"out-{job.id}"
        if job.files:  # a job that ran no row has none
            self._datasets.setdefault((job.organisation, output), _Dataset(dict(job.files)))
        problem = job.problems[0] if phase == "failed" else Problem("OK", "")
        done = job.good + job.bad if job.settled else job.done(now)
        return {
            "name": f"{account}/batchInferenceJobs/{job.told['name']}",
            "displayName": "",
            "createTime": _date(job.unix(job.created)),
            "expireTime": _date(job.unix(job.created + DAY)),
            "state": f"JOB_STATE_{state}",
            "status": {"code": problem.code, "message": problem.message},
            "model": job.model,
            "inputDatasetId": job.told["input"],
            "outputDatasetId": f"{account}/datasets/{output}",
            "jobProgress": {
                "totalInputRequests": 0 if phase in ("validating", "failed") else job.count,
                "totalProcessedRequests": done,
                "successfullyProcessedRequests": job.good,
                "failedRequests": job.bad,
                "outputRows": job.good + job.bad,
            },
        }


def _json(ask: Ask, known: set[str]) -> dict[str, Any]:
    try:
        asked = ask.json()
    except BadBody as problem:
        raise bad(str(problem)) from None
    if unknown := sorted(asked.keys() - known):
        raise bad(f'unknown field "{unknown[0]}"')
    return asked


def _syntax(filename: str, why: str) -> Problem:
    return Problem(
        "INVALID_ARGUMENT", f"Dataset has a syntax error: chat dataset validation failed on {filename}: {why}"
    )


def _signed(identity: str) -> str:
    """The path and the query of a file's signed address."""
    return f"{STORE}{identity}?signature={sha256(identity.encode()).hexdigest()[:16]}"


def _date(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat().replace("+00:00", "Z")
