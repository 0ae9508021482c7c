"""Read how long a provider asks to wait.

Providers, gateways and proxies say it in several headers and notations. A value that makes no sense counts as no
value: a wrong pause of hours hurts more than a missing one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC

_SECONDS = ("retry-after", "llm_provider-retry-after")
"""Headers in seconds or as an HTTP date, the best first. The second is LiteLLM's copy of its upstream's."""


def retry_after(headers: Mapping[str, str], wall: float | None = None) -> float | None:
    """Seconds that an answer asks to wait, 0 or more; None when it does not say so in a way that makes sense.

    ``retry-after-ms`` (OpenAI, Azure) is finer and wins over ``retry-after`` (RFC 9110: seconds or an HTTP date).
    Long waits, even of days, are returned as they are: whether to wait that long is for the deadline to decide.

    Args:
        headers: the answer's headers, names in lower case.
        wall: now, in seconds since the epoch. An HTTP date is measured against the answer's own ``date``, which a
            wrong clock on this side does not disturb, and against ``wall`` only where there is none.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    for name in _SECONDS:
        value = headers.get(name)
        if value is None:
            continue
        seconds = _number(value)
        if seconds is None:
            seconds = _until(value, headers.get("date"), wall)
        if seconds is not None:
            return seconds
    return None


def _number(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _until(value: str, date: str | None, wall: float | None) -> float | None:
    then = _epoch(value)
    now = _epoch(date) if date is not None else None
    if now is None:
        now = wall
    if then is None or now is None or not math.isfinite(now):
        return None
    return max(0.0, then - now)


def _epoch(value: str) -> float | None:
    from email.utils import parsedate_to_datetime  # 8 ms to import, and dates are rare

    try:
        parsed = parsedate_to_datetime(value)
        # RFC 9110 dates are in GMT; one without a zone means the same.
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
