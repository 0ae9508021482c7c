"""The slots in which a provider serves requests, and the queue in front of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from ._prompt_cache import CacheUse

Wire = Literal["whole", "reset", "refused", "hang", "truncated", "stall"]
"""What happens on the connection: a whole answer, or how it fails."""

BodyPart = tuple[float, bytes]
"""A part of a streamed answer: the seconds before it comes, and its bytes."""


class SimulatedResponse(Struct, eq=False, kw_only=True):
    """How one request is answered. Hand it back to `ProviderModel.finish` when it is over, however it ended.

    Attributes:
        kind: its name in `ProviderModel.stats`: ``answered``, ``refused`` or the name of a fault.
        status, headers, body: the HTTP answer.
        pieces: the body of a streamed answer, instead of ``body``; None for an answer in one piece.
        delay: seconds until the answer begins, counted from when the request gets its slot.
        wire: how the answer travels. A stream that is cut off needs no mark: its pieces end early.
        queued: whether it still waits for a slot. Until then, ``delay`` has not begun.
        on_start: called when a queued request gets its slot; the sender of the answer sets it.
        mark: the first eight bytes of the conversation's digest, as a number.
        prompt_tokens, output_tokens: its usage.
        holds: whether it holds or waits for a slot; False once it gave that back.
        use: what it takes from the prompt cache and puts there.
    """

    kind: str
    status: int = 200
    headers: dict[str, str]
    body: bytes = b""
    pieces: Sequence[BodyPart] | None = None
    delay: float = 0.0
    wire: Wire = "whole"
    queued: bool = False
    on_start: Callable[[], None] | None = None
    mark: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    holds: bool = False
    use: CacheUse = CacheUse()

    def slow(self, factor: float) -> None:
        """Multiply all times by a factor."""
        self.delay *= factor
        if self.pieces is not None:
            self.pieces = [(delay * factor, data) for delay, data in self.pieces]


Outcome = SimulatedResponse
"""The earlier name of `SimulatedResponse`."""


class ServerSlots:
    """Serves at most ``limit`` requests at once, and the others in order of arrival."""

    __slots__ = ("_line", "busy", "limit", "queue", "queued", "slow_above")

    def __init__(self, limit: int | None, queue: int | None, slow_above: int | None) -> None:
        self.limit = limit
        self.queue = queue
        self.slow_above = slow_above
        self.busy = 0
        self.queued = 0
        self._line: deque[SimulatedResponse] = deque()  # may hold some that have left; `queued` does not count those

    def full(self) -> bool:
        """Whether neither a slot nor a place in the queue is free."""
        return self._taken() and self.queue is not None and self.queued >= self.queue

    def enter(self, outcome: SimulatedResponse) -> None:
        """Give the request a slot, or let it wait for one."""
        outcome.holds = True
        if self._taken():
            outcome.queued = True
            self.queued += 1
            self._line.append(outcome)
        else:
            self._start(outcome)

    def leave(self, outcome: SimulatedResponse) -> Sequence[SimulatedResponse]:
        """Free the request's slot or its place in the queue; returns the requests that got a slot because of it."""
        if not outcome.holds:
            return ()
        outcome.holds = False
        if outcome.queued:
            self.queued -= 1
        else:
            self.busy -= 1
        if not self.queued:
            self._line.clear()
            return ()
        return self._advance()

    def _advance(self) -> list[SimulatedResponse]:
        started = []
        while self.queued and not self._taken():
            outcome = self._line.popleft()
            if outcome.holds:
                outcome.queued = False
                self.queued -= 1
                self._start(outcome)
                started.append(outcome)
        return started

    def _start(self, outcome: SimulatedResponse) -> None:
        self.busy += 1
        if self.slow_above is not None and self.busy > self.slow_above:
            outcome.slow(self.busy / self.slow_above)

    def _taken(self) -> bool:
        return self.limit is not None and self.busy >= self.limit
