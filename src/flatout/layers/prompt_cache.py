"""Lets calls whose prompts begin alike share the provider's prompt cache.

It stands outside the limit: a call that waits for the cache holds no permit, and one that is tried again takes its turn
anew. The first call of a group fills the cache. The others follow once its answer has begun, all together, so that they
are sent near each other in time. The call that fills the cache is streamed, so that its answer is seen to begin. No
call waits long: neither for a slow first answer nor for one that fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any, Protocol

from flatout.errors import CallError, InvalidRequest
from flatout.journey import Attempt, current_journey
from flatout.layer import CallNext
from flatout.policies.prefixes import Beginning, Beginnings
from flatout.policies.warmth import Go, Warmth
from flatout.tasks.waiters import Waiters
from flatout.values import Call, Reply

MOMENT = 0.01
"""Seconds that the first calls with a long beginning wait, to see which others come, and what all of them share."""

ADDED = ("cache_control", "prompt_cache")
"""What the names of the fields that are added to requests have in common."""

_log = logging.getLogger("flatout")


class Prompt(Protocol):
    """A prompt as it was read; see `flatout.providers.prompt_caches.Prompt`."""

    @property
    def blocks(self) -> list[str]: ...
    @property
    def head(self) -> Hashable: ...


class Reader(Protocol):
    """Reads prompts and marks them; see `flatout.providers.prompt_caches.PromptReader`."""

    def read(self, call: Call, /) -> Prompt | None: ...
    def marked(self, call: Call, prompt: Any, shared: Sequence[Beginning], lane: int, /) -> Call: ...


class Group:
    """The calls with one beginning.

    Attributes:
        warmth: which of them fill the cache.
    """

    __slots__ = ("_held", "_waiting", "warmth")

    def __init__(self, warmth: Warmth) -> None:
        self.warmth = warmth
        self._held = 0
        self._waiting: Waiters[None] = Waiters()

    async def turn(self) -> Turn | None:
        """Wait for the turn of a call. None: it goes without the cache."""
        loop, waited = asyncio.get_running_loop(), False
        while (found := self.warmth.turn(loop.time(), self._held)) == "wait":
            waited = True
            await self._wait()
        if found != "without":
            return Turn(self, found)
        if waited:  # it was woken to fill the cache, and does not
            self.wake_one()
        return None

    async def _wait(self) -> None:
        current_journey().give_back()
        self._held += 1
        try:
            await self._waiting.turn(self._waiting.wake_one)
        finally:
            self._held -= 1

    def wake(self) -> None:
        """Let all that wait look again, in order of arrival. Those that still have to wait do so for another call.

        To wake only as many as one lane takes would not do: some of them may wait on, for another lane, and take the
        places of those that this lane's call would have woken.
        """
        self._waiting.wake_all(None)

    def wake_one(self) -> None:
        """Let the first of those that wait fill the cache, in place of a call that failed to."""
        self._waiting.wake_one(None)


class Turn:
    """The turn of one call in one group.

    Attributes:
        lane: the lane that it takes.
        fills: whether others wait for its answer to begin.
    """

    __slots__ = ("_group", "_timer", "_warm", "fills", "lane")

    def __init__(self, group: Group, go: Go) -> None:
        self._group = group
        self._warm = not go.fills
        self._timer: asyncio.TimerHandle | None = None
        self.lane = go.lane
        self.fills = go.fills

    def sent(self) -> None:
        """The call is sent. From now on the others wait only for a while; until then they would wait anyway."""
        if self.fills and self._timer is None:
            loop, group = asyncio.get_running_loop(), self._group
            self._timer = loop.call_at(group.warmth.sent(self.lane, loop.time()), group.wake)

    def begun(self) -> None:
        """The answer has begun: from now on others can read what the call wrote."""
        warmth = self._group.warmth
        warmth.begun(self.lane, asyncio.get_running_loop().time(), fills=self.fills)
        if self.fills:
            self._filled()
            self._group.wake()

    def over(self, reply: Reply | None) -> None:
        """The call has ended. Without an answer, another one fills the cache."""
        if reply is not None:
            self.begun()
            usage = reply.usage
            if self._warm and usage.cached_tokens is not None:
                self._group.warmth.told(read=usage.cached_tokens > 0, wrote=bool(usage.cache_write_tokens))
        elif self.fills:
            self._filled()
            self._group.warmth.failed(self.lane, asyncio.get_running_loop().time())
            self._group.wake_one()

    def _filled(self) -> None:
        self.fills = False
        if self._timer is not None:
            self._timer.cancel()


class PromptCache:
    """Marks the calls of one target, and lets one of each group go first.

    Args:
        target: its name, for people.
        reader: reads prompts and marks them.
        known: the beginnings of its prompts.
        most: the most beginnings of one prompt that are worth marking.
        warmth: makes the state of a group.

    Attributes:
        waiting: how many calls wait for others that fill the cache.
    """

    cause = "prompt_cache"

    def __init__(
        self, target: str, reader: Reader, known: Beginnings, *, most: int, warmth: Callable[[], Warmth]
    ) -> None:
        self._target = target
        self._reader = reader
        self._known = known
        self._most = most
        self._make_warmth = warmth
        self._refused = False
        self._streams = True
        self.waiting = 0

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        prompt = None if self._refused else self._reader.read(call)
        return call_next(call) if prompt is None else self._look(call, prompt, call_next)

    @staticmethod
    def sent(call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        """The second part of this layer, inside the limit: it notes when a call that fills the cache is sent."""
        sends = current_journey().attempt.sends
        if sends is not None:
            sends()
        return call_next(call)

    async def _look(self, call: Call, prompt: Prompt, call_next: CallNext) -> Reply:
        """Find out what the call shares. A call that is tried again does not count as its own company."""
        again = current_journey().attempts > 0
        shared = self._shared(prompt, again=again)
        if not again and (not shared or any(self._group(beginning).warmth.new for beginning in shared)):
            await asyncio.sleep(MOMENT)
            shared = self._shared(prompt, again=True)
        return await (self._together(call, prompt, shared, call_next) if shared else call_next(call))

    async def _together(self, call: Call, prompt: Prompt, shared: Sequence[Beginning], call_next: CallNext) -> Reply:
        """Answer a call whose prompt begins as others do, when its turn comes."""
        journey, loop = current_journey(), asyncio.get_running_loop()
        began = loop.time()
        turns: list[Turn] = []
        reply: Reply | None = None
        try:
            await self._turns(shared, turns)
            journey.account.waited("prompt_cache", loop.time() - began)
            self._watch(journey.attempt, turns, streams=self._streams and not call.logprobs)
            reply = await self._sent(call, prompt, shared, turns, call_next)
        except CallError as error:
            reply = error.reply
            raise
        else:
            return reply
        finally:
            journey.attempt.sends = journey.attempt.begins = None
            for turn in turns:
                turn.over(reply)

    async def _turns(self, shared: Sequence[Beginning], turns: list[Turn]) -> None:
        """Wait for the turn of a call in each of its groups, and add them to ``turns``."""
        self.waiting += 1
        try:
            for beginning in shared:
                turn = await self._group(beginning).turn()
                if turn is None:
                    break
                turns.append(turn)
        finally:
            self.waiting -= 1

    @staticmethod
    def _watch(attempt: Attempt, turns: Sequence[Turn], *, streams: bool) -> None:
        """Listen to the sending and the answer of a call that fills the cache."""
        filling = [turn for turn in turns if turn.fills]
        if filling:
            attempt.sends = partial(_all, filling, Turn.sent)
            attempt.begins = partial(_all, filling, Turn.begun) if streams else None

    async def _sent(
        self, call: Call, prompt: Prompt, shared: Sequence[Beginning], turns: Sequence[Turn], call_next: CallNext
    ) -> Reply:
        """Send the call with what the cache takes; without it if the provider refuses that."""
        if not turns or self._refused:
            return await call_next(call)
        try:
            return await call_next(self._reader.marked(call, prompt, shared[: len(turns)], turns[-1].lane.number))
        except InvalidRequest as error:
            text = f"{error} {error.body or ''}"
            if current_journey().attempt.begins is not None and "stream" in text:
                self._streams = False
                current_journey().attempt.begins = None
            elif any(name in text for name in ADDED):
                self._note_refusal()
            else:
                raise
        return await self._sent(call, prompt, shared, turns, call_next)

    def _note_refusal(self) -> None:
        if not self._refused:
            self._refused = True
            _log.warning("%s refuses what prompt_cache='auto' adds to requests: it is left out", self._target)

    def _shared(self, prompt: Prompt, *, again: bool) -> list[Beginning]:
        """The beginnings that are worth marking, shortest first."""
        shared = self._known.see(prompt.blocks, prompt.head, again=again)
        worth = self._known.steps(shared, prompt.blocks, self._most) if shared else ()
        return [beginning for beginning in worth if not self._group(beginning).warmth.given_up]

    def _group(self, beginning: Beginning) -> Group:
        group = beginning.state
        if not isinstance(group, Group):
            group = beginning.state = Group(self._make_warmth())
        return group


def _all(turns: Sequence[Turn], happens: Callable[[Turn], None]) -> None:
    for turn in turns:
        happens(turn)
