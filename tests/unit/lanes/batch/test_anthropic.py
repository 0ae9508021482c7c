"""Anthropic's Message Batches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatout.errors import ConfigError, ProtocolError
from flatout.lanes.batch.formats.anthropic import AnthropicBatch
from flatout.lanes.offers import batch_format
from flatout.layer import Response
from flatout.providers import codec_for
from flatout.values import Call

from .support import KEY, answer, lines, read, target


def made() -> AnthropicBatch:
    found = batch_format(target("anthropic"))
    assert isinstance(found, AnthropicBatch)
    return found


BATCH = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 2, "errored": 1, "canceled": 0, "expired": 1},
    "created_at": "2026-08-20T18:37:24.100435Z",
    "results_url": "https://evil.example/results",
}


def test_the_rows_travel_in_the_create_request() -> None:
    """Anthropic takes no files for batches."""
    batch = made()
    assert not batch.uploads(10**8)
    request = batch.create("s", lines({"model": "m", "max_tokens": 5}, {"model": "n"}), None)
    assert (request.method, request.url) == ("POST", "https://api.anthropic.com/v1/messages/batches")
    assert json.loads(request.body) == {
        "requests": [
            {"custom_id": "s-0", "params": {"model": "m", "max_tokens": 5}},
            {"custom_id": "s-1", "params": {"model": "n"}},
        ]
    }
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert not batch.labels


def test_results_are_fetched_from_our_own_address() -> None:
    """The key must not go to an address that an answer names."""
    job = made().job(answer(BATCH))
    assert (job.id, job.state, job.files, job.rows, job.done) == ("msgbatch_1", "ended", ("msgbatch_1",), 4, 4)
    [file] = job.files
    assert made().results(file).url == "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"
    delete = made().delete(file)
    assert delete is not None
    assert (delete.method, delete.url) == ("DELETE", "https://api.anthropic.com/v1/messages/batches/msgbatch_1")


@pytest.mark.parametrize("status", ["in_progress", "canceling", "a_new_one", None])
def test_a_batch_is_open_until_it_has_ended(status: str | None) -> None:
    """Results that are not complete would leave rows missing, which would then be paid again."""
    counts = {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    job = made().job(answer({**BATCH, "processing_status": status, "request_counts": counts}))
    assert (job.state, job.files, job.rows, job.done) == ("open", (), 3, 0)


@pytest.mark.parametrize("url", [None, ""])
def test_archived_results_are_gone(url: str | None) -> None:
    """A request for them would fail for ever."""
    assert made().job(answer({**BATCH, "results_url": url})).files == ()


def row(key: str, **result: Any) -> bytes:
    return json.dumps({"custom_id": key, "result": result}).encode() + b"\n"


MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hé"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


def test_every_kind_of_result_is_told_apart() -> None:
    """Expired and cancelled rows were not charged and go back; errors are answers."""
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}, "request_id": "r"}
    data = (
        row("s-3", type="expired")
        + row("s-0", type="succeeded", message=MESSAGE)
        + row("s-1", type="errored", error=error)
        + row("s-2", type="canceled")
    )
    found = read(made().reader(), data)
    assert [(one.key, one.state, one.status) for one in found] == [
        ("s-3", "expired", 200),
        ("s-0", "answered", 200),
        ("s-1", "answered", 400),
        ("s-2", "cancelled", 200),
    ]
    codec = codec_for(target("anthropic"))
    assert codec.decode(Call("hi"), Response(200, {}, found[1].body)).text == "hé"
    assert json.loads(found[2].body)["error"] == error["error"]


@pytest.mark.parametrize(
    ("kind", "status"), [("overloaded_error", 529), ("api_error", 500), ("rate_limit_error", 429), ("a_new_one", 500)]
)
def test_errors_have_the_statuses_of_the_live_endpoint(kind: str, status: int) -> None:
    """A row that failed for the provider's trouble is tried again, one that is wrong is not."""
    [found] = read(made().reader(), row("s-0", type="errored", error={"type": "error", "error": {"type": kind}}))
    assert found.status == status


def test_an_unknown_kind_of_result_is_an_error_of_its_row() -> None:
    """A new kind must neither end the run nor lose the row."""
    [found] = read(made().reader(), row("s-0", type="postponed"))
    assert (found.key, found.state, found.status) == ("s-0", "answered", 500)


def test_the_list_is_read_page_by_page() -> None:
    """Without a label, the list is all that tells whether a batch was created."""
    jobs, after = made().listed(answer({"data": [BATCH], "has_more": True, "last_id": "msgbatch_1"}), None)
    assert (len(jobs), after) == (1, "msgbatch_1")
    assert jobs[0].created_at == pytest.approx(1787251044.100435)
    assert made().list(after).url.endswith("/messages/batches?limit=100&after_id=msgbatch_1")


def test_embeddings_are_refused() -> None:
    """Anthropic has none."""
    with pytest.raises(ConfigError, match="no batches for embeddings, only for messages"):
        batch_format(target("anthropic"), "embeddings")


def test_nothing_is_uploaded() -> None:
    """The seam asks for a file only after an upload."""
    with pytest.raises(ProtocolError):
        made().uploaded("s", answer({"id": "f"}))
