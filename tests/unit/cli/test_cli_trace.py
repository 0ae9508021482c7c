"""`flatout trace` in this process, on run files that are written here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from flatout.cli import main
from flatout.cli import trace as command
from flatout.store import Item, RunFile
from flatout.text.figures import elapsed


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def item(index: int, **changes: Any) -> Item:
    values: dict[str, Any] = {
        "index": index,
        "id": f"q{index}",
        "fingerprint": bytes(16),
        "prompt": b'{"prompt":"Why?"}',
        "state": "answered",
        "answer": "Because.",
        "input_tokens": 10,
        "output_tokens": 2,
        "cost": 0.25 * index,
        "attempts": 1,
        "seconds": 9.0 - index,
        "provider_seconds": 8.5 - index,
        "waits": b'{"first_byte":1.5,"body":0.0001}',
        "finished_at": 1_000.0,
    }
    return Item(**{**values, **changes})


FAILED = {"state": "failed", "answer": None, "error": "RateLimited", "error_message": "too \x1b[31mfast"}


def written(*items: Item, attempts: tuple[tuple[Any, ...], ...] = (), total: int | None = None) -> None:
    async def write() -> None:
        async with RunFile.open("a.jsonl.flatout", job={}, group_seconds=0.0) as run:
            run.set_total(total)
            for attempt in attempts:
                await run.note_attempt(*attempt)
            for one in items:
                await run.finish(one)

    asyncio.run(write())


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["trace", "a.jsonl", *arguments]) == code
    said = capsys.readouterr()
    assert (said.out if code else said.err) == ""
    return said.err if code else said.out


def test_the_slowest_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A user would not know which of ten thousand rows is worth a look."""
    written(item(0), item(1, seconds=None, provider_seconds=None), item(2), item(3, cost=None), item(4, **FAILED))
    first, heading, *rows, last = told(capsys, "--limit", "4").splitlines()
    assert first == "a.jsonl: the slowest 4 of 5 finished rows"
    assert heading.split() == ["row", "id", "provider", "took", "attempts", "cost"]
    assert [row.split()[0] for row in rows] == ["1", "3", "4", "5"]
    assert rows[0].split()[1:] == ["q0", "8.50", "s", "9.00", "s", "1", "$0"]
    assert rows[2].endswith("unknown")
    assert rows[3].endswith("RateLimited: too \\x1b[31mfast")
    assert last == "to see one: flatout trace a.jsonl 1"


def test_a_row_that_only_queued_is_not_the_slowest(capsys: pytest.CaptureFixture[str]) -> None:
    """A user would look for a fault at the provider where the own queue was long."""
    written(item(0, seconds=90.0, provider_seconds=0.5), item(1, seconds=2.0, provider_seconds=1.9))
    assert [row["row"] for row in json.loads(told(capsys, "--json"))["rows"]] == [2, 1]
    longest = json.loads(told(capsys, "--longest", "--json"))["rows"]
    assert [(row["row"], row["seconds"], row["provider_seconds"]) for row in longest] == [(1, 90.0, 0.5), (2, 2.0, 1.9)]


def test_the_costliest_and_the_failed_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown cost would be taken for none, or a row that was held back for an answered one."""
    held = {**FAILED, "state": "unsent"}
    written(item(0), item(1, **FAILED), item(2, cost=None), item(3), item(4, **held))
    facts = json.loads(told(capsys, "--costliest", "--json"))
    assert [(row["row"], row["cost"]) for row in facts["rows"]] == [(5, 1.0), (4, 0.75), (2, 0.25), (1, 0.0), (3, None)]
    facts = json.loads(told(capsys, "--failed", "--json"))
    assert (facts["finished"], facts["failed"], [row["row"] for row in facts["rows"]]) == (5, 2, [2, 5])
    assert "the first 1 of 2 failed rows" in told(capsys, "--failed", "--limit", "1")


def test_nothing_to_list(capsys: pytest.CaptureFixture[str]) -> None:
    """A user would see an empty table, or a traceback, where there is nothing yet."""
    written()
    assert told(capsys) == "no row is finished yet\n"
    assert told(capsys, "--failed") == "no row is finished yet\n"
    written(item(0))
    assert told(capsys, "--failed") == "no row has failed\n"


def test_one_row_as_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A script, or a user without a terminal, could not read a trace."""
    attempts = ((4, 1, "o/m", 995.5, None), (4, 2, "o/m", 999.0, None, None, "ServerError: oh"))
    written(item(4, **FAILED, attempts=2), attempts=attempts)
    first, heading, *rows = told(capsys, "5").splitlines()
    assert (first, heading.split()) == ("a.jsonl.flatout: row 5 (q4)", ["start", "took", "tokens", "cost"])
    assert " ".join(rows[0].split()) == "row 5 5.00 s 10 → 2 $1.00 failed · RateLimited: too \\x1b[31mfast"
    assert rows[1] == "  asked       Why?"
    assert rows[2].split() == ["attempt", "1", "+0.50", "s", "retried", "·", "ServerError:", "oh", "·", "to", "o/m"]
    assert rows[3].split() == ["attempt", "2", "+4.00", "s", "1.00", "s", "failed"]
    assert rows[4] == "  waited for  the provider 1.50 s"
    assert rows[5].startswith("→ state your limits")


def test_a_row_is_found_by_its_number_or_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    """A user who knows a row from a message, or from the input, could not look at it."""
    written(item(0), item(1), item(2, id="1"), item(3, id="same"), item(4, id="same"), item(5, id="88"), total=9)
    assert told(capsys, "q1").startswith("a.jsonl.flatout: row 2 (q1)")
    assert told(capsys, "88").startswith("a.jsonl.flatout: row 6 (88)")
    assert main(["trace", "a.jsonl", "1"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("a.jsonl.flatout: row 1 (q0)")
    assert said.err == "flatout: this is row 1; the id 1 belongs to row 3\n"
    assert "several rows have the id same: 4, 5" in told(capsys, "same", code=2)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("0",), "there is no row 0: rows are counted from 1"),
        (("10",), "there is no row 10: the run has 9 rows"),
        (("9",), "row 9 has not started"),
        (("9" * 30,), "no finished row has the id 999"),
        (("no\x1b[31mbody",), "no finished row has the id no\\x1b[31mbody"),
        (("1", "--failed"), "give one of a row, --slowest, --longest, --failed and --costliest"),
        (("--slowest", "--failed"), "give one of a row"),
        (("--limit", "0"), "invalid value for '--limit'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A user would see a traceback, or another row than the one that was meant."""
    written(item(0), total=9)
    said = told(capsys, *arguments, code=2)
    assert said.startswith(f"flatout: {why}")
    assert said.count("\n") == 1


def test_what_is_no_run_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A user who names the input would see an error of SQLite."""
    Path("a.jsonl").write_text('{"prompt": "x"}\n' * 99)
    assert told(capsys, code=2) == "flatout: a.jsonl is not a run file\n"


def test_a_row_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    """A call that hangs could not be looked at while it hangs."""
    run = RunFile.open("a.jsonl.flatout", job={})
    try:
        asyncio.run(run.note_attempt(0, 1, "o/m", 1.0, 0.5))
        assert "in flight" in told(capsys, "1")
    finally:
        run.close_now()
    said = told(capsys, "1")
    assert "broken off" in said
    assert "lost · its process died · to o/m · it may have cost up to $0.5000" in said


def test_a_trace_for_machines_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt injected into a run file would rewrite what stands on the terminal."""
    written(item(0, answer="\x1b[2J\x9b2J\u202e", id="é\x9b"))
    said = told(capsys, "1", "--json")
    assert said.isascii()
    assert said.rstrip("\n").isprintable()
    facts = json.loads(said)
    assert (facts["row"], facts["id"], facts["trace"]["cost"]) == (1, "é\x9b", 0.0)
    assert facts["trace"]["children"][-1] == {"kind": "answer", "detail": "\x1b[2J\x9b2J\u202e"}
    plain = told(capsys, "1")
    assert "\x1b" not in plain
    assert "\x9b" not in plain


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_a_terminal_gets_a_tree(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal lines would be cut or broken where the tree is drawn."""
    monkeypatch.setattr(command, "is_live", lambda _: True)
    monkeypatch.setenv("COLUMNS", str(width))
    long = {"error_message": "word " * 30 + "\x1b[31m界界", "id": "界" * 20}
    written(item(0, **{**FAILED, **long}), item(1), attempts=((0, 1, "o/[bold]m", 991.5, None),))
    said = told(capsys, "1")
    assert max(map(cell_len, said.splitlines())) <= width
    assert "├── asked" in said
    assert "\x1b" not in said
    if width == 200:
        assert "to o/[bold]m" in said  # data is no markup
    assert max(map(cell_len, told(capsys).splitlines()[1:-1])) <= width
    assert "├" not in told(capsys, "1", "--plain")


def test_short_times_are_told_in_milliseconds() -> None:
    """A call of 12 ms would be shown as 0.0 s."""
    said = [elapsed(seconds) for seconds in (-1.0, 0.0, 0.00001, 0.0004, 0.012, 0.0995, 0.85, 9.994, 9.996, 65.0)]
    assert said == ["0 ms", "0 ms", "0 ms", "0.4 ms", "12 ms", "0.10 s", "0.85 s", "9.99 s", "10 s", "1 min 05 s"]


def test_a_list_of_rows_shows_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that quotes a key would put it on the screen."""
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    written(item(0, state="failed", answer=None, error="Refused", error_message=f"no {key}"))
    for options in ((), ("--json",)):
        said = told(capsys, "--failed", *options)
        assert "Refused" in said
        assert "sk-abc" not in said


def test_a_cost_that_is_in_doubt_is_not_shown_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """``$0`` would stand beside an attempt that may have cost an unknown amount."""
    written(attempts=((0, 1, "o/m", 900.0, None), (1, 1, "o/m", 900.0, 0.5)))
    written(item(0), item(1), item(2))
    _, _, *rows, _ = told(capsys).splitlines()
    assert [row.split()[-1] for row in rows] == ["unknown", "$0.2500", "$0.5000"]
    assert "≥ $0.2500" in rows[1]
    row = told(capsys, "1").splitlines()[2]
    assert " ".join(row.split()) == "row 1 9.00 s 10 → 2 unknown answered"


def test_what_was_not_sent_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A class that only its makers know would stand before each row."""
    held = {"state": "unsent", "answer": None, "error": "CircuitOpen", "error_message": "not sent: s is stopped: no"}
    written(item(0, **held))
    assert told(capsys).splitlines()[2].endswith("  not sent: s is stopped: no")
    assert "unsent · not sent: s is stopped: no" in told(capsys, "1")
    assert "→ mend what stopped it" in told(capsys, "1")
