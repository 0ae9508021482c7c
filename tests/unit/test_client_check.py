"""What `Client.check` finds before anything is sent."""

from __future__ import annotations

import pytest

from flatout import Call, Client, ConfigError


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


def test_a_budget_that_cannot_be_kept_is_found() -> None:
    """A budget would be accepted, and every call then fail for it."""
    url = "http://127.0.0.1:1/v1"
    with pytest.raises(ConfigError, match=r"the price of .* is not known"):
        client(base_url=url, budget=1.0).check(Call("x", model="m", max_tokens=5))
    priced = Client(base_url=url, budget=1.0, config={"prices": {"127.0.0.1:1/m": {"input": 1.0, "output": 1.0}}})
    priced.check(Call("x", model="m", max_tokens=5))
    with pytest.raises(ConfigError, match="give max_tokens"):  # although the model was found good before
        priced.check(Call("x", model="m"))
    client(base_url=url).check(Call("x", model="m"))
