"""OpenAI's chat completions, from the server's side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_dict
from flatout.values import Reply, ToolCall, Usage

from .inbound import Asked

_SAME_NAME = ("temperature", "top_p", "stop", "seed", "reasoning_effort", "service_tier", "tools", "tool_choice")
"""Parameters with the same name in a Call and on the wire."""

_READ = frozenset(
    {*_SAME_NAME, "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
    | {"logprobs", "top_logprobs"}
)


class InboundChat:
    """Reads chat completion requests, and writes chat completions."""

    harmless = frozenset(
        {"user", "metadata", "store", "parallel_tool_calls", "prompt_cache_key", "safety_identifier"}
        | {"prompt_cache_retention", "verbosity"}
    )

    def read(self, data: dict[str, Any]) -> Asked:
        """What a request's JSON asks."""
        call: dict[str, Any] = {name: data[name] for name in _SAME_NAME if data.get(name) is not None}
        call["messages"] = data.get("messages") or []
        most = data.get("max_completion_tokens", data.get("max_tokens"))
        if most is not None:
            call["max_tokens"] = most
        if data.get("logprobs"):
            call["logprobs"] = data.get("top_logprobs") or True
        extra = {name: value for name, value in data.items() if name not in _READ}
        schema = schema_in(as_dict(extra.get("response_format")), "json_schema")
        if schema is not None:
            call["output"] = schema
            del extra["response_format"]
        for name, usual in _USUAL.items():
            if extra.get(name) == usual:
                del extra[name]
        call["extra"] = extra
        return Asked(str(data.get("model") or ""), bool(data.get("stream")), call)

    def write(self, reply: Reply) -> bytes:
        """A complete chat completion."""
        own = own_turn(reply, "openai")
        message = own if isinstance(own, dict) else _message(reply)
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason or "stop", "logprobs": None}
        whole = {**_head(reply, "chat.completion"), "choices": [choice], "usage": usage_of(reply.usage)}
        return msgspec.json.encode(whole)

    def writer(self, reply_model: str) -> _Chunks:
        """Writes the chunks of a streamed chat completion."""
        return _Chunks(reply_model)

    def refusal(self, status: int, kind: str, message: str) -> bytes:
        """The body of an error."""
        return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": kind}})


_USUAL: Mapping[str, Any] = {"n": 1, "modalities": ["text"]}
"""Values that say the same as none."""


def schema_in(form: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """The JSON schema of a format, with its name as the title; None if it has none."""
    described = as_dict(form.get(kind)) if kind else form
    schema = described.get("schema")
    if form.get("type") != "json_schema" or not isinstance(schema, dict):
        return None
    name = described.get("name")
    return {"title": name, **schema} if isinstance(name, str) else schema


def entry_of(asked: ToolCall) -> dict[str, Any]:
    """A tool call as an entry of a message's ``tool_calls``, its arguments as the model wrote them."""
    return {"id": asked.id, "type": "function", "function": {"name": asked.name, "arguments": asked.arguments or "{}"}}


def usage_of(usage: Usage) -> dict[str, Any] | None:
    """The usage in this format; None if it is not known."""
    if usage.input_tokens is None and usage.output_tokens is None:
        return None
    prompt, answer = usage.input_tokens or 0, usage.output_tokens or 0
    told: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    if usage.cached_tokens is not None:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return told


def own_turn(reply: Reply, dialect: str) -> Any:
    """The model's turn as a provider of this format made it; None if another one did, or if it is only text."""
    native = msgspec.json.decode(reply.native) if reply.native else {}
    return native.get("turn") if native.get("dialect") == dialect else None


def _message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [entry_of(asked) for asked in reply.tool_calls]
    return message


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    identity = reply.request_id or "flatout"
    return {"id": f"chatcmpl-{identity}", "object": kind, "created": 0, "model": reply.model or ""}


class _Chunks:
    """Writes the chunks of one completion."""

    def __init__(self, model: str) -> None:
        self._head = {"id": "chatcmpl-flatout", "object": "chat.completion.chunk", "created": 0, "model": model}
        self._begun = False

    def text(self, text: str) -> bytes:
        """The chunks for a piece of text."""
        return b"".join(self._chunk(delta) for delta in self._deltas({"content": text}))

    def end(self, reply: Reply) -> bytes:
        """The chunks for the rest of the answer: its text, if none was written, its tool calls, and its usage."""
        parts = [self.text(reply.text)] if reply.text and not self._begun else []
        calls = [{"index": index, **entry_of(asked)} for index, asked in enumerate(reply.tool_calls)]
        if calls or not (self._begun or parts):
            parts += map(self._chunk, self._deltas({"tool_calls": calls} if calls else {"content": ""}))
        parts.append(self._chunk({}, reply.finish_reason or "stop"))
        if (usage := usage_of(reply.usage)) is not None:
            parts.append(event({**self._head, "choices": [], "usage": usage}))
        return b"".join(parts) + b"data: [DONE]\n\n"

    def _deltas(self, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not self._begun:
            self._begun = True
            yield {"role": "assistant", "content": ""}
        yield delta

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return event({**self._head, "choices": [choice]})


def event(data: Mapping[str, Any], name: str = "") -> bytes:
    """One server-sent event."""
    lead = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (lead, msgspec.json.encode(data))
