"""OpenAI's batches, and those of the servers with its shape."""

from __future__ import annotations

import json
from email import message_from_bytes
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import ConfigError, ProtocolError
from flatout.lanes.batch.format import Found
from flatout.lanes.batch.formats.openai import OpenAIBatch
from flatout.lanes.offers import batch_format
from flatout.layer import Request, Response

from .support import KEY, answer, lines, read, target


def made(provider: str = "openai", **more: Any) -> OpenAIBatch:
    found = batch_format(target(provider, **more))
    assert isinstance(found, OpenAIBatch)
    return found


def form(request: Request) -> dict[str, str]:
    """A form's fields, as an ordinary parser of forms reads them."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.body)
    assert message.is_multipart()
    return {
        str(part.get_param("name", header="content-disposition")): bytes(part.get_payload(decode=True)).decode()
        for part in message.walk()
        if not part.is_multipart()
    }


def test_the_upload_is_a_form_with_one_json_line_a_row() -> None:
    """A file that OpenAI could not read would fail as a whole, after the upload."""
    request = made().upload("s", lines({"model": "m", "messages": ["é\n"]}, {"model": "m"}))
    assert request is not None
    assert (request.method, request.url) == ("POST", "https://api.openai.com/v1/files")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    fields = form(request)
    assert fields["purpose"] == "batch"
    rows = [json.loads(line) for line in fields["file"].splitlines()]
    assert [row["custom_id"] for row in rows] == ["s-0", "s-1"]
    assert {(row["method"], row["url"]) for row in rows} == {("POST", "/v1/chat/completions")}
    assert rows[0]["body"] == {"model": "m", "messages": ["é\n"]}
    assert b'filename="s.jsonl"' in request.body


def test_a_row_takes_no_more_around_its_body_than_the_caps_say() -> None:
    """A batch packed to the last byte would be refused for its size."""
    batch = made("together")
    request = batch.upload("s" * 40, lines(*[{}] * 50, stamp="s" * 52))
    assert request is not None
    assert len(request.body) <= 50 * (2 + batch.caps.around)


def test_the_batch_names_its_file_its_endpoint_and_our_stamp() -> None:
    """Without the stamp, a batch whose create was not answered could not be found again, and would be paid twice."""
    request = made().create("s", [], "file-1")
    assert json.loads(request.body) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"flatout": "s"},
    }
    assert request.url == "https://api.openai.com/v1/batches"


def test_the_responses_api_has_batches_of_its_own_kind() -> None:
    """Rows of the Responses API at the chat endpoint would all be refused."""
    assert json.loads(made("openai-responses").create("s", [], "f").body)["endpoint"] == "/v1/responses"


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/batches"),
        ("https://r.openai.azure.com/openai/v1", "https://r.openai.azure.com/openai/v1/batches"),
        (
            "https://r.openai.azure.com/openai/deployments/{model}?api-version=2026-01-01",
            "https://r.openai.azure.com/openai/batches?api-version=2026-01-01",
        ),
    ],
)
def test_azures_addresses_lead_to_the_resources_batches(base: str, url: str) -> None:
    """Batches belong to the resource, not to a deployment: under a deployment's address they are not found."""
    request = made("azure", base_url=base).create("s", [], "f")
    assert request.url == url
    assert json.loads(request.body)["endpoint"] == "/chat/completions"
    assert request.headers["api-key"] == KEY


def test_together_has_another_purpose_path_and_no_metadata() -> None:
    """Together refuses a file of another purpose, and fields that it does not know."""
    batch = made("together")
    request = batch.upload("s", lines({}))
    assert request is not None
    assert request.url == "https://api.together.xyz/v1/files/upload"
    assert form(request)["purpose"] == "batch-api"
    assert form(request)["file_name"] == "s.jsonl"
    assert "metadata" not in json.loads(batch.create("s", [], "f").body)


def test_togethers_job_is_found_by_its_file() -> None:
    """Together keeps no label. A job whose create was not answered is found by the file that only it has."""
    jobs, more = made("together").listed(
        answer([{"id": "1", "input_file_id": "file-1", "status": "IN_PROGRESS", "created_at": "2026-01-15T14:30:00Z"}]),
        None,
    )
    assert more is None
    assert (jobs[0].input_file, jobs[0].state, jobs[0].created_at) == ("file-1", "open", 1768487400.0)
    wrapped = made("together").job(answer({"job": {"id": "1", "status": "COMPLETED", "output_file_id": "o"}}))
    assert (wrapped.state, wrapped.files) == ("ended", ("o",))


@pytest.mark.parametrize("missing", [{}, {"error_file_id": None}, {"error_file_id": ""}])
def test_null_empty_and_absent_file_ids_are_one(missing: dict[str, Any]) -> None:
    """A request for the file "" would fail, and the paid answers in the other file would never be fetched."""
    job = made().job(answer({"id": "b", "status": "completed", "output_file_id": "o", **missing}))
    assert job.files == ("o",)
    only_errors = made().job(answer({"id": "b", "status": "completed", "output_file_id": None, "error_file_id": "e"}))
    assert only_errors.files == ("e",)


@pytest.mark.parametrize("status", ["expired", "cancelled", "completed"])
def test_a_job_that_ended_early_keeps_its_paid_answers(status: str) -> None:
    """Answers of expired and cancelled batches are charged: not to fetch them would be to pay twice."""
    job = made().job(answer({"id": "b", "status": status, "output_file_id": "o", "error_file_id": "e"}))
    assert (job.state, job.files) == ("ended", ("o", "e"))


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling", "a_new_one", "", None])
def test_states_that_nobody_knows_are_open(status: str | None) -> None:
    """A provider adds states. A batch in one of them is not to be submitted again."""
    assert made().job(answer({"id": "b", "status": status, "output_file_id": "o"})).state == "open"


def test_a_job_says_how_far_it_is() -> None:
    """The live line would have nothing to show."""
    data = {
        "id": "b",
        "status": "in_progress",
        "created_at": 17,
        "input_file_id": "f",
        "metadata": {"flatout": "s"},
        "request_counts": {"total": 9, "completed": 3, "failed": 1},
    }
    job = made().job(answer(data))
    assert (job.rows, job.done, job.created_at, job.input_file, job.stamp) == (9, 4, 17.0, "f", "s")


def failed(*errors: dict[str, Any]) -> dict[str, Any]:
    return {"id": "b", "status": "failed", "errors": {"object": "list", "data": list(errors)}}


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        ({"code": "token_limit_exceeded", "message": "Enqueued token limit reached for m in organization o."}, "full"),
        ({"code": "too_many_tasks", "message": "The batch input file exceeds 50,000 requests."}, "too_large"),
        ({"code": "invalid_json_line", "message": "Not JSON", "line": 7}, "invalid"),
        ({"code": None, "message": None}, "invalid"),
        ({"code": "model_not_found", "message": "The model is not supported by the Batch API."}, "denied"),
        ({"code": "url_mismatch", "message": "All urls must be the same"}, "denied"),
        ({"code": "server_error", "message": "We had a problem"}, "again"),
    ],
)
def test_a_failed_job_says_what_to_do(error: dict[str, Any], refusal: str) -> None:
    """A full queue that looks like a wrong row would fail rows that are right, and the other way round never end."""
    job = made().job(answer(failed(error)))
    assert (job.state, job.refusal, job.line) == ("failed", refusal, error.get("line"))


def test_the_error_with_a_line_is_the_one_to_mend() -> None:
    """With the line at hand, halving the file until it is found would take hours."""
    job = made().job(answer(failed({"code": "x", "message": "many"}, {"code": "y", "message": "this", "line": 3})))
    assert (job.line, job.reason) == (3, "y this")


def test_a_failed_job_with_results_did_run() -> None:
    """Together fails batches that have run in part: their answers were paid for."""
    assert made().job(answer({"id": "b", "status": "FAILED", "output_file_id": "o"})).state == "ended"


@pytest.mark.parametrize(
    ("status", "body", "refusal"),
    [
        (404, {"error": {"message": "No batch found with id 'b'."}}, "unknown"),
        (404, "<html>nothing here</html>", "denied"),
        (413, {"error": {"message": "too large"}}, "too_large"),
        (429, {"error": {"message": "Rate limit reached for requests", "code": "rate_limit_exceeded"}}, "again"),
        (429, {"error": {"message": "Enqueued token limit reached", "code": "token_limit_exceeded"}}, "full"),
        (400, {"error": {"message": "Enqueued token limit reached", "code": "token_limit_exceeded"}}, "full"),
        (400, {"error": {"message": "Invalid file format"}}, "invalid"),
        (401, {"error": {"message": "Incorrect API key provided"}}, "denied"),
        (402, {"error": {"message": "Insufficient credits"}}, "denied"),
        (409, {"error": {"message": "Cannot cancel a batch with status 'completed'."}}, "invalid"),
        (400, {"error": {"message": "File is not yet processed."}}, "again"),
        (400, {"error": {"message": "The file files/x is not in an ACTIVE state"}}, "again"),
        (500, {"error": {"message": "oops"}}, "again"),
        (503, "", "again"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, body: Any, refusal: str) -> None:
    """A wrong key that looks like a wrong row would have the file halved until each row had failed."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    said = made().refused(Response(status, {}, raw))
    assert said is not None
    assert said[0] == refusal


def test_an_answer_is_no_refusal() -> None:
    """A batch that was created would be created again."""
    assert made().refused(answer({"id": "b"})) is None


def test_no_key_shows_in_a_refusal() -> None:
    """Providers repeat keys in their words, and these words are stored and printed."""
    said = made().refused(answer({"error": {"message": f"Bad key {KEY}"}}, 401))
    job = made().job(answer(failed({"code": "x", "message": f"Bad key {KEY}"})))
    assert said is not None
    assert KEY not in said[1] + job.reason


def test_answers_that_cannot_be_used_are_errors() -> None:
    """A gateway's page with status 200 would otherwise be taken for a batch."""
    for body in (b"<html>", b"[]", b"{}", b'{"id": ""}'):
        with pytest.raises(ProtocolError):
            made().job(Response(200, {}, body))
        with pytest.raises(ProtocolError):
            made().uploaded("s", Response(200, {}, body))


def test_the_list_is_read_page_by_page() -> None:
    """Our batch may be on the second page."""
    data = {"data": [{"id": "b2", "status": "completed"}, {"id": "b1", "status": "x"}], "has_more": True}
    jobs, after = made().listed(answer(data), None)
    assert ([job.id for job in jobs], after) == (["b2", "b1"], "b1")
    assert made().list(after).url == "https://api.openai.com/v1/batches?limit=100&after=b1"
    assert made().listed(answer({**data, "has_more": False}), None)[1] is None


def test_an_id_never_leads_elsewhere() -> None:
    """Ids are the provider's words. The key must not go where one of them points."""
    assert made().get("../files?x=1#y").url == "https://api.openai.com/v1/batches/..%2Ffiles%3Fx%3D1%23y"
    assert made().results("..").url == "https://api.openai.com/v1/files/%2E%2E/content"


def row(key: str, **more: Any) -> bytes:
    return json.dumps({"id": "batch_req_1", "custom_id": key, **more}).encode() + b"\n"


def test_a_row_is_answered_as_the_live_endpoint_would() -> None:
    """The live codec decodes the answers of batches, so they must be what it expects."""
    body = {"choices": [{"message": {"content": "hé"}}]}
    [good] = read(
        made().reader(), row("s-0", response={"status_code": 200, "request_id": "r", "body": body}, error=None)
    )
    assert (good.key, good.state, good.status, json.loads(good.body)) == ("s-0", "answered", 200, body)
    wrong = {"error": {"message": "no", "type": "invalid_request_error"}}
    [bad] = read(
        made().reader(), row("s-1", response={"status_code": 400, "request_id": "r", "body": wrong}, error=None)
    )
    assert (bad.status, json.loads(bad.body)) == (400, wrong)


@pytest.mark.parametrize(
    ("row_error", "state", "status"),
    [
        ({"code": "batch_expired", "message": "This request could not be executed in time."}, "expired", 200),
        ({"code": "batch_cancelled", "message": "cancelled"}, "cancelled", 200),
        ({"code": "invalid_request_error", "message": "no"}, "answered", 400),
        ({"code": "503", "message": "no"}, "answered", 503),
        ({"message": "no"}, "answered", 500),
        ("no", "answered", 500),
        (None, "answered", 500),
    ],
)
def test_a_row_without_an_answer_says_why(row_error: Any, state: str, status: int) -> None:
    """Rows that were not run go back into the queue; rows that failed are errors, with the provider's words."""
    for response in (None, {"status_code": 0, "request_id": "", "body": None}):
        [found] = read(made().reader(), row("s-0", response=response, error=row_error))
        assert (found.key, found.state, found.status) == ("s-0", state, status)


def test_a_file_without_rows_is_an_error() -> None:
    """An error page in place of the results would make each row missing, and all would be paid again."""
    for data in (b"<html>\n</html>\n", b'{"error": {"message": "no such file"}}\n', b'["s-0"]\n', b"null\n"):
        with pytest.raises(ProtocolError):
            read(made().reader(), data)
    assert read(made().reader(), b"") == []


def test_a_broken_line_costs_no_other_row() -> None:
    """The rows behind a broken line were paid for."""
    good = {"status_code": 200, "body": {"choices": []}}
    data = row("s-0", response=good) + b'{"custom_id": \n' + b"\n" + row("s-2", response=good)
    assert [found.key for found in read(made().reader(), data)] == ["s-0", "s-2"]


def test_a_file_that_broke_off_is_read_again() -> None:
    """Rows after the cut would count as missing, and be paid again."""
    data = row("s-0", response={"status_code": 200, "body": {}}) + row("s-1")[:20]
    with pytest.raises(ProtocolError):
        read(made().reader(), data)


_BODIES = st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers() | st.none(), min_size=1, max_size=3)


@given(st.lists(_BODIES, max_size=5), st.lists(st.integers(0, 10**6), max_size=8), st.booleans())
def test_results_may_be_cut_anywhere(bodies: list[dict[str, Any]], cuts: list[int], whole: bool) -> None:
    """Results arrive in pieces of any size: no row may be lost or changed by where they are cut."""
    data = b"".join(row(f"s-{place}", response={"status_code": 200, "body": body}) for place, body in enumerate(bodies))
    found = read(made().reader(), data if whole else data.rstrip(b"\n"), cuts)
    assert [one.key for one in found] == [f"s-{place}" for place in range(len(bodies))]
    assert [json.loads(one.body) for one in found] == bodies


@given(st.binary(max_size=80))
def test_any_bytes_are_rows_or_a_named_error(data: bytes) -> None:
    """A crash in the reader would end the run."""
    try:
        found = read(made().reader(), data)
    except ProtocolError:
        return
    assert all(isinstance(one, Found) for one in found)


def test_a_provider_without_batches_is_refused_with_its_lanes() -> None:
    """The user learns before anything is sent, and what to use instead."""
    with pytest.raises(ConfigError, match=r"deepseek has no batch lane that flatout knows: deepseek/m has live"):
        batch_format(target("deepseek"))
    with pytest.raises(ConfigError, match=r"groq has no batches for responses, only for chat"):
        batch_format(target("groq"), "responses")
