"""How many calls may be in flight at a server that lets them wait in line, and says nothing of it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import count
from random import Random

import pytest

from flatout.policies.pacing.backlog import Backlog
from flatout.policies.pacing.tokens import Need

MOST = 1_000.0

WIDTHS = [0.0, 0.1, 0.5, 1.1]
"""How much answers differ in length: the 99th percentile is 1, 1.3, 3 and 13 times the median."""


class Server:
    """Calls as fast as they may go, at a server with slots; all others wait in line there.

    Args:
        slots: how many it works on at once.
        width: how much the calls' times differ.
    """

    def __init__(self, slots: float, width: float) -> None:
        self.backlog = Backlog(MOST)
        self.slots, self.seconds, self.width = slots, 1.0, width
        self.chance = Random(1)
        self.now, self.in_flight = 0.0, 0
        self.idle = 0.0  # seconds for which slots had nothing to do
        self._free: list[float] = []
        self._ends: list[tuple[float, int, float, Need]] = []
        self._order: Iterator[int] = count()

    def run(self, seconds: float) -> float:
        """Go on for this long. Returns the share of their time for which slots were idle."""
        until, before = self.now + seconds, self.idle
        while self.now < until:
            while self.in_flight + 1 <= min(MOST, self.backlog.limit):
                self.send()
            self._answer()
        return (self.idle - before) / (self.slots * seconds)

    def drain(self) -> None:
        """Send no more until all is answered."""
        while self.in_flight:
            self._answer()

    def send(self) -> None:
        need = Need()
        self.in_flight += 1
        need.at = self.in_flight
        self.backlog.sent(need)
        heapq.heappush(self._ends, (self._serve(), next(self._order), self.now, need))

    def _serve(self) -> float:
        free = self.now
        if len(self._free) >= self.slots:
            was = heapq.heappop(self._free)
            self.idle += max(0.0, self.now - was)
            free = max(self.now, was)
        end = free + self.seconds * math.exp(self.width * self.chance.gauss())
        if self.slots < math.inf:
            heapq.heappush(self._free, end)
        return end

    def _answer(self) -> None:
        self.now, _, sent, need = heapq.heappop(self._ends)
        self.in_flight -= 1
        self.backlog.answered(need, self.now - sent)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("slots", [1, 4, 16, 100])
def test_a_line_is_kept_short_and_every_slot_busy(slots, width):
    """A thousand calls would wait where seven are answered, each longer than it may take; or slots would stand idle."""
    server = Server(slots, width)
    server.run(200.0)
    assert server.in_flight <= 2.5 * slots + 12
    assert server.run(300.0) <= 0.01
    assert server.in_flight <= 2.5 * slots + 12


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_held_back_where_nothing_waits(width):
    """A provider that answers all at once would be used to a part, since some answers take longer than others."""
    server = Server(math.inf, width)
    server.run(3.0)
    assert server.in_flight >= 0.9 * MOST
    server.run(20.0)
    assert server.backlog.limit == MOST


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("longer", [2.0, 5.0, 30.0])
def test_answers_that_take_longer_for_another_reason_are_told_from_a_line(width, longer):
    """Longer prompts, or a busy hour, would bring a provider that answers all at once down to a few at a time."""
    server = Server(math.inf, width)
    server.run(10.0)
    server.seconds = longer
    server.run(40.0 * longer)
    assert server.backlog.limit == MOST


@pytest.mark.parametrize("width", WIDTHS)
def test_more_slots_are_found(width):
    """A server that is given more machines would go on with as few calls as before."""
    server = Server(8, width)
    server.run(200.0)
    server.slots = 64
    server.run(60.0)
    assert server.run(100.0) <= 0.01


@pytest.mark.parametrize("width", WIDTHS)
def test_calls_that_come_in_bursts_are_not_taken_for_a_line(width):
    """Where a provider lets calls go minute by minute, each minute's would wait for each other."""
    server = Server(math.inf, width)
    for _ in range(20):
        for _ in range(300):
            if server.in_flight + 1 <= server.backlog.limit:
                server.send()
        server.drain()
    assert server.backlog.limit >= 300
