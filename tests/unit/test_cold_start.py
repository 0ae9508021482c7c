"""What a program pays before its first answer: only for what it uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASK = """
import asyncio, json, sys

import flatout
from flatout import Client
from flatout.layer import Response


class Wire:
    async def send(self, request):
        message = {"role": "assistant", "content": "fine"}
        usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
        body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        return Response(200, {"content-type": "application/json"}, json.dumps(body).encode())

    async def close(self):
        pass


async def main(ask):
    async with Client("openai/gpt-5-mini", api_key="x", config={}, transport=Wire()) as client:
        await ask(client)


async def call(client):
    assert (await client.call("hi")).text == "fine"


async def gather(client):
    assert (await client.gather(["hi"]))[0].cost > 0

"""

HEAVY = (
    *("genai_prices", "pydantic", "jsonschema_rs", "jinja2", "opentelemetry", "sqlite3", "typer", "rich"),
    *("aiohttp", "email", "importlib.metadata", "xllamacpp", "pyarrow", "mcp"),
    *(f"flatout.providers.formats.{name}" for name in ("anthropic", "gemini", "openai_responses")),
    *(
        "flatout.agents",
        "flatout.runs",
        "flatout.local",
        "flatout.progress",
        "flatout.telemetry",
        "flatout.testing",
        "flatout.cli",
    ),
)


def loaded(program: str) -> list[str]:
    """Which of the heavy modules a program has loaded at its end."""
    program += f"\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return said.stdout.split()


@pytest.mark.parametrize("ask", ["", "asyncio.run(main(call))", "Client('openai/gpt-5-mini', api_key='x', config={})"])
def test_a_plain_call_loads_only_what_it_needs(ask: str):
    """A command-line tool or a serverless function that makes one call would wait four times as long for it."""
    assert loaded(ASK + ask) == []


def test_calls_to_a_server_on_this_computer_do_not_load_the_prices():
    """Each run against one's own server would begin by loading a list that cannot name it."""
    here = ASK.replace('"openai/gpt-5-mini", ', '"m", base_url="http://localhost:8000/v1", ')
    here = here.replace(".cost > 0", ".cost is None")
    assert loaded(here + "asyncio.run(main(gather))") == []


def test_what_a_result_costs_is_known_all_the_same():
    """Results would come without their costs, or the witness would not see what is loaded."""
    assert "genai_prices" in loaded(ASK + "asyncio.run(main(gather))")
