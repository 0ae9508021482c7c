"""The tools of an MCP server (Model Context Protocol) as an agent's tools.

This module uses the official SDK, which is the extra ``mcp``. The SDK is slow to import, so it is imported at its first
use. A server's descriptions and results are untrusted, like any text from outside. Limits, guardrails and plans apply
to these tools as to your own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flatout.errors import ConfigError, ConnectError
from flatout.text.redact import excerpt
from flatout.values.secret import Secret, conceal, veil

from ._json import as_json
from ._tool import MOST, TIMEOUT, Tool

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult
    from mcp_types import Tool as Described

CONNECT = 30.0
"""Seconds within which a server must list its tools."""

PAGES = 100
"""Pages of tools that are read. A server's list might never end."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class ToolFailed(Exception):
    """A server reports that its tool failed. The message is the server's."""


@asynccontextmanager
async def mcp_tools(
    *,
    command: Sequence[str] | None = None,
    url: str | Secret | None = None,
    env: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    ask_before: Collection[str] = (),
    timeout: float = TIMEOUT,
    connect: float = CONNECT,
    most: int = MOST,
) -> AsyncIterator[list[Tool]]:
    """The tools of one MCP server, while the block lasts.

    ::

        async with mcp_tools(command=["my-server", "--quiet"]) as tools:
            outcome = await client.run_agent(Agent(tools=tools), "What is new?")

    A tool has side effects unless it declares that it only reads. So a run with a run file never runs it twice.

    Args:
        command: starts a server that communicates over its standard input and output. It inherits ``PATH``, ``HOME``
            and similar variables from this process, but no keys.
        url: the address of a running server (Streamable HTTP).
        env: more environment variables for the command.
        only: the names of the tools to use; all when None.
        ask_before: the names of the tools for which the agent's ``approve`` is asked each time.
        timeout: seconds that a tool may take; default 60.
        connect: seconds within which the server must list its tools; default 30.
        most: characters of a tool's result that go to the model; default 100,000.

    Raises:
        ConfigError: both or neither of command and url are given; the extra is not installed; the server has no tool of
            a name in ``only`` or ``ask_before``; or two of its tools have the same name.
        ConnectError: the server cannot be reached, or did not list its tools in time.
    """
    url, env = conceal(url), veil(env)
    server, name = _server(command, url, env)
    failed: Exception | None = None
    async with AsyncExitStack() as stack:
        # The SDK's task group would wrap an exception that leaves this block in an ExceptionGroup.
        try:
            client, described = await _connected(stack, server, name, connect)
            chosen = _chosen(name, described, only, ask_before)
            made = [
                _tool(client, each, timeout=timeout, ask_before=each.name in ask_before, most=most) for each in chosen
            ]
            yield made
        except Exception as error:
            failed = error
    if failed is not None:
        raise failed


def _server(
    command: Sequence[str] | None, url: Secret | None, env: Mapping[str, str] | None
) -> tuple[Callable[[], Client], str]:
    """A function that makes the SDK's client, and the server's name for messages, which has no key of a URL."""
    try:
        from mcp import Client, StdioServerParameters  # version 1 has no Client
    except ImportError as error:
        raise ConfigError("MCP servers need the extra mcp, version 2: pip install 'flatout[mcp]'") from error
    if (command is None) == (url is None):
        raise ConfigError("mcp_tools takes either a command that starts a server, or the url of a running one")
    if url is not None:
        if env is not None:
            raise ConfigError("env is only for a server that is started with a command")
        return lambda: Client(url.reveal()), urlsplit(url.reveal()).hostname or "without a host"
    if isinstance(command, str) or not command:
        raise ConfigError('a command is a list of words: ["my-server", "--quiet"]')
    first, *rest = command
    own = None if env is None else dict(env)
    return lambda: Client(StdioServerParameters(command=first, args=rest, env=own)), first


async def _connected(
    stack: AsyncExitStack, server: Callable[[], Client], name: str, seconds: float
) -> tuple[Client, list[Described]]:
    try:
        async with asyncio.timeout(seconds):
            client = await stack.enter_async_context(server())
            return client, await _listed(client)
    except TimeoutError:
        failed = ConnectError(f"the MCP server {name} did not list its tools within {seconds:g} s")
    except Exception as error:  # whatever lies beneath: the system, HTTP, the protocol
        failed = ConnectError(f"the MCP server {name} cannot be used: {_cause(error)}")
    raise failed  # not chained to the SDK's error, whose frames hold the address


async def _listed(client: Client) -> list[Described]:
    found: list[Described] = []
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    return found


def _chosen(
    server: str, described: list[Described], only: Collection[str] | None, ask_before: Collection[str]
) -> list[Described]:
    names = {each.name for each in described}
    if unknown := sorted({*(only or ()), *ask_before} - names):
        raise ConfigError(
            f"the MCP server {server} has no tool {', '.join(unknown)}; it has {', '.join(sorted(names))}"
        )
    chosen = [each for each in described if only is None or each.name in only]
    seen: dict[str, str] = {}
    for each in chosen:
        other = seen.setdefault(_name(each.name), each.name)
        if other != each.name:
            raise ConfigError(f"the MCP tools {other!r} and {each.name!r} would have one name: choose with only")
    return chosen


def _tool(client: Client, described: Described, *, timeout: float, ask_before: bool, most: int) -> Tool:
    async def call(**arguments: Any) -> str:
        result = await client.call_tool(described.name, arguments)
        text = _text(result)
        if result.is_error:
            raise ToolFailed(text)
        return text

    inner = {"name": _name(described.name), "parameters": described.input_schema}
    if described.description:
        inner["description"] = described.description
    hints = described.annotations
    reads = hints is not None and hints.read_only_hint is True
    return Tool(
        function=call,
        schema={"type": "function", "function": inner},
        timeout=timeout,
        side_effects=ask_before or not reads,
        ask_before=ask_before,
        most=most,
        typed=False,
    )


def _name(name: str) -> str:
    """A tool's name in characters that every provider accepts."""
    return _NOT_IN_NAMES.sub("_", name)[:64]


def _text(result: CallToolResult) -> str:
    """A tool's result as text for the model."""
    if not result.content and result.structured_content is not None:
        return as_json(result.structured_content, "an MCP tool's result").decode()
    return "\n".join(map(_part, result.content))


def _part(part: Any) -> str:
    """A block of a result as text; anything but text as a short description."""
    if part.type == "text":
        return str(part.text)
    if part.type == "resource_link":
        return f"[{part.name}: {part.uri}]"
    inner = part.resource if part.type == "resource" else part
    text = getattr(inner, "text", None)
    return str(text) if text is not None else f"[{part.type}: {inner.mime_type or 'unknown'}, not shown]"


def _cause(error: BaseException) -> str:
    """A description of the first cause. The SDK wraps its errors in groups."""
    for _ in range(10):
        if not isinstance(error, BaseExceptionGroup):
            break
        error = error.exceptions[0]
    return f"{type(error).__name__}: {excerpt(str(error), 300)}"
