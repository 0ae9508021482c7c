"""The usual answer of chat completions, read in one step: one choice, in it a text, and nothing beside it.

Most answers are like that, and to decode them into these types takes a fifth of the time that the lenient reading takes
(`flatout.providers.formats.openai_chat`). Every other answer is left to that: one with a field that is not listed here,
or whose field holds more than the types allow. So both must agree: a field may only be listed if the lenient reading
makes the same of it, or nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from flatout.providers.wire.answer import Answer
from flatout.values import Usage

Count = Annotated[int, Meta(ge=0, lt=2**53)]
Nothing = Annotated[list[Any], Meta(max_length=0)] | None


class _Message(Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: str = ""
    refusal: None = None
    annotations: Nothing = None
    tool_calls: Nothing = None
    function_call: None = None
    audio: None = None
    reasoning: None = None
    reasoning_content: None = None


class _Choice(Struct, forbid_unknown_fields=True, gc=False):
    message: _Message
    finish_reason: Literal["stop", "length"]
    index: Any = None
    logprobs: Any = None
    stop_reason: Any = None  # vLLM, and so is the next
    token_ids: Any = None
    content_filter_results: Any = None  # Azure


class _Cached(Struct, gc=False):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _Reasoned(Struct, gc=False):
    reasoning_tokens: Count | None = None


class _Usage(Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count | None = None
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Reasoned | None = None


class _Answer(Struct, forbid_unknown_fields=True, gc=False):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    usage: _Usage
    model: str | None = None
    object: Literal["chat.completion"] = "chat.completion"
    service_tier: str | None = None
    id: Any = None
    created: Any = None
    system_fingerprint: Any = None
    prompt_filter_results: Any = None  # Azure
    timings: Any = None  # llama.cpp
    prompt_logprobs: Any = None  # vLLM, and so are the next two
    prompt_token_ids: Any = None
    kv_transfer_params: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def usual(body: bytes) -> Answer | None:
    """What a usual answer says; None for any other body."""
    try:
        read = _decode(body)
    except (ValueError, RecursionError):
        return None
    (choice,) = read.choices
    usage = read.usage
    cached, reasoned = usage.prompt_tokens_details, usage.completion_tokens_details
    return Answer(
        text=choice.message.content,
        finish_reason=choice.finish_reason,
        usage=usage_of(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            cached=cached.cached_tokens if cached is not None else None,
            written=cached.cache_write_tokens if cached is not None else None,
            reasoning=reasoned.reasoning_tokens if reasoned is not None else None,
        ),
        model=read.model,
        service_tier=read.service_tier,
    )


def usage_of(
    prompt: int | None,
    answer: int | None,
    total: int | None,
    *,
    cached: int | None,
    reasoning: int | None,
    written: int | None = None,
) -> Usage:
    """The usage that a provider counted. Some count reasoning beside the answer (xAI): only the total shows that."""
    if reasoning and prompt is not None and answer is not None and total == prompt + answer + reasoning:
        answer += reasoning
    return Usage(
        input_tokens=prompt,
        output_tokens=answer,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )
