"""The metrics of several processes, added up for one reader."""

from __future__ import annotations

import asyncio
import socket

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from flatout import ConfigError, Limits
from flatout.telemetry._together import Together, kept
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client


def told(calls: int) -> bytes:
    """The metrics of a process that has made some calls."""

    async def main() -> bytes:
        async with client(Wire(), limits=Limits(concurrency=4)) as made:
            with kept(made) as metrics:
                await made.gather([str(number) for number in range(calls)])
                return metrics()

    return asyncio.run(main())


def read(together: Together) -> dict[str, float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(together)
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def values(found: dict[str, float], name: str) -> list[float]:
    return [value for key, value in found.items() if key.startswith(name)]


def test_counters_of_all_processes_are_added_up():
    """A dashboard would show the calls of one worker as those of the run."""
    together = Together()
    together.hear("one", told(2))
    together.hear("one", told(3))
    together.hear("other", told(4))
    found = read(together)
    assert values(found, "flatout_attempts_total{") == [7]
    assert values(found, "gen_ai_client_operation_duration_seconds_count{") == [7]
    assert max(values(found, "gen_ai_client_operation_duration_seconds_bucket{")) == 7
    assert values(found, "target_info{") == [1]


def test_limits_are_not_added_up():
    """Two workers share a limit: it would look twice as high, and half used."""

    async def main() -> bytes:
        async with client(Wire(lambda _: 5.0), limits=Limits(concurrency=1, rpm=600)) as made:
            with kept(made) as metrics:
                asking = asyncio.ensure_future(made.gather(["a", "b"]))
                await asyncio.sleep(1.0)
                told = metrics()
                await asking
                return told

    together = Together()
    for process in ("one", "other"):
        together.hear(process, run_virtual(main()))
    found = read(together)
    assert values(found, "flatout_limit{") == [600.0]
    assert values(found, "flatout_waiting{") == [2.0]


def test_an_ended_process_keeps_what_it_counted():
    """After a worker has died, counters would fall, or calls stay in flight for ever."""
    gauges = "# HELP flatout_in_flight a\n# TYPE flatout_in_flight gauge\nflatout_in_flight {}\n"
    limit = "# HELP flatout_limit b\n# TYPE flatout_limit gauge\nflatout_limit {}\n"
    counts = "# HELP flatout_retries_total c\n# TYPE flatout_retries_total counter\nflatout_retries_total {}\n"
    together = Together()
    for process, value in enumerate((2, 3, 4)):
        together.hear(process, (gauges + limit + counts).format(value, value / 10, value).encode())
    assert read(together) == {"flatout_in_flight": 9, "flatout_limit": 0.4, "flatout_retries_total": 9}
    together.over(2)
    assert read(together) == {"flatout_in_flight": 5, "flatout_limit": 0.3, "flatout_retries_total": 9}


def test_a_port_in_use_is_an_error_before_the_run():
    """Workers would begin, and nobody could watch them."""

    async def main(port: int) -> None:
        async with Together().served(port):
            pass

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="metrics cannot be served"):
        asyncio.run(main(taken.getsockname()[1]))
