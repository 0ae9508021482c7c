"""What ``flatout watch`` reads at each look, and the texts and the plot that it makes of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import RunDamaged, StoreError
from flatout.look.facts import Facts, FailedClass, facts_of
from flatout.look.watch import glance as glances
from flatout.look.watch import words
from flatout.look.watch.glance import Glance, Watcher
from flatout.look.watch.plot import CHANGED, LIMIT, PAUSED, draw, what_binds
from flatout.runs.job import CANCELLED
from flatout.store import Item, RunFile, RunReader
from flatout.store.course import Happening, Stretch
from flatout.values.budget import Standing

T = 1_800_000_000.0
KEPT = Path(__file__).parents[1] / "store" / "run_files"


def stretch(second: float, **changes: Any) -> Stretch:
    values: dict[str, Any] = {
        "began_at": T + second,
        "seconds": 1.0,
        "target": "openai/m",
        "sent": 10,
        "answered": 10,
        "refused": 0,
        "failed": 0,
        "in_flight": 3,
        "waiting": 7,
        "held": {"requests": 1.0},
        "allows": {"rpm": 600.0},
        "latency_p50": 0.3,
        "latency_p95": 0.9,
    }
    return Stretch(**{**values, **changes})


def happening(second: float, kind: Any, **changes: Any) -> Happening:
    return Happening(at=T + second, kind=kind, **changes)


def item(index: int, **changes: Any) -> Item:
    values = {"index": index, "fingerprint": bytes(16), "state": "answered", "answer": "x", "finished_at": T + 1}
    return Item(**{**values, "cost": 0.5, "attempts": 1, "provider_seconds": 1.0 + index, **changes})


async def write(place: Path, *items: Item, stretches: int = 0, total: int = 10) -> RunFile:
    """A run file that is open for writing."""
    run = RunFile.open(place, job={}, command="flatout run in.jsonl")
    run.set_total(total)
    for second in range(stretches):
        run.note_stretch(stretch(second))
    for each in items:
        await run.finish(each)
    return run


def glance(facts: Facts | None = None, **changes: Any) -> Glance:
    values: dict[str, Any] = {
        "at": T + 60,
        "facts": facts or Facts(writer="process 7 since 12:00", total=100, finished=40, answered=40, left=60),
        "targets": {"openai/m": [stretch(second) for second in range(60)]},
        "happenings": [],
        "why": [],
        "flying": [],
        "slowest": [],
        "has_course": True,
    }
    return Glance(**{**values, **changes})


# Reading


def test_a_run_is_watched_from_its_start_through_a_kill_to_its_end(tmp_path: Path) -> None:
    """Nobody would see that the process of a run has gone, or that it was taken up again."""
    place = tmp_path / "a.flatout"
    watcher = Watcher(place, clock=lambda: T + 5)

    async def main() -> None:
        run = await write(place, item(0), stretches=4)
        first = watcher.look()
        assert first.facts.running
        assert (first.facts.finished, first.facts.left) == (1, 9)
        assert first.facts.rate == pytest.approx(10.0)
        assert [short.index for short in first.slowest] == [0]
        run.mark("running")  # as a killed process leaves it
        run.close_now()
        gone = watcher.look()
        assert gone.facts.state == "broken off"
        assert gone.facts.rate is None
        run = await write(place, item(1))
        again = watcher.look()
        assert again.facts.running
        assert again.facts.finished == 2
        run.mark("finished")
        run.close_now()
        assert watcher.look().facts.state == "finished"

    asyncio.run(main())


def test_between_two_whole_readings_the_course_says_what_was_spent(tmp_path: Path) -> None:
    """Watching a run of a million rows would stand still, or cost a second of the processor at each look."""
    place = tmp_path / "a.flatout"
    watcher = Watcher(place, clock=lambda: T + 5)

    async def main() -> None:
        run = await write(place, item(0, input_tokens=5), item(1), stretches=2)
        assert watcher.look().facts.finished == 2
        run.note_stretch(stretch(2, answered=3, input_tokens=70, cost=0.25))
        await run.finish(item(2))
        later = watcher.look()
        assert later.facts.finished == 3
        assert (later.facts.input_tokens, later.facts.cost) == (75, 1.25)
        run.close_now()

    asyncio.run(main())


def test_a_look_at_a_large_run_reads_only_the_rows_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen of a million rows would stand still for seconds, or show failures only minutes later."""
    place, now = tmp_path / "a.flatout", [T + 5]
    watcher = Watcher(place, clock=lambda: now[0])
    monkeypatch.setattr(glances, "MOMENT", -1.0)
    counts: list[str] = []
    monkeypatch.setattr(glances, "facts_of", lambda reader: counts.append("") or facts_of(reader))

    async def main() -> None:
        run = await write(place, item(0), stretches=2)
        assert watcher.look().facts.finished == 1
        await run.finish(item(1, state="failed", error="ServerError"))
        now[0] += 3_600
        found = watcher.look().facts
        assert (found.finished, found.failed, [each.error for each in found.errors]) == (2, 1, ["ServerError"])
        assert watcher.due
        watcher.count()
        run.mark("finished")
        run.close_now()
        assert watcher.look().facts.state == "finished"
        assert watcher.due  # once more: it has ended
        watcher.count()
        now[0] += 3_600
        watcher.look()
        assert not watcher.due
        assert len(counts) == 3

    asyncio.run(main())


def test_another_run_in_the_files_place_is_noticed(tmp_path: Path) -> None:
    """The numbers of two runs would be shown as those of one."""
    place = tmp_path / "a.flatout"
    watcher = Watcher(place, clock=lambda: T + 5)

    async def main() -> None:
        (await write(place, item(0), item(1), stretches=5)).close_now()
        assert watcher.look().notice is None
        (await write(tmp_path / "b.flatout", item(0), stretches=1)).close_now()
        place.unlink()
        (tmp_path / "b.flatout").rename(place)
        found = watcher.look()
        assert "another run took the file's place" in (found.notice or "")
        assert found.facts.finished == 1
        assert [len(known) for known in found.targets.values()] == [1]

    asyncio.run(main())


def test_a_file_that_is_gone_or_damaged_is_an_error_of_ours(tmp_path: Path) -> None:
    """The view would end with a traceback."""
    place = tmp_path / "a.flatout"
    with pytest.raises(StoreError, match="there is no run file"):
        Watcher(place).look()
    place.write_bytes(b"nonsense" * 1_000)
    with pytest.raises((RunDamaged, StoreError)):
        Watcher(place).look()


def test_a_file_of_an_earlier_version_is_shown_without_a_course(tmp_path: Path) -> None:
    """A run of last month could not be looked at."""
    place = tmp_path / "old.flatout"
    place.write_bytes((KEPT / "version-6.flatout").read_bytes())
    found = Watcher(place).look()
    assert not found.has_course
    assert found.facts.finished > 0
    assert "earlier flatout" in words.why(found).plain


# Words


def test_the_first_lines_say_how_far_and_how_long() -> None:
    """The first thing that people see would not be what they look for."""
    facts = Facts(writer="process 7 since 12:00", total=1_000, finished=250, answered=240, failed=10, left=750)
    running = glance(facts)
    assert "running (process 7 since 12:00)" in words.headline("a.jsonl", running, 80).plain
    assert len(words.headline("a" * 300, running, 80).plain) <= 80
    line = words.bar(facts, 80).plain
    assert "250 of 1,000 (25 %), 10 failed" in line
    assert len(line) <= 80
    dead = glance(Facts(state="broken off", command="flatout run x", finished=1, left=9, last_finished_at=T))
    assert "broken off: its process has gone; last row 1 min 00 s ago" in words.headline("a", dead, 80).plain
    assert "To continue: flatout run x" in words.why(dead).plain
    budget, errors = Standing("$1", 0.0, 0.0, 0.0), [FailedClass("BudgetExceeded", 9, 2, "", "")]
    held = glance(Facts(state="interrupted", command="flatout run x", left=9, budget=budget, errors=errors))
    assert "To continue, with a larger --budget: flatout run x" in words.why(held).plain


def test_what_is_unknown_is_not_shown_as_zero() -> None:
    """A run of unknown cost would look free of charge."""
    facts = Facts(writer="p", total=10, finished=5, answered=5, left=5, unknown_costs=5)
    shown = words.sums(glance(facts, targets={}), 80).plain
    assert "money     unknown" in shown
    assert "tokens    unknown" in shown
    assert "provider  unknown" in shown


def test_an_unknown_cost_is_not_nothing_before_the_first_row_is_finished() -> None:
    """After its batches were cancelled, a run would look as if nobody had to pay."""
    shown = words.sums(glance(Facts(state="cancelled", unknown_costs=12)), 80).plain
    assert "nothing spent yet" not in shown
    assert "unknown" in shown
    assert "nothing spent yet" in words.sums(glance(Facts()), 80).plain


def test_a_run_whose_batches_were_cancelled_is_not_called_interrupted(tmp_path: Path) -> None:
    """Nobody would know whether the cancelling was done; and a later interrupt would be called cancelled."""
    place = tmp_path / "a.flatout"

    def state(*, cancelled: bool) -> str:
        async def main() -> None:
            async with RunFile.open(place, job={"model": "m"}) as store:
                if cancelled:
                    store.set_fact(CANCELLED, time.time())
                store.mark("interrupted")

        asyncio.run(main())
        with RunReader.open(place) as reader:
            return facts_of(reader).state

    assert [state(cancelled=each) for each in (False, True, False)] == ["interrupted", "cancelled", "interrupted"]


def test_the_cost_at_the_end_is_forecast() -> None:
    """A run that is too dear would be noticed at its end."""
    facts = Facts(writer="p", total=100, finished=25, answered=25, left=75, cost=2.0)
    assert "$2.00, about $8.00 at the end" in words.sums(glance(facts), 80).plain


def test_text_from_outside_cannot_move_the_cursor_or_show_a_key() -> None:
    """A provider's message could paint over the screen, or a key in it be read by others."""
    nasty = "x\x1b[2Jy\u202ez Bearer sk-abcdefghijklmnopqrstuvwx1234567890 " + "long " * 1_000_000
    facts = Facts(errors=[FailedClass("Nasty\x1b", 3, 7, nasty, "")], command=nasty, state="broken off")
    for text in (words.errors(facts, 120, 3), words.why(glance(facts, why=[nasty], notice=None))):
        assert "\x1b" not in text.plain
        assert "\u202e" not in text.plain
        assert "abcdefghijklmnopqrstuvwx" not in text.plain
        assert len(text.plain) < 1_000


# The plot


def plotted(stretches: list[Stretch], *happenings: Happening, height: int = 6) -> tuple[str, list[str]]:
    plot = draw({"openai/m": stretches}, happenings, since=T, until=T + 60, width=68, height=height)
    return plot.title, list(plot.lines)


def test_columns_are_as_high_as_what_was_sent() -> None:
    """A run at half its limit would look as if it used all of it."""
    title, lines = plotted([stretch(second, sent=10 if second < 30 else 5) for second in range(60)])
    assert title == f"Requests a minute · limit 600 {LIMIT}"
    top, _, _, lowest = lines[:4]
    assert top == "    600 " + "█" * 30 + LIMIT * 30
    assert lowest == "      0 " + "█" * 60
    assert lines[1][8:] == "█" * 30 + " " * 30
    assert all(len(line) == 68 for line in lines)


def test_pauses_and_changes_are_marked() -> None:
    """A gap in the plot could not be told from a slow server."""
    title, lines = plotted(
        [stretch(second) for second in range(60)],
        happening(10, "pause", until=T + 20, target="openai/m"),
        happening(30, "down", target="openai/m"),
        happening(40, "back", target="openai/m"),
        happening(50, "change", what="rpm=300"),
    )
    marks = lines[-2][8:]
    assert marks[5] == "─"
    assert marks[10:20] == marks[30:40] == PAUSED * 10
    assert marks[50] == CHANGED
    assert f"{PAUSED} paused" in title


def test_a_limit_far_above_is_named_and_not_drawn() -> None:
    """The columns would be too low to be seen."""
    title, lines = plotted([stretch(second, allows={"rpm": 60_000.0}) for second in range(60)])
    assert title == "Requests a minute · limit 60,000, far above"
    assert lines[0] == "    600 " + "█" * 60


def test_tokens_are_plotted_where_tokens_bind() -> None:
    """The plot would show requests far below their limit, where nothing explains that they are not faster."""
    bound = {"held": {"tokens": 0.9}, "allows": {"rpm": 600.0, "tpm": 9_000.0}}
    targets = {"a": [stretch(0, **bound)], "b": [stretch(0, **bound)]}
    assert what_binds(targets, T) == ("tokens", 18_000.0, False)
    assert what_binds({"a": [stretch(0, pace=3.0)]}, T) == ("requests", 180.0, True)
    assert what_binds({"a": [stretch(0)], "b": [stretch(0, allows={})]}, T) == ("requests", None, False)


def test_a_long_stretch_is_spread_over_its_columns() -> None:
    """Of a run of hours the plot would be a comb."""
    _, lines = plotted([stretch(0, seconds=60.0, sent=600)])
    assert lines[0] == "    600 " + "█" * 60


def test_a_large_run_is_shown_before_its_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at a run of a million rows would look at an empty screen for seconds."""
    place = tmp_path / "a.flatout"
    monkeypatch.setattr(glances, "LARGE", 0)

    async def main() -> None:
        rows = (
            item(index, state="failed", error="ServerError", answer=None) if index > 7 else item(index)
            for index in range(10)
        )
        run = await write(place, *rows, stretches=1)
        watcher = Watcher(place)
        first = watcher.look()
        assert (first.facts.answered, first.facts.failed, first.facts.total) == (8, 2, 10)
        assert first.notice is not None
        assert first.notice.startswith("the rows are being read")
        assert watcher.due
        watcher.count()
        counted = watcher.look()
        assert (counted.facts.answered, counted.facts.failed, counted.notice) == (8, 2, None)
        assert not watcher.due
        run.close_now()

    asyncio.run(main())
