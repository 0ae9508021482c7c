"""How calls reach a target that is in trouble."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.failures.gate import FIRST_LOOK, LAST_LOOK, NEVER_MET, PATIENCE, RAMP, Gate


def looks(gate: Gate, until: float) -> list[float]:
    """The times of the calls that go, if as many as may."""
    times = []
    while gate.ready_at() <= until:
        times.append(gate.ready_at())
        gate.take(times[-1])
    return times


def test_a_target_that_is_down_is_looked_at_soon_and_then_less_and_less_often():
    """A server that is down would be hammered; or one that is back waited for."""
    gate = Gate()
    gate.close(0.0)
    times = looks(gate, 600.0)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert times[0] == FIRST_LOOK
    assert gaps[0] == FIRST_LOOK
    assert all(FIRST_LOOK <= gap <= LAST_LOOK for gap in gaps)
    assert all(gap <= max(FIRST_LOOK, PATIENCE * at) for at, gap in zip(times[1:], gaps, strict=False))
    assert len(times) < 400


def test_one_that_never_answered_is_looked_at_less_often():
    """A typo in an address would be asked twice a second for half a minute."""
    gate = Gate()
    gate.close(0.0, NEVER_MET)
    assert len(looks(gate, 60.0)) <= 45


def test_the_others_follow_a_look_that_was_answered_in_growing_numbers():
    """A server that comes back would be sent everything at once, and fall again; or one call a second for minutes."""
    gate = Gate()
    gate.close(0.0)
    gate.widen(10.0)
    times = looks(gate, 10.0 + RAMP - 0.01)
    passed = [sum(at < 10.0 + seconds for at in times) for seconds in (0.01, 0.51, 1.01, 2.01)]
    assert passed == [2, 4, 8, 32]
    gate.take(10.0 + RAMP)
    assert gate.open


def test_a_target_that_fails_again_while_the_others_follow_is_in_the_same_trouble():
    """One that comes and goes would be looked at twice a second for ever."""
    gate = Gate()
    gate.close(0.0)
    gate.widen(500.0)
    gate.close(501.0)
    assert gate.ready_at() - 501.0 > 5.0
    gate.widen(600.0)
    gate.take(600.0 + RAMP)
    gate.close(700.0)
    assert gate.ready_at() - 700.0 == FIRST_LOOK


def test_a_wait_that_the_provider_asks_for_is_kept_within_bounds():
    """A Retry-After of a minute on a 503 would make an outage of three seconds cost one."""
    gate = Gate()
    gate.close(0.0)
    gate.wait(5.0, 0.0)
    assert gate.ready_at() == 5.0
    gate.wait(3_600.0, 0.0)
    assert gate.ready_at() == LAST_LOOK


@given(st.lists(st.sampled_from(["close", "widen", "take"]), max_size=60), st.floats(0.01, 5.0))
def test_never_more_than_two_a_second_while_it_is_shut(steps, gap):
    """Whatever happens, an outage would become a storm."""
    gate, now, took = Gate(), 0.0, []
    for step in steps:
        now += gap
        if step == "close":
            gate.close(now)
            took = []
        elif step == "widen":
            gate.widen(now)
        elif gate.ready_at() <= now:
            was_shut = gate.shut
            gate.take(now)
            if was_shut:
                took.append(now)
        if not gate.shut:
            took = []
        assert all(after - before >= FIRST_LOOK for before, after in itertools.pairwise(took))
