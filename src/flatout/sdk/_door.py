"""Answers the requests of one program's HTTP client, in the event loop of the flatout client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flatout.edge.relay import RelayedStream, whole
from flatout.errors import CallError, ProviderError
from flatout.layer import Response
from flatout.providers.relay import Relayed, inbound_for
from flatout.providers.relay.inbound import refusal_of

from ._failures import in_its_words
from ._passed import Passed
from ._requests import Requests, as_it_is, timeout_of

if TYPE_CHECKING:
    from flatout.engine import Engine

Stream = RelayedStream | Passed

_NOT_RETRIED = {"x-should-retry": "false"}
"""A header of refusals: vendors' SDKs then do not retry them beside flatout's own retries."""

_UNTRUE = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection"})
"""Headers of an answer that no longer hold for its unpacked body."""


class Door:
    """Where the requests of one program come in.

    Args:
        engine: answers them.
        package: the program's HTTP client: ``httpx`` or ``httpx2``, which have the same interface.
    """

    def __init__(self, engine: Engine, package: str) -> None:
        self._engine = engine
        self._requests = Requests(engine)
        self.package: Any = import_module(package)

    async def ask(self, request: Any) -> Response | Stream:
        """The answer to a request that has been read. If it is streamed, it has begun, and the caller leaves it.

        Raises:
            Exception: there is none; see `in_its_words`.
        """
        call = self._requests.call(request)
        try:
            if call is None:
                return await Passed(self._engine, as_it_is(request), timeout_of(request)).__aenter__()
            if call.wire.streams:
                return await RelayedStream(self._engine, call).__aenter__()
            return await whole(self._engine, call)
        except CallError as error:
            failure = error
        return self._instead(call, failure)  # outside the except: the error behind it would show too

    def response(self, answer: Response | Stream, **body: Any) -> Any:
        """The answer as the program's HTTP client has it."""
        headers = {name: value for name, value in answer.headers.items() if name not in _UNTRUE}
        if answer.status >= 400:
            headers.update(_NOT_RETRIED)
        return self.package.Response(answer.status, headers=headers, **body)

    def _instead(self, call: Relayed[Any] | None, error: CallError) -> Response:
        """A refusal in words of the request's format.

        Raises:
            Exception: it was not refused.
        """
        if call is None or not isinstance(error, ProviderError):
            raise in_its_words(error, self.package)
        return refusal_of(error, inbound_for(call.wire.dialect))
