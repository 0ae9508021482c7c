"""The rate-limit headers of each provider, as they look on the wire."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import NamedTuple

from ._limits import LimitState, RateLimits

Headers = dict[str, str]


class State(NamedTuple):
    """The limits at one moment."""

    wall: float
    requests: LimitState | None
    tokens: LimitState | None
    day: LimitState | None


class HeaderWriter:
    """Writes the headers of one dialect, from the current limits or from those some seconds ago."""

    __slots__ = ("_past", "_stale", "_write")

    def __init__(self, dialect: str, stale: float) -> None:
        self._write = DIALECTS[dialect]
        self._stale = stale
        self._past: deque[tuple[float, State]] = deque()

    def write(self, now: float, wall: float, limits: RateLimits, cost: int) -> Headers:
        """The headers for an answer to a request that cost ``cost`` tokens."""
        if self._write is _silent:
            return {}
        state = State(wall, *limits.read(now))
        if self._stale:
            state = self._earlier(now, state)
        return self._write(state, cost)

    def _earlier(self, now: float, state: State) -> State:
        past = self._past
        past.append((now, state))
        while len(past) > 1 and past[1][0] <= now - self._stale:
            past.popleft()
        return past[0][1]


def retry_after(form: str, wait: float, wall: float) -> Headers:
    """How a 429 asks for ``wait`` seconds: as ``seconds``, ``ms``, ``both``, ``date``, or "" for not at all.

    Seconds and dates have no fractions, so they are rounded up.
    """
    headers: Headers = {}
    if form in ("seconds", "both"):
        headers["retry-after"] = str(math.ceil(wait))
    if form in ("ms", "both"):
        headers["retry-after-ms"] = str(math.ceil(wait * 1000))
    if form == "date":
        headers["retry-after"] = formatdate(math.ceil(wall + wait), usegmt=True)
    return headers


def duration(seconds: float) -> str:
    """A duration as OpenAI and Groq write it: ``12ms``, ``1s``, ``2m59.56s``, ``1h2m3s``."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)  # do not round a float error up to a millisecond
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _silent(_state: State, _cost: int) -> Headers:
    return {}


def _openai(state: State, _cost: int) -> Headers:
    return _limit_remaining_reset(("requests", state.requests), ("tokens", state.tokens), reset=duration)


def _azure(state: State, _cost: int) -> Headers:
    return _limit_remaining_reset(
        ("requests", state.requests), ("tokens", state.tokens), reset=lambda seconds: str(math.ceil(seconds))
    )


def _groq(state: State, _cost: int) -> Headers:
    return _limit_remaining_reset(("requests", state.day), ("tokens", state.tokens), reset=duration)


def _limit_remaining_reset(*axes: tuple[str, LimitState | None], reset: Callable[[float], str]) -> Headers:
    headers: Headers = {}
    for axis, reading in axes:
        if reading is not None:
            headers[f"x-ratelimit-limit-{axis}"] = str(int(reading.limit))
            headers[f"x-ratelimit-remaining-{axis}"] = str(int(reading.remaining))
            headers[f"x-ratelimit-reset-{axis}"] = reset(reading.reset)
    return headers


def _anthropic(state: State, _cost: int) -> Headers:
    headers: Headers = {}
    for axis, reading, step in (("requests", state.requests, 1), ("tokens", state.tokens, 1000)):
        if reading is not None:
            instant = datetime.fromtimestamp(math.ceil(state.wall + reading.reset), UTC)
            headers[f"anthropic-ratelimit-{axis}-limit"] = str(int(reading.limit))
            headers[f"anthropic-ratelimit-{axis}-remaining"] = str(round(int(reading.remaining) / step) * step)
            headers[f"anthropic-ratelimit-{axis}-reset"] = instant.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers


def _mistral(state: State, cost: int) -> Headers:
    headers: Headers = {"x-ratelimit-tokens-query-cost": str(cost)}
    for axis, reading in (("req", state.requests), ("tokens", state.tokens)):
        if reading is not None:
            headers[f"x-ratelimit-limit-{axis}-minute"] = str(int(reading.limit))
            headers[f"x-ratelimit-remaining-{axis}-minute"] = str(int(reading.remaining))
    return headers


def _together(state: State, _cost: int) -> Headers:
    if state.requests is None:
        return {}
    limit, remaining, reset = state.requests
    suggested = 0.0 if remaining >= 1 else reset
    return {
        "x-ratelimit-limit": f"{limit / 60:g}",  # per second
        "x-ratelimit-remaining": str(int(remaining)),
        "x-ratelimit-reset": f"{suggested:.3f}",
    }


def _fireworks(state: State, _cost: int) -> Headers:
    headers: Headers = {}
    axes = (("requests", state.requests), ("tokens-prompt", state.tokens), ("tokens-generated", state.tokens))
    for axis, reading in axes:
        if reading is not None:
            headers[f"x-ratelimit-limit-{axis}"] = str(int(reading.limit))
            headers[f"x-ratelimit-remaining-{axis}"] = str(int(reading.remaining))
    return headers


def _openrouter(state: State, _cost: int) -> Headers:
    if state.requests is None:
        return {}
    return {
        "x-ratelimit-limit": str(int(state.requests.limit)),
        "x-ratelimit-remaining": str(int(state.requests.remaining)),
        "x-ratelimit-reset": str(math.ceil((state.wall + state.requests.reset) * 1000)),  # epoch milliseconds
    }


DIALECTS: Mapping[str, Callable[[State, int], Headers]] = {
    "": _silent,
    "openai": _openai,
    "azure": _azure,
    "anthropic": _anthropic,
    "groq": _groq,
    "mistral": _mistral,
    "together": _together,
    "fireworks": _fireworks,
    "openrouter": _openrouter,
}
