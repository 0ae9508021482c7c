"""The settings of a simulated provider. Plain data: they can be read from JSON or TOML with ``msgspec.convert``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, structs

from flatout.errors import ConfigError

from ._batches._settings import BatchSettings
from ._faults import Faults

CHANGEABLE = frozenset(
    {"rpm", "tpm", "rpd", "slots", "queue", "slow_above", "latency", "latency_p99", "first_token", "word_gap"}
)
"""The settings that ``changes`` may change while the provider runs."""

_ABOVE_ZERO = (
    *("rpm", "tpm", "rpd", "slots", "slow_above", "window", "burst", "context_tokens", "embedding_dimensions"),
    *("prompt_cache_least", "prompt_cache_seconds", "prompt_cache_rpm"),
)
_FROM_ZERO = (
    "queue",
    "latency",
    "first_token",
    "word_gap",
    "error_latency",
    "output_tokens",
    "stale_headers",
    "retry_after_always",
)


class ProviderSettings(Struct, frozen=True, kw_only=True):
    """How a simulated provider behaves. With the defaults it answers every request in half a second.

    All times are seconds. ``changes``, ``outage`` and ``no_room`` count from the model's start: the first request,
    unless `ProviderModel.start` was called before.

    Args:
        rpm: requests per minute; None for unlimited.
        tpm: tokens per minute; None for unlimited.
        rpd: requests per day, in a fixed window.
        limit: how rpm and tpm are enforced: a token ``bucket``, a ``sliding`` window or a ``fixed`` one.
        window: seconds over which ``sliding`` and ``fixed`` count, with their share of the limit.
        burst: how much of the limit the bucket holds, in seconds.
        burst_full: whether the bucket is full at the start.
        charge_failed: whether requests that are refused or fail count against the limit on requests.
        reserve_max_tokens: charge ``max(max_tokens, estimated prompt)`` on admission, and never correct it, as OpenAI
            does; otherwise charge the prompt on admission and the answer when it is ready.
        slots: most requests served at once, as by a self-hosted server; None for unlimited.
        queue: most requests that wait for a slot; None for unlimited.
        queue_status: the status for requests that find the queue full.
        slow_above: requests in flight above which service slows down in proportion; None for never.
        latency: the median service time.
        latency_p99: its 99th percentile; None for three times the median.
        first_token: the median time until a streamed answer begins; None for a fifth of the service time.
        word_gap: the median time between the words of a streamed answer; None for the rest of the service time, spread
            evenly. Both vary as the service time does.
        error_latency: the time until a refusal.
        output_tokens: the median length of an answer, cut at the request's ``max_tokens``.
        output_tokens_p99: its 99th percentile; None for four times the median.
        embedding_dimensions: the length of vectors, unless the request sets another.
        headers: the dialect of the rate-limit headers; "" for none.
        stale_headers: the age of the state that the headers report.
        retry_after: how a 429 says when to come back: ``seconds``, ``ms``, ``both``, an HTTP ``date``, or "" for not.
        names_limits: whether a 429 names the limit in its text, as OpenAI's does.
        retry_after_always: the same wait in every 429 instead of the right one.
        changes: ``(at, {name: new value})``, for `CHANGEABLE` settings.
        faults: the faults and their probabilities.
        outage: the start and the end of an outage.
        outage_as: whether an outage is a 503 or a refused connection.
        no_room: the start and the end of a time without room for the flex tier: its requests get a 429.
        key: the only key that is accepted; None for any key or none.
        models: the only models that exist; empty for any.
        context_tokens: the longest prompt, or text to embed.
        prompt_cache: how prompts are cached: "" for not; ``prefix`` as by OpenAI's earlier models, which know any
            beginning again; ``breakpoints`` as by GPT-5.6 and later, only up to a marker. Anthropic's Messages are
            cached up to their markers in both cases.
        prompt_cache_least: the fewest tokens of a beginning that is cached.
        prompt_cache_seconds: how long a cached beginning lasts after it was last used.
        prompt_cache_rpm: chat completions a minute with one beginning and ``prompt_cache_key`` that one machine serves;
            more go to further machines, each with a cache of its own. None for one machine.
        batch: how batches behave.

    Raises:
        ConfigError: a value makes no sense.
    """

    rpm: float | None = None
    tpm: float | None = None
    rpd: float | None = None
    limit: Literal["bucket", "sliding", "fixed"] = "bucket"
    window: float = 60.0
    burst: float = 60.0
    burst_full: bool = True
    charge_failed: bool = False
    reserve_max_tokens: bool = True
    slots: int | None = None
    queue: int | None = None
    queue_status: Literal[429, 503] = 503
    slow_above: int | None = None
    latency: float = 0.5
    latency_p99: float | None = None
    first_token: float | None = None
    word_gap: float | None = None
    error_latency: float = 0.02
    output_tokens: int = 60
    output_tokens_p99: int | None = None
    embedding_dimensions: int = 256
    headers: Literal["", "openai", "azure", "anthropic", "groq", "mistral", "together", "fireworks", "openrouter"] = ""
    stale_headers: float = 0.0
    retry_after: Literal["", "seconds", "ms", "both", "date"] = "seconds"
    names_limits: bool = False
    retry_after_always: float | None = None
    changes: tuple[tuple[float, dict[str, float | None]], ...] = ()
    faults: Faults = Faults()
    outage: tuple[float, float] | None = None
    outage_as: Literal["503", "refused"] = "503"
    no_room: tuple[float, float] | None = None
    key: str | None = None
    models: tuple[str, ...] = ()
    context_tokens: int | None = None
    prompt_cache: Literal["", "prefix", "breakpoints"] = ""
    prompt_cache_least: int = 1_024
    prompt_cache_seconds: float = 300.0
    prompt_cache_rpm: float | None = 15.0
    batch: BatchSettings = BatchSettings()

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is a number above 0, not {value!r}")
        for name in _FROM_ZERO:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"{name} must not be negative, and {value!r} is")
        for p99, median in (("latency_p99", self.latency), ("output_tokens_p99", self.output_tokens)):
            value = getattr(self, p99)
            if value is not None and value < median:
                raise ConfigError(f"{p99} must not be below the median of {median!r}, and {value!r} is")
        later = self
        for _, change in self.schedule():
            if unknown := change.keys() - CHANGEABLE:
                raise ConfigError(f"changes may change {', '.join(sorted(CHANGEABLE))}, not {min(unknown)}")
            later = later.changed(change)  # so that an error shows now and not in the middle of a run

    def __repr__(self) -> str:
        default = ProviderSettings()
        given = {name: value for name, value in structs.asdict(self).items() if value != getattr(default, name)}
        if "key" in given:
            given["key"] = "…"
        return f"ProviderSettings({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def schedule(self) -> list[tuple[float, dict[str, float | None]]]:
        """The changes, in the order of their times."""
        return sorted(self.changes, key=lambda change: change[0])

    def changed(self, change: Mapping[str, object]) -> ProviderSettings:
        """These settings with some values replaced, and nothing scheduled any more."""
        return structs.replace(self, **{"changes": (), **change})
