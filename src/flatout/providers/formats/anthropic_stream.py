"""Anthropic's streamed messages: events that open, fill and close blocks of content."""

from __future__ import annotations

from typing import Any

import msgspec

from flatout.providers.wire.answer import as_count, as_dict, as_text
from flatout.providers.wire.sse import ServerSentEvent


class MessageBlocks:
    """Assembles the content blocks of a streamed message.

    Args:
        answer_tool: the tool whose arguments are the answer's text; None if the text itself is the answer.
    """

    def __init__(self, *, answer_tool: str | None) -> None:
        self.complete = False
        self._answer_tool = answer_tool
        self._whole: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, dict[str, list[str]]] = {}

    def add(self, event: ServerSentEvent, data: dict[str, Any]) -> str:
        kind = data.get("type")
        if kind == "content_block_delta":
            return self._delta(as_count(data.get("index")) or 0, as_dict(data.get("delta")))
        if kind == "content_block_start":
            index = as_count(data.get("index")) or 0
            self._blocks[index] = dict(as_dict(data.get("content_block")))
            return as_text(self._blocks[index].get("text")) or ""
        if kind == "message_start":
            self._whole = dict(as_dict(data.get("message")))
        elif kind == "message_delta":
            self._whole.update(as_dict(data.get("delta")))
            usage = {name: value for name, value in as_dict(data.get("usage")).items() if value is not None}
            self._whole["usage"] = {**as_dict(self._whole.get("usage")), **usage}
            # The message_stop event adds nothing, and not every Anthropic-compatible server sends it.
            self.complete = bool(self._whole.get("stop_reason"))
        elif kind == "message_stop":
            self.complete = True
        return ""

    def whole(self) -> dict[str, Any]:
        if not self._whole and not self._blocks:
            return {}
        return {**self._whole, "content": [self._block(index) for index in sorted(self._blocks)]}

    def _delta(self, index: int, delta: dict[str, Any]) -> str:
        for name in ("text", "partial_json", "thinking", "signature", "content"):
            piece = delta.get(name)
            if isinstance(piece, str):
                self._pieces.setdefault(index, {}).setdefault(name, []).append(piece)
                block = self._blocks.setdefault(index, {"type": "text"})
                answers = self._answer_tool is not None and block.get("name") == self._answer_tool
                return piece if name == "text" or (name == "partial_json" and answers) else ""
        if (citation := delta.get("citation")) is not None:
            block = self._blocks.setdefault(index, {"type": "text"})
            block["citations"] = held = block.get("citations") or []
            held.append(citation)
        return ""

    def _block(self, index: int) -> dict[str, Any]:
        block = self._blocks[index]
        fields: dict[str, Any] = {name: "".join(pieces) for name, pieces in self._pieces.get(index, {}).items()}
        if (arguments := fields.pop("partial_json", None)) is not None:
            try:
                fields["input"] = msgspec.json.decode(arguments or "{}")
            except (ValueError, RecursionError):
                fields["input"] = arguments  # cut off; keep the text as it came
        start = as_text(block.get("text"))
        return {**block, **fields, **({"text": start + fields["text"]} if start and "text" in fields else {})}
