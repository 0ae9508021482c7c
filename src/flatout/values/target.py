"""Where calls go: endpoints, targets, and their limits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from flatout.errors import ConfigError

from .checks import is_positive
from .secret import Reticent, Secret, veiled_url


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, repr_omit_defaults=True):
    """The limits of a target. None means unknown.

    Args:
        rpm: requests per minute.
        tpm: tokens per minute, input and output together.
        itpm: input tokens per minute.
        otpm: output tokens per minute.
        rpd: requests per day.
        burst: how many seconds' worth of each per-minute limit the provider accepts at once if its bucket is full: 60
            for a whole minute's calls, 1.0 for none ahead of their time. If None, calls run ahead as far as the
            headers allow. If the headers do not tell, up to a minute's worth is tried, and never again after a refusal.
        concurrency: the most requests in flight.
        adaptive: what to adapt if no limit is known: the ``"rate"`` (hosted providers) or the ``"concurrency"``
            (self-hosted servers). If None, the provider decides.
        shared: a name under which the processes of this machine obey the limits together: the given, reported or found
            limits, and ``concurrency``.

    Raises:
        ConfigError: a limit is not a number above 0, ``concurrency`` is not whole, or ``shared`` is not a name.
    """

    rpm: float | None = None
    tpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    rpd: float | None = None
    burst: float | None = None
    concurrency: int | None = None
    adaptive: Literal["rate", "concurrency"] | None = None
    shared: str | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "itpm", "otpm", "rpd", "burst", "concurrency"):
            value = getattr(self, name)
            if value is not None and not is_positive(value):
                raise ConfigError(f"the limit {name} is a number above 0, not {value!r}")
        if self.concurrency is not None and not isinstance(self.concurrency, int):
            raise ConfigError(f"the limit concurrency is a whole number, not {self.concurrency!r}")
        if self.adaptive not in (None, "rate", "concurrency"):
            raise ConfigError(f"adaptive is 'rate' or 'concurrency', not {self.adaptive!r}")
        shared: Any = self.shared
        if shared is not None and not (isinstance(shared, str) and shared.strip()):
            raise ConfigError(f"shared is a name, such as 'openai', not {shared!r}")

    def over(self, base: Limits) -> Limits:
        """These limits, completed by those of ``base``."""
        return Limits(
            **{f: v if (v := getattr(self, f)) is not None else getattr(base, f) for f in self.__struct_fields__}
        )


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


class Target(Struct, frozen=True):
    """Endpoint, key and model. Limits, stops and prices belong to a target."""

    endpoint: Endpoint
    model: str

    @property
    def name(self) -> str:
        """``endpoint/model``, for people."""
        return f"{self.endpoint.name}/{self.model}" if self.model else self.endpoint.name

    @property
    def key(self) -> str:
        """A name that distinguishes keys without showing them."""
        url, secret = self.endpoint.base_url, self.endpoint.api_key
        address = veiled_url(url)
        hidden = (secret.reveal() if secret else "") + (url if address != url else "")
        return f"{address} {self.model} {hashlib.sha256(hidden.encode()).hexdigest()[:8] if hidden else '-'}"
