"""OpenAI's Responses as a chat completion, and the answer back in the form of Responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_dict, as_dicts

from ._told import encode

_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


def as_chat(request: bytes | msgspec.Raw) -> bytes:
    """The body of the chat completion that asks the same; the request itself if it asks nothing."""
    try:
        asked = msgspec.json.decode(request, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return bytes(request)
    messages = list(_messages(asked.get("input")))
    if not messages:
        return bytes(request)
    if instructions := asked.get("instructions"):
        messages.insert(0, {"role": "system", "content": instructions})
    chat = {"model": asked.get("model"), "messages": messages, "max_tokens": asked.get("max_output_tokens")}
    form = as_dict(as_dict(asked.get("text")).get("format"))
    if form.get("type") == "json_schema":
        chat["response_format"] = {"type": "json_schema", "json_schema": {**form, "type": None}}
    if tools := [_tool(tool) for tool in as_dicts(asked.get("tools")) if tool.get("type") == "function"]:
        chat["tools"] = tools
    return encode(chat)


def as_response(answer: bytes) -> bytes:
    """A chat completion in the form of Responses."""
    told = msgspec.json.decode(answer, type=dict[str, Any])
    [choice] = told["choices"]
    usage, short = told["usage"], choice["finish_reason"] == "length"
    response = {
        "id": told["id"],
        "object": "response",
        "created_at": told["created"],
        "model": told["model"],
        "status": "incomplete" if short else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if short else None,
        "output": list(_items(choice["message"])),
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        },
    }
    return encode(response)


def _messages(given: Any) -> Sequence[dict[str, Any]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [_message(item) for item in as_dicts(given)]


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    if item.get("type") == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if item.get("type") in _RESULTS:
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    content = item.get("content")
    if not isinstance(content, str):
        content = "".join(str(part.get("text", "")) for part in as_dicts(content))
    return {"role": item.get("role", "user"), "content": content}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool.get("name"), "parameters": tool.get("parameters")}}


def _items(message: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if text := message.get("content"):
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
        items.append({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]})
    for call in as_dicts(message.get("tool_calls")):
        named = {"type": "function_call", "call_id": call["id"], "status": "completed"}
        items.append({**named, **call["function"]})
    return items
