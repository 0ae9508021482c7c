"""Mistral's batch jobs, as the simulated provider has them."""

from __future__ import annotations

from typing import Any

import pytest

from flatout.testing import digest_of

from ._vendor import DAY, Vendor, jsonl

PATH = "/batch/jobs"
ROWS = [
    {"custom_id": f"s-{number}", "body": {"messages": [{"role": "user", "content": f"question {number}"}]}}
    for number in range(100)
]
ASKED = {"model": "m", "endpoint": "/v1/chat/completions"}


class Mistral(Vendor):
    """A vendor of jobs."""

    def begin(self, rows: Any = ROWS, **more: Any) -> str:
        asked = {**ASKED, "input_files": [self.upload(jsonl(rows))["id"]], **more}
        return str(self.json("POST", PATH, asked)["id"])

    def later(self, name: str, seconds: float = DAY / 2) -> Any:
        self.now += seconds
        return self.json("GET", f"{PATH}/{name}")


@pytest.mark.parametrize("inline", [True, False])
def test_each_row_is_answered_by_the_job_s_model(inline):
    """A lane could not prove that the right answer stands beside the right row."""
    vendor = Mistral()
    if inline:
        name = vendor.json("POST", PATH, {**ASKED, "requests": ROWS})["id"]
    else:
        name = vendor.begin(metadata={"stamp": "s"})
    assert vendor.later(name, 1)["status"] == "QUEUED"
    assert vendor.later(name, 60)["status"] == "RUNNING"
    job = vendor.later(name)
    assert job["status"] == "SUCCESS"
    assert job["error_file"] is None
    assert (job["total_requests"], job["succeeded_requests"], job["failed_requests"]) == (100, 100, 0)
    found = {line["custom_id"]: line["response"]["body"] for line in vendor.lines(job["output_file"])}
    for number in range(100):
        text = found[f"s-{number}"]["choices"][0]["message"]["content"]
        assert text.startswith(f"digest:{digest_of(f'question {number}')}")
        assert found[f"s-{number}"]["model"] == "m"


def test_a_job_that_ends_early_says_nothing_about_the_rest():
    """Rows that the results do not mention would be waited for, or forgotten."""
    vendor = Mistral(faults={"expires": 1.0})
    name = vendor.begin(timeout_hours=2)
    assert vendor.later(name, 7_199)["status"] == "RUNNING"
    job = vendor.later(name, 10)
    assert job["status"] == "TIMEOUT_EXCEEDED"
    assert 0 < len(vendor.lines(job["output_file"])) < 100
    assert job["error_file"] is None


def test_a_job_is_cancelled():
    """Cancelling would lose what is paid for."""
    vendor = Mistral(time=1_000.0, time_p99=1_000.0)
    name = vendor.begin()
    vendor.now = 505.0
    assert vendor.json("POST", f"{PATH}/{name}/cancel")["status"] == "CANCELLATION_REQUESTED"
    job = vendor.later(name)
    assert job["status"] == "CANCELLED"
    assert len(vendor.lines(job["output_file"])) == 50
    vendor.json("POST", f"{PATH}/{name}/cancel", status=400)


def test_one_bad_line_fails_the_whole_job():
    """A lane that writes such lines would pass its tests."""
    vendor = Mistral()
    for bad in ([ROWS[0], ROWS[0]], [{"custom_id": "a"}], [{**ROWS[0], "url": "/v1"}], [[]]):
        job = vendor.later(vendor.begin(bad))
        assert job["status"] == "FAILED"
        assert job["errors"][0]["message"]
        assert job["output_file"] is None
    assert vendor.model.stats()["answered"] == 0


def test_rows_fail_one_by_one():
    """A bad row would seem to fail its whole job."""
    vendor = Mistral()
    job = vendor.later(vendor.begin([ROWS[0], {"custom_id": "a", "body": {"messages": []}}]))
    assert job["status"] == "SUCCESS"
    [line] = vendor.lines(job["error_file"])
    assert line["response"]["status_code"] == 400


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"endpoint": "/chat"},
        {"timeout_hours": 0},
        {"timeout_hours": 169},
        {"completion_window": "24h"},
        {"metadata": {"a": 1}},
        {"requests": ROWS},
        {"input_files": []},
    ],
)
def test_a_wrong_request_to_create_is_refused(change):
    """A lane that asks for what Mistral does not take would pass its tests."""
    vendor = Mistral()
    asked = {**ASKED, "input_files": [vendor.upload(jsonl(ROWS))["id"]], **change}
    vendor.json("POST", PATH, asked, status=422)
    vendor.json("POST", PATH, {**ASKED, "input_files": ["none"]}, status=404)


def test_jobs_are_listed_in_pages_and_belong_to_a_key():
    """A lane that looks for its job would look at the first page only."""
    vendor = Mistral()
    names = [vendor.begin(ROWS[:1]) for _ in range(5)][::-1]
    seen = [[job["id"] for job in vendor.json("GET", f"{PATH}?page={page}&page_size=2")["data"]] for page in range(4)]
    assert seen == [names[:2], names[2:4], names[4:], []]
    assert vendor.json("GET", PATH)["total"] == 5
    vendor.json("GET", f"{PATH}?page_size=0", status=422)
    vendor.json("GET", f"{PATH}/{names[0]}", key="other", status=404)
    assert vendor.json("GET", PATH, key="other")["data"] == []


def test_a_full_queue_refuses_a_job():
    """A lane that does not wait would fail its rows."""
    vendor = Mistral(enqueued_tokens=1_500)
    vendor.begin()
    asked = {**ASKED, "requests": ROWS}
    vendor.json("POST", PATH, asked, status=429)
