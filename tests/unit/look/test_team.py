"""Looking at the workers that share limits on several machines."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from flatout import ConfigError
from flatout.cli.team_text import lines
from flatout.cluster.redis import reason
from flatout.look.team import look_at_team
from flatout.look.watch.help import HelpScreen
from flatout.look.watch.team import WatchTeam
from flatout.policies.pacing.leases import ACTIVE, Heard, Keeper
from flatout.policies.pacing.reports import KEPT, Report, Second, Seen, Summed, Sums
from flatout.policies.pacing.turns import Worker
from flatout.values.place import place_of

PLACE = place_of("redis://host:6379/0/team")
CLOCK = 5_000.0
NAME = "openai/gpt-5-mini"


def report(name, sent, **more):
    return Report(Sums(), Sums(), NAME, name, sent, allows=LIMITS, **more)


LATELY = tuple(Second(at, 9.0, 90.0, 18.0) for at in range(int(CLOCK) - KEPT, int(CLOCK)))
LIMITS = {"rpm": 600.0, "tpm": 12_000.0, "concurrency": 40.0}


def seen(**more):
    """Three workers: a busy one, one that was given a smaller limit, and one that has gone."""
    known = {
        "keeper": Keeper(
            last=CLOCK - 0.5,
            paused=CLOCK + 12.0,
            workers=[Worker(name, CLOCK - ago, CLOCK) for name, ago in (("a", 0.5), ("b", 3.0), ("c", ACTIVE + 1.0))],
            heard=[Heard("rpm", 600.0, 60.0, CLOCK)],
        ),
        "summed": Summed(CLOCK - 60.0, Sums(1_234, 5, 12_340, 2_468, 0, 0.0, 1_239), NAME, LATELY),
        "reports": {
            "a": report("host-1:7", 6.0, in_flight=9, waiting=100, binds="requests", binding=60.0),
            "b": report("host-2:8", 3.0, in_flight=3, waiting=2, binds="concurrency", binding=2.0),
            "c": report("host-3:9", 1.0),
        },
    }
    return Seen(CLOCK, **{**known, **more})


@pytest.fixture
def found(monkeypatch):
    """What there is to see; a test may replace it."""
    there = [seen()]

    class Link:
        @staticmethod
        def look():
            return there

    monkeypatch.setattr("flatout.look.team.link_to", lambda place: Link)
    return there


def test_a_look_adds_up_what_the_workers_say(found):
    """People would not see which limit binds, how much of it is used, or that a worker has gone."""
    before = time.time()
    [target] = look_at_team(PLACE).targets
    assert {limit.name: limit.used for limit in target.limits} == pytest.approx(
        {"rpm": 0.9, "tpm": 0.54, "concurrency": 0.3}
    )
    assert [limit.name for limit in target.limits if limit.told] == ["rpm"]
    assert target.binds == "requests"
    assert before <= target.since + 60.5 <= time.time()
    assert target.paused == pytest.approx(12.0)
    assert [(worker.name, worker.share, worker.heard) for worker in target.workers] == [
        ("host-1:7", pytest.approx(2 / 3), pytest.approx(0.5)),
        ("host-2:8", pytest.approx(1 / 3), pytest.approx(3.0)),
    ]
    assert (target.sums.cost, target.sums.unpriced) == (None, 1_239)


def test_a_team_fits_into_a_small_terminal(found):
    """Lines would be broken, or a figure that is not known be shown as 0."""
    told = lines(look_at_team(PLACE))
    assert max(map(len, told)) <= 78
    text = "\n".join(told)
    assert "600 requests per minute, 90 % used, as the provider says" in text
    assert "requests per minute, for 1 min 00 s" in text
    assert "1,234 answered, 5 failed" in text
    assert "cost        unknown" in text
    assert "host-3" not in text


def test_a_team_that_has_gone_is_still_known(found):
    """What a fleet has cost would be lost with its last worker, or stand under no name."""
    found[:] = [seen(keeper=Keeper(), reports={})]
    text = "\n".join(lines(look_at_team(PLACE)))
    assert "openai/gpt-5-mini: no worker is there now" in text
    assert "1,234 answered, 5 failed" in text
    assert "unknown: neither" in text
    assert "limits" not in text


def test_what_a_team_is_called_cannot_change_the_terminal(found):
    """Anybody who can write to the server would draw on the screens of those who look."""
    evil = "\x1b[2Jhost\n"
    reports = {"a": report(evil, 1.0, binds=evil), "b": Report(Sums(), Sums(), evil, evil)}
    found[:] = [seen(reports=reports, summed=Summed(CLOCK, Sums(), evil))]
    assert not any("\x1b" in line or "\n" in line for line in lines(look_at_team(PLACE)))


def test_a_team_that_nobody_is_in_is_said_in_a_sentence(found):
    """A wrong name would look like a team without calls."""
    found.clear()
    with pytest.raises(ConfigError, match=r"nobody has shared limits at redis://host:6379/0/team in the last day"):
        look_at_team(PLACE)


def test_the_screen_goes_on_when_the_server_is_away(found):
    """A restart of the server would end the look, or go unseen."""

    async def main():
        app = WatchTeam(look, lines, every=0.01)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "host-1:7" in shown(app, "#team"))
            troubles.append(ConfigError("redis://host:6379/0/team cannot be reached: refused"))
            await until(pilot, lambda: app.query_one("#trouble").display)
            assert re.search(r"refused\. What is shown was read at [\d:]{8}, .* ago\.", shown(app, "#trouble"))
            assert "host-1:7" in shown(app, "#team")
            troubles.clear()
            await until(pilot, lambda: not app.query_one("#trouble").display)
            await pilot.press("q")

    def look():
        if troubles:
            raise troubles[0]
        return look_at_team(PLACE)

    troubles = []
    asyncio.run(main())


def test_the_screen_waits_for_the_first_worker_and_explains_itself(found):
    """Whoever starts it before the workers would start it again; and nobody would tell what the words mean."""

    async def main():
        there, found[:] = found[:], []
        app = WatchTeam(lambda: look_at_team(PLACE), lines, every=0.01)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "Waiting for the first worker: nobody has shared" in shown(app, "#trouble"))
            found[:] = there
            await until(pilot, lambda: "host-1:7" in shown(app, "#team"))
            assert not app.query_one("#trouble").display
            await pilot.press("question_mark")
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            await pilot.press("escape", "q")

    asyncio.run(main())


def test_a_reason_has_no_full_stop_of_its_own():
    """A sentence about a server that is away would end in two."""
    assert reason(ConnectionError("Connection refused.")) == "Connection refused"


def shown(app, name):
    return str(app.query_one(name).render())


async def until(pilot, there):
    for _ in range(500):
        if there():
            return
        await pilot.pause(0.01)
    raise AssertionError("it is not shown")
