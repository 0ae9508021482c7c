"""The vendors' SDKs and the frameworks over them, with flatout beneath: the real libraries.

``make .venv-sdk`` installs them, in an environment of their own. The programs are in `tests.support.sdk_programs`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sdk" / "bin" / "python"
NEWER = ROOT / ".venv-sdk" / "openai3"
"""Where the SDK's next major version is, over httpx2, which the frameworks do not take yet."""

BURST = 4
"""Seconds of requests that the provider's bucket holds. The programs are told of 2: a busy machine bunches what it
sends, and a bucket that is used to the brim has no room for that."""

SUPPORT = ROOT / "tests" / "support"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the vendors' SDKs are not installed: make .venv-sdk")

FAULTS = {"server_error": 0.02, "reset": 0.02, "overloaded": 0.01}

PROGRAMS = {
    "openai_chat": "str",
    "openai_sync": "str",
    "openai_responses": "str",
    "openai_parse": "Label",
    "openai_parse_responses": "Label",
    "openai_stream": "str",
    "openai_stream_responses": "str",
    "openai_embeddings": "list",
    "anthropic": "str",
    "anthropic_sync": "str",
    "anthropic_stream": "str",
    "genai": "Label",
    "genai_stream": "str",
    "groq": "str",
    "together": "str",
    "fireworks": "str",
    "mistral": "Label",
    "mistral_stream": "str",
    "openrouter": "str",
    "litellm": "str",
    "langchain": "Label",
    "llama_index": "str",
    "pydantic_ai": "Label",
    "instructor": "Label",
    "dspy": "str",
    "agents": "Label",
}
"""The programs, and the type of their answers."""


@contextmanager
def provider(**settings: Any) -> Iterator[str]:
    """A simulated provider's address."""
    command = [sys.executable, str(SUPPORT / "sdk_server.py"), json.dumps({"latency": 0.2, **settings})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


def run(name: str, url: str, count: int, rpm: float, *more: str, path: Path | None = None) -> dict[str, Any]:
    """What a program says of its calls."""
    environment: Mapping[str, str] = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    command = [str(PYTHON), str(SUPPORT / "sdk_programs.py"), name, url, str(count), str(rpm), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/__stats") as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def check(name: str, count: int, rpm: float, path: Path | None = None) -> None:
    with provider(rpm=rpm, burst=BURST, faults=FAULTS) as url:
        told = run(name, url, count, rpm, path=path)
        assert told["bad"] == {}
        assert told["kinds"] == {PROGRAMS[name]: count}
        seen = stats(url)
        assert seen["refused"] == 0
        assert seen["faults"]  # they were met, and the program did not see them


@pytest.mark.parametrize("name", ["openai_chat", "anthropic"])
def test_an_sdk_over_flatout_loses_nothing(name: str):
    """A program with its vendor's SDK would lose calls, be refused for its speed, or get answers of another kind."""
    check(name, 100, 6_000)


@pytest.mark.soak
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_library_over_flatout_loses_nothing(name: str):
    """A program with one of these libraries would lose calls, or be refused for its speed."""
    check(name, 500, 600 if name in ("openai_chat", "anthropic") else 6_000)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "openai_stream", "openai_sync"])
def test_the_next_openai_sdk_too(name: str):
    """A program with the SDK's next major version, over httpx2, would fail."""
    check(name, 100, 6_000, path=NEWER)


@pytest.mark.soak
def test_the_sdk_by_itself_is_refused():
    """The test above would prove nothing: there would be no limit to keep."""
    with provider(rpm=600, burst=BURST, faults=FAULTS) as url:
        told = run("openai_chat", url, 500, 600, "alone")
        assert stats(url)["refused"] > 100
        assert told["good"] < 500


def test_batches_are_as_the_vendors_packages_describe_them():
    """Every batch of one of these vendors would be refused, as a whole."""
    command = [str(PYTHON), str(SUPPORT / "vendor_batches.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout) == dict.fromkeys(("mistral", "together", "groq", "openrouter", "fireworks", "xai"))
