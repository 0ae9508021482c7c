"""The question of a call for people: what a cache shows of it, and compares to say why an answer was not used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from flatout.values import Call

from .as_json import plain
from .records import parts

LONG = 400
"""Characters from which a text is shortened to its beginning and a digest."""

_BEGINNING = 160

_THREE = 3  # characters of the sequences by which texts are compared: words would not do, some languages join them


Server = str | Mapping[str, str] | None
"""Where calls go, as run files say it; see `flatout.providers.targets.Targets.servers`."""


def asked(call: Call, model: str | None, servers: Callable[[Sequence[str] | None], Server]) -> bytes:
    """What a call asks and where, as JSON: its model, its messages and parameters, with long texts shortened.

    Args:
        call: the call.
        model: the model of calls that name none.
        servers: where the calls to some models go.
    """
    made, where = parts(call), None
    if call.prompt is not None:
        made["prompt"] = shortened(call.prompt)  # before it is written and read again
    if (named := made.get("model", model)) is not None:
        made["model"], where = named, servers([named])
    said = plain(made)
    if where is None and len(said) <= LONG:  # so no other text is long
        return said
    return plain(located(shortened(json.loads(said)), where))


def located(made: Mapping[str, Any], server: Server) -> Mapping[str, Any]:
    """A question with the address that it goes to, unless the model's name says it."""
    where = server_of(server, made.get("model"))
    return made if where is None else {**made, "server": where}


def server_of(server: Server, model: str | None) -> str | None:
    """Where the calls to one model go; None if the model's name says it."""
    return server.get(model or "") if isinstance(server, Mapping) else server


def shortened(value: Any) -> Any:
    """A JSON value in which every long text is its beginning, its length and a digest: equal for equal texts only."""
    if isinstance(value, str) and len(value) > LONG:
        digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return f"{value[:_BEGINNING]}… ({len(value):,} characters, {digest})"
    if isinstance(value, Mapping):
        return {name: shortened(item) for name, item in value.items()}
    return [shortened(item) for item in value] if isinstance(value, list) else value


def shared_beginning(old: Any, new: Any) -> int:
    """How many characters two shortened texts have in common, if that is all that is kept of them; 0 otherwise."""
    if not (isinstance(old, str) and isinstance(new, str) and old[:_BEGINNING] == new[:_BEGINNING]):
        return 0
    return _BEGINNING if all(text[_BEGINNING:].startswith("… (") for text in (old, new)) else 0


def first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first field in which two JSON values differ: its path and both values; None if they are equal.

    A field that is missing is None.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*new, *(name for name in old if name not in new)]
        pairs = [(f"{path}.{name}" if path else str(name), old.get(name), new.get(name)) for name in names]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{path}[{place}]", *pair) for place, pair in enumerate(zip(old, new, strict=True))]
    else:
        return None if old == new else (path, old, new)
    return next((found for pair in pairs if (found := first_difference(pair[1], pair[2], pair[0]))), None)


def distance(old: Any, new: Any) -> tuple[bool, int, float]:
    """How far one question is from another, to find the nearest: the smaller, the nearer.

    An answer of another model is the farthest. Then counts in how many fields they differ, and at last how much of the
    texts in these fields is not the same.
    """
    other_model = isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("model") != new.get("model")
    pairs = list(_pairs(old, new))
    return other_model, len(pairs), sum(_unlike(*pair) for pair in pairs)


def _pairs(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    """The values in which two JSON values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {**old, **new}:
            yield from _pairs(old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for pair in zip(old, new, strict=True):
            yield from _pairs(*pair)
    elif old != new:
        yield old, new


def _unlike(old: Any, new: Any) -> float:
    """The share of two texts that is in one of them only, 0 to 1, by sequences of three characters."""
    if not (isinstance(old, str) and isinstance(new, str)):
        return 1.0
    one, other = _threes(old), _threes(new)
    return 1.0 - len(one & other) / len(one | other) if one or other else 1.0


def _threes(text: str) -> set[str]:
    return {text[place : place + _THREE] for place in range(len(text) - _THREE + 1)}
