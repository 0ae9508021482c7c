"""OpenAI's batches: a file of JSON lines goes in, a file of answers and a file of errors come out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ._files import bad, life_of, limit_of
from ._job import Answered, Job, Kind, Phase, Problem, Row
from ._request import Ask, BadBody, Refused
from ._shelf import FILE_LIFE, Draft, Full, Shelf
from ._told import Told, cut, encode

DAY = 86_400.0
MOST_ROWS = 50_000
MOST_INPUTS = 50_000  # texts of all requests in a batch of embeddings
MOST_PROBLEMS = 100  # lines that a failed validation names

ENDPOINTS: Mapping[str, Kind] = {"/chat/completions": "chat", "/embeddings": "embeddings"}
"""What the simulator can answer. OpenAI's other endpoints are refused as unknown ones are."""

_STATES: Mapping[Phase, str] = {"running": "in_progress", "ended": "completed"}  # the others have their own names
_FIELDS = frozenset({"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"})
_MOST_METADATA, _LONGEST_NAME, _LONGEST_VALUE = 16, 64, 512


class Line(Struct, gc=False):
    """One line of the file that goes in."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(Struct, gc=False):
    model: str
    input: str | list[Any] = ""


_decode_line = msgspec.json.Decoder(Line).decode
_decode_body = msgspec.json.Decoder(_Body).decode


class OpenAIBatches:
    """The endpoints of batches.

    Args:
        shelf: where batches and files are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._settings = shelf.settings.batch
        self._dialect = self._settings.dialect
        self._prefix = "" if self._dialect == "azure" else "/v1"
        self._together = self._dialect == "together"

    def create(self, now: float, wall: float, ask: Ask) -> Told:
        """``POST /batches``."""
        try:
            asked = ask.json()
        except BadBody as wrong:
            raise bad(f"We could not parse the JSON body of your request: {wrong}") from None
        life = _checked(asked, [self._prefix + path for path in ENDPOINTS])
        file = self._shelf.file(wall, ask.authorization, asked["input_file_id"])
        if file is None:
            raise bad(f"No such File object: {asked['input_file_id']}", "input_file_id", status=404)
        if file.purpose not in ("batch", "batch-api"):
            raise bad(f"Invalid purpose of the file: '{file.purpose}', not 'batch'", "input_file_id")
        draft = self._draft(asked, file.data, life)
        try:
            job = self._shelf.create(now, wall, ask.authorization, draft, "batch_")
        except Full as full:
            problem = full.problem(draft.model)
            raise bad(problem.message, code=problem.code, status=400 if full.never else 429) from None
        described = self._described(now, job)
        return Told(encode({"job": described, "warning": None} if self._together else described), act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /batches``."""
        jobs = self._shelf.jobs(now, ask.authorization)
        if self._together:
            return Told(encode([self._described(now, job) for job in jobs]))
        try:
            found, more = cut(jobs, ask.query.get("after"), limit_of(ask, 20, 100))
        except KeyError as unknown:
            raise _no_batch(str(unknown.args[0])) from None
        ends = {"first_id": found[0].id if found else None, "last_id": found[-1].id if found else None}
        data = [self._described(now, job) for job in found]
        return Told(encode({"object": "list", "data": data, **ends, "has_more": more}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /batches/{id}``."""
        return Told(encode(self._described(now, self._job(now, ask, name))))

    def cancel(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``POST /batches/{id}/cancel``."""
        job = self._job(now, ask, name)
        if (phase := job.phase(now)) not in ("validating", "running", "cancelling"):
            raise bad(f"Cannot cancel a batch with status '{_STATES.get(phase, phase)}'.", status=409)
        if job.cancelled is None:
            job.cancelled = now
        return Told(encode(self._described(now, job)), act="changed")

    def _job(self, now: float, ask: Ask, name: str) -> Job:
        job = self._shelf.job(now, ask.authorization, name)
        if job is None:
            raise _no_batch(name)
        return job

    def _draft(self, asked: Mapping[str, Any], data: bytes, life: float) -> Draft:
        rows, problems, model = self._read(asked["endpoint"], data)
        return Draft(
            kind=ENDPOINTS[asked["endpoint"].removeprefix(self._prefix)],
            model=model,
            rows=rows,
            line=_line,
            window=math.inf if self._dialect == "azure" else DAY,
            told={**asked, "life": life},
            validating=self._settings.validating,
            problems=problems,
            when_full="fails",
        )

    def _read(self, endpoint: str, data: bytes) -> tuple[list[Row], list[Problem], str]:
        """The rows of a file, what is wrong with it, and its model."""
        reader = _Reader(endpoint, self._shelf.settings.models)
        for number, line in enumerate(data.split(b"\n"), 1):
            if line.strip():
                reader.read(number, line)
        reader.end(self._settings.most_rows or MOST_ROWS)
        problems = reader.problems
        if not problems:
            names = self._settings.names_lines
            problems = [
                Problem("invalid_request", "This line cannot be processed.", place + 1 if names else None)
                for place in self._shelf.poisoned(reader.rows)
            ]
            problems = problems if names else problems[:1]
        return reader.rows, problems[:MOST_PROBLEMS], reader.model

    def _described(self, now: float, job: Job) -> dict[str, Any]:
        phase = job.phase(now)
        validated = phase not in ("validating", "failed") and job.validated <= now
        told = {
            "id": job.id,
            "object": "batch",
            "endpoint": job.told["endpoint"],
            "model": job.model if validated else None,
            "errors": _errors(job.problems) if phase == "failed" else None,
            "input_file_id": job.told["input_file_id"],
            "completion_window": job.told["completion_window"],
            "status": self._state(phase),
            **self._files(job),
            **_times(job, phase, now),
            "request_counts": _counts(job, now) if validated else {"total": 0, "completed": 0, "failed": 0},
            "metadata": job.told.get("metadata"),
        }
        if job.good:
            told["usage"] = _usage(job)
        return told

    def _state(self, phase: Phase) -> str:
        share = self._settings.faults.unknown_state
        state = _STATES.get(phase, phase)
        if share and phase in ("validating", "running", "finalizing") and self._shelf.random.random() < share:
            state = "under_review"
        return state.upper() if self._together else state

    def _files(self, job: Job) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for kind in ("output", "error"):
            name = job.files.get(kind)
            if name is not None:
                found[f"{kind}_file_id"] = name
            elif self._settings.no_file != "absent":
                found[f"{kind}_file_id"] = "" if self._settings.no_file == "empty" else None
        return found


class _Reader:
    """Reads the lines of a batch, and finds what makes its validation fail."""

    def __init__(self, endpoint: str, models: tuple[str, ...]) -> None:
        self._endpoint = endpoint
        self._models = models
        self._keys: set[str] = set()
        self._inputs = 0
        self.rows: list[Row] = []
        self.problems: list[Problem] = []
        self.model = ""

    def read(self, number: int, line: bytes) -> None:
        """Read a line, which is not blank."""
        try:
            read = _decode_line(line)
        except msgspec.ValidationError as wrong:
            self._found("missing_required_parameter", f"The line does not have the required fields: {wrong}", number)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._found("invalid_json_line", "This line is not parseable as valid JSON.", number)
        else:
            self.problems.extend(self._wrong(read, number))
            self._keys.add(read.custom_id)
            self.rows.append(Row(read.custom_id, bytes(read.body)))

    def end(self, most: int) -> None:
        """Look at the file as a whole."""
        if not self.rows and not self.problems:
            self._found("empty_file", "The batch input file is empty. Please ensure the file has at least one request.")
        if len(self.rows) > most:
            self._found("too_many_tasks", f"The batch has {len(self.rows):,} requests, and may have {most:,}.")
        if self._endpoint.endswith("/embeddings") and self._inputs > MOST_INPUTS:
            self._found("too_many_inputs", f"The batch has {self._inputs:,} inputs, and may have {MOST_INPUTS:,}.")

    def _found(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        self.problems.append(Problem(code, message, line, param))

    def _wrong(self, line: Line, number: int) -> Iterator[Problem]:
        if not line.custom_id:
            yield Problem("missing_required_parameter", "custom_id is empty.", number, "custom_id")
        if line.custom_id in self._keys:
            message = f"The custom_id '{line.custom_id}' for this request is a duplicate of another request."
            yield Problem("duplicate_custom_id", message, number, "custom_id")
        if line.method != "POST":
            yield Problem("invalid_method", "The method of a request is POST.", number, "method")
        if line.url != self._endpoint:
            message = f"The URL provided for this request does not match the batch endpoint '{self._endpoint}'."
            yield Problem("invalid_url", message, number, "url")
        try:
            body = _decode_body(line.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield Problem("missing_required_parameter", "The body has no model.", number, "body.model")
        else:
            self._inputs += len(body.input) if isinstance(body.input, list) else 1
            yield from self._wrong_model(body.model, number)

    def _wrong_model(self, model: str, number: int) -> Iterator[Problem]:
        self.model = self.model or model
        if self._models and model not in self._models:
            yield Problem("model_not_found", f"The model `{model}` does not exist.", number, "body.model")
        elif model != self.model:
            message = f"The model '{model}' does not match the model of the other requests, '{self.model}'."
            yield Problem("mismatched_model", message, number, "body.model")


def _checked(asked: Mapping[str, Any], endpoints: Sequence[str]) -> float:
    """Check what a client asks for. Returns how long the results are kept, in seconds."""
    if unknown := sorted(asked.keys() - _FIELDS):
        raise bad(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    for field in ("input_file_id", "endpoint", "completion_window"):
        if not isinstance(asked.get(field), str):
            raise bad(f"Missing required parameter: '{field}'.", field, "missing_required_parameter")
    if asked["endpoint"] not in endpoints:
        message = f"Invalid value: '{asked['endpoint']}'. Supported values are: {', '.join(map(repr, endpoints))}."
        raise bad(message, "endpoint", "invalid_value")
    if asked["completion_window"] != "24h":
        message = f"Invalid value: '{asked['completion_window']}'. Value must be '24h'."
        raise bad(message, "completion_window", "invalid_value")
    _check_metadata(asked.get("metadata"))
    kept = asked.get("output_expires_after")
    if kept is None:
        return FILE_LIFE
    if not isinstance(kept, dict) or kept.keys() != {"anchor", "seconds"}:
        raise bad("output_expires_after has an anchor and seconds", "output_expires_after", "invalid_type")
    return life_of(kept["seconds"], kept["anchor"], "output_expires_after")


def _check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise bad("Invalid type for 'metadata': expected an object of strings.", "metadata", "invalid_type")
    if len(metadata) > _MOST_METADATA:
        raise bad(f"metadata has {len(metadata)} keys, and may have {_MOST_METADATA}", "metadata", "invalid_value")
    for name, value in metadata.items():
        if len(name) > _LONGEST_NAME or len(value) > _LONGEST_VALUE:
            message = f"a key has at most {_LONGEST_NAME} characters, a value {_LONGEST_VALUE}"
            raise bad(f"metadata: {message}", f"metadata.{name}", "string_above_max_length")


def _no_batch(name: str) -> Refused:
    return bad(f"No batch found with id '{name}'.", "id", status=404)


def _line(job: Job, answered: Answered) -> tuple[str, bytes]:
    """What became of a row, in the file of answers or in the one of errors."""
    response, error = None, None
    if answered.status:
        name = f"{job.id}_{answered.place}"
        response = {"status_code": answered.status, "request_id": name, "body": msgspec.Raw(answered.body)}
    elif job.cancelled is not None:
        error = {"code": "batch_cancelled", "message": "This request was cancelled with its batch."}
    else:
        message = "This request could not be executed before the completion window expired."
        error = {"code": "batch_expired", "message": message}
    told = {
        "id": f"batch_req_{job.id.removeprefix('batch_')}_{answered.place}",
        "custom_id": answered.row.key,
        "response": response,
        "error": error,
    }
    return "output" if answered.status == 200 else "error", encode(told) + b"\n"


def _errors(problems: Sequence[Problem]) -> dict[str, Any]:
    data = [
        {"code": problem.code, "message": problem.message, "param": problem.param, "line": problem.line}
        for problem in problems
    ]
    return {"object": "list", "data": data}


def _times(job: Job, phase: Phase, now: float) -> dict[str, int | None]:
    """When a batch came into each of its states, in Unix seconds; None for those in which it was not."""
    over = job.over_at()
    reached = {
        "created_at": job.created,
        "in_progress_at": job.validated if phase != "failed" else None,
        "expires_at": job.expires if job.expires < math.inf else None,
        "finalizing_at": job.finished if phase in ("finalizing", "ended") else None,
        "completed_at": over if phase == "ended" else None,
        "failed_at": over if phase == "failed" else None,
        "expired_at": over if phase == "expired" else None,
        "cancelling_at": job.cancelled,
        "cancelled_at": over if phase == "cancelled" else None,
    }
    return {
        name: None if at is None or (at > now and name != "expires_at") else job.unix(at)
        for name, at in reached.items()
    }


def _counts(job: Job, now: float) -> dict[str, int]:
    done = job.good if job.settled else job.done(now)
    return {"total": job.count, "completed": done, "failed": job.bad}


def _usage(job: Job) -> dict[str, Any]:
    return {
        "input_tokens": job.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": job.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": job.prompt_tokens + job.output_tokens,
    }
