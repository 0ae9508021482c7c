"""OpenAI's chat completions, from the server's side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_dict
from flatout.values import Reply, ToolCall, Usage

from .inbound import REFUSED, Asked, Origin, openai_refusal

_SAME_NAME = ("temperature", "top_p", "stop", "seed", "reasoning_effort", "service_tier", "tools", "tool_choice")
"""Parameters with the same name in a Call and on the wire."""

_READ = frozenset(
    {*_SAME_NAME, "model", "messages", "stream", "max_tokens", "max_completion_tokens"} | {"logprobs", "top_logprobs"}
)


class InboundChat:
    """Reads chat completion requests, and writes chat completions."""

    harmless = frozenset(
        {"user", "metadata", "store", "parallel_tool_calls", "prompt_cache_key", "safety_identifier"}
        | {"prompt_cache_retention", "verbosity", "stream_options"}
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

    def write(self, reply: Reply, origin: Origin) -> bytes:
        """A complete chat completion."""
        choice = {"index": 0, "message": _message(reply), "finish_reason": _finish(reply), "logprobs": None}
        whole = {**_head(origin, "chat.completion"), "choices": [choice], "usage": usage_of(reply.usage)}
        return msgspec.json.encode(whole)

    def writer(self, origin: Origin) -> _Chunks:
        """Writes the chunks of a streamed chat completion."""
        return _Chunks(origin)

    def refusal(self, status: int, kind: str, message: str) -> bytes:
        """The body of an error."""
        return openai_refusal(status, kind, message)


_USUAL: Mapping[str, Any] = {
    "n": 1,
    "modalities": ["text"],
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "response_format": {"type": "text"},
}
"""Values that say the same as none."""

_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
"""The format's own reasons for the end of an answer."""


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


def finish_of(reply: Reply) -> str:
    """Why an answer ended: ``stop``, ``length``, ``tool_calls``, ``content_filter``, or the provider's own word."""
    reason = reply.finish_reason or "stop"
    return "tool_calls" if reason == "stop" and reply.tool_calls else reason


def _finish(reply: Reply) -> str:
    reason = finish_of(reply)
    if reason in _REASONS:
        return reason
    return "content_filter" if reason == REFUSED else "stop"


def _message(reply: Reply) -> dict[str, Any]:
    own = own_turn(reply, "openai")
    if isinstance(own, dict):
        return own
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [entry_of(asked) for asked in reply.tool_calls]
    return message


def _head(origin: Origin, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{origin.identity}", "object": kind, "created": origin.at, "model": origin.model}


class _Chunks:
    """Writes the chunks of one completion."""

    def __init__(self, origin: Origin) -> None:
        self._head = _head(origin, "chat.completion.chunk")
        self._tells_usage = origin.tells_usage
        self._begun = False

    def text(self, text: str) -> bytes:
        """The chunks for a piece of text."""
        return b"".join(self._chunk(delta) for delta in self._deltas({"content": text}))

    def end(self, reply: Reply) -> bytes:
        """The chunks for the rest of the answer: the turn, if none of it was written, its tool calls, and its usage."""
        rest = _message(reply)
        if self._begun:
            rest = {name: value for name, value in rest.items() if name == "tool_calls"}
        if calls := rest.get("tool_calls"):
            rest = {**rest, "tool_calls": [{"index": index, **asked} for index, asked in enumerate(calls)]}
        parts = [self._chunk(delta) for delta in self._deltas(rest)] if rest else []
        parts.append(self._chunk({}, _finish(reply)))
        if self._tells_usage and (usage := usage_of(reply.usage)) is not None:
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
