"""Readers of streamed answers who are slower than their providers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flatout import Client
from flatout.client import engine_of
from flatout.edge.relay import RelayedStream, relayed
from flatout.layer import Request, Response
from flatout.providers.relay import Wire, inbound_for
from flatout.providers.relay.inbound import read_object
from flatout.testing import run_virtual

PIECE = b"".join(
    b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": "word " * 200}}]}).encode()
    for _ in range(10)
)
LAST = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
PIECES = 1_000
AHEAD = 64 * 1024


class Provider:
    """A transport whose answers come as fast as they are read."""

    def __init__(self) -> None:
        self.status = 200
        self.headers = {"content-type": "text/event-stream"}
        self.sent = 0

    async def send(self, request: Request) -> Response:
        raise AssertionError("it is streamed")

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Provider]:
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            self.sent += len(PIECE)
            yield PIECE
            await asyncio.sleep(0)
        yield LAST

    async def close(self) -> None:
        pass


def streamed(provider: Provider, ahead: int | None, pause: float) -> tuple[int, bytes]:
    """Ask, do something else for a while, and then read. Returns what had been sent by then, and the answer."""
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Go on."}]}).encode()
    asked = inbound_for("openai").read(read_object(body))
    call = relayed(asked, Wire("openai", body, streams=True), "openai/m", timeout=30.0)

    async def main() -> tuple[int, bytes]:
        async with (
            Client(transport=provider, api_key="none") as client,
            RelayedStream(engine_of(client), call, ahead=ahead) as stream,
        ):
            await asyncio.sleep(pause)
            sent = provider.sent
            return sent, b"".join([piece async for piece in stream.pieces()])

    return run_virtual(main())


def test_a_client_that_does_not_read_stops_its_provider() -> None:
    """Each client that stops reading would cost a gateway as much memory as its answer is long: ten of them, 1 GB."""
    sent, _ = streamed(Provider(), AHEAD, pause=1.0)
    assert AHEAD < sent < AHEAD + 2 * len(PIECE)


def test_a_slow_reader_is_not_taken_for_a_silent_provider() -> None:
    """A provider would be called silent, and taken for down, because a client of the gateway did not read."""
    _, answer = streamed(Provider(), AHEAD, pause=600.0)
    assert answer == PIECES * PIECE + LAST


def test_a_reader_in_the_same_program_holds_up_no_provider() -> None:
    """A program that looks at each word for long would hold a place that others wait for."""
    sent, _ = streamed(Provider(), None, pause=1.0)
    assert sent == PIECES * len(PIECE)
