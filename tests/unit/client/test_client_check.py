"""What `Client.check` finds before anything is sent."""

from __future__ import annotations

import asyncio

import pytest

from flatout import Call, Client, ConfigError, Limits
from flatout.providers.wire import hints


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def client(**options: object) -> Client:
    return Client(config={}, **options)  # type: ignore[arg-type]  # names and types as the client has them


def test_a_call_without_a_usable_model_is_found() -> None:
    """A misspelt model or a missing key on row 9,000 would be found after 8,999 calls were paid for."""
    bare = client()
    for call, why in (
        (Call("x"), "no model"),
        (Call("x", model="groq/x"), "no key for groq: set the environment variable GROQ_API_KEY"),
        (Call("x", model="nobody/x"), "no provider is named 'nobody'"),
    ):
        with pytest.raises(ConfigError, match=why):
            bare.check(call)
    client(model="openai/x", api_key="k").check(Call("x"))


def test_a_misspelt_parameter_is_told_before_anything_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    """The provider would ignore it, and a million answers be made at the wrong temperature."""
    hints.first_time.forget()
    client(model="openai/x", api_key="k").check(Call("x", extra={"temprature": 0}))
    assert "did you mean temperature?" in caplog.text


def test_a_budget_that_cannot_be_kept_is_found() -> None:
    """A budget would be accepted, and every call then fail for it."""
    url = "http://127.0.0.1:1/v1"
    with pytest.raises(ConfigError, match=r"the price of .* is not known"):
        client(base_url=url, budget=1.0).check(Call("x", model="m", max_tokens=5))
    priced = Client(base_url=url, budget=1.0, config={"prices": {"127.0.0.1:1/m": {"input": 1.0, "output": 1.0}}})
    priced.check(Call("x", model="m", max_tokens=5))
    priced.check(Call("x", model="m"))
    client(base_url=url).check(Call("x", model="m"))


@pytest.mark.parametrize("key", ["sk-new\nline", "sk-ключ", "sk-\x00"])
def test_a_key_that_no_header_can_carry_is_found(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key pasted with a line break would fail every row, and be recorded in each."""
    url = "http://127.0.0.1:1/v1"
    for options in ({"base_url": url, "model": "m"}, {"model": "groq/x"}):
        with pytest.raises(ConfigError, match="line break or a character beyond ASCII") as caught:
            client(api_key=key, **options)
        assert "sk-" not in str(caught.value)
    with monkeypatch.context() as patch:
        if "\x00" not in key:
            patch.setenv("FLATOUT_API_KEY", key)
            patch.setenv("GROQ_API_KEY", key)
            with pytest.raises(ConfigError, match="FLATOUT_API_KEY"):
                client(base_url=url)
            with pytest.raises(ConfigError, match="GROQ_API_KEY"):
                client().check(Call("x", model="groq/x"))
    for headers in ({"x-mine": key}, {key: "x"}):
        with pytest.raises(ConfigError, match="line break or a character beyond ASCII") as caught:
            client(base_url=url, headers=headers)
    with pytest.raises(ConfigError, match="line break or a character beyond ASCII"):
        Client(config={"endpoints": {"mine": {"base_url": url, "headers": {"x": key}}}}).check(
            Call("x", model="mine/m")
        )


def test_a_key_read_from_a_file_may_end_with_its_line() -> None:
    """``open("key").read()`` would be no key."""
    client(base_url="http://127.0.0.1:1/v1", api_key="k\n").check(Call("x", model="m"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"model": 5}, "model is a string, not a int"),
        ({"limits": 3}, "limits is a Limits, not a int"),
        ({"limits": {"rpm": 3}}, "limits is a Limits"),
        ({"base_url": 3}, "base_url is a string, not a int"),
        ({"api_key": b"x"}, "api_key is a string, not a bytes"),
        ({"api_key": 5}, "api_key is a string, not a int"),
        ({"headers": {"a": 1}}, "headers"),
        ({"headers": {1: "a"}}, "headers"),
        ({"headers": [1]}, "headers"),
    ],
)
def test_an_option_of_a_wrong_type_is_told_in_a_sentence(options: dict[str, object], why: str) -> None:
    """A Python error from the depths would be all that a typing mistake gets."""
    with pytest.raises(ConfigError, match=why) as caught:
        client(**options)
    assert "'x'" not in str(caught.value)


@pytest.mark.parametrize("shared", ["", " ", 5])
def test_limits_are_shared_under_a_name(shared: object) -> None:
    """Processes that meant to share limits would share none, or fail on the first call."""
    with pytest.raises(ConfigError, match="shared"):
        Limits(shared=shared)  # type: ignore[arg-type]  # what a user may write


def test_what_is_no_agent_is_told() -> None:
    """A name in the agent's place would be called, and fail as Python does."""

    async def main() -> None:
        async with client(base_url="http://127.0.0.1:1/v1", model="m") as made:
            with pytest.raises(ConfigError, match="run_agent takes an agent"):
                await made.run_agent("x", "go")  # type: ignore[arg-type]  # what a user may write

    asyncio.run(main())


def test_a_tier_without_a_price_is_found_after_a_call_without_one() -> None:
    """A budget would be accepted for a tier whose price nobody knows, since the model was found good before."""
    made = client(model="openai/gpt-5-mini", api_key="k", budget=1.0)
    made.check(Call("x", max_tokens=5))
    with pytest.raises(ConfigError, match="gpt-5-mini@scale is not known"):
        made.check(Call("x", max_tokens=5, service_tier="scale"))
