"""Rows that a person skips, or lets be asked again, while the run goes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from flatout import ConfigError, Limits
from flatout.client.change import Change
from flatout.look.facts import Facts, facts_of
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.runner import Runner
from flatout.runs.skips import Skip
from flatout.runs.steered import SteeredRun
from flatout.store import RunReader
from tests.support.scripted_wire import Wire, client, refusal

Steers = Callable[[Runner, Wire], Awaitable[None]]


def prompt_of(number: int) -> str:
    return f"prompt {number}"


def run(folder: Path, wire: Wire, steer: Steers, *, rows: int = 6, limits: Limits | None = None, **given: Any) -> Any:
    """Run some rows while ``steer`` steers them. Returns the run's end and its runner."""
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps({"id": f"id{n}", "prompt": prompt_of(n)}) + "\n" for n in range(rows)))
    with_client = {"limits": limits or Limits(rpm=600_000), "retries": 0, **given.pop("with_client", {})}
    options = RunOptions(source=str(source), output=str(folder / "out.jsonl"), model="any", **given)

    async def main() -> tuple[RunEnd, Runner]:
        runner = Runner(options, lambda: client(wire, **with_client))
        runner.prepare()
        end, _ = await asyncio.gather(runner.run(), steer(runner, wire))
        return end, runner

    return asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - the run tells nobody
        await asyncio.sleep(0.001)


async def nothing(runner: Runner, wire: Wire) -> None:
    pass


async def facts(runner: Runner) -> Facts:
    """What others see of the run, once its file has what was told to it so far."""
    await asyncio.to_thread(runner.job.store.set_fact_now, "seen", True)
    with RunReader.open(runner.job.run_file) as reader:
        return facts_of(reader)


def states(end: RunEnd) -> list[tuple[str, str | None]]:
    with RunReader.open(end.run_file) as reader:
        return [(item.state, item.error) for item in reader.items()]


@pytest.mark.parametrize("name", [{"index": 2}, {"id": "id2"}], ids=["number", "id"])
@pytest.mark.parametrize("sent", [False, True], ids=["waits", "in flight"])
def test_a_skipped_row_is_over_with_a_name(tmp_path: Path, name: dict[str, Any], sent: bool) -> None:
    """A row that hangs, or that nobody needs any more, would hold the whole run up, or be paid for."""
    release = asyncio.Event()
    rpm = 600_000 if sent else 60

    async def answer(prompt: str) -> Any:
        await release.wait()
        return "yes"

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: wire.active == (6 if sent else 1))
        await asyncio.sleep(0.01)  # the others are waiting for their turn now
        assert runner.skip(Skip(by="ada", **name))
        runner.steer(Change(limits={"rpm": 600_000}), "bob")
        release.set()

    wire = Wire(answer)
    end, runner = run(tmp_path, wire, steer, limits=Limits(rpm=rpm, burst=1.0))
    assert wire.cancelled == sent
    assert (prompt_of(2) in wire.prompts) == sent
    assert states(end) == [("failed", "Skipped") if n == 2 else ("answered", None) for n in range(6)]
    assert (runner.progress.answered, runner.progress.failed, end.unfinished) == (5, 1, 0)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["error"] for row in rows if row["error"]] == ["Skipped: skipped by ada"]
    with RunReader.open(end.run_file) as reader:
        assert reader.course is not None
        told = [(each.what, each.by) for _, each in reader.course.happenings() if each.kind == "change"]
        item = reader.item(2)
        assert item is not None
        assert (item.attempts, item.cost is None) == (sent, sent)  # what was on the wire may be billed
    assert told == [(f"skip row {name.get('id', 3)}", "ada"), ("rpm 600,000", "bob")]


def test_a_row_that_has_not_come_yet_is_skipped_when_it_comes(tmp_path: Path) -> None:
    """Only rows that were read already could be skipped."""
    release = asyncio.Event()

    async def answer(prompt: str) -> Any:
        await release.wait()
        return "yes"

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: wire.active == 1)
        assert not runner.skip(Skip(by="ada", index=198))
        assert not runner.skip(Skip(by="ada", id="id197"))
        with pytest.raises(ConfigError, match="there is no row 201: the run has 200 rows"):
            runner.skip(Skip(by="ada", index=200))
        for name in ("nosuch", "201"):
            with pytest.raises(ConfigError, match=f"no row '{name}': the run has 200 rows, none has that id"):
                runner.skip(Skip(by="ada", id=name))
        release.set()

    wire = Wire(answer)
    end, _ = run(tmp_path, wire, steer, rows=200, limits=Limits(concurrency=1))
    assert [n for n, (_, error) in enumerate(states(end)) if error == "Skipped"] == [197, 198]
    assert len(wire.prompts) == 198


def test_a_skipped_row_stays_skipped_until_somebody_asks_for_it(tmp_path: Path) -> None:
    """The next run would ask and pay for a row that was skipped on purpose; or it could never be asked again."""

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: runner.sent)
        runner.skip(Skip(by="ada", index=0))

    wire = Wire(lambda prompt: 0.05)
    run(tmp_path, wire, steer)
    wire = Wire()
    end, _ = run(tmp_path, wire, nothing)
    assert (wire.prompts, states(end)[0]) == ([], ("failed", "Skipped"))
    end, _ = run(tmp_path, wire, nothing, retry_failed=True)
    assert (wire.prompts, states(end)[0]) == ([prompt_of(0)], ("answered", None))


def test_failed_rows_are_asked_again_while_the_run_goes(tmp_path: Path) -> None:
    """Whoever has mended what made rows fail would have to wait for the end of the run, or stop it."""
    broken, hold = [True], asyncio.Event()

    async def answer(prompt: str) -> Any:
        if prompt == prompt_of(5):
            await hold.wait()
        elif broken[0] and prompt != prompt_of(0):
            return refusal(400)
        return "yes"

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: runner.progress.failed == 4)
        broken[0] = False
        assert runner.ask_again(failed=True) == 4
        runner.ask_again(failed=True)  # once more, while they are under way
        await until(lambda: runner.progress.answered == 5)
        assert (runner.progress.failed, runner.progress.failures) == (0, {})
        hold.set()

    wire = Wire(answer)
    end, runner = run(tmp_path, wire, steer)
    asked = Counter(wire.prompts)
    assert asked == {prompt_of(n): 2 if 1 <= n <= 4 else 1 for n in range(6)}
    assert states(end) == [("answered", None)] * 6
    assert (runner.progress.answered, runner.progress.failed, end.unfinished) == (6, 0, 0)


def test_rows_that_failed_in_an_earlier_process_are_asked_again_too(tmp_path: Path) -> None:
    """The answer to retry-failed would depend on when a row failed, or the counters would count it twice."""
    bad = {prompt_of(1), prompt_of(190)}
    run(tmp_path, Wire(lambda prompt: refusal(400) if prompt in bad else "yes"), nothing, rows=200)
    release = asyncio.Event()

    async def answer(prompt: str) -> Any:
        if prompt == prompt_of(200):
            await release.wait()
        return "yes"

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: wire.active == 1)
        runner.ask_again(failed=True)
        await until(lambda: len(wire.prompts) == 3)
        release.set()

    wire = Wire(answer)
    end, runner = run(tmp_path, wire, steer, rows=201)
    assert sorted(wire.prompts) == sorted([*bad, prompt_of(200)])
    assert [state for state, _ in states(end)] == ["answered"] * 201
    progress = runner.progress
    assert (progress.resumed, progress.failed_before, progress.answered) == (198, 0, 3)


def test_a_skipped_row_is_asked_by_retry_failed_in_the_same_run(tmp_path: Path) -> None:
    """It would be skipped at once again, for ever."""
    release = asyncio.Event()

    async def answer(prompt: str) -> Any:
        await release.wait()
        return "yes"

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: wire.active == 6)
        runner.skip(Skip(by="ada", id="id0"))
        runner.skip(Skip(by="ada", index=1))
        await until(lambda: runner.progress.failed == 2)
        assert (await facts(runner)).finished == 2
        runner.ask_again(failed=True)
        await until(lambda: wire.active == 6)
        told = await facts(runner)  # the file still has their failures
        assert (told.finished, told.left, told.errors) == (0, 6, [])
        release.set()

    end, _ = run(tmp_path, Wire(answer), steer)
    assert states(end) == [("answered", None)] * 6


def test_stop_ends_a_run_that_asks_rows_again(tmp_path: Path) -> None:
    """The run could not be stopped any more."""

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: runner.progress.failed == 5)
        runner.ask_again(failed=True)
        runner.stop()
        runner.stop()

    hang = asyncio.Event()

    async def answer(prompt: str) -> Any:
        if prompt == prompt_of(0):
            await hang.wait()
        return refusal(400)

    end, _ = run(tmp_path, Wire(answer), steer)
    assert end.interrupted
    assert [state for state, _ in states(end)] == ["failed"] * 5


def test_a_raised_budget_lets_a_run_go_on_that_waits_for_money(tmp_path: Path) -> None:
    """Whoever sees in time that the money will not do would have to wait for the end of the run, and begin another."""
    release = asyncio.Event()

    async def answer(prompt: str) -> Any:
        await release.wait()
        return "yes"

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: wire.active)
        await asyncio.sleep(0.02)
        assert wire.active < 6
        SteeredRun(runner, "a", asyncio.get_running_loop().time)({"do": "set", "budget": 9, "by": "ada"})
        await until(lambda: wire.active == 6)
        told = await facts(runner)
        assert told.budget is not None
        assert told.budget.budget == "$9"
        release.set()

    prices = {"prices": {"sim/any": {"input": 1_000.0, "output": 2_000.0}}}
    options = {"config": prices, "budget": 0.16}
    end, _ = run(tmp_path, Wire(answer), steer, with_client=options, params={"max_tokens": 1})
    assert states(end) == [("answered", None)] * 6
    with RunReader.open(end.run_file) as reader:
        assert reader.course is not None
        told = [(each.what, each.by) for _, each in reader.course.happenings() if each.kind == "change"]
    assert told == [("budget $9", "ada")]


def test_rows_that_an_earlier_process_held_back_are_not_shown_as_held_back_while_they_are_asked(tmp_path: Path) -> None:
    """Whoever has raised the budget would read that it has no room, of a run that goes."""
    prices = {"config": {"prices": {"sim/any": {"input": 1_000.0, "output": 2_000.0}}}}
    run(tmp_path, Wire(), nothing, with_client={**prices, "budget": 0.05}, params={"max_tokens": 1})
    release = asyncio.Event()

    async def answer(prompt: str) -> Any:
        await release.wait()
        return "yes"

    async def steer(runner: Runner, wire: Wire) -> None:
        await until(lambda: wire.active)
        told = await facts(runner)
        assert (told.unsent, told.errors) == (0, [])
        release.set()

    wire = Wire(answer)
    run(tmp_path, wire, steer, with_client={**prices, "budget": 9}, params={"max_tokens": 1})
    assert wire.prompts
