"""What a gateway's run file tells of it, and how it is steered by that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flatout.cli.ctl import _said, _why_not
from flatout.cli.inspect import describe
from flatout.durable.course import recorded
from flatout.durable.opening import opened
from flatout.errors import ConfigError
from flatout.look import gateway
from flatout.look.course import Course
from flatout.look.facts import Facts, facts_of
from flatout.look.report import words
from flatout.look.report.clock import Clock
from flatout.look.report.gather import gather
from flatout.look.report.tally import Tally
from flatout.look.watch.glance import Watcher
from flatout.look.watch.words import bar, errors, sums
from flatout.look.why import findings
from flatout.serve import keys
from flatout.serve.callers import Allowed
from flatout.serve.steered import SteeredGateway
from flatout.store import RunReader
from flatout.store.gateway import JOB, CallerServed, Served
from flatout.store.scope import Scope
from flatout.testing import Faults, ProviderSettings, VirtualLoop
from flatout.values.budget import Budget

from .gateways import CHAT, PATHS, World


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "gateway.flatout"


def served(place: Path, keyring: Path, key: str, calls: int, seconds: float, **options: Any) -> tuple[Any, Facts, Any]:
    """Some calls of one key through a gateway with a run file: its page, what the file tells, and why it is slow."""
    world = World(keys=keyring, **options)

    async def main(world: World) -> tuple[Any, Facts, Any]:
        store = await opened(place, JOB)
        async with recorded(world.client, store), world.gateway.status.kept_in(store):
            asked = [asyncio.ensure_future(world.ask(PATHS["openai"], CHAT, x_api_key=key)) for _ in range(calls)]
            await asyncio.sleep(seconds)
            page = (await world.get("/status", x_api_key=key)).data["callers"]
            await asyncio.to_thread(store.set_fact_now, "x", 1)
            with RunReader.open(place) as reader:
                facts, course = facts_of(reader), Course()
                course.refresh(reader)
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            why = findings(course, facts, loop.wall_time())
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        store.mark("finished")
        await store.close()
        return page, facts, why

    found: tuple[Any, Facts, Any] = world.run(main)
    return found


def test_a_callers_own_limit_is_named_where_people_look(place: Path, tmp_path: Path):
    """Whoever waits for the limit of its own key would look for the cause at the provider."""
    ring = tmp_path / "keys.json"
    key = keys.add("team-a", Allowed(rpm=60), ring)
    page, facts, why = served(place, ring, key, calls=30, seconds=5.5)
    (caller,) = page
    assert (caller["waiting"] > 20, caller["holds"]) == (True, "rpm")
    assert why[0].cause == "caller"
    assert "calls of team-a wait for a limit of its own key: 60 calls a minute." in why[0].text
    assert facts.answered == 30 - caller["waiting"] - caller["inside"]


def test_a_budget_that_holds_calls_is_named_where_people_look(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While the server of a key's budget is away, nothing would say why the gateway sends nothing."""

    async def away(*_: object) -> None:
        await asyncio.sleep(1.0)

    monkeypatch.setattr(Scope, "lend", away)
    ring = tmp_path / "keys.json"
    key = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "key team-a")), ring)
    (caller,), _, why = served(place, ring, key, calls=3, seconds=5.5)
    assert caller["holds"] == "budget"
    assert "Calls of team-a wait for the budget of its key" in why[0].text


def test_a_gateway_is_told_by_its_calls_and_callers(place: Path, tmp_path: Path):
    """Its run file has no rows: it would look as if nothing had been done, and nothing spent."""
    ring = tmp_path / "keys.json"
    key = keys.add("team-a", Allowed(), ring)
    served(place, ring, key, calls=10, seconds=5.0)
    served(place, ring, key, calls=5, seconds=0.5)  # another process goes on, and ends in the middle
    with RunReader.open(place) as reader:
        facts = facts_of(reader)
    assert facts.gateway is not None
    (lines,) = gateway.callers(facts.gateway)
    assert lines.startswith("team-a: 15 calls, 5 hung up, ≥ $0.00")
    assert (facts.answered, facts.failed) == (10, 5)
    told = dict(describe(facts))
    assert told["served"] == "15 calls, 5 hung up"
    assert told["cost"].startswith("at least $0.00")
    assert "rows" not in told
    assert words.headline(facts, 60.0) == "15 calls, 5 hung up, in 1 min 00 s"
    glance = Watcher(place).look()
    assert (glance.facts.input_tokens or 0) > 0
    assert bar(glance.facts, 80).plain == "15 calls, 5 hung up"
    report = gather([place])
    assert report.rows is None
    (table,) = (cells for cells in report.runs[0].cells if cells.name == "callers")
    assert table.rows[0][:6] == ("team-a", "15", "0", "5", "0", "0")


def test_many_callers_are_told_in_sum(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The run file would grow with every client, or the calls of some be forgotten."""
    monkeypatch.setattr("flatout.serve.status.MOST", 1)
    world = World()

    async def main(world: World) -> None:
        store = await opened(place, JOB)
        async with world.gateway.status.kept_in(store):
            for key in "aabbbc":
                await world.ask(PATHS["openai"], CHAT, x_api_key=key)
        await store.close()

    world.run(main)
    with RunReader.open(place) as reader:
        facts = facts_of(reader)
    assert facts.gateway is not None
    assert [each.calls for each in facts.gateway.callers] == [3, 3]
    assert facts.gateway.callers[1].caller == "others"


def test_calls_that_are_told_in_sum_are_still_there_after_two_restarts(place: Path, monkeypatch: pytest.MonkeyPatch):
    """The second sum would stand beside the first under the same name, and one of them be lost."""
    monkeypatch.setattr("flatout.serve.status.MOST", 1)

    async def main(world: World) -> None:
        store = await opened(place, JOB)
        async with world.gateway.status.kept_in(store):
            for key in "aabbbcdd":
                await world.ask(PATHS["openai"], CHAT, x_api_key=key)
        await store.close()

    for _ in range(3):
        World().run(main)
    with RunReader.open(place) as reader:
        facts = facts_of(reader)
    assert facts.gateway is not None
    assert [each.calls for each in facts.gateway.callers] == [9, 15]


def test_unknown_costs_of_a_gateway_are_not_nothing(place: Path, tmp_path: Path):
    """A model without a price would look as if it were free."""
    ring = tmp_path / "keys.json"
    key = keys.add("team-a", Allowed(), ring)
    page, facts, _ = served(
        place, ring, key, calls=4, seconds=5.0, model="mine", base_url="http://sim/v1", models=("gpt-5-mini",)
    )
    assert (page[0]["spent"], page[0]["unknown_costs"]) == (None, 4)
    assert facts.gateway is not None
    assert "unknown" in gateway.cost(facts.gateway)
    assert "unknown" in sums(Watcher(place).look(), 80).plain


def test_a_gateway_is_stopped_in_its_own_words(place: Path):
    """The answer would speak of a run, and of a command that nobody has given."""
    world, stops = World(), list[str]()
    steered = SteeredGateway(world.client._engine, "g", stop=lambda: stops.append("stop"), grace=10.0)

    async def main(_: World) -> dict[str, Any]:
        with pytest.raises(ConfigError, match=r"^a gateway can be asked to .*stop; not 'skip'"):
            steered({"do": "skip", "by": "ada"})
        return steered({"do": "stop", "by": "ada"})

    answer = world.run(main)
    assert stops == ["stop"]
    assert "run" not in _said("stop", "g.flatout", answer)
    assert "0 calls in flight may finish, for 10 s at most" in _said("stop", "g.flatout", answer)


def test_a_gateway_that_has_stopped_is_no_run(place: Path):
    """The answer would be that no run is under way, where nobody has begun one."""

    async def main(_: World) -> None:
        await (await opened(place, JOB)).close()

    World().run(main)
    why = f"the gateway of {place} does not serve: flatout serve starts it"
    assert _why_not(place, "stop") == (why, False)


def asked_and_killed(place: Path, calls: int, seconds: float, keyring: Path, key: str) -> None:
    """A gateway with calls in hand whose process is killed: it closes nothing, and says nothing of its end."""
    world = World(keys=keyring)

    async def main(world: World) -> None:
        store, log = await opened(place, JOB), place.with_name(f"{place.name}-wal")
        async with recorded(world.client, store), world.gateway.status.kept_in(store):
            asked = [asyncio.ensure_future(world.ask(PATHS["openai"], CHAT, x_api_key=key)) for _ in range(calls)]
            await asyncio.sleep(seconds)
            await asyncio.to_thread(store.set_fact_now, "x", 1)
            left = {file: file.read_bytes() for file in (place, log)}
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        await store.close()
        for file, content in left.items():
            file.write_bytes(content)

    world.run(main)


def test_a_killed_gateway_keeps_its_counts_and_says_what_is_not_known(place: Path, tmp_path: Path):
    """Calls would be said to wait in a gateway that is dead, and after the next start be gone from all sums."""
    ring = tmp_path / "keys.json"
    key = keys.add("team-a", Allowed(rpm=60), ring)
    asked_and_killed(place, 30, 5.5, ring, key)
    with RunReader.open(place) as reader:
        killed = facts_of(reader)
    assert killed.gateway is not None
    assert killed.state == "broken off"
    (line,) = gateway.callers(killed.gateway)
    assert line.startswith("team-a: at least 30 calls, ")
    assert "broken off, ≥ $0.00" in line
    assert "waiting" not in line
    assert gateway.cost(killed.gateway).startswith("at least $0.00")
    served(place, ring, key, calls=5, seconds=10.5)  # the next one goes on with the file
    with RunReader.open(place) as reader:
        after = facts_of(reader)
    assert after.gateway is not None
    assert after.gateway.calls == 35
    assert gateway.calls(after.gateway).startswith("at least 35 calls, ")
    assert after.answered >= killed.answered


def test_the_price_list_is_not_blamed_for_calls_that_broke_off():
    """Somebody would look for a price that is there."""
    killed = Served([CallerServed("a", calls=3, lost=2)], at_least=True)
    assert gateway.cost(killed) == "unknown: 2 calls broke off with their process"


def test_the_reasons_of_failures_are_told(place: Path, tmp_path: Path):
    """41 calls would have failed, and nothing would say that a budget refused most of them."""
    world = World(ProviderSettings(latency=1.0, faults=Faults(invalid=1.0)), models=("openai/gpt-5-mini",))
    unknown = {**CHAT, "model": "gpt-9"}

    async def main(world: World) -> Any:
        store = await opened(place, JOB)
        async with world.gateway.status.kept_in(store):
            for body in (CHAT, CHAT, unknown, b"no JSON", {**CHAT, "stream": True}):
                assert (await world.ask(PATHS["openai"], body, x_api_key="a")).status >= 400
            page = (await world.get("/status", x_api_key="a")).data["callers"]
        await store.close()
        return page

    (caller,) = world.run(main)
    assert caller["failures"] == {"InvalidRequest": 4, "UnknownModel": 1}
    assert caller["failed"] == 5
    with RunReader.open(place) as reader:
        facts = facts_of(reader)
    told = describe(facts)
    assert ("failed", "4 × InvalidRequest") in told
    assert ("", "1 × UnknownModel") in told
    assert any("gpt-9" in text for _, text in told)
    assert [each.title for each in words.attention(facts, Tally(Clock.of([], 0.0, 1.0)), 0)] == [
        "4 calls failed: InvalidRequest",
        "1 call failed: UnknownModel",
    ]
    assert errors(facts, 200, 6).plain.startswith("4 × InvalidRequest  ")
