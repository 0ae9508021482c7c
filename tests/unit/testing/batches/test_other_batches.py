"""The batches of Fireworks, OpenRouter and xAI, as the simulated provider has them: what they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ._vendor import DAY, Vendor, form, jsonl

BODY = {"messages": [{"role": "user", "content": "question"}]}
ACCOUNT = "/v1/accounts/mine"
ROW = {"custom_id": "s-0", "body": BODY}
LINE = {"custom_id": "s-0", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", **BODY}}


class Fireworks(Vendor):
    def fill(self, rows: list[Any], name: str = "s", **fields: str) -> Any:
        content, body = form(jsonl(rows), "rows.jsonl", **fields)
        return self.ask("POST", f"{ACCOUNT}/datasets/{name}:upload", body, content)

    def make(self, status: int = 200, **dataset: Any) -> Any:
        asked = {"datasetId": "s", "dataset": {"userUploaded": {}, "exampleCount": "1", **dataset}}
        return self.json("POST", f"{ACCOUNT}/datasets", asked, status=status)

    def begin(self, status: int = 200, **more: Any) -> Any:
        asked = {"model": "m", "inputDatasetId": "accounts/mine/datasets/s", **more}
        return self.json("POST", f"{ACCOUNT}/batchInferenceJobs?batchInferenceJobId=j", asked, status=status)


def test_fireworks_takes_a_dataset_once() -> None:
    """A lane that uploads twice, or without a dataset, would pass its tests."""
    vendor = Fireworks()
    assert vendor.fill([ROW]).status == 404
    vendor.make(400, exampleCount=None)
    vendor.make()
    vendor.make(409)
    vendor.begin(400)  # it is not filled
    assert vendor.fill([ROW], purpose="batch").status == 400
    assert [vendor.fill([ROW]).status for _ in range(2)] == [200, 400]
    vendor.begin(400, completion_window="24h")
    assert vendor.begin()["name"] == "accounts/mine/batchInferenceJobs/j"
    vendor.begin(409)


@pytest.mark.parametrize("rows", [[ROW, ROW], [{**ROW, "body": {"model": "m", **BODY}}], [{"custom_id": "a"}], [1]])
def test_fireworks_fails_a_job_for_one_row(rows: list[Any]) -> None:
    """A lane that writes such rows would pass its tests."""
    vendor = Fireworks()
    vendor.make()
    vendor.fill(rows)
    vendor.begin()
    vendor.now += DAY / 2
    job = vendor.json("GET", f"{ACCOUNT}/batchInferenceJobs/j")
    assert (job["state"], job["status"]["code"]) == ("JOB_STATE_FAILED", "INVALID_ARGUMENT")
    output = job["outputDatasetId"].rpartition("/")[2]
    vendor.json("GET", f"{ACCOUNT}/datasets/{output}:getDownloadEndpoint", status=404)


def test_fireworks_store_refuses_a_key() -> None:
    """A lane that sends its key to another server would pass its tests."""
    vendor = Fireworks()
    vendor.make()
    vendor.fill([ROW])
    vendor.begin()
    vendor.now += DAY / 2
    output = vendor.json("GET", f"{ACCOUNT}/batchInferenceJobs/j")["outputDatasetId"].rpartition("/")[2]
    [url] = vendor.json("GET", f"{ACCOUNT}/datasets/{output}:getDownloadEndpoint")["filenameToSignedUrls"].values()
    assert vendor.fetch(url).status == 200
    assert vendor.fetch(url, "k").status == 400
    assert vendor.fetch(url.partition("?")[0]).status == 400


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "/chat"},
        {"model": None},
        {"requests": []},
        {"requests": [ROW, ROW]},
        {"requests": [{**ROW, "method": "POST"}]},
        {"requests": [{**ROW, "body": {**BODY, "model": "other"}}]},
        {"metadata": {}},
    ],
)
def test_openrouter_refuses_a_wrong_batch(change: dict[str, Any]) -> None:
    """A lane that asks for what OpenRouter does not take would pass its tests."""
    vendor = Vendor()
    asked = {"endpoint": "/v1/chat/completions", "model": "m", "requests": [ROW]}
    vendor.json("POST", "/api/v1/batches", {**{name: asked[name] for name in ("endpoint", "model")}, **change,
                                            "requests": change.get("requests", [ROW])}, status=400)  # fmt: skip
    vendor.json("POST", "/api/v1/batches", dict(reversed(asked.items())), status=400)  # the rows come first
    name = vendor.json("POST", "/api/v1/batches", asked, status=202)["id"]
    vendor.json("DELETE", f"/api/v1/batches/{name}", status=409)


def test_xai_refuses_what_it_does_not_know() -> None:
    """A lane that speaks to xAI as to OpenAI would pass its tests."""
    vendor = Vendor(dialect="xai")
    content, body = form(jsonl([LINE]), "rows.jsonl", purpose="batch")
    assert vendor.ask("POST", "/files", body, content).status == 400
    content, body = form(jsonl([LINE]), "rows.jsonl")
    file = json.loads(vendor.ask("POST", "/files", body, content).body)["id"]
    vendor.json("POST", "/batches", {"input_file_id": file, "endpoint": "/v1/chat/completions"}, status=422)
    vendor.json("POST", "/batches", {"input_file_id": file}, status=422)
    vendor.json("POST", "/batches", {"name": "s", "input_file_id": "none"}, status=404)
    name = vendor.json("POST", "/batches", {"name": "s", "input_file_id": file})["batch_id"]
    vendor.json("POST", f"/batches/{name}/cancel", {}, status=404)
    assert vendor.ended(name)["state"]["num_success"] == 1
    page = vendor.json("GET", f"/batches/{name}/results?limit=1")
    assert ([row["batch_request_id"] for row in page["results"]], page["pagination_token"]) == (["s-0"], None)
    vendor.json("GET", f"/batches/{name}/results?limit=1001", status=400)


def test_xai_says_why_it_refused_a_file_and_nothing_else() -> None:
    """A lane that trusts the counts would take a refused batch for one that has not begun."""
    vendor = Vendor(dialect="xai")
    content, body = form(jsonl([{**LINE, "url": "/chat"}]), "rows.jsonl")
    file = json.loads(vendor.ask("POST", "/files", body, content).body)["id"]
    job = vendor.ended(vendor.json("POST", "/batches", {"name": "s", "input_file_id": file})["batch_id"])
    assert set(job["state"].values()) == {0}
    assert job["cancel_by_xai_message"].startswith("JSONL file validation failed")
