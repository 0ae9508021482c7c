"""The requests and answers of a simulated provider: OpenAI's chat completions, with a digest of the prompt.

Everything about an answer except its time follows from the conversation and the model's seed. So a repeated call, or a
resumed run, gets the same text again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import ceil
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from ._limits import Exceeded

MESSAGE_TOKENS = 4  # tokens for a message's role and separators
PRIMING_TOKENS = 3  # tokens for the start of the answer


class ChatMessage(Struct, gc=False):
    """The parts of a message that the answer depends on."""

    role: str
    content: Any = None


class StreamOptions(Struct, gc=False):
    """The extra information that a streamed answer may carry."""

    include_usage: bool | None = None


class ChatRequest(Struct, gc=False):
    """The parts of a request that the answer depends on."""

    model: str
    messages: list[ChatMessage]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: str | None = None

    @property
    def token_cap(self) -> int | None:
        """The most tokens of the answer."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class Rejection(NamedTuple):
    """A permanent refusal: the name it is counted under, the status and the body."""

    kind: str
    status: int
    body: bytes


decode_request = msgspec.json.Decoder(ChatRequest).decode
_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="sorted").encode


def digest(messages: Sequence[Mapping[str, Any]]) -> str:
    """The mark of an answer to this conversation: 16 hex digits over each message's role and content.

    The system message is part of the conversation: without it the digest differs.
    """
    return fingerprint([ChatMessage(message["role"], message.get("content")) for message in messages]).hex()[:16]


def digest_of(conversation: str | Sequence[Mapping[str, Any]], *, system: str | None = None) -> str:
    """The digest of a prompt or of a list of messages.

    A model's answer to them starts with ``digest:`` and this value, unless it is scripted. Give ``system`` if the call
    had a system prompt; in a list of messages it is the first one.
    """
    messages: list[Mapping[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    if isinstance(conversation, str):
        messages.append({"role": "user", "content": conversation})
    else:
        messages.extend(conversation)
    return digest(messages)


def fingerprint(messages: Sequence[ChatMessage]) -> bytes:
    """The 32-byte hash that the digest abbreviates to its first eight bytes."""
    return sha256(_canonical([[message.role, plain_content(message.content)] for message in messages])).digest()


MARKERS = ("cache_control", "prompt_cache_breakpoint")
"""The fields of a block at which a cached beginning ends: Anthropic's and OpenAI's."""


def plain_content(content: Any) -> Any:
    """A message's content as the model reads it: without markers, and one string if it is nothing but text."""
    if not isinstance(content, list):
        return content
    if any(not isinstance(part, dict) for part in content):
        return content
    if content and all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in content):
        return "".join(part["text"] for part in content)
    return [{name: value for name, value in part.items() if name not in MARKERS} for part in content]


def fate(mark: bytes, place: int, seed: int) -> float:
    """A number between 0 and 1 that is fixed for a text's mark; each ``place`` has another one."""
    bits = (int.from_bytes(mark[place : place + 8]) ^ seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    return (bits + 1) / (2**64 + 2)


def count_tokens(text: str) -> int:
    """The tokens of a text: about as many as common tokenisers count, and always the same.

    English has some 4.4 characters to a token, dense text fewer than one token to a word, and scripts that UTF-8 writes
    in three bytes nearly one token to a character.
    """
    extra_bytes = 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - len(text)
    return ceil(max(len(text) / 4.4, 1.1 * len(text.split())) + 0.36 * extra_bytes)


def count_prompt(messages: Sequence[ChatMessage]) -> int:
    """Tokens of a conversation."""
    total = PRIMING_TOKENS
    for message in messages:
        content = plain_content(message.content)
        total += MESSAGE_TOKENS + (0 if content is None else count_block(content))
    return total


def count_block(block: Any) -> int:
    """Tokens of a content, or of a block of it."""
    return count_tokens(block if isinstance(block, str) else _encode(block).decode())


_FILLER = (
    "the answer has one part that holds and another that needs more work so we look at each in turn first at what "
    "is known then at what is not and at last at what would change our mind "
) * 100
_WORD_ENDS = [place for place, character in enumerate(_FILLER) if character == " "]


def text_of(tokens: int, mark: str) -> str:
    """A text of about ``tokens`` tokens that starts with the digest. It is never shorter than the digest."""
    if tokens <= 0:
        return f"digest:{mark}"
    return f"digest:{mark} {_FILLER[: _WORD_ENDS[min(tokens, len(_WORD_ENDS)) - 1]]}"


def completion(
    *,
    number: int,
    model: str,
    message: Mapping[str, Any],
    finish: str,
    wall: float,
    usage: Mapping[str, Any],
    tier: str | None = None,
) -> bytes:
    """A whole chat completion."""
    told = {} if tier is None else {"service_tier": tier}
    return _encode(
        {
            "id": f"chatcmpl-{number:012d}",
            "object": "chat.completion",
            "created": int(wall),
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": usage,
            "system_fingerprint": "fp_simulated",  # OpenRouter's own package takes no answer without one
            **told,
        }
    )


def usage(prompt: int, output: int, cached: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The tokens of an exchange, as OpenAI writes them; ``cached`` are those of the prompt cache, if there is one."""
    told = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return told if cached is None else {**told, "prompt_tokens_details": cached}


def error(message: str, kind: str = "invalid_request_error", code: str | None = None) -> bytes:
    """An error body as OpenAI writes it."""
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def bad_request(message: str) -> Rejection:
    """The refusal of a request that cannot be served as it is."""
    return Rejection("bad_request", 400, error(message))


def too_long(limit: int, tokens: int, what: str) -> Rejection:
    """The refusal of a prompt that is longer than the model's context."""
    message = f"This model's maximum context length is {limit} tokens, but {what} {tokens} tokens long."
    return Rejection("context_length_exceeded", 400, error(message, code="context_length_exceeded"))


def rate_limit_error(refusal: Exceeded, requested: int, *, named: bool) -> bytes:
    """The body of a 429 for a limit that was reached; it may name the limit, in OpenAI's words."""
    axis = refusal.name.partition(" ")[0]
    amount = requested if axis == "tokens" else 1
    text = f"Rate limit reached on {refusal.name}"
    if refusal.wait == float("inf"):
        text += f": the request is too large, it needs {amount}"
    elif named:
        text += f": Limit {refusal.limit:.0f}, Requested {amount}. Please try again in {refusal.wait:.3f}s"
    return error(f"{text}.", axis, "rate_limit_exceeded")


def model_list(models: Sequence[str]) -> bytes:
    """The body of ``GET /models``."""
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": "flatout"} for name in models]
    return _encode({"object": "list", "data": rows})
