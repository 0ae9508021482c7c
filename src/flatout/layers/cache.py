"""Answers a call that was answered before, and asks equal calls once.

It stands outside everything that costs something: a hit takes no permit, no attempt and no budget. It stands inside the
deadline, because a call that waits for another one's answer must still end in time.

What is kept is the end of a call, reasks included. Errors, refusals and answers that were cut off are never kept: asked
again, the model may do better.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Protocol

import msgspec

from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.tasks.unless import Unless
from flatout.tasks.waiters import Waiters
from flatout.values import Call, Reply
from flatout.values.kept import Kept

ONE_BY_ONE = 2
"""Failures after which all calls that wait for an equal one go at once.

One after another, a thousand equal calls that all fail would take a thousand times as long as together.
"""

KeyOf = Callable[[Call], bytes | None]
"""The key of a call: equal for calls that ask the same. None for calls that cannot be sent."""


class Answers(Protocol):
    """Where answers are kept."""

    def check(self) -> None:
        """Find out whether it can be used, before the first lookup. Blocks.

        Raises:
            ConfigError: it cannot.
        """
        ...

    def get(
        self,
        key: bytes,
        since: float,
        /,
        *,
        claims: bool = True,
        patient: bool = False,
        waits: Callable[[], object] | None = None,
    ) -> Awaitable[Kept | None]:
        """The answer of a key, not from before ``since``. None if there is none, or if it cannot be read.

        With ``claims``, other processes wait after None until the caller calls `put` or `let_go`. With ``patient``,
        this waits for long if the answers cannot be read now. ``waits`` is called when this waits for another process.
        """
        ...

    def let_go(self, key: bytes, /) -> None:
        """Let other processes ask: there is no answer to keep."""
        ...

    def asks(self, key: bytes, since: float, needless: Callable[[], object], /) -> None:
        """Note that the caller asks from now on, until `put` or `let_go`.

        ``needless`` is called if there may be an answer after all, or another process may ask. The caller looks again:
        `get` then returns the answer, or waits for it.
        """
        ...

    def put(self, key: bytes, kept: Kept, describe: Callable[[], bytes], /) -> None:
        """Keep an answer, soon. ``describe`` says later, in any thread, what was asked."""
        ...

    async def close(self) -> None:
        """Write what is not written yet, and close."""
        ...


class Older(Protocol):
    """Answers of an earlier run, to be used as they are."""

    def get(self, call: Call, /) -> Awaitable[Kept | None]:
        """The answer of an equal call; None if there is none."""
        ...

    async def close(self) -> None:
        """Close."""
        ...


class Flight:
    """Equal calls, of which one is being answered and the others wait.

    Attributes:
        over: whether the others have been released. Later calls need a flight of their own.
    """

    __slots__ = ("_failures", "_waiting", "over")

    def __init__(self) -> None:
        self.over = False
        self._waiting: Waiters[Kept | None] = Waiters()
        self._failures = 0

    async def turn(self) -> Kept | None:
        """Wait for the answer. None means that there is none, and that the caller is the next to ask."""
        return await self._waiting.turn(self._missed)

    def landed(self, kept: Kept) -> None:
        """Give the answer to all who wait."""
        self._release(kept)

    def failed(self) -> None:
        """Let the next one ask, or all of them if asking has failed too often."""
        self._failures += 1
        if self._failures >= ONE_BY_ONE:
            self._release(None)
        else:
            self.abandoned()

    def abandoned(self) -> None:
        """Let the next one ask."""
        if not self._waiting.wake_one(None):
            self.over = True

    def _missed(self, kept: Kept | None) -> None:
        """The caller that was to have the answer, or to ask, was cancelled."""
        if kept is None:
            self.abandoned()

    def _release(self, kept: Kept | None) -> None:
        self.over = True
        self._waiting.wake_all(kept)


def is_whole(_: Call, reply: Reply) -> bool:
    """Whether an answer was not cut off."""
    return reply.finish_reason != "length"


class Cache:
    """Looks a call up before it is asked, and keeps its answer.

    Args:
        answers: where answers are kept; None to keep none.
        older: an earlier run's answers, looked at last.
        find: the function that makes the keys of a call's target; awaited for the first call of each model.
        read: reads a kept answer for a call; None if it does not fit the call.
        describe: says what a call asks, for people, as JSON.
        wall: the wall clock, in Unix seconds.
        max_age: seconds after which an answer is not used any more; None for no bound.
        good: whether an answer is one to be used again.
        hit: called when a kept answer is used.
    """

    def __init__(
        self,
        answers: Answers | None,
        older: Older | None,
        *,
        find: Callable[[Call], Awaitable[KeyOf]],
        read: Callable[[Call, Reply], Reply | None],
        describe: Callable[[Call], bytes],
        wall: Callable[[], float],
        max_age: float | None = None,
        good: Callable[[Call, Reply], bool] = is_whole,
        hit: Callable[[], None] = lambda: None,
    ) -> None:
        self._hit = hit
        self._good = good
        self._answers = answers
        self._older = older
        self._find = find
        self._read = read
        self._describe = describe
        self._wall = wall
        self._max_age = max_age
        self._keys: dict[str | None, KeyOf] = {}  # by the model's name in the call
        self._flights: dict[bytes, Flight] = {}

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        key_of = self._keys.get(call.model)
        if key_of is None:
            key_of = self._keys[call.model] = await self._find(call)
        key = key_of(call)
        if key is None:
            return await call_next(call)
        flight = self._flights.get(key)
        if flight is None or flight.over:
            flight = self._flights[key] = Flight()
        elif (kept := await self._turn(key, flight)) is not None:
            known = self.fitting(call, kept)
            return known if known is not None else await call_next(call)
        return await self._lead(call, call_next, key, flight)

    @property
    def keeps(self) -> bool:
        """Whether new answers are kept. Otherwise only an earlier run's are used."""
        return self._answers is not None

    async def look(self, calls: Iterable[Call]) -> list[tuple[bytes | None, bool]]:
        """The key of each call, and whether its answer is kept. Nothing is asked."""
        return await asyncio.gather(*map(self._look, calls))

    async def find(self, call: Call, *, patient: bool = False) -> Reply | None:
        """The kept answer to a call; None if no answer is kept. No call is made, and none waits for another.

        With ``patient``, this waits for long if the answers cannot be read now.
        """
        key = await self._key(call)
        kept = await self._known(call, key, claims=False, patient=patient) if key is not None else None
        return None if kept is None else self.fitting(call, kept)

    async def keep(self, call: Call, reply: Reply, cost: float | None) -> None:
        """Keep an answer that was asked elsewhere, with its cost in US dollars, if it is one to be used again."""
        key = await self._key(call)
        if key is not None and self._good(call, reply):
            self._put(call, key, reply, cost)

    async def _look(self, call: Call) -> tuple[bytes | None, bool]:
        return await self._key(call), await self.find(call) is not None

    async def _key(self, call: Call) -> bytes | None:
        key_of = self._keys.get(call.model)
        if key_of is None:
            key_of = self._keys[call.model] = await self._find(call)
        return key_of(call)

    async def _turn(self, key: bytes, flight: Flight) -> Kept | None:
        if (aside := current_journey().aside) is not None:
            aside()
        try:
            return await flight.turn()
        except asyncio.CancelledError:
            self._forget(key, flight)
            raise

    def _forget(self, key: bytes, flight: Flight) -> None:
        if flight.over and self._flights.get(key) is flight:
            del self._flights[key]

    async def _lead(self, call: Call, call_next: CallNext, key: bytes, flight: Flight) -> Reply:
        """Find or ask the answer, while equal calls wait."""
        kept: Kept | None = None
        try:
            reply, kept = await self._found_or_asked(call, call_next, key)
        except asyncio.CancelledError:
            flight.abandoned()
            raise
        except BaseException:
            flight.failed()
            raise
        else:
            if kept is not None:
                flight.landed(kept)
            else:
                flight.failed()
        finally:
            self._forget(key, flight)
            if kept is None:
                self._let_go(key)
        return reply

    async def _found_or_asked(self, call: Call, call_next: CallNext, key: bytes) -> tuple[Reply, Kept | None]:
        """The answer, and what is kept of it.

        A call may wait long for its turn. It gives that up when the answer is found meanwhile, and looks it up again.
        """
        journey = current_journey()
        while True:
            kept = await self._known(call, key, waits=journey.aside)
            reply = self.fitting(call, kept) if kept is not None else None
            if reply is not None:
                self._hit()
                return reply, kept
            journey.tells_cost = True  # it is kept with the answer
            with Unless(journey.attempt) as unless:
                if self._answers is not None:
                    self._answers.asks(key, self._since(), unless.leave)
                reply = await call_next(call)
                return reply, self._keep(call, key, reply)
            self._let_go(key)

    async def _known(
        self,
        call: Call,
        key: bytes,
        *,
        claims: bool = True,
        patient: bool = False,
        waits: Callable[[], object] | None = None,
    ) -> Kept | None:
        since = self._since()
        if self._answers is not None:
            kept = await self._answers.get(key, since, claims=claims, patient=patient, waits=waits)
            if kept is not None:
                return kept
        kept = await self._older.get(call) if self._older is not None else None
        if kept is None or kept.at < since:
            return None
        if claims:
            self._let_go(key)
        return kept

    def _since(self) -> float:
        """Answers from before are not used, in Unix seconds."""
        return -math.inf if self._max_age is None else self._wall() - self._max_age

    def _let_go(self, key: bytes) -> None:
        if self._answers is not None:
            self._answers.let_go(key)

    def fitting(self, call: Call, kept: Kept) -> Reply | None:
        """A kept answer for a call; None if it does not fit."""
        try:
            return self._read(call, kept.reply())
        except msgspec.MsgspecError:  # damaged, or from another version
            return None

    def _keep(self, call: Call, key: bytes, reply: Reply) -> Kept | None:
        """Keep an answer, if it is one to be used again."""
        passage = current_journey().passage
        if not self._good(call, reply) or (passage is not None and passage.fell_back):  # another model's answer
            return None
        return self._put(call, key, reply, current_journey().account.cost)

    def _put(self, call: Call, key: bytes, reply: Reply, cost: float | None) -> Kept | None:
        try:
            kept = Kept.of(reply, at=self._wall(), cost=cost, whole=bool(call.logprobs))
        except ValueError:  # half a character, which has no form in UTF-8
            return None
        if self._answers is not None:
            self._answers.put(key, kept, partial(self._describe, call))
        return kept
