"""`Client.map` with a run file: functions that pay for no call twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flatout import CallError, ConfigError, Exited, InvalidRequest, Limits, Result, RunMismatch
from flatout.store import RunFile, RunReader
from flatout.testing import digest_of
from tests.support.scripted_wire import Wire, client, refusal


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are not gathered: with so few calls there is nothing to wait for."""
    monkeypatch.setitem(RunFile.open.__func__.__kwdefaults__, "group_seconds", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.flatout"


class Stop(BaseException):
    """Ends a run as a crash would: no function can handle it."""


def run(function: Any, items: Any, path: Path, wire: Wire, **options: Any) -> list[Result[Any]]:
    async def main() -> list[Result[Any]]:
        async with client(wire, limits=Limits(rpm=600_000)) as made:
            results = [result async for result in made.map(function, items, store=path, **options)]
            return sorted(results, key=lambda result: result.index)

    return asyncio.run(main())


def crash(function: Any, items: Any, path: Path, wire: Wire) -> None:
    with pytest.raises(Stop):
        run(function, items, path, wire)


async def three(item: str, made: Any) -> list[str]:
    return [(await made.call(f"{item} {step}")).text for step in range(3)]


def stopping_at(prompt: str) -> Wire:
    def answer(asked: str) -> str:
        if asked == prompt:
            raise Stop
        return digest_of(asked)

    return Wire(answer)


def test_a_half_finished_item_pays_for_the_rest_alone(path):
    """A function of ten calls that dies at the ninth would pay for all ten again."""
    crash(three, ["a"], path, stopping_at("a 2"))
    wire = Wire()
    results = run(three, ["a", "b"], path, wire)
    assert sorted(wire.prompts) == ["a 2", "b 0", "b 1", "b 2"]
    assert results[0].output == [digest_of(f"a {step}") for step in range(3)]
    assert (results[0].attempts, results[0].item) == (3, "a")
    wire = Wire()
    again = run(three, ["a", "b"], path, wire)
    assert not wire.prompts
    assert [(r.output, r.item, r.attempts) for r in again] == [(r.output, r.item, r.attempts) for r in results]


class Pet(BaseModel):
    name: str


def test_a_kept_answer_has_its_output_again(path):
    """A resumed function would get None where it got an object, and fail at it."""

    async def pet(item: str, made: Any) -> str:
        found = (await made.call(item, output=Pet)).output
        assert isinstance(found, Pet)
        await made.call("then stop")
        return found.name

    def answer(prompt: str) -> str:
        if prompt == "then stop":
            raise Stop
        return '{"name": "Rex"}'

    crash(pet, ["a pet"], path, Wire(answer))
    wire = Wire()
    assert run(pet, ["a pet"], path, wire)[0].output == "Rex"
    assert wire.prompts == ["then stop"]


async def fanned(item: int, made: Any) -> list[str]:
    async def branch(name: str) -> list[str]:
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
        return [(await made.call(f"{item} {name} {step}")).text for step in range(3)]

    first = await asyncio.gather(*(branch(name) for name in "abc"))
    last = await made.gather([f"{item} end {step}" for step in range(4)])
    return [*(text for texts in first for text in texts), *(result.text for result in last)]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_parallel_calls_find_their_own_answers(tmp_path_factory, data):
    """Answers of calls that ran in parallel would be swapped, or be paid again because their order changed."""
    path = tmp_path_factory.mktemp("map") / "map.flatout"
    prompts = [f"{item} {name} {step}" for item in (0, 1) for name in ("a", "b", "c", "end") for step in range(3)]
    seen: list[str] = []
    for stop in data.draw(st.lists(st.sampled_from(prompts), max_size=3)):
        wire = stopping_at(stop)
        with contextlib.suppress(Stop):
            run(fanned, [0, 1], path, wire)
        seen += wire.prompts
    wire = Wire()
    results = run(fanned, [0, 1], path, wire)
    for item, result in enumerate(results):
        asked = [f"{item} {name} {step}" for name in "abc" for step in range(3)] + [f"{item} end {s}" for s in range(4)]
        assert result.output == [digest_of(prompt) for prompt in asked]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM journal").fetchone() == (26,)
        assert connection.execute("SELECT count(*) FROM attempts WHERE outcome IS NULL").fetchone() == (0,)


def test_equal_calls_are_journalled_apart(path):
    """Five samples of one prompt would all become the first one."""
    numbers = iter(range(100))

    async def samples(item: str, made: Any) -> list[str]:
        found = [(await made.call("roll")).text for _ in range(3)]
        if stop:
            raise Stop
        return [*found, (await made.call("roll")).text]

    stop = True
    crash(samples, ["x"], path, Wire(lambda _: str(next(numbers))))
    stop = False
    assert run(samples, ["x"], path, Wire(lambda _: str(next(numbers))))[0].output == ["0", "1", "2", "3"]


def test_another_call_at_the_same_place_is_refused(path):
    """An item would be made of two versions of the function, and nobody told."""
    crash(three, ["a"], path, stopping_at("a 2"))

    async def three_(item: str, made: Any) -> list[str]:
        return [(await made.call(f"{item} {step}", temperature=step or None)).text for step in range(3)]

    three_.__qualname__ = three.__qualname__
    wire = Wire()
    with pytest.raises(RunMismatch, match=r"item 1, call 2, parameter temperature: was null, is now 1"):
        run(three_, ["a"], path, wire)
    assert not wire.prompts

    async def swallows(item: str, made: Any) -> str:
        with contextlib.suppress(Exception):
            await made.call("something else")
        return "fine"

    swallows.__qualname__ = three.__qualname__
    with pytest.raises(RunMismatch, match='parameter prompt: was "a 0", is now "something else"'):
        run(swallows, ["a"], path, wire)


def test_a_parallel_call_that_is_missing_is_told(path):
    """A changed function would pay again in silence."""
    crash(fanned, [0], path, stopping_at("0 end 0"))

    async def fanned_(item: int, made: Any) -> str:
        await made.gather([f"{item} new {step}" for step in range(2)])
        return "done"

    fanned_.__qualname__ = fanned.__qualname__
    with pytest.warns(RuntimeWarning, match="item 1 made call 1 before .* and not this time"):
        results = run(fanned_, [0], path, Wire())
    assert results[0].output == "done"


def test_other_items_or_another_function_are_refused(path):
    """What was extracted from one document would be handed out as another's."""
    run(three, [{"text": "a"}, {"text": "b"}], path, Wire())
    with pytest.raises(RunMismatch, match='row 2, column text: was "b", is now "c"'):
        run(three, [{"text": "a"}, {"text": "c"}], path, Wire())
    with pytest.raises(RunMismatch, match="function was 'three', is now 'fanned'"):
        run(fanned, [{"text": "a"}], path, Wire())


def test_a_failed_call_fails_again_without_being_asked(path):
    """A function that copes with a failure would take another way when it goes on."""
    stop = True

    async def copes(item: str, made: Any) -> str:
        try:
            await made.call("bad")
        except InvalidRequest as error:
            text = str(error)
        if stop:
            raise Stop
        return text

    wire = Wire(lambda prompt: refusal(400))
    crash(copes, ["x"], path, wire)
    stop = False
    first = run(copes, ["x"], path, wire)
    assert first[0].ok
    assert wire.prompts == ["bad"]


def test_failed_items_are_kept_or_run_again(path):
    """A passing failure could not be mended, or a hopeless item cost in every run."""
    good = False

    async def two(item: str, made: Any) -> str:
        await made.call("fine")
        return (await made.call("shaky")).text

    wire = Wire(lambda prompt: refusal(400) if prompt == "shaky" and not good else digest_of(prompt))
    assert isinstance(run(two, ["x"], path, wire)[0].error, InvalidRequest)
    good = True
    kept = run(two, ["x"], path, wire)[0]
    assert isinstance(kept.error, InvalidRequest)
    assert kept.reply is None
    assert wire.prompts == ["fine", "shaky"]
    assert run(two, ["x"], path, wire, retry_failed=True)[0].output == digest_of("shaky")
    assert wire.prompts == ["fine", "shaky", "shaky"]


def test_what_a_function_s_calls_cost_counts_once(path):
    """A budget would be used up by replays that cost nothing, or not know of calls in items that never finished."""
    stop = True
    prices = {"prices": {"sim/m": {"input": 1_000.0, "output": 2_000.0}}}

    async def three_calls(item: str, made: Any) -> str:
        for step in ("one", "two"):
            await made.call(step)
        if stop:
            raise Stop
        return (await made.call("three")).text

    def asked(wire: Wire) -> None:
        async def main() -> None:
            async with client(wire, limits=Limits(rpm=600_000), config=prices) as made:
                async for _ in made.map(three_calls, ["x"], store=path):
                    pass

        asyncio.run(main())

    with pytest.raises(Stop):
        asked(Wire())
    with RunReader.open(path) as reader:
        assert reader.spent() == pytest.approx(2 * 0.003)
    stop = False
    asked(Wire())
    with RunReader.open(path) as reader:
        assert reader.spent() == pytest.approx(3 * 0.003)
        assert reader.summary().cost == pytest.approx(3 * 0.003)


def test_a_functions_own_error_is_a_result(path):
    """One document that cannot be parsed would end the run."""

    async def fails(item: str, made: Any) -> None:
        raise ValueError("no such field")

    assert isinstance(run(fails, ["x"], path, Wire())[0].error, ValueError)
    kept = run(fails, ["x"], path, Wire())[0].error
    assert type(kept) is CallError
    assert str(kept) == "ValueError: no such field"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_function_that_ends_the_program_leaves_the_others_in_the_file(path, kind):
    """Answers that were paid for would be lost with the program; or its item end it again, each time it is resumed."""
    ends = True
    gone = asyncio.Event()

    async def ask(item: str, made: Any) -> str:
        if item == "b" and ends:
            gone.set()
            raise kind(3)
        await gone.wait()
        return (await made.call(item)).text

    wire = Wire()
    with pytest.raises(kind):
        run(ask, ["a", "b", "c"], path, wire)
    with RunReader.open(path) as reader:
        states = [item.state for item in reader.items()]
    assert states == ["answered", "failed" if kind is SystemExit else "unsent", "answered"]
    ends = False
    results = run(ask, ["a", "b", "c"], path, wire)
    assert sorted(wire.prompts) == (["a", "c"] if kind is SystemExit else ["a", "b", "c"])
    assert [result.ok for result in results] == [True, kind is KeyboardInterrupt, True]
    if kind is SystemExit:
        assert isinstance(results[1].error, Exited)


class Label(BaseModel):
    name: str


def test_what_is_returned_is_json_from_the_start(path):
    """Code that works on the first run would fail on the second."""

    async def returns(item: str, made: Any) -> Any:
        return (Label(name=item), {"a": [1, None]})

    for _ in range(2):
        assert run(returns, ["x"], path, Wire())[0].output == [{"name": "x"}, {"a": [1, None]}]


def test_what_json_cannot_keep_is_said_and_costs_nothing_twice(path):
    """The run file would keep the repr of an object, and hand that out."""
    wire = Wire()

    async def returns(item: str, made: Any) -> Any:
        await made.call("x")
        return object() if broken else "mended"

    broken = True
    error = run(returns, ["x"], path, wire)[0].error
    assert isinstance(error, ConfigError)
    assert "the function returned a object, which cannot be kept as JSON" in str(error)
    broken = False
    assert run(returns, ["x"], path, wire)[0].output == "mended"
    assert wire.prompts == ["x"]


def test_items_that_json_cannot_hold_are_refused(path):
    """An item could not be told from another when the run goes on."""
    wire = Wire()
    with pytest.raises(ConfigError, match=r"item 1 \(a object\) cannot be written as JSON"):
        run(three, [object()], path, wire)
    assert not wire.prompts


def test_odd_text_is_no_obstacle(path):
    """A document cut in the middle of an emoji would end the run."""
    crash(three, [{"t": "x\ud83d"}], path, stopping_at("{'t': 'x\\ud83d'} 2"))
    assert run(three, [{"t": "x\ud83d"}], path, Wire())[0].ok


def test_lost_attempts_are_those_of_unjournalled_calls(path, tmp_path):
    """After a crash, calls whose answers are safe would be told as paid for nothing."""
    import shutil

    async def dies(item: str, made: Any) -> None:
        await made.call("kept")
        await made.call("lost")

    def copied(prompt: str) -> str:
        if prompt == "lost":
            for suffix in ("", "-wal"):
                shutil.copyfile(f"{path}{suffix}", tmp_path / f"crashed.flatout{suffix}")
        return digest_of(prompt)

    run(dies, ["x"], path, Wire(copied))
    with RunReader.open(tmp_path / "crashed.flatout") as reader:
        assert [attempt.index for attempt in reader.unsettled().attempts] == [0]
        assert len(reader.unsettled().attempts) == 1


def test_without_a_store_nothing_is_kept_or_changed():
    """Functions that return their own objects would get dicts."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        async def main() -> None:
            async with client(Wire()) as made:
                results = [result async for result in made.map(three, ["a"])]
                assert len(results[0].output) == 3

        asyncio.run(main())
