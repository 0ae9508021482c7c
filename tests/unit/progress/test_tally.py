from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from flatout.errors import AuthenticationError, CircuitOpen, RateLimited, Refused, ServerError, Truncated
from flatout.events import AttemptFailed, Events, InFlightCapped, LimitCrowded, TargetDown, TargetPaused
from flatout.journey import Journey
from flatout.layers.limit import TargetStatus
from flatout.progress._counters import Progress, PromptCacheUse
from flatout.progress._tally import Tally
from flatout.values import Call, Reply, Result, Usage
from flatout.values.route import Leg, Share


class Engine:
    """As much of a client's engine as a tally looks at."""

    def __init__(self) -> None:
        self.events = Events()
        self.stack = SimpleNamespace(purse=SimpleNamespace(spent=0.5, unknown=1), limiters=self)
        self.states: list[Any] = []

    def searched(self) -> frozenset[str]:
        return frozenset({"requests"})

    def status(self) -> list[Any]:
        return self.states


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def progress(engine: Engine) -> Progress:
    return Progress(total=10)


@pytest.fixture
def tally(engine: Engine, progress: Progress) -> Tally:
    return Tally(progress, engine)  # type: ignore[arg-type]  # as much of one as it needs


def refresh(tally: Tally) -> float:
    """Refresh in a loop, and return its time."""

    async def now() -> float:
        tally.refresh()
        return asyncio.get_running_loop().time()

    return asyncio.run(now())


def test_answers_failures_and_rows_held_back_are_told_apart(tally: Tally, progress: Progress) -> None:
    """Rows that a resumed run asks by itself would be counted as lost; or lost ones as still to come."""
    reply = Reply(text="yes", usage=Usage(input_tokens=3, output_tokens=4))
    tally.finished(Result(index=0, reply=reply, waits={"first_byte": 2.0, "requests": 1.0}), 0)
    tally.finished(Result(index=1, error=Refused("no")), 1)
    tally.finished(Result(index=2, error=AuthenticationError("wrong key", attempts=1)), 2)
    tally.finished(Result(index=3, error=CircuitOpen("not sent")), 3)
    tally.finished(Result(index=4, error=CircuitOpen("not sent")), 4)
    assert (progress.answered, progress.failed, progress.held, progress.finished) == (1, 1, 3, 2)
    assert (progress.input_tokens, progress.output_tokens, progress.call_seconds) == (3, 4, 2.0)
    assert {name: (found.count, found.row) for name, found in progress.failures.items()} == {
        "Refused": (1, 2),
        "AuthenticationError": (1, 3),
        "CircuitOpen": (2, 4),
    }


def test_what_each_target_of_a_route_did_is_added_up(tally: Tally, progress: Progress) -> None:
    """The summary would name targets that have answered nothing."""
    legs = (Leg("a/m", left="RateLimited", attempts=2, cost=0.0), Leg("b/m", attempts=1, cost=0.25))
    tally.finished(Result(index=0, reply=Reply(text="yes"), trail=legs), 0)
    tally.finished(Result(index=1, error=RateLimited("fast"), trail=legs[:1]), 1)
    tally.finished(Result(index=2, reply=Reply(text="yes")), 2)
    assert progress.shares == {
        "a/m": Share(attempts=4, cost=0.0),
        "b/m": Share(answered=1, attempts=1, cost=0.25),
    }


def test_what_came_from_the_prompt_cache_is_added_up(tally: Tally, progress: Progress, engine: Engine) -> None:
    """Nobody would see whether the cache was worth it."""
    prices = {"a": 0.25, "b": 0.25}
    engine.saved = lambda result: result.call and prices.get(result.call.prompt)  # type: ignore[attr-defined]
    for index, prompt in enumerate(("a", "b", "unpriced")):
        usage = Usage(input_tokens=100, output_tokens=1, cached_tokens=80, cache_write_tokens=10)
        tally.finished(Result(index=index, call=Call(prompt), reply=Reply(text="yes", usage=usage)), index)
    tally.finished(Result(index=3, reply=Reply(text="yes", usage=Usage(input_tokens=9, cached_tokens=4))), 3)
    tally.finished(Result(index=4, reply=Reply(text="yes", usage=Usage(input_tokens=9, cached_tokens=0))), 4)
    assert progress.prompt_cache == PromptCacheUse(read=244, written=30, saved=0.5)


def test_answers_that_were_cut_off_are_counted_apart(tally: Tally, progress: Progress) -> None:
    """Hundreds of halves would stand among the answers, and nobody be told."""
    tally.finished(Result(index=0, reply=Reply(text="whole", finish_reason="stop")), 0)
    tally.finished(Result(index=1, reply=Reply(text="hal", finish_reason="length")), 1)
    tally.finished(Result(index=2, error=Truncated("cut", reply=Reply(text="{", finish_reason="length"))), 2)
    assert (progress.answered, progress.cut_off, progress.failed) == (2, 1, 1)


def test_retries_show_while_they_happen(engine: Engine, tally: Tally, progress: Progress) -> None:
    """A run that crawls because every other attempt fails would show no reason until its end."""
    assert tally is not None
    for error, retry_in in ((ServerError("500"), 1.0), (RateLimited("429"), 0.0), (ServerError("500"), None)):
        failed = AttemptFailed(at=0.0, attempt=1, error=error, retry_in=retry_in, call=Call("x"), journey=Journey(0.0))
        engine.events.emit(failed)
    assert (progress.retries, progress.throttled) == (2, 1)


def test_only_pauses_that_can_be_read_are_shown(engine: Engine, tally: Tally, progress: Progress) -> None:
    """The live line would flicker with pauses of a few milliseconds."""
    now = refresh(tally)
    engine.events.emit(TargetPaused(at=now, target="short", until=now + 0.5, reason="rate limited"))
    engine.events.emit(TargetPaused(at=now, target="long", until=now + 60, reason="rate limited"))
    engine.events.emit(TargetPaused(at=now, target="dead", until=None, reason="wrong key"))
    refresh(tally)
    assert progress.paused == {"long": "rate limited, 60 s"}
    assert progress.stopped == {"dead": "wrong key"}


def state(**what: Any) -> TargetStatus:
    """What one target is doing, as a client tells it."""
    return TargetStatus(**{"target": "m", **what})


def test_what_holds_a_run_is_told_of_the_target_that_takes_calls(
    engine: Engine, tally: Tally, progress: Progress
) -> None:
    """A run with a second target would be shown as one that stands still."""
    gone = state(target="a/m", in_flight=1, waiting=50, holds="outage", hosted=True)
    well = state(target="b/m", in_flight=9, waiting=50, holds="requests", hosted=True)
    engine.states = [gone, well]
    engine.events.emit(TargetDown(at=0.0, target="a/m", reason="no"))
    refresh(tally)
    assert (progress.others_go, progress.holds) == (True, "requests")
    engine.events.emit(TargetDown(at=0.0, target="b/m", reason="no"))
    refresh(tally)
    assert (progress.others_go, progress.holds) == (False, "outage")


def test_a_cap_on_what_is_in_flight_shows(engine: Engine, tally: Tally, progress: Progress) -> None:
    """Calls that wait for a connection would be shown as sent, and nothing say why a run is slower than its limits."""
    engine.states = [state(in_flight=500, waiting=0, holds="", hosted=True)]
    engine.events.emit(InFlightCapped(at=0.0, most=200, reason="open files"))
    refresh(tally)
    assert (progress.in_flight, progress.capped) == (200, 200)


def test_limits_that_others_use_too_show(engine: Engine, tally: Tally, progress: Progress) -> None:
    """Nothing would say why a run gets a sixteenth of the limit that it was given."""
    engine.events.emit(LimitCrowded(at=0.0, target="m", reason="refuses what the given limits allow"))
    assert progress.crowded == {"m": "refuses what the given limits allow"}


def test_a_server_of_ones_own_is_known_as_such(engine: Engine, tally: Tally, progress: Progress) -> None:
    """The summary would praise itself for the time that the user's own server made calls wait for each other."""
    refresh(tally)
    assert progress.hosted
    engine.states = [state(in_flight=1, waiting=0, holds="", hosted=hosted) for hosted in (True, False)]
    refresh(tally)
    assert not progress.hosted


def test_the_fullest_queue_says_what_holds(engine: Engine, tally: Tally, progress: Progress) -> None:
    """Of two targets the idle one would be shown as what the run waits for."""
    engine.states = [
        state(in_flight=1, waiting=0, holds="", hosted=True),
        state(in_flight=2, waiting=9, holds="tokens", hosted=True),
    ]
    refresh(tally)
    assert (progress.in_flight, progress.waiting, progress.holds) == (3, 9, "tokens")
    assert (progress.cost, progress.unpriced) == (0.5, 1)


def test_a_run_stands_only_while_no_target_takes_calls(engine: Engine, tally: Tally, progress: Progress) -> None:
    """A plan would be said to be wrong after every outage; or never, of a route with a target that is always down."""
    down = state(target="a/m", in_flight=0, waiting=1, holds="outage", held={"paused": 2.0}, holds_since=-60.0)
    engine.states = [down]
    at = refresh(tally)
    assert progress.stood == pytest.approx(62.0 + at, abs=0.1)
    engine.states = [down, state(target="b/m", in_flight=9, waiting=1, holds="requests", held={"paused": 2.0})]
    refresh(tally)
    assert progress.stood == 2.0
