"""The content of a provider's answer, read leniently: even a surprising answer may already be paid for.

A wire format reads its JSON into an `Answer`. `flatout.providers.formats.codec` decides, for all formats alike, whether
the answer is usable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from flatout import errors
from flatout.errors import CallError
from flatout.values import Call, Reply, ToolCall, Usage

Fault = tuple[type[CallError], str]
"""What is wrong with an answer: the error's class, and its sentence, which follows the provider's name."""


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """The content of an answer's JSON.

    Attributes:
        text: the answer's text.
        reasoning: the model's reasoning before it.
        tool_calls: the tools that the model asks for.
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter``, or the provider's own word.
        usage: tokens, as far as the provider reported them.
        model: the model that answered.
        service_tier: the tier that served it.
        turn: the model's turn in the format's own form, ready to be sent back; None if it is only text and tool calls.
        failure: the part of the JSON that is an error object, if any.
        fault: what else is wrong, in the format's own terms; None if nothing is.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage = Usage()
    model: str | None = None
    service_tier: str | None = None
    turn: Any = None
    failure: Mapping[str, Any] | None = None
    fault: Fault | None = None


def unfinished(call: Call, reply: Reply, *, may_be_silent: bool = False) -> Fault | None:
    """Why an answer without an error is still not usable; None if it is usable.

    Args:
        call: the call.
        reply: its answer.
        may_be_silent: whether the provider documents that the model may answer here with nothing.
    """
    blank = not reply.text.strip() and not reply.tool_calls
    if reply.finish_reason == "content_filter":
        return errors.ContentFiltered, "stopped the answer by its content filter"
    if reply.finish_reason == "length" and (blank or call.output is not None or reply.tool_calls):
        before = "while the model was still reasoning" if reply.reasoning else "before any text"
        return errors.Truncated, f"stopped at the token limit {before if blank else 'in the middle of the answer'}"
    if blank and not (may_be_silent and call.output is None and reply.finish_reason == "stop"):
        return errors.EmptyAnswer, _EMPTY if not reply.reasoning else _ONLY_REASONED
    return None


_EMPTY = "sent neither text nor a tool call"

_ONLY_REASONED = (
    "sent reasoning and no answer: if the answer is in it (error.reply.reasoning), the server takes answers for "
    "reasoning, so check its reasoning parser"
)


def tool_call(identity: Any, name: Any, arguments: Any, index: int) -> ToolCall | None:
    """A tool call from the parts of an answer; None if it names no tool.

    Args:
        identity: the provider's id. If there is none, an id is made from the index.
        name: the tool's name.
        arguments: JSON as a string, or the object itself.
        index: the call's position among the answer's tool calls, from 0.
    """
    if not isinstance(name, str) or not name:
        return None
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode() if arguments else ""
    return ToolCall(id=as_text(identity) or f"call_{index}", name=name, arguments=arguments)


def as_count(value: Any) -> int | None:
    """A count of tokens; None if the value cannot be one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**53 else None


def total(*counts: int | None) -> int | None:
    """The sum of the known counts; None if none is known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def as_dict(value: Any) -> dict[str, Any]:
    """The value if it is an object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def as_dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in the value, if it is a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """The value if it is a string."""
    return value if isinstance(value, str) else None
