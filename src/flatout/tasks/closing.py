"""Ending things so that none is left over: not when one of them fails to end, and not when a loop is left early."""

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
    """Call every closer, one after another, also when some of them fail or are cancelled.

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

    An async generator is closed at the end: else its own cleanup would wait for the garbage collector. A failure of
    that cleanup is logged, since whoever read the items has what they wanted.
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
