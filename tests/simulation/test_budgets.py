"""Budgets on the virtual clock: money goes with what is in flight, and not with what waits for its turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flatout import Budget, BudgetExceeded, Call, Client, Limits, Result
from flatout.store.scope import Scope
from flatout.testing import ProviderSettings, run_virtual
from tests.support.several_providers import Providers

PRICES = {"prices": {"a/m": {"input": 0.25, "output": 2.0}}}
DAY = Budget(0.5, "day", "kx")
LIMITS = Limits(rpm=600)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "flatout" / "budgets"


def provider() -> Providers:
    """Its answers cost a tenth of a cent."""
    return Providers(a=ProviderSettings(latency=2.0, output_tokens=500, output_tokens_p99=900))


def process(asked: Providers, **options: Any) -> Client:
    """A client with a purse of its own, as each process has."""
    return asked.client("a/m", config=asked.config(**PRICES), **{"budget": DAY, "limits": LIMITS, **options})


def calls(count: int, **params: Any) -> list[Call]:
    return [Call(f"question {number}", **{"max_tokens": 1_000, **params}) for number in range(count)]


async def ask(count: int, after: float = 0.0, **params: Any) -> tuple[float, list[Result]]:
    """What a process spends on its calls, and their results."""
    await asyncio.sleep(after)
    async with process(provider()) as client:
        results = await client.gather(calls(count, **params))
        return client.spent, results


def test_two_processes_share_a_small_budget():
    """The first one would borrow the whole day's money for hundreds of calls that wait for their turn."""

    async def main() -> list[tuple[float, list[Result]]]:
        return await asyncio.gather(ask(350), ask(350, after=1.0))

    (first, one), (second, other) = run_virtual(main())
    assert all(isinstance(result.error, BudgetExceeded) for result in [*one, *other] if not result.ok)
    assert 0.98 <= (first + second) / DAY.usd <= 1.0
    assert 0.35 <= first / (first + second) <= 0.65


def test_a_killed_process_keeps_no_more_than_it_had_in_flight(home: Path, monkeypatch: pytest.MonkeyPatch):
    """The rest of a day's money would be gone with a process that had hardly spent any."""

    async def gives_nothing_back(_: Scope, used: float) -> None: ...

    async def killed() -> float:
        async with process(provider()) as client:
            asking = asyncio.ensure_future(client.gather(calls(400)))
            await asyncio.sleep(20.0)
            spent = client.spent
            asking.cancel()
            await asyncio.wait([asking])
        return spent

    with monkeypatch.context() as dying:
        dying.setattr(Scope, "close", gives_nothing_back)
        spent = run_virtual(killed())
    lost = DAY.usd - spent - Scope(DAY, home).left()
    assert spent > 0.1
    assert lost <= 0.1  # twenty calls or so were in flight, of two tenths of a cent each at most
    assert run_virtual(ask(400))[0] >= DAY.usd - spent - lost - 0.02
