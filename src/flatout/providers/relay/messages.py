"""Anthropic's Messages API, from the server's side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_dict, as_dicts, as_text
from flatout.values import Reply, ToolCall

from .chat import event, finish_of, own_turn, schema_in
from .inbound import REFUSED, Asked, Origin

_SAME_NAME = ("temperature", "top_p", "service_tier", "max_tokens")
"""Parameters with the same name in a Call and on the wire."""

_READ = frozenset(
    {*_SAME_NAME, "model", "messages", "system", "stop_sequences", "stream", "tools", "tool_choice", "output_config"}
)

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    REFUSED: "refusal",
}

_ONLY_THEIRS = ("thinking", "redacted_thinking")
"""Blocks that only the model itself can read, and that no other has use for."""

_SOURCES = ("text", "content", "file", "url", "base64")
"""Where images and documents come from that other formats take too; but not with citations, which only this one has."""

_FAULT = "Error: "
"""What the result of a tool that failed begins with."""

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class InboundMessages:
    """Reads Messages requests, and writes messages."""

    harmless = frozenset(
        {"metadata", "thinking", "cache_control", "container", "context_management", "top_k", "betas"}
        | {"parallel_tool_calls"}
    )

    def read(self, data: dict[str, Any]) -> Asked:
        """What a request's JSON asks."""
        call: dict[str, Any] = {name: data[name] for name in _SAME_NAME if data.get(name) is not None}
        system = _text_of(data.get("system"))
        if system:
            call["system"] = system
        call["messages"] = [turn for message in as_dicts(data.get("messages")) for turn in _turns(message)]
        if data.get("stop_sequences"):
            call["stop"] = data["stop_sequences"]
        if data.get("tools"):
            call["tools"] = [_tool(tool) for tool in as_dicts(data["tools"])]
        extra = {name: value for name, value in data.items() if name not in _READ}
        if choice := as_dict(data.get("tool_choice")):
            call["tool_choice"] = _choice(choice)
            if choice.get("disable_parallel_tool_use"):
                extra["parallel_tool_calls"] = False
        config = as_dict(data.get("output_config"))
        if effort := as_text(config.get("effort")):
            call["reasoning_effort"] = effort
        if (schema := schema_in(as_dict(config.get("format")), "")) is not None:
            call["output"] = schema
        return Asked(str(data.get("model") or ""), bool(data.get("stream")), {**call, "extra": extra})

    def write(self, reply: Reply, origin: Origin) -> bytes:
        """A complete message."""
        whole = {**_head(origin), "content": _blocks(reply), "stop_reason": _reason(reply)}
        return msgspec.json.encode({**whole, "usage": _usage(reply)})

    def writer(self, origin: Origin) -> _Events:
        """Writes the events of a streamed message."""
        return _Events(origin)

    def refusal(self, status: int, kind: str, message: str) -> bytes:
        """The body of an error."""
        named = _KINDS.get(status, "api_error")
        return msgspec.json.encode({"type": "error", "error": {"type": named, "message": message}, "request_id": None})


_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The type of an error, by its status."""


# -- requests ---------------------------------------------------------------------------------------------------------


def _turns(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A message as turns of a chat: the results of tools are turns of their own there, before what the user says."""
    role, content = message.get("role"), message.get("content")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    blocks = as_dicts(content)
    for block in blocks:
        if block.get("type") == "tool_result":
            yield {
                "role": "tool",
                "tool_call_id": block.get("tool_use_id"),
                "content": _result(block),
            }
    calls = [_asked(block) for block in blocks if block.get("type") == "tool_use"]
    parts = [part for block in blocks if (part := _part(block)) is not None]
    if calls:
        yield {"role": role, "content": parts or None, "tool_calls": calls}
    elif parts:
        yield {"role": role, "content": parts}


def _part(block: dict[str, Any]) -> dict[str, Any] | None:
    """A block as a part of a chat's message; None if it is none, or only the model that made it can read it.

    A block that has no counterpart stays as it is, for the target to refuse by its name.
    """
    kind, source = block.get("type"), as_dict(block.get("source"))
    if kind == "text":
        return {"type": "text", "text": block.get("text")}
    if kind not in ("image", "document"):
        return None if kind in _ONLY_THEIRS or kind in ("tool_use", "tool_result") else block
    if as_dict(block.get("citations")).get("enabled") or source.get("type") not in _SOURCES:
        return block
    if source.get("type") == "text":
        return {"type": "text", "text": source.get("data")}
    if source.get("type") == "content":
        return {"type": "text", "text": _text_of(source.get("content")) or ""}
    if source.get("type") == "file":
        return {"type": "file", "file": {"file_id": source.get("file_id")}}
    located = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": located}}
    return {"type": "file", "file": {"filename": block.get("title") or "document", "file_data": located}}


def _asked(block: dict[str, Any]) -> dict[str, Any]:
    arguments = msgspec.json.encode(block.get("input") or {}).decode()
    function = {"name": block.get("name"), "arguments": arguments}
    return {"id": block.get("id"), "type": "function", "function": function}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool in OpenAI's shape; one of Anthropic's own stays as it is."""
    if "input_schema" not in tool:
        return tool
    function = {"name": tool.get("name"), "parameters": tool["input_schema"]}
    if description := tool.get("description"):
        function["description"] = description
    if tool.get("strict"):
        function["strict"] = True
    return {"type": "function", "function": function}


def _choice(choice: dict[str, Any]) -> Any:
    kind = choice.get("type")
    if kind == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return _CHOICES.get(str(kind), kind)


def _result(block: dict[str, Any]) -> Any:
    """The content of a tool's result: a text, or parts if there is more in it.

    Other formats have no mark for a tool that failed, so the content says it.
    """
    content, fault = block.get("content"), _FAULT if block.get("is_error") else ""
    if all(part.get("type") == "text" for part in as_dicts(content)):
        return f"{fault}{_text_of(content) or ''}"
    parts = [part for each in as_dicts(content) if (part := _part(each)) is not None]
    return [{"type": "text", "text": fault}, *parts] if fault else parts


def _text_of(content: Any) -> str | None:
    """The text of a content: a string, or blocks."""
    if isinstance(content, str):
        return content
    return "\n\n".join(as_text(block.get("text")) or "" for block in as_dicts(content)) or None


# -- answers ----------------------------------------------------------------------------------------------------------


def _head(origin: Origin) -> dict[str, Any]:
    return {
        "id": f"msg_{origin.identity}",
        "type": "message",
        "role": "assistant",
        "model": origin.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _reason(reply: Reply) -> str:
    return _REASONS.get(finish_of(reply), "end_turn")


def _blocks(reply: Reply) -> list[dict[str, Any]]:
    own = own_turn(reply, "anthropic")
    if isinstance(own, list):
        return own
    said: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    return said + [_tool_use(asked) for asked in reply.tool_calls]


def _usage(reply: Reply) -> dict[str, int]:
    usage = reply.usage
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    return {
        "input_tokens": max(0, (usage.input_tokens or 0) - cached - written),
        "output_tokens": usage.output_tokens or 0,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
    }


def _tool_use(asked: ToolCall) -> dict[str, Any]:
    """A tool call as a block. Arguments that are no object are the model's own fault, and fit no message."""
    return {"type": "tool_use", "id": asked.id, "name": asked.name, "input": msgspec.json.decode(asked.sendable())}


def _begins(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins in a stream, and the deltas that make it whole."""
    kind = block.get("type")
    if kind == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text")}]
    if kind == "tool_use":
        given = msgspec.json.encode(block.get("input") or {}).decode()
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": given}]
    if kind == "thinking":
        thought = {"type": "thinking_delta", "thinking": block.get("thinking")}
        signed = {"type": "signature_delta", "signature": block.get("signature")}
        return {**block, "thinking": "", "signature": ""}, [thought, signed]
    return block, []


class _Events:
    """Writes the events of one message."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._blocks = 0
        self._begun = False
        self._open = False  # whether a block of text is open

    def text(self, text: str) -> bytes:
        """The events for a piece of text."""
        parts = [self._begin()]
        if not self._open:
            self._open = True
            parts.append(self._event("content_block_start", content_block={"type": "text", "text": ""}))
        parts.append(self._event("content_block_delta", delta={"type": "text_delta", "text": text}))
        return b"".join(parts)

    def end(self, reply: Reply) -> bytes:
        """The events for the rest of the answer: its blocks, if none was written, or its tool calls, and its usage."""
        rest = list(map(_tool_use, reply.tool_calls)) if self._begun else _blocks(reply)
        parts = [self._begin()]
        if self._open:
            parts.append(self._stopped())
        for block in rest:
            parts += self._block(block)
        told = {"delta": {"stop_reason": _reason(reply), "stop_sequence": None}, "usage": _usage(reply)}
        parts.append(event({"type": "message_delta", **told}, "message_delta"))
        parts.append(event({"type": "message_stop"}, "message_stop"))
        return b"".join(parts)

    def _block(self, block: dict[str, Any]) -> Iterator[bytes]:
        begun, deltas = _begins(block)
        yield self._event("content_block_start", content_block=begun)
        for delta in deltas:
            yield self._event("content_block_delta", delta=delta)
        yield self._stopped()

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message = {**_head(self._origin), "usage": {"input_tokens": 0, "output_tokens": 0}}
        return event({"type": "message_start", "message": message}, "message_start")

    def _stopped(self) -> bytes:
        end = self._event("content_block_stop")
        self._blocks += 1
        self._open = False
        return end

    def _event(self, kind: str, **more: Mapping[str, Any]) -> bytes:
        return event({"type": kind, "index": self._blocks, **more}, kind)
