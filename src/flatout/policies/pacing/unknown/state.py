"""Turns searches into bytes and back, so that a program can go on with a search that others began."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import msgspec

from flatout.policies.pacing.aimd import Aimd

from .climb import Climb
from .company import Among, Company
from .known import Known
from .ledger import Ledger
from .lossy import Lossy
from .search import RateSearch
from .shut import Shut
from .slots import Signs, Slots
from .steady import Hold, Look
from .twins import Suspicion, Twins


def _one_of_each() -> tuple[Any, ...]:
    known = Known(0.0, 1.0, math.inf)
    hold = Hold(known, 0.0)
    return (
        *(Aimd(0.0, 1.0), Among(known, 1.0, 0.0), Climb(known, 0.0), Company(1.0, 1.0, 0, 0.0), hold, known),
        *(Ledger(0.0), Look(hold, 0.0), Lossy(known, 1.0, 0.0), RateSearch(0.0), Shut(0.0, 0, 1.0, None, 0.0)),
        *(Signs(), Slots(1, 0), Suspicion(), Twins(0)),
    )


def _attributes(value: Any) -> dict[str, Any]:
    kind = next(each for each in type(value).__mro__ if each in _CLASSES)
    slots = {name: getattr(value, name) for name in getattr(kind, "__slots__", ())}
    return {**slots, **getattr(value, "__dict__", {})}


_CLASSES: dict[type[Any], str] = {type(each): type(each).__name__ for each in _one_of_each()}
_KINDS = {type(each).__name__: (type(each), _attributes(each).keys()) for each in _one_of_each()}
_KIND, _SAME = "", "="
"""The keys of an object's class, and of the number of an object written before. No attribute has such a name."""


def to_bytes(state: list[Any]) -> bytes:
    """The searches' state as bytes."""
    written: dict[int, int] = {}
    return msgspec.msgpack.encode([_plain(each, written) for each in state])


def from_bytes(data: bytes) -> list[Any]:
    """The searches' state from bytes.

    Raises:
        ValueError: the bytes are no state of this version's searches.
    """
    made: list[Any] = []
    try:
        return [_made(each, made) for each in msgspec.msgpack.decode(data, type=list)]
    except (AttributeError, IndexError, KeyError, TypeError, msgspec.DecodeError) as error:
        raise ValueError("no state of a search") from error


def into(search: RateSearch | Aimd, state: Any) -> None:
    """Copy a state into a search."""
    for name, value in _attributes(state).items():
        setattr(search, name, value)


def _plain(value: Any, written: dict[int, int]) -> Any:
    """A value in msgpack's own types. The phases of a search share objects, so each object is written once."""
    kind = next((_CLASSES[each] for each in type(value).__mro__ if each in _CLASSES), None)
    if isinstance(value, deque):
        return {_KIND: "deque", "items": list(value), "most": value.maxlen}
    if kind is None:
        return value
    if id(value) in written:
        return {_SAME: written[id(value)]}
    written[id(value)] = len(written)
    return {_KIND: kind, **{name: _plain(each, written) for name, each in _attributes(value).items()}}


def _made(value: Any, made: list[Any]) -> Any:
    if not isinstance(value, dict):
        return value
    if _SAME in value:
        return made[value[_SAME]]
    kind = value.pop(_KIND)
    if kind == "deque":
        return deque(value["items"], value["most"])
    of, names = _KINDS[kind]
    if value.keys() != names:
        raise KeyError(kind)
    new: Any = object.__new__(of)
    made.append(new)
    for name, each in value.items():
        setattr(new, name, _made(each, made))
    return new
