"""The policies of routes: causes, latencies and hedges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout import errors
from flatout.layer import Away, Elsewhere
from flatout.policies.failures.service import Service
from flatout.policies.routing import (
    DOWN_FOR,
    ENOUGH,
    LATELY,
    PAUSED_FOR,
    SAVED,
    Hedging,
    Lane,
    Latency,
    cause,
    is_worth,
    long_away,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConnectError("no"), "down"),
        (errors.ProtocolError("cut off"), "down"),
        (errors.ServerError("no", status=500), "down"),
        (errors.Overloaded("full", status=503), "down"),
        (errors.AttemptTimeout("late"), "silence"),
        (errors.RateLimited("fast", status=429), "rate"),
        (errors.QuotaExhausted("empty", status=429), "quota"),
        (errors.AuthenticationError("key", status=401), "quota"),
        (errors.InvalidRequest("no such model", status=404, code="model_not_found"), "quota"),
        (errors.ContextTooLong("long", status=400), "context"),
        (errors.ContentFiltered("filter"), "refusal"),
        (errors.Refused("no"), "refusal"),
        (errors.SchemaMismatch("no JSON"), "schema"),
        (errors.InvalidRequest("temperature", status=400), None),
        (errors.Truncated("cut"), None),
        (errors.GuardrailTripped("stop"), None),
        (errors.BudgetExceeded("money"), None),
        (errors.DeadlineExceeded("late"), None),
        (errors.CircuitOpen("stopped"), None),
        (Elsewhere("away", "rate"), "rate"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_each_failure_has_its_cause(error, expected):
    """A call would be asked of a model that its user named for something else, or not at all."""
    assert cause(error) == expected


def test_a_stop_has_the_cause_of_what_stopped_the_target():
    """Calls that were never sent, because the key is refused, would fail although there is a fallback."""
    stop = errors.CircuitOpen("not sent")
    stop.__cause__ = errors.AuthenticationError("key", status=401)
    assert cause(stop) == "quota"


class Target:
    """A queue as `is_worth` sees it."""

    def __init__(self, waits: float = 0.0, in_flight: int = 5, away: Away | None = None) -> None:
        self.waits, self.in_flight, self._away = waits, in_flight, away

    def wait(self) -> float:
        return self.waits

    def away(self, now: float) -> Away | None:
        return self._away


def lane(seconds: float, target: Target | None = None, stopped: bool = False) -> Any:
    made = Lane("a/m", target or Target(), Service("chat", "a/m"), None)  # type: ignore[arg-type]
    if seconds:
        made.latency.observe(seconds, 0.0)
    if stopped:
        made.service.stop = errors.AuthenticationError("key", status=401)
    return made


@pytest.mark.parametrize(
    ("slow", "other", "worth"),
    [
        (lane(3.0), lane(2.0), True),
        (lane(20.0), lane(2.0), False),
        (lane(20.0), lane(2.0, Target(waits=10.0)), False),
        (lane(20.0), lane(2.0, Target(waits=17.0)), True),
        (lane(20.0), lane(0.0), True),
        (lane(0.0), lane(2.0), True),
        (lane(20.0), lane(2.0, Target(away=Away(1.0, False, 0.0, 0.0))), True),
        (lane(20.0), lane(2.0, stopped=True), True),
    ],
)
def test_a_slow_target_is_of_use_only_to_those_who_would_wait_as_long(slow, other, worth):
    """A short job would take as long as the slowest target's answers; or a long one leave that target idle."""
    assert is_worth(slow, [slow, other], 1.0) == worth
    assert is_worth(other, [slow, other], 1.0)


def test_a_slow_target_is_tried_again_after_a_while():
    """A target that was slow once would never get a call again."""
    slow = lane(20.0, Target(in_flight=0))
    assert not is_worth(slow, [slow, lane(2.0)], LATELY - 1.0)
    assert is_worth(slow, [slow, lane(2.0)], LATELY)
    slow.queue.in_flight = 1
    assert not is_worth(slow, [slow, lane(2.0)], LATELY)


def test_a_target_is_away_for_long_only_if_all_are():
    """Calls would go to another model although one of their own could take them."""
    down = Away(DOWN_FOR, False, 0.0, 0.0)
    silent = Away(DOWN_FOR, True, 0.0, 0.0)
    paused = Away(0.0, False, PAUSED_FOR, PAUSED_FOR)
    soon = Away(DOWN_FOR - 1.0, False, PAUSED_FOR - 1.0, 0.0)
    assert long_away([down, paused]) == {"down", "rate"}
    assert long_away([silent]) == {"down", "silence"}
    assert long_away([down, soon]) == long_away([down, None]) == set()


def test_a_slow_answer_counts_at_once_and_is_forgotten_slowly():
    """A target that has just become slow would get as many calls as before; or never any again."""
    latency = Latency()
    assert latency.seconds == 0.0
    latency.observe(1.0, 0.0)
    latency.observe(20.0, 1.0)
    assert latency.seconds == 20.0
    latency.observe(1.0, 2.0)
    assert latency.seconds > 15.0
    latency.observe(1.0, 300.0)
    assert latency.seconds < 1.1


def test_a_target_that_has_not_answered_yet_is_as_slow_as_its_oldest_attempt_is_old():
    """All calls would go to the target that takes longest to answer at all."""
    target = Target(in_flight=0)
    made = lane(0.0, target)
    assert made.load(5.0) == 0.0
    target.in_flight = 1
    made.goes(5.0)
    target.in_flight = 2
    made.goes(6.0)
    assert made.load(7.0) == 2.0 * 3
    made.latency.observe(4.0, 9.0)
    assert made.load(20.0) == 4.0 * 3


def test_a_call_is_slow_that_takes_longer_than_nearly_all():
    """Every call, or none, would be sent twice."""
    hedging = Hedging(0.05)
    for seconds in range(1, ENOUGH):
        hedging.observe(float(seconds))
        assert hedging.after() is None
    for seconds in range(100):
        hedging.observe(float(seconds % 20 + 1))
    assert hedging.after() == 20.0


@given(st.lists(st.booleans(), max_size=2_000), st.sampled_from([0.01, 0.05, 0.2]))
def test_hedges_are_never_more_than_their_share(wants, share):
    """The provider would be asked for more than was agreed."""
    hedging, hedged = Hedging(share), 0
    for sent, want in enumerate(wants, 1):
        hedging.sent()
        hedged += want and hedging.take()
        assert hedged <= share * sent + 1e-6
        assert hedging._earned <= SAVED
