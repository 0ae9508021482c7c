"""The keeper in Redis is the pure one: the same exchanges have the same results."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flatout.cluster.redis import SCRIPT, arguments, results
from flatout.policies.pacing.exchange import Ask, CellAsk, News, SlotsAsk, Told, Usual
from flatout.policies.pacing.leases import Keeper
from flatout.policies.pacing.leases_log import SharedJournal
from flatout.policies.pacing.reports import Report, Reports, Summed, Sums
from tests.support.redis_server import needs_redis, redis_server

pytestmark = needs_redis


@pytest.fixture(scope="module")
def client():
    import redis

    folder = Path(tempfile.mkdtemp(prefix="keeper-"))
    with redis_server(folder) as server:
        client = redis.Redis(unix_socket_path=str(server.socket))
        yield client
        client.close()
    shutil.rmtree(folder)


KEYS = ["state", "log", "kept", "reports"]
AMOUNTS = st.floats(0.0, 1_000.0)
RATES = st.floats(0.01, 10_000.0)
CELLS = st.builds(
    CellAsk,
    st.sampled_from(["rpm", "tpm", "rpd"]),
    RATES,
    st.sampled_from([0.2, 60.0]),
    st.sampled_from([0.0, 10.0]),
    AMOUNTS,
    AMOUNTS,
    AMOUNTS,
    st.floats(-1_000.0, 1_000.0),
    st.booleans(),
)
SLOTS = st.builds(
    SlotsAsk, *3 * [st.integers(0, 20).map(float)], st.sampled_from(["concurrency", "slots"]), st.booleans()
)
ASKS = st.builds(
    Ask,
    worker=st.sampled_from(["a", "b", "c"]),
    since=st.sampled_from([-1.0, 0.1, 1.0, 20.0]),
    share=st.sampled_from([0.0, 0.25, 1.0]),
    pause=st.sampled_from([-1.0, -1.0, 0.0, 3.0]),
    alone=st.sampled_from([False, False, True]),
    leaves=st.sampled_from([False, False, False, True]),
    cells=st.lists(CELLS, max_size=3, unique_by=lambda cell: cell.name).map(tuple),
    slots=st.lists(SLOTS, max_size=1).map(tuple),
    told=st.lists(st.builds(Told, st.sampled_from(["rpm", "tpm"]), RATES, st.just(60.0)), max_size=2).map(tuple),
    version=st.sampled_from([0.0, 1.0]),
    more=st.booleans(),
    usual=st.lists(st.builds(Usual, st.tuples(*4 * [AMOUNTS]), *3 * [AMOUNTS]), max_size=1).map(tuple),
)

COUNTS = st.integers(0, 1_000)
SUMS = st.builds(Sums, *5 * [COUNTS], AMOUNTS, COUNTS, COUNTS, st.sampled_from([0.0, 0.3, 1.0, 2.7, 200.0]))
REPORTS = st.builds(Report, SUMS, SUMS, st.just("target"), st.just("host:1"), pace=st.none() | RATES)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            ASKS,
            st.sampled_from([0.0, 0.01, 0.3, 2.0, 30.0, -100.0]),
            st.sampled_from([0, 0, 0, 4]),
            st.just(b"") | REPORTS.map(msgspec.msgpack.encode),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_the_script_is_the_pure_keeper(client, exchanges):
    """Everything that is proved of the one would be false of the other, which is the one that works."""
    script, keeper, reports, clock = client.register_script(SCRIPT), Keeper(), Reports(), 1_700_000_000.0
    client.delete(*KEYS)
    for number, (asked, gap, late, report) in enumerate(exchanges):
        ask = replace(asked, number=number - late)
        clock += gap
        overtaken, expected = keeper.overtaken(ask), keeper.exchange(clock, ask)
        if not overtaken:
            reports.hear(ask.worker, report, keeper.workers, clock)
        answer = script(keys=KEYS, args=arguments(ask, News(report=report), repr(clock)))
        assert results(answer)[0] == expected
        assert msgspec.msgpack.decode(client.get("state"), type=Keeper) == keeper
        kept = client.hgetall("reports")
        summed = kept.pop(b"state", None)
        assert (summed and msgspec.msgpack.decode(summed, type=Summed)) == reports.summed
        assert {name: msgspec.msgpack.decode(each, type=Report) for name, each in kept.items()} == {
            f"state:{name}".encode(): each for name, each in reports.by_worker.items()
        }


@pytest.fixture
def short_script(monkeypatch):
    """The script with a log of a few batches, and the pure one with as few."""
    monkeypatch.setattr("flatout.policies.pacing.leases_log.BATCHES", 8)
    return SCRIPT.replace("BATCHES = 1024", "BATCHES = 8")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=60), st.booleans())
def test_the_scripts_log_is_the_pure_one(client, short_script, turns, known):
    """Workers would read events twice, or miss some, and each search for another limit."""
    script, journal = client.register_script(short_script), SharedJournal()
    client.delete(*KEYS)
    places = [0, 0, 0, 0]
    for number, (who, says, keeps) in enumerate(turns):
        news = News(
            batch=f"batch {number}".encode() if says else b"",
            place=places[who],
            kept_at=places[who],
            kept=f"state {places[who]}".encode() if keeps and known and places[who] else b"",
        )
        expected = journal.exchange(news)
        assert results(script(keys=KEYS, args=arguments(Ask("a"), news, "1.0")))[1] == expected
        places[who] = expected.end
