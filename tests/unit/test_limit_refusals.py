"""What the limiter makes of refusals, cancellations and limits that processes share."""

from __future__ import annotations

import asyncio

import pytest

from flatout import Call, Client, Limits, Route
from flatout.events import LimitCrowded
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.store.shared import SharedLimits
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from tests.support.scripted_wire import Wire, client, completion, refusal

LONG = "word " * 800


def test_a_call_whose_guess_is_somewhat_too_large_is_sent():
    """A call that fits its limit would fail unsent, for the first guesses are high."""
    pacer = Pacer(Limits(tpm=10_000), 0.0, reserve="max_tokens")
    assert pacer.never(Need(11_000.0)) is None
    assert pacer.never(Need(14_000.0)) is not None
    assert pacer.never(Need(10.0, max_tokens=11_000)) is not None


@pytest.mark.parametrize("limits", [Limits(rpm=60_000), Limits(concurrency=100)])
def test_an_isolated_refusal_below_a_limit_is_that_calls_own(limits):
    """One 429 without a reason would pause a thousand others."""

    async def answer(prompt: str):
        await asyncio.sleep(0.01)
        first = wire.prompts.count("150") == 1
        return refusal(429, retry_after="1") if prompt == "150" and first else completion("x")

    wire = Wire(answer)

    async def main() -> float:
        async with client(wire, limits=limits) as made:
            assert all(result.ok for result in await made.gather([f"{n}" for n in range(600)]))
        return sorted(wire.times)[-2]

    assert run_virtual(main()) < 0.9
    assert wire.times[-1] > 1.0


def test_a_closed_client_lets_go_of_shared_limits(tmp_path, monkeypatch):
    """A program that opens many clients would run out of files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    closed = []
    close = SharedLimits.close
    monkeypatch.setattr(SharedLimits, "close", lambda self: (closed.append(self), close(self)))

    async def main() -> None:
        async with client(Wire(), limits=Limits(rpm=6_000, shared="x")) as made:
            assert (await made.result("hello")).ok
            assert not closed

    run_virtual(main())
    assert len(closed) == 1


def test_a_cancelled_call_changes_shared_limits_under_their_lock(tmp_path, monkeypatch):
    """Two processes would write over each other, and both go past the limit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    depths = []
    failed = Pacer.failed

    def spy(self, *given, **more):
        depths.append(self.exclusive._depth)
        return failed(self, *given, **more)

    monkeypatch.setattr(Pacer, "failed", spy)

    async def main() -> None:
        async with client(Wire(lambda _: 5.0), limits=Limits(rpm=6_000, shared="x")) as made:
            task = asyncio.create_task(made.result("hello"))
            await asyncio.sleep(1.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run_virtual(main())
    assert depths == [1]


def test_refused_calls_come_back_in_their_order_before_the_others():
    """The first row of a file would be overtaken by every other that was refused with it."""
    seen: list[str] = []

    def answer(prompt: str):
        seen.append(prompt)
        refused = prompt in "0123" and seen.count(prompt) == 1
        return refusal(429, retry_after="3") if refused else completion("x")

    async def slow(prompt: str):
        await asyncio.sleep(0.05 + int(prompt) / 1e6)  # timers of one instant fire in any order
        return answer(prompt)

    wire = Wire(slow)

    async def main() -> None:
        async with client(wire, limits=Limits(rpm=6_000)) as made:
            assert all(result.ok for result in await made.gather([f"{n}" for n in range(12)]))

    run_virtual(main())
    again = [prompt for place, prompt in enumerate(wire.prompts) if prompt in wire.prompts[:place]]
    assert again[:2] == ["0", "1"]  # of those that were refused at about the same time
    others = [prompt for prompt in wire.prompts[wire.prompts.index(again[0], 1) :] if prompt not in again]
    assert all(wire.prompts.index(other) > wire.prompts.index(again[-1], 4) for other in others[-5:])


def test_a_small_call_that_comes_later_passes_as_soon_as_it_can():
    """A short question would wait for the long document before it, though there is room for it now."""
    wire = Wire(lambda prompt: 10.0)  # nothing is corrected meanwhile

    async def main() -> None:
        async with client(wire, limits=Limits(tpm=60_000)) as made:
            tasks = []
            for prompt in (f"1 {LONG}", f"2 {LONG}", "small"):
                tasks.append(asyncio.create_task(made.result(Call(prompt, max_tokens=5))))
                await asyncio.sleep(0.001)
            await asyncio.gather(*tasks)

    run_virtual(main())
    assert [prompt.split()[0] for prompt in wire.prompts] == ["1", "small", "2"]


def test_programs_that_use_one_limit_unknowingly_are_told_so_once():
    """Four runs would share a limit badly for hours, and nothing say why each of them is so slow."""
    model = ProviderModel(ProviderSettings(rpm=600, burst=1.0, headers=""), seed=1)
    said: list[LimitCrowded] = []

    async def one() -> bool:
        made = Client(
            "m", base_url="http://x/v1", config={}, transport=SimulatedTransport(model), limits=Limits(rpm=600), seed=1
        )
        async with made:
            made._engine.events.subscribe(lambda event: said.append(event) if type(event) is LimitCrowded else None)
            return all(result.ok for result in await made.gather([f"{n}" for n in range(150)]))

    async def main() -> list[bool]:
        return await asyncio.gather(*(one() for _ in range(4)))

    assert run_virtual(main()) == [True] * 4
    assert 1 <= len(said) <= 4
    assert "shared=" in said[0].reason


def test_two_keys_that_share_limits_unknowingly_are_told_of_groups():
    """A user would look for another program that uses the key, while both keys are this program's own."""
    model = ProviderModel(ProviderSettings(rpm=600, burst=1.0, headers=""), seed=1)
    tables = {name: {"base_url": "http://x/v1"} for name in "ab"}
    config = {"endpoints": tables, "limits": {name: {"rpm": 600} for name in tables}}
    said: list[LimitCrowded] = []

    async def main() -> bool:
        async with Client(Route("a/m", "b/m"), config=config, transport=SimulatedTransport(model), seed=1) as made:
            made._engine.events.subscribe(lambda event: said.append(event) if type(event) is LimitCrowded else None)
            return all(result.ok for result in await made.gather([f"{n}" for n in range(500)]))

    assert run_virtual(main())
    assert said
    assert all("group in flatout.toml" in event.reason for event in said)
    assert all(("b/m" if event.target == "a/m" else "a/m") in event.reason for event in said)
