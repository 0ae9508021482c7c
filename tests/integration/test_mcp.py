"""The tools of a real MCP server, written with the official SDK, over standard input and output and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flatout import Client, ConfigError, ConnectError, agents
from flatout.agents import Agent, Outcome, Tool
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from tests.support.command_samples import PATIENCE
from tests.support.ports import free_port

pytest.importorskip("mcp", reason="the extra mcp is not installed")

mcp_tools = partial(agents.mcp_tools, connect=PATIENCE)  # a busy machine takes long to start a server

SERVER = """
import asyncio, os, sys
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("sums")

@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int = 1) -> int:
    "Adds two numbers."
    return a + b

@server.tool()
def fail(why: str) -> str:
    raise ToolError("no: " + why)

@server.tool()
async def slow() -> str:
    await asyncio.sleep(30)
    return "late"

@server.tool(structured_output=False)
def picture() -> Image:
    return Image(data=b"PNG", format="png")

@server.tool(name="notes.search")
def search(words: list[str]) -> list[str]:
    return ["note on " + word for word in words]

@server.tool()
def environment() -> str:
    return ",".join(sorted(os.environ))

@server.tool()
def die() -> str:
    os._exit(3)

if len(sys.argv) > 1:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run("stdio")
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return [sys.executable, str(path)]


async def use(tools: list[Tool], *asked: tuple[str, Any], **agent: Any) -> tuple[Outcome, list[str]]:
    """The outcome of an agent whose model asks for these, one after another, and what it was told."""
    told: list[str] = []

    def script(body: dict[str, Any]) -> Any:
        results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        told[:] = results
        if len(results) == len(asked):
            return "done"
        name, arguments = asked[len(results)]
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"content": None, "tool_calls": [{"id": f"c{len(results)}", "type": "function", "function": function}]}

    transport = SimulatedTransport(ProviderModel(ProviderSettings(latency=0.0), script=script))
    async with Client("m", base_url="http://sim/v1", config={}, transport=transport) as client:
        outcome = await client.run_agent(Agent(tools=tools, **agent), "do it")
    return outcome, told


def test_a_server_s_tools_are_an_agent_s(command, monkeypatch):
    """Tools of other people's servers could not be used, or their errors would end the agent."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-servers")

    async def main() -> None:
        async with mcp_tools(command=command, env={"MINE": "1"}) as tools:
            by_name = {tool.name: tool for tool in tools}
            assert set(by_name) == {"add", "fail", "slow", "picture", "notes_search", "environment", "die"}
            inner = by_name["add"].schema["function"]
            assert inner["description"] == "Adds two numbers."
            assert inner["parameters"]["required"] == ["a"]
            assert (by_name["add"].side_effects, by_name["fail"].side_effects) == (False, True)
            outcome, told = await use(
                tools,
                ("add", {"a": 2, "b": 3}),
                ("add", {"a": "two"}),
                ("fail", {"why": "because"}),
                ("picture", {}),
                ("notes_search", {"words": ["x", "y"]}),
                ("environment", {}),
                ("hidden", {}),
            )
        assert outcome.answer == "done"
        assert told[0] == "5"
        assert told[1].startswith("not run: ")
        assert told[2].startswith("ToolFailed: ")
        assert "no: because" in told[2]
        assert told[3] == "[image: image/png, not shown]"
        assert "note on x" in told[4]
        assert "note on y" in told[4]
        assert "MINE" in told[5]
        assert "OPENAI_API_KEY" not in told[5]
        assert told[6].startswith("not run: ")

    asyncio.run(main())


def test_a_server_that_hangs_or_dies_is_told_to_the_model(command):
    """An agent would wait for ever, or end with the server."""

    async def main() -> None:
        async with mcp_tools(command=command, timeout=0.3, only=["slow"]) as tools:
            _, told = await use(tools, ("slow", {}))
        assert told[0].startswith("slow did not end within 0.3 s; whether it took effect is not known")
        async with mcp_tools(command=command, only=["die", "add"]) as tools:
            _, told = await use(tools, ("die", {}), ("add", {"a": 1}))
        assert [each.partition(": ")[0] for each in told] == ["MCPError", "MCPError"]

    asyncio.run(main())


def test_an_error_within_the_block_comes_out_as_it_is(command):
    """``except MyError`` around the block would catch nothing: the SDK wraps errors in groups."""

    class Mine(Exception):
        pass

    async def main() -> None:
        async with mcp_tools(command=command, only=["add"], ask_before=["add"]) as tools:
            assert [(tool.name, tool.ask_before, tool.side_effects) for tool in tools] == [("add", True, True)]
            raise Mine

    with pytest.raises(Mine):
        asyncio.run(main())

    async def unknown() -> None:
        async with mcp_tools(command=command, only=["ad"]):
            pass

    with pytest.raises(ConfigError, match="has no tool ad; it has add, die"):
        asyncio.run(unknown())


def enter(**options: Any) -> None:
    async def main() -> None:
        async with mcp_tools(**options):
            pass

    asyncio.run(main())


def test_a_server_that_is_not_there_is_named(tmp_path):
    """The user would read a traceback of somebody else's task groups, or wait for ever."""
    with pytest.raises(ConnectError, match="the MCP server no-such-server-anywhere cannot be used"):
        enter(command=["no-such-server-anywhere"])
    with pytest.raises(ConnectError, match=r"cannot be used|did not list"):
        enter(command=[sys.executable, "-c", "print('hello')"], connect=10)
    with pytest.raises(ConnectError, match=r"did not list its tools within 0\.2 s"):
        enter(command=[sys.executable, "-c", "import time; time.sleep(60)"], connect=0.2)
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1 cannot be used") as caught:
        enter(url="http://me:hunter2@127.0.0.1:9/mcp?key=hunter2")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="takes either a command"):
        enter()
    with pytest.raises(ConfigError, match="list of words"):
        enter(command="my-server")
    with pytest.raises(ConfigError, match="env is only for"):
        enter(url="http://127.0.0.1:9/", env={})


def test_the_missing_extra_is_named(monkeypatch):
    """The user would read ``No module named 'mcp'``."""
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'flatout[mcp]'")):
        enter(command=["x"])


def test_a_server_over_http(command):
    """Servers that run elsewhere could not be used."""
    port = free_port()
    with Path(os.devnull).open("wb") as nowhere:
        process = subprocess.Popen([*command, str(port)], stdout=nowhere, stderr=nowhere)

    async def main() -> list[str]:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                async with mcp_tools(url=f"http://127.0.0.1:{port}/mcp", only=["add"]) as tools:
                    return (await use(tools, ("add", {"a": 20, "b": 22})))[1]
            except ConnectError:
                assert process.poll() is None
                assert time.monotonic() < until
                await asyncio.sleep(0.1)

    try:
        assert asyncio.run(main()) == ["42"]
    finally:
        process.terminate()
        process.wait(20)
