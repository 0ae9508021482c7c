"""The table of built-in providers."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import msgspec
import pytest

from flatout.errors import ConfigError
from flatout.providers import codec_for, registry
from flatout.values import Call, Endpoint, Target
from flatout.values.secret import Secret

PATHS = {
    "openai": "/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:generateContent",
}


@pytest.mark.parametrize("row", registry.BUILT_IN.values(), ids=lambda row: row.name)
def test_every_row_makes_a_codec(row: Endpoint) -> None:
    """A built-in provider could not be used at all."""
    if row.name in registry.ADDRESS_ENV:
        row = msgspec.structs.replace(row, base_url="https://mine.openai.azure.com")
    parts = urlsplit(codec_for(Target(row, "m")).encode(Call("x")).url)
    assert parts.path.endswith(PATHS[row.dialect])
    assert parts.scheme == ("http" if row.self_hosted else "https")
    assert not row.base_url.endswith("/")
    assert row.key_required != row.self_hosted
    assert not row.key_required or row.key_env


def test_a_slip_of_the_pen_is_answered_with_a_suggestion() -> None:
    """A user who mistypes a provider would have to search the documentation."""
    with pytest.raises(ConfigError, match=r"did you mean openrouter\?.*built in: openai, azure"):
        registry.find("openruter")
    with pytest.raises(ConfigError, match=r"did you mean anthropic\?"):
        registry.find("antropic")


def test_keys_have_one_owner() -> None:
    """A key could be sent to a provider that it does not belong to."""
    for row in registry.BUILT_IN.values():
        if row.key_env:
            owner = registry.owner_of(row.key_env)
            assert owner is not None
            assert urlsplit(owner.base_url)[:2] == urlsplit(row.base_url)[:2]
    assert registry.owner_of("OPENAI_API_KEY") is registry.find("openai")
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


@pytest.mark.parametrize(
    ("name", "header", "reserves", "limit_headers"),
    [
        ("anthropic", "x-api-key", "usage", "anthropic"),
        ("gemini", "x-goog-api-key", "input", ""),
        ("openai-responses", "authorization", "max_tokens", "openai"),
    ],
)
def test_other_wire_formats(name: str, header: str, reserves: str, limit_headers: str) -> None:
    """The provider would answer 401, or its limits be reckoned by another one's rule."""
    row = msgspec.structs.replace(registry.find(name), api_key=Secret("key-12345"))
    headers = codec_for(Target(row, "m")).encode(Call("x")).headers
    assert headers[header].endswith("key-12345")
    assert sum("key-12345" in value for value in headers.values()) == 1
    assert (row.reserves, row.limit_headers) == (reserves, limit_headers)


def test_a_provider_without_schemas_is_told_in_the_prompt() -> None:
    """DeepSeek would answer 400 to every call with a schema."""
    codec = codec_for(Target(registry.find("deepseek"), "deepseek-chat"))
    schema = {"type": "object", "properties": {"word": {"type": "string"}}}
    sent = json.loads(codec.encode(Call("x", system="be short", output=schema)).body)
    assert sent["response_format"] == {"type": "json_object"}
    assert [message["role"] for message in sent["messages"]] == ["system", "system", "user"]
    assert json.dumps(schema, separators=(",", ":")) in sent["messages"][1]["content"]
    assert "JSON" in sent["messages"][1]["content"]
