"""A provider of OpenAI's files and batches in memory, which counts what it runs, and fails where a test says."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from flatout.errors import ProtocolError
from flatout.layer import Request, Response
from flatout.testing import digest_of


class Killed(BaseException):
    """The process ends here."""


class Answer:
    """An answer that arrives in pieces."""

    def __init__(self, body: bytes, cut: bool, status: int = 200) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._body = body
        self._cut = cut

    async def chunks(self) -> AsyncIterator[bytes]:
        size = max(1, len(self._body) // 7)
        whole = range(0, len(self._body), size)
        for at in list(whole)[: 3 if self._cut else None]:
            await asyncio.sleep(0.01)
            yield self._body[at : at + size]
        if self._cut:
            raise ProtocolError("the connection ended in the middle")


class BatchWire:
    """The provider. It runs a batch for ``seconds``, and answers each row once a batch that has it ends.

    Args:
        seconds: how long a batch takes.
        seed: of the order of the results, and of the faults that happen by chance.

    Attributes:
        runs: how often each prompt was run, and so paid for.
        created: how often each stamp was created.
        requests: method and path of all requests.
        instead: replaces the answer to a request, given its method and path; None leaves it.
        lost: whether the answer to a request is lost on its way back.
        cut: whether the next file of results breaks off.
        fate: what becomes of a row: "answered", "missing", "expired", or a status of an error.
        fails: what becomes of a whole batch: its errors; None if it is run.
        ahead: seconds that its clock is ahead of ours.
        on_event: called before and after each request.
    """

    def __init__(self, *, seconds: float = 600.0, seed: int = 1) -> None:
        self.seconds = seconds
        self.random = random.Random(seed)
        self.files: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.runs: Counter[str] = Counter()
        self.created: Counter[str] = Counter()
        self.requests: list[str] = []
        self.deleted: list[str] = []
        self.instead: Callable[[str, str], Response | None] = lambda _method, _path: None
        self.lost: Callable[[str, str], bool] = lambda _method, _path: False
        self.cut = 0
        self.fate: Callable[[str], str | int] = lambda _prompt: "answered"
        self.text: Callable[[str, list[Any]], str] = lambda prompt, _messages: digest_of(prompt)
        self.fails: Callable[[list[dict[str, Any]]], dict[str, Any] | None] = lambda _rows: None
        self.on_event: Callable[[str], None] = lambda _what: None
        self.closed = False
        self.ahead = 0.0

    async def send(self, request: Request) -> Response:
        path = request.url.partition("/v1")[2].partition("?")[0]
        what = f"{request.method} {path}"
        self.on_event(f"before {what}")
        self.requests.append(what)
        await asyncio.sleep(0.05)
        answer = self.instead(request.method, path) or self._answer(request, path)
        self.on_event(f"after {what}")
        if self.lost(request.method, path):
            raise ProtocolError("the server closed the connection without an answer")
        return answer

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Answer]:
        name = request.url.split("/files/")[1].split("/")[0]
        self.on_event(f"before results {name}")
        self.requests.append(f"GET /files/{name}/content")
        self.cut, cuts = max(0, self.cut - 1), self.cut > 0
        if (refusal := self.instead("GET", f"/files/{name}/content")) is not None:
            yield Answer(refusal.body, False, refusal.status)
        elif name not in self.files:
            yield Answer(b'{"error": {"message": "no such file"}}', False, 404)
        else:
            yield Answer(self.files[name], cuts)
        self.on_event(f"after results {name}")

    async def close(self) -> None:
        self.closed = True

    def _answer(self, request: Request, path: str) -> Response:
        parts = path.strip("/").split("/")
        if path == "/chat/completions":
            messages = json.loads(request.body)["messages"]
            self.runs[messages[0]["content"]] += 1
            return _json(_completion(self.text(messages[0]["content"], messages)))
        if request.method == "POST" and path == "/files":
            return self._upload(request)
        if path == "/files":
            named = [{"id": name, "filename": stamp} for name, stamp in reversed(self.names.items())]
            return _json({"data": [each for each in named if each["id"] in self.files], "has_more": False})
        if request.method == "POST" and path == "/batches":
            return self._create(json.loads(request.body))
        if path == "/batches":
            jobs = [self._seen(job) for job in reversed(self.jobs.values())]
            return _json({"data": jobs, "has_more": False})
        if request.method == "DELETE":
            self.deleted.append(parts[1])
            return _json({"deleted": True}) if self.files.pop(parts[1], None) is not None else _json({}, 404)
        if parts[0] == "files":
            known = parts[1] in self.files
            return _json({"id": parts[1], "filename": self.names.get(parts[1])}, 200 if known else 404)
        job = self.jobs.get(parts[1])
        if job is None:
            return _json({"error": {"message": "no such batch"}}, 404)
        if parts[-1] == "cancel" and self._now() < job["ends_at"]:
            job["ends_at"], job["ends_as"] = self._now(), "cancelled"
        return _json(self._seen(job))

    def _upload(self, request: Request) -> Response:
        body = request.body
        start = body.index(b'{"custom_id"')
        name = f"file-{len(self.files)}-{len(self.requests)}"
        self.files[name] = body[start : body.rindex(b"\r\n--")]
        self.names[name] = re.findall(rb'filename="([^"]+)"', body)[0].decode()
        return _json({"id": name, "object": "file"})

    def _create(self, body: dict[str, Any]) -> Response:
        assert body["endpoint"] == "/v1/chat/completions"
        name = f"batch_{len(self.jobs)}"
        self.created[body["metadata"]["flatout"]] += 1
        self.jobs[name] = {
            "id": name,
            "status": "validating",
            "input_file_id": body["input_file_id"],
            "metadata": body["metadata"],
            "created_at": int(self._now() + self.ahead),
            "output_file_id": None,
            "error_file_id": "",
            "ends_at": self._now() + self.seconds * (0.5 + self.random.random()),
            "ends_as": "completed",
        }
        return _json(self._seen(self.jobs[name]))

    def _seen(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["status"] in ("validating", "in_progress", "a new state") and self._now() >= job["ends_at"]:
            self._end(job)
        elif job["status"] == "validating":
            job["status"] = self.random.choice(["in_progress", "a new state"])
        return {name: value for name, value in job.items() if name not in ("ends_at", "ends_as")}

    def _end(self, job: dict[str, Any]) -> None:
        rows = [json.loads(line) for line in self.files[job["input_file_id"]].splitlines() if line]
        if (errors := self.fails(rows)) is not None:
            job["status"], job["errors"] = "failed", errors
            return
        self.random.shuffle(rows)
        answers, refusals = [], []
        for row in rows:
            messages = row["body"]["messages"]
            prompt = messages[0]["content"]
            fate = self.fate(prompt)
            if job["ends_as"] == "cancelled" or fate == "expired":
                refusals.append({"custom_id": row["custom_id"], "error": {"code": "batch_expired", "message": "late"}})
            elif fate == "answered":
                self.runs[prompt] += 1
                answers.append(_result(row["custom_id"], 200, _completion(self.text(prompt, messages))))
            elif fate != "missing":
                refusals.append(_result(row["custom_id"], int(fate), {"error": {"message": "no"}}))
        job["status"] = job["ends_as"]
        job["output_file_id"] = self._file(answers)
        job["error_file_id"] = self._file(refusals) or ""

    def _file(self, rows: list[Any]) -> str | None:
        if not rows:
            return None
        name = f"file-out-{len(self.files)}-{len(self.requests)}"
        self.files[name] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        return name

    @staticmethod
    def _now() -> float:
        loop = asyncio.get_running_loop()
        wall: Callable[[], float] = getattr(loop, "wall_time", loop.time)
        return wall()


def _result(key: str, status: int, body: Any) -> dict[str, Any]:
    return {"custom_id": key, "response": {"status_code": status, "body": body}, "error": None}


def _completion(text: str) -> dict[str, Any]:
    return {
        "id": "c",
        "model": "gpt-5-mini",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 1000},
    }


def _json(body: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(body).encode())
