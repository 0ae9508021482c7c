"""Where record batches come from: an iterator whose ``next`` may block, made of what the user gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any

from ._arrow import record_batch

_END: Any = object()


def blocking(batches: Iterable[Any] | AsyncIterable[Any]) -> Iterator[Any]:
    """Record batches of pyarrow's, one after another. Async ones come from the running loop, so a thread must ask."""
    if not isinstance(batches, AsyncIterable):
        return map(record_batch, iter(batches))
    return map(record_batch, _of_loop(batches, asyncio.get_running_loop()))


def _of_loop(batches: AsyncIterable[Any], loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    iterator = aiter(batches)

    async def following() -> Any:
        return await anext(iterator, _END)

    while (batch := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not _END:
        yield batch
