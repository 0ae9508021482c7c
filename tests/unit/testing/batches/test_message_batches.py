"""Anthropic's Message Batches, as the simulated provider has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatout.testing import SimulatedResponse, digest_of

from ._vendor import DAY, Vendor

PATH = "/messages/batches"
VERSION = {"anthropic-version": "2023-06-01"}


def params(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": "claude", "max_tokens": 500, "messages": [{"role": "user", "content": prompt}], **fields}


ROWS = [{"custom_id": f"s-{number}", "params": params(f"question {number}")} for number in range(100)]


class Anthropic(Vendor):
    """A vendor that is told the version of its API in each request."""

    def ask(self, *args: Any, **more: Any) -> SimulatedResponse:
        return super().ask(*args, **{**VERSION, **more})

    def begin(self, rows: Any = ROWS, **more: Any) -> str:
        return str(self.json("POST", PATH, {"requests": rows}, **more)["id"])

    def found(self, name: str) -> dict[str, Any]:
        outcome = self.ask("GET", f"{PATH}/{name}/results")
        assert outcome.status == 200, outcome.body
        return {row["custom_id"]: row["result"] for row in map(json.loads, outcome.body.splitlines())}

    def later(self, name: str, seconds: float = DAY / 2) -> Any:
        self.now += seconds
        return self.json("GET", f"{PATH}/{name}")


def test_each_row_is_answered_as_the_live_endpoint_would():
    """A lane could not prove that the right answer stands beside the right row."""
    vendor = Anthropic()
    name = vendor.begin()
    batch = vendor.later(name, 60)
    assert batch["processing_status"] == "in_progress"
    assert batch["request_counts"]["processing"] == 100
    assert batch["results_url"] is None
    vendor.json("GET", f"{PATH}/{name}/results", status=404)
    batch = vendor.later(name)
    assert batch["processing_status"] == "ended"
    assert batch["results_url"] == f"http://vendor.test/v1{PATH}/{name}/results"
    assert batch["request_counts"]["succeeded"] == 100
    found = vendor.found(name)
    assert list(found) != [each["custom_id"] for each in ROWS], "results come in any order"
    for number in range(100):
        text = found[f"s-{number}"]["message"]["content"][0]["text"]
        assert text.startswith(f"digest:{digest_of(f'question {number}')}")
    assert vendor.model.stats()["duplicates"] == 0


def test_rows_fail_one_by_one():
    """A bad row would seem to fail its whole batch, or to have been answered."""
    vendor = Anthropic()
    rows = [
        ROWS[0],
        {"custom_id": "a", "params": {"model": "claude"}},
        {"custom_id": "b", "params": params("x", stream=True)},
    ]
    name = vendor.begin(rows)
    counts = vendor.later(name)["request_counts"]
    assert (counts["succeeded"], counts["errored"]) == (1, 2)
    found = vendor.found(name)
    for key in "ab":
        assert found[key]["type"] == "errored"
        assert found[key]["error"]["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("how", ["expired", "canceled"])
def test_a_batch_that_ends_early_keeps_what_was_finished(how):
    """Answers that were paid for would never be fetched."""
    vendor = Anthropic(faults={"expires": 1.0})
    name = vendor.begin()
    vendor.now = DAY - 600
    if how == "canceled":
        assert vendor.json("POST", f"{PATH}/{name}/cancel")["processing_status"] == "canceling"
    batch = vendor.later(name, 600)
    assert batch["processing_status"] == "ended"
    states = [result["type"] for result in vendor.found(name).values()]
    assert set(states) == {"succeeded", how}
    assert batch["request_counts"][how] == states.count(how)
    vendor.json("POST", f"{PATH}/{name}/cancel", status=400)


def test_a_batch_carries_no_label_but_its_keys():
    """A lane would be tested against a label that Anthropic does not have."""
    vendor = Anthropic()
    for extra in ({"metadata": {"a": "b"}}, {"name": "x"}):
        vendor.json("POST", PATH, {"requests": ROWS, **extra}, status=400)
    assert vendor.json("GET", PATH)["data"] == []


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"custom_id": "a b", "params": params("x")}],
        [{"custom_id": "", "params": params("x")}],
        [{"custom_id": "a" * 65, "params": params("x")}],
        [ROWS[0], ROWS[0]],
        [{"custom_id": "a"}],
        [{"custom_id": "a", "params": params("x"), "method": "POST"}],
        ROWS[:11],
    ],
)
def test_a_wrong_request_to_create_is_refused_as_a_whole(rows):
    """A lane that sends what Anthropic does not take would pass its tests."""
    vendor = Anthropic(most_rows=10)
    answer = vendor.json("POST", PATH, {"requests": rows}, status=400)
    assert answer["error"]["type"] == "invalid_request_error"


def test_headers_and_sizes_are_checked():
    """As above."""
    vendor = Anthropic(most_bytes=1_000)
    vendor.json("POST", PATH, {"requests": ROWS}, status=413)
    assert vendor.ask("POST", PATH, b"{").status == 400
    vendor.json("POST", PATH, {"requests": ROWS[:1]}, content="text/plain", status=400)
    assert Vendor().ask("GET", PATH).status == 400


@pytest.mark.parametrize("named", [True, False])
def test_a_row_may_fail_every_batch_that_it_is_in(named):
    """A lane could not be tested that looks for the row, by its place or by halving."""
    vendor = Anthropic(faults={"poison": 0.05}, names_lines=named)
    message = vendor.json("POST", PATH, {"requests": ROWS}, status=400)["error"]["message"]
    assert message.startswith("requests.") == named


def test_a_full_queue_refuses_a_batch():
    """A lane that does not wait would fail its rows."""
    vendor = Anthropic(enqueued_tokens=1_500)
    first = vendor.begin()
    answer = vendor.json("POST", PATH, {"requests": ROWS}, status=429)
    assert answer["error"]["type"] == "rate_limit_error"
    vendor.later(first)
    vendor.begin()


def test_batches_are_listed_in_pages_in_both_directions():
    """A lane that looks for its batch would look at the first page only."""
    vendor = Anthropic()
    names = [vendor.begin(ROWS[:1]) for _ in range(5)][::-1]
    first = vendor.json("GET", f"{PATH}?limit=2")
    assert [batch["id"] for batch in first["data"]] == names[:2]
    second = vendor.json("GET", f"{PATH}?limit=2&after_id={first['last_id']}")
    assert [batch["id"] for batch in second["data"]] == names[2:4]
    back = vendor.json("GET", f"{PATH}?limit=2&before_id={second['first_id']}")
    assert [batch["id"] for batch in back["data"]] == names[:2]
    assert (first["has_more"], back["has_more"]) == (True, False)
    vendor.json("GET", f"{PATH}?limit=0", status=400)
    vendor.json("GET", f"{PATH}?after_id=none", status=404)


def test_a_batch_is_deleted_with_its_results():
    """Nothing would show whether a lane cleans up behind itself."""
    vendor = Anthropic()
    name = vendor.begin()
    vendor.json("DELETE", f"{PATH}/{name}", status=400)
    vendor.later(name)
    assert vendor.model.stats()["batches"]["files"] == 1
    vendor.json("DELETE", f"{PATH}/{name}", key="other", status=404)
    vendor.json("DELETE", f"{PATH}/{name}")
    vendor.json("GET", f"{PATH}/{name}", status=404)
    assert vendor.json("GET", PATH)["data"] == []
    assert vendor.model.stats()["batches"]["files"] == 0
    assert vendor.model.stats()["batches"]["answers"] == 100


def test_results_are_archived_after_29_days():
    """A lane would promise results that are gone."""
    vendor = Anthropic()
    name = vendor.begin()
    batch = vendor.later(name, 29 * DAY)
    assert batch["archived_at"] is not None
    assert batch["results_url"] is None
    vendor.json("GET", f"{PATH}/{name}/results", status=404)


def test_a_state_that_nobody_documented():
    """A client that takes an unknown state for the end would lose the batch."""
    vendor = Anthropic(faults={"unknown_state": 1.0})
    assert vendor.later(vendor.begin(), 1)["processing_status"] == "under_review"


def test_a_batch_in_which_nothing_succeeded_has_results():
    """As for OpenAI: an end is no success."""
    vendor = Anthropic(faults={"failed": 1.0})
    name = vendor.begin()
    assert vendor.later(name)["request_counts"]["errored"] == 100
    assert {result["error"]["error"]["type"] for result in vendor.found(name).values()} == {"api_error"}
