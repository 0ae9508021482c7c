"""Lets calls through to a target in trouble: single looks while it is down, then twice as many each time.

Sending everything at once to a server that comes back brings it down again. Waiting a minute after each try makes an
outage of ten seconds cost a minute.
"""

from __future__ import annotations

import math

FIRST_LOOK = 0.5
"""Least seconds between two looks at a target that is down. So at most two requests a second reach it."""

LAST_LOOK = 15.0
"""Most seconds between two looks."""

PATIENCE = 1.0 / 100.0
"""Within these bounds, looks are this share of the time apart for which the target is down. So the looks make an outage
longer by no more than this share."""

NEVER_MET = 1.0 / 12.0
"""The share for a target that never answered: its address may be wrong."""

DOUBLE = 0.5
"""Seconds in which the number of calls that may go doubles after an answered look: two at once, then four …"""

RAMP = 4.0
"""Seconds after which all calls may go. 500 have gone by then."""


class Gate:
    """One target's gate. Open: all calls go. Shut: only looks go. Widening: more calls go each time.

    Attributes:
        shut: whether only looks go.
        open: whether all calls go.
    """

    __slots__ = ("_first", "_from", "_next", "_passed", "_patience", "_since", "open", "shut")

    def __init__(self) -> None:
        self.open = True
        self.shut = False
        self._since = 0.0  # when this trouble began
        self._next = 0.0  # the next look
        self._patience = PATIENCE
        self._first = 1  # calls that may go at once when it begins to widen
        self._from = 0.0  # when it began to widen
        self._passed = 0  # calls that have gone since

    def __repr__(self) -> str:
        return f"Gate({'open' if self.open else 'shut' if self.shut else 'widening'})"

    def down_for(self, now: float) -> float:
        """Seconds since the trouble began; 0 while the gate is open."""
        return 0.0 if self.open else now - self._since

    def close(self, now: float, patience: float = PATIENCE) -> None:
        """Let only looks through. A target that fails while the gate widens is in the same trouble still."""
        if self.open:
            self._since = now
        self._patience = patience
        self.open, self.shut = False, True
        self.wait(0.0, now)

    def wait(self, seconds: float, now: float) -> None:
        """Look again after this many seconds, within the bounds on looks."""
        patience = (now - self._since) * self._patience
        self._next = now + min(LAST_LOOK, max(FIRST_LOOK, patience, seconds))

    def widen(self, at: float, first: int = 2) -> None:
        """From an instant on, let ``first`` calls through, and then twice as many each time."""
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
