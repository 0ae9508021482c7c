"""Limits that change while calls go."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.policies.pacing.gcra import BURST, MISSED
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.values import Limits, Usage

rates = st.sampled_from([1.0, 30.0, 60.0, 600.0, 6_000.0])
steps = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "answer", "rpm", "tpm", "concurrency", "wait"]), st.floats(0, 1)
    ),
    max_size=150,
)


class Life:
    """Sends calls through one pacer, and remembers what was admitted, and which limits held when."""

    def __init__(self, limits: Limits, **given: Any) -> None:
        self.now = 0.0
        self.limits = limits
        self.pacer = Pacer(limits, 0.0, **given)
        self.flying: list[tuple[Need, float]] = []
        self.admitted: dict[str, list[tuple[float, float]]] = {"rpm": [], "tpm": []}
        self.held: list[tuple[float, Limits]] = [(0.0, limits)]

    def change(self, **limits: Any) -> None:
        new = Limits(**{name: getattr(self.limits, name) for name in ("rpm", "tpm", "concurrency")} | limits)
        self.limits = new
        self.pacer.change(new, self.now)
        self.held.append((self.now, new))

    def send(self) -> bool:
        """Send one call as soon as it may go; False if only another call's end helps."""
        need = Need(80.0, 20.0)
        at, _ = self.pacer.ready_at(need, self.now)
        if at == math.inf:
            return False
        self.now = max(self.now, at)
        most = self.limits.concurrency or math.inf
        assert len(self.flying) < most
        self.pacer.admit(need, self.now)
        self.flying.append((need, self.now))
        self.admitted["rpm"].append((self.now, 1.0))
        self.admitted["tpm"].append((self.now, 100.0))
        return True

    def answer(self) -> None:
        if self.flying:
            need, sent = self.flying.pop(0)
            self.pacer.answered(need, Usage(input_tokens=80, output_tokens=20), {}, sent, self.now, self.now)

    def allowed(self, name: str, start: float, end: float) -> float:
        """What the limits add up to between two instants; infinite where one was unknown."""
        total = 0.0
        ends = [at for at, _ in self.held[1:]] + [math.inf]
        for (began, limits), until in zip(self.held, ends, strict=True):
            seconds = min(end, until) - max(start, began)
            if seconds > 0.0:
                limit = getattr(limits, name)
                total += math.inf if limit is None else limit / 60.0 * seconds
        return total

    def most(self, name: str, start: float, end: float) -> float:
        """The highest limit per second that held at any time between two instants."""
        ends = [at for at, _ in self.held[1:]] + [math.inf]
        found = [
            getattr(limits, name)
            for (began, limits), until in zip(self.held, ends, strict=True)
            if began <= end and until >= start
        ]
        return math.inf if None in found else max(found) / 60.0


def play(life: Life, moves: list[tuple[str, float]]) -> None:
    """Live through random steps."""
    for what, draw in moves:
        if what == "send":
            life.send()
        elif what == "answer":
            life.answer()
        elif what == "wait":
            life.now += draw * 5.0
        elif what == "concurrency":
            life.change(concurrency=None if draw < 0.2 else 1 + int(draw * 8))
        else:
            amounts = [None, 1.0, 30.0, 600.0, 6_000.0]
            amount = amounts[int(draw * 4.999)]
            life.change(**{what: amount and amount * (100.0 if what == "tpm" else 1.0)})


@settings(deadline=None)
@given(rates, steps)
def test_no_window_exceeds_the_limits_however_they_change(rpm: float, moves: list[tuple[str, float]]) -> None:
    """A user who retunes a run would get refusals: changes would let more go than any of the limits allowed."""
    life = Life(Limits(rpm=rpm))
    play(life, moves)
    for name, cost in (("rpm", 1.0), ("tpm", 100.0)):
        sent = life.admitted[name]
        for first in range(len(sent)):
            total = 0.0
            for last in range(first, len(sent)):
                total += sent[last][1]
                start, end = sent[first][0], sent[last][0]
                spare = (BURST + MISSED) * life.most(name, start, end) + cost
                assert total <= life.allowed(name, start, end) + spare + 1e-6


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from([60.0, 300.0, 600.0, 1_200.0])), max_size=8))
def test_a_minute_spent_ahead_is_not_spent_again_after_a_change(changes: list[tuple[int, float]]) -> None:
    """A run that has sent a whole minute's calls at once would send as many again when its limit is changed."""
    life = Life(Limits(rpm=600), even=False)
    for calls, rpm in changes:
        for _ in range(calls):
            life.send()
            life.answer()
        life.change(rpm=rpm)
    for _ in range(200):
        life.send()
        life.answer()
    highest = max(limits.rpm or 0.0 for _, limits in life.held)
    assert sum(at <= 60.0 for at, _ in life.admitted["rpm"]) <= highest + 1


def sent_in(life: Life, seconds: float) -> int:
    """Send for some seconds, each call answered at once. Returns how many went."""
    ends, sent = life.now + seconds, 0
    while life.now < ends and life.send():
        life.answer()
        sent += 1
    return sent


@pytest.mark.parametrize(("before", "after"), [(600, 6_000), (6_000, 600), (600, 60)])
def test_a_changed_rate_is_kept_to_at_once(before: int, after: int) -> None:
    """A run that is retuned would go on at its old pace, or stand still for a minute."""
    life = Life(Limits(rpm=before))
    sent_in(life, 30.0)
    life.change(rpm=after)
    assert sent_in(life, 60.0) == pytest.approx(after, rel=0.03, abs=2)


def test_a_lowered_concurrency_waits_until_it_fits() -> None:
    """With eight calls in flight and three allowed, more would be sent to a server that is too full already."""
    life = Life(Limits(concurrency=8))
    while life.send():
        pass
    life.change(concurrency=3)
    for _ in range(5):
        life.answer()
        assert not life.send()
    life.answer()
    assert life.send()


def test_a_given_limit_ends_the_search_and_its_removal_starts_one() -> None:
    """A user who tells the limit would wait for a search; who takes it back would stay bound by it for ever."""
    life = Life(Limits())
    assert life.pacer.search is not None
    life.send()
    life.change(rpm=600)
    assert life.pacer.search is None
    assert life.pacer.allows() == {"rpm": 600.0}
    life.change(rpm=None)
    assert life.pacer.search is not None
    assert life.pacer.search.rate == pytest.approx(9.0, rel=0.05)
    life.answer()
    assert life.send()


def test_tokens_in_flight_settle_with_the_limit_that_admitted_them() -> None:
    """A limit that is taken back and given anew would be credited for tokens that it never counted."""
    life = Life(Limits(tpm=60_000))
    need = Need(80.0, 20_000.0)
    at, _ = life.pacer.ready_at(need, 0.0)
    life.now = max(0.0, at)
    life.pacer.admit(need, life.now)
    life.change(tpm=None, rpm=600)
    life.change(tpm=6_000)
    life.pacer.answered(need, Usage(input_tokens=80, output_tokens=20), {}, 0.0, life.now, life.now)
    assert sent_in(life, 60.0) <= 61


def test_a_day_s_limit_keeps_what_was_used() -> None:
    """A lowered limit per day would forget the requests of today."""
    life = Life(Limits(rpd=1_000, rpm=6_000))
    sent_in(life, 0.5)
    assert 10 < len(life.admitted["rpm"]) < 100
    life.pacer.change(Limits(rpd=100, rpm=6_000), life.now)
    sent_in(life, 30.0)
    assert sum(at < 3_600.0 for at, _ in life.admitted["rpm"]) == 100


def test_other_limits_of_headers_still_lower_a_changed_one() -> None:
    """A user who raises the limit above the provider's would be refused, although its headers tell the limit."""
    life = Life(Limits(rpm=600))
    life.send()
    life.change(rpm=60_000)
    need, sent = life.flying.pop()
    headers = {"x-ratelimit-limit-requests": "1200", "x-ratelimit-remaining-requests": "1199"}
    life.pacer.answered(need, Usage(), headers, sent, life.now, life.now)
    assert life.pacer.allows()["rpm"] == 1_200.0
