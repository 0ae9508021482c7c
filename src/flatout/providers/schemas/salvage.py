"""What can be got out of an answer that did not fit: JSON amid prose or not quite JSON, a bare word, a part.

An answer that is readable is paid for, so it is read before another is asked for. Nothing is guessed: what is got out
is validated in full, and of two different answers in one text neither is taken.
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
    """The reply with an ``output`` that fits ``call.output``, marked as ``repaired``; None when there is none in it.

    For an answer that was refused as a `SchemaMismatch` or `Truncated`. It takes time in proportion to the text. What
    a validator of the user's raises, unless it says that the answer does not fit, passes through.

    Args:
        call: the call, whose ``output`` says what is wanted.
        reply: the answer, as the error's ``reply`` has it.

    Returns:
        The reply, and whether the model said it to its end: of one that was cut off, another may say more.
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
    """The answers in a text that fit and differ, each with whether it is whole; more than two are not looked for."""
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
    """What may be the answer: all of the text, then the JSON in it."""
    bare = unfenced(text).strip()
    named = choice_in(bare, choices) if choices else None
    yield Piece(bare if named is None else json.dumps(named[0]), True)
    for piece in pieces(text):
        yield piece
        if choices and piece.whole and (named := choice_in(_inner(piece.text), choices)) is not None:
            yield Piece(json.dumps(named[0]), True)


def _inner(text: str) -> str:
    """The text of a wrapped answer; "" where no text is wrapped."""
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
