"""A provider whose batch endpoints are asked directly, at times of the test's choice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flatout.testing import BatchFaults, BatchSettings, Faults, ProviderModel, ProviderSettings, SimulatedResponse
from flatout.testing._batches._request import Ask

WALL = 1_767_225_600.0
DAY = 86_400.0
BOUNDARY = "x1y2"


class Vendor:
    """A provider, and the time.

    Args:
        faults: the faults of batches.
        general: the faults of all requests.
        rest: the other settings of batches.
    """

    def __init__(self, faults: Mapping[str, float] = {}, general: Mapping[str, float] = {}, **rest: Any) -> None:
        batch = BatchSettings(faults=BatchFaults(**faults), **rest)
        self.model = ProviderModel(ProviderSettings(batch=batch, faults=Faults(**general)))
        self.now = 0.0

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        content: str = "application/json",
        key: str = "k",
        **headers: str,
    ) -> SimulatedResponse:
        told = {"Authorization": f"Bearer {key}", "Content-Type": content, **headers}
        ask = Ask.of(method, f"http://vendor.test/v1{path}", told, body)
        outcome = self.model.receive_about_batches(self.now, WALL + self.now, ask)
        self.model.finish(self.now, outcome)
        return outcome

    def fetch(self, url: str, key: str = "") -> SimulatedResponse:
        """The answer to a whole address, with or without a key."""
        ask = Ask.of("GET", url, {"Authorization": f"Bearer {key}"} if key else {}, b"")
        outcome = self.model.receive_about_batches(self.now, WALL + self.now, ask)
        self.model.finish(self.now, outcome)
        return outcome

    def json(self, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
        """The JSON of an answer, whose status is checked."""
        outcome = self.ask(method, path, b"" if body is None else json.dumps(body).encode(), **more)
        assert outcome.status == status, outcome.body
        return json.loads(outcome.body)

    def upload(self, data: bytes, *, name: str = "rows.jsonl", status: int = 200, **fields: str) -> Any:
        content, body = form(data, name, **{"purpose": "batch", **fields})
        outcome = self.ask("POST", "/files", body, content)
        assert outcome.status == status, outcome.body
        return json.loads(outcome.body)

    def start(self, data: bytes, endpoint: str = "/v1/chat/completions", **more: Any) -> str:
        """Upload a file and create its batch. Returns the batch's name."""
        asked = {"input_file_id": self.upload(data)["id"], "endpoint": endpoint, "completion_window": "24h", **more}
        return str(self.json("POST", "/batches", asked)["id"])

    def ended(self, name: str, after: float = DAY / 2) -> Any:
        """The batch, some time later."""
        self.now += after
        return self.json("GET", f"/batches/{name}")

    def lines(self, file: str | None) -> list[Any]:
        """The lines of a file of results; none if there is no file."""
        if not file:
            return []
        return [json.loads(line) for line in self.ask("GET", f"/files/{file}/content").body.splitlines()]


def form(data: bytes, name: str | None, **fields: str) -> tuple[str, bytes]:
    """The content type and the body of a form that uploads a file."""
    begin = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{begin}"{key}"\r\n\r\n{value}' for key, value in fields.items()]
    named = "" if name is None else f'; filename="{name}"'
    head = f'{begin}"file"{named}\r\nContent-Type: application/jsonl\r\n\r\n'
    body = "\r\n".join([*parts, head]).encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return f"multipart/form-data; boundary={BOUNDARY}", body


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}


def row(number: int, body: Any = None, **fields: Any) -> dict[str, Any]:
    body = chat(f"question {number}") if body is None else body
    return {"custom_id": f"s-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body, **fields}


def jsonl(rows: Sequence[Any]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in rows)
