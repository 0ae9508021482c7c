"""A streamed chat completion: its events, their times, and how it may break off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from . import _answers as answers
from ._slots import BodyPart

FIRST_SHARE = 0.2
"""The share of the service time after which the first token comes by default."""

DONE = b"data: [DONE]\n\n"

WORD = re.compile(r"\s*\S{1,12}|\s+\Z")
_encode = msgspec.json.Encoder().encode


def events(
    *,
    number: int,
    model: str,
    message: Mapping[str, Any],
    finish: str,
    wall: float,
    usage: Mapping[str, Any] | None,
) -> list[bytes]:
    """The events of a stream: the role, the answer word by word, and how it ended.

    ``usage`` is the last chunk's token count, if the client asked for it.
    """
    head: dict[str, Any] = {
        "id": f"chatcmpl-{number:012d}",
        "object": "chat.completion.chunk",
        "created": int(wall),
        "model": model,
    }
    if usage is not None:
        head["usage"] = None  # OpenAI does so in all chunks but the last
    prefix = b"data: " + _encode(head)[:-1] + b',"choices":[{"index":0,"delta":'
    chunks = [prefix + _encode(delta) + b',"finish_reason":null}]}\n\n' for delta in _deltas(message)]
    chunks.append(prefix + b'{},"finish_reason":' + _encode(finish) + b"}]}\n\n")
    if usage is not None:
        chunks[-1] += b"data: " + _encode(head | {"choices": [], "usage": usage}) + b"\n\n"
    chunks[-1] += DONE
    return chunks


def broken(chunks: list[bytes], fault: str) -> list[bytes]:
    """The events of a stream that a fault hits in its middle."""
    middle = len(chunks) // 2
    if fault in ("truncated", "stall"):
        return chunks[:middle]
    if fault == "late_error":
        return [*chunks[:middle], b"data: " + answers.error("the server failed", "server_error") + b"\n\n"]
    if fault == "malformed":
        half = chunks[middle][: len(chunks[middle]) // 2].rstrip(b"\n") + b"\n\n"
        return [*chunks[:middle], half, *chunks[middle + 1 :]]
    return chunks


def paced(chunks: Sequence[bytes], gap: float) -> list[BodyPart]:
    """The bytes that travel together, each with the seconds before them.

    The role comes with the first word, and the end with the last one.
    """
    if gap <= 0 or len(chunks) <= 3:
        return [(0.0, b"".join(chunks))]
    pieces = [(gap, chunk) for chunk in chunks[2:-1]]
    pieces[-1] = (gap, pieces[-1][1] + chunks[-1])
    return [(0.0, chunks[0] + chunks[1]), *pieces]


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    rest = {name: part for name, part in message.items() if name not in ("content", "tool_calls")}
    yield {"role": "assistant", "content": "" if isinstance(content, str) else None, **rest}
    if isinstance(content, str):
        for word in WORD.findall(content):
            yield {"content": word}
    elif content is not None:  # a script's answer in parts
        yield {"content": content}
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield from _tool_call(index, call)


def _tool_call(index: int, call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if not isinstance(arguments, str):  # a script's
        yield {"tool_calls": [{"index": index, **call}]}
        return
    yield {"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]}
    for piece in WORD.findall(arguments):
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
