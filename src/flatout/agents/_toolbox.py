"""The tools of one run, with the checks before and after each of them runs.

Every failure of a tool goes to the model as the tool's result: an exception, a timeout, arguments that do not fit, a
tool that is not allowed. Only a guardrail's stop or a limit ends the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from flatout.errors import SchemaMismatch
from flatout.values import Message, ToolCall
from flatout.values.agent_step import Step

from ._context import RunContext
from ._json import utf8
from ._oversight import Oversight
from ._tool import Tool, ToolResult


class Toolbox:
    """The tools that a run may use.

    Args:
        tools: the agent's tools.
        context: keeps their results.
        oversight: checks them before they run, and their results.

    Attributes:
        tools: the agent's tools, by name.
    """

    def __init__(self, tools: Iterable[Tool], context: RunContext, oversight: Oversight) -> None:
        self.tools: Mapping[str, Tool] = {tool.name: tool for tool in tools}
        self._allowed = self.tools
        self._context = context
        self._oversight = oversight

    @property
    def offered(self) -> list[Mapping[str, Any]]:
        """The schemas of the allowed tools, for the model."""
        return [tool.schema for tool in self._allowed.values()]

    def allow(self, names: Collection[str]) -> None:
        """Allow only these tools from now on."""
        self._allowed = {name: tool for name, tool in self.tools.items() if name in names}

    async def use(self, asked: Sequence[ToolCall], complaints: Mapping[str, str]) -> list[Message]:
        """Run the tool calls of one turn in parallel, and return a message with each result.

        Args:
            asked: the tool calls.
            complaints: what is wrong with their arguments, by the ids of the calls.
        """
        return await _together([self._use(each, complaints.get(each.id)) for each in asked])

    async def _use(self, asked: ToolCall, complaint: str | None) -> Message:
        record = self._context.record
        with record.tool(asked) as step:
            result = await self._result(asked, complaint, step)
            record.note_result(step, result.content, failed=result.failed)
        return {"role": "tool", "tool_call_id": asked.id, "content": result.content}

    async def _result(self, asked: ToolCall, complaint: str | None, step: Step) -> ToolResult:
        tool = self._allowed.get(asked.name)
        if tool is None:
            known = ", ".join(self._allowed) or "none"
            return _not_run(step, "refused", f"{asked.name!r} is not among the tools that may be used: {known}")
        if complaint is not None:
            return _not_run(step, "refused", complaint)
        try:
            arguments = tool.arguments(asked.arguments)
        except SchemaMismatch as error:
            return _not_run(step, "refused", str(error))
        if reason := await self._oversight.guard("tool_input", asked.arguments, arguments, tool.name):
            return _not_run(step, "refused", reason)
        if tool.ask_before:
            verdict = await self._oversight.approve(tool.name, arguments, asked.arguments)
            if verdict.kind != "pass":
                return _not_run(step, "denied", verdict.reason or "it was not approved")
        return await self._guarded(tool, await self._run(tool, asked, arguments, step), step)

    async def _run(self, tool: Tool, asked: ToolCall, arguments: Mapping[str, Any], step: Step) -> ToolResult:
        async def go(_key: str) -> ToolResult:
            return await tool.run(arguments)

        async def again(key: str) -> bool:
            return await self._oversight.may_repeat(tool.name, arguments, key)

        name, step_input = f"tool {tool.name}", utf8(asked.arguments)
        result: ToolResult = await self._context.kept(
            name, step_input, go, step, into=ToolResult, once=tool.side_effects, again=again
        )
        return result

    async def _guarded(self, tool: Tool, result: ToolResult, step: Step) -> ToolResult:
        """The result for the model. The guardrails may withhold it."""
        if result.failed:
            return result
        if reason := await self._oversight.guard("tool_output", result.content, tool=tool.name):
            step.verdict = "refused"
            return ToolResult(f"the result of {tool.name} is withheld: {reason}", failed=True)
        self._oversight.add_source(result.content)
        return result


def _not_run(step: Step, verdict: str, reason: str) -> ToolResult:
    step.verdict = verdict
    return ToolResult(f"not run: {reason}", failed=True)


async def _together(works: list[Coroutine[Any, Any, Message]]) -> list[Message]:
    """The results of all, in order. If one fails, the others still run to their end, because a tool that is cut off may
    leave something half done in the world.
    """
    if len(works) == 1:
        return [await works[0]]
    done = await asyncio.gather(*map(_ended, works))
    for each in done:
        if isinstance(each, BaseException):
            raise each
    return [each for each in done if not isinstance(each, BaseException)]


async def _ended(work: Coroutine[Any, Any, Message]) -> Message | BaseException:
    """A tool's outcome. A SystemExit that left this task would end the event loop and all other tasks."""
    try:
        return await work
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            raise
        return error
