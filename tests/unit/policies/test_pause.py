"""Pauses: begun by one refusal for all, doubted where there is a reason to."""

from __future__ import annotations

import math

import pytest

from flatout.policies.pacing.pause import FIRST_DOUBT, LAST_PAUSE, TOO_SHORT, Pause


def test_nobody_goes_before_its_end():
    """Each caller would find out for itself."""
    pause = Pause(None)
    assert pause.begin(30.0, sent=0.0, now=0.1)
    assert pause.until == pause.surely_until == 30.0
    assert not pause.begin(20.0, sent=0.0, now=0.2)
    assert pause.until == 30.0


def test_it_is_doubted_when_others_were_answered_that_were_sent_after_the_refused_call():
    """A stray 429 that names a minute would stop a run for a minute, although the provider goes on answering."""
    pause = Pause(None)
    pause.begin(60.0, sent=1.0, now=1.1)
    assert not pause.answered(sent=0.9, now=1.5)
    assert pause.early_at == math.inf
    assert not pause.answered(sent=1.05, now=1.6)
    assert pause.early_at == pytest.approx(1.1 + FIRST_DOUBT)
    assert pause.surely_until == -math.inf
    assert pause.answered(sent=3.1, now=3.5)
    assert pause.until == 3.5
    assert pause.early_at == math.inf


def test_a_rest_that_was_asked_for_is_not_doubted_by_answers_from_before():
    """A used-up quota would be asked for every two seconds."""
    pause = Pause(None)
    pause.begin(600.0, sent=2.0, now=2.0)
    pause.answered(sent=1.0, now=2.5)
    assert pause.early_at == math.inf


def test_doubts_come_later_each_time():
    """A provider that means it would be asked every two seconds."""
    pause = Pause(None)
    pause.begin(600.0, sent=0.0, now=0.0)
    waits = []
    for _ in range(3):
        pause.doubt(0.0)
        waits.append(pause.early_at)
    assert waits == [2.0, 4.0, 8.0]


def test_waits_that_turn_out_too_short_grow():
    """A gateway whose every 429 says a tenth of a second would be asked ten times a second."""
    pause = Pause(None)
    waits = []
    for now in range(20):
        waits.append(pause.seconds(0.1, float(now)))
    assert waits[:TOO_SHORT] == [0.1] * TOO_SHORT
    assert waits[-1] == LAST_PAUSE
