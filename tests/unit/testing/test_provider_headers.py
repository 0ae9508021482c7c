from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.testing import ProviderModel, ProviderSettings
from flatout.testing._headers import duration, retry_after

WALL = 1_767_225_600.0  # 2026-01-01T00:00:00Z
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":100}'


def headers_of(dialect: str, at: float = 0.0, **settings) -> dict[str, str]:
    model = ProviderModel(ProviderSettings(headers=dialect, rpm=600, tpm=60_000, rpd=1000, **settings))
    model.start(0.0)
    headers = model.receive(at, WALL + at, BODY).headers
    return {name: value for name, value in headers.items() if "limit" in name}


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("", {}),
        (
            "openai",
            {
                "x-ratelimit-limit-requests": "600",
                "x-ratelimit-remaining-requests": "599",
                "x-ratelimit-reset-requests": "100ms",
                "x-ratelimit-limit-tokens": "60000",
                "x-ratelimit-remaining-tokens": "59900",
                "x-ratelimit-reset-tokens": "100ms",
            },
        ),
        (
            "azure",
            {
                "x-ratelimit-limit-requests": "600",
                "x-ratelimit-remaining-requests": "599",
                "x-ratelimit-reset-requests": "1",
                "x-ratelimit-limit-tokens": "60000",
                "x-ratelimit-remaining-tokens": "59900",
                "x-ratelimit-reset-tokens": "1",
            },
        ),
        (
            "anthropic",
            {
                "anthropic-ratelimit-requests-limit": "600",
                "anthropic-ratelimit-requests-remaining": "599",
                "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:01Z",
                "anthropic-ratelimit-tokens-limit": "60000",
                "anthropic-ratelimit-tokens-remaining": "60000",
                "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:01Z",
            },
        ),
        (
            "groq",
            {
                "x-ratelimit-limit-requests": "1000",
                "x-ratelimit-remaining-requests": "999",
                "x-ratelimit-reset-requests": "24h0m0s",
                "x-ratelimit-limit-tokens": "60000",
                "x-ratelimit-remaining-tokens": "59900",
                "x-ratelimit-reset-tokens": "100ms",
            },
        ),
        (
            "mistral",
            {
                "x-ratelimit-limit-req-minute": "600",
                "x-ratelimit-remaining-req-minute": "599",
                "x-ratelimit-limit-tokens-minute": "60000",
                "x-ratelimit-remaining-tokens-minute": "59900",
                "x-ratelimit-tokens-query-cost": "100",
            },
        ),
        (
            "together",
            {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "599", "x-ratelimit-reset": "0.000"},
        ),
        (
            "fireworks",
            {
                "x-ratelimit-limit-requests": "600",
                "x-ratelimit-remaining-requests": "599",
                "x-ratelimit-limit-tokens-prompt": "60000",
                "x-ratelimit-remaining-tokens-prompt": "59900",
                "x-ratelimit-limit-tokens-generated": "60000",
                "x-ratelimit-remaining-tokens-generated": "59900",
            },
        ),
        (
            "openrouter",
            {"x-ratelimit-limit": "600", "x-ratelimit-remaining": "599", "x-ratelimit-reset": "1767225600100"},
        ),
    ],
)
def test_each_dialect_as_the_provider_writes_it(dialect, expected):
    """The reading of limits would be tested against something that no provider sends."""
    assert headers_of(dialect) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.012, "12ms"), (1, "1s"), (8.64, "8.64s"), (360, "6m0s"), (179.56, "2m59.56s"), (3723, "1h2m3s")],
)
def test_durations_as_openai_writes_them(seconds, text):
    """A client's parser would be tested against the wrong format."""
    assert duration(seconds) == text


@given(st.floats(0, 1e6))
def test_durations_mean_what_they_say(seconds):
    """A client would wait too short or too long."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)(ms|s))", duration(seconds))
    assert match is not None
    hours, minutes, rest = (float(part or 0) for part in match.group(1, 2, 3))
    assert minutes < 60
    assert rest < (1000 if match.group(4) == "ms" else 60)
    told = hours * 3600 + minutes * 60 + rest / (1000 if match.group(4) == "ms" else 1)
    assert seconds - 1e-6 <= told <= seconds + 0.002


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("", {}),
        ("seconds", {"retry-after": "2"}),
        ("ms", {"retry-after-ms": "1250"}),
        ("both", {"retry-after": "2", "retry-after-ms": "1250"}),
        ("date", {"retry-after": "Thu, 01 Jan 2026 00:00:02 GMT"}),
    ],
)
def test_each_way_to_say_when_to_come_back(form, expected):
    """A client's reading of Retry-After would be tested against something that no provider sends."""
    assert retry_after(form, 1.25, WALL) == expected


def test_a_refused_request_is_told_the_right_wait_or_the_configured_one():
    """A gateway's exaggerated Retry-After could not be played."""
    settings = ProviderSettings(rpm=60, burst=1, retry_after="ms")
    for chosen, expected in ((settings, "1000"), (settings.changed({"retry_after_always": 60.0}), "60000")):
        model = ProviderModel(chosen)
        model.receive(0.0, WALL, BODY)
        refused = model.receive(0.0, WALL, BODY)
        assert refused.status == 429
        assert refused.headers["retry-after-ms"] == expected


def test_stale_headers_tell_what_was():
    """The trap of headers that lag behind could not be played."""
    model = ProviderModel(ProviderSettings(headers="openai", rpm=600, limit="fixed", stale_headers=2.0))
    remaining = [
        int(model.receive(at / 2, WALL + at / 2, BODY).headers["x-ratelimit-remaining-requests"]) for at in range(8)
    ]
    assert remaining == [599, 599, 599, 599, 599, 598, 597, 596]


def test_no_headers_of_limits_that_do_not_exist():
    """A client would believe a limit of None or of 0."""
    for dialect in ("openai", "azure", "anthropic", "groq", "together", "fireworks", "openrouter"):
        headers = ProviderModel(ProviderSettings(headers=dialect)).receive(0.0, WALL, BODY).headers
        assert not [name for name in headers if "limit" in name]
