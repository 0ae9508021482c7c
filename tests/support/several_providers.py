"""Several simulated providers behind one client, told apart by the hosts of their addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from flatout import Client
from flatout.layer import Request, Response, Streamed
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport


class Providers:
    """A transport to several providers.

    Args:
        settings: each provider's behaviour, by its name. Its models are ``NAME/m``.
        seed: the providers' seed.
    """

    def __init__(self, seed: int = 0, **settings: ProviderSettings) -> None:
        self.models = {name: ProviderModel(each, seed) for name, each in settings.items()}
        self._transports = {name: SimulatedTransport(model) for name, model in self.models.items()}

    async def send(self, request: Request) -> Response:
        return await self._transport(request).send(request)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Streamed]:
        async with self._transport(request).stream(request) as answer:
            yield answer

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()

    def name_of(self, request: Request) -> str:
        """The provider that a request goes to."""
        return (urlsplit(request.url).hostname or "").partition(".")[0]

    def renew(self, name: str, settings: ProviderSettings) -> None:
        """Put another provider in the place of one."""
        self.models[name] = ProviderModel(settings)
        self._transports[name] = SimulatedTransport(self.models[name])

    def _transport(self, request: Request) -> SimulatedTransport:
        return self._transports[self.name_of(request)]

    def config(self, **more: Any) -> dict[str, Any]:
        """A flatout.toml with one endpoint for each provider."""
        endpoints: dict[str, Mapping[str, Any]] = {name: {"base_url": f"http://{name}.test/v1"} for name in self.models}
        return {"endpoints": endpoints, **more}

    def client(self, model: str, *, config: Mapping[str, Any] | None = None, **options: Any) -> Client:
        """A client of these providers."""
        return Client(model, transport=self, config=config or self.config(), seed=0, **options)

    def seen(self, what: str) -> dict[str, int]:
        """One of the counts of `ProviderModel.stats`, by provider."""
        return {name: model.stats()[what] for name, model in self.models.items()}
