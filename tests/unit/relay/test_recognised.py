"""The addresses of other programs' requests tell where they go."""

from __future__ import annotations

import pytest

from flatout.providers.relay.recognise import key_in, recognise
from flatout.values import Endpoint

OWN = Endpoint(name="mine", base_url="http://127.0.0.1:9000/v1")


@pytest.mark.parametrize(
    ("url", "name", "dialect", "model", "streams"),
    [
        ("https://api.openai.com/v1/chat/completions", "openai", "openai", "", False),
        ("https://api.openai.com/v1/responses", "openai", "openai-responses", "", False),
        ("https://api.openai.com/v1/embeddings", "openai", "embeddings", "", False),
        ("https://api.anthropic.com/v1/messages?beta=true", "anthropic", "anthropic", "", False),
        ("https://api.groq.com/openai/v1/chat/completions", "groq", "openai", "", False),
        ("https://api.together.xyz/v1/chat/completions", "together", "openai", "", False),
        ("https://api-inference.together.ai/v1/chat/completions", "together", "openai", "", False),
        ("https://api.together.ai/v1/embeddings", "together", "embeddings", "", False),
        (
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            *("gemini", "gemini", "gemini-2.5-flash", True),
        ),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
            *("gemini", "openai", "", False),
        ),
        ("https://generativelanguage.googleapis.com/v1beta/openai/embeddings", "gemini", "embeddings", "", False),
        (
            "https://me.openai.azure.com/openai/deployments/mini/chat/completions?api-version=1",
            *("azure", "openai", "mini", False),
        ),
        (
            "https://generativelanguage.googleapis.com/v1alpha/models/gemini-2.5-flash:generateContent",
            *("gemini", "gemini", "gemini-2.5-flash", False),
        ),
        ("https://me.openai.azure.com/openai/v1/responses/", "azure", "openai-responses", "", False),
        ("https://me.services.ai.azure.com/anthropic/v1/messages", "azure", "anthropic", "", False),
        ("http://127.0.0.1:9000/v1/chat/completions", "mine", "openai", "", False),
        ("http://127.0.0.1:9000/v1/messages", "mine", "anthropic", "", False),
        ("http://127.0.0.1:9000/openai/v1/chat/completions", "mine", "openai", "", False),
    ],
)
def test_calls_are_recognised(url: str, name: str, dialect: str, model: str, streams: bool):
    """A call would go past its target's limits."""
    found = recognise(url, [OWN])
    assert found is not None
    assert (found.endpoint.name, found.dialect, found.model, found.streams) == (name, dialect, model, streams)


@pytest.mark.parametrize(
    "url",
    [
        *("https://api.openai.com/v1/models", "https://api.openai.com/v1/files", "https://example.com/v1/responses"),
        *("https://api.openai.com.example.com/v1/chat/completions", "http://api.openai.com/v1/chat/completions"),
        "https://api.anthropic.com/v1/messages/count_tokens",
        "https://api.openai.com/v1/v1/chat/completions",
        "https://api.openai.com/v1/threads/t/messages",
        "https://me.openai.azure.com/openai/threads/t/messages?api-version=1",
        "https://me.openai.azure.com@example.com/openai/v1/chat/completions",
        "https://api.openai.com@example.com/v1/chat/completions",
        "https://example.com/me.openai.azure.com/openai/v1/chat/completions",
        "https://localhost:8443/openai/v1/chat/completions",
        "https://api.openai.com/v1/chat%2Fcompletions",
        "https://api.openai.com:444/v1/chat/completions",
        "https://example.com/openai/chat/completions",
    ],
)
def test_what_is_no_call_to_a_known_server_is_not(url: str):
    """A stranger's server, or an upload, would be taken for a call to a provider."""
    assert recognise(url, [OWN]) is None


def test_keys_are_found_and_do_not_show():
    """Two keys would share one limit, or a key stand in a log."""
    for headers in ({"authorization": "Bearer sk-1"}, {"x-api-key": "sk-1"}, {"x-goog-api-key": "sk-1"}):
        key = key_in(headers)
        assert key is not None
        assert key.reveal() == "sk-1"
        assert "sk-1" not in repr(key)
    inside = key_in({}, "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent?alt=sse&key=sk-1")
    assert inside is not None
    assert inside.reveal() == "sk-1"
    assert key_in({}) is None
