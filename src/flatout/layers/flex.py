"""Asks for a provider's cheaper, slower service, and waits where that service has no room.

A refusal for want of room is not billed, and says nothing about the target's other service, which takes calls all the
while. So the cheaper service has a health of its own, and its calls wait here: outside the budget and the limit, where
they hold neither money nor a permit. One call looks now and then, and the others follow once it is answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from msgspec.structs import replace

from flatout.errors import CallError, NotSent, Overloaded
from flatout.events import Events, NoRoom, TargetDown, TargetResumed
from flatout.journey import Flex, Journey, current_journey
from flatout.layer import CallNext
from flatout.policies.failures.decision import Decision, Sign, decide, sign
from flatout.policies.failures.health import TargetHealth
from flatout.policies.failures.service import is_own
from flatout.values import Call, Reply

GLANCE = 30.0
"""Most seconds until waiting calls look at the wall clock, by which they leave: a laptop may have slept."""


class StepsUp(Exception):
    """The time of a call in the cheaper service is over: it goes on in the live one."""


class SentBack(NotSent):
    """The service lost its room while the call stood in the target's queue."""


class Choose:
    """Chooses the service of each attempt: the cheaper one until it is time for the live one; see `Flex`.

    It stands inside the retry. So a call changes its service between two attempts, and an attempt that is on its way,
    and may be billed, is never asked a second time.
    """

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        flex = current_journey().flex
        if flex is None or flex.left() <= 0:
            return call_next(call)
        return self._cheaply(call, call_next, flex)

    @staticmethod
    async def _cheaply(call: Call, call_next: CallNext, flex: Flex) -> Reply:
        timeout = flex.timeout if call.timeout is None else call.timeout
        try:
            return await call_next(replace(call, service_tier=flex.tier, timeout=timeout))
        except StepsUp:
            return await call_next(call)


class Tiers:
    """Sends attempts by the service tier that their calls name.

    Args:
        make: makes what sends the attempts of a tier.
    """

    def __init__(self, make: Callable[[str | None], CallNext]) -> None:
        self._make = make
        self._made: dict[str | None, CallNext] = {}

    def __call__(self, call: Call) -> Awaitable[Reply]:
        send = self._made.get(call.service_tier)
        if send is None:
            send = self._made[call.service_tier] = self._make(call.service_tier)
        return send(call)


class _Waiting(NamedTuple):
    """A call that waits for room."""

    turn: asyncio.Future[None]
    journey: Journey


class Room:
    """Lets calls to one target's cheaper service go while it has room.

    Args:
        target: the service's name, for people.
        events: hear of a service without room, and of its return.

    Attributes:
        health: the service's health.
    """

    cause = "room"

    def __init__(self, target: str, events: Events) -> None:
        self.health = TargetHealth()
        self._target = target
        self._events = events
        self._service = self.health.service("chat", target)
        self._waiting: deque[_Waiting] = deque()
        self._going: Journey | None = None  # let go while the service is in trouble, and not sent yet
        self._numbers: dict[Journey, int] = {}  # of the calls that are sent
        self._timer: asyncio.TimerHandle | None = None
        self._is_full = False  # whether the latest failure was for want of room

    def __repr__(self) -> str:
        return f"Room({self._target}, waiting={len(self._waiting)}, {self.health!r})"

    @property
    def waiting(self) -> int:
        """How many calls wait for room."""
        return len(self._waiting)

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        loop, journey = asyncio.get_running_loop(), current_journey()
        while True:
            await self._turn(journey, loop)
            try:
                reply = await call_next(call)
            except SentBack:
                continue
            except CallError as error:
                self._failed(journey, error, loop.time())
                raise
            else:
                if (number := self._numbers.pop(journey, None)) is not None:
                    self.health.answered(self._service, number, loop.time())
                return reply
            finally:
                self._ends(journey, loop.time())
                self._let_go(loop)

    def sent(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        """The same layer, inside the limit: a call that had its turn in the queue is not sent in vain."""
        loop, journey = asyncio.get_running_loop(), current_journey()
        if self._going is journey:
            self._going = None
        elif self.health.down:
            raise SentBack(f"not sent: {self._target} has no room")
        self._numbers[journey] = self.health.sent(loop.time())
        if self._waiting:
            self._let_go(loop)
        return call_next(call)

    async def _turn(self, journey: Journey, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for room.

        Raises:
            StepsUp: the time of the call in this service is over.
        """
        if not self._waiting and self._is_open(loop.time()):
            self._goes(journey)
            return
        waiting, began = _Waiting(loop.create_future(), journey), loop.time()
        self._waiting.append(waiting)
        self._arm(loop)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            self._ends(journey, loop.time())
            self._let_go(loop)
            raise
        finally:
            journey.account.waited("room", loop.time() - began)

    def _is_open(self, now: float) -> bool:
        return self._going is None and (not self.health.troubled or self.health.ready_at() <= now)

    def _goes(self, journey: Journey) -> None:
        if self.health.state == "down":  # one at a time: until it is sent, it does not count as a look
            self._going = journey

    def _ends(self, journey: Journey, now: float) -> None:
        """A call is here no more, or has not been sent."""
        if self._going is journey:
            self._going = None
        if (number := self._numbers.pop(journey, None)) is not None:
            self.health.passed(number, now)
        self._tell(now)

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let those go that may go now, and set the timer for the next."""
        now = loop.time()
        while self._waiting and self._is_open(now):
            waiting = self._waiting.popleft()
            if not waiting.turn.done():
                self._goes(waiting.journey)
                waiting.turn.set_result(None)
        self._arm(loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            now, flex = loop.time(), self._waiting[0].journey.flex
            leaves = GLANCE if flex is None else min(GLANCE, max(0.0, flex.left()))
            ready = leaves if self._going is not None else max(0.0, self.health.ready_at() - now)
            self._timer = loop.call_at(now + min(ready, leaves), self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for waiting in self._waiting:
            flex = waiting.journey.flex
            if flex is not None and flex.left() <= 0 and not waiting.turn.done():
                waiting.turn.set_exception(StepsUp())
        self._waiting = deque(waiting for waiting in self._waiting if not waiting.turn.done())
        self._tell(loop.time())
        self._let_go(loop)

    def _failed(self, journey: Journey, error: CallError, now: float) -> None:
        """Learn from a failure. That there is no room costs the call no attempt."""
        health, number = self.health, self._numbers.pop(journey, None)
        if number is None:  # it was not sent
            return
        if is_own(error):
            self._is_full = isinstance(error, Overloaded)
            excused = health.failed(journey, error, number, now) or self._is_full
            if journey.trouble is not None:
                journey.trouble.excused = excused and error.should_retry is not False
        elif error.reply is not None:
            health.answered(self._service, number, now)
        elif sign(error) is Sign.ALIVE:
            health.alive(number, now)
        else:
            health.passed(number, now, throttled=decide(error) is Decision.THROTTLE)

    def _tell(self, now: float) -> None:
        """Tell what changed."""
        news, self.health.news = self.health.news, []
        for each in news:
            if each.what == "down":
                kind = NoRoom if self._is_full else TargetDown
                self._events.emit(kind(at=now, target=self._target, reason=each.reason))
            elif each.what == "up":
                self._events.emit(TargetResumed(at=now, target=self._target))
