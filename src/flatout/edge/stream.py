"""A streamed answer: its text in pieces, and the whole reply at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self

from flatout.journey import Journey, StreamSink
from flatout.values import OutputT, Reply


class Stream(Generic[OutputT]):
    """A streamed answer. Iterate over it for its text; afterwards `reply` has the whole answer.

    ::

        async with client.stream("Tell me a story.") as stream:
            async for text in stream:
                print(text, end="")
        print(stream.reply.usage)

    The call is sent when the first text is requested. Leaving the ``async with`` early cancels it. Text that you have
    not read yet waits in memory, so a slow reader never makes the provider's answer time out.
    """

    def __init__(self, ask: Callable[[Journey], Awaitable[Reply[Any]]]) -> None:
        self._reply: Reply[OutputT] | None = None
        self._texts = self._run(ask)

    def __aiter__(self) -> AsyncIterator[str]:
        return self._texts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._texts.aclose()

    @property
    def reply(self) -> Reply[OutputT]:
        """The whole answer, once its text has been read to the end.

        Raises:
            RuntimeError: the text has not been read to the end.
        """
        if self._reply is None:
            raise RuntimeError("the reply is available after the stream has been read to its end")
        return self._reply

    async def _run(self, ask: Callable[[Journey], Awaitable[Reply[Any]]]) -> AsyncGenerator[str, None]:
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        journey = Journey(asyncio.get_running_loop().time(), tells_cost=False)
        journey.sink = StreamSink(pieces.put_nowait)
        task = asyncio.ensure_future(ask(journey))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            reply = task.result()
            if not journey.delivered and reply.text:  # the server does not stream, or the answer is from a journal
                yield reply.text
            self._reply = reply
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
