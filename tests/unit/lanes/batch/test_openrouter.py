"""OpenRouter's batches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.lanes.batch.formats.openrouter import OpenRouterBatch
from flatout.lanes.offers import batch_format

from .support import answer, lines, read, target


def made() -> OpenRouterBatch:
    found = batch_format(target("openrouter", "google/gemini-3-flash"))
    assert isinstance(found, OpenRouterBatch)
    return found


def row(key: str, status: int = 200, error: Any = None) -> dict[str, Any]:
    response = None if error else {"status_code": status, "request_id": "r", "body": {"choices": []}}
    return {"id": "x", "custom_id": key, "response": response, "error": error}


def test_the_rows_come_last() -> None:
    """OpenRouter reads the body as it streams in, and refuses one whose rows come before the model."""
    request = made().create("s", lines({"model": "google/gemini-3-flash"}), None)
    assert request.url == "https://openrouter.ai/api/v1/batches"
    data = json.loads(request.body)
    assert list(data) == ["endpoint", "model", "requests"]
    assert data["endpoint"] == "/v1/chat/completions"
    assert data["requests"] == [{"custom_id": "s-0", "body": {"model": "google/gemini-3-flash"}}]


def test_results_come_with_the_job() -> None:
    """A completed batch may hold failed rows: each counts for itself."""
    results = [row("s-1"), row("s-0", error={"code": "bad_request", "message": "no"}), row("s-2", 429)]
    data = {"id": "b", "status": "completed", "results": results, "request_counts": {"total": 3, "completed": 3}}
    job = made().job(answer(data))
    assert (job.state, job.files, job.rows) == ("ended", (), 3)
    found = read(made().reader(), job.inline)
    assert [(one.key, one.status) for one in found] == [("s-1", 200), ("s-0", 500), ("s-2", 429)]


@pytest.mark.parametrize(
    ("status", "state"),
    [("validating", "open"), ("in_progress", "open"), ("?", "open"), ("expired", "ended"), ("failed", "failed")],
)
def test_states(status: str, state: str) -> None:
    """Results of a batch that is open are not complete."""
    job = made().job(answer({"id": "b", "status": status, "results": [], "error": {"message": "bad"}}))
    assert (job.state, job.inline, job.reason) == (state, b"", "bad" if state == "failed" else "")


def test_a_listed_batch_has_no_results() -> None:
    """A list with the results of a hundred batches would not fit into memory."""
    data = {"data": [{"id": "b", "status": "completed", "results": [row("s-0")]}], "has_more": False}
    [job], cursor = made().listed(answer(data), None)
    assert (job.state, job.inline, cursor) == ("ended", b"", None)


def test_what_openrouter_cannot_do() -> None:
    """A request that it does not know would be an error at the worst moment."""
    assert made().cancel("b") is None
    assert not made().labels
    with pytest.raises(ConfigError, match="no batches for responses that flatout knows"):
        batch_format(target("openrouter"), "responses")
    delete = made().delete("b")
    assert delete is not None
    assert (delete.method, delete.url) == ("DELETE", "https://openrouter.ai/api/v1/batches/b")
