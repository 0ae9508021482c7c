"""The HTTP server over real sockets: its connections, its answers, clients that misbehave, and its end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from flatout.http_server import server as http
from flatout.http_server.incoming import ROOM
from flatout.http_server.requests import MAX_BODY, Request
from flatout.http_server.server import Answer, Handler, HttpServer
from flatout.tasks.loop import loop_factory
from tests.support.raw_server import LONG

LOOPS = {asyncio.new_event_loop, loop_factory() or asyncio.new_event_loop}
GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


class Client:
    """One connection, read and written by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return (await self.reader.readuntil(b"\r\n\r\n")).lower()

    async def answer(self) -> tuple[bytes, bytes]:
        """The head and the body of an answer that says its length."""
        head = await self.head()
        return head, await self.reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))

    async def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        return await self.reader.read()


class Place:
    """A server, and clients of it."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port

    @asynccontextmanager
    async def client(self, first: bytes = b"") -> AsyncIterator[Client]:
        """A client. What it says first is there when the server accepts the connection, however busy the machine is."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.sendall(first)
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()


async def settled() -> None:
    """Let arrive what is on its way: turns of the loop bring it, and a busy machine has few of them in many seconds."""
    for _ in range(100):
        await asyncio.sleep(0.001)


@pytest.fixture(params=sorted(LOOPS, key=lambda made: made.__module__), ids=lambda made: made.__module__.split(".")[0])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(handler: Handler, scenario: Callable[[Place], Awaitable[None]], *, keepalive: float = 60.0) -> None:
        async def main() -> None:
            server = HttpServer(handler, keepalive)
            place = Place(server, await server.listen("127.0.0.1", 0))
            try:
                async with asyncio.timeout(LONG):
                    await scenario(place)
            finally:
                await server.close(0.2)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


async def echo(request: Request, answer: Answer) -> None:
    answer.send(200, {"x-path": request.path}, request.body)


def test_a_connection_carries_one_request_after_the_other(run: Any) -> None:
    """Each request would pay for a connection."""

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            for number in range(3):
                client.send(POST % (b"a", 5) + b"hello")
                head, body = await client.answer()
                assert head.startswith(b"http/1.1 200 ok\r\n")
                assert {b"x-path: /a", b"content-length: 5", b"server: flatout"} <= set(head.split(b"\r\n"))
                assert b"\r\ndate: " in head
                assert b"connection: close" not in head
                assert body == b"hello", number

    run(echo, scenario)


def test_requests_sent_at_once_are_answered_in_their_order(run: Any) -> None:
    """A client that pipelines would get the answers of others."""

    async def slow_at_first(request: Request, answer: Answer) -> None:
        await asyncio.sleep(0.05 if request.path == "/0" else 0.0)
        answer.send(200, body=request.path.encode())

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(b"".join(GET % (b"%d" % number) for number in range(50)))
            assert [(await client.answer())[1] for _ in range(50)] == [b"/%d" % number for number in range(50)]

    run(slow_at_first, scenario)


def test_a_client_that_asks_before_it_sends_a_body_is_told_to_go_on(run: Any) -> None:
    """curl would wait a second before each large request."""

    async def slow(request: Request, answer: Answer) -> None:
        await asyncio.sleep(0.05)
        await echo(request, answer)

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            asks = POST.replace(b"Host: x", b"Expect: 100-continue") % (b"b", 5)
            client.send(asks)
            assert (await client.head()).startswith(b"http/1.1 100 ")
            client.send(b"hello")
            assert (await client.answer())[1] == b"hello"
            client.send(GET % b"a" + asks)  # now behind a request that is not answered yet
            assert (await client.head()).startswith(b"http/1.1 200 ")
            assert (await client.head()).startswith(b"http/1.1 100 ")
            client.send(b"hello")
            assert (await client.answer())[1] == b"hello"

    run(slow, scenario)


async def two_pieces(request: Request, answer: Answer) -> None:
    answer.begin(200)
    await answer.write(b"one")
    await answer.write(b"")  # an empty chunk would be the end
    await answer.write(b"two")


def test_an_answer_in_pieces_is_chunked_and_the_connection_stays(run: Any) -> None:
    """A stream would cost its connection, or have no end."""

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            for _ in range(2):
                client.send(GET % b"")
                assert b"transfer-encoding: chunked" in await client.head()
                assert await client.head() == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"

    run(two_pieces, scenario)


def test_a_client_of_http_1_0_gets_what_it_understands(run: Any) -> None:
    """It knows no chunks, and does not expect that the connection stays."""

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
            assert b"transfer-encoding" not in head
            assert body == b"onetwo"

    run(two_pieces, scenario)

    async def stays(place: Place) -> None:
        async with place.client() as client:
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert b"connection: keep-alive" in (await client.answer())[0]
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert b"connection: close" in (await client.answer())[0]
            assert await client.rest() == b""

    run(echo, stays)


def test_an_answer_to_head_has_no_body(run: Any) -> None:
    """Its body would be taken for the next answer."""

    async def both(request: Request, answer: Answer) -> None:
        if request.path == "/whole":
            answer.send(200, body=b"body")
        else:
            answer.begin(200, length=4)
            await answer.write(b"body")

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            for path in (b"whole", b"pieces", b"whole"):
                client.send((GET % path).replace(b"GET", b"HEAD"))
                assert b"content-length: 4" in await client.head()
            client.send(GET % b"whole")
            assert (await client.answer())[1] == b"body"

    run(both, scenario)


def test_what_is_no_request_is_refused_after_the_answers_before_it(run: Any) -> None:
    """A client with a fault would hang, or lose the answers to what it asked before."""

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(GET % b"a" + b"nonsense\r\n\r\n")
            assert (await client.answer())[0].startswith(b"http/1.1 200")
            head, body = await client.answer()
            assert head.startswith(b"http/1.1 400 bad request")
            assert b"connection: close" in head
            assert b'{"error":{"message":"not a request of HTTP/1.1' in body
            assert await client.rest() == b""

    run(echo, scenario)


def test_a_refused_body_does_not_take_its_answer_away(run: Any) -> None:
    """A client that is still sending would see a reset, and not why."""

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(POST % (b"", MAX_BODY + 1))
            for _ in range(16):
                client.send(b"x" * 1024 * 1024)
                await client.writer.drain()
            assert (await client.answer())[0].startswith(b"http/1.1 413 ")
            assert await client.rest() == b""

    run(echo, scenario)


def test_a_refused_client_may_take_its_time_to_send_but_not_for_ever(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever uploads too much would see a broken pipe, and send it again; or a connection would stay for ever."""
    monkeypatch.setattr(http, "LINGER", 1.0)
    monkeypatch.setattr(http, "MOST_LINGER", 1.6)

    async def goes_on(client: Client, sent: list[float]) -> None:
        while True:
            client.send(b"x" * 1024)
            await client.writer.drain()
            await asyncio.sleep(0.05)
            sent.append(time.monotonic())

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(POST % (b"", MAX_BODY + 1))
            sent = [time.monotonic()]
            with pytest.raises(ConnectionError):
                await goes_on(client, sent)
            silent = max(later - before for before, later in pairwise(sent))
            assert sent[-1] - sent[0] > 1.3 or silent > 0.9  # a busy machine may have kept it from sending
            await place.server.wait_empty()

    run(echo, scenario)


def test_what_is_refused_takes_no_room_from_others(run: Any) -> None:
    """A few uploads that are too large would have everybody else refused, for as long as they go on."""
    over = asyncio.Event()

    async def scenario(place: Place) -> None:
        place.server.max_body, place.server.most_held = 100_000, 150_000
        async with place.client() as large, place.client() as ahead, place.client() as other:
            large.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(11):
                large.send(b"%x\r\n%b\r\n" % (10_000, b"x" * 10_000))
                await asyncio.sleep(0.01)
            assert (await large.answer())[0].startswith(b"http/1.1 413 ")
            ahead.send(GET % b"slow" + b"x" * 2 * http.MAX_AHEAD)
            await settled()
            assert place.server.held == 0
            other.send(POST % (b"a", 90_000) + b"y" * 80_000)
            await settled()
            assert place.server.held > 0
            other.send(b"y" * 10_000)
            assert (await other.answer())[0].startswith(b"http/1.1 200 ")
            over.set()

    async def slow(request: Request, answer: Answer) -> None:
        if request.path == "/slow":
            await over.wait()
        answer.send(200)

    run(slow, scenario)


def test_a_refused_client_that_never_closes_is_cut_off(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection would stay for ever."""
    monkeypatch.setattr(http, "LINGER", 0.05)

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(b"nonsense\r\n\r\n")
            await client.rest()
            await place.server.wait_empty()

    run(echo, scenario)


def test_what_a_client_sends_ahead_is_bounded(run: Any) -> None:
    """A client that sends and never waits would fill the memory."""
    going = asyncio.Event()

    async def waits(request: Request, answer: Answer) -> None:
        await going.wait()
        answer.send(200)

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(GET % b"")
            await settled()
            client.send(GET % b"" + POST % (b"", 2 * http.MAX_AHEAD) + b"x" * 2 * http.MAX_AHEAD)
            await client.writer.drain()
            await settled()
            going.set()
            answers = await client.rest()
            assert answers.count(b"HTTP/1.1 200") in {1, 2}
            assert answers.count(b"HTTP/1.1 503") == 1

    run(waits, scenario)


def test_a_client_that_does_not_read_holds_the_answer_back(run: Any) -> None:
    """A long stream would be kept in memory for a client that is slow."""
    written = 0

    async def much(request: Request, answer: Answer) -> None:
        nonlocal written
        answer.begin(200, length=1_000 * 100_000)
        for _ in range(1_000):
            await answer.write(b"x" * 100_000)
            written += 1

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(GET % b"")
            await client.head()
            before = -1
            while written > before:
                before = written
                await settled()
            assert written < 500
            assert len(await client.reader.readexactly(1_000 * 100_000)) == 1_000 * 100_000
            await settled()
            assert written == 1_000

    run(much, scenario)


def test_a_client_that_hangs_up_ends_the_work_for_it(run: Any) -> None:
    """The work for those who are gone would go on, and their next requests be answered to nobody."""
    begun: list[str] = []
    ended: list[str] = []

    async def waits(request: Request, answer: Answer) -> None:
        begun.append(request.path)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request.path)

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(GET % b"1" + GET % b"2")
            while not begun:  # noqa: ASYNC110 -- the request arrives on its own
                await asyncio.sleep(0.01)
        await place.server.wait_empty()
        await asyncio.sleep(0)
        assert begun == ended == ["/1"]

    run(waits, scenario)
    assert begun == ["/1"]


def test_a_handler_that_fails_is_told_and_ends_the_connection(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A defect of the simulator would look like a slow provider, and nobody would hear of one of the gateway."""

    async def fails(request: Request, answer: Answer) -> None:
        if request.path == "/late":
            answer.begin(200)
            await answer.write(b"one")
        if request.path != "/silent":
            raise LookupError(request.path)

    async def scenario(place: Place) -> None:
        for path, ending in ((b"early", b'{"error":{"message":"the server failed"}}'), (b"late", b"3\r\none\r\n")):
            async with place.client() as client:
                client.send(GET % path)
                answer = await client.rest()
                assert answer.startswith(b"HTTP/1.1 500" if path == b"early" else b"HTTP/1.1 200")
                assert answer.endswith(ending)
        assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
            "LookupError('/early')",
            "LookupError('/late')",
        ]
        async with place.client() as client:
            client.send(GET % b"silent")
            assert (await client.answer())[0].startswith(b"http/1.1 500")

    run(fails, scenario)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", POST % (b"", 5) + b"hel"])
def test_a_client_that_says_no_more_is_closed_after_a_while(run: Any, begun: bytes) -> None:
    """Connections would pile up."""

    async def scenario(place: Place) -> None:
        async with place.client(begun) as client:
            assert await client.rest() == b""

    run(echo, scenario, keepalive=0.05)


def test_an_answer_may_take_longer_than_an_idle_connection(run: Any) -> None:
    """Slow answers would be cut off."""

    async def slow(request: Request, answer: Answer) -> None:
        await asyncio.sleep(0.3)
        await echo(request, answer)

    async def scenario(place: Place) -> None:
        async with place.client(GET % b"a") as client:
            assert b"x-path: /a" in (await client.answer())[0]

    run(slow, scenario, keepalive=0.05)


def test_the_end_waits_for_open_answers_and_for_nothing_else(run: Any) -> None:
    """Ctrl-C would cut off answers that are nearly there, or wait for clients that ask for nothing."""
    begun: list[str] = []
    nearly_there = asyncio.Event()

    async def waits(request: Request, answer: Answer) -> None:
        begun.append(request.path)
        await (nearly_there if request.path == "/short" else asyncio.Event()).wait()
        answer.send(200)

    async def scenario(place: Place) -> None:
        async with place.client() as idle, place.client() as short, place.client() as long:
            short.send(GET % b"short" + GET % b"next")
            long.send(GET % b"long")
            while len(begun) < 2:  # noqa: ASYNC110 -- the requests arrive on their own
                await asyncio.sleep(0.01)
            closing = asyncio.create_task(place.server.close(LONG))
            assert await idle.rest() == b""
            nearly_there.set()
            answers = await short.rest()
            assert answers.count(b"HTTP/1.1 200") == answers.count(b"connection: close") == 1
            assert not closing.done()
            closing.cancel()
            await asyncio.wait([closing])

    run(waits, scenario)
    assert sorted(begun) == ["/long", "/short"]


def test_the_end_waits_only_a_little(run: Any) -> None:
    """Ctrl-C would wait for answers that never end."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def never(request: Request, answer: Answer) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def scenario(place: Place) -> None:
        async with place.client() as client:
            client.send(GET % b"long")
            await begun.wait()
            await place.server.close(0.1)
            assert cancelled.is_set()
            assert await client.rest() == b""
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", place.port)

    run(never, scenario)


async def counts(request: Request, answer: Answer) -> None:
    """Read a body as it comes, and say how long it is."""
    answer.send(200, body=b"%d" % sum([len(piece) async for piece in request.pieces()]))


def test_a_body_that_is_read_as_it_comes_fills_no_memory(run: Any) -> None:
    """A few large uploads would take all the memory, and a disk that is slow would not hold their clients back."""
    going = asyncio.Event()

    async def slow(request: Request, answer: Answer) -> None:
        await going.wait()
        await counts(request, answer)

    async def scenario(place: Place) -> None:
        place.server.streamed = lambda request: 64 * 1024 * 1024
        async with place.client() as client:
            client.send(POST % (b"up", 32 * 1024 * 1024) + b"x" * 32 * 1024 * 1024)
            while not place.server.held:  # noqa: ASYNC110 -- it arrives on its own
                await asyncio.sleep(0.01)
            await settled()
            assert 0 < place.server.held < 2 * ROOM
            going.set()
            assert (await client.answer())[1] == b"33554432"
            assert place.server.held == 0
            client.send(POST % (b"up", 5) + b"hello" + POST % (b"up", 2) + b"hi")
            assert [(await client.answer())[1], (await client.answer())[1]] == [b"5", b"2"]

    run(slow, scenario)


def test_a_body_that_nobody_wants_need_not_be_sent(run: Any) -> None:
    """A client without a key would send 500 MB before it heard so; or its answer would be taken away by a reset."""

    async def denies(request: Request, answer: Answer) -> None:
        answer.send(401)

    async def scenario(place: Place) -> None:
        place.server.streamed = lambda request: 64 * 1024 * 1024
        for expects in (b"", b"Expect: 100-continue\r\n"):
            async with place.client() as client:
                begun = POST % (b"up", 16 * 1024 * 1024)
                client.send(begun.replace(b"\r\n\r\n", b"\r\n" + expects + b"\r\n"))
                if not expects:
                    client.send(b"x" * 16 * 1024 * 1024)
                    await client.writer.drain()
                head, _ = await client.answer()
                assert head.startswith(b"http/1.1 401 ")
                assert b"connection: close" in head
                assert await client.rest() == b""

    run(denies, scenario)


def test_a_body_that_is_wanted_is_asked_for_and_bounded(run: Any) -> None:
    """curl would wait a second before each upload; or one without a stated length would fill the disk."""

    async def scenario(place: Place) -> None:
        place.server.streamed = lambda request: 100_000
        async with place.client() as client:
            client.send((POST % (b"up", 5)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            client.send(b"hello")
            assert (await client.answer())[1] == b"5"
            client.send(b"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(200):
                client.send(b"%x\r\n%b\r\n" % (10_000, b"x" * 10_000))
                await client.writer.drain()
            assert (await client.answer())[0].startswith(b"http/1.1 413 ")

    run(counts, scenario)


def test_an_upload_that_stops_is_ended(run: Any) -> None:
    """It would hold a connection and a file for ever."""

    async def scenario(place: Place) -> None:
        place.server.streamed, place.server.patience = (lambda request: 100_000), 0.2
        async with place.client(POST % (b"up", 50_000) + b"x" * 10) as client:
            assert await client.rest() == b""

    run(counts, scenario, keepalive=0.3)
