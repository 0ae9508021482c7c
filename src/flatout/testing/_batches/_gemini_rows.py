"""Gemini's generateContent as a chat completion, and the answer back in Gemini's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flatout.providers.wire.answer import as_dict, as_dicts

from ._told import encode

RPC_CODES: Mapping[int, int] = {400: 3, 404: 5, 429: 8, 500: 13, 503: 14}
"""The numbers that google.rpc gives to HTTP's statuses."""

_ROLES = {"model": "assistant", "function": "tool"}
_REASONS = {"length": "MAX_TOKENS"}


def as_chat(model: str, request: Any) -> bytes:
    """The body of the chat completion that asks the same.

    Raises:
        ValueError: the request has no contents.
    """
    request = as_dict(request)
    contents = as_dicts(request.get("contents"))
    if not contents or len(contents) != len(request["contents"]):
        raise ValueError("contents is not specified")
    messages = [_message(_ROLES.get(content.get("role", "user"), "user"), content) for content in contents]
    if system := as_dict(request.get("systemInstruction")):
        messages.insert(0, _message("system", system))
    config = as_dict(request.get("generationConfig"))
    chat = {"model": model, "messages": messages, "max_tokens": config.get("maxOutputTokens")}
    if config.get("responseMimeType") == "application/json":
        schema = config.get("responseJsonSchema") or config.get("responseSchema")
        named = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        chat["response_format"] = named if schema else {"type": "json_object"}
    if functions := _functions(request.get("tools") or ()):
        chat["tools"] = functions
        chat["tool_choice"] = _choice(as_dict(request.get("toolConfig")))
    return encode(chat)


def as_content(answer: bytes) -> dict[str, Any]:
    """Gemini's form of a chat completion."""
    told = msgspec.json.decode(answer)
    [choice] = told["choices"]
    usage = told["usage"]
    candidate = {
        "content": {"role": "model", "parts": _parts(choice["message"])},
        "finishReason": _REASONS.get(choice["finish_reason"], "STOP"),
        "index": 0,
    }
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": usage["prompt_tokens"],
            "candidatesTokenCount": usage["completion_tokens"],
            "totalTokenCount": usage["total_tokens"],
        },
        "modelVersion": told["model"],
        "responseId": told["id"],
    }


def as_status(status: int, error: bytes) -> dict[str, Any]:
    """Gemini's form of an error."""
    return {"code": RPC_CODES.get(status, 2), "message": msgspec.json.decode(error)["error"]["message"]}


def _message(role: str, content: Mapping[str, Any]) -> dict[str, Any]:
    parts = as_dicts(content.get("parts"))
    if all(part.keys() == {"text"} for part in parts):
        return {"role": role, "content": "".join(str(part["text"]) for part in parts)}
    return {"role": role, "content": parts}


def _functions(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    declared = [function for tool in tools for function in tool.get("functionDeclarations") or ()]
    return [
        {
            "type": "function",
            "function": {
                "name": function.get("name"),
                "parameters": function.get("parametersJsonSchema") or function.get("parameters"),
            },
        }
        for function in declared
    ]


def _choice(config: Mapping[str, Any]) -> Any:
    calling = as_dict(config.get("functionCallingConfig"))
    if calling.get("mode") != "ANY":
        return "none" if calling.get("mode") == "NONE" else "auto"
    names = calling.get("allowedFunctionNames")
    return {"type": "function", "function": {"name": names[0]}} if names else "required"


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = message.get("content")
    parts: list[dict[str, Any]] = [{"text": text}] if text else []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = msgspec.json.decode(function["arguments"])
        parts.append({"functionCall": {"name": function["name"], "args": arguments}})
    return parts
