"""One limit for several workers through Redis, against a provider in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress

import pytest

from flatout import Client, ConfigError, Limits
from flatout.cli import main
from flatout.cluster.redis import _keys
from flatout.look.team import look_at_team
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from flatout.values.place import place_of
from tests.support.command_samples import eventually
from tests.support.limited_programs import RPM, programs, stats, use
from tests.support.redis_server import needs_redis, redis_server

pytestmark = needs_redis
WORKERS = 4


@pytest.fixture
def redis(tmp_path):
    with redis_server(tmp_path) as server:
        yield server


def test_four_workers_share_one_limit_though_one_is_killed_and_redis_restarts(tmp_path, redis):
    """A fleet would be refused, leave a part of the limit unused, or stop when Redis does."""
    # Two seconds of the limit at once: a busy machine bunches what is sent evenly. Three whole limits would pass that.
    with programs(tmp_path, "--rpm", str(RPM), "--burst", "2", "--latency", "0.05") as four:
        four.start(WORKERS, shared=redis.address("team"), rpm=RPM)
        four.wait_until_busy()
        time.sleep(1.0)
        together = four.watch(4.0)
        four.kill(0)
        time.sleep(0.5)
        without = four.watch(2.0)
        redis.kill()
        time.sleep(0.5)
        alone = four.watch(2.0)
        redis.start()
        time.sleep(1.5)
        again = four.watch(2.0)
        four.wait(range(1, WORKERS))
        still = four.still()
        assert stats(four.url)["refused"] == 0
        assert use(together, still, WORKERS) >= 0.93
        assert use(without, still, WORKERS - 1) >= 0.93
        assert use(alone, still, WORKERS - 1) >= 0.6  # three quarters are theirs, of which they use nine tenths
        assert use(again, still, WORKERS - 1) >= 0.93


def test_a_team_is_seen_by_its_address(redis, capsys):
    """Nobody could tell whether a fleet is at work, what holds it, or what it has cost."""
    address = redis.address("team")
    assert main(["status", address]) == 2
    assert "nobody has shared limits at" in capsys.readouterr().err

    async def work():
        transport = SimulatedTransport(ProviderModel(ProviderSettings(latency=0.05)))
        limits = Limits(rpm=6_000, shared=address)
        async with Client("any", base_url="http://any/v1", limits=limits, transport=transport, config={}) as client:
            asking = asyncio.create_task(client.gather(["a question"] * 200))
            await asyncio.to_thread(eventually, answering)
            await asking

    seen = []

    def answering():
        with suppress(ConfigError):  # nothing is known yet
            seen[:] = look_at_team(place_of(address)).targets
        return any(target.sums.answered for target in seen)

    asyncio.run(work())
    [target] = seen
    assert [worker.name.endswith(f":{os.getpid()}") for worker in target.workers] == [True]
    for command in (["status", address], ["watch", address, "--once"]):
        assert main(command) == 0
        assert "200 answered" in capsys.readouterr().out
    assert main(["status", address, "--json"]) == 0
    [target] = json.loads(capsys.readouterr().out)["targets"]
    assert (target["workers"], target["sums"]["cost"]) == ([], None)
    redis.kill()
    assert main(["status", address]) == 2
    assert f"{address} cannot be reached: " in capsys.readouterr().err


@pytest.mark.parametrize("field", ["any", "any:worker", b"\xff"])
def test_what_another_program_keeps_there_is_told_in_a_sentence(redis, capsys, field):
    """A stranger's key would end the commands that look at a team with a traceback."""
    import redis as package

    address = redis.address("foreign")
    with package.Redis(unix_socket_path=str(redis.socket)) as client:
        client.hset(_keys(place_of(address), "")[-1], field, "not ours")
    for command in (["status", address], ["watch", address, "--once"]):
        assert main(command) == 2
        assert f"{address} has something else than shared limits: " in " ".join(capsys.readouterr().err.split())


@pytest.mark.soak
def test_workers_go_on_through_many_restarts_of_redis(tmp_path, redis):
    """What is sent too much after each restart would add up to a refusal."""
    with programs(tmp_path, "--rpm", str(RPM), "--burst", "1", "--latency", "0.05") as four:
        four.start(WORKERS, shared=redis.address("team"), rpm=RPM)
        four.wait_until_busy()
        for seconds in (5.0, 1.0, 0.1, 3.0, 0.5):
            time.sleep(5.0)
            redis.kill()
            time.sleep(seconds)
            redis.start()
        time.sleep(2.0)
        again = four.watch(20.0)
        four.wait(range(WORKERS))
        assert stats(four.url)["refused"] == 0
        assert use(again, four.still(), WORKERS) >= 0.93


@pytest.mark.soak
@pytest.mark.parametrize("sleeper", ["a worker", "redis"])
def test_nothing_is_refused_or_lost_after_a_sleep(tmp_path, redis, sleeper):
    """A laptop that is opened again, or a server that was suspended, would make the provider refuse the whole fleet."""
    with programs(tmp_path, "--rpm", str(RPM), "--burst", "1", "--latency", "0.05") as three:
        three.start(3, shared=redis.address("team"), rpm=RPM)
        three.wait_until_busy()
        process = three.asking[0].pid if sleeper == "a worker" else redis.pid
        for seconds in (1.0, 31.0):
            os.kill(process, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(process, signal.SIGCONT)
            time.sleep(3.0)
        again = three.watch(6.0)
        three.wait(range(3))  # each has seen that all of its calls were answered
        seen = stats(three.url)
        assert seen["refused"] == 0
        assert use(again, three.still(), 3) >= 0.93


def ask(limits):
    """One call, which has nobody to answer it."""

    async def main():
        async with Client("any", base_url="http://127.0.0.1:9/v1", limits=limits, config={}) as client:
            await client.call("a question")

    asyncio.run(main())


def test_a_server_that_is_not_there_is_named_and_nothing_is_sent(tmp_path):
    """Workers would start without the others' limit, and be refused."""
    with pytest.raises(ConfigError, match=r"none\.sock.*/team cannot be reached, so nothing is sent"):
        ask(Limits(rpm=60, shared=f"unix://{tmp_path}/none.sock?db=0/team"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_ends_at_once_if_the_server_is_not_there(tmp_path, workers, capsys):
    """Each of a million rows would fail by itself, after it waited for the server, and have to be asked again."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a question"}\n' * 3)
    answers, share = tmp_path / "answers.jsonl", f"unix://{tmp_path}/none.sock?db=0/team"
    options = ["--base-url", "http://127.0.0.1:9/v1", "--model", "any", "--shared", share, "--workers", workers]
    assert main(["run", str(tmp_path / "rows.jsonl"), "-o", str(answers), *options]) == 2
    said = capsys.readouterr().err
    assert "cannot be reached, so nothing is sent" in said
    assert "line 1" not in said  # it is not the input's fault
    assert not answers.exists()
    assert not answers.with_name("answers.jsonl.flatout").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--slaveof", "127.0.0.1", "1"], "can't write against a read only replica"),
        (["--rename-command", "EVALSHA", ""], "unknown command"),
        (["--maxmemory", "1"], "maxmemory"),
        (["--requirepass", "sesame"], "wants a password: set FLATOUT_REDIS_PASSWORD"),
    ],
)
def test_a_server_that_answers_but_cannot_keep_limits_is_refused_at_the_start(tmp_path, options, reason):
    """All calls would wait for ever for a lease that the server cannot grant."""
    with redis_server(tmp_path, *options) as server, pytest.raises(ConfigError, match=reason):
        ask(Limits(rpm=60, shared=server.address("team")))


def test_a_server_that_answers_too_late_for_every_exchange_is_refused_at_the_start(redis, monkeypatch):
    """All calls would wait for ever for an answer that always comes after it was given up."""
    monkeypatch.setattr("flatout.cluster.redis.PATIENCE", 0.0)
    with pytest.raises(ConfigError, match=r"too far away, so nothing is sent: an answer took .* s, and may take 0 s"):
        ask(Limits(rpm=60, shared=redis.address("team")))


def test_without_the_package_the_extra_is_named(monkeypatch):
    """A user would see an ImportError from inside."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"need the extra redis.*pip install 'flatout\[redis\]'"):
        ask(Limits(rpm=60, shared="redis://127.0.0.1:1/0/team"))
