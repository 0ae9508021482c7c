"""Searches as bytes, and back: for programs that go on with a search that others began."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from flatout.policies.pacing.aimd import Aimd

from .company import Company, Suspicion, Twins
from .ledger import Ledger
from .lossy import Lossy
from .search import Fall, RateSearch
from .shut import Shut
from .slots import Signs, Slots

_CLASSES = (Aimd, Company, Ledger, Lossy, RateSearch, Shut, Signs, Slots, Suspicion, Twins)
_NAMED = {each.__name__: each for each in _CLASSES}
_KIND = ""  # the key of an object's class; no attribute has that name


def to_bytes(state: list[Any]) -> bytes:
    """What searches know."""
    return msgspec.msgpack.encode([_plain(each) for each in state])


def from_bytes(data: bytes) -> list[Any]:
    """What searches knew.

    Raises:
        ValueError: it is no state of this version's searches.
    """
    try:
        return [_made(each) for each in msgspec.msgpack.decode(data, type=list)]
    except (AttributeError, KeyError, TypeError, msgspec.DecodeError) as error:
        raise ValueError("no state of a search") from error


def into(search: RateSearch | Aimd, state: Any) -> None:
    """Let a search know what another knew."""
    for slot in state.__slots__:
        setattr(search, slot, getattr(state, slot))


def _plain(value: Any) -> Any:
    for kind in type(value).__mro__:
        if kind in _CLASSES:
            return {_KIND: kind.__name__, **{slot: _plain(getattr(value, slot)) for slot in kind.__slots__}}
    if isinstance(value, Fall):
        return {_KIND: "Fall", **value._asdict()}
    if isinstance(value, deque):
        return {_KIND: "deque", "items": list(value), "most": value.maxlen}
    return value


def _made(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value.pop(_KIND)
    if kind == "deque":
        return deque(value["items"], value["most"])
    if kind == "Fall":
        return Fall(**value)
    made = _NAMED[kind].__new__(_NAMED[kind])
    for slot in _NAMED[kind].__slots__:
        setattr(made, slot, _made(value[slot]))
    return made
