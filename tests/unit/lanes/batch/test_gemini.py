"""Gemini's batches."""

from __future__ import annotations

import json
from email import message_from_bytes
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.lanes.batch.formats.gemini import INLINE, GeminiBatch
from flatout.lanes.offers import batch_format
from flatout.layer import Response
from flatout.providers import codec_for
from flatout.values import Call

from .support import KEY, answer, lines, read, target

ROOT = "https://generativelanguage.googleapis.com"
ANSWER = {"candidates": [{"content": {"parts": [{"text": "hé"}]}, "finishReason": "STOP"}]}


def made(model: str = "gemini-3-flash") -> GeminiBatch:
    found = batch_format(target("gemini", model))
    assert isinstance(found, GeminiBatch)
    return found


def operation(state: str | None, *, response: Any = None, **more: Any) -> dict[str, Any]:
    batch = {
        "model": "models/m",
        "displayName": "s",
        "createTime": "2026-01-15T14:30:00.5Z",
        "batchStats": {"requestCount": "4", "successfulRequestCount": "2", "failedRequestCount": "1"},
        "state": state,
    }
    return {"name": "batches/b", "metadata": batch, **({"response": response} if response else {}), **more}


def test_few_rows_travel_in_the_request() -> None:
    """Each carries its key, for Gemini names rows of the request by nothing else."""
    batch = made()
    rows = lines({"contents": []}, {"contents": [1]})
    assert not batch.uploads(INLINE)
    request = batch.create("s", rows, None)
    assert request.url == f"{ROOT}/v1beta/models/gemini-3-flash:batchGenerateContent"
    assert request.headers["x-goog-api-key"] == KEY
    assert json.loads(request.body)["batch"] == {
        "displayName": "s",
        "inputConfig": {
            "requests": {
                "requests": [
                    {"request": {"contents": []}, "metadata": {"key": "s-0"}},
                    {"request": {"contents": [1]}, "metadata": {"key": "s-1"}},
                ]
            }
        },
    }


def test_many_rows_travel_in_a_file() -> None:
    """Gemini refuses requests of more than 20 MB."""
    batch = made()
    rows = lines({"contents": "x"}, {"contents": []})
    assert batch.uploads(INLINE + 1)
    request = batch.upload("s", rows)
    assert request.url == f"{ROOT}/upload/v1beta/files?uploadType=multipart"
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    about, file = [part for part in message_from_bytes(head + request.body).walk() if not part.is_multipart()]
    assert json.loads(bytes(about.get_payload(decode=True))) == {"file": {"displayName": "s.jsonl"}}
    sent = [json.loads(line) for line in bytes(file.get_payload(decode=True)).splitlines()]
    assert [row["key"] for row in sent] == ["s-0", "s-1"]
    assert sent[1]["request"] == {"contents": []}
    assert batch.uploaded("s", answer({"file": {"name": "files/f", "state": "ACTIVE"}})) == "files/f"
    create = json.loads(batch.create("s", rows, "files/f").body)
    assert create["batch"]["inputConfig"] == {"fileName": "files/f"}


@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_"])
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("PENDING", "open"),
        ("QUEUED", "open"),
        ("RUNNING", "open"),
        ("CANCELLING", "open"),
        ("A_NEW_ONE", "open"),
        ("SUCCEEDED", "ended"),
        ("PARTIALLY_SUCCEEDED", "ended"),
        ("CANCELLED", "ended"),
        ("EXPIRED", "ended"),
        ("FAILED", "failed"),
    ],
)
def test_states_under_both_of_their_names(prefix: str, state: str, expected: str) -> None:
    """The API writes BATCH_STATE_, Vertex and the SDKs JOB_STATE_."""
    assert made().job(answer(operation(prefix + state))).state == expected


def test_a_batch_says_how_far_it_is() -> None:
    """Google writes 64-bit numbers as texts."""
    job = made().job(answer(operation("BATCH_STATE_RUNNING")))
    assert (job.id, job.stamp, job.rows, job.done, job.created_at) == ("batches/b", "s", 4, 3, 1768487400.5)


@pytest.mark.parametrize(
    "done",
    [
        operation("BATCH_STATE_SUCCEEDED", response={"responsesFile": "files/o"}),
        operation("BATCH_STATE_SUCCEEDED", response={"output": {"responsesFile": "files/o"}}),
        {
            "name": "batches/b",
            "metadata": {"state": "BATCH_STATE_EXPIRED", "output": {"responsesFile": "files/o"}},
            "done": True,
        },
        {"name": "batches/b", "done": True, "response": {"responsesFile": "files/o"}},
    ],
)
def test_results_are_found_wherever_they_stand(done: dict[str, Any]) -> None:
    """Results that are not found were paid for, and would be paid again."""
    job = made().job(answer(done))
    assert (job.state, job.files) == ("ended", ("files/o",))
    assert made().results("files/o").url == f"{ROOT}/download/v1beta/files/o:download?alt=media"


def test_inline_results_have_their_places() -> None:
    """A server that leaves the metadata out still answers in the order of the request."""
    items = [{"response": ANSWER, "metadata": {"key": "s-0"}}, {"response": ANSWER}, {"error": {"code": 3}}]
    job = made().job(
        answer(operation("BATCH_STATE_SUCCEEDED", response={"inlinedResponses": {"inlinedResponses": items}}))
    )
    assert job.files == ()
    found = read(made().reader(), job.inline)
    assert [(one.key, one.position, one.status) for one in found] == [
        ("s-0", None, 200),
        (None, 1, 200),
        (None, 2, 400),
    ]
    assert codec_for(target("gemini")).decode(Call("hi"), Response(200, {}, found[1].body)).text == "hé"


def test_a_files_rows_have_keys_and_no_places() -> None:
    """A file's order means nothing: a place would give a row another's answer."""
    data = (
        json.dumps({"key": "s-1", "response": ANSWER}).encode()
        + b'\n{"response": {"candidates": []}}\n'
        + json.dumps({"key": "s-0", "error": {"code": 8, "message": "busy"}}).encode()
    )
    found = read(made().reader(), data)
    assert [(one.key, one.position, one.status) for one in found] == [("s-1", None, 200), ("s-0", None, 429)]


@pytest.mark.parametrize(("code", "state"), [(1, "cancelled"), (4, "expired"), (13, "answered"), (None, "answered")])
def test_a_row_that_was_cancelled_goes_back(code: int | None, state: str) -> None:
    """google.rpc's code 1 is a row that was not run."""
    [found] = read(made().reader(), json.dumps({"key": "s-0", "error": {"code": code, "message": "x"}}).encode())
    assert found.state == state


def test_a_429_means_that_the_queue_is_full() -> None:
    """Gemini refuses to create while too many tokens are enqueued: to wait is right, to fail the rows is not."""
    said = made().refused(
        answer({"error": {"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED"}}, 429)
    )
    assert said is not None
    assert said[0] == "full"


def test_a_failed_batch_says_why() -> None:
    """The operation's error is the only word about it."""
    job = made().job(
        answer(operation("BATCH_STATE_FAILED", error={"code": 3, "message": "bad line", "status": "INVALID_ARGUMENT"}))
    )
    assert (job.state, job.refusal, job.reason) == ("failed", "invalid", "INVALID_ARGUMENT bad line")


def test_the_list_is_read_page_by_page() -> None:
    """Our batch may be on the second page."""
    jobs, token = made().listed(answer({"operations": [operation("BATCH_STATE_RUNNING")], "nextPageToken": "t"}), None)
    assert (jobs[0].stamp, token) == ("s", "t")
    assert made().list("t").url == f"{ROOT}/v1beta/batches?pageSize=100&pageToken=t"
    assert made().listed(answer({}), None) == ([], None)


def test_names_are_paths_that_lead_nowhere_else() -> None:
    """Names have slashes, and are the provider's words."""
    assert made().get("batches/b").url == f"{ROOT}/v1beta/batches/b"
    assert made().get("batches/../x?y").url == f"{ROOT}/v1beta/batches/%2E%2E/x%3Fy"
    cancel = made().cancel("batches/b")
    assert cancel is not None
    assert cancel.url == f"{ROOT}/v1beta/batches/b:cancel"


def test_embeddings_are_refused() -> None:
    """Their batches have another form, which flatout does not speak."""
    with pytest.raises(ConfigError, match="no batches for embeddings that flatout knows"):
        batch_format(target("gemini"), "embeddings")
