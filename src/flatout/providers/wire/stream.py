"""Answers that come in pieces: text as it arrives, and at the end the same Reply that a whole answer makes.

Each wire format has an `Assembly`, which puts its events together into the JSON that the provider would have sent in
one piece. So everything that is known of whole answers (what is an error, a refusal, half an answer) holds for
streamed ones without a second reading of it.
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
"""How an event stream begins."""

_MARKUP = (b"{", b"[", b"<")
"""How JSON and web pages begin, and no event does: some servers answer in one piece although a stream was asked for."""


def is_stream(body: bytes) -> bool:
    """Whether a body is an event stream, which some servers send although a whole answer was asked for."""
    return body[:1] != b"{" and body.lstrip().startswith(_FIELDS)


class Assembly(Protocol):
    """Puts the events of one answer together. Events that are errors never reach it.

    Attributes:
        complete: whether nothing more has to come: the terminal frame did, or what ends an answer without one.
    """

    complete: bool

    def add(self, event: ServerSentEvent, data: dict[str, Any]) -> str:
        """Take an event in, and return the text in it."""
        ...

    def whole(self) -> dict[str, Any]:
        """What came so far, in the shape of a whole answer."""
        ...


class StreamReader:
    """Decodes one streamed answer (a `flatout.layer.StreamDecoder`).

    Args:
        assembly: the wire format's way of putting events together.
        finish: makes a Reply of an answer's JSON.
        decode: makes a Reply of a whole response, for a server that did not stream.
        headers: the response's headers, names in lower case.
        endpoint: whose answer it is.
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
        self._pieces: list[bytes] | None = None  # the body, where it is no stream
        self._begun = False
        self._broken: str | None = None
        self._failure: Any = None  # the error that stands in the stream

    @property
    def broken(self) -> bool:
        """Whether an event came that is none: what follows cannot make the answer whole any more."""
        return self._broken is not None

    @property
    def complete(self) -> bool:
        """Whether nothing more has to come, though the body has not ended yet."""
        return self._assembly.complete and self._broken is None

    def feed(self, data: bytes) -> list[str]:
        """The pieces of text in the next bytes of the body.

        Errors that stand in the stream are raised by `reply`, after the text before them was handed out.

        Raises:
            ProtocolError: one event is larger than any answer.
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
        """The whole answer, once the body has ended.

        Raises:
            CallError: the stream holds no usable answer, or it broke off before its end (ProtocolError).
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
            return ""  # a colon at its begin: a comment that was sent as data (Vertex)
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
            self._broken = "sent an event that is no JSON object, or half of one"
            return ""
        return self._assembly.add(event, data)

    def _response(self, whole: dict[str, Any]) -> Response:
        try:
            body = msgspec.json.encode(whole)
        except RecursionError:  # it was just shallow enough to be read, and has a level more now
            body = b""
        return Response(200, self._headers, body)

    def _cut_off(self, whole: dict[str, Any], text: str) -> errors.CallError:
        """The error for a stream that broke off. What came of the answer is kept: it was paid for."""
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
    """The error in an event, as it stands under ``error`` in a whole answer."""
    if isinstance(data, dict):
        return data.get("error") or data
    return {"message": event.data.decode("utf-8", "replace")}
