"""The example's support desk, as its README runs it: 200 tickets on the simulated model, with kills in the middle."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flatout.agents.guards import is_card, is_iban
from tests.support.command_samples import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_desk"
TICKETS = [json.loads(line) for line in (EXAMPLE / "intents.jsonl").read_text(encoding="utf-8").splitlines()]
MODULES = ("desk", "report", "shop", "simulated")


@pytest.fixture(scope="module")
def desk() -> Iterator[Any]:
    """The example's main module."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        import desk

        yield desk
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def whole(desk: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The report of a run that nobody disturbed, and its database."""
    store = tmp_path_factory.mktemp("whole") / "run.flatout"
    return asyncio.run(desk.run(None, None, store)), store.with_suffix(".db")


def rows(database: Path, query: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(database, timeout=10)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(query)]


def holds_personal_data(text: str) -> bool:
    numbers = (re.sub(r"\D", "", found) for found in re.findall(r"\d[\d -]{11,22}\d", text))
    accounts = (found.replace(" ", "") for found in re.findall(r"\b[A-Z]{2}\d{2}[A-Z0-9 ]{11,30}", text))
    return "@" in text or "+4" in text or any(map(is_card, numbers)) or any(map(is_iban, accounts))


def check(results: list[Any], database: Path) -> None:
    """What must hold of any run that came to its end."""
    assert sorted(result.index for result in results) == list(range(len(TICKETS)))
    outbox = {row["ticket"]: row for row in rows(database, "SELECT * FROM outbox")}
    effects = rows(database, "SELECT * FROM effects")
    found = {(row["kind"], row["number"]): row for row in effects}
    prices = {row["number"]: row["price"] for row in rows(database, "SELECT * FROM orders")}
    assert len(prices) == 240

    for result in results:
        ticket = TICKETS[result.index]
        if not result.ok:
            assert type(result.error).__name__ == "GuardrailTripped", result.error
            continue
        answer, sent = result.output.answer, outbox[ticket["id"]]
        assert result.output.verified is True
        assert (sent["reply"], sent["done"]) == (answer.reply, ",".join(answer.done))
        for done in answer.done:
            made = found[done, ticket["order"]]
            assert made["address"] == ticket.get("want", {}).get("address")
    assert not [row["reply"] for row in outbox.values() if holds_personal_data(row["reply"])]

    refunds = [row for row in effects if row["kind"] == "refund"]
    assert len({row["number"] for row in refunds}) == len(refunds) > 20, "an order was refunded twice"
    assert all(0 < row["amount"] <= prices[row["number"]] for row in refunds)
    approved = {(row["number"], row["amount"]) for row in rows(database, "SELECT * FROM approvals WHERE approved")}
    large = {(row["number"], row["amount"]) for row in refunds if row["amount"] > 100}
    assert large
    assert large <= approved
    reachable = {(ticket["customer"], order) for ticket in TICKETS for order in orders_named(ticket)}
    owners = {row["number"]: row["customer"] for row in rows(database, "SELECT * FROM orders")}
    assert all((owners[row["number"]], row["number"]) in reachable for row in effects)


def orders_named(ticket: dict[str, Any]) -> list[Any]:
    return [ticket["order"], ticket.get("want", {}).get("arguments", {}).get("order")]


def test_the_tickets_are_different(desk):
    """The example would be ten templates with numbers filled in."""
    texts = [re.sub(r"\d+", "", ticket["text"]) for ticket in TICKETS]
    assert len(texts) == len(set(texts)) == 200
    assert len({ticket["language"] for ticket in TICKETS}) >= 5
    assert {ticket["kind"] for ticket in TICKETS} == set(desk.KINDS)


def test_every_ticket_has_an_outcome_that_the_database_bears_out(whole):
    """The example would refund twice, let personal data out, or claim what it did not do."""
    report, database = whole
    check(report.results, database)


def test_the_report_shows_what_was_held_back(whole):
    """The reader would not see guardrails, approvals, refusals, tokens or where the time went."""
    text = str(whole[0])
    for words in (
        *(r"personal_data +\d+ +\d+", r"approve refund +\d+ +\d+", r"run_sql( +-){3} +1", r"tokens in \d"),
        *(r"failed: GuardrailTripped 1", r"by stage: .*plan \d", r"waiting for: .*the provider \d"),
    ):
        assert re.search(words, text), f"no {words!r} in\n{text}"


def test_a_killed_desk_goes_on(desk, whole, tmp_path):
    """After a crash customers would get their money twice, no answer, or another one."""
    store = tmp_path / "run.flatout"
    database = store.with_suffix(".db")
    for share in (0.2, 0.6):
        command = [sys.executable, str(EXAMPLE / "desk.py"), "--store", str(store)]
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
        wait_for(share, process, database)
        assert process.poll() is None, (tmp_path / "said").read_text()
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    before = answered(database)
    assert 0 < before < 200
    report = asyncio.run(desk.run(None, None, store))
    check(report.results, database)
    sent = "SELECT ticket, done, reply, next_action FROM outbox ORDER BY ticket"
    assert rows(database, sent) == rows(whole[1], sent)
    again = asyncio.run(desk.run(None, None, store))
    assert attempts(again) == attempts(report), "a finished run asked again"


def wait_for(share: float, process: subprocess.Popen[bytes], database: Path) -> None:
    """Wait until a share of the tickets is answered, or the process has ended."""
    eventually(lambda: process.poll() is not None or answered(database) >= share * len(TICKETS))


def attempts(report: Any) -> dict[int, int]:
    return {result.index: result.attempts for result in report.results if result.ok}


def answered(database: Path) -> int:
    try:
        return int(rows(database, "SELECT count(*) AS n FROM outbox")[0]["n"])
    except sqlite3.OperationalError:
        return 0  # not made yet
