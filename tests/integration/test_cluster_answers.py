"""A cache in a real Redis, and workers that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from flatout import Client, ConfigError, Limits
from flatout.cli import main
from flatout.cluster import answers as module
from flatout.cluster.answers import KEPT, AnswersInRedis
from flatout.values.answers import Found, Wanted
from flatout.values.place import place_of
from tests.support.command_samples import PATIENCE, eventually, provider
from tests.support.loop_turns import turns
from tests.support.redis_server import needs_redis, redis_server
from tests.support.scripted_wire import Wire

pytestmark = needs_redis
ROWS, IN_FLIGHT = 800, 8

TASK = """
import sys
import pyarrow as pa
from flatout import Limits
from flatout.tables import Answers
from flatout.testing import digest_of

url, cache, rows, in_flight = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
texts = [f"row {row}" for row in range(rows)]
batches = pa.table({"text": texts}).to_batches(max_chunksize=100)
limits = Limits(concurrency=in_flight)
with Answers("{{ text }}", model="any", base_url=url, config={}, limits=limits, cache=cache or None) as answers:
    answered = pa.Table.from_batches(answers.stream(batches)).to_pylist()
assert [row["text"] for row in answered] == texts
assert all(digest_of(row["text"]) in row["answer"] for row in answered), answered[0]
"""


@pytest.fixture
def redis(tmp_path):
    with redis_server(tmp_path) as server:
        yield server


def task(url: str, cache: str, rows: int = ROWS) -> subprocess.Popen[bytes]:
    """An engine's task: a batch of rows, answered in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", TASK, url, cache, str(rows), str(IN_FLIGHT)], env=environment)


def asked(questions: list[str], cache: str, wire: Wire | None = None) -> list[str]:
    """The questions that were not answered from the cache, in alphabetical order: lookups end in any."""
    wire = wire or Wire(lambda prompt: f"answer to {prompt}")

    async def ask() -> None:
        async with Client("m", base_url="http://sim/v1", transport=wire, config={}, cache=cache) as client:
            for result in await client.gather(questions):
                assert result.text == f"answer to {result.call.prompt}"

    asyncio.run(ask())
    return sorted(wire.prompts)


def test_a_killed_task_that_is_tried_again_pays_only_for_what_was_in_flight(redis):
    """An engine that repeats a task would pay for its 350 answered rows a second time."""
    import redis as package

    client = package.Redis(unix_socket_path=str(redis.socket))

    def all_are_kept() -> bool:
        return len([*client.scan_iter("*:answers:*", count=ROWS)]) == server.stats()["answered"]

    with client, provider(latency=0.05) as server:
        killed = task(server.url, redis.address("team"))
        server.wait_for(350)
        server.change(latency=3_600.0)
        eventually(lambda: server.stats()["in_flight"] == IN_FLIGHT and all_are_kept())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        server.change(latency=0.05)
        again = task(server.url, redis.address("team"))
        assert again.wait(PATIENCE) == 0
        assert server.received <= ROWS + IN_FLIGHT


def test_workers_with_the_same_rows_ask_each_once(redis):
    """An engine's speculative copies of a task would pay for its rows twice."""
    with provider(latency=0.05) as server:
        tasks = [task(server.url, redis.address("copies"), 200) for _ in range(2)]
        assert [each.wait(PATIENCE) for each in tasks] == [0, 0]
        assert server.received == 200


def test_a_server_that_dies_and_returns_costs_no_row(redis, caplog):
    """A restart of Redis would fail the rows of that time, or all that come after it."""

    async def ask() -> None:
        wire = Wire(lambda prompt: f"answer to {prompt}")
        address = redis.address("team")
        async with Client("m", base_url="http://sim/v1", transport=wire, config={}, cache=address) as client:
            await client.gather(["a"])
            redis.kill()
            async with turns(0.05) as turned:
                results = await client.gather([f"while away {number}" for number in range(200)])
            assert all(result.ok for result in results)
            assert turned() < 4.0 / 0.05
            redis.start()
        assert [record.message for record in caplog.records if "is away" in record.message] == [caplog.messages[0]]

    asyncio.run(ask())
    assert asked(["while away 7", "new"], redis.address("team")) == ["new"]  # kept when it was back


@pytest.mark.parametrize(
    ("scale", "middle"),
    [(0.1, False), pytest.param(1.0, False, marks=pytest.mark.soak), pytest.param(1.0, True, marks=pytest.mark.soak)],
)
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_rows_that_wait_for_their_turn_are_not_paid_again_after_an_outage(redis, monkeypatch, how, middle, scale):
    """242 of 300 rows that were answered long ago were paid again after an outage of 8 seconds."""
    known, first = [f"known {number}" for number in range(300)], [f"first {number}" for number in range(3)]
    for name in ("hiccup", "rest", "poll"):
        monkeypatch.setattr(AnswersInRedis, name, scale * getattr(AnswersInRedis, name))
    monkeypatch.setattr(module, "PATIENCE", scale * module.PATIENCE)
    address, wire = redis.address("team"), Wire(lambda prompt: f"answer to {prompt}")
    asked(known, address)

    async def ask() -> None:
        limits = Limits(rpm=120)
        async with Client(
            "m", base_url="http://sim/v1", transport=wire, config={}, cache=address, limits=limits
        ) as one:
            await one._engine.find_shared()
            if middle:
                await one.gather(first)
            await (asyncio.to_thread(redis.kill) if how == "killed" else asyncio.to_thread(redis.stop))
            asking = asyncio.create_task(one.gather(known))
            await asyncio.sleep(8 * scale)
            await (asyncio.to_thread(redis.start) if how == "killed" else asyncio.to_thread(redis.go_on))
            if how == "killed":
                await asyncio.to_thread(asked, known, address)  # another worker has them, or answers them anew
            before, began = len(wire.prompts), time.monotonic()
            assert all(result.text == f"answer to {result.call.prompt}" for result in await asking)
            seconds = time.monotonic() - began
        assert len(wire.prompts) - before <= 10 + 2 * seconds
        assert len(wire.prompts) - before < 150

    asyncio.run(ask())


def test_answers_of_two_teams_are_apart_and_end_with_their_time(redis):
    """One team's prune would take another's answers; the server's memory would fill."""
    import redis as package

    team, other = redis.address("team"), redis.address("team*[x]")
    assert asked(["a", "b"], team) == ["a", "b"]
    assert asked(["a"], other) == ["a"]
    assert asked(["a", "b"], team) == []
    client = package.Redis(unix_socket_path=str(redis.socket))
    assert all(name.startswith((b"flatout:{team}:", b"flatout:{team*[x]}:")) for name in client.scan_iter())
    names = list(client.scan_iter("*:answers:*"))
    assert len(names) == 3
    assert all(KEPT - 60 < client.ttl(name) <= KEPT for name in names)
    assert main(["cache", "prune", other, "--all"]) == 0
    assert asked(["a", "b"], team) == []
    client.close()


def test_a_value_that_is_damaged_or_not_ours_is_asked_again(redis):
    """Anything that lies under a key would be given as the model's answer."""
    import redis as package

    asked(["a", "b", "c"], redis.address("team"))
    client = package.Redis(unix_socket_path=str(redis.socket))
    one, other, last = client.scan_iter("*:answers:*")
    client.setrange(one, 40, b"?")
    client.set(other, client.get(last))
    assert len(asked(["a", "b", "c"], redis.address("team"))) == 2
    client.delete(one)
    client.lpush(one, "a list")  # MGET takes it for nothing
    assert len(asked(["a", "b", "c"], redis.address("team"))) == 1
    client.close()


def test_a_worker_frees_only_what_is_its_own(redis):
    """One that was stopped for long would free what another asks by now, and a third one would ask it too."""
    import redis as package

    stopped, other, third = (AnswersInRedis(place_of(redis.address("team"))) for _ in range(3))
    key = bytes(32)
    wanted, found = [Wanted(key, 0.0, True)], Found()
    stopped.look(wanted, Found())
    with package.Redis(unix_socket_path=str(redis.socket)) as client:
        client.delete(*client.scan_iter("*:workers:*"))  # it was not heard for long
    other.look(wanted, Found())
    stopped.free(key)
    stopped.hold()
    third.look(wanted, found)
    assert found.elsewhere == {key}
    other.free(key)
    other.hold()
    third.look(wanted, found := Found())
    assert found.elsewhere == set()
    for each in (stopped, other, third):
        each.close()


def test_the_commands_read_and_prune_it(redis, tmp_path, capsys):
    """Nobody could see what a team's cache holds, or shrink it."""
    address = redis.address("team")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "first"}\n{"prompt": "second"}\n')
    with provider() as server:
        options = [*server.options(), "--cache", address]
        assert main(["run", str(rows), "-o", str(tmp_path / "one.jsonl"), *options]) == 0
        assert main(["run", str(rows), "-o", str(tmp_path / "two.jsonl"), *options]) == 0
        assert server.received == 2
    capsys.readouterr()
    assert main(["cache", "ls", address]) == 0
    said = capsys.readouterr().out
    assert "2 answers" in said
    assert "first" in said
    assert main(["cache", "why", str(tmp_path / "one.jsonl"), "1", "--cache", address]) == 0
    assert "held nothing" in capsys.readouterr().out
    assert main(["cache", "export", address]) == 0
    exported = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["asked"]["prompt"] for line in exported} == {"first", "second"}
    assert main(["cache", "prune", address, "--older-than", "1h"]) == 0
    assert "removed 0 answers" in capsys.readouterr().err
    assert main(["cache", "prune", address, "--all"]) == 0
    assert "removed 2 answers" in capsys.readouterr().err
    redis.kill()
    assert main(["cache", "ls", address]) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_a_server_that_does_not_let_us_in_is_named_at_the_start(tmp_path):
    """A whole job would run without the cache that it was given, and its password would be looked for elsewhere."""
    reason = "cannot be used, so nothing is sent: it wants a password: set FLATOUT_REDIS_PASSWORD"
    with redis_server(tmp_path, "--requirepass", "sesame") as server, pytest.raises(ConfigError, match=reason):
        asked(["a"], server.address("team"))


def test_a_full_server_answers_from_what_it_has(tmp_path, redis, caplog):
    """A server without memory would make every row fail, or every answer be paid again."""
    import redis as package

    asked(["a"], redis.address("team"))
    client = package.Redis(unix_socket_path=str(redis.socket))
    client.config_set("maxmemory", 1)
    assert asked(["a", "b"], redis.address("team")) == ["b"]
    assert "keeps no new answers" in caplog.text
    client.close()


def test_a_full_server_answers_after_a_question_that_it_cannot_claim(redis, caplog):
    """Answers that it has would be paid again for seconds after each question that it has not."""
    import redis as package

    asked(["a"], redis.address("team"))
    client, wire = package.Redis(unix_socket_path=str(redis.socket)), Wire(lambda prompt: f"answer to {prompt}")
    client.config_set("maxmemory", 1)
    cache = redis.address("team")

    async def ask() -> None:
        async with Client("m", base_url="http://sim/v1", transport=wire, config={}, cache=cache) as asking:
            for question in ("b", "a", "c"):
                await asking.call(question)

    asyncio.run(ask())
    assert wire.prompts == ["b", "c"]
    assert "is away" not in caplog.text
    client.close()


def test_without_the_package_the_extra_is_named(monkeypatch):
    """A user would see an ImportError from inside."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"needs the extra redis.*pip install 'flatout\[redis\]'"):
        asked(["a"], "redis://127.0.0.1:1/0/team")
