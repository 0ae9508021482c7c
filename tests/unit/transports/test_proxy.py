"""Which proxy is used."""

from __future__ import annotations

import pytest

from flatout.errors import ConnectError
from flatout.transports.address import UNIX
from flatout.transports.proxy import Proxy, proxy_for


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("variable", "address", "proxy"),
    [
        ("https_proxy", "http://proxy.test:3128", Proxy("proxy.test", 3128, None)),
        ("HTTPS_PROXY", "proxy.test:3128", Proxy("proxy.test", 3128, None)),
        ("all_proxy", "http://proxy.test", Proxy("proxy.test", 80, None)),
        ("https_proxy", "http://me:p%40ss@[::1]:3128/", Proxy("::1", 3128, "Basic bWU6cEBzcw==")),
        ("http_proxy", "http://proxy.test:3128", None),
    ],
)
def test_the_environments_proxy(monkeypatch, variable, address, proxy):
    """A company's only way out would not be found, or the password be sent wrongly."""
    monkeypatch.setenv(variable, address)
    assert proxy_for("https", "api.test", 443) == proxy
    assert "p@ss" not in repr(proxy)


@pytest.mark.parametrize(
    ("without", "host", "direct"),
    [
        ("api.test", "api.test", True),
        (".test", "api.test", True),
        ("api.test:443", "api.test", True),
        ("api.test:8443", "api.test", False),
        ("other.test", "api.test", False),
        ("*", "api.test", True),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("[::1]:443", "::1", True),
        ("[::1]:8443", "::1", False),
    ],
)
def test_what_goes_past_the_proxy(monkeypatch, without, host, direct):
    """Calls to the company's own servers would leave it, keys and prompts included."""
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("no_proxy", without)
    assert (proxy_for("https", host, 443) is None) is direct


def test_a_unix_socket_has_no_proxy(monkeypatch):
    """The server behind it would get the proxy's password, and a request line that it cannot read."""
    monkeypatch.setenv("all_proxy", "http://me:hunter2@proxy.test:3128")
    assert proxy_for(UNIX, "/run/llm.sock", 0) is None


@pytest.mark.parametrize("address", ["https://proxy.test", "socks5://proxy.test:1080", "http://"])
def test_another_kind_of_proxy_is_refused(monkeypatch, address):
    """Calls would go past a proxy that must be used."""
    monkeypatch.setenv("https_proxy", address)
    with pytest.raises(ConnectError, match="no usable proxy") as caught:
        proxy_for("https", "api.test", 443)
    assert caught.value.should_retry is False
