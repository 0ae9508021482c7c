"""The keeper of shared limits in Ray, without Ray; ``tests/integration/test_engines.py`` has the real one."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType

import pytest
from msgspec.msgpack import encode
from msgspec.structs import replace

from flatout import ConfigError, Limits
from flatout.cluster.links import link_to
from flatout.cluster.ray import Keepers, RayKeeper
from flatout.policies.pacing.exchange import Ask, CellAsk, News
from flatout.policies.pacing.leases import Keeper
from flatout.policies.pacing.leases_log import SharedJournal
from flatout.policies.pacing.reports import Report, Sums
from flatout.values.place import Place, place_of

PLACE = place_of("ray://team")
ASK = Ask("a", cells=(CellAsk("rpm", 100.0, 1.0, 10.0, 20.0, 1.0, 0.0, 0.0),))


class RayError(Exception):
    """What everything that fails in Ray is."""


class Method:
    def __init__(self, method) -> None:
        self._method = method

    def remote(self, *given):
        async def answer():
            return self._method(*given)

        return answer()


class Actor:
    """An actor that is in this process."""

    def __init__(self, made) -> None:
        self._made = made

    def __getattr__(self, name):
        return Method(getattr(self._made, name))


@pytest.fixture
def ray(monkeypatch):
    """A Ray whose actors are in this process, each with the options that it was asked for."""
    module, module.actors = ModuleType("ray"), {}
    errors = ModuleType("ray.exceptions")
    errors.RayError = RayError

    class Remote:
        def __init__(self, kind) -> None:
            self._kind, self._options = kind, {}

        def options(self, **options):
            self._options = options
            return self

        def remote(self):
            return module.actors.setdefault(str(self._options), Actor(self._kind()))

    def get_actor(name, namespace):
        for options, actor in module.actors.items():
            if f"'name': '{name}'" in options:
                return actor
        raise ValueError(name)

    module.remote, module.exceptions, module.is_initialized = Remote, errors, lambda: True
    module.get_actor = get_actor
    module.get = lambda answer, timeout: asyncio.run(answer)
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setitem(sys.modules, "ray.exceptions", errors)
    return module


def test_an_address_in_ray_is_a_place():
    """Actors would share with nobody."""
    assert Limits(shared="ray://team").shared == "ray://team"
    assert place_of("ray://team") == Place("ray:/", "team")
    assert str(PLACE) == "ray://team"
    for wrong in ("ray://", "ray://host:6379/team"):
        with pytest.raises(ConfigError, match="with a name at its end"):
            Limits(shared=wrong)


def test_the_actor_answers_as_the_keeper_does(ray, monkeypatch):
    """Actors would be granted other leases than the tests of the keeper promise."""
    monkeypatch.setattr("time.monotonic", lambda: 7.0)
    plain, journal = Keeper(), SharedJournal()
    keeper = RayKeeper(Actor(Keepers()), PLACE, "target")
    for number in range(3):
        ask, news = replace(ASK, number=number), News(batch=b"%d" % number, place=number)
        assert asyncio.run(keeper.exchange(ask, news)) == (plain.exchange(7.0, ask), journal.exchange(news))


def test_each_target_has_a_keeper_of_its_own(ray):
    """Two keys would share one limit."""
    link = link_to(PLACE)
    link.check()
    asks = [("a", ASK), ("a", replace(ASK, number=1)), ("b", ASK)]
    granted = [asyncio.run(link.keeper(target).exchange(ask, News()))[0] for target, ask in asks]
    assert [round(each.leases[0].taken) for each in granted] == [20, 40, 20]


def test_all_clients_of_a_name_find_the_same_actor(ray):
    """Each worker would have a keeper of its own, and all of the limit."""
    for place in (PLACE, PLACE, place_of("ray://other")):
        link_to(place).check()
    [one, other] = ray.actors
    assert "'name': 'team:" in one
    assert "'name': 'other:" in other
    assert "'get_if_exists': True" in one
    assert "'lifetime': 'detached'" in one


def test_a_team_in_ray_is_seen_without_starting_anything(ray):
    """Looking would start an actor that outlives the look, or not find the one that is there."""
    link = link_to(PLACE)
    assert link.look() == []
    assert ray.actors == {}
    link.check()
    report = Report(Sums(answered=3), Sums(), "target", "host:1")
    asyncio.run(link.keeper("target").exchange(ASK, News(report=encode(report))))
    [seen] = link.look()
    assert seen.reports == {"a": report}
    assert seen.summed.sums == Sums(answered=3)
    assert [worker.name for worker in seen.keeper.workers] == ["a"]


def test_an_actor_that_fails_counts_as_away(ray):
    """A call would fail, instead of going on with the worker's share."""

    class Dead:
        def exchange(self, *given):
            raise RayError("the actor\ndied")

    with pytest.raises(OSError, match="the actor died"):
        asyncio.run(RayKeeper(Actor(Dead()), PLACE, "t").exchange(ASK, News()))


def test_what_is_missing_at_the_start_is_told(ray, monkeypatch):
    """The first call would fail with a message of Ray's, or wait for a cluster that is not there."""
    with monkeypatch.context() as changed:
        changed.setattr(ray, "is_initialized", lambda: False)
        with pytest.raises(ConfigError, match=r"shared at ray://team need a cluster of Ray: call ray.init\(\) before"):
            link_to(PLACE).check()
        with pytest.raises(ConfigError, match="ray://team is seen from a program in its cluster of Ray"):
            link_to(PLACE).look()

    def late(answer, timeout):
        answer.close()
        raise RayError("no machine has room")

    with monkeypatch.context() as changed:
        changed.setattr(ray, "get", late)
        with pytest.raises(ConfigError, match="cannot be reached, so nothing is sent: no machine has room"):
            link_to(PLACE).check()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"need ray, which is not installed: pip install 'flatout\[ray\]'"):
        link_to(PLACE).check()
