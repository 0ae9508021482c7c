"""Sends relayed calls to one target: as they are if the target speaks their format, translated if not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import msgspec
from msgspec.structs import replace

from flatout.errors import CallError, ContentFiltered, InvalidRequest, OutputError, Refused
from flatout.layer import Codec, Request, Response, StreamDecoder
from flatout.providers import codec_for
from flatout.values import Call, Reply, Target

from .inbound import Inbound, StreamWriter, inbound_for
from .relayed import wire_of
from .vectors import EmbeddingReplies

_BARE = Call("")
"""What an answer is held against if nothing is asked of it: it is whatever the provider says."""

HELD = 1_024
"""Bytes at the beginning of a streamed answer that are held back until text comes. Providers report an overload there,
as an event, and nothing of such an answer was shown yet: it can be asked for again."""


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
    """

    def __init__(self, target: Target, dialect: str) -> None:
        self._target = target
        self._dialect = dialect
        self._inbound: Inbound = inbound_for(dialect)
        spoken = spoken_by(target, dialect)
        self._same = spoken is not None
        self._inner: Codec = EmbeddingReplies(target) if dialect == "embeddings" else codec_for(spoken or target)

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
        assert isinstance(self._inner, Carrier), "it speaks the format"
        return self._inner.carry(_for_model(body, self._target.model), stream=stream)

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The reply; its ``body`` is the answer for the program.

        Raises:
            CallError: the provider failed. What the model said is an answer, whatever it is.
        """
        wire = wire_of(call)
        if not 200 <= response.status < 300:
            wire.refusal = response
        try:
            reply = self._inner.decode(_BARE if self._same else self._translated(call), response)
        except CallError as error:
            reply = answered(error)
        return replace(reply, body=response.body if self._same else self._inbound.write(reply))

    def instead(self, call: Call, refused: Request, error: CallError, /) -> Request | None:
        """As the target's own format does it, for a translation; None for a request that is not ours."""
        return None if self._same else self._inner.instead(self._translated(call), refused, error)

    def stream_decoder(self, call: Call, headers: Mapping[str, str], /) -> StreamDecoder:
        """Decodes a streamed answer. Its pieces are the program's bytes; the reply's ``body`` has the rest of them."""
        wire = wire_of(call)
        wire.headers_back = headers
        if self._same:
            return _AsItIs(self._inner.stream_decoder(_BARE, headers))
        inner = self._inner.stream_decoder(self._translated(call), headers)
        return _Translated(inner, self._inbound.writer(self._target.name))

    def _translated(self, call: Call) -> Call:
        """The call without the parameters that only its own format has.

        Raises:
            InvalidRequest: one of them changes the answer.
        """
        for name, value in (call.extra or {}).items():
            if value is not None and name not in self._inbound.harmless:
                raise InvalidRequest(f"{name}: {self._target.name} speaks another format, which has no such parameter")
        return replace(call, extra=None)


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


def answered(error: CallError) -> Reply:
    """The model's answer behind an error: for the program, a refusal or a cut-off answer is an answer.

    Raises:
        CallError: there is none, or it did not arrive whole.
    """
    if isinstance(error, OutputError | Refused | ContentFiltered) and error.reply is not None:
        return error.reply
    raise error


def _whole(body: bytes) -> bytes:
    """The request for the whole answer, in place of a streamed one. The cache needs it, to tell what is asked."""
    data = msgspec.json.decode(body)
    data.pop("stream", None)
    data.pop("stream_options", None)
    return msgspec.json.encode(data)


def _for_model(body: bytes, model: str) -> bytes:
    """The body with a target's own name for the model, which a client of the gateway need not know."""
    data = msgspec.json.decode(body)
    if data.get("model") == model:
        return body
    if not model:
        data.pop("model", None)
    else:
        data["model"] = model
    return msgspec.json.encode(data)


class _AsItIs:
    """Passes the bytes of a streamed answer on (a `StreamDecoder`), and reads along."""

    def __init__(self, inner: StreamDecoder) -> None:
        self._inner = inner
        self._held: list[bytes] | None = []
        self._size = 0

    @property
    def broken(self) -> bool:
        return self._inner.broken

    @property
    def complete(self) -> bool:
        return self._inner.complete

    def feed(self, data: bytes) -> list[Any]:
        spoken = self._inner.feed(data)
        if self._held is None:
            return [data]
        self._held.append(data)
        self._size += len(data)
        if not spoken and self._size < HELD:
            return []
        pieces, self._held = self._held, None
        return pieces

    def reply(self) -> Reply:
        try:
            reply = self._inner.reply()
        except CallError as error:
            reply = answered(error)
        return replace(reply, body=b"".join(self._held or ()))


class _Translated:
    """Writes a streamed answer in another format (a `StreamDecoder`)."""

    def __init__(self, inner: StreamDecoder, writer: StreamWriter) -> None:
        self._inner = inner
        self._writer = writer

    @property
    def broken(self) -> bool:
        return self._inner.broken

    @property
    def complete(self) -> bool:
        return self._inner.complete

    def feed(self, data: bytes) -> list[Any]:
        return [self._writer.text(text) for text in self._inner.feed(data)]

    def reply(self) -> Reply:
        try:
            reply = self._inner.reply()
        except CallError as error:
            reply = answered(error)
        return replace(reply, body=self._writer.end(reply))
