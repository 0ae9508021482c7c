"""What can still be got out of an answer that did not fit: JSON amid prose, a bare word, an answer cut off.

The last step of a call whose answer is paid for. Nothing is guessed: what is got out is validated in full, half a text
or half a number counts as not said, and of two different answers in one text neither is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import structs

from flatout.values import Call, Reply

from .structured import WRAPPED, reader_of, unfenced, wrapped_choices

_STARTS = 16
"""Brackets in prose that are tried as the begin of JSON; a text may hold thousands."""

_BRACKET = re.compile(r"[{\[]")
_HALF_SAID = re.compile(r"(?<![-+.\w])[-+.\w]+$")
"""A number or a word at the end of a text that broke off: more of it may have been to come."""

_decoder = json.JSONDecoder()


def salvage(call: Call, reply: Reply) -> Reply | None:
    """The reply with an ``output`` that fits ``call.output``, marked as ``repaired``; None when there is none in it.

    For an answer that was refused as a `SchemaMismatch` or `Truncated`. Never raises.

    Args:
        call: the call, whose ``output`` says what is wanted.
        reply: the answer, as the error's ``reply`` has it.
    """
    if call.output is None or reply.tool_calls:
        return None
    try:
        found = _found(call.output, reply.text)
    except Exception:  # a user's own type may raise anything, wherever it is asked
        return None
    return structs.replace(reply, output=found[0], repaired=True) if len(found) == 1 else None


def _found(output: Any, text: str) -> list[Any]:
    """The different answers in a text that fit."""
    read = reader_of(output)
    wrapped, choices = wrapped_choices(output)
    bare = unfenced(text).strip()
    found: list[Any] = []
    if bare in [choice for choice in choices if isinstance(choice, str)]:
        bare = json.dumps(bare)
    for candidate in dict.fromkeys([bare, *_parts(text)]):
        for form in (candidate, f'{{"{WRAPPED}": {candidate}}}') if wrapped else (candidate,):
            value = _fits(read, form)
            if value is not None and value[0] not in found:
                found.append(value[0])
            if value is not None:
                break
    return found


def _fits(read: Callable[[str], Any], text: str) -> tuple[Any] | None:
    try:
        return (read(text),)
    except Exception:  # a user's own validator may raise anything
        return None


def _parts(text: str) -> Iterator[str]:
    """The pieces of a text that are JSON, and the begin of JSON at its end."""
    position = 0
    for _ in range(_STARTS):
        start = _BRACKET.search(text, position)
        if start is None:
            return
        try:
            _, position = _decoder.raw_decode(text, start.start())
            yield text[start.start() : position]
        except (ValueError, RecursionError):
            begun = _begun(text[start.start() :])
            if begun is not None:
                yield begun
                return  # what stands further in is a part of it, and no answer by itself
            position = start.end()


def _begun(text: str) -> str | None:
    """What was said in full of JSON that broke off; None when the text is none, or nothing was said.

    A text that was being written is dropped, not kept by half.
    """
    from pydantic_core import from_json  # comes with pydantic, which is slow to import

    try:
        value = from_json(_HALF_SAID.sub("", text), allow_partial=True)
    except (ValueError, TypeError, RecursionError):
        return None
    return None if _is_hollow(value) else json.dumps(value)


def _is_hollow(value: Any) -> bool:
    """Whether there is nothing in a value: an answer made of defaults alone is none."""
    if isinstance(value, dict):
        return all(map(_is_hollow, value.values()))
    return isinstance(value, list) and all(map(_is_hollow, value))
