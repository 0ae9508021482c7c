"""The server's side of the wire formats: read what a program asks, and write its answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import msgspec

from flatout.errors import CallError, ConfigError, InvalidRequest
from flatout.layer import Response
from flatout.providers.wire.answer import as_dict
from flatout.values import Reply

JSON: Mapping[str, str] = {"content-type": "application/json"}
EVENTS: Mapping[str, str] = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


REFUSED = "refusal"
"""The reason for the end of an answer in which the model declined."""


class Asked(NamedTuple):
    """What a request asks.

    Attributes:
        model: the model's name in the request; "" if it has none.
        streams: whether the answer is to be streamed.
        call: the parameters of a `flatout.Call`. Those that flatout does not know are in ``extra``.
    """

    model: str
    streams: bool
    call: dict[str, Any]


class Origin(NamedTuple):
    """What an answer that is written here says of itself.

    Attributes:
        model: the model that gives it.
        at: when it was given, in Unix seconds.
        identity: what tells it from all other answers.
        tells_usage: whether a stream ends with its usage, where the format leaves that to the request.
    """

    model: str
    at: int
    identity: str
    tells_usage: bool = False

    @classmethod
    def of(cls, model: str, at: float, extra: Mapping[str, Any] | None = None) -> Origin:
        """The origin of a new answer.

        Args:
            model: the model that gives it.
            at: when it was given, in Unix seconds.
            extra: the parameters of its request that flatout does not know.
        """
        options = as_dict((extra or {}).get("stream_options"))
        return cls(model, int(at), uuid4().hex, tells_usage=bool(options.get("include_usage")))


class StreamWriter(Protocol):
    """Writes one streamed answer, for a program that reads another format than the answer came in."""

    def text(self, text: str, /) -> bytes:
        """The events for a piece of text; for the first one, also those that begin the answer."""
        ...

    def end(self, reply: Reply, /) -> bytes:
        """The events for what of the answer has not been written, and those that end it."""
        ...


class Inbound(Protocol):
    """The server's side of one wire format. It is pure.

    Attributes:
        harmless: parameters that a target of another format can do without, because they do not change the answer.
    """

    harmless: frozenset[str]

    def read(self, data: dict[str, Any], /) -> Asked:
        """What a request's JSON asks. Values of unexpected types are left as they are, for the provider to refuse."""
        ...

    def write(self, reply: Reply, origin: Origin, /) -> bytes:
        """A complete answer."""
        ...

    def writer(self, origin: Origin, /) -> StreamWriter:
        """Writes a streamed answer."""
        ...

    def refusal(self, status: int, kind: str, message: str, /) -> bytes:
        """The body of an answer that reports a failure, such as the format's own clients expect it."""
        ...


_INBOUND = {
    "openai": ("chat", "InboundChat"),
    "openai-responses": ("responses", "InboundResponses"),
    "anthropic": ("messages", "InboundMessages"),
    "gemini": ("contents", "InboundContents"),
    "embeddings": ("vectors", "InboundEmbeddings"),
}
"""By dialect: module and class."""


def inbound_for(dialect: str) -> Inbound:
    """The server's side of a wire format."""
    module, name = _INBOUND[dialect]
    made: Inbound = getattr(import_module(f".{module}", __package__), name)()
    return made


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        InvalidRequest: the body holds no JSON object.
    """
    try:
        data = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request's body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidRequest("the request's body is not a JSON object")
    return data


STATUS = {
    "RateLimited": 429,
    "QuotaExhausted": 429,
    "Overloaded": 503,
    "ServerError": 502,
    "AuthenticationError": 401,
    "InvalidRequest": 400,
    "ContextTooLong": 400,
    "ContentFiltered": 400,
    "Refused": 400,
    "BudgetExceeded": 402,
    "CircuitOpen": 503,
    "DeadlineExceeded": 504,
    "AttemptTimeout": 504,
}
"""The HTTP status of an error, by the name of its class, unless the provider's own answer can be passed on."""


def openai_refusal(status: int, kind: str, message: str) -> bytes:
    """The body of a failure in OpenAI's formats. Its clients look at the type, one of a few, and at the code."""
    named = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = None if kind == named else kind
    return msgspec.json.encode({"error": {"message": message, "type": named, "param": None, "code": code}})


_OPENAI_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


def broken_off(error: CallError, inbound: Inbound) -> bytes:
    """The last event of a streamed answer that failed in the middle."""
    return b"event: error\ndata: %b\n\n" % refusal_of(error, inbound).body


def refusal_of(error: CallError | ConfigError, inbound: Inbound) -> Response:
    """The answer for a call that failed here, in words of the format."""
    if isinstance(error, ConfigError):
        return Response(400, JSON, inbound.refusal(400, "invalid_request_error", str(error)))
    kind = type(error).__name__
    status = error.status if error.status is not None and error.status >= 400 else STATUS.get(kind, 502)
    return Response(status, JSON, inbound.refusal(status, error.code or kind, str(error)))
