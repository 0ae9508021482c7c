"""flatout's own HTTP transport and the one over aiohttp, fed the same bytes, without a socket.

aiohttp has read answers for many years. Where the two differ on purpose, `STRICTER` and `MORE_PATIENT` say why.
"""

from __future__ import annotations

import asyncio
import gzip
import traceback
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import brotli
import pytest
from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import CallError, ConnectError, TransportError
from flatout.layer import Request
from flatout.transports.address import Origin
from flatout.transports.answer import _READ_TOGETHER
from flatout.transports.http import HttpTransport
from flatout.transports.http1 import Connection
from flatout.transports.over_aiohttp import AiohttpTransport
from flatout.transports.pool import Pool
from tests.support.byte_wire import Wire, cut, turns

REQUEST = Request("POST", "http://example.test/v1", {"content-type": "application/json"}, b"{}")


class Outcome(NamedTuple):
    """What became of a request: an answer, a named error, or neither ("waits")."""

    kind: str
    status: int = 0
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    said: str = ""

    @classmethod
    def of(cls, task: asyncio.Task[Any]) -> Outcome:
        if not task.done():
            return cls("waits")
        error = task.exception()
        if isinstance(error, CallError):
            return cls(type(error).__name__, said=str(error))
        answer = task.result()
        return cls("answer", answer.status, answer.body, tuple(answer.headers.items()))

    @property
    def shown(self) -> tuple[Any, ...]:
        """All that must be the same over both. Words may differ, and only ours joins headers that are read together."""
        return (*self[:3], tuple((name, value) for name, value in self.headers if name not in _READ_TOGETHER))


class Wires:
    """Opens wires instead of sockets."""

    origin = Origin("http", "example.test", 80)
    first_hop = "example.test:80"
    proxy = None

    def __init__(self) -> None:
        self.last: Wire | None = None

    def wired(self, protocol: Any) -> Any:
        self.last = Wire(protocol)
        return protocol

    async def dial(self, make: Any) -> Connection:
        return self.wired(make())

    async def for_aiohttp(self, *_: Any) -> ResponseHandler:
        return self.wired(ResponseHandler(asyncio.get_running_loop()))


def outcome(over: type, pieces: Sequence[bytes], *, ends: bool) -> Outcome:
    """What becomes of a request that is answered with some bytes."""

    async def main() -> Outcome:
        wires = Wires()
        transport = over()
        if over is HttpTransport:
            transport._pools[wires.origin] = Pool(wires, connect_timeout=10.0, keepalive=4.0)
        with patch.object(TCPConnector, "_create_connection", wires.for_aiohttp):
            asked = asyncio.ensure_future(transport.send(REQUEST))
            await turns()
            assert wires.last is not None
            await wires.last.send(pieces)
            if ends:
                await wires.last.end()
            await turns()
            try:
                return Outcome.of(asked)
            finally:
                asked.cancel()
                await asyncio.wait([asked])
                await transport.close()
                await turns(5)

    return asyncio.run(main())


# -- what servers send

WORDS = st.text("abcXYZ019-_", min_size=1, max_size=8)
BODIES = st.one_of(st.binary(max_size=60), st.just(b'{"choices": []}'))
PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    pieces = [piece for piece in cut(body, draw(st.lists(st.integers(0, 60), max_size=4))) if piece]
    size = draw(st.sampled_from(["%x", "%X", "0%x", "%x;name=value", '%x;a="b;c"']))
    trailer = draw(st.sampled_from(["", "x-sum: 1\r\n", "a: 1\r\nstatus: 500\r\n"]))
    blocks = [(size % len(piece)).encode() + b"\r\n" + piece + b"\r\n" for piece in pieces]
    return b"".join([*blocks, b"0\r\n", trailer.encode(), b"\r\n"])


class Sample(NamedTuple):
    """A valid answer, and what it says. It is framed if its head says where its body ends."""

    data: bytes
    status: int
    body: bytes
    framed: bool


VALUES = ["", "a", " a b ", "é", "a\tb", "a, b"]
CONNECTION = [
    [],
    [("connection", "close")],
    [("Connection", "keep-alive")],
    [("connection", "upgrade"), ("upgrade", "h2c")],
    [("set-cookie", "a"), ("Set-Cookie", "b")],
]


@st.composite
def answers(draw: st.DrawFn) -> Sample:
    """Valid answers, in every framing."""
    interim = draw(st.lists(st.sampled_from([100, 102, 103, 199]), max_size=3))
    begin = b"".join(b"HTTP/1.1 %d Wait\r\nlink: </x>\r\n\r\n" % status for status in interim)
    status = draw(st.sampled_from([200, 200, 201, 204, 400, 404, 429, 500, 529, 999]))
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    reason = draw(st.sampled_from(["", " OK", " Not a word: é", " "]))
    headers = draw(st.lists(st.tuples(WORDS.map("x-".__add__), st.sampled_from(VALUES)), max_size=4))
    body = b"" if status == 204 else draw(BODIES)
    coding = draw(st.sampled_from([None, None, *PACKERS]))
    packed = body if coding is None or not body else PACKERS[coding](body)
    if coding is not None:
        headers.append(("Content-Encoding", coding))
    framing = "none" if status == 204 else draw(st.sampled_from(["length", "chunked", "end"]))
    if framing == "length":
        headers.insert(draw(st.integers(0, len(headers))), ("Content-Length", str(len(packed))))
    elif framing == "chunked":
        headers.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked", " chunked "]))))
        packed = draw(chunked(packed))
    headers += draw(st.sampled_from(CONNECTION))
    blanks = st.sampled_from(["", " ", "  "])
    lines = [f"HTTP/{version} {status}{reason}", *(f"{name}:{draw(blanks)}{value}" for name, value in headers), "", ""]
    return Sample(begin + "\r\n".join(lines).encode() + packed, status, body, framing != "end")


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Answers with something wrong: cut off, with bytes changed, added or taken away, or lying about themselves."""
    data = bytearray(draw(answers()).data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "change", "add", "remove", "header", "more"])):
            case "cut":
                del data[at:]
            case "change" if at < len(data):
                data[at] = draw(st.sampled_from([0, 10, 13, 32, 58, 127, 255, data[at] ^ 1]))
            case "add":
                data[at:at] = draw(st.sampled_from([b"\r\n", b"\n", b" ", b"\t", b"\0", b"0", b"a", b"\xff"]))
            case "remove":
                del data[at : at + draw(st.integers(1, 5))]
            case "header":
                wrong = draw(st.sampled_from(LIES))
                place = data.find(b"\r\n", at)
                if place >= 0:
                    data[place + 2 : place + 2] = wrong
            case "more":
                data += draw(st.sampled_from([b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"garbage", b"\0"]))
    return bytes(data)


LIES = [
    b"content-length: 5\r\n",
    b"content-length: 5000\r\n",
    b"content-length: -1\r\n",
    b"content-length: 99999999999999999999\r\n",
    b"content-length: 0x5\r\n",
    b"content-length: 1, 1\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"transfer-encoding: gzip, chunked\r\n",
    b"transfer-encoding: chunked, identity\r\n",
    b"content-encoding: gzip\r\n",
    b"content-encoding: utf-8\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b" folded\r\n",
    b": no name\r\n",
    b"no colon\r\n",
    b"name : value\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
]
CUTS = st.lists(st.integers(0, 400), max_size=6)

# -- where the two differ on purpose

STRICTER = {
    # llhttp's leniency flags stay off; aiohttp sets some of them for answers
    "Missing expected": "a line that ends with LF alone",
    "Expected LF": "a CR that ends no line",
    "Invalid header": "a control character in a header, or a folded one",
    "Unexpected": "blanks where a header begins",
    "Invalid character in": "a chunk's size or a length that is no number",
    "can't be present with": "a length beside chunks, also behind them; aiohttp waits for ever where it comes behind",
    "was not asked for": "a transfer coding beside chunked, or several codings; aiohttp sees one or none",
    "promises": "a packed body that breaks off, or is followed by something; aiohttp takes what there is",
    "no status": "a status below 100; aiohttp takes its body for an interim answer's",
    "without an answer": "an end within an answer's head, of which aiohttp makes an error of another name or none",
}
"""Ours is an error, in these words; aiohttp reads an answer, or waits for more."""

MORE_PATIENT = {
    "not valid HTTP": "bytes behind an answer: the answer was paid for, and stands. The connection is not used again",
    "cut off": "bytes behind a packed body, which may be another member of it: the end decides",
}
"""aiohttp's is an error, in these words; ours reads an answer, or waits for more."""


def explained(ours: Outcome, theirs: Outcome) -> str | None:
    """Why the two differ on purpose; None if nobody knows."""
    if ours.shown == theirs.shown:
        return "the same"
    if ours.kind == "ProtocolError":
        return next((why for words, why in STRICTER.items() if words in ours.said), None)
    if theirs.kind == "ProtocolError":
        return next((why for words, why in MORE_PATIENT.items() if words in theirs.said), None)
    if ", " in dict(ours.headers).get("content-encoding", ""):
        return "two headers say how the body is packed: aiohttp reads only the last"
    return None


@given(answers(), CUTS, st.booleans())
def test_both_read_a_valid_answer(sample, cuts, ends):
    """An answer that was paid for would be lost, or be another one than the server sent."""
    pieces = list(cut(sample.data, cuts))
    ours = outcome(HttpTransport, pieces, ends=ends)
    assert ours.shown == outcome(AiohttpTransport, pieces, ends=ends).shown
    assert ours.kind == ("answer" if ends or sample.framed else "waits")
    if ours.kind == "answer":
        assert (ours.status, ours.body) == (sample.status, sample.body)


@given(spoilt(), CUTS, st.booleans())
def test_both_make_the_same_of_a_spoilt_answer(data, cuts, ends):
    """Half an answer would pass for a whole one, somebody's garbage for an answer, or a call wait for its timeout."""
    pieces = list(cut(data, cuts))
    ours, theirs = outcome(HttpTransport, pieces, ends=ends), outcome(AiohttpTransport, pieces, ends=ends)
    assert ours.kind != "waits" or not ends
    assert explained(ours, theirs) is not None, (ours, theirs)


@given(spoilt(), CUTS, st.booleans())
def test_what_is_read_does_not_depend_on_how_it_arrives(data, cuts, ends):
    """A call would fail one time and succeed another time, as the network happens to cut."""
    pieces = list(cut(data, cuts))
    assert outcome(HttpTransport, pieces, ends=ends).shown == outcome(HttpTransport, [data], ends=ends).shown


@given(answers().filter(lambda sample: sample.framed), st.floats(0, 1, exclude_max=True), CUTS)
def test_half_an_answer_is_none(sample, share, cuts):
    """It would be kept, and paid for, as if it were all."""
    half = sample.data[: int(share * len(sample.data))]
    assert outcome(HttpTransport, list(cut(half, cuts)), ends=False).kind == "waits"
    assert outcome(HttpTransport, list(cut(half, cuts)), ends=True).kind == "ProtocolError"


BOTH = pytest.mark.parametrize("make", [HttpTransport, AiohttpTransport])


@BOTH
def test_a_closed_transport_takes_no_request(make):
    """A retry that was asleep would open a new connection after everything was closed, and leak it."""

    async def main() -> None:
        transport = make()
        await transport.close()
        with pytest.raises(ConnectError, match="closed") as caught:
            await transport.send(Request("POST", "http://127.0.0.1:9/", {}, b"{}"))
        assert caught.value.should_retry is False
        assert repr(transport) in ("HttpTransport(0 connections in use, 0 idle)", "AiohttpTransport(None)")

    asyncio.run(main())


@BOTH
@pytest.mark.parametrize("url", ["http://host:99999/", "ftp://x/", "http://", "nonsense"])
def test_an_unusable_address_opens_nothing(make, url):
    """A wrong base URL would show as something else, or be asked for again and again."""

    async def main() -> None:
        transport = make()
        with pytest.raises(ConnectError, match="no usable URL") as caught:
            await transport.send(Request("POST", url, {}, b"{}"))
        assert caught.value.should_retry is False
        assert "0 connections in use, 0 idle" in repr(transport)
        await transport.close()

    asyncio.run(main())


@BOTH
def test_an_error_holds_nothing_of_the_request(make):
    """A debugger, a crash report or a logger that follows contexts would show the headers, and so the key."""

    async def main() -> None:
        transport = make()
        request = Request("POST", "http://127.0.0.1:9/v1?key=hidden-in-the-url", {"authorization": "Bearer hid"}, b"{}")
        failures = []
        for _ in range(2):
            try:
                await transport.send(request)
            except TransportError as error:
                failures.append(error)
            try:
                async with transport.stream(request):
                    pass
            except TransportError as error:
                failures.append(error)
            await transport.close()
        for error in failures:
            assert error.__context__ is None
            assert error.__cause__ is None
            report = traceback.TracebackException.from_exception(error, capture_locals=True).format()
            assert "hid" not in "".join(report)
        assert len(failures) == 4

    asyncio.run(main())
