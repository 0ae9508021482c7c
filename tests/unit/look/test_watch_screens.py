"""The screens of ``flatout watch``, driven by keys in a terminal of Textual's own."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from flatout.cli import main as command
from flatout.cli.tree_text import lines
from flatout.store import Item, RunFile
from flatout.store.browse import Short
from flatout.store.course import Stretch
from flatout.store.gateway import FACT, JOB
from flatout.testing import run_virtual

pytest.importorskip("textual")

from textual.app import ComposeResult
from textual.pilot import Pilot
from textual.widgets import Static

from flatout.look.watch import pages
from flatout.look.watch.app import Watch
from flatout.look.watch.first import FirstScreen
from flatout.look.watch.link import ENOUGH, FIRST, LONGEST, Link
from flatout.look.watch.table import RowsTable, row_text
from flatout.look.watch.terminal import View

ROWS = 300
NASTY = "\x1b[2J\u202e<script>[bold]"


def item(index: int, **changes: Any) -> Item:
    values: dict[str, Any] = {
        "index": index,
        "id": f"q{index}",
        "fingerprint": bytes(16),
        "input": json.dumps({"kind": "sms" if index % 2 else "mail"}).encode(),
        "prompt": json.dumps({"prompt": f"Question {index}?"}).encode(),
        "state": "answered",
        "answer": f"Answer {index} {NASTY}",
        "cost": 0.5,
        "attempts": 1,
        "seconds": 9.0,
        "provider_seconds": float(index),
        "waits": b'{"requests":6.5}',
        "finished_at": 1_800_000_000.0,
    }
    return Item(**{**values, **changes})


async def write(place: Path, count: int = ROWS) -> RunFile:
    run = RunFile.open(place, job={}, command="flatout run in.jsonl")
    run.set_total(count + 5)
    run.note_stretch(
        Stretch(
            began_at=1_800_000_000.0,
            seconds=1.0,
            target="openai/m",
            sent=9,
            answered=9,
            refused=1,
            failed=0,
            in_flight=2,
            waiting=7,
            held={"requests": 1.0},
            allows={"rpm": 600.0},
        )
    )
    failed = {"state": "failed", "error": "SchemaMismatch", "error_message": f"no label {NASTY}"}
    rows = (item(index, **failed) if index in (7, 250) else item(index) for index in range(count))
    await asyncio.gather(*map(run.finish, rows))
    return run


def drawn(pilot: Pilot[None]) -> str:
    """What the screen shows."""
    return "\n".join("".join(each.text for each in strip) for strip in pilot.app.screen._compositor.render_strips())


async def shows(pilot: Pilot[None], *texts: str, holds: Callable[[str], bool] = lambda _: True) -> str:
    """Wait until the screen shows some texts."""
    for _ in range(2_000):
        await pilot.pause(0.02)
        if all(text in (screen := drawn(pilot)) for text in texts) and holds(screen):
            assert "\x1b" not in screen
            assert "\u202e" not in screen
            return screen
    raise AssertionError(f"{texts} never came up:\n{drawn(pilot)}")


@asynccontextmanager
async def watching(place: Path, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Pilot[None]]:
    async with Watch(lambda: place, "a.jsonl", lines, every=0.05).run_test(size=size) as pilot:
        yield pilot


def played(play: Callable[[Pilot[None], RunFile, Path], Any], place: Path, size: tuple[int, int] = (80, 24)) -> None:
    """Watch a run that is being written."""

    async def main() -> None:
        run = await write(place)
        try:
            async with watching(place, size) as pilot:
                await play(pilot, run, place)
        finally:
            run.close_now()

    asyncio.run(main())


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_the_first_screen_has_all_that_is_asked_first(tmp_path: Path, size: tuple[int, int]) -> None:
    """People would look for the progress, the reason, the errors or the keys, and scroll."""

    async def play(pilot: Pilot[None], run: RunFile, place: Path) -> None:
        head = ("300 of 305 (98 %)", "running (process", "Why not faster:", "$150.00", "Rows", "Quit", "? Help")
        rest = ("Requests a minute · limit 600", "2 × SchemaMismatch  row 8: no label", "Slowest answers", "row 300")
        screen = await shows(pilot, *head, *rest)  # Textual lays it out in several steps
        assert len(screen.splitlines()) == size[1]

    played(play, tmp_path / "a.flatout", size)


def test_a_gateway_is_offered_no_rows(tmp_path: Path) -> None:
    """Its run file has none: the keys would lead to an empty table."""
    failures = [{"error": "BudgetExceeded", "calls": 39, "example": f"not sent {NASTY}"}]
    callers = [{"caller": "alice", "calls": 164, "failed": 39}]

    async def main() -> None:
        place = tmp_path / "gateway.flatout"
        run = RunFile.open(place, job=JOB)
        await asyncio.to_thread(run.set_fact_now, FACT, {"callers": callers, "failures": failures})
        async with watching(place) as pilot:
            await shows(pilot, "164 calls, 39 failed", "39 × BudgetExceeded  not sent", "Quit")
            screen = await shows(pilot, "Time", holds=lambda screen: "Rows" not in screen)
            assert not {"Rows", "Failed", "Slowest", "Search"} & set(screen.split())
            await pilot.press("r", "slash")
            assert isinstance(pilot.app.screen, FirstScreen)
        run.close_now()

    asyncio.run(main())


def test_no_more_keys_are_read_after_q(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the view is taken down, it would swallow the first keys of the next command."""
    going: list[bool] = []

    async def play(pilot: Pilot[None], run: RunFile, place: Path) -> None:
        await shows(pilot, "running (process")
        app = pilot.app
        monkeypatch.setattr(app._driver, "disable_input", lambda: going.append(app.is_running))
        await pilot.press("q")

    played(play, tmp_path / "a.flatout")
    assert going[0]


def test_it_says_that_the_process_has_gone_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    """A killed run would look as if it were only slow."""

    async def play(pilot: Pilot[None], run: RunFile, place: Path) -> None:
        await shows(pilot, "running (process")
        run.mark("running")
        run.close_now()
        await shows(pilot, "broken off: its process has gone", "To continue: flatout run in.jsonl")
        again = RunFile.open(place, job={})
        await shows(pilot, "running (process")
        again.close_now()
        await asyncio.to_thread(place.rename, place.with_name("b.flatout"))
        await shows(pilot, "there is no run file", "what was last read")

    async def main() -> None:
        run = await write(tmp_path / "a.flatout")
        async with watching(tmp_path / "a.flatout") as pilot:
            await play(pilot, run, tmp_path / "a.flatout")

    asyncio.run(main())


def test_rows_are_browsed_searched_ordered_and_opened(tmp_path: Path) -> None:
    """The wrong answers could not be found, or not be read."""

    async def play(pilot: Pilot[None], run: RunFile, place: Path) -> None:
        await pilot.press("r")
        await shows(pilot, "305 all rows", "q0", "Answer 0")
        await pilot.press("end")
        await shows(pilot, "q299", "305  ·")
        await pilot.press("f")
        await shows(pilot, "2 rows without an answer", "SchemaMismatch: no", holds=lambda screen: "q9" not in screen)
        await pilot.press("escape", "slash", *"question 29", "enter")
        await shows(pilot, "11 all rows, with “question 29”", "q299")
        await pilot.press("escape", "c", *"kind=sms", "enter")
        await shows(pilot, "150 all rows, with kind = sms", "q1 ")
        await pilot.press("c", *"nonsense", "enter")
        await shows(pilot, "asked for as name=value")
        await pilot.press("escape", "o")
        await shows(pilot, "by the provider's seconds", "q299")
        await pilot.press("enter")
        await shows(pilot, "Row 300 (q299)", "Question 299?", "Answer 299")
        await pilot.press("right")
        await shows(pilot, "Row 299 (q298)")
        await pilot.press("end")
        await shows(pilot, "What happened", "requests per minute")
        await pilot.press("escape", "g", *"250", "enter")
        await shows(pilot, "by the provider's seconds", "q249")
        await pilot.press("question_mark")
        await shows(pilot, "Everywhere")
        await pilot.press("escape", "escape", "escape")
        await shows(pilot, "300 of 305")

    played(play, tmp_path / "a.flatout")


def test_a_row_is_gone_to_from_the_first_screen(tmp_path: Path) -> None:
    """A key that works on the next screen would do nothing here, and say nothing."""

    async def play(pilot: Pilot[None], run: RunFile, place: Path) -> None:
        await shows(pilot, "300 of 305")
        await pilot.press("g", *"9999", "enter")
        await shows(pilot, "there is no row 9999 in this list")
        await pilot.press("g", *"250", "enter")
        await shows(pilot, "q249", holds=lambda screen: "there is no row" not in screen)
        await pilot.press("escape", "slash", *"question 29", "enter")
        await shows(pilot, "11 all rows, with “question 29”")

    played(play, tmp_path / "a.flatout")


def test_it_waits_for_a_run_that_has_not_begun(tmp_path: Path) -> None:
    """Whoever opens it first would look at an error until they start it again."""
    place = tmp_path / "a.flatout"

    async def main() -> None:
        async with watching(place) as pilot:
            await shows(pilot, "There is no run yet")
            place.touch()  # a process creates the file
            await pilot.pause(0.2)
            await shows(pilot, "There is no run yet")
            run = await write(place)
            await shows(pilot, "300 of 305")
            run.close_now()

    asyncio.run(main())


def test_of_an_agent_the_answer_and_the_trace_are_shown(tmp_path: Path) -> None:
    """At 80 × 24, the trace would stand there as pages of JSON, before the tree that people can read."""
    step = {"kind": "tool", "name": "look_up", "started": 0.1, "seconds": 0.5, "input": NASTY}
    outcome = {"answer": "It was sent.", "trace": [step]}

    async def play(pilot: Pilot[None], run: RunFile, place: Path) -> None:
        await run.finish(item(ROWS, answer=None, output=json.dumps(outcome).encode()))
        await pilot.press("r", "g", *str(ROWS + 1), "enter")
        await shows(pilot, f"q{ROWS}")
        await pilot.press("enter")
        screen = await shows(pilot, f"Row {ROWS + 1}", "It was sent.", f"Question {ROWS}?", "What happened", "look_up")
        assert '"trace"' not in screen
        assert max(map(len, screen.splitlines())) <= 80

    played(play, tmp_path / "a.flatout")


def test_it_is_resized_and_left(tmp_path: Path) -> None:
    """A window that becomes narrow would break the view."""

    async def play(pilot: Pilot[None], run: RunFile, place: Path) -> None:
        await shows(pilot, "300 of 305")
        for width, height in ((40, 10), (300, 80), (100, 30)):
            await pilot.resize_terminal(width, height)
            await shows(pilot, "300 of 305")
            await pilot.press("r")
            await shows(pilot, "4.00 s")
            await pilot.press("escape")
        await pilot.press("ctrl+c")
        assert not pilot.app.is_running or pilot.app._exit

    played(play, tmp_path / "a.flatout")


def test_it_is_left_before_it_has_begun_to_read(tmp_path: Path) -> None:
    """Whoever leaves a table at once would see a warning of Python's, of a coroutine that was never awaited."""

    async def play(pilot: Pilot[None], run: RunFile, place: Path) -> None:
        await pilot.press("r")
        await shows(pilot, "4.00 s")
        pilot.app.screen.query_one(RowsTable)._load_soon()
        pilot.app.workers.cancel_all()

    played(play, tmp_path / "a.flatout")
    gc.collect()


def test_a_defect_ends_it_without_showing_anything_of_the_run(tmp_path: Path) -> None:
    """A report with local variables would put prompts and answers on the screen, and into a bug report."""
    app = Watch(lambda: tmp_path / "a.flatout", "a.jsonl", lines)

    async def main() -> None:
        async with app.run_test():
            app._handle_exception(ValueError("a defect"))

    with pytest.raises(ValueError, match="a defect"):
        asyncio.run(main())
    assert str(app.defect) == "a defect"
    assert app._exit_renderables == []


def test_a_terminal_that_is_behind_is_waited_for() -> None:
    """Over a slow link, screens would queue up for minutes, and keys would seem dead meanwhile."""
    held, asked = [0], []

    @contextmanager
    def hold() -> Iterator[None]:
        held[0] += 1
        yield
        held[0] -= 1

    async def main() -> None:
        link = Link(hold)
        link.wrote(ENOUGH - 1, lambda: asked.append(1))
        assert (held, asked) == ([0], [])
        link.wrote(1, lambda: asked.append(1))
        link.wrote(9 * ENOUGH, lambda: asked.append(1))  # the rest of the same screen
        assert (held, asked) == ([1], [1])
        link.answered()
        assert held == [0]
        link.wrote(ENOUGH, lambda: asked.append(1))
        await asyncio.sleep(LONGEST - 1.0)
        assert held == [1]
        await asyncio.sleep(2.0)
        assert held == [0]
        mute = Link(hold)
        mute.wrote(ENOUGH, lambda: asked.append(1))
        await asyncio.sleep(FIRST + 0.1)
        assert held == [0]
        mute.wrote(ENOUGH, lambda: asked.append(1))
        assert (held, len(asked)) == ([0], 3)

    run_virtual(main())


def test_what_changed_while_it_was_held_back_is_drawn() -> None:
    """Over a slow link, the view of a run that stands still would stay black until a key is pressed."""

    class Slow(View):
        drawn = 0

        def compose(self) -> ComposeResult:
            yield Static("before")

        def post_display_hook(self) -> None:
            self.drawn += 1

    async def main() -> None:
        app = Slow("")
        async with app.run_test() as pilot:
            await pilot.pause()
            app._link.wrote(ENOUGH, lambda: None)
            app.query_one(Static).update("after")
            await pilot.pause()
            before = app.drawn
            app._link.answered()
            for _ in range(200):  # not pilot.pause(): it wakes the screen
                await asyncio.sleep(0.01)
                if app.drawn > before:
                    return
        pytest.fail("it was not drawn")

    asyncio.run(main())


def test_a_page_is_read_when_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of a million rows would fill the memory."""
    monkeypatch.setattr(pages, "PAGE", 10)
    monkeypatch.setattr(pages, "KEPT", 2)

    async def main() -> None:
        (await write(tmp_path / "a.flatout", 100)).close_now()
        found = pages.Pages(tmp_path / "a.flatout")
        found.count()
        assert found.size == 105
        for number in (0, 3, 10):
            assert found.at(10 * number) is None
            found.load(number)
            assert found.at(10 * number) is not None
        assert found.at(0) is None
        assert found.at(104) == pages.Row(104, None)
        assert not found.load(10)  # as it was: nothing is drawn
        found.count()
        assert not found.must_load(104)  # nobody works on the run
        run = RunFile.open(tmp_path / "a.flatout", job={})
        found.count()
        assert found.must_load(104)
        await run.finish(item(104))
        assert found.load(10)
        run.close_now()

    asyncio.run(main())


def test_without_textual_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who installed flatout alone would see a traceback."""
    monkeypatch.setitem(sys.modules, "textual", None)
    for name in [name for name in sys.modules if name.startswith(("textual.", "flatout.look.watch"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("flatout.cli.watch.is_live", lambda stream: True)
    assert command(["watch", "a.jsonl"]) == 2
    assert "pip install 'flatout[look]'" in capsys.readouterr().err


def test_without_a_terminal_it_prints_the_state_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe or a job it would wait for keys for ever."""

    async def main() -> None:
        (await write(tmp_path / "a.flatout")).close_now()

    asyncio.run(main())
    assert command(["watch", str(tmp_path / "a.flatout")]) == 0
    assert "300 of 305 (98 %) finished" in capsys.readouterr().out


def test_the_columns_of_a_row_do_not_run_together() -> None:
    """A row that was slow, or cost next to nothing, would read ``held back1 min 41 s$0.0000059``."""
    short = Short(0, None, "unsent", 1, 9.0, 101.0, 0.0000059, None, None, "", "no")
    assert str(row_text(pages.Row(0, short), 80)).strip() == "1  held back 1 min 41 s  $0.0000059  no"
