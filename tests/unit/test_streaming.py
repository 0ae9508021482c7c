"""``client.stream``: text as it comes, and answers in pieces behind a batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flatout import AttemptTimeout, Call, Client, InvalidRequest, ProtocolError, ServerError
from flatout.layer import Request, Response
from flatout.testing import run_virtual
from tests.support.scripted_wire import client, completion, refusal

Piece = bytes | float | Exception


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


END = (
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\ndata: [DONE]\n\n'
)


class Streaming:
    """A transport whose answers come in pieces: bytes, seconds of silence, or an error to raise."""

    def __init__(self, *answers: Response | list[Piece]) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.left = 0

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Any]:
        self.requests.append(request)
        answer = self.answers.pop(0)
        try:
            yield _Answer(answer)
        finally:
            self.left += 1

    async def close(self) -> None:
        pass


class _Answer:
    def __init__(self, answer: Response | list[Piece]) -> None:
        whole = isinstance(answer, Response)
        self.status = answer.status if whole else 200
        self.headers = answer.headers if whole else {}
        self._pieces: list[Piece] = [answer.body] if whole else answer

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                yield piece


def virtually(test: Callable[[Client], Any], wire: Streaming, **options: Any) -> Any:
    async def main() -> Any:
        async with client(wire, **options) as made:
            return await test(made)

    return run_virtual(main())


def test_text_comes_in_pieces_and_the_reply_at_the_end():
    """A chat window would stay empty until the whole answer is there."""
    wire = Streaming([chunk("Hel"), 1.0, chunk("lo"), 1.0, END])

    async def test(made: Client) -> Any:
        loop, seen = asyncio.get_running_loop(), []
        began = loop.time()
        stream = made.stream("hi", temperature=0)
        with pytest.raises(RuntimeError, match="read to its end"):
            _ = stream.reply
        async for text in stream:
            seen.append((text, round(loop.time() - began, 3)))
        return seen, stream.reply

    seen, reply = virtually(test, wire)
    assert seen == [("Hel", 0.0), ("lo", 1.0)]
    assert (reply.text, reply.usage.output_tokens) == ("Hello", 3)
    assert json.loads(wire.requests[0].body)["stream"] is True
    assert wire.left == 1


def test_a_transport_may_pour_its_answers_into_a_function():
    """A transport that somebody wrote to be quick would fail, or be asked for its pieces one by one."""

    class Poured(_Answer):
        chunks = None

        async def pour(self, sink: Callable[[bytes], bool]) -> None:
            assert all(sink(piece) for piece in self._pieces if isinstance(piece, bytes))

    class Pouring(Streaming):
        @asynccontextmanager
        async def stream(self, request: Request) -> AsyncIterator[Any]:
            yield Poured(self.answers.pop(0))

    async def test(made: Client) -> list[str]:
        return [text async for text in made.stream("hi")]

    assert virtually(test, Pouring([chunk("Hel"), chunk("lo"), END])) == ["Hel", "lo"]


def test_what_fails_before_the_first_text_is_tried_again():
    """A stream would be less reliable than a call."""
    wire = Streaming(refusal(500), [ProtocolError("cut")], [chunk("yes"), END])

    async def test(made: Client) -> list[str]:
        return [text async for text in made.stream("hi")]

    assert virtually(test, wire) == ["yes"]
    assert len(wire.requests) == 3


@pytest.mark.parametrize("fault", [[chunk("ye"), ProtocolError("cut")], [chunk("ye")], [chunk("ye"), b"data: {"]])
def test_what_breaks_off_after_the_first_text_is_an_error_and_not_begun_anew(fault):
    """Half an answer would be taken for a whole one, or its beginning shown twice."""
    wire = Streaming(fault, [chunk("yes"), END])
    seen: list[str] = []

    async def test(made: Client) -> None:
        async for text in made.stream("hi"):
            seen.append(text)

    with pytest.raises(ProtocolError):
        virtually(test, wire)
    assert seen == ["ye"]
    assert len(wire.requests) == 1


def test_a_server_that_does_not_stream_is_read_all_the_same():
    """Its answers would come out empty."""
    wire = Streaming(completion("all at once"))

    async def test(made: Client) -> Any:
        stream = made.stream("hi")
        return [text async for text in stream], stream.reply.text

    assert virtually(test, wire) == (["all at once"], "all at once")


def test_leaving_a_stream_early_ends_the_exchange():
    """The provider would go on generating, and billing, for nobody."""
    wire = Streaming([chunk("a"), 9.0, chunk("b"), END])

    async def test(made: Client) -> tuple[float, int]:
        async with made.stream("hi") as stream:
            async for _ in stream:
                break
        return asyncio.get_running_loop().time(), wire.left

    at, left = virtually(test, wire)
    assert left == 1
    assert at < 9.0


def test_a_slow_reader_does_not_make_the_answer_time_out():
    """Whoever prints slowly would lose the rest of an answer that had come long ago."""
    wire = Streaming([chunk("a"), chunk("b"), END])

    async def test(made: Client) -> list[str]:
        seen = []
        async for text in made.stream("hi"):
            seen.append(text)
            await asyncio.sleep(60)
        return seen

    assert virtually(test, wire, timeout=10, between_bytes=1.0) == ["a", "b"]


def test_a_batch_notices_a_dead_connection_by_its_silence():
    """A connection that died in the middle of an answer would hold its call for the whole timeout."""
    wire = Streaming([99.0], [chunk("ye"), 99.0, chunk("s"), END], [chunk("y"), 4.0, chunk("es"), END])

    async def test(made: Client) -> Any:
        results = await made.gather([Call("hi")])
        return results[0], asyncio.get_running_loop().time()

    result, took = virtually(test, wire, first_byte=10.0, between_bytes=5.0)
    assert result.text == "yes"
    assert result.attempts == 3
    assert took < 10 + 5 + 4 + 5


@pytest.mark.parametrize(
    ("pieces", "said"),
    [([99.0], "not a byte of the answer within 10 s"), ([chunk("a"), 99.0], "not a byte for 5 s")],
)
def test_the_error_says_which_silence_it_was(pieces, said):
    """Who reads it could not tell which limit to raise."""

    async def test(made: Client) -> Any:
        return await made.result("hi")

    result = virtually(test, Streaming(pieces), first_byte=10.0, between_bytes=5.0, retries=0)
    assert isinstance(result.error, AttemptTimeout)
    assert said in str(result.error)


def test_an_error_status_is_named_in_a_stream_too():
    """A refused stream would be a broken one instead of what it is."""

    async def test(made: Client) -> list[str]:
        return [text async for text in made.stream("hi")]

    with pytest.raises(ServerError):
        virtually(test, Streaming(refusal(500)), retries=0)


def stream_options(wire: Streaming) -> list[bool]:
    """Of each request, whether it asks for the usage."""
    return ["stream_options" in json.loads(request.body) for request in wire.requests]


def unknown(status: int = 400) -> Response:
    body = b'{"error": {"message": "Unrecognized request argument supplied: stream_options"}}'
    return Response(status, {}, body)


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_the_question_for_the_usage_is_asked_without(status):
    """No answer could be streamed from it, and with a bound on silence none could be had at all."""
    wire = Streaming(unknown(status), [chunk("a"), END], [chunk("b"), END])

    async def test(made: Client) -> Any:
        return [await made.result("1"), await made.result("2")]

    first, second = virtually(test, wire, between_bytes=5, retries=0)
    assert (first.text, second.text) == ("a", "b")
    assert (first.attempts, second.attempts) == (2, 1)
    assert stream_options(wire) == [True, False, False]


def test_another_refusal_is_final():
    """A request that can never succeed would be sent twice, or without end."""
    wire = Streaming(refusal(400), unknown(), unknown())

    async def test(made: Client) -> Any:
        return [
            await made.result("1"),
            await made.result("2"),
        ]

    results = virtually(test, wire, between_bytes=5, retries=0)
    assert [type(result.error) for result in results] == [InvalidRequest, InvalidRequest]
    assert len(wire.requests) == 3


def test_what_the_caller_asks_for_is_not_taken_out():
    """A parameter that somebody set would silently be left out; and None could not take out flatout's own."""
    wire = Streaming(unknown(), [chunk("a"), END])

    async def test(made: Client) -> Any:
        own = Call("1", extra={"stream_options": {"include_usage": True}})
        return [await made.result(own), await made.result(Call("2", extra={"stream_options": None}))]

    refused, left_out = virtually(test, wire, between_bytes=5, retries=0)
    assert isinstance(refused.error, InvalidRequest)
    assert left_out.text == "a"
    assert stream_options(wire) == [True, False]


@pytest.mark.parametrize("end", [ProtocolError("cut"), 1_000.0])
@pytest.mark.parametrize("last", [END, END.removesuffix(b"data: [DONE]\n\n")])
def test_what_happens_to_the_connection_behind_a_whole_answer_does_not_matter(last, end):
    """An answer that is there, and paid for, would be thrown away because its server does not say goodbye."""
    wire = Streaming([chunk("Hi"), last, end])

    async def test(made: Client) -> Any:
        began = asyncio.get_running_loop().time()
        return await made.result("1"), asyncio.get_running_loop().time() - began

    result, seconds = virtually(test, wire, between_bytes=60, retries=0)
    assert (result.text, result.reply.usage.output_tokens, result.attempts) == ("Hi", 3, 1)
    assert seconds < 60


@pytest.mark.parametrize("bound", [{"timeout": 10.0}, {"deadline": 10.0}])
@pytest.mark.parametrize("behind", [[1_000.0], [1.0, b": still here\n\n"] * 1_000])
def test_a_whole_answer_is_taken_before_its_time_ends(bound, behind):
    """An answer that came late would be lost, or paid for twice, to a server that never ends its bodies."""
    wire = Streaming([7.0, chunk("Hi"), END, *behind], [chunk("again"), END])

    async def test(made: Client) -> Any:
        return await made.result("1")

    result = virtually(test, wire, between_bytes=60, first_byte=60, **bound)
    assert (result.text, result.attempts) == ("Hi", 1)
