"""Where calls wait for their turn, in front of the engine.

The engine's own queues are first in, first out. So the gate keeps them short: of each model, only a few calls are
inside that have not been on the wire. Whoever goes next is decided here, when there is room: see
`flatout.policies.fairness`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

from flatout.errors import CallError, ConfigError, DeadlineExceeded
from flatout.policies.fairness import Ahead, FairQueue

from .callers import Caller

AHEAD = 8
"""The most calls of one model that have left the gate, and wait inside for the target's limits. The slower they go, the
fewer they are."""

MOST_CALLS = 20_000
MOST_BYTES = 512 * 1024 * 1024
"""The most that waits in the gate, in calls and in bytes of their requests. One caller may have half of it."""

_SHARE = 0.5


class QueueFull(Exception):
    """There is no room in the gate.

    Attributes:
        retry_after: seconds after which there may be some.
    """

    def __init__(self, why: str, retry_after: float) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class KeyRemoved(ConfigError):
    """The key of a call's caller was removed while it waited."""

    def __init__(self, name: str) -> None:
        super().__init__(f"not sent: the key of {name} was removed")


class Place:
    """A call's place beyond the gate. `leave` it however the call ends.

    It notes when the call is sent (see `flatout.journey.AttemptNotes`). A call that then waits inside for another
    attempt holds up nobody: it may do so for long, and again and again, for nothing but its own fault.
    """

    __slots__ = ("_gate", "_line", "_since", "_unsent", "caller")

    def __init__(self, gate: Gate, line: _Line, caller: Caller, now: float) -> None:
        self._gate = gate
        self._line = line
        self._since = now
        self._unsent = True
        self.caller = caller

    def sent(self) -> None:
        """The call is on the wire: another one may come in."""
        if self._unsent:
            self._line.ahead.waited(asyncio.get_running_loop().time() - self._since)
            self._follow()

    def steps_aside(self) -> None:
        """The call waits for something else than its target: another one may come in."""
        if self._unsent:
            self._follow()

    def leave(self) -> None:
        """The call has ended."""
        self.caller.inside -= 1
        if self._unsent:
            self._follow()
        if self.caller.allowed.concurrency is not None:
            self._gate.drain_all()

    def _follow(self) -> None:
        self._unsent = False
        self._gate.follow(self._line)

    async def begins(self, attempt: int, target: str, estimate: float | None, after: Exception | None, /) -> None:
        """An attempt is sent."""
        self.sent()

    def failed(self, attempt: int, error: CallError, /) -> None:
        """An attempt failed, which changes nothing here."""


class _Waiter:
    __slots__ = ("admitted", "caller", "priority", "size")

    def __init__(self, caller: Caller, priority: float, size: int, admitted: asyncio.Future[Place]) -> None:
        self.caller = caller
        self.priority = priority
        self.size = size
        self.admitted = admitted


class _Line:
    """The calls to one model.

    Attributes:
        queue: those that wait in the gate.
        callers: whose these are.
        ahead: how many may be inside that were not sent.
        unsent: how many there are.
    """

    __slots__ = ("ahead", "callers", "model", "queue", "unsent")

    def __init__(self, model: str, ahead: int) -> None:
        self.model = model
        self.queue: FairQueue[_Waiter] = FairQueue()
        self.callers: dict[str, Caller] = {}
        self.ahead = Ahead(ahead)
        self.unsent = 0

    @property
    def has_room(self) -> bool:
        """Whether another call may come in."""
        return self.unsent < self.ahead.allowed


class Gate:
    """Lets calls go.

    Args:
        ahead: the most calls of one model that may be inside and not sent yet.
        most_calls: the most calls that wait.
        most_bytes: the most bytes of those that wait.

    Attributes:
        waiting: calls that wait.
        bytes: the bytes of their requests.
    """

    def __init__(self, ahead: int = AHEAD, most_calls: int = MOST_CALLS, most_bytes: int = MOST_BYTES) -> None:
        self._ahead = ahead
        self._most_calls = most_calls
        self._most_bytes = most_bytes
        self._lines: dict[str, _Line] = {}
        self._held: dict[str, tuple[int, int]] = {}  # calls and bytes that wait, by the caller
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.waiting = 0
        self.bytes = 0

    def __repr__(self) -> str:
        return f"Gate({self.waiting:,} wait, {self.bytes:,} bytes)"

    def waits_of(self, caller: str) -> int:
        """How many calls of a caller wait."""
        return self._held.get(caller, (0, 0))[0]

    async def enter(
        self, caller: Caller, model: str, *, priority: float = 0.0, size: int = 0, until: float | None = None
    ) -> Place:
        """Wait for a call's turn.

        Args:
            caller: whose call it is.
            model: the model that it asks.
            priority: higher goes first. It is at most what the caller may have.
            size: bytes of its request.
            until: the call's deadline, on the event loop's clock; None for no bound.

        Raises:
            QueueFull: there is no room to wait.
            DeadlineExceeded: its turn did not come in time.
            KeyRemoved: its caller's key was removed.
        """
        loop = asyncio.get_running_loop()
        line = self._lines.get(model) or _Line(model, self._ahead)
        now = loop.time()
        if not line.queue and line.has_room and caller.ready_at(now) <= now:
            self._lines[model] = line
            return self._let_in(line, caller, now)
        self._check_room(caller, size)
        self._lines[model] = line
        most = caller.allowed.priority
        priority = priority if most is None else min(priority, most)
        waiter = _Waiter(caller, priority, size, loop.create_future())
        self._count(waiter, 1)
        line.callers[caller.name] = caller
        line.queue.add(waiter, caller.name, priority)
        self.drain(line)
        return await self._in_time(line, waiter, until)

    async def _in_time(self, line: _Line, waiter: _Waiter, until: float | None) -> Place:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout_at(until):
                return await self._admitted(line, waiter)
        except TimeoutError:
            raise DeadlineExceeded(f"not sent: its turn did not come within {loop.time() - began:.3g} s") from None

    async def _admitted(self, line: _Line, waiter: _Waiter) -> Place:
        admitted = waiter.admitted
        try:
            return await admitted
        except asyncio.CancelledError:
            if line.queue.remove(waiter, waiter.caller.name, waiter.priority):
                self._count(waiter, -1)
                self._forget(line)
            elif not admitted.cancelled() and admitted.exception() is None:  # admitted and cancelled in one turn
                admitted.result().leave()
            raise

    def drain(self, line: _Line) -> None:
        """Let in what may go now."""
        queue = line.queue
        if not queue:
            return
        now, callers = asyncio.get_running_loop().time(), line.callers

        def ready(name: str) -> bool:
            return callers[name].ready_at(now) <= now

        while queue and line.has_room:
            waiter = queue.take(ready, lambda name: callers[name].allowed.weight)
            if waiter is None:
                self._wake(line, now)
                return
            self._count(waiter, -1)
            if not waiter.admitted.done():  # else its client has hung up, in this turn of the loop
                waiter.admitted.set_result(self._let_in(line, waiter.caller, now))

    def follow(self, line: _Line) -> None:
        """One of the calls inside has been sent, or has ended."""
        line.unsent -= 1
        if line.queue:
            self.drain(line)
        else:
            self._forget(line)

    def refuse(self, callers: Iterable[str]) -> None:
        """Refuse what waits of callers whose keys were removed."""
        for line in tuple(self._lines.values()):
            for caller in callers:
                for waiter in line.queue.clear(caller):
                    self._count(waiter, -1)
                    if not waiter.admitted.done():
                        waiter.admitted.set_exception(KeyRemoved(caller))
            self._forget(line)

    def drain_all(self) -> None:
        """Let in what may go now, of all models."""
        for line in tuple(self._lines.values()):
            self.drain(line)

    def _forget(self, line: _Line) -> None:
        """Forget a line of which nothing is left: clients may name any number of models."""
        if not line.queue and not line.unsent and self._lines.get(line.model) is line:
            del self._lines[line.model]

    def _let_in(self, line: _Line, caller: Caller, now: float) -> Place:
        line.unsent += 1
        caller.goes(now)
        return Place(self, line, caller, now)

    def _wake(self, line: _Line, now: float) -> None:
        """Look again when a caller that waits for its own limit may go on."""
        at = min(line.callers[name].ready_at(now) for name in line.queue.callers())
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = asyncio.get_running_loop().call_at(at, self._woken)

    def _woken(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self.drain_all()

    def _check_room(self, caller: Caller, size: int) -> None:
        calls, held = self._held.get(caller.name, (0, 0))
        if self.waiting >= self._most_calls or self.bytes + size > self._most_bytes:
            raise QueueFull(f"{self.waiting:,} calls wait already", 1.0)
        if calls >= self._most_calls * _SHARE or held + size > self._most_bytes * _SHARE:
            raise QueueFull(f"{calls:,} calls of this caller wait already", 1.0)

    def _count(self, waiter: _Waiter, more: int) -> None:
        self.waiting += more
        self.bytes += more * waiter.size
        name = waiter.caller.name
        calls, held = self._held.get(name, (0, 0))
        if calls + more:
            self._held[name] = calls + more, held + more * waiter.size
        else:
            self._held.pop(name, None)
