"""The loop of model and tools: ask the model, run the tools that it calls, return their results, until it answers.

The tools of one turn run in parallel. They hold no permit, because a call's permit is returned with its reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flatout.errors import SchemaMismatch
from flatout.values import Call, Message, Reply

from ._context import RunContext
from ._toolbox import Toolbox


async def act(context: RunContext, toolbox: Toolbox, messages: list[Message], question: Mapping[str, Any]) -> Reply:
    """The model's answer, once it calls no more tools. All earlier turns are added to ``messages``.

    Args:
        context: makes the calls.
        toolbox: the tools that the model may call.
        messages: the conversation.
        question: the other parameters of each turn's call.

    Raises:
        UsageLimitReached: the loop did not end in time.
        GuardrailTripped: a guardrail said stop, or said fail too often.
        CallError: the model gave no answer.
    """
    while True:
        reply, complaints = await _turn(context, toolbox, messages, question)
        if not reply.tool_calls:
            return reply
        context.record.take(tool_calls=len(reply.tool_calls))
        messages.append(reply.message)
        messages += await toolbox.use(reply.tool_calls, complaints)


async def _turn(
    context: RunContext, toolbox: Toolbox, messages: list[Message], question: Mapping[str, Any]
) -> tuple[Reply, Mapping[str, str]]:
    """One turn of the model, and what is wrong with the arguments of its tool calls, by their ids."""
    context.record.check(turns=1, calls=1)
    context.record.take(turns=1)
    offered = toolbox.offered
    # Without an output schema, only a tool's arguments can be wrong. The loop itself tells the model, so the other
    # tools of the turn need not wait for a reask.
    reasks = 0 if offered and question.get("output") is None else None
    call = Call.of({"messages": list(messages), "tools": offered or None, "reasks": reasks, **question})
    try:
        return await context.ask("turn", call), {}
    except SchemaMismatch as error:
        if not error.complaints or error.reply is None:
            raise
        return error.reply, error.complaints
