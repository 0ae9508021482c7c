"""OpenAI's Responses API, from the server's side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_dict, as_dicts, as_text
from flatout.values import Reply, ToolCall, Usage

from .chat import event, own_turn, schema_in
from .inbound import REFUSED, Asked, Origin, openai_refusal

_SAME_NAME = ("temperature", "top_p", "service_tier")
"""Parameters with the same name in a Call and on the wire."""

_READ = frozenset(
    {*_SAME_NAME, "model", "input", "instructions", "max_output_tokens", "reasoning", "text", "stream", "tools"}
    | {"tool_choice", "top_logprobs"}
)

_TEXTS = ("input_text", "output_text", "text")  # no set: what a caller sends may have no hash

_TRANSLATED = frozenset({"message", "function_call", "function_call_output", "reasoning"})
"""Items that other formats have too; and reasoning, which no other model has use for."""

_LOGPROBS = "message.output_text.logprobs"
"""What a request includes to be told the tokens' probabilities."""


class InboundResponses:
    """Reads requests for responses, and writes them."""

    harmless = frozenset(
        {"user", "metadata", "store", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "include"}
        | {"truncation", "prompt_cache_retention", "stream_options"}
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
        if data.get("top_logprobs") or _LOGPROBS in _listed(data.get("include")):
            call["logprobs"] = data.get("top_logprobs") or True
        extra = {name: value for name, value in data.items() if name not in _READ}
        form = as_dict(as_dict(data.get("text")).get("format"))
        if (schema := schema_in(form, "")) is not None:
            call["output"] = schema
        elif form.get("type") not in (None, "text"):
            extra["text.format"] = form
        for kind in _kinds(given) - _TRANSLATED:
            extra[f"input: {kind}"] = True
        return Asked(str(data.get("model") or ""), bool(data.get("stream")), {**call, "extra": extra})

    def write(self, reply: Reply, origin: Origin) -> bytes:
        """A complete response."""
        return msgspec.json.encode(_response(reply, origin))

    def writer(self, origin: Origin) -> _Events:
        """Writes the events of a streamed response."""
        return _Events(origin)

    def refusal(self, status: int, kind: str, message: str) -> bytes:
        """The body of an error."""
        return openai_refusal(status, kind, message)


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
        if kind == "reasoning":  # it may stand between calls that are made at once
            continue
        if calls:
            yield {"role": "assistant", "content": None, "tool_calls": calls}
            calls = []
        if kind == "function_call_output":
            yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": _result(item.get("output"))}
        elif kind == "message":
            content = item.get("content")
            parts = content if isinstance(content, str) else [_part(part) for part in as_dicts(content)]
            yield {"role": item.get("role") or "user", "content": parts}
    if calls:
        yield {"role": "assistant", "content": None, "tool_calls": calls}


def _kinds(items: Any) -> set[str]:
    return {str(item.get("type") or ("message" if "role" in item else "unknown")) for item in as_dicts(items)}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _result(output: Any) -> Any:
    """What a tool gave: a text, or parts if there is more in it."""
    if isinstance(output, str):
        return output
    parts = [_part(part) for part in as_dicts(output)]
    if all(part.get("type") == "text" for part in parts):
        return "".join(as_text(part.get("text")) or "" for part in parts)
    return parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _TEXTS:
        return {"type": "text", "text": part.get("text")}
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    if kind == "input_image" and part.get("image_url"):
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


_CUT = {"length": "max_output_tokens", "content_filter": "content_filter", REFUSED: "content_filter"}
"""Why an answer is incomplete, by the reason for its end."""


def _response(reply: Reply, origin: Origin) -> dict[str, Any]:
    why = _CUT.get(reply.finish_reason or "")
    return {
        **_head(origin),
        "status": "completed" if why is None else "incomplete",
        "incomplete_details": None if why is None else {"reason": why},
        "output": _items(reply, origin),
        "usage": _usage(reply.usage),
    }


def _items(reply: Reply, origin: Origin) -> list[dict[str, Any]]:
    own = own_turn(reply, "openai-responses")
    if isinstance(own, list):
        return own
    said = [_message(reply.text, origin)] if reply.text or not reply.tool_calls else []
    return said + [_call_item(index, asked, origin) for index, asked in enumerate(reply.tool_calls)]


def _head(origin: Origin) -> dict[str, Any]:
    return {
        "id": f"resp_{origin.identity}",
        "object": "response",
        "created_at": origin.at,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": origin.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def _message(text: str, origin: Origin) -> dict[str, Any]:
    head = {"type": "message", "id": f"msg_{origin.identity}", "role": "assistant", "status": "completed"}
    return {**head, "content": [_text_part(text)]}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _call_item(index: int, asked: ToolCall, origin: Origin) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{origin.identity}_{index}",
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
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": answer,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": given + answer,
    }


class _Events:
    """Writes the events of one response."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._message = _message("", origin)
        self._number = 0
        self._begun = False
        self._texts: list[str] = []

    def text(self, text: str) -> bytes:
        """The events for a piece of text."""
        parts = [self._begin()]
        if not self._texts:
            parts += self._opened(0, self._message)
        self._texts.append(text)
        parts.append(self._delta(0, self._message, text))
        return b"".join(parts)

    def end(self, reply: Reply) -> bytes:
        """The events for the rest of the answer: its items, if none was written, or its tool calls, and its usage."""
        parts = [self._begin()]
        rest = list(enumerate(_items(reply, self._origin)))
        if self._texts:
            parts += self._said(0, {**self._message, "content": [_text_part("".join(self._texts))]})
            rest = [(place, item) for place, item in rest if item.get("type") == "function_call"]
        for place, item in rest:
            parts += self._item(place, item)
        whole = _response(reply, self._origin)
        parts.append(self._event(f"response.{whole['status']}", response=whole))
        return b"".join(parts)

    def _item(self, place: int, item: dict[str, Any]) -> Iterator[bytes]:
        """The events for a whole item."""
        kind, text = item.get("type"), _text_in(item)
        if kind == "message" and text:
            yield from self._opened(place, item)
            yield self._delta(place, item, text)
            yield from self._said(place, item)
        elif kind == "function_call":
            yield from self._call(place, item)
        else:
            yield self._event("response.output_item.added", output_index=place, item=item)
            yield self._event("response.output_item.done", output_index=place, item=item)

    def _opened(self, place: int, item: dict[str, Any]) -> Iterator[bytes]:
        begun = {**item, "content": [], "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=place, item=begun)
        yield self._of_text("response.content_part.added", place, item, part=_text_part(""))

    def _delta(self, place: int, item: dict[str, Any], text: str) -> bytes:
        return self._of_text("response.output_text.delta", place, item, delta=text, logprobs=[])

    def _said(self, place: int, item: dict[str, Any]) -> Iterator[bytes]:
        """The events that end a message."""
        text = _text_in(item)
        yield self._of_text("response.output_text.done", place, item, text=text, logprobs=[])
        yield self._of_text("response.content_part.done", place, item, part=_text_part(text))
        yield self._event("response.output_item.done", output_index=place, item=item)

    def _call(self, place: int, item: dict[str, Any]) -> Iterator[bytes]:
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=place, item=begun)
        of = {"item_id": item.get("id"), "output_index": place}
        yield self._event("response.function_call_arguments.delta", **of, delta=item.get("arguments"))
        done = {**of, "name": item.get("name"), "arguments": item.get("arguments")}
        yield self._event("response.function_call_arguments.done", **done)
        yield self._event("response.output_item.done", output_index=place, item=item)

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        head = _head(self._origin)
        return self._event("response.created", response=head) + self._event("response.in_progress", response=head)

    def _of_text(self, kind: str, place: int, item: dict[str, Any], **more: Any) -> bytes:
        return self._event(kind, item_id=item.get("id"), output_index=place, content_index=0, **more)

    def _event(self, kind: str, **more: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return event(data, kind)


def _text_in(item: dict[str, Any]) -> str:
    return "".join(as_text(part.get("text")) or "" for part in as_dicts(item.get("content")))
