"""Limits that refusals name in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout import Limits
from flatout.errors import QuotaExhausted, RateLimited
from flatout.providers.failures.named import named_limits, wait_named
from flatout.providers.failures.naming import error_of
from flatout.values import Endpoint

ENDPOINT = Endpoint(name="x", base_url="http://x/v1")
OPENAI = "Rate limit reached for m in organization org-1 on {}: Limit {}, Used 9, Requested 1. Please try again in {}."


@pytest.mark.parametrize(
    ("message", "limits"),
    [
        (OPENAI.format("requests per min (RPM)", 3000, "20ms"), Limits(rpm=3_000)),
        (OPENAI.format("tokens per min (TPM)", 30000, "18.642s"), Limits(tpm=30_000)),
        (OPENAI.format("requests per day (RPD)", 200, "7m12s"), Limits(rpd=200)),
        ("Rate limit reached on requests per min. Limit: 60.000000 / min. Current: 80.0 / min.", Limits(rpm=60)),
        (
            "This would exceed your organization's rate limit of 30,000 input tokens per minute (org: 1)",
            Limits(itpm=30_000),
        ),
        ("exceeds the rate limit for your organization of 8,000 output tokens per minute", Limits(otpm=8_000)),
        ("limit of 2 requests per second", Limits(rpm=120)),
        ("exceeded the limit of 0 requests per minute", None),
        ("limit of 5 images per minute", None),
        ("tokens per day (TPD): Limit 500000", None),
        ("slow down", None),
        ("", None),
    ],
)
def test_limits_are_read_from_the_words_of_several_providers(message, limits):
    """A limit that stands in the refusal would be searched for all the same; or a wrong one be kept to."""
    assert named_limits(message) == limits


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 18.642s. Visit", 18.642),
        ("try again in 7m12s", 432.0),
        ("Try again in 5 minutes", None),
        ("try again later", None),
    ],
)
def test_a_wait_is_read_where_no_header_tells_it(message, seconds):
    """A provider that says how long to wait would be asked too soon."""
    assert wait_named(message) == seconds


def gemini(*quotas: tuple[str, str | None]) -> bytes:
    violations = [{"quotaId": name} | ({"quotaValue": value} if value else {}) for name, value in quotas]
    detail = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}
    error = {"code": 429, "message": "You exceeded your quota.", "status": "RESOURCE_EXHAUSTED", "details": [detail]}
    return json.dumps({"error": error}).encode()


def test_gemini_names_its_quotas_by_value():
    """The one provider that sends no headers would be searched at each start."""
    requests, tokens = "GenerateRequestsPerMinutePerProjectPerModel", "GenerateContentInputTokensPerModelPerMinute"
    error = error_of(429, {}, gemini((requests, "15"), (tokens, "250000")), ENDPOINT)
    assert isinstance(error, RateLimited)
    assert error.limits == Limits(rpm=15, itpm=250_000)
    assert error_of(429, {}, gemini((requests, None)), ENDPOINT).limits is None
    assert isinstance(error_of(429, {}, gemini(("GenerateRequestsPerDayPerProject", "50")), ENDPOINT), QuotaExhausted)


def test_a_header_on_the_wait_wins_over_words():
    """Words may be rounded, or quote another limit's wait."""
    body = json.dumps({"error": {"message": OPENAI.format("requests per min (RPM)", 60, "9s")}}).encode()
    assert error_of(429, {"retry-after": "1"}, body, ENDPOINT).retry_after == 1.0
    assert error_of(429, {}, body, ENDPOINT).retry_after == 9.0


@given(st.text(max_size=300) | st.from_regex(r"requests per (min|day).{0,20}[Ll]imit:? [0-9,._e+-]{0,30}"))
def test_nothing_that_a_refusal_says_breaks_it(message):
    """A strange text would end the call with a traceback instead of an error."""
    limits = named_limits(message, [(message, message)])
    assert limits is None or all(value is None or value >= 1 for value in (limits.rpm, limits.tpm, limits.rpd))
    wait = wait_named(message)
    assert wait is None or wait >= 0
