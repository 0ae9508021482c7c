"""Keys that do not show themselves, and errors that do not show where they have been.

Printed output shows more than one expects: a debugger's tree of attributes, a traceback with the values of local
variables, the error behind an error. So a key is a `Secret` from when it is read until the request's bytes are made,
headers are `Veiled`, and an error that comes back from there loses its traceback (`forget`).
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, ItemsView, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from flatout.errors import FlatoutError
from flatout.text.shown import shown

_SECRET_PARTS = re.compile(r"(?<=://)[^/?#]*(?=@)|(?<=\?).+", re.DOTALL)
"""The parts of an address that may hold keys: the part before the host, and the query."""


class Secret:
    """A key that does not show itself: not in a repr, a log line, the local variables of a traceback, or a pickle."""

    __slots__ = ("_read",)

    def __init__(self, value: str) -> None:
        self._read: Callable[[], str] = lambda: value  # a function, because some tools show the value of any attribute

    def reveal(self) -> str:
        """The key itself. Call this only where the request's headers are built, and do not store it in a variable."""
        return self._read()

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._read() == self._read()

    def __hash__(self) -> int:
        return hash(self._read())

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not pickled: keys stay in the process that read them")


class Veiled(Mapping[str, str]):
    """Headers, or the parameters of an address, that show only their names. They cannot be changed."""

    __slots__ = ("_read",)

    def __init__(self, values: Mapping[str, str]) -> None:
        kept = dict(values)
        self._read: Callable[[], dict[str, str]] = lambda: kept

    def __getitem__(self, name: str) -> str:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def items(self) -> ItemsView[str, str]:
        """The names and values. This is a dict's own view, since every request goes through it."""
        return self._read().items()

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: …' for name in self)}}}"

    def __reduce__(self) -> Any:
        raise TypeError("headers are not pickled: keys stay in the process that read them")


class OneTime(Veiled):
    """The headers of one request. No other request has the same object, so nothing is remembered of it."""

    __slots__ = ()


class Reticent(Struct, frozen=True):
    """A struct of an endpoint that shows no keys from its headers, its query or its address."""

    def __post_init__(self) -> None:
        for name in ("headers", "query"):
            if value := getattr(self, name):
                msgspec.structs.force_setattr(self, name, veil(value))

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # any iterable is what rich wants
        for name in self.__struct_fields__:
            value = getattr(self, name)
            yield name, veiled_url(value) if name == "base_url" and value else value

    def __repr__(self) -> str:
        return shown(type(self).__name__, self.__rich_repr__())


def veiled_url(url: str) -> str:
    """An address as a repr may show it: without the part before its host, and without its query."""
    return _SECRET_PARTS.sub("…", url)


def conceal(key: str | Secret | None) -> Secret | None:
    """A key as a Secret; anything else unchanged.

    A function that takes a key from outside begins with this, or with `veil`: the traceback of any later error holds
    the function's arguments.
    """
    return Secret(key) if isinstance(key, str) else key


def veil(headers: Mapping[str, str] | None) -> Veiled | None:
    """Headers that do not show their values; anything else unchanged."""
    return Veiled(headers) if isinstance(headers, Mapping) and not isinstance(headers, Veiled) else headers


def note_path(error: Exception) -> None:
    """Keep an error's traceback as a note, without the variables, which may hold a key."""
    error.add_note("".join(["Raised in:\n", *traceback.format_tb(error.__traceback__)]).rstrip())


def forget(error: BaseException) -> None:
    """Remove an error's traceback up to here, and the errors hidden behind it: their variables hold the request's key.

    An unexpected error keeps its traceback as a note, without the variables.
    """
    if isinstance(error, Exception) and not isinstance(error, FlatoutError):
        note_path(error)
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            if each.__suppress_context__:
                each.__context__ = None
            left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
