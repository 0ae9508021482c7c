"""Answers the requests of other programs, for the doors that take them: the vendors' SDKs and the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from flatout.errors import CallError, ConfigError, OutputError, ProviderError
from flatout.journey import Journey, StreamSink
from flatout.layer import Response
from flatout.providers.relay import Asked, Relayed, Wire, inbound_for
from flatout.providers.relay.inbound import EVENTS, JSON, Origin, broken_off
from flatout.values import Reply

from .pieces import Pieces

if TYPE_CHECKING:
    from flatout.engine import Engine


CACHED = "x-flatout-cached"
"""The header of an answer that comes from the cache."""


def relayed(asked: Asked, wire: Wire, model: str, **options: Any) -> Relayed[Any]:
    """The call that a request makes.

    A request whose parameters make no call is passed on all the same, for the provider to say what is wrong.

    Args:
        asked: what the request asks.
        wire: the request.
        model: the model's whole name.
        options: parameters of the call which the request does not have, such as ``deadline``.
    """
    try:
        return Relayed(**{**asked.call, **options, "model": model}, wire=wire)
    except (ConfigError, TypeError):
        return Relayed(wire.body.decode("utf-8", "replace"), model=model, wire=wire, **options)


async def whole(engine: Engine, call: Relayed[Any], journey: Journey | None = None) -> Response:
    """The whole answer for another program. A failure that its provider reports is an answer too.

    Args:
        engine: answers the call.
        call: the call.
        journey: what the call collects on its way, for those who want to know.

    Raises:
        CallError: there is no answer that could be passed on.
    """
    engine.bind()
    try:
        reply = await engine.relay(call, journey or _journey())
    except CallError as error:
        return _refusal(call, error)
    return Response(200, _headers(reply, JSON), body_of(engine, call, reply))


def body_of(engine: Engine, call: Relayed[Any], reply: Reply) -> bytes:
    """The bytes of a whole answer in the format of its request; written anew if they were not kept."""
    return reply.body or inbound_for(call.wire.dialect).write(reply, _origin(engine, call, reply))


class RelayedStream:
    """A streamed answer for another program.

    Use it as an async context manager: entering it waits until the answer begins, or has failed. Leaving it early
    cancels the call.

    Args:
        engine: answers the call.
        call: the call.
        journey: what the call collects on its way, for those who want to know.
        ahead: bytes that may wait for a slow reader. With more, nothing is read from the provider, and that time counts
            for no timeout of its attempt. None for no bound: the provider is never kept waiting.

    Attributes:
        status: the HTTP status.
        headers: the headers of the answer, with lower-case names.
    """

    def __init__(
        self, engine: Engine, call: Relayed[Any], journey: Journey | None = None, *, ahead: int | None = None
    ) -> None:
        engine.bind()
        self.status = 200
        self.headers: Mapping[str, str] = EVENTS
        self._call = call
        self._pieces = Pieces(ahead)
        self._journey = journey or _journey()
        self._journey.sink = StreamSink(self._pieces.put, self._pieces if ahead is not None else None)
        self._first: bytes | None = None
        self._origin = partial(_origin, engine, call)
        self._ask = partial(engine.relay, call, self._journey)
        self._task: asyncio.Task[Reply] | None = None

    async def __aenter__(self) -> Self:
        task = self._task = asyncio.ensure_future(self._ask())
        task.add_done_callback(lambda _: self._pieces.put(None))
        try:
            self._first = await self._pieces.get()
            if self._first is None:
                self._at_once(task)
            elif self._call.wire.headers_back is not None:
                self.headers = self._call.wire.headers_back
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the answer as they arrive.

        Raises:
            CallError: the answer broke off.
        """
        piece = self._first
        while piece is not None:
            yield piece
            piece = await self._pieces.get()
        if self._journey.delivered and self._task is not None and (rest := self._rest(self._task)):
            yield rest

    def _at_once(self, task: asyncio.Task[Reply]) -> None:
        """Take an answer of which nothing was streamed.

        Raises:
            CallError: there is no answer that could be passed on.
        """
        try:
            reply = task.result()
        except CallError as error:
            refusal = _refusal(self._call, error)
            self.status, self.headers, self._first = refusal.status, refusal.headers, refusal.body
        else:
            self.headers = _headers(reply, EVENTS)
            self._first = reply.body or inbound_for(self._call.wire.dialect).writer(self._origin(reply)).end(reply)
        self._pieces.put(None)

    def _rest(self, task: asyncio.Task[Reply]) -> bytes:
        """The bytes that an answer which has ended has not written yet.

        An error that its provider has written into it is there already, unless the answer is translated.

        Raises:
            CallError: the answer broke off.
        """
        try:
            return task.result().body
        except (ProviderError, OutputError) as error:
            wire = self._call.wire
            wire.error = error
            return broken_off(error, inbound_for(wire.dialect)) if wire.translated else b""


def _journey() -> Journey:
    return Journey(asyncio.get_running_loop().time(), tells_cost=False)


def _origin(engine: Engine, call: Relayed[Any], reply: Reply) -> Origin:
    at = reply.cached.at if reply.cached is not None else None
    return Origin.of(reply.model or "", engine.stack.prices.wall() if at is None else at, call.extra)


def _headers(reply: Reply, usual: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of an answer: those of the provider, unless it comes from the cache."""
    return {**usual, CACHED: "1"} if reply.cached is not None else reply.headers or usual


def _refusal(call: Relayed[Any], error: CallError) -> Response:
    """The provider's own refusal, if it was the last word.

    Raises:
        CallError: it was not.
    """
    refusal = call.wire.refusal
    if refusal is None or refusal.status != error.status:
        raise error
    call.wire.error = error
    return refusal
