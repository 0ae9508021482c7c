"""How long to wait before a retry: exponential, with full jitter.

Full jitter (a uniform draw between 0 and an exponential ceiling) spreads clients that failed together over the whole
interval; "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, measures why it beats the smaller jitters.
"""

from __future__ import annotations

BASE = 0.5
"""Seconds: the ceiling of the first wait."""

CAP = 30.0
"""Seconds: the largest ceiling."""

OVERLOAD_BASE = 2.0
"""`BASE` for a provider without capacity."""

OVERLOAD_CAP = 60.0
"""`CAP` for a provider without capacity."""

EXCUSED_CAP = 5.0
"""Most seconds of jitter where the target was at fault: its calls are held back anyway."""

EXCUSED_FLOOR = 15.0
"""Most seconds of a Retry-After that count there."""


def delay(attempt: int, draw: float, *, base: float = BASE, cap: float = CAP, floor: float = 0.0) -> float:
    """Seconds to wait after the ``attempt``-th failure, counted from 1.

    Args:
        attempt: how many attempts have failed so far.
        draw: a uniform random number in [0, 1), drawn by the caller.
        base: the ceiling of the first wait, in seconds; it doubles with every failure.
        cap: the largest ceiling, in seconds.
        floor: seconds that the provider asked for (Retry-After). The jitter comes on top: so nobody comes back early,
            and not everybody at once. The floor itself is never multiplied.
    """
    # 2.0**1024 overflows a float, and no ceiling needs more than 63 doublings.
    ceiling = min(cap, base * 2.0 ** min(max(attempt - 1, 0), 63))
    return floor + draw * ceiling


def overload_delay(attempt: int, draw: float, *, floor: float = 0.0) -> float:
    """Seconds to wait when the provider has no capacity: more, because it recovers in minutes, not moments."""
    return delay(attempt, draw, base=OVERLOAD_BASE, cap=OVERLOAD_CAP, floor=floor)


def excused_delay(times: int, draw: float, told: float) -> float:
    """Seconds to wait after a failure that was the target's fault. Few: its calls are held back until it answers again.

    Args:
        times: such failures of this call so far.
        draw: see `delay`.
        told: seconds that the provider asked for.
    """
    return delay(times, draw, cap=EXCUSED_CAP, floor=min(told, EXCUSED_FLOOR))
