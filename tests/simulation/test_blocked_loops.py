"""Programs whose own work blocks the event loop again and again: the rest of ``python -m benchmarks.blocked``."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.blocked import Scene, flatout, measure
from flatout.testing import ProviderSettings

SERVERS = {
    "bucket 0.5 s": {"limit": "bucket", "burst": 0.5},
    "bucket 60 s": {"limit": "bucket", "burst": 60.0},
    "sliding 1 s": {"limit": "sliding", "window": 1.0},
    "sliding 10 s": {"limit": "sliding", "window": 10.0},
    "fixed 1 s": {"limit": "fixed", "window": 1.0},
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_known_limit_is_used_and_not_hit_although_the_loop_is_blocked(server):
    """A program that works on each answer for 0.4 s would use less than half of what it pays for."""
    scene = Scene(ProviderSettings(rpm=600, latency=0.3, **server), block=0.4, free=0.05)
    came = measure(scene, 1, partial(flatout, given=True))
    assert came.used >= 0.75
    assert came.refused == 0


def test_a_provider_that_counts_by_the_second_is_not_taken_for_one_with_a_lower_limit():
    """A few refusals would have the run search for another limit, and use a third of the true one."""
    scene = Scene(ProviderSettings(rpm=1_200, latency=0.3, **SERVERS["sliding 1 s"]), block=0.12, free=0.04)
    came = measure(scene, 1, partial(flatout, given=True))
    assert came.used >= 0.85
    assert came.refused <= 20
