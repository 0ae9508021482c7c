"""Limits, pauses and deadlines that change while a client's calls go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flatout import Client, ConfigError, DeadlineExceeded, Limits
from flatout.client import engine_of
from flatout.client.change import Change
from flatout.client.change import steer as change_now
from flatout.durable.course import recorded
from flatout.store.course import Happening, Stretch
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, VirtualLoop

Steers = Callable[[Client], Awaitable[object]]


def run(calls: int, steer: Steers, settings: ProviderSettings | None = None, **options: Any) -> tuple[list[Any], Any]:
    """Answer calls while ``steer`` changes the client. Returns the results, and the provider."""
    model = ProviderModel(settings or ProviderSettings(rpm=100_000))

    async def main() -> list[Any]:
        transport = SimulatedTransport(model)
        async with Client(model="m", base_url="http://127.0.0.1:1/v1", transport=transport, **options) as client:
            steering = asyncio.ensure_future(steer(client))
            results = await client.gather([f"prompt {n}" for n in range(calls)])
            await steering
            return results

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main()), model


def spent(results: list[Any]) -> float:
    """Seconds from the first call's start to the last one's end."""
    return max(result.elapsed for result in results)


def test_a_raised_limit_makes_a_run_faster() -> None:
    """Whoever starts too slow would have to stop the run: its limits, and the calls read ahead, would stay as given."""

    async def steer(client: Client) -> None:
        await asyncio.sleep(5.0)
        client.set_limits(rpm=6_000)

    loop_seconds: list[float] = []

    async def timed(client: Client) -> None:
        await steer(client)
        loop_seconds.append(asyncio.get_running_loop().time())

    results, _ = run(1_000, timed, limits=Limits(rpm=60, burst=1.0))
    assert all(result.ok for result in results)
    assert spent(results) < 30.0


def test_a_raised_concurrency_is_used() -> None:
    """Only as many calls as the first limit needs would be read ahead, so a higher one would have no effect."""
    most = [0]

    async def steer(client: Client) -> None:
        await asyncio.sleep(1.0)
        client.set_limits(concurrency=100)
        for _ in range(100):
            await asyncio.sleep(0.1)
            most[0] = max(most[0], sum(state.in_flight for state in client.status()))

    run(1_000, steer, limits=Limits(concurrency=2))
    assert most[0] == 100


def test_nothing_is_sent_while_a_client_is_paused() -> None:
    """A user who pauses a run would go on paying."""
    in_flight: list[int] = []
    holds: list[str] = []

    async def steer(client: Client) -> None:
        await asyncio.sleep(3.0)
        client.pause()
        await asyncio.sleep(60.0)
        in_flight.append(client.status()[0].in_flight)
        holds.append(client.status()[0].holds)
        client.resume()

    results, _ = run(200, steer, limits=Limits(rpm=600))
    assert in_flight == [0]
    assert holds == ["paused"]
    assert all(result.ok for result in results)
    assert 60.0 < spent(results) < 120.0
    assert sum(result.waits.get("paused", 0.0) > 50.0 for result in results) > 100


def test_a_client_that_is_paused_before_its_first_call_waits() -> None:
    """A pause would hold only targets that have been used before."""

    async def steer(client: Client) -> None:
        client.pause()
        await asyncio.sleep(10.0)
        client.resume()

    results, _ = run(3, steer)
    assert all(result.ok and result.elapsed >= 10.0 for result in results)


def test_deadlines_go_on_during_a_pause() -> None:
    """A pause would keep calls beyond their deadlines."""

    async def steer(client: Client) -> None:
        client.pause()
        await asyncio.sleep(60.0)
        client.resume()

    results, _ = run(3, steer, deadline=5.0)
    assert all(isinstance(result.error, DeadlineExceeded) for result in results)


def test_a_changed_deadline_holds_for_calls_that_begin_later() -> None:
    """Calls under way would be given up, or later ones would keep the old deadline."""

    async def steer(client: Client) -> None:
        client.pause()
        await asyncio.sleep(1.0)
        change_now(engine_of(client), Change(deadline=1.0))
        late = await client.result("later")
        assert isinstance(late.error, DeadlineExceeded)
        client.resume()

    results, _ = run(3, steer)
    assert all(result.ok for result in results)


def test_a_wrong_change_changes_nothing() -> None:
    """A mistyped limit would stop a run that is under way."""

    async def steer(client: Client) -> None:
        await asyncio.sleep(2.0)
        with pytest.raises(ConfigError, match="number above 0"):
            client.set_limits(rpm=-1)
        with pytest.raises(ConfigError, match="no target is named 'x'; in use: "):
            client.set_limits(rpm=1, target="x")
        assert client.status()[0].allows == {"rpm": 6_000.0}
        client.set_limits(rpm=600, target=client.status()[0].target)
        assert client.status()[0].allows == {"rpm": 600.0}

    results, _ = run(300, steer, limits=Limits(rpm=6_000, burst=1.0))
    assert all(result.ok for result in results)


def test_no_call_is_refused_while_limits_change_under_load() -> None:
    """Retuning would cause the refusals that it is meant to end."""

    async def steer(client: Client) -> None:
        for rpm in (3_000, 300, 1_200, 600):
            await asyncio.sleep(4.0)
            client.set_limits(rpm=rpm)

    results, _ = run(900, steer, ProviderSettings(rpm=3_000), limits=Limits(rpm=600))
    assert all(result.ok and result.attempts == 1 for result in results)


def test_a_run_file_keeps_every_change() -> None:
    """Nobody could tell later why a run became slower."""
    changes: list[Happening] = []

    class Kept:
        """A run file that keeps changes only."""

        def note_stretch(self, stretch: Stretch, /) -> None:
            """Keep nothing."""

        def note_happening(self, happening: Happening, /) -> None:
            if happening.kind == "change":
                changes.append(happening)

    async def steer(client: Client) -> None:
        async with recorded(client, Kept()):
            await asyncio.sleep(0.5)
            client.set_limits(rpm=1_200, concurrency=None)
            change_now(engine_of(client), Change(paused=True), by="ada")
            client.resume()

    run(50, steer, limits=Limits(rpm=600))
    assert [(each.what, each.by) for each in changes] == [
        ("rpm 1,200, concurrency unknown", None),
        ("paused", "ada"),
        ("resumed", None),
    ]


@pytest.mark.parametrize("rpm", [1_200, 12_000])
def test_a_changed_limit_holds_within_a_second_and_to_3_percent(rpm: int) -> None:
    """A run that is retuned would go on too fast for a while, or never reach its new limit; or cause refusals."""
    model = ProviderModel(ProviderSettings(rpm=12_000, burst=1.0, latency=0.2))
    sent: list[float] = []

    class Timed(SimulatedTransport):
        async def send(self, request: Any) -> Any:
            sent.append(asyncio.get_running_loop().time())
            return await super().send(request)

    changed_at: list[float] = []

    async def main() -> list[Any]:
        limits = Limits(rpm=6_000, burst=1.0)
        options: dict[str, Any] = {"base_url": "http://127.0.0.1:1/v1", "transport": Timed(model), "limits": limits}
        async with Client(model="m", **options) as client:
            answers = asyncio.ensure_future(client.gather([f"prompt {n}" for n in range(3_000)]))
            await asyncio.sleep(10.0)
            changed_at.append(asyncio.get_running_loop().time())
            client.set_limits(rpm=rpm)
            await asyncio.sleep(8.0)
            client.set_limits(rpm=12_000)
            return await answers

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        results = runner.run(main())
    assert all(result.ok for result in results)
    assert model.stats()["refused"] == 0
    begin = changed_at[0] + 1.0
    during = sum(begin <= at < begin + 6.0 for at in sent)
    assert during == pytest.approx(rpm / 60 * 6, rel=0.03)
