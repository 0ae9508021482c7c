"""The vendors' own clients, ready to use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

from flatout.client import engine_of
from flatout.errors import ConfigError

from ._http import of_package
from ._requests import NO_KEY

if TYPE_CHECKING:
    import anthropic as anthropic_sdk
    import openai as openai_sdk
    from google import genai as genai_sdk

    from flatout.client import Client
    from flatout.engine import Engine
    from flatout.values import Endpoint


@overload
def openai(client: Client, *, sync: Literal[False] = ..., **options: Any) -> openai_sdk.AsyncOpenAI: ...
@overload
def openai(client: Client, *, sync: Literal[True], **options: Any) -> openai_sdk.OpenAI: ...


def openai(client: Client, *, sync: bool = False, **options: Any) -> Any:
    """OpenAI's client, an ``AsyncOpenAI``, for the flatout client's own endpoint if it has their format.

    Otherwise it is for OpenAI.

    Args:
        client: paces, retries, caches and bills its requests.
        sync: make an ``OpenAI``; see `http_client`.
        options: options of the vendor's client, in place of ours.

    Raises:
        ConfigError: the endpoint needs a key that is missing, or the package is not installed.
    """
    vendor = _imported("openai", "openai")
    endpoint = _endpoint(engine_of(client), "openai", {"openai", "openai-responses"})
    ours: dict[str, Any] = {
        "base_url": endpoint.base_url,
        "api_key": _key(endpoint),
        "default_headers": _headers(endpoint, "Authorization"),
        "default_query": dict(endpoint.query),
    }
    made = vendor.OpenAI if sync else vendor.AsyncOpenAI
    usual = vendor.DefaultHttpxClient if sync else vendor.DefaultAsyncHttpxClient
    return made(http_client=of_package(client, _package(usual), sync=sync), **{"max_retries": 0, **ours, **options})


@overload
def anthropic(client: Client, *, sync: Literal[False] = ..., **options: Any) -> anthropic_sdk.AsyncAnthropic: ...
@overload
def anthropic(client: Client, *, sync: Literal[True], **options: Any) -> anthropic_sdk.Anthropic: ...


def anthropic(client: Client, *, sync: bool = False, **options: Any) -> Any:
    """Anthropic's client, an ``AsyncAnthropic``, for the flatout client's own endpoint if it has their format.

    Otherwise it is for Anthropic.

    Args:
        client: paces, retries, caches and bills its requests.
        sync: make an ``Anthropic``; see `http_client`.
        options: options of the vendor's client, in place of ours.

    Raises:
        ConfigError: the endpoint needs a key that is missing, or the package is not installed.
    """
    vendor = _imported("anthropic", "anthropic")
    endpoint = _endpoint(engine_of(client), "anthropic", {"anthropic"})
    ours: dict[str, Any] = {
        "base_url": endpoint.base_url.removesuffix("/v1"),
        "api_key": _key(endpoint),
        "default_headers": _headers(endpoint, "x-api-key"),
    }
    made = vendor.Anthropic if sync else vendor.AsyncAnthropic
    usual = vendor.DefaultHttpxClient if sync else vendor.DefaultAsyncHttpxClient
    return made(http_client=of_package(client, _package(usual), sync=sync), **{"max_retries": 0, **ours, **options})


def genai(client: Client, *, sync: bool = False, **options: Any) -> genai_sdk.Client:
    """Google's client, for the flatout client's own endpoint if it has Gemini's format; otherwise for Gemini.

    Args:
        client: paces, retries, caches and bills its requests.
        sync: make one for synchronous calls; by default it is for those of ``.aio``. See `http_client`.
        options: options of the vendor's client, in place of ours. Those of ``http_options`` that concern the address,
            the timeout and retries are ours.

    Raises:
        ConfigError: the endpoint needs a key that is missing, or the package is not installed.
    """
    vendor = _imported("google.genai", "google-genai")
    endpoint = _endpoint(engine_of(client), "gemini", {"gemini"})
    base, _, version = endpoint.base_url.rpartition("/")
    kind = "httpx_client" if sync else "httpx_async_client"
    given = options.pop("http_options", None) or {}
    given = given if isinstance(given, dict) else given.model_dump(exclude_unset=True)
    ours = {
        "base_url": base,
        "api_version": version,
        "headers": {**_headers(endpoint, "x-goog-api-key"), **(given.get("headers") or {})},
        "timeout": int(engine_of(client).settings.timeout * 1_000),
        kind: of_package(client, "httpx2", sync=sync),
    }
    made: genai_sdk.Client = vendor.Client(**{"api_key": _key(endpoint), **options, "http_options": {**given, **ours}})
    return made


def _imported(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"this needs the vendor's own package: pip install {package}") from error


def _package(kind: type) -> str:
    """The package whose HTTP client an SDK uses by itself."""
    return next(base.__module__ for base in kind.__mro__ if base.__module__ in ("httpx", "httpx2"))


def _endpoint(engine: Engine, usual: str, dialects: set[str]) -> Endpoint:
    """The client's own endpoint if it speaks a format, or else the usual one."""
    targets = engine.targets
    own = () if targets.model is None or targets.is_local(targets.model) else targets.routes.models(targets.model)
    for model in own:
        endpoint = targets.target(model).endpoint
        if endpoint.dialect in dialects:
            return endpoint
    return targets.target(f"{usual}/any").endpoint


def _key(endpoint: Endpoint) -> str:
    return endpoint.api_key.reveal() if endpoint.api_key is not None else NO_KEY


def _headers(endpoint: Endpoint, own: str) -> dict[str, str]:
    """An endpoint's headers, and its key if the SDK sends it in another header than the endpoint wants."""
    key = endpoint.api_key
    if key is None or endpoint.key_header in (own, "Authorization"):
        return dict(endpoint.headers)
    return {**endpoint.headers, endpoint.key_header: key.reveal()}
