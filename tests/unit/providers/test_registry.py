"""The table of built-in providers."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
import pytest

from flatout.errors import ConfigError
from flatout.providers import codec_for, registry
from flatout.values import Call, Endpoint, Secret, Target


@pytest.mark.parametrize("row", registry.BUILT_IN.values(), ids=lambda row: row.name)
def test_every_row_makes_a_codec(row: Endpoint) -> None:
    """A built-in provider could not be used at all."""
    if row.name in registry.ADDRESS_ENV:
        row = msgspec.structs.replace(row, base_url="https://mine.openai.azure.com")
    parts = urlsplit(codec_for(Target(row, "m")).encode(Call("x")).url)
    assert parts.path.endswith("/chat/completions")
    assert parts.scheme == ("http" if row.self_hosted else "https")
    assert not row.base_url.endswith("/")
    assert row.key_required != row.self_hosted
    assert not row.key_required or row.key_env


def test_a_slip_of_the_pen_is_answered_with_a_suggestion() -> None:
    """A user who mistypes a provider would have to search the documentation."""
    with pytest.raises(ConfigError, match=r"did you mean openrouter\?.*built in: openai, azure"):
        registry.find("openruter")
    with pytest.raises(ConfigError, match="later version"):
        registry.find("anthropic")


def test_keys_have_one_owner() -> None:
    """A key could be sent to a provider that it does not belong to."""
    variables = [row.key_env for row in registry.BUILT_IN.values() if row.key_env]
    assert len(variables) == len(set(variables))
    assert registry.owner_of("GROQ_API_KEY") is registry.find("groq")
    assert registry.owner_of("HOME") is None
    assert registry.known("xai")
    assert not registry.known("nobody")


def test_an_unknown_dialect_is_refused_by_name() -> None:
    """A dialect of a later version would fail with a KeyError."""
    endpoint = msgspec.structs.replace(registry.find("openai"), dialect="smoke-signals")
    with pytest.raises(ConfigError, match="smoke-signals"):
        codec_for(Target(endpoint, "m"))


def test_azure_takes_its_key_in_a_header_of_its_own() -> None:
    """Azure would answer 401 to every call."""
    azure = msgspec.structs.replace(registry.find("azure"), base_url="https://a.example", api_key=Secret("key-12345"))
    headers = codec_for(Target(azure, "m")).encode(Call("x")).headers
    assert headers["api-key"] == "key-12345"
    assert "authorization" not in headers


def test_azure_without_an_address_is_refused() -> None:
    """Calls would go to an address without a host."""
    with pytest.raises(ConfigError, match="azure needs a base_url"):
        codec_for(Target(registry.find("azure"), "m"))
