"""Streamed chat completions: chunks of deltas, as OpenAI and compatible servers send them."""

from __future__ import annotations

from typing import Any

import msgspec

from flatout.providers.failures.problem import is_problem
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.providers.wire.growing import Growing
from flatout.providers.wire.sse import ServerSentEvent

_OF_CHOICE = frozenset({"index", "delta", "message", "finish_reason"})
"""The known fields of a choice."""

_OF_CALL = frozenset({"index", "id", "type", "function", "custom"})
"""The known fields of a tool call."""


class Chunks:
    """Assembles the chunks of a streamed completion. Only the first choice counts."""

    def __init__(self) -> None:
        self.complete = False
        self._whole: dict[str, Any] = {}
        self._message = Growing(spoken=True)
        self._more = Growing(spoken=False)  # fields beside the message, such as log probabilities
        self._calls: list[_GrowingToolCall] = []
        self._latest: dict[int, _GrowingToolCall] = {}  # by the index that the server gives
        self._reason: Any = None
        self._begun = False

    def add(self, event: ServerSentEvent, data: dict[str, Any]) -> str:
        if event.data == b"[DONE]":
            self.complete = True
            return ""
        for name, value in data.items():
            if value is not None and name != "choices":  # the usage comes in the last chunk, and is null before
                self._whole[name] = value
        choices = data.get("choices")
        if not isinstance(choices, list):
            return ""
        self._begun = True
        return "".join(self._choice(choice) for choice in as_dicts(choices) if not choice.get("index"))

    def whole(self) -> dict[str, Any]:
        if not self._begun:
            return dict(self._whole)
        message: dict[str, Any] = {"role": "assistant", "content": None, **self._message.whole()}
        message["content"] = message["content"] or None
        if self._calls:
            message["tool_calls"] = [call.whole() for call in self._calls]
        choice = {"index": 0, **self._more.whole(), "message": message, "finish_reason": self._reason}
        return {**self._whole, "object": "chat.completion", "choices": [choice]}

    def _choice(self, choice: dict[str, Any]) -> str:
        if is_problem(choice):
            self._whole["error"] = choice["error"] if choice.get("error") else choice
        if reason := choice.get("finish_reason"):
            self._reason = reason
            self.complete = True  # not every server sends [DONE] after it
        for name, value in choice.items():
            if value is not None and name not in _OF_CHOICE:
                self._more.add({name: value})
        delta = as_dict(choice.get("delta")) or as_dict(choice.get("message"))
        if "tool_calls" in delta or "function_call" in delta:
            delta = dict(delta)
            legacy = as_dict(delta.pop("function_call", None))
            calls = as_dicts(delta.pop("tool_calls", None)) or ([{"function": legacy}] if legacy else [])
            for place, piece in enumerate(calls):
                self._tool_call(piece, place)
        self._message.add(delta)
        return text_of(delta.get("content"))

    def _tool_call(self, piece: dict[str, Any], place: int) -> None:
        index = as_count(piece.get("index"))
        index = place if index is None else index
        call = self._latest.get(index)
        if call is None or call.ends_before(piece):
            call = self._latest[index] = _GrowingToolCall()
            self._calls.append(call)
        call.add(piece)


class _GrowingToolCall:
    """A tool call whose arguments arrive in pieces."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._kind = "function"
        self._name = ""
        self._arguments: list[str] = []
        self._more = Growing(spoken=False)

    def ends_before(self, piece: dict[str, Any]) -> bool:
        """Whether a piece at the same index begins another call: some servers give all calls the same index.

        Only a piece with a name can begin a call, since some servers give each piece an id of its own. But the name
        may also be repeated within one call.
        """
        identity, name, arguments = _of(piece)
        if not name:
            return False
        if identity and self._id:
            return identity != self._id
        if not self._arguments:
            return False
        whole = self._arguments[-1].rstrip().endswith("}") and arguments.lstrip().startswith("{")
        return name != self._name or whole

    def add(self, piece: dict[str, Any]) -> None:
        identity, name, arguments = _of(piece)
        self._id = self._id or identity
        if name != self._name:
            self._name += name
        if arguments:
            self._arguments.append(arguments)
        if "custom" in piece:
            self._kind = "custom"
        if not _OF_CALL.issuperset(piece):
            self._more.add({name: value for name, value in piece.items() if name not in _OF_CALL})

    def whole(self) -> dict[str, Any]:
        given = "input" if self._kind == "custom" else "arguments"
        function = {"name": self._name, given: "".join(self._arguments)}
        return {"id": self._id, "type": self._kind, self._kind: function, **self._more.whole()}


def _of(piece: dict[str, Any]) -> tuple[str | None, str, str]:
    """A piece's id, name and arguments. Arguments that are an object are complete."""
    function = as_dict(piece.get("function")) or as_dict(piece.get("custom"))
    given = function.get("arguments", function.get("input")) or ""
    arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode()
    return as_text(piece.get("id")), as_text(function.get("name")) or "", arguments


def text_of(content: Any) -> str:
    """The text of a message, even if it comes in parts (from Mistral, and in answers with visible reasoning)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))
