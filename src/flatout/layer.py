"""The interfaces inside flatout: layer, codec, transport and journal.

A call passes inward through the layers, and its reply comes back: ``Call → … → Reply``. A layer is one object with one
method. It passes the call on with ``call_next``: never (a cache hit), once, or several times (a retry). Layers raise
errors; only the edge (`gather`, `as_completed`, `map`, the runner) turns outcomes into Results.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from msgspec import Struct

from .errors import CircuitOpen, SchemaMismatch
from .values import Call, Reply
from .values.secret import veiled_url

if TYPE_CHECKING:
    import asyncio

    from .errors import CallError
    from .journey import Journey
    from .policies.failures.service import Service
    from .values.route import Cause


class ValidatorRaised(SchemaMismatch):
    """A user's validator failed (`__cause__`) instead of judging an answer.

    The answer was paid for, so this error carries it through the layers. The call path then raises the cause instead.
    """


class Elsewhere(CircuitOpen):
    """All targets of a route are away for so long that its fallback takes the call.

    It is raised only if the route has a fallback for ``why``, so it never leaves the layers.
    """

    def __init__(self, message: str, why: Cause) -> None:
        super().__init__(message)
        self.why = why


CallNext = Callable[[Call], Awaitable[Reply]]
"""The rest of the layers, as one function."""


class Layer(Protocol):
    """One concern of the call path.

    A layer with nothing to do for a call returns ``call_next(call)`` itself. A coroutine that only awaited the next one
    would cost every call time and an object.
    """

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        """Answer the call, usually with ``call_next``."""
        ...


class Queue(Protocol):
    """A target's limiter as a route sees it. A call may wait in the queues of several targets at once."""

    def take(self, call: Call, loop: asyncio.AbstractEventLoop, /) -> Permit | None:
        """A permit if a call may go at once; None if it would have to wait, or can never go."""
        ...

    def enter(self, call: Call, service: Service, journey: Journey, turn: Turn, /) -> Place:
        """Queue a call that waits for other targets as well.

        Args:
            call: the call.
            service: the service that it needs.
            journey: the call's journey.
            turn: what all its places in queues share.
        """
        ...

    def leave(self, place: Any, /) -> None:
        """End the wait, unless it has ended."""
        ...

    def waits_of(self, place: Any, /) -> Mapping[str, float]:
        """The seconds that a call has waited at its place, by cause."""
        ...

    def give_back(self, permit: Permit, /) -> None:
        """Give back a permit whose attempt was not sent."""
        ...

    @property
    def in_flight(self) -> int:
        """Attempts on the wire."""
        ...

    def wait(self) -> float:
        """Seconds that a call which enters the queue now has to wait, as far as earlier waits tell; 0 if unknown."""
        ...

    def away(self, now: float, /) -> Away | None:
        """How long the target takes no calls; None if it takes calls."""
        ...


class Turn(Protocol):
    """A call that stands in the queues of several targets."""

    @property
    def admitted(self) -> asyncio.Future[Permit | None]:
        """Becomes the permit of the first queue that lets the call go."""
        ...

    def refused(self, service: Service, error: CallError, /) -> None:
        """A queue can never let it go; it has left the queue."""
        ...

    def wants(self, service: Service, /) -> bool:
        """Whether it would go here now. If not, it leaves the queue."""
        ...


class Place(Protocol):
    """A call's place in a queue."""

    @property
    def left(self) -> bool:
        """Whether it stands there no more."""
        ...


class Away(NamedTuple):
    """How long a target takes no calls, in seconds.

    Attributes:
        down_for: how long it has not answered; 0 if it is not down.
        silent: whether its last failure was a timeout.
        paused_for: how long its pause will last; 0 if it has none.
        surely_for: the same, if that is certain; else 0.
    """

    down_for: float
    silent: bool
    paused_for: float
    surely_for: float


class Permit(Struct, eq=False):
    """An attempt's place on the wire, taken before the attempt reaches its target's limiter.

    Attributes:
        queue: the limiter that gave it.
        need: what the attempt takes, for that limiter.
    """

    queue: Queue
    need: Any


class Request(Struct, frozen=True, gc=False):
    """One HTTP request, as bytes. Its ``headers`` or ``url`` contain the key, so it is never logged or stored."""

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
    """One complete HTTP answer. The names in ``headers`` are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"  # some servers repeat the key in their answers

    def __rich_repr__(self) -> Iterator[int | str]:  # type: ignore[override]  # any iterable is what rich wants
        yield self.status
        yield f"{len(self.body)} bytes"


class Codec(Protocol):
    """A provider's wire format, for one target. It is pure: it turns values into bytes and back."""

    def encode(self, call: Call, /, *, stream: bool = False) -> Request:
        """The request for a call; with ``stream``, for a streamed answer.

        Raises:
            InvalidRequest: this provider cannot do what the call asks for.
        """
        ...

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The answer in a response.

        Raises:
            CallError: the response has no usable answer; the class says why.
        """
        ...

    def instead(self, call: Call, refused: Request, error: CallError, /) -> Request | None:
        """The request to send in place of a refused one for a streamed answer.

        It is None unless the provider refused something that flatout itself adds to requests. The codec then stops
        adding it.
        """
        ...

    def stream_decoder(self, call: Call, headers: Mapping[str, str], /) -> StreamDecoder:
        """The decoder for the body of a streamed answer with a successful status.

        ``headers`` are the answer's, with lower-case names.
        """
        ...


class StreamDecoder(Protocol):
    """Decodes one streamed answer. It is pure: bytes of the body in, pieces of text out, and a Reply at the end."""

    @property
    def broken(self) -> bool:
        """Whether the body so far can no longer become an answer. Reading on would only cost time and money."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer is complete, even if the body has not ended yet."""
        ...

    def feed(self, data: bytes, /) -> list[str]:
        """The pieces of text in the next bytes, which may be cut anywhere.

        Raises:
            ProtocolError: the body is not a stream of the expected form.
        """
        ...

    def reply(self) -> Reply:
        """The whole answer, once the body has ended, or is `broken`.

        Raises:
            CallError: the answer is not usable, as for `Codec.decode`, or it broke off (ProtocolError).
        """
        ...


class Reader(Protocol):
    """Who takes an answer that is still arriving."""

    @property
    def behind(self) -> bool:
        """Whether so much waits for it that no more should be read from the server."""
        ...

    async def turn(self) -> None:
        """Wait until it has taken enough."""
        ...


class Streamed(Protocol):
    """An answer whose body is still arriving."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, with lower-case names."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive, cut anywhere.

        A transport may also have ``async def pour(sink: Callable[[bytes], bool])``, which calls a function with each of
        them from the event loop, until they end or the function returns False: no task is woken for each. In a gateway
        it is given a `Reader`, too, and reads nothing while that is behind.

        Raises:
            TransportError: the body broke off.
        """
        ...


class Transport(Protocol):
    """Carries requests: the HTTP client, or a provider model in memory.

    A transport with a bounded number of connections has a method ``capacity() -> int | None``, which is called once,
    before the first request. Calls beyond the capacity wait and are not sent.
    """

    async def send(self, request: Request, /) -> Response:
        """Exchange one request for a whole response.

        Raises:
            TransportError: no whole response arrived.
        """
        ...

    def stream(self, request: Request, /) -> AbstractAsyncContextManager[Streamed]:
        """Send a request, and yield its answer once the headers arrive. Leaving the block early ends the exchange.

        Raises:
            TransportError: no answer began.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class JournalStep(Struct, frozen=True):
    """A step of a durable function that is not a call. Its result is kept.

    Attributes:
        name: its name, for people.
        made: its input; name and input together identify it.
        run: runs it, and returns its result as JSON. It receives a key that is the same each time this step runs, and
            that no other step has.
        once: whether it has an effect in the world. Such a step is noted before it begins, and never repeated
            automatically.
        again: asked, with the same key, whether to run a step that began before a crash and may have taken effect.
    """

    name: str
    made: bytes
    run: Callable[[str], Awaitable[bytes]]
    once: bool = False
    again: Callable[[str], Awaitable[bool]] | None = None


class Journal(Protocol):
    """Keeps the calls made on one item's behalf, and answers those that an earlier process finished."""

    async def answer(self, asker: object, call: Call, journey: Journey, ask: CallNext, /) -> Reply:
        """Answer a call that ``asker`` (a client's engine) was given, from the journal or with ``ask``."""
        ...

    async def step(self, step: JournalStep, /) -> bytes:
        """The result of a step, as JSON, from the journal or by running it now.

        Raises:
            StepUnknown: it began before a crash, and ``again`` did not allow running it again.
        """
        ...
