"""Which calls wait for the one that fills the cache, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.warmth import FAILURES, HOLD, MINUTE, MISSES, Go, Warmth


def single() -> Warmth:
    return Warmth(300.0, None)


def test_one_call_fills_the_cache_and_the_others_wait():
    """Each of a thousand rows would write what one of them could."""
    warmth = single()
    first = warmth.turn(0.0, 0)
    assert first.fills
    assert [warmth.turn(0.1, waiting) for waiting in range(3)] == ["wait"] * 3
    warmth.begun(first.lane, 1.0, fills=True)
    assert [warmth.turn(1.0, 0) for _ in range(3)] == [Go(first.lane, fills=False)] * 3


def test_a_cache_that_is_warm_is_not_waited_for_until_it_has_cooled():
    """A second job, minutes later, would stand still for a first answer that nobody needs."""
    warmth = single()
    lane = warmth.turn(0.0, 0).lane
    warmth.begun(lane, 1.0, fills=True)
    warmth.begun(warmth.turn(200.0, 0).lane, 250.0, fills=False)
    assert warmth.turn(540.0, 0) == Go(lane, fills=False)
    assert warmth.turn(551.0, 0) == Go(lane, fills=True)


def test_a_slow_first_answer_holds_nobody_for_long():
    """A job would stand still for the minutes of one slow answer."""
    warmth = single()
    lane = warmth.turn(0.0, 0).lane
    assert warmth.turn(500.0, 5) == "wait"  # it has no permit yet: the others would get none, either
    assert warmth.sent(lane, 500.0) == 500.0 + HOLD
    assert warmth.turn(499.9 + HOLD, 5) == "wait"
    assert warmth.turn(500.0 + HOLD, 5) == warmth.turn(600.0, 0) == "without"
    warmth.begun(lane, 700.0, fills=True)
    assert warmth.turn(700.0, 0) == Go(lane, fills=False)


def test_failures_hold_nobody_for_long():
    """A first call that fails, and each that follows it, would hold the group again and again."""
    warmth = single()
    for failed in range(FAILURES):
        going = warmth.turn(float(failed), 5)
        assert going.fills
        assert warmth.turn(failed + 0.5, 5) == "wait"
        warmth.failed(going.lane, failed + 0.9)
    going = warmth.turn(9.0, 5)
    assert going.fills
    assert warmth.turn(9.0, 5) == "without"
    warmth.begun(going.lane, 10.0, fills=True)
    assert warmth.turn(400.0, 0).fills
    assert warmth.turn(400.0, 0) == "wait"


def test_no_key_gets_more_calls_a_minute_than_a_machine_serves():
    """OpenAI would send the rest to machines without the cache."""
    warmth = Warmth(300.0, 15)
    sent: dict[int, list[float]] = {}
    lanes = {}
    for step in range(600):
        now = step / 5
        going = warmth.turn(now, 1_000)
        sent.setdefault(going.lane.number, []).append(now)
        if going.fills:
            lanes[going.lane.number] = going.lane
            warmth.begun(going.lane, now, fills=True)
    for times in sent.values():
        assert all(later - earlier > MINUTE - 0.001 for earlier, later in zip(times, times[15:], strict=False))
    assert len(sent) == 300 / 15  # calls of a minute, by those of a key: those of the second minute use the same keys


def test_as_many_keys_are_filled_at_once_as_the_waiting_calls_need():
    """A thousand rows would wait for one key after the other."""
    warmth, waiting, filling = Warmth(300.0, 15), 0, 0
    for _ in range(150):
        found = warmth.turn(0.0, waiting)
        waiting += found == "wait"
        filling += isinstance(found, Go)
    assert (waiting, filling) == (140, 10)


def test_slower_calls_go_back_to_the_first_keys():
    """A job that slows down would go round all the keys of its fast start, and find each of them expired."""
    warmth = Warmth(300.0, 15)
    for going in [warmth.turn(0.0, 1_000) for _ in range(10)]:
        warmth.begun(going.lane, 0.0, fills=True)
    for step in range(100):
        going = warmth.turn(100.0 + 5 * step, 0)
        assert (going.lane.number, going.fills) == (0, False)
        warmth.begun(going.lane, 101.0 + 5 * step, fills=False)


def test_a_cache_that_is_written_again_and_again_is_given_up():
    """Each row would cost a quarter more than without the cache, for ever."""
    warmth = single()
    for _ in range(MISSES - 1):
        warmth.told(read=False, wrote=True)
    warmth.told(read=True, wrote=True)
    assert not warmth.given_up
    for _ in range(MISSES):
        warmth.told(read=False, wrote=True)
    assert warmth.given_up
    harmless = single()
    for _ in range(100):
        harmless.told(read=False, wrote=False)
    assert not harmless.given_up


@pytest.mark.parametrize("most", [None, 15])
@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.integers(0, 40)), max_size=60))
def test_every_lane_comes_back(most, steps):
    """A key would be lost with each call that fails, and its group go on with ever new ones."""
    warmth, now, flying = Warmth(300.0, most), 0.0, []
    for pause, answers, waiting in steps:
        now += pause
        found = warmth.turn(now, waiting)
        if isinstance(found, Go):
            flying.append(found)
        if flying and answers:
            lane, fills = flying.pop(0)
            warmth.begun(lane, now, fills=fills)
        elif flying:
            lane, fills = flying.pop(0)
            if fills:
                warmth.failed(lane, now)
    for lane, fills in flying:
        if fills:
            warmth.failed(lane, now)
    assert not warmth._filling
    assert sorted([*warmth._open, *(number for _, number in warmth._full)]) == list(range(len(warmth._lanes)))
