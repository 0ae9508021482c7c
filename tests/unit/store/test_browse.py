"""Looking through the rows of a run file: pages, searches, orders."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from flatout.store import Item, RunFile, RunReader
from flatout.store.browse import Browser, Wanted

KEPT = Path(__file__).parent / "run_files"


def item(index: int, **changes: Any) -> Item:
    values: dict[str, Any] = {
        "index": index,
        "id": f"q{index}",
        "fingerprint": bytes(16),
        "input": json.dumps({"kind": "sms" if index % 2 else "mail", "good": index == 4, "n": index}).encode(),
        "prompt": json.dumps({"prompt": f'Is "{index}" fine?'}).encode(),
        "state": "answered",
        "answer": f"Yes, {index}",
        "output": json.dumps({"label": f"l{index % 3}"}).encode(),
        "cost": index / 10,
        "attempts": 1,
        "seconds": 10.0 - index,
        "provider_seconds": float(index),
        "finished_at": 1.0,
    }
    return Item(**{**values, **changes})


SCHEMA = {
    "state": "failed",
    "error": "SchemaMismatch",
    "error_message": "no label",
    "answer": "nonsense",
    "output": None,
}
CUT = {"finish_reason": "length"}
UNKNOWN = {"provider_seconds": None, "seconds": None, "cost": None}


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    place = tmp_path / "a.flatout"

    async def write() -> None:
        async with RunFile.open(place, job={}) as run:
            for each in (item(0), item(1, **SCHEMA), item(2, **CUT), item(4), item(5, **UNKNOWN)):
                await run.finish(each)

    asyncio.run(write())
    return place


def found(place: Path, **wanted: Any) -> list[int]:
    with RunReader.open(place) as reader:
        return [index for part in Browser(reader).matching(Wanted(**wanted)) for index in part]


def test_rows_are_found_by_what_became_of_them(browser: Path) -> None:
    """Who looks for what went wrong would have to read all."""
    assert found(browser) == [0, 1, 2, 4, 5]
    assert found(browser, kind="failed") == found(browser, kind="mismatch") == [1]
    assert found(browser, kind="truncated") == [2]


def test_rows_are_found_by_text(browser: Path) -> None:
    """A word of the question, of the answer, of the error or of the id would not be found."""
    assert found(browser, text="YES, 4") == [4]
    assert found(browser, text='"4" fine') == [4]  # it is written with backslashes in the file
    assert found(browser, text="no label") == found(browser, text="nonsense") == [1]
    assert found(browser, text="q5") == [5]
    assert found(browser, text="%") == []


def test_rows_are_found_by_a_column_or_a_field(browser: Path) -> None:
    """The rows of one kind, or with one label, could not be looked at."""
    assert found(browser, column="kind", value="sms") == [1, 5]
    assert found(browser, column="n", value="4") == found(browser, column="good", value="true") == [4]
    assert found(browser, column="label", value="l2") == [2, 5]
    assert found(browser, column="label", value="l2", kind="truncated") == [2]
    assert found(browser, column="no' such", value="x") == []


def test_rows_are_ordered_by_a_figure_and_unknown_ones_are_left_out(browser: Path) -> None:
    """The slowest and the dearest rows would be hidden among those of which nothing is known."""
    with RunReader.open(browser) as reader:
        look = Browser(reader)
        assert look.highest("provider", Wanted(), 2) == [4, 2]
        assert look.highest("seconds", Wanted(), 10) == [0, 1, 2, 4]
        assert look.highest("cost", Wanted(kind="failed"), 10) == [1]


def test_rows_that_were_held_back_are_not_slow(tmp_path: Path) -> None:
    """The slowest answers of a run whose server was gone would be rows without an answer, each with a few ms."""
    place = tmp_path / "a.flatout"
    held = item(5, state="unsent", error="CircuitOpen", answer=None)

    async def write() -> None:
        async with RunFile.open(place, job={}) as run:
            for each in (item(1), item(2), held):
                await run.finish(each)

    asyncio.run(write())
    with RunReader.open(place) as reader:
        assert Browser(reader).highest("provider", Wanted(), 10) == [2, 1]
        assert [each.index for each in reader.ranked("slowest", 10)] == [2, 1, 5]


def test_a_page_holds_the_beginnings_of_long_texts(tmp_path: Path, browser: Path) -> None:
    """A page of rows with long answers would take all memory."""
    with RunReader.open(browser) as reader:
        first, second = Browser(reader).page(0, 1)
    assert (first.question, first.words) == ('Is "0" fine?', "Yes, 0")
    assert (second.error, second.words) == ("SchemaMismatch", "no label")


def test_of_a_call_that_is_tried_again_the_latest_attempt_is_in_flight(tmp_path: Path) -> None:
    """One call would be shown as several in flight."""

    async def write() -> None:
        async with RunFile.open(tmp_path / "b.flatout", job={}) as run:
            for index, attempt in ((1, 1), (0, 1), (1, 2)):
                await run.note_attempt(index, attempt, "m", float(index + attempt), None)
            with RunReader.open(tmp_path / "b.flatout") as reader:
                flying = Browser(reader).in_flight(10)
            assert [(each.index, each.attempt, each.started_at) for each in flying] == [(0, 1, 1.0), (1, 2, 3.0)]

    asyncio.run(write())


def test_what_has_failed_is_in_flight_no_more(tmp_path: Path) -> None:
    """Rows that wait for their next attempt would be shown as answers that take minutes, though each has a timeout."""

    async def write() -> None:
        async with RunFile.open(tmp_path / "b.flatout", job={}) as run:
            for index, attempt in ((0, 1), (1, 1), (2, 1), (1, 2)):
                await run.note_attempt(index, attempt, "m", float(index + attempt), None)
                if attempt == 1:
                    run.note_failed(index, 1, billed=index > 0)
            await run.note_attempt(3, 1, "m", 9.0, None)  # what is written soon is written before
            with RunReader.open(tmp_path / "b.flatout") as reader:
                for dead, expected in ((False, [(1, 2), (3, 1)]), (True, [(1, 2), (2, 1), (3, 1)])):
                    flying = Browser(reader).in_flight(10, dead=dead)
                    assert [(each.index, each.attempt) for each in flying] == expected

    asyncio.run(write())
    with RunReader.open(tmp_path / "b.flatout") as reader:
        assert len(reader.unsettled().attempts) == 4  # it may be paid for, as long as nobody knows


def test_files_of_earlier_versions_are_looked_through(tmp_path: Path) -> None:
    """After an update nobody could look at the runs of last month."""
    seen = 0
    for kept in sorted(KEPT.glob("version-*.flatout")):
        place = tmp_path / kept.name
        place.write_bytes(kept.read_bytes())
        if place.name == "version-1.flatout":  # it cannot be read at all without an update
            continue
        with RunReader.open(place) as reader:
            look: Browser = Browser(reader)
            assert [each.index for each in look.page(0, 100)] == [
                index for part in look.matching(Wanted()) for index in part
            ]
            look.highest("provider", Wanted(), 3)
            look.in_flight(3)
        seen += 1
    assert seen > 3
