"""OpenAI's Responses API.

A conversation is a list of items (messages, tool calls, tool results), and so is the answer. Items of the API's own
types are passed on unchanged, so an answer's ``raw["output"]`` can be sent back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flatout import errors
from flatout.errors import InvalidRequest
from flatout.providers.schemas.strict import OPENAI
from flatout.providers.schemas.structured import schema_of
from flatout.providers.tools import chosen_tool, function_of, tools_of
from flatout.providers.wire.answer import Answer, Fault, as_count, as_dict, as_dicts, as_text, tool_call
from flatout.providers.wire.messages import (
    Media,
    answered_call,
    conversation,
    media_of,
    parts_of,
    short_id,
    tool_calls_of,
)
from flatout.providers.wire.payload import is_list, refuse, shown, split_address
from flatout.providers.wire.sse import ServerSentEvent
from flatout.providers.wire.stream import Assembly
from flatout.values import Call, Target, ToolCall, Usage

from .codec import JSONCodec

BREAKPOINT = "prompt_cache_breakpoint"
"""The field that ends a cached beginning at a part of a message."""

_SAME_NAME = ("temperature", "top_p", "service_tier")
"""Parameters with the same name in a Call and on the wire."""

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})

_TOOL_CALLS = ("function_call", "custom_tool_call")  # no set: what is on the wire may have no hash

_CHAT = "openai/… (chat completions) has it"


class OpenAIResponses(JSONCodec):
    """Encodes calls as Responses requests to one target, and decodes the answers.

    Raises:
        ConfigError: the endpoint has no address, or its key or a header cannot be sent in a header.
    """

    merged = frozenset({"text", "reasoning"})

    def __init__(self, target: Target) -> None:
        super().__init__(target)

    def _url(self, *, stream: bool) -> str:
        base, query = split_address(self._endpoint)
        return f"{base}/responses?{query}" if query else f"{base}/responses"

    def _payload(self, call: Call, stream: bool) -> dict[str, Any]:
        refuse(call, "openai-responses", seed=_CHAT, stop=_CHAT)
        if call.extra and call.extra.get("background"):
            raise InvalidRequest("extra.background: flatout waits for the answer, and does not poll for it")
        payload: dict[str, Any] = {"model": self._model, "input": self._input(call)}
        if call.max_tokens is not None:
            payload["max_output_tokens"] = call.max_tokens
        for name in _SAME_NAME:
            value = getattr(call, name)
            if value is not None:
                payload[name] = value
        if call.reasoning_effort is not None:
            payload["reasoning"] = {"effort": call.reasoning_effort}
        if call.logprobs is not None and call.logprobs is not False:
            payload["include"] = ["message.output_text.logprobs"]
            if call.logprobs is not True:
                payload["top_logprobs"] = call.logprobs
        if call.tools:
            payload["tools"] = [_tool(tool) for tool in tools_of(call.tools)]
        if call.tool_choice is not None:
            chosen = chosen_tool(call.tool_choice)
            payload["tool_choice"] = call.tool_choice if chosen is None else {"type": "function", "name": chosen}
        if call.output is not None:
            payload["text"] = {"format": self._format(call.output)}
        if stream:
            payload["stream"] = True
        return payload

    def _format(self, output: Any) -> dict[str, Any]:
        schema = schema_of(output, None if self._endpoint.self_hosted else OPENAI)
        strict = schema.strict or self._endpoint.self_hosted
        return {"type": "json_schema", "name": schema.name, "schema": schema.schema, "strict": strict}

    def _input(self, call: Call) -> list[Mapping[str, Any]]:
        items: list[Mapping[str, Any]] = []
        custom: set[Any] = set()  # ids of calls of free-text tools, whose results are items of another type
        for message in conversation(call, self._endpoint):
            role = message.get("role")
            if role is None:
                items.append(message)  # an item of the API's own
            elif role == "tool":
                output = _content(message, "input_text")
                identity = short_id(answered_call(message))
                kind = "custom_tool_call_output" if identity in custom else "function_call_output"
                items.append({"type": kind, "call_id": identity, "output": output})
            elif role == "assistant" and is_list(own := self._own_turn(message)):
                items.extend(own)
                custom.update(item.get("call_id") for item in as_dicts(own) if item.get("type") == "custom_tool_call")
            elif role == "assistant":
                if content := _content(message, "output_text"):
                    # OpenAI assumes the type if it is missing, but llama.cpp's server does not.
                    items.append({"type": "message", "role": role, "content": content})
                items.extend(_call_item(each) for each in tool_calls_of(message))
            else:
                items.append({"role": role, "content": _content(message, "input_text")})
        return items

    def _read(self, call: Call, data: dict[str, Any]) -> Answer:
        items = as_dicts(data.get("output"))
        parts = [part for item in items if item.get("type") == "message" for part in as_dicts(item.get("content"))]
        received = _received_calls(items)
        calls = tuple(call for _, call in received)
        status = as_text(data.get("status"))
        why = as_text(as_dict(data.get("incomplete_details")).get("reason"))
        finish: str | None = status
        if status == "incomplete":
            finish = "length" if why == "max_output_tokens" else why
        elif status in (None, "completed"):
            finish = "tool_calls" if calls else "stop"
        refusal = next((text for part in parts if (text := as_text(part.get("refusal")))), "")
        return Answer(
            text=_joined(parts, "output_text"),
            reasoning=_reasoning(items),
            tool_calls=calls,
            finish_reason=finish,
            usage=_usage(data.get("usage")),
            model=as_text(data.get("model")),
            service_tier=as_text(data.get("service_tier")),
            turn=_turn(data, items, received),
            fault=_fault(data, status, why, refusal),
        )

    def _assembly(self, call: Call) -> Assembly:
        return _OutputItems()


class _OutputItems:
    """Assembles a streamed response. Its last event holds all of it; earlier events only fill in what it lacks."""

    def __init__(self) -> None:
        self.complete = False
        self._whole: dict[str, Any] = {}
        self._texts: list[str] = []
        self._done: list[Any] = []  # the complete items

    def add(self, event: ServerSentEvent, data: dict[str, Any]) -> str:
        kind = data.get("type")
        if kind == "response.output_text.delta":
            text = as_text(data.get("delta")) or ""
            self._texts.append(text)
            return text
        if isinstance(kind, str) and kind in _TERMINAL:
            self.complete = True
            self._whole = as_dict(data.get("response"))
        elif kind == "response.output_item.done":
            self._done.append(data.get("item"))
        elif kind == "response.created":
            self._whole = dict(as_dict(data.get("response")))
        return ""

    def whole(self) -> dict[str, Any]:
        if self.complete and (self._whole.get("output") or not (self._done or self._texts)):
            return self._whole
        if any(as_dict(item).get("type") == "message" for item in self._done) or not self._texts:
            return {**self._whole, "output": self._done}
        content = [{"type": "output_text", "text": "".join(self._texts)}]
        return {**self._whole, "output": [*self._done, {"type": "message", "role": "assistant", "content": content}]}


# -- requests ---------------------------------------------------------------------------------------------------------


def _content(message: Mapping[str, Any], text_type: str) -> Any:
    """A message's content: a string, or parts of the API's own types."""
    content = message.get("content")
    return content if isinstance(content, str) else [_part(part, text_type) for part in parts_of(content)]


def _part(part: Mapping[str, Any], text_type: str) -> Mapping[str, Any]:
    """A part of a message. A part of none of chat completions' types is passed on: it is this API's own."""
    if part.get("type") == "text":
        text = {"type": text_type, "text": part.get("text")}
        return {**text, BREAKPOINT: part[BREAKPOINT]} if BREAKPOINT in part else text
    media = media_of(part)
    if media is None:
        return part
    if media.kind == "audio":
        raise InvalidRequest("messages: openai-responses takes no audio; openai/… (chat completions) does")
    return _media(media)


def _media(media: Media) -> dict[str, Any]:
    located = f"data:{media.mime};base64,{media.data}" if media.data is not None else media.url
    if media.kind == "image":
        return {"type": "input_image", "image_url": located, "detail": media.detail or "auto"}
    if media.file_id:
        return {"type": "input_file", "file_id": media.file_id}
    if media.url:
        return {"type": "input_file", "file_url": media.url}
    return {"type": "input_file", "filename": media.name or "file", "file_data": located}


def _call_item(call: ToolCall) -> dict[str, Any]:
    return {"type": "function_call", "call_id": short_id(call.id), "name": call.name, "arguments": call.arguments}


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = function_of(tool)
    if function is None:
        return tool
    described: dict[str, Any] = {"type": "function", "name": function["name"]}
    if function.get("description"):
        described["description"] = function["description"]
    described["parameters"] = function.get("parameters")
    described["strict"] = bool(function.get("strict"))  # strict is the default here, unlike in chat completions
    return described


# -- answers ----------------------------------------------------------------------------------------------------------


_ReceivedCalls = list[tuple[dict[str, Any], ToolCall]]
"""The tool calls of an answer, each as received and as decoded."""


def _received_calls(items: list[dict[str, Any]]) -> _ReceivedCalls:
    calls = [item for item in items if item.get("type") in _TOOL_CALLS]
    read = (
        tool_call(item.get("call_id") or item.get("id"), item.get("name"), item.get("arguments", item.get("input")), i)
        for i, item in enumerate(calls)
    )
    return [(item, call) for item, call in zip(calls, read, strict=True) if call is not None]


def _joined(parts: list[dict[str, Any]], kind: str) -> str:
    return "".join(as_text(part.get("text")) or "" for part in parts if part.get("type") == kind)


def _reasoning(items: list[dict[str, Any]]) -> str:
    """The reasoning itself if the server shows it (gpt-oss), otherwise its summary."""
    found: list[str] = []
    for item in items:
        if item.get("type") == "reasoning":
            thought = _joined(as_dicts(item.get("content")), "reasoning_text")
            found.append(thought or _joined(as_dicts(item.get("summary")), "summary_text"))
    return "".join(found)


def _turn(data: dict[str, Any], items: list[dict[str, Any]], received: _ReceivedCalls) -> list[dict[str, Any]] | None:
    """The items as they were made; None if they are only text and tool calls, or cannot be sent back.

    An item is sent back with its id. So the provider must have stored it, or it must hold its reasoning encrypted.
    """
    if all(item.get("type") in ("message", "function_call") for item in items):
        return None
    thoughts = [item for item in items if item.get("type") == "reasoning"]
    if data.get("store") is False and not all(item.get("encrypted_content") for item in thoughts):
        return None
    calls = {id(item): call for item, call in received}
    sendable = (_sendable(item, calls.get(id(item))) for item in items)
    turn = [item for item in sendable if item is not None]
    while turn and turn[-1].get("type") == "reasoning":
        turn.pop()  # the API refuses reasoning with nothing after it
    return turn


def _sendable(item: dict[str, Any], call: ToolCall | None) -> dict[str, Any] | None:
    """An item under the id that its result will name; None for a tool call without a name."""
    if item.get("type") not in _TOOL_CALLS:
        return item
    if call is None:
        return None
    sent = {**item, "call_id": short_id(call.id)}
    return {**sent, "arguments": call.sendable()} if item.get("type") == "function_call" else sent


def _fault(data: dict[str, Any], status: str | None, why: str | None, refusal: str) -> Fault | None:
    if refusal:
        return errors.Refused, f"declined to answer: {refusal}"
    if status in ("failed", "cancelled"):
        return errors.ServerError, f"reports the response as {status}, without a reason"
    if status in ("queued", "in_progress"):
        return errors.ServerError, f"answered before it was done (status {status})"
    if status == "incomplete" and why not in ("max_output_tokens", "content_filter"):
        return errors.ServerError, f"broke off the answer ({shown(why)})"
    if "output" not in data:
        return errors.ProtocolError, "sent JSON without output"
    return None


def _usage(data: Any) -> Usage:
    usage = as_dict(data)
    details = as_dict(usage.get("input_tokens_details"))
    return Usage(
        input_tokens=as_count(usage.get("input_tokens")),
        output_tokens=as_count(usage.get("output_tokens")),
        cached_tokens=as_count(details.get("cached_tokens")),
        cache_write_tokens=as_count(details.get("cache_write_tokens")),
        reasoning_tokens=as_count(as_dict(usage.get("output_tokens_details")).get("reasoning_tokens")),
    )
