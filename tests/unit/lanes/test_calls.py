"""The library's lanes, on the virtual clock, against a provider that counts what it runs."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import flatout
from flatout import BudgetExceeded, Call, Client, ConfigError, RunMismatch
from flatout.edge.fan_out import Flow
from flatout.lanes import calls as lanes
from flatout.lanes import kept_calls
from flatout.lanes.batch.formats import openai
from flatout.lanes.batch.money import Paid, Record
from flatout.lanes.wish import Source
from flatout.layer import Request, Response
from flatout.look.facts import facts_of
from flatout.progress._counters import Batches
from flatout.store import RunReader
from flatout.store.ledger import MONEY
from flatout.testing import BatchSettings, ProviderModel, ProviderSettings, SimulatedTransport, digest_of, run_virtual
from flatout.testing._clock import EPOCH
from flatout.values import Result
from tests.support.batch_wire import BatchWire, Killed

DAY, HOUR, MINUTE = 86_400.0, 3_600.0, 60.0
PROMPTS = [f"prompt {n}" for n in range(60)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 16 calls."""
    dialect = openai.DIALECTS["openai"]
    monkeypatch.setitem(openai.DIALECTS, "openai", replace(dialect, caps=replace(dialect.caps, rows=16)))


class Program:
    """A program that may die, and is started again."""

    def __init__(self, folder: Path, wire: Any = None) -> None:
        self.store = folder / "labels.flatout"
        self.wire = wire or BatchWire()
        self.later = 0.0

    def client(self, **options: Any) -> Client:
        return Client("openai/gpt-5-mini", api_key="k", transport=self.wire, config={}, seed=1, **options)

    def now(self) -> float:
        """The virtual world goes on from one start to the next."""
        jobs = self.wire.jobs.values() if isinstance(self.wire, BatchWire) else ()
        return max([self.later, *(job["created_at"] + 1 - EPOCH for job in jobs)])

    def gather(
        self, calls: Any = PROMPTS, *, client: dict[str, Any] | None = None, **options: Any
    ) -> list[Result[Any]]:
        given: dict[str, Any] = {"store": self.store, "lane": "batch", **options}

        async def main() -> list[Result[Any]]:
            async with self.client(**(client or {})) as made:
                try:
                    return await made.gather(calls() if callable(calls) else calls, **given)
                finally:
                    self.later = asyncio.get_running_loop().time()

        return run_virtual(main(), limit=100 * DAY, start=self.now())

    def check(self, results: list[Result[Any]]) -> None:
        """Every call once, in order, with its own answer; and each was run once."""
        assert [result.text for result in results] == [digest_of(prompt) for prompt in PROMPTS]
        assert [result.index for result in results] == list(range(len(PROMPTS)))
        assert self.wire.runs == Counter(PROMPTS)
        assert set(self.wire.created.values()) == {1}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


async def _async_prompts() -> AsyncIterator[str]:
    for prompt in PROMPTS:
        yield prompt


def _prompts() -> Iterator[Call]:
    yield from map(Call, PROMPTS)


@pytest.mark.parametrize("calls", [PROMPTS, _prompts, _async_prompts, tuple(map(Call, PROMPTS))])
def test_calls_are_answered_in_batches(program: Program, calls: Any) -> None:
    """The lane would not work at all, or only with a list."""
    program.check(program.gather(calls))
    assert len(program.wire.jobs) == 4
    assert "POST /chat/completions" not in program.wire.requests


def test_results_come_as_batches_end(program: Program) -> None:
    """A program that writes each result to a database would wait a day for the first."""
    program.wire.seconds = 10 * HOUR

    async def main() -> list[float]:
        async with program.client() as client:
            found = client.as_completed(PROMPTS, store=program.store, lane="batch")
            return [asyncio.get_running_loop().time() async for _ in found]

    times = run_virtual(main(), limit=10 * DAY)
    assert len(times) == 60
    assert times[0] < times[-1] - MINUTE


def test_a_finished_run_costs_nothing_more(program: Program) -> None:
    """A script that is started again would pay again."""
    first = program.gather()
    requests = len(program.wire.requests)
    program.check(again := program.gather())
    assert len(program.wire.requests) == requests
    assert [result.cost for result in again] == [result.cost for result in first]


@pytest.mark.parametrize("at", range(0, 60, 4))
def test_a_program_may_die_at_any_moment(program: Program, at: int) -> None:
    """Calls would be lost, or paid for twice."""
    seen = 0

    def happens(_: str) -> None:
        nonlocal seen
        seen += 1
        if seen == at + 1:
            raise Killed

    program.wire.on_event = happens
    try:
        program.gather()
    except Killed:
        program.wire.on_event = lambda _: None
    program.check(program.gather())


def test_leaving_the_loop_leaves_the_batches(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants only the first results would lose the others, pay for them again, or wait for ever."""
    monkeypatch.setattr(kept_calls, "TOGETHER", 4)

    async def main() -> None:
        async with program.client() as client:
            async with aclosing(client.as_completed(PROMPTS, store=program.store, lane="batch")) as results:
                async for _ in results:
                    break
            program.later = asyncio.get_running_loop().time()

    run_virtual(main(), limit=DAY)
    program.check(program.gather())


def test_added_calls_are_new_work(program: Program) -> None:
    """A list that grows from day to day would be paid for from its beginning."""
    program.gather(PROMPTS[:20])
    program.check(program.gather())


def test_changed_calls_are_refused(program: Program) -> None:
    """The answer to the old question would stand beside the new one."""
    program.gather()
    with pytest.raises(RunMismatch, match="row 1"):
        program.gather(["another", *PROMPTS[1:]])
    with pytest.raises(RunMismatch, match="row 60"):
        program.gather(PROMPTS[:59])


def test_schemas_models_and_samples_are_those_of_live_calls(program: Program) -> None:
    """Every parameter would have to be learnt anew for batches."""
    program.wire.text = lambda _prompt, _messages: '{"n": 1}'
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    groups: Any = program.gather(PROMPTS[:5], output=schema, samples=3)
    assert [[result.output for result in group] for group in groups] == [[{"n": 1}] * 3] * 5
    assert program.wire.runs == Counter(dict.fromkeys(PROMPTS[:5], 3))


def test_a_wrong_call_fails_alone(program: Program) -> None:
    """One bad row would cost all others their answers."""
    program.wire.fate = lambda prompt: 400 if prompt == "prompt 3" else "answered"
    calls: list[Any] = [*PROMPTS[:4], Call("x", model="deepseek/deepseek-chat"), {"no": "prompt"}]
    results = program.gather(calls, retry_failed=True)
    assert [result.ok for result in results] == [True, True, True, False, False, False]
    assert "no batch lane" in str(results[4].error) or "DEEPSEEK_API_KEY" in str(results[4].error)
    assert results[3].attempts == 1


def test_calls_that_would_be_late_are_asked_live(program: Program) -> None:
    """The answers would come after the meeting that they were for; or be paid for twice."""
    program.wire.seconds = 4 * DAY
    program.check(program.gather(within="2d"))
    assert "POST /chat/completions" in program.wire.requests
    assert program.later < 2 * DAY


def test_rows_in_batches_are_not_asked_live(program: Program) -> None:
    """They would be paid for twice."""

    async def begin() -> None:
        async with (
            program.client() as client,
            aclosing(client.as_completed(PROMPTS, store=program.store, lane="batch")) as results,
        ):
            reading = asyncio.ensure_future(anext(results))
            await asyncio.sleep(MINUTE)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    run_virtual(begin())
    for lane in ("live", "flex"):
        with pytest.raises(ConfigError, match=r"60 rows of .* stand in batches: collect them with lane='batch'"):
            program.gather(lane=lane)
    program.check(program.gather())


class Tiers(SimulatedTransport):
    """Counts the answers of each service."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(ProviderModel(ProviderSettings(**settings)))
        self.answers: Counter[str] = Counter()

    async def send(self, request: Request) -> Response:
        answer = await super().send(request)
        if request.url.endswith("/chat/completions"):
            self.answers[f"{json.loads(request.body).get('service_tier', 'live')} {answer.status}"] += 1
        return answer


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("within", [None, HOUR])
def test_the_flex_lane_needs_no_store(tmp_path: Path, stored: bool, within: float | None) -> None:
    """A lane for quick work would leave files about; or not go on live when it is time."""
    program = Program(tmp_path, Tiers(no_room=(0.0, math.inf if within else HOUR)))
    store = program.store if stored else None
    results = program.gather(PROMPTS, lane="flex", store=store, within=within)
    assert all(result.ok for result in results)
    assert program.wire.answers["flex 200"] == (0 if within else 60)
    assert program.wire.answers["live 200"] == (60 if within else 0)
    if within:
        assert program.later < within


def test_the_course_of_a_lane_follows_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a run is slow would be told in fewer words of a program than of the command."""
    program, seen = Program(tmp_path, Tiers(latency=60.0)), list[int]()
    keeping = lanes.kept_results

    def kept(*given: Any, flow: Flow, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + 1.0, lambda: seen.append(flow.running))
        return keeping(*given, flow=flow, **options)

    monkeypatch.setattr(lanes, "kept_results", kept)
    program.gather(lane="flex")
    assert seen == [len(PROMPTS)]


@pytest.mark.parametrize(("within", "tier"), [(2 * HOUR, "flex"), (10 * MINUTE, "live"), (2 * DAY, "")])
def test_the_cheapest_lane_that_is_in_time(tmp_path: Path, within: float, tier: str) -> None:
    """ "auto" would cost too much, or come too late."""
    program = Program(tmp_path, Tiers(batch=BatchSettings(time=HOUR)))
    assert all(result.ok for result in program.gather(lane="auto", within=within))
    assert program.wire.answers == ({f"{tier} 200": 60} if tier else {})


@pytest.mark.parametrize(
    ("options", "client", "message"),
    [
        ({"store": None}, {}, "lane='batch' needs a file in which it finds its batches again"),
        ({"lane": "cheap"}, {}, "lane is 'live', 'flex', 'batch' or 'auto', not 'cheap'"),
        ({"lane": "auto"}, {}, "lane='auto' needs the time that there is"),
        ({"lane": "live", "within": DAY}, {}, "within chooses between lanes"),
        ({"within": 0}, {}, "within is a time such as 12h or 7d, or a number of seconds above 0"),
        ({"within": "soon"}, {}, "within is a time such as 12h or 7d"),
        ({"within": 60.0}, {}, "within is too short for batches"),
        ({"lane": "flex", "within": 60.0}, {}, "within is too short for flex"),
        ({}, {"prompt_cache": "auto"}, "prompt_cache has no effect on batches"),
        ({"lane": "auto", "within": 60.0}, {}, "within: no lane is in time"),
        ({"models": ["local"]}, {}, "has no batch lane"),
    ],
)
def test_what_the_lane_cannot_do_is_refused(
    program: Program, options: dict[str, Any], client: dict[str, Any], message: str
) -> None:
    """It would be found out after a day, or never."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        program.gather(**options, client=client)
    assert program.wire.requests == []


def test_what_is_asked_in_turns_is_refused(program: Program) -> None:
    """Each turn of an agent would wait for hours; and a provider be sent a parameter that it does not know."""

    async def function(item: str, client: Client) -> None: ...

    async def main() -> None:
        async with program.client() as client:
            for refused in (
                lambda: client.map(function, PROMPTS, lane="batch"),  # type: ignore[call-arg]
                lambda: client.stream("x", lane="batch"),
            ):
                with pytest.raises(ConfigError, match="lane is an option of many calls at once"):
                    refused()
            with pytest.raises(ConfigError, match="lane is an option of many calls at once"):
                await client.call("x", lane="batch")

    run_virtual(main())


def test_a_script_in_one_line(tmp_path: Path) -> None:
    """flatout.run would have no lanes."""
    with pytest.raises(ConfigError, match="needs a file in which it finds its batches again"):
        flatout.run(["x"], model="openai/gpt-5-mini", api_key="k", config={}, lane="batch")


def _paid(program: Program) -> Paid:
    with RunReader.open(program.store) as reader:
        return Record.of(reader.fact(MONEY)).whole()


def test_what_batches_cost_is_known(program: Program) -> None:
    """Nobody could say what a program's batches have cost, or saved."""
    results = program.gather()
    paid = _paid(program)
    assert paid.cost == pytest.approx(math.fsum(result.cost or 0.0 for result in results)) != 0.0
    assert paid.saved == pytest.approx(paid.cost)
    assert paid.unknown == 0


CAPPED = [Call(prompt, max_tokens=2_000) for prompt in PROMPTS]


def test_a_budget_is_kept_and_a_larger_one_goes_on(program: Program) -> None:
    """A program would submit more than it may spend, or lose the calls that have to wait."""
    alone = Program(program.store.parent / "alone")
    alone.store.parent.mkdir()
    whole = math.fsum(result.cost or 0.0 for result in alone.gather(CAPPED))
    short = program.gather(CAPPED, client={"budget": whole / 2})
    held = [result for result in short if not result.ok]
    assert held
    assert all(isinstance(result.error, BudgetExceeded) for result in held)
    assert len(held) < len(PROMPTS)
    assert math.fsum(result.cost or 0.0 for result in short) <= whole / 2
    assert sum(program.wire.runs.values()) == len(PROMPTS) - len(held)
    program.check(program.gather(CAPPED, client={"budget": 100 * whole}))


def test_two_runs_of_one_client_share_its_budget(program: Program) -> None:
    """The second run would take what is set aside for the first one's batches for its own."""

    async def main() -> float:
        async with program.client(budget=100.0) as client:
            purse = client._engine.stack.purse
            for name in ("a.flatout", "b.flatout", "b.flatout"):
                found = client.as_completed(CAPPED, store=program.store.parent / name, lane="batch")
                async with aclosing(found) as results:
                    reading = asyncio.ensure_future(anext(results))
                    await asyncio.sleep(MINUTE)
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                if name == "a.flatout":
                    first = purse.standing()
            return (purse.standing().left, first.left)

    both, first = run_virtual(main())
    assert 100.0 - both == pytest.approx(2 * (100.0 - first))


def test_kept_answers_are_not_asked_again(program: Program) -> None:
    """A cache that live calls have filled would be worth nothing to batches, and equal calls be paid for twice."""
    cache = {"cache": str(program.store.parent / "answers.db")}
    program.gather(PROMPTS[:30], client=cache, lane="live")
    results = program.gather([*PROMPTS, *PROMPTS[40:]], client=cache, store=program.store.parent / "more.flatout")
    assert [result.text for result in results] == [digest_of(prompt) for prompt in [*PROMPTS, *PROMPTS[40:]]]
    assert program.wire.runs == Counter(PROMPTS)


def test_the_bill_has_what_did_not_fit_in_a_batch(program: Program) -> None:
    """Calls that leave their batches for the live lane would seem cheaper than they were."""
    program.wire.seconds, asked = DAY, Counter[str]()

    def text(prompt: str, _messages: list[Any]) -> str:
        asked[prompt] += 1
        return '{"n": 1}' if "POST /chat/completions" in program.wire.requests else "no number"

    program.wire.text = text
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    results = program.gather(PROMPTS[:5], output=schema, within=1.5 * DAY)
    assert [result.output for result in results] == [{"n": 1}] * 5
    assert asked == Counter(dict.fromkeys(PROMPTS[:5], 2))
    paid = _paid(program)
    assert paid.cost > 0.0  # one answer of each call; the other came by flex, for half the price as well
    assert [result.cost for result in results] == [pytest.approx(2 * paid.cost / 5)] * 5


def test_progress_tells_of_batches_that_are_open(program: Program) -> None:
    """For hours a program would show "0/60", and nothing of what it waits for."""
    seen: list[Batches] = []
    results = program.gather(progress=lambda progress: seen.append(progress.batches))
    assert all(result.ok for result in results)
    most = max(seen, key=lambda batches: batches.open)
    assert (most.open, most.rows) == (4, 60)
    assert most.oldest is not None
    assert seen[-1].open == 0


def test_a_time_that_is_refused_leaves_no_run_file(program: Program) -> None:
    """The next start would go on with a run that never was, whose time began with the refused one."""
    with pytest.raises(ConfigError, match="within is too short for batches"):
        program.gather(within=60.0)
    assert not program.store.exists()
    program.check(program.gather(within="2d"))


def test_the_lane_of_a_program_shows(program: Program) -> None:
    """``flatout status`` would not say that a program's calls are in batches, and what they cost."""
    program.gather()
    with RunReader.open(program.store) as reader:
        found = facts_of(reader)
    assert found.lane == "batch"
    assert found.batches is not None
    assert 0.0 < found.batches.cost == pytest.approx(found.cost)


def test_a_call_that_could_not_be_made_is_in_the_file_as_failed(program: Program) -> None:
    """``flatout status`` would name no failed row; and the row, once filled in, would be refused or never be asked."""
    calls: list[Any] = ["a", ConfigError("the column text is null"), "c"]
    assert [result.ok for result in program.gather(calls)] == [True, False, True]
    with RunReader.open(program.store) as reader:
        summary = reader.summary()
        assert (summary.answered, summary.failed) == (2, 1)
    assert [result.ok for result in program.gather(["a", "b", "c"])] == [True, True, True]
    assert program.wire.runs == Counter("abc")


def test_calls_that_can_be_read_again_are_not_kept_in_memory() -> None:
    """A batch of the gateway would be in memory for a day, though its rows are in a file."""

    class Again:
        def __init__(self) -> None:
            self.reads = 0

        async def __aiter__(self) -> AsyncIterator[str]:
            self.reads += 1
            yield "one"

    async def read(source: Source) -> list[Any]:
        return [[call async for call in source.read()] for _ in range(2)]

    for again, reads in ((True, 2), (False, 1)):
        given = Again()
        assert run_virtual(read(Source(given, lambda same: same, again=again))) == [["one"], ["one"]]
        assert given.reads == reads
