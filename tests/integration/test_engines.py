"""flatout on Ray: the real engine, in processes that are killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import own_network
from tests.support.command_samples import provider
from tests.support.engine_jobs import (
    ADDRESS,
    BURST,
    RPM,
    Cluster,
    Job,
    cluster,
    folder,
    goes_on_after,
    jobs,
    needs_engines,
    uses_the_limit,
    whole,
)
from tests.support.redis_server import needs_redis, redis_server

pytestmark = needs_engines


@pytest.fixture(scope="module")
def run() -> Iterator[own_network.Run]:
    """Runs a test in the network that all of them share."""
    with own_network.network() as made:
        yield made


@pytest.fixture(scope="module")
def ray(run: own_network.Run) -> Iterator[Cluster]:
    """The cluster that all tests share: Ray takes longer to start than most of them to end."""
    opened = cluster()
    yield run(opened.__enter__)
    opened.__exit__(None, None, None)


def test_ray_uses_the_limit_to_the_full_and_loses_nothing(run: own_network.Run, ray: Cluster) -> None:
    """A cluster would wait most of the time, or lose rows, or be refused for its speed."""
    run(lambda: uses_the_limit("ray", 900, address=ADDRESS))


def test_ray_is_told_the_types_and_tells_in_a_sentence_what_is_wrong(run: own_network.Run, ray: Cluster) -> None:
    """A look at the types would be paid for, and what is wrong be told after a page of an actor's traceback."""

    def work() -> None:
        with provider() as server, jobs(server, address=ADDRESS, rows=3) as start:
            told = start("ray_looks").told()
            assert server.received == 3
        assert told["as_looked"]
        names = ["id", "text", "answer", "error", "cost"]
        assert told["unknown"] == [names, names, [name for name in names if name != "text"]] * 2
        [line] = (
            number for number, line in enumerate(told["refusal"]) if "cannot be reached, so nothing is sent" in line
        )
        assert told["refusal"][line].startswith("flatout.errors.ConfigError: ")
        assert line <= 4

    run(work)


def test_a_killed_program_over_ray_run_again_pays_only_for_what_was_in_flight(
    run: own_network.Run, ray: Cluster
) -> None:
    """Whoever runs a job again after a crash would pay for all of it twice."""
    run(lambda: goes_on_after(Job.kill, 600, at=300, address=ADDRESS, cache="answers.cache"))


@needs_redis
def test_a_killed_actor_pays_only_for_what_was_in_flight(run: own_network.Run, ray: Cluster) -> None:
    """Ray repeats the blocks of an actor that died: all their rows would be paid twice."""

    def work() -> None:
        with folder() as place, redis_server(place) as kept:
            goes_on_after(Job.kill_worker, 800, at=350, address=ADDRESS, cache=kept.address("answers"))

    run(work)


def test_several_actors_share_one_limit_while_its_keeper_is_killed(run: own_network.Run, ray: Cluster) -> None:
    """A job that needs several actors would be refused for its speed, or stand still without the keeper."""

    def work() -> None:
        with provider(latency=0.5, rpm=RPM, burst=BURST) as server, jobs(server, address=ADDRESS) as start:
            job = start("ray", rows=900, actors=2, shared="ray://team", block=100)
            server.wait_for(300)
            ray.kill_keeper()
            assert job.told() == whole(900)
            assert job.workers() == 2
            assert server.stats()["refused"] == 0

    run(work)
