"""How providers enforce a limit per minute: a token bucket, a sliding window, a fixed window.

All three are exact and pure: the caller passes the time. An amount larger than a window can hold, but not larger than a
minute's limit, is admitted when nothing else is in the window. So a bucket of one second does not lock out a prompt of
two seconds' worth of tokens.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol

from ._settings import ProviderSettings

DAY = 86_400.0

_DUST = 1e-9  # tolerance for the errors of adding floats


class LimitState(NamedTuple):
    """A limit's state for the headers: the limit per minute, what remains, and the seconds until it is full again."""

    limit: float
    remaining: float
    reset: float


class Window(Protocol):
    """One limit, enforced in one way. Times never go back."""

    limit: float

    def wait(self, now: float, amount: float) -> float:
        """Seconds until the amount fits; 0 if it fits now, infinity if it never will."""
        ...

    def take(self, now: float, amount: float) -> None:
        """Charge an amount, whether it fits or not."""
        ...

    def waste(self, now: float, amount: float) -> None:
        """Charge a refused request. A storm of them keeps the limit used up."""
        ...

    def read(self, now: float) -> LimitState:
        """The state, for the headers."""
        ...

    def change(self, now: float, limit: float) -> None:
        """Enforce another limit from now on."""
        ...


class Bucket:
    """A token bucket that refills continuously and holds ``burst`` seconds' worth, at least 1."""

    __slots__ = ("_at", "_burst", "_capacity", "_level", "_rate", "limit")

    def __init__(self, limit: float, *, burst: float, full: bool, now: float = 0.0) -> None:
        self._burst = burst
        self._at = now
        self._enforce(limit)
        self._level = self._capacity if full else 0.0

    def wait(self, now: float, amount: float) -> float:
        if amount > self.limit and amount > self._capacity:
            return math.inf
        self._refill(now)
        short = min(amount, self._capacity) - self._level
        return short / self._rate if short > _DUST * (1 + amount) else 0.0

    def take(self, now: float, amount: float) -> None:
        self._refill(now)
        self._level -= amount

    def waste(self, now: float, amount: float) -> None:
        self._refill(now)
        self._level = max(self._level - amount, min(self._level, 0.0))

    def read(self, now: float) -> LimitState:
        self._refill(now)
        return LimitState(self.limit, max(0.0, self._level), (self._capacity - self._level) / self._rate)

    def change(self, now: float, limit: float) -> None:
        self._refill(now)
        self._enforce(limit)
        self._level = min(self._level, self._capacity)

    def _enforce(self, limit: float) -> None:
        self.limit = limit
        self._rate = limit / 60
        self._capacity = max(1.0, self._rate * self._burst)

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
            self._at = now


class SlidingWindow:
    """A window that slides: the charges of the last ``window`` seconds stay below that time's share of the limit."""

    __slots__ = ("_allowed", "_charges", "_used", "_window", "limit")

    def __init__(self, limit: float, *, window: float = 60.0) -> None:
        self._window = window
        self._charges: deque[tuple[float, float]] = deque()  # (until when it counts, amount), oldest first
        self._used = 0.0
        self.change(0.0, limit)

    def wait(self, now: float, amount: float) -> float:
        if amount > self.limit and amount > self._allowed:
            return math.inf
        self._forget(now)
        excess = self._used - max(0.0, self._allowed - amount)
        wait = 0.0
        for until, charge in self._charges:
            if excess <= 0:
                break
            excess -= charge
            wait = until - now
        return wait

    def take(self, now: float, amount: float) -> None:
        self._forget(now)
        self._charges.append((now + self._window, amount))
        self._used += amount

    def waste(self, now: float, amount: float) -> None:
        self.take(now, amount)

    def read(self, now: float) -> LimitState:
        self._forget(now)
        reset = self._charges[-1][0] - now if self._charges else 0.0
        return LimitState(self.limit, max(0.0, self._allowed - self._used), reset)

    def change(self, now: float, limit: float) -> None:
        self.limit = limit
        self._allowed = max(1.0, limit * self._window / 60)

    def _forget(self, now: float) -> None:
        charges = self._charges
        while charges and charges[0][0] <= now:
            self._used -= charges.popleft()[1]


class FixedWindow:
    """A count that restarts every ``window`` seconds. ``limit`` is per ``per`` seconds."""

    __slots__ = ("_allowed", "_index", "_per", "_used", "_window", "limit")

    def __init__(self, limit: float, *, window: float = 60.0, per: float = 60.0) -> None:
        self._window = window
        self._per = per
        self._index = 0
        self._used = 0.0
        self.change(0.0, limit)

    def wait(self, now: float, amount: float) -> float:
        if amount > self.limit and amount > self._allowed:
            return math.inf
        self._turn(now)
        fits = self._used + min(amount, self._allowed) <= self._allowed
        return 0.0 if fits else self._ends() - now

    def take(self, now: float, amount: float) -> None:
        self._turn(now)
        self._used += amount

    def waste(self, now: float, amount: float) -> None:
        self.take(now, amount)

    def read(self, now: float) -> LimitState:
        self._turn(now)
        return LimitState(self.limit, max(0.0, self._allowed - self._used), self._ends() - now)

    def change(self, now: float, limit: float) -> None:
        self.limit = limit
        self._allowed = max(1.0, limit * self._window / self._per)

    def _ends(self) -> float:
        return (self._index + 1) * self._window

    def _turn(self, now: float) -> None:
        if now >= self._ends():
            self._index = math.floor(now / self._window)
            self._used = 0.0


class Exceeded(NamedTuple):
    """Why a request was refused: the limit's name on the wire, the limit, and the seconds to wait."""

    name: str
    limit: float
    wait: float


class RateLimits:
    """All rate limits of a provider: requests and tokens per minute, and requests per day."""

    __slots__ = ("day", "requests", "settings", "tokens")

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self.requests = self._window(settings.rpm)
        self.tokens = self._window(settings.tpm)
        self.day: Window | None = FixedWindow(settings.rpd, window=DAY, per=DAY) if settings.rpd else None

    def refusal(self, now: float, tokens: int) -> Exceeded | None:
        """Why a request of ``tokens`` tokens does not fit now; None if it does."""
        worst: Exceeded | None = None
        for name, window, amount in (
            ("requests per day (RPD)", self.day, 1),
            ("requests per min (RPM)", self.requests, 1),
            ("tokens per min (TPM)", self.tokens, tokens),
        ):
            if window is not None and (wait := window.wait(now, amount)) > 0 and (worst is None or wait > worst.wait):
                worst = Exceeded(name, window.limit, wait)
        return worst

    def take(self, now: float, tokens: int) -> None:
        """Charge one request and its tokens."""
        if self.requests is not None:
            self.requests.take(now, 1)
        if self.day is not None:
            self.day.take(now, 1)
        self.take_tokens(now, tokens)

    def take_tokens(self, now: float, tokens: int) -> None:
        """Charge tokens that are known only afterwards."""
        if self.tokens is not None:
            self.tokens.take(now, tokens)

    def waste(self, now: float) -> None:
        """Charge one request that was refused or failed."""
        if self.requests is not None:
            self.requests.waste(now, 1)
        if self.day is not None:
            self.day.waste(now, 1)

    def read(self, now: float) -> tuple[LimitState | None, LimitState | None, LimitState | None]:
        """The readings of requests, tokens and the day's requests."""
        return (
            self.requests.read(now) if self.requests is not None else None,
            self.tokens.read(now) if self.tokens is not None else None,
            self.day.read(now) if self.day is not None else None,
        )

    def change(self, now: float, settings: ProviderSettings) -> None:
        """Enforce changed settings from now on; earlier charges stay."""
        self.settings = settings
        self.requests = self._changed(self.requests, now, settings.rpm)
        self.tokens = self._changed(self.tokens, now, settings.tpm)
        if self.day is not None and settings.rpd is not None:
            self.day.change(now, settings.rpd)
        else:
            self.day = FixedWindow(settings.rpd, window=DAY, per=DAY) if settings.rpd else None

    def _changed(self, window: Window | None, now: float, limit: float | None) -> Window | None:
        if window is None or limit is None:
            return self._window(limit, now)
        if window.limit != limit:
            window.change(now, limit)
        return window

    def _window(self, limit: float | None, now: float = 0.0) -> Window | None:
        if limit is None:
            return None
        settings = self.settings
        if settings.limit == "bucket":
            return Bucket(limit, burst=settings.burst, full=settings.burst_full, now=now)
        if settings.limit == "sliding":
            return SlidingWindow(limit, window=settings.window)
        return FixedWindow(limit, window=settings.window)
