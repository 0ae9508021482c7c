"""Every failure of the HTTP client, as a named error of ours. No socket is opened here."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey

from flatout import ConnectError, ProtocolError, TransportError
from flatout.layer import Request
from flatout.transports.http import HttpTransport, _translate

KEY = ConnectionKey("example.test", 443, True, True, None, None, None)
REFUSED = ConnectionRefusedError(111, "Connect call failed")
INFO = Mock(real_url="http://example.test/", headers={"authorization": "Bearer secret"})


def made(kind: type[Exception]) -> Exception:
    """An exception as aiohttp makes it."""
    if issubclass(kind, client_exceptions.ClientConnectorCertificateError):
        return kind(KEY, ssl.SSLCertVerificationError(1, "certificate verify failed"))
    if issubclass(kind, client_exceptions.ClientConnectorDNSError):
        return kind(KEY, socket.gaierror(-2, "Name or service not known"))
    if issubclass(kind, client_exceptions.UnixClientConnectorError):
        return kind("/run/x", KEY, REFUSED)
    if issubclass(kind, client_exceptions.ClientConnectorError):
        return kind(KEY, REFUSED)
    if issubclass(kind, client_exceptions.ClientResponseError):
        return kind(INFO, (), status=400, message="Bad status line:\n\n  b'HELLO'\n    ^")
    if issubclass(kind, client_exceptions.ServerFingerprintMismatch):
        return kind(b"a", b"b", "example.test", 443)
    if issubclass(kind, client_exceptions.ClientOSError):
        return kind(104, "Connection reset by peer")
    if issubclass(kind, http_exceptions.HttpProcessingError):
        return kind(message="bad")
    return kind("what happened")


KINDS = [
    kind
    for module in (aiohttp, client_exceptions)
    for kind in vars(module).values()
    if inspect.isclass(kind) and issubclass(kind, aiohttp.ClientError)
]

CONNECT = (
    aiohttp.ClientConnectorError,
    aiohttp.ServerTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)


@pytest.mark.parametrize("kind", sorted(set(KINDS), key=lambda kind: kind.__name__))
def test_every_error_of_the_http_client_has_a_name_of_ours(kind):
    """A new kind of failure would reach the user as a stranger's exception, and would not be retried."""
    error = _translate(made(kind))
    assert isinstance(error, ConnectError if issubclass(kind, CONNECT) else ProtocolError)
    assert str(error)
    assert "\n" not in str(error)
    assert "secret" not in str(error)


def test_there_are_enough_of_them():
    """The test above would look at nothing."""
    assert len(set(KINDS)) >= 20


@pytest.mark.parametrize("error", [OSError(104, "reset"), TimeoutError(), ValueError("Port out of range 0-65535")])
def test_errors_from_below_the_http_client_have_a_name_too(error):
    """They would end a call without a retry."""
    assert isinstance(_translate(error), TransportError)


def test_an_unusable_address_is_not_tried_again():
    """Each call would be sent six times to an address that cannot exist."""
    for kind in (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
        assert _translate(kind("http://:0")).should_retry is False
    assert _translate(made(aiohttp.ClientConnectorError)).should_retry is None


def test_our_own_errors_pass_as_they_are():
    """An oversized body would be reported as something else."""
    error = ProtocolError("the answer is larger than it may be")
    assert _translate(error) is error


def test_a_refused_connection_names_host_and_port():
    """A typo in the address could not be seen."""
    assert "example.test:443" in str(_translate(made(aiohttp.ClientConnectorError)))
    assert "example.test" in str(_translate(made(aiohttp.ClientConnectorDNSError)))


def test_a_closed_transport_takes_no_request():
    """A retry that was asleep would open a new connection after everything was closed, and leak it."""

    async def main() -> None:
        transport = HttpTransport()
        await transport.close()
        with pytest.raises(ConnectError, match="closed") as caught:
            await transport.send(Request("POST", "http://127.0.0.1:9/", {}, b"{}"))
        assert caught.value.should_retry is False
        assert transport._shared is None

    asyncio.run(main())


def test_an_unusable_address_opens_nothing():
    """A wrong base URL would show as something else."""

    async def main() -> None:
        transport = HttpTransport()
        for url in ("http://host:99999/", "ftp://x/", "http://", "nonsense"):
            with pytest.raises(ConnectError, match="no usable URL"):
                await transport.send(Request("POST", url, {}, b"{}"))
        assert "TCP" in repr(transport) or "Connector" in repr(transport)
        await transport.close()

    asyncio.run(main())
