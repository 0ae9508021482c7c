"""OpenAI's Responses as a simulated provider reads and writes them: another form of a chat completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from flatout.providers.wire.answer import as_dict, as_dicts

from ._answers import ChatMessage, ChatRequest
from ._prompt_cache import CacheUse
from ._streams import WORD

_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_encode = msgspec.json.Encoder().encode


class ResponsesRequest(Struct, gc=False):
    """The parts of a request for a response that the answer depends on."""

    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None

    def as_chat(self) -> ChatRequest:
        """The same question as a chat completion request."""
        given = [{"content": self.input}] if isinstance(self.input, str) else self.input
        system = [ChatMessage("system", self.instructions)] if self.instructions else []
        return ChatRequest(
            model=self.model,
            messages=system + [_message(item) for item in given],
            max_tokens=self.max_output_tokens,
            stream=self.stream,
            response_format=_form(as_dict(as_dict(self.text).get("format"))),
            tools=[_tool(tool) for tool in self.tools if tool.get("type") == "function"] if self.tools else None,
            tool_choice=_choice(self.tool_choice) if isinstance(self.tool_choice, dict) else self.tool_choice,
            prompt_cache_key=self.prompt_cache_key,
            service_tier=self.service_tier,
        )


decode_responses = msgspec.json.Decoder(ResponsesRequest).decode


def response(
    *,
    number: int,
    model: str,
    message: Mapping[str, Any],
    finish: str,
    prompt: int,
    output: int,
    use: CacheUse,
    wall: float,
    tier: str | None = None,
) -> dict[str, Any]:
    """A whole answer."""
    short = finish == "length"
    return {
        **_head(number, model, wall),
        "status": "incomplete" if short else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if short else None,
        "output": list(_items(number, message)),
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": use.read, "cache_write_tokens": use.written},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + output,
        },
        **({} if tier is None else {"service_tier": tier}),
    }


def events(whole: dict[str, Any]) -> list[bytes]:
    """The events of a streamed answer: its head, each item word by word, and the whole of it."""
    chunks: list[bytes] = []
    for number, (kind, more) in enumerate(_events(whole)):
        told = {"type": f"response.{kind}", "sequence_number": number, **more}
        event = f"event: response.{kind}\ndata: ".encode() + _encode(told) + b"\n\n"
        if kind in _APART or kind.endswith(".delta"):
            chunks.append(event)
        else:
            chunks[-1] += event
    return chunks


_APART = frozenset({"created", "completed", "incomplete"})
"""Events that have a piece of the stream of their own, as each word has."""


def _events(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    begun = {**whole, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    yield "created", {"response": begun}
    yield "in_progress", {"response": begun}
    for index, item in enumerate(whole["output"]):
        at, place = {"item_id": item["id"], "output_index": index}, {"output_index": index}
        if item["type"] == "message":
            [part] = item["content"]
            inside = {**at, "content_index": 0}
            yield "output_item.added", {**place, "item": {**item, "status": "in_progress", "content": []}}
            yield "content_part.added", {**inside, "part": {**part, "text": ""}}
            for word in WORD.findall(part["text"]):
                yield "output_text.delta", {**inside, "delta": word}
            yield "output_text.done", {**inside, "text": part["text"]}
            yield "content_part.done", {**inside, "part": part}
        else:
            yield "output_item.added", {**place, "item": {**item, "status": "in_progress", "arguments": ""}}
            for word in WORD.findall(item["arguments"]):
                yield "function_call_arguments.delta", {**at, "delta": word}
            yield "function_call_arguments.done", {**at, "arguments": item["arguments"]}
        yield "output_item.done", {**place, "item": item}
    yield whole["status"], {"response": whole}


def _head(number: int, model: str, wall: float) -> dict[str, Any]:
    named = {"id": f"resp_{number:012d}", "object": "response", "created_at": int(wall), "model": model}
    return {**named, "error": None, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}


def _items(number: int, message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(text := message.get("content"), str):
        head = {"type": "message", "id": f"msg_{number:012d}", "role": "assistant", "status": "completed"}
        yield {**head, "content": [{"type": "output_text", "text": text, "annotations": []}]}
    for place, call in enumerate(as_dicts(message.get("tool_calls"))):
        named = {"type": "function_call", "id": f"fc_{number:012d}_{place}", "call_id": call["id"]}
        yield {**named, "status": "completed", **call["function"]}


def _message(item: Mapping[str, Any]) -> ChatMessage:
    if item.get("type") == "function_call":
        return ChatMessage("assistant")
    if item.get("type") in _RESULTS:
        return ChatMessage("tool", item.get("output"))
    content = item.get("content")
    if not isinstance(content, str):
        content = "".join(str(part.get("text", "")) for part in as_dicts(content))
    return ChatMessage(str(item.get("role", "user")), content)


def _form(form: Mapping[str, Any]) -> dict[str, Any] | None:
    if form.get("type") != "json_schema":
        return {"type": form["type"]} if "type" in form else None
    return {"type": "json_schema", "json_schema": {"name": form.get("name"), "schema": form.get("schema")}}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool.get("name"), "parameters": tool.get("parameters")}}


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": choice.get("type"), "function": {"name": choice.get("name")}}
