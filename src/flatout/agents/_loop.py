"""The loop of model and tools: ask, run what the model asks for, tell it what came of it, until it answers.

No permit is held while tools run: a call's permit is back when its reply is here. Tools of one turn run in parallel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flatout.errors import SchemaMismatch
from flatout.values import Call, Message, Reply

from ._context import RunContext
from ._toolbox import Toolbox


async def act(context: RunContext, toolbox: Toolbox, messages: list[Message], question: Mapping[str, Any]) -> Reply:
    """The model's answer, once it asks for no more tools. ``messages`` grows by what was said on the way.

    Args:
        context: the calls go on it.
        toolbox: what the model may ask for.
        messages: the conversation.
        question: what every turn's call has beside messages and tools.

    Raises:
        UsageLimitReached: there is no end to it.
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
    """A turn of the model, and by the ids of its tool calls what is wrong with their arguments."""
    context.record.check(turns=1, calls=1)
    context.record.take(turns=1)
    offered = toolbox.offered
    # Without a schema there is nothing but arguments to ask again for, which the loop does itself: the other tools of
    # the turn need not wait for it.
    reasks = 0 if offered and question.get("output") is None else None
    call = Call.of({"messages": list(messages), "tools": offered or None, "reasks": reasks, **question})
    try:
        return await context.ask("turn", call), {}
    except SchemaMismatch as error:
        if not error.complaints or error.reply is None:
            raise
        return error.reply, error.complaints
