"""How long the live lane takes, and from whom that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flatout import Call, Client, ConfigError, Limits
from flatout.lanes.within import ways
from flatout.store.memory import Memory
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

ROWS = 60_000


def live_way(folder: Path, calls: int = 0, headers: Any = "openai", rpm: int | None = 6_000, **options: Any) -> Any:
    """The live way of a program after some calls; what they taught is stored for the next one."""

    async def main() -> Any:
        transport = SimulatedTransport(ProviderModel(ProviderSettings(rpm=rpm, headers=headers)))
        async with Client("openai/gpt-5-mini", api_key="k", transport=transport, config={}, **options) as client:
            client._engine.stack.limiters._memory = Memory(folder)
            await client.gather([f"prompt {n}" for n in range(calls)])
            return next(way for way in ways(client._engine, None, ROWS) if way.lane == "live")

    return run_virtual(main())


@pytest.mark.parametrize(
    ("taught", "calls", "options", "why"),
    [
        (0, 0, {}, "at 60 rows a minute, assumed because no limit is known"),
        (0, 0, {"limits": Limits(rpm=600)}, "at 600 rows a minute, as its limit says"),
        (0, 9, {}, "at 6,000 rows a minute, as this run has learnt"),
        (9, 0, {}, "at 6,000 rows a minute, as an earlier run has learnt"),
        (9, 0, {"limits": Limits(rpm=600)}, "at 600 rows a minute, as its limit says"),
    ],
)
def test_the_speed_is_the_one_that_is_known(
    tmp_path: Path, taught: int, calls: int, options: dict[str, Any], why: str
) -> None:
    """Rows would leave their batches a hundred times too early, for twice the price, though the limit is known."""
    live_way(tmp_path, taught)
    way = live_way(tmp_path, calls, **options)
    assert way.why == f"it is the fastest lane, {why}"
    assumed = live_way(tmp_path / "nothing", 0).seconds
    assert way.seconds == assumed if "assumed" in why else way.seconds < assumed / 5


def test_a_limit_that_was_found_by_trying_is_known_to_the_next_run(tmp_path: Path) -> None:
    """With a provider that tells nothing, each run would reckon with one row a second."""
    live_way(tmp_path, 3_000, headers="", rpm=600)
    way = live_way(tmp_path)
    assert way.why.endswith("as an earlier run has learnt")
    assert way.seconds < live_way(tmp_path / "nothing").seconds / 2


@pytest.mark.parametrize(
    ("limits", "max_tokens", "rows"),
    [
        (Limits(rpm=600, tpm=60_000), 100, 400),  # a prompt of about 50 tokens, and an answer of 100
        (Limits(rpm=600, otpm=30_000), 100, 300),
        (Limits(rpm=600, itpm=10_000_000), 100, 600),
        (Limits(tpm=60_000), 100, 400),
    ],
)
def test_limits_of_tokens_bound_the_speed(limits: Limits, max_tokens: int, rows: int) -> None:
    """Rows with long prompts would leave their batches too late: the live lane is slower than its requests say."""

    async def main() -> float | None:
        async with Client("openai/gpt-5-mini", api_key="k", config={}, limits=limits) as client:
            calls = [Call("word " * 40, max_tokens=max_tokens)] * 3
            return client._engine.stack.limiters.speed(client._engine.targets.target("openai/gpt-5-mini"), calls)[0]

    assert 60 * (run_virtual(main()) or 0.0) == pytest.approx(rows, rel=0.15)


def test_a_program_s_own_calls_tell_how_long_their_prompts_are(tmp_path: Path) -> None:
    """Only the number of calls would count."""

    async def main() -> None:
        limits = Limits(rpm=6_000, tpm=1_000)
        transport = SimulatedTransport(ProviderModel(ProviderSettings()))
        async with Client("openai/gpt-5-mini", api_key="k", config={}, limits=limits, transport=transport) as client:
            await client.gather(["word " * 500] * 100, lane="batch", store=tmp_path / "run.flatout", within=7_200)

    with pytest.raises(ConfigError, match="by its limit of tokens"):
        run_virtual(main())
