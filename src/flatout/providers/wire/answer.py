"""What a provider's answer says, read leniently, since a surprising one may be paid for already.

A wire format reads its JSON into an `Answer`; what then is a good one is the same for all of them and decided in
`flatout.providers.formats.codec`.
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
"""What is wrong with an answer: the error's class, and its sentence after the provider's name."""


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """What stands in an answer's JSON.

    Attributes:
        text: the answer's text.
        reasoning: what the model thought before it.
        tool_calls: the tools that the model asks for.
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter``, or the provider's own word.
        usage: tokens, as far as the provider told.
        model: the model that answered.
        service_tier: the tier that served it.
        turn: the model's turn in the format's own form, fit to be sent back; None where text and tool calls are all.
        failure: the part of the JSON that is an error object; None when none is.
        fault: what else is wrong, in the format's own terms; None when nothing is.
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
    """Why an answer without an error is not usable all the same; None when it is.

    Args:
        call: the call.
        reply: its answer.
        may_be_silent: whether the provider documents that a turn may end here without a word.
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
    "sent reasoning and no answer: if the answer stands in it (error.reply.reasoning), the server takes answers for "
    "thoughts, so check its reasoning parser"
)


def tool_call(identity: Any, name: Any, arguments: Any, index: int) -> ToolCall | None:
    """A tool call out of an answer's parts; None when it names no tool.

    Args:
        identity: the provider's id; one is made of the index where there is none.
        name: the tool's name.
        arguments: JSON as text, or the object itself.
        index: the call's place among the answer's tool calls, from 0.
    """
    if not isinstance(name, str) or not name:
        return None
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode() if arguments else ""
    return ToolCall(id=as_text(identity) or f"call_{index}", name=name, arguments=arguments)


def as_count(value: Any) -> int | None:
    """A count of tokens; None for what can be none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def total(*counts: int | None) -> int | None:
    """The sum of the counts that are known; None when none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def as_dict(value: Any) -> dict[str, Any]:
    """The object that stands here, or an empty one."""
    return value if isinstance(value, dict) else {}


def as_dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in the list that stands here."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """The text that stands here, if one does."""
    return value if isinstance(value, str) else None
