"""Read the limits that a provider advertises in its answers' headers.

Users need not state a limit that the provider advertises, and headers are newer than anybody's notes. Every provider
has its own names and notations. One table here holds them all; the names alone tell which provider's they are. A value
that makes no sense counts as absent: a wrong limit hurts more than a missing one.

Every answer passes here, and one provider's answers carry the same names each time. So this module caches what a whole
list of names means, and what a text such as ``6m0s`` means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3_600.0, 86_400.0  # in seconds

LONGEST = 366 * DAY
"""Seconds. A reset further from now than this, before or after, makes no sense."""

SKEW = 300.0
"""Seconds by which the provider's clock and ours may differ. Beyond, a reset belongs to the next longer window."""

EPOCH = 1e9
"""From this many seconds (September 2001) a bare number is an instant, not a wait."""

EPOCH_MS = 1e11
"""From this number (March 1973, in milliseconds) such an instant is in milliseconds."""

GATEWAY = "llm_provider-"
"""The prefix that LiteLLM puts before the names of its upstream's headers."""


class _Source(NamedTuple):
    """Where to read one limit: a field of `Advertised`, the names of three headers, and the window in seconds."""

    field: str
    limit: str
    remaining: str
    reset: str
    window: float | None


_PER_MINUTE_OR_DAY = "x-ratelimit-{}-requests"

# For each field, the first row that is present counts.
_SPELLINGS: tuple[tuple[str, str, float | None], ...] = (
    ("requests", _PER_MINUTE_OR_DAY, MINUTE),  # OpenAI, Azure, xAI; Groq, there per day
    ("requests", "anthropic-ratelimit-requests-{}", MINUTE),
    ("requests", "x-ratelimit-{}-req-minute", MINUTE),  # Mistral
    ("requests", "x-ratelimit-{}-requests-minute", MINUTE),  # Cerebras
    ("requests", "x-ratelimit-{}-requests-day", DAY),  # Cerebras
    ("requests", "x-ratelimit-{}", None),  # OpenRouter, Together; the name does not show the window, see `_window`
    ("tokens", "x-ratelimit-{}-tokens", MINUTE),
    ("tokens", "anthropic-ratelimit-tokens-{}", MINUTE),
    ("tokens", "x-ratelimit-{}-tokens-minute", MINUTE),  # Mistral, Cerebras
    ("tokens", "x-ratelimitbysize-{}-minute", MINUTE),  # Mistral's older ones
    ("tokens", "x-tokenlimit-{}", SECOND),  # Together
    # Fireworks' documentation says per second, but measurements on the wire show per minute.
    ("input_tokens", "x-ratelimit-{}-tokens-prompt", MINUTE),
    ("input_tokens", "anthropic-ratelimit-input-tokens-{}", MINUTE),
    ("output_tokens", "x-ratelimit-{}-tokens-generated", MINUTE),
    ("output_tokens", "anthropic-ratelimit-output-tokens-{}", MINUTE),
)

_TABLES = tuple(
    [
        _Source(
            field,
            prefix + name.format("limit"),
            prefix + name.format("remaining"),
            prefix + name.format("reset"),
            window,
        )
        for field, name, window in _SPELLINGS
    ]
    for prefix in ("", GATEWAY)
)

_UNITS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"([0-9.]{1,24})(ms|us|µs|ns|[dhms])")
_FRACTION = re.compile(r"\d{1,9}\.\d+")
_LONGEST_TEXT = 48  # the longest sensible reset, an instant with nanoseconds and offset, has 35 characters


class Quota(Struct, frozen=True):
    """One limit as a provider advertises it. None stands for a value that is absent or makes no sense.

    Attributes:
        limit: units per window, above 0.
        remaining: units left. Anthropic rounds tokens to thousands. A 0 without a limit counts as absent: Azure sends
            it when it does not know.
        reset: seconds from now until the limit is full again (a bucket) or starts anew (a fixed window), 0 or more.
            Together sends the wait that it suggests.
        window: seconds that the limit counts over.
    """

    limit: float | None
    remaining: float | None
    reset: float | None
    window: float = MINUTE


class Advertised(Struct, frozen=True):
    """The limits in one answer's headers; None where they are silent.

    Attributes:
        requests: requests.
        tokens: input and output tokens together. Anthropic sends the tightest of its token limits here.
        input_tokens: input tokens alone.
        output_tokens: output tokens alone.
    """

    requests: Quota | None = None
    tokens: Quota | None = None
    input_tokens: Quota | None = None
    output_tokens: Quota | None = None

    def quotas(self) -> list[tuple[str, Quota]]:
        """The quotas, by the names of `flatout.Limits`.

        Beside a limit on input tokens, a limit on all tokens adds nothing: it is Anthropic's, and repeats the tightest.
        """
        found: list[tuple[str, Quota]] = []
        if self.requests is not None:
            found.append(("rpd" if self.requests.window > MINUTE else "rpm", self.requests))
        for name, quota in (("tpm", self.tokens), ("itpm", self.input_tokens), ("otpm", self.output_tokens)):
            if quota is not None and not (name == "tpm" and self.input_tokens is not None):
                found.append((name, quota))
        return found


def advertised(headers: Mapping[str, str], wall: float, *, requests_per_day: bool = False) -> Advertised | None:
    """The limits in an answer's headers; None when there are none. Never raises.

    Args:
        headers: the answer's headers, looked up by lower-case names.
        wall: now, in seconds since the epoch, to measure resets that are instants against. The server's own ``date``
            is best: a wrong clock here does not disturb it.
        requests_per_day: whether ``x-ratelimit-limit-requests`` counts over a day (Groq), not a minute. No header
            says so reliably.
    """
    quotas = {}
    for field, limit, remaining, reset, window in _sources("\n".join(headers), requests_per_day):
        quota = _quota(headers.get(limit), headers.get(remaining), headers.get(reset), window, wall)
        if quota is not None:
            quotas[field] = quota
    return Advertised(**quotas) if quotas else None


def seconds_until(text: str, wall: float) -> float | None:
    """Seconds from now until a reset, 0 or more; None when the text makes no sense or is over 366 days from now.

    The text may be a duration (``12ms``, ``6m0s``, ``2m59.56s``), bare seconds, seconds or milliseconds since the epoch
    (from 10⁹ and 10¹¹ on), or an RFC 3339 instant (UTC when it names no zone). A past instant gives 0, a negative wait
    None.

    Args:
        text: the header's value.
        wall: now, in seconds since the epoch.
    """
    if len(text) > _LONGEST_TEXT:
        return None
    seconds, is_instant = _reset(text)
    if is_instant:
        seconds -= wall
        return max(0.0, seconds) if -LONGEST <= seconds <= LONGEST else None
    return seconds if 0 <= seconds <= LONGEST else None


@lru_cache(maxsize=128)
def _sources(names: str, requests_per_day: bool) -> tuple[_Source, ...]:
    """Where to read each limit, given the names of an answer's headers, one a line."""
    present = set(names.lower().split("\n"))
    for table in _TABLES:
        found: dict[str, _Source] = {}
        for source in table:
            if source.field not in found and not present.isdisjoint(source[1:4]):
                found[source.field] = source
        if found:
            return tuple(_timed(source, present, requests_per_day) for source in found.values())
    return ()


def _timed(source: _Source, present: set[str], requests_per_day: bool) -> _Source:
    """A source with its window corrected by what the caller, or another header, knows."""
    if requests_per_day and source.limit.endswith(_PER_MINUTE_OR_DAY.format("limit")):
        return source._replace(window=DAY)
    if source.window is None and any(name.endswith("x-tokenlimit-limit") for name in present):
        return source._replace(window=SECOND)  # only Together sends the two together, and both are per second
    return source


def _quota(
    limit_text: str | None, remaining_text: str | None, reset_text: str | None, window: float | None, wall: float
) -> Quota | None:
    limit = _count(limit_text) or None
    remaining = _count(remaining_text)
    if remaining == 0 and limit is None:
        remaining = None
    reset = seconds_until(reset_text, wall) if reset_text is not None else None
    if limit is None and remaining is None and reset is None:
        return None
    return Quota(limit, remaining, reset, window if window is not None else _window(reset_text, reset))


def exaggerates(headers: Mapping[str, str]) -> bool:
    """Whether the answer comes from a gateway that asks to wait a minute for what is free in seconds (LiteLLM)."""
    return any(name.lower().startswith(("x-litellm-", GATEWAY)) for name in headers)


def _count(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _window(reset_text: str | None, reset: float | None) -> float:
    """The window in seconds of a limit whose name does not show it. Only the reset gives a hint.

    Together limits per second, and nobody else writes waits as a fraction of seconds. Otherwise it is a minute, unless
    the reset lies further away (OpenRouter limits its free models per day).
    """
    if reset_text is None or reset is None:
        return MINUTE
    if _FRACTION.fullmatch(reset_text):
        return SECOND
    return next((window for window in (MINUTE, HOUR, DAY) if reset <= window + SKEW), reset)


@lru_cache(maxsize=1024)
def _reset(text: str) -> tuple[float, bool]:
    """A reset's seconds (NaN when it makes no sense), and whether they count from the epoch and not from now."""
    text = text.strip()
    try:
        if text[-1:] in _UNITS:
            return _duration(text), False
        if "-" in text[1:] and ":" in text:
            return _instant(text), True
        number = float(text)
    except (ValueError, OverflowError):
        return math.nan, False
    if number < EPOCH:
        return number, False
    return (number / 1000 if number >= EPOCH_MS else number), True


def _duration(text: str) -> float:
    """Seconds in a duration as Go writes it; days are allowed, too."""
    seconds, end = 0.0, 0
    for part in _DURATION_PART.finditer(text):
        if part.start() != end:
            return math.nan
        seconds += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    return seconds if end == len(text) else math.nan


def _instant(text: str) -> float:
    then = datetime.fromisoformat(text.upper())  # RFC 3339 allows a small t and z, Python does not
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp()
