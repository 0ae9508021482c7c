"""A budget in a real Redis, and workers that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.cli import main
from flatout.cluster.budget import SCRIPT
from flatout.policies.shared_money import SILENT, Ask, Granted, Pot
from tests.support.command_samples import PATIENCE, Provider, eventually, provider
from tests.support.redis_server import RedisServer, needs_redis, redis_server

pytestmark = needs_redis
USD, COST = 1.0, 0.005  # dollars in all, and of an answer of ten tokens

WORKER = """
import asyncio, sys
from flatout import Budget, BudgetExceeded, Call, Client, Limits

async def main(url, host, scope, usd, cost):
    config = {"prices": {f"{host}/any": {"input": 0, "output": float(cost) * 1e5}}}
    calls = [Call(f"{number}", max_tokens=20) for number in range(10_000)]
    budget = Budget(float(usd), "day", scope)
    limits = Limits(concurrency=4)
    async with Client("any", base_url=url, config=config, limits=limits, budget=budget) as client:
        print("ready", flush=True)
        sys.stdin.readline()
        begun = False
        async for result in client.as_completed(calls):
            if isinstance(result.error, BudgetExceeded):
                break
            if not begun:
                begun = True
                print("begun", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def redis():
    folder = Path(tempfile.mkdtemp(prefix="budget-"))
    with redis_server(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(redis):
    import redis as package

    client = package.Redis(unix_socket_path=str(redis.socket))
    yield client
    client.close()


AMOUNTS = st.sampled_from([0.0, 0.1, 0.75, 3.0, 6.0])
ASKS = st.builds(
    Ask,
    worker=st.sampled_from(["a", "b", "c"]),
    about=st.just("host:1"),
    number=st.integers(1, 9).map(float),
    per=st.just("day"),
    usd=st.sampled_from([10.0, 7.5]),
    need=AMOUNTS,
    lent=AMOUNTS,
    used=AMOUNTS,
    settled=AMOUNTS,
    taken=AMOUNTS,
    taken_at=st.sampled_from([1_700_000_000.0, 1_700_086_400.0]),
    made=st.sampled_from([0.0, 1.0, 1_700_000_000.25]),
    leaves=st.sampled_from([False, False, False, True]),
    since=st.sampled_from([-1.0, 0.5, SILENT]),
    heard=st.sampled_from([0.0, 1.0, 5.0]),
)
OTHERS = st.one_of(
    st.tuples(st.just("take_back"), st.tuples(st.just("day"), st.sampled_from(["a", "b"]), AMOUNTS)),
    st.tuples(st.just("mend"), st.tuples(st.just("day"), AMOUNTS)),
)
GAPS = st.sampled_from([0.0, 0.5, SILENT, 4_000.0, 86_400.0, -100.0])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ASKS | OTHERS, GAPS), min_size=1, max_size=25), st.sampled_from(["run", "day", "month"]))
def test_the_script_is_the_pure_pot(server, turns, per):
    """Everything that is proved of the one would be false of the other, which is the one that works."""
    script, pot, clock = server.register_script(SCRIPT), Pot(), 1_700_000_000.25
    server.delete("pot")
    for turn, gap in turns:
        clock += gap
        if isinstance(turn, Ask):
            ask = msgspec.structs.replace(turn, per=per)
            answer = script(keys=["pot"], args=["exchange", msgspec.msgpack.encode(ask), repr(clock)])
            assert msgspec.msgpack.decode(answer, type=Granted) == pot.exchange(clock, ask)
        else:
            what, (_, *rest) = turn
            answer = script(keys=["pot"], args=[what, msgspec.msgpack.encode((per, *rest)), repr(clock)])
            done = getattr(pot, what)(clock, per, *rest)
            assert done == (msgspec.msgpack.decode(answer) if answer else None)
        assert msgspec.msgpack.decode(server.get("pot"), type=Pot) == pot


def host_of(url: str) -> str:
    return url.removeprefix("http://").removesuffix("/v1")


def start(count: int, url: str, scope: str) -> list[subprocess.Popen[str]]:
    """Workers that begin together and have asked: one that comes late would find the budget spent, or no server."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WORKER, url, host_of(url), scope, str(USD), str(COST)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    workers = [subprocess.Popen(command, **pipes, text=True, env=environment) for _ in range(count)]
    assert [said_by(worker) for worker in workers] == ["ready\n"] * count
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert set(map(said_by, workers)) <= {"begun\n", ""}  # nothing, where the others were far faster
    return workers


def said_by(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline()


def billed(server: Provider) -> float:
    return float(server.stats()["output_tokens"]) * COST / 10


def standing(capsys, redis, name: str) -> dict:
    capsys.readouterr()
    assert main(["budget", "ls", redis.address(name), "--json"]) == 0
    (account,) = json.loads(capsys.readouterr().out)
    return account


def spend(server: Provider, redis: RedisServer, name: str) -> None:
    """Three workers spend a budget. One is killed."""
    workers = start(3, server.url, redis.address(name))
    server.wait_for(60)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].communicate()
    for worker in workers[1:]:
        worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0


def test_workers_of_which_one_is_killed_keep_it_and_use_it(redis):
    """Machines together would spend more than the budget, or leave much of it because one has died."""
    with provider(latency=0.3, output_tokens=10) as server:
        spend(server, redis, "killed")
        assert 0.85 * USD <= billed(server) <= USD


@pytest.mark.parametrize("keeps", ["yes", "no"])
def test_a_server_that_is_killed_in_the_middle_of_a_run_loses_no_money(tmp_path, keeps):
    """Workers would stop for good, or spend once more what the server has forgotten."""
    with provider(latency=0.1, output_tokens=10) as server, redis_server(tmp_path, "--appendonly", keeps) as redis:
        workers = start(2, server.url, redis.address("restarted"))
        server.wait_for(40)
        redis.kill()
        time.sleep(1.5)  # they find out, and use what they may
        redis.start()
        for worker in workers:
            worker.communicate(timeout=PATIENCE)
            assert worker.returncode == 0
        assert 0.85 * USD <= billed(server) <= USD


@pytest.mark.soak
def test_what_a_killed_worker_had_not_used_is_lent_again(redis, capsys):
    """Workers that an engine kills and starts again would use up a budget without spending it."""
    with provider(latency=0.3, output_tokens=10) as server:
        spend(server, redis, "lent again")
        eventually(lambda: not any(lent["alive"] for lent in standing(capsys, redis, "lent again")["lent"]), 2 * SILENT)
        (another,) = start(1, server.url, redis.address("lent again"))
        another.communicate(timeout=PATIENCE)
        assert 0.9 * USD <= billed(server) <= USD


def test_it_is_shown_and_mended(redis, tmp_path, capsys):
    """Nobody could see what a team has spent, or put it right."""
    address = redis.address("shown")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with provider(output_tokens=10) as server:
        (tmp_path / "flatout.toml").write_text(f'[prices."{host_of(server.url)}/any"]\ninput = 0\noutput = 1000\n')
        options = ["--config", str(tmp_path / "flatout.toml"), "--param", "max_tokens=20"]
        output = str(tmp_path / "out.jsonl")
        given = ["run", str(rows), "-o", output, *server.options(), *options, "--budget", f"2/day:{address}"]
        assert main(given) == 0
        spent = float(server.stats()["output_tokens"]) / 1_000
    account = standing(capsys, redis, "shown")
    assert (account["per"], account["scope"], account["usd"], account["lent"]) == ("day", address, 2.0, [])
    assert account["spent"] == pytest.approx(spent)
    assert main(["budget", "ls", address]) == 0
    assert f"${2 - spent:.2f} of $2 a day" in capsys.readouterr().out
    assert main(["budget", "set", f"day:{address}", "--spent", "0.5"]) == 0
    assert standing(capsys, redis, "shown")["left"] == 1.5
    assert main(["status", output]) == 0
    assert "$1.50 of $2 a day" in " ".join(capsys.readouterr().out.split())
    assert main(["budget", "set", f"month:{address}", "--spent", "0.5"]) == 2
    assert "nobody has borrowed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--slaveof", "127.0.0.1", "1"], "can't write against a read only replica"),
        (["--maxmemory", "1"], "maxmemory"),
        (["--requirepass", "sesame"], "wants a password: set FLATOUT_REDIS_PASSWORD"),
    ],
)
def test_a_server_that_answers_but_cannot_keep_a_budget_is_refused_at_the_start(tmp_path, options, reason, capsys):
    """All calls would wait for ever for money that the server cannot lend."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    with redis_server(tmp_path, *options) as server:
        given = ["run", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "out.jsonl"), "-m", "any"]
        to = ["--base-url", "http://127.0.0.1:9/v1", "--budget", f"2/day:{server.address('team')}"]
        assert main([*given, *to]) == 2
        assert reason in " ".join(capsys.readouterr().err.split())
