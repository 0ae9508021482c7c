"""The models that providers offer, for clients that choose from a list. Each provider with a key here is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from flatout.errors import CallError, ConfigError
from flatout.lanes.batch.formats.wire import Server
from flatout.layer import Request
from flatout.providers import registry
from flatout.providers.formats.anthropic import VERSION
from flatout.providers.wire.answer import as_dict, as_dicts, as_text
from flatout.values import Endpoint

if TYPE_CHECKING:
    from flatout.engine import Engine

KEPT = 600.0  # seconds until a list is asked for again

FAILED = 15.0  # the same, of a provider that did not tell its own

PATIENCE = 5.0
"""Seconds in which a provider must tell its models."""

MOST = 2_000
"""Models of one provider that are listed."""


class Found(Struct, frozen=True):
    """What the providers have told.

    Attributes:
        names: whole names of models.
        missing: why a provider's models are not among them, by its name.
    """

    names: list[str]
    missing: dict[str, str]


class Offered:
    """Asks the providers for their models.

    Args:
        engine: has the endpoints and their keys.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: dict[str, tuple[list[str] | str, float]] = {}  # by the prefix, and until when that is kept
        self._asking = asyncio.Lock()

    async def all(self) -> Found:
        """All models, as the providers told them lately."""
        endpoints = dict(self._endpoints())
        async with self._asking:
            await asyncio.gather(*(self._look(prefix, each) for prefix, each in endpoints.items()))
        told = [(endpoint.name, self._told[prefix][0]) for prefix, endpoint in endpoints.items()]
        names = [name for _, each in told if isinstance(each, list) for name in each]
        return Found(names, {provider: each for provider, each in told if isinstance(each, str)})

    async def _look(self, prefix: str, endpoint: Endpoint) -> None:
        """Ask a provider, unless what it told is still good."""
        now = asyncio.get_running_loop().time()
        if now >= self._told.get(prefix, ("", 0.0))[1]:
            told = await self._asked(prefix, endpoint)
            self._told[prefix] = told, now + (FAILED if isinstance(told, str) else KEPT)

    def _endpoints(self) -> Iterator[tuple[str, Endpoint]]:
        """The endpoints that can be asked, by what stands before their models' names.

        It is a server of the user's own, or else all that have a key.
        """
        targets, own, seen = self._engine.targets, self._engine.config.endpoints, set[str]()
        if targets.has_server:
            yield "", targets.target("any").endpoint
            return
        for name in (*own, *registry.BUILT_IN):
            try:
                endpoint = targets.target(f"{name}/any").endpoint
            except ConfigError:
                continue
            if (endpoint.api_key is not None or name in own) and endpoint.base_url not in seen:
                seen.add(endpoint.base_url)
                yield f"{name}/", endpoint

    async def _asked(self, prefix: str, endpoint: Endpoint) -> list[str] | str:
        """The models of one provider; or why it does not tell them."""
        try:
            request = _request(endpoint)
            async with asyncio.timeout(PATIENCE):
                response = await self._engine.transport.send(request)
        except TimeoutError:
            return f"it did not answer within {PATIENCE:.0f} s"
        except (CallError, ConfigError) as error:
            return str(error)
        if response.status != 200:
            return f"it answered {response.status}"
        return [f"{prefix}{name}" for name in _names(response.body)][:MOST]


def _request(endpoint: Endpoint) -> Request:
    if endpoint.dialect == "anthropic":
        return Server(endpoint, anthropic_version=VERSION).request("GET", "/models", limit="1000")
    many = {"pageSize": "1000"} if endpoint.dialect == "gemini" else {}
    return Server(endpoint).request("GET", "/models", **many)


def _names(body: bytes) -> Iterator[str]:
    """The names in a list of models: OpenAI's and Anthropic's, or Gemini's."""
    try:
        data: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return
    listed = as_dict(data)
    for each in as_dicts(listed.get("data") or listed.get("models") or (data if isinstance(data, list) else [])):
        name = as_text(each.get("id")) or as_text(each.get("name")) or ""
        if name := name.removeprefix("models/"):
            yield name
