"""The usual answer of Anthropic's Messages, read in one step: one text, and nothing beside it.

As in `flatout.providers.formats.openai_usual`, every other answer is left to the lenient reading, which gives the same
for these.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from flatout.providers.wire.answer import Answer, total
from flatout.values import Usage

from .openai_usual import Count


class _Text(Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text"]
    text: str
    citations: Any = None


class _Thought(Struct, gc=False):
    thinking_tokens: Count | None = None


class _Usage(Struct, gc=False):
    input_tokens: Count
    output_tokens: Count
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    output_tokens_details: _Thought | None = None
    service_tier: str | None = None


class _Answer(Struct, forbid_unknown_fields=True, gc=False):
    content: Annotated[list[_Text], Meta(min_length=1, max_length=1)]
    stop_reason: Literal["end_turn", "stop_sequence", "max_tokens"]
    usage: _Usage
    model: str | None = None
    type: Literal["message"] = "message"
    id: Any = None
    role: Any = None
    stop_sequence: Any = None
    container: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def usual(body: bytes) -> Answer | None:
    """What a usual answer says; None for any other body."""
    try:
        read = _decode(body)
    except (ValueError, RecursionError):
        return None
    (block,) = read.content
    usage = read.usage
    thought = usage.output_tokens_details
    return Answer(
        text=block.text,
        finish_reason="length" if read.stop_reason == "max_tokens" else "stop",
        usage=usage_of(
            usage.input_tokens,
            usage.output_tokens,
            cached=usage.cache_read_input_tokens,
            written=usage.cache_creation_input_tokens,
            reasoning=thought.thinking_tokens if thought is not None else None,
        ),
        model=read.model,
        service_tier=usage.service_tier,
    )


def usage_of(
    fresh: int | None, answer: int | None, *, cached: int | None, written: int | None, reasoning: int | None
) -> Usage:
    """The usage that Anthropic counted: tokens from the cache, and those written to it, are not in its input."""
    return Usage(
        input_tokens=None if fresh is None else total(fresh, cached, written),
        output_tokens=answer,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )
