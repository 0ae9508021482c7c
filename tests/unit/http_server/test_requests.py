"""What the server takes for a request, and what it refuses. No socket is opened here."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.http_server.requests import MAX_BODY, MAX_HEAD, Request, RequestReader

CHUNKED = b"transfer-encoding: chunked\r\n"
KINDS = (
    b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /v1/chat/completions?a=b HTTP/1.1\r\nAuthorization: Bearer k\r\nContent-Length: 5\r\n\r\nhello",
    b"POST http://x/v1/embeddings HTTP/1.1\r\n" + CHUNKED + b"\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX-Trailer: y\r\n\r\n",
    b"POST /h2c HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST /caf%C3%A9 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
)
SEEN = [
    ("GET", "/v1/models", b""),
    ("POST", "/v1/chat/completions", b"hello"),
    ("POST", "/v1/embeddings", b"hello"),
    ("POST", "/h2c", b"hello"),
    ("GET", "/ws", b""),
    ("POST", "/café", b""),
]


def seen(requests: list[Request]) -> list[tuple[str, str, bytes]]:
    return [(request.method, request.path, request.body) for request in requests]


def head(*headers: bytes, line: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, *headers, b"", b""])


@given(st.lists(st.integers(0, len(KINDS) - 1), max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_requests_are_the_same_however_their_bytes_are_cut(kinds: list[int], sizes: list[int]) -> None:
    """A request that arrives in several packets, or together with the next one, would be lost or mixed up."""
    reader, found = RequestReader(), []
    data = b"".join(KINDS[kind] for kind in kinds)
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += reader.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert reader.refusal is None
    assert seen(found) == [SEEN[kind] for kind in kinds]
    assert all(request.keeps for request in found)


@given(st.lists(st.integers(0, len(KINDS) - 1), max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_a_body_that_is_read_as_it_comes_is_the_same_however_it_is_cut(kinds: list[int], sizes: list[int]) -> None:
    """A file would lose bytes, or take some of the next request."""
    reader, found = RequestReader(streamed=lambda request: 10 if request.path != "/v1/models" else 0), []
    data = b"".join(KINDS[kind] for kind in kinds)
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += reader.feed(data[at : at + size])
        at, turn = at + size, turn + 1

    async def bodies() -> list[bytes]:
        return [b"".join([piece async for piece in request.pieces()]) for request in found]

    assert reader.refusal is None
    assert all(request.is_whole for request in found)
    assert asyncio.run(bodies()) == [SEEN[kind][2] for kind in kinds]


def test_a_header_has_its_first_value_and_any_case() -> None:
    """The key would not be found."""
    [request] = RequestReader().feed(head(b"AUTHORIZATION: one", b"authorization: two", line=b"GET / HTTP/1.1"))
    assert request.headers[b"authorization"] == b"one"


@pytest.mark.parametrize(
    ("line", "header", "version", "keeps"),
    [
        (b"GET / HTTP/1.1", b"a: b", "1.1", True),
        (b"GET / HTTP/1.1", b"connection: close", "1.1", False),
        (b"GET / HTTP/1.0", b"a: b", "1.0", False),
        (b"GET / HTTP/1.0", b"connection: keep-alive", "1.0", True),
        (b"GET / HTTP/1.1", b"connection: upgrade, close\r\nupgrade: h2c", "1.1", False),
    ],
)
def test_a_client_says_whether_the_connection_stays(line: bytes, header: bytes, version: str, *, keeps: bool) -> None:
    """An old client would wait for the end of an answer that never comes."""
    [request] = RequestReader().feed(head(header, line=line))
    assert (request.version, request.keeps) == (version, keeps)


def test_nothing_is_read_after_the_last_request() -> None:
    """A request would be answered that the client has told nobody to answer."""
    reader = RequestReader()
    last = head(b"connection: close", line=b"GET / HTTP/1.1")
    assert len(reader.feed(last + KINDS[0])) == 1
    assert reader.feed(KINDS[0]) == []
    assert reader.feed(b"x" * MAX_HEAD * 2) == []
    assert reader.refusal is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HELLO WORLD\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # a client that speaks TLS
        (b"GET /\r\n\r\n", 505),
        (head(line=b"GET / HTTP/2.0"), 505),
        (head(line=b"CONNECT example.test:443 HTTP/1.1"), 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (head(b"a b: c"), 400),
        (head(b" folded: c"), 400),
        (head(b"content-length: five"), 400),
        (head(b"content-length: -1"), 400),
        (head(b"content-length: 1", b"content-length: 2"), 400),
        (head(b"host: a", b"Host: b"), 400),
        (head(b"content-length: 1", b"transfer-encoding: chunked"), 400),
        (head(b"transfer-encoding: chunked") + b"zz\r\n", 400),
        (head(b"transfer-encoding: gzip, chunked"), 501),
        (head(b"content-encoding: gzip", b"content-length: 1"), 415),
        (head(b"expect: a miracle", b"content-length: 1"), 417),
        (head(b"content-length: %d" % (MAX_BODY + 1)), 413),
        (head(b"x-long: " + b"a" * MAX_HEAD), 431),
        (head(*[b"x-%d: b" % n for n in range(20_000)]), 431),
        (b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
@pytest.mark.parametrize("size", [1 << 20, 4_096, 7])
def test_what_is_no_request_or_too_large_is_refused_with_its_status(data: bytes, status: int, size: int) -> None:
    """A client with a fault would seem to work, or hang, or fill the memory."""
    reader = RequestReader()
    assert seen(reader.feed(KINDS[0])) == SEEN[:1]
    found = [request for at in range(0, len(data), size) for request in reader.feed(data[at : at + size])]
    assert found == []
    assert reader.refusal is not None
    assert reader.refusal.status == status
    assert reader.feed(KINDS[0]) == []


def test_a_head_or_a_trailer_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    """llhttp has no bound of its own."""
    for begun in (b"GET / HTTP/1.1\r\nx: ", head(CHUNKED.strip()) + b"0\r\nx: ", head(CHUNKED.strip()) + b"1;x="):
        reader = RequestReader()
        reader.feed(begun)
        fed = 0
        while reader.refusal is None:
            reader.feed(b"a" * 1_000)
            fed += 1_000
        assert reader.refusal.status == 431
        assert fed <= MAX_HEAD + 1_000


def test_a_chunked_body_is_bounded() -> None:
    """It does not say its size before it comes."""
    reader = RequestReader(most=10)
    assert reader.feed(head(CHUNKED.strip()) + b"6\r\nabcdef\r\n") == []
    assert reader.refusal is None
    reader.feed(b"6\r\nabcdef\r\n")
    assert reader.refusal is not None
    assert reader.refusal.status == 413


def test_a_client_that_waits_before_it_sends_a_body_is_noticed() -> None:
    """curl would wait a second before each large request."""
    reader = RequestReader()
    assert reader.feed(head(b"expect: 100-Continue", b"content-length: 1")) == []
    assert reader.expects
    assert len(reader.feed(b"x")) == 1
    assert not reader.expects


def test_a_client_of_http_1_0_expects_nothing() -> None:
    """It would take ``100 Continue`` for the answer."""
    reader = RequestReader()
    asked = head(b"expect: 100-continue", b"content-length: 1")
    reader.feed(asked.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert not reader.expects
