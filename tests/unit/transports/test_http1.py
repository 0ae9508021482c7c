"""One connection, without a socket: what it makes of the bytes that arrive, however they are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import ConnectError, ProtocolError
from flatout.testing import run_virtual
from flatout.transports.answer import LARGE, MAX_HEAD, Answer
from flatout.transports.http1 import Connection

HEAD = b"POST /v1 HTTP/1.1\r\nhost: x\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Wire(asyncio.Transport):
    """A transport that keeps what was written, and knows whether it is read."""

    def __init__(self, *, takes: int = 1 << 30) -> None:
        super().__init__()
        self.written = b""
        self.takes = takes  # bytes until it asks to pause
        self.reading = True
        self.aborted = False
        self.left = 0  # bytes that were not sent yet

    def write(self, data) -> None:
        self.written += bytes(data)
        if len(self.written) > self.takes:
            self.protocol.pause_writing()

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.left

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Talk:
    """A connection over a `Wire`."""

    def __init__(self, **options) -> None:
        self.free: list[Connection] = []
        self.lost: list[Connection] = []
        self.connection = Connection(self.free.append, self.lost.append)
        self.wire = Wire(**options)
        self.wire.protocol = self.connection
        self.connection.connection_made(self.wire)

    async def hears(self, *pieces: bytes, whole: bool = True, body: bytes = b"", closes: bool = False) -> Answer:
        """Send a request, to which these pieces come."""
        task = asyncio.ensure_future(self.connection.ask(HEAD, body, whole=whole))
        await asyncio.sleep(0)
        for piece in pieces:
            self.connection.data_received(piece)
        if closes:
            self.connection.eof_received()
        return await task


def in_loop(scenario: Callable) -> None:
    run_virtual(scenario())


FRAMES = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello world",
    "chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-a: 1\r\n\r\n"
    b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nx-t: 1\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\nx-a: 1\r\n\r\nhello world",
    "until the end": b"HTTP/1.0 200 OK\r\nx-a: 1\r\n\r\nhello world",
}


@pytest.mark.parametrize("frame", FRAMES)
@given(st.lists(st.integers(0, 150), max_size=10), st.booleans())
def test_an_answer_is_the_same_however_it_is_cut(frame, cuts, whole):
    """An answer would depend on how the network cuts it."""
    data = FRAMES[frame]
    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[begin:end] for begin, end in pairwise(at) if begin < end]

    async def scenario() -> None:
        talk = Talk()
        closes = frame == "until the end"
        answer = await talk.hears(*pieces, whole=whole, closes=closes)
        assert answer.status == 200
        assert answer.headers["x-a"] == "1"
        assert "link" not in answer.headers
        assert "x-t" not in answer.headers
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"hello world"
        answer.end()
        assert talk.free == ([] if closes else [talk.connection])

    in_loop(scenario)


@pytest.mark.parametrize("after", [b"x", PLAIN, b"\r\nHTTP"])
def test_bytes_after_an_answer_leave_it_whole_and_end_the_connection(after):
    """The next call on the connection would get somebody else's answer."""

    async def scenario() -> None:
        talk = Talk()
        answer = await talk.hears(PLAIN + after)
        assert answer.body() == b"hello"
        answer.end()
        assert talk.free == []
        assert talk.wire.aborted

    in_loop(scenario)


def test_bytes_that_nobody_asked_for_end_the_connection():
    """A late answer to a call that was given up would be taken for the next one's."""

    async def scenario() -> None:
        talk = Talk()
        (await talk.hears(PLAIN)).end()
        assert talk.free == [talk.connection]
        talk.connection.data_received(PLAIN)
        await asyncio.sleep(0)
        assert talk.lost == [talk.connection]

    in_loop(scenario)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",),
            "not valid",
        ),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",), "not valid"),
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",), "transfer coding"),
        ((b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",), "another protocol"),
        ((b"HTTP/1.1 200 OK\r\nx: " + b"a" * MAX_HEAD + b"\r\n\r\n",), "head is too large"),
        ((b"HTTP/1.1 200 OK\r\nx: ", *[b"a" * 1_000] * 70), "head is too large"),
        ((b"HTTP/1.1 103 Early\r\n\r\n" * 4_000,), "head is too large"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), "not valid"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_answer_is_refused_by_name(pieces, said):
    """Two readers of one answer could see two different ones, or a server fill the memory with a head."""

    async def scenario() -> None:
        talk = Talk()
        with pytest.raises(ProtocolError, match=said):
            await talk.hears(*pieces)
        assert talk.wire.aborted
        assert talk.free == []

    in_loop(scenario)


def test_a_large_answer_waits_for_its_reader():
    """A thousand large answers at once would fill the memory."""

    async def scenario() -> None:
        talk = Talk()
        size = 4 * LARGE
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
        answer = await talk.hears(head, b"x" * (LARGE + 1))
        assert not answer.complete
        assert not talk.wire.reading
        read = 0
        async for chunk in answer.chunks():
            assert talk.wire.reading
            read += len(chunk)
            if read < size:
                talk.connection.data_received(b"x" * min(LARGE + 1, size - read))
        assert read == size
        answer.end()
        assert talk.free == [talk.connection]

    in_loop(scenario)


def test_a_body_is_poured_until_it_is_enough():
    """The rest of a stream would be lost, or come twice, when its reader pauses."""

    async def scenario() -> None:
        talk = Talk()
        poured: list[bytes] = []

        def two_at_a_time(data: bytes) -> bool:
            poured.append(data)
            return len(poured) % 2 == 1

        answer = await talk.hears(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", b"ab", whole=False)
        task = asyncio.ensure_future(answer.pour(two_at_a_time))
        await asyncio.sleep(0)
        for piece in (b"cd", b"ef", b"gh"):
            talk.connection.data_received(piece)
        await task
        assert poured == [b"ab", b"cd"]
        assert not talk.wire.reading  # else the system's buffer would move here
        task = asyncio.ensure_future(answer.pour(two_at_a_time))
        await asyncio.sleep(0)
        assert talk.wire.reading
        talk.connection.data_received(b"ij")
        await task
        assert b"".join(poured) == b"abcdefghij"
        assert answer.is_read()

    in_loop(scenario)


def test_what_a_function_left_of_a_body_is_read_as_chunks():
    """A refusal whose beginning was poured would never end."""

    async def scenario() -> None:
        talk = Talk()
        answer = await talk.hears(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", whole=False)
        task = asyncio.ensure_future(answer.pour(lambda _: False))
        await asyncio.sleep(0)
        talk.connection.data_received(b"ab")
        await task
        assert not talk.wire.reading
        rest = asyncio.ensure_future(anext(answer.chunks()))
        await asyncio.sleep(0)
        assert talk.wire.reading
        talk.connection.data_received(b"cd")
        assert await rest == b"cd"
        answer.end()

    in_loop(scenario)


def test_an_error_of_the_one_who_takes_a_body_is_his():
    """A mistake in a decoder would show as a broken connection, and the call be paid for again."""

    async def scenario() -> None:
        talk = Talk()
        answer = await talk.hears(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", whole=False)

        def fails(data: bytes) -> bool:
            raise KeyError("mine")

        task = asyncio.ensure_future(answer.pour(fails))
        await asyncio.sleep(0)
        talk.connection.data_received(b"ab")
        with pytest.raises(KeyError, match="mine"):
            await task
        answer.end()
        assert talk.free == []

    in_loop(scenario)


def test_a_large_request_is_sent_as_it_is_taken_and_stops_at_a_refusal():
    """One large prompt would hold up all calls; or a refusal of it be waited for until all of it was sent."""

    async def scenario() -> None:
        talk = Talk(takes=2 * LARGE)
        body = b"x" * (10 * LARGE)
        task = asyncio.ensure_future(talk.connection.ask(HEAD, body, whole=True))
        await asyncio.sleep(0)
        assert 2 * LARGE < len(talk.wire.written) <= 3 * LARGE + len(HEAD)
        talk.connection.resume_writing()
        await asyncio.sleep(0)
        assert len(talk.wire.written) <= 4 * LARGE + len(HEAD)
        talk.connection.data_received(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        answer = await task
        assert (answer.status, answer.body()) == (413, b"no")
        assert len(talk.wire.written) <= 4 * LARGE + len(HEAD)
        answer.end()
        assert talk.free == []

    in_loop(scenario)


def test_a_request_that_was_not_wholly_sent_leaves_no_connection_to_use():
    """The next request would begin in the middle of the last one's body."""

    async def scenario() -> None:
        talk = Talk()
        answer = await talk.hears(PLAIN)
        talk.wire.left = 100
        answer.end()
        assert talk.free == []

    in_loop(scenario)


def test_a_request_that_is_given_up_closes_the_connection():
    """The server would go on with work that nobody waits for."""

    async def scenario() -> None:
        talk = Talk(takes=LARGE)
        for body in (b"", b"x" * 3 * LARGE):
            task = asyncio.ensure_future(talk.connection.ask(HEAD, body, whole=True))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert talk.wire.aborted
            await asyncio.sleep(0)
            assert talk.lost == [talk.connection]
            talk = Talk(takes=LARGE)

    in_loop(scenario)


def test_nothing_was_sent_on_a_connection_that_was_closed_before():
    """A call that was never sent would count as one that may have been paid for."""

    async def scenario() -> None:
        talk = Talk()
        talk.wire.abort()
        for _ in range(2):  # closing, and then closed
            with pytest.raises(ConnectError):
                await talk.connection.ask(HEAD, b"", whole=True)
            await asyncio.sleep(0)
        assert talk.wire.written == b""

    in_loop(scenario)


@pytest.mark.parametrize(("said", "keeps"), [("timeout=5, max=100", 5.0), ("max=3", None), ("timeout=x", None)])
def test_a_server_may_say_how_long_it_keeps_a_connection(said, keeps):
    """A connection would be used just as its server closes it, and the call be sent twice."""

    async def scenario() -> None:
        talk = Talk()
        answer = await talk.hears(b"HTTP/1.1 200 OK\r\nkeep-alive: %b\r\ncontent-length: 0\r\n\r\n" % said.encode())
        answer.end()
        assert talk.connection.keeps == keeps

    in_loop(scenario)
