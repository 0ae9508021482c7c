"""Take keys out of a text, before it gets into an error, a log line or a trace.

Servers quote keys and people paste them into prompts. Nothing that may be printed, stored or sent on keeps one: not
the secrets that are known, in whatever form they are quoted, and nothing else that looks like a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

MARK = "…"
"""Stands where a key was. Not ASCII, so it can be no part of a key."""

SHORTEST = 4
"""Characters that a secret has at least. Shorter ones hide nothing, and taking them out would garble every text."""

_LOOKS_LIKE_A_KEY = re.compile(
    r"""
      \b(?:sk|rk|pk)[-_][\w*-]{8,}                      # OpenAI, Anthropic, OpenRouter, DeepSeek, Stripe-like
    | \b(?:gsk_|xai-|hf_|fw_|tgp_|pplx-|AIza|ya29\.)[\w.-]{8,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}                      # AWS
    | \beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?            # JSON web tokens
    | (?P<scheme>\b(?:Bearer|Basic)\s+)[\w.~+/=*-]{8,}
    | (?P<name>\b(?:x-|x-goog-)?api[-_ ]?key["']?\s*[=:]\s*["']?)[^\s"'&,;}]{4,}
    | (?P<pair>\b(?:key|token|secret|password|sig|signature)=)[^\s"'&,;}]+
    """,
    re.VERBOSE | re.IGNORECASE,
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without the given secrets and without anything that looks like a key."""
    return _LOOKS_LIKE_A_KEY.sub(_kept, without(text, secrets))


def excerpt(text: str, most: int, redact: Callable[[str], str] = redact) -> str:
    """The first ``most`` characters of a text, without keys.

    Cut twice, since taking out keys takes time: first to what is looked at, and then with no half of a key left.
    """
    return redact(text[: 2 * most])[:most]


def without(text: str, secrets: Iterable[str]) -> str:
    """A text without the given secrets."""
    for secret in secrets:
        for form in _forms(secret):
            text = text.replace(form, MARK)
    return text


def _forms(secret: str) -> Iterator[str]:
    """The ways in which a text may quote a secret: as it is, in JSON, in a URL."""
    if len(secret) < SHORTEST:
        return
    quoted = json.dumps(secret)[1:-1]
    yield from dict.fromkeys((secret, quoted, quoted.replace("/", "\\/"), quote(secret, safe=""), quote(secret)))


def _kept(match: re.Match[str]) -> str:
    return (match["scheme"] or match["name"] or match["pair"] or "") + MARK
