"""Gemini's batches, as the simulated provider has them: rows in the request or in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from flatout.testing import SimulatedResponse, digest_of
from flatout.testing._batches._request import Ask

from ._vendor import BOUNDARY, DAY, WALL, Vendor, jsonl

CREATE = "/models/gem:batchGenerateContent"


def request(prompt: str, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **more}


ROWS = [{"key": f"s-{number}", "request": request(f"question {number}")} for number in range(100)]


class Gemini(Vendor):
    """A vendor whose addresses are Google's."""

    def ask(
        self, method: str, path: str, body: bytes = b"", content: str = "application/json", key: str = "k", **more: str
    ) -> SimulatedResponse:
        place = path if path.startswith(("/upload", "/download")) else f"/v1beta{path}"
        told = {"x-goog-api-key": key, "Content-Type": content}
        asked = Ask.of(method, f"http://vendor.test{place}", told, body)
        outcome = self.model.receive_about_batches(self.now, WALL + self.now, asked)
        self.model.finish(self.now, outcome)
        return outcome

    def keep(self, data: bytes) -> str:
        """Upload a file. Returns its name."""
        about = json.dumps({"file": {"displayName": "rows"}}).encode()
        parts = [b"Content-Type: application/json\r\n\r\n" + about, b"Content-Type: application/jsonl\r\n\r\n" + data]
        body = b"".join(b"--%b\r\n%b\r\n" % (BOUNDARY.encode(), part) for part in parts) + f"--{BOUNDARY}--".encode()
        content = f"multipart/related; boundary={BOUNDARY}"
        return str(
            self.json("POST", "/upload/v1beta/files?uploadType=multipart", None, raw=(content, body))["file"]["name"]
        )

    def json(self, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
        content, data = more.pop("raw", ("application/json", b"" if body is None else json.dumps(body).encode()))
        outcome = self.ask(method, path, data, content, **more)
        assert outcome.status == status, outcome.body
        return json.loads(outcome.body)

    def begin(self, rows: Sequence[Any] = ROWS, *, inline: bool = False, status: int = 200) -> Any:
        if inline:
            requests = [{"request": row["request"], "metadata": {"key": row["key"]}} for row in rows]
            source: dict[str, Any] = {"requests": {"requests": requests}}
        else:
            source = {"fileName": self.keep(jsonl(rows))}
        answer = self.json("POST", CREATE, {"batch": {"displayName": "s", "inputConfig": source}}, status=status)
        return answer["name"] if status == 200 else answer["error"]

    def later(self, name: str, seconds: float = DAY) -> Any:
        self.now += seconds
        return self.json("GET", f"/{name}")

    def found(self, operation: Any) -> list[Any]:
        """The results of a batch."""
        output = operation["response"]
        if "inlinedResponses" in output:
            return list(output["inlinedResponses"]["inlinedResponses"])
        data = self.ask("GET", f"/download/v1beta/{output['responsesFile']}:download?alt=media")
        assert data.status == 200
        return [json.loads(line) for line in data.body.splitlines()]


def text_of(row: Any) -> str:
    return str(row["response"]["candidates"][0]["content"]["parts"][0]["text"])


@pytest.mark.parametrize("inline", [True, False])
def test_each_row_is_answered(inline):
    """A lane could not prove that the right answer stands beside the right row."""
    vendor = Gemini()
    name = vendor.begin(inline=inline)
    operation = vendor.later(name, 1)
    assert operation["metadata"]["state"] == "BATCH_STATE_PENDING"
    assert "done" not in operation
    assert vendor.later(name, 60)["metadata"]["state"] == "BATCH_STATE_RUNNING"
    operation = vendor.later(name)
    assert operation["done"]
    assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert operation["metadata"]["displayName"] == "s"
    assert operation["metadata"]["batchStats"] == {"requestCount": "100", "successfulRequestCount": "100"}
    found = vendor.found(operation)
    for place, row in enumerate(found):
        key = row["metadata"]["key"] if inline else row["key"]
        number = int(key.removeprefix("s-"))
        assert text_of(row).startswith(f"digest:{digest_of(f'question {number}')}")
        assert not inline or number == place, "rows of a request are answered in their order"
    assert len(found) == 100
    assert vendor.model.stats()["duplicates"] == 0


def test_a_system_prompt_a_schema_and_a_function():
    """Answers would not fit what the rows ask for."""
    vendor = Gemini()
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    functions = {"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}
    rows = [
        {"key": "0", "request": request("hello", systemInstruction={"parts": [{"text": "be brief"}]})},
        {
            "key": "1",
            "request": request(
                "x", generationConfig={"responseMimeType": "application/json", "responseJsonSchema": schema}
            ),
        },
        {"key": "2", "request": request("x", tools=[functions], toolConfig={"functionCallingConfig": {"mode": "ANY"}})},
        {"key": "3", "request": request("y", generationConfig={"maxOutputTokens": 3})},
    ]
    found = vendor.found(vendor.later(vendor.begin(rows, inline=True)))
    assert text_of(found[0]).startswith(f"digest:{digest_of('hello', system='be brief')}")
    assert isinstance(json.loads(text_of(found[1]))["a"], int)
    call = found[2]["response"]["candidates"][0]["content"]["parts"][0]["functionCall"]
    assert call["name"] == "f"
    assert isinstance(call["args"]["a"], int)
    assert found[3]["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"


@pytest.mark.parametrize("inline", [True, False])
def test_rows_fail_one_by_one(inline):
    """A bad row would seem to fail its whole batch, or to have been answered."""
    vendor = Gemini(faults={"failed": 0.3})
    operation = vendor.later(vendor.begin(inline=inline))
    assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    failed = [row for row in vendor.found(operation) if "error" in row]
    assert 0 < len(failed) < 100
    assert {row["error"]["code"] for row in failed} == {13}
    assert operation["metadata"]["batchStats"]["failedRequestCount"] == str(len(failed))


@pytest.mark.parametrize(("cancelled", "state", "code"), [(True, "CANCELLED", 1), (False, "EXPIRED", 4)])
@pytest.mark.parametrize("inline", [True, False])
def test_a_batch_that_ends_early_keeps_what_was_finished(cancelled, state, code, inline):
    """Answers that were paid for would never be fetched."""
    vendor = Gemini(faults={"expires": 1.0})
    name = vendor.begin(inline=inline)
    vendor.now = 2 * DAY - 600
    if cancelled:
        assert vendor.json("POST", f"/{name}:cancel") == {}
    operation = vendor.later(name, 600)
    assert operation["metadata"]["state"] == f"BATCH_STATE_{state}"
    found = vendor.found(operation)
    assert len(found) == 100
    codes = [row["error"]["code"] for row in found if "error" in row]
    assert set(codes) == {code}
    assert len(codes) < 100


def test_a_full_queue_refuses_a_batch_after_its_upload():
    """A lane that does not wait, or does not halve a batch that is too large, would fail its rows."""
    vendor = Gemini(enqueued_tokens=1_500)
    name = vendor.begin()
    assert vendor.begin(status=429)["status"] == "RESOURCE_EXHAUSTED"
    vendor.later(name)
    many = [{"key": str(number), "request": request("x")} for number in range(400)]
    assert vendor.begin(many, status=429)["status"] == "RESOURCE_EXHAUSTED"
    vendor.begin()


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"key": "a"},
        {"request": request("x")},
        {"key": "s-0", "request": request("x")},
        {"key": "a", "request": {}},
        [],
    ],
)
def test_one_bad_line_fails_the_whole_file(row):
    """A lane that writes such lines would pass its tests."""
    vendor = Gemini()
    operation = vendor.later(vendor.begin([ROWS[0], row]))
    assert operation["metadata"]["state"] == "BATCH_STATE_FAILED"
    assert operation["error"]["message"]
    assert "response" not in operation


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"batch": {"displayName": "s"}},
        {"batch": {"inputConfig": {"fileName": "f"}}},
        {"batch": {"displayName": "s", "inputConfig": {}}},
        {"batch": {"displayName": "s", "inputConfig": {"fileName": "f", "requests": {}}}},
        {"batch": {"displayName": "s", "inputConfig": {"requests": {}}}},
        {"batch": {"displayName": "s", "inputConfig": {"requests": {"requests": [{"request": {}}]}}}},
        {"batch": {"displayName": "s", "inputConfig": {"requests": {"requests": [{"key": "a"}]}}}},
        {"batch": {"displayName": "s", "inputConfig": {"fileName": "f"}, "stamp": "s"}},
    ],
)
def test_a_wrong_request_to_create_is_refused(asked):
    """A lane that asks for what Gemini does not take would pass its tests."""
    assert Gemini().json("POST", CREATE, asked, status=400)["error"]["status"] == "INVALID_ARGUMENT"


def test_both_spellings_of_names_are_taken():
    """Gemini's own documentation writes them so."""
    vendor = Gemini()
    source = {"file_name": vendor.keep(jsonl(ROWS))}
    vendor.json("POST", CREATE, {"batch": {"display_name": "s", "input_config": source}})


def test_batches_are_listed_in_pages_and_belong_to_a_key():
    """A lane that looks for its batch would look at the first page only."""
    vendor = Gemini()
    names = [vendor.begin(ROWS[:1], inline=True) for _ in range(3)][::-1]
    vendor.now = DAY
    first = vendor.json("GET", "/batches?pageSize=2")
    second = vendor.json("GET", f"/batches?pageSize=2&pageToken={first['nextPageToken']}")
    assert [batch["name"] for batch in first["operations"] + second["operations"]] == names
    assert "nextPageToken" not in second
    assert "inlinedResponses" not in first["operations"][0].get("response", {})
    assert vendor.json("GET", "/batches", key="other")["operations"] == []
    vendor.json("GET", f"/{names[0]}", key="other", status=404)
    vendor.json("GET", "/batches?pageSize=0", status=400)
    vendor.json("GET", "/batches?pageToken=x", status=400)


def test_files_and_batches_are_deleted():
    """Nothing would show whether a lane cleans up behind itself."""
    vendor = Gemini()
    file = vendor.keep(jsonl(ROWS))
    vendor.json("DELETE", f"/{file}", key="other", status=404)
    vendor.json("DELETE", f"/{file}")
    vendor.json("DELETE", f"/{file}", status=404)
    name = vendor.begin(inline=True)
    vendor.json("DELETE", f"/{name}", status=400)
    vendor.later(name)
    vendor.json("DELETE", f"/{name}")
    vendor.json("GET", f"/{name}", status=404)
    assert vendor.model.stats()["batches"]["files"] == 0


def test_an_upload_is_checked():
    """A lane's own upload could be wrong, and no test would show it."""
    vendor = Gemini()
    content = f"multipart/related; boundary={BOUNDARY}"
    good = f"--{BOUNDARY}\r\n\r\n{{}}\r\n--{BOUNDARY}\r\n\r\nx\r\n--{BOUNDARY}--"
    path = "/upload/v1beta/files?uploadType=multipart"
    vendor.json("POST", path, raw=(content, good.encode()))
    vendor.json("POST", "/upload/v1beta/files", raw=(content, good.encode()), status=400)
    vendor.json("POST", path, raw=("application/json", b"{}"), status=400)
    for old, new in (("\nx\r", "\n\r"), ("{}", "[]"), ("{}", '{"file":{"a":1}}'), (f"--{BOUNDARY}--", "")):
        vendor.json("POST", path, raw=(content, good.replace(old, new).encode()), status=400)
