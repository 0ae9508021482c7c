"""Mistral's batch jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.lanes.batch.formats.mistral import MistralBatch
from flatout.lanes.offers import batch_format

from .support import answer, lines, read, target

JOB = {
    "id": "j",
    "object": "batch",
    "status": "SUCCESS",
    "input_files": ["f"],
    "output_file": "o",
    "error_file": None,
    "errors": [],
    "metadata": {"flatout": "s"},
    "created_at": 17,
    "total_requests": 4,
    "completed_requests": 3,
    "succeeded_requests": 3,
    "failed_requests": 0,
}


def made() -> MistralBatch:
    found = batch_format(target("mistral"))
    assert isinstance(found, MistralBatch)
    return found


def test_the_model_stands_on_the_job() -> None:
    """A job without a model is refused."""
    request = made().create("s", lines({}), "f")
    assert (request.method, request.url) == ("POST", "https://api.mistral.ai/v1/batch/jobs")
    assert json.loads(request.body) == {
        "input_files": ["f"],
        "model": "m",
        "endpoint": "/v1/chat/completions",
        "metadata": {"flatout": "s"},
        "timeout_hours": 24,
    }


def test_a_line_has_an_id_and_a_body_only() -> None:
    """Mistral's lines have neither a method nor a url."""
    request = made().upload("s", lines({"messages": []}))
    assert b'\r\n\r\n{"custom_id":"s-0","body":{"messages": []}}\n\r\n' in request.body
    assert request.url == "https://api.mistral.ai/v1/files"


def test_few_rows_travel_in_the_request() -> None:
    """Mistral takes 10,000 rows in a request; one more, and it would refuse them all."""
    batch, caps = made(), made().caps
    assert not batch.uploads(caps.around)
    assert batch.uploads(10_000 * caps.around)
    asked = json.loads(batch.create("s", lines({"messages": []}, {"messages": [1]}), None).body)
    assert asked["requests"] == [
        {"custom_id": "s-0", "body": {"messages": []}},
        {"custom_id": "s-1", "body": {"messages": [1]}},
    ]
    assert "input_files" not in asked


def test_a_job_that_has_its_rows_is_deleted_itself() -> None:
    """The rows are personal data, and would stay at the provider."""
    job = made().job(answer({**JOB, "input_files": []}))
    request = made().delete(job.itself)
    assert request is not None
    assert (request.method, request.url) == ("DELETE", "https://api.mistral.ai/v1/batch/jobs/j")
    assert made().job(answer(JOB)).itself == ""


def test_a_job_is_read() -> None:
    """Stamp and input file are how a job is found again."""
    job = made().job(answer(JOB))
    assert (job.id, job.state, job.files, job.stamp, job.input_file) == ("j", "ended", ("o",), "s", "f")
    assert (job.rows, job.done, job.created_at) == (4, 3, 17.0)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("QUEUED", "open"),
        ("RUNNING", "open"),
        ("CANCELLATION_REQUESTED", "open"),
        ("A_NEW_ONE", "open"),
        ("SUCCESS", "ended"),
        ("TIMEOUT_EXCEEDED", "ended"),
        ("CANCELLED", "ended"),
        ("FAILED", "ended"),
    ],
)
def test_states(status: str, state: str) -> None:
    """A job that failed or ran out of time with results was paid for in part."""
    assert made().job(answer({**JOB, "status": status})).state == state


def test_a_job_that_failed_without_results_says_why() -> None:
    """Nothing was run: the rows go back."""
    failed = {**JOB, "status": "FAILED", "output_file": None, "errors": [{"message": "Invalid line", "count": 1}]}
    job = made().job(answer(failed))
    assert (job.state, job.refusal, job.reason, job.files) == ("failed", "invalid", "Invalid line", ())


def test_pages_are_counted() -> None:
    """Mistral's answer does not name the next page."""
    full: list[Any] = [{**JOB, "id": f"j{number}"} for number in range(100)]
    jobs, cursor = made().listed(answer({"data": full, "total": 250}), None)
    assert (len(jobs), cursor) == (100, "1")
    assert made().list(cursor).url.endswith("/batch/jobs?page=1&page_size=100&order_by=-created")
    assert made().listed(answer({"data": full, "total": 250}), cursor)[1] == "2"
    assert made().listed(answer({"data": full[:50], "total": 250}), "2")[1] is None


def test_results_are_joined_by_their_ids() -> None:
    """Mistral's lines are those of OpenAI."""
    body: dict[str, Any] = {"choices": []}
    line = json.dumps({"id": "x", "custom_id": "s-1", "response": {"status_code": 200, "body": body}, "error": None})
    [found] = read(made().reader(), line.encode())
    assert (found.key, found.status, json.loads(found.body)) == ("s-1", 200, body)


def test_the_responses_api_is_refused() -> None:
    """Mistral has none."""
    with pytest.raises(ConfigError, match="no batches for responses"):
        batch_format(target("mistral"), "responses")
