"""Thoughts that stand in an answer's text: models that reason in the open write ``<think>…</think>`` before it.

Many servers of one's own pass that on as it is. What is only thought of is no answer: not a draft, and not a label.
"""

from __future__ import annotations

import re

from msgspec import structs

from flatout.text.jsonish import pieces
from flatout.values import Reply

_ENDS = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]"}
"""What begins a thought, and what ends it: most open models, some of them, Mistral's."""

_MARK = re.compile("|".join(map(re.escape, _ENDS)) + r"|[{\[]")


def thought_apart(reply: Reply) -> Reply:
    """The reply with the thoughts of its text as ``reasoning``; the very same where it has none."""
    thought, said = split(reply.text)
    if said is reply.text:
        return reply
    return structs.replace(reply, text=said, reasoning="\n".join(filter(None, (reply.reasoning, thought))))


def split(text: str) -> tuple[str, str]:
    """The thoughts in a text, and what is said beside them: the text itself where it has none.

    A mark within JSON belongs to it. A thought that does not end goes on to the text's end.
    """
    position = _headless(text)
    thoughts = [text[:position].removesuffix("</think>")] if position else []
    said: list[str] = []
    while (mark := _MARK.search(text, position)) is not None and (end := _ENDS.get(mark[0])) is not None:
        said.append(text[position : mark.start()])
        found = text.find(end, mark.end())
        thoughts.append(text[mark.end() :] if found < 0 else text[mark.end() : found])
        position = len(text) if found < 0 else found + len(end)
    if not thoughts:
        return "", text
    return "\n".join(filter(None, map(str.strip, thoughts))), "".join([*said, text[position:]])


def _headless(text: str) -> int:
    """Where a thought ends whose begin is not in the text, since the prompt's template has it; 0 for none."""
    end = text.find("</think>")
    if end < 0 or text.find("<think>", 0, end) >= 0:
        return 0
    within = any(piece.start < end < piece.stop for piece in pieces(text))
    return 0 if within else end + len("</think>")
