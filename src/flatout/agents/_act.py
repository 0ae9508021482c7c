"""The loop of model and tools: ask, run what the model asks for, tell it what came of it, until it answers.

No permit is held while tools run: a call's permit is back when its reply is here. Tools of one turn run in parallel.
Whatever goes wrong with a tool (an exception, a timeout, arguments that do not fit, a tool that is not allowed) is
told to the model as the tool's result; only a tripwire or a limit ends the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from flatout.errors import SchemaMismatch
from flatout.telemetry import _conventions as names
from flatout.values import Call, Message, Reply, ToolCall
from flatout.values.agent_step import Step

from ._stages import text_of
from ._tool import Tool, ToolResult
from ._trace import short, tell

if TYPE_CHECKING:
    from ._work import Work


async def act(run: Work, messages: list[Message]) -> Reply:
    """The model's answer, once it asks for no more tools. ``messages`` grows by what was said on the way.

    Raises:
        UsageLimitReached: there is no end to it.
        GuardrailTripped: a guardrail said stop, or said fail too often.
        CallError: the model gave no answer.
    """
    while True:
        reply, complaints = await _turn(run, messages)
        if not reply.tool_calls:
            return reply
        run.trace.check(tool_calls=len(reply.tool_calls))
        run.trace.tool_calls += len(reply.tool_calls)
        messages.append(reply.message)
        messages += await _together([_use(run, asked, complaints.get(asked.id)) for asked in reply.tool_calls])


async def _turn(run: Work, messages: list[Message]) -> tuple[Reply, Mapping[str, str]]:
    """A turn of the model, and by the ids of its tool calls what is wrong with their arguments."""
    run.trace.check(turns=1, calls=1)
    run.trace.turns += 1
    agent, offered = run.agent, run.offered
    call = Call(
        messages=list(messages),
        system=run.system,
        model=agent.model,
        output=agent.output,
        tools=offered or None,
        # Without a schema there is nothing but arguments to ask again for, which the loop does itself: the other
        # tools of the turn need not wait for it.
        reasks=0 if offered and agent.output is None else None,
        **agent.options,
    )
    try:
        return await run.ask("turn", call), {}
    except SchemaMismatch as error:
        if not error.complaints or error.reply is None:
            raise
        return error.reply, error.complaints


async def _use(run: Work, asked: ToolCall, complaint: str | None) -> Message:
    with run.trace.step("tool", asked.name) as step:
        step.detail = short(asked.arguments)
        tell(names.TOOL_CALL_ID, asked.id)
        tell(names.TOOL_ARGUMENTS, asked.arguments)
        result = await _result(run, asked, complaint, step)
        if not result.failed:
            step.result = short(result.content)
        else:
            step.error = short(result.content)
            tell(names.ERROR_TYPE, step.verdict or "tool_failed")
        tell(names.TOOL_RESULT, result.content)
    return {"role": "tool", "tool_call_id": asked.id, "content": result.content}


async def _result(run: Work, asked: ToolCall, complaint: str | None, step: Step) -> ToolResult:
    tool = run.allowed.get(asked.name)
    if tool is None:
        known = ", ".join(run.allowed) or "none"
        return _not_run(step, "refused", f"{asked.name!r} is not among the tools that may be used: {known}")
    if complaint is not None:
        return _not_run(step, "refused", complaint)
    try:
        arguments = tool.arguments(asked.arguments)
    except SchemaMismatch as error:
        return _not_run(step, "refused", str(error))
    if reason := await run.guard("tool_input", asked.arguments, arguments, tool.name):
        return _not_run(step, "refused", reason)
    if tool.ask_before:
        verdict = await run.approve(tool.name, arguments, asked.arguments)
        if verdict.kind != "pass":
            return _not_run(step, "denied", verdict.reason or "it was not approved")
    result = await _run(run, tool, asked, arguments, step)
    if result.failed:
        return result
    if reason := await run.guard("tool_output", result.content, tool=tool.name):
        step.verdict = "refused"
        return ToolResult(f"the result of {tool.name} is withheld: {reason}", failed=True)
    run.sources.append(result.content)
    return result


async def _run(run: Work, tool: Tool, asked: ToolCall, arguments: Mapping[str, Any], step: Step) -> ToolResult:
    async def go(_key: str) -> ToolResult:
        return await tool.run(arguments)

    async def again(key: str) -> bool:
        return (await run.may_repeat(tool.name, arguments, key)).kind == "pass"

    made = asked.arguments.encode(errors="replace")
    result: ToolResult = await run.kept(
        f"tool {tool.name}", made, go, step, into=ToolResult, once=tool.side_effects, again=again
    )
    return result


def _not_run(step: Step, verdict: str, reason: str) -> ToolResult:
    step.verdict = verdict
    return ToolResult(f"not run: {reason}", failed=True)


async def _together(works: list[Coroutine[Any, Any, Message]]) -> list[Message]:
    """The results of all, in order. When one fails, the others still come to their end: a tool that was cut off in
    the middle would leave something half done in the world.
    """
    if len(works) == 1:
        return [await works[0]]
    done = await asyncio.gather(*map(_ended, works))
    for each in done:
        if isinstance(each, BaseException):
            raise each
    return [each for each in done if not isinstance(each, BaseException)]


async def _ended(work: Coroutine[Any, Any, Message]) -> Message | BaseException:
    """What a tool came to. A SystemExit let out of this task would end the loop under the others."""
    try:
        return await work
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            raise
        return error


def conversation(intent: Any) -> list[Message]:
    """What the loop begins with."""
    return [{"role": "user", "content": text_of(intent)}]
