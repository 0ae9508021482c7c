"""What can be got out of an answer that did not fit: JSON amid prose or not quite JSON, a bare word, a part.

An answer that is readable is paid for, so it is read before another is asked for. Nothing is guessed: what is got out
is validated in full, and of two different answers in one text neither is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import structs

from flatout.values import Call, Reply

from .jsonish import Piece, pieces
from .structured import WRAPPED, reader_of, unfenced, wrapped_choices
from .thought import thought_apart


def salvage(call: Call, reply: Reply) -> tuple[Reply, bool] | None:
    """The reply with an ``output`` that fits ``call.output``, marked as ``repaired``; None when there is none in it.

    For an answer that was refused as a `SchemaMismatch` or `Truncated`. Never raises. It takes time in proportion to
    the text.

    Args:
        call: the call, whose ``output`` says what is wanted.
        reply: the answer, as the error's ``reply`` has it.

    Returns:
        The reply, and whether the model said it to its end: of one that was cut off, another may say more.
    """
    if call.output is None or reply.tool_calls:
        return None
    reply = thought_apart(reply)
    try:
        found = _found(call.output, reply.text)
    except Exception:  # a user's own type may raise anything, wherever it is asked
        return None
    if found is None:
        return None
    output, whole = found
    return structs.replace(reply, output=output, repaired=True), whole


def _found(output: Any, text: str) -> tuple[Any, bool] | None:
    """The one answer in a text that fits, and whether it is whole; None where there is none, or where two differ."""
    read = reader_of(output)
    wrapped, choices = wrapped_choices(output)
    found: tuple[Any, bool] | None = None
    for candidate in _candidates(text, choices):
        forms = (candidate.text, f'{{"{WRAPPED}": {candidate.text}}}') if wrapped else (candidate.text,)
        fitting = next((value for form in forms if (value := _fits(read, form)) is not None), None)
        if fitting is None:
            continue
        if found is not None and found[0] != fitting[0]:
            return None
        found = fitting[0], candidate.whole or (found is not None and found[1])
    return found


def _candidates(text: str, choices: Sequence[Any]) -> Iterator[Piece]:
    """What may be the answer: all of the text, then the JSON in it."""
    bare = unfenced(text).strip()
    if bare in [choice for choice in choices if isinstance(choice, str)]:
        bare = json.dumps(bare)
    yield Piece(bare, True)
    yield from pieces(text)


def _fits(read: Callable[[str], Any], text: str) -> tuple[Any] | None:
    try:
        return (read(text),)
    except Exception:  # a user's own validator may raise anything
        return None
