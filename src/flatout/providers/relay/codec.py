"""Sends relayed calls to one target: as they are if the target speaks their format, translated if not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import msgspec
from msgspec.structs import replace

from flatout.errors import CallError, ContentFiltered, InvalidRequest, OutputError, Refused
from flatout.layer import CallNext, Codec, Request, Response, StreamDecoder
from flatout.providers import codec_for
from flatout.providers.wire.stream import is_stream
from flatout.values import Call, Reply, Target

from .inbound import EVENTS, JSON, REFUSED, Inbound, Origin, StreamWriter, inbound_for
from .relayed import Wire, wire_of
from .vectors import EmbeddingReplies

_BARE = Call("")
"""What an answer is held against if nothing is asked of it: it is whatever the provider says."""

HELD = 65_536
"""Bytes at the beginning of a streamed answer that are held back until the model says something. Providers report an
overload there, as an event, and nothing of such an answer was shown yet: it can be asked for again."""

_SPEAKS = re.compile(
    rb"""content_block_start|output_item\.added|\.delta"|"(?:tool_calls|function_call|functionCall|executableCode|audio
    |reasoning_content|reasoning_details)"\s*:\s*[\[{"]|"(?:reasoning|thinking)"\s*:\s*\"""",
    re.VERBOSE,
)
"""What the model says beside text: reasoning, tool calls and whatever else follows the events that begin an answer."""

_LONGEST = 64
"""The most bytes of a match. It may be cut: one piece has its beginning, the next one its end."""


@runtime_checkable
class Carrier(Protocol):
    """A wire format that also carries a body of somebody else."""

    def carry(self, body: bytes, /, *, stream: bool) -> Request:
        """A request with a given body, to the format's address and with its headers."""
        ...


class RelayCodec:
    """A wire format for relayed calls (a `flatout.layer.Codec`).

    Args:
        target: where the calls go.
        dialect: the wire format of their requests.
        wall: the wall clock, in Unix seconds.
    """

    def __init__(self, target: Target, dialect: str, wall: Callable[[], float] = time.time) -> None:
        self._target = target
        self._wall = wall
        self._inbound: Inbound = inbound_for(dialect)
        spoken = spoken_by(target, dialect)
        self._same = spoken is not None
        self._inner: Codec = EmbeddingReplies(target) if dialect == "embeddings" else codec_for(spoken or target)
        self._carrier = self._inner if isinstance(self._inner, Carrier) else None  # asked once: it takes 10 µs

    def encode(self, call: Call, /, *, stream: bool = False) -> Request:
        """The program's own request, or a translation.

        Raises:
            InvalidRequest: it cannot be translated.
        """
        wire = wire_of(call)
        if not self._same:
            return self._inner.encode(self._translated(call), stream=stream)
        body = wire.body if stream == wire.streams else _whole(wire.body)
        if wire.url is not None:
            return Request("POST", wire.url.reveal(), wire.headers, body)
        assert self._carrier is not None, "it speaks the format"
        return self._carrier.carry(for_model(body, self._target.model), stream=stream)

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The reply; its ``body`` is the answer for the program.

        Raises:
            CallError: the provider failed. What the model said is an answer, whatever it is.
            Refused, ContentFiltered: the model declined, and another one may be asked; the error's ``reply`` is the
                answer for the program, if none is.
        """
        wire = wire_of(call)
        if not 200 <= response.status < 300:
            wire.refusal = response
        wire.translated, wire.doubtful = not self._same, False
        if self._same and 200 <= response.status < 300 and _in_background(call):
            wire.doubtful = True
            return Reply(text="", body=response.body, headers=response.headers)
        try:
            reply = self._inner.decode(_BARE if self._same else self._translated(call), response)
        except (Refused, ContentFiltered) as error:
            if error.reply is not None:
                error.reply = self._as_answer(call, response, answered(error, wire))
            raise
        except CallError as error:
            reply = answered(error, wire)
        return self._as_answer(call, response, reply)

    def _as_answer(self, call: Call, response: Response, reply: Reply) -> Reply:
        """The reply with the answer for the program. It asked for no stream, but some servers stream all the same."""
        if self._same and not is_stream(response.body):
            return replace(reply, body=response.body)
        wire_of(call).translated = True
        written = self._inbound.write(reply, self._origin(call, reply.model))
        return replace(reply, body=written, headers={**reply.headers, **JSON})

    def instead(self, call: Call, refused: Request, error: CallError, /) -> Request | None:
        """As the target's own format does it, for a translation; None for a request that is not ours."""
        return None if self._same else self._inner.instead(self._translated(call), refused, error)

    def stream_decoder(self, call: Call, headers: Mapping[str, str], /) -> StreamDecoder:
        """Decodes a streamed answer. Its pieces are the program's bytes; the reply's ``body`` has the rest of them."""
        wire = wire_of(call)
        wire.headers_back = headers if self._same else {**headers, **EVENTS}
        wire.translated, wire.doubtful = not self._same, False
        if self._same:
            return _AsItIs(self._inner.stream_decoder(_BARE, headers), wire)
        inner = self._inner.stream_decoder(self._translated(call), headers)
        return _Translated(inner, self._inbound.writer(self._origin(call)), wire)

    def _origin(self, call: Call, model: str | None = None) -> Origin:
        return Origin.of(model or self._target.model, self._wall(), call.extra)

    def _translated(self, call: Call) -> Call:
        """The call without the parameters that only its own format has.

        Raises:
            InvalidRequest: one of them changes the answer.
        """
        for name, value in (call.extra or {}).items():
            if value is not None and name not in self._inbound.harmless:
                raise InvalidRequest(f"{name}: {self._target.name} speaks another format, which has no such parameter")
        return replace(call, extra=self._in_turn(call))

    def _in_turn(self, call: Call) -> Mapping[str, Any] | None:
        """The wish for one tool call at a time, which OpenAI and Anthropic both know."""
        asks = bool(call.tools) and (call.extra or {}).get("parallel_tool_calls") is False
        knows = self._target.endpoint.dialect in ("openai", "openai-responses", "anthropic")
        return {"parallel_tool_calls": False} if asks and knows else None


def spoken_by(target: Target, dialect: str) -> Target | None:
    """The target in a format that it speaks: its own, or another of its provider's; None if it does not speak it."""
    endpoint = target.endpoint
    if dialect == endpoint.dialect:
        return target
    if dialect == "embeddings":
        return target if endpoint.dialect in ("openai", "openai-responses") else None
    if dialect == "openai" and endpoint.dialect == "openai-responses":
        return replace(target, endpoint=replace(endpoint, dialect=dialect))
    if dialect == "openai-responses" and endpoint.limit_headers in ("openai", "azure"):
        return replace(target, endpoint=replace(endpoint, dialect=dialect))
    return None


def answered(error: CallError, wire: Wire) -> Reply:
    """The model's answer behind an error: for the program, a refusal or a cut-off answer is an answer.

    Raises:
        CallError: the model has not answered, or its answer did not arrive whole.
    """
    if not isinstance(error, OutputError | Refused | ContentFiltered) or error.reply is None:
        raise error
    wire.doubtful = True
    return replace(error.reply, finish_reason=REFUSED) if isinstance(error, Refused) else error.reply


async def declined(call: Call, call_next: CallNext, /) -> Reply:
    """A layer in which a model's refusal becomes the program's answer, when no other model is asked."""
    try:
        return await call_next(call)
    except (Refused, ContentFiltered) as error:
        if error.reply is None or not error.reply.body:
            raise
        return error.reply


def _in_background(call: Call) -> bool:
    """Whether the program asks to be answered before the model has: it will fetch the answer itself."""
    return bool((call.extra or {}).get("background"))


def _whole(body: bytes) -> bytes:
    """The request for the whole answer, in place of a streamed one. The cache needs it, to tell what is asked."""
    data = msgspec.json.decode(body)
    data.pop("stream", None)
    data.pop("stream_options", None)
    return msgspec.json.encode(data)


def for_model(body: bytes, model: str) -> bytes:
    """The body with a target's own name for the model, which a client of the gateway need not know."""
    data = msgspec.json.decode(body)
    if data.get("model") == model:
        return body
    if not model:
        data.pop("model", None)
    else:
        data["model"] = model
    return msgspec.json.encode(data)


class _Relaying:
    """What both decoders of streamed answers share (see `StreamDecoder`)."""

    def __init__(self, inner: StreamDecoder, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire
        self._shown = False  # whether the program has some of the answer

    @property
    def broken(self) -> bool:
        return self._inner.broken

    @property
    def complete(self) -> bool:
        return self._inner.complete

    def reply(self) -> Reply:
        """The model's answer, whatever it is; its ``body`` is what the program lacks of it.

        Raises:
            CallError: it did not arrive whole.
            Refused, ContentFiltered: the model declined, and another one may be asked: nothing was shown yet; see
                `RelayCodec.decode`.
        """
        try:
            reply = self._inner.reply()
        except (Refused, ContentFiltered) as error:
            reply = self._ended(answered(error, self._wire))
            if not self._shown:
                error.reply = reply
                raise
            return reply
        except CallError as error:
            reply = answered(error, self._wire)
        return self._ended(reply)

    def _ended(self, reply: Reply) -> Reply:
        """The reply, with what is still to be sent to the program."""
        raise NotImplementedError


class _AsItIs(_Relaying):
    """Passes the bytes of a streamed answer on, and reads along."""

    def __init__(self, inner: StreamDecoder, wire: Wire) -> None:
        super().__init__(inner, wire)
        self._held: bytearray | None = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        spoken = self._inner.feed(data)
        if self._held is None:
            return [data]
        begin = max(0, len(self._held) - _LONGEST)
        self._held += data
        if not spoken and len(self._held) < HELD and _SPEAKS.search(self._held, begin) is None:
            return []
        held, self._held, self._shown = bytes(self._held), None, True
        return [held]

    def _ended(self, reply: Reply) -> Reply:
        return replace(reply, body=bytes(self._held or b""))


class _Translated(_Relaying):
    """Writes a streamed answer in another format."""

    def __init__(self, inner: StreamDecoder, writer: StreamWriter, wire: Wire) -> None:
        super().__init__(inner, wire)
        self._writer = writer

    def feed(self, data: bytes) -> list[Any]:
        pieces = [self._writer.text(text) for text in self._inner.feed(data)]
        self._shown = self._shown or bool(pieces)
        return pieces

    def _ended(self, reply: Reply) -> Reply:
        return replace(reply, body=self._writer.end(reply))
