"""The HTTP transport against real servers on this machine: good ones, broken ones, and ones that lie."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
import traceback
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest

from flatout import (
    AttemptTimeout,
    AuthenticationError,
    Call,
    CallError,
    Client,
    ConnectError,
    DeadlineExceeded,
    InvalidRequest,
    Limits,
    ProtocolError,
    Reply,
)
from flatout.http_server.answer import Answer
from flatout.http_server.server import HttpServer
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layer import Request
from flatout.testing import Faults, ProviderModel, ProviderSettings, digest_of, serve
from flatout.transports.http import HttpTransport
from flatout.transports.over_aiohttp import AiohttpTransport
from tests.support.loop_turns import turns
from tests.support.raw_server import LONG, ends_arrive

SECRET = "sk-" + "stays-at-home"
PLENTY = Limits(concurrency=200)


made_by: type[HttpTransport] | type[AiohttpTransport] = HttpTransport


@pytest.fixture(autouse=True, params=[HttpTransport, AiohttpTransport], ids=["ours", "aiohttp"])
def _over_both(request, monkeypatch):
    """Each test runs over flatout's own transport, and over aiohttp's."""
    monkeypatch.setitem(globals(), "made_by", request.param)


def completion(text: str = "fine") -> bytes:
    body = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    return json.dumps(body).encode()


def response(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", *headers]
    if length is not None or not any("transfer-encoding" in header for header in headers):
        head.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + body


class Raw:
    """A server of a few lines: hands each request to ``answer``, which writes what it likes."""

    def __init__(self, answer: Callable[[Raw, asyncio.StreamWriter, int], Awaitable[bool]]) -> None:
        self.answer = answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for number in count():
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                size = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
                self.requests.append(head + await reader.readexactly(size))
                if not await self.answer(self, writer, number):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def has_read(self, number: int) -> None:
        """Wait until so many requests were read, maybe by a server in another thread."""
        while len(self.requests) < number:  # noqa: ASYNC110 - nothing signals it across threads
            await asyncio.sleep(0.002)


@asynccontextmanager
async def raw(answer: Callable[..., Awaitable[bool]], **options) -> AsyncIterator[Raw]:
    made = Raw(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, **options)
    scheme = "https" if options.get("ssl") else "http"
    made.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        server.close()


@contextmanager
def elsewhere(answer: Callable[..., Awaitable[bool]]) -> Iterator[Raw]:
    """A server in a thread of its own, which goes on when the client's loop does not."""
    ready: Future[Raw] = Future()
    done = asyncio.Event()

    async def main() -> None:
        async with raw(answer) as server:
            ready.set_result(server)
            await done.wait()

    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        yield ready.result(10)
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


def always(data: bytes, *, keep: bool = False):
    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        writer.write(data)
        await writer.drain()
        return keep

    return answer


def client(url: str, **options) -> Client:
    if "transport" not in options:
        options["transport"] = made_by(trust_env=options.pop("trust_env", False))
    return Client("m", **{"base_url": url, "config": {}, "limits": PLENTY, "seed": 1, "retries": 0, **options})


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LONG):
            await main()

    asyncio.run(bounded())


async def send(url: str, body: bytes = b"{}", **options):
    """One exchange, without the layers above."""
    transport = made_by(**options)
    try:
        return await transport.send(Request("POST", f"{url}/chat/completions", headers(), body))
    finally:
        await transport.close()


def headers() -> dict[str, str]:
    return {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}


# -- connections ------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_over_http():
    """Nothing would work outside of simulations."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(latency=0.01, key=SECRET))
        async with await serve(model) as server, client(server.url, api_key=SECRET) as made:
            results = await made.gather(f"prompt {n}" for n in range(200))
            assert [result.text.split()[0] for result in results] == [
                f"digest:{digest_of(f'prompt {n}')}" for n in range(200)
            ]

    run(main)


def test_connections_are_used_again():
    """Each call would pay for a connection, and with TLS for a millisecond of CPU."""

    async def main() -> None:
        async with raw(always(response(completion()), keep=True)) as server:
            async with client(server.url, limits=Limits(concurrency=5)) as made:
                assert all(result.ok for result in await made.gather(["x"] * 100))
            assert server.connections <= 5
            assert len(server.requests) == 100

    run(main)


def test_a_server_that_closes_idle_connections_loses_no_call():
    """Some three calls of a hundred would fail, or be paid twice: the server closes just when a request is sent."""
    received: list[bytes] = []

    async def answers(request, answer: Answer) -> None:
        received.append(request.body)
        answer.send(200, {}, completion())

    async def main() -> None:
        server = HttpServer(answers, keepalive=LONG)
        port = await server.listen("127.0.0.1", 0)
        async with client(f"http://127.0.0.1:{port}/v1") as made:
            for _ in range(25):
                results = await made.gather([f"{n}" for n in range(10)])
                assert all(result.ok and result.attempts == 1 for result in results)
                for connection in tuple(server._connections):
                    assert connection.leave() is None  # it was idle
                await asyncio.sleep(0)
                ends_arrive(port)  # and the client has not heard of them
            assert len(received) == 250
        await server.close(0.0)

    run(main)


async def reads_and_closes(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
    """Answers four requests on a connection; reads the fifth, and closes."""
    if number == 4:
        return False
    writer.write(response(completion()))
    await writer.drain()
    return True


@pytest.mark.parametrize("gaps", [{}, {"first_byte": 10.0}])
def test_every_request_is_an_attempt(gaps, monkeypatch):
    """A server that reads a request and closes was paid twice for it: nobody counted, noted or paced the second."""
    noted: list[int] = []

    async def main() -> None:
        async with raw(reads_and_closes) as server, client(server.url, retries=20, **gaps) as made:

            class Notes:
                async def begins(self, number: int, *_: object) -> None:
                    noted.append(number)

                def failed(self, *_: object) -> None:
                    pass

            async def one(number: int) -> Reply:
                journey = Journey(asyncio.get_running_loop().time())
                journey.notes = Notes()
                trips.append(journey)
                return await made._engine.answer(Call(f"{number}"), journey)

            trips: list[Journey] = []
            for start in range(0, 400, 20):
                await asyncio.gather(*(one(number) for number in range(start, start + 20)))
            assert len(server.requests) == len(noted) == sum(journey.attempts for journey in trips) > 400

    monkeypatch.setattr("flatout.layers.retry.delay", lambda *_, **__: 0.0)
    run(main)


def test_a_connection_that_was_closed_before_a_request_gets_none():
    """A server that closes idle connections would cost an attempt, and with no retries the call."""

    async def closes_after_each_answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        writer.write(response(completion()))  # and promises to stay, and does not
        await writer.drain()
        return False

    async def main() -> None:
        async with raw(closes_after_each_answer) as server:
            transport = made_by()
            request = Request("POST", server.url, headers(), b"{}")
            for number in range(1, 11):
                assert (await transport.send(request)).status == 200
                await asyncio.sleep(0)
                ends_arrive(urlsplit(server.url).port)  # and the loop has not heard of it
                assert len(server.requests) == server.connections == number
            await transport.close()

    run(main)


def test_closing_the_client_ends_what_is_in_flight_and_opens_nothing_new():
    """A program could not end; or a request go out again on a new connection after it was closed."""

    async def hang(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        if number == 0:
            writer.write(response(completion()))
            return True
        await asyncio.sleep(60)
        return False

    async def main() -> None:
        async with raw(hang) as server:
            transport = made_by()
            request = Request("POST", server.url, headers(), b"{}")
            await transport.send(request)
            task = asyncio.create_task(transport.send(request))
            await server.has_read(2)
            await transport.close()
            with pytest.raises(CallError):
                await task
            assert server.connections == 1

    run(main)


def test_a_host_that_does_not_answer_holds_up_no_other():
    """One dead server among several would stop the calls to all of them for as long as it takes to give it up."""
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))
    dead.listen(0)
    port = dead.getsockname()[1]
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:  # its queue is full now: further connections hang
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))

    async def main() -> None:
        async with raw(always(response(completion()), keep=True)) as server:
            transport = made_by(connect_timeout=5.0)
            gone = Request("POST", f"http://127.0.0.1:{port}/v1", headers(), b"{}")
            here = Request("POST", server.url, headers(), b"{}")
            tasks = [asyncio.create_task(transport.send(gone)) for _ in range(150)]
            await asyncio.sleep(0.2)
            async with turns(0.05) as turned:
                assert (await transport.send(here)).status == 200
            assert turned() <= 2 / 0.05
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await transport.close()

    try:
        run(main)
    finally:
        for filler in (*fillers, dead):
            filler.close()


def test_an_unreachable_host_is_given_up():
    """A typo in the address would take a thousand calls through all their retries, or hold them for ever."""

    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
            async with client(url, retries=5, give_up=1.0) as made:
                async with turns(0.05) as turned:
                    results = await made.gather([f"{n}" for n in range(1_000)])
                assert turned() <= 2 * 1.0 / 0.05
                assert sum(result.attempts for result in results) <= 100
                assert not any(result.ok for result in results)
                assert all(result.cost == 0 for result in results)
                assert isinstance(results[0].error, CallError)

    run(main)


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "closed the connection"),
        (b"HELLO WORLD\r\n\r\n", "not valid HTTP"),
        (response(b"", "foo bar"), "not valid HTTP"),
        (response(completion()[:20], length=500), "cut off"),
        (response(b"5\r\nhel", "transfer-encoding: chunked"), "cut off"),
        (response(b"zz\r\nhello\r\n", "transfer-encoding: chunked"), "not valid HTTP|cut off"),
        (response(b"not gzip", "content-encoding: gzip"), "not valid HTTP|cut off"),
        (response(b"\xff" * 30, "content-encoding: br"), "not valid HTTP|cut off"),
        (response(b"", "x-big: " + "a" * 100_000), "not valid HTTP"),
        (response(b"", *[f"x-{n}: a" for n in range(5_000)]), "not valid HTTP"),
        (response(b"{}", "content-length: -1"), "not valid HTTP"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_a_broken_answer_is_a_named_error_and_shows_no_key(data, said):
    """A stranger's exception would end the call without a retry, or a crash report hold the key."""

    async def main() -> None:
        async with raw(always(data)) as server:
            with pytest.raises(ProtocolError, match=said) as caught:
                await send(server.url)
            report = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
            assert SECRET not in report

    run(main)


@pytest.mark.parametrize(
    "head",
    [
        ("x-long: " + "a" * 40_000,),
        tuple(f"x-{n}: v" for n in range(600)),
        ("content-security-policy: " + "b " * 9_000,),
    ],
    ids=["long", "many", "policy"],
)
def test_an_answer_with_a_long_head_is_read(head):
    """A gateway that sets large cookies or policies would make every answer, paid for, unreadable."""

    async def main() -> None:
        async with raw(always(response(completion("behind it"), *head))) as server, client(server.url) as made:
            assert (await made.call("x")).text == "behind it"

    run(main)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 2xx %s\r\n\r\n",
        b"HTTP/9 %s\r\n\r\n",
        b"%s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%s\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 32\r\n\r\n%s",
        b"HTTP/1.1 302 Found\r\nlocation: https://me:%s@other.test/%s\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=lambda data: data[:40].decode().split("\r\n")[-1] or data[:20].decode(),
)
@pytest.mark.parametrize("encode", [str, lambda key: b64encode(f"x{key}".encode()).decode(), lambda key: key[:12]])
def test_no_key_that_a_broken_answer_repeats_shows(data, encode):
    """Errors are logged and stored: a server that repeats the key in a status line, a header or a chunk's size
    would put it there.
    """
    quoted = encode(SECRET).encode()

    async def main() -> None:
        async with raw(always(data.replace(b"%s", quoted))) as server:
            for gaps in ({}, {"first_byte": 5.0}):
                async with client(server.url, api_key=SECRET, **gaps) as made:
                    error = (await made.result("x")).error
                    report = traceback.TracebackException.from_exception(error, capture_locals=True).format()
                    shown = "".join(report) + repr(error) + repr(vars(error))
                    assert SECRET[:12] not in shown
                    assert quoted.decode()[4:16] not in shown
                    assert error.__context__ is None

    run(main)


@pytest.mark.parametrize("gaps", [{}, {"first_byte": 5.0}])
def test_of_a_refusal_only_the_beginning_is_read(gaps):
    """An error page of many megabytes would be read, decoded and searched, while nothing else moves."""
    page = b'{"error": {"message": "' + b"no " * 2_000_000 + b'"}}'

    async def main() -> None:
        async with raw(always(response(page, status="400 Bad"))) as server, client(server.url, **gaps) as made:
            error = (await made.result("x")).error
            assert isinstance(error, InvalidRequest)
            assert "no no no" in str(error)
            assert len(str(error)) <= 300

    run(main)


@pytest.mark.parametrize("fault", ["reset", "truncated", "malformed"])
def test_faults_in_the_middle_are_retried(fault, monkeypatch):
    """A cut-off answer would fail the call."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(latency=0.0, faults=Faults(**{fault: 0.3})), seed=3)
        async with await serve(model) as server, client(server.url, retries=8) as made:
            results = await made.gather([f"{n}" for n in range(6)])
            assert all(result.ok for result in results)
            assert sum(result.attempts for result in results) > 6

    monkeypatch.setattr("flatout.layers.retry.delay", lambda *_, **__: 0.01)
    run(main)


def test_a_connection_reset_in_the_body_is_a_protocol_error():
    """Half an answer would be taken for a whole one."""

    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        writer.write(response(completion()[:10], length=1_000))
        await writer.drain()
        writer.transport.abort()
        return False

    async def main() -> None:
        async with raw(answer) as server:
            with pytest.raises(ProtocolError):
                await send(server.url)
            async with client(server.url) as made:
                result = await made.result("x")
                assert isinstance(result.error, ProtocolError)
                assert result.cost is None  # it may have been billed

    run(main)


@pytest.mark.parametrize("how", ["length", "chunked", "endless"])
def test_an_answer_is_read_up_to_its_cap(how):
    """A broken server could fill the memory."""
    cap = 100_000

    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        if how == "length":
            writer.write(response(b"x" * (cap + 1)))
        elif how == "chunked":
            writer.write(response(b"", "transfer-encoding: chunked"))
            for _ in range(1_000):
                writer.write(b"1000\r\n" + b"x" * 4_096 + b"\r\n")
                await writer.drain()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" * 4_096)
                await writer.drain()
        await writer.drain()
        return False

    async def main() -> None:
        async with raw(answer) as server:
            with pytest.raises(ProtocolError, match="larger than 100,000 bytes") as caught:
                await send(server.url, max_body=cap)
            assert caught.value.should_retry is False
            assert (await send(server.url, max_body=cap * 2)).body if how == "length" else True

    run(main)


def test_a_small_answer_that_unpacks_to_a_huge_one_is_bounded():
    """A server could fill the memory with 300 kB."""
    bomb = gzip.compress(bytes(200 * 1024 * 1024), 6)

    async def main() -> None:
        async with raw(always(response(bomb, "content-encoding: gzip"))) as server:
            tracemalloc.start()
            with pytest.raises(ProtocolError, match="larger"):
                await send(server.url, max_body=1024 * 1024)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 20 * 1024 * 1024

    run(main)


def test_a_compressed_answer_is_read():
    """A gateway that compresses unasked would make every answer unreadable."""

    async def main() -> None:
        packed = gzip.compress(completion("packed"))
        async with raw(always(response(packed, "content-encoding: gzip"))) as server, client(server.url) as made:
            assert (await made.call("x")).text == "packed"
            assert b"accept-encoding: identity" in server.requests[0].lower()

    run(main)


def test_large_prompts_and_answers_pass_whole():
    """A long document would arrive cut."""

    async def main() -> None:
        prompt, answer = "é" * 2_000_000, "a" * 3_000_000
        async with raw(always(response(completion(answer)))) as server, client(server.url) as made:
            assert (await made.call(prompt)).text == answer
            body = server.requests[0].partition(b"\r\n\r\n")[2]
            assert json.loads(body)["messages"][0]["content"] == prompt

    run(main)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(status):
    """The key would be sent to whatever server the first one names."""

    async def main() -> None:
        async with raw(always(response(completion()), keep=True)) as other:
            redirect = response(b"", f"location: {other.url}/chat/completions?q={SECRET}", status=status)
            async with raw(always(redirect)) as server, client(server.url, api_key=SECRET, retries=3) as made:
                result = await made.result("x")
                assert isinstance(result.error, ProtocolError)
                assert other.url in str(result.error)
                assert SECRET not in str(result.error)
                assert result.attempts == 1
            assert other.requests == []
            assert other.connections == 0

    run(main)


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["first byte", "body", "drip"])
def test_a_timeout_bounds_every_stage_of_an_attempt(stage):
    """A server that sends a byte now and then would hold a call for ever."""

    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        if stage != "first byte":
            writer.write(response(b"", length=1_000))
        for _ in range(200):
            if stage == "drip":
                writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)
        return False

    async def main() -> None:
        async with raw(answer) as server, client(server.url, timeout=0.3) as made:
            async with turns(0.05) as turned:
                result = await made.result("x")
            assert isinstance(result.error, AttemptTimeout)
            assert turned() <= 2 * 0.3 / 0.05
            async with turns(0.05) as turned:
                result = await made.result(Call("x", timeout=9, deadline=0.2))
            assert isinstance(result.error, DeadlineExceeded)
            assert turned() <= 2 * 0.2 / 0.05
            assert made.status()[0].in_flight == 0

    run(main)


def test_a_connection_attempt_is_bounded():
    """A host behind a firewall that drops everything would hold a call for five minutes."""
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))
    dead.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(dead.getsockname())

    async def main() -> None:
        async with turns(0.05) as turned:
            with pytest.raises(ConnectError, match="connect timeout"):
                await send(f"http://127.0.0.1:{dead.getsockname()[1]}", connect_timeout=0.3)
        assert turned() <= 2 * 0.3 / 0.05

    try:
        run(main)
    finally:
        for filler in (*fillers, dead):
            filler.close()


def test_the_time_on_the_wire_is_booked():
    """A slow provider would look like a slow network, or like flatout."""

    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        await asyncio.sleep(0.2)
        writer.write(response(completion()[:10], length=len(completion())))
        await writer.drain()
        await asyncio.sleep(0.01)  # the client, which has the same loop, has seen it then
        await asyncio.sleep(0.1)
        writer.write(completion()[10:])
        return False

    async def main() -> None:
        async with raw(answer) as server:
            journey = Journey(0.0)
            token, began = set_journey(journey), time.monotonic()
            await send(server.url)
            took = time.monotonic() - began
            reset_journey(token)
            assert journey.waits["first_byte"] >= 0.19
            assert journey.waits["body"] >= 0.05
            assert journey.waits["connect"] > 0
            assert sum(journey.waits[name] for name in ("connect", "first_byte", "body")) <= took

    run(main)


def test_a_cancelled_call_closes_its_connection():
    """The server would go on working on what nobody waits for, and the connection come back with another's answer."""

    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        await asyncio.sleep(0.3)
        writer.write(response(completion(f"answer {len(server.requests)}")))
        await writer.drain()
        return True

    async def main() -> None:
        async with raw(answer) as server, client(server.url) as made:
            task = asyncio.create_task(made.call("given up"))
            await server.has_read(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await made.call("wanted")).text == "answer 2"
            assert server.connections == 2

    run(main)


@pytest.mark.parametrize("bound", [{"timeout": 20.0}, {"deadline": 20.0}, {"first_byte": 20.0}])
def test_a_blocked_loop_times_out_no_call_that_was_answered(bound, monkeypatch):
    """A program that computes for a while between two awaits would lose, and pay again for, all that is in flight."""
    piece = b'data: {"choices": [{"index": 0, "delta": {"content": "fine"}, "finish_reason": "stop"}]}\n\n'

    blocked, answered = Event(), []

    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        streamed = b'"stream":true' in server.requests[-1]
        while not blocked.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.01)
        if streamed:
            writer.write(response(b"", "content-type: text/event-stream", length=len(piece) + 14))
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(piece + b"data: [DONE]\n\n")
        else:
            writer.write(response(completion("a" * 100_000)))
        answered.append(number)
        return True

    async def main(server: Raw) -> None:
        loop, clock = asyncio.get_running_loop(), asyncio.get_running_loop().time
        async with client(server.url, **bound) as made:
            calls = asyncio.create_task(made.gather([f"{n}" for n in range(40)]))
            await server.has_read(40)
            blocked.set()
            while len(answered) < 40:
                time.sleep(0.01)  # noqa: ASYNC251 - the program computes, and the answers come
            monkeypatch.setattr(loop, "time", lambda: clock() + 30.0)  # for longer than the test takes
            results = await calls
            assert [result.error for result in results if not result.ok] == []

    with elsewhere(answer) as server:
        run(lambda: main(server))
        assert len(server.requests) == 40


@pytest.mark.parametrize("gaps", [{}, {"first_byte": 9.0}])
def test_large_answers_together_take_a_bounded_memory(gaps):
    """A hundred large answers at once would fill the memory, though each is within its bound."""
    large, held = 4_000_000, 8_000_000
    whole = response(completion("a" * large))

    async def main(url: str) -> None:
        transport = made_by(max_held=held)
        async with client(url, transport=transport, **gaps) as made:
            await made.gather(["the price table, which this loads, is no answer"])
            tracemalloc.start()
            async for result in made.as_completed(f"{n}" for n in range(60)):
                assert result.ok
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert "0 answers, 0 waiting" in repr(transport._room)
        assert peak < 60 * large / 2

    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        for start in range(0, len(whole), 50_000):  # what the client does not read yet takes no memory here
            writer.write(whole[start : start + 50_000])
            await writer.drain()
        return True

    with elsewhere(answer) as server:
        run(lambda: main(server.url))


def test_with_few_files_that_may_be_opened_every_call_is_answered():
    """Where a process may open 256 files, 500 calls at once would fail as if nobody were there."""
    program = (
        "import resource, sys, flatout\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))\n"
        "others = [open('/dev/null') for _ in range(int(sys.argv[2]))]\n"
        "results = flatout.run(['x'] * 300, 'm', base_url=sys.argv[1], limits=flatout.Limits(concurrency=200))\n"
        "print(sum(result.ok for result in results), sum(result.attempts for result in results))\n"
    )

    async def answer(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        await asyncio.sleep(0.05)
        writer.write(response(completion()))
        return True

    with elsewhere(answer) as server:
        for others in ("0", "30"):
            made = subprocess.run(
                [sys.executable, "-c", program, server.url, others], capture_output=True, text=True, check=False
            )
            assert made.stdout.split() == ["300", "300"], made.stderr
            assert "may not open more files" in made.stderr


# -- keys -------------------------------------------------------------------------------------------------------------


def test_only_the_right_key_is_sent(monkeypatch):
    """OPENAI_API_KEY would be sent to whatever server base_url names."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("FLATOUT_API_KEY", "sk-flatout")

    async def main() -> None:
        async with raw(always(response(completion()), keep=True)) as server:
            async with client(server.url) as made:
                await made.gather(["x", Call("y", model="openai/gpt-5")])
            async with client(server.url, api_key="sk-given") as made:
                await made.call("z")
            monkeypatch.delenv("FLATOUT_API_KEY")
            async with client(server.url) as made:
                await made.call("none")
            sent = [
                [line for line in request.split(b"\r\n") if line.lower().startswith(b"authorization")]
                for request in server.requests
            ]
            assert sent[:2] == [[b"authorization: Bearer sk-flatout"]] * 2
            assert sent[2:] == [[b"authorization: Bearer sk-given"], []]
            assert not any(b"sk-openai" in request for request in server.requests)

    run(main)


def test_a_providers_key_does_not_follow_flatout_toml_elsewhere(monkeypatch):
    """A flatout.toml in a cloned repository would send the user's OpenAI key to its author."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)

    async def main() -> None:
        async with raw(always(response(completion()), keep=True)) as server:
            for table in (
                {"openai": {"base_url": server.url}},
                {"work": {"provider": "openai", "base_url": server.url}},
            ):
                (name,) = table
                async with Client(f"{name}/gpt", config={"endpoints": table}, limits=PLENTY) as made:
                    assert (await made.result("x")).ok
            assert len(server.requests) == 2
            assert not any(SECRET.encode() in request for request in server.requests)

    run(main)


def test_no_key_shows_in_any_error_of_a_call():
    """A log or a crash report would hold the key."""

    async def echo(server: Raw, writer: asyncio.StreamWriter, number: int) -> bool:
        writer.write(
            response(b'{"error": {"message": "bad key %s"}}' % SECRET.encode(), f"x-echo: {SECRET}", status="401 No")
        )
        await writer.drain()
        return False

    async def main() -> None:
        async with raw(echo) as server:
            for url in (server.url, "http://127.0.0.1:9/v1"):
                async with client(url, api_key=SECRET, give_up=1.0) as made:
                    result = await made.result("x")
                    error = result.error
                    assert isinstance(error, AuthenticationError | ConnectError)
                    report = traceback.TracebackException.from_exception(error, capture_locals=True).format()
                    shown = "".join(report) + repr(vars(error)) + repr(made) + repr(made.status()) + repr(result)
                    assert SECRET not in shown

    run(main)


def test_no_proxy_is_used_unless_asked_for(monkeypatch):
    """A stray variable would send keys and prompts through somebody's proxy."""

    async def main() -> None:
        async with raw(always(response(completion()), keep=True)) as proxy:
            address = proxy.url.removesuffix("/v1")
            for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, address)
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.delenv(name, raising=False)
            async with raw(always(response(completion("direct")), keep=True)) as server:
                async with client(server.url) as made:
                    assert (await made.call("x")).text == "direct"
                assert proxy.requests == []
                async with client(server.url, trust_env=True) as made:
                    await made.call("x")
                assert len(proxy.requests) == 1

    run(main)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command makes the certificate, and it is not here")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate):
    """Anybody in between could read keys and prompts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def main() -> None:
        async with raw(always(response(completion())), ssl=context) as server:
            with pytest.raises(ConnectError, match="certificate") as caught:
                await send(server.url)
            assert server.requests == []
            report = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
            assert SECRET not in "".join(report)

    run(main)


def test_plain_http_on_a_tls_port_is_a_connect_error():
    """``https`` for a server that speaks ``http`` would show as something strange."""

    async def main() -> None:
        async with raw(always(response(completion()))) as server:
            with pytest.raises(ConnectError):
                await send(server.url.replace("http://", "https://"), connect_timeout=0.5)

    run(main)
