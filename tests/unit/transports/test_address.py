"""Where a URL leads to."""

from __future__ import annotations

import pytest

from flatout.transports.address import Origin, address_of


@pytest.mark.parametrize(
    ("url", "origin", "authority", "path"),
    [
        ("https://api.test/v1/chat", Origin("https", "api.test", 443), "api.test", "/v1/chat"),
        ("http://Api.Test:8080", Origin("http", "api.test", 8080), "api.test:8080", "/"),
        ("https://api.test:443/x?a=1&b=%20", Origin("https", "api.test", 443), "api.test", "/x?a=1&b=%20"),
        ("http://[::1]:8000/v1", Origin("http", "::1", 8000), "[::1]:8000", "/v1"),
        ("http://x/models/a b:é", Origin("http", "x", 80), "x", "/models/a%20b:%C3%A9"),
        ("https://münchen.test/", Origin("https", "xn--mnchen-3ya.test", 443), "xn--mnchen-3ya.test", "/"),
        ("http+unix://%2Frun%2FLlm.sock/v1", Origin("http+unix", "/run/Llm.sock", 0), "localhost", "/v1"),
        ("http://x/a\r\nb", Origin("http", "x", 80), "x", "/ab"),
    ],
)
def test_a_url_in_parts(url, origin, authority, path):
    """Requests would go to another place, or the request line be cut by a blank."""
    assert address_of(url) == (origin, authority, path)


@pytest.mark.parametrize("url", ["", "api.test", "ftp://api.test", "http://", "http://x:99999", "http+unix:///v1"])
def test_an_address_that_is_none_is_refused(url):
    """It would be asked for again and again."""
    with pytest.raises(ValueError, match=r".+"):
        address_of(url)
