"""Turns that Anthropic's models made, in the form in which they are sent back.

A turn with thinking must come back with it, in its place and with its signature. Otherwise tool results are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_text
from flatout.providers.wire.messages import short_id
from flatout.values import ToolCall

ANSWER_TOOL = "give_answer"
"""The tool whose arguments are the answer, for schemas that structured outputs do not support."""

_THOUGHTS = ("thinking", "redacted_thinking")

Blocks = list[dict[str, Any]]


def joined(blocks: Blocks, kind: str) -> str:
    """The texts of all blocks of one kind, ``text`` or ``thinking``."""
    return "".join(as_text(block.get(kind)) or "" for block in blocks if block.get("type") == kind)


def answer_in(blocks: Blocks) -> tuple[str, Blocks] | None:
    """The answer tool's arguments, and the blocks with them as a text block; None if the tool was not called.

    The turn that is sent back has a text block, because there is no tool result for that call.
    """
    place = next((place for place, block in enumerate(blocks) if _is_answer(block)), None)
    if place is None:
        return None
    given = blocks[place].get("input")
    text = given if isinstance(given, str) else msgspec.json.encode(given).decode()
    others = [block for block in blocks if not _is_answer(block)]
    return text, [*others[:place], {"type": "text", "text": text}, *others[place:]]


def turn_of(blocks: Blocks, calls: tuple[ToolCall, ...]) -> Blocks | None:
    """The blocks as they were made; None if they are only text and tool calls.

    It leaves out what the API does not take back: empty texts, and thinking with nothing after it.

    Args:
        blocks: the blocks.
        calls: the tool calls in them, as they were decoded.
    """
    if all(block.get("type") in ("text", "tool_use") for block in blocks):
        return None
    left = iter(calls)
    turn = [_sendable(block, left) if block.get("type") == "tool_use" else block for block in blocks]
    turn = [block for block in turn if block and (block.get("type") != "text" or block.get("text"))]
    while turn and turn[-1].get("type") in _THOUGHTS:
        turn.pop()
    return turn


def thought_is_missing(turns: Blocks) -> bool:
    """Whether tool results follow a turn without thinking, one that another provider's model or a user wrote.

    Models with a thinking budget refuse to think after such results.
    """
    if len(turns) < 2 or turns[-1].get("role") != "user" or not _has(turns[-1], "tool_result"):
        return False
    return not _has(turns[-2], *_THOUGHTS)


def _has(turn: dict[str, Any], *kinds: str) -> bool:
    """Whether a turn begins with a block of one of the kinds."""
    content = turn.get("content")
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and first.get("type") in kinds


def _is_answer(block: dict[str, Any]) -> bool:
    return block.get("type") == "tool_use" and block.get("name") == ANSWER_TOOL


def _sendable(block: dict[str, Any], calls: Iterator[ToolCall]) -> dict[str, Any]:
    """A tool call under the id that its result will name; an empty dict for a call without a name."""
    if not as_text(block.get("name")):
        return {}
    call = next(calls)
    return {**block, "id": short_id(call.id), "input": msgspec.json.decode(call.sendable())}
