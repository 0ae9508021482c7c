"""``progress=``: what a program's user sees of many calls, wherever the program runs."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
from contextlib import aclosing
from types import SimpleNamespace

import pytest

from flatout import ConfigError
from flatout.progress import Progress
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client, refusal

PROMPTS = [str(number) for number in range(6)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def seconds(prompt: str) -> object:
    """Call n takes n + 1 seconds."""
    return float(prompt) + 1.0


def watched(ask, wire: Wire | None = None, run=run_virtual, **options):
    """Run ``await ask(client, heard)``; return its result and the finished counts that ``heard`` saw."""
    seen: list[tuple[int, int | None]] = []

    def heard(progress: Progress) -> None:
        asyncio.get_running_loop()
        seen.append((progress.finished, progress.total))

    async def main():
        async with client(wire or Wire(seconds), **options) as made:
            result = await ask(made, heard)
            assert not made.events
            return result

    return run(main()), seen


def test_a_function_receives_the_numbers_until_all_is_over():
    """A program's own progress bar would stand still, or never come to its end."""
    results, seen = watched(lambda made, heard: made.gather(PROMPTS, progress=heard))
    assert [result.ok for result in results] == [True] * 6
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    assert seen == sorted(seen)
    assert len(seen) == pytest.approx(6.0 / 0.25, abs=2)


def test_samples_and_models_count():
    """The bar would be full after a third of the answers."""
    _, seen = watched(lambda made, heard: made.gather(PROMPTS, samples=2, models=["a", "b", "c"], progress=heard))
    assert seen[-1] == (36, 36)


def test_a_generator_has_no_end_that_is_known():
    """A made-up percentage would be shown."""
    _, seen = watched(lambda made, heard: made.gather((prompt for prompt in PROMPTS), progress=heard))
    assert seen[-1] == (6, None)


def test_functions_over_items_and_embeddings_have_it_too(tmp_path):
    """The long jobs, agents over many items, would show nothing."""

    async def ask(item, made):
        return (await made.call(item)).text

    async def mapped(made, heard):
        return [result async for result in made.map(ask, PROMPTS, progress=heard)]

    _, seen = watched(mapped)
    assert seen[-1] == (6, 6)

    async def kept(made, heard):
        return [result async for result in made.map(ask, PROMPTS, store=tmp_path / "x.flatout", progress=heard)]

    _, seen = watched(kept, Wire(), asyncio.run)  # a disk has no virtual clock
    assert seen[-1] == (6, 6)


def test_failures_count_as_finished_without_a_run_file():
    """A job with a wrong key would end at 0 %, as if its calls were still to come."""
    last = []
    ask = lambda made, heard: made.gather(PROMPTS, progress=last.append)  # noqa: E731
    watched(ask, Wire(lambda prompt: refusal(401)))
    assert (last[-1].finished, last[-1].failed, last[-1].held) == (6, 6, 0)


def test_only_its_own_calls_are_paid_by_it():
    """Two jobs of one client would each show the cost of both."""
    one: list[Progress] = []
    two: list[Progress] = []

    async def both(made, heard):
        await asyncio.gather(
            made.gather(PROMPTS[:2], progress=one.append), made.gather(PROMPTS[2:], progress=two.append)
        )

    watched(both, config={"prices": {"sim/m": {"input": 1e6, "output": 1e6}}})
    assert [(last.cost, last.input_tokens, last.unpriced) for last in (one[-1], two[-1])] == [(4.0, 2, 0), (8.0, 4, 0)]


def test_a_resumed_job_begins_where_it_was(tmp_path):
    """A thousand answers from the file would be a thousand calls a second, and the rest seem to take no time."""
    place, last = tmp_path / "x.flatout", []

    watched(lambda made, heard: made.gather(PROMPTS[:1], store=place), Wire(), asyncio.run)
    watched(lambda made, heard: made.gather(PROMPTS, store=place, progress=last.append), Wire(), asyncio.run)
    assert (last[-1].resumed, last[-1].answered, last[-1].finished) == (1, 5, 6)


def test_a_broken_function_harms_no_call_and_is_logged_once(caplog):
    """A mistake in somebody's progress bar would cost paid answers, or fill the log."""
    with caplog.at_level(logging.WARNING):
        results, _ = watched(lambda made, heard: made.gather(PROMPTS, progress=lambda progress: 1 / 0))
    assert all(result.ok for result in results)
    assert len(caplog.records) == 1


def test_a_slip_is_told_before_anything_is_sent():
    """Half an hour would pass without the progress that was wished for."""
    wire = Wire()
    with pytest.raises(ConfigError, match="progress is True, False, or a function"):
        watched(lambda made, heard: made.gather(PROMPTS, progress="bar"), wire)
    with pytest.raises(ConfigError, match="progress is an option of many calls"):
        watched(lambda made, heard: made.call("x", progress=True), wire)
    assert wire.prompts == []


def test_elsewhere_than_in_a_terminal_it_is_a_line_now_and_then(monkeypatch):
    """A log file would be full of control characters, or of a line for each answer."""
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    watched(lambda made, heard: made.gather(PROMPTS, progress=True))
    first, last = log.getvalue().splitlines()
    assert first.startswith("4/6 (66 %), ")
    assert last.startswith("6/6 (100 %) · in 6.0 s · ")
    assert "\x1b" not in log.getvalue()


def test_in_a_terminal_a_line_is_updated_and_a_last_one_stays(monkeypatch):
    """What every progress bar does."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    watched(lambda made, heard: made.gather(PROMPTS, progress=True))
    said = terminal.getvalue()
    assert "3/6 (50 %)" in said
    assert said.rindex("\x1b[?25h") < said.rindex("6/6 (100 %) · in 6.0 s")  # the cursor is back before
    assert said.endswith("\n")


def test_two_jobs_at_once_do_not_write_over_each_other(monkeypatch):
    """The terminal would flicker between the numbers of two jobs."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)

    async def both(made, heard):
        await asyncio.gather(made.gather(PROMPTS, progress=True), made.gather(PROMPTS[:5], progress=True))

    watched(both)
    said = terminal.getvalue()
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") == 1
    assert "5/5 (100 %) · in" in said
    assert "6/6 (100 %) · in" in said


def test_a_loop_that_is_left_early_leaves_nothing_behind(monkeypatch):
    """Calls would go on, and a task with them; or the terminal keep half a line."""
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)

    async def first(made, heard):
        async with aclosing(made.as_completed(PROMPTS, progress=True)) as results:
            async for _ in results:
                break
        assert asyncio.all_tasks() == {asyncio.current_task()}

    wire = Wire(seconds)
    watched(first, wire)
    assert wire.cancelled == 5
    assert log.getvalue().startswith("1/6 (16 %) · in 1.0 s")


def test_a_notebook_shows_one_card_that_is_updated(monkeypatch):
    """A cell would be followed by hundreds of lines; or a provider's message run as a script in the notebook."""
    shown, updated = [], []

    def display(card, display_id):
        assert display_id
        shown.append(card)
        return SimpleNamespace(update=updated.append)

    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    evil = refusal(400)
    evil = type(evil)(401, {}, b'{"error": {"message": "<script>alert(1)</script>\\u202e"}}')
    watched(lambda made, heard: made.gather(PROMPTS, progress=True), Wire(seconds))
    watched(lambda made, heard: made.gather(PROMPTS, progress=True), Wire(lambda prompt: evil))
    assert len(shown) == 2
    html = [card._repr_html_() for card in [*shown, *updated]]
    assert 'value="0.5000"' in "".join(html)
    assert any("6/6 (100 %) · in 6.0 s" in each for each in html)
    assert any("stopped" in each for each in html)
    assert not any("<script" in each or "\u202e" in each for each in html)
    assert "6/6 (100 %)" in repr(updated[-1]) or "6/6" in repr(shown[-1])


def test_who_does_not_ask_pays_nothing():
    """Programs would load the terminal's library, and hear events, for nothing."""
    code = "import flatout.client, sys; print([name for name in sys.modules if name.startswith('flatout.progress')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
