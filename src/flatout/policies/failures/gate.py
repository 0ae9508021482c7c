"""How calls reach a target that is in trouble: one look after the other while it is down, then twice as many each time.

Whoever sends everything at once to a server that comes back brings it down again; whoever waits for a minute after each
try makes an outage of ten seconds cost a minute.
"""

from __future__ import annotations

import math

FIRST_LOOK, LAST_LOOK = 0.5, 15.0
"""Seconds between two looks at a target that is down: at the beginning, and at most. So no more than two requests a
second reach it."""

PATIENCE, NEVER_MET = 1.0 / 100.0, 1.0 / 12.0
"""The share of the time for which a target has been down after which it is looked at again: what an outage lasts longer
for that. And where it has never answered: it may be a mistake in its address."""

DOUBLE = 0.5
"""Seconds in which the calls that may go double, once a look was answered: two at once, four after this time …"""

RAMP = 4.0
"""Seconds after which they are not counted any more. 500 have gone by then."""


class Gate:
    """Lets calls to one target pass. Open: all go. Shut: only looks go. Widening: more go each time.

    Attributes:
        shut: whether only looks go.
        open: whether everything goes.
    """

    __slots__ = ("_first", "_from", "_next", "_passed", "_patience", "_since", "open", "shut")

    def __init__(self) -> None:
        self.open = True
        self.shut = False
        self._since = 0.0  # when it was shut first, in this trouble
        self._next = 0.0  # the next look
        self._patience = PATIENCE
        self._first = 1  # what may go at once when it begins to widen
        self._from = 0.0  # when it began to widen
        self._passed = 0  # what has gone since

    def __repr__(self) -> str:
        return f"Gate({'open' if self.open else 'shut' if self.shut else 'widening'})"

    def down_for(self, now: float) -> float:
        """Seconds since the trouble began; 0 while it is open."""
        return 0.0 if self.open else now - self._since

    def close(self, now: float, patience: float = PATIENCE) -> None:
        """Let only looks through. A target that fails while the gate widens is still in the same trouble."""
        if self.open:
            self._since = now
        self._patience = patience
        self.open, self.shut = False, True
        self.wait(0.0, now)

    def wait(self, seconds: float, now: float) -> None:
        """Look again after so many seconds, within the bounds on looks."""
        patience = (now - self._since) * self._patience
        self._next = now + min(LAST_LOOK, max(FIRST_LOOK, patience, seconds))

    def widen(self, at: float, first: int = 2) -> None:
        """From an instant on, let more and more through: so many at once, and then twice as many each time."""
        if self.open:
            self._since = at
        self.open = self.shut = False
        self._from = at
        self._first = first
        self._passed = 0

    def ready_at(self) -> float:
        """When the next call may go."""
        if self.open:
            return -math.inf
        if self.shut:
            return self._next
        return self._from + DOUBLE * max(0.0, math.log2((self._passed + 1) / self._first))

    def take(self, now: float) -> None:
        """A call goes."""
        self._passed += 1
        if self.shut:
            self.wait(0.0, now)
        elif now >= self._from + RAMP:
            self.open = True
