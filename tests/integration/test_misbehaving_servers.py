"""flatout's HTTP transport against servers that lie, stall, reset and stop, on both kinds of event loop."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import tracemalloc
from random import Random

import pytest

from flatout import ProtocolError, TransportError
from flatout.layer import Request, Response
from flatout.transports.http import HttpTransport
from tests.support.raw_server import OK, Server, reset, run, saying, send, serving

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open sockets are counted in /proc")

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
LARGE = bytes(4_000_000)


async def outcome(transport: HttpTransport, url: str, body: bytes = b"{}") -> Response | TransportError:
    """An answer, or an error."""
    try:
        return await send(transport, url, body)
    except TransportError as error:
        return error


async def answered(data: bytes, how=saying) -> Response | TransportError:
    """What a server's bytes come to."""
    transport = HttpTransport()
    async with serving(how(data)) as server:
        made = await outcome(transport, server.url)
    await transport.close()
    return made


# -- answers ----------------------------------------------------------------------------------------------------------


@LOOPS
@pytest.mark.parametrize("how", ["reset", "end"])
def test_a_connection_that_breaks_at_any_byte_of_an_answer_is_a_protocol_error(loop, how):
    """Half an answer would be taken for one, or a call that may have been paid would be sent again unasked."""
    data = b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n"
    sizes = iter(range(len(data) + 1))

    async def breaks(server: Server, reader, writer) -> None:
        await server.read(reader)
        writer.write(data[: next(sizes)])
        await writer.drain()
        if how == "reset":
            reset(writer)

    async def main() -> None:
        transport = HttpTransport()
        async with serving(breaks) as server:
            for size in range(len(data) + 1):
                if size == len(data):
                    assert (await send(transport, server.url)).body == b"fine"
                    continue
                with pytest.raises(ProtocolError) as caught:
                    await send(transport, server.url)
                assert caught.value.code == "connection_lost"
            assert len(server.requests) == len(data) + 1  # each was sent once
        await transport.close()

    run(main, loop)


@LOOPS
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (OK.replace(b"4", b"9"), "cut off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nfine\r\n", "cut off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "not valid HTTP"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n",
            "not valid",
        ),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 103 Early\r\n\r\n" * 5_000 + OK, "head is too large"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 2_000_000, "head is too large"),
        (b"HTTP/1.1 200 OK\r\n" + b"".join(b"x%d: a\r\n" % number for number in range(2_000)), "head is too large"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not valid HTTP"),
        (b"\x16\x03\x01\0\0" * 100, "not valid HTTP"),
        (b"", "without an answer"),
    ],
    ids=range(11),
)
def test_a_lie_is_a_named_error(loop, data, said):
    """A stranger's exception would end the whole run, or a hang would hold up one of its places."""

    async def main() -> None:
        error = await answered(data, lambda data: saying(data, times=1))
        assert isinstance(error, ProtocolError)
        assert said in str(error)

    run(main, loop)


@LOOPS
def test_many_early_hints_are_skipped(loop):
    """A gateway that shows by them that it is still at work would end the call that it works on."""

    async def main() -> None:
        assert (await answered(b"HTTP/1.1 102 Processing\r\n\r\n" * 2_000 + OK)).body == b"fine"

    run(main, loop)


@LOOPS
def test_what_follows_an_answer_is_never_the_next_one(loop):
    """One caller would read what another's request, or nobody's, was answered with."""

    async def main() -> None:
        transport = HttpTransport()
        async with serving(saying(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")) as server:
            for _ in range(5):
                assert (await send(transport, server.url)).body == b"fine"
            assert server.connections == 5
        await transport.close()

    run(main, loop)


@LOOPS
def test_an_answer_that_trickles_is_read_and_can_be_given_up(loop):
    """A slow model's answer would be lost; or one that is not wanted any more would go on being written."""

    async def trickles(server: Server, reader, writer) -> None:
        await server.read(reader)
        for byte in OK + b"HTTP":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.001)
        await reader.read()

    async def main() -> None:
        transport = HttpTransport()
        async with serving(trickles) as server:
            assert (await send(transport, server.url)).body == b"fine"
            with pytest.raises(TimeoutError):
                await send(transport, server.url, seconds=0.01)
            await transport.close()
            await server.has_open(0)

    run(main, loop)


@LOOPS
def test_a_server_that_has_said_all_may_close_its_side(loop):
    """Servers that half close their connections could not be used; or one that says nothing would hold the call."""

    async def half_closed(server: Server, reader, writer) -> None:
        request = await server.read(reader)
        if b"answer" in request:
            writer.write(OK)
        writer.write_eof()
        await reader.read()

    async def main() -> None:
        transport = HttpTransport()
        async with serving(half_closed) as server:
            for _ in range(3):
                assert (await send(transport, server.url, b"answer")).body == b"fine"
                with pytest.raises(ProtocolError, match="without an answer"):
                    await send(transport, server.url, b"nothing")
            await server.has_open(0)
        await transport.close()

    run(main, loop)


# -- requests ---------------------------------------------------------------------------------------------------------


@LOOPS
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_large_request_may_be_refused_before_it_was_read(loop, goes_on):
    """The reason would be lost, and the next request be sent into the middle of this one."""

    async def refuses(server: Server, reader, writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"content-length: 2\r\n" in head:
            writer.write(OK)
            await reader.readexactly(2)
            return
        writer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo long")
        await writer.drain()
        if goes_on:
            await reader.read()  # to the end, so that the answer is not reset with the connection

    async def main() -> None:
        transport = HttpTransport()
        async with serving(refuses) as server:
            for _ in range(3):
                answer = await outcome(transport, server.url, LARGE)
                if isinstance(answer, ProtocolError):
                    assert not goes_on, "the answer was there to be read"
                    assert answer.code == "connection_lost"
                else:
                    assert (answer.status, answer.body) == (413, b"too long")
                assert (await send(transport, server.url)).body == b"fine"
            assert server.connections == 6
        await transport.close()

    run(main, loop)


@LOOPS
def test_a_connection_that_ends_while_a_request_is_written_is_a_protocol_error(loop):
    """It may have been read; or the call would wait for a server that is gone."""

    async def goes(server: Server, reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reset(writer)

    async def main() -> None:
        transport = HttpTransport()
        async with serving(goes) as server:
            for _ in range(5):
                with pytest.raises(ProtocolError) as caught:
                    await send(transport, server.url, LARGE)
                assert caught.value.code == "connection_lost"
        await transport.close()

    run(main, loop)


@LOOPS
def test_a_kept_connection_that_dies_with_the_next_request_may_have_carried_it(loop):
    """It would be sent again behind the back of budget and limits."""

    async def once(server: Server, reader, writer) -> None:
        await server.read(reader)
        writer.write(OK)
        await server.read(reader)
        reset(writer)

    async def main() -> None:
        transport = HttpTransport()
        async with serving(once) as server:
            for number in range(1, 10, 2):
                assert (await send(transport, server.url)).body == b"fine"
                with pytest.raises(ProtocolError):
                    await send(transport, server.url)
                assert (server.connections, len(server.requests)) == ((number + 1) // 2, number + 1)
        await transport.close()

    run(main, loop)


@LOOPS
def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing(loop):
    """Each call after a pause would cost an attempt."""

    async def main() -> None:
        transport = HttpTransport()
        async with serving(saying(OK, times=1)) as server:
            for number in range(1, 6):
                assert (await send(transport, server.url)).body == b"fine"
                assert (server.connections, len(server.requests)) == (number, number)
                while "0 idle" not in repr(transport):  # noqa: ASYNC110 - nothing signals it
                    await asyncio.sleep(0.001)
        await transport.close()

    run(main, loop)


# -- cancelling -------------------------------------------------------------------------------------------------------


async def silent(server: Server, reader, writer) -> None:
    await reader.read()


@LOOPS
@pytest.mark.parametrize("body", [b"{}", LARGE], ids=["small", "large"])
def test_the_server_sees_at_once_that_a_call_was_cancelled(loop, body):
    """It would go on writing, and billing, an answer that nobody reads."""

    async def half(server: Server, reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfi")
        await reader.read() if len(body) < 10 else await asyncio.sleep(0.05)
        while await reader.read(65_536):
            pass

    async def main() -> None:
        transport = HttpTransport()
        async with serving(half) as server:
            calls = [asyncio.ensure_future(send(transport, server.url, body)) for _ in range(10)]
            await server.has_open(10)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await server.has_open(0)
            assert repr(transport) == "HttpTransport(0 connections in use, 0 idle)"
        await transport.close()

    run(main, loop)


def test_thousands_of_cancelled_calls_leave_nothing():
    """A run of days would end for want of memory or of open files."""
    drawn = Random(1)

    async def main() -> None:
        transport = HttpTransport()

        async def batch(url: str, size: int) -> None:
            calls = [asyncio.ensure_future(transport.send(Request("POST", url, {}, b"{}"))) for _ in range(size)]
            for turns in sorted(drawn.choices(range(12), k=4)):
                for _ in range(turns):
                    await asyncio.sleep(0)
                for call in calls[turns % 4 :: 4]:
                    call.cancel()
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

        async with serving(silent) as server:
            for _ in range(4):
                await batch(server.url, 250)
            await server.has_open(0)
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - the server's own end
                await asyncio.sleep(0.001)
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(10):
                await batch(server.url, 250)
            await server.has_open(0)
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - the server's own end
                await asyncio.sleep(0.001)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            assert repr(transport) == "HttpTransport(0 connections in use, 0 idle)"
            assert grown < 100_000, "40 bytes a call"
        await transport.close()

    run(main, debug=False)


@LOOPS
def test_calls_that_are_cancelled_while_they_connect_leave_nothing(loop):
    """Sockets would be left open, until none can be opened any more."""

    async def main() -> None:
        transport = HttpTransport()
        with socket.create_server(("127.0.0.1", 0), backlog=1) as full:  # accepts nothing
            url = f"http://localhost:{full.getsockname()[1]}"
            for _ in range(3):
                calls = [asyncio.ensure_future(send(transport, url)) for _ in range(100)]
                await asyncio.sleep(0.02)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
        assert repr(transport) == "HttpTransport(0 connections in use, 0 idle)"
        await transport.close()

    run(main, loop)


# -- processes --------------------------------------------------------------------------------------------------------

FORKED = """
import asyncio, logging, os, sys
from flatout.layer import Request
from flatout.transports.http import HttpTransport

async def main():
    transport = HttpTransport()
    for _ in range(3):
        answer = await asyncio.wait_for(transport.send(Request("POST", sys.argv[1], {}, b"{}")), 60)
        assert answer.body == b"fine"
    await transport.close()

logging.disable()  # of slow callbacks: the machine may be busy
asyncio.run(main())
child = os.fork()
asyncio.run(main())
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_can_send():
    """A web server's or a data loader's workers would hang."""

    async def main() -> None:
        async with serving(saying(OK)) as server:
            command = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORKED]
            process = await asyncio.create_subprocess_exec(*command, server.url, stderr=subprocess.PIPE)
            _, said = await process.communicate()
            assert (process.returncode, said) == (0, b"")
            assert len(server.requests) == 9

    run(main)
