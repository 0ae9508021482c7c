"""The vendors' own clients, made over a flatout client. The SDKs here are stand-ins."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import httpx
import httpx2
import pytest

import flatout
from flatout import Client, ConfigError
from flatout.sdk._requests import NO_KEY


class Made:
    """Notes what an SDK's client is made with."""

    def __init__(self, **options: Any) -> None:
        self.options = options


def sdk(package: Any) -> Any:
    kinds = {"DefaultAsyncHttpxClient": type("A", (package.AsyncClient,), {})}
    kinds |= {"DefaultHttpxClient": type("S", (package.Client,), {})}
    return SimpleNamespace(AsyncOpenAI=Made, OpenAI=Made, AsyncAnthropic=Made, Anthropic=Made, Client=Made, **kinds)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.setenv(name, f"key-of-{name.partition('_')[0].lower()}")


@pytest.mark.parametrize("package", [httpx, httpx2])
@pytest.mark.parametrize("sync", [False, True])
def test_an_sdk_gets_the_http_client_that_it_takes(monkeypatch: pytest.MonkeyPatch, package: Any, sync: bool):
    """An SDK would refuse an HTTP client of the other package."""
    monkeypatch.setitem(sys.modules, "openai", sdk(package))
    made: Any = flatout.sdk.openai(Client(timeout=7), sync=sync)  # type: ignore[call-overload]
    assert isinstance(made.options["http_client"], package.Client if sync else package.AsyncClient)
    assert made.options["http_client"].timeout == package.Timeout(7)
    assert made.options["max_retries"] == 0


@pytest.mark.parametrize(
    ("options", "base_url", "key"),
    [
        ({}, "https://api.openai.com/v1", "key-of-openai"),
        ({"model": "groq/llama-3.3-70b-versatile"}, "https://api.groq.com/openai/v1", "key-of-groq"),
        ({"model": "anthropic/claude-sonnet-4-5"}, "https://api.openai.com/v1", "key-of-openai"),
        ({"base_url": "http://127.0.0.1:9/v1", "api_key": "own"}, "http://127.0.0.1:9/v1", "own"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "http://127.0.0.1:9/v1", NO_KEY),
    ],
)
def test_openais_client_goes_where_flatouts_goes(
    monkeypatch: pytest.MonkeyPatch, options: Any, base_url: str, key: str
):
    """A program's calls would go to another server than its user's own, or without the key."""
    monkeypatch.setitem(sys.modules, "openai", sdk(httpx2))
    made: Any = flatout.sdk.openai(Client(**options), organization="us")
    assert (made.options["base_url"], made.options["api_key"]) == (base_url, key)
    assert made.options["organization"] == "us"


def test_the_others_have_their_own_forms_of_addresses(monkeypatch: pytest.MonkeyPatch):
    """A vendor's SDK would ask for an address with its version twice, or none."""
    monkeypatch.setitem(sys.modules, "anthropic", sdk(httpx2))
    monkeypatch.setitem(sys.modules, "google.genai", sdk(httpx2))
    claude: Any = flatout.sdk.anthropic(Client())
    assert (claude.options["base_url"], claude.options["api_key"]) == ("https://api.anthropic.com", "key-of-anthropic")
    gemini: Any = flatout.sdk.genai(Client(), http_options={"headers": {"x-team": "a"}})
    told = gemini.options["http_options"]
    assert (told["base_url"], told["api_version"]) == ("https://generativelanguage.googleapis.com", "v1beta")
    assert told["headers"] == {"x-team": "a"}
    assert isinstance(told["httpx_async_client"], httpx2.AsyncClient)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    """A user would see an import error from inside flatout, and not what to install."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match="pip install openai"):
        flatout.sdk.openai(Client())


PROGRAM = """
import flatout, httpx2
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport

class Transport(SimulatedTransport):
    async def close(self):
        print("closed")

client = flatout.Client(transport=Transport(ProviderModel(ProviderSettings(latency=0.0))))
http = flatout.sdk.http_client(client, sync=True)
body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello?"}]}
print(http.post("https://api.openai.com/v1/chat/completions", json=body).status_code)
"""


def test_the_programs_end_closes_what_it_forgot():
    """A script that ends without closing would hang, or lose what flatout has learned of its limits."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.split(), done.returncode, done.stderr) == (["200", "closed"], 0, "")
