"""Turn the errors of sockets and TLS into flatout's, in words that help, and without a key.

The frames of a traceback hold the request with its key. So flatout raises a new error that refers to no other.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from functools import partial

from flatout.errors import CallError, ConnectError, ProtocolError
from flatout.layer import Request
from flatout.policies.failures.decision import CERTIFICATE, CONNECTION_LOST, OPEN_FILES, PROXY_IGNORED, UNKNOWN_HOST
from flatout.text.redact import excerpt, redact, redact_url, secrets_in

from .address import Origin
from .descriptors import NONE_LEFT


class Unreached(Exception):
    """No connection to an origin; nothing was sent.

    Attributes:
        origin: where to.
        first_hop: what the socket was to be connected to: the origin, or a proxy.
        reason: the system's error, or TLS's.
    """

    def __init__(self, origin: Origin, first_hop: str, reason: OSError) -> None:
        super().__init__(origin, first_hop, reason)
        self.origin = origin
        self.first_hop = first_hop
        self.reason = reason


FAILED = (Unreached, OSError, ValueError, CallError)
"""The errors that sending a request can raise. Raise the result of `named` outside the ``except`` block, so that it
does not refer to the original error."""

_QUOTED = 200
"""Characters of other people's words that an error keeps."""

_OPEN = frozenset({"content-type", "accept", "user-agent"})
"""Request headers that never hold a secret. Any other may hold the key."""


def named(error: Exception, request: Request, *, trust_env: bool = False) -> CallError:
    """The flatout error for one that sending a request raised.

    Args:
        error: the error. One of flatout's own is returned, without its references to others.
        request: what was sent. Its secrets are removed from the error's words.
        trust_env: whether the environment's proxies are used.
    """
    if isinstance(error, CallError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    if isinstance(error, Unreached):
        return _not_reached(error, request, trust_env)
    reason = quoted(reason_of(error), request)
    if isinstance(error, ValueError):
        return ConnectError(f"no usable URL: {reason}", should_retry=False)
    return ProtocolError(f"the connection failed: {reason}", code=CONNECTION_LOST)


def quoted(text: str, request: Request) -> str:
    """Other people's words, as an error may show them: on one line, cut, and without the request's secrets."""
    return " ".join(excerpt(text, _QUOTED, partial(redact, secrets=tuple(_secrets(request)))).split())


def _not_reached(failure: Unreached, request: Request, trust_env: bool) -> ConnectError:
    error = failure.reason
    reason = quoted(reason_of(error), request)
    if error.errno in NONE_LEFT:
        return ConnectError(f"no connection: {reason}", code=OPEN_FILES)
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectError(f"the certificate of {failure.origin} does not verify: {reason}", code=CERTIFICATE)
    if isinstance(error, socket.gaierror):
        host = failure.first_hop.rpartition(":")[0]
        return unreachable(f"the host {host} is not known: {reason}", request, trust_env, UNKNOWN_HOST)
    if isinstance(error, TimeoutError) and error.errno is None:  # ours; the system's own has a number
        return unreachable("no connection within the connect timeout", request, trust_env)
    return unreachable(f"no connection to {failure.first_hop}: {reason}", request, trust_env)


def unreachable(text: str, request: Request, trust_env: bool, code: str | None = None) -> ConnectError:
    """The error for an unreachable host. It mentions a proxy that is configured but not used: that may be the cause."""
    from urllib.request import getproxies_environment, proxy_bypass

    scheme, _, rest = request.url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    proxies = {} if trust_env else getproxies_environment()
    if scheme.lower() not in proxies or proxy_bypass(host):
        return ConnectError(text, code=code)
    return ConnectError(f"{text}; {scheme.upper()}_PROXY is set but not used", code=PROXY_IGNORED)


def reason_of(error: Exception) -> str:
    """What the system, or TLS, says of an error."""
    text = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    if "Connect call failed" in text and isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()  # asyncio's text repeats the address instead of the reason
    return text or type(error).__name__


def redirected(request: Request, status: int, location: str) -> ProtocolError:
    """The error for an answer that sends the client elsewhere."""
    where = quoted(redact_url(location.partition("?")[0]), request)
    return ProtocolError(
        f"the server answered with a redirect to {where}; redirects are not followed: give that as base URL",
        status=status,
        should_retry=False,
    )


def _secrets(request: Request) -> Iterator[str]:
    """The parts of a request that must not show."""
    for name, value in request.headers.items():
        if name.lower() not in _OPEN:
            yield value
            yield value.rpartition(" ")[2]
    yield from secrets_in(request.url)
