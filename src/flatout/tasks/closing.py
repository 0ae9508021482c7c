"""Close things completely: even if one of them fails to close, and even if a loop over them is left early."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

_log = logging.getLogger("flatout")

ItemT = TypeVar("ItemT")

Closer = Callable[[], Awaitable[object] | None]


async def close_all(*closers: Closer) -> None:
    """Call every closer, one after another, even if some of them fail or are cancelled.

    Raises:
        BaseException: the first failure, after the last closer.
    """
    first: BaseException | None = None
    for close in closers:
        try:
            closed = close()
            if inspect.isawaitable(closed):
                await closed
        except BaseException as error:
            first = first or error
    if first is not None:
        raise first


@asynccontextmanager
async def reading(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> AsyncIterator[AsyncIterator[ItemT]]:
    """Within the block, an async iterator over plain or async items.

    On exit it closes an async generator, whose cleanup would otherwise wait for the garbage collector. If that cleanup
    fails, the failure is only logged: the reader already has the items it wanted.
    """
    iterator = aiter(items) if isinstance(items, AsyncIterable) else _in_loop(items)
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await _quietly_close(iterator)


async def _in_loop(items: Iterable[ItemT]) -> AsyncIterator[ItemT]:
    for item in items:
        yield item


async def _quietly_close(generator: AsyncGenerator[object, None]) -> None:
    try:
        await generator.aclose()
    except Exception:
        _log.warning("the input failed while it was closed", exc_info=True)
