"""Remove keys from what a provider sent before it reaches an error.

Servers quote keys: "Incorrect API key provided: sk-…", a request echoed by a gateway, a URL with ``?key=…``. Errors are
printed, logged and stored. So they must contain neither the endpoint's own secrets, in whatever form they are quoted,
nor anything else that looks like a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from flatout.errors import BODY_CAP
from flatout.text.redact import SHORTEST, excerpt, redact, secrets_among, secrets_in
from flatout.values import Endpoint

__all__ = ["excerpt", "redact", "redact_body", "redact_headers", "secrets_of"]

_CREDENTIALS = {"set-cookie", "cookie", "authorization", "proxy-authorization", "api-key", "x-api-key"}

_LONGEST_HEADER = 1_000
"""Characters of a header's value that an error keeps."""


def redact_body(body: bytes, secrets: Iterable[str]) -> str:
    """An answer's body as an error keeps it: decoded, redacted, and cut to `BODY_CAP` characters."""
    text = body[: 16 * BODY_CAP].decode("utf-8", "replace")  # more than `excerpt` reads, whatever the characters
    return excerpt(text, BODY_CAP, partial(redact, secrets=tuple(secrets)))


def redact_headers(headers: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """Headers under lower-case names, without cookies, credentials and quoted keys; long values are cut."""
    clean = partial(redact, secrets=tuple(secrets))
    named = ((name.lower(), value) for name, value in headers.items())
    return {name: excerpt(value, _LONGEST_HEADER, clean) for name, value in named if name not in _CREDENTIALS}


def secrets_of(endpoint: Endpoint) -> tuple[str, ...]:
    """Every secret that requests to an endpoint carry, longest first: its key, and those in its headers and URL."""
    found = {*secrets_among((*endpoint.headers.items(), *endpoint.query.items())), *secrets_in(endpoint.base_url)}
    if endpoint.api_key is not None:
        found.add(endpoint.api_key.reveal())
    return tuple(sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True))
