"""How long the rows that are left take."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace

from flatout.look.course import Course
from flatout.look.facts import Facts
from flatout.look.left import paced
from flatout.store.course import SHARED, Happening, Stretch

RUNS = Facts(writer="p", total=1_000, left=380)


def stretch(at: float, **changes: Any) -> Stretch:
    fields = {"began_at": at, "seconds": 1.0, "target": "m", "in_flight": 0, "waiting": 0, "held": {}, "allows": {}}
    return Stretch(**{"sent": 1, "answered": 1, "refused": 0, "failed": 0} | fields | changes)


def left(stretches: list[Stretch], *happenings: Happening, now: float) -> float | None:
    return paced(RUNS, Course.of(stretches, happenings), now).seconds_left


def test_a_burst_promises_nothing() -> None:
    """A minute's requests go at once, and the run would seem to end in five seconds."""
    held = {"allows": {"rpm": 600.0}, "held": {"requests": 1.0}}
    assert left([stretch(0.0, answered=600, **held), stretch(1.0, answered=10, **held)], now=2.0) == pytest.approx(38.0)
    tokens = {"allows": {"tpm": 6_000.0}, "held": {"tokens": 1.0}, "input_tokens": 6_000}
    assert left([stretch(0.0, answered=600, **tokens)], now=1.0) == pytest.approx(38.0)


def test_retries_use_the_limit_too() -> None:
    """A run of which every fifth attempt fails would promise an end that comes a fifth later, until it is there."""
    held = {"allows": {"rpm": 600.0}, "held": {"requests": 1.0}}
    run = [stretch(float(at), answered=8, failed=2, **held) for at in range(60)]
    assert left(run, now=60.0) == pytest.approx(380 / 8)


def test_of_a_limit_that_others_use_too_the_run_has_its_own_pace() -> None:
    """A run that gets a quarter of its team's limit would promise to end in a quarter of its time."""
    held = {"allows": {"rpm": 1_200.0, SHARED: 1.0}, "held": {"requests": 1.0}}
    assert left([stretch(float(at), answered=5, **held) for at in range(60)], now=60.0) == pytest.approx(76.0)


def test_a_limit_that_was_just_changed_counts() -> None:
    """After a limit was lowered, the time left would be that of the old one for a minute."""
    before = [stretch(float(at), answered=10, allows={"rpm": 600.0}, held={"requests": 1.0}) for at in range(60)]
    after = stretch(61.0, answered=0, allows={"rpm": 60.0}, held={"requests": 1.0})
    changed = Happening(at=60.5, kind="change", what="rpm 60")
    assert left([*before, after], changed, now=62.0) == pytest.approx(380.0)


def test_where_no_limit_binds_the_last_minute_counts() -> None:
    """A server of one's own would have no time left at all."""
    slow = [stretch(float(at), answered=100) for at in range(100)]
    quick = [stretch(100.0 + at, answered=2) for at in range(100)]
    assert left([*slow, *quick], now=200.0) == pytest.approx(190.0)


def test_nobody_knows_when_a_pause_ends() -> None:
    """A paused run would promise an end, and seem to go on at 10 calls a second."""
    some = [stretch(float(at), answered=10) for at in range(60)]
    pause = Happening(at=60.0, kind="change", what="paused", does="pause")
    facts = paced(RUNS, Course.of(some, [pause]), 61.0)
    assert (facts.seconds_left, facts.rate, facts.ending) == (None, None, ", paused")
    assert left([stretch(float(at), answered=0) for at in range(60)], now=60.0) is None


def test_nobody_knows_when_trouble_ends() -> None:
    """A run of six minutes would have three hours left, told by the minutes in which its server failed."""
    good = [stretch(float(at), answered=10) for at in range(40)]
    failing = [stretch(40.0 + at, answered=1, failed=9) for at in range(15)]
    down = [stretch(40.0 + at, answered=0, held={"outage": 1.0}) for at in range(15)]
    for bad in (failing, down):
        assert left([*good, *bad], now=55.0) is None
        assert left([*good, *bad, *[stretch(55.0 + at, answered=5) for at in range(4)]], now=59.0) is None
        assert left([*good, *bad, *[stretch(55.0 + at, answered=5) for at in range(20)]], now=75.0) == pytest.approx(
            76.0
        )
    hiccup = [stretch(40.0, answered=0, failed=1), stretch(41.0, answered=9)]
    assert left([*good, *hiccup], now=42.0) == pytest.approx(38.3, abs=1.0)


def test_a_run_that_is_stopped_says_when_it_ends_and_not_when_all_rows_would_be_done() -> None:
    """Status would say 49 minutes left of a run that ends within half a minute."""
    some = [stretch(float(at), answered=10) for at in range(60)]
    begin = Happening(at=0.0, kind="begin")
    stop = Happening(at=60.0, until=90.0, kind="change", what="stop", does="stop", by="ada")
    facts = paced(RUNS, Course.of(some, [begin, stop]), 61.0)
    assert (facts.seconds_left, facts.stopping, facts.ends_by) == (None, True, 90.0)
    assert facts.ending == f", stopping, ends by {time.strftime('%H:%M:%S', time.localtime(90.0))} at the latest"
    assert (
        paced(RUNS, Course.of(some, [begin, replace(stop, until=None, what="drain", does="drain")]), 61.0).ending
        == ", stopping"
    )
    again = paced(RUNS, Course.of(some, [begin, stop, replace(begin, at=60.5)]), 61.0)
    assert again.seconds_left is not None
    assert again.ending == ""


def test_a_run_that_goes_on_promises_nothing_by_what_an_earlier_process_did() -> None:
    """A run that is now limited to 300 a minute would have the 5 seconds left of one that was allowed 1,200."""
    before = [stretch(float(at), answered=20, allows={"rpm": 1_200.0}) for at in range(10)]
    opened = replace(RUNS, opened_at=12.0, rate=20.0)
    facts = paced(opened, Course.of(before), 13.0)
    assert (facts.rate, facts.seconds_left) == (None, None)
    now = stretch(13.0, answered=0, allows={"rpm": 300.0}, held={"requests": 1.0})
    assert paced(opened, Course.of([*before, now]), 14.0).seconds_left == pytest.approx(76.0)
