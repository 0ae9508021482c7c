"""A transport that never leaves the process: requests go to a provider model, on virtual or on real time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from flatout.errors import ConnectError, ProtocolError
from flatout.layer import Request, Response, journey

from .exchange import exchange
from .provider import ProviderModel

CHAT = "/chat/completions"
MODELS = "/models"
JSON = {"content-type": "application/json"}


class SimulatedTransport:
    """Carries requests to a provider model, and fails as the HTTP transport fails.

    Several transports may share one model: then they are several clients of one provider.

    Args:
        model: the provider.
    """

    def __init__(self, model: ProviderModel) -> None:
        self.model = model
        self._closed = False

    def __repr__(self) -> str:
        return f"SimulatedTransport({self.model!r})"

    async def send(self, request: Request) -> Response:
        """Exchange one request for a whole response.

        Raises:
            ConnectError: the provider refuses connections, or the transport is closed.
            ProtocolError: the connection ended before the answer did.
        """
        if self._closed:
            raise ConnectError("the transport is closed")
        path = request.url.partition("?")[0]
        if path.endswith(MODELS) and request.method == "GET":
            return Response(200, dict(JSON), self.model.model_list())
        if not path.endswith(CHAT):
            return Response(404, dict(JSON), b'{"error":{"message":"no such path","type":"invalid_request_error"}}')
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome = await exchange(self.model, request.body, _authorization(request.headers))
        if outcome.wire == "refused":
            raise ConnectError("no connection to the simulated provider: connection refused")
        if outcome.wire == "reset":
            raise ProtocolError("the server closed the connection without an answer")
        if outcome.wire == "truncated":
            raise ProtocolError("the answer was cut off")
        trip = journey(None)
        if trip is not None:
            trip.waited("first_byte", loop.time() - began)
        return Response(outcome.status, outcome.headers, outcome.body)

    async def close(self) -> None:
        """Take no more requests."""
        self._closed = True


def _authorization(headers: Mapping[str, str]) -> str:
    return next((value for name, value in headers.items() if name.lower() == "authorization"), "")
