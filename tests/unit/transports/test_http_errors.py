"""Every failure of a request, as a named error. No server is asked here."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from base64 import b64encode
from urllib.parse import quote

import pytest

from flatout import ConnectError, ProtocolError
from flatout.layer import Request
from flatout.policies.failures.decision import advice
from flatout.text.redact import LEAD
from flatout.transports.address import Origin
from flatout.transports.failures import Unreached, named
from flatout.transports.http import HttpTransport

REQUEST = Request("POST", "https://example.test/v1?key=in-the-address", {"authorization": "Bearer in-a-header"}, b"{}")
HERE = Origin("https", "example.test", 443)


def unreached(reason: OSError) -> Unreached:
    return Unreached(HERE, str(HERE), reason)


REFUSED = unreached(ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 443)"))
UNKNOWN = unreached(socket.gaierror(-2, "Name or service not known"))
LATE = unreached(TimeoutError())


@pytest.mark.parametrize(
    "error",
    [REFUSED, UNKNOWN, LATE, unreached(ssl.SSLError(1, "wrong version number")), unreached(OSError("two addresses"))],
)
def test_nothing_was_sent_where_nothing_was_reached(error):
    """A request that was never sent would count as paid, or the error reach the user as a stranger's."""
    made = named(error, REQUEST)
    assert isinstance(made, ConnectError)
    assert made.should_retry is None
    assert "\n" not in str(made)


@pytest.mark.parametrize("error", [OSError(104, "reset"), TimeoutError()])
def test_other_errors_of_the_system_may_come_after_a_request_was_sent(error):
    """A request that may have been paid for would be sent again as if it had not."""
    assert isinstance(named(error, REQUEST), ProtocolError)


def test_our_own_errors_pass_as_they_are():
    """An oversized body would be reported as something else."""
    error = ProtocolError("the answer is larger than it may be")
    assert named(error, REQUEST) is error


def test_what_was_not_reached_is_named():
    """A typo in the address could not be seen."""
    assert str(named(REFUSED, REQUEST)) == "no connection to example.test:443: connection refused"
    assert "the host example.test is not known" in str(named(UNKNOWN, REQUEST))
    assert "connect timeout" in str(named(LATE, REQUEST))
    by_proxy = Unreached(HERE, "the proxy proxy.test:3128", ConnectionRefusedError(111, "Connection refused"))
    assert "no connection to the proxy proxy.test:3128" in str(named(by_proxy, REQUEST))


def test_a_password_in_an_address_is_not_sent():
    """It would be lost without a word: the address of a request has no place for it."""

    async def main() -> None:
        transport = HttpTransport()
        with pytest.raises(ConnectError, match="no usable URL"):
            await transport.send(Request("POST", "http://a:b@host/", {}, b"{}"))
        await transport.close()

    asyncio.run(main())


def test_a_header_that_would_begin_another_is_not_sent():
    """Somebody else's text in a header could add headers, or a whole request of its own."""

    async def main() -> None:
        transport = HttpTransport()
        for headers in ({"x-team": "a\r\nx-admin: yes"}, {"x-team\r\nx-admin": "yes"}, {"x-team": "a\0"}):
            with pytest.raises(ConnectError, match="control character"):
                await transport.send(Request("POST", "http://127.0.0.1:9/", headers, b"{}"))
        await transport.close()

    asyncio.run(main())


KEY_IN_HEADER = "Zk9b" + "/cd+ef-ghijklmnopqr"
KEY_IN_URL = "Pq2x" + "-stuv-wxyz-123456"
ASKED = Request(
    "POST", f"https://example.test/v1?api-version=1&key={KEY_IN_URL}", {"x-custom": KEY_IN_HEADER, "accept": "*/*"}, b""
)


@pytest.mark.parametrize("secret", [KEY_IN_HEADER, KEY_IN_URL])
@pytest.mark.parametrize(
    "encode",
    [str, lambda key: quote(key, safe=""), lambda key: b64encode(f"user:{key}".encode()).decode()],
    ids=["plain", "percent", "base64"],
)
def test_what_is_quoted_of_a_request_is_taken_out_of_the_errors(encode, secret):
    """An error that repeats the key would put it into logs."""
    words = f"Bad thing: {encode(secret)} :bad"
    system = OSError(1, words)
    for error in (unreached(system), system, ValueError(words), unreached(ssl.SSLError(1, words))):
        shown = str(named(error, ASKED))
        assert "Bad thing: " in shown
        assert not any(encode(secret)[at : at + LEAD] in shown for at in range(len(encode(secret)) - LEAD + 1))


def in_words(error: Exception, **options) -> tuple[str, str]:
    made = named(error, REQUEST, **options)
    return str(made), advice(made)


def test_a_certificate_that_does_not_verify_says_what_to_do():
    """Behind a company's proxy every call fails, and the advice was to check whether the server runs."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate"
    text, help_ = in_words(unreached(error))
    assert "example.test:443" in text
    assert "unable to get local issuer certificate" in text
    assert "SSL_CERT_FILE" in help_


def test_a_proxy_that_is_not_used_is_named(monkeypatch):
    """Where only a proxy leads out, nothing would say that it must be asked for."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for error in (REFUSED, UNKNOWN, LATE):
        assert "trust" not in in_words(error)[1]
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy.test:3128")
    for error in (REFUSED, UNKNOWN, LATE):
        text, help_ = in_words(error)
        assert "HTTPS_PROXY" in text
        assert "hunter2" not in text
        assert "--trust-env" in help_
        assert "trust" not in in_words(error, trust_env=True)[1]
    monkeypatch.setenv("no_proxy", "example.test")
    assert "trust" not in in_words(REFUSED)[1]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_is_not_an_unreachable_host(number):
    """The user would look for the fault in the network."""
    text, help_ = in_words(unreached(OSError(number, os.strerror(number))))
    assert "open files" in text
    assert "example.test" not in text
    assert "ulimit -n" in help_
