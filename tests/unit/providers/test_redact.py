"""Keys stay out of errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.providers.failures.redact import redact, redact_body, redact_headers, secrets_of
from flatout.values import Endpoint
from flatout.values.secret import Secret


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-proj-abc123_DEF456.", "abc123"),
        ("header Authorization: Bearer abcdef.ghi123", "ghi123"),
        ("GET /v1?alt=json&key=AIzaSyD4 failed", "AIzaSyD4"),
        ('{"api_key": "zzzz9999"}', "zzzz9999"),
        ("x-api-key: zzzz9999, next", "zzzz9999"),
        ("gsk_abcdefgh1234 is wrong", "abcdefgh1234"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
        ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.sig", "eyJzdWIiOiIx"),
    ],
)
def test_what_looks_like_a_key_goes(text: str, secret: str) -> None:
    """A key of somebody else's, quoted by a gateway, would be stored."""
    assert secret not in redact(text)
    assert "…" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Rate limit reached: 30000 tokens, max_tokens: 100",
        "The API key is not valid",
        "key 'messages' is missing",
        "sk-ip this task: risk-management-first",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    """Errors would be unreadable if common words were taken for keys."""
    assert redact(text) == text


@given(st.binary(max_size=50), st.text("abc123+/=", min_size=8, max_size=30), st.integers(1_980, 2_020))
def test_a_cut_leaves_no_half_of_a_key(noise: bytes, key: str, before: int) -> None:
    """A key across the cut of a long body would be kept by half."""
    kept = redact_body(b" " * before + key.encode() + noise, (key,))
    assert key[:8] not in kept or key[:8].encode() in noise
    assert len(kept) <= 2_000


def test_every_secret_of_an_endpoint_is_known() -> None:
    """A key given as a custom header or in the URL would not be recognised."""
    endpoint = Endpoint(
        name="x",
        base_url="https://x/v1?token=fifth-key",
        api_key=Secret("first-key"),
        headers={"X-Auth-Token": "second-key", "Proxy-Authorization": "Basic third-key", "x-title": "my app"},
        query={"api-version": "2024-10-21", "key": "fourth-key"},
    )
    assert {"first-key", "second-key", "third-key", "fourth-key", "fifth-key"} <= set(secrets_of(endpoint))
    assert not {"my app", "2024-10-21"} & set(secrets_of(endpoint))


def test_cookies_and_credentials_are_dropped() -> None:
    """A session cookie would be stored with each error."""
    headers = {
        "set-cookie": "a=b",
        "authorization": "x",
        "Retry-After": "3",
        "Api-Key": "k",
        "x-echo": "Bearer abcdefgh123",
    }
    assert redact_headers(headers, ()) == {"retry-after": "3", "x-echo": "Bearer …"}
