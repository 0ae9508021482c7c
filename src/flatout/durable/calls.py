"""Calls of the library whose results a run file keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from flatout.errors import ConfigError
from flatout.journey import Journey
from flatout.store import Item
from flatout.values import Call, CallLike, Result

from .attempts import NotedAttempts
from .opening import StorePath
from .records import NO_CALL, content, result_of
from .run import Asker, Durable, ValueT, keep, run_durably

if TYPE_CHECKING:
    from flatout.store import RunFile


class CallStep(Struct, frozen=True):
    """One call to answer. Without ``call``, the value is not a valid call and fails by itself."""

    index: int
    value: Any
    call: Call | None = None
    made: bytes = NO_CALL
    item: Item | None = None


class DurableCalls(Durable[ValueT, CallStep]):
    """Finished calls come back from the file; the others are asked."""

    def __init__(self, store: RunFile, name: str, retry_failed: bool, asker: Asker) -> None:
        super().__init__(store, name, retry_failed)
        self._asker = asker

    def step(self, index: int, value: Any) -> CallStep:
        try:
            call = Call.of(value)
        except ConfigError:
            self.found(index, NO_CALL)  # only to compare: it fails in the same way each time, and nothing is sent
            return CallStep(index, value)
        made = content(call)
        return CallStep(index, value, call, made, self.found(index, made))

    async def answer(self, _: int, step: CallStep) -> Result[Any]:
        if step.item is not None:
            return result_of(step.item, step.call)
        journey = Journey(asyncio.get_running_loop().time())
        journey.notes = NotedAttempts(self.store, step.index)
        result = await self._asker.result(step.value, index=step.index, journey=journey)
        await keep(self.store, result, made=step.made, keep_prompts=step.call is not None)
        return result


def durable_calls(
    calls: Iterable[CallLike] | AsyncIterable[CallLike],
    place: StorePath,
    *,
    asker: Asker,
    job: Mapping[str, Any],
    retry_failed: bool,
    known: set[int] | None = None,
    part: bool = False,
) -> AsyncGenerator[Result[Any], None]:
    """`Client.as_completed` with a run file. See `Durable` for ``known`` and ``part``."""

    def begin(store: RunFile, name: str) -> DurableCalls[CallLike]:
        return DurableCalls(store, name, retry_failed, asker)

    return run_durably(begin, calls, place, job=job, asker=asker, known=known, part=part)
