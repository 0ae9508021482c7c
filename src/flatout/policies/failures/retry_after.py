"""Read how long a provider asks to wait.

Providers, gateways and proxies use several headers and notations. A value that makes no sense counts as absent: a wrong
pause of hours hurts more than a missing one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC

_HEADERS = (("retry-after-ms", 1e-3), ("retry-after", 1.0), ("llm_provider-retry-after", 1.0))
"""The headers, best first, each with its unit in seconds. The last is LiteLLM's copy of its upstream's."""

INSTANT = 1e9
"""A number from here on is an instant and no wait: 32 years as a wait, the year 2001 in seconds since the epoch."""

MILLISECONDS = 1e11
"""An instant from here on is in milliseconds: in seconds it would lie in the year 5138."""


def retry_after(headers: Mapping[str, str], wall: float | None = None) -> float | None:
    """Seconds that an answer asks to wait, 0 or more; None when it names no time that makes sense.

    ``retry-after-ms`` (OpenAI, Azure) is finer and wins over ``retry-after`` (RFC 9110: seconds or an HTTP date). Some
    gateways send the instant at which to come back instead, in seconds or milliseconds since the epoch. Long waits,
    even of days, are returned as they are; the pacer decides whether to believe them.

    Args:
        headers: the answer's headers, names in lower case.
        wall: now, in seconds since the epoch. An instant is measured against the answer's own ``date``, which a wrong
            clock on this side does not disturb; ``wall`` serves if there is none.
    """
    for name, unit in _HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        number = _number(value)
        if number is not None and number < INSTANT:
            return number * unit
        seconds = _until(value if number is None else number, headers.get("date"), wall)
        if seconds is not None:
            return seconds
    return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _until(instant: str | float, date: str | None, wall: float | None) -> float | None:
    then = _epoch(instant) if isinstance(instant, str) else instant / (1e3 if instant >= MILLISECONDS else 1.0)
    now = _epoch(date) if date is not None else None
    if now is None:
        now = wall
    if then is None or now is None or not math.isfinite(now):
        return None
    return max(0.0, then - now)


def _epoch(value: str) -> float | None:
    from email.utils import parsedate_to_datetime  # the import takes 8 ms, and dates are rare

    try:
        parsed = parsedate_to_datetime(value)
        # RFC 9110 dates are in GMT; one without a zone means the same.
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
