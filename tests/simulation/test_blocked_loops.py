"""Programs whose own work blocks the event loop again and again: the rest of ``python -m benchmarks.blocked``."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Literal

import pytest

from benchmarks.blocked import Came, Scene, flatout, measure
from flatout import Limits, Route
from flatout.testing import ProviderSettings, run_virtual
from tests.support.several_providers import Providers

STRICT = {
    "bucket 0.5 s": {"limit": "bucket", "burst": 0.5},
    "sliding 1 s": {"limit": "sliding", "window": 1.0},
    "fixed 1 s": {"limit": "fixed", "window": 1.0},
}
"""Providers that refuse what was missed if it comes at once."""

LENIENT = {
    "bucket 2 s": {"limit": "bucket", "burst": 2.0},
    "bucket 60 s": {"limit": "bucket", "burst": 60.0},
    "sliding 10 s": {"limit": "sliding", "window": 10.0},
    "fixed 10 s": {"limit": "fixed", "window": 10.0},
    "sliding 60 s": {"limit": "sliding", "window": 60.0},
}
"""Providers that take it."""


def blocked(server: dict[str, Any], block: float) -> Came:
    scene = Scene(ProviderSettings(rpm=600, latency=0.3, **server), block=block, free=0.05)
    return measure(scene, 1, partial(flatout, given=True))


@pytest.mark.parametrize("block", [0.4, 1.0])
@pytest.mark.parametrize("server", LENIENT.values(), ids=LENIENT)
def test_a_known_limit_is_used_to_the_full_although_the_loop_is_blocked(server, block):
    """A program that works on each answer would be half as fast as a simple script."""
    came = blocked(server, block)
    assert came.used >= 0.9
    assert came.refused == 0


@pytest.mark.parametrize("server", STRICT.values(), ids=STRICT)
def test_a_provider_that_counts_by_the_second_refuses_few_calls_once(server):
    """Each block of the loop would be followed by refusals, or a whole run be slow after the first of them."""
    came = blocked(server, 0.4)
    assert came.used >= 0.75
    assert came.refused <= 4


def test_a_provider_that_counts_by_the_second_is_not_taken_for_one_with_a_lower_limit():
    """A few refusals would have the run search for another limit, and use a third of the true one."""
    scene = Scene(ProviderSettings(rpm=1_200, latency=0.3, **STRICT["sliding 1 s"]), block=0.12, free=0.04)
    came = measure(scene, 1, partial(flatout, given=True))
    assert came.used >= 0.85
    assert came.refused <= 20


@pytest.mark.parametrize("order", ["spill", "spread"])
def test_a_route_that_is_idle_now_and_then_is_not_taken_for_a_blocked_program(order: Literal["spill", "spread"]):
    """Calls that waited for a target and went to another would have it try more at once, and be refused."""
    server = ProviderSettings(rpm=600, latency=1.0, burst=0.5)
    providers = Providers(a=server, b=server)

    async def main() -> None:
        route, limits = Route("a/m", "b/m", order=order), Limits(rpm=600)
        async with providers.client(route, config=providers.config(), limits=limits) as client:
            for _ in range(10):
                await client.gather([f"{number}" for number in range(60)])
                await asyncio.sleep(8.0)

    run_virtual(main())
    assert providers.seen("refused") == {"a": 0, "b": 0}
