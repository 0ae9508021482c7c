"""One request to a provider model, in the event loop's time. The transport and the server share it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType

from ._batches._request import Ask
from ._clock import VirtualLoop
from ._provider import ProviderModel
from ._slots import BodyPart, SimulatedResponse

PIECE = 64 * 1024
"""Bytes of a long body that arrive at once."""


async def begin(model: ProviderModel, body: bytes, authorization: str, **kind: bool) -> SimulatedExchange:
    """Wait until a request gets its slot and its answer begins. A hanging request waits until it is cancelled.

    Use the result as ``with await begin(…) as exchange``. ``kind`` says what is asked; see `ProviderModel.receive`.
    """
    now, wall = _clocks()
    return await _begun(model, model.receive(now, wall, body, authorization, **kind))


async def begin_about_batches(model: ProviderModel, ask: Ask) -> SimulatedExchange:
    """Do the same for a request about files or batches."""
    now, wall = _clocks()
    return await _begun(model, model.receive_about_batches(now, wall, ask))


def _clocks() -> tuple[float, float]:
    """The loop's seconds and Unix seconds."""
    loop = asyncio.get_running_loop()
    return loop.time(), loop.wall_time() if isinstance(loop, VirtualLoop) else time.time()


async def _begun(model: ProviderModel, outcome: SimulatedResponse) -> SimulatedExchange:
    loop = asyncio.get_running_loop()
    exchange = SimulatedExchange(model, outcome)
    try:
        if outcome.queued:
            await _turn(loop, outcome)
        if outcome.wire == "hang":
            await loop.create_future()
        await asyncio.sleep(outcome.delay)
        model.begin(loop.time(), outcome)
    except BaseException:
        exchange.end(delivered=False)
        raise
    if outcome.pieces is None and outcome.wire != "stall":
        exchange.end(delivered=True)
    return exchange


class SimulatedExchange:
    """A request whose answer has begun. The model learns of its end before the last piece of the answer is sent.

    Attributes:
        outcome: the outcome of the request.
    """

    __slots__ = ("_ended", "_model", "outcome")

    def __init__(self, model: ProviderModel, outcome: SimulatedResponse) -> None:
        self._model = model
        self.outcome = outcome
        self._ended = False

    def __enter__(self) -> SimulatedExchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(delivered=False)

    def end(self, *, delivered: bool) -> None:
        """Report the end of the request to the model, once."""
        if self._ended:
            return
        self._ended = True
        for started in self._model.finish(asyncio.get_running_loop().time(), self.outcome, delivered=delivered):
            if started.on_start is not None:
                started.on_start()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, in pieces at their times. A broken body ends early."""
        outcome = self.outcome
        pieces = outcome.pieces
        if pieces is None:
            pieces = _cut(outcome.body if outcome.wire == "whole" else outcome.body[: len(outcome.body) // 2])
        left = len(pieces)
        for delay, data in pieces:
            if delay > 0:
                await asyncio.sleep(delay)
            left -= 1
            if not left and outcome.wire != "stall":
                self.end(delivered=True)  # before the piece is sent, because many clients stop reading at ``[DONE]``
            yield data
        if outcome.wire == "stall":
            await asyncio.get_running_loop().create_future()


def _cut(body: bytes) -> Sequence[BodyPart]:
    """A whole body in the pieces in which a connection would carry it."""
    if len(body) <= PIECE:
        return ((0.0, body),)
    return [(0.0, body[start : start + PIECE]) for start in range(0, len(body), PIECE)]


async def _turn(loop: asyncio.AbstractEventLoop, outcome: SimulatedResponse) -> None:
    turn: asyncio.Future[None] = loop.create_future()

    def start() -> None:
        if not turn.done():
            turn.set_result(None)

    outcome.on_start = start
    await turn
