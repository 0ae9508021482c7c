"""xAI's batches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.lanes.batch.formats.xai import XaiBatch
from flatout.lanes.offers import batch_format

from .support import answer, lines, read, target


def made() -> XaiBatch:
    found = batch_format(target("xai", "grok-4"))
    assert isinstance(found, XaiBatch)
    return found


def batch(**fields: Any) -> dict[str, Any]:
    state = {f"num_{name}": fields.pop(name, 0) for name in ("requests", "pending", "success", "error", "cancelled")}
    return {"batch_id": "b", "name": "s", "input_file_id": "f", "create_time": "2026-11-11", "state": state, **fields}


def test_a_file_has_no_purpose() -> None:
    """xAI refuses an upload with fields that it does not know."""
    request = made().upload("s", lines({"model": "grok-4"}))
    assert request is not None
    assert request.url == "https://api.x.ai/v1/files"
    assert request.body.count(b"Content-Disposition") == 1
    [line] = [json.loads(line) for line in request.body.splitlines() if line.startswith(b"{")]
    assert line == {"custom_id": "s-0", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "grok-4"}}
    create = made().create("s", (), "f")
    assert json.loads(create.body) == {"name": "s", "input_file_id": "f"}


@pytest.mark.parametrize(
    ("fields", "state", "files"),
    [
        ({}, "open", 0),  # the file is not read yet
        ({"requests": 3, "pending": 1, "success": 2}, "open", 0),
        ({"requests": 3, "success": 2, "error": 1}, "ended", 1),
        ({"requests": 3, "success": 2, "cancelled": 1, "cancel_time": "2026-11-11"}, "ended", 1),
        ({"requests": 3, "pending": 3, "cancel_time": "2026-11-11"}, "open", 0),
        ({"cancel_time": "2026-11-11"}, "ended", 0),  # cancelled before it was read
        ({"cancel_time": "2026-11-11", "cancel_by_xai_message": "bad line"}, "failed", 0),
        ({"state": None}, "open", 0),
        ({"state": {"num_requests": 2, "num_success": 2}}, "ended", 1),  # zeros may be left out
    ],
)
def test_the_state_follows_from_the_counts(fields: dict[str, Any], state: str, files: int) -> None:
    """A batch that has not begun would count as finished, and its rows as missing."""
    job = made().job(answer(batch(**fields)))
    assert (job.state, len(job.files), job.stamp, job.input_file) == (state, files, "s", "f")


def test_a_model_without_batches_ends_the_run() -> None:
    """A file of 50,000 rows would be halved 16 times to find the bad one, though all are."""
    words = "JSONL file validation failed: Model grok-4.6 is not supported for batch processing."
    job = made().job(answer(batch(cancel_by_xai_message=words)))
    assert (job.state, job.refusal, job.reason) == ("failed", "denied", words)


def test_results_come_in_pages() -> None:
    """All rows but the first thousand would count as missing, and be paid for twice."""
    spoken = made()
    [file] = spoken.job(answer(batch(requests=2, success=2))).files
    assert spoken.results(file).url == "https://api.x.ai/v1/batches/b/results?limit=1000"
    reader = spoken.reader(file)
    row = {"batch_request_id": "s-0", "batch_result": {"response": {"chat_get_completion": {"id": "c"}}}}
    [found] = read(reader, json.dumps({"results": [row], "pagination_token": "t/2"}).encode(), [3])
    assert (found.key, found.status, json.loads(found.body)) == ("s-0", 200, {"id": "c"})
    [more] = reader.more
    assert spoken.results(more).url == "https://api.x.ai/v1/batches/b/results?limit=1000&pagination_token=t%2F2"
    last = spoken.reader(more)
    assert read(last, b'{"results": [], "pagination_token": ""}') == []
    assert (list(last.more), spoken.delete(more)) == ([], None)


@pytest.mark.parametrize(
    ("row", "state", "status"),
    [
        ({"batch_result": {"error": {"code": 3, "message": "no"}}}, "answered", 400),
        ({"batch_result": {"error": {"code": 1, "message": "cancelled"}}}, "cancelled", 200),
        ({"error_message": "strange"}, "answered", 500),
        ({}, "answered", 500),
    ],
)
def test_rows_without_an_answer(row: dict[str, Any], state: str, status: int) -> None:
    """A row that was cancelled would fail, or one that is wrong be asked for ever."""
    [found] = read(made().reader("b\n"), json.dumps({"results": [{"batch_request_id": "s-0", **row}]}).encode())
    assert (found.state, found.status) == (state, status)


def test_batches_are_listed_by_name() -> None:
    """A batch whose creation was not answered could not be found again."""
    [job], cursor = made().listed(answer({"batches": [batch(), {}], "pagination_token": "t"}), None)
    assert (job.stamp, cursor) == ("s", "t")
    assert made().list("t").url == "https://api.x.ai/v1/batches?limit=100&pagination_token=t"
    cancel = made().cancel("b")
    assert cancel is not None
    assert (cancel.method, cancel.url) == ("POST", "https://api.x.ai/v1/batches/b:cancel")
    with pytest.raises(ConfigError, match="no batches for embeddings that flatout knows"):
        batch_format(target("xai"), "embeddings")
