"""Turn the HTTP client's errors into flatout's, in words that help, and without a key.

The HTTP client's errors quote what the server sent. The frames of their tracebacks hold the request with its key. So
flatout raises a new error that refers to neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp

from flatout.errors import CallError, ConnectError, ProtocolError
from flatout.layer import Request
from flatout.policies.failures.decision import CERTIFICATE, CONNECTION_LOST, OPEN_FILES, PROXY_IGNORED, UNKNOWN_HOST
from flatout.text.redact import excerpt, redact, secrets_in
from flatout.transports.descriptors import NONE_LEFT

FAILED = (aiohttp.ClientError, OSError, ValueError, CallError)
"""The errors that sending a request can raise. Raise the result of `named` outside the ``except`` block, so that it
does not refer to the original error."""

_QUOTED = 200
"""Characters of other people's words that an error keeps."""

_OPEN = frozenset({"content-type", "accept", "user-agent"})
"""Request headers that never hold a secret. Any other may hold the key."""


def named(error: Exception, request: Request, *, trust_env: bool = False) -> CallError:
    """The flatout error for one of the HTTP client's. It covers every aiohttp error; a test checks that.

    Args:
        error: the error. One of flatout's own is returned, without its references to the HTTP client's.
        request: what was sent. Its secrets are removed from the error's words.
        trust_env: whether the environment's proxies are used.
    """
    if not isinstance(error, CallError):
        return _error_for(error, request, trust_env)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def quoted(text: str, request: Request) -> str:
    """Other people's words, as an error may show them: on one line, cut, and without the request's secrets."""
    return " ".join(excerpt(text, _QUOTED, partial(redact, secrets=tuple(_secrets(request)))).split())


def _error_for(error: Exception, request: Request, trust_env: bool) -> CallError:
    reason = quoted(_reason(error), request)
    if isinstance(error, OSError) and error.errno in NONE_LEFT:
        return ConnectError(f"no connection: {reason}", code=OPEN_FILES)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ConnectError(f"the certificate of {error.host}:{error.port} does not verify: {reason}", code=CERTIFICATE)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _unreachable(f"the host {error.host} is not known: {reason}", request, trust_env, UNKNOWN_HOST)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unreachable(f"no connection to {error.host}:{error.port}: {reason}", request, trust_env)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return _unreachable("no connection within the connect timeout", request, trust_env)
    if isinstance(error, aiohttp.ClientConnectionResetError | aiohttp.ServerDisconnectedError):
        return ProtocolError("the server closed the connection without an answer", code=CONNECTION_LOST)
    if isinstance(error, aiohttp.NonHttpUrlClientError | ValueError):  # InvalidURL is a ValueError
        return ConnectError(f"no usable URL: {reason}", should_retry=False)
    if isinstance(error, aiohttp.ClientPayloadError):
        return ProtocolError("the answer was cut off", code=CONNECTION_LOST)
    if isinstance(error, aiohttp.ClientResponseError):
        return ProtocolError(f"the answer is not valid HTTP: {quoted(error.message, request)}")
    return ProtocolError(f"the connection failed: {reason}", code=CONNECTION_LOST)


def _unreachable(text: str, request: Request, trust_env: bool, code: str | None = None) -> ConnectError:
    """The error for an unreachable host. It mentions a proxy that is configured but not used: that may be the cause."""
    scheme, _, rest = request.url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    proxies = {} if trust_env else getproxies_environment()
    if scheme.lower() not in proxies or proxy_bypass(host):
        return ConnectError(text, code=code)
    return ConnectError(f"{text}; {scheme.upper()}_PROXY is set but not used", code=PROXY_IGNORED)


def _reason(error: Exception) -> str:
    verify = getattr(error, "certificate_error", None)
    text = getattr(verify, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    if "Connect call failed" in text and isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()  # asyncio's text repeats the address instead of the reason
    return text or type(error).__name__


def _secrets(request: Request) -> Iterator[str]:
    """The parts of a request that must not show."""
    for name, value in request.headers.items():
        if name.lower() not in _OPEN:
            yield value
            yield value.rpartition(" ")[2]
    yield from secrets_in(request.url)
