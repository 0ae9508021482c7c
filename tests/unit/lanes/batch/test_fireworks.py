"""Fireworks' batches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from flatout.errors import ConfigError, ProtocolError
from flatout.lanes.batch.formats.fireworks import FireworksBatch
from flatout.lanes.offers import batch_format, check, lanes_of
from flatout.layer import Response
from flatout.values import Target

from .support import KEY, answer, lines, read, target

BASE = "https://api.fireworks.ai/v1/accounts/mine"
SIGNED = "https://store.example/d/BIJOutputSet.jsonl?X-Signature=abc"


def made(base_url: str | None = None) -> FireworksBatch:
    found = batch_format(target("fireworks", "accounts/fireworks/models/m", base_url))
    assert isinstance(found, FireworksBatch)
    return found


def job(state: str, rows: int | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "name": "accounts/mine/batchInferenceJobs/s",
        "state": f"JOB_STATE_{state}",
        "inputDatasetId": "accounts/mine/datasets/s",
        "outputDatasetId": "accounts/mine/datasets/bij-1",
        "jobProgress": None if rows is None else {"outputRows": rows, "totalInputRequests": 3},
        **fields,
    }


def test_a_dataset_is_made_filled_and_run() -> None:
    """Fireworks refuses rows without a dataset, a dataset without a count, and rows that name a model."""
    rows = lines({"model": "m", "messages": []}, {"messages": [], "max_tokens": 3})
    before, upload, create = made().before_upload("s", rows), made().upload("s", rows), made().create("s", rows, "s")
    assert before is not None
    assert upload is not None
    assert (before.url, upload.url) == (f"{BASE}/datasets", f"{BASE}/datasets/s:upload")
    assert json.loads(before.body) == {"datasetId": "s", "dataset": {"userUploaded": {}, "exampleCount": "2"}}
    assert [json.loads(line) for line in upload.body.splitlines() if line.startswith(b"{")] == [
        {"custom_id": "s-0", "body": {"messages": []}},
        {"custom_id": "s-1", "body": {"messages": [], "max_tokens": 3}},
    ]
    assert create.url == f"{BASE}/batchInferenceJobs?batchInferenceJobId=s"
    assert json.loads(create.body) == {
        "model": "accounts/fireworks/models/m",
        "inputDatasetId": "accounts/mine/datasets/s",
        "displayName": "s",
    }
    assert made().uploaded("s", answer({"id": "accounts/mine/datasets/s"})) == "s"


def test_what_is_there_already_is_ours() -> None:
    """A request whose answer was lost would be called refused when it is sent again, and its rows be packed anew."""
    assert made().refused(answer({"code": 6, "message": "dataset s already exists", "details": []}, 409)) is None
    assert made().refused(answer({"code": 3, "message": "dataset is already uploaded"}, 400)) is None
    assert made().refused(answer({"code": 10, "message": "aborted"}, 409)) is not None


@pytest.mark.parametrize(
    ("data", "state", "files"),
    [
        (job("VALIDATING"), "open", ()),
        (job("UNHEARD_OF", 1), "open", ()),
        (job("COMPLETED", 3), "ended", ("bij-1",)),
        (job("COMPLETED"), "ended", ("bij-1",)),
        (job("EXPIRED", 2), "ended", ("bij-1",)),
        (job("EXPIRED", 0), "ended", ()),  # the dataset that it names does not exist
        (job("FAILED", 0), "failed", ()),
        (job("FAILED", 2), "ended", ("bij-1",)),
    ],
)
def test_states(data: dict[str, Any], state: str, files: tuple[str, ...]) -> None:
    """Answers that are paid for would be left there, or waited for for ever."""
    found = made().job(answer(data))
    assert (found.id, found.state, found.files, found.stamp, found.input_file) == ("s", state, files, "s", "s")


def test_a_failed_job_says_why() -> None:
    """Nobody would know which row is wrong."""
    words = "Dataset has a syntax error: chat dataset validation failed on s.jsonl:1: invalid role bananas"
    found = made().job(answer(job("FAILED", 0, status={"code": "INVALID_ARGUMENT", "message": words})))
    assert (found.refusal, found.line) == ("invalid", None)  # the line that it names is not to be trusted
    assert words in found.reason


def test_files_of_results_are_fetched_without_the_key() -> None:
    """The key would go to another server, which refuses the request because of it."""
    spoken = made()
    assert spoken.results("bij-1").url == f"{BASE}/datasets/bij-1:getDownloadEndpoint"
    reader = spoken.reader("bij-1")
    urls = {"dataset/bij-1/BIJOutputSet.jsonl": SIGNED, "dataset/bij-1/error-data": f"{SIGNED}&e", "x": None}
    assert read(reader, json.dumps({"filenameToSignedUrls": urls}).encode()) == []
    assert list(reader.more) == [SIGNED, f"{SIGNED}&e"]
    request = spoken.results(SIGNED)
    assert (request.method, request.url, dict(request.headers)) == ("GET", SIGNED, {})
    assert KEY not in request.url


@pytest.mark.parametrize("url", ["http://store.example/f", "file:///etc/passwd", "http://127.0.0.1:1/f"])
def test_files_are_fetched_over_https_only(url: str) -> None:
    """An answer could make flatout read what it should not."""
    with pytest.raises(ProtocolError, match="not https"):
        made().results(url)
    assert made("http://127.0.0.1:1/inference/v1").results("http://127.0.0.1:1/store/f").url.endswith("/store/f")


def test_rows_have_no_envelope() -> None:
    """Every row would count as missing: Fireworks leaves out the status that OpenAI's rows have."""
    rows = [
        {"custom_id": "s-1", "response": {"id": "c", "choices": [{}]}},
        {"custom_id": "s-0", "error": {"code": "400", "message": "no"}},
        {"custom_id": "s-2", "response": {"status_code": 429, "body": {"error": {"message": "slow"}}}},
    ]
    found = read(made().reader(SIGNED), b"\n".join(json.dumps(row).encode() for row in rows))
    assert [(one.key, one.status) for one in found] == [("s-1", 200), ("s-0", 400), ("s-2", 429)]
    assert read(made().reader(SIGNED), b"") == []  # so is the file of errors, mostly


def test_the_store_s_refusals_pass() -> None:
    """A signed address that has expired would end the run, as a wrong key does."""
    said = made().refused(Response(403, {}, b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>"))
    assert said is not None
    assert said[0] == "again"


def test_batches_need_an_account() -> None:
    """It would be found out after the rows were packed, by a 404."""
    where = target("fireworks")
    nobody = Target(replace(where.endpoint, account=""), "m")
    assert ("batch" in lanes_of(where), "batch" in lanes_of(nobody)) == (True, False)
    with pytest.raises(ConfigError, match="batches of fireworks belong to an account: name yours in FIREWORKS_ACCOUNT"):
        check("batch", nobody)
    assert made().cancel("s") is None
    with pytest.raises(ConfigError, match="no batches for responses, only for chat"):
        batch_format(where, "responses")
