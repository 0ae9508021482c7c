"""What a live page is told, and which rows it gets: from run files, on a virtual clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import structs

from flatout.look.report.model import Report
from flatout.look.watch import glance
from flatout.look.web import listing as listings
from flatout.look.web.feed import EVERY, STILL, Feed
from flatout.look.web.listing import Listing, Query
from flatout.look.web.live import SHARE, LiveRun
from flatout.store import RunFile
from flatout.store.browse import Browser
from flatout.testing import run_virtual
from tests.support.report_runs import BEGAN, FAILED, TARGET, course, row, rows, written

# What is told


class Counted:
    """A run of which each look says something new, or nothing."""

    def __init__(self, *, moves: bool = True, due: bool = False) -> None:
        self.looks = self.readings = 0
        self.moves = moves
        self.due = due

    def look(self) -> Report:
        self.looks += 1
        return Report(title=str(self.looks if self.moves else 0), made_at=0.0, version="", runs=())

    def read_rows(self) -> None:
        self.readings += 1
        self.due = False


def fed(run: Counted, scenario: Callable[[Feed], Any]) -> None:
    async def main() -> None:
        feed = Feed(run)
        looks = asyncio.create_task(feed.run())
        try:
            await scenario(feed)
        finally:
            looks.cancel()
            await asyncio.gather(looks, return_exceptions=True)

    run_virtual(main())


async def listen(feed: Feed, seconds: float, reads_in: float = 0.0) -> list[bytes]:
    """What a page hears in a time, if it takes a while for each piece."""
    heard: list[bytes] = []
    try:
        async with asyncio.timeout(seconds):
            async for news in feed.listen():
                heard.append(news)
                await asyncio.sleep(reads_in)
    except TimeoutError:
        pass
    return heard


def test_a_hundred_pages_cost_one_look_a_second() -> None:
    """The more people look at a run, the more they would slow the machine that it runs on."""
    run = Counted()

    async def scenario(feed: Feed) -> None:
        heard = await asyncio.gather(*(listen(feed, 10 * EVERY + 0.5) for _ in range(100)))
        assert 10 <= run.looks <= 11
        assert {tuple(each) for each in heard} == {tuple(heard[0])}
        assert len(heard[0]) == run.looks
        for _ in range(50):
            await feed.latest()  # fifty browsers open the page
        assert run.looks <= 12

    fed(run, scenario)


def test_a_page_that_nobody_looks_at_costs_nothing() -> None:
    """A server that was forgotten would read the run file for ever."""
    run = Counted(due=True)

    async def scenario(feed: Feed) -> None:
        await asyncio.sleep(3_600)
        assert (run.looks, run.readings) == (0, 0)
        await listen(feed, 2.5)
        looks = run.looks
        await asyncio.sleep(3_600)
        assert run.looks <= looks + 1
        assert run.readings == 1

    fed(run, scenario)


def test_a_slow_page_gets_the_latest_news_and_holds_nobody_up() -> None:
    """Over a slow line, a page would lag ever further behind, and fill the memory."""
    run = Counted()

    async def scenario(feed: Feed) -> None:
        slow, fast = await asyncio.gather(listen(feed, 20.5, reads_in=5.0), listen(feed, 20.5))
        assert len(slow) <= 5
        assert json.loads(slow[-1])["title"] in (json.loads(each)["title"] for each in fast[-7:])
        assert len(fast) >= 20

    fed(run, scenario)


def test_without_news_nothing_is_sent_but_a_sign_of_life() -> None:
    """A finished run would be sent again each second; or a page that has gone would never be noticed."""
    run = Counted(moves=False)

    async def scenario(feed: Feed) -> None:
        heard = await listen(feed, 3 * STILL + 2)
        assert [bool(each) for each in heard] == [True, False, False, False]

    fed(run, scenario)


# What is known


async def begun(place: Path, count: int, first: int = 0) -> RunFile:
    run = RunFile.open(place, job={"model": TARGET}, command="flatout run in.jsonl")
    run.set_total(20)
    for stretch in course(5):
        run.note_stretch(stretch)
    for item in list(rows(count))[first:]:
        await run.finish(item)
    return run


def test_a_run_is_followed_from_before_its_start_through_a_kill_to_its_end(tmp_path: Path) -> None:
    """The page would show nothing of a run that begins later, or go on as if a killed run lived."""
    place, now = tmp_path / "a.flatout", [BEGAN + 6]
    live = LiveRun("a", lambda: place, clock=lambda: now[0])

    def seen() -> tuple[str, Any]:
        report = live.look()
        assert report.served is not None
        return report.runs[0].state, report.served.done

    async def main() -> None:
        assert seen() == ("waiting", None)
        place.touch()  # a process creates the file
        assert seen() == ("waiting", None)
        assert not live.due
        run = await begun(place, 5)
        assert seen() == ("running", 0.25)
        assert live.due
        live.read_rows()
        assert not live.due
        assert {each.name for each in live.look().runs[0].plots} >= {"requests", "latency", "money"}
        run.mark("running")  # as a killed process leaves it
        run.close_now()
        assert seen() == ("broken off", 0.25)
        assert live.due  # its last rows were perhaps not among those that were read
        live.read_rows()
        run = await begun(place, 20, first=5)
        assert seen() == ("running", 1.0)
        run.mark("finished")
        run.close_now()
        assert seen()[0] == "finished"
        live.read_rows()
        assert live.look() == live.look()
        assert not live.due

    asyncio.run(main())


def test_the_time_axis_of_a_dead_run_ends_with_it(tmp_path: Path) -> None:
    """An hour after a kill in the first second, every plot would be an hour wide and empty."""
    place = tmp_path / "a.flatout"

    async def main() -> None:
        run = RunFile.open(place, job={"model": TARGET}, command="flatout run in.jsonl")
        await run.finish(structs.replace(row(0, Random(1)), finished_at=time.time()))
        await run.finish(structs.replace(row(1, Random(1)), finished_at=time.time() + 2.5))
        run.mark("running")
        run.close_now()

    asyncio.run(main())
    live = LiveRun("a", lambda: place, clock=lambda: time.time() + 3_600)
    live.look()
    live.read_rows()
    plots = [plot for plot in live.look().runs[0].plots if plot.x_is == "time"]
    assert plots
    assert all(plot.x[-1] <= 4.0 for plot in plots)


def test_what_is_in_flight_is_told_by_its_age(tmp_path: Path) -> None:
    """A call that hangs could be found in the terminal, and not on the page."""
    place, now = tmp_path / "a.flatout", [BEGAN + 8.5]
    live = LiveRun("a", lambda: place, clock=lambda: now[0])

    async def main() -> None:
        run = await begun(place, 5)
        for index, age in ((7, 3.5), (8, 4.0)):
            await run.note_attempt(index, 1, TARGET, now[0] - age, None)
        served = live.look().served
        assert served is not None
        assert served.flying is not None
        assert served.flying.rows == (("9", "4.00 s", 1, TARGET), ("8", "3.50 s", 1, TARGET))
        assert served.flying.title.startswith("In flight: ")
        run.mark("running")
        run.close_now()
        dead = live.look().served
        assert dead is not None
        assert dead.flying is None

    asyncio.run(main())


def test_all_rows_are_read_the_less_often_the_longer_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a run of a million rows would keep a processor busy."""
    place, now = tmp_path / "a.flatout", [BEGAN]
    live = LiveRun("a", lambda: place, clock=lambda: now[0])
    ticks = iter(range(0, 1_000, 10))
    monkeypatch.setattr("flatout.look.web.live.time.perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(glance, "MOMENT", 100.0)  # the counts are up to date
    monkeypatch.setattr(glance, "SHARE", 1)

    async def main() -> None:
        run = await begun(place, 5)
        live.look()
        live.read_rows()  # takes ten seconds
        await run.finish(row(7, Random(1)))
        run.note_stretch(next(iter(course(1))))
        now[0] += SHARE * 10 - 1
        live.look()
        assert not live.due
        now[0] += 2
        live.look()
        assert live.due
        run.close_now()

    asyncio.run(main())


def test_a_file_that_goes_leaves_what_was_known(tmp_path: Path) -> None:
    """The page would be empty when the file is moved away, or show old figures without a word."""
    place = written(tmp_path / "a.flatout", rows(5), total=5)
    live = LiveRun("a", lambda: place)
    known = live.look()
    place.unlink()
    gone = live.look()
    assert gone.runs == known.runs
    assert gone.served is not None
    assert gone.served.trouble.startswith("there is no run file")
    assert gone.served.rows
    live.read_rows()


# Rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    items = list(rows(300))
    items[7] = row(7, Random(7), **{**FAILED, "error": "SchemaMismatch", "error_message": "label is missing"})
    items[8] = row(8, Random(8), id="eight", attempts=3)
    return written(tmp_path_factory.mktemp("web") / "a.flatout", items, total=310)


def numbers(listing: Listing, begin: int = 0, most: int = 500, **given: str) -> list[int]:
    found = listing.some(Query.of(given), begin, most)
    return [each["key"] for each in found["rows"]]


def test_rows_are_found_by_what_they_are(place: Path) -> None:
    """Nobody would find the failed ones, those of one class of error, or a certain one, among a million."""
    listing = Listing(lambda: place)
    failed = [one.index for one in rows(300) if one.error or one.index == 7]
    assert numbers(listing, filter="failed") == failed
    assert numbers(listing, filter="error:SchemaMismatch") == [7]
    assert 8 in numbers(listing, filter="retried")
    assert numbers(listing, sought="EIGHT") == [8]
    assert numbers(listing, column="text=nothing like that") == []
    spam = numbers(listing, column="label = spam", most=100)
    assert spam
    assert numbers(listing, column="label = spam", filter="retried") == [
        one for one in numbers(listing, filter="retried") if one in set(numbers(listing, column="label=spam"))
    ]
    assert numbers(listing, sought="120")[0] == 119  # the row with that number comes first
    assert numbers(listing, sought="120").count(119) == 1
    assert numbers(listing, begin=20, most=3) == [20, 21, 22]
    assert numbers(listing, begin=0, most=3, down="1") == [309, 308, 307]
    assert Listing(lambda: None).some(Query(), 0, 10) == {"total": 0, "more": False, "rows": []}


@pytest.mark.parametrize("name", ["seconds", "provider", "attempts", "cost"])
def test_rows_are_ordered_by_a_figure_both_ways(place: Path, name: str) -> None:
    """The slowest, or the cheapest, could not be found."""
    listing = Listing(lambda: place)
    for down in ("0", "1"):
        found = listing.some(Query.of({"by": name, "down": down}), 0, 100)
        figures = [each["figures"][name] for each in found["rows"]]
        assert len(figures) == 100
        assert figures == sorted(figures, reverse=down == "1")


def test_a_question_that_makes_no_sense_is_refused() -> None:
    """A page would get other rows than it asked for."""
    for given in ({"filter": "x"}, {"by": "answer; DROP TABLE items"}, {"column": "label"}):
        with pytest.raises(ValueError, match=r"there is no filter|cannot be ordered|name=value"):
            Query.of(given)


def test_a_long_search_is_done_in_slices_and_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One search among a million rows would hold up everybody for seconds, once for each page of it."""
    monkeypatch.setattr("flatout.store.browse._CHUNK", 100)
    searched: list[int] = []
    chunks = Browser.chunks

    def counted(self: Browser, *given: Any) -> Any:
        for each in chunks(self, *given):
            searched.append(each[0])
            now[0] += listings.SLICE  # each hundred rows take as long
            yield each

    monkeypatch.setattr(Browser, "chunks", counted)
    now = [0.0]
    listing, query = Listing(lambda: place, clock=lambda: now[0]), Query.of({"sought": "parcel"})
    found = [listing.some(query, 0, 25) for _ in range(5)]
    assert [each["more"] for each in found] == [True, True, True, False, False]
    assert [each["total"] for each in found] == sorted(each["total"] for each in found)
    assert searched == [99, 199, 299]
    now[0] += 10_000
    listing.some(query, 25, 25)
    assert searched == [99, 199, 299]  # the run is over: nothing can have changed


def test_a_search_is_renewed_while_the_run_goes(tmp_path: Path) -> None:
    """The failed rows of a live run would be those of the moment at which somebody first asked."""
    place, now = tmp_path / "a.flatout", [0.0]
    listing = Listing(lambda: place, clock=lambda: now[0])

    async def main() -> None:
        run = await begun(place, 0)
        await run.note_attempt(4, 1, TARGET, BEGAN, 0.1)
        await run.finish(row(1, Random(1), **FAILED))
        assert numbers(listing, filter="failed") == [1]
        await run.finish(row(3, Random(1), **FAILED))
        assert numbers(listing, filter="failed") == [1]
        now[0] += listings.FRESH
        assert numbers(listing, filter="failed") == [1, 3]
        states = [each["figures"]["state"] for each in listing.some(Query(), 0, 6)["rows"]]
        assert states == ["not finished", "failed", "not finished", "failed", "in flight", "not finished"]
        opened = listing.one(4)
        assert opened is not None
        assert [node["kind"] for node in opened["trace"]] == ["attempt"]
        run.mark("finished")  # its process is there for another moment, and has nothing more to tell
        await run.finish(row(5, Random(1), **FAILED))  # both are written then
        assert numbers(listing, filter="failed") == [1, 3, 5]
        run.close_now()
        assert numbers(listing, filter="failed") == [1, 3, 5]

    asyncio.run(main())
