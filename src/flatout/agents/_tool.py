"""Tools: functions that a model may call, with the facts that are needed to run them safely."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, overload

import msgspec
from msgspec import Struct

from flatout.edge.fan_out import cancelled_alone
from flatout.errors import ConfigError, SchemaMismatch
from flatout.providers.tools import tool_schema, validate_arguments
from flatout.values.checks import is_positive

from ._json import check_kind, readable, strict
from ._threads import threads

TIMEOUT = 60.0
"""Seconds that a tool may take, unless it says otherwise."""

MOST = 100_000
"""Characters of a tool's result that go to the model, unless it says otherwise."""


class ToolResult(Struct, frozen=True):
    """A tool's result as the model reads it. If ``failed``, it is a complaint instead."""

    content: str
    failed: bool = False


class Tool(Struct, frozen=True, kw_only=True):
    """A function that a model may call. Make one with `tool`.

    Args:
        function: the function, plain or async. A plain function runs in a thread, which a timeout cannot end.
        schema: its description for the model, in OpenAI's form.
        timeout: seconds that it may take, once it has begun.
        side_effects: it changes something in the world, so it is never run twice, whatever happens.
        ask_before: the agent's ``approve`` is asked each time.
        most: characters of its result that go to the model.
        typed: validate the arguments by the function's signature, and not by the schema alone.
    """

    function: Callable[..., Any]
    schema: Mapping[str, Any]
    timeout: float = TIMEOUT
    side_effects: bool = False
    ask_before: bool = False
    most: int = MOST
    typed: bool = True

    def __post_init__(self) -> None:
        if not is_positive(self.timeout):
            raise ConfigError(f"the timeout of {self.name} is a number of seconds above 0, not {self.timeout!r}")
        if not self.typed:
            check_kind(f"the tool {self.name}", self.schema["function"].get("parameters"))

    def __call__(self, *args: Any, **arguments: Any) -> Any:
        """Call the function itself."""
        return self.function(*args, **arguments)

    @property
    def name(self) -> str:
        """The name by which the model calls it."""
        return str(self.schema["function"]["name"])

    @classmethod
    def of(cls, value: Tool | Callable[..., Any]) -> Tool:
        """A tool as it is; a function as a tool without side effects.

        Raises:
            ConfigError: the value cannot be a tool.
        """
        if isinstance(value, Tool):
            return value
        if not callable(value):
            raise ConfigError(f"a tool is a function, not {type(value).__name__}")
        return cls(function=value, schema=tool_schema(value))

    def arguments(self, text: str) -> dict[str, Any]:
        """The arguments that a model wrote, as the function accepts them.

        Raises:
            SchemaMismatch: the arguments do not fit.
        """
        if self.typed:
            return validate_arguments(self.function, text)
        try:
            decoded = msgspec.json.decode(text or "{}")
        except ValueError as error:
            raise SchemaMismatch(f"the arguments of {self.name} are no JSON: {error}") from error
        if not isinstance(decoded, dict):
            raise SchemaMismatch(f"the arguments of {self.name} are no JSON object")
        return decoded

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run the tool. Every failure becomes a result, which the model reads."""
        work = partial(self.function, **arguments)
        if not inspect.iscoroutinefunction(inspect.unwrap(self.function)):
            if not await threads.take():
                return _failure(f"not run: all threads for tools are held by tools that did not end: {threads!r}")
            work = partial(threads.run, work)
        clock = asyncio.timeout(self.timeout)  # begins after the wait for a thread
        try:
            async with clock:
                with cancelled_alone():
                    returned = await work()
                    if inspect.isawaitable(returned):
                        returned = await returned
            return ToolResult(self._text(returned))
        except TimeoutError as error:
            if not clock.expired():
                return _failure(f"TimeoutError: {error}")
            doubt = "; whether it took effect is not known" if self.side_effects else ""
            return _failure(f"{self.name} did not end within {self.timeout:g} s{doubt}")
        except Exception as error:  # a user's own function may raise anything
            return _failure(f"{type(error).__name__}: {error}")

    def _text(self, returned: Any) -> str:
        text = readable(returned if isinstance(returned, str) else self._json(returned))
        if len(text) <= self.most:
            return text
        return f"{text[: self.most]}\n[cut: the first {self.most:,} of {len(text):,} characters]"

    def _json(self, returned: Any) -> str:
        try:
            return strict(returned)
        except Exception as error:  # a user's own classes may raise anything
            raise ConfigError(
                f"{self.name} returned a {type(returned).__name__}, which cannot be written as JSON ({error})"
            ) from error


def tools_of(given: Iterable[Any], *, asks: bool) -> tuple[Tool, ...]:
    """Functions and tools as tools.

    Args:
        given: the functions and tools.
        asks: whether the agent has an ``approve``.

    Raises:
        ConfigError: a value cannot be a tool, two tools have the same name, or one needs an ``approve``.
    """
    tools = tuple(map(Tool.of, given))
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise ConfigError(f"two tools have the name {tool.name}")
        names.add(tool.name)
        if tool.ask_before and not asks:
            raise ConfigError(f"the tool {tool.name} needs approval before it runs, but the agent has no approve")
    return tools


def _failure(text: str) -> ToolResult:
    return ToolResult(readable(text[:2_000]), failed=True)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *, timeout: float = ..., side_effects: bool = ..., ask_before: bool = ..., most: int = ...
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    timeout: float = TIMEOUT,
    side_effects: bool = False,
    ask_before: bool = False,
    most: int = MOST,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Turn a function into a tool: ``@tool``, or ``@tool(timeout=5, side_effects=True)``.

    Its name, docstring and type hints describe it to the model.

    Args:
        function: the function, plain or async.
        timeout: seconds that it may take; default 60.
        side_effects: it changes something in the world. The run file notes its start, and it is never run twice.
        ask_before: the agent's ``approve`` is asked each time.
        most: characters of its result that go to the model; default 100,000.

    Raises:
        ConfigError: the function cannot be a tool: a parameter has no type hint, for example.
    """

    def make(function: Callable[..., Any]) -> Tool:
        return Tool(
            function=function,
            schema=tool_schema(function),
            timeout=timeout,
            side_effects=side_effects or ask_before,
            ask_before=ask_before,
            most=most,
        )

    return make if function is None else make(function)
