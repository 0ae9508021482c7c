"""What a program wants of a lane, and what a lane refuses, before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any

from msgspec import Struct

from flatout.engine import Engine
from flatout.errors import ConfigError, FlatoutError
from flatout.tasks.closing import reading
from flatout.values import Call, CallLike

from .batch.targets import target_of
from .flex import check_flex
from .offers import Wanted
from .refusals import PROGRAM, check_engine, check_model, check_tier, check_within

Calls = Iterable[CallLike] | AsyncIterable[CallLike]


class Wish(Struct, frozen=True):
    """What the user asks for.

    Attributes:
        lane: the lane.
        within: seconds in which all answers are wanted; None for no bound.
    """

    lane: Wanted
    within: float | None = None


class Source:
    """Calls that can be read several times. What can be read only once, such as a generator, is kept in memory.

    Args:
        given: what the user gave.
        made: adds what all calls have in common.
        again: whether it can be read several times, although it is asynchronous: most such things cannot.
    """

    def __init__(self, given: Any, made: Callable[[Any], Calls], *, again: bool = False) -> None:
        self._given = given
        self._made = made
        once = isinstance(given, AsyncIterable) or (isinstance(given, Iterable) and iter(given) is given)
        self._is_read = again or not once

    async def rows(self) -> int:
        """How many calls there are."""
        count = 0
        async for _ in self.read():
            count += 1
        return count

    async def some(self, most: int) -> list[Call]:
        """The first calls. Values that make no valid call are left out: each of them fails by itself."""
        found: list[Call] = []
        async with aclosing(self.read()) as values:
            async for value in values:
                with suppress(FlatoutError):
                    found.append(Call.of(value))
                if len(found) >= most:
                    break
        return found

    async def read(self) -> AsyncGenerator[CallLike, None]:
        """All calls, in order."""
        if not self._is_read:
            async with reading(self._given) as source:
                self._given = [call async for call in source]
            self._is_read = True
        async with reading(self._made(self._given)) as source:
            async for call in source:
                yield call


def check_wish(wish: Wish, engine: Engine, *, stored: bool, models: Iterable[str | None]) -> None:
    """Refuse what the lane cannot do, before anything is sent.

    Raises:
        ConfigError: the message says what to do instead.
    """
    lane = wish.lane
    if lane not in ("live", "flex", "batch", "auto"):
        raise ConfigError(f"lane is 'live', 'flex', 'batch' or 'auto', not {lane!r}")
    check_within(lane, wish.within, PROGRAM)
    if lane != "flex":
        if not stored:
            raise ConfigError(
                f"lane={lane!r} needs a file in which it finds its batches again: add store='name.flatout'"
            )
        check_engine(engine, PROGRAM)
    for model in models:
        check_model(lane, engine, model)


def check_call(call: Call, lane: Wanted, engine: Engine) -> None:
    """Refuse a call that a lane cannot take.

    Raises:
        ConfigError, InvalidRequest: the message says why.
    """
    model = call.model or engine.targets.model
    if model is None:
        raise ConfigError("no model: name one, such as openai/gpt-5-mini, with model=")
    target = target_of(engine, model, lane)
    if lane == "flex":
        check_flex(call, target)
        return
    check_model(lane, engine, model)
    check_tier(call)
