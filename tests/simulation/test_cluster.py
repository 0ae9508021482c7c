"""Workers on several machines that share one target's limits: whole clients, with a keeper that is some way off."""

from __future__ import annotations

import asyncio

import pytest

from flatout.look.team import look_at_team
from flatout.policies.pacing.aimd import START
from flatout.policies.pacing.axis import USE
from flatout.policies.pacing.unknown.leased import DISORDER
from flatout.testing import ProviderSettings, run_virtual
from flatout.values.place import place_of
from tests.support.cluster_world import PLACE, World

RPM = 6_000


def provider(**settings):
    return ProviderSettings(**{"rpm": RPM, "burst": 1.0, "latency": 0.5, "output_tokens": 5, **settings})


@pytest.fixture
def run(monkeypatch):
    """Runs a course of events in a world of workers."""

    def run_in(world, course):
        monkeypatch.setattr("flatout.cluster.redis.RedisLink", world.link)

        async def main():
            try:
                await course(world)
            finally:
                await world.stop()

        run_virtual(main())
        return world

    return run_in


@pytest.mark.parametrize(("count", "delay"), [(2, 0.001), (4, 0.02), (16, 0.005), (64, 0.001)])
def test_workers_use_the_limit_and_never_hit_it_through_starts_deaths_and_pauses(run, count, delay):
    """A fleet would be refused, or leave a part of its limit unused, with every machine that comes or goes."""

    async def course(world):
        world.start(count - 1, rpm=RPM)
        await asyncio.sleep(5.0)
        world.start(1, rpm=RPM)
        await asyncio.sleep(10.0)
        await world.kill(0)
        await asyncio.sleep(15.0)

    world = run(World(provider(), delay, max(8, 320 // count)), course)
    seen = stats(world)
    assert seen["refused"] == 0
    assert seen["received"] >= 0.97 * USE * RPM / 60.0 * 30.0
    assert world.exchanges <= 0.5 * seen["received"]


@pytest.mark.parametrize("count", [2, 16])
def test_a_keeper_on_another_continent_costs_little_of_the_limit(run, count):
    """Workers that are far from their Redis would wait for leases, and leave half of the limit unused."""

    async def course(world):
        world.start(count, rpm=RPM)
        await asyncio.sleep(2.0)
        assert await used(world, 18.0) >= 0.97 * RPM / 60.0
        assert stats(world)["refused"] == 0
        assert world.fairness() >= 0.95

    run(World(provider(), 0.15, 320 // count, steady=0.5), course)


def stats(world):
    """What the provider has counted."""
    return world.model.stats()


async def used(world, seconds):
    """The requests that are accepted in some seconds, per second."""
    before = stats(world)["admitted"]
    await asyncio.sleep(seconds)
    return (stats(world)["admitted"] - before) / seconds


def test_an_unknown_limit_is_found_together_and_outlives_a_worker_that_dies(run):
    """Each would climb into it by itself, and one that comes late begin anew."""

    async def course(world):
        world.start(4)
        await asyncio.sleep(60.0)
        at_start = stats(world)["refused"]
        assert await used(world, 10.0) >= 0.95 * RPM / 60.0
        await world.kill(0)
        await asyncio.sleep(1.0)
        assert await used(world, 15.0) >= 0.93 * RPM / 60.0
        world.start(2)
        await asyncio.sleep(10.0)
        assert await used(world, 15.0) >= 0.93 * RPM / 60.0
        assert at_start <= 150
        assert stats(world)["refused"] - at_start <= 0.005 * 40.0 * RPM / 60.0

    run(World(provider(), 0.002, 100), course)


def test_a_limit_that_the_provider_halves_costs_few_refusals(run):
    """Each worker would be refused by itself before it believes it: hundreds of times, in all."""

    async def course(world):
        world.start(4, rpm=RPM)
        await asyncio.sleep(60.0)
        assert await used(world, 30.0) >= 0.94 * RPM / 120.0
        assert stats(world)["refused"] <= 0.01 * stats(world)["received"]

    run(World(provider(changes=((20.0, {"rpm": RPM / 2}),)), 0.002, 100), course)


def test_when_the_keeper_is_away_each_goes_on_with_its_share_and_says_so_once(run, caplog):
    """A restart of Redis would stop all workers, or make the provider refuse them; and nobody would know why."""

    async def course(world):
        world.start(4, rpm=RPM)
        await asyncio.sleep(5.0)
        assert await used(world, 5.0) >= 0.97 * USE * RPM / 60.0
        world.up = False
        assert await used(world, 5.0) >= 0.75 * RPM / 60.0
        world.forget()
        world.up = True
        await asyncio.sleep(1.5)
        assert await used(world, 5.0) >= 0.97 * USE * RPM / 60.0
        assert stats(world)["refused"] == 0
        away = "is away (connection refused); this worker goes on with 22 % of the limits"
        assert sum(away in each for each in caplog.messages) == 4
        assert sum("answers again" in each for each in caplog.messages) == 4

    run(World(provider(), 0.002, 100), course)


@pytest.mark.parametrize("limits", [{"rpm": 60, "tpm": 1_000_000}, {"rpm": 300, "tpm": 90_000}])
def test_a_low_limit_is_used_beside_a_high_one(run, limits):
    """A small account would be used to a half: what was granted of one limit was lost before the other let it go."""

    async def course(world):
        world.start(3, **limits)
        await asyncio.sleep(60.0)
        assert stats(world)["admitted"] >= 0.85 * limits["rpm"]
        assert stats(world)["refused"] == 0

    run(World(provider(), 0.002, 20), course)


@pytest.mark.parametrize(
    ("count", "words", "limits"),
    [
        (16, 1_000, {"tpm": 120_000}),
        (16, 1_000, {"tpm": 120_000, "rpm": 1_000}),
        (4, 250, {"tpm": 9_000}),
        (16, 1, {"rpm": 1_200, "rpd": 86_400}),
        (16, 1, {"rpm": 60, "tpm": 1_000_000}),
    ],
    ids=["tokens", "tokens and requests", "few tokens", "a day's requests", "few requests"],
)
def test_many_workers_use_a_limit_that_few_calls_fill(run, count, words, limits):
    """Each worker would hold a part of the limit that is too small for its next call, or that another limit holds up:
    up to half of it would lie idle, and more with each worker."""
    settings = {"rpm": None, "burst": 15.0, "latency": 2.0, "output_tokens": 60, "reserve_max_tokens": False}
    given = {name: value for name, value in limits.items() if name != "rpd"}

    async def course(world):
        world.start(count, **limits)
        await asyncio.sleep(20.0)
        before = stats(world)
        await asyncio.sleep(120.0)
        after, kind = stats(world), "tokens_admitted" if words > 1 else "admitted"
        binds = limits["tpm"] if words > 1 else 60.0
        assert (after[kind] - before[kind]) / 2.0 >= 0.94 * binds
        assert after["refused"] == 0
        assert world.fairness() >= 0.9

    run(World(provider(**{**settings, **given}), 0.01, 64 // count, steady=0.7, words=words), course)


def test_tokens_and_requests_in_flight_are_shared_too(run):
    """Workers that keep to one limit together would each run past another."""
    given = {"rpm": RPM, "tpm": 12_000, "concurrency": 20}

    def after_a_minute(count):
        async def course(world):
            world.start(count, **given)
            await asyncio.sleep(60.0)

        return stats(run(World(provider(tpm=12_000), 0.002, 80 // count), course))

    together, one = after_a_minute(4), after_a_minute(1)
    assert together["refused"] == 0
    assert together["most_in_flight"] <= 20
    assert together["tokens_admitted"] >= 0.9 * one["tokens_admitted"]


def test_many_workers_use_a_limit_on_tokens_beside_one_on_requests_in_flight(run):
    """Workers that wait for tokens would hold the slots of those whose turn it is, and most of both lie idle."""
    given = {"rpm": RPM, "tpm": 12_000}

    async def course(world):
        world.start(64, concurrency=20, **given)
        await asyncio.sleep(20.0)
        before, exchanges = stats(world), world.exchanges
        await asyncio.sleep(120.0)
        after = stats(world)
        assert (after["tokens_admitted"] - before["tokens_admitted"]) / 2.0 >= 0.94 * given["tpm"]
        assert world.exchanges - exchanges <= 20 * (after["admitted"] - before["admitted"])
        assert after["refused"] == 0
        assert after["most_in_flight"] <= 20

    server = {"burst": 15.0, "latency": 2.0, "output_tokens": 60, "reserve_max_tokens": False, **given}
    run(World(provider(**server), 0.01, 4, steady=0.7, words=250), course)


def test_workers_with_different_limits_keep_to_the_smallest_and_say_so(run, caplog):
    """The most generous worker's limits would be used, and the provider refuse what is above the true ones."""

    async def course(world):
        world.start(2, rpm=RPM, concurrency=80)
        world.start(1, rpm=RPM / 2, concurrency=50)
        await asyncio.sleep(10.0)
        assert await used(world, 10.0) <= RPM / 120.0

    run(World(provider(), 0.002, 100), course)
    said = "another worker was given a smaller limit, which holds for all: "
    for smaller in ("3,000 requests per minute", "50 requests in flight"):
        assert sum(each.endswith(said + smaller) for each in caplog.messages) == 2


def test_a_worker_that_was_given_more_is_not_told_of_another_one(run, caplog):
    """A user who raises a limit would look for another worker, which does not exist."""

    async def course(world):
        async with world.client(rpm=600, concurrency=4) as client:
            asking = asyncio.create_task(client.gather([f"{number}" for number in range(2_000)]))
            await asyncio.sleep(5.0)
            client.set_limits(rpm=1_200, concurrency=32)
            await asyncio.sleep(20.0)
            assert await used(world, 5.0) >= 0.9 * USE * 20.0
            asking.cancel()
            await asyncio.wait([asking])

    run(World(provider(), 0.002), course)
    assert not caplog.messages


def test_workers_without_a_limit_keep_to_that_of_the_others(run, caplog):
    """A worker that was started without the team's options would run into the limit that the others keep to."""
    rpm = 1_200

    async def course(world):
        for limits in ({}, {"rpm": rpm}, {}):  # one comes before the limit is known, and one after
            world.start(1, **limits)
            await asyncio.sleep(1.0)
        at_start = stats(world)["refused"]
        await asyncio.sleep(3.0)
        assert await used(world, 10.0) >= 0.97 * USE * rpm / 60.0
        assert stats(world)["refused"] == at_start
        assert world.fairness() >= 0.9

    run(World(provider(rpm=rpm), 0.002, 40), course)
    assert not [each for each in caplog.messages if "another worker" in each]


def test_workers_without_a_concurrency_keep_to_that_of_the_others(run):
    """A server of one's own would get more requests at once than its owner said."""

    async def course(world):
        world.start(1, concurrency=16)
        await asyncio.sleep(1.0)
        world.start(2, adaptive="concurrency")
        await asyncio.sleep(10.0)
        assert world.fairness() >= 0.9

    seen = stats(run(World(provider(rpm=None, slots=64), 0.002, 30), course))
    assert seen["most_in_flight"] <= 16 + 2 * START  # what goes before the keeper's first answer
    assert seen["answered"] >= 0.8 * 16 * 11.0 / 0.5


@pytest.mark.parametrize(
    ("server", "before", "after", "other", "least"),
    [
        ({}, {"rpm": 600}, {"rpm": 3_000}, {}, 0.97 * USE * 50.0),
        ({"rpm": None, "slots": 64}, {"concurrency": 4}, {"concurrency": 32}, {"adaptive": "concurrency"}, 0.85 * 64.0),
    ],
    ids=["rate", "concurrency"],
)
def test_a_raised_limit_holds_although_a_worker_that_follows_it_is_idle(run, server, before, after, other, least):
    """The team would keep to the old limit for as long as a worker without a limit of its own has nothing to ask."""

    async def course(world):
        async with world.client(**before) as given, world.client(**other) as follows:
            asking = asyncio.create_task(given.gather([f"{number}" for number in range(4_000)]))
            await asyncio.sleep(1.0)
            await follows.gather([f"once {number}" for number in range(20)])
            await asyncio.sleep(15.0)
            given.set_limits(**after)
            await asyncio.sleep(15.0)
            rate = await used(world, 10.0)
            asking.cancel()
            await asyncio.wait([asking])
            assert rate >= least

    run(World(provider(**server), 0.002), course)


@pytest.mark.parametrize(
    ("server", "limits", "least"),
    [
        ({"rpm": RPM, "burst": 1.0, "headers": "openai"}, {}, 0.97 * USE * RPM / 60.0),
        ({"rpm": None, "slots": 32}, {"adaptive": "concurrency"}, 45.0),
        ({"rpm": None, "slots": 32, "queue": 0, "queue_status": 429}, {}, 38.0),
    ],
    ids=["told by headers", "a server of one's own", "slots"],
)
def test_what_the_target_does_not_say_beforehand_is_found(run, server, limits, least):
    """Without a limit that is given, workers would be let go by nobody, or by each other too often."""

    async def course(world):
        world.start(4, **limits)
        await asyncio.sleep(40.0)
        before = world.exchanges
        assert await used(world, 10.0) >= least
        assert world.exchanges - before <= 1.25 * 4 * 10.0 / DISORDER  # no more than a search needs

    run(World(provider(**server), 0.002, 60), course)


def test_who_looks_at_the_team_sees_what_the_provider_has_seen(run):
    """People would see calls twice that a worker reports again, or lose those of workers that died."""

    rpm = 600

    async def course(world):
        world.start(4, rpm=rpm)
        for name in ("answers", "up"):  # first the keeper hears, and then it forgets all workers
            await asyncio.sleep(10.0)
            setattr(world, name, False)
            await asyncio.sleep(15.0)
            setattr(world, name, True)
        await asyncio.sleep(5.0)
        await world.kill(0)
        await asyncio.sleep(70.0)
        [target] = look_at_team(place_of(PLACE)).targets
        served, lost = stats(world)["answered"], 2 * rpm / 60.0  # since the last reports
        assert served - lost <= target.sums.answered <= served
        assert target.sums.input_tokens >= target.sums.answered
        assert (target.sums.cost, target.sums.unpriced) == (None, target.sums.answered)
        assert target.sent == pytest.approx(USE * rpm / 60.0, rel=0.03)
        [limit] = target.limits
        assert (limit.name, limit.limit) == ("rpm", rpm)
        assert limit.used == pytest.approx(USE, rel=0.03)
        assert target.binds == "requests"
        assert len(target.workers) == 3
        assert sum(worker.in_flight for worker in target.workers) > 0

    run(World(provider(rpm=rpm), 0.002, 30), course)


def test_the_teams_use_of_a_limit_is_right_through_a_join_an_end_and_a_death(run):
    """Who looks would see a limit used above the full, or half of it unused, for a minute after each of them."""

    rpm, seen = 600, []

    async def look(world, seconds):
        for _ in range(seconds):
            await asyncio.sleep(1.0)
            [target] = look_at_team(place_of(PLACE)).targets
            seen.append((target.limits[0].used, target.sent))

    async def course(world):
        world.start(2, rpm=rpm)
        await asyncio.sleep(10.0)
        await look(world, 15)
        world.start(1, rpm=rpm)
        await look(world, 30)
        await world.end(0)
        await look(world, 30)
        await world.kill(1)
        await look(world, 30)
        assert stats(world)["refused"] == 0

    run(World(provider(rpm=rpm), 0.002, 30), course)
    assert min(used for used, _ in seen) >= 0.95
    assert max(used for used, _ in seen) <= 1.0
    assert [sent for _, sent in seen] == pytest.approx([used * rpm / 60.0 for used, _ in seen])
