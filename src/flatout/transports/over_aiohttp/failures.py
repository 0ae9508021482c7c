"""Turn the HTTP client's errors into flatout's, in words that help, and without a key.

The HTTP client's errors quote what the server sent. The frames of their tracebacks hold the request with its key. So
flatout raises a new error that refers to neither.
"""

from __future__ import annotations

import aiohttp

from flatout.errors import CallError, ConnectError, ProtocolError
from flatout.layer import Request
from flatout.policies.failures.decision import CERTIFICATE, CONNECTION_LOST, OPEN_FILES, UNKNOWN_HOST
from flatout.transports.descriptors import NONE_LEFT
from flatout.transports.failures import quoted, reason_of, unreachable

FAILED = (aiohttp.ClientError, OSError, ValueError, CallError)
"""The errors that sending a request can raise. Raise the result of `named` outside the ``except`` block, so that it
does not refer to the original error."""


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


def _error_for(error: Exception, request: Request, trust_env: bool) -> CallError:
    reason = quoted(_reason(error), request)
    if isinstance(error, OSError) and error.errno in NONE_LEFT:
        return ConnectError(f"no connection: {reason}", code=OPEN_FILES)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ConnectError(f"the certificate of {error.host}:{error.port} does not verify: {reason}", code=CERTIFICATE)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return unreachable(f"the host {error.host} is not known: {reason}", request, trust_env, UNKNOWN_HOST)
    if isinstance(error, aiohttp.ClientConnectorError):
        return unreachable(f"no connection to {error.host}:{error.port}: {reason}", request, trust_env)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return unreachable("no connection within the connect timeout", request, trust_env)
    if isinstance(error, aiohttp.ClientConnectionResetError | aiohttp.ServerDisconnectedError):
        return ProtocolError("the server closed the connection without an answer", code=CONNECTION_LOST)
    if isinstance(error, aiohttp.NonHttpUrlClientError | ValueError):  # InvalidURL is a ValueError
        return ConnectError(f"no usable URL: {reason}", should_retry=False)
    if isinstance(error, aiohttp.ClientPayloadError):
        return ProtocolError("the answer was cut off", code=CONNECTION_LOST)
    if isinstance(error, aiohttp.ClientResponseError):
        return ProtocolError(f"the answer is not valid HTTP: {quoted(error.message, request)}")
    return ProtocolError(f"the connection failed: {reason}", code=CONNECTION_LOST)


def _reason(error: Exception) -> str:
    return reason_of(getattr(error, "certificate_error", error))
