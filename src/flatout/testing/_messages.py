"""Anthropic's Messages as a simulated provider reads and writes them: another form of a chat completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ._answers import ChatMessage, ChatRequest, plain_content
from ._prompt_cache import CacheUse
from ._streams import WORD

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_encode = msgspec.json.Encoder().encode


class MessagesRequest(Struct, gc=False):
    """The parts of a Messages request that the answer depends on."""

    model: str
    messages: list[ChatMessage]
    max_tokens: int
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None

    def as_chat(self) -> ChatRequest:
        """The same question as a chat completion request."""
        system = [] if self.system is None else [ChatMessage("system", plain_content(self.system))]
        return ChatRequest(
            model=self.model,
            messages=system + [ChatMessage(each.role, plain_content(each.content)) for each in self.messages],
            max_tokens=self.max_tokens,
            stream=self.stream,
            response_format=_form(self.output_config or {}),
            tools=None if self.tools is None else [_tool(tool) for tool in self.tools],
            tool_choice=None if self.tool_choice is None else _choice(self.tool_choice),
        )

    def blocks(self) -> Iterator[tuple[str, Any]]:
        """The blocks of the prompt in the order in which the model reads them, each with the role it begins, or ""."""
        for tool in self.tools or ():
            yield "", tool
        for role, content in (("system", self.system), *((each.role, each.content) for each in self.messages)):
            for place, block in enumerate(content if isinstance(content, list) else [content] if content else []):
                yield "" if place else role, block


decode_messages = msgspec.json.Decoder(MessagesRequest).decode


def message(
    *, number: int, model: str, message: Mapping[str, Any], finish: str, prompt: int, output: int, use: CacheUse
) -> bytes:
    """A whole answer."""
    return _encode(
        {
            **_head(number, model),
            "content": _blocks(message),
            "stop_reason": _REASONS.get(finish, finish),
            "stop_sequence": None,
            "usage": {**_given(prompt, use), "output_tokens": output},
        }
    )


def events(
    *, number: int, model: str, message: Mapping[str, Any], finish: str, prompt: int, output: int, use: CacheUse
) -> list[bytes]:
    """The events of a streamed answer: its head, the answer word by word, and how it ended."""
    usage = {**_given(prompt, use), "output_tokens": 1}
    start = {**_head(number, model), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    chunks = [_event("message_start", message=start)]
    for index, block in enumerate(_blocks(message)):
        field, kind = ("text", "text_delta") if block["type"] == "text" else ("partial_json", "input_json_delta")
        whole = block["text"] if field == "text" else _encode(block["input"]).decode()
        empty = {**block, ("text" if field == "text" else "input"): "" if field == "text" else {}}
        chunks[-1] += _event("content_block_start", index=index, content_block=empty)
        chunks.extend(
            _event("content_block_delta", index=index, delta={"type": kind, field: word})
            for word in WORD.findall(whole)
        )
        chunks[-1] += _event("content_block_stop", index=index)
    delta = {"stop_reason": _REASONS.get(finish, finish), "stop_sequence": None}
    chunks.append(_event("message_delta", delta=delta, usage={"output_tokens": output}) + _event("message_stop"))
    return chunks


def _head(number: int, model: str) -> dict[str, Any]:
    return {"id": f"msg_{number:012d}", "type": "message", "role": "assistant", "model": model}


def _given(prompt: int, use: CacheUse) -> dict[str, int]:
    """The tokens of the prompt, as Anthropic counts them: those of the cache are not in the input."""
    return {
        "input_tokens": max(0, prompt - use.read - use.written),
        "cache_creation_input_tokens": use.written,
        "cache_read_input_tokens": use.read,
    }


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = message.get("content")
    found: list[dict[str, Any]] = [{"type": "text", "text": text}] if isinstance(text, str) and text else []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = msgspec.json.decode(function["arguments"])
        found.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments})
    return found


def _event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + _encode({"type": kind, **more}) + b"\n\n"


def _form(output: Mapping[str, Any]) -> dict[str, Any] | None:
    form = output.get("format")
    if not isinstance(form, Mapping) or form.get("type") != "json_schema":
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": form.get("schema")}}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool.get("name"), "parameters": tool.get("input_schema")}}


def _choice(choice: Mapping[str, Any]) -> str | dict[str, Any]:
    if choice.get("type") == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return "required" if choice.get("type") == "any" else str(choice.get("type"))
