"""How many calls may be in flight at a server that pushes back."""

from __future__ import annotations

import random

import pytest

from flatout.policies.pacing.aimd import Aimd
from flatout.policies.pacing.crowd import Crowd
from flatout.policies.pacing.tokens import Need

MOST = 1_000


class Server:
    """Calls flat out, at a server that holds this many and takes a second for each."""

    def __init__(self, holds: int, *, refuses: float = 0.0) -> None:
        self.aimd = Aimd(0.0, MOST, limit=MOST)
        self.crowd = Crowd(self.aimd)
        self.holds, self.refuses = holds, refuses
        self.chance, self.number, self.pushed_back = random.Random(1), 0, 0

    def run(self, seconds: int, *, at_once: int = 300) -> list[int]:
        """How many were in flight in each second, with never more than this many at once."""
        counts = []
        for second in range(seconds):
            counts.append(self._second(float(second), at_once))
        return counts

    def _second(self, now: float, at_once: int) -> int:
        taken, needs = 0, []
        for step in range(1_000):
            sent = now + step / 1_000
            if taken + 1 > min(self.aimd.limit, at_once):
                break
            self.number += 1
            need = Need()
            need.number, need.at = self.number, taken + 1
            if taken >= self.holds or self.chance.random() < self.refuses:
                self.pushed_back += 1
                self.crowd.pushed_back(need, taken, sent, sent)
            else:
                taken += 1
                needs.append(need)
        for need in needs:
            self.crowd.answered(need, now + 1.0)
            self.aimd.answered(taken, 1.0, now + 1.0)
        return taken


@pytest.mark.parametrize("holds", [8, 64, 250])
def test_a_full_server_is_kept_full_and_few_are_pushed_back(holds):
    """A server would be sent hundreds that it cannot take; or stand idle."""
    server = Server(holds)
    counts = server.run(100)
    assert sum(counts[10:]) >= 0.8 * 90 * holds
    assert server.pushed_back <= 0.15 * server.number


@pytest.mark.parametrize("refuses", [0.02, 0.1, 0.3])
def test_push_backs_whatever_is_in_flight_are_found_out(refuses):
    """A provider that says 503 now and then would be sent one call at a time."""
    counts = Server(MOST, refuses=refuses).run(60)
    assert sum(counts) >= 0.5 * 60 * 300


def test_what_an_earlier_cut_has_answered_is_no_news():
    """Three hundred refusals of one moment would look like an outage."""
    crowd, news = Crowd(Aimd(-1.0, MOST, limit=MOST)), []
    for number in range(1, 301):
        need = Need()
        need.number, need.at = number, 64 + number
        news.append(crowd.pushed_back(need, 364 - number, 0.0, 0.02))
    assert news[:4] == [True] * 4
    assert not any(news[4:])
    assert crowd.aimd.limit < 64


def test_what_fails_after_a_while_does_not_measure_the_server():
    """Calls that were taken, and then fail, were sent when there were few: a run would go on with a handful."""
    crowd = Crowd(Aimd(-1.0, MOST, limit=MOST))
    for number in range(1, 20):
        need = Need()
        need.number, need.at = number, number
        crowd.pushed_back(need, 200, 0.0, 30.0)
    assert crowd.aimd.limit > 150
