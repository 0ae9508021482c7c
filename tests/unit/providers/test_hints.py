"""Slips in ``extra``."""

from __future__ import annotations

import json

import pytest

from flatout.providers import codec_for, registry
from flatout.providers.wire import hints
from flatout.values import Call, Target

CODEC = codec_for(Target(registry.find("mistral"), "m"))


@pytest.mark.parametrize(
    ("name", "level", "meant"),
    [
        ("temprature", "WARNING", "did you mean temperature?"),
        ("max_completion_tokens", "INFO", "as max_tokens, flatout would know it"),
        ("stopSequences", "INFO", "as stop,"),
    ],
)
def test_a_slip_is_hinted_at_once(caplog: pytest.LogCaptureFixture, name: str, level: str, meant: str) -> None:
    """A misspelt parameter would be ignored by the provider, and nobody know; or be told a million times."""
    hints.first_time.forget()
    with caplog.at_level("INFO", logger="flatout"):
        for _ in range(2):
            assert json.loads(CODEC.encode(Call("x", extra={name: 1})).body)[name] == 1
    assert [record.levelname for record in caplog.records] == [level]
    assert meant in caplog.text


@pytest.mark.parametrize(
    "name", ["top_k", "min_p", "n", "min_tokens", "top_logprobs", "stop_token_ids", "user", "topK"]
)
def test_providers_own_parameters_are_left_in_peace(caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Users would be warned of what is right."""
    hints.first_time.forget()
    with caplog.at_level("INFO", logger="flatout"):
        CODEC.encode(Call("x", extra={name: 1}))
    assert not caplog.records
