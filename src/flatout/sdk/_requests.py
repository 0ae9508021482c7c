"""Reads the requests of other programs' HTTP clients: which are calls, and to whom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from flatout.edge.relay import relayed
from flatout.errors import InvalidRequest
from flatout.layer import Request
from flatout.providers.relay import Asked, Relayed, Wire, inbound_for
from flatout.providers.relay.inbound import read_object
from flatout.providers.relay.recognise import Recognised, key_in, recognise
from flatout.values import Target
from flatout.values.secret import OneTime, Secret, Veiled

if TYPE_CHECKING:
    from flatout.engine import Engine

_MOST_KNOWN = 1_024
"""Addresses, and targets, that are remembered."""

_HOP = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding", "keep-alive"})
"""Headers that belong to the connection, which is ours."""


NO_KEY = "flatout-sends-no-key"
"""A key for a vendor's client of a server that needs none: without one it is not made. `headers_of` leaves it out."""


class Read(NamedTuple):
    """A request that has been read.

    Attributes:
        url: its address.
        headers: its headers, with lower-case names, without those of the connection.
        body: its body.
        timeout: seconds that its program allows one attempt; None for no bound of its own.
    """

    url: Secret
    headers: Veiled
    body: bytes
    timeout: float | None


class Requests:
    """Turns the requests of one client's programs into calls.

    Args:
        engine: the client's engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._routes = engine.targets.routes
        self._own = engine.targets.added()
        self._known: dict[Secret, Recognised | None] = {}
        self._targets: dict[tuple[Secret, str, Secret | None], Target] = {}

    def call(self, request: Any) -> Relayed[Any] | None:
        """The call that a request makes; None if it is none to a provider that flatout knows.

        Args:
            request: a request of httpx or httpx2, whose body has been read.
        """
        url = Secret(str(request.url))
        found = self._recognised(url) if request.method == "POST" else None
        if found is None:
            return None
        inbound = inbound_for(found.dialect)
        try:
            asked = inbound.read(read_object(request.content))
        except InvalidRequest:  # its provider says so better
            return None
        return self._call(found, asked, Read(url, headers_of(request), request.content, timeout_of(request)))

    def _call(self, found: Recognised, asked: Asked, read: Read) -> Relayed[Any]:
        model, streams = found.model or asked.model, found.streams or asked.streams
        options = {} if read.timeout is None else {"timeout": read.timeout}
        if self._routes.find(model) is not None:
            return relayed(asked, Wire(found.dialect, read.body, streams), model, **options)
        at = self._target(found, read, model)
        wire = Wire(found.dialect, read.body, streams, url=read.url, headers=read.headers, at=at)
        return relayed(asked, wire, at.name, **options)

    def _recognised(self, url: Secret) -> Recognised | None:
        if url not in self._known:
            _make_room(self._known)
            self._known[url] = recognise(url.reveal(), self._own)
        return self._known[url]

    def _target(self, found: Recognised, read: Read, model: str) -> Target:
        """Where the program sends the call, with the program's own key: limits belong to keys."""
        key = key_in(read.headers, read.url.reveal())
        which = (read.url, model, key)
        target = self._targets.get(which)
        if target is None:
            _make_room(self._targets)
            endpoint = replace(found.endpoint, api_key=key)
            target = self._targets[which] = Target(endpoint, model)
        return target


def headers_of(request: Any) -> Veiled:
    """A request's own headers, without a `NO_KEY`. The names are in lower case."""
    pairs = _pairs(request.headers.raw)
    return OneTime({name: value for name, value in pairs if name not in _HOP and not value.endswith(NO_KEY)})


def timeout_of(request: Any) -> float | None:
    """Seconds that a request's program waits for its answer; None without a bound."""
    seconds = request.extensions.get("timeout", {}).get("read")
    return seconds if seconds is None or seconds > 0 else None


def as_it_is(request: Any) -> Request:
    """A request that has been read, for our transport."""
    return Request(request.method, str(request.url), headers_of(request), request.content)


def _pairs(raw: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, str]]:
    return ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw)


def _make_room(known: dict[Any, Any]) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()
