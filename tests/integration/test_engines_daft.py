"""flatout on Daft: the real engine, in processes that are killed."""

from __future__ import annotations

from tests.support import own_network
from tests.support.engine_jobs import Job, goes_on_after, needs_engines, uses_the_limit

pytestmark = needs_engines


def test_daft_uses_the_limit_to_the_full_and_loses_nothing() -> None:
    """A job would wait most of the time, or lose rows, or be refused for its speed."""
    own_network.alone(lambda: uses_the_limit("daft", 900))


def test_a_killed_program_over_daft_run_again_pays_only_for_what_was_in_flight() -> None:
    """Whoever runs a job again after a crash would pay for all of it twice."""
    own_network.alone(lambda: goes_on_after(Job.kill, 600, at=300, name="daft", cache="answers.cache"))
