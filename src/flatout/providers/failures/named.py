"""Read the limits that a refusal's message names. They are as good as headers, and some providers send nothing else.

Gemini sends no headers, but names the exceeded quota and its value. OpenAI and Groq write ``on requests per min (RPM):
Limit 3000, Used 3000, Requested 1. Please try again in 20ms``, Anthropic ``rate limit of 30,000 input tokens per
minute``. With such a limit, the pacer need not search for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flatout.values import Limits

_NUMBER = r"(\d[\d,_]{0,14}(?:\.\d{1,6})?)"
_WHAT = r"(requests|input tokens|output tokens|tokens)\s{1,8}per\s{1,8}(second|sec|minute|min|day)\b"
_ON = re.compile(rf"\b{_WHAT}[^:;]{{0,40}}?[:.,]?\s{{0,8}}limit:?\s{{0,8}}{_NUMBER}", re.IGNORECASE)
_OF = re.compile(
    rf"\blimit (?:for your organization )?(?:\([^)]{{0,60}}\) )?of\s{{1,8}}{_NUMBER}\s{{1,8}}{_WHAT}", re.IGNORECASE
)
_AGAIN = re.compile(r"\btry again in (?:(\d{1,3})m)?(\d{1,6}(?:\.\d{1,6})?)(ms|s)\b", re.IGNORECASE)

_FIELDS = {
    ("requests", "minute"): "rpm",
    ("requests", "day"): "rpd",
    ("tokens", "minute"): "tpm",
    ("input tokens", "minute"): "itpm",
    ("output tokens", "minute"): "otpm",
}
_QUOTA = re.compile(r"(Requests|InputTokens)\w{0,60}?Per(Minute|Day)")


def named_limits(message: str, quotas: Iterable[tuple[str, Any]] = ()) -> Limits | None:
    """The limits that a refusal names; None if it names no plausible ones. Never raises.

    Args:
        message: the provider's own words.
        quotas: Gemini's ``quotaId`` and ``quotaValue`` of each exceeded quota.
    """
    found: dict[str, float] = {}
    for what, window, number in _ON.findall(message):
        _add(found, what, window, number)
    for number, what, window in _OF.findall(message):
        _add(found, what, window, number)
    for name, value in quotas:
        if match := _QUOTA.search(name):
            _add(found, {"InputTokens": "input tokens"}.get(match[1], match[1]), match[2], str(value))
    if not found:
        return None
    rpm, tpm, itpm, otpm, rpd = map(found.get, ("rpm", "tpm", "itpm", "otpm", "rpd"))
    return Limits(rpm=rpm, tpm=tpm, itpm=itpm, otpm=otpm, rpd=rpd)


def wait_named(message: str) -> float | None:
    """The seconds that a refusal's message asks to wait; None if it names none."""
    match = _AGAIN.search(message)
    if match is None:
        return None
    seconds = float(match[2]) / (1000.0 if match[3].lower() == "ms" else 1.0)
    return seconds + 60.0 * int(match[1] or 0)


def _add(found: dict[str, float], what: str, window: str, number: str) -> None:
    what, window = what.lower(), window.lower()
    try:
        limit = float(number.replace(",", "").replace("_", ""))
    except ValueError:
        return
    if window.startswith("sec"):
        limit, window = limit * 60.0, "minute"
    field = _FIELDS.get((what, "minute" if window.startswith("min") else window))
    if field is not None and 1.0 <= limit < 1e12:
        found[field] = min(limit, found.get(field, limit))
