"""Separate thoughts from an answer's text: some models write ``<think>…</think>`` before the answer.

Many self-hosted servers pass that on unchanged. A thought is not an answer: neither is a draft or a label in it.
"""

from __future__ import annotations

import re

from msgspec import structs

from flatout.text.jsonish import pieces
from flatout.values import Reply

_ENDS = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]"}
"""The marks that begin and end a thought: of most open models, of some, and of Mistral's."""

_MARK = re.compile("|".join(map(re.escape, _ENDS)) + r"|[{\[]")


def thought_apart(reply: Reply) -> Reply:
    """The reply with the thoughts in its text moved to ``reasoning``; the same object if there are none."""
    thought, rest = split(reply.text)
    if rest is reply.text:
        return reply
    return structs.replace(reply, text=rest, reasoning="\n".join(filter(None, (reply.reasoning, thought))))


def split(text: str) -> tuple[str, str]:
    """The thoughts in a text, and the text without them; the same object if there are none.

    A mark inside JSON belongs to the JSON. A thought that does not end continues to the text's end.
    """
    position = _headless(text)
    thoughts = [text[:position].removesuffix("</think>")] if position else []
    rest: list[str] = []
    while (mark := _MARK.search(text, position)) is not None and (end := _ENDS.get(mark[0])) is not None:
        rest.append(text[position : mark.start()])
        close = text.find(end, mark.end())
        thoughts.append(text[mark.end() :] if close < 0 else text[mark.end() : close])
        position = len(text) if close < 0 else close + len(end)
    if not thoughts:
        return "", text
    return "\n".join(filter(None, map(str.strip, thoughts))), "".join([*rest, text[position:]])


def _headless(text: str) -> int:
    """The end of a thought that the prompt's template began, so that its opening mark is not in the text; 0 if none."""
    end = text.find("</think>")
    if end < 0 or text.find("<think>", 0, end) >= 0:
        return 0
    within = any(piece.start < end < piece.stop for piece in pieces(text))
    return 0 if within else end + len("</think>")
