"""The follow-up to an answer that does not fit the schema: the conversation, the answer, and what is wrong with it.

A model that is asked the same question again tends to give the same answer. Told what is wrong, it corrects it.
"""

from __future__ import annotations

from msgspec import structs

from flatout.errors import CallError, SchemaMismatch
from flatout.values import Call, Message, ToolCall

QUOTED = 500
"""Characters of malformed arguments that the model is shown again."""


def reask(call: Call, error: CallError) -> Call | None:
    """The call to make next, with the same id, model and parameters; None if it is pointless to ask again.

    Args:
        call: the call that was answered. For a second follow-up this is the first follow-up, so the conversation grows.
        error: why its answer cannot be used. Only a `SchemaMismatch` with its ``reply`` leads to a follow-up: a
            truncated answer would be truncated again.
    """
    if not isinstance(error, SchemaMismatch) or error.reply is None:
        return None
    reply = error.reply
    said: list[Message]
    if reply.tool_calls:
        said = [reply.message, *(_refused(asked, error) for asked in reply.tool_calls)]
    else:
        said = [reply.message] if reply.text.strip() else []
        said.append({"role": "user", "content": _complaint(call, error)})
    before = call.messages if call.messages is not None else ({"role": "user", "content": call.prompt},)
    return structs.replace(call, prompt=None, messages=[*before, *said])


def _complaint(call: Call, error: SchemaMismatch) -> str:
    if call.output is None:
        return f"That cannot be used: {error}. Try again."
    return f"That cannot be used: {error}. Answer again, with JSON only: the whole answer, and no word beside it."


def _refused(asked: ToolCall, error: SchemaMismatch) -> Message:
    complaint = error.complaints.get(asked.id)
    if complaint is None:
        text = "not run: another call of this turn was malformed. Call it again if it is still wanted."
    else:
        text = f"not run: {complaint}. Call it again, with arguments that fit."
        if asked.arguments and asked.sendable() != asked.arguments:
            text += f" They were: {asked.arguments[:QUOTED]}"
    return {"role": "tool", "tool_call_id": asked.id, "content": text}
