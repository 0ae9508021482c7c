"""flatout on Ray and Daft for minutes, while every kind of process dies in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support import own_network
from tests.support.command_samples import provider
from tests.support.engine_jobs import (
    ADDRESS,
    BURST,
    RPM,
    SLACK,
    STRAY,
    Cluster,
    Job,
    cluster,
    folder,
    goes_on_after,
    jobs,
    needs_engines,
    used,
    uses_the_limit,
    whole,
)
from tests.support.redis_server import RedisServer, needs_redis, redis_server

pytestmark = [*needs_engines, needs_redis, pytest.mark.soak]

ROWS = 20_000
AWAY = 2.0
"""Seconds until a killed server is back."""


class World:
    """A job, and what may die around it.

    Args:
        start: starts the job, or starts it again.
        broker: the server at which its workers share a limit.
        nodes: the cluster that it runs in; None for an engine without one.
    """

    def __init__(self, start: Callable[[], Job], broker: RedisServer, nodes: Cluster | None) -> None:
        self._broker = broker
        self._start = start
        self._nodes = nodes
        self.job = start()

    def actor(self) -> None:
        """The actor that began last."""
        self.job.kill_worker()

    def idle_workers(self) -> None:
        """The processes that wait for a task of Ray's."""
        assert self._nodes is not None
        self._nodes.kill_idle_workers()

    def node(self) -> None:
        """A node with an actor on it, and all its processes."""
        assert self._nodes is not None
        self._nodes.kill_node(self.job.worker)

    def program(self) -> None:
        """The program itself. It is run again."""
        self.job.kill()
        self.job = self._start()

    def broker(self) -> None:
        """The server at which the limit is shared. It comes back with nothing in memory."""
        self._broker.kill()
        time.sleep(AWAY)
        self._broker.start()


def outlives(
    deaths: Sequence[Callable[[World], None]], name: str, nodes: Cluster | None = None, **settings: Any
) -> None:
    """A job of 20,000 rows with faults and stray refusals, in which one thing after another dies."""
    with (
        provider(latency=0.5, rpm=RPM, burst=BURST, faults=STRAY) as server,
        folder() as for_broker,
        folder() as for_cache,
        redis_server(for_broker) as broker,
        redis_server(for_cache) as kept,
    ):
        shared = {"shared": broker.address("team"), "cache": kept.address("answers")}
        with jobs(server, rows=ROWS, **shared, **settings) as start:
            world, in_flight, died = World(lambda: start(name), broker, nodes), 0, []
            for number, death in enumerate(deaths, 1):
                server.wait_for(number * ROWS // (len(deaths) + 1))
                before = server.stats()
                died.append(len(before["admitted_per_second"]))
                in_flight += before["in_flight"] + SLACK
                death(world)
            told = world.job.told()
            stats = server.stats()
            assert told == whole(ROWS)
            assert stats["refused"] == 0
            assert stats["answered"] <= ROWS + in_flight
            assert used(stats, RPM, died) >= 0.95, (died, stats["admitted_per_second"])


def test_daft_uses_the_limit_to_the_full_and_loses_nothing() -> None:
    """A job of hours would slow down, or lose rows, where a short one does not."""
    own_network.alone(lambda: uses_the_limit("daft", ROWS, STRAY))


def test_daft_on_ray_uses_the_limit_to_the_full_and_loses_nothing() -> None:
    """A job of hours would slow down, or lose rows, where a short one does not."""

    def work() -> None:
        with cluster():
            uses_the_limit("daft_on_ray", ROWS, STRAY, address=ADDRESS)

    own_network.alone(work)


def test_a_job_over_ray_outlives_the_death_of_everything() -> None:
    """A cluster of machines that may be taken away at any time would lose rows, or pay for them again and again."""

    def work() -> None:
        with cluster(cpus=0) as nodes:
            for _ in range(2):
                nodes.add_node()
            deaths = [World.program, World.actor, World.broker, World.idle_workers, World.node]
            outlives(deaths, "ray", nodes, address=ADDRESS, actors=2)

    own_network.alone(work)


def test_a_job_over_daft_outlives_the_death_of_everything() -> None:
    """A job would lose rows, or pay twice for all that it has, when it is run again."""
    own_network.alone(lambda: outlives([World.broker, World.program], "daft"))


@pytest.mark.parametrize(("cpus", "again"), [(8, 200), (2, 800)])
def test_a_checkpoint_of_ray_skips_the_blocks_that_were_written(cpus: int, again: int) -> None:
    """A user without a cache would pay for all rows again, or wait for ever where Ray's filter leaves one processor.

    That one serves readers and writers in turn, so nothing is promised of how many blocks are written when.
    """

    def work() -> None:
        with cluster(cpus):
            goes_on_after(Job.kill, 800, at=450, name="ray_checkpointed", again=again, block=100, address=ADDRESS)

    own_network.alone(work)
