"""The seams: what a layer, a codec and a transport are.

One value flows inward through layers and comes back: ``Call → … → Reply``. A layer is one object with one method;
it hands the call on with ``call_next``, and it may do so never (a cache), once, or several times (a retry).
Layers raise; only the edges (`gather`, `as_completed`, `map`, the runner) turn outcomes into Results.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from .errors import SchemaMismatch
from .values import Call, Reply
from .values.secret import veiled_url

if TYPE_CHECKING:
    from .errors import CallError


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
