"""OpenAI's Responses API, from the server's side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_dict, as_dicts, as_text
from flatout.values import Reply, Usage

from .chat import event, own_turn, schema_in
from .inbound import Asked

_SAME_NAME = ("temperature", "top_p", "service_tier")
"""Parameters with the same name in a Call and on the wire."""

_READ = frozenset(
    {*_SAME_NAME, "model", "input", "instructions", "max_output_tokens", "reasoning", "text", "stream", "tools"}
    | {"tool_choice", "top_logprobs"}
)

_TEXTS = frozenset({"input_text", "output_text", "text"})


class InboundResponses:
    """Reads requests for responses, and writes them."""

    harmless = frozenset(
        {"user", "metadata", "store", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "include"}
        | {"truncation", "prompt_cache_retention", "background", "stream_options"}
    )

    def read(self, data: dict[str, Any]) -> Asked:
        """What a request's JSON asks."""
        call: dict[str, Any] = {name: data[name] for name in _SAME_NAME if data.get(name) is not None}
        if instructions := as_text(data.get("instructions")):
            call["system"] = instructions
        given = data.get("input")
        call["messages"] = [{"role": "user", "content": given}] if isinstance(given, str) else list(_turns(given))
        if data.get("max_output_tokens") is not None:
            call["max_tokens"] = data["max_output_tokens"]
        if effort := as_text(as_dict(data.get("reasoning")).get("effort")):
            call["reasoning_effort"] = effort
        if data.get("tools"):
            call["tools"] = [_tool(tool) for tool in as_dicts(data["tools"])]
        if (choice := data.get("tool_choice")) is not None:
            named = as_text(as_dict(choice).get("name"))
            call["tool_choice"] = {"type": "function", "function": {"name": named}} if named else choice
        if (schema := schema_in(as_dict(as_dict(data.get("text")).get("format")), "")) is not None:
            call["output"] = schema
        extra = {name: value for name, value in data.items() if name not in _READ}
        return Asked(str(data.get("model") or ""), bool(data.get("stream")), {**call, "extra": extra})

    def write(self, reply: Reply) -> bytes:
        """A complete response."""
        return msgspec.json.encode(_response(reply))

    def writer(self, reply_model: str) -> _Events:
        """Writes the events of a streamed response."""
        return _Events(reply_model)

    def refusal(self, status: int, kind: str, message: str) -> bytes:
        """The body of an error."""
        return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": kind}})


# -- requests ---------------------------------------------------------------------------------------------------------


def _turns(items: Any) -> Iterator[dict[str, Any]]:
    """The items of a conversation as turns of a chat."""
    calls: list[dict[str, Any]] = []
    for item in as_dicts(items):
        kind = item.get("type", "message")
        if kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            calls.append({"id": item.get("call_id"), "type": "function", "function": function})
            continue
        if calls:
            yield {"role": "assistant", "content": None, "tool_calls": calls}
            calls = []
        if kind == "function_call_output":
            output = item.get("output")
            yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": _text_of(output)}
        elif kind == "message":
            content = item.get("content")
            parts = content if isinstance(content, str) else [_part(part) for part in as_dicts(content)]
            yield {"role": item.get("role") or "user", "content": parts}
    if calls:
        yield {"role": "assistant", "content": None, "tool_calls": calls}


def _text_of(output: Any) -> str:
    if isinstance(output, str):
        return output
    return "".join(as_text(part.get("text")) or "" for part in as_dicts(output))


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _TEXTS:
        return {"type": "text", "text": part.get("text")}
    if kind == "input_image":
        image = {"url": part.get("image_url"), "detail": part.get("detail") or "auto"}
        return {"type": "image_url", "image_url": image}
    if kind == "input_file":
        return {"type": "file", "file": {name: value for name, value in part.items() if name != "type"}}
    return part


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool in the shape of chat completions; one of OpenAI's own stays as it is."""
    if tool.get("type") != "function" or "function" in tool:
        return tool
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


# -- answers ----------------------------------------------------------------------------------------------------------


def _response(reply: Reply) -> dict[str, Any]:
    own = own_turn(reply, "openai-responses")
    items: list[dict[str, Any]] = own if isinstance(own, list) else _items(reply)
    cut = reply.finish_reason == "length"
    head = _head(reply.model or "", reply.request_id)
    details = {"reason": "max_output_tokens"} if cut else None
    return {
        **head,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": details,
        "output": items,
        "usage": _usage(reply.usage),
    }


def _items(reply: Reply) -> list[dict[str, Any]]:
    said = [_message(reply.text, "completed")] if reply.text or not reply.tool_calls else []
    return said + [_call_item(index, reply) for index in range(len(reply.tool_calls))]


def _head(model: str, identity: str | None = None) -> dict[str, Any]:
    return {
        "id": f"resp_{identity or 'flatout'}",
        "object": "response",
        "created_at": 0,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def _message(text: str, status: str) -> dict[str, Any]:
    return {"type": "message", "id": "msg_0", "role": "assistant", "status": status, "content": [_text_part(text)]}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _call_item(index: int, reply: Reply) -> dict[str, Any]:
    asked = reply.tool_calls[index]
    return {
        "type": "function_call",
        "id": f"fc_{index}",
        "call_id": asked.id,
        "name": asked.name,
        "arguments": asked.arguments or "{}",
        "status": "completed",
    }


def _usage(usage: Usage) -> dict[str, Any] | None:
    if usage.input_tokens is None and usage.output_tokens is None:
        return None
    given, answer = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
        "output_tokens": answer,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": given + answer,
    }


class _Events:
    """Writes the events of one response."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._number = 0
        self._begun = False
        self._texts: list[str] = []

    def text(self, text: str) -> bytes:
        """The events for a piece of text."""
        parts = [self._begin()]
        if not self._texts:
            item = {**_message("", "in_progress"), "content": []}
            parts.append(self._event("response.output_item.added", output_index=0, item=item))
            parts.append(self._of_text("response.content_part.added", part=_text_part("")))
        self._texts.append(text)
        parts.append(self._of_text("response.output_text.delta", delta=text, logprobs=[]))
        return b"".join(parts)

    def end(self, reply: Reply) -> bytes:
        """The events for the rest of the answer: its text, if none was written, its tool calls, and its usage."""
        parts = [self.text(reply.text) if reply.text and not self._texts else self._begin()]
        if self._texts:
            whole = "".join(self._texts)
            parts.append(self._of_text("response.output_text.done", text=whole, logprobs=[]))
            parts.append(self._of_text("response.content_part.done", part=_text_part(whole)))
            item = _message(whole, "completed")
            parts.append(self._event("response.output_item.done", output_index=0, item=item))
        before = 1 if self._texts else 0
        for index in range(len(reply.tool_calls)):
            parts += self._call(before + index, _call_item(index, reply))
        whole_response = _response(reply)
        kind = "response.incomplete" if whole_response["status"] == "incomplete" else "response.completed"
        parts.append(self._event(kind, response=whole_response))
        return b"".join(parts)

    def _call(self, place: int, item: dict[str, Any]) -> Iterator[bytes]:
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=place, item=begun)
        of = {"item_id": item["id"], "output_index": place}
        yield self._event("response.function_call_arguments.delta", **of, delta=item["arguments"])
        done = {**of, "name": item["name"], "arguments": item["arguments"]}
        yield self._event("response.function_call_arguments.done", **done)
        yield self._event("response.output_item.done", output_index=place, item=item)

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        head = _head(self._model)
        return self._event("response.created", response=head) + self._event("response.in_progress", response=head)

    def _of_text(self, kind: str, **more: Any) -> bytes:
        return self._event(kind, item_id="msg_0", output_index=0, content_index=0, **more)

    def _event(self, kind: str, **more: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return event(data, kind)
