"""Where calls go: endpoints and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from .limits import Limits
from .secret import Reticent, Secret, veiled_url


class Endpoint(Reticent, frozen=True, kw_only=True):
    """A server that answers calls: its address, its wire format, and its key.

    Args:
        name: the first part of ``name/model``.
        base_url: the address up to and including the version, such as ``https://api.openai.com/v1``.
        dialect: the wire format; ``openai`` (chat completions) unless the provider has its own.
        key_env: the environment variable that holds its key; None if it needs none.
        api_key: the key itself. Wins over ``key_env``.
        key_header: the header that carries the key: ``Authorization`` (with ``Bearer``) or another name.
        key_required: whether a call without a key is pointless.
        headers: sent with every request.
        limit_headers: the dialect of its rate-limit headers; "" if it sends none.
        reserves: how it charges tokens per minute: by ``usage``, by ``max_tokens`` on admission, or by ``input`` only.
        self_hosted: whether it is the user's own server (vLLM, llama.cpp, Ollama), limited by concurrency and not by
            rate.
        max_tokens_field: the wire's name for ``max_tokens``.
        schema_mode: how to ask it for JSON: by a ``json_schema``, or, if it takes no schema, by a ``json_object`` with
            the schema in the system prompt.
        query: sent with every URL (Azure's ``api-version``).
        limits: its limits, if known.
        system: the system prompt for calls that have none; for models that need one.
        prompt_cache: what it takes to cache the beginnings of prompts: Anthropic's markers (``cache_control``),
            OpenAI's key (``prompt_cache_key``), also with its markers for the models that know them (``breakpoints``);
            "" if it caches by itself, or not at all.
        batch: the form of its batch endpoint: its provider's name, or that of a provider whose form it has; "" if it
            has none.
        account: the account that its batches belong to, where their addresses name it; "" if it is not known.
        flex: what ``service_tier`` must be for the cheaper and slower service; "" if it has none.
        group: endpoints of one group share the limits of each model; None if it shares them with no other.
    """

    name: str
    base_url: str
    dialect: str = "openai"
    key_env: str | None = None
    api_key: Secret | None = None
    key_header: str = "Authorization"
    key_required: bool = True
    headers: Mapping[str, str] = {}
    limit_headers: str = ""
    reserves: Literal["usage", "max_tokens", "input"] = "usage"
    self_hosted: bool = False
    max_tokens_field: str = "max_tokens"
    schema_mode: Literal["json_schema", "json_object"] = "json_schema"
    query: Mapping[str, str] = {}
    limits: Limits = Limits()
    system: str | None = None
    prompt_cache: Literal["", "cache_control", "prompt_cache_key", "breakpoints"] = ""
    batch: str = "openai"
    account: str = ""
    flex: str = ""
    group: str | None = None


class Target(Struct, frozen=True):
    """Endpoint, key and model. Limits, stops and prices belong to a target."""

    endpoint: Endpoint
    model: str

    @property
    def name(self) -> str:
        """``endpoint/model``, for people."""
        return f"{self.endpoint.name}/{self.model}" if self.model else self.endpoint.name

    @property
    def limited(self) -> tuple[str, str]:
        """What its limits belong to: its own name and `key`, or those of the group that shares them, and its model."""
        group = self.endpoint.group
        return (self.name, self.key) if group is None else (f"{group}/{self.model}", f"group {group} {self.model}")

    @property
    def key(self) -> str:
        """A name that distinguishes keys without showing them."""
        url, secret = self.endpoint.base_url, self.endpoint.api_key
        address = veiled_url(url)
        hidden = (secret.reveal() if secret else "") + (url if address != url else "")
        return f"{address} {self.model} {hashlib.sha256(hidden.encode()).hexdigest()[:8] if hidden else '-'}"
