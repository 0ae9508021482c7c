"""Take keys out of what a provider sent back, before it gets into an error.

Servers quote keys: "Incorrect API key provided: sk-…", a request echoed by a gateway, a URL with ``?key=…``. Errors
are printed, logged and stored, so nothing of that may pass: the endpoint's own secrets, in whatever form they are
quoted, and anything else that looks like a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from flatout.errors import BODY_CAP
from flatout.policies.redact import SHORTEST, redact, without
from flatout.values import Endpoint

__all__ = ["redact", "redact_body", "redact_headers", "secrets_of"]

_CREDENTIALS = {"set-cookie", "cookie", "authorization", "proxy-authorization", "api-key", "x-api-key"}

_SECRET_NAME = re.compile(r"auth|key|token|secret|password|cookie|signature", re.IGNORECASE)


def redact_body(body: bytes, secrets: Iterable[str]) -> str:
    """An answer's body as an error keeps it: text, redacted, and cut to the length that errors keep."""
    # The secrets go first, so that the cut leaves no half of one; patterns are only worth their time on what is kept.
    text = without(body.decode("utf-8", "replace"), secrets)
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
    return tuple(sorted((s for s in found if len(s) >= SHORTEST), key=len, reverse=True))
