"""Every failure of the HTTP client, as a named error of ours. No socket is opened here."""

from __future__ import annotations

import errno
import inspect
import os
import socket
import ssl
from base64 import b64encode
from unittest.mock import Mock
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey

from flatout import ConnectError, ProtocolError, TransportError
from flatout.layer import Request
from flatout.policies.failures.decision import advice
from flatout.text.redact import LEAD
from flatout.transports.over_aiohttp.failures import named

KEY = ConnectionKey("example.test", 443, True, True, None, None, None)
REFUSED = ConnectionRefusedError(111, "Connect call failed")
REQUEST = Request("POST", "https://example.test/v1?key=in-the-address", {"authorization": "Bearer in-a-header"}, b"{}")
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
    error = named(made(kind), REQUEST)
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
    assert isinstance(named(error, REQUEST), TransportError)


def test_an_unusable_address_is_not_tried_again():
    """Each call would be sent six times to an address that cannot exist."""
    for kind in (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
        assert named(kind("http://:0"), REQUEST).should_retry is False
    assert named(made(aiohttp.ClientConnectorError), REQUEST).should_retry is None


def test_our_own_errors_pass_as_they_are():
    """An oversized body would be reported as something else."""
    error = ProtocolError("the answer is larger than it may be")
    assert named(error, REQUEST) is error


def test_a_refused_connection_names_host_and_port():
    """A typo in the address could not be seen."""
    assert "example.test:443" in str(named(made(aiohttp.ClientConnectorError), REQUEST))
    assert "example.test" in str(named(made(aiohttp.ClientConnectorDNSError), REQUEST))


KEY_IN_HEADER = "Zk9b" + "/cd+ef-ghijklmnopqr"
KEY_IN_URL = "Pq2x" + "-stuv-wxyz-123456"
ASKED = Request(
    "POST", f"https://example.test/v1?api-version=1&key={KEY_IN_URL}", {"x-custom": KEY_IN_HEADER, "accept": "*/*"}, b""
)


@pytest.mark.parametrize("secret", [KEY_IN_HEADER, KEY_IN_URL])
@pytest.mark.parametrize(
    "encode",
    [
        str,
        lambda key: quote(key, safe=""),
        lambda key: quote(key, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
        lambda key: b64encode(f"user:{key}".encode()).decode(),
        lambda key: f"{key[:LEAD]}*******",
    ],
    ids=["plain", "percent", "lower case", "base64", "beginning"],
)
def test_what_a_server_quotes_of_a_request_is_taken_out_of_the_errors(encode, secret):
    """A status line, a header, a chunk's size or an address that repeats the key would put it into logs."""
    words = f"Bad thing: {encode(secret)} :bad"
    for error in (
        aiohttp.ClientResponseError(INFO, (), status=400, message=words),
        aiohttp.ClientConnectorError(KEY, OSError(1, words)),
        aiohttp.ClientOSError(1, words),
        aiohttp.InvalidURL(words),
        ValueError(words),
        aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, words)),
        aiohttp.ClientError(words),
    ):
        shown = str(named(error, ASKED))
        assert "Bad thing: " in shown
        assert "…" in shown
        assert not any(encode(secret)[at : at + LEAD] in shown for at in range(len(encode(secret)) - LEAD + 1))


def test_others_words_are_cut():
    """A server's megabyte would stand in every log line."""
    assert len(str(named(aiohttp.ClientResponseError(INFO, (), message="x" * 1_000_000), ASKED))) < 300


def in_words(error: Exception, request: Request = REQUEST, **options) -> tuple[str, str]:
    made = named(error, request, **options)
    return str(made), advice(made)


def test_a_certificate_that_does_not_verify_says_what_to_do():
    """Behind a company's proxy every call fails, and the advice was to check whether the server runs."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate"
    text, help_ = in_words(aiohttp.ClientConnectorCertificateError(KEY, error))
    assert "example.test:443" in text
    assert "unable to get local issuer certificate" in text
    assert "SSL_CERT_FILE" in help_


def test_a_proxy_that_is_not_used_is_named(monkeypatch):
    """Where only a proxy leads out, nothing would say that it must be asked for."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    unreachable = [aiohttp.ConnectionTimeoutError(), made(aiohttp.ClientConnectorError)]
    unreachable.append(made(aiohttp.ClientConnectorDNSError))
    for error in unreachable:
        assert "trust" not in in_words(error)[1]
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy.test:3128")
    for error in unreachable:
        text, help_ = in_words(error)
        assert "HTTPS_PROXY" in text
        assert "hunter2" not in text
        assert "--trust-env" in help_
        assert "trust" not in in_words(error, trust_env=True)[1]
    monkeypatch.setenv("no_proxy", "example.test")
    assert "trust" not in in_words(unreachable[0])[1]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_is_not_an_unreachable_host(number):
    """The user would look for the fault in the network."""
    text, help_ = in_words(aiohttp.ClientConnectorError(KEY, OSError(number, os.strerror(number))))
    assert "open files" in text
    assert "example.test" not in text
    assert "ulimit -n" in help_


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "Connection reset by peer"),
        aiohttp.ClientPayloadError("cut"),
        OSError(104, "reset"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_connection_gives_no_advice_on_the_address(error):
    """One reset among a thousand answers would send the user to check the base URL."""
    help_ = in_words(error)[1]
    assert "base_url" not in help_
    assert "run again" in help_
