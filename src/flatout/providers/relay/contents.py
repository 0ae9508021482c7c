"""Gemini's generateContent, from the server's side. It is read, so that calls are paced; answers are passed on."""

from __future__ import annotations

from typing import Any

import msgspec

from flatout.errors import InvalidRequest
from flatout.providers.wire.answer import as_dict, as_dicts, as_text
from flatout.values import Reply

from .inbound import Asked, Origin

_READ = frozenset({"contents", "systemInstruction", "system_instruction", "generationConfig", "tools"})


class InboundContents:
    """Reads requests to Gemini."""

    harmless: frozenset[str] = frozenset()

    def read(self, data: dict[str, Any]) -> Asked:
        """What a request's JSON asks. The model and the wish for a stream stand in its address, not here."""
        messages = [
            {"role": "assistant" if content.get("role") == "model" else "user", "content": _texts(content)}
            for content in as_dicts(data.get("contents"))
        ]
        call: dict[str, Any] = {"messages": messages}
        system = _texts(as_dict(data.get("systemInstruction") or data.get("system_instruction")))
        if system:
            call["system"] = system
        config = as_dict(data.get("generationConfig"))
        if config.get("maxOutputTokens") is not None:
            call["max_tokens"] = config["maxOutputTokens"]
        extra = {name: value for name, value in data.items() if name not in _READ}
        return Asked("", streams=False, call={**call, "extra": {**extra, "generationConfig": config}})

    def write(self, reply: Reply, origin: Origin) -> bytes:
        """A complete answer: its text."""
        part = {"text": reply.text}
        finish = "MAX_TOKENS" if reply.finish_reason == "length" else "STOP"
        content = {"role": "model", "parts": [part]}
        usage = {
            "promptTokenCount": reply.usage.input_tokens or 0,
            "candidatesTokenCount": reply.usage.output_tokens or 0,
            "totalTokenCount": reply.usage.total_tokens or 0,
        }
        candidates = [{"content": content, "finishReason": finish, "index": 0}]
        return msgspec.json.encode({"candidates": candidates, "usageMetadata": usage, "modelVersion": origin.model})

    def writer(self, origin: Origin) -> Any:
        """Refused: no target of another format answers in this one.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest("Gemini's format is only passed on")

    def refusal(self, status: int, kind: str, message: str) -> bytes:
        """The body of an error."""
        return msgspec.json.encode({"error": {"code": status, "message": message, "status": kind}})


def _texts(content: dict[str, Any]) -> str:
    return "".join(as_text(part.get("text")) or "" for part in as_dicts(content.get("parts")))
