"""Take keys out of what a provider sent back, before it gets into an error.

Servers quote keys: "Incorrect API key provided: sk-…", a request echoed by a gateway, a URL with ``?key=…``. Errors
are printed, logged and stored, so nothing of that may pass: the endpoint's own secrets, in whatever form they are
quoted, and anything else that looks like a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

from flatout.errors import BODY_CAP
from flatout.values import Endpoint

MARK = "…"
"""Stands where a key was. Not ASCII, so it can be no part of a key."""

_SHORTEST = 4
"""Characters that a secret has at least. Shorter ones hide nothing, and taking them out would garble every text."""

_CREDENTIALS = {"set-cookie", "cookie", "authorization", "proxy-authorization", "api-key", "x-api-key"}

_SECRET_NAME = re.compile(r"auth|key|token|secret|password|cookie|signature", re.IGNORECASE)

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
    return _LOOKS_LIKE_A_KEY.sub(_kept, _without(text, secrets))


def redact_body(body: bytes, secrets: Iterable[str]) -> str:
    """An answer's body as an error keeps it: text, redacted, and cut to the length that errors keep."""
    # The secrets go first, so that the cut leaves no half of one; patterns are only worth their time on what is kept.
    text = _without(body.decode("utf-8", "replace"), secrets)
    return redact(text[: 2 * BODY_CAP])[:BODY_CAP]


def redact_headers(headers: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """Headers under lower-case names, without cookies, credentials and quoted keys."""
    secrets = tuple(secrets)
    named = ((name.lower(), value) for name, value in headers.items())
    return {name: redact(value, secrets) for name, value in named if name not in _CREDENTIALS}


def secrets_of(endpoint: Endpoint) -> tuple[str, ...]:
    """Every secret that requests to an endpoint carry, the longest first: its key, and those in its headers and URL."""
    found = {endpoint.api_key.reveal()} if endpoint.api_key is not None else set()
    for name, value in (*endpoint.headers.items(), *endpoint.query.items()):
        if _SECRET_NAME.search(name):
            found.update((value, value.rpartition(" ")[2]))
    return tuple(sorted((s for s in found if len(s) >= _SHORTEST), key=len, reverse=True))


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        for form in _forms(secret):
            text = text.replace(form, MARK)
    return text


def _forms(secret: str) -> Iterator[str]:
    """The ways in which a text may quote a secret: as it is, in JSON, in a URL."""
    if len(secret) < _SHORTEST:
        return
    quoted = json.dumps(secret)[1:-1]
    yield from dict.fromkeys((secret, quoted, quoted.replace("/", "\\/"), quote(secret, safe=""), quote(secret)))


def _kept(match: re.Match[str]) -> str:
    return (match["scheme"] or match["name"] or match["pair"] or "") + MARK
