"""The ways to a server, and what may stand in them: TLS, proxies, IPv6, Unix sockets; good ones and bad ones."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys

import pytest

from flatout import Client, ConnectError, ProtocolError
from flatout.transports.http import HttpTransport
from flatout.transports.proxy import Proxy, open_tunnel
from tests.support.raw_server import OK, Certificate, Server, reset, run, saying, send, serving

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open sockets are counted in /proc")

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def once(url: str, body: bytes = b"{}", **options) -> bytes:
    """The body of one answer, over a transport of its own."""
    transport = HttpTransport(**options)
    try:
        return (await send(transport, url, body)).body
    finally:
        await transport.close()


async def does_not_reach(url: str, said: str, **options) -> ConnectError:
    """The error of a call that was not sent."""
    with pytest.raises(ConnectError, match=said) as caught:
        await once(url, **{"connect_timeout": 2.0, **options})
    return caught.value


# -- TLS --------------------------------------------------------------------------------------------------------------


@LOOPS
def test_large_requests_and_answers_pass_through_tls(loop, certificate):
    """A prompt with a document, or an answer of several hundred kilobytes, would be lost or mixed with another."""
    sizes = [10, 300_000, 3_000_000]

    async def main() -> None:
        transport = HttpTransport(tls=certificate.trusted())
        async with serving(echoing, ssl=certificate.served) as server:
            for _ in range(2):
                bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
                answers = await asyncio.gather(*(send(transport, server.url, body) for body in bodies))
                assert [answer.body for answer in answers] == bodies
            assert server.connections == len(sizes)
        await transport.close()

    run(main, loop)


async def echoing(server: Server, reader, writer) -> None:
    while True:
        body = (await server.read(reader)).partition(b"\r\n\r\n")[2]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


@LOOPS
@pytest.mark.parametrize("how", ["silent", "garbage", "ends", "resets", "plain"])
def test_a_handshake_that_fails_sent_nothing(loop, how):
    """A call that never left the machine would count as paid; or wait behind a server that says nothing."""

    async def fails(server: Server, reader, writer) -> None:
        await reader.read(1)
        if how == "silent":
            await reader.read()
            await asyncio.sleep(0)
        elif how == "garbage":
            writer.write(b"\x16\x03\x03\x00\x05garbage" * 10)
            await reader.read()
        elif how == "resets":
            reset(writer)
        elif how == "plain":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        async with serving(fails) as server:
            await does_not_reach(server.url.replace("http:", "https:"), "no connection", connect_timeout=0.3)
            await server.has_open(0)

    run(main, loop)


@LOOPS
def test_a_handshake_that_is_cancelled_closes_its_socket(loop, certificate):
    """Calls that were given up would hold open files until there are none left."""

    async def stalls(server: Server, reader, writer) -> None:
        await reader.read()

    async def main() -> None:
        transport = HttpTransport()
        async with serving(stalls) as server:
            url = server.url.replace("http:", "https:")
            calls = [asyncio.ensure_future(send(transport, url)) for _ in range(50)]
            await server.has_open(50)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await server.has_open(0)
        await transport.close()

    run(main, loop)


@LOOPS
@pytest.mark.parametrize("data", [OK, OK[:-2], b"HTTP/1.1 200 OK\r\n\r\nfine"], ids=["whole", "half", "until the end"])
def test_tls_that_ends_without_saying_so(loop, certificate, data):
    """Many servers close that way. An answer whose length is known would be lost, or half of one be kept."""

    async def drops(server: Server, reader, writer) -> None:
        await server.read(reader)
        writer.write(data)
        await writer.drain()
        sock = writer.get_extra_info("socket")
        await asyncio.sleep(0.02)
        sock.shutdown(socket.SHUT_RDWR)  # below TLS
        writer.transport.abort()

    async def main() -> None:
        async with serving(drops, ssl=certificate.served) as server:
            if data == OK[:-2]:
                with pytest.raises(ProtocolError, match="cut off"):
                    await once(server.url, tls=certificate.trusted())
            else:
                assert await once(server.url, tls=certificate.trusted()) == b"fine"

    run(main, loop)


@pytest.mark.parametrize("how", ["file", "directory", "context"])
def test_whom_to_trust_can_be_said(monkeypatch, tmp_path, certificate, how):
    """Behind a company's proxy, or for a server with a certificate of its own, nothing would work."""
    options = {}
    if how == "file":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    elif how == "directory":
        (tmp_path / certificate.hashed_name()).write_bytes(certificate.file.read_bytes())
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    else:
        options["tls"] = certificate.trusted()

    async def main() -> None:
        async with serving(saying(OK), ssl=certificate.served) as server:
            assert await once(server.url, **options) == b"fine"
            assert await once(server.url.replace("127.0.0.1", "localhost"), **options) == b"fine"
            monkeypatch.undo()
            error = await does_not_reach(server.url, "does not verify")
            assert error.code == "certificate"

    run(main)


def test_a_certificate_for_another_host_is_refused(certificate):
    """Anybody with a certificate of their own could read keys and prompts."""

    async def main() -> None:
        async with serving(saying(OK), host="127.0.0.2", ssl=certificate.served) as server:
            await does_not_reach(server.url, "does not verify", tls=certificate.trusted())
            assert server.requests == []

    run(main)


# -- proxies ----------------------------------------------------------------------------------------------------------


async def proxying(server: Server, reader, writer) -> None:
    """A proxy that passes everything on."""
    head = await reader.readuntil(b"\r\n\r\n")
    server.requests.append(head)
    host, _, port = head.split(b" ")[1].rpartition(b":")
    there, to = await asyncio.open_connection(host.strip(b"[]").decode(), int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def passes(source, sink) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()

    try:
        ways = [asyncio.ensure_future(passes(reader, to)), asyncio.ensure_future(passes(there, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        to.close()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


@LOOPS
def test_a_tunnel_through_a_proxy(loop, certificate, monkeypatch):
    """A company's only way out could not be used, or its proxy would see keys and prompts."""

    async def main() -> None:
        async with serving(saying(OK), ssl=certificate.served) as server, serving(proxying) as proxy:
            monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
            transport = HttpTransport(trust_env=True, tls=certificate.trusted())
            for _ in range(3):
                assert (await send(transport, server.url, b"secret")).body == b"fine"
            assert (proxy.connections, server.connections) == (1, 1)
            assert b"\r\nproxy-authorization: Basic bWU6cEBzcw==\r\n" in proxy.requests[0]
            assert b"proxy-auth" not in b"".join(server.requests)
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            assert await once(server.url, trust_env=True, tls=certificate.trusted()) == b"fine"
            assert await once(server.url, tls=certificate.trusted()) == b"fine"
            assert proxy.connections == 1
            await transport.close()

    run(main, loop)


@LOOPS
def test_a_request_for_plain_http_goes_to_the_proxy_itself(loop, monkeypatch):
    """Servers within the company could not be reached."""

    async def main() -> None:
        async with serving(saying(OK)) as proxy:
            monkeypatch.setenv("http_proxy", f"http://me:pass@127.0.0.1:{proxy.port}")
            assert await once("http://api.test:8080/v1", trust_env=True) == b"fine"
            head = proxy.requests[0].partition(b"\r\n\r\n")[0]
            assert head.startswith(b"POST http://api.test:8080/v1/chat HTTP/1.1\r\nhost: api.test:8080\r\n")
            assert b"\r\nproxy-authorization: Basic bWU6cGFzcw==" in head

    run(main, loop)


HANGS = object()


@LOOPS
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\n", "without an answer"),
        (b"SSH-2.0 200 hello\r\n\r\n", "does not speak HTTP"),
        (b"\0\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 2\r\n\r\nno", "refused.*407"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "refused.*503 Busy"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "more than its answer"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 20_000, "without an answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no connection"),
        (HANGS, "within the connect timeout"),
    ],
    ids=range(10),
)
def test_a_proxy_that_fails_sent_nothing(loop, answer, said, monkeypatch):
    """A call that never left would count as paid; or TLS be spoken with whatever stands there."""

    async def fails(server: Server, reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is HANGS:
            await reader.read()
        else:
            writer.write(answer)
            await writer.drain()

    async def main() -> None:
        async with serving(fails) as proxy:
            monkeypatch.setenv("https_proxy", f"http://me:hunter2@127.0.0.1:{proxy.port}")
            short = {"connect_timeout": 0.3} if answer is HANGS else {}
            error = await does_not_reach("https://api.test/v1", said, trust_env=True, **short)
            assert "hunter2" not in str(error)
            assert (error.should_retry is False) is (b"407" in answer if isinstance(answer, bytes) else False)
            await proxy.has_open(0)

    run(main, loop)


def test_a_proxy_that_is_not_there_is_named(monkeypatch):
    """The user would look for the fault at the provider."""
    with socket.socket() as silent:  # nobody else can take its port, and it does not listen
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        run(lambda: does_not_reach("https://api.test/v1", f"the proxy 127.0.0.1:{port}: .*refused", trust_env=True))


def test_a_tunnel_to_an_ipv6_address_is_asked_for_in_brackets():
    """No proxy would understand where to."""

    async def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            there.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            await open_tunnel(here, Proxy("proxy.test", 3128, None), "::1", 443)
            assert there.recv(1_000).startswith(b"CONNECT [::1]:443 HTTP/1.1\r\nhost: [::1]:443\r\n")

    run(main)


# -- addresses --------------------------------------------------------------------------------------------------------


@LOOPS
def test_ipv6(loop):
    """A server that is reached by IPv6 only could not be used."""

    async def main() -> None:
        async with serving(saying(OK), host="::1") as server:
            assert await once(server.url) == b"fine"
            assert f"\r\nhost: [::1]:{server.port}\r\n".encode() in server.requests[0]

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    run(main, loop)


@LOOPS
def test_a_unix_socket(loop, tmp_path, monkeypatch):
    """A local server that listens at no port could not be used."""
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    path = str(tmp_path / "a b.sock")

    async def main() -> None:
        async with serving(saying(OK), path=path) as server:
            transport = HttpTransport(trust_env=True)
            for _ in range(3):
                assert (await send(transport, server.url)).body == b"fine"
            assert server.connections == 1
            assert server.requests[0].startswith(b"POST /v1/chat HTTP/1.1\r\nhost: localhost\r\n")
            await transport.close()
        await does_not_reach(server.url.replace("a%20b", "none").replace("a b", "none"), "no connection to .*none.sock")

    run(main, loop)


def test_a_client_calls_a_server_at_a_unix_socket(tmp_path):
    """The address would be refused before anything is tried."""
    chat = b'{"choices": [{"message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}]}'
    data = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(chat) + chat
    path = str(tmp_path / "llm.sock")

    async def main() -> None:
        async with serving(saying(data), path=path) as server:
            async with Client("m", base_url=server.url, config={}) as client:
                assert (await client.call("hello")).text == "fine"
            assert server.requests[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")

    run(main)


def test_a_context_of_the_users_is_used_as_it_is(certificate):
    """A client's certificate, or a stricter minimum, would not count."""
    context = certificate.trusted()
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def main() -> None:
        versions = []

        async def tells(server: Server, reader, writer) -> None:
            versions.append(writer.get_extra_info("ssl_object").version())
            await saying(OK)(server, reader, writer)

        async with serving(tells, ssl=certificate.served) as server:
            assert await once(server.url, tls=context) == b"fine"
        assert versions == ["TLSv1.2"]

    run(main)
