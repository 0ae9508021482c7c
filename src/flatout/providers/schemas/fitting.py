"""Read an answer as the type that the call asks for, and say what is wrong if it does not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from flatout.errors import CallError, SchemaMismatch
from flatout.layer import ValidatorRaised
from flatout.providers.wire.thought import thought_apart
from flatout.values import Call, Reply
from flatout.values.secret import note_path

from .salvage import readings
from .structured import MISFITS, reader_of, reason, unfenced, wrapped_choices

MOST_NAMED = 1_000
"""Characters of the list of choices in a complaint."""


def fitted(call: Call, reply: Reply) -> Reply:
    """The reply with its ``output``: of the type of ``call.output``, or decoded JSON for a dict schema.

    The reply is unchanged if the call asks for no schema, or if the model asks for tools instead of answering. Thoughts
    in its text move to ``reasoning``. JSON in a Markdown fence is accepted, and the reply marked as repaired.

    Raises:
        SchemaMismatch: the answer is not JSON, or does not fit. ``reply`` is attached, since it was paid for.
        ValidatorRaised: one of the user's validators failed; the cause is chained.
    """
    if call.output is None or reply.tool_calls:
        return reply
    reply = thought_apart(reply)
    try:
        return _read(call, reply)
    except CallError:
        raise
    except Exception as error:
        raise validator_raised(error, reply) from error


def _read(call: Call, reply: Reply) -> Reply:
    text = unfenced(reply.text)
    try:
        output = reader_of(call.output)(text)
    except MISFITS as error:
        message = f"the answer does not fit the schema: {_complaint(call.output, reply, error)}"
        raise SchemaMismatch(message, request_id=reply.request_id, reply=reply) from error
    return structs.replace(reply, output=output, repaired=text is not reply.text)


def validator_raised(error: Exception, reply: Reply) -> ValidatorRaised:
    """The error for a fault in one of the user's own validators."""
    note_path(error)
    return ValidatorRaised(f"a validator raised {type(error).__name__}", request_id=reply.request_id, reply=reply)


def _complaint(output: Any, reply: Reply, error: Exception) -> str:
    """What is wrong with an answer, in words for the model to correct it and for the user."""
    if not reply.text.strip():
        return "the answer is missing" + (": there is reasoning, and nothing after it" if reply.reasoning else "")
    if len(readings(output, reply.text)) > 1:
        return "it holds several answers that differ; give one"
    _, choices = wrapped_choices(output)
    return f"it must be one of {_named(choices)}" if choices else reason(error)


def _named(choices: Sequence[Any]) -> str:
    named = ", ".join(json.dumps(choice, ensure_ascii=False, default=str) for choice in choices)
    return named if len(named) <= MOST_NAMED else f"{named[:MOST_NAMED]} …"
