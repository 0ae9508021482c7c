"""Metrics of calls, as the SDK's in-memory reader gets them."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flatout import Call, Limits
from flatout.events import CallFinished
from flatout.journey import Journey
from flatout.layer import Response
from flatout.telemetry import measure
from flatout.testing import run_virtual
from tests.support.recorded_telemetry import answer
from tests.support.scripted_wire import Wire, client, refusal

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


class Measured:
    """A meter provider that can be read."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def read(self) -> dict:
        """The metrics by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, name: str, label: str) -> dict:
        """A metric's values by one of its labels."""
        metric = self.read().get(name)
        return {} if metric is None else {p.attributes[label]: p.value for p in metric.data.data_points}


def measured(wire: Wire, *calls, **options) -> Measured:
    made = Measured()

    async def main() -> None:
        async with client(wire, **options) as asked:
            measure(asked, meter_provider=made.provider)
            await asked.gather(calls or ["hello"])

    run_virtual(main())
    return made


def test_the_conventions_metrics_are_kept():
    """Dashboards made for the conventions would stay empty."""
    found = measured(Wire(lambda _: answer())).read()
    duration = found["gen_ai.client.operation.duration"]
    assert duration.unit == "s"
    (point,) = duration.data.data_points
    assert point.count == 1
    assert point.explicit_bounds == SECONDS
    assert dict(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "sim",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m-2026-01-01",
    }
    tokens = found["gen_ai.client.token.usage"]
    assert tokens.unit == "{token}"
    assert {p.attributes["gen_ai.token.type"]: p.sum for p in tokens.data.data_points} == {"input": 10, "output": 5}
    assert tokens.data.data_points[0].explicit_bounds == TOKENS
    assert "gen_ai.client.operation.time_to_first_chunk" not in found


def test_time_to_first_chunk_is_kept_for_streams():
    """Users who watch how quickly answers begin would see nothing."""
    made = Measured()

    async def main() -> None:
        async with client(Wire()) as asked:
            measure(asked, meter_provider=made.provider)
            journey = Journey(0.0)
            journey.attempt.target, journey.attempt.first_chunk, journey.account.attempts = "openai/m", 0.25, 1
            asked.events.emit(CallFinished(at=1.0, call=Call("hello"), reply=None, error=None, journey=journey))

    run_virtual(main())
    metric = made.read()["gen_ai.client.operation.time_to_first_chunk"]
    (point,) = metric.data.data_points
    assert (metric.unit, point.sum, point.explicit_bounds) == ("s", 0.25, SECONDS)
    assert point.attributes["gen_ai.provider.name"] == "openai"


def test_every_attempt_is_counted_by_its_outcome():
    """Nobody could tell a provider that fails from a limit that is too high."""
    turns = iter([refusal(500), refusal(429, retry_after="3"), answer(), refusal(400)])
    made = measured(Wire(lambda _: next(turns)), "one", "two", limits=Limits(concurrency=1))
    outcomes = made.values("flatout.attempts", "flatout.outcome")
    assert outcomes == {"ServerError": 1, "RateLimited": 1, "answered": 1, "InvalidRequest": 1}
    assert made.values("flatout.retries", "error.type") == {"ServerError": 1, "RateLimited": 1}
    failed = [p.attributes.get("error.type") for p in made.read()["gen_ai.client.operation.duration"].data.data_points]
    assert sorted(map(str, failed)) == ["InvalidRequest", "None"]


def times(made: Measured, name: str) -> dict[str, tuple[int, float]]:
    """How many times a histogram has, and their sum, by outcome; by "" if it has none."""
    points = made.read()[name].data.data_points
    return {str(p.attributes.get("flatout.outcome", "")): (p.count, round(p.sum, 2)) for p in points}


def test_the_time_of_attempts_is_told_from_that_in_the_queue():
    """A dashboard would show the own queue as the provider's latency."""
    turns = iter([(2.0, refusal(500)), (3.0, answer()), (4.0, answer())])

    async def timed(_: str) -> Response:
        seconds, response = next(turns)
        await asyncio.sleep(seconds)
        return response

    made = measured(Wire(timed), "one", "two", limits=Limits(concurrency=1))
    assert times(made, "flatout.attempt.duration") == {"ServerError": (1, 2.0), "answered": (2, 7.0)}
    ((count, seconds),) = times(made, "flatout.queue.duration").values()
    assert count == 2
    waited = made.values("flatout.wait.time", "flatout.wait.cause")
    assert seconds == pytest.approx(waited["concurrency"] + waited["backoff"], abs=0.01)
    assert made.read()["flatout.attempt.duration"].data.data_points[0].explicit_bounds == SECONDS


def test_hours_in_the_queue_are_told_from_minutes():
    """A dashboard would show a minute and a half where calls wait for an hour."""
    made = measured(Wire(lambda _: answer()), limits=Limits(rpm=600))
    bounds = made.read()["flatout.queue.duration"].data.data_points[0].explicit_bounds
    assert bounds[: len(SECONDS)] == SECONDS
    assert bounds[-1] > 12 * 3_600
    assert all(after == pytest.approx(2 * before) for before, after in pairwise(bounds))


def test_attempts_that_were_cut_off_have_the_time_until_then():
    """The slowest attempts would be missing from the picture of how slow a provider is."""
    made = measured(Wire(lambda _: 100.0), Call("hello", deadline=5), Call("again", timeout=7), retries=0)
    assert times(made, "flatout.attempt.duration") == {"DeadlineExceeded": (1, 5.0), "AttemptTimeout": (1, 7.0)}


def test_attempts_that_were_cut_off_are_counted():
    """What a deadline cut off would look as if it had never been sent."""
    made = measured(Wire(lambda _: 100.0), Call("hello", deadline=5))
    assert made.values("flatout.attempts", "flatout.outcome") == {"DeadlineExceeded": 1}


def test_calls_that_were_never_sent_are_no_attempts():
    """Refused calls would be counted as traffic."""
    made = measured(Wire(lambda _: 10.0), "first", Call("waits", deadline=5), limits=Limits(concurrency=1))
    assert made.values("flatout.attempts", "flatout.outcome") == {"answered": 1}
    counts = [point.count for point in made.read()["gen_ai.client.operation.duration"].data.data_points]
    assert sum(counts) == 2
    too_long = measured(Wire(), "x" * 10_000, limits=Limits(tpm=10))
    assert too_long.values("flatout.attempts", "flatout.outcome") == {}
    assert "flatout.attempt.duration" not in too_long.read()
    assert too_long.read()["gen_ai.client.operation.duration"].data.data_points[0].attributes["error.type"]


def test_waiting_is_counted_by_cause():
    """Nobody could see what holds a run back."""
    made = measured(Wire(lambda _: 10.0), "a", "b", limits=Limits(concurrency=1))
    waited = made.values("flatout.wait.time", "flatout.wait.cause")
    assert waited["concurrency"] == pytest.approx(10, abs=0.1)
    assert made.read()["flatout.wait.time"].unit == "s"


def test_cost_is_counted_and_unknown_cost_is_not_0():
    """A bill would grow unseen."""
    prices = {"prices": {"sim/m": {"input": 1.0, "output": 2.0}}}
    priced = measured(Wire(lambda _: answer()), config=prices)
    assert priced.values("flatout.cost", "flatout.target") == {"sim/m": pytest.approx(20e-6)}
    assert "flatout.cost.unknown" not in priced.read()
    unpriced = measured(Wire(lambda _: answer()))
    assert "flatout.cost" not in unpriced.read()
    assert unpriced.values("flatout.cost.unknown", "flatout.target") == {"sim/m": 1}


def test_what_is_in_flight_can_be_seen_while_it_is():
    """A run that hangs and a run that waits for a limit would look the same."""
    made = Measured()

    async def main() -> None:
        async with client(Wire(lambda _: 10.0), limits=Limits(concurrency=2, rpm=600)) as asked:
            end = measure(asked, meter_provider=made.provider)
            tasks = [asyncio.create_task(asked.call(str(n))) for n in range(5)]
            await asyncio.sleep(1)
            assert made.values("flatout.in_flight", "flatout.target") == {"sim/m": 2}
            assert made.values("flatout.waiting", "flatout.target") == {"sim/m": 3}
            assert made.values("flatout.limit", "flatout.limit.name") == {"rpm": 600.0}
            await asyncio.gather(*tasks)
            assert made.values("flatout.in_flight", "flatout.target") == {"sim/m": 0}
            end()
            end()
            assert made.values("flatout.in_flight", "flatout.target") == {}

    run_virtual(main())


def test_two_clients_share_one_provider(caplog):
    """The second client would be invisible, or counted twice."""
    made = Measured()

    async def main() -> None:
        async with client(Wire(lambda _: 10.0)) as one, client(Wire(lambda _: 10.0)) as two:
            measure(one, meter_provider=made.provider)
            measure(two, meter_provider=made.provider)
            tasks = [asyncio.create_task(asked.call("hello")) for asked in (one, two)]
            await asyncio.sleep(1)
            assert made.values("flatout.in_flight", "flatout.target") == {"sim/m": 2}
            await asyncio.gather(*tasks)

    run_virtual(main())
    assert made.values("flatout.attempts", "flatout.outcome") == {"answered": 2}
    assert not caplog.records


def test_a_target_that_appears_while_metrics_are_read(caplog):
    """A scrape would fail now and then, since it reads from another thread."""
    made = Measured()

    class Busy:
        looks = 0

        def __init__(self, events) -> None:
            self.events = events

        def status(self):
            self.looks += 1
            if self.looks % 3:
                raise RuntimeError("dictionary changed size during iteration")
            return []

    async def main() -> None:
        async with client(Wire()) as asked:
            measure(Busy(asked.events), meter_provider=made.provider)
            await asked.call("hello")
            assert "gen_ai.client.operation.duration" in made.read()

    run_virtual(main())
    assert not caplog.records


def test_the_tokens_of_a_cached_answer_are_not_used_again(tmp_path):
    """A run that costs nothing would look as dear as the first."""
    made = measured(Wire(lambda _: answer()), "hello", "hello", "hello", cache=tmp_path / "a.cache")
    found = made.read()
    tokens = found["gen_ai.client.token.usage"].data.data_points
    assert {p.attributes["gen_ai.token.type"]: p.sum for p in tokens} == {"input": 10, "output": 5}
    assert made.values("flatout.attempts", "flatout.outcome") == {"answered": 1}
