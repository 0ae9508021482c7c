"""A key that does not show itself."""

from __future__ import annotations

from typing import Any


class Secret:
    """A key that does not show itself: not in a repr, a log line, a traceback's locals or a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself. Call this only where the request's headers are built."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not pickled: keys stay in the process that read them")
