"""Recover an answer that did not fit: from JSON amid prose, from not quite valid JSON, from a bare word, from a part.

A readable answer has been paid for, so flatout tries to read it before it asks again. It guesses nothing: whatever it
recovers is validated in full, and if one text holds two different answers, it takes neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import structs

from flatout.errors import InvalidRequest
from flatout.providers.tools import wants_tool
from flatout.providers.wire.thought import thought_apart
from flatout.text.jsonish import Piece, pieces
from flatout.values import Call, Reply

from .choice import choice_in
from .structured import MISFITS, reader_of, unfenced, wrapped_choices
from .wrap import WRAPPED


def salvage(call: Call, reply: Reply) -> tuple[Reply, bool] | None:
    """The reply with an ``output`` that fits ``call.output``, marked as ``repaired``; None if it holds no such answer.

    For an answer that was refused as a `SchemaMismatch` or `Truncated`. The time is proportional to the text's length.
    Exceptions of the user's validators pass through, except those that say that the answer does not fit.

    Args:
        call: the call, whose ``output`` says what is wanted.
        reply: the answer, as the error's ``reply`` has it.

    Returns:
        The reply, and whether its answer is complete. If it was cut off, another attempt may give more.
    """
    if call.output is None or reply.tool_calls or wants_tool(call.tool_choice):
        return None
    reply = thought_apart(reply)
    try:
        found = readings(call.output, reply.text)
    except InvalidRequest:
        return None
    if len(found) != 1:
        return None
    output, whole = found[0]
    return structs.replace(reply, output=output, repaired=True), whole


def readings(output: Any, text: str) -> list[tuple[Any, bool]]:
    """The different fitting answers in a text, each with whether it is complete. The search stops at the second."""
    read = reader_of(output)
    wrapped, choices = wrapped_choices(output)
    found: list[tuple[Any, bool]] = []
    for candidate in _candidates(text, choices):
        forms = (candidate.text, f'{{"{WRAPPED}": {candidate.text}}}') if wrapped else (candidate.text,)
        fitting = next((value for form in forms if (value := _fits(read, form)) is not None), None)
        if fitting is None:
            continue
        if not found:
            found.append((fitting[0], candidate.whole))
        elif found[0][0] != fitting[0]:
            return [*found, (fitting[0], candidate.whole)]
        elif candidate.whole:
            found[0] = fitting[0], True
    return found


def _candidates(text: str, choices: Sequence[Any]) -> Iterator[Piece]:
    """The candidates for the answer: the whole text, then each JSON value in it."""
    bare = unfenced(text).strip()
    named = choice_in(bare, choices) if choices else None
    yield Piece(bare if named is None else json.dumps(named[0]), True)
    for piece in pieces(text):
        yield piece
        if choices and piece.whole and (named := choice_in(_inner(piece.text), choices)) is not None:
            yield Piece(json.dumps(named[0]), True)


def _inner(text: str) -> str:
    """The string in a wrapped answer; "" if there is none."""
    try:
        value = msgspec.json.decode(text)
    except MISFITS:
        return ""
    answer = value.get(WRAPPED) if isinstance(value, dict) and len(value) == 1 else None
    return answer if isinstance(answer, str) else ""


def _fits(read: Callable[[str], Any], text: str) -> tuple[Any] | None:
    try:
        return (read(text),)
    except MISFITS:
        return None
