"""The seams: what a layer, a codec and a transport are, and what one call carries through them.

One value flows inward through layers and comes back: ``Call → … → Reply``. A layer is one object with one method;
it hands the call on with ``call_next``, and it may do so never (a cache), once, or several times (a retry).
Layers raise; only the edges (`gather`, `as_completed`, `map`, the runner) turn outcomes into Results.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from .errors import OutputError, SchemaMismatch
from .values import Call, Reply
from .values.secret import veiled_url

if TYPE_CHECKING:
    from .errors import CallError
    from .events import AttemptFailed
    from .policies.failures.trouble import Trouble


class ValidatorRaised(SchemaMismatch):
    """A validator of the user's failed (`__cause__`) instead of judging an answer, which was paid for all the same.

    It keeps the answer on the way through the layers. What leaves the call path is the cause.
    """


CallNext = Callable[[Call], Awaitable[Reply]]
"""The rest of the stack, as one function."""


class Layer(Protocol):
    """One concern of the call path.

    One that has nothing to do for a call returns ``call_next(call)`` itself: a coroutine of its own, which only waits
    for the next, costs every call time and the garbage collector an object more.
    """

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        """Answer the call, by way of ``call_next``."""
        ...


class Request(Struct, frozen=True, gc=False):
    """One HTTP request, as bytes. ``headers`` or ``url`` holds the key: a Request is never logged or stored."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Request({self.method} {veiled_url(self.url)}, {len(self.body)} bytes)"

    def __rich_repr__(self) -> Iterator[str]:  # type: ignore[override]  # any iterable is what rich wants
        yield f"{self.method} {veiled_url(self.url)}"
        yield f"{len(self.body)} bytes"


class Response(Struct, frozen=True, gc=False):
    """One HTTP answer, whole. ``headers`` is looked up by lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"  # some servers repeat the key in their answers

    def __rich_repr__(self) -> Iterator[int | str]:  # type: ignore[override]  # any iterable is what rich wants
        yield self.status
        yield f"{len(self.body)} bytes"


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

    def instead(self, call: Call, refused: Request, error: CallError, /) -> Request | None:
        """The request to send in place of one, for an answer in pieces, that was refused.

        None unless it was refused for something that flatout puts into requests by itself. The codec remembers it.
        """
        ...

    def stream_decoder(self, call: Call, headers: Mapping[str, str], /) -> StreamDecoder:
        """What takes the body of a streamed answer apart, once its status said success.

        ``headers`` are the answer's, under lower-case names.
        """
        ...


class StreamDecoder(Protocol):
    """One streamed answer on its way in. Pure: bytes of the body in, pieces of text out, at the end a Reply."""

    @property
    def broken(self) -> bool:
        """Whether what came can never become an answer, so that reading on would only cost time and money."""
        ...

    @property
    def complete(self) -> bool:
        """Whether nothing more has to come, though the body has not ended yet."""
        ...

    def feed(self, data: bytes, /) -> list[str]:
        """The pieces of text in the next bytes, however these are cut.

        Raises:
            ProtocolError: what comes is no stream of answers, and reading on is pointless.
        """
        ...

    def reply(self) -> Reply:
        """The whole answer, once the body has ended, or is `broken`.

        Raises:
            CallError: it is not usable, for the reasons that `Codec.decode` has, or it broke off (ProtocolError).
        """
        ...


class Streamed(Protocol):
    """An answer whose body is still on its way."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Looked up by lower-case names."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come, cut anywhere.

        Raises:
            TransportError: it broke off.
        """
        ...


class Transport(Protocol):
    """Something that carries requests: the HTTP client, or a provider model in memory.

    One that can carry only so many at once says so with a method ``capacity() -> int | None``, which is asked once,
    before the first request. The calls beyond wait for their turn, unsent.
    """

    async def send(self, request: Request, /) -> Response:
        """Exchange one request for a whole response.

        Raises:
            TransportError: no whole response arrived.
        """
        ...

    def stream(self, request: Request, /) -> AbstractAsyncContextManager[Streamed]:
        """Send a request, and give its answer as soon as its headers are there; leaving early ends the exchange.

        Raises:
            TransportError: no answer began.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


BeforeAttempt = Callable[[int, str, float | None, Exception | None], Awaitable[None]]
"""Awaited before an attempt is sent: its number, from 1, its target's name, what it may cost in US dollars, and why the
attempt before it failed."""

AttemptFailure = Callable[[int, "CallError"], None]
"""Told that an attempt failed: its number, and of what."""


class Journal(Protocol):
    """Remembers the calls that are made on one item's behalf, and answers those that an earlier process finished."""

    async def answer(self, asker: object, call: Call, trip: Journey, ask: CallNext, /) -> Reply:
        """Answer a call that ``asker`` (a client's engine) was given: from memory, or with ``ask``."""
        ...

    async def step(
        self,
        name: str,
        made: bytes,
        run: Callable[[str], Awaitable[bytes]],
        /,
        *,
        once: bool = False,
        again: Callable[[str], Awaitable[bool]] | None = None,
    ) -> bytes:
        """What a step that is no call came to, as JSON: from memory, or by running it now.

        Args:
            name: what it is, for people.
            made: what it is made of: with the name, what tells it from other steps.
            run: runs it; given a key that is the same each time this step is run, and no other step's.
            once: it takes effect in the world: it is noted before it begins, and never repeated by itself.
            again: asked whether to run one of which only the beginning is known; given the same key.

        Raises:
            StepUnknown: only its beginning is known, and nobody said to run it again.
        """
        ...


class Journey:
    """What one call collects on its way: times, attempts, waits, cost. One per call, made where it enters the library.

    Layers find it with `journey()`; times are the event loop's clock. A durable run sets ``before_attempt`` and
    ``attempt_failed``, and ``journal`` for the calls that are made on this one's behalf. A stream sets ``sink``, which
    takes the answer's text as it comes. From the first text on (``delivered``) nothing is tried again, since the caller
    has seen half an answer.

    Attributes:
        target: the target of the last attempt.
        in_flight: an attempt is on the wire now.
        reasks: how often the model was asked again because its answer did not fit.
        sent_at: when the attempt on the wire was let go.
        ends_at: when it is given up, at the latest.
        said: the last answer that could not be used.
        unread: those of them of which nobody has looked yet whether something can be got out.
        fallback: what was got out of one, for when no better one comes.
        refusals: how often it was sent back to the queue: for coming too fast, or since its target was in trouble.
        trouble: what went wrong so far; None as long as nothing did.
        first_chunk: seconds from the last attempt's start to the first text of a streamed answer.
        failures: the attempts that failed; kept only while somebody subscribes to events.
    """

    __slots__ = (
        "attempt_failed",
        "attempts",
        "before_attempt",
        "cost",
        "deadline_at",
        "delivered",
        "ends_at",
        "failures",
        "fallback",
        "first_chunk",
        "in_flight",
        "journal",
        "last_error",
        "reasks",
        "refusals",
        "said",
        "sent_at",
        "sink",
        "started",
        "target",
        "trouble",
        "unread",
        "waits",
    )

    def __init__(self, started: float) -> None:
        self.started = started
        self.deadline_at: float | None = None
        self.attempts = 0
        self.in_flight = False
        self.sent_at = started
        self.ends_at: float | None = None
        self.reasks = 0
        self.said: Reply | None = None
        self.unread: tuple[Reply, ...] = ()
        self.fallback: Reply | None = None
        self.refusals = 0
        self.target = ""
        self.last_error: Exception | None = None
        self.failures: list[AttemptFailed] | None = None
        self.trouble: Trouble | None = None
        self.cost: float | None = 0.0
        self.waits: dict[str, float] = {}
        self.before_attempt: BeforeAttempt | None = None
        self.attempt_failed: AttemptFailure | None = None
        self.journal: Journal | None = None
        self.sink: Callable[[str], None] | None = None
        self.delivered = False
        self.first_chunk: float | None = None

    def is_in_flight(self) -> bool:
        """Whether an attempt is on the wire now, so that its answer may have arrived."""
        return self.in_flight

    def failed(self, error: CallError) -> None:
        """Note that an attempt failed, and what the model said all the same."""
        self.last_error = error
        if error.reply is not None:
            self.said = error.reply
            if isinstance(error, OutputError):
                self.unread += (error.reply,)

    def waited(self, cause: str, seconds: float) -> None:
        """Add to the time that went into a cause (see `flatout.events.WAITS`)."""
        if seconds > 0:
            self.waits[cause] = self.waits.get(cause, 0.0) + seconds

    def add(self, other: Journey) -> None:
        """Count a call that was made on this one's behalf."""
        self.attempts += other.attempts
        self.reasks += other.reasks
        self.cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        for cause, seconds in other.waits.items():
            self.waited(cause, seconds)


_journey: ContextVar[Journey] = ContextVar("flatout_journey")
journey = _journey.get
set_journey = _journey.set
reset_journey = _journey.reset
