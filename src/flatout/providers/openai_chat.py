"""OpenAI's chat completions, the wire format that nearly every provider and server understands.

What differs between them is data in their `Endpoint`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from flatout import errors
from flatout.errors import InvalidRequest
from flatout.values import Call, Message, Target, ToolCall, Usage

from .answer import Answer, Fault, as_count, as_dict, as_dicts, as_text, tool_call
from .codec import JSONCodec
from .messages import is_system, spelt_out
from .payload import is_list, split_address
from .problem import is_problem
from .sse import Event
from .stream import Assembly
from .structured import instructions, response_format
from .tools import tools_of

_SAME_NAME = ("temperature", "top_p", "stop", "seed", "reasoning_effort", "service_tier", "tool_choice")
"""Parameters that a Call and the wire call alike."""

_AZURE_RESOURCE = re.compile(r"https://[\w-]+\.(?:openai|services\.ai|cognitiveservices)\.azure\.com")
"""Azure's portal shows the bare address of a resource, which is not yet an API."""

_BROKEN_OFF: dict[str, Fault] = {
    # DeepSeek ran out of capacity in the middle
    "insufficient_system_resource": (errors.Overloaded, "broke the answer off for want of capacity"),
    "error": (errors.ServerError, "broke the answer off"),  # OpenRouter
    "abort": (errors.ServerError, "broke the answer off"),  # vLLM
}
"""Reasons to finish that are none of the model's."""


class OpenAIChat(JSONCodec):
    """Encodes calls as chat completion requests to one target, and decodes the answers.

    Raises:
        ConfigError: the endpoint has no address, or its key or a header cannot be sent in a header.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)

    def _url(self, *, stream: bool) -> str:
        """Where the requests go. ``{model}`` in the address stands for the model (Azure's deployments)."""
        base, query = split_address(self._endpoint)
        url = base.replace("{model}", quote(self._model, safe=""))
        if _AZURE_RESOURCE.fullmatch(url):
            url += "/openai/v1"
        if not url.endswith("/chat/completions"):
            url += "/chat/completions"
        return f"{url}?{query}" if query else url

    def _payload(self, call: Call, stream: bool) -> dict[str, Any]:
        payload: dict[str, Any] = {"model": self._model, "messages": self._messages(call)}
        if not self._model:
            del payload["model"]  # a server of one model needs no name
        if call.max_tokens is not None:
            payload[self._endpoint.max_tokens_field] = call.max_tokens
        for name in _SAME_NAME:
            value = getattr(call, name)
            if value is not None:
                payload[name] = value
        if call.logprobs is not None and call.logprobs is not False:
            payload["logprobs"] = True
            if call.logprobs is not True:
                payload["top_logprobs"] = call.logprobs
        if call.tools:
            payload["tools"] = tools_of(call.tools)
        if call.output is not None:
            payload["response_format"] = self._format(call.output)
        if stream:
            payload["stream"] = True
            if self._endpoint.limit_headers != "mistral":  # it tells the usage unasked, and refuses the question
                payload["stream_options"] = {"include_usage": True}
        return payload

    def _format(self, output: Any) -> dict[str, Any]:
        if self._endpoint.schema_mode == "json_object":
            return {"type": "json_object"}
        return response_format(output, self_hosted=self._endpoint.self_hosted)

    def _messages(self, call: Call) -> list[Message]:
        if not is_list(call.messages) and call.messages is not None:
            raise InvalidRequest(f"messages takes a list of dicts, not {type(call.messages).__name__}")
        messages = call.chat()
        system = self._endpoint.system
        if system is not None and not any(is_system(message) for message in messages):
            messages.insert(0, {"role": "system", "content": system})
        if call.output is not None and self._endpoint.schema_mode == "json_object":
            behind = next((i for i, message in enumerate(messages) if not is_system(message)), len(messages))
            messages.insert(behind, {"role": "system", "content": instructions(call.output)})
        return [_plain_calls(spelt_out(message)) for message in messages]

    def _read(self, call: Call, data: dict[str, Any]) -> Answer:
        choices = data.get("choices")
        choice = as_dict(choices[0]) if isinstance(choices, list) and choices else {}
        message = as_dict(choice.get("message"))
        reason = as_text(choice.get("finish_reason"))
        fault = _BROKEN_OFF.get(reason) if reason else None
        if refusal := _refusal(message):
            fault = errors.Refused, f"declined to answer: {refusal}"
        elif "choices" not in data:
            fault = errors.ProtocolError, "sent JSON without choices"
        return Answer(
            text=_text(message.get("content")),
            tool_calls=_tool_calls(message),
            finish_reason="tool_calls" if reason == "function_call" else reason,
            usage=_usage(data.get("usage")),
            model=as_text(data.get("model")),
            service_tier=as_text(data.get("service_tier")),
            failure=choice if is_problem(choice) else None,  # OpenRouter puts an upstream's failure there
            fault=fault,
        )

    def _assembly(self, call: Call) -> Assembly:
        return _Chunks()


class _Chunks:
    """The chunks of a streamed completion, put together. Of several choices the first one counts."""

    def __init__(self) -> None:
        self.complete = False
        self._whole: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {"content": [], "refusal": []}
        self._calls: dict[int, _ToolCall] = {}
        self._reason: Any = None
        self._begun = False

    def add(self, event: Event, data: dict[str, Any]) -> str:
        if event.data == b"[DONE]":
            self.complete = True
            return ""
        for name, value in data.items():
            if value is not None and name != "choices":  # the usage comes last, and is null before
                self._whole[name] = value
        choices = data.get("choices")
        if not isinstance(choices, list):
            return ""
        self._begun = True
        return "".join(self._choice(choice) for choice in as_dicts(choices) if choice.get("index", 0) == 0)

    def whole(self) -> dict[str, Any]:
        if not self._begun:
            return dict(self._whole)
        message: dict[str, Any] = {"role": "assistant"}
        message.update((name, "".join(pieces) or None) for name, pieces in self._texts.items())
        if self._calls:
            message["tool_calls"] = [self._calls[index].whole() for index in sorted(self._calls)]
        choice = {"index": 0, "message": message, "finish_reason": self._reason}
        return {**self._whole, "object": "chat.completion", "choices": [choice]}

    def _choice(self, choice: dict[str, Any]) -> str:
        if is_problem(choice):
            self._whole["error"] = choice["error"] if choice.get("error") else choice
        if choice.get("finish_reason") is not None:
            self._reason = choice["finish_reason"]
        delta = as_dict(choice.get("delta")) or as_dict(choice.get("message"))
        if refusal := as_text(delta.get("refusal")):
            self._texts["refusal"].append(refusal)
        for place, piece in enumerate(as_dicts(delta.get("tool_calls"))):
            self._tool_call(piece, place)
        text = _text(delta.get("content"))
        self._texts["content"].append(text)
        return text

    def _tool_call(self, piece: dict[str, Any], place: int) -> None:
        index = as_count(piece.get("index"))
        call = self._calls.setdefault(place if index is None else index, _ToolCall())
        call.id = call.id or as_text(piece.get("id"))
        function = as_dict(piece.get("function")) or as_dict(piece.get("custom"))
        call.name += as_text(function.get("name")) or ""
        arguments = function.get("arguments", function.get("input"))
        if arguments:
            call.arguments.append(arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode())


class _ToolCall:
    """A tool call whose arguments come in pieces."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.arguments: list[str] = []

    def whole(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


def _plain_calls(message: Any) -> Any:
    """An assistant's message with its tool calls in this API's own shape, which knows no signature."""
    asked: Any = message.get("tool_calls") if isinstance(message, Mapping) else None
    if not is_list(asked):
        return message
    return {**message, "tool_calls": [_plain_call(item) for item in asked]}


def _plain_call(item: Any) -> Any:
    if isinstance(item, ToolCall):
        return {"id": item.id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
    if isinstance(item, Mapping) and "signature" in item:
        return {name: value for name, value in item.items() if name != "signature"}
    return item


def _text(content: Any) -> str:
    """The text of a message, also where it comes in parts (Mistral, and answers that reason in the open)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _refusal(message: dict[str, Any]) -> str:
    if refusal := as_text(message.get("refusal")):
        return refusal
    found = (as_text(part.get("refusal")) for part in as_dicts(message.get("content")))
    return next((refusal for refusal in found if refusal), "")


def _tool_calls(message: dict[str, Any]) -> tuple[ToolCall, ...]:
    asked = message.get("tool_calls")
    if isinstance(asked, list) and asked:
        calls = (_tool_call(item, index) for index, item in enumerate(asked) if isinstance(item, dict))
        return tuple(call for call in calls if call is not None)
    legacy = message.get("function_call")
    call = _tool_call({"function": legacy}, 0) if isinstance(legacy, dict) else None
    return () if call is None else (call,)


def _tool_call(item: dict[str, Any], index: int) -> ToolCall | None:
    function = as_dict(item.get("function")) or as_dict(item.get("custom"))
    # Ollama sends the arguments as an object.
    return tool_call(item.get("id"), function.get("name"), function.get("arguments", function.get("input")), index)


def _usage(data: Any) -> Usage:
    if not isinstance(data, dict):
        return Usage()
    answer = as_count(data.get("completion_tokens"))
    prompt = as_count(data.get("prompt_tokens"))
    reasoning = as_count(as_dict(data.get("completion_tokens_details")).get("reasoning_tokens"))
    cached = as_count(as_dict(data.get("prompt_tokens_details")).get("cached_tokens"))
    if cached is None:
        cached = as_count(data.get("prompt_cache_hit_tokens"))  # DeepSeek
    if reasoning and _counted_beside(data, prompt, answer, reasoning):
        answer = (answer or 0) + reasoning
    return Usage(input_tokens=prompt, output_tokens=answer, cached_tokens=cached, reasoning_tokens=reasoning)


def _counted_beside(data: dict[str, Any], prompt: int | None, answer: int | None, reasoning: int) -> bool:
    """Whether reasoning is counted beside the answer instead of in it (xAI), which only the total shows."""
    total = as_count(data.get("total_tokens"))
    return prompt is not None and answer is not None and total == prompt + answer + reasoning
