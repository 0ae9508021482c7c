"""How long calls wait in a queue."""

from __future__ import annotations

from flatout.admission.waits import SOME, Waits


def test_each_cause_is_booked_with_its_own_time():
    """A report would blame a limit that did not hold the calls."""
    waits = Waits()
    for cause, now in (("requests", 10.0), ("tokens", 13.0), ("", 15.0), ("requests", 100.0), ("requests", 101.0)):
        waits.hold(cause, now)
    assert waits.held() == {"requests": 4.0, "tokens": 2.0}


def test_a_call_has_waited_only_since_it_came():
    """Its ``waits`` would tell of hours before it was made."""
    waits = Waits()
    waits.hold("requests", 0.0)
    waits.book(7.0)
    before = waits.held()
    waits.hold("tokens", 9.0)
    waits.hold("", 12.0)
    assert waits.beyond(before) == {"requests": 2.0, "tokens": 3.0}


def test_the_next_call_waits_as_long_as_the_latest_did():
    """A route would send calls to a target whose queue is slow, or shun a quick one."""
    waits = Waits()
    for number in range(SOME):
        assert waits.ahead(10) == 0.0, "too few have gone to tell"
        waits.gone(100.0, 0, 102.0 + 2 * number)
    assert waits.ahead(10) == 20.0
    for number in range(SOME):
        waits.gone(200.0, SOME, 200.5 + 0.5 * number)
    assert waits.ahead(10) == 5.0
