"""Streamed answers: text as it arrives, and at the end the same Reply as for a complete answer.

Each wire format has an `Assembly`, which joins its events into the JSON that the provider would have sent in one piece.
So the rules for complete answers (what is an error, a refusal, half an answer) apply to streamed ones without a second
implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from flatout import errors
from flatout.errors import ProtocolError
from flatout.layer import Response
from flatout.providers.failures.naming import unusable
from flatout.providers.failures.problem import decode_json, is_problem
from flatout.values import Endpoint, Reply

from .sse import EventParser, ServerSentEvent

_FIELDS = (b"data:", b"event:", b":", b"id:", b"retry:")
"""How an event stream starts."""

_MARKUP = (b"{", b"[", b"<")
"""How JSON and web pages start, but no event. Some servers do not stream although they were asked to."""


def is_stream(body: bytes) -> bool:
    """Whether a body is an event stream. Some servers stream although they were not asked to."""
    return body[:1] != b"{" and body.lstrip().startswith(_FIELDS)


class Assembly(Protocol):
    """Joins the events of one answer. It never gets events that are errors.

    Attributes:
        complete: whether the answer is complete: the terminal event came, or whatever else ends an answer.
    """

    complete: bool

    def add(self, event: ServerSentEvent, data: dict[str, Any]) -> str:
        """Add an event, and return the text in it."""
        ...

    def whole(self) -> dict[str, Any]:
        """What came so far, in the shape of a complete answer."""
        ...


class StreamReader:
    """Decodes one streamed answer (a `flatout.layer.StreamDecoder`).

    Args:
        assembly: the wire format's way of joining events.
        finish: makes a Reply from an answer's JSON.
        decode: makes a Reply from a whole response, for a server that did not stream.
        headers: the response's headers, names in lower case.
        endpoint: where the answer comes from.
    """

    __slots__ = (
        *("_assembly", "_begun", "_broken", "_decode", "_endpoint", "_failure", "_finish", "_headers", "_parser"),
        "_pieces",
    )

    def __init__(
        self,
        assembly: Assembly,
        finish: Callable[[Response, dict[str, Any]], Reply],
        decode: Callable[[Response], Reply],
        headers: Mapping[str, str],
        endpoint: Endpoint,
    ) -> None:
        self._assembly = assembly
        self._finish = finish
        self._decode = decode
        self._headers = headers
        self._endpoint = endpoint
        self._parser = EventParser()
        self._pieces: list[bytes] | None = None  # of the body, if it is not a stream
        self._begun = False
        self._broken: str | None = None
        self._failure: Any = None  # the error in the stream

    @property
    def broken(self) -> bool:
        """Whether an invalid event came. Nothing that follows can make the answer complete."""
        return self._broken is not None

    @property
    def complete(self) -> bool:
        """Whether the answer is complete, even if the body has not ended yet."""
        return self._assembly.complete and self._broken is None

    def feed(self, data: bytes) -> list[str]:
        """The pieces of text in the next bytes of the body.

        `reply` raises the errors in the stream, after the text before them was returned.

        Raises:
            ProtocolError: an event is too large.
        """
        if not self._begun:
            data = data.lstrip(b"\r\n\t ")
            if not data:
                return []
            self._begun = True
            if data.startswith(_MARKUP):
                self._pieces = []
        if self._pieces is not None:
            self._pieces.append(data)
            return []
        return self._texts(self._parser.feed(data))

    def reply(self) -> Reply:
        """The complete answer, once the body has ended.

        Raises:
            CallError: the stream holds no usable answer, or broke off early (ProtocolError).
        """
        if self._pieces is not None:
            return self._decode(Response(200, self._headers, b"".join(self._pieces)))
        self._texts(self._parser.close())
        whole = self._assembly.whole()
        if self._failure is not None:
            whole = {**whole, "error": self._failure}
        if self._broken is None and (self._assembly.complete or whole.get("error")):
            return self._finish(self._response(whole), whole)
        raise self._cut_off(whole, self._broken or "closed the stream before the end of the answer")

    def _texts(self, events: list[ServerSentEvent]) -> list[str]:
        return [text for event in events if (text := self._text(event))]

    def _text(self, event: ServerSentEvent) -> str:
        if self._broken is not None or not event.data.strip() or event.data.startswith(b":"):
            return ""  # a leading colon: a comment that was sent as data (Vertex)
        if event.data == b"[DONE]":
            return self._assembly.add(event, {})
        try:
            data = decode_json(event.data)
        except ValueError:
            data = None
        if event.name == "error" or (isinstance(data, dict) and is_problem(data)):
            self._failure = self._failure or _failure(event, data)
            return ""
        if not isinstance(data, dict):
            self._broken = "sent an event that is not a complete JSON object"
            return ""
        return self._assembly.add(event, data)

    def _response(self, whole: dict[str, Any]) -> Response:
        try:
            body = msgspec.json.encode(whole)
        except RecursionError:  # the events could just be read, but this adds a level of nesting
            body = b""
        return Response(200, self._headers, body)

    def _cut_off(self, whole: dict[str, Any], text: str) -> errors.CallError:
        """The error for a stream that broke off. It keeps the part of the answer that came, which was paid for."""
        response = self._response(whole)
        partial: Reply | None = None
        try:
            partial = self._finish(response, whole)
        except errors.CallError as error:
            partial = error.reply
        if partial is not None and partial.usage.input_tokens is None and not partial.text:
            partial = None
        return unusable(ProtocolError, text, response, self._endpoint, partial)


def _failure(event: ServerSentEvent, data: Any) -> Any:
    """The error in an event, in the shape of the ``error`` of a complete answer."""
    if isinstance(data, dict):
        return data.get("error") or data
    return {"message": event.data.decode("utf-8", "replace")}
