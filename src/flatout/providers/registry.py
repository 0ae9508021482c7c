"""The built-in providers: rows of data. Most speak OpenAI's chat completions; the others name their own dialect.

Addresses, key variables and field names are the providers' documented ones (November 2026). flatout.toml can override
each of them. Other servers are reached with ``base_url=``.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from flatout.errors import ConfigError
from flatout.values import Endpoint

_NEW = "max_completion_tokens"
"""OpenAI's newer name for ``max_tokens``, which counts reasoning too. Its reasoning models accept no other name."""


_PROMPT_CACHES: dict[str, Literal["breakpoints", "prompt_cache_key"]] = {
    "openai": "breakpoints",
    "azure": "prompt_cache_key",  # a deployment's name does not tell its model, and provisioned ones refuse breakpoints
}
"""What OpenAI's and Azure's chat completions take to cache prompts."""

_BATCHES = frozenset({"openai", "azure", "groq", "mistral", "together", "fireworks", "openrouter", "xai"})
"""The OpenAI-compatible providers with a batch endpoint whose form flatout knows."""

_FLEX = {"openai": "flex", "groq": "flex"}
"""What ``service_tier`` must be for the slower service: OpenAI's at half the price, Groq's at the full one."""


def _hosted(
    name: str,
    base_url: str,
    key_env: str,
    limit_headers: str,
    max_tokens_field: str = "max_tokens",
    *,
    schemas: bool = True,
) -> Endpoint:
    return Endpoint(
        name=name,
        base_url=base_url,
        key_env=key_env,
        limit_headers=limit_headers,
        max_tokens_field=max_tokens_field,
        schema_mode="json_schema" if schemas else "json_object",
        key_header="api-key" if name == "azure" else "Authorization",
        reserves="max_tokens" if name in ("openai", "azure") else "usage",
        prompt_cache=_PROMPT_CACHES.get(name, ""),
        batch=name if name in _BATCHES else "",
        flex=_FLEX.get(name, ""),
    )


def _own(name: str, base_url: str, key_env: str | None = None) -> Endpoint:
    return Endpoint(name=name, base_url=base_url, key_env=key_env, key_required=False, self_hosted=True, batch="")


# fmt: off
_COMPATIBLE = (
    #        name          base_url                                 key_env                 limit_headers  max_tokens
    _hosted("openai",     "https://api.openai.com/v1",              "OPENAI_API_KEY",       "openai", _NEW),
    _hosted("azure",      "",                                       "AZURE_OPENAI_API_KEY", "azure", _NEW),
    _hosted("groq",       "https://api.groq.com/openai/v1",         "GROQ_API_KEY",         "groq", _NEW),
    _hosted("mistral",    "https://api.mistral.ai/v1",              "MISTRAL_API_KEY",      "mistral"),
    _hosted("together",   "https://api.together.xyz/v1",            "TOGETHER_API_KEY",     "together"),
    _hosted("fireworks",  "https://api.fireworks.ai/inference/v1",  "FIREWORKS_API_KEY",    "fireworks"),
    _hosted("openrouter", "https://openrouter.ai/api/v1",           "OPENROUTER_API_KEY",   "openrouter"),
    _hosted("deepseek",   "https://api.deepseek.com/v1",            "DEEPSEEK_API_KEY",     "", schemas=False),
    _hosted("xai",        "https://api.x.ai/v1",                    "XAI_API_KEY",          "", _NEW),
    _own("ollama",        "http://127.0.0.1:11434/v1"),
    _own("vllm",          "http://127.0.0.1:8000/v1",               "VLLM_API_KEY"),
    _own("llamacpp",      "http://127.0.0.1:8080/v1",               "LLAMA_API_KEY"),
)
# fmt: on

_OTHERS = (
    Endpoint(
        name="anthropic",
        base_url="https://api.anthropic.com/v1",
        dialect="anthropic",
        key_env="ANTHROPIC_API_KEY",
        key_header="x-api-key",
        limit_headers="anthropic",
        reserves="usage",  # output counts as it is written; max_tokens does not matter
        prompt_cache="cache_control",
        batch="anthropic",
    ),
    Endpoint(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        dialect="gemini",
        key_env="GEMINI_API_KEY",
        key_header="x-goog-api-key",
        reserves="input",
        batch="gemini",
        flex="flex",
    ),
    Endpoint(
        name="openai-responses",
        base_url="https://api.openai.com/v1",
        dialect="openai-responses",
        key_env="OPENAI_API_KEY",
        limit_headers="openai",
        reserves="max_tokens",
        prompt_cache="breakpoints",
        batch="openai",
        flex="flex",
    ),
)
"""The providers with their own wire format."""

_ROWS = (*_COMPATIBLE, *_OTHERS)

BUILT_IN = {row.name: row for row in _ROWS}
"""The built-in endpoints by name.

Azure's ``base_url`` is empty, because every account has its own (see `ADDRESS_ENV`): the resource's address, with or
without ``/openai/v1``, or ``https://NAME.openai.azure.com/openai/deployments/{model}`` with ``api-version`` in
``query``.
"""

ALSO_AT = {"together": ("https://api.together.ai/v1", "https://api-inference.together.ai/v1")}
"""By provider: further addresses of the same calls. Together's own package (3.1) asks there."""

ADDRESS_ENV = {"azure": "AZURE_OPENAI_ENDPOINT"}
"""By provider: the environment variable that holds an address which differs from account to account."""


ACCOUNT_ENV = {"fireworks": "FIREWORKS_ACCOUNT_ID"}
"""By the form of batches: the environment variable that names the account, where the addresses of batches have it."""


_HOMES = {
    "AZURE_OPENAI_API_KEY": (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
}
"""By key variable, for addresses that differ from account to account: the domains that may receive the key."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Host names of this machine."""


UNIX = "http+unix"
"""The scheme of a server at a Unix socket, whose path is percent-encoded: ``http+unix://%2Frun%2Fllm.sock/v1``."""


def socket_of(url: str) -> str:
    """The path of an address's Unix socket; "" if it has none. It is absolute, so that it means the same everywhere."""
    parts = urlsplit(url)
    path = unquote(parts.netloc) if parts.scheme == UNIX else ""
    return path if path.startswith("/") and "\0" not in path else ""


def at_home(key_env: str | None, url: str) -> bool:
    """Whether a key may go to an address, for a provider whose addresses differ from account to account.

    This machine counts as home: it is the user's own tunnel or recorder.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if key_env not in _HOMES or host in LOOPBACK or parts.scheme == UNIX:
        return True
    return parts.scheme == "https" and host.endswith(_HOMES[key_env])


def origin(url: str) -> str:
    """Scheme, host and port of an address, or its Unix socket."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{quote(socket_of(url), safe='') or parts.netloc}"


def is_own_place(endpoint: Endpoint, url: str) -> bool:
    """Whether an address is a built-in endpoint's own, so that its key may go there without the user's approval."""
    if origin(url) == origin(endpoint.base_url):
        return True
    return not endpoint.base_url and at_home(endpoint.key_env, url)


def known(name: str) -> bool:
    """Whether a provider of this name is built in."""
    return name in BUILT_IN


def find(name: str, own: Collection[str] = ()) -> Endpoint:
    """The built-in endpoint of a name, without its key.

    Args:
        name: the name.
        own: the names of the endpoints that flatout.toml adds, for the message.

    Raises:
        ConfigError: no endpoint has this name; the message lists all names, and the one that was probably meant.
    """
    endpoint = BUILT_IN.get(name)
    if endpoint is not None:
        return endpoint
    close = get_close_matches(name.lower(), [*own, *BUILT_IN], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    added = f"in flatout.toml: {', '.join(own)}; " if own else ""
    raise ConfigError(f"no provider is named {name!r}{hint} ({added}built in: {', '.join(BUILT_IN)}, local)")


def owner_of(key_env: str) -> Endpoint | None:
    """The built-in endpoint whose key an environment variable holds; None if there is none.

    OpenAI's two APIs share a key and an origin, so the first one stands for both.
    """
    return next((row for row in _ROWS if row.key_env == key_env), None)
