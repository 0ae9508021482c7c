"""The seams: what a layer, a codec and a transport are, and what one call carries through them.

One value flows inward through layers and comes back: ``Call → … → Reply``. A layer is one object with one method;
it hands the call on with ``call_next``, and it may do so never (a cache), once, or several times (a retry).
Layers raise; only the edges (`gather`, `as_completed`, `map`, the runner) turn outcomes into Results.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Protocol

from msgspec import Struct

from .values import Call, Reply

CallNext = Callable[[Call], Awaitable[Reply]]
"""The rest of the stack, as one function."""


class Layer(Protocol):
    """One concern of the call path."""

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        """Answer the call, by way of ``call_next``."""
        ...


class Request(Struct, frozen=True):
    """One HTTP request, as bytes. ``headers`` holds the key: a Request is never logged or stored."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url}, {len(self.body)} bytes)"


class Response(Struct, frozen=True):
    """One HTTP answer, whole. ``headers`` is looked up by lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"  # some servers repeat the key in their answers


class Codec(Protocol):
    """A provider's wire format, for one target. Pure: values in, bytes out, and back."""

    def encode(self, call: Call, /, *, stream: bool = False) -> Request:
        """The request for a call; with ``stream``, for an answer in pieces.

        Raises:
            InvalidRequest: the call asks for what this provider cannot do.
        """
        ...

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The answer in a response.

        Raises:
            CallError: the response holds no usable answer; the class names why.
        """
        ...

    def stream_decoder(self, call: Call, headers: Mapping[str, str], /) -> StreamDecoder:
        """What takes the body of a streamed answer apart, once its status said success.

        ``headers`` are the answer's, under lower-case names.
        """
        ...


class StreamDecoder(Protocol):
    """One streamed answer on its way in. Pure: bytes of the body in, pieces of text out, at the end a Reply."""

    def feed(self, data: bytes, /) -> list[str]:
        """The pieces of text in the next bytes, however these are cut.

        Raises:
            ProtocolError: what comes is no stream of answers, and reading on is pointless.
        """
        ...

    def reply(self) -> Reply:
        """The whole answer, once the body has ended.

        Raises:
            CallError: it is not usable, for the reasons that `Codec.decode` has, or it broke off (ProtocolError).
        """
        ...


class Transport(Protocol):
    """Something that carries requests: the HTTP client, or a provider model in memory."""

    async def send(self, request: Request, /) -> Response:
        """Exchange one request for a whole response.

        Raises:
            TransportError: no whole response arrived.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


BeforeAttempt = Callable[[int, str, float | None], Awaitable[None]]
"""Awaited before an attempt is sent: its number, from 1, its target's name, and what it may cost in US dollars."""


class Journal(Protocol):
    """Remembers the calls that are made on one item's behalf, and answers those that an earlier process finished."""

    async def answer(self, asker: object, call: Call, trip: Journey, ask: CallNext, /) -> Reply:
        """Answer a call that ``asker`` (a client) was given: from memory, or with ``ask``."""
        ...


class Journey:
    """What one call collects on its way: times, attempts, waits, cost. One per call, made by the outermost layer.

    Layers find it with `journey()`; times are the event loop's clock. A durable run sets ``before_attempt``, and
    ``journal`` for the calls that are made on this one's behalf.
    """

    __slots__ = ("attempts", "before_attempt", "cost", "deadline_at", "journal", "last_error", "started", "waits")

    def __init__(self, started: float) -> None:
        self.started = started
        self.deadline_at: float | None = None
        self.attempts = 0
        self.last_error: Exception | None = None
        self.cost: float | None = 0.0
        self.waits: dict[str, float] = {}
        self.before_attempt: BeforeAttempt | None = None
        self.journal: Journal | None = None

    def waited(self, cause: str, seconds: float) -> None:
        """Add to the time that went into a cause (see `flatout.events.WAITS`)."""
        if seconds > 0:
            self.waits[cause] = self.waits.get(cause, 0.0) + seconds

    def add(self, other: Journey) -> None:
        """Count a call that was made on this one's behalf."""
        self.attempts += other.attempts
        self.cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        for cause, seconds in other.waits.items():
            self.waited(cause, seconds)


_journey: ContextVar[Journey] = ContextVar("flatout_journey")
journey = _journey.get
set_journey = _journey.set
reset_journey = _journey.reset
