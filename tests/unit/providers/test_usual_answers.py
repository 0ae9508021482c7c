"""Usual answers are read in one step, and come out as the lenient reading gives them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import CallError
from flatout.layer import Response
from flatout.providers import registry
from flatout.providers.formats.anthropic import Anthropic
from flatout.providers.formats.codec import JSONCodec
from flatout.providers.formats.openai_chat import OpenAIChat
from flatout.providers.formats.openai_usual import usual
from flatout.values import Call, Reply, Target

TARGET = Target(registry.find("vllm"), "m")


# What each of these sent to "Say hi", with shorter texts.
OPENAI: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_795_176_000,
    "model": "gpt-5-mini-2025-08-07",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []},
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 11,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 6, "audio_tokens": 0, "accepted_prediction_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": None,
}
VLLM: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_795_176_000,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hi",
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": [],
                "reasoning": None,
            },
            "logprobs": None,
            "finish_reason": "length",
            "stop_reason": None,
            "token_ids": None,
        }
    ],
    "service_tier": None,
    "system_fingerprint": None,
    "usage": {"prompt_tokens": 9, "total_tokens": 11, "completion_tokens": 2, "prompt_tokens_details": None},
    "prompt_logprobs": None,
    "prompt_token_ids": None,
    "kv_transfer_params": None,
}
LLAMA_CPP: dict[str, Any] = {
    "choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "Hi"}}],
    "created": 1_795_176_000,
    "model": "m.gguf",
    "object": "chat.completion",
    "usage": {"completion_tokens": 2, "prompt_tokens": 9, "total_tokens": 11},
    "id": "chatcmpl-1",
    "timings": {"prompt_n": 9, "predicted_per_second": 31.4},
}
ANTHROPIC: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": "Hi", "citations": None}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 9,
        "cache_creation_input_tokens": 4,
        "cache_read_input_tokens": 2,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 3,
        "service_tier": "standard",
    },
}
SAMPLES: dict[str, tuple[type[JSONCodec], dict[str, Any]]] = {
    "openai": (OpenAIChat, OPENAI),
    "vllm": (OpenAIChat, VLLM),
    "llama.cpp": (OpenAIChat, LLAMA_CPP),
    "anthropic": (Anthropic, ANTHROPIC),
}

ODD = [None, "", " ", "x", "error", "stop", 0, 1, 3.0, 0.5, -1, 2**53, True, False, [], [None], [{}], {}, {"a": 1}]
FIELDS = [
    *("error", "object", "type", "message", "detail", "choices", "usage", "model", "service_tier", "content", "role"),
    *("finish_reason", "refusal", "tool_calls", "function_call", "reasoning", "reasoning_content", "annotations"),
    *("audio", "logprobs", "prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens"),
    *("prompt_tokens_details", "completion_tokens_details", "cached_tokens", "reasoning_tokens", "timings", "odd"),
    *("text", "thinking", "citations", "stop_reason", "stop_sequence", "stop_details", "container", "input_tokens"),
    *("output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens_details"),
]
CALLS = [Call("Say hi"), Call("Say hi", output={"type": "object"}), Call("Say hi", output=int)]


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a body, the body first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(inner)


def read(codec: JSONCodec, call: Call, body: bytes) -> tuple[Reply | None, type[CallError] | None, str]:
    """The reply, or the one that came with the error; the error's class and its text."""
    try:
        return codec.decode(call, Response(200, {"x-request-id": "r"}, body)), None, ""
    except CallError as error:
        return error.reply, type(error), str(error)


def quick_and_lenient(name: str) -> tuple[JSONCodec, JSONCodec]:
    """The codec of a sample, and one that reads every answer leniently."""
    quick = SAMPLES[name][0]
    lenient = type("Lenient", (quick,), {"_usual": lambda self, body: None})
    return quick(TARGET), lenient(TARGET)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_servers_usually_send_is_read_in_one_step(name: str):
    """Every answer would take three times as long to decode."""
    body = json.dumps(SAMPLES[name][1]).encode()
    quick, lenient = quick_and_lenient(name)
    found = quick._usual(body)
    assert found is not None
    assert found.text == "Hi"
    assert read(quick, CALLS[0], body) == read(lenient, CALLS[0], body)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_field_is_taken_for_nothing(name: str):
    """An error in an answer would pass for the answer, or its tokens be counted otherwise than they were."""
    quick, lenient = quick_and_lenient(name)
    body = copy.deepcopy(SAMPLES[name][1])
    for holder, field, odd in product(list(objects(body)), FIELDS, ODD):
        before = dict(holder)
        holder[field] = odd
        sent = json.dumps(body).encode()
        holder.clear()
        holder.update(before)
        assert read(quick, CALLS[0], sent) == read(lenient, CALLS[0], sent), (before, field, odd)


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    call=st.sampled_from(CALLS),
    changes=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(FIELDS), st.sampled_from(ODD)), max_size=3),
    cut=st.none() | st.integers(0, 200),
)
def test_an_answer_means_the_same_however_it_is_read(
    name: str, call: Call, changes: list[tuple[int, str, Any]], cut: int | None
):
    """Two odd fields together, or half an answer, would be read otherwise than each of them."""
    quick, lenient = quick_and_lenient(name)
    body = copy.deepcopy(SAMPLES[name][1])
    for place, field, odd in changes:
        found = list(objects(body))
        found[place % len(found)][field] = copy.deepcopy(odd)
    sent = json.dumps(body).encode()[: None if cut is None else -cut]
    assert read(quick, call, sent) == read(lenient, call, sent)


def test_reasoning_that_is_counted_beside_the_answer_is_added_to_it():
    """xAI's answers would seem cheaper than they are."""
    body = copy.deepcopy(OPENAI)
    body["usage"]["total_tokens"] = 9 + 11 + 6
    found = usual(json.dumps(body).encode())
    assert found is not None
    assert (found.usage.output_tokens, found.usage.reasoning_tokens, found.usage.cached_tokens) == (17, 6, 2)
