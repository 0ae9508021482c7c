"""The limits that a provider advertises."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from flatout.policies.pacing.advertised import LONGEST, Advertised, Quota, advertised, seconds_until
from flatout.testing import ProviderModel, ProviderSettings
from flatout.testing._headers import duration

WALL = 1_767_225_600.0  # 2026-01-01T00:00:00Z
DAY = 86_400.0

OPENAI = {
    "x-ratelimit-limit-requests": "30000",
    "x-ratelimit-remaining-requests": "29999",
    "x-ratelimit-reset-requests": "2ms",
    "x-ratelimit-limit-tokens": "150000000",
    "x-ratelimit-remaining-tokens": "149999967",
    "x-ratelimit-reset-tokens": "6m0s",
}
AZURE = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-remaining-requests": "599",
    "x-ratelimit-reset-requests": "1",
    "x-ratelimit-limit-tokens": "-1",
    "x-ratelimit-remaining-tokens": "-1",
    "x-ratelimit-reset-tokens": "59",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:01Z",
    "anthropic-ratelimit-tokens-limit": "480000",
    "anthropic-ratelimit-tokens-remaining": "470000",
    "anthropic-ratelimit-tokens-reset": "2025-12-31T23:59:59Z",
    "anthropic-ratelimit-input-tokens-limit": "400000",
    "anthropic-ratelimit-input-tokens-remaining": "390000",
    "anthropic-ratelimit-input-tokens-reset": "2026-01-01T00:00:02.5Z",
    "anthropic-ratelimit-output-tokens-limit": "80000",
    "anthropic-ratelimit-output-tokens-remaining": "80000",
    "anthropic-ratelimit-output-tokens-reset": "2026-01-01T01:00:00+01:00",
}
GROQ = {
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-limit-tokens": "18000",
    "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-tokens": "7.66s",
}
MISTRAL = {
    "x-ratelimit-limit-req-minute": "720",
    "x-ratelimit-remaining-req-minute": "717",
    "x-ratelimit-limit-tokens-minute": "5000000",
    "x-ratelimit-remaining-tokens-minute": "4999911",
    "x-ratelimit-tokens-query-cost": "52",
}
FIREWORKS = {
    "x-ratelimit-limit-requests": "6000",
    "x-ratelimit-remaining-requests": "5999",
    "x-ratelimit-limit-tokens-prompt": "3600000",
    "x-ratelimit-remaining-tokens-prompt": "3599000",
    "x-ratelimit-limit-tokens-generated": "36000",
    "x-ratelimit-over-limit": "no",
}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param(
            OPENAI,
            Advertised(requests=Quota(30_000, 29_999, 0.002), tokens=Quota(150e6, 149_999_967, 360)),
            id="openai",
        ),
        pytest.param(AZURE, Advertised(requests=Quota(600, 599, 1), tokens=Quota(None, None, 59)), id="azure"),
        pytest.param(
            ANTHROPIC,
            Advertised(
                requests=Quota(4000, 3999, 1),
                tokens=Quota(480_000, 470_000, 0),
                input_tokens=Quota(400_000, 390_000, 2.5),
                output_tokens=Quota(80_000, 80_000, 0),
            ),
            id="anthropic",
        ),
        pytest.param(
            MISTRAL, Advertised(requests=Quota(720, 717, None), tokens=Quota(5e6, 4_999_911, None)), id="mistral"
        ),
        pytest.param(
            {"x-ratelimitbysize-limit-minute": "500000", "x-ratelimitbysize-remaining-minute": "499948"},
            Advertised(tokens=Quota(500_000, 499_948, None)),
            id="mistral, older",
        ),
        pytest.param(
            FIREWORKS,
            Advertised(
                requests=Quota(6000, 5999, None),
                input_tokens=Quota(3.6e6, 3_599_000, None),
                output_tokens=Quota(36_000, None, None),
            ),
            id="fireworks",
        ),
        pytest.param(
            {
                "x-ratelimit-limit": "600",
                "x-ratelimit-remaining": "599",
                "x-ratelimit-reset": "1767225600100",
            },
            Advertised(requests=Quota(600, 599, pytest.approx(0.1))),
            id="openrouter",
        ),
        pytest.param(
            {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767264000000"},
            Advertised(requests=Quota(50, 0, 38_400, DAY)),
            id="openrouter, free models",
        ),
        pytest.param(
            {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "9", "x-ratelimit-reset": "1.250"},
            Advertised(requests=Quota(10, 9, 1.25, 1)),
            id="together",
        ),
        pytest.param(
            {
                "x-ratelimit-limit": "10",
                "x-ratelimit-remaining": "9",
                "x-ratelimit-reset": "1",
                "x-tokenlimit-limit": "3000",
                "x-tokenlimit-remaining": "2900",
            },
            Advertised(requests=Quota(10, 9, 1, 1), tokens=Quota(3000, 2900, None, 1)),
            id="together, with tokens",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests-day": "10000",
                "x-ratelimit-remaining-requests-day": "9500",
                "x-ratelimit-reset-requests-day": "33011.382867",
                "x-ratelimit-limit-tokens-minute": "200000",
                "x-ratelimit-reset-tokens-minute": "11.5",
            },
            Advertised(requests=Quota(10_000, 9500, 33011.382867, DAY), tokens=Quota(200_000, None, 11.5)),
            id="cerebras",
        ),
    ],
)
@pytest.mark.parametrize("prefix", ["", "llm_provider-"])
@pytest.mark.parametrize("proxied", [False, True])
def test_each_dialect(headers: dict[str, str], expected: Advertised, prefix: str, proxied: bool) -> None:
    """A provider's limits would be missed, or its window be mistaken and the limits overrun by far."""
    named = {prefix + name: value for name, value in headers.items()}
    if proxied:
        assert advertised(CIMultiDictProxy(CIMultiDict({n.title(): v for n, v in named.items()})), WALL) == expected
    else:
        assert advertised({"date": "today", **named, "server": "nginx"}, WALL) == expected


@pytest.mark.parametrize("prefix", ["", "llm_provider-"])
def test_a_limit_per_day_must_be_told_by_the_caller(prefix: str) -> None:
    """Groq's requests of a day would be sent within a minute; or other providers' be stretched to a day."""
    headers = {prefix + name: value for name, value in GROQ.items()}
    per_day = advertised(headers, WALL, requests_per_day=True)
    per_minute = advertised(headers, WALL)
    tokens = Quota(18_000, 17_997, 7.66)
    assert per_day == Advertised(requests=Quota(14_400, 14_370, pytest.approx(179.56), DAY), tokens=tokens)
    assert per_minute == Advertised(requests=Quota(14_400, 14_370, pytest.approx(179.56)), tokens=tokens)


@pytest.mark.parametrize("dialect", ["openai", "azure", "anthropic", "mistral", "fireworks", "groq", "together"])
def test_what_the_provider_model_advertises_is_what_it_enforces(dialect: str) -> None:
    """A run against the simulator, or the provider it plays, would go at a wrong rate."""
    model = ProviderModel(ProviderSettings(headers=dialect, rpm=600, tpm=60_000, rpd=1000))
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":100}'
    found = advertised(model.receive(0.0, WALL, body).headers, WALL, requests_per_day=dialect == "groq")
    assert found is not None
    assert found.requests is not None
    assert found.requests.limit is not None
    per_day = found.requests.limit * DAY / found.requests.window
    assert per_day == (1000 if dialect == "groq" else 600 * 1440)
    tokens = found.tokens or found.input_tokens
    assert tokens is None if dialect == "together" else tokens is not None
    if tokens is not None:
        assert (tokens.limit, tokens.window) == (60_000, 60)


@pytest.mark.parametrize("headers", [{}, {"date": "today"}, {"x-ratelimit-over-limit": "no"}, {"retry-after": "1"}])
def test_no_limits_advertised(headers: dict[str, str]) -> None:
    """The pacer would take silence for a limit."""
    assert advertised(headers, WALL) is None
    assert advertised(CIMultiDictProxy(CIMultiDict(headers)), WALL) is None


def test_a_gateways_own_limits_win_over_its_upstreams() -> None:
    """The gateway would refuse what its upstream allows."""
    upstream = {f"llm_provider-{name}": value for name, value in ANTHROPIC.items()}
    assert advertised({**upstream, "x-ratelimit-limit-requests": "60"}, WALL) == Advertised(
        requests=Quota(60, None, None)
    )


def test_a_limit_per_minute_wins_over_one_per_day() -> None:
    """With both limits in the headers, requests would be spread over the day at a fraction of the allowed rate."""
    headers = {"x-ratelimit-limit-requests-day": "1500", "x-ratelimit-limit-requests": "30"}
    assert advertised(headers, WALL) == Advertised(requests=Quota(30, None, None))


@pytest.mark.parametrize(
    ("limit", "remaining", "expected"),
    [
        ("60", "0", (60, 0)),
        ("60", "-1", (60, None)),
        ("60", None, (60, None)),
        ("60", "many", (60, None)),
        ("0", "0", (None, None)),
        ("-1", "0", (None, None)),
        (None, "0", (None, None)),
        (None, "5", (None, 5)),
        ("nan", "5", (None, 5)),
        ("1e999", "inf", (None, None)),
        ("", " ", (None, None)),
    ],
)
def test_what_is_not_known_is_none(limit: str | None, remaining: str | None, expected: tuple[float, float]) -> None:
    """Azure's -1 or 0, which mean unknown, would stop the run: nothing left, or a limit of nothing."""
    headers = {"x-ratelimit-limit-tokens": limit, "x-ratelimit-remaining-tokens": remaining}
    found = advertised({name: value for name, value in headers.items() if value is not None}, WALL)
    tokens = found.tokens if found else None
    assert (tokens and (tokens.limit, tokens.remaining)) == (expected if expected != (None, None) else None)


@pytest.mark.parametrize(
    ("reset", "window"),
    [
        (None, 60),
        ("soon", 60),
        ("42", 60),
        ("6m0s", 60),
        ("2.5s", 60),
        (f"{WALL + 0.25}", 60),
        (f"{WALL + 59:.0f}", 60),
        (f"{WALL + 200:.0f}", 60),
        (f"{WALL + 3000:.0f}", 3600),
        (f"{WALL + 80_000:.0f}", DAY),
        (f"{WALL + 20 * DAY:.0f}", 20 * DAY),
        ("0.000", 1),
        ("3.5", 1),
    ],
)
def test_the_window_of_a_limit_whose_name_does_not_tell(reset: str | None, window: float) -> None:
    """A limit per day, or per second, would be taken for one per minute; or a clock that is a little off change it."""
    headers = {"x-ratelimit-limit": "50"} | ({"x-ratelimit-reset": reset} if reset is not None else {})
    found = advertised(headers, WALL)
    assert found is not None
    assert found.requests is not None
    assert found.requests.window == window


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("1s", 1),
        ("6m0s", 360),
        ("1h2m3s", 3723),
        ("2m59.56s", 179.56),
        ("1d2h", 93_600),
        ("1m", 60),
        ("850µs", 0.000850),
        ("0s", 0),
        ("5", 5),
        (" 0.25 ", 0.25),
        (" 2s ", 2),
        ("1e-3", 0.001),
        ("1767225630", 30),
        ("1767225630.5", 30.5),
        ("1767225630250", 30.25),
        ("1767225500", 0),
        ("2026-01-01T00:00:30Z", 30),
        ("2026-01-01t00:00:30.5z", 30.5),
        ("2026-01-01T00:00:30.123456789Z", 30.123456),
        ("2026-01-01 05:30:30+05:30", 30),
        ("2026-01-01T00:00:30", 30),
        ("2025-12-31T00:00:00Z", 0),
        ("31622400", LONGEST),
        *((bad, None) for bad in ("", "-1", "-5s", "1.2.3s", "s", "1s2", "x1s", "1x1s", "5 s", "nan", "inf", "-inf")),
        *((bad, None) for bad in ("1e999", "31622401", "9000h", "99999999999999", "1970-01-01T00:00:00Z", "tomorrow")),
        *((bad, None) for bad in ("0001-01-01T00:00:00Z", "2027-06-01T00:00:00Z", "2026-13-01T00:00:00Z", "1" * 5000)),
        *((bad, None) for bad in ("9" * 40 + "d", "2026-01-01", "00:00:30", "60, 60;w=60", "\ud800", "\0", "0" * 5000)),
    ],
)
def test_every_notation_of_a_reset(text: str, seconds: float | None) -> None:
    """The pacer would wait for a limit that is free already, for years, or not at all."""
    assert seconds_until(text, WALL) == (seconds if seconds is None else pytest.approx(seconds, abs=1e-6))


def test_an_instant_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pacer would wait hours too long, or not at all, wherever the machine's clock is not set to UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert seconds_until("2026-01-01T00:00:31", WALL) == 31
    time.tzset()


waits = st.floats(0, 360 * DAY)


@given(waits, st.floats(1.5e9, 4e9), st.integers(-23, 23))
def test_the_notations_agree(wait: float, wall: float, zone: int) -> None:
    """Two providers that say the same would be paced differently."""
    then = datetime.fromtimestamp(wall, UTC) + timedelta(seconds=wait)
    assert seconds_until(duration(wait), wall) == pytest.approx(wait, abs=0.002)
    assert seconds_until(f"{wait:.6f}", wall) == pytest.approx(wait, abs=1e-3)
    assert seconds_until(f"{wall + wait:.6f}", wall) == pytest.approx(wait, abs=1e-3)
    assert seconds_until(f"{(wall + wait) * 1000:.0f}", wall) == pytest.approx(wait, abs=2e-3)
    assert seconds_until(then.astimezone(timezone(timedelta(hours=zone))).isoformat(), wall) == pytest.approx(
        wait, abs=1e-3
    )


names = st.sampled_from(
    sorted(
        {prefix + name for prefix in ("", "llm_provider-") for each in (OPENAI, ANTHROPIC, MISTRAL) for name in each}
        | {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-tokenlimit-limit"}
        | set(FIREWORKS)
    )
)
texts = (
    st.text(max_size=60)
    | st.text("0123456789.-+:TZdhmsnµe ", max_size=40)
    | st.floats().map(str)
    | st.integers().map(str)
    | st.datetimes(timezones=st.timezones() | st.none()).map(datetime.isoformat)
)


@given(st.dictionaries(names | st.text(max_size=20), texts, max_size=12), st.floats(), st.booleans())
@example({"x-ratelimit-limit-requests": "-0", "x-ratelimit-reset-requests": "-0"}, WALL, False)
@example({"x\nx-ratelimit-limit-requests": "1", "X-RateLimit-Limit": "2"}, WALL, False)
def test_any_text_is_a_limit_or_none(headers: dict[str, str], wall: float, requests_per_day: bool) -> None:
    """A garbled header would crash an answer that was paid for, or stop the run for ever."""
    found = advertised(headers, wall, requests_per_day=requests_per_day)
    if found is None:
        return
    quotas = [quota for quota in msgspec.structs.astuple(found) if quota is not None]
    assert quotas
    for quota in quotas:
        told = [number for number in (quota.limit, quota.remaining, quota.reset) if number is not None]
        assert told
        assert all(0 <= number < math.inf for number in told)
        assert quota.limit != 0
        assert quota.reset is None or quota.reset <= LONGEST
        assert 1 <= quota.window <= LONGEST
