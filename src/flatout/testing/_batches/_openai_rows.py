"""The lines of a file that goes into a batch, as OpenAI has them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ._job import Kind, Problem, Row
from ._shelf import Shelf

MOST_INPUTS = 50_000  # texts of all requests in a batch of embeddings
MOST_PROBLEMS = 100  # lines that a failed validation names

ENDPOINTS: Mapping[str, Kind] = {"/chat/completions": "chat", "/responses": "responses", "/embeddings": "embeddings"}
"""What the simulator can answer. OpenAI's other endpoints are refused as unknown ones are."""


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


class LineReader:
    """Reads the lines of a batch, and finds what makes its validation fail.

    Args:
        endpoint: what the batch says answers its rows.
        models: those that there are; empty for all.

    Attributes:
        rows, model: what was read.
    """

    def __init__(self, endpoint: str, models: tuple[str, ...]) -> None:
        self._endpoint = endpoint
        self._models = models
        self._keys: set[str] = set()
        self._inputs = 0
        self.rows: list[Row] = []
        self.problems: list[Problem] = []
        self.model = ""

    def problems_of(self, data: bytes, shelf: Shelf, most: int) -> list[Problem]:
        """Read a file. Returns what makes its validation fail."""
        for number, line in enumerate(data.split(b"\n"), 1):
            if line.strip():
                self.read(number, line)
        self.end(most)
        if self.problems:
            return self.problems[:MOST_PROBLEMS]
        names = shelf.settings.batch.names_lines
        poisoned = [
            Problem("invalid_request", "This line cannot be processed.", place + 1 if names else None)
            for place in shelf.poisoned(self.rows)
        ]
        return poisoned[: MOST_PROBLEMS if names else 1]

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
