"""Recognise where another program's request goes, by its address: the endpoint, the wire format and the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec.structs import replace

from flatout.providers import registry
from flatout.text.redact import is_secret
from flatout.values import Endpoint
from flatout.values.secret import Secret

_ENDS = {
    "/chat/completions": "openai",
    "/responses": "openai-responses",
    "/messages": "anthropic",
    "/embeddings": "embeddings",
}
"""The formats by the ends of their addresses."""

_OPENAI_TOO = "/openai"
"""What follows the address of a provider that has another format, and takes OpenAI's as well: Gemini does.

Groq's own package adds it to any address, so also to that of a user's own server.
"""

_GEMINI = re.compile(r"(?P<base>.*)/models/(?P<model>[^/:]+):(?P<does>generateContent|streamGenerateContent)$")

_AZURE = re.compile(r"(?P<base>.*/deployments/(?P<model>[^/]+))$")

_AZURE_BASE = re.compile(
    r"https://[^/@]+/(?:openai(?:/v\d+|/deployments/[^/]+(?:/extensions)?)?|anthropic(?:/v\d+)?|models|v\d+)$"
)
"""Addresses of an Azure resource beneath which calls are answered: there are others, such as those of threads."""

_VERSION = re.compile(r"/v\d+(?:(?:alpha|beta)\d*)?$")

_KEYS = ("x-api-key", "api-key", "x-goog-api-key")
"""Headers that carry a key and nothing else."""


class Recognised(NamedTuple):
    """What an address says.

    Attributes:
        endpoint: the endpoint, in the format of the request, without a key.
        dialect: the format of the request.
        model: the model that the address names; "" if the request's body names it.
        streams: whether the address asks for a stream.
    """

    endpoint: Endpoint
    dialect: str
    model: str = ""
    streams: bool = False


def recognise(url: str, endpoints: Iterable[Endpoint]) -> Recognised | None:
    """What an address says; None if no endpoint has it, or if it asks for something that is not a call.

    Args:
        url: the address of the request.
        endpoints: the user's own endpoints. The built-in ones are known.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    where = f"{parts.scheme}://{parts.netloc}"
    if (gemini := _GEMINI.match(path)) is not None:
        endpoint = _find(where + gemini["base"], endpoints)
        streams = gemini["does"].startswith("stream")
        return _as(endpoint, "gemini", unquote(gemini["model"]), streams=streams)
    for end, dialect in _ENDS.items():
        if path.endswith(end):
            base = where + path.removesuffix(end)
            endpoint = _find(base, endpoints)
            azure = _AZURE.match(base)
            return _as(endpoint, dialect, unquote(azure["model"]) if azure else "")
    return None


def key_in(headers: Mapping[str, str], url: str = "") -> Secret | None:
    """The key in a request's headers or in its address; None if there is none. The headers' names are in lower case."""
    for name in _KEYS:
        if value := headers.get(name):
            return Secret(value)
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return Secret(key.strip())
    return next((Secret(value) for name, value in parse_qsl(urlsplit(url).query) if is_secret(name)), None)


def _as(endpoint: Endpoint | None, dialect: str, model: str, *, streams: bool = False) -> Recognised | None:
    if endpoint is None:
        return None
    if dialect not in ("embeddings", endpoint.dialect):
        endpoint = replace(endpoint, dialect=dialect)
    return Recognised(endpoint, dialect, model, streams)


def _find(base: str, endpoints: Iterable[Endpoint]) -> Endpoint | None:
    """The endpoint at an address: the user's own before the built-in ones."""
    place = _without_version(base)
    for endpoint in endpoints:
        if _without_version(endpoint.base_url) == place:
            return endpoint
    if (built_in := _BUILT_IN.get(place)) is not None:
        return built_in
    host = urlsplit(base).hostname or ""
    azure = registry.BUILT_IN["azure"]
    if _AZURE_BASE.match(base) and host not in registry.LOOPBACK and registry.at_home(azure.key_env, base):
        return replace(azure, base_url=base)
    if place.endswith(_OPENAI_TOO):
        return _find(place.removesuffix(_OPENAI_TOO), endpoints)
    return None


def _without_version(url: str) -> str:
    """An address without a version at its end. Vendors' SDKs add it to the path, or have it in their base address."""
    return _VERSION.sub("", url.rstrip("/"))


_BUILT_IN = {
    _without_version(address): row
    for row in reversed(registry.BUILT_IN.values())  # where two share an address, the first has it
    for address in (row.base_url, *registry.ALSO_AT.get(row.name, ()))
    if address
}
"""The built-in endpoints by all their addresses."""
