"""What all wire formats share: how a call becomes a request, and when an answer is usable.

A 200 is not yet an answer. It may hold an error, a refusal, half an answer or nothing; each of them is an error of its
own class. A wire format only says where things are in its JSON.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from sys import intern
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flatout import errors
from flatout.errors import InvalidRequest
from flatout.layer import Request, Response, ValidatorRaised
from flatout.providers.failures.naming import error_in_answer, error_of, request_id, unusable
from flatout.providers.failures.problem import decode_json, is_problem
from flatout.providers.schemas.fitting import fitted, validator_raised
from flatout.providers.tools import check_arguments, check_called, wants_tool
from flatout.providers.wire.answer import Answer, unfinished
from flatout.providers.wire.payload import add_extra, encode_json, headers_of
from flatout.providers.wire.stream import Assembly, StreamReader, is_stream
from flatout.values import Call, Message, Reply, Target
from flatout.values.reply import NATIVE, said_in
from flatout.values.secret import Secret, Veiled

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class JSONCodec(ABC):
    """A wire format of JSON over POST, for one target. A format implements the abstract methods.

    Raises:
        ConfigError: the endpoint has no address, or its key or a header cannot be sent in a header.
    """

    merged: frozenset[str] = frozenset()
    """Objects of the payload that ``extra`` is merged into, because they also hold parameters of the call."""

    translated: frozenset[str] = frozenset()
    """Parameters in ``extra`` that the payload already holds under the format's own name."""

    def __init__(self, target: Target, **headers: str) -> None:
        self._endpoint = target.endpoint
        self._model = target.model
        self._maker = {"dialect": target.endpoint.dialect, "server": urlsplit(target.endpoint.base_url).hostname}
        self._urls = (Secret(self._url(stream=False)), Secret(self._url(stream=True)))  # a query may hold a key
        whole = headers_of(target.endpoint, **headers)
        self._headers = (whole, Veiled({**whole, "accept": "text/event-stream"}))

    def encode(self, call: Call, /, *, stream: bool = False) -> Request:
        """The request for a call.

        Args:
            call: the call.
            stream: whether to ask for a streamed answer, for `stream_decoder`.

        Raises:
            InvalidRequest: the call asks for something that this provider cannot do, or that cannot be sent.
        """
        try:
            payload = self._payload(call, stream)
        except RecursionError:
            raise InvalidRequest("the call is nested too deeply, or contains itself") from None
        add_extra(payload, call, self.merged, self.translated)
        return Request("POST", self._urls[stream].reveal(), self._headers[stream], encode_json(payload))

    def carry(self, body: bytes, /, *, stream: bool) -> Request:
        """A request with a body that another program has made; see `flatout.providers.relay`."""
        return Request("POST", self._urls[stream].reveal(), self._headers[stream], body)

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The reply in a response.

        Raises:
            CallError: the response holds no usable answer. If an answer was paid for, the error's ``reply`` has it.
        """
        if not 200 <= response.status < 300:
            raise error_of(response.status, response.headers, response.body, self._endpoint)
        usual = self._usual(response.body)
        if usual is not None:
            return self._judged(call, response, usual, response.body)
        if is_stream(response.body):
            unasked = self.stream_decoder(call, response.headers)
            unasked.feed(response.body)
            return unasked.reply()
        data, body = self._object(response)
        return self._reply(call, response, data, body)

    def instead(self, call: Call, refused: Request, error: errors.CallError, /) -> Request | None:
        """The request to send in place of a refused one. None here: only some formats add something optional."""
        return None

    def stream_decoder(self, call: Call, headers: Mapping[str, str] = _NO_HEADERS, /) -> StreamReader:
        """The decoder for the body of a streamed answer whose status reports success.

        Args:
            call: the call.
            headers: the response's headers, names in lower case.
        """
        return StreamReader(
            self._assembly(call),
            finish=lambda response, whole: self._reply(call, response, whole, response.body),
            decode=lambda response: self.decode(call, response),
            headers=headers,
            endpoint=self._endpoint,
        )

    @abstractmethod
    def _url(self, *, stream: bool) -> str:
        """The address of the requests."""

    @abstractmethod
    def _payload(self, call: Call, stream: bool) -> dict[str, Any]:
        """The request's JSON, without ``extra``."""

    def _usual(self, body: bytes) -> Answer | None:
        """The content of an answer that has the usual shape, quickly; None for `_read` to read it leniently."""
        return None

    @abstractmethod
    def _read(self, call: Call, data: dict[str, Any]) -> Answer:
        """The content of an answer's JSON."""

    @abstractmethod
    def _assembly(self, call: Call) -> Assembly:
        """A new assembly for one streamed answer."""

    def _may_be_silent(self, call: Call) -> bool:
        """Whether the model may answer this call with nothing. Otherwise an empty answer is a failure and retried."""
        return False

    def _signed(self, turn: Any) -> bytes:
        """A turn in this format, with the provider that made it."""
        try:
            return msgspec.json.encode({**self._maker, "turn": turn})
        except RecursionError:  # the answer could just be read, but this adds two levels of nesting
            return b""

    def _own_turn(self, message: Message) -> Any:
        """The turn of a message as this provider made it. None if another provider made it, or a user changed it."""
        native = message.get(NATIVE)
        if not isinstance(native, Mapping) or any(native.get(name) != value for name, value in self._maker.items()):
            return None
        return native.get("turn") if native.get("of") == said_in(message) else None

    def _object(self, response: Response) -> tuple[dict[str, Any], bytes]:
        """The decoded answer and its bytes, repaired if they were not quite JSON."""
        body = response.body
        try:
            data = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            data, body = self._lenient(response)
        if not isinstance(data, dict):
            text = f"sent JSON that is not an answer: a {type(data).__name__}"
            raise unusable(errors.ProtocolError, text, response, self._endpoint)
        return data, body

    def _lenient(self, response: Response) -> tuple[Any, bytes]:
        try:
            data = decode_json(response.body)
            return data, msgspec.json.encode(data)
        except (ValueError, RecursionError):
            kind = response.headers.get("content-type", "no content type")
            text = f"sent invalid or incomplete JSON ({len(response.body)} bytes, {kind})"
            raise unusable(errors.ProtocolError, text, response, self._endpoint) from None

    def _reply(self, call: Call, response: Response, data: dict[str, Any], body: bytes) -> Reply:
        answer = self._read(call, data)
        return self._judged(call, response, answer, body, data if is_problem(data) else answer.failure)

    def _judged(
        self, call: Call, response: Response, answer: Answer, body: bytes, failure: Mapping[str, Any] | None = None
    ) -> Reply:
        """The reply, if the answer is usable."""
        reply = Reply(
            text=answer.text,
            reasoning=answer.reasoning,
            tool_calls=answer.tool_calls,
            finish_reason=_shared(answer.finish_reason),
            usage=answer.usage,
            service_tier=_shared(answer.service_tier),
            model=_shared(answer.model),
            body=body,
            request_id=request_id(response.headers),
            headers=response.headers,
            native=b"" if answer.turn is None else self._signed(answer.turn),
        )
        paid = reply if reply.usage.input_tokens is not None or reply.text.strip() else None
        if failure is not None:
            raise error_in_answer(failure, response, self._endpoint, paid)
        if (fault := answer.fault or unfinished(call, reply, may_be_silent=self._may_be_silent(call))) is not None:
            kind, text = fault
            kept = paid if kind is errors.ProtocolError else reply
            if kind is errors.Truncated and (whole := _whole(call, reply)) is not None:
                return whole
            raise unusable(kind, text, response, self._endpoint, kept)
        if call.tools:
            check_tools(call, reply)
        return fitted(call, reply)


def _shared(word: str | None) -> str | None:
    """One string for all answers: the same few words stand in each of them."""
    return None if word is None else intern(word)


def _whole(call: Call, reply: Reply) -> Reply | None:
    """The answer, if it was complete when the tokens ran out; else None."""
    if call.output is None or not reply.text.strip() or reply.tool_calls or wants_tool(call.tool_choice):
        return None
    try:
        return fitted(call, reply)
    except ValidatorRaised:
        raise
    except errors.SchemaMismatch:
        return None


def check_tools(call: Call, reply: Reply) -> None:
    """Check the tools that an answer asks for.

    Raises:
        CallError: they do not fit the call; `ValidatorRaised` if one of the user's validators failed.
    """
    if call.tool_choice is not None and wants_tool(call.tool_choice):
        check_called(call.tool_choice, reply)
    if not reply.tool_calls:
        return
    try:
        check_arguments(call.tools, reply)
    except errors.FlatoutError:
        raise
    except Exception as error:  # raised by one of the user's validators
        raise validator_raised(error, reply) from error
