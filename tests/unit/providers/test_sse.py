"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flatout.errors import ProtocolError
from flatout.providers.wire.sse import EventParser, ServerSentEvent


def events(*chunks: bytes, max_event: int = 1_000) -> list[ServerSentEvent]:
    parser = EventParser(max_event)
    found = [event for chunk in chunks for event in parser.feed(chunk)]
    return found + parser.close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\n", [ServerSentEvent(b"a")]),
        (b"data:a\n\ndata: b\n\n", [ServerSentEvent(b"a"), ServerSentEvent(b"b")]),
        (b"data:  a\r\n\r\n", [ServerSentEvent(b" a")]),
        (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [ServerSentEvent(b"a\nb"), ServerSentEvent(b"c")]),
        (b"data: a\r\rdata: b\r\r", [ServerSentEvent(b"a"), ServerSentEvent(b"b")]),
        (b"data: a\r\n\ndata: b\n\r\n", [ServerSentEvent(b"a"), ServerSentEvent(b"b")]),
        (b"event: delta\ndata: a\n\ndata: b\n\n", [ServerSentEvent(b"a", "delta"), ServerSentEvent(b"b")]),
        (b"data: a\ndata: b\ndata\ndata:\n\n", [ServerSentEvent(b"a\nb\n\n")]),
        (b": OPENROUTER PROCESSING\n\n: keep-alive\n\ndata: a\n\n", [ServerSentEvent(b"a")]),
        (b"data: a\n: keep-alive\ndata: b\n\n", [ServerSentEvent(b"a\nb")]),
        (b"\n\n\n\ndata: a\n\n\n\n", [ServerSentEvent(b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [ServerSentEvent(b"a")]),
        (b"data: \xef\xbb\xbfa\n\n\xef\xbb\xbfdata: b\n\n", [ServerSentEvent(b"\xef\xbb\xbfa")]),
        (b"data: a\n\ndata: [DONE]", [ServerSentEvent(b"a"), ServerSentEvent(b"[DONE]")]),
        (b"data: a\n", [ServerSentEvent(b"a")]),
        (b"data: a\r", [ServerSentEvent(b"a")]),
        (b"event: ping\n\ndata: a\n\n", [ServerSentEvent(b"a")]),
        (b"id: 1\nretry: 5\nother\ndata: a\n\n", [ServerSentEvent(b"a")]),
        (b"data: \n\n", [ServerSentEvent(b"")]),
        ("data: ž\u2028\x0b\x0c\x1c\x85 \n\n".encode(), [ServerSentEvent("ž\u2028\x0b\x0c\x1c\x85 ".encode())]),
        (b"event: \xff\ndata: a\n\n", [ServerSentEvent(b"a", "\ufffd")]),
        (b"event: last", []),
        (b"", []),
    ],
)
def test_what_is_an_event(body: bytes, expected: list[ServerSentEvent]) -> None:
    """A piece of an answer would be lost, doubled, or taken for another one's."""
    assert events(body) == expected
    assert events(*(body[i : i + 1] for i in range(len(body)))) == expected


pieces = st.lists(
    st.sampled_from([b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"event: x\n", b"data: y", b"\xef\xbb\xbf"])
    | st.binary(max_size=4),
    max_size=30,
)


@given(parts=pieces, cuts=st.lists(st.integers(0, 120), max_size=12))
@example(parts=[b"data: a\r", b"\n\r", b"\ndata: b\n"], cuts=[8, 9, 10])
def test_cuts_do_not_matter(parts: list[bytes], cuts: list[int]) -> None:
    """An answer would depend on how the network happened to cut it."""
    body = b"".join(parts)
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    whole = events(body)
    assert events(*(body[start:end] for start, end in itertools.pairwise(edges))) == whole
    assert events(*(body[i : i + 1] for i in range(len(body)))) == whole


@pytest.mark.parametrize("piece", [b"x" * 50, b"data: " + b"x" * 44 + b"\n", b"data:\n" * 10])
def test_an_event_without_end_is_refused(piece: bytes) -> None:
    """A broken or hostile server would fill the memory."""
    parser = EventParser(200)
    parser.feed(piece)
    with pytest.raises(ProtocolError, match="larger than 200 bytes"):
        events(*[piece] * 50, max_event=200)


def test_a_long_stream_of_small_events_is_not_refused() -> None:
    """A long answer would be taken for a large event."""
    assert len(events(*[b"data: " + b"x" * 50 + b"\n\n"] * 100, max_event=200)) == 100
