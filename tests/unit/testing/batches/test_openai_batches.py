"""OpenAI's files and batches, as the simulated provider has them. Nothing waits: the tests say what time it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.testing import BatchFaults, BatchSettings, ProviderModel, ProviderSettings, digest_of

from ._vendor import BOUNDARY, DAY, Vendor, chat, form, jsonl, row

ROWS = [row(number) for number in range(200)]
ASKED = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}


def answers(vendor: Vendor, batch: Any) -> dict[str, str]:
    """The texts of a batch's answers, by their ids."""
    lines = vendor.lines(batch["output_file_id"])
    return {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}


def errors(vendor: Vendor, batch: Any) -> dict[str, Any]:
    return {line["custom_id"]: line for line in vendor.lines(batch["error_file_id"])}


def test_each_row_is_answered_as_the_live_endpoint_would():
    """A lane could not prove that the right answer stands beside the right row."""
    vendor = Vendor()
    name = vendor.start(jsonl(ROWS), metadata={"stamp": "s"})
    batch = vendor.ended(name)
    found = answers(vendor, batch)
    assert len(found) == 200
    for number in range(200):
        assert found[f"s-{number}"].startswith(f"digest:{digest_of(f'question {number}')}")
    assert list(found) != [each["custom_id"] for each in ROWS], "results come in any order"
    assert batch["metadata"] == {"stamp": "s"}
    assert batch["error_file_id"] is None
    assert batch["request_counts"] == {"total": 200, "completed": 200, "failed": 0}
    stats = vendor.model.stats()
    assert stats["answered"] == 200
    assert stats["duplicates"] == 0
    usage = batch["usage"]
    assert usage["output_tokens"] == stats["batches"]["output_tokens"] == stats["output_tokens"]


def test_a_batch_passes_through_its_states():
    """A lane that polls would never see that a batch is not yet over."""
    vendor = Vendor(time=1_000.0, time_p99=1_000.0, validating=10.0, finalizing=20.0)
    name = vendor.start(jsonl(ROWS))
    seen = []
    for moment in (0.0, 9.0, 10.0, 500.0, 1_009.0, 1_010.0, 1_029.0, 1_030.0):
        vendor.now = moment
        batch = vendor.json("GET", f"/batches/{name}")
        seen.append((batch["status"], batch["request_counts"]["completed"]))
    assert seen == [
        ("validating", 0), ("validating", 0), ("in_progress", 0), ("in_progress", 98),
        ("in_progress", 199), ("finalizing", 200), ("finalizing", 200), ("completed", 200),
    ]  # fmt: skip
    assert batch["completed_at"] - batch["created_at"] == 1_030
    assert batch["expires_at"] - batch["created_at"] == DAY


def test_embeddings_are_answered():
    """A job of embeddings could not be tested in the batch lane."""
    vendor = Vendor()
    body = {"model": "m", "input": ["one", "two"]}
    name = vendor.start(jsonl([row(0, body, url="/v1/embeddings")]), "/v1/embeddings")
    [line] = vendor.lines(vendor.ended(name)["output_file_id"])
    assert len(line["response"]["body"]["data"]) == 2


def test_rows_fail_one_by_one():
    """A bad row would seem to fail its whole batch, or to have been answered."""
    vendor = Vendor()
    rows = [row(0), row(1, {"model": "m", "messages": []}), row(2, chat("x", stream=True)), row(3, {"model": "m"})]
    batch = vendor.ended(vendor.start(jsonl(rows)))
    assert batch["status"] == "completed"
    assert list(answers(vendor, batch)) == ["s-0"]
    failed = errors(vendor, batch)
    statuses = {name: line["response"]["status_code"] for name, line in failed.items()}
    assert statuses == {"s-1": 400, "s-2": 400, "s-3": 400}
    assert all(line["error"] is None for line in failed.values())


def test_a_completed_batch_may_hold_nothing_but_errors():
    """A lane that reads "completed" as "answered" would look right."""
    vendor = Vendor(faults={"failed": 1.0}, no_file="empty")
    batch = vendor.ended(vendor.start(jsonl(ROWS)))
    assert batch["status"] == "completed"
    assert batch["output_file_id"] == ""
    assert batch["request_counts"] == {"total": 200, "completed": 0, "failed": 200}
    assert {line["response"]["status_code"] for line in errors(vendor, batch).values()} == {500}
    assert vendor.model.stats()["batches"]["output_tokens"] == 0


@pytest.mark.parametrize(
    ("way", "told"), [("null", {"error_file_id": None}), ("empty", {"error_file_id": ""}), ("absent", {})]
)
def test_a_file_that_is_not_there_is_told_in_three_ways(way, told):
    """An empty name would be fetched as a file."""
    vendor = Vendor(no_file=way)
    batch = vendor.ended(vendor.start(jsonl(ROWS)))
    assert {name: batch[name] for name in ("error_file_id",) if name in batch} == told


def test_an_expired_batch_keeps_what_was_finished():
    """Answers that were paid for would never be fetched."""
    vendor = Vendor(faults={"expires": 1.0})
    name = vendor.start(jsonl(ROWS))
    assert vendor.ended(name, DAY - 1)["status"] == "in_progress"
    batch = vendor.ended(name, 1)
    assert batch["status"] == "expired"
    done, rest = answers(vendor, batch), errors(vendor, batch)
    assert 0 < len(done) < 200
    assert len(done) + len(rest) == 200
    assert {line["error"]["code"] for line in rest.values()} == {"batch_expired"}
    assert all(line["response"] is None for line in rest.values())
    assert vendor.model.stats()["answered"] == len(done)
    assert sorted(done) != sorted(ROWS[number]["custom_id"] for number in range(len(done))), "not simply the first ones"


def test_a_cancelled_batch_keeps_what_was_finished():
    """Cancelling would lose what is paid for."""
    vendor = Vendor(time=1_000.0, time_p99=1_000.0, cancelling=60.0)
    name = vendor.start(jsonl(ROWS))
    vendor.now = 505.0
    assert vendor.json("POST", f"/batches/{name}/cancel")["status"] == "cancelling"
    vendor.now = 530.0
    assert vendor.json("POST", f"/batches/{name}/cancel")["status"] == "cancelling"
    batch = vendor.ended(name, 40.0)
    assert batch["status"] == "cancelled"
    assert batch["cancelled_at"] - batch["cancelling_at"] == 60
    assert len(answers(vendor, batch)) == 100
    assert {line["error"]["code"] for line in errors(vendor, batch).values()} == {"batch_cancelled"}
    vendor.json("POST", f"/batches/{name}/cancel", status=409)


def test_a_batch_may_never_end():
    """A lane that waits for the end would wait for ever."""
    vendor = Vendor(faults={"stuck": 1.0})
    name = vendor.start(jsonl(ROWS))
    assert vendor.ended(name, 10 * DAY)["status"] == "in_progress"
    vendor.json("POST", f"/batches/{name}/cancel")
    batch = vendor.ended(name)
    assert batch["status"] == "cancelled"
    assert len(errors(vendor, batch)) == 200


def test_rows_may_be_missing_from_the_results():
    """A row that no file mentions would be waited for, or forgotten."""
    vendor = Vendor(faults={"missing": 0.1})
    batch = vendor.ended(vendor.start(jsonl(ROWS)))
    assert 150 < len(answers(vendor, batch)) < 200
    assert batch["error_file_id"] is None


def test_states_that_nobody_documented():
    """A client that takes an unknown state for the end would lose the batch."""
    vendor = Vendor(faults={"unknown_state": 1.0})
    name = vendor.start(jsonl(ROWS))
    assert vendor.ended(name, 10)["status"] == "under_review"
    assert vendor.ended(name)["status"] == "completed"


BAD_LINES = [
    (b"{", "invalid_json_line"),
    (b"[]", "missing_required_parameter"),
    (jsonl([{"custom_id": "x", "method": "POST", "url": "/v1/chat/completions"}]), "missing_required_parameter"),
    (jsonl([row(9, {"messages": []})]), "missing_required_parameter"),
    (jsonl([row(0)]), "duplicate_custom_id"),
    (jsonl([row(9, custom_id="")]), "missing_required_parameter"),
    (jsonl([row(9, method="GET")]), "invalid_method"),
    (jsonl([row(9, url="/v1/embeddings")]), "invalid_url"),
    (jsonl([row(9, {**chat("x"), "model": "other"})]), "mismatched_model"),
]


@pytest.mark.parametrize(("line", "code"), BAD_LINES)
def test_one_bad_line_fails_the_whole_file(line, code):
    """A lane that writes such lines would pass its tests."""
    vendor = Vendor()
    name = vendor.start(jsonl([row(0), row(1)]) + b"\n" + line)
    assert vendor.ended(name, 1)["status"] == "validating"
    batch = vendor.ended(name, 10)
    assert batch["status"] == "failed"
    [problem] = batch["errors"]["data"]
    assert (problem["code"], problem["line"]) == (code, 3)
    assert vendor.model.stats()["answered"] == 0
    assert batch["output_file_id"] is None


@pytest.mark.parametrize("named", [True, False])
def test_a_row_may_fail_every_batch_that_it_is_in(named):
    """A lane could not be tested that looks for the row, by its line or by halving."""
    vendor = Vendor(faults={"poison": 0.02}, names_lines=named)
    batch = vendor.ended(vendor.start(jsonl(ROWS)))
    assert batch["status"] == "failed"
    places = [problem["line"] for problem in batch["errors"]["data"]]
    if not named:
        assert places == [None]
        return
    rest = [each for number, each in enumerate(ROWS, 1) if number not in places]
    assert vendor.ended(vendor.start(jsonl(rest)))["status"] == "completed"
    assert vendor.ended(vendor.start(jsonl([ROWS[places[0] - 1]])))["status"] == "failed"


def test_a_batch_without_rows_or_with_too_many_fails():
    """A lane that packs too much would pass its tests."""
    vendor = Vendor(most_rows=10)
    for data, code in ((b"\n\n", "empty_file"), (jsonl(ROWS[:11]), "too_many_tasks")):
        batch = vendor.ended(vendor.start(data))
        assert [problem["code"] for problem in batch["errors"]["data"]] == [code]
    assert vendor.ended(vendor.start(jsonl(ROWS[:10])))["status"] == "completed"


def test_a_full_queue_fails_a_batch_in_its_validation():
    """A lane that takes it for a bad file would halve it, or fail its rows."""
    vendor = Vendor(enqueued_tokens=3_000)
    first, second = vendor.start(jsonl(ROWS)), vendor.start(jsonl(ROWS))
    batch = vendor.ended(second, 60)
    assert batch["status"] == "failed"
    assert [problem["code"] for problem in batch["errors"]["data"]] == ["token_limit_exceeded"]
    assert vendor.ended(first)["status"] == "completed"
    assert vendor.ended(vendor.start(jsonl(ROWS)))["status"] == "completed"


def test_a_full_queue_may_refuse_a_batch():
    """The second face of a full queue would not be known."""
    vendor = Vendor(enqueued_tokens=3_000, when_full="refused")
    vendor.start(jsonl(ROWS))
    asked = {**ASKED, "input_file_id": vendor.upload(jsonl(ROWS))["id"]}
    assert vendor.json("POST", "/batches", asked, status=429)["error"]["code"] == "token_limit_exceeded"
    vendor.now = DAY / 2
    vendor.json("POST", "/batches", asked)
    never = {**ASKED, "input_file_id": vendor.upload(jsonl(row(n) for n in range(400)))["id"]}
    vendor.json("POST", "/batches", never, status=400)


def test_a_full_queue_may_let_a_batch_wait():
    """The third face of a full queue would not be known."""
    vendor = Vendor(enqueued_tokens=3_000, when_full="waits", time=100.0, time_p99=100.0)
    names = [vendor.start(jsonl(ROWS)) for _ in range(3)]
    seen = []
    for _ in range(4):
        vendor.now += 120.0
        seen.append([vendor.json("GET", f"/batches/{name}")["status"] for name in names])
    assert seen == [
        ["completed", "in_progress", "validating"],
        ["completed", "completed", "in_progress"],
        ["completed", "completed", "completed"],
        ["completed", "completed", "completed"],
    ]


def test_a_failed_batch_may_count_for_a_while():
    """A lane that submits again at once would be refused, and no test would show it."""
    vendor = Vendor(enqueued_tokens=3_000, when_full="refused", failed_counts=600.0, faults={"poison": 0.5})
    assert vendor.ended(vendor.start(jsonl(ROWS)), 100)["status"] == "failed"
    asked = {**ASKED, "input_file_id": vendor.upload(jsonl(ROWS))["id"]}
    vendor.json("POST", "/batches", asked, status=429)
    vendor.now = 700.0
    vendor.json("POST", "/batches", asked)


def test_another_key_sees_nothing():
    """A lane that lost its key would take its batches for those of another."""
    vendor = Vendor()
    name, file = vendor.start(jsonl(ROWS)), vendor.upload(jsonl(ROWS))["id"]
    for method, path in (
        ("GET", f"/batches/{name}"),
        ("POST", f"/batches/{name}/cancel"),
        ("GET", f"/files/{file}"),
        ("GET", f"/files/{file}/content"),
        ("DELETE", f"/files/{file}"),
    ):
        vendor.json(method, path, key="other", status=404)
    vendor.json("POST", "/batches", {**ASKED, "input_file_id": file}, key="other", status=404)
    assert vendor.json("GET", "/batches", key="other")["data"] == []
    assert vendor.json("GET", "/files", key="other")["data"] == []


def test_batches_and_files_are_listed_in_pages():
    """A lane that looks for its batch would look at the first page only."""
    vendor = Vendor()
    names = []
    for number in range(7):
        names.append(vendor.start(jsonl(ROWS[:1])))
        vendor.now += number
    seen, cursor, more = [], "", True
    while more:
        page = vendor.json("GET", f"/batches?limit=3{cursor}")
        seen += [batch["id"] for batch in page["data"]]
        assert page["last_id"] == seen[-1]
        cursor, more = f"&after={seen[-1]}", page["has_more"]
    assert seen == names[::-1]
    vendor.json("GET", "/batches?limit=0", status=400)
    vendor.json("GET", "/batches?after=nothing", status=404)
    assert len(vendor.json("GET", "/files?purpose=batch")["data"]) == 7
    assert vendor.json("GET", "/files?purpose=batch_output")["data"] == []


def test_files_are_kept_until_they_are_deleted_or_expire():
    """Nothing would show whether a lane cleans up behind itself."""
    vendor = Vendor()
    batch = vendor.ended(
        vendor.start(jsonl(ROWS), output_expires_after={"anchor": "created_at", "seconds": 7_200}), 6_000
    )
    assert vendor.model.stats()["batches"]["files"] == 2
    told = vendor.json("GET", f"/files/{batch['output_file_id']}")
    assert (told["purpose"], told["filename"]) == ("batch_output", f"{batch['id']}_output.jsonl")
    assert told["expires_at"] - batch["completed_at"] == 7_200
    vendor.json("DELETE", f"/files/{batch['input_file_id']}")
    vendor.json("DELETE", f"/files/{batch['input_file_id']}", status=404)
    vendor.json("GET", f"/files/{batch['output_file_id']}")
    vendor.now = DAY
    vendor.json("GET", f"/files/{batch['output_file_id']}", status=404)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": None}, "input_file_id"),
        ({"endpoint": "/v1/videos"}, "endpoint"),
        ({"endpoint": "/chat/completions"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"window": "24h"}, "window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a"),
        ({"output_expires_after": {"seconds": 7_200}}, "output_expires_after"),
        ({"output_expires_after": {"seconds": 60, "anchor": "created_at"}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"seconds": 7_200, "anchor": "now"}}, "output_expires_after.anchor"),
    ],
)
def test_a_wrong_request_to_create_is_refused(change, param):
    """A lane that asks for what OpenAI does not take would pass its tests."""
    vendor = Vendor()
    asked = {**ASKED, "input_file_id": vendor.upload(jsonl(ROWS))["id"], **change}
    assert vendor.json("POST", "/batches", asked, status=400)["error"]["param"] == param
    assert vendor.json("GET", "/batches")["data"] == []


def test_a_request_to_create_is_json_and_names_a_file_for_batches():
    """As above."""
    vendor = Vendor()
    file = vendor.upload(jsonl(ROWS), purpose="user_data")["id"]
    vendor.json("POST", "/batches", {**ASKED, "input_file_id": file}, status=400)
    vendor.json("POST", "/batches", {**ASKED, "input_file_id": file}, content="text/plain", status=400)
    assert vendor.ask("POST", "/batches", b"{").status == 400
    assert vendor.ask("POST", "/batches", b"[]").status == 400
    vendor.json("POST", "/batches", {**ASKED, "input_file_id": "file-none"}, status=404)
    vendor.json("PUT", "/batches", status=404)


def test_an_upload_is_a_form_with_a_file_and_a_purpose():
    """A lane's own form could be wrong, and no test would show it."""
    vendor = Vendor(most_bytes=1_000)
    assert vendor.upload(b"x" * 1_000)["bytes"] == 1_000
    vendor.upload(b"x" * 1_001, status=413)
    vendor.upload(b"", status=400)
    vendor.upload(b"x", name="rows.json", status=400)
    vendor.upload(b"x", purpose="batches", status=400)
    vendor.upload(b"x", other="y", status=400)
    vendor.upload(b"x", **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}, status=400)
    kept = vendor.upload(b"x", **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "7200"})
    assert kept["expires_at"] - kept["created_at"] == 7_200


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        (f"multipart/form-data; boundary={BOUNDARY}", b""),
        (f"multipart/form-data; boundary={BOUNDARY}", form(b"x", "a.jsonl", purpose="batch")[1][:-10]),
        ("multipart/form-data; boundary=other", form(b"x", "a.jsonl", purpose="batch")[1]),
        form(b"x", None, purpose="batch"),
        form(b"x", "a.jsonl"),
        (form(b"", "")[0], f"--{BOUNDARY}\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode()),
        (form(b"", "")[0], form(b"x", "a.jsonl", purpose="batch")[1].replace(b'"purpose"', b'"file"')),
    ],
)
def test_what_is_no_form_is_refused(content, body):
    """As above."""
    assert Vendor().ask("POST", "/files", body, content).status == 400


@given(st.binary(min_size=1, max_size=300))
@settings(max_examples=100)
def test_a_file_comes_back_byte_by_byte(data):
    """Rows with odd characters would change on their way."""
    vendor = Vendor()
    if f"\r\n--{BOUNDARY}".encode() in b"\r\n" + data:
        return
    assert vendor.ask("GET", f"/files/{vendor.upload(data)['id']}/content").body == data


def test_the_answer_to_a_request_may_be_lost_although_it_was_done():
    """A lane would create the same batch twice, and no test would show it."""
    vendor = Vendor(faults={"lost": 1.0})
    content, body = form(jsonl(ROWS), "rows.jsonl", purpose="batch")
    assert vendor.ask("POST", "/files", body, content).wire == "reset"
    [file] = vendor.json("GET", "/files")["data"]
    asked = json.dumps({**ASKED, "input_file_id": file["id"]}).encode()
    assert vendor.ask("POST", "/batches", asked).wire == "reset"
    assert len(vendor.json("GET", "/batches")["data"]) == 1
    assert vendor.model.stats()["faults"]["lost"] == 2


def test_a_download_may_break_off():
    """A lane would take half of the results for all of them."""
    vendor = Vendor(faults={"cut": 1.0})
    batch = vendor.ended(vendor.start(jsonl(ROWS)))
    assert vendor.ask("GET", f"/files/{batch['output_file_id']}/content").wire == "truncated"
    assert vendor.ask("GET", f"/files/{batch['input_file_id']}/content").wire == "whole"


@pytest.mark.parametrize(("fault", "status"), [("rate_limited", 429), ("server_error", 500), ("overloaded", 503)])
def test_requests_about_batches_meet_the_faults_of_all_requests(fault, status):
    """A lane's retries could not be tested."""
    vendor = Vendor(general={fault: 1.0})
    assert vendor.ask("GET", "/batches").status == status
    assert vendor.model.stats()["faults"] == {fault: 1}


@pytest.mark.parametrize(("fault", "wire"), [("reset", "reset"), ("hang", "hang"), ("truncated", "truncated")])
def test_connections_fail_for_requests_about_batches(fault, wire):
    """As above."""
    vendor = Vendor(general={fault: 1.0})
    content, body = form(jsonl(ROWS), "rows.jsonl", purpose="batch")
    assert vendor.ask("POST", "/files", body, content).wire == wire
    assert vendor.model.stats()["batches"]["files"] == (fault == "truncated")


def test_an_outage_and_a_wrong_key():
    """A lane would go on while its provider is down, or with a key that was withdrawn."""
    model = ProviderModel(ProviderSettings(key="k", outage=(10.0, 20.0)))
    vendor = Vendor()
    vendor.model = model
    vendor.json("GET", "/batches")
    vendor.json("GET", "/batches", key="other", status=401)
    vendor.now = 10.0
    vendor.json("GET", "/batches", status=503)


def test_together_has_a_dialect_of_its_own():
    """A lane for Together would be tested against OpenAI."""
    vendor = Vendor(dialect="together")
    content, body = form(jsonl(ROWS), "rows.jsonl", purpose="batch-api", file_name="rows.jsonl")
    assert vendor.ask("POST", "/files", body, content).status == 404
    file = json.loads(vendor.ask("POST", "/files/upload", body, content).body)["id"]
    content, body = form(jsonl(ROWS), "rows.jsonl", purpose="batch-api")
    assert vendor.ask("POST", "/files/upload", body, content).status == 400
    batch = vendor.json("POST", "/batches", {**ASKED, "input_file_id": file})["job"]
    assert batch["status"] == "VALIDATING"
    assert [each["id"] for each in vendor.json("GET", "/batches")] == [batch["id"]]
    assert vendor.ended(batch["id"])["status"] == "COMPLETED"


def test_azure_has_a_dialect_of_its_own():
    """A lane for Azure would be tested against OpenAI."""
    vendor = Vendor(dialect="azure", time=2 * DAY, time_p99=2 * DAY)
    name = vendor.start(jsonl([row(0, url="/chat/completions")]), "/chat/completions")
    assert vendor.ended(name, DAY + 1)["status"] == "in_progress", "its batches do not expire"
    assert vendor.ended(name, DAY + 60)["status"] == "completed"


def test_the_same_seed_gives_the_same_results():
    """A test that fails could not be repeated."""

    def run() -> list[Any]:
        vendor = Vendor(faults={"expires": 0.5, "missing": 0.1})
        batch = vendor.ended(vendor.start(jsonl(ROWS)), DAY + 10)
        return [batch, vendor.lines(batch["output_file_id"]), vendor.lines(batch["error_file_id"])]

    assert run() == run()


def test_settings_that_make_no_sense_are_refused():
    """A slip in a test's settings would go unnoticed."""
    for bad in ({"window": 0}, {"time": -1}, {"time_p99": 1.0}, {"most_rows": 0}):
        with pytest.raises(ConfigError):
            BatchSettings(**bad)
    for wrong in ({"lost": 2}, {"expires": 0.6, "stuck": 0.6}):
        with pytest.raises(ConfigError):
            BatchFaults(**wrong)


@given(st.floats(0, 2 * DAY), st.floats(0, DAY), st.booleans(), st.integers(1, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_row_ends_exactly_once(takes, cancelled, cancels, count, in_order):
    """A lane's bookkeeping would be tested against results that no provider has."""
    vendor = Vendor(time=takes, time_p99=takes, in_order=in_order, faults={"failed": 0.2, "expires": 0.2})
    rows = ROWS[:count]
    name = vendor.start(jsonl(rows))
    if cancels:
        vendor.now = cancelled
        vendor.ask("POST", f"/batches/{name}/cancel")
    batch = vendor.ended(name, 3 * DAY)
    assert batch["status"] in ("completed", "expired", "cancelled")
    lines = vendor.lines(batch["output_file_id"]) + vendor.lines(batch["error_file_id"])
    assert sorted(line["custom_id"] for line in lines) == sorted(each["custom_id"] for each in rows)
    counts = batch["request_counts"]
    assert counts["completed"] + counts["failed"] <= counts["total"] == count
    assert batch["created_at"] <= (batch["in_progress_at"] or batch["created_at"]) <= batch["expires_at"]
    assert vendor.model.stats()["answered"] == counts["completed"]
