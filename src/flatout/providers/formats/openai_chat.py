"""OpenAI's chat completions, the wire format that nearly every provider and server understands.

The differences between them are data in their `Endpoint`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from flatout import errors
from flatout.errors import InvalidRequest
from flatout.layer import Request
from flatout.providers.failures.problem import is_problem
from flatout.providers.schemas.structured import instructions, response_format
from flatout.providers.tools import tools_of
from flatout.providers.wire.answer import Answer, Fault, as_count, as_dict, as_dicts, as_text, tool_call
from flatout.providers.wire.messages import is_system, spelt_out
from flatout.providers.wire.payload import is_list, split_address
from flatout.providers.wire.stream import Assembly
from flatout.values import Call, Message, Target, ToolCall, Usage
from flatout.values.reply import NATIVE

from .codec import JSONCodec
from .openai_stream import Chunks, text_of
from .openai_usual import usage_of, usual

_SAME_NAME = ("temperature", "top_p", "stop", "seed", "reasoning_effort", "service_tier", "tool_choice")
"""Parameters with the same name in a Call and on the wire."""

_AZURE_RESOURCE = re.compile(r"https://[\w-]+\.(?:openai|services\.ai|cognitiveservices)\.azure\.com")
"""The bare address of a resource, as Azure's portal shows it. The API's path is missing."""

_BROKEN_OFF: dict[str, Fault] = {
    # DeepSeek ran out of capacity in the middle of the answer.
    "insufficient_system_resource": (errors.Overloaded, "broke off the answer for lack of capacity"),
    "error": (errors.ServerError, "broke off the answer"),  # OpenRouter
    "abort": (errors.ServerError, "broke off the answer"),  # vLLM
}
"""Finish reasons that are the server's failures, not the model's decisions."""


class OpenAIChat(JSONCodec):
    """Encodes calls as chat completion requests to one target, and decodes the answers.

    Raises:
        ConfigError: the endpoint has no address, or its key or a header cannot be sent in a header.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        # Mistral reports a stream's usage unasked, and refuses the question. Other servers may turn out to refuse it.
        self._asks_for_usage = target.endpoint.limit_headers != "mistral"

    def instead(self, call: Call, refused: Request, error: errors.CallError, /) -> Request | None:
        """The request without ``stream_options``, if that was what the server refused."""
        if "stream_options" not in f"{error} {error.body or ''}":
            return None
        self._asks_for_usage = False
        request = self.encode(call, stream=True)
        return None if request.body == refused.body else request

    def _url(self, *, stream: bool) -> str:
        """The address of the requests. ``{model}`` in the endpoint's address is replaced (Azure's deployments)."""
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
            del payload["model"]  # a server of a single model needs no name
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
            if self._asks_for_usage or (call.extra and "stream_options" in call.extra):  # extra then overrides it
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
        return messages if call.messages is None else [self._sent(message) for message in messages]

    def _sent(self, message: Any) -> Any:
        """A message as it is sent. A turn that this provider's model made is sent unchanged."""
        if not isinstance(message, dict | Mapping):
            return message
        own = self._own_turn(message) if NATIVE in message else None
        return own if isinstance(own, Mapping) else _plain_calls(spelt_out(message))

    def _usual(self, body: bytes) -> Answer | None:
        return usual(body)

    def _read(self, call: Call, data: dict[str, Any]) -> Answer:
        choices = data.get("choices")
        choice = as_dict(choices[0]) if isinstance(choices, list) and choices else {}
        message = as_dict(choice.get("message"))
        reason = as_text(choice.get("finish_reason"))
        received = _received_calls(message)
        turn = _turn(message, received)
        fault = _BROKEN_OFF.get(reason) if reason else None
        if refusal := _refusal(message):
            fault = errors.Refused, f"declined to answer: {refusal}"
        elif "choices" not in data:
            fault = errors.ProtocolError, "sent JSON without choices"
        return Answer(
            text=text_of(message.get("content")),
            reasoning=_reasoning(message) if turn is not None else "",
            tool_calls=tuple(call for _, call in received),
            finish_reason="tool_calls" if reason == "function_call" else reason,
            usage=_usage(data.get("usage")),
            model=as_text(data.get("model")),
            service_tier=as_text(data.get("service_tier")),
            turn=turn,
            failure=choice if is_problem(choice) else None,  # OpenRouter reports an upstream's failure there
            fault=fault,
        )

    def _assembly(self, call: Call) -> Assembly:
        return Chunks()


def _plain_calls(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message in this API's own shape, which has neither signatures of tool calls nor other providers' turns."""
    if NATIVE in message:
        message = {name: value for name, value in message.items() if name != NATIVE}
    calls: Any = message.get("tool_calls")
    if not is_list(calls):
        return message
    return {**message, "tool_calls": [_plain_call(item) for item in calls]}


def _plain_call(item: Any) -> Any:
    if isinstance(item, ToolCall):
        return {"id": item.id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
    if isinstance(item, Mapping) and "signature" in item:
        return {name: value for name, value in item.items() if name != "signature"}
    return item


def _refusal(message: dict[str, Any]) -> str:
    if refusal := as_text(message.get("refusal")):
        return refusal
    for part in as_dicts(message.get("content")):
        if refusal := as_text(part.get("refusal")):
            return refusal
    return ""


_ReceivedCalls = list[tuple[dict[str, Any], ToolCall]]
"""The tool calls of a message, each as received and as decoded."""


def _received_calls(message: dict[str, Any]) -> _ReceivedCalls:
    items = as_dicts(message.get("tool_calls"))
    if not items:
        legacy = message.get("function_call")
        if not isinstance(legacy, dict):
            return []
        items = [{"function": legacy}]
    read = ((item, _tool_call(item, index)) for index, item in enumerate(items))
    return [(item, call) for item, call in read if call is not None]


def _tool_call(item: dict[str, Any], index: int) -> ToolCall | None:
    function = as_dict(item.get("function")) or as_dict(item.get("custom"))
    # Ollama sends the arguments as an object.
    return tool_call(item.get("id"), function.get("name"), function.get("arguments", function.get("input")), index)


_COMMON = frozenset({"role", "content", "refusal", "tool_calls", "function_call"})
"""The fields of a message that every server has."""

_COMMON_OF_CALL = frozenset({"id", "type", "function", "index"})
"""The fields of a tool call that every server has."""


def _turn(message: dict[str, Any], received: _ReceivedCalls) -> dict[str, Any] | None:
    """The message as it was made, without its empty fields; None if it is only text and tool calls.

    It may hold reasoning and signatures, under names that differ from server to server.
    """
    more = {name: value for name, value in message.items() if value and name not in _COMMON}
    content = message.get("content")
    in_parts = isinstance(content, list) and any(part.get("type") != "text" for part in as_dicts(content))
    if not more and not in_parts and (not received or all(_COMMON_OF_CALL.issuperset(item) for item, _ in received)):
        return None
    turn = {"role": "assistant", "content": content or (None if received else ""), **more}
    if received:
        turn["tool_calls"] = [_sendable(item, call) for item, call in received]
    return turn


def _sendable(item: dict[str, Any], call: ToolCall) -> dict[str, Any]:
    """A tool call as it was made, under the id that its result will name, and with arguments that can be sent."""
    entry = {name: value for name, value in item.items() if name != "index"}
    entry.update(id=call.id)
    if "custom" not in item:
        function = {**as_dict(item.get("function")), "arguments": call.sendable()}
        entry.update(type="function", function=function)
    return entry


_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Fields that hold the reasoning as one string: DeepSeek, vLLM; OpenRouter, Groq, newer vLLM; Ollama."""


def _reasoning(message: dict[str, Any]) -> str:
    for name in _THOUGHTS:
        if thought := as_text(message.get(name)):
            return thought
    if details := as_dicts(message.get("reasoning_details")):  # OpenRouter, MiniMax
        return "".join(as_text(part.get("text")) or as_text(part.get("summary")) or "" for part in details)
    thoughts = (part.get("thinking") for part in as_dicts(message.get("content")))  # Mistral
    return "".join(map(text_of, thoughts))


def _usage(data: Any) -> Usage:
    if not isinstance(data, dict):
        return Usage()
    answer = as_count(data.get("completion_tokens"))
    prompt = as_count(data.get("prompt_tokens"))
    reasoning = as_count(as_dict(data.get("completion_tokens_details")).get("reasoning_tokens"))
    details = as_dict(data.get("prompt_tokens_details"))
    cached, written = as_count(details.get("cached_tokens")), as_count(details.get("cache_write_tokens"))
    if cached is None:
        cached = as_count(data.get("prompt_cache_hit_tokens"))  # DeepSeek
    total = as_count(data.get("total_tokens"))
    return usage_of(prompt, answer, total, cached=cached, reasoning=reasoning, written=written)
