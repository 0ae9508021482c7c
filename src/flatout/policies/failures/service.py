"""Whether one kind of request to a target is stopped: by a wrong key, a used-up quota, an unknown model.

Where calls have been answered, such a refusal is doubted until another call meets it, too: some gateways send a stray
401 or 404, and hundreds of calls would fail by it.
"""

from __future__ import annotations

from typing import Literal

from flatout.errors import CallError, CircuitOpen

LOOK_AGAIN = 120.0
"""Seconds between two looks at a target that is stopped."""

SAME = 20
"""When the first so many calls are all refused with the same words, so would be the others."""

Whose = Literal["doubted", "own", "all"]
"""Whose a refusal is: the call's own, everybody's, or not known yet."""


class Service:
    """One kind of request to a target: chat, or embeddings. What stops one says nothing of the other.

    Attributes:
        name: what it is.
        answered: whether it ever answered.
        stop: the failure that stopped it; None while it is not.
    """

    __slots__ = ("_look_at", "_same", "_stopped_at", "_suspect", "answered", "name", "stop")

    def __init__(self, name: str) -> None:
        self.name = name
        self.answered = False
        self.stop: CallError | None = None
        self._stopped_at = 0  # the last call that was sent by then
        self._look_at = 0.0
        self._suspect: tuple[int, object] | None = None  # the last call sent, and the one that was refused
        self._same: tuple[str, int] = ("", 0)  # the words of refusals so far, and how many there were

    def __repr__(self) -> str:
        return f"Service({self.name}, {'stopped' if self.stop is not None else 'running'})"

    @property
    def troubled(self) -> bool:
        """Whether it is stopped, or may be soon."""
        return self.stop is not None or self._suspect is not None

    def looks(self, now: float) -> bool:
        """Whether a call may go although it is stopped: one, every few minutes."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_AGAIN
        return True

    def refusal(self, target: str) -> CircuitOpen:
        """The error of a call that is not sent, since it is stopped."""
        refusal = CircuitOpen(f"not sent: {target} is stopped: {self.stop}")
        refusal.__cause__ = self.stop
        return refusal

    def close(self, error: CallError, number: int, now: float) -> None:
        """Stop it, so many calls having been sent."""
        self.stop = error
        self._stopped_at = number
        self._look_at = now + LOOK_AGAIN
        self._suspect = None

    def refused(self, call: object, number: int, sent: int, *, again: bool) -> Whose:
        """A call was refused as every call would be. Whose refusal that is.

        Before anything was answered it is everybody's. Later it is doubted, until another call that was sent after it
        is refused, too. A call that is refused twice while nobody else is, is refused for something of its own.

        Args:
            call: the call.
            number: its place in the order of sending.
            sent: how many have been sent by now.
            again: whether its last attempt was refused so, too.
        """
        if not self.answered:
            return "all"
        if self._suspect is not None and number > self._suspect[0] and call is not self._suspect[1]:
            return "all"
        if again:
            return "own"
        if self._suspect is None:
            self._suspect = (sent, call)
        return "doubted"

    def rejected(self, words: str) -> bool:
        """A call was refused for what it is. Whether all were, and with the same words."""
        if self.answered or self.stop is not None:
            return False
        same, count = self._same
        self._same = (words, count + 1 if words == same else 1)
        return self._same[1] >= SAME

    def heard(self, number: int) -> bool:
        """A call was answered. Whether that ends a stop."""
        if self._suspect is not None and number > self._suspect[0]:
            self._suspect = None
        if self.stop is None or number <= self._stopped_at:
            return False
        self.stop = None
        return True
