"""The money of one attempt, out of its client's purse."""

from __future__ import annotations

from collections.abc import Hashable

from flatout.policies.spending import Reservation

from .purse import Purse


class Money:
    """The money of one attempt. It is reserved when the attempt may be sent: a call that waits for its turn holds none.

    Attributes:
        held: what is reserved; None so far.
        short: whether the call had its turn, and found too little.
    """

    __slots__ = ("_kind", "_purse", "_worst", "held", "short")

    def __init__(self, purse: Purse, kind: Hashable, worst: float) -> None:
        self._purse = purse
        self._kind = kind
        self._worst = worst
        self.held: Reservation | None = None
        self.short: bool = False

    def take(self) -> bool:
        """Reserve it without waiting. Returns whether it is reserved."""
        if self.held is None:
            self.held = self._purse.take(self._kind, self._worst)
            self.short = self.held is None
        return self.held is not None

    async def wait(self) -> None:
        """Reserve it, first come, first served; see `Purse.reserve`."""
        self.held = await self._purse.reserve(self._kind, self._worst)

    def give_back(self) -> None:
        """Give back what is reserved: the attempt was not sent, and takes it anew when it is."""
        held, self.held = self.held, None
        if held is not None:
            self._purse.release(held, None)

    def release(self, cost: float | None) -> None:
        """Give back what is reserved; the real cost is counted by now."""
        if self.held is not None:
            self._purse.release(self.held, cost)
