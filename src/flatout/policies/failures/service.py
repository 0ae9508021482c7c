"""Whether one kind of request to a target is stopped: by a wrong key, a used-up quota, an unknown model.

After a first answer such a refusal is doubted until another call meets it too. Some gateways send a stray 401 or 404,
which would otherwise fail hundreds of calls.
"""

from __future__ import annotations

from typing import Literal

from flatout.errors import AttemptTimeout, CallError, CircuitOpen, Overloaded

LOOK_AGAIN = 120.0
"""Seconds between two looks at a service that is stopped."""

SAME = 20
"""If all of the first SAME calls are refused with the same words, the others may be too: they go one at a time."""

ENOUGH = 3_000
"""If the first ENOUGH are, the others would be too."""


def is_own(error: CallError) -> bool:
    """Whether a failure of a service that gets only spare capacity says nothing about the target: no room, too slow."""
    return isinstance(error, Overloaded | AttemptTimeout)


Whose = Literal["doubted", "own", "all"]
"""Whom a refusal concerns: not known yet, this call alone, or all calls."""


class Service:
    """One kind of request to a target: chat or embeddings. What stops one says nothing about the other.

    A provider's cheaper service is a kind of its own. It gets the capacity that the others leave, so the target may be
    well while it has no room; see `flatout.layers.flex`.

    Attributes:
        name: the kind.
        target: the target's name, for people.
        spare: whether it gets only the capacity that others leave.
        answered: whether it ever answered.
        stop: the failure that stopped it; None while it runs.
        looker: the call that went to look last.
    """

    __slots__ = (
        *("_look_at", "_same", "_stopped_at", "_suspect"),
        *("answered", "looker", "name", "spare", "stop", "target"),
    )

    def __init__(self, name: str, target: str = "", *, spare: bool = False) -> None:
        self.name = name
        self.target = target
        self.spare = spare
        self.answered = False
        self.stop: CallError | None = None
        self.looker: object = None
        self._stopped_at = 0  # the number of the last call sent by then
        self._look_at = 0.0
        self._suspect: tuple[int, object] | None = None  # the last call sent by a doubted refusal, and its call
        self._same: tuple[str, int] = ("", 0)  # the words of the refusals so far, and their number

    def __repr__(self) -> str:
        return f"Service({self.name}, {'stopped' if self.stop is not None else 'running'})"

    @property
    def troubled(self) -> bool:
        """Whether it is stopped, or may be soon."""
        return self.stop is not None or self._suspect is not None

    def looks(self, now: float, call: object = None) -> bool:
        """Whether a call may go to look although the service is stopped: one every few minutes."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_AGAIN
        self.looker = call
        return True

    def due(self, now: float) -> bool:
        """Whether the next call may go to look; see `looks`."""
        return now >= self._look_at

    def bars(self, call: object) -> bool:
        """Whether a call must not go: the service is stopped, and this is not the call that looks."""
        return self.stop is not None and call is not self.looker

    def refusal(self) -> CircuitOpen:
        """The error of a call that is not sent because the service is stopped."""
        refusal = CircuitOpen(f"not sent: {self.target} is stopped: {self.stop}")
        refusal.__cause__ = self.stop
        return refusal

    def close(self, error: CallError, number: int, now: float) -> None:
        """Stop the service. ``number`` is that of the last call sent."""
        self.stop = error
        self._stopped_at = number
        self._look_at = now + LOOK_AGAIN
        self._suspect = None

    def refused(self, call: object, number: int, sent: int, *, again: bool) -> Whose:
        """A call met a refusal that every call would meet. Returns whom it concerns.

        Before the first answer it concerns all. Later it is doubted until another call, sent after it, is refused too.
        If the same call is refused twice and no other is, the refusal concerns it alone.

        Args:
            call: the call.
            number: its number in the order of sending.
            sent: calls sent so far.
            again: whether its last attempt was refused in the same way.
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

    def rejected(self, words: str) -> int:
        """A call was refused for its content. Returns how many calls in a row were, with the same words.

        After the first answer, or while the service is stopped, such a refusal concerns its call alone: 0.
        """
        if self.answered or self.stop is not None:
            return 0
        same, count = self._same
        self._same = (words, count + 1 if words == same else 1)
        return self._same[1]

    def heard(self, number: int) -> bool:
        """A call was answered. Returns whether that ends a stop."""
        if self._suspect is not None and number > self._suspect[0]:
            self._suspect = None
        if self.stop is None or number <= self._stopped_at:
            return False
        self.stop = None
        return True
