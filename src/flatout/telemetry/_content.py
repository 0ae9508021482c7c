"""Prompts, answers and error texts in traces: recorded only on request, without keys, and cut.

A trace leaves the process, and people read it who were never meant to see the prompts. So by default no content is
recorded. That includes error messages in which a provider or a tool may have quoted content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from flatout.errors import AttemptTimeout, ConnectError, DeadlineExceeded, NotSent
from flatout.text.halves import JsonWriter
from flatout.text.redact import excerpt, redact
from flatout.values import Call, Message, Reply

from ._conventions import CAPTURE_CONTENT_ENV, CAPTURE_CONTENT_VALUES

TEXT_CAP = 8_000
"""Characters of one prompt, answer, argument or result that a span keeps."""

MESSAGES_CAP = 32
"""Messages of one conversation that a span keeps, counted from its end."""

_ERROR_CAP = 500
"""Characters of an error's message that a span keeps."""

_WITHOUT_CONTENT = (AttemptTimeout, ConnectError, DeadlineExceeded, NotSent)
"""Errors whose messages quote neither prompt nor answer."""

Redact = Callable[[str], str]


def asked_for(content: bool) -> bool:
    """Whether to record content: the program asks for it, or the conventions' environment variable does."""
    return content or os.environ.get(CAPTURE_CONTENT_ENV, "").strip().lower() in CAPTURE_CONTENT_VALUES


def kept(text: str, redact: Redact = redact, cap: int = TEXT_CAP) -> str:
    """A text without keys, cut to ``cap`` characters."""
    return excerpt(text, cap, redact)


def error_type(error: BaseException) -> str:
    """The value of ``error.type``: the error's class, such as ``RateLimited`` or ``json.JSONDecodeError``."""
    kind = type(error)
    home = kind.__module__.partition(".")[0]
    return kind.__qualname__ if home in ("builtins", "flatout", "asyncio") else f"{home}.{kind.__qualname__}"


def error_text(error: BaseException, content: bool, redact: Redact = redact) -> str | None:
    """An error's message; None if it may quote content and content is not recorded."""
    if not content and not isinstance(error, _WITHOUT_CONTENT):
        return None
    return kept(str(error), redact, _ERROR_CAP)


def instructions(call: Call, redact: Redact) -> str | None:
    """The system prompt in the form of ``gen_ai.system_instructions``."""
    return None if call.system is None else _json([_text(call.system, redact)])


def input_messages(call: Call, redact: Redact) -> str:
    """A call's conversation in the form of ``gen_ai.input.messages``."""
    messages: list[Message] = [{"role": "user", "content": call.prompt}]
    if call.messages is not None:
        messages = list(call.messages[-MESSAGES_CAP:])
    return _json([{"role": str(m.get("role", "user")), "parts": _parts(m, redact)} for m in messages])


def output_messages(reply: Reply, redact: Redact) -> str:
    """A reply in the form of ``gen_ai.output.messages``."""
    parts = [{"type": "reasoning", "content": kept(reply.reasoning, redact)}] if reply.reasoning else []
    parts += [_text(reply.text, redact)] if reply.text else []
    parts += [_tool_call(tool.id, tool.name, tool.arguments, redact) for tool in reply.tool_calls]
    return _json([{"role": "assistant", "parts": parts, "finish_reason": reply.finish_reason or "unknown"}])


def _parts(message: Message, redact: Redact) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        said = content if isinstance(content, str) else _json(content)
        return [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": kept(said, redact)}]
    parts = [_text(content, redact)] if isinstance(content, str) else []
    if isinstance(content, list | tuple):
        parts = [_part(part, redact) for part in content]
    for tool in message.get("tool_calls") or ():
        function = tool.get("function", {}) if isinstance(tool, Mapping) else {}
        given = function.get("arguments")
        arguments = given if isinstance(given, str) else _json(given)
        parts.append(_tool_call(tool.get("id") if function else None, function.get("name"), arguments, redact))
    return parts


def _part(part: Any, redact: Redact) -> dict[str, Any]:
    """One part of a message. Of a part that is not text (an image, a file), only the type is kept."""
    if isinstance(part, str):
        return _text(part, redact)
    if not isinstance(part, Mapping):
        return {"type": "unknown"}
    text = part.get("text")
    return _text(text, redact) if isinstance(text, str) else {"type": str(part.get("type", "unknown"))}


def _text(text: str, redact: Redact) -> dict[str, Any]:
    return {"type": "text", "content": kept(text, redact)}


def _tool_call(call_id: Any, name: Any, arguments: str, redact: Redact) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": str(name), "arguments": kept(arguments, redact)}


def _json(value: Any) -> str:
    return _encode(value).decode()


_encode = JsonWriter(str)
