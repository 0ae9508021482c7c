"""The innermost layer: one attempt on the wire, by a codec over a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext

from flatout.config.settings import Gaps
from flatout.errors import AttemptTimeout, CallError, InvalidRequest, TransportError
from flatout.journey import Attempt, Journey, current_journey
from flatout.layer import Codec, Reader, Request, Response, StreamDecoder, Streamed, Transport
from flatout.tasks.patience import Patience
from flatout.values import Call, Reply
from flatout.values.secret import forget

LINGER = 5.0
"""Seconds that the body may take to end, or to report its usage, after the answer in it is complete."""

SHORTLY = 0.1
"""Seconds before the attempt's timeout at which a complete answer is accepted, whatever happens to its body."""


def _unknown(_: Call) -> None:
    return None


class Send:
    """Encodes the call, sends it and decodes the answer. Attempts are counted here: from here on they may be billed.

    Args:
        codec: the target's wire format.
        transport: carries the request.
        target: the target's name.
        estimate: what an attempt may cost, in US dollars; asked only if attempts are noted.
        gaps: streams every answer, so that silence reveals a dead connection; None streams only for callers who want
            the text as it comes.
        noted: what the run file notes as the target, if it is not its name.
    """

    def __init__(
        self,
        codec: Codec,
        transport: Transport,
        target: str = "",
        estimate: Callable[[Call], float | None] = _unknown,
        gaps: Gaps | None = None,
        noted: str = "",
    ) -> None:
        self._codec = codec
        self._transport = transport
        self._target = target
        self._estimate = estimate
        self._gaps = gaps
        self._noted = noted or target

    async def __call__(self, call: Call) -> Reply:
        journey = current_journey()
        streams = self._gaps is not None or journey.sink is not None or journey.attempt.begins is not None
        request = self._codec.encode(call, stream=streams)
        number = await self._begin(call, journey, journey.last_error)
        try:
            if not streams:
                return self._codec.decode(call, await self._transport.send(request))
            try:
                return await self._stream(call, request, journey)
            except InvalidRequest as error:
                instead = self._codec.instead(call, request, error)
                if instead is None:
                    raise
                self._failed(error, journey, number)
                number = await self._begin(call, journey, error)
            return await self._stream(call, instead, journey)
        except CallError as error:
            forget(error)
            self._failed(error, journey, number)
            raise
        except BaseException as error:
            forget(error)
            raise
        finally:
            journey.attempt.in_flight = False

    async def _begin(self, call: Call, journey: Journey, last: Exception | None) -> int:
        """Count an attempt, and note it before it is sent. Returns its number."""
        number = journey.number()
        if journey.notes is not None:
            await journey.notes.begins(number, self._noted, self._estimate(call), last)
        journey.account.attempts += 1
        journey.attempt.target = self._target
        journey.attempt.number, journey.attempt.in_flight = number, True
        return number

    @staticmethod
    def _failed(error: CallError, journey: Journey, number: int) -> None:
        if journey.notes is not None:
            journey.notes.failed(number, error)

    async def _stream(self, call: Call, request: Request, journey: Journey) -> Reply:
        listener = _Listener(self._gaps or Gaps())
        try:
            with listener.silence:
                async with self._transport.stream(request) as answer:
                    return await self._read(call, answer, journey, listener)
        except TransportError:
            if listener.whole is None:
                raise
        except TimeoutError:
            if not listener.silence.expired():
                raise
        if listener.whole is not None:
            return listener.whole.reply()
        # raised outside the block, so it does not hold the frames of the error, and with them the request
        raise listener.timeout()

    async def _read(self, call: Call, answer: Streamed, journey: Journey, listener: _Listener) -> Reply:
        if not 200 <= answer.status < 300:
            return self._codec.decode(call, await _refusal(answer, listener))
        decoder = listener.decoder = self._codec.stream_decoder(call, answer.headers)
        journey.attempt.first_chunk = None
        begins = journey.attempt.begins

        def take(chunk: bytes) -> bool:
            if begins is not None and not listener.received:
                begins()
            listener.heard()
            for text in decoder.feed(chunk):
                if journey.attempt.first_chunk is None:
                    journey.attempt.first_chunk = listener.elapsed()
                if journey.sink is not None:
                    journey.sink.take(text)
            if decoder.complete:
                listener.expect_the_end(journey.attempt.ends_at)
            return not decoder.broken

        await _pour(answer, take, _reader_of(journey, listener))
        return decoder.reply()


async def _refusal(answer: Streamed, listener: _Listener) -> Response:
    parts: list[bytes] = []

    def take(chunk: bytes) -> bool:
        listener.heard()
        parts.append(chunk)
        return True

    await _pour(answer, take)
    return Response(answer.status, answer.headers, b"".join(parts))


async def _pour(answer: Streamed, sink: Callable[[bytes], bool], reader: Reader | None = None) -> None:
    """Hand each piece of a body to a function, until the body ends or the function returns False."""
    pour = getattr(answer, "pour", None)
    if pour is not None:
        await (pour(sink) if reader is None else pour(sink, reader))
        return
    async for chunk in answer.chunks():
        if not sink(chunk):
            return
        if reader is not None and reader.behind:
            await reader.turn()


def _reader_of(journey: Journey, listener: _Listener) -> Reader | None:
    """The reader of the answer. The time in which it is waited for counts for no timeout of the attempt."""
    reader = journey.sink.reader if journey.sink is not None else None
    return None if reader is None else _Patient(reader, listener.silence, journey.attempt)


class _Patient:
    """A reader whose slowness is not the provider's (a `flatout.layer.Reader`)."""

    def __init__(self, reader: Reader, silence: Patience, attempt: Attempt) -> None:
        self._reader = reader
        self._silence = silence
        self._attempt = attempt

    @property
    def behind(self) -> bool:
        """See `flatout.layer.Reader`."""
        return self._reader.behind

    async def turn(self) -> None:
        """Wait until the reader has taken enough."""
        loop, attempt = asyncio.get_running_loop(), self._attempt
        began = loop.time()
        with self._silence.resting(), attempt.timeout.resting() if attempt.timeout is not None else nullcontext():
            await self._reader.turn()
        if attempt.ends_at is not None:
            attempt.ends_at += loop.time() - began


class _Listener:
    """Watches whether an answer is still coming.

    Attributes:
        received: whether some of it has come.
        silence: the timeout that each piece of the answer restarts.
        decoder: decodes the answer, once it has begun.
    """

    def __init__(self, gaps: Gaps) -> None:
        self._gaps = gaps
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.received = False
        self._over: float | None = None
        self.decoder: StreamDecoder | None = None
        self.silence = Patience(None if gaps.first_byte is None else self._began + gaps.first_byte)

    def elapsed(self) -> float:
        """Seconds since the attempt began."""
        return self._loop.time() - self._began

    def heard(self) -> None:
        """Note a piece of the answer, which restarts the timeout."""
        self.received = True
        gap = self._gaps.between_bytes
        self.silence.reschedule(None if gap is None else self._loop.time() + gap)

    @property
    def whole(self) -> StreamDecoder | None:
        """The decoder once it holds a complete answer; the fate of the connection no longer matters then."""
        return self.decoder if self.decoder is not None and self.decoder.complete else None

    def expect_the_end(self, ends_at: float | None) -> None:
        """Set a timeout for the end of the body, once the answer is complete: some servers never end it.

        Args:
            ends_at: the attempt's timeout, at which everything received would be lost.
        """
        if self._over is None:
            over = self._loop.time() + LINGER
            self._over = over if ends_at is None else min(over, ends_at - SHORTLY)
        self.silence.reschedule(self._over)

    def timeout(self) -> AttemptTimeout:
        """The error for too long a silence; its code names the bound."""
        if self.received:
            text = f"the answer stopped in the middle: not a byte for {self._gaps.between_bytes:g} s"
            return AttemptTimeout(text, code="between_bytes")
        return AttemptTimeout(f"not a byte of the answer within {self._gaps.first_byte:g} s", code="first_byte")
