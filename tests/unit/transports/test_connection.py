"""One connection, without a socket, over several exchanges: what state each leaves it in."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flatout.errors import ProtocolError
from flatout.transports.answer import LARGE, MAX_HEAD, Answer
from flatout.transports.http1 import Connection
from tests.support.byte_wire import Wire, cut, turns

HEAD = b"POST / HTTP/1.1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Bench:
    """One connection and its wire."""

    def __init__(self, takes: int | None = None) -> None:
        self.free: list[Connection] = []
        self.lost: list[Connection] = []
        self.connection = Connection(self.free.append, self.lost.append)
        self.wire = Wire(self.connection, takes)

    def ask(self, body: bytes = b"{}", *, whole: bool = True) -> asyncio.Task[Answer]:
        return asyncio.ensure_future(self.connection.ask(HEAD, body, whole=whole))


def on_a_bench(test: Callable[[Bench], Awaitable[Any]], **options: Any) -> None:
    """Run a test, and see to it that nothing complains behind its back."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await test(Bench(**options))
        await turns()
        gc.collect()
        await turns()

    asyncio.run(main())
    assert complaints == []


def answer_of(size: int, *headers: str) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *map(str.encode, headers), b"content-length: %d" % size, b"", bytes(size)])


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, LARGE + 1_000, 3 * LARGE])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("step", [LARGE, 50_000])
def test_a_connection_reads_on_after_a_large_answer(size, whole, step):
    """The next call over the connection would wait for an answer that nobody reads, until its timeout."""

    async def test(bench: Bench) -> None:
        for _ in range(3):
            asked = bench.ask(whole=whole)
            data = answer_of(size)
            sent = asyncio.ensure_future(bench.wire.send(cut(data, range(step, len(data), step))))
            answer = await asked
            body = (
                answer.body() if answer.is_whole(10 * LARGE) else b"".join([piece async for piece in answer.chunks()])
            )
            answer.end()
            await sent
            assert body == bytes(size)
            assert bench.free.pop() is bench.connection
            assert not bench.wire.paused

    on_a_bench(test)


@pytest.mark.parametrize("status", ["200 OK", "413 Content Too Large"])
def test_a_connection_with_half_a_request_on_it_is_not_used_again(status):
    """The next request would be read as the rest of the one before, prompts mixed with prompts."""

    async def test(bench: Bench) -> None:
        asked = bench.ask(bytes(4 * LARGE), whole=False)
        await turns()
        head, _, body = OK.replace(b"200 OK", status.encode()).partition(b"\r\n\r\n")
        await bench.wire.send([head + b"\r\n\r\n", body])
        await bench.wire.drain()
        answer = await asked
        assert b"".join([piece async for piece in answer.chunks()]) == b"ok"
        answer.end()
        await turns()
        assert len(bench.wire.written) < 4 * LARGE
        assert (bench.free, len(bench.lost)) == ([], 1)

    on_a_bench(test, takes=LARGE)


def test_a_server_that_begins_to_answer_still_gets_the_whole_request():
    """A gateway that sends its head at once, and then waits for the prompt, would wait for ever."""

    async def test(bench: Bench) -> None:
        asked = bench.ask(bytes(4 * LARGE), whole=False)
        await turns()
        await bench.wire.send([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"])
        for _ in range(8):
            await bench.wire.drain()
        assert len(bench.wire.written) == len(HEAD) + 4 * LARGE
        await bench.wire.send([b"ok"])
        (await asked).end()

    on_a_bench(test, takes=LARGE)


def test_an_answer_that_the_client_itself_broke_off_is_not_complete():
    """Closing the client would turn the half of an answer into a whole one, and keep it as such."""

    async def test(bench: Bench) -> None:
        asked = bench.ask()
        await turns()
        await bench.wire.send([b"HTTP/1.1 200 OK\r\n\r\nhalf of"])
        bench.connection.abort()
        with pytest.raises(ProtocolError, match="cut off"):
            await asked

    on_a_bench(test)


def test_an_answer_that_ends_with_its_connection_is_complete():
    """A server without content-length could not be used."""

    async def test(bench: Bench) -> None:
        asked = bench.ask()
        await turns()
        await bench.wire.send([b"HTTP/1.1 200 OK\r\n\r\nall of it"])
        await bench.wire.end()
        answer = await asked
        assert answer.body() == b"all of it"
        answer.end()
        assert (bench.free, bench.connection.is_open) == ([], False)

    on_a_bench(test)


def test_a_server_that_has_ended_gets_no_more_of_a_request():
    """A large prompt would wait to be read by a server that has said all it will say."""

    async def test(bench: Bench) -> None:
        asked = bench.ask(bytes(4 * LARGE))
        await turns()
        await bench.wire.end()
        with pytest.raises(ProtocolError, match="without an answer"):
            await asked
        assert bench.wire.closed

    on_a_bench(test, takes=LARGE)


def test_a_call_that_is_cancelled_while_it_writes_leaves_nothing_behind():
    """The log would fill with exceptions that nobody retrieved."""

    async def test(bench: Bench) -> None:
        asked = bench.ask(bytes(4 * LARGE))
        await turns()
        asked.cancel()
        bench.connection.data_received(b"this is not HTTP")  # in the same turn
        await asyncio.gather(asked, return_exceptions=True)
        await turns()
        assert bench.wire.closed
        assert bench.lost == [bench.connection]

    on_a_bench(test, takes=LARGE)


@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize("interim", [0, 500])
@pytest.mark.parametrize("step", [1_000_000, 1_000, 7])
def test_a_head_is_bounded_to_the_byte_however_it_arrives(beyond, interim, step):
    """The same answer would be read one time and refused another time."""

    async def test(bench: Bench) -> None:
        asked = bench.ask()
        await turns()
        begin = b"HTTP/1.1 103 Early Hints\r\n\r\n" * interim + b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\nx: "
        data = begin + b"a" * (MAX_HEAD - len(begin) - 4 + beyond) + b"\r\n\r\n" + bytes(200_000)
        await bench.wire.send(cut(data, range(step, min(len(data), MAX_HEAD + 10), step)))
        if beyond:
            with pytest.raises(ProtocolError, match="head is too large"):
                await asked
        else:
            answer = await asked
            assert answer.body() == bytes(200_000)
            answer.end()

    on_a_bench(test)


@pytest.mark.parametrize(("begin", "more"), [("0\r\nx: ", "a"), ("0\r\n", "x: y\r\n"), ("5;", "e"), ("0\r\nx:", " ")])
def test_what_comes_behind_the_body_is_bounded(begin, more):
    """A server that never ends its trailer would fill the memory."""

    async def test(bench: Bench) -> None:
        asked = bench.ask()
        await turns()
        head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"
        await bench.wire.send([(head + begin).encode()])
        await bench.wire.send([more.encode() * 1_000] * (MAX_HEAD // 1_000 + 2))
        with pytest.raises(ProtocolError, match="trailer is too large"):
            await asked

    on_a_bench(test)


@pytest.mark.parametrize("status", [0, 42, 99])
def test_no_answer_begins_below_one_hundred(status):
    """Its body would stand in front of the next answer's."""

    async def test(bench: Bench) -> None:
        asked = bench.ask()
        await turns()
        await bench.wire.send([b"HTTP/1.1 %03d X\r\ncontent-length: 3\r\n\r\nxyz" % status + OK])
        with pytest.raises(ProtocolError, match="not valid HTTP"):
            await asked

    on_a_bench(test)


def test_an_offer_of_another_protocol_is_no_change_of_it():
    """Apache offers HTTP/2 with each answer, and none of them could be read."""

    async def test(bench: Bench) -> None:
        asked = bench.ask()
        await turns()
        await bench.wire.send([OK.replace(b"\r\n", b"\r\nupgrade: h2,h2c\r\nconnection: upgrade\r\n", 1)])
        answer = await asked
        assert answer.body() == b"ok"
        answer.end()
        assert bench.free

    on_a_bench(test)
